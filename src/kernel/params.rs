//! Parameter blocks of the kernels: the structs, and what a call with them launches, touches and costs.
//!
//! Offsets and strides count f32 elements. The WGSL struct `Params` of each shader has the same fields.

use super::{Call, Region, Scalar, Touch};
use crate::cell::Settings;
use crate::train::HYPER;

/// Workgroups of an elementwise kernel of `n` threads: two dimensions, since one holds only 65,535 groups.
fn elementwise(n: u64, workgroup: u64) -> [u64; 3] {
    let groups = n.div_ceil(workgroup).max(1);
    let y = groups.div_ceil(65_535);
    [groups.div_ceil(y), y, 1]
}

/// Workgroups of the recurrence: so many units, so many batch rows, one direction each.
fn recurrence_groups(hidden: u32, units: u32, batch: u32, rows: u32, directions: u32) -> [u64; 3] {
    [hidden.div_ceil(units) as u64, batch.div_ceil(rows) as u64, directions as u64]
}

/// The sizes of an axis of `n` indices split as (n / split, n % split).
fn split_axis(n: u32, split: u32) -> (u32, u32) {
    (n.div_ceil(split), n.min(split))
}

macro_rules! scalar {
    (u32) => {
        Scalar::U32
    };
    (i32) => {
        Scalar::I32
    };
    (f32) => {
        Scalar::F32
    };
}

macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }
        impl $name {
            /// Names and types in order, as the shader has them.
            pub const FIELDS: &'static [(&'static str, Scalar)] = &[$((stringify!($field), scalar!($ty)),)*];
        }
    };
}

params! {
    /// C[m, n] (+)= Σ_k A[m, k]·B[k, n]. The axes m and k are split in two (m / m_split, m % m_split), each part with
    /// its own stride: rows (t, b) of a sequence can so be read in either direction of time and from any layout.
    Matmul {
        /// Rows of C.
        m: u32,
        /// Columns of C.
        n: u32,
        /// Terms of each sum.
        k: u32,
        /// 1: add to C; 0: overwrite it.
        accumulate: u32,
        /// Inner size of the axis m.
        m_split: u32,
        /// Inner size of the axis k.
        k_split: u32,
        /// First element of A.
        a_offset: u32,
        /// Stride of A by m / m_split.
        a_m_hi: i32,
        /// Stride of A by m % m_split.
        a_m_lo: i32,
        /// Stride of A by k / k_split.
        a_k_hi: i32,
        /// Stride of A by k % k_split.
        a_k_lo: i32,
        /// First element of B.
        b_offset: u32,
        /// Stride of B by k / k_split.
        b_k_hi: i32,
        /// Stride of B by k % k_split.
        b_k_lo: i32,
        /// Stride of B by n.
        b_n: i32,
        /// First element of C.
        c_offset: u32,
        /// Stride of C by m / m_split.
        c_m_hi: i32,
        /// Stride of C by m % m_split; columns are contiguous.
        c_m_lo: i32,
        /// Terms that a workgroup sums; the next ones are another workgroup's, and another part of C. A multiple of k_split
        /// unless that is k. 0: all.
        part: u32,
        /// From one part of C to the next.
        c_part: u32,
    }
}

impl Matmul {
    /// Rows and columns of C that a workgroup makes, as in the shaders.
    fn tile(call: &Call) -> (u32, u32) {
        match call.constants[..] {
            [rows, ..] => (4 * rows, 128), // matmul_registers
            [] => (64, 64),
        }
    }

    /// C = A·B, all three in rows.
    pub fn plain(m: u32, n: u32, k: u32) -> Matmul {
        Matmul {
            m,
            n,
            k,
            accumulate: 0,
            m_split: m,
            k_split: k,
            a_offset: 0,
            a_m_hi: 0,
            a_m_lo: k as i32,
            a_k_hi: 0,
            a_k_lo: 1,
            b_offset: 0,
            b_k_hi: 0,
            b_k_lo: n as i32,
            b_n: 1,
            c_offset: 0,
            c_m_hi: 0,
            c_m_lo: n as i32,
            part: 0,
            c_part: 0,
        }
    }

    /// Constants ROWS, A_ALONG_K and B_ALONG_N with which [`MATMUL_REGISTERS`](super::MATMUL_REGISTERS) can make this product
    /// by loads of four elements; nothing where sizes or strides do not allow it.
    pub fn fours(&self) -> Option<[u32; 3]> {
        let four = |values: &[i64]| values.iter().all(|value| value % 4 == 0);
        let [k, m] = [self.k.min(self.k_split), self.m.min(self.m_split)].map(i64::from);
        let [a_k_hi, a_k_lo, a_m_hi, a_m_lo] = [self.a_k_hi, self.a_k_lo, self.a_m_hi, self.a_m_lo].map(i64::from);
        let [b_k_hi, b_k_lo, b_n] = [self.b_k_hi, self.b_k_lo, self.b_n].map(i64::from);
        let [a, b, c, n, all_m, all_k] =
            [self.a_offset, self.b_offset, self.c_offset, self.n, self.m, self.k].map(i64::from);
        // strides of an axis of one part do not matter
        let a_m_hi = if self.m <= self.m_split { 0 } else { a_m_hi };
        let (a_k_hi, b_k_hi) = if self.k <= self.k_split { (0, 0) } else { (a_k_hi, b_k_hi) };
        let c_m_hi = if self.m <= self.m_split { 0 } else { self.c_m_hi.into() };
        if !four(&[a, b, c, n, c_m_hi, self.c_m_lo.into(), a_k_hi, b_k_hi, a_m_hi]) {
            return None;
        }
        let along_k = a_k_lo == 1 && four(&[k, all_k, a_m_lo]);
        let along_m = a_m_lo == 1 && four(&[m, all_m, a_k_lo]);
        let along_n = b_n == 1 && four(&[b_k_lo]);
        let down_k = b_k_lo == 1 && four(&[k, all_k, b_n]);
        let rows = match self.m {
            1 if along_k => 1,
            ..=4 => 4,
            _ => 8,
        };
        ((along_k || along_m) && (along_n || down_k)).then_some([rows, along_k as u32, along_n as u32])
    }

