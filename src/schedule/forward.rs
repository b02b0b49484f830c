//! Forward through an LSTM stack: the algorithm.
//!
//! For each layer: W·x for all steps of a chunk of time in one product, then the scan, in dispatches of one or many
//! steps (see `strategy.rs`). The hidden and
//! cell states of all steps lie in histories in the order of the scan, with the initial state in front, so that a
//! step reads one slot and writes the next.

use super::builder::Builder;
use super::sequence::{Direction, Sequence};
use super::strategy::{Launch, Pass};
use crate::cell::{CellSpec, GATES};
use crate::error::Result;
use crate::kernel::{self, params};
use crate::plan::{BufferId, Role};

const G: u32 = GATES as u32;

/// Sizes of an LSTM stack and a batch.
#[derive(Clone, Debug)]
pub struct LstmSizes {
    /// Prefix of the names of its buffers.
    pub name: String,
    /// The cell.
    pub cell: &'static CellSpec,
    /// T.
    pub steps: u32,
    /// B.
    pub batch: u32,
    /// I.
    pub input: u32,
    /// H.
    pub hidden: u32,
    /// L.
    pub layers: u32,
    /// D.
    pub directions: u32,
    /// Biases per gate: 0, 1 or 2.
    pub biases: u32,
}

impl LstmSizes {
    /// Input features of a layer.
    pub fn layer_input(&self, layer: u32) -> u32 {
        if layer == 0 { self.input } else { self.directions * self.hidden }
    }

    /// Elements of a state slot [D, B, H].
    pub fn slot(&self) -> u32 {
        self.directions * self.batch * self.hidden
    }

    /// What a launch depends on: H, B, D and T.
    pub(super) fn launch(&self) -> [u32; 4] {
        [self.hidden, self.batch, self.directions, self.steps]
    }

    /// The directions of a layer.
    pub fn each_direction(&self) -> impl Iterator<Item = Direction> {
        let steps = self.steps;
        (0..self.directions).map(move |index| Direction { index, steps })
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
            tensors.push((format!("{} values kept for backward", self.name), self.cell.saved as u64 * slot));
        }
        tensors
    }
}

/// Device tensors of one layer's weights.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// [D, I, 4H]: columns hold the four gates of a unit side by side.
    pub w: BufferId,
    /// [D, H, 4H].
    pub r: BufferId,
    /// [D, biases, 4H]; one unused element where there is no bias.
    pub bias: BufferId,
}

/// Declares the weights of a stack, or their gradients (`prefix` "grad ", [`Role::Gradient`]).
pub fn declare_weights(
    builder: &mut Builder,
    sizes: &LstmSizes,
    prefix: &str,
    role: Role,
) -> Result<Vec<LayerWeights>> {
    let columns = G as u64 * sizes.hidden as u64;
    let directions = sizes.directions as u64;
    (0..sizes.layers)
        .map(|layer| {
            let name = format!("{prefix}{}.l{layer}", sizes.name);
            Ok(LayerWeights {
                w: builder.buffer(format!("{name}.w"), directions * sizes.layer_input(layer) as u64 * columns, role)?,
                r: builder.buffer(format!("{name}.r"), directions * sizes.hidden as u64 * columns, role)?,
                bias: builder.buffer(format!("{name}.bias"), directions * sizes.biases as u64 * columns, role)?,
            })
        })
        .collect()
}

/// Where the states before the first step come from; one pair (h, c) of [D, B, H] a layer.
#[derive(Clone, Debug)]
pub enum Initial {
    /// Zero.
    Zero,
    /// Buffers.
    States(Vec<(BufferId, BufferId)>),
}

/// What forward leaves for backward and for readers, per layer.
#[derive(Clone, Debug)]
pub struct LayerTrace {
    /// The layer's input, in the order of time.
    pub x: Sequence,
    /// Hidden states [D, B, H] a step, in the order of the scan, one slot of lead.
    pub h: Sequence,
    /// What backward needs beside h; nothing in inference.
    pub kept: Option<Kept>,
    /// Last slot of h.
    pub h_last: (BufferId, u32),
    /// Last slot of c.
    pub c_last: (BufferId, u32),
    /// The layer's output in the order of time: a view of `h` for one direction.
    pub y: Option<Sequence>,
}

