//! NVIDIA's machine code, as NVK's compiler (NAK) lists it:
//!
//! ```text
//! block.u 1 L0 [0, 117] -> {
//!       ur2     = ldc.b32 c[0x1][+0xc]                       // delay=12 wr:1
//! @!p0            bra L2                                     // delay=1 wt=000010
//! } -> [2, 3]
//! ```
//!
//! An instruction that takes a variable time names a scoreboard by `wr`; `wt` is a mask of scoreboards to wait for.

use super::counts::{Counts, Flight};

/// A line of the listing.
pub enum Text<'a> {
    /// The beginning of a block: its label, and numbers of the blocks from which it is reached.
    Block {
        label: &'a str,
        before: Vec<usize>,
    },
    Instruction(&'a str),
    Other,
}

pub fn is_listing(text: &str) -> bool {
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("block"))
}

pub fn line(line: &str) -> Text<'_> {
    let line = line.trim();
    if line.starts_with("block") {
        let before = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(before, _)| before);
        let before = before.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        line.split_whitespace().nth(2).map_or(Text::Other, |label| Text::Block { label, before })
    } else if line.is_empty() || line.starts_with('}') {
        Text::Other
    } else {
        Text::Instruction(line)
    }
}

/// An instruction without its predicate, and without what the scheduler says of it.
fn code(line: &str) -> &str {
    let code = line.split("//").next().unwrap_or("").trim();
    if code.starts_with('@') { code.split_once(' ').map_or("", |(_, rest)| rest.trim_start()) } else { code }
}

pub fn add(counts: &mut Counts, flight: &mut Flight, line: &str) {
    counts.all += 1;
    let schedule = line.split_once("//").map_or("", |(_, schedule)| schedule);
    let of = |field: &str| schedule.split_whitespace().find_map(|word| word.strip_prefix(field));
    let mask = of("wt=").and_then(|mask| u32::from_str_radix(mask, 2).ok()).unwrap_or(0);
    if mask != 0 {
        counts.waits += 1;
        let before = flight.now();
        (0..6).filter(|scoreboard| mask >> scoreboard & 1 == 1).for_each(|scoreboard| flight.wait(scoreboard, 0));
        counts.drains += (before > 0 && flight.now() == 0) as u32;
    }
    let code = code(line);
    let (to, operation) = match code.split_once(" = ") {
        Some((to, operation)) => (to.trim(), operation.trim()),
        None => ("", code),
    };
    let full = operation.split_whitespace().next().unwrap_or("");
    let mut parts = full.split('.');
    let name = parts.next().unwrap_or("");
    let has = |part: &str| full.split('.').any(|known| known == part);
    // b8 to b128, in dwords
    let dwords = parts
        .find_map(|part| part.trim_start_matches(['b', 'u', 'i', 's']).parse::<usize>().ok())
        .map_or(1, |bits| (bits / 32).clamp(1, 4));
    match name {
        "ld" | "ldg" if !has("shared") => {
            counts.vector_loads[dwords - 1] += 1;
            flight.issue(of("wr:").and_then(|scoreboard| scoreboard.parse().ok()).unwrap_or(0));
        }
        "ld" | "lds" => counts.lds_reads[dwords - 1] += 1,
        "st" | "stg" if !has("shared") => counts.stores[dwords - 1] += 1,
        "st" | "sts" => counts.lds_writes[dwords - 1] += 1,
        "ldc" | "uldc" => counts.scalar_loads[[1, 2, 4].iter().position(|&size| size == dwords).unwrap_or(2)] += 1,
        "ffma" => counts.fma += 1,
        "fmul" => counts.mul += 1,
        "fadd" => counts.add += 1,
        "bar" => counts.barriers += 1,
        "bra" | "brx" | "exit" | "ret" | "break" | "bssy" | "bsync" | "bclear" | "bmov" | "warpsync" => {
            counts.branches += 1
        }
        "nop" => counts.hints += 1,
        _ if to.starts_with("ur") || to.starts_with("up") => counts.scalar += 1,
        _ => {
            counts.vector += 1;
            counts.moves += (name == "mov") as u32;
        }
    }
}
