//! Decoding step by step: an output of a network is fed back as an input of the next step.

use super::Model;
use super::data::InputData;
use super::given::Inputs;
use super::parameters::{Parameters, SharedParameters};
use super::plans::write_words;
use super::tensors::{all_outputs, read_sequence};
use crate::device::{Device, Executable};
use crate::error::{Error, Result};
use crate::memory;
use crate::network::{Batch, Crossing, Cut, Graph, NetworkPlan, Node, Purpose, cut, graph_plan};
use crate::plan::{BufferId, Capabilities};
use crate::transfer::{Downloads, Order, Rows, finite, upload};
use crate::wait;
use ndarray::{Array2, Array3, ArrayView2, Axis};
use std::sync::Arc;

/// Step-by-step inference of a network: what does not depend on one of its inputs (an encoder) is computed once, and each step feeds that
/// input one step, from the states that the step before left. A step costs the same however long the prefix is. Made by
/// [`Model::decoder`]; it shares the model's parameters as they are when a decoding begins.
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::{Decode, Dense, Device, Embedding, Inputs, Lstm, Network};
/// let mut net = Network::new();
/// let (source, previous) = (net.tokens("source"), net.tokens("previous"));
/// let embedded = net.layer(Embedding::new(20, 8)).of(source);
/// let encoded = net.layer(Lstm::new(16)).named("encoder").of(embedded);
/// let states = net.states(encoded);
/// let embedded = net.layer(Embedding::new(10, 8)).of(previous);
/// let decoder = net.layer(Lstm::new(16).return_sequences(true)).named("decoder").starts_from(states).of(embedded);
/// let logits = net.layer(Dense::new(10)).of(decoder);
/// let model = net.output("next", logits).build(&Device::cpu(), 1)?;
///
/// let decoder = model.decoder("previous", "next")?;
/// let source = array![[3, 4, 5], [6, 7, 0]];
/// let inputs = Inputs::new().tokens("source", source.view()).lengths(&[3, 2]);
/// let decode = Decode { start: 0, end: 1, most: 5 };
/// let best = decoder.greedy(inputs.clone(), decode)?; // tokens of each sequence, without start and end
/// let beams = decoder.beam(inputs, decode, 3)?; // three hypotheses a sequence, the best first
/// assert!(best.len() == 2 && beams[0].len() == 3);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    graph: Graph,
    cut: Cut,
    /// The input that is fed.
    input: usize,
    /// The output that steps return, among those of the step's graph.
    output: usize,
    device: Device,
    parameters: SharedParameters,
}

/// Tokens with which a decoding begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    /// The token that is fed first.
    pub start: u32,
    /// The token that ends a sequence.
    pub end: u32,
    /// The most tokens of a sequence.
    pub most: usize,
}

/// A result of a beam search.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without start and end.
    pub tokens: Vec<u32>,
    /// Logarithm of its probability.
    pub log_probability: f32,
}

/// A decoding of B sequences that goes on step by step; made by [`Decoder::begin`].
#[derive(Debug)]
pub struct Decoding {
    graph: Graph,
    plan: NetworkPlan,
    executable: Executable,
    /// Held so that they do not change while it goes on.
    _parameters: Arc<Parameters>,
    output: usize,
    rows: usize,
}

/// The version of parameters that do not change.
const UNCHANGED: u64 = 0;

impl Model {
    /// A decoder that feeds an input step by step and returns an output of each step, both by name.
    ///
    /// # Errors
    /// Names that the model does not have; layers between them that need the whole sequence.
    pub fn decoder(&self, input: &str, output: &str) -> Result<Decoder> {
        let names: Vec<&str> = self.graph.inputs.iter().map(|input| input.name.as_str()).collect();
        let at = names.iter().position(|name| *name == input).ok_or_else(|| {
            Error::Config(format!("the model has no input \"{input}\"; its inputs are {}", names.join(", ")))
        })?;
        let cut = cut(&self.graph, at)?;
        let outputs = cut.step.output_names();
        let output = outputs.iter().position(|name| *name == output).ok_or_else(|| {
            Error::Config(format!(
                "no output \"{output}\" depends on input \"{input}\"; those that do are {}",
                outputs.join(", ")
            ))
        })?;
        let parameters = self.parameters.for_stream();
        Ok(Decoder { graph: self.graph.clone(), cut, input: at, output, device: self.device.clone(), parameters })
    }
}

