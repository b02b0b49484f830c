//! Backward through an LSTM stack: one scan for the gate gradients, then dW, dR, dX and db as large products.

use super::builder::Builder;
use super::forward::{Drops, Kept, LayerTrace, LayerWeights, LstmSizes, Split};
use super::sequence::{Direction, Sequence};
use super::split_backward::SplitScratch;
use super::strategy::{Launch, Pass};
use crate::cell::GATES;
use crate::error::{Error, Result};
use crate::kernel::{self, Carries, NoConstants, ScanBackwardConstants, params};
use crate::plan::{BufferId, Role};
use crate::random;
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
pub(super) struct Scratch {
    /// Gate gradients of a chunk, [steps + 1, D, B, 4H] in the order of the scan.
    pub dg: BufferId,
    /// One slot of dg, carried from a chunk to the one before it.
    carry: BufferId,
    /// What the scan sums up: gradients of the bias and of the units' further parameters [1 + extra, D, B, 4H], then of the
    /// states [STATES, D, B, H], and of the hidden state where it passes by the cell [D, B, H]; where the cell state is normalised,
    /// of what passes by it.
    pub sums: BufferId,
    /// Recurrent weights transposed, [D, 4H / heads, H].
    rt: BufferId,
    /// The same as time steps read them.
    step_rt: BufferId,
    /// Output gradients of a chunk in the order of the scan, [steps, D, B, K].
    pub dy: BufferId,
    /// Hidden states of a chunk as products read them, where some are dropped, [steps, D, B, K].
    dropped: BufferId,
    /// One zero.
    zero: BufferId,
    /// What split steps need.
    pub split: Option<SplitScratch>,
}

impl Scratch {
    /// Gradients of W·x.
    fn dg_x(&self) -> BufferId {
        self.split.as_ref().and_then(|split| split.dg_x).unwrap_or(self.dg)
    }

    /// Gradients of R·h'.
    pub fn dg_r(&self) -> BufferId {
        self.split.as_ref().and_then(|split| split.dg_r).unwrap_or(self.dg)
    }
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
    let copies_dy = !sizes.history_is_output() || states.is_some() || sizes.split.is_some();
    let split = SplitScratch::new(builder, sizes)?;
    let mut scratch = |name: &str, len: u64| builder.buffer(format!("{} {name}", sizes.name), len, Role::Scratch);
    let r_len = (sizes.directions * sizes.seen()) as u64 * columns;
    let when = |wanted: bool, len: u64| if wanted { len } else { 1 };
    let h_chunk = chunk * sizes.h_slot() as u64;
    // The scan of a split step multiplies nothing.
    let rt_len = when(sizes.split.is_none(), r_len);
    let states_past = (sizes.carries() > 0 || sizes.split == Some(Split::Norm)) as u64;
    let planes = sizes.cell.states.len() as u64;
    let rt = scratch("R transposed", rt_len)?;
    let scratch = Scratch {
        dg: scratch("gate gradients", (chunk + 1) * G as u64 * slot)?,
        carry: scratch("gate gradients carried", G as u64 * slot)?,
        sums: scratch("sums", (G as u64 * (1 + sizes.cell.extra as u64) + planes + states_past) * slot)?,
        rt,
        dy: scratch("dy by step", when(copies_dy, h_chunk))?,
        dropped: scratch("h dropped", when(sizes.drops.recurrent > 0.0, h_chunk))?,
        zero: scratch("zero", 1)?,
        step_rt: builder.step_weights(&format!("{} R transposed", sizes.name), rt, rt_len)?,
        split,
    };
    let words = builder.words(sizes.batch)?;
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
        let dr = match traces[k].weight_drop {
            Some(_) => Some(builder.buffer(format!("{}.l{k}.dR dropped", sizes.name), r_len, Role::Scratch)?),
            None => None,
        };
        let layer = Layer {
            dr,
            sizes,
            weights: &weights[k],
            trace: &traces[k],
            kept: kept.ok_or_else(|| Error::Plan("backward after a forward pass that kept nothing".into()))?,
            gradients: &gradients[k],
            scratch: &scratch,
            words,
            finals: states.map(|states| states.finals[k]),
            initials: states.map(|states| states.initials[k]),
            dx: dx.as_ref(),
        };
        layer.backward(builder, &upstream);
        let Some(mut dx) = dx else { return Ok(None) };
        for (n, &drop) in traces[k].input_drops.iter().enumerate().rev() {
            dx = builder.dropout(&format!("{}.l{k}.dx dropped {n}", sizes.name), &dx, sizes.batch, drop)?;
        }
        upstream = Upstream::Whole(dx);
    }
    match upstream {
        Upstream::Whole(dx) => Ok(Some(dx)),
        Upstream::Last(_) => Ok(None),
    }
}

