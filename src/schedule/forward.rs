//! Forward through an LSTM stack: the algorithm.
//!
//! For each layer: W·x for all steps of a chunk of time in one product, then the scan, in dispatches of one or many
//! steps (see `strategy.rs`). The hidden and
//! cell states of all steps lie in histories in the order of the scan, with the initial state in front, so that a
//! step reads one slot and writes the next.

use super::builder::{Builder, Drop};
use super::sequence::{Direction, Sequence};
use super::strategy::{Launch, Pass};
use crate::cell::{CellSpec, GATES, Settings};
use crate::error::Result;
use crate::kernel::{self, Carries, Kernel, NoConstants, ScanForwardConstants, params};
use crate::plan::{BufferId, Capabilities, Role, Strategy};
use crate::random;
use std::ops::Range;

const G: u32 = GATES as u32;

/// What a layer drops, and when: probabilities from 0 to below 1. All but zoneout leave inference as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drops {
    /// Of outputs on their way to the next layer, at every step anew.
    pub between: f64,
    /// Of a layer's inputs, the same at all steps of a sequence.
    pub input: f64,
    /// Of the hidden state on its way to the recurrent product, the same at all steps of a sequence.
    pub recurrent: f64,
    /// Of recurrent weights, the same for the whole batch.
    pub weights: f64,
    /// Of updates of the hidden state.
    pub zoneout_h: f64,
    /// Of updates of the cell state.
    pub zoneout_c: f64,
}

/// What keeps a time step from being one dispatch: `split_forward.rs` and `split_backward.rs` take it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The hidden state is projected after the cell.
    Projection,
    /// Both products, and the cell state on its way to h, are normalised.
    Norm,
    /// The reset gate comes before the recurrent product.
    Reset,
}

impl Split {
    /// Why a step is split, for a plan's text.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Split::Projection => "the hidden state is projected between steps",
            Split::Norm => "products and cell state are normalised in each step",
            Split::Reset => "the reset gate comes before the recurrent product",
        }
    }
}

/// Sizes of an LSTM stack and a batch.
#[derive(Clone, Debug)]
pub struct LstmSizes {
    /// Prefix of the names of its buffers.
    pub name: String,
    /// The cell.
    pub cell: &'static CellSpec,
    /// What the cell leaves open.
    pub settings: Settings,
    /// T.
    pub steps: u32,
    /// B.
    pub batch: u32,
    /// I.
    pub input: u32,
    /// H.
    pub hidden: u32,
    /// K, the width of the hidden state: H, or P where it is projected.
    pub width: u32,
    /// Groups of units that do not see each other.
    pub heads: u32,
    /// What a step is split by.
    pub split: Option<Split>,
    /// L.
    pub layers: u32,
    /// D.
    pub directions: u32,
    /// Biases per gate: 0, 1 or 2.
    pub biases: u32,
    /// Whether sequences have lengths, which the host writes to the plan's words.
    pub ragged: bool,
    /// Whether the only direction runs from the end of time to its start.
    pub backwards: bool,
    /// Whether the output stays in the order of the scan then.
    pub in_scan_order: bool,
    /// True if the output past the end of a sequence is what the state history holds there, not 0.
    pub repeats_output: bool,
    /// What is dropped.
    pub drops: Drops,
}

impl LstmSizes {
    /// Input features of a layer.
    pub fn layer_input(&self, layer: u32) -> u32 {
        if layer == 0 { self.input } else { self.directions * self.width }
    }

    /// Elements of a state slot [D, B, H].
    pub fn slot(&self) -> u32 {
        self.directions * self.batch * self.hidden
    }

    /// Elements of a slot of the states beside h, [STATES, D, B, H].
    pub fn c_slot(&self) -> u32 {
        self.cell.states.len() as u32 * self.slot()
    }

    /// Hidden units that a unit sees: rows of R, for each direction.
    pub fn seen(&self) -> u32 {
        if self.cell.recurrent_gates.is_empty() { 0 } else { self.width / self.heads }
    }

    /// Elements of a slot of the hidden state [D, B, K].
    pub fn h_slot(&self) -> u32 {
        self.directions * self.batch * self.width
    }

    /// Whether the hidden state is projected.
    pub fn projected(&self) -> bool {
        self.width != self.hidden
    }