/// What a training pass keeps of every step.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Cell states [D, B, H] a step, in the order of the scan, one slot of lead.
    pub c: Sequence,
    /// The cell's values [SAVED, D, B, H] a step, in the order of the scan.
    pub saved: Sequence,
}

/// Where steps put what they keep.
enum Memory {
    /// Every step in its place.
    Training(Kept),
    /// Two slots of c that take turns; `unused` is bound where the kernel would save.
    Inference { c: BufferId, unused: BufferId },
}

impl Memory {
    /// Buffer and slots of c' and c of a step, the first of the dispatch `turn`.
    fn c(&self, step: u32, turn: u32, slot: u32) -> (BufferId, u32, u32) {
        match self {
            Memory::Training(kept) => {
                let (buffer, at) = kept.c.at(step);
                (buffer, at - slot, at)
            }
            Memory::Inference { c, .. } => (*c, turn % 2 * slot, (turn + 1) % 2 * slot),
        }
    }

    /// Place of a step's saved values.
    fn saved(&self, step: u32) -> (BufferId, u32) {
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
        let x = traces.last().and_then(|below| below.y.clone()).unwrap_or_else(|| x.clone());
        let start = match initial {
            Initial::Zero => None,
            Initial::States(states) => Some(states[layer]),
        };
        let needs_y = whole || layer as u32 + 1 < sizes.layers;
        let layer = Layer { sizes, name: format!("{}.l{layer}", sizes.name), weights, xw };
        traces.push(layer.forward(builder, x, start, train, needs_y)?);
    }
    Ok(traces)
}

struct Layer<'a> {
    sizes: &'a LstmSizes,
    name: String,
    weights: &'a LayerWeights,
    /// W·x of a chunk, [steps, D, B, 4H] in the order of the scan.
    xw: BufferId,
}