impl Decoder {
    /// Begins to decode: runs what does not depend on the input that is fed, for all other inputs by name.
    ///
    /// # Errors
    /// Inputs that do not fit, sizes that the device cannot hold.
    ///
    /// ```
    /// use ndarray::{Array2, Array3, array};
    /// use wgpu_lstm::{Dense, Device, Inputs, Lstm, Network};
    /// let mut net = Network::new();
    /// let (past, previous) = (net.input("past", 1), net.input("previous", 1));
    /// let encoded = net.layer(Lstm::new(8)).of(past);
    /// let states = net.states(encoded);
    /// let hidden = net.layer(Lstm::new(8).return_sequences(true)).starts_from(states).of(previous);
    /// let next = net.layer(Dense::new(1)).of(hidden);
    /// let model = net.output("next", next).build(&Device::cpu(), 1)?;
    /// let decoder = model.decoder("previous", "next")?;
    /// let past = Array3::ones((2, 20, 1));
    /// let mut decoding = decoder.begin(Inputs::new().add("past", past.view()))?;
    /// let mut value = array![[1.0], [1.0]]; // [B, F]
    /// for _ in 0..5 {
    ///     value = decoding.feed(value.view())?; // what was predicted is the input of the next step
    /// }
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn begin<'a>(&self, inputs: impl Into<Inputs<'a>>) -> Result<Decoding> {
        wait::block_on(self.begin_async(inputs))
    }

    /// [`Decoder::begin`] for places that cannot block.
    pub async fn begin_async<'a>(&self, inputs: impl Into<Inputs<'a>>) -> Result<Decoding> {
        self.begin_copies(inputs.into(), 1).await
    }

    /// Begins to decode each sequence several times.
    async fn begin_copies(&self, inputs: Inputs<'_>, copies: usize) -> Result<Decoding> {
        let others = self.graph.input_data("", inputs, Some(self.input), self.device.host_threads())?;
        let rows = others.first().map_or(1, |input| input.x.dim().0) * copies;
        let parameters = self.parameters.now();
        let computed = self.compute_once(&parameters, &others).await?;
        let array = |crossing: Crossing| match crossing {
            Crossing::Input(k) => others[k].x.to_owned(),
            Crossing::Output(k) => computed[k].clone(),
        };
        let lengths: Vec<Option<Vec<usize>>> =
            self.cut.read.iter().map(|&(_, axis)| axis.and_then(|axis| self.lengths(&others, axis))).collect();
        let contexts: Vec<Array3<f32>> = self.cut.read.iter().map(|&(read, _)| repeated(array(read), copies)).collect();
        let steps = [1].into_iter().chain(contexts.iter().map(|context| context.dim().1)).collect();
        let ragged = lengths.iter().any(Option::is_some);
        let sizes = Batch::of(rows, steps).ragged(ragged);
        let make = |capabilities: &Capabilities| graph_plan(&self.cut.step, &sizes, Purpose::Stream, capabilities);
        let plan = self.device.plan(make).await?;
        let executable = self.device.compile_with(plan.plan.clone(), |name| parameters.tensor(name)).await?;
        for (sequence, context) in plan.inputs[1..].iter().zip(&contexts) {
            upload(&executable, sequence, Rows::all(context.view()))?;
        }
        write_words(&executable, &plan, [0; 2], rows, |axis| {
            let Some(k) = axis.checked_sub(1) else { return (None, 1) };
            let repeated =
                |own: &Vec<usize>| own.iter().flat_map(|&length| std::iter::repeat_n(length, copies)).collect();
            (lengths[k].as_ref().map(repeated), contexts[k].dim().1)
        })?;
        let (graph, output) = (self.cut.step.clone(), self.output);
        let decoding = Decoding { graph, plan, executable, _parameters: parameters, output, rows };
        for &(node, value, crossing) in &self.cut.starts {
            decoding.start(node, value, &repeated(array(crossing), copies))?;
        }
        Ok(decoding)
    }

    /// Runs what steps read.
    async fn compute_once(&self, parameters: &Parameters, others: &[InputData<'_>]) -> Result<Vec<Array3<f32>>> {
        let Some(graph) = &self.cut.once else { return Ok(Vec::new()) };
        let rows = others.first().map_or(1, |input| input.x.dim().0);
        let steps: Vec<usize> = others.iter().map(|input| input.x.dim().1).collect();
        let ragged = others.iter().any(|input| input.lengths.is_some());
        let sizes = Batch::of(rows, steps.clone()).ragged(ragged);
        let make = |capabilities: &Capabilities| graph_plan(graph, &sizes, Purpose::Predict, capabilities);
        let plan = self.device.plan(make).await?;
        let executable = self.device.compile_with(plan.plan.clone(), |name| parameters.tensor(name)).await?;
        for (sequence, input) in plan.inputs.iter().zip(others) {
            upload(&executable, sequence, Rows::all(input.x.view()))?;
        }
        let steps = graph.steps(&steps)?;
        let given: Vec<Option<&[usize]>> = others.iter().map(|input| input.lengths.as_deref()).collect();
        write_words(&executable, &plan, [0; 2], rows, |axis| (graph.lengths(axis, &given), steps[axis]))?;
        let mut outputs = vec![Array3::default((0, 0, 0)); plan.outputs.len()];
        let downloads = all_outputs(&plan, rows, &mut outputs)?;
        let done = executable.run_beginning(0).await?;
        let reading = executable.run_reading(done..executable.plan().commands.len(), downloads.places())?;
        downloads.fill(reading).await?;
        Ok(outputs)
    }

    /// Lengths along an axis of the whole graph.
    fn lengths(&self, others: &[InputData<'_>], axis: usize) -> Option<Vec<usize>> {
        let mut given: Vec<Option<&[usize]>> = others.iter().map(|input| input.lengths.as_deref()).collect();
        given.insert(self.input, None);
        self.graph.lengths(axis, &given)
    }

    /// Decodes each sequence by the most probable token of every step, from logits; returns the tokens without start and end.
    ///
    /// # Errors
    /// As [`Decoder::begin`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn greedy<'a>(&self, inputs: impl Into<Inputs<'a>>, decode: Decode) -> Result<Vec<Vec<u32>>> {
        wait::block_on(self.greedy_async(inputs, decode))
    }

    /// [`Decoder::greedy`] for places that cannot block.
    pub async fn greedy_async<'a>(&self, inputs: impl Into<Inputs<'a>>, decode: Decode) -> Result<Vec<Vec<u32>>> {
        let mut decoding = self.begin_async(inputs).await?;
        let mut tokens = vec![decode.start; decoding.rows];
        let mut all = vec![Vec::new(); decoding.rows];
        let mut ended = vec![false; decoding.rows];
        for _ in 0..decode.most {
            let logits = decoding.step_async(&tokens).await?;
            for (row, logits) in logits.rows().into_iter().enumerate() {
                tokens[row] = largest(logits.iter().copied());
                ended[row] |= tokens[row] == decode.end;
                if !ended[row] {
                    all[row].push(tokens[row]);
                }
            }
            if ended.iter().all(|&ended| ended) {
                break;
            }
        }
        Ok(all)
    }

    /// Decodes each sequence by beam search: the `width` most probable prefixes are kept at every step. Returns for each sequence at
    /// most `width` results, the most probable first.
    ///
    /// # Errors
    /// As [`Decoder::begin`]; a width of 0.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn beam<'a>(
        &self,
        inputs: impl Into<Inputs<'a>>,
        decode: Decode,
        width: usize,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        wait::block_on(self.beam_async(inputs, decode, width))
    }

    /// [`Decoder::beam`] for places that cannot block.
    pub async fn beam_async<'a>(
        &self,
        inputs: impl Into<Inputs<'a>>,
        decode: Decode,
        width: usize,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        if width == 0 {
            return Err(Error::Config("the width of the beam is 0; it must be at least 1".into()));
        }
        let mut decoding = self.begin_copies(inputs.into(), width).await?;
        let mut beams: Vec<Vec<Prefix>> = vec![vec![Prefix::default()]; decoding.rows / width];
        for _ in 0..decode.most {
            let tokens: Vec<u32> = beams.iter().flat_map(|beam| last_tokens(beam, decode.start, width)).collect();
            let logits = decoding.step_async(&tokens).await?;
            let mut rows = Vec::new();
            for (n, beam) in beams.iter_mut().enumerate() {
                *beam = extended(beam, |k| log_softmax(&logits, n * width + k), decode.end, width);
                rows.extend((0..width).map(|k| n * width + beam.get(k).map_or(0, |prefix| prefix.row)));
            }
            if beams.iter().flatten().all(|prefix| prefix.ended) {
                break;
            }
            decoding.reorder_async(&rows).await?;
        }
        let finished = |beam: Vec<Prefix>| {
            let hypothesis = |Prefix { tokens, score, .. }: Prefix| Hypothesis { tokens, log_probability: score };
            beam.into_iter().map(hypothesis).collect()
        };
        Ok(beams.into_iter().map(finished).collect())
    }
}

