//! Instructions of a piece of machine code, counted by what they do.

use serde::{Deserialize, Serialize};

/// Counts of instructions. Loads and stores are counted by how many dwords a lane moves.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// All, waits and branches included.
    pub all: u32,
    /// Multiplications with addition, two for each packed or dual one.
    pub fma: u32,
    /// f32 multiplications and additions apart, two for packed ones.
    pub mul: u32,
    pub add: u32,
    /// Instructions that do two things at once (RDNA3's VOPD).
    pub dual: u32,
    /// Other vector instructions: integers, moves, comparisons, conversions.
    pub vector: u32,
    /// Moves between vector registers among them.
    pub moves: u32,
    /// Scalar (AMD) or uniform (NVIDIA) arithmetic, moves and comparisons.
    pub scalar: u32,
    /// Loads by a vector instruction, of 1, 2, 3 and 4 dwords a lane.
    pub vector_loads: [u32; 4],
    /// Loads by the scalar unit, of 1, 2, 4, 8 and 16 dwords a wave; NVIDIA's constant loads,
    /// Intel's transposed ones.
    pub scalar_loads: [u32; 5],
    /// Stores of 1 to 4 dwords a lane.
    pub stores: [u32; 4],
    /// Reads of workgroup memory, of 1 to 4 dwords a lane.
    pub lds_reads: [u32; 4],
    /// Writes to workgroup memory.
    pub lds_writes: [u32; 4],
    /// Waits: `s_waitcnt` and its like; NVIDIA's for scoreboards, Intel's for those of loads.
    pub waits: u32,
    /// Waits until no load is left in flight.
    pub drains: u32,
    pub barriers: u32,
    pub branches: u32,
    /// Hints without work: clauses, delays, no-ops.
    pub hints: u32,
    /// Intel's `send`: loads, stores and barriers.
    pub sends: u32,
    /// Anything else.
    pub other: u32,
}

impl Counts {
    /// Bytes that a lane loads by vector instructions.
    pub fn lane_bytes(&self) -> u32 {
        4 * weighted(&self.vector_loads)
    }

    /// Bytes that a wave loads by the scalar unit.
    pub fn wave_bytes(&self) -> u32 {
        4 * self.scalar_loads.iter().zip([1, 2, 4, 8, 16]).map(|(count, dwords)| count * dwords).sum::<u32>()
    }

    /// Bytes that a lane reads from workgroup memory.
    pub fn lds_bytes(&self) -> u32 {
        4 * weighted(&self.lds_reads)
    }

    /// Multiply-adds: fused ones, and pairs of a multiplication and an addition.
    pub fn macs(&self) -> u32 {
        self.fma + self.mul.min(self.add)
    }

    /// Fused multiply-adds for each instruction, in percent.
    pub fn fma_share(&self) -> f64 {
        100.0 * self.fma as f64 / self.all.max(1) as f64
    }
}

fn weighted(counts: &[u32; 4]) -> u32 {
    counts.iter().zip(1..).map(|(count, dwords)| count * dwords).sum()
}

/// Loads from storage that have been issued and not waited for, as a piece of code runs from its start.
#[derive(Default)]
pub struct Flight {
    /// By the counter or scoreboard that says when they have arrived.
    under_way: Vec<u32>,
    /// The most at any time.
    pub most: u32,
}

impl Flight {
    pub fn issue(&mut self, counter: usize) {
        if self.under_way.len() <= counter {
            self.under_way.resize(counter + 1, 0);
        }
        self.under_way[counter] += 1;
        self.most = self.most.max(self.now());
    }

    /// Loads in flight.
    pub fn now(&self) -> u32 {
        self.under_way.iter().sum()
    }

    /// Waits until at most so many of a counter are left.
    pub fn wait(&mut self, counter: usize, left: u32) {
        if let Some(count) = self.under_way.get_mut(counter) {
            *count = left.min(*count);
        }
    }
}
