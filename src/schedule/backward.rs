//! Backward through an LSTM stack: one scan for the gate gradients, then dW, dR, dX and db as large products.

use super::builder::Builder;
use super::forward::{Kept, LayerTrace, LayerWeights, LstmSizes};
use super::sequence::{Direction, Sequence};
use super::strategy::{Launch, Pass};
use crate::cell::GATES;
use crate::error::{Error, Result};
use crate::kernel::{self, params};
use crate::plan::{BufferId, Role};
use std::ops::Range;

const G: u32 = GATES as u32;

/// The gradient that comes from above.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// For every step, [T, B, D·H] in the order of time.
    Whole(Sequence),
    /// For the last step of each direction's scan, [1, B, D·H].
    Last(Sequence),
}

/// Gradients of the final states and where those of the initial ones go, each [D, B, H] per layer.
#[derive(Clone, Debug)]
pub struct StateGradients {
    /// Gradients of h_n and c_n.
    pub finals: Vec<(BufferId, BufferId)>,
    /// Gradients of h_0 and c_0, written.
    pub initials: Vec<(BufferId, BufferId)>,
}

/// Scratch that all layers of a stack share.
struct Scratch {
    /// Gate gradients of a chunk, [steps + 1, D, B, 4H] in the order of the scan.
    dg: BufferId,
    /// One slot of dg, carried from a chunk to the one before it.
    carry: BufferId,
    /// Gradient of the cell state, [D, B, H].
    dc: BufferId,
    /// Gradient of the bias summed over time, [D, B, 4H].
    dbias: BufferId,
    /// Recurrent weights transposed, [D, 4H, H].
    rt: BufferId,
    /// The same as time steps read them.
    step_rt: BufferId,
    /// Output gradients of a chunk in the order of the scan, [steps, D, B, H].
    dy: BufferId,
}

/// Plans a stack backward and returns the gradient of its input where it is asked for.
#[allow(clippy::too_many_arguments)] // what backward through a stack takes; a struct would only rename it
pub fn lstm(
    builder: &mut Builder,
    sizes: &LstmSizes,
    weights: &[LayerWeights],
    traces: &[LayerTrace],
    upstream: Upstream,
    states: Option<&StateGradients>,
    gradients: &[LayerWeights],
    wants_dx: bool,
) -> Result<Option<Sequence>> {
    let (slot, columns) = (sizes.slot() as u64, G as u64 * sizes.hidden as u64);
    let chunk = builder.chunk_steps(sizes.steps) as u64;
    let copies_dy = sizes.directions == 2 || states.is_some();
    let mut scratch = |name: &str, len: u64| builder.buffer(format!("{} {name}", sizes.name), len, Role::Scratch);
    let r_len = sizes.directions as u64 * columns * sizes.hidden as u64;
    let rt = scratch("R transposed", r_len)?;
    let scratch = Scratch {
        dg: scratch("gate gradients", (chunk + 1) * G as u64 * slot)?,
        carry: scratch("gate gradients carried", G as u64 * slot)?,
        dc: scratch("dc", slot)?,
        dbias: scratch("db by row", G as u64 * slot)?,
        rt,
        dy: scratch("dy by step", if copies_dy { chunk * slot } else { 1 })?,
        step_rt: builder.step_weights(&format!("{} R transposed", sizes.name), rt, r_len)?,
    };
    let mut upstream = upstream;
    for layer in (0..sizes.layers).rev() {
        builder.section(format!("{} layer {layer} backward", sizes.name));
        let dx = if layer > 0 || wants_dx {
            let name = format!("{}.l{layer}.dx", sizes.name);
            Some(builder.sequence(&name, [sizes.steps, sizes.batch, sizes.layer_input(layer)], 0, Role::Scratch)?)
        } else {
            None
        };
        let k = layer as usize;
        let kept = traces[k].kept.as_ref();
        let layer = Layer {
            sizes,
            weights: &weights[k],
            trace: &traces[k],
            kept: kept.ok_or_else(|| Error::Plan("backward after a forward pass that kept nothing".into()))?,
            gradients: &gradients[k],
            scratch: &scratch,
            finals: states.map(|states| states.finals[k]),
            initials: states.map(|states| states.initials[k]),
            dx: dx.as_ref(),
        };
        layer.backward(builder, &upstream);
        match dx {
            Some(dx) => upstream = Upstream::Whole(dx),
            None => return Ok(None),
        }
    }
    match upstream {
        Upstream::Whole(dx) => Ok(Some(dx)),
        Upstream::Last(_) => Ok(None),
    }
}