impl Layer<'_> {
    fn forward(
        &self,
        builder: &mut Builder,
        x: Sequence,
        start: Option<(BufferId, BufferId)>,
        train: bool,
        needs_y: bool,
    ) -> Result<LayerTrace> {
        let (sizes, slot) = (self.sizes, self.sizes.slot());
        let [steps, batch, units] = [sizes.steps, sizes.batch, sizes.directions * sizes.hidden];
        let h = builder.sequence(&format!("{}.h", self.name), [steps, batch, units], 1, Role::Scratch)?;
        let memory = if train {
            let values = sizes.cell.saved as u32 * units;
            Memory::Training(Kept {
                c: builder.sequence(&format!("{}.c", self.name), [steps, batch, units], 1, Role::Scratch)?,
                saved: builder.sequence(&format!("{}.saved", self.name), [steps, batch, values], 0, Role::Scratch)?,
            })
        } else {
            Memory::Inference {
                c: builder.buffer(format!("{}.c", self.name), 2 * slot as u64, Role::Scratch)?,
                unused: builder.buffer(format!("{}.saved", self.name), 1, Role::Scratch)?,
            }
        };

        let len = sizes.directions as u64 * (G * sizes.hidden * sizes.hidden) as u64;
        let r = builder.step_weights(&format!("{}.R", self.name), self.weights.r, len)?;
        let kernel =
            if builder.round_weights(self.weights.r, r) { &kernel::SCAN_FORWARD_HALF } else { &kernel::SCAN_FORWARD };
        let launch = Launch::new(Pass::Forward, sizes.launch(), &builder.capabilities);
        let (mut turn, mut c_last) = (0, (memory.c(0, 0, slot).0, 0));
        for chunk in 0..h.chunks.len() {
            let range = h.chunk_range(chunk);
            let first = range.start;
            if first == 0 {
                self.start(builder, start.map(|states| states.0), h.chunks[0]);
                self.start(builder, start.map(|states| states.1), memory.c(0, 0, slot).0);
            } else {
                builder.copy_run(slot, h.at(first - 1), (h.chunks[chunk], 0));
                if let Memory::Training(Kept { c, .. }) = &memory {
                    builder.copy_run(slot, c.at(first - 1), (c.chunks[chunk], 0));
                }
            }
            for direction in sizes.each_direction() {
                for part in direction.segments(range.clone(), x.chunk_steps) {
                    self.input_product(builder, &x, direction, part, first);
                }
            }
            for step in range.clone().step_by(launch.steps as usize) {
                let (h_buffer, h_out) = h.at(step);
                let (c_buffer, c_in, c_out) = memory.c(step, turn, slot);
                let (saved_buffer, saved_offset) = memory.saved(step);
                let params = params::ScanForward {
                    batch,
                    directions: sizes.directions,
                    biases: sizes.biases,
                    steps: launch.steps.min(range.end - step),
                    xw_offset: (step - first) * G * slot,
                    h_in: h_out - slot,
                    c_in,
                    c_out,
                    saved_offset,
                };
                let buffers = [self.xw, r, self.weights.bias, h_buffer, c_buffer, saved_buffer];
                let constants = [sizes.hidden, train as u32, launch.rows, launch.units, launch.span, launch.threads];
                builder.push(kernel, Some(sizes.cell), &constants, &params, &buffers);
                c_last = (c_buffer, c_out + if train { (params.steps - 1) * slot } else { 0 });
                turn += 1;
            }
        }
        let y = if needs_y { Some(self.output(builder, &h)?) } else { None };
        let kept = match memory {
            Memory::Training(kept) => Some(kept),
            Memory::Inference { .. } => None,
        };
        Ok(LayerTrace { x, h_last: h.at(steps - 1), c_last, h, kept, y })
    }

    /// Puts the initial state in slot 0 of a history.
    fn start(&self, builder: &mut Builder, state: Option<BufferId>, history: BufferId) {
        match state {
            Some(state) => builder.copy_run(self.sizes.slot(), (state, 0), (history, 0)),
            None => builder.fill(history, 0..self.sizes.slot(), 0.0),
        }
    }

    /// xw[s, d] = x[time of s]·W[d] for the steps of a part.
    fn input_product(
        &self,
        builder: &mut Builder,
        x: &Sequence,
        direction: Direction,
        part: std::ops::Range<u32>,
        first: u32,
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
            c_offset: ((part.start - first) * sizes.directions + d) * sizes.batch * columns,
            c_m_hi: (sizes.directions * sizes.batch * columns) as i32,
            c_m_lo: columns as i32,
            part: 0,
            c_part: 0,
        };
        builder.matmul(product, x_buffer, self.weights.w, self.xw);
    }

    /// The output [B, D·H] a step in the order of time. For one direction that is what the history holds.
    fn output(&self, builder: &mut Builder, h: &Sequence) -> Result<Sequence> {
        let sizes = self.sizes;
        let (batch, hidden, slot) = (sizes.batch, sizes.hidden, sizes.slot());
        if sizes.directions == 1 {
            return Ok(h.clone());
        }
        let y = builder.sequence(&format!("{}.y", self.name), [sizes.steps, batch, 2 * hidden], 0, Role::Scratch)?;
        for direction in sizes.each_direction() {
            for chunk in 0..h.chunks.len() {
                for part in direction.segments(h.chunk_range(chunk), y.chunk_steps) {
                    let (from, src) = h.at(part.start);
                    let (to, dst) = y.at(direction.time(part.start));
                    builder.copy(
                        [1, part.len() as u32, batch, hidden],
                        (from, src + direction.index * batch * hidden),
                        [0, slot as i32, hidden as i32, 1],
                        (to, dst + direction.index * hidden),
                        [0, direction.stride(y.step), y.row as i32, 1],
                        false,
                    );
                }
            }
        }
        Ok(y)
    }
}

/// The last hidden states of all directions side by side, [1, B, D·H]: what Keras returns without `return_sequences`.
pub fn last_step(builder: &mut Builder, sizes: &LstmSizes, trace: &LayerTrace) -> Result<Sequence> {
    let (batch, hidden, directions) = (sizes.batch, sizes.hidden, sizes.directions);
    let (buffer, at) = trace.h_last;
    if directions == 1 {
        let (step, features) = (batch * hidden, hidden);
        return Ok(Sequence { chunks: vec![buffer], steps: 1, chunk_steps: 1, lead: at, step, row: hidden, features });
    }
    let last = builder.sequence(&format!("{}.last", sizes.name), [1, batch, directions * hidden], 0, Role::Scratch)?;
    builder.copy(
        [1, directions, batch, hidden],
        (buffer, at),
        [0, (batch * hidden) as i32, hidden as i32, 1],
        last.at(0),
        [0, hidden as i32, (directions * hidden) as i32, 1],
        false,
    );
    Ok(last)
}
