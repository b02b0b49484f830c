//! The recurrence: time steps of a layer, forward and backward.

use super::declare::{constants, kernel, params};
use super::shares::Shares;
use super::{Call, Carries, GRID_FORWARD, Kernel, Region, Touch};
use crate::cell::Settings;
use crate::cpu::{scan_backward, scan_forward};
use crate::plan::StepWeights;
use serde::{Deserialize, Serialize};

/// Workgroups of the recurrence, each of `units` hidden units and `rows` batch rows in one direction.
pub(super) fn groups(hidden: u32, units: u32, batch: u32, rows: u32, directions: u32) -> [u64; 3] {
    [hidden.div_ceil(units) as u64, batch.div_ceil(rows) as u64, directions as u64]
}

/// Division of the recurrence among threads, each by kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Division {
    /// A thread has all terms of its units; one step, or many if a workgroup has all units.
    Scan,
    /// Threads share terms; one step.
    Step,
    /// The same; many steps, and a workgroup has all units.
    Sequence,
    /// The same; many steps, and workgroups wait for each other after each.
    Grid,
}

impl Division {
    /// The kernel of the forward or of the backward pass that reads weights in this form. For whole numbers there are forward kernels
    /// whose threads share terms; the others get f32.
    pub fn kernel(self, backward: bool, form: StepWeights) -> &'static Kernel {
        use StepWeights::{F16, F32, Int8};
        match (self, backward, form) {
            (Division::Scan, false, F32 | Int8) => &SCAN_FORWARD,
            (Division::Scan, false, F16) => &SCAN_FORWARD_HALF,
            (Division::Scan, true, F32 | Int8) => &SCAN_BACKWARD,
            (Division::Scan, true, F16) => &SCAN_BACKWARD_HALF,
            (Division::Step, false, F32) => &STEP_FORWARD,
            (Division::Step, false, F16) => &STEP_FORWARD_HALF,
            (Division::Step, false, Int8) => &STEP_FORWARD_INT8,
            (Division::Step, true, F32 | Int8) => &STEP_BACKWARD,
            (Division::Step, true, F16) => &STEP_BACKWARD_HALF,
            (Division::Sequence, false, F32) => &SEQUENCE_FORWARD,
            (Division::Sequence, false, F16) => &SEQUENCE_FORWARD_HALF,
            (Division::Sequence, false, Int8) => &SEQUENCE_FORWARD_INT8,
            (Division::Sequence, true, F32 | Int8) => &SEQUENCE_BACKWARD,
            (Division::Sequence, true, F16) => &SEQUENCE_BACKWARD_HALF,
            // No candidate goes backward by a grid or reads other weights.
            (Division::Grid, _, _) => &GRID_FORWARD,
        }
    }

    /// True if a launch's threads, units and workgroup memory are as the kernel needs them.
    fn allows(self, shares: Shares, span: u32, steps: u32, memory: u32) -> bool {
        let holds = shares.holds() && span == shares.span();
        match self {
            Division::Scan => memory == 0,
            Division::Step => holds && steps == 1 && memory >= shares.step_memory(0),
            Division::Sequence => holds && shares.units == shares.padded() && memory >= shares.sequence_memory(),
            Division::Grid => holds && memory >= shares.grid_memory(),
        }
    }
}

params! {
    /// Steps of all directions of a layer, forward.
    ScanForward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Biases per gate: 0, 1 (Keras) or 2 (PyTorch), summed.
        biases: u32,
        /// Steps of this call.
        steps: u32,
        /// First step of xw [steps, D, B, 4H].
        xw_offset: u32,
        /// Slot of h' of the first step; the steps' own slots follow it.
        h_in: u32,
        /// Slot of the states beside h before the first step, [STATES, D, B, H].
        c_in: u32,
        /// Slot of the states after the first step in training, where those of the other steps follow; else after the last.
        c_out: u32,
        /// First step of saved [steps, SAVED, D, B, H].
        saved_offset: u32,
        /// Index in the scan of the first step.
        first_step: u32,
        /// T: the reverse direction's step s is time T − 1 − s.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Stream of random bits of zoneout.
        site: u32,
        /// Threshold of zoneout in training: a unit keeps h' where its random bits are below.
        zoneout_h: u32,
        /// The same for c'.
        zoneout_c: u32,
        /// In inference, share of h' in h; the hidden state that the cell computes has the rest.
        keep_h: f32,
        /// The same for c.
        keep_c: f32,
        /// α of the gates' activation.
        gate_alpha: f32,
        /// β of the gates' activation.
        gate_beta: f32,
        /// α of the candidate's activation.
        candidate_alpha: f32,
        /// β of the candidate's activation.
        candidate_beta: f32,
        /// α of the output's activation.
        output_alpha: f32,
        /// β of the output's activation.
        output_beta: f32,
        /// Bound of the arguments of the activations of gates and candidate.
        clip: f32,
        /// Bound of the cell state.
        cell_clip: f32,
    }
}