struct Layer<'a> {
    sizes: &'a LstmSizes,
    weights: &'a LayerWeights,
    trace: &'a LayerTrace,
    kept: &'a Kept,
    gradients: &'a LayerWeights,
    scratch: &'a Scratch,
    finals: Option<(BufferId, BufferId)>,
    initials: Option<(BufferId, BufferId)>,
    dx: Option<&'a Sequence>,
}

impl Layer<'_> {
    fn backward(&self, builder: &mut Builder, upstream: &Upstream) {
        let (sizes, scratch, h) = (self.sizes, self.scratch, &self.trace.h);
        let (slot, columns) = (sizes.slot(), G * sizes.hidden);
        // R transposed: [D, 4H, H] from [D, H, 4H]
        builder.copy(
            [1, sizes.directions, columns, sizes.hidden],
            (self.weights.r, 0),
            [0, (sizes.hidden * columns) as i32, 1, columns as i32],
            (scratch.rt, 0),
            [0, (sizes.hidden * columns) as i32, sizes.hidden as i32, 1],
            false,
        );
        builder.round_weights(scratch.rt, scratch.step_rt);
        match self.finals {
            Some((_, dc_n)) => builder.copy_run(slot, (dc_n, 0), (scratch.dc, 0)),
            None => builder.fill(scratch.dc, 0..slot, 0.0),
        }
        if let (Some(dx), 2) = (self.dx, sizes.directions) {
            // Which direction reaches a time first depends on its chunk, so both add.
            for (k, &buffer) in dx.chunks.iter().enumerate() {
                builder.fill(buffer, 0..dx.chunk_range(k).len() as u32 * dx.step, 0.0);
            }
        }
        for chunk in (0..h.chunks.len()).rev() {
            let range = h.chunk_range(chunk);
            if range.end < sizes.steps {
                // The chunk after this one left its first step's gate gradients in slot 0.
                let after = range.len() as u32 * G * slot;
                builder.copy_run(G * slot, (scratch.dg, 0), (scratch.carry, 0));
                builder.copy_run(G * slot, (scratch.carry, 0), (scratch.dg, after));
            }
            let dy = self.output_gradients(builder, upstream, range.clone());
            let launch = Launch::new(Pass::Backward, sizes.launch(), &builder.capabilities);
            let mut end = range.end;
            while end > range.start {
                let first = end.saturating_sub(launch.steps).max(range.start);
                self.scan(builder, launch, &dy, first..end, range.start);
                end = first;
            }
            self.weight_products(builder, range);
        }
        self.bias_gradient(builder);
        if let Some((dh_0, dc_0)) = self.initials {
            self.initial_gradients(builder, dh_0, dc_0);
        }
    }

    /// Where the steps of a chunk find their output gradient: as it came, or copied into the order of the scan.
    fn output_gradients(&self, builder: &mut Builder, upstream: &Upstream, range: Range<u32>) -> Gradient {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let (batch, hidden, slot) = (sizes.batch, sizes.hidden, sizes.slot());
        let last_here = range.end == sizes.steps;
        let in_order =
            Gradient { at: (scratch.dy, 0), steps: range.clone(), step: slot, direction: batch * hidden, row: hidden };
        match upstream {
            Upstream::Last(dy) => {
                let last = if last_here { sizes.steps - 1..sizes.steps } else { 0..0 };
                Gradient { at: dy.at(0), steps: last, step: 0, direction: hidden, row: dy.row }
            }
            Upstream::Whole(dy) if sizes.directions == 1 && self.finals.is_none() => {
                // dy has the chunks of the histories: what is cut in time is cut alike.
                Gradient { at: dy.at(range.start), steps: range, step: dy.step, direction: 0, row: dy.row }
            }
            Upstream::Whole(dy) => {
                for direction in sizes.each_direction() {
                    for part in direction.segments(range.clone(), dy.chunk_steps) {
                        let (from, src) = dy.at(direction.time(part.start));
                        builder.copy(
                            [1, part.len() as u32, batch, hidden],
                            (from, src + direction.index * hidden),
                            [0, direction.stride(dy.step), dy.row as i32, 1],
                            (scratch.dy, (part.start - range.start) * slot + direction.index * batch * hidden),
                            [0, slot as i32, hidden as i32, 1],
                            false,
                        );
                    }
                }
                if let (true, Some((dh_n, _))) = (last_here, self.finals) {
                    let at = (range.len() as u32 - 1) * slot;
                    builder.copy([1, 1, 1, slot], (dh_n, 0), [0, 0, 0, 1], (scratch.dy, at), [0, 0, 0, 1], true);
                }
                in_order
            }
        }
    }

    /// The steps of a range, in one dispatch; `first` is the first step of their chunk.
    fn scan(&self, builder: &mut Builder, launch: Launch, dy: &Gradient, range: Range<u32>, first: u32) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let slot = sizes.slot();
        let (c_buffer, c_out) = self.kept.c.at(range.start);
        let (saved_buffer, saved_offset) = self.kept.saved.at(range.start);
        // Steps of the range from here on have an output gradient.
        let from = dy.steps.start.clamp(range.start, range.end);
        let has_dy = from < dy.steps.end.min(range.end);
        let params = params::ScanBackward {
            batch: sizes.batch,
            directions: sizes.directions,
            steps: range.len() as u32,
            has_next: (range.end < sizes.steps) as u32,
            first: (range.end == sizes.steps) as u32,
            dy_from: if has_dy { from - range.start } else { range.len() as u32 },
            dy_offset: if has_dy { dy.at.1 + (from - dy.steps.start) * dy.step } else { 0 },
            dy_step: dy.step,
            dy_direction: dy.direction,
            dy_row: dy.row,
            saved_offset,
            c_in: c_out - slot,
            dg_next: (range.end - first) * G * slot,
            dg_offset: (range.start - first) * G * slot,
        };
        let buffers = [saved_buffer, c_buffer, dy.at.0, scratch.step_rt, scratch.dg, scratch.dc, scratch.dbias];
        let constants = [sizes.hidden, launch.rows, launch.units, launch.span, launch.threads];
        let half = scratch.step_rt != scratch.rt;
        let kernel = if half { &kernel::SCAN_BACKWARD_HALF } else { &kernel::SCAN_BACKWARD };
        builder.push(kernel, Some(sizes.cell), &constants, &params, &buffers);
    }

    /// dW, dR and dX from the gate gradients of a chunk. The chunk with the last step comes first and overwrites.
    fn weight_products(&self, builder: &mut Builder, range: Range<u32>) {
        let (sizes, x, h) = (self.sizes, &self.trace.x, &self.trace.h);
        let batch = sizes.batch;
        for direction in sizes.each_direction() {
            let d = direction.index;
            for (k, part) in direction.segments(range.clone(), x.chunk_steps).into_iter().enumerate() {
                let fresh = range.end == sizes.steps && k == 0;
                let (from, at) = x.at(direction.time(part.start));
                let input = Operand { at, step: direction.stride(x.step), row: x.row, features: x.features };
                let dw = (self.gradients.w, d * x.features * G * sizes.hidden);
                self.outer_product(builder, (from, input), direction, part.clone(), range.start, dw, fresh);
                if let Some(dx) = self.dx {
                    self.input_gradient(builder, dx, direction, part, range.start);
                }
            }
            for (k, part) in (Direction { index: 0, steps: sizes.steps })
                .segments(range.clone(), h.chunk_steps)
                .into_iter()
                .enumerate()
            {
                let fresh = range.end == sizes.steps && k == 0;
                let (from, at) = h.at(part.start); // h' of a step lies one slot before
                let at = at - sizes.slot() + d * batch * sizes.hidden;
                let before = Operand { at, step: h.step as i32, row: sizes.hidden, features: sizes.hidden };
                let dr = (self.gradients.r, d * sizes.hidden * G * sizes.hidden);
                self.outer_product(builder, (from, before), direction, part, range.start, dr, fresh);
            }
        }
    }

    /// dW[d] (+)= Σ over steps and rows of input[t, b]ᵀ·dg[s, d, b].
    #[allow(clippy::too_many_arguments)]
    fn outer_product(
        &self,
        builder: &mut Builder,
        (from, input): (BufferId, Operand),
        direction: Direction,
        part: Range<u32>,
        first: u32,
        (to, c_offset): (BufferId, u32),
        fresh: bool,
    ) {
        let sizes = self.sizes;
        let columns = G * sizes.hidden;
        let product = params::Matmul {
            m: input.features,
            n: columns,
            k: part.len() as u32 * sizes.batch,
            accumulate: !fresh as u32,
            m_split: input.features,
            k_split: sizes.batch,
            a_offset: input.at,
            a_m_hi: 0,
            a_m_lo: 1,
            a_k_hi: input.step,
            a_k_lo: input.row as i32,
            b_offset: self.gate_gradients(direction, part.start - first),
            b_k_hi: (G * sizes.slot()) as i32,
            b_k_lo: columns as i32,
            b_n: 1,
            c_offset,
            c_m_hi: 0,
            c_m_lo: columns as i32,
            part: 0,
            c_part: 0,
        };
        builder.matmul(product, from, self.scratch.dg, to);
    }

    /// dx[time of s] (+)= dg[s, d]·W[d]ᵀ; two directions add to what was set to zero.
    fn input_gradient(&self, builder: &mut Builder, dx: &Sequence, direction: Direction, part: Range<u32>, first: u32) {
        let sizes = self.sizes;
        let columns = G * sizes.hidden;
        let (to, c_offset) = dx.at(direction.time(part.start));
        let product = params::Matmul {
            m: part.len() as u32 * sizes.batch,
            n: dx.features,
            k: columns,
            accumulate: (sizes.directions == 2) as u32,
            m_split: sizes.batch,
            k_split: columns,
            a_offset: self.gate_gradients(direction, part.start - first),
            a_m_hi: (G * sizes.slot()) as i32,
            a_m_lo: columns as i32,
            a_k_hi: 0,
            a_k_lo: 1,
            b_offset: direction.index * dx.features * columns,
            b_k_hi: 0,
            b_k_lo: 1,
            b_n: columns as i32,
            c_offset,
            c_m_hi: direction.stride(dx.step),
            c_m_lo: dx.row as i32,
            part: 0,
            c_part: 0,
        };
        builder.matmul(product, self.scratch.dg, self.weights.w, to);
    }

    /// First element of a step's gate gradients for a direction.
    fn gate_gradients(&self, direction: Direction, local_step: u32) -> u32 {
        let sizes = self.sizes;
        G * (local_step * sizes.slot() + direction.index * sizes.batch * sizes.hidden)
    }

    fn bias_gradient(&self, builder: &mut Builder) {
        let sizes = self.sizes;
        let columns = G * sizes.hidden;
        for d in 0..sizes.directions {
            if sizes.biases == 0 {
                continue;
            }
            let params = params::ColumnSum {
                rows: sizes.batch,
                columns,
                a_offset: d * sizes.batch * columns,
                out_offset: d * sizes.biases * columns,
                copies: sizes.biases,
                accumulate: 0,
            };
            builder.push(&kernel::COLUMN_SUM, None, &[], &params, &[self.scratch.dbias, self.gradients.bias]);
        }
    }

    /// dh_0 = dg[0]·Rᵀ; dc_0 is what the scan left.
    fn initial_gradients(&self, builder: &mut Builder, dh_0: BufferId, dc_0: BufferId) {
        let sizes = self.sizes;
        let (batch, hidden, columns) = (sizes.batch, sizes.hidden, G * sizes.hidden);
        for direction in sizes.each_direction() {
            let product = params::Matmul {
                m: batch,
                n: hidden,
                k: columns,
                accumulate: 0,
                m_split: batch,
                k_split: columns,
                a_offset: self.gate_gradients(direction, 0),
                a_m_hi: 0,
                a_m_lo: columns as i32,
                a_k_hi: 0,
                a_k_lo: 1,
                b_offset: direction.index * columns * hidden,
                b_k_hi: 0,
                b_k_lo: hidden as i32,
                b_n: 1,
                c_offset: direction.index * batch * hidden,
                c_m_hi: 0,
                c_m_lo: hidden as i32,
                part: 0,
                c_part: 0,
            };
            builder.matmul(product, self.scratch.dg, self.scratch.rt, dh_0);
        }
        builder.copy_run(sizes.slot(), (self.scratch.dc, 0), (dc_0, 0));
    }
}

/// Where steps find their output gradient.
struct Gradient {
    /// That of the first of `steps`.
    at: (BufferId, u32),
    /// The steps that have one.
    steps: Range<u32>,
    step: u32,
    direction: u32,
    row: u32,
}

/// A sequence as the left side of an outer product.
struct Operand {
    at: u32,
    step: i32,
    row: u32,
    features: u32,
}