    pub(super) fn groups(&self, call: &Call) -> [u64; 3] {
        let (rows, columns) = Self::tile(call);
        [self.n.div_ceil(columns) as u64, self.m.div_ceil(rows) as u64, self.parts() as u64]
    }

    /// Parts that the terms of each sum are shared out in.
    pub fn parts(&self) -> u32 {
        if self.part == 0 { 1 } else { self.k.div_ceil(self.part) }
    }

    /// Nothing, which a plan's check refuses, for constants that promise alignments that these sizes do not have.
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        if !call.constants.is_empty() && self.fours().is_none_or(|fours| call.constants != fours) {
            return Vec::new();
        }
        let (m_hi, m_lo) = split_axis(self.m, self.m_split);
        let (k_hi, k_lo) = split_axis(self.k, self.k_split);
        let a = [(m_hi, self.a_m_hi), (m_lo, self.a_m_lo), (k_hi, self.a_k_hi), (k_lo, self.a_k_lo)];
        let b = [(k_hi, self.b_k_hi), (k_lo, self.b_k_lo), (self.n, self.b_n)];
        let c = [(self.parts(), self.c_part as i32), (m_hi, self.c_m_hi), (m_lo, self.c_m_lo), (self.n, 1)];
        vec![
            Touch::reads(Region::strided(self.a_offset, a)),
            Touch::reads(Region::strided(self.b_offset, b)),
            Touch::updates(Region::strided(self.c_offset, c), self.accumulate == 1),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        2 * self.m as u64 * self.n as u64 * self.k as u64
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
        /// How many steps.
        steps: u32,
        /// First step of xw [steps, D, B, 4H].
        xw_offset: u32,
        /// Slot of h' of the first step; the steps' own slots follow it.
        h_in: u32,
        /// Slot of the states beside h before the first step, [STATES, D, B, H].
        c_in: u32,
        /// Slot of those after it: of the first step in training, where the other steps' follow; else of the last.
        c_out: u32,
        /// First step of saved [steps, SAVED, D, B, H].
        saved_offset: u32,
        /// Which step of the scan the first one is.
        first_step: u32,
        /// T: the reverse direction's step s is time T − 1 − s.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Where random bits of zoneout are counted.
        site: u32,
        /// In training a unit keeps h' where its random bits are below this.
        zoneout_h: u32,
        /// The same for c'.
        zoneout_c: u32,
        /// In inference h is this share of h' and the rest of what the cell made.
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
        /// Bounds what goes into the activations of gates and candidate.
        clip: f32,
        /// Bounds the cell state.
        cell_clip: f32,
    }
}