constants! {
    /// Constants of [`SCAN_FORWARD`].
    ScanForwardConstants {
        /// H.
        h: u32,
        /// Width of the recurrent state. If it is not H, the hidden state before its projection goes to `saved`, after the values
        /// kept for backward.
        k: u32,
        /// True if values for backward are kept.
        train: bool,
        /// True if a mask multiplies h' before the product.
        drop: bool,
        /// States carried past the cell.
        carries: Carries,
        /// Activations of the cell, as [`Settings::kinds`] packs them.
        kinds: u32,
        /// Batch rows of a workgroup.
        rows: u32,
        /// Hidden units of a workgroup.
        units: u32,
        /// Hidden units that a thread computes at once.
        span: u32,
        /// Threads of a workgroup.
        threads: u32,
        /// Terms of the recurrent product: K / heads, or 0 if there is none or if other kernels have added it to xw.
        terms: u32,
        /// Heads: groups of units without recurrent weights between them.
        heads: u32,
        /// Workgroup memory of kernels whose threads share terms, in elements of 16 bytes; else 0.
        memory: u32,
    }
}

kernel! {
    /// Time steps of all directions: recurrent product, gates, activations and cell update.
    SCAN_FORWARD = scan_forward(ScanForward, ScanForwardConstants) {
        bindings: [read xw, read r, read bias, write h, write c, write saved, read words, read mask],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.h, c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.touches(&c, call, Division::Scan),
        cell: true,
        parts: ["forward_step", "forward_tensors", "forward_cell"],
    }
}

/// [`SCAN_FORWARD`] with recurrent weights in f16.
pub static SCAN_FORWARD_HALF: Kernel = Kernel { name: "scan_forward_half", weights: StepWeights::F16, ..SCAN_FORWARD };

kernel! {
    /// One time step of all directions, like [`SCAN_FORWARD`], whose threads share the terms of the recurrent product.
    STEP_FORWARD = step_forward(ScanForward, ScanForwardConstants) {
        bindings: [read xw, read r, read bias, write h, write c, write saved, read words, read mask],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.h, c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.touches(&c, call, Division::Step),
        cell: true,
        twin: scan_forward,
        parts: [
            "forward_step", "forward_tensors", "forward_cell", "shares", "forward_shares", "forward_terms",
            "forward_weights"
        ],
    }
}

/// [`STEP_FORWARD`] with recurrent weights as whole numbers.
pub static STEP_FORWARD_INT8: Kernel = Kernel { name: "step_forward_int8", weights: StepWeights::Int8, ..STEP_FORWARD };

/// [`STEP_FORWARD`] with recurrent weights in f16.
pub static STEP_FORWARD_HALF: Kernel = Kernel { name: "step_forward_half", weights: StepWeights::F16, ..STEP_FORWARD };

kernel! {
    /// Many time steps of all directions, like [`SCAN_FORWARD`]: a workgroup carries rows with all their units through time,
    /// and what a step leaves to the next one stays in workgroup memory.
    SEQUENCE_FORWARD = sequence_forward(ScanForward, ScanForwardConstants) {
        bindings: [read xw, read r, read bias, write h, write c, write saved, read words, read mask],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.h, c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.touches(&c, call, Division::Sequence),
        cell: true,
        twin: scan_forward,
        parts: [
            "forward_step", "forward_tensors", "forward_cell", "shares", "forward_shares", "forward_terms",
            "forward_weights"
        ],
    }
}

/// [`SEQUENCE_FORWARD`] with recurrent weights as whole numbers.
pub static SEQUENCE_FORWARD_INT8: Kernel =
    Kernel { name: "sequence_forward_int8", weights: StepWeights::Int8, ..SEQUENCE_FORWARD };