    /// Whether the histories are the output as they stand.
    pub(super) fn history_is_output(&self) -> bool {
        self.directions == 1 && (!self.backwards || self.in_scan_order)
    }

    /// Whether states, and their gradients, may pass by the cell: 1 in rows that have ended, 2 by zoneout, 3 by both.
    pub(super) fn carries(&self) -> u32 {
        self.ragged as u32 | ((self.drops.zoneout_h > 0.0 || self.drops.zoneout_c > 0.0) as u32) << 1
    }

    /// Zoneout of h and of c.
    pub(super) fn zoneout(&self, train: bool) -> [Zoneout; 2] {
        [self.drops.zoneout_h, self.drops.zoneout_c].map(|p| match train {
            true => Zoneout { chance: random::threshold(p), share: 0.0 },
            false => Zoneout { chance: 0, share: p as f32 },
        })
    }

    /// Values of a unit and step that training keeps.
    pub(super) fn planes(&self) -> u32 {
        self.cell.saved as u32 + self.projected() as u32
    }

    /// Vectors of the bias's buffer: biases and further parameters.
    pub(super) fn parameters(&self) -> u32 {
        self.biases + self.cell.extra as u32
    }

    /// What a launch depends on: H, B, D and T. What is split goes step by step.
    pub(super) fn launch(&self, pass: Pass, capabilities: &Capabilities) -> Launch {
        let sizes = [self.hidden, self.batch, self.directions, self.steps];
        // Units of a thread would have to be of one head.
        let plain = self.carries() == 0 && self.settings == Settings::default() && self.heads == 1;
        if self.split.is_none() {
            return Launch::new(pass, sizes, plain, capabilities);
        }
        let strategy = Some(Strategy::PerStep);
        Launch::new(pass, sizes, plain, &Capabilities { strategy, ..capabilities.clone() })
    }

    /// The directions of a layer.
    pub fn each_direction(&self) -> impl Iterator<Item = Direction> {
        let (steps, backwards) = (self.steps, self.backwards);
        (0..self.directions).map(move |index| Direction { index, reverse: index == 1 || backwards, steps })
    }

    /// The order in which outputs of a direction lie.
    pub(super) fn output_order(&self, direction: Direction) -> Direction {
        Direction { reverse: direction.reverse && !self.in_scan_order, ..direction }
    }

    /// Elements of the tensors that a step needs, with their names; the largest decides how time is split.
    pub fn per_step(&self, train: bool) -> Vec<(String, u64)> {
        let batch = self.batch as u64;
        let slot = self.directions as u64 * batch * self.hidden as u64;
        let mut tensors = vec![
            (
                format!("{} W·x [D, B, 4H] = [{}, {}, {}]", self.name, self.directions, self.batch, G * self.hidden),
                G as u64 * slot,
            ),
            (format!("{} input [B, I] = [{}, {}]", self.name, self.batch, self.input), batch * self.input as u64),
        ];
        if train {
            tensors.push((format!("{} values kept for backward", self.name), self.planes() as u64 * slot));
        }
        tensors
    }
}

/// How old states are kept.
#[derive(Clone, Copy)]
pub(super) struct Zoneout {
    /// In training: where random bits are below this.
    pub chance: u32,
    /// In inference: this share of them.
    pub share: f32,
}

/// Device tensors of one layer's weights.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// [D, I, 4H]: columns hold the four gates of a unit side by side.
    pub w: BufferId,
    /// [D, K / heads, 4H]; one unused element where nothing sees the hidden state.
    pub r: BufferId,
    /// [D, biases + further parameters, 4H]; one unused element where there are none.
    pub bias: BufferId,
    /// [D, P, H], where the hidden state is projected.
    pub projection: Option<BufferId>,
    /// Where products and cell state are normalised.
    pub norm: Option<Norms>,
}

/// Device tensors of a layer's normalisations.
#[derive(Clone, Copy, Debug)]
pub struct Norms {
    /// Factors of W·x, [D, 4H].
    pub x: BufferId,
    /// Factors of R·h', [D, 4H].
    pub h: BufferId,
    /// Factors of the cell state and what is added to it, [D, 2, H].
    pub c: BufferId,
}

