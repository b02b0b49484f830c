//! docs/kernels.md: the tables of isa.json.

use crate::table::{self, Calls, Code, Entry, Table};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    /// A file that `table` wrote
    json: PathBuf,
    /// Another, of kernels that these are to be held against
    #[arg(long)]
    before: Option<PathBuf>,
    /// The device for that
    #[arg(long, default_value = "gfx1100")]
    on: String,
    /// File to write
    #[arg(long)]
    out: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    let table = table::read(&options.json)?;
    let mut page = String::from(INTRODUCTION);
    calls(&mut page, &table);
    for device in &table.devices {
        code(&mut page, &table, &device.name);
    }
    if let Some(before) = &options.before {
        comparison(&mut page, &table::read(before)?, &table, &options.on);
    }
    Ok(std::fs::write(&options.out, page)?)
}

const INTRODUCTION: &str = "\
# Kernels as compilers make them

Static figures of the machine code that drivers' own compilers make of the kernels. **Nothing here was timed, and nothing ran**: AMD's
code is RADV's on its null device, NVIDIA's is that of the open driver NVK, and Intel's is ANV's, both behind a stub of the kernel driver.
`scripts/test --isa` makes this page and [benches/results/isa.json](../benches/results/isa.json) anew;
[benches/isa](../benches/isa/README.md) says how to compile for a device.

- **waves**: AMD's and NVIDIA's name for a subgroup, the threads that run in step. A device with 40 compute units of 2 or 4 SIMDs each
  wants some hundred at least.
- **registers** of a lane (Intel: the most live ones of a thread's 128); **resident**: the waves that a SIMD (AMD) or an SM (NVIDIA; by
  registers alone, of at most 32) can hold: what hides latency, where as many are launched.
- **inner**: the loop with the most multiply-adds, without those in it, or, where compilers unrolled all loops, the code outside (depth 0);
  chosen as if every loop had 8 iterations. **MAC**: multiply-adds, fused ones and pairs of a multiplication and an addition.
- **FMA (dual)**: fused multiply-adds for each instruction, of which dual and packed ones do two; and the number of dual instructions,
  which RDNA3 and RDNA4 have in waves of 32.
- **in flight**: the most loads from storage that have been issued and not waited for, there or in a loop around. One hides no latency
  but by other waves.
- **waits (drains)**: instructions that wait for loads; drains wait until none is left.
- **B / MAC**: bytes that a lane loads from storage, and from workgroup memory, for each of its multiply-adds.
";

/// Constants by which the pipelines of a kernel differ.
fn differing(table: &Table, kernel: &str) -> BTreeSet<String> {
    let of = || table.pipelines.iter().filter(|entry| entry.kernel == kernel);
    let names = of().flat_map(|entry| entry.constants.keys());
    names
        .filter(|&name| of().map(|entry| entry.constants.get(name)).collect::<BTreeSet<_>>().len() > 1)
        .cloned()
        .collect()
}

/// A pipeline's name: kernel, and the constants that tell it from others. K and TERMS go without saying where they are H.
fn name(table: &Table, entry: &Entry) -> String {
    let differing = differing(table, &entry.kernel);
    let implied = |name: &str, value| ["K", "TERMS"].contains(&name) && entry.constants.get("H") == Some(value);
    let constants = entry.constants.iter().filter(|(name, value)| differing.contains(*name) && !implied(name, value));
    let constants: Vec<String> = constants.map(|(name, value)| format!("{name}={value}")).collect();
    if constants.is_empty() { entry.kernel.clone() } else { format!("{} {}", entry.kernel, constants.join(" ")) }
}

fn waves(entry: &Entry, used: &Calls, wave: u32) -> u64 {
    let threads: u32 = entry.workgroup.iter().product();
    used.groups.iter().product::<u64>() * threads.div_ceil(wave.max(1)) as u64
}

/// Plans in the order in which they were made.
fn plans(table: &Table) -> Vec<&str> {
    let mut plans: Vec<&str> = Vec::new();
    for used in table.pipelines.iter().flat_map(|entry| &entry.uses) {
        if !plans.contains(&used.plan.as_str()) {
            plans.push(&used.plan);
        }
    }
    plans
}

/// Pipelines of a plan with their calls, those with the most operations first.
fn of_plan<'a>(table: &'a Table, plan: &str) -> Vec<(&'a Entry, &'a Calls)> {
    let mut all: Vec<_> =
        table.pipelines.iter().flat_map(|entry| entry.uses.iter().map(move |used| (entry, used))).collect();
    all.retain(|(_, used)| used.plan == plan && used.flops > 0);
    all.sort_by_key(|(_, used)| std::cmp::Reverse(used.calls * used.flops));
    all
}

