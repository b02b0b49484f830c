//! Stateful inference, step by step.

use super::cache::{Compiled, Plans};
use super::parameters::{SharedParameters, Version};
use crate::device::{Device, Tensor};
use crate::error::{Error, Result};
use crate::layer::StateSlot;
use crate::network::{Batch, Graph, NetworkPlan, Purpose, check_carried, graph_plan};
use crate::plan::{Buffer, BufferId};
use crate::transfer::{Order, download, finite, not_empty, upload};
use crate::wait;
use ndarray::{Array3, ArrayView3};

/// The state of one stream: a pair (h, c) for each LSTM layer from the bottom up, of K and H numbers. A cell with several states
/// beside h has them one after the other in the place of c; a GRU has its state in both.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    /// Hidden states.
    pub h: Vec<Vec<f32>>,
    /// Cell states.
    pub c: Vec<Vec<f32>>,
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
    /// States of each LSTM layer.
    states: Vec<State>,
    plans: Plans<usize, NetworkPlan>,
}

#[derive(Debug)]
struct State {
    h: StateTensor,
    c: StateTensor,
}

/// A tensor [planes, B, width], with its name in plans.
#[derive(Debug)]
struct StateTensor {
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
        let slots = graph.nodes.iter().flat_map(|node| node.layer.operator().states());
        let slots: Vec<StateSlot> = slots.collect();
        for (&[h, c], &[_, of_c]) in plan.states.as_chunks().0.iter().zip(slots.as_chunks().0) {
            let tensor = async |id: BufferId, planes: usize| {
                let Buffer { name, len, .. } = &plan.plan.buffers[id.0];
                let tensor = device.tensor(name, *len).await?;
                let width = *len as usize / batch / planes;
                Ok::<_, Error>(StateTensor { name: name.clone(), tensor, planes, batch, width })
            };
            states.push(State { h: tensor(h, 1).await?, c: tensor(c, of_c.planes).await? });
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
    /// step.
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, steps that the model masks, a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn feed(&mut self, x: ArrayView3<f32>) -> Result<Array3<f32>> {
        wait::block_on(self.feed_async(x))
    }

    /// [`Stream::feed`] for places that cannot block.
    pub async fn feed_async(&mut self, x: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
        let (batch, steps, features) = x.dim();
        if batch != self.batch || features != self.graph.inputs[0].features {
            return Err(Error::Shape(format!(
                "the stream is fed [B, T, I] = {:?}; it has B = {} streams of I = {} features",
                x.shape(),
                self.batch,
                self.graph.inputs[0].features
            )));
        }
        not_empty("the stream's input", "[B, T, I]", x.shape())?;
        finite("the stream's input", "[stream, step, feature]", &x)?;
        self.graph.check_indices(0, "the stream's input", &x)?;
        if let Some((stream, &step)) = (self.graph.lengths_of(0, "the stream's input", &x, None)?.iter().flatten())
            .enumerate()
            .find(|&(_, &length)| length < steps)
        {
            return Err(Error::Config(format!(
                "the stream's input is masked at [stream, step] = [{stream}, {step}]; a stream has no padding, feed only \
                 unmasked steps"
            )));
        }
        let lease = loop {
            let Version { tensors, numbers } = self.parameters.version();
            if tensors != self.tensors {
                self.plans.forget(|_| true);
                self.tensors = tensors;
            }
            let compiled = match self.plans.take(&steps) {
                Some(compiled) => compiled,
                None => self.compile(steps).await?,
            };
            let Compiled { plan, executable } = &compiled;
            upload(executable, plan.x(), x.permuted_axes([1, 0, 2]))?;
            let done = executable.run_slices(0..executable.traceless()).await?;
            // The whole run uses the same parameters, and advances the states once.
            let current = self.parameters.read();
            if current.version.tensors == tensors {
                let done = if current.version.numbers == numbers { done } else { 0 };
                executable.run_range(done..executable.plan().commands.len())?;
                drop(current);
                break self.plans.lend(steps, compiled);
            }
        };
        let mut y = Array3::default((0, 0, 0));
        download(&lease.executable, lease.plan.y(), batch, Order::Batch, &mut y).await?;
        Ok(y)
    }

    async fn compile(&self, steps: usize) -> Result<Compiled<NetworkPlan>> {
        let plan =
            graph_plan(&self.graph, &Batch::new(self.batch, steps), Purpose::Stream, self.device.capabilities())?;
        let shared = |name: &str| {
            let mut states = self.states.iter().flat_map(|state| [&state.h, &state.c]);
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
        let (mut h, mut c) = (Vec::new(), Vec::new());
        for state in &self.states {
            h.push(state.h.read(stream).await?);
            c.push(state.c.read(stream).await?);
        }
        Ok(StreamState { h, c })
    }

    /// Replaces the state of one stream.
    ///
    /// # Errors
    /// An index beyond B; sizes that are not the model's; numbers that are not finite.
    pub fn set_state(&mut self, stream: usize, given: &StreamState) -> Result<()> {
        self.check(stream)?;
        let widths = |tensor: fn(&State) -> &StateTensor| self.states.iter().map(|state| tensor(state).len()).collect();
        let expected: [Vec<usize>; 2] = [widths(|state| &state.h), widths(|state| &state.c)];
        for ((kind, values), expected) in [("h", &given.h), ("c", &given.c)].into_iter().zip(expected) {
            let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
            if sizes != expected {
                return Err(Error::Shape(format!(
                    "state {kind} has {sizes:?} units by layer, the model has {expected:?}"
                )));
            }
            for (layer, values) in values.iter().enumerate() {
                finite(&format!("state {kind} of layer {layer}"), "[unit]", &ndarray::ArrayView1::from(values))?;
            }
        }
        for ((state, h), c) in self.states.iter().zip(&given.h).zip(&given.c) {
            state.h.write(stream, h);
            state.c.write(stream, c);
        }
        Ok(())
    }

    /// Sets the state of one stream to zero.
    ///
    /// # Errors
    /// An index beyond B.
    pub fn reset(&mut self, stream: usize) -> Result<()> {
        let zeros = |tensor: fn(&State) -> &StateTensor| {
            self.states.iter().map(|state| vec![0.0; tensor(state).len()]).collect()
        };
        let zeros = StreamState { h: zeros(|state| &state.h), c: zeros(|state| &state.c) };
        self.set_state(stream, &zeros)
    }

    /// Sets the states of all streams to zero.
    pub fn reset_all(&mut self) {
        for tensor in self.states.iter().flat_map(|state| [&state.h.tensor, &state.c.tensor]) {
            tensor.clear();
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