/// Added to the variance of what a cell normalises.
pub(super) const EPSILON: f32 = 1e-5;

/// Declares the weights of a stack, or their gradients (`prefix` "grad ", [`Role::Gradient`]).
pub fn declare_weights(
    builder: &mut Builder,
    sizes: &LstmSizes,
    prefix: &str,
    role: Role,
) -> Result<Vec<LayerWeights>> {
    let columns = G as u64 * sizes.hidden as u64;
    let [directions, width, hidden] = [sizes.directions, sizes.width, sizes.hidden].map(u64::from);
    (0..sizes.layers)
        .map(|layer| {
            let name = format!("{prefix}{}.l{layer}", sizes.name);
            let mut tensor = |kind: &str, len: u64| builder.buffer(format!("{name}.{kind}"), directions * len, role);
            let norm = match sizes.split {
                Some(Split::Norm) => Some(Norms {
                    x: tensor("norm x", columns)?,
                    h: tensor("norm h", columns)?,
                    c: tensor("norm c", 2 * hidden)?,
                }),
                _ => None,
            };
            Ok(LayerWeights {
                norm,
                w: tensor("w", sizes.layer_input(layer) as u64 * columns)?,
                r: tensor("r", sizes.seen() as u64 * columns)?,
                bias: tensor("bias", sizes.parameters() as u64 * columns)?,
                projection: if sizes.projected() { Some(tensor("projection", width * hidden)?) } else { None },
            })
        })
        .collect()
}

/// Where the states before the first step come from; one pair (h, c) of [D, B, H] a layer.
#[derive(Clone, Debug)]
pub enum Initial {
    /// Zero.
    Zero,
    /// Places in buffers.
    States(Vec<[(BufferId, u32); 2]>),
}

/// What forward leaves for backward and for readers, per layer.
#[derive(Clone, Debug)]
pub struct LayerTrace {
    /// What the layer multiplied with W, in the order of time.
    pub x: Sequence,
    /// Hidden states [D, B, K] a step, in the order of the scan, one slot of lead.
    pub h: Sequence,
    /// What backward needs beside h; nothing in inference.
    pub kept: Option<Kept>,
    /// Last slot of h.
    pub h_last: (BufferId, u32),
    /// Last slot of c.
    pub c_last: (BufferId, u32),
    /// The layer's output in the order of time: a view of `h` for one direction.
    pub y: Option<Sequence>,
    /// The recurrent weights that were used.
    pub r: BufferId,
    /// How the input was dropped, from the layer below upward.
    pub(super) input_drops: Vec<Drop>,
    /// How the hidden state was dropped before the product.
    pub(super) recurrent_drop: Option<Drop>,
    /// How recurrent weights were dropped.
    pub(super) weight_drop: Option<Drop>,
    /// Where random bits of zoneout are counted.
    pub(super) zoneout_site: u32,
}

/// What a training pass keeps of every step.
#[derive(Clone, Debug)]
pub struct Kept {
    /// States beside h, [STATES, D, B, H] a step, in the order of the scan, one slot of lead.
    pub c: Sequence,
    /// The cell's values [SAVED, D, B, H] a step, in the order of the scan; then what is projected, [D, B, H].
    pub saved: Sequence,
    /// What a split step has beside it.
    pub(super) beside: Option<Beside>,
}

/// What backward through split steps needs, in the order of the scan.
#[derive(Clone, Debug)]
pub(super) enum Beside {
    /// W·x and R·h' before they are normalised, each [D, B, 4H] a step.
    Norm { xw: Sequence, rh: Sequence },
    /// r ⊙ h', [D, B, H] a step.
    Reset { s: Sequence },
}

/// Where steps put what they keep.
pub(super) enum Memory {
    /// Every step in its place.
    Training(Kept),
    /// Two slots of c that take turns; `unused` is bound where the kernel would save.
    Inference { c: BufferId, unused: BufferId },
}

impl Memory {
    /// Buffer and slots of c' and c of a step, the first of the dispatch `turn`.
    pub(super) fn c(&self, step: u32, turn: u32, slot: u32) -> (BufferId, u32, u32) {
        match self {
            Memory::Training(kept) => {
                let (buffer, at) = kept.c.at(step);
                (buffer, at - slot, at)
            }
            Memory::Inference { c, .. } => (*c, turn % 2 * slot, (turn + 1) % 2 * slot),
        }
    }