/// The numbers of a cell's settings, of a parameter block that has them.
macro_rules! settings {
    ($params:ident) => {
        impl $params {
            /// What the cell leaves open; `kinds` are a constant of the call.
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

impl ScanForward {
    /// Constants of a call: H, K (width of the recurrent state; where it is not H, `saved` gets what is to be projected, after
    /// the values kept for backward), TRAIN, DROP (1: h' is multiplied by a mask before the product), CARRIES (whether states
    /// are carried past the cell: 1 by rows that have ended, 2 by zoneout, 3 by both), KINDS ([`Settings::kinds`]), ROWS (batch
    /// rows of a workgroup), UNITS (hidden units of one), SPAN (units of a thread at once), THREADS, TERMS (of the recurrent
    /// product: K / HEADS, or 0 where there is none or other kernels have added it to xw), HEADS (groups of units that do not see
    /// each other).
    pub(super) fn groups(&self, call: &Call) -> [u64; 3] {
        let [hidden, _, _, _, _, _, rows, units, ..] = call.constants[..] else { return [0; 3] };
        recurrence_groups(hidden, units, self.batch, rows, self.directions)
    }

    /// Nothing for several steps between which other kernels have work, and for units of a thread in several heads.
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let [h, k, train, drop, carries, _, _, _, span, _, terms, heads] = call.constants[..] else { return Vec::new() };
        let (d, projected) = (self.directions, h != k);
        let whole = heads > 0 && h.is_multiple_of(heads) && k.is_multiple_of(heads) && (span == 1 || heads == 1);
        if !whole || (terms * heads != k && terms != 0) || projected && self.steps > 1 {
            return Vec::new();
        }
        let units = self.batch * h;
        let slots = |offset, count| Region::span(offset, count * d, units);
        let states = call.cell.map_or(1, |cell| cell.states.len() as u32);
        let halves = 1 + call.kernel.half_weights as u32; // weights to an element
        let planes = train * call.cell.map_or(0, |cell| cell.saved as u32) + projected as u32;
        let kept = if train == 1 { self.steps } else { 1 };
        let extra = call.cell.is_some_and(|cell| cell.extra) as u32;
        let words = if carries % 2 == 1 { 2 + self.batch } else { train * carries };
        let slot = d * self.batch * k;
        let h_new = (!projected).then(|| Region::span(self.h_in + slot, self.steps * d, self.batch * k));
        vec![
            Touch::reads(Region::span(self.xw_offset, self.steps * d * self.batch, 4 * h)),
            Touch::reads(Region::span(0, d * terms, 4 * h / halves)),
            Touch::reads(Region::span(0, d * (self.biases + extra), 4 * h)),
            Touch { read: Some(Region::span(self.h_in, d, self.batch * k)), write: h_new },
            Touch { read: Some(slots(self.c_in, states)), write: Some(slots(self.c_out, kept * states)) },
            Touch::writes(slots(self.saved_offset, planes * self.steps)),
            Touch::reads(Region::span(0, 1, words)),
            Touch::reads(Region::span(0, drop * d, self.batch * k)),
        ]
    }

    pub(super) fn flops(&self, call: &Call) -> u64 {
        let [h, terms] = [call.constants[0], call.constants[10]].map(u64::from);
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
        /// How many steps.
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
        /// 1: dy counts in rows whose sequence does not hold the time, too: it holds what later steps send back, or outputs are
        /// repeated there.
        dy_whole: u32,
        /// First step of saved [steps, SAVED, D, B, H].
        saved_offset: u32,
        /// From one step of saved to the next.
        saved_step: u32,
        /// Slot of the states [STATES, D, B, H] before the first step; the steps' own slots follow it.
        c_in: u32,
        /// Gate gradients [D, B, 4H] of the step after the last.
        dg_next: u32,
        /// First step of the gate gradients [steps, D, B, 4H].
        dg_offset: u32,
        /// Which step of the scan the first one is.
        first_step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Where random bits of zoneout are counted.
        site: u32,
        /// As in the forward pass.
        zoneout_h: u32,
        /// As in the forward pass.
        zoneout_c: u32,
        /// Where random bits of the mask on h' are counted.
        drop_site: u32,
        /// The mask is 0 where its random bits are below this; 0: there is none.
        drop: u32,
        /// The mask elsewhere.
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
        /// Bounds what goes into the activations of gates and candidate.
        clip: f32,
        /// Bounds the cell state.
        cell_clip: f32,
    }
}

impl ScanBackward {
    /// Constants of a call: H, then DROP, CARRIES and KINDS as in the forward pass, ROWS (batch rows of a workgroup), UNITS
    /// (hidden units of one), SPAN (units of a thread at once), THREADS, TERMS (of the recurrent product: the units of a head, or 0
    /// where there is no product), HEADS.
    pub(super) fn groups(&self, call: &Call) -> [u64; 3] {
        let [hidden, _, _, _, rows, units] = call.constants[..6] else { return [0; 3] };
        recurrence_groups(hidden, units, self.batch, rows, self.directions)
    }

    /// Elements of `sums` before the state's gradients: those of the bias and of the further parameters, [1 + extra, D, B, 4H].
    pub fn parameter_sums(&self, hidden: u32, extra: bool) -> u32 {
        (1 + extra as u32) * self.directions * self.batch * 4 * hidden
    }

    /// As with products, nothing where a head's units do not come by as many as a thread makes.
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let [h, drop, carries, .., span, _, terms, heads] = call.constants[..] else { return Vec::new() };
        let whole = heads > 0 && h.is_multiple_of(heads) && (h / heads).is_multiple_of(span.max(1));
        if !whole || (terms * heads != h && terms != 0) {
            return Vec::new();
        }
        let (d, steps) = (self.directions, self.steps);
        let units = self.batch * h;
        let when = |flag: bool, region: Region| if flag { Touch::reads(region) } else { Touch::nothing() };
        let gates = |offset, count| Region::span(offset, count * d * self.batch, 4 * h);
        let halves = 1 + call.kernel.half_weights as u32; // weights to an element
        let with_dy = steps.saturating_sub(self.dy_from);
        let dy =
            [(with_dy, self.dy_step as i32), (d, self.dy_direction as i32), (self.batch, self.dy_row as i32), (h, 1)];
        let saved = call.cell.map_or(0, |cell| cell.saved as u32);
        let extra = call.cell.is_some_and(|cell| cell.extra);
        let states = call.cell.map_or(1, |cell| cell.states.len() as u32);
        let next = self.has_next == 1;
        // dbias is written before it is read; then those of the states, and the hidden state's gradient where it is carried.
        let carry = (carries > 0) as u32;
        let state = Region::span(self.parameter_sums(h, extra), (states + carry) * d, units);
        let sums = Region::span(0, (4 * (1 + extra as u32) + states + carry) * d, units);
        let words = if carries % 2 == 1 { 2 + self.batch } else { 2 * (drop | (carries / 2)) };
        let saved_axes = [(steps, self.saved_step as i32), (saved * d * units, 1)];
        vec![
            Touch::reads(Region::strided(self.saved_offset, saved_axes)),
            Touch::reads(Region::span(self.c_in, (steps + 1) * states * d, units)),
            when(with_dy > 0, Region::strided(self.dy_offset, dy)),
            when(next || steps > 1, Region::span(0, d * 4 * terms / halves, h)),
            Touch { read: next.then(|| gates(self.dg_next, 1)), write: Some(gates(self.dg_offset, steps)) },
            Touch { read: Some(if self.first == 1 { state } else { sums }), write: Some(sums) },
            Touch::reads(Region::span(0, 1, words)),
            when(extra, Region::span(0, d * (self.biases + 1), 4 * h)),
        ]
    }

    pub(super) fn flops(&self, call: &Call) -> u64 {
        let [h, terms] = [call.constants[0], call.constants[8]].map(u64::from);
        let products = (self.steps - 1 + self.has_next) as u64;
        self.directions as u64 * self.batch as u64 * h * (8 * terms * products + 40 * self.steps as u64)
    }
}

params! {
    /// `dst[t, b, f] = src[t, b, f]·m`, m = 0 where the random bits of the index are below a threshold, else a factor. Rows may
    /// share their bits over time.
    Dropout {
        /// Steps.
        steps: u32,
        /// Rows of a step.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of a step.
        src_step: u32,
        /// Source stride of a row.
        src_row: u32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of a step.
        dst_step: u32,
        /// Destination stride of a row.
        dst_row: u32,
        /// Index of the first element among the random bits of this site; features of a row, and rows, follow each other.
        index: u32,
        /// From one step's index to the next; 0: all steps share theirs.
        index_step: u32,
        /// Where random bits are counted.
        site: u32,
        /// Bits below this drop an element.
        threshold: u32,
        /// Factor of the others.
        scale: f32,
    }
}

impl Dropout {
    fn len(&self) -> u64 {
        self.steps as u64 * self.rows as u64 * self.features as u64
    }

    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.len(), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let axes = |step: u32, row: u32| [(self.steps, step as i32), (self.rows, row as i32), (self.features, 1)];
        vec![
            Touch::reads(Region::span(0, 1, 2)),
            Touch::reads(Region::strided(self.src_offset, axes(self.src_step, self.src_row))),
            Touch::writes(Region::strided(self.dst_offset, axes(self.dst_step, self.dst_row))),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.len()
    }
}

params! {
    /// `dst[s, b, f] = src[s, b, f]` where the time of step s is before the row's length, else 0.
    Trim {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of a step.
        src_step: i32,
        /// Source stride of a row.
        src_row: i32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of a step.
        dst_step: i32,
        /// Destination stride of a row.
        dst_row: i32,
        /// Time of the first step.
        time: u32,
        /// From one step's time to the next: 1 or −1.
        time_step: i32,
    }
}

impl Trim {
    fn len(&self) -> u64 {
        self.steps as u64 * self.batch as u64 * self.features as u64
    }

    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.len(), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let axes = |step: i32, row: i32| [(self.steps, step), (self.batch, row), (self.features, 1)];
        vec![
            Touch::reads(Region::span(2, 1, self.batch)),
            Touch::reads(Region::strided(self.src_offset, axes(self.src_step, self.src_row))),
            Touch::writes(Region::strided(self.dst_offset, axes(self.dst_step, self.dst_row))),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        0
    }
}

params! {
    /// One vector of each row's steps.
    PoolForward {
        /// Steps of this chunk.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x.
        x_offset: u32,
        /// Stride of x by step.
        x_step: u32,
        /// Stride of x by row.
        x_row: u32,
        /// Time of the first step; from 0 on, y is made anew.
        time: u32,
        /// T.
        total_steps: u32,
    }
}

impl PoolForward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.batch as u64 * self.features as u64, 256)
    }

    /// Constants of a call: KIND, RAGGED.
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let axes = [(self.steps, self.x_step as i32), (self.batch, self.x_row as i32), (self.features, 1)];
        let out = Touch::updates(Region::span(0, self.batch, self.features), self.time > 0);
        vec![
            Touch::reads(Region::span(2, call.constants[1], self.batch)),
            Touch::reads(Region::strided(self.x_offset, axes)),
            out,
            out,
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.steps as u64 * self.batch as u64 * self.features as u64
    }
}

