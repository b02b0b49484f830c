//! Calls as they are dealt to threads, without running them.

use super::team::Team;
use super::{product, recurrence};
use crate::kernel::Call;

/// A call as threads share it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Parts of the rows, and of the columns or units; each pair is a thread's.
    pub parts: [usize; 2],
    /// Multiplications of all threads; in a recurrence with those of the cell, each of whose operations counts as half.
    pub all: u64,
    /// Multiplications of the thread that has the most.
    pub most: u64,
}

/// The calls of products and recurrences that a call makes one after the other, dealt to at most `threads` threads; empty for other
/// kernels.
///
/// ```
/// use wgpu_lstm::{Device, Lstm, cpu::partition};
/// let plan = Lstm::new(256).plan(4, 32, 100, Device::cpu().capabilities())?; // I = 4, B = 32, T = 100
/// let steps = plan.commands.iter().find(|command| command.call.kernel.name == "scan_forward").unwrap();
/// let partition = &partition(&steps.call, 8)[0];
/// assert_eq!((partition.parts, 8 * partition.most), ([8, 1], partition.all)); // four rows and all units each
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn partition(call: &Call, threads: usize) -> Vec<Partition> {
    let wanted = |worth| Team::wanted(threads, worth);
    match call.kernel.name {
        "scan_forward" | "scan_backward" => vec![recurrence::partition(call, wanted)],
        "matmul" | "matmul_skinny" | "matmul_registers" => product::partition(call, wanted),
        _ => Vec::new(),
    }
}

impl Partition {
    /// The partition whose threads have `each` multiplications.
    pub(super) fn of(parts: [usize; 2], each: impl Iterator<Item = u64> + Clone) -> Partition {
        Partition { parts, all: each.clone().sum(), most: each.max().unwrap_or(0) }
    }
}