    /// Place of a step's saved values.
    pub(super) fn saved(&self, step: u32) -> (BufferId, u32) {
        match self {
            Memory::Training(kept) => kept.saved.at(step),
            Memory::Inference { unused, .. } => (*unused, 0),
        }
    }
}

/// Plans a stack forward. `whole` asks for the last layer's output at every step.
pub fn lstm(
    builder: &mut Builder,
    sizes: &LstmSizes,
    weights: &[LayerWeights],
    x: &Sequence,
    initial: &Initial,
    train: bool,
    whole: bool,
) -> Result<Vec<LayerTrace>> {
    let chunk = builder.chunk_steps(sizes.steps) as u64;
    let xw = builder.buffer(format!("{} W·x", sizes.name), chunk * G as u64 * sizes.slot() as u64, Role::Scratch)?;
    let mut traces: Vec<LayerTrace> = Vec::new();
    for (layer, weights) in weights.iter().enumerate() {
        builder.section(format!("{} layer {layer} forward", sizes.name));
        let mut x = traces.last().and_then(|below| below.y.clone()).unwrap_or_else(|| x.clone());
        let start = match initial {
            Initial::Zero => None,
            Initial::States(states) => Some(states[layer]),
        };
        let top = layer as u32 + 1 == sizes.layers;
        let name = format!("{}.l{layer}", sizes.name);
        let mut input_drops = Vec::new();
        if train {
            let Drops { between, input, .. } = sizes.drops;
            for (probability, shared) in [(if layer > 0 { between } else { 0.0 }, false), (input, true)] {
                if probability > 0.0 {
                    let drop = Drop { probability, site: builder.site(), shared };
                    let dropped = format!("{name}.x {}", if shared { "dropped" } else { "dropped by step" });
                    x = builder.dropout(&dropped, &x, sizes.batch, drop)?;
                    input_drops.push(drop);
                }
            }
        }
        let layer = Layer { sizes, name, weights, xw, train };
        let output = if !whole && top {
            Output::States
        } else if top {
            Output::Top
        } else {
            Output::Below
        };
        let trace = layer.forward(builder, x, start, output)?;
        traces.push(LayerTrace { input_drops, ..trace });
    }
    Ok(traces)
}

/// Who reads a layer's output.
#[derive(Clone, Copy, PartialEq)]
enum Output {
    /// Nobody but those who want the last states.
    States,
    /// The layer above, for which it does not matter what lies past the end of a sequence.
    Below,
    /// The user.
    Top,
}

pub(super) struct Layer<'a> {
    pub(super) sizes: &'a LstmSizes,
    pub(super) name: String,
    pub(super) weights: &'a LayerWeights,
    /// W·x of a chunk, [steps, D, B, 4H] in the order of the scan.
    pub(super) xw: BufferId,
    pub(super) train: bool,
}

/// What the steps of a layer have in common.
pub(super) struct Steps {
    pub kernel: &'static Kernel,
    pub launch: Launch,
    /// Hidden states, with one slot of lead.
    pub h: Sequence,
    pub memory: Memory,
    pub words: BufferId,
    /// The recurrent weights that are used.
    pub used: BufferId,
    /// The same as steps read them.
    pub r: BufferId,
    /// What the hidden state is multiplied by before the product, or something to bind.
    pub mask: BufferId,
    pub recurrent_drop: Option<Drop>,
    pub zoneout_site: u32,
}