params! {
    /// The gradient of a chunk of steps from that of one vector.
    PoolBackward {
        /// Steps of this chunk.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of dx [steps, B, features].
        dx_offset: u32,
        /// First element of dy [B, features].
        dy_offset: u32,
        /// Time of the first step.
        time: u32,
        /// T.
        total_steps: u32,
    }
}

impl PoolBackward {
    pub(super) fn groups(&self, call: &Call) -> [u64; 3] {
        elementwise(self.flops(call), 256)
    }

    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let own = |offset: u32, steps: u32| Region::span(offset, steps * self.batch, self.features);
        vec![
            Touch::reads(Region::span(2, call.constants[1], self.batch)),
            Touch::reads(own(self.dy_offset, 1)),
            Touch::reads(own(0, 1)),
            Touch::writes(own(self.dx_offset, self.steps)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.steps as u64 * self.batch as u64 * self.features as u64
    }
}

params! {
    /// The two halves of rows as one.
    MergeForward {
        /// Rows.
        rows: u32,
        /// K.
        width: u32,
        /// First element of x [rows, 2K].
        x_offset: u32,
        /// First element of y [rows, K].
        y_offset: u32,
    }
}

impl MergeForward {
    pub(super) fn groups(&self, call: &Call) -> [u64; 3] {
        elementwise(self.flops(call), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.x_offset, self.rows, 2 * self.width)),
            Touch::writes(Region::span(self.y_offset, self.rows, self.width)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.rows as u64 * self.width as u64
    }
}

params! {
    /// The gradient of both halves of rows.
    MergeBackward {
        /// Rows.
        rows: u32,
        /// K.
        width: u32,
        /// First element of x [rows, 2K].
        x_offset: u32,
        /// First element of dy [rows, K].
        dy_offset: u32,
        /// First element of dx [rows, 2K].
        dx_offset: u32,
    }
}

impl MergeBackward {
    pub(super) fn groups(&self, call: &Call) -> [u64; 3] {
        elementwise(self.flops(call), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.x_offset, self.rows, 2 * self.width)),
            Touch::reads(Region::span(self.dy_offset, self.rows, self.width)),
            Touch::writes(Region::span(self.dx_offset, self.rows, 2 * self.width)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.rows as u64 * self.width as u64
    }
}

/// Workgroups of a kernel that has one a row.
fn a_group_a_row(rows: u32) -> [u64; 3] {
    elementwise(rows as u64, 1)
}

params! {
    /// Rows brought to mean 0 and variance 1, scaled and shifted.
    NormForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Rows, one after another, that share their weights.
        group: u32,
        /// Weights that rows take in turns.
        groups: u32,
        /// First element of x [rows, features].
        x_offset: u32,
        /// First element of y [rows, features].
        y_offset: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

impl NormForward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        a_group_a_row(self.rows)
    }