/// [`SEQUENCE_FORWARD`] with recurrent weights in f16.
pub static SEQUENCE_FORWARD_HALF: Kernel =
    Kernel { name: "sequence_forward_half", weights: StepWeights::F16, ..SEQUENCE_FORWARD };

impl ScanForwardConstants {
    /// The division of a workgroup's terms among its threads.
    pub(crate) fn shares(&self) -> Shares {
        let ScanForwardConstants { h, heads, terms, rows, units, threads, .. } = *self;
        Shares { backward: false, hidden: h, heads, terms, rows, units, threads }
    }
}

impl ScanForward {
    /// Empty (the plan check rejects it) if there are several steps with a projection between them, if units of a thread are in
    /// different heads, or if heads differ in size.
    pub(super) fn touches(&self, c: &ScanForwardConstants, call: &Call, division: Division) -> Vec<Touch> {
        let ScanForwardConstants { h, k, train, drop, carries, span, terms, heads, memory, .. } = *c;
        let (d, projected) = (self.directions, h != k);
        let whole = heads > 0 && h.is_multiple_of(heads) && k.is_multiple_of(heads) && (span == 1 || heads == 1);
        if !whole
            || !division.allows(c.shares(), span, self.steps, memory)
            || (terms * heads != k && terms != 0)
            || projected && self.steps > 1
        {
            return Vec::new();
        }
        let units = self.batch * h;
        let slots = |offset, count| Region::span(offset, count * d, units);
        let states = call.cell.map_or(1, |cell| cell.states.len() as u32);
        let [r_rows, r_columns] = call.kernel.weights.elements(d, terms, h);
        let planes = train as u32 * call.cell.map_or(0, |cell| cell.saved as u32) + projected as u32;
        let kept = if train { self.steps } else { 1 };
        let extra = call.cell.is_some_and(|cell| cell.extra) as u32;
        let slot = d * self.batch * k;
        let h_new = (!projected).then(|| Region::span(self.h_in + slot, self.steps * d, self.batch * k));
        vec![
            Touch::reads(Region::span(self.xw_offset, self.steps * d * self.batch, 4 * h)),
            Touch::reads(Region::span(0, r_rows, r_columns)),
            Touch::reads(Region::span(0, d * (self.biases + extra), 4 * h)),
            Touch { read: Some(Region::span(self.h_in, d, self.batch * k)), write: h_new },
            Touch { read: Some(slots(self.c_in, states)), write: Some(slots(self.c_out, kept * states)) },
            Touch::writes(slots(self.saved_offset, planes * self.steps)),
            carries.key_and_lengths(self.batch, train && carries.zoneout()),
            Touch::reads(Region::span(0, drop as u32 * d, self.batch * k)),
        ]
    }

    pub(super) fn flops(&self, c: &ScanForwardConstants) -> u64 {
        let [h, terms] = [c.h, c.terms].map(u64::from);
        self.steps as u64 * self.directions as u64 * self.batch as u64 * h * (8 * terms + 30)
    }
}

params! {
    /// Backward steps of all directions, from the last to the first.
    ScanBackward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Biases per gate, which lie before the further parameters of units.
        biases: u32,
        /// Steps of this call.
        steps: u32,
        /// 1: a step follows the last one here, its gate gradients lie at dg_next.
        has_next: u32,
        /// 1: overwrite the bias gradient instead of adding to it.
        first: u32,
        /// The output has a gradient from this step on; `steps` where it has none.
        dy_from: u32,
        /// That step's output gradient.
        dy_offset: u32,
        /// Stride of dy by step.
        dy_step: u32,
        /// Stride of dy by direction.
        dy_direction: u32,
        /// Stride of dy by batch row.
        dy_row: u32,
        /// 1: dy counts past the end of a sequence, too: it includes gradients that later steps send back, or outputs are repeated
        /// there.
        dy_whole: u32,
        /// First step of saved [steps, SAVED, D, B, H].
        saved_offset: u32,
        /// Stride of saved by step.
        saved_step: u32,
        /// Slot of the states [STATES, D, B, H] before the first step; the steps' own slots follow it.
        c_in: u32,
        /// Gate gradients [D, B, 4H] of the step after the last.
        dg_next: u32,
        /// First step of the gate gradients [steps, D, B, 4H].
        dg_offset: u32,
        /// Index in the scan of the first step.
        first_step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Stream of random bits of zoneout.
        site: u32,
        /// Threshold of h', as in the forward pass.
        zoneout_h: u32,
        /// Threshold of c', as in the forward pass.
        zoneout_c: u32,
        /// Stream of random bits of the mask on h'.
        drop_site: u32,
        /// The mask is 0 where its random bits are below this; 0: there is no mask.
        drop: u32,
        /// Value of the mask elsewhere.
        drop_scale: f32,
        /// α of the gates' activation, as in the forward pass, here and below.
        gate_alpha: f32,
        /// β of the gates' activation.
        gate_beta: f32,
        /// α of the candidate's activation.
        candidate_alpha: f32,
        /// β of the candidate's activation.
        candidate_beta: f32,
        /// α of the output's activation.
        output_alpha: f32,
        /// β of the output's activation.
        output_beta: f32,
        /// Bound of the arguments of the activations of gates and candidate.
        clip: f32,
        /// Bound of the cell state.
        cell_clip: f32,
    }
}

