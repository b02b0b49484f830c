//! Stateful inference, step by step.

use super::cache::{Compiled, Plans};
use super::data::InputData;
use super::given::Inputs;
use super::parameters::{SharedParameters, Version};
use super::tensors::all_outputs;
use crate::device::{Device, Tensor};
use crate::error::{Error, Result};
use crate::layer::StateSlot;
use crate::network::{Batch, Graph, NetworkPlan, Node, Purpose, check_carried, graph_plan};
use crate::plan::{Buffer, Capabilities};
use crate::transfer::{Rows, finite, upload};
use crate::wait;
use ndarray::Array3;
use std::collections::BTreeMap;

/// The state of one stream: a pair (h, c) for each LSTM layer from the bottom up, of K and H numbers, and a tail for each causal
/// convolution. A cell with several states beside h has them one after the other in the place of c; a GRU has its state in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamState {
    /// Hidden states.
    pub h: Vec<Vec<f32>>,
    /// Cell states.
    pub c: Vec<Vec<f32>>,
    /// The last steps of the inputs of convolutions, from the earliest.
    pub tails: Vec<Vec<f32>>,
}

/// The kind of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateKind {
    Hidden,
    Cell,
    Tail,
}

impl StateKind {
    const ALL: [StateKind; 3] = [StateKind::Hidden, StateKind::Cell, StateKind::Tail];

    fn of(slot: &StateSlot) -> StateKind {
        match slot.name {
            "h" => StateKind::Hidden,
            "tail" => StateKind::Tail,
            _ => StateKind::Cell,
        }
    }

    fn name(self) -> &'static str {
        match self {
            StateKind::Hidden => "h",
            StateKind::Cell => "c",
            StateKind::Tail => "tail",
        }
    }

    /// The states of this kind.
    fn among(self, state: &StreamState) -> &Vec<Vec<f32>> {
        match self {
            StateKind::Hidden => &state.h,
            StateKind::Cell => &state.c,
            StateKind::Tail => &state.tails,
        }
    }

    fn among_mut(self, state: &mut StreamState) -> &mut Vec<Vec<f32>> {
        match self {
            StateKind::Hidden => &mut state.h,
            StateKind::Cell => &mut state.c,
            StateKind::Tail => &mut state.tails,
        }
    }
}

/// Stateful inference: takes one step or several at a time for B streams, and keeps their states on the device. Feeding a sequence in
/// parts gives the same output as feeding it at once. Made by [`Model::stream`](crate::Model::stream) or
/// [`LstmLayer::stream`](crate::LstmLayer::stream). It shares the parameters of that model or layer, with their values at each call
/// of [`Stream::feed`], and not those of its clones.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(2)).build(&Device::cpu(), 1)?;
/// let mut stream = model.stream(4)?; // B = 4
/// let y = stream.feed(Array3::zeros((4, 1, 3)).view())?; // one step
/// assert_eq!(y.dim(), (4, 1, 2));
/// let saved = stream.state(2)?;
/// stream.reset(2)?;
/// stream.set_state(2, &saved)?;
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    graph: Graph,
    batch: usize,
    device: Device,
    parameters: SharedParameters,
    /// The version of the tensors that the plans are bound to.
    tensors: u64,
    states: Vec<StateTensor>,
    plans: Plans<Vec<usize>, NetworkPlan>,
}

/// A tensor [planes, B, width], with its name in plans.
#[derive(Debug)]
struct StateTensor {
    kind: StateKind,
    name: String,
    tensor: Tensor,
    planes: usize,
    batch: usize,
    width: usize,
}

impl StateTensor {
    /// Number of elements of a stream.
    fn len(&self) -> usize {
        self.planes * self.width
    }

    /// The first element of a stream in each plane.
    fn rows(&self, stream: usize) -> impl Iterator<Item = u64> {
        let (batch, width) = (self.batch, self.width);
        (0..self.planes).map(move |plane| ((plane * batch + stream) * width) as u64)
    }

    async fn read(&self, stream: usize) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for first in self.rows(stream) {
            all.extend(self.tensor.read(first..first + self.width as u64).await?);
        }
        Ok(all)
    }

    fn write(&self, stream: usize, values: &[f32]) {
        for (first, values) in self.rows(stream).zip(values.chunks(self.width)) {
            self.tensor.write(first, values);
        }
    }
}