    /// Constants of a call: BIAS (1: there is one), ADD (1: y is added to).
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let [bias, add] = call.constants[..] else { return Vec::new() };
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(own(0, self.groups)),
            Touch::reads(own(0, bias * self.groups)),
            Touch::reads(own(self.x_offset, self.rows)),
            Touch::updates(own(self.y_offset, self.rows), add == 1),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        8 * self.rows as u64 * self.features as u64
    }
}

params! {
    /// Gradient of rows that were normalised, and the terms of the weight's gradient, summed over steps.
    NormBackward {
        /// Rows of a step.
        rows: u32,
        /// Steps.
        steps: u32,
        /// Features of a row.
        features: u32,
        /// Rows, one after another, that share their weights.
        group: u32,
        /// Weights that rows take in turns.
        groups: u32,
        /// First element of x [steps, rows, features].
        x_offset: u32,
        /// First element of dy [steps, rows, features].
        dy_offset: u32,
        /// First element of dx [steps, rows, features].
        dx_offset: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

impl NormBackward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        a_group_a_row(self.rows)
    }

    /// Constants of a call: ADD (1: the terms of the weight's gradient are added to).
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let [add] = call.constants[..] else { return Vec::new() };
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        let all = self.steps * self.rows;
        vec![
            Touch::reads(own(0, self.groups)),
            Touch::reads(own(self.x_offset, all)),
            Touch::reads(own(self.dy_offset, all)),
            Touch::writes(own(self.dx_offset, all)),
            Touch::updates(own(0, self.rows), add == 1),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        20 * self.steps as u64 * self.rows as u64 * self.features as u64
    }
}

params! {
    /// The hidden state of a step from its output gate and its cell state, which is normalised on the way; what is carried past
    /// the step.
    NormStateForward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Slot of h' [D, B, H]; the output gate lies in the next one, and h goes there.
        h_in: u32,
        /// Slot of c'.
        c_in: u32,
        /// Slot of c.
        c_out: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Where random bits of zoneout are counted.
        site: u32,
        /// In training a unit keeps h' where its random bits are below this.
        zoneout_h: u32,
        /// The same for c'.
        zoneout_c: u32,
        /// In inference h is this share of h' and the rest of what the step made.
        keep_h: f32,
        /// The same for c.
        keep_c: f32,
        /// α of the output's activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// Added to the variance.
        epsilon: f32,
    }
}

impl NormStateForward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        a_group_a_row(self.directions * self.batch)
    }

    /// Constants of a call: H, TRAIN, CARRIES as in [`ScanForward`], KIND (of the output's activation).
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let [h, train, carries, _] = call.constants[..] else { return Vec::new() };
        let rows = self.directions * self.batch;
        let slot = |at: u32, count: u32| Region::span(at, count * rows, h);
        // Two slots of c, in either order.
        let c = Region::strided(self.c_in.min(self.c_out), [(2, self.c_in.abs_diff(self.c_out) as i32), (rows * h, 1)]);
        let words = if carries % 2 == 1 { 2 + self.batch } else { train * carries };
        vec![
            Touch::reads(Region::span(0, 2 * self.directions, h)),
            Touch { read: Some(slot(self.h_in, 2)), write: Some(slot(self.h_in + rows * h, 1)) },
            Touch { read: Some(c), write: Some(slot(self.c_out, 1)) },
            Touch::reads(Region::span(0, 1, words)),
        ]
    }

    pub(super) fn flops(&self, call: &Call) -> u64 {
        20 * self.directions as u64 * self.batch as u64 * call.constants[0] as u64
    }
}

params! {
    /// The gradients of a step's output gate and of the cell state that it made; what goes past the step.
    NormStateBackward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Slot of c' [D, B, H].
        c_in: u32,
        /// The step's saved values [4, D, B, H]: i, f, g, o.
        saved_offset: u32,
        /// Gradient of h [D, B, H].
        dh_offset: u32,
        /// Gradient of c [2, D, B, H]; the second part went past the later step.
        dc_offset: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Where random bits of zoneout are counted.
        site: u32,
        /// As in the forward pass.
        zoneout_h: u32,
        /// As in the forward pass.
        zoneout_c: u32,
        /// α of the output's activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// Bounds the cell state.
        cell_clip: f32,
        /// Added to the variance.
        epsilon: f32,
        /// 1: overwrite the sums over time instead of adding to them.
        first: u32,
    }
}

