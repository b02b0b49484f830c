//! A plan for people to read.

use super::{Plan, Role};
use crate::kernel::Touch;
use std::collections::BTreeMap;
use std::fmt;

/// A count with a unit, three digits: 1.23 M.
pub(crate) fn scaled(value: u64, unit: &str) -> String {
    let (mut value, mut prefix) = (value as f64, "");
    for next in ["k", "M", "G", "T"] {
        if value < 1000.0 {
            break;
        }
        (value, prefix) = (value / 1000.0, next);
    }
    let digits = if prefix.is_empty() || value >= 100.0 { 0 } else { 3 - 1 - value.log10().max(0.0) as usize };
    format!("{value:.digits$} {prefix}{unit}")
}

struct Row {
    section: usize,
    kernel: &'static str,
    dispatches: u64,
    flops: u64,
    bytes: u64,
}

impl Plan {
    /// Consecutive commands of a section, by kernel.
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for command in &self.commands {
            let kernel = command.call.kernel.name;
            let known = rows.iter().rposition(|row| row.section == command.section && row.kernel == kernel);
            let at = known.unwrap_or_else(|| {
                rows.push(Row { section: command.section, kernel, dispatches: 0, flops: 0, bytes: 0 });
                rows.len() - 1
            });
            rows[at].dispatches += 1;
            rows[at].flops += command.call.flops();
            rows[at].bytes += 4 * command.call.touches().iter().map(Touch::len).sum::<u64>();
        }
        rows
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        writeln!(f, "strategy: {}", self.strategy)?;
        writeln!(f)?;
        let width = self.sections.iter().map(String::len).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  {:<15} {:>10} {:>11} {:>11}", "part", "kernel", "dispatches", "FLOPs", "bytes")?;
        let rows = self.rows();
        let mut last = usize::MAX;
        for row in &rows {
            let section = if row.section == last { "" } else { &self.sections[row.section] };
            last = row.section;
            writeln!(
                f,
                "{section:width$}  {:<15} {:>10} {:>11} {:>11}",
                row.kernel,
                row.dispatches,
                scaled(row.flops, ""),
                scaled(row.bytes, "B")
            )?;
        }
        let bytes = rows.iter().map(|row| row.bytes).sum();
        writeln!(
            f,
            "{:width$}  {:<15} {:>10} {:>11} {:>11}",
            "total",
            "",
            self.commands.len(),
            scaled(self.flops(), ""),
            scaled(bytes, "B")
        )?;
        writeln!(f, "(bytes: what each dispatch must read and write, each element once)")?;
        writeln!(
            f,
            "floor: {} and {}, every buffer moved once: {:.1} FLOPs a byte",
            scaled(self.flops(), "FLOP"),
            scaled(self.bytes(), "B"),
            self.flops() as f64 / self.bytes() as f64
        )?;
        writeln!(f)?;
        let mut roles: BTreeMap<Role, (usize, u64)> = BTreeMap::new();
        for buffer in &self.buffers {
            let (count, bytes) = roles.entry(buffer.role).or_default();
            *count += 1;
            *bytes += buffer.bytes();
        }
        write!(f, "buffers: {} of {}", self.buffers.len(), scaled(self.bytes(), "B"))?;
        for (role, (count, bytes)) in roles {
            write!(f, "; {} {count} of {}", format!("{role:?}").to_lowercase(), scaled(bytes, "B"))?;
        }
        writeln!(f)
    }
}