/// A prefix of a beam.
#[derive(Clone, Debug, Default)]
struct Prefix {
    tokens: Vec<u32>,
    /// Logarithm of its probability.
    score: f32,
    ended: bool,
    /// The row of the beam that it goes on from.
    row: usize,
}

/// The token that each row of a beam feeds next.
fn last_tokens(beam: &[Prefix], start: u32, width: usize) -> impl Iterator<Item = u32> {
    (0..width).map(move |k| beam.get(k).and_then(|prefix| prefix.tokens.last().copied()).unwrap_or(start))
}

/// The most probable prefixes that are one token longer; those that ended stay as they are.
fn extended(beam: &[Prefix], log_probabilities: impl Fn(usize) -> Vec<f32>, end: u32, width: usize) -> Vec<Prefix> {
    let mut all: Vec<Prefix> = Vec::new();
    for (row, prefix) in beam.iter().enumerate() {
        if prefix.ended {
            all.push(Prefix { row, ..prefix.clone() });
            continue;
        }
        let mut next: Vec<(u32, f32)> = (0..).zip(log_probabilities(row)).collect();
        // No more than `width` of them can be among the best.
        next.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (token, log_probability) in next.into_iter().take(width) {
            let ended = token == end;
            let mut tokens = prefix.tokens.clone();
            if !ended {
                tokens.push(token);
            }
            all.push(Prefix { tokens, score: prefix.score + log_probability, ended, row });
        }
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(width);
    all
}

/// Logarithms of the probabilities that logits stand for.
fn log_softmax(logits: &Array2<f32>, row: usize) -> Vec<f32> {
    let logits = logits.row(row);
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|&logit| (logit - most).exp()).sum();
    logits.iter().map(|&logit| logit - most - sum.ln()).collect()
}