impl NormStateBackward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        a_group_a_row(self.directions * self.batch)
    }

    /// Constants of a call: H, CARRIES, KIND.
    pub(super) fn touches(&self, call: &Call) -> Vec<Touch> {
        let [h, carries, _] = call.constants[..] else { return Vec::new() };
        let rows = self.directions * self.batch;
        let slots = |at: u32, count: u32| Region::span(at, count * rows, h);
        let words = if carries % 2 == 1 { 2 + self.batch } else { carries };
        let sums = slots(self.dc_offset, 2);
        vec![
            Touch::reads(Region::span(0, 2 * self.directions, h)),
            Touch::reads(slots(self.c_in, 1)),
            Touch::reads(slots(self.saved_offset, 4)),
            Touch::reads(slots(self.dh_offset, 1)),
            Touch::reads(Region::span(0, 1, words)),
            Touch { read: Some(sums), write: Some(sums) },
            Touch::writes(slots(0, 1)),
            Touch { read: (self.first == 0).then(|| slots(rows * h, 2)), write: Some(slots(0, 4)) },
        ]
    }

    pub(super) fn flops(&self, call: &Call) -> u64 {
        60 * self.directions as u64 * self.batch as u64 * call.constants[0] as u64
    }
}

params! {
    /// The reset gate where it acts before the recurrent product: `s = r ⊙ h'`.
    ResetForward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// H.
        hidden: u32,
        /// Biases per gate.
        biases: u32,
        /// W·x of the step [D, B, 4H]; R·h' of the gates r and z is added.
        xw_offset: u32,
        /// h' as products read it, [D, B, H].
        h_offset: u32,
        /// s [D, B, H].
        s_offset: u32,
        /// α of the gates' activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// Bounds what goes into the activation.
        clip: f32,
    }
}

impl ResetForward {
    fn units(&self) -> u64 {
        self.directions as u64 * self.batch as u64 * self.hidden as u64
    }

    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.units(), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let (rows, h) = (self.directions * self.batch, self.hidden);
        vec![
            Touch::reads(Region::span(0, rows, 4 * h)),
            Touch::reads(Region::span(0, self.directions * self.biases, 4 * h)),
            Touch::reads(Region::span(self.h_offset, rows, h)),
            Touch::updates(Region::span(self.xw_offset, rows, 4 * h), true),
            Touch::writes(Region::span(self.s_offset, rows, h)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        10 * self.units()
    }
}

params! {
    /// The reset gate backward, from the gradient of s.
    ResetBackward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// H.
        hidden: u32,
        /// r of the step [D, B, H].
        saved_offset: u32,
        /// h' as products read it, [D, B, H].
        h_offset: u32,
        /// Gate gradients of the step, [D, B, 4H], in two buffers.
        dg_offset: u32,
        /// 1: a clip bounds what goes into the activation.
        clipped: u32,
        /// α of the gates' activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// The clip.
        clip: f32,
    }
}

impl ResetBackward {
    fn units(&self) -> u64 {
        self.directions as u64 * self.batch as u64 * self.hidden as u64
    }

    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.units(), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let (rows, h) = (self.directions * self.batch, self.hidden);
        let gates = |at: u32| Region::span(at, rows, 4 * h);
        vec![
            Touch::reads(Region::span(0, rows, h)),
            Touch::reads(Region::span(self.saved_offset, rows, h)),
            Touch::reads(Region::span(self.h_offset, rows, h)),
            Touch::updates(gates(self.dg_offset), true),
            Touch::writes(gates(self.dg_offset)),
            Touch::writes(Region::span(0, rows, h)),
            Touch::updates(gates(0), true),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        10 * self.units()
    }
}

params! {
    /// `dst[d, b, f]`, or what is added to it, of rows whose sequence does not hold a step's time.
    Carry {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source [D, B, features].
        src_offset: u32,
        /// First element of the destination.
        dst_offset: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// 1: add to the destination; 0: overwrite it.
        add: u32,
    }
}

impl Carry {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.directions as u64 * self.batch as u64 * self.features as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let rows = |at: u32| Region::span(at, self.directions * self.batch, self.features);
        vec![
            Touch::reads(Region::span(2, 1, self.batch)),
            Touch::reads(rows(self.src_offset)),
            Touch::updates(rows(self.dst_offset), true),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        0
    }
}

params! {
    /// Rows of a table, by index.
    EmbedForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Entries of the table.
        entries: u32,
        /// First index, `[rows]`.
        index_offset: u32,
        /// First element of y [rows, features].
        y_offset: u32,
    }
}

impl EmbedForward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.rows as u64 * self.features as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(own(0, self.entries)),
            Touch::reads(Region::span(self.index_offset, 1, self.rows)),
            Touch::writes(own(self.y_offset, self.rows)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        0
    }
}

params! {
    /// Gradients added to rows of a table, by index.
    EmbedBackward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Entries of the table.
        entries: u32,
        /// First index, `[rows]`.
        index_offset: u32,
        /// First element of dy [rows, features].
        dy_offset: u32,
    }
}

impl EmbedBackward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        [self.features.div_ceil(64) as u64, 1, 1]
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(own(self.dy_offset, self.rows)),
            Touch::reads(Region::span(self.index_offset, 1, self.rows)),
            Touch::updates(own(0, self.entries), true),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.rows as u64 * self.features as u64
    }
}