impl Layer<'_> {
    fn forward(
        &self,
        builder: &mut Builder,
        x: Sequence,
        start: Option<[(BufferId, u32); 2]>,
        output: Output,
    ) -> Result<LayerTrace> {
        let (sizes, slot, c_slot, train) = (self.sizes, self.sizes.slot(), self.sizes.c_slot(), self.train);
        let states = sizes.cell.states.len() as u32;
        let [steps, batch, units] = [sizes.steps, sizes.batch, sizes.directions * sizes.hidden];
        let words = builder.words(batch)?;
        let state = [steps, batch, sizes.directions * sizes.width];
        let h = builder.sequence(&format!("{}.h", self.name), state, 1, Role::Scratch)?;
        let memory = if train {
            let values = sizes.planes() * units;
            Memory::Training(Kept {
                c: builder.sequence(&format!("{}.c", self.name), [steps, batch, states * units], 1, Role::Scratch)?,
                saved: builder.sequence(&format!("{}.saved", self.name), [steps, batch, values], 0, Role::Scratch)?,
                beside: self.beside(builder)?,
            })
        } else {
            let unused = if sizes.projected() { slot as u64 } else { 1 };
            Memory::Inference {
                c: builder.buffer(format!("{}.c", self.name), 2 * c_slot as u64, Role::Scratch)?,
                unused: builder.buffer(format!("{}.saved", self.name), unused, Role::Scratch)?,
            }
        };

        let (used, weight_drop) = self.dropped_weights(builder, words)?;
        let (mask, recurrent_drop) = self.mask(builder, words)?;
        let unused = builder.unused();
        let zoneout_site = builder.site();
        let len = (sizes.directions * sizes.seen()) as u64 * (G * sizes.hidden) as u64;
        let r = match self.multiplies() {
            true => builder.step_weights(&format!("{}.R", self.name), used, len)?,
            false => used,
        };
        let kernel = if builder.round_weights(used, r) { &kernel::SCAN_FORWARD_HALF } else { &kernel::SCAN_FORWARD };
        let launch = sizes.launch(Pass::Forward, &builder.capabilities);
        let mask = mask.unwrap_or(unused);
        let run = Steps { kernel, launch, h, memory, words, used, r, mask, recurrent_drop, zoneout_site };
        let split = self.split(builder, &run)?;
        let Steps { h, memory, .. } = &run;
        let (mut turn, mut c_last) = (0, (memory.c(0, 0, c_slot).0, 0));
        for chunk in 0..h.chunks.len() {
            let range = h.chunk_range(chunk);
            let first = range.start;
            if first == 0 {
                self.start(builder, start.map(|[h, _]| h), h.chunks[0], sizes.h_slot());
                self.start(builder, start.map(|[_, c]| c), memory.c(0, 0, c_slot).0, c_slot);
            } else {
                builder.copy_run(sizes.h_slot(), h.at(first - 1), (h.chunks[chunk], 0));
                if let Memory::Training(Kept { c, .. }) = memory {
                    builder.copy_run(c_slot, c.at(first - 1), (c.chunks[chunk], 0));
                }
            }
            let product = split.as_ref().map_or((self.xw, 0), |split| split.input_product(self.xw, first));
            for direction in sizes.each_direction() {
                for part in direction.segments(range.clone(), x.chunk_steps) {
                    self.input_product(builder, &x, direction, part, first, product);
                }
            }
            if let Some(split) = &split {
                self.before_chunk(builder, split, product, range.len() as u32);
            }
            for step in range.clone().step_by(launch.steps as usize) {
                let steps = launch.steps.min(range.end - step);
                match &split {
                    Some(split) => self.split_step(builder, &run, split, step, turn, first),
                    None => self.scan(builder, &run, step..step + steps, turn, first),
                }
                let (buffer, _, c_out) = memory.c(step, turn, c_slot);
                c_last = (buffer, c_out + if train { (steps - 1) * c_slot } else { 0 });
                turn += 1;
            }
        }
        let Steps { h, memory, .. } = run;
        let y = if output == Output::States { None } else { Some(self.output(builder, &h, output, words)?) };
        let kept = match memory {
            Memory::Training(kept) => Some(kept),
            Memory::Inference { .. } => None,
        };
        Ok(LayerTrace {
            x,
            h_last: h.at(steps - 1),
            c_last,
            h,
            kept,
            y,
            r: used,
            input_drops: Vec::new(),
            recurrent_drop,
            weight_drop,
            zoneout_site,
        })
    }

    /// Whether the scan makes the recurrent product.
    fn multiplies(&self) -> bool {
        !matches!(self.sizes.split, Some(Split::Norm | Split::Reset)) && self.sizes.seen() > 0
    }

    /// Steps in one dispatch, the first of a `turn`; `first` is the first step of their chunk.
    pub(super) fn scan(&self, builder: &mut Builder, run: &Steps, range: Range<u32>, turn: u32, first: u32) {
        let (sizes, train, step) = (self.sizes, self.train, range.start);
        let slot = sizes.slot();
        let Steps { kernel, launch, h, memory, words, r, mask, recurrent_drop, zoneout_site, .. } = run;
        let (h_buffer, h_out) = h.at(step);
        let (c_buffer, c_in, c_out) = memory.c(step, turn, sizes.c_slot());
        let (saved_buffer, saved_offset) = memory.saved(step);
        let [zoneout_h, zoneout_c] = sizes.zoneout(train);
        let params = params::ScanForward {
            batch: sizes.batch,
            directions: sizes.directions,
            biases: sizes.biases,
            steps: range.len() as u32,
            xw_offset: (step - first) * G * slot,
            h_in: h_out - sizes.h_slot(),
            c_in,
            c_out,
            saved_offset,
            first_step: builder.first_step() + step,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: *zoneout_site,
            zoneout_h: zoneout_h.chance,
            zoneout_c: zoneout_c.chance,
            keep_h: zoneout_h.share,
            keep_c: zoneout_c.share,
            ..bytemuck::Zeroable::zeroed()
        }
        .with_settings(&sizes.settings);
        let buffers = [self.xw, *r, self.weights.bias, h_buffer, c_buffer, saved_buffer, *words, *mask];
        let multiplies = self.multiplies();
        let constants = ScanForwardConstants {
            h: sizes.hidden,
            k: sizes.width,
            train,
            drop: recurrent_drop.is_some() && multiplies,
            // Another kernel carries what is normalised.
            carries: Carries(if sizes.split == Some(Split::Norm) { 0 } else { sizes.carries() }),
            kinds: sizes.settings.kinds(),
            rows: launch.rows,
            units: launch.units,
            span: launch.span,
            threads: launch.threads,
            terms: if multiplies { sizes.seen() } else { 0 },
            heads: sizes.heads,
        };
        builder.push(kernel, Some(sizes.cell), &constants, &params, &buffers);
    }

    /// The recurrent weights to use: in training, some may be dropped.
    fn dropped_weights(&self, builder: &mut Builder, words: BufferId) -> Result<(BufferId, Option<Drop>)> {
        let (sizes, probability) = (self.sizes, self.sizes.drops.weights);
        if !self.train || probability == 0.0 {
            return Ok((self.weights.r, None));
        }
        let drop = Drop { probability, site: builder.site(), shared: true };
        let (rows, columns) = (sizes.directions * sizes.seen(), G * sizes.hidden);
        let used = builder.buffer(format!("{}.R dropped", self.name), rows as u64 * columns as u64, Role::Scratch)?;
        builder.drop_rows(words, [1, rows, columns], (self.weights.r, 0), used, drop);
        Ok((used, Some(drop)))
    }

    /// In training, what the hidden state is multiplied by before each product, [D, B, K].
    fn mask(&self, builder: &mut Builder, words: BufferId) -> Result<(Option<BufferId>, Option<Drop>)> {
        let (sizes, probability) = (self.sizes, self.sizes.drops.recurrent);
        if !self.train || probability == 0.0 {
            return Ok((None, None));
        }
        let drop = Drop { probability, site: builder.site(), shared: true };
        let (rows, slot) = (sizes.directions * sizes.batch, sizes.h_slot());
        let ones = builder.buffer(format!("{}.ones", self.name), slot as u64, Role::Scratch)?;
        let mask = builder.buffer(format!("{}.mask", self.name), slot as u64, Role::Scratch)?;
        builder.fill(ones, 0..slot, 1.0);
        builder.drop_rows(words, [1, rows, sizes.width], (ones, 0), mask, drop);
        Ok((Some(mask), Some(drop)))
    }

    /// Puts the initial state in slot 0 of a history.
    fn start(&self, builder: &mut Builder, state: Option<(BufferId, u32)>, history: BufferId, len: u32) {
        match state {
            Some(state) => builder.copy_run(len, state, (history, 0)),
            None => builder.fill(history, 0..len, 0.0),
        }
    }

    /// W·x [s, d] = x[time of s]·W[d] for the steps of a part.
    fn input_product(
        &self,
        builder: &mut Builder,
        x: &Sequence,
        direction: Direction,
        part: Range<u32>,
        first: u32,
        (to, c_first): (BufferId, u32),
    ) {
        let sizes = self.sizes;
        let (d, input, columns) = (direction.index, x.features, G * sizes.hidden);
        let (x_buffer, a_offset) = x.at(direction.time(part.start));
        let product = params::Matmul {
            m: part.len() as u32 * sizes.batch,
            n: columns,
            k: input,
            accumulate: 0,
            m_split: sizes.batch,
            k_split: input,
            a_offset,
            a_m_hi: direction.stride(x.step),
            a_m_lo: x.row as i32,
            a_k_hi: 0,
            a_k_lo: 1,
            b_offset: d * input * columns,
            b_k_hi: 0,
            b_k_lo: columns as i32,
            b_n: 1,
            c_offset: c_first + ((part.start - first) * sizes.directions + d) * sizes.batch * columns,
            c_m_hi: (sizes.directions * sizes.batch * columns) as i32,
            c_m_lo: columns as i32,
            part: 0,
            c_part: 0,
        };
        builder.matmul(product, x_buffer, self.weights.w, to);
    }

    /// The output [B, D·K] a step, in the order of time where it is not asked for in that of the scan. For one forward
    /// direction that is what the history holds. Past the ends of sequences it is 0, unless the last output is repeated: there, the
    /// history holds the last state.
    fn output(&self, builder: &mut Builder, h: &Sequence, output: Output, words: BufferId) -> Result<Sequence> {
        let sizes = self.sizes;
        let (batch, width, slot) = (sizes.batch, sizes.width, sizes.h_slot());
        let trims = sizes.ragged && output == Output::Top && !sizes.repeats_output;
        if sizes.history_is_output() && !trims {
            return Ok(h.clone());
        }
        let shape = [sizes.steps, batch, sizes.directions * width];
        let y = builder.sequence(&format!("{}.y", self.name), shape, 0, Role::Scratch)?;
        for direction in sizes.each_direction() {
            let order = sizes.output_order(direction);
            for chunk in 0..h.chunks.len() {
                for part in order.segments(h.chunk_range(chunk), y.chunk_steps) {
                    let (from, src) = h.at(part.start);
                    let (to, dst) = y.at(order.time(part.start));
                    let src = src + direction.index * batch * width;
                    let dst = dst + direction.index * width;
                    if trims {
                        let params = params::Trim {
                            steps: part.len() as u32,
                            batch,
                            features: width,
                            src_offset: src,
                            src_step: slot as i32,
                            src_row: width as i32,
                            dst_offset: dst,
                            dst_step: order.stride(y.step),
                            dst_row: y.row as i32,
                            time: builder.first_step() + direction.time(part.start),
                            time_step: direction.stride(1),
                        };
                        builder.push(&kernel::TRIM, None, &NoConstants, &params, &[words, from, to]);
                        continue;
                    }
                    builder.copy(
                        [1, part.len() as u32, batch, width],
                        (from, src),
                        [0, slot as i32, width as i32, 1],
                        (to, dst),
                        [0, order.stride(y.step), y.row as i32, 1],
                        false,
                    );
                }
            }
        }
        Ok(y)
    }
}

/// The last hidden states of all directions side by side, [1, B, D·K]: what Keras returns without `return_sequences`.
pub fn last_step(builder: &mut Builder, sizes: &LstmSizes, trace: &LayerTrace) -> Result<Sequence> {
    let (batch, width, directions) = (sizes.batch, sizes.width, sizes.directions);
    let (buffer, at) = trace.h_last;
    if directions == 1 {
        let (step, features) = (batch * width, width);
        return Ok(Sequence { chunks: vec![buffer], steps: 1, chunk_steps: 1, lead: at, step, row: width, features });
    }
    let last = builder.sequence(&format!("{}.last", sizes.name), [1, batch, directions * width], 0, Role::Scratch)?;
    builder.copy(
        [1, directions, batch, width],
        (buffer, at),
        [0, (batch * width) as i32, width as i32, 1],
        last.at(0),
        [0, width as i32, (directions * width) as i32, 1],
        false,
    );
    Ok(last)
}
