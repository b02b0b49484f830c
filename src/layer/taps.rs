//! The taps of a convolution's kernel: where each reads, and its products.

use super::operator::Place;
use crate::kernel::Matmul;
use crate::plan::BufferId;
use crate::schedule::{Builder, Sequence};
use std::collections::BTreeSet;
use std::ops::Range;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    /// Taps of the kernel.
    pub count: u32,
    /// Steps of the input from one output step to the next.
    pub stride: u32,
    /// Steps of the input from one tap to the next.
    pub dilation: u32,
    /// Steps of padding in front.
    pub left: u32,
    /// B.
    pub batch: u32,
    /// Input features.
    pub input: u32,
    /// Filters.
    pub output: u32,
    /// Groups of both.
    pub groups: u32,
}

/// Rows that a tap reads, or whose gradients it adds to.
#[derive(Clone, Copy, Debug)]
pub(super) struct TapRows {
    /// Index of the tap.
    pub tap: u32,
    /// Number of output steps.
    steps: u32,
    buffer: BufferId,
    /// First element.
    offset: u32,
    /// Stride from one output step to the next.
    step: i32,
    /// Stride of a row.
    row: i32,
}

/// Output steps at which the same taps read, each from one buffer; the others read padding.
pub(super) struct Part {
    /// Output steps, of one chunk.
    pub range: Range<u32>,
    /// Rows of the taps that read some.
    pub taken: Vec<TapRows>,
}

impl Taps {
    /// Input time of a tap at an output step.
    fn time(&self, step: u32, tap: u32) -> i64 {
        step as i64 * self.stride as i64 + tap as i64 * self.dilation as i64 - self.left as i64
    }

    /// Cuts the steps of the output `y` into parts. Times before the input `x` are those of the tail, if there is one.
    pub fn parts(&self, y: &Sequence, x: &Sequence, tail: Option<&Sequence>) -> Vec<Part> {
        let mut starts: BTreeSet<u32> = (0..y.steps).step_by(y.chunk_steps as usize).collect();
        let bounds = (0..x.steps).step_by(x.chunk_steps as usize).chain([x.steps]);
        for (bound, tap) in bounds.flat_map(|bound| (0..self.count).map(move |tap| (bound, tap))) {
            // The first output step at which the tap is there.
            let first = (bound as i64 - self.time(0, tap)).max(0) as u64;
            let first = first.div_ceil(self.stride.into());
            starts.extend(u32::try_from(first).ok().filter(|&first| first < y.steps));
        }
        let ends = starts.iter().skip(1).copied().chain([y.steps]);
        let part = |(start, end): (u32, u32)| {
            let taken = (0..self.count).filter_map(|tap| self.rows(start..end, tap, x, tail)).collect();
            Part { range: start..end, taken }
        };
        starts.iter().copied().zip(ends).map(part).collect()
    }

    /// The rows of a tap; `None` in padding.
    fn rows(&self, range: Range<u32>, tap: u32, x: &Sequence, tail: Option<&Sequence>) -> Option<TapRows> {
        let time = self.time(range.start, tap);
        let (of, step) = match u32::try_from(time) {
            Ok(time) => (x, time),
            Err(_) => (tail?, u32::try_from(time + tail?.steps as i64).ok()?),
        };
        if step >= of.steps {
            return None;
        }
        let (buffer, offset) = of.at(step);
        // A stride beyond the chunk is that of a single step.
        let stride = if range.len() == 1 { 0 } else { (of.step * self.stride) as i32 };
        Some(TapRows { tap, steps: range.len() as u32, buffer, offset, step: stride, row: of.row as i32 })
    }

    /// Weights of a tap, [output, input / groups].
    pub fn weights(&self) -> u32 {
        self.output * (self.input / self.groups)
    }

    /// Input features and filters of a group.
    fn of_group(&self) -> [u32; 2] {
        [self.input / self.groups, self.output / self.groups]
    }

    /// Plans y (+)= x·W_tapᵀ; `y` is the address of the first output step.
    pub fn forward(&self, plan: &mut Builder, x: &TapRows, weight: BufferId, y: Place, accumulate: bool) {
        let [input, output] = self.of_group();
        for group in 0..self.groups {
            let product = Matmul {
                accumulate: accumulate as u32,
                m_split: self.batch,
                a_offset: x.offset + group * input,
                a_m_hi: x.step,
                a_m_lo: x.row,
                b_offset: x.tap * self.weights() + group * output * input,
                b_k_lo: 1,
                b_n: input as i32,
                c_offset: y.1 + group * output,
                c_m_hi: (self.batch * self.output) as i32,
                c_m_lo: self.output as i32,
                ..Matmul::plain(x.steps * self.batch, output, input)
            };
            plan.rounded_matmul(product, x.buffer, weight, y.0);
        }
    }

    /// Plans dx += dy·W_tap; `dy` is the address of the first output step.
    pub fn backward(&self, plan: &mut Builder, dx: &TapRows, weight: BufferId, dy: Place) {
        let [input, output] = self.of_group();
        for group in 0..self.groups {
            let product = Matmul {
                accumulate: 1,
                m_split: self.batch,
                a_offset: dy.1 + group * output,
                a_m_hi: (self.batch * self.output) as i32,
                a_m_lo: self.output as i32,
                b_offset: dx.tap * self.weights() + group * output * input,
                c_offset: dx.offset + group * input,
                c_m_hi: dx.step,
                c_m_lo: dx.row,
                ..Matmul::plain(dx.steps * self.batch, input, output)
            };
            plan.matmul(product, dy.0, weight, dx.buffer);
        }
    }

    /// Plans dW_tap (+)= dyᵀ·x; `dy` is the address of the first output step.
    pub fn weight_gradient(&self, plan: &mut Builder, x: &TapRows, dy: Place, dw: BufferId, accumulate: bool) {
        let [input, output] = self.of_group();
        for group in 0..self.groups {
            let product = Matmul {
                accumulate: accumulate as u32,
                k_split: self.batch,
                a_offset: dy.1 + group * output,
                a_m_lo: 1,
                a_k_hi: (self.batch * self.output) as i32,
                a_k_lo: self.output as i32,
                b_offset: x.offset + group * input,
                b_k_hi: x.step,
                b_k_lo: x.row,
                c_offset: x.tap * self.weights() + group * output * input,
                ..Matmul::plain(output, input, x.steps * self.batch)
            };
            plan.matmul(product, dy.0, x.buffer, dw);
        }
    }
}

/// Sets all of a sequence to 0.
pub(super) fn clear(plan: &mut Builder, sequence: &Sequence) {
    for chunk in 0..sequence.chunks.len() {
        let range = sequence.chunk_range(chunk);
        let (buffer, first) = sequence.at(range.start);
        plan.fill(buffer, first..first + range.len() as u32 * sequence.step, 0.0);
    }
}