params! {
    /// `dst[i] = src[i]`, or `dst[i] += src[i]`, over a block `[n0, n1, n2, n3]` with free strides.
    Copy {
        /// Outermost size.
        n0: u32,
        /// Second size.
        n1: u32,
        /// Third size.
        n2: u32,
        /// Innermost size.
        n3: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of n0.
        src_0: i32,
        /// Source stride of n1.
        src_1: i32,
        /// Source stride of n2.
        src_2: i32,
        /// Source stride of n3.
        src_3: i32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of n0.
        dst_0: i32,
        /// Destination stride of n1.
        dst_1: i32,
        /// Destination stride of n2.
        dst_2: i32,
        /// Destination stride of n3.
        dst_3: i32,
        /// 1: add to the destination; 0: overwrite it.
        add: u32,
    }
}

impl Copy {
    fn len(&self) -> u64 {
        [self.n0, self.n1, self.n2, self.n3].iter().map(|&n| n as u64).product()
    }

    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.len(), 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let sizes = [self.n0, self.n1, self.n2, self.n3];
        let axes = |strides: [i32; 4]| std::array::from_fn::<_, 4, _>(|k| (sizes[k], strides[k]));
        let (src, dst) =
            ([self.src_0, self.src_1, self.src_2, self.src_3], [self.dst_0, self.dst_1, self.dst_2, self.dst_3]);
        vec![
            Touch::reads(Region::strided(self.src_offset, axes(src))),
            Touch::updates(Region::strided(self.dst_offset, axes(dst)), self.add == 1),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.len() * self.add as u64
    }
}

params! {
    /// `dst[offset .. offset + n] = value`.
    Fill {
        /// First element.
        offset: u32,
        /// How many.
        n: u32,
        /// The value.
        value: f32,
    }
}

impl Fill {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.n as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![Touch::writes(Region::span(self.offset, 1, self.n))]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        0
    }
}

params! {
    /// `dst[k]` = `src[2k]` and `src[2k + 1]` in f16.
    Half {
        /// Pairs.
        n: u32,
    }
}

impl Half {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.n as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![Touch::reads(Region::span(0, 1, 2 * self.n)), Touch::writes(Region::span(0, 1, self.n))]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        0
    }
}

params! {
    /// `y[r, f] = activation(y[r, f] + bias[f])`.
    DenseForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// 1: add the bias.
        has_bias: u32,
        /// First element of y.
        y_offset: u32,
        /// α of the activation.
        alpha: f32,
        /// β of the activation.
        beta: f32,
    }
}

impl DenseForward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.rows as u64 * self.features as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(0, self.has_bias, self.features)),
            Touch::updates(Region::span(self.y_offset, self.rows, self.features), true),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        4 * self.rows as u64 * self.features as u64
    }
}

params! {
    /// `dy[i] *= activation'(y[i])`, with the derivative written in terms of the output.
    DenseBackward {
        /// Elements.
        n: u32,
        /// First element of y.
        y_offset: u32,
        /// First element of dy.
        dy_offset: u32,
        /// α of the activation.
        alpha: f32,
        /// β of the activation.
        beta: f32,
    }
}

impl DenseBackward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.n as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.y_offset, 1, self.n)),
            Touch::updates(Region::span(self.dy_offset, 1, self.n), true),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        3 * self.n as u64
    }
}

params! {
    /// Softmax of rows, or its logarithm, in place.
    SoftmaxForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of y [rows, features].
        y_offset: u32,
    }
}

impl SoftmaxForward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.rows as u64, 64)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![Touch::updates(Region::span(self.y_offset, self.rows, self.features), true)]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        6 * self.rows as u64 * self.features as u64
    }
}

params! {
    /// Gradient through softmax of rows, or its logarithm, in place.
    SoftmaxBackward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of y [rows, features].
        y_offset: u32,
        /// First element of dy [rows, features].
        dy_offset: u32,
    }
}

impl SoftmaxBackward {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.rows as u64, 64)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.y_offset, self.rows, self.features)),
            Touch::updates(Region::span(self.dy_offset, self.rows, self.features), true),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        4 * self.rows as u64 * self.features as u64
    }
}

params! {
    /// `sums[n] (+)= Σ_row a[row, n]`, written `copies` times.
    ColumnSum {
        /// Rows to sum.
        rows: u32,
        /// Columns.
        columns: u32,
        /// First element of a; its rows are contiguous.
        a_offset: u32,
        /// First element of the sums.
        out_offset: u32,
        /// How many copies of the sums to write (a layer with two biases gives both the same gradient).
        copies: u32,
        /// 1: add to the sums; 0: overwrite them.
        accumulate: u32,
    }
}

impl ColumnSum {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        [self.columns.div_ceil(16) as u64, 1, 1]
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.a_offset, self.rows, self.columns)),
            Touch::updates(Region::span(self.out_offset, self.copies, self.columns), self.accumulate == 1),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.rows as u64 * self.columns as u64
    }
}

params! {
    /// Loss of each row and its gradient.
    Loss {
        /// Rows.
        rows: u32,
        /// Features, or classes, of a row of the prediction.
        width: u32,
        /// Features of a row of the target.
        targets: u32,
        /// Quantiles, or 1 for Huber's δ, or 0.
        levels: u32,
        /// 1: each row has a factor of its own instead of `scale`.
        weighted: u32,
        /// First element of the prediction [rows, width].
        prediction_offset: u32,
        /// First element of the target [rows, targets].
        target_offset: u32,
        /// First element of the gradient [rows, width].
        gradient_offset: u32,
        /// First element of the row losses and of the rows' factors, `[rows]`.
        row_offset: u32,
        /// Factor that makes the sum a mean.
        scale: f32,
    }
}