/// Index of the largest number, the first of equal ones.
fn largest(values: impl Iterator<Item = f32>) -> u32 {
    let best = (0..)
        .zip(values)
        .fold((0, f32::NEG_INFINITY), |best, (at, value)| if value > best.1 { (at, value) } else { best });
    best.0
}

/// Each sequence several times in a row.
fn repeated(array: Array3<f32>, copies: usize) -> Array3<f32> {
    if copies == 1 {
        return array;
    }
    let rows: Vec<usize> = (0..array.dim().0).flat_map(|n| std::iter::repeat_n(n, copies)).collect();
    array.select(Axis(0), &rows)
}

impl Decoding {
    /// Number of sequences, B.
    pub fn batch(&self) -> usize {
        self.rows
    }

    /// Feeds a token of each sequence, `[B]`, and returns the output of this step, [B, F]: logits of the next token, if the model was
    /// trained so.
    ///
    /// # Errors
    /// Tokens that are too many, too few or in no table; a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step(&mut self, tokens: &[u32]) -> Result<Array2<f32>> {
        wait::block_on(self.step_async(tokens))
    }

    /// [`Decoding::step`] for places that cannot block.
    pub async fn step_async(&mut self, tokens: &[u32]) -> Result<Array2<f32>> {
        let values: Vec<f32> = tokens.iter().map(|&token| token as f32).collect();
        let values =
            Array2::from_shape_vec((tokens.len(), 1), values).map_err(|error| Error::Shape(error.to_string()))?;
        self.feed_async(values.view()).await
    }

    /// Feeds a step of numbers, [B, I], and returns the output of this step, [B, F].
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn feed(&mut self, x: ArrayView2<f32>) -> Result<Array2<f32>> {
        wait::block_on(self.feed_async(x))
    }

    /// [`Decoding::feed`] for places that cannot block.
    pub async fn feed_async(&mut self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let features = self.graph.inputs[0].features;
        if x.dim() != (self.rows, features) {
            return Err(Error::Shape(format!(
                "the decoding is fed [B, I] = {:?}; it has B = {} sequences of I = {features} features",
                x.shape(),
                self.rows
            )));
        }
        finite("the decoding's input", "[sequence, feature]", &x)?;
        let x = x.insert_axis(Axis(0)); // [1, B, I]
        self.graph.check_indices(0, "the decoding's input", &x.permuted_axes([1, 0, 2]))?;
        upload(&self.executable, &self.plan.inputs[0], Rows::by_time(x))?;
        let Decoding { executable, plan, output, rows, .. } = self;
        let mut y = Array3::default((0, 0, 0));
        let mut downloads = Downloads::new();
        downloads.add(&plan.outputs[*output].y, *rows, Order::Batch, &mut y)?;
        let done = executable.run_slices(executable.first_for(UNCHANGED)..executable.traceless()).await?;
        let reading = executable.run_reading(done..executable.plan().commands.len(), downloads.places())?;
        executable.ran_for(UNCHANGED);
        downloads.fill(reading).await?;
        Ok(y.index_axis_move(Axis(1), 0))
    }

    /// Another output of the last step, [B, T, F]; T is 1, or that of what the step read.
    ///
    /// # Errors
    /// An output that does not depend on what is fed; a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn output(&self, name: &str) -> Result<Array3<f32>> {
        let names = self.graph.output_names();
        let k = names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| Error::Config(format!("a step has no output \"{name}\"; it has {}", names.join(", "))))?;
        wait::block_on(self.read(k))
    }

    async fn read(&self, k: usize) -> Result<Array3<f32>> {
        read_sequence(&self.executable, &self.plan.outputs[k].y, self.rows).await
    }

    /// Has sequence b go on from the states of sequence `rows[b]`.
    ///
    /// # Errors
    /// Rows that are too many, too few or do not exist; a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn reorder(&mut self, rows: &[usize]) -> Result<()> {
        wait::block_on(self.reorder_async(rows))
    }

    /// [`Decoding::reorder`] for places that cannot block.
    pub async fn reorder_async(&mut self, rows: &[usize]) -> Result<()> {
        if rows.len() != self.rows || rows.iter().any(|&row| row >= self.rows) {
            return Err(Error::Shape(format!(
                "{} rows were given for B = {} sequences, 0 to {}",
                rows.len(),
                self.rows,
                self.rows - 1
            )));
        }
        for &id in &self.plan.states {
            let len = self.plan.plan.buffers[id.0].len;
            let parts = self.parts(id)?;
            let width = len as usize / parts / self.rows;
            let old = self.executable.read_async((id, 0), len).await?;
            let mut new = memory::zeros(len as usize, "states")?;
            for (part, row) in (0..parts).flat_map(|part| (0..self.rows).map(move |row| (part, row))) {
                let (to, from) = (part * self.rows + row, part * self.rows + rows[row]);
                new[to * width..][..width].copy_from_slice(&old[from * width..][..width]);
            }
            self.executable.write((id, 0), &new)?;
        }
        Ok(())
    }

    /// Parts [B, width] of a state's buffer.
    fn parts(&self, id: BufferId) -> Result<usize> {
        let slots = self.graph.nodes.iter().flat_map(Node::states);
        let mut slots = self.plan.states.iter().zip(slots);
        let slot = slots.find(|(state, _)| **state == id).map(|(_, slot)| slot);
        slot.map(|slot| slot.planes * slot.directions).ok_or_else(|| Error::Plan("a state of no layer".into()))
    }

    /// Sets a state of a node to [B, 1, width].
    fn start(&self, node: usize, value: usize, from: &Array3<f32>) -> Result<()> {
        let first: usize = self.graph.nodes[..node].iter().map(|node| node.states().len()).sum();
        let own = self.graph.nodes[node].states();
        let value = &self.graph.nodes[node].state_values()[value];
        let values: Vec<f32> = from.iter().copied().collect();
        // A state that repeats h begins as h does.
        let repeats = own.get(value.slot + 1).is_some_and(|slot| slot.repeats_h);
        for slot in value.slot..=value.slot + repeats as usize {
            let at = value.part * self.rows * value.width;
            self.executable.write((self.plan.states[first + slot], at as u64), &values)?;
        }
        Ok(())
    }
}