impl Stream {
    pub(crate) async fn new(
        graph: &Graph,
        device: &Device,
        parameters: SharedParameters,
        batch: usize,
    ) -> Result<Stream> {
        check_carried(&graph.nodes, "stream; use predict")?;
        // The plan has the names of the states.
        let plan = graph_plan(graph, &Batch::new(batch, 1), Purpose::Stream, device.capabilities())?;
        let mut states = Vec::new();
        let slots: Vec<StateSlot> = graph.nodes.iter().flat_map(Node::states).collect();
        for (id, slot) in plan.states.iter().zip(&slots) {
            let Buffer { name, len, .. } = &plan.plan.buffers[id.0];
            let tensor = device.tensor(name, *len).await?;
            let width = slot.features / slot.planes;
            let (kind, name) = (StateKind::of(slot), name.clone());
            states.push(StateTensor { kind, name, tensor, planes: slot.planes, batch, width });
        }
        let tensors = parameters.version().tensors;
        Ok(Stream {
            graph: graph.clone(),
            batch,
            device: device.clone(),
            tensors,
            parameters,
            states,
            plans: Plans::new(),
        })
    }

    /// Feeds x [B, T, I] and returns the output of these steps, [B, T, F]; [B, 1, F] for a model that returns the last
    /// step. A model of several inputs is fed by name ([`Inputs`]).
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, steps that the model masks, a device failure; a model of several outputs.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn feed<'a>(&mut self, x: impl Into<Inputs<'a>>) -> Result<Array3<f32>> {
        wait::block_on(self.feed_async(x))
    }

    /// [`Stream::feed`] for places that cannot block.
    pub async fn feed_async<'a>(&mut self, x: impl Into<Inputs<'a>>) -> Result<Array3<f32>> {
        if self.graph.outputs.len() != 1 {
            return Err(Error::Config(format!(
                "the stream has the outputs {}; call Stream::outputs, which returns all of them",
                self.graph.output_names().join(", ")
            )));
        }
        Ok(self.fed(x.into()).await?.remove(0))
    }

    /// Feeds steps as [`Stream::feed`] and returns all outputs by name, [B, T, F] each.
    ///
    /// # Errors
    /// As [`Stream::feed`].
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Add, Dense, Device, Inputs, Lstm, Network};
    /// let mut net = Network::new();
    /// let (x, price) = (net.input("x", 3), net.input("price", 1));
    /// let hidden = net.layer(Lstm::new(8).return_sequences(true)).of(x);
    /// let change = net.layer(Dense::new(1)).of(hidden);
    /// let next = net.layer(Add::new(2)).of([price, change]);
    /// let model = net.output("change", change).output("next", next).build(&Device::cpu(), 1)?;
    /// let mut stream = model.stream(2)?; // B = 2
    /// let (x, price) = (Array3::zeros((2, 1, 3)), Array3::ones((2, 1, 1))); // one step
    /// let outputs = stream.outputs(Inputs::new().add("x", x.view()).add("price", price.view()))?;
    /// assert_eq!(outputs["next"], &outputs["change"] + &price);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn outputs<'a>(&mut self, x: impl Into<Inputs<'a>>) -> Result<BTreeMap<String, Array3<f32>>> {
        wait::block_on(self.outputs_async(x))
    }

    /// [`Stream::outputs`] for places that cannot block.
    pub async fn outputs_async<'a>(&mut self, x: impl Into<Inputs<'a>>) -> Result<BTreeMap<String, Array3<f32>>> {
        let arrays = self.fed(x.into()).await?;
        Ok(self.graph.outputs.iter().map(|output| output.name.clone()).zip(arrays).collect())
    }

    /// Refuses inputs of another B, lengths, and masked steps.
    fn check_fed(&self, fed: &[InputData]) -> Result<()> {
        for (k, InputData { x, lengths }) in fed.iter().enumerate() {
            let (batch, steps, _) = x.dim();
            if batch != self.batch {
                return Err(Error::Shape(format!(
                    "the stream is fed [B, T, I] = {:?}; it has B = {} streams of I = {} features",
                    x.shape(),
                    self.batch,
                    self.graph.inputs[k].features
                )));
            }
            let mut lengths = lengths.iter().flatten().enumerate();
            if let Some((stream, step)) = lengths.find(|&(_, &length)| length < steps) {
                return Err(Error::Config(format!(
                    "the stream's input is masked at [stream, step] = [{stream}, {step}]; a stream has no padding, feed only \
                     unmasked steps"
                )));
            }
        }
        Ok(())
    }

    /// The outputs of some steps.
    async fn fed(&mut self, inputs: Inputs<'_>) -> Result<Vec<Array3<f32>>> {
        let fed = self.graph.input_data("the stream's ", inputs, None, self.device.host_threads())?;
        self.check_fed(&fed)?;
        let steps: Vec<usize> = fed.iter().map(|input| input.x.dim().1).collect();
        self.graph.check_steps(&steps)?;
        loop {
            let Version { tensors, numbers } = self.parameters.version();
            if tensors != self.tensors {
                self.plans.forget(|_| true);
                self.tensors = tensors;
            }
            let compiled = match self.plans.take(&steps) {
                Some(compiled) => compiled,
                None => self.compile(&steps).await?,
            };
            let lease = self.plans.lend(steps.clone(), compiled);
            let Compiled { plan, executable } = &*lease;
            for (sequence, input) in plan.inputs.iter().zip(&fed) {
                upload(executable, sequence, Rows::all(input.x.view()))?;
            }
            let mut outputs = vec![Array3::default((0, 0, 0)); plan.outputs.len()];
            let downloads = all_outputs(plan, self.batch, &mut outputs)?;
            let first = executable.first_for(numbers);
            let done = executable.run_slices(first..executable.traceless()).await?;
            // The whole run uses the same parameters, and advances the states once.
            let reading = {
                let current = self.parameters.read();
                if current.version.tensors != tensors {
                    continue;
                }
                let done = if current.version.numbers == numbers { done } else { 0 };
                let all = executable.plan().commands.len();
                let reading = executable.run_reading(done..all, downloads.places())?;
                executable.ran_for(current.version.numbers);
                reading
            };
            downloads.fill(reading).await?;
            return Ok(outputs);
        }
    }

    async fn compile(&self, steps: &[usize]) -> Result<Compiled<NetworkPlan>> {
        let sizes = Batch::of(self.batch, steps.to_vec());
        let make = |capabilities: &Capabilities| graph_plan(&self.graph, &sizes, Purpose::Stream, capabilities);
        let plan = self.device.plan(make).await?;
        let shared = |name: &str| {
            let mut states = self.states.iter();
            let state = states.find(|state| state.name == name).map(|state| state.tensor.clone());
            state.or_else(|| self.parameters.tensor(name))
        };
        let executable = self.device.compile_with(plan.plan.clone(), shared).await?;
        Ok(Compiled { plan, executable })
    }

    /// Keeps the compiled plans of at most `most` values of T, 8 by default; see [`Model::plan_cache`](crate::Model::plan_cache).
    pub fn plan_cache(&mut self, most: usize) {
        self.plans.set_most(most);
    }

    /// Number of streams, B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The state of one stream.
    ///
    /// # Errors
    /// An index beyond B; a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn state(&self, stream: usize) -> Result<StreamState> {
        wait::block_on(self.state_async(stream))
    }

    /// [`Stream::state`] for places that cannot block.
    pub async fn state_async(&self, stream: usize) -> Result<StreamState> {
        self.check(stream)?;
        let mut all = StreamState::default();
        for state in &self.states {
            state.kind.among_mut(&mut all).push(state.read(stream).await?);
        }
        Ok(all)
    }

    /// Replaces the state of one stream.
    ///
    /// # Errors
    /// An index beyond B; sizes that are not the model's; numbers that are not finite.
    pub fn set_state(&mut self, stream: usize, given: &StreamState) -> Result<()> {
        self.check(stream)?;
        for kind in StateKind::ALL {
            let (name, values) = (kind.name(), kind.among(given));
            let own = self.states.iter().filter(|state| state.kind == kind);
            let expected: Vec<usize> = own.map(StateTensor::len).collect();
            let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
            if sizes != expected {
                return Err(Error::Shape(format!(
                    "state {name} has {sizes:?} units by layer, the model has {expected:?}"
                )));
            }
            for (layer, values) in values.iter().enumerate() {
                finite(&format!("state {name} of layer {layer}"), "[unit]", &ndarray::ArrayView1::from(values))?;
            }
        }
        for kind in StateKind::ALL {
            for (state, values) in self.states.iter().filter(|state| state.kind == kind).zip(kind.among(given)) {
                state.write(stream, values);
            }
        }
        Ok(())
    }

    /// Sets the state of one stream to zero.
    ///
    /// # Errors
    /// An index beyond B.
    pub fn reset(&mut self, stream: usize) -> Result<()> {
        let mut zeros = StreamState::default();
        for state in &self.states {
            state.kind.among_mut(&mut zeros).push(vec![0.0; state.len()]);
        }
        self.set_state(stream, &zeros)
    }

    /// Sets the states of all streams to zero.
    pub fn reset_all(&mut self) {
        for state in &self.states {
            state.tensor.clear();
        }
    }

    fn check(&self, stream: usize) -> Result<()> {
        if stream >= self.batch {
            return Err(Error::Shape(format!(
                "stream {stream} does not exist; there are {} (0 to {})",
                self.batch,
                self.batch - 1
            )));
        }
        Ok(())
    }
}