impl Loss {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.rows as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.prediction_offset, self.rows, self.width)),
            Touch::reads(Region::span(self.target_offset, self.rows, self.targets)),
            Touch::reads(Region::span(0, 1, self.levels)),
            Touch::reads(Region::span(self.row_offset, self.weighted, self.rows)),
            Touch::writes(Region::span(self.gradient_offset, self.rows, self.width)),
            Touch::writes(Region::span(self.row_offset, 1, self.rows)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        5 * self.rows as u64 * self.width as u64
    }
}

params! {
    /// `sums[out_offset + g]` = Σ values (or squares) of slice g.
    Reduce {
        /// Elements in all.
        n: u32,
        /// First element.
        offset: u32,
        /// Elements of a slice; each workgroup sums one.
        per_group: u32,
        /// First element of the sums.
        out_offset: u32,
        /// 1: sum squares.
        square: u32,
    }
}

impl Reduce {
    fn slices(&self) -> u64 {
        (self.n as u64).div_ceil(self.per_group as u64)
    }

    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        [self.slices(), 1, 1]
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![
            Touch::reads(Region::span(self.offset, 1, self.n)),
            Touch::writes(Region::span(self.out_offset, 1, self.slices() as u32)),
        ]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.n as u64 * (1 + self.square as u64)
    }
}

params! {
    /// `scale[0] = min(1, max_norm / (norm + 1e-6))`, `scale[1] = norm`, where norm² = Σ squares.
    Clip {
        /// Partial sums of squares.
        n: u32,
        /// Largest norm allowed.
        max_norm: f32,
    }
}

impl Clip {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        [1, 1, 1]
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        vec![Touch::reads(Region::span(0, 1, self.n)), Touch::writes(Region::span(0, 1, 2))]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        self.n as u64 + 4
    }
}

params! {
    /// `v = momentum·v + g`, `w = hyper[4]·w − hyper[0]·v`, where g is the scaled and clipped gradient and l2·w.
    Sgd {
        /// Weights.
        n: u32,
        /// Momentum.
        momentum: f32,
        /// 1: the step is g + momentum·v.
        nesterov: u32,
        /// Elements of the gradient are cut off at ± this.
        limit: f32,
        /// Factor of the weight in the gradient.
        l2: f32,
    }
}

impl Sgd {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.n as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let (own, all) = (|n| Touch::reads(Region::span(0, 1, n)), Touch::updates(Region::span(0, 1, self.n), true));
        vec![own(HYPER as u32), own(1), own(self.n), all, all]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        8 * self.n as u64
    }
}

params! {
    /// `m = β1·m + (1 − β1)·g`, `v = β2·v + (1 − β2)·g²`,
    /// `w = hyper[4]·w − (hyper[0]·m + hyper[1]·g) / (√(v + hyper[3]) + hyper[2])`, with g as in [`Sgd`].
    Adam {
        /// Weights.
        n: u32,
        /// 1: there is a mean of gradients m; 0: its buffer is not touched.
        means: u32,
        /// β1.
        beta1: f32,
        /// 1 − β1, rounded once: 1 − 0.999 taken in f32 is wrong in the fifth digit.
        take1: f32,
        /// β2.
        beta2: f32,
        /// 1 − β2.
        take2: f32,
        /// Elements of the gradient are cut off at ± this.
        limit: f32,
        /// Factor of the weight in the gradient.
        l2: f32,
    }
}

impl Adam {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.n as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let (own, all) = (|n| Touch::reads(Region::span(0, 1, n)), |n| Touch::updates(Region::span(0, 1, n), true));
        vec![own(HYPER as u32), own(1), own(self.n), all(self.n), all(self.means * self.n), all(self.n)]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        16 * self.n as u64
    }
}

params! {
    /// `g += l1·sign(w) + l2·w`.
    Penalty {
        /// Weights.
        n: u32,
        /// λ of l1.
        l1: f32,
        /// 2·λ of l2.
        l2: f32,
    }
}

impl Penalty {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.n as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let all = Region::span(0, 1, self.n);
        vec![Touch::reads(all), Touch::updates(all, true)]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        4 * self.n as u64
    }
}

params! {
    /// Scales vectors down to at most a norm: `w *= min(1, limit / (norm + 1e-7))`.
    MaxNorm {
        /// Vectors.
        vectors: u32,
        /// Elements of each.
        length: u32,
        /// Vectors of a matrix: vector v is (v / inner, v % inner).
        inner: u32,
        /// From one matrix to the next.
        outer_stride: u32,
        /// From one vector to the next.
        inner_stride: u32,
        /// From one element of a vector to the next.
        stride: u32,
        /// Largest norm allowed.
        limit: f32,
    }
}

impl MaxNorm {
    pub(super) fn groups(&self, _: &Call) -> [u64; 3] {
        elementwise(self.vectors as u64, 256)
    }

    pub(super) fn touches(&self, _: &Call) -> Vec<Touch> {
        let (matrices, inner) = split_axis(self.vectors, self.inner);
        let axes = [(matrices, self.outer_stride), (inner, self.inner_stride), (self.length, self.stride)];
        vec![Touch::updates(Region::strided(0, axes.map(|(n, stride)| (n, stride as i32))), true)]
    }

    pub(super) fn flops(&self, _: &Call) -> u64 {
        3 * self.vectors as u64 * self.length as u64
    }
}
