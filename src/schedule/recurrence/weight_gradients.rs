//! Gradients of a recurrent layer's weights and input, as products over the gate gradients of a chunk.

use super::backward::BackwardPass;
use super::sizes::G;
use super::stage::GradientPart;
use crate::kernel::{self, NoConstants};
use crate::plan::BufferId;
use crate::schedule::builder::Builder;
use crate::schedule::sequence::{Direction, Sequence};
use crate::schedule::strategy::MOST_ITERATIONS;
use std::ops::Range;

/// Columns of a head below which one dispatch takes all heads, since products would leave most of their tiles empty.
const NARROW: u32 = 64;

/// A sequence [steps, B, features] as the left side of an outer product.
struct Operand {
    buffer: BufferId,
    at: u32,
    step: i32,
    row: u32,
    features: u32,
}

impl BackwardPass<'_> {
    /// Computes dW, dR and dX from the gate gradients of a chunk. The chunk with the last step comes first and overwrites them.
    pub(super) fn weight_gradients(&self, builder: &mut Builder, chunk: Range<u32>) {
        let (sizes, x, h) = (self.sizes, &self.trace.x, &self.trace.h);
        for direction in sizes.each_direction() {
            let parts = |order: Direction, chunk_steps: u32| {
                let parts = order.segments(chunk.clone(), chunk_steps).into_iter().enumerate();
                let (chunk_start, last) = (chunk.start, chunk.end == sizes.steps);
                parts.map(move |(k, steps)| GradientPart { direction, steps, chunk_start, first: last && k == 0 })
            };
            for part in parts(direction, x.chunk_steps) {
                self.input_weights(builder, &part);
                if let Some(dx) = self.dx {
                    self.input_gradient(builder, dx, &part);
                }
            }
            for part in parts(Direction::forward(sizes.steps), h.chunk_steps) {
                self.recurrent_weights(builder, &part);
                self.trace.stages.iter().for_each(|stage| stage.weight_gradients(builder, self, &part));
            }
        }
    }

    /// Computes dW of some steps.
    fn input_weights(&self, builder: &mut Builder, part: &GradientPart) {
        let (x, direction) = (&self.trace.x, part.direction);
        let (buffer, at) = x.at(direction.time(part.steps.start));
        let input = Operand { buffer, at, step: direction.stride(x.step), row: x.row, features: x.features };
        let to = (self.gradients.w, direction.index * x.features * self.sizes.columns());
        self.outer_product(builder, input, part, (self.dg_x, 0, self.sizes.columns()), to);
    }

    /// Computes dR of some steps from the hidden states that the products read: a product for each head.
    fn recurrent_weights(&self, builder: &mut Builder, part: &GradientPart) {
        if !self.sizes.has_product() {
            return;
        }
        let (sizes, h, d) = (self.sizes, &self.trace.h, part.direction.index);
        let (mut from, mut at) = h.at(part.steps.start);
        at -= sizes.h_slot(); // h' of a step lies one slot before
        if let Some(drop) = self.trace.recurrent_drop {
            let shape = [part.steps.len() as u32, sizes.directions * sizes.batch, sizes.width];
            builder.drop_rows(self.key_and_lengths, shape, (from, at), self.scratch.dropped, drop);
            (from, at) = (self.scratch.dropped, 0);
        }
        let at = at + d * sizes.batch * sizes.width;
        let (units, columns) = (sizes.seen(), sizes.columns() / sizes.heads);
        if sizes.heads > 1 && columns < NARROW && sizes.batch <= MOST_ITERATIONS {
            return self.head_weights(builder, (from, at, h.step), part);
        }
        for head in 0..sizes.heads {
            let at = at + head * units;
            let before = Operand { buffer: from, at, step: h.step as i32, row: sizes.width, features: units };
            let first = head * columns;
            let to = (self.dr, d * sizes.r_direction() + first);
            self.outer_product(builder, before, part, (self.dg_r, first, columns), to);
        }
    }

    /// Computes dR of all heads in one dispatch, for heads with few units.
    fn head_weights(&self, builder: &mut Builder, (h, at, h_step): (BufferId, u32, u32), part: &GradientPart) {
        let (sizes, local) = (self.sizes, part.steps.start - part.chunk_start);
        let count = part.steps.len() as u32;
        let most = MOST_ITERATIONS / sizes.batch;
        for first in (0..count).step_by(most as usize) {
            let params = kernel::HeadProduct {
                steps: most.min(count - first),
                batch: sizes.batch,
                heads: sizes.heads,
                units: sizes.seen(),
                accumulate: (!part.first || builder.adds() || first > 0) as u32,
                h_offset: at + first * h_step,
                h_step,
                h_row: sizes.width,
                dg_offset: self.gate_gradients(part.direction, local + first),
                dg_step: sizes.gate_slot(),
                dr_offset: part.direction.index * sizes.r_direction(),
            };
            builder.push(&kernel::HEAD_PRODUCT, None, &NoConstants, &params, &[h, self.dg_r, self.dr]);
        }
    }

    /// Computes dW[d] (+)= Σ over steps and rows of input[t, b]ᵀ·dg[s, d, b], for some columns.
    fn outer_product(
        &self,
        builder: &mut Builder,
        input: Operand,
        part: &GradientPart,
        (dg, first, columns): (BufferId, u32, u32),
        (to, c_offset): (BufferId, u32),
    ) {
        let sizes = self.sizes;
        let product = kernel::Matmul {
            accumulate: (!part.first || builder.adds()) as u32,
            k_split: sizes.batch,
            a_offset: input.at,
            a_m_lo: 1,
            a_k_hi: input.step,
            a_k_lo: input.row as i32,
            b_offset: self.gate_gradients(part.direction, part.steps.start - part.chunk_start) + first,
            b_k_hi: sizes.gate_slot() as i32,
            b_k_lo: sizes.columns() as i32,
            c_offset,
            c_m_lo: sizes.columns() as i32,
            ..kernel::Matmul::plain(input.features, columns, part.steps.len() as u32 * sizes.batch)
        };
        builder.matmul(product, input.buffer, dg, to);
    }

    /// Computes dx[time of s] (+)= dg[s, d]·W[d]ᵀ; two directions add to a buffer of zeros.
    fn input_gradient(&self, builder: &mut Builder, dx: &Sequence, part: &GradientPart) {
        let (sizes, columns, direction) = (self.sizes, self.sizes.columns(), part.direction);
        let (to, c_offset) = dx.at(direction.time(part.steps.start));
        let product = kernel::Matmul {
            accumulate: (sizes.directions == 2) as u32,
            m_split: sizes.batch,
            a_offset: self.gate_gradients(direction, part.steps.start - part.chunk_start),
            a_m_hi: sizes.gate_slot() as i32,
            b_offset: direction.index * dx.features * columns,
            b_k_lo: 1,
            b_n: columns as i32,
            c_offset,
            c_m_hi: direction.stride(dx.step),
            c_m_lo: dx.row as i32,
            ..kernel::Matmul::plain(part.steps.len() as u32 * sizes.batch, dx.features, columns)
        };
        builder.matmul(product, self.dg_x, self.weights.w, to);
    }

    /// First element of a step's gate gradients for a direction.
    pub(super) fn gate_gradients(&self, direction: Direction, local_step: u32) -> u32 {
        let sizes = self.sizes;
        G * (local_step * sizes.slot() + direction.index * sizes.batch * sizes.hidden)
    }

    /// Computes the gradients of vectors from their sums over time; then applies the mask of dropped weights, and clears columns that
    /// are no parameters.
    pub(super) fn parameter_gradients(&self, builder: &mut Builder) {
        let (sizes, stages) = (self.sizes, &self.trace.stages);
        (0..sizes.directions).for_each(|d| self.bias_gradients(builder, d));
        for d in 0..sizes.directions {
            stages.iter().for_each(|stage| stage.vector_gradients(builder, self, d));
        }
        stages.iter().for_each(|stage| stage.end_backward(builder, self));
        let recurrent_rows = sizes.directions * sizes.seen();
        if let Some(drop) = self.trace.weight_drop {
            let shape = [1, recurrent_rows, sizes.columns()];
            builder.drop_rows(self.key_and_lengths, shape, (self.dr, 0), self.gradients.r, drop);
        }
        let (cell, columns) = (sizes.cell, sizes.columns());
        let rows = sizes.directions * self.trace.x.features;
        self.clear(builder, self.gradients.w, (0, rows, columns), cell.input_gates);
        if sizes.has_product() {
            self.clear(builder, self.gradients.r, (0, recurrent_rows, columns), cell.recurrent_gates);
        }
        let stride = sizes.parameters() * columns;
        for (bias, gates) in (0..sizes.biases).zip([cell.input_gates, cell.recurrent_gates]) {
            self.clear(builder, self.gradients.bias, (bias * columns, sizes.directions, stride), gates);
        }
    }

    /// Computes the gradients of a direction's biases, which are equal, and of its further parameters.
    fn bias_gradients(&self, builder: &mut Builder, d: u32) {
        let (sizes, columns) = (self.sizes, self.sizes.columns());
        let mut at = d * sizes.parameters() * columns;
        for (row, copies) in [(0, sizes.biases), (1, sizes.cell.extra as u32)] {
            if copies == 0 {
                continue;
            }
            let params = kernel::ColumnSum {
                rows: sizes.batch,
                columns,
                a_offset: row * sizes.gate_slot() + d * sizes.batch * columns,
                out_offset: at,
                copies,
                accumulate: builder.adds() as u32,
            };
            builder.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[self.scratch.sums, self.gradients.bias]);
            at += copies * columns;
        }
    }

    /// Sets the gradients of columns that the cell does not have to zero.
    fn clear(&self, builder: &mut Builder, of: BufferId, (at, rows, stride): (u32, u32, u32), gates: &[usize]) {
        for gate in (0..G).filter(|&gate| !gates.contains(&(gate as usize))) {
            let to = [0, 0, stride as i32, G as i32];
            builder.copy([1, 1, rows, self.sizes.hidden], (self.scratch.zero, 0), [0; 4], (of, at + gate), to, false);
        }
    }
}