constants! {
    /// Constants of [`SCAN_BACKWARD`].
    ScanBackwardConstants {
        /// H.
        h: u32,
        /// True if a mask multiplied h' before the product.
        drop: bool,
        /// States carried past the cell.
        carries: Carries,
        /// Activations of the cell, as [`Settings::kinds`] packs them.
        kinds: u32,
        /// Batch rows of a workgroup.
        rows: u32,
        /// Hidden units of a workgroup.
        units: u32,
        /// Hidden units that a thread computes at once.
        span: u32,
        /// Threads of a workgroup.
        threads: u32,
        /// Units whose gates go into the recurrent product: H / heads, or 0 if there is none.
        terms: u32,
        /// Heads, as in the forward pass.
        heads: u32,
        /// Workgroup memory of kernels whose threads share terms, in elements of 16 bytes; else 0.
        memory: u32,
    }
}

kernel! {
    /// Time steps backward: gradient through the recurrent product, then through the cell.
    SCAN_BACKWARD = scan_backward(ScanBackward, ScanBackwardConstants) {
        bindings: [read saved, read c, read dy, read rt, write dg, write sums, read words, read bias],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.h, c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.touches(&c, call, Division::Scan),
        cell: true,
        parts: ["backward_step"],
    }
}

/// [`SCAN_BACKWARD`] with recurrent weights in f16.
pub static SCAN_BACKWARD_HALF: Kernel =
    Kernel { name: "scan_backward_half", weights: StepWeights::F16, ..SCAN_BACKWARD };

kernel! {
    /// One time step of all directions backward, like [`SCAN_BACKWARD`], whose threads share the terms of the recurrent product.
    STEP_BACKWARD = step_backward(ScanBackward, ScanBackwardConstants) {
        bindings: [read saved, read c, read dy, read rt, write dg, write sums, read words, read bias],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.shares().padded(), c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.touches(&c, call, Division::Step),
        cell: true,
        twin: scan_backward,
        parts: ["backward_step", "shares", "backward_shares"],
    }
}

/// [`STEP_BACKWARD`] with recurrent weights in f16.
pub static STEP_BACKWARD_HALF: Kernel =
    Kernel { name: "step_backward_half", weights: StepWeights::F16, ..STEP_BACKWARD };

kernel! {
    /// Many time steps of all directions backward, like [`SCAN_BACKWARD`]: a workgroup carries rows with all their units through time,
    /// and what a step leaves to the next one stays in workgroup memory.
    SEQUENCE_BACKWARD = sequence_backward(ScanBackward, ScanBackwardConstants) {
        bindings: [read saved, read c, read dy, read rt, write dg, write sums, read words, read bias],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.shares().padded(), c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.touches(&c, call, Division::Sequence),
        cell: true,
        twin: scan_backward,
        parts: ["backward_step", "shares", "backward_shares"],
    }
}

/// [`SEQUENCE_BACKWARD`] with recurrent weights in f16.
pub static SEQUENCE_BACKWARD_HALF: Kernel =
    Kernel { name: "sequence_backward_half", weights: StepWeights::F16, ..SEQUENCE_BACKWARD };

impl ScanBackwardConstants {
    /// The division of a workgroup's terms among its threads.
    pub(crate) fn shares(&self) -> Shares {
        let ScanBackwardConstants { h, heads, terms, rows, units, threads, .. } = *self;
        Shares { backward: true, hidden: h, heads, terms, rows, units, threads }
    }
}