pub(super) struct Layer<'a> {
    pub(super) sizes: &'a LstmSizes,
    pub(super) weights: &'a LayerWeights,
    pub(super) trace: &'a LayerTrace,
    pub(super) kept: &'a Kept,
    pub(super) gradients: &'a LayerWeights,
    pub(super) scratch: &'a Scratch,
    pub(super) words: BufferId,
    /// Gradient of recurrent weights of which some are dropped, [D, K, 4H].
    dr: Option<BufferId>,
    finals: Option<(BufferId, BufferId)>,
    initials: Option<(BufferId, BufferId)>,
    dx: Option<&'a Sequence>,
}

impl Layer<'_> {
    fn backward(&self, builder: &mut Builder, upstream: &Upstream) {
        let (sizes, scratch, h) = (self.sizes, self.scratch, &self.trace.h);
        let (slot, columns) = (sizes.slot(), G * sizes.hidden);
        if sizes.split.is_none() && sizes.seen() > 0 {
            // R transposed, head by head: [D, 4H / heads, H] from [D, H / heads, 4H]
            let (heads, seen) = (sizes.heads, sizes.seen());
            let (gates, matrix) = (columns / heads, (seen * columns) as i32);
            let each = |stride: u32| if heads == 1 { 0 } else { stride as i32 };
            builder.copy(
                [heads, sizes.directions, gates, seen],
                (self.trace.r, 0),
                [each(gates), matrix, 1, columns as i32],
                (scratch.rt, 0),
                [each(seen), matrix, sizes.hidden as i32, 1],
                false,
            );
            builder.round_weights(scratch.rt, scratch.step_rt);
        }
        if sizes.cell.input_gates.len() < GATES {
            builder.fill(scratch.zero, 0..1, 0.0);
        }
        self.last_states(builder, upstream);
        if let (Some(dx), 2) = (self.dx, sizes.directions) {
            // Which direction reaches a time first depends on its chunk, so both add.
            for (k, &buffer) in dx.chunks.iter().enumerate() {
                builder.fill(buffer, 0..dx.chunk_range(k).len() as u32 * dx.step, 0.0);
            }
        }
        for chunk in (0..h.chunks.len()).rev() {
            let range = h.chunk_range(chunk);
            if range.end < sizes.steps && sizes.split.is_none() {
                // The chunk after this one left its first step's gate gradients in slot 0.
                let after = range.len() as u32 * G * slot;
                builder.copy_run(G * slot, (scratch.dg, 0), (scratch.carry, 0));
                builder.copy_run(G * slot, (scratch.carry, 0), (scratch.dg, after));
            }
            let dy = self.output_gradients(builder, upstream, range.clone());
            let launch = sizes.launch(Pass::Backward, &builder.capabilities);
            let mut end = range.end;
            while end > range.start {
                let first = end.saturating_sub(launch.steps).max(range.start);
                match &scratch.split {
                    Some(split) => self.split_step(builder, launch, split, first, range.start),
                    None => self.scan(builder, launch, &dy, first..end, range.start),
                }
                end = first;
            }
            if let Some(split) = &scratch.split {
                self.after_chunk(builder, split, range.clone());
            }
            self.weight_products(builder, range);
        }
        self.finish_parameters(builder);
        if let Some((dh_0, dc_0)) = self.initials {
            self.initial_gradients(builder, dh_0, dc_0);
        }
    }

    /// Where the gradient of the cell state lies in the sums.
    pub(super) fn dc(&self) -> u32 {
        G * (1 + self.sizes.cell.extra as u32) * self.sizes.slot()
    }

    /// Puts the gradients of the last states where the scan begins with them.
    fn last_states(&self, builder: &mut Builder, upstream: &Upstream) {
        let (sizes, sums, slot, c_slot) = (self.sizes, self.scratch.sums, self.sizes.slot(), self.sizes.c_slot());
        let dc = self.dc();
        match self.finals {
            Some((_, dc_n)) => builder.copy_run(c_slot, (dc_n, 0), (sums, dc)),
            None => builder.fill(sums, dc..dc + c_slot, 0.0),
        }
        let carried = (sums, dc + c_slot);
        if sizes.split.is_some() {
            if sizes.carries() > 0 || sizes.split == Some(Split::Norm) {
                builder.fill(sums, carried.1..carried.1 + slot, 0.0);
            }
            return; // with the last output's gradient
        }
        if sizes.carries() == 0 {
            return;
        }
        match (upstream, self.finals) {
            // Sequences end at different steps, but the last slot has the last state of each.
            (Upstream::Last(dy), _) => {
                let (batch, hidden) = (sizes.batch, sizes.hidden);
                let from = [0, hidden as i32, dy.row as i32, 1];
                let to = [0, (batch * hidden) as i32, hidden as i32, 1];
                builder.copy([1, sizes.directions, batch, hidden], dy.at(0), from, carried, to, false);
            }
            (Upstream::Whole(_), Some((dh_n, _))) => builder.copy_run(slot, (dh_n, 0), carried),
            (Upstream::Whole(_), None) => builder.fill(sums, carried.1..carried.1 + slot, 0.0),
        }
    }

    /// Where the steps of a chunk find their output gradient: as it came, or copied into the order of the scan.
    fn output_gradients(&self, builder: &mut Builder, upstream: &Upstream, range: Range<u32>) -> Gradient {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let (batch, width, slot) = (sizes.batch, sizes.width, sizes.h_slot());
        let last_here = range.end == sizes.steps;
        let in_order =
            Gradient { at: (scratch.dy, 0), steps: range.clone(), step: slot, direction: batch * width, row: width };
        match upstream {
            Upstream::Last(dy) if sizes.split.is_some() => {
                builder.fill(scratch.dy, 0..range.len() as u32 * slot, 0.0);
                if last_here {
                    let at = (scratch.dy, (range.len() as u32 - 1) * slot);
                    let from = [0, width as i32, dy.row as i32, 1];
                    let to = [0, (batch * width) as i32, width as i32, 1];
                    builder.copy([1, sizes.directions, batch, width], dy.at(0), from, at, to, false);
                }
                in_order
            }
            Upstream::Last(dy) => {
                let last = if last_here && sizes.carries() == 0 { sizes.steps - 1..sizes.steps } else { 0..0 };
                Gradient { at: dy.at(0), steps: last, step: 0, direction: width, row: dy.row }
            }
            Upstream::Whole(dy) if sizes.history_is_output() && self.finals.is_none() && sizes.split.is_none() => {
                // dy has the chunks of the histories: what is cut in time is cut alike.
                Gradient { at: dy.at(range.start), steps: range, step: dy.step, direction: 0, row: dy.row }
            }
            Upstream::Whole(dy) => {
                for direction in sizes.each_direction() {
                    let order = sizes.output_order(direction);
                    for part in order.segments(range.clone(), dy.chunk_steps) {
                        let (from, src) = dy.at(order.time(part.start));
                        let src = src + direction.index * width;
                        let dst = (part.start - range.start) * slot + direction.index * batch * width;
                        if sizes.ragged && sizes.split.is_some() && !sizes.repeats_output {
                            // What later steps send back is added, also in rows that have no output here.
                            let params = params::Trim {
                                steps: part.len() as u32,
                                batch,
                                features: width,
                                src_offset: src,
                                src_step: order.stride(dy.step),
                                src_row: dy.row as i32,
                                dst_offset: dst,
                                dst_step: slot as i32,
                                dst_row: width as i32,
                                time: builder.first_step() + direction.time(part.start),
                                time_step: direction.stride(1),
                            };
                            builder.push(&kernel::TRIM, None, &NoConstants, &params, &[self.words, from, scratch.dy]);
                            continue;
                        }
                        builder.copy(
                            [1, part.len() as u32, batch, width],
                            (from, src),
                            [0, order.stride(dy.step), dy.row as i32, 1],
                            (scratch.dy, dst),
                            [0, slot as i32, width as i32, 1],
                            false,
                        );
                    }
                }
                let at_the_end = sizes.carries() == 0 || sizes.split.is_some();
                if let (true, true, Some((dh_n, _))) = (last_here, at_the_end, self.finals) {
                    let at = (range.len() as u32 - 1) * slot;
                    builder.copy([1, 1, 1, slot], (dh_n, 0), [0, 0, 0, 1], (scratch.dy, at), [0, 0, 0, 1], true);
                }
                in_order
            }
        }
    }

    /// What gate gradients send back through the recurrent product: c[B, K] (+)= dg[B, 4H]·R[d]ᵀ.
    pub(super) fn back_through_r(
        &self,
        builder: &mut Builder,
        d: u32,
        dg: u32,
        (to, c_offset): (BufferId, u32),
        adds: bool,
    ) {
        let LstmSizes { batch, width, .. } = *self.sizes;
        let columns = G * self.sizes.hidden;
        let product = params::Matmul {
            accumulate: adds as u32,
            a_offset: dg,
            b_offset: d * width * columns,
            b_k_lo: 1,
            b_n: columns as i32,
            c_offset,
            ..params::Matmul::plain(batch, width, columns)
        };
        builder.matmul(product, self.scratch.dg_r(), self.trace.r, to);
    }

    /// The steps of a range, in one dispatch; `first` is the first step of their chunk.
    pub(super) fn scan(&self, builder: &mut Builder, launch: Launch, dy: &Gradient, range: Range<u32>, first: u32) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let slot = sizes.slot();
        let (c_buffer, c_out) = self.kept.c.at(range.start);
        let (saved_buffer, saved_offset) = self.kept.saved.at(range.start);
        // Steps of the range from here on have an output gradient.
        let from = dy.steps.start.clamp(range.start, range.end);
        let has_dy = from < dy.steps.end.min(range.end);
        let Drops { zoneout_h, zoneout_c, .. } = sizes.drops;
        let drop = self.trace.recurrent_drop.filter(|_| sizes.split.is_none());
        let params = params::ScanBackward {
            batch: sizes.batch,
            directions: sizes.directions,
            biases: sizes.biases,
            steps: range.len() as u32,
            has_next: (range.end < sizes.steps && sizes.split.is_none() && sizes.seen() > 0) as u32,
            first: (range.end == sizes.steps) as u32,
            dy_from: if has_dy { from - range.start } else { range.len() as u32 },
            dy_offset: if has_dy { dy.at.1 + (from - dy.steps.start) * dy.step } else { 0 },
            dy_step: dy.step,
            dy_direction: dy.direction,
            dy_row: dy.row,
            dy_whole: (sizes.split == Some(Split::Reset) || sizes.split.is_none() && sizes.repeats_output) as u32,
            saved_offset,
            saved_step: sizes.planes() * slot,
            c_in: c_out - sizes.c_slot(),
            dg_next: (range.end - first) * G * slot,
            dg_offset: (range.start - first) * G * slot,
            first_step: builder.first_step() + range.start,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: self.trace.zoneout_site,
            zoneout_h: random::threshold(zoneout_h),
            zoneout_c: random::threshold(zoneout_c),
            drop_site: drop.map_or(0, |drop| drop.site),
            drop: drop.map_or(0, |drop| drop.threshold()),
            drop_scale: drop.map_or(1.0, |drop| drop.scale()),
            ..bytemuck::Zeroable::zeroed()
        }
        .with_settings(&sizes.settings);
        let buffers =
            [saved_buffer, c_buffer, dy.at.0, scratch.step_rt, scratch.dg, scratch.sums, self.words, self.weights.bias];
        let constants = ScanBackwardConstants {
            h: sizes.hidden,
            drop: drop.is_some(),
            // Another kernel carries what is normalised.
            carries: Carries(if sizes.split == Some(Split::Norm) { 0 } else { sizes.carries() }),
            kinds: sizes.settings.kinds(),
            rows: launch.rows,
            units: launch.units,
            span: launch.span,
            threads: launch.threads,
            terms: if sizes.seen() > 0 { sizes.hidden / sizes.heads } else { 0 },
            heads: sizes.heads,
        };
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
                let fresh = range.end == sizes.steps && k == 0 && !builder.adds();
                let (from, at) = x.at(direction.time(part.start));
                let input = Operand { at, step: direction.stride(x.step), row: x.row, features: x.features };
                let dw = (self.gradients.w, d * x.features * G * sizes.hidden);
                let dg = self.scratch.dg_x();
                self.outer_product(builder, (from, input), dg, direction, part.clone(), range.start, dw, fresh);
                if let Some(dx) = self.dx {
                    self.input_gradient(builder, dx, direction, part, range.start);
                }
            }
            for (k, part) in
                Direction::forward(sizes.steps).segments(range.clone(), h.chunk_steps).into_iter().enumerate()
            {
                let fresh = range.end == sizes.steps && k == 0 && !builder.adds();
                let (mut from, mut at) = h.at(part.start);
                at -= sizes.h_slot(); // h' of a step lies one slot before
                if let Some(drop) = self.trace.recurrent_drop {
                    let shape = [part.len() as u32, sizes.directions * batch, sizes.width];
                    builder.drop_rows(self.words, shape, (from, at), self.scratch.dropped, drop);
                    (from, at) = (self.scratch.dropped, 0);
                }
                let at = at + d * batch * sizes.width;
                let before = Operand { at, step: h.step as i32, row: sizes.width, features: sizes.width };
                let to = self.dr.unwrap_or(self.gradients.r);
                let dr = (to, d * sizes.seen() * G * sizes.hidden);
                let dg = self.scratch.dg_r();
                self.recurrent_product(builder, (from, before), dg, direction, part.clone(), range.start, dr, fresh);
                if let Some(split) = &self.scratch.split {
                    // Put to dR segment by segment
                    let fresh = range.end == sizes.steps && k == 0;
                    self.candidate_gradient(builder, split, direction, part.clone(), range.start, fresh);
                }
                if let Some(projection) = self.gradients.projection {
                    self.projection_gradient(builder, direction, part, range.start, projection, fresh);
                }
            }
        }
    }

    /// dW_hr[d] (+)= Σ over steps and rows of dh[s, d, b]ᵀ·m[s, d, b].
    fn projection_gradient(
        &self,
        builder: &mut Builder,
        direction: Direction,
        part: Range<u32>,
        first: u32,
        to: BufferId,
        fresh: bool,
    ) {
        let sizes = self.sizes;
        let LstmSizes { batch, hidden, width, .. } = *sizes;
        let d = direction.index;
        let (from, at) = self.kept.saved.at(part.start);
        let product = params::Matmul {
            accumulate: !fresh as u32,
            k_split: batch,
            a_offset: (part.start - first) * sizes.h_slot() + d * batch * width,
            a_m_lo: 1,
            a_k_hi: sizes.h_slot() as i32,
            a_k_lo: width as i32,
            b_offset: at + sizes.cell.saved as u32 * sizes.slot() + d * batch * hidden,
            b_k_hi: (sizes.planes() * sizes.slot()) as i32,
            b_k_lo: hidden as i32,
            c_offset: d * width * hidden,
            ..params::Matmul::plain(width, hidden, part.len() as u32 * batch)
        };
        builder.matmul(product, self.scratch.dy, from, to);
    }

    /// dR[d] (+)= Σ over steps and rows of h'[s, d, b]ᵀ·dg[s, d, b], a product for each head.
    #[allow(clippy::too_many_arguments)]
    fn recurrent_product(
        &self,
        builder: &mut Builder,
        (from, h): (BufferId, Operand),
        dg: BufferId,
        direction: Direction,
        part: Range<u32>,
        first: u32,
        (to, c_offset): (BufferId, u32),
        fresh: bool,
    ) {
        let sizes = self.sizes;
        if sizes.seen() == 0 {
            return;
        }
        if sizes.heads == 1 {
            return self.outer_product(builder, (from, h), dg, direction, part, first, (to, c_offset), fresh);
        }
        let (columns, seen) = (G * sizes.hidden, sizes.seen());
        let gates = columns / sizes.heads;
        for head in 0..sizes.heads {
            let product = params::Matmul {
                accumulate: !fresh as u32,
                k_split: sizes.batch,
                a_offset: h.at + head * seen,
                a_m_lo: 1,
                a_k_hi: h.step,
                a_k_lo: h.row as i32,
                b_offset: self.gate_gradients(direction, part.start - first) + head * gates,
                b_k_hi: (G * sizes.slot()) as i32,
                b_k_lo: columns as i32,
                c_offset: c_offset + head * gates,
                c_m_lo: columns as i32,
                ..params::Matmul::plain(seen, gates, part.len() as u32 * sizes.batch)
            };
            builder.matmul(product, from, dg, to);
        }
    }

    /// dW[d] (+)= Σ over steps and rows of input[t, b]ᵀ·dg[s, d, b].
    #[allow(clippy::too_many_arguments)]
    fn outer_product(
        &self,
        builder: &mut Builder,
        (from, input): (BufferId, Operand),
        dg: BufferId,
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
        builder.matmul(product, from, dg, to);
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
        builder.matmul(product, self.scratch.dg_x(), self.weights.w, to);
    }

    /// First element of a step's gate gradients for a direction.
    pub(super) fn gate_gradients(&self, direction: Direction, local_step: u32) -> u32 {
        let sizes = self.sizes;
        G * (local_step * sizes.slot() + direction.index * sizes.batch * sizes.hidden)
    }

    /// Gradients of biases and further parameters from their sums over time; what was dropped, or is no parameter, has none.
    fn finish_parameters(&self, builder: &mut Builder) {
        let (sizes, cell) = (self.sizes, self.sizes.cell);
        let columns = G * sizes.hidden;
        for d in 0..sizes.directions {
            let mut at = d * sizes.parameters() * columns;
            for (row, copies) in [(0, sizes.biases), (1, cell.extra as u32)] {
                if copies == 0 {
                    continue;
                }
                let params = params::ColumnSum {
                    rows: sizes.batch,
                    columns,
                    a_offset: row * G * sizes.slot() + d * sizes.batch * columns,
                    out_offset: at,
                    copies,
                    accumulate: builder.adds() as u32,
                };
                builder.push(
                    &kernel::COLUMN_SUM,
                    None,
                    &NoConstants,
                    &params,
                    &[self.scratch.sums, self.gradients.bias],
                );
                at += copies * columns;
            }
        }
        if let Some(split) = &self.scratch.split {
            self.finish_split(builder, split, self.dr.unwrap_or(self.gradients.r));
        }
        if let (Some(drop), Some(dr)) = (self.trace.weight_drop, self.dr) {
            let shape = [1, sizes.directions * sizes.seen(), columns];
            builder.drop_rows(self.words, shape, (dr, 0), self.gradients.r, drop);
        }
        let rows = sizes.directions * self.trace.x.features;
        self.clear(builder, self.gradients.w, (0, rows, columns), cell.input_gates);
        if sizes.seen() > 0 {
            self.clear(builder, self.gradients.r, (0, sizes.directions * sizes.seen(), columns), cell.recurrent_gates);
        }
        let stride = sizes.parameters() * columns;
        for (bias, gates) in (0..sizes.biases).zip([cell.input_gates, cell.recurrent_gates]) {
            self.clear(builder, self.gradients.bias, (bias * columns, sizes.directions, stride), gates);
        }
    }

    /// Sets the gradients of columns that a cell does not have to zero.
    fn clear(&self, builder: &mut Builder, of: BufferId, (at, rows, stride): (u32, u32, u32), gates: &[usize]) {
        for gate in (0..G).filter(|&gate| !gates.contains(&(gate as usize))) {
            let to = [0, 0, stride as i32, G as i32];
            builder.copy([1, 1, rows, self.sizes.hidden], (self.scratch.zero, 0), [0; 4], (of, at + gate), to, false);
        }
    }

    /// dh_0 = dg[0]·Rᵀ, and what passed by the cell; dc_0 is what the scan left.
    fn initial_gradients(&self, builder: &mut Builder, dh_0: BufferId, dc_0: BufferId) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let (slot, run) = (sizes.slot(), [0, 0, 0, 1]);
        let c_slot = sizes.c_slot();
        builder.copy_run(c_slot, (scratch.sums, self.dc()), (dc_0, 0));
        if let Some(split) = &scratch.split {
            builder.copy_run(sizes.h_slot(), (split.back, 0), (dh_0, 0));
            if sizes.split == Some(Split::Norm) {
                builder.copy([1, 1, 1, slot], (scratch.sums, self.dc() + slot), run, (dc_0, 0), run, true);
            }
        } else {
            self.initial_product(builder, dh_0);
        }
        if sizes.carries() > 0 && !matches!(sizes.split, Some(Split::Norm | Split::Projection)) {
            builder.copy([1, 1, 1, slot], (scratch.sums, self.dc() + c_slot), run, (dh_0, 0), run, true);
        }
        if sizes.cell.state_is_hidden {
            builder.copy([1, 1, 1, slot], (scratch.sums, self.dc()), run, (dh_0, 0), run, true);
        }
    }

    /// dg[0]·Rᵀ, under the mask of h'.
    fn initial_product(&self, builder: &mut Builder, dh_0: BufferId) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        // The chunk's output gradients are done with.
        let to = if self.trace.recurrent_drop.is_some() { scratch.dy } else { dh_0 };
        for direction in sizes.each_direction() {
            let from = self.gate_gradients(direction, 0);
            let at = direction.index * sizes.batch * sizes.width;
            match (sizes.heads, sizes.seen()) {
                (_, 0) => builder.fill(to, at..at + sizes.batch * sizes.width, 0.0),
                (1, _) => self.back_through_r(builder, direction.index, from, (to, at), false),
                (heads, seen) => {
                    let (width, columns) = (sizes.width, G * sizes.hidden);
                    let gates = columns / heads;
                    for head in 0..heads {
                        let product = params::Matmul {
                            a_offset: from + head * gates,
                            a_m_lo: columns as i32,
                            b_offset: direction.index * seen * columns + head * gates,
                            b_k_lo: 1,
                            b_n: columns as i32,
                            c_offset: at + head * seen,
                            c_m_lo: width as i32,
                            ..params::Matmul::plain(sizes.batch, seen, gates)
                        };
                        builder.matmul(product, scratch.dg_r(), self.trace.r, to);
                    }
                }
            }
        }
        if let Some(drop) = self.trace.recurrent_drop {
            let shape = [1, sizes.directions * sizes.batch, sizes.width];
            builder.drop_rows(self.words, shape, (to, 0), dh_0, drop);
        }
    }
}

/// Where steps find their output gradient.
pub(super) struct Gradient {
    /// That of the first of `steps`.
    pub at: (BufferId, u32),
    /// The steps that have one.
    pub steps: Range<u32>,
    pub step: u32,
    pub direction: u32,
    pub row: u32,
}

/// A sequence as the left side of an outer product.
struct Operand {
    at: u32,
    step: i32,
    row: u32,
    features: u32,
}
