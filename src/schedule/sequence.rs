//! Tensors along time, split into chunks that a device can bind.

use crate::plan::BufferId;
use std::ops::Range;

/// A tensor with a time axis: step t, batch row b, feature f lies at `lead + t·step + b·row + f` of its chunk.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The chunks; each holds `chunk_steps` steps, the last one the rest.
    pub chunks: Vec<BufferId>,
    /// Number of steps, T.
    pub steps: u32,
    /// Steps of a chunk.
    pub chunk_steps: u32,
    /// Elements before a chunk's first step (a history keeps the state before the chunk there).
    pub lead: u32,
    /// Stride of a step.
    pub step: u32,
    /// Stride of a batch row.
    pub row: u32,
    /// Features of a row.
    pub features: u32,
}

impl Sequence {
    /// Address of a step: its chunk's buffer and its first element.
    pub fn at(&self, step: u32) -> (BufferId, u32) {
        let chunk = step / self.chunk_steps;
        (self.chunks[chunk as usize], self.lead + (step - chunk * self.chunk_steps) * self.step)
    }

    /// Some steps of one chunk as a sequence.
    pub fn window(&self, range: Range<u32>) -> Sequence {
        let (buffer, lead) = self.at(range.start);
        let steps = range.len() as u32;
        Sequence { chunks: vec![buffer], steps, chunk_steps: steps, lead, ..*self }
    }

    /// Cuts the steps into parts, each of which lies in one chunk of this sequence and in one chunk of another.
    pub fn parts(&self, other: &Sequence) -> Vec<Range<u32>> {
        let forward = Direction::forward(self.steps);
        let first = forward.segments(0..self.steps, self.chunk_steps);
        first.into_iter().flat_map(|part| forward.segments(part, other.chunk_steps)).collect()
    }

    /// Steps of one chunk.
    pub fn chunk_range(&self, chunk: usize) -> Range<u32> {
        let first = chunk as u32 * self.chunk_steps;
        first..(first + self.chunk_steps).min(self.steps)
    }
}

/// A direction of a layer: its order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Index among the layer's directions.
    pub index: u32,
    /// True if it runs from the end of time to its start.
    pub reverse: bool,
    /// T.
    pub steps: u32,
}

impl Direction {
    /// From the start of time to its end.
    pub fn forward(steps: u32) -> Direction {
        Direction { index: 0, reverse: false, steps }
    }

    /// The time of a step of the scan.
    pub fn time(self, step: u32) -> u32 {
        if !self.reverse { step } else { self.steps - 1 - step }
    }

    /// A stride of time as a stride of the scan.
    pub fn stride(self, stride: u32) -> i32 {
        if !self.reverse { stride as i32 } else { -(stride as i32) }
    }

    /// Cuts a range of the scan into parts, each of which has its times in one chunk of `chunk_steps`.
    pub fn segments(self, range: Range<u32>, chunk_steps: u32) -> Vec<Range<u32>> {
        let mut parts = Vec::new();
        let mut first = range.start;
        while first < range.end {
            let time = self.time(first);
            let chunk_first = time / chunk_steps * chunk_steps;
            let inside = if !self.reverse { chunk_first + chunk_steps - time } else { time - chunk_first + 1 };
            let end = range.end.min(first + inside);
            parts.push(first..end);
            first = end;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_a_range_and_stay_in_a_chunk() {
        for (steps, chunk_steps) in [(10, 4), (7, 7), (9, 2), (13, 5), (1, 1)] {
            for reverse in [false, true] {
                let direction = Direction { index: 0, reverse, steps };
                let parts = direction.segments(0..steps, chunk_steps);
                let all: Vec<u32> = parts.iter().cloned().flatten().collect();
                assert_eq!(all, (0..steps).collect::<Vec<_>>());
                for part in parts {
                    let chunks: Vec<u32> = part.clone().map(|s| direction.time(s) / chunk_steps).collect();
                    assert!(chunks.iter().all(|&c| c == chunks[0]));
                }
            }
        }
    }
}