impl ScanBackward {
    /// Elements of `sums` before the state's gradients: those of the bias and of the further parameters, [1 + extra, D, B, 4H].
    pub fn parameter_sums(&self, hidden: u32, extra: bool) -> u32 {
        (1 + extra as u32) * self.directions * self.batch * 4 * hidden
    }

    /// Empty (the plan check rejects it) unless a head's units are a multiple of SPAN.
    fn touches(&self, c: &ScanBackwardConstants, call: &Call, division: Division) -> Vec<Touch> {
        let ScanBackwardConstants { h, drop, carries, span, terms, heads, memory, .. } = *c;
        let padded = division != Division::Scan;
        let whole = heads > 0 && h.is_multiple_of(heads) && (padded || (h / heads).is_multiple_of(span.max(1)));
        if !whole || !division.allows(c.shares(), span, self.steps, memory) || (terms * heads != h && terms != 0) {
            return Vec::new();
        }
        let (d, steps) = (self.directions, self.steps);
        let units = self.batch * h;
        let to = if padded { c.shares().padded() } else { h }; // units of a row of weights
        let when = |flag: bool, region: Region| if flag { Touch::reads(region) } else { Touch::none() };
        let gates = |offset, count| Region::span(offset, count * d * self.batch, 4 * h);
        let [rt_rows, rt_columns] = call.kernel.weights.elements(d, terms, to);
        let with_dy = steps.saturating_sub(self.dy_from);
        let dy =
            [(with_dy, self.dy_step as i32), (d, self.dy_direction as i32), (self.batch, self.dy_row as i32), (h, 1)];
        let saved = call.cell.map_or(0, |cell| cell.saved as u32);
        let extra = call.cell.is_some_and(|cell| cell.extra);
        let states = call.cell.map_or(1, |cell| cell.states.len() as u32);
        let next = self.has_next == 1;
        // Gradients of parameters are written before they are read; those of the states, and of h where it is carried, follow them.
        let carry = carries.any() as u32;
        let state = Region::span(self.parameter_sums(h, extra), (states + carry) * d, units);
        let sums = Region::span(0, (4 * (1 + extra as u32) + states + carry) * d, units);
        let saved_axes = [(steps, self.saved_step as i32), (saved * d * units, 1)];
        vec![
            Touch::reads(Region::strided(self.saved_offset, saved_axes)),
            Touch::reads(Region::span(self.c_in, (steps + 1) * states * d, units)),
            when(with_dy > 0, Region::strided(self.dy_offset, dy)),
            when(next || steps > 1, Region::span(0, rt_rows, rt_columns)),
            Touch { read: next.then(|| gates(self.dg_next, 1)), write: Some(gates(self.dg_offset, steps)) },
            Touch { read: Some(if self.first == 1 { state } else { sums }), write: Some(sums) },
            carries.key_and_lengths(self.batch, drop || carries.zoneout()),
            when(extra, Region::span(0, d * (self.biases + 1), 4 * h)),
        ]
    }

    fn flops(&self, c: &ScanBackwardConstants) -> u64 {
        let [h, terms] = [c.h, c.terms].map(u64::from);
        let products = (self.steps - 1 + self.has_next) as u64;
        self.directions as u64 * self.batch as u64 * h * (8 * terms * products + 40 * self.steps as u64)
    }
}

/// Conversion between a cell's settings and a parameter block that has their numbers.
macro_rules! settings {
    ($params:ident) => {
        impl $params {
            /// Settings of the cell; `kinds` are a constant of the call.
            pub fn settings(&self, kinds: u32) -> Settings {
                let numbers = [
                    self.gate_alpha,
                    self.gate_beta,
                    self.candidate_alpha,
                    self.candidate_beta,
                    self.output_alpha,
                    self.output_beta,
                    self.clip,
                    self.cell_clip,
                ];
                Settings::of(kinds, numbers)
            }

            /// The same parameters with these settings.
            pub fn with_settings(self, settings: &Settings) -> Self {
                $params {
                    gate_alpha: settings.gate.alpha,
                    gate_beta: settings.gate.beta,
                    candidate_alpha: settings.candidate.alpha,
                    candidate_beta: settings.candidate.beta,
                    output_alpha: settings.output.alpha,
                    output_beta: settings.output.beta,
                    clip: settings.clip,
                    cell_clip: settings.cell_clip,
                    ..self
                }
            }
        }
    };
}

settings!(ScanForward);
settings!(ScanBackward);