fn calls(page: &mut String, table: &Table) {
    page.push_str("\n## Calls of a pass\n");
    for plan in plans(table) {
        let _ = writeln!(
            page,
            "\n### {plan}\n\n| kernel | calls | MFLOP a call | workgroups × threads | waves of 64 | of 32 |"
        );
        page.push_str("|---|---:|---:|---:|---:|---:|\n");
        for (entry, used) in of_plan(table, plan) {
            let [x, y, z] = used.groups;
            let threads: u32 = entry.workgroup.iter().product();
            let _ = writeln!(
                page,
                "| {} | {} | {:.2} | {x}·{y}·{z} × {threads} | {} | {} |",
                name(table, entry),
                used.calls,
                used.flops as f64 / 1e6,
                waves(entry, used, 64),
                waves(entry, used, 32),
            );
        }
    }
}

fn code(page: &mut String, table: &Table, device: &str) {
    let found = table.devices.iter().find(|known| known.name == device).expect("a device of the table");
    let checks =
        if found.robust { "" } else { ", without robust buffer access (NVK checks each load by instructions)" };
    let wave = found.wave;
    let _ = writeln!(page, "\n## {device}\n\n{}{checks}; waves of up to {wave} threads.\n", found.driver);
    page.push_str(
        "| kernel | registers | spilled, scratch B | workgroup B | resident | instructions | depth | inner instructions / MAC | \
         FMA (dual) | in flight | waits (drains) | B / MAC |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for entry in table.pipelines.iter().filter(|entry| entry.uses.iter().any(|used| used.flops > 0)) {
        let Some(code) = entry.on.get(device) else { continue };
        let some = |value: Option<u32>| value.map_or("–".into(), |value| value.to_string());
        let inner = &code.inner;
        let work = if inner.macs == 0 {
            "| – | – | – | – | – | – |".to_string()
        } else {
            let [storage, workgroup] = inner.bytes_per_mac();
            format!(
                "| {} | {} / {} | {:.0} % ({}) | {} | {} ({}) | {storage:.2} + {workgroup:.2} |",
                inner.depth,
                inner.instructions,
                inner.macs,
                inner.fma_percent(),
                inner.dual,
                inner.loads_in_flight,
                inner.waits,
                inner.drains,
            )
        };
        let registers = if code.registers == 0 { "–".into() } else { code.registers.to_string() };
        let _ = writeln!(
            page,
            "| {} | {registers} | {}, {} | {} | {} | {} {work}",
            name(table, entry),
            some(code.spilled),
            code.scratch_bytes,
            some(code.workgroup_bytes),
            some(code.waves_resident),
            code.instructions,
        );
    }
}

/// The kernel with the most operations of each family, before and now.
fn comparison(page: &mut String, before: &Table, now: &Table, device: &str) {
    let Some(wave) = now.devices.iter().find(|known| known.name == device).map(|known| known.wave) else { return };
    let _ = writeln!(page, "\n## Before and now, {device}\n");
    page.push_str("The kernel with the most operations of each family; before: [isa-before.json](../benches/results/isa-before.json).\n\n");
    page.push_str("| pass | kernel | waves | FMA | in flight | B / MAC |\n|---|---|---:|---:|---:|---:|\n");
    let cells = |(entry, used): (&Entry, &Calls)| {
        let code: &Code = entry.on.get(device)?;
        let inner = &code.inner;
        let [storage, workgroup] = inner.bytes_per_mac();
        let values = [
            entry.kernel.clone(),
            waves(entry, used, wave).to_string(),
            format!("{:.0} %", inner.fma_percent()),
            inner.loads_in_flight.to_string(),
            format!("{storage:.2} + {workgroup:.2}"),
        ];
        Some(values)
    };
    for plan in plans(now) {
        // The recurrence is scan_*, step_* or sequence_*.
        for family in ["_forward", "_backward", "matmul"] {
            let of = |table| of_plan(table, plan).into_iter().find(|(entry, _)| entry.kernel.contains(family));
            let (Some(old), Some(new)) = (of(before).and_then(cells), of(now).and_then(cells)) else { continue };
            let pairs: Vec<String> = old.iter().zip(&new).map(|(old, new)| format!("{old} → {new}")).collect();
            let _ = writeln!(page, "| {plan} | {} |", pairs.join(" | "));
        }
    }
}
