//! Stateful inference, step by step.

use crate::cache::Plans;
use crate::device::{Device, Tensor};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::schedule::{LayerPlan, NetworkPlan, Purpose, network};
use crate::transfer::{Order, download, finite, not_empty, upload};
use ndarray::{Array3, ArrayView3};
use std::collections::HashMap;

/// The state of one stream: a pair (h, c) for each LSTM layer from the bottom up, each H long.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    /// Hidden states.
    pub h: Vec<Vec<f32>>,
    /// Cell states.
    pub c: Vec<Vec<f32>>,
}

/// A session that remembers: feed it one step or a chunk at a time for B streams; the states stay on the device.
/// Feeding a sequence in pieces gives what feeding it at once gives. Made by [`Model::stream`](crate::Model::stream);
/// it shares the model's parameters, as they are when it is fed.
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
    layers: Vec<LayerPlan>,
    input: usize,
    batch: usize,
    device: Device,
    weights: HashMap<String, Tensor>,
    /// Names and tensors (h, c) [B, H] of each LSTM layer, with H.
    states: Vec<State>,
    plans: Plans<(), NetworkPlan>,
}

#[derive(Debug)]
struct State {
    hidden: usize,
    h: (String, Tensor),
    c: (String, Tensor),
}

impl Stream {
    pub(crate) async fn new(
        layers: &[LayerPlan],
        input: usize,
        device: &Device,
        weights: impl Fn(&str) -> Option<Tensor>,
        batch: usize,
    ) -> Result<Stream> {
        // The plan names the buffers that it shares: weights and states.
        for LayerPlan { name, layer, .. } in layers {
            if let Layer::Lstm(lstm) = layer
                && lstm.directions() == 2
            {
                return Err(Error::Config(format!(
                    "{name} is bidirectional: its reverse direction needs the whole sequence, so it cannot stream; use predict"
                )));
            }
        }
        let plan = network(layers, batch, 1, Purpose::Stream, device.capabilities())?;
        let weights =
            plan.plan.buffers.iter().filter_map(|buffer| Some((buffer.name.clone(), weights(&buffer.name)?))).collect();
        let mut states = Vec::new();
        for &(h, c) in &plan.states {
            let (h, c) = (&plan.plan.buffers[h.0], &plan.plan.buffers[c.0]);
            states.push(State {
                hidden: h.len as usize / batch,
                h: (h.name.clone(), device.tensor(&h.name, h.len).await?),
                c: (c.name.clone(), device.tensor(&c.name, c.len).await?),
            });
        }
        Ok(Stream {
            layers: layers.to_vec(),
            input,
            batch,
            device: device.clone(),
            weights,
            states,
            plans: Plans::new(),
        })
    }

    /// Feeds x [B, T, I] and returns the output of these steps, [B, T, F]; [B, 1, F] for a model that returns the last
    /// step.
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, a device that failed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn feed(&mut self, x: ArrayView3<f32>) -> Result<Array3<f32>> {
        pollster::block_on(self.feed_async(x))
    }

    /// [`Stream::feed`] for places that cannot block.
    pub async fn feed_async(&mut self, x: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
        let (batch, steps, features) = x.dim();
        if batch != self.batch || features != self.input {
            return Err(Error::Shape(format!(
                "the stream is fed [B, T, I] = {:?}; it has B = {} streams of I = {} features",
                x.shape(),
                self.batch,
                self.input
            )));
        }
        not_empty("the stream's input", "[B, T, I]", x.shape())?;
        finite("the stream's input", "[stream, step, feature]", &x)?;
        if !self.plans.has((), steps, batch) {
            let plan = network(&self.layers, batch, steps, Purpose::Stream, self.device.capabilities())?;
            let executable = self.device.compile_with(plan.plan.clone(), |name| self.shared(name)).await?;
            self.plans.keep((), steps, batch, plan, executable);
        }
        let (plan, executable) = self.plans.get((), steps, batch)?;
        upload(executable, &plan.x, x.permuted_axes([1, 0, 2]))?;
        executable.run()?;
        let mut y = Array3::default((0, 0, 0));
        download(executable, &plan.y, batch, Order::Batch, &mut y).await?;
        Ok(y)
    }

    fn shared(&self, name: &str) -> Option<Tensor> {
        let mut states = self.states.iter().flat_map(|state| [&state.h, &state.c]);
        let state = states.find(|(known, _)| known == name).map(|(_, tensor)| tensor.clone());
        state.or_else(|| self.weights.get(name).cloned())
    }

    /// Streams B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The state of one stream.
    ///
    /// # Errors
    /// An index beyond B; a device that failed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn state(&self, stream: usize) -> Result<StreamState> {
        pollster::block_on(self.state_async(stream))
    }

    /// [`Stream::state`] for places that cannot block.
    pub async fn state_async(&self, stream: usize) -> Result<StreamState> {
        self.check(stream)?;
        let (mut h, mut c) = (Vec::new(), Vec::new());
        for state in &self.states {
            let range = (stream * state.hidden) as u64..((stream + 1) * state.hidden) as u64;
            h.push(state.h.1.read(range.clone()).await?);
            c.push(state.c.1.read(range).await?);
        }
        Ok(StreamState { h, c })
    }

    /// Replaces the state of one stream.
    ///
    /// # Errors
    /// An index beyond B; sizes that are not the model's; numbers that are not finite.
    pub fn set_state(&mut self, stream: usize, given: &StreamState) -> Result<()> {
        self.check(stream)?;
        let expected: Vec<usize> = self.states.iter().map(|state| state.hidden).collect();
        for (kind, values) in [("h", &given.h), ("c", &given.c)] {
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
            state.h.1.write((stream * state.hidden) as u64, h);
            state.c.1.write((stream * state.hidden) as u64, c);
        }
        Ok(())
    }

    /// Sets the state of one stream to zero.
    ///
    /// # Errors
    /// An index beyond B.
    pub fn reset(&mut self, stream: usize) -> Result<()> {
        let zeros: Vec<Vec<f32>> = self.states.iter().map(|state| vec![0.0; state.hidden]).collect();
        self.set_state(stream, &StreamState { h: zeros.clone(), c: zeros })
    }

    /// Sets the states of all streams to zero.
    pub fn reset_all(&mut self) {
        for tensor in self.states.iter().flat_map(|state| [&state.h.1, &state.c.1]) {
            tensor.write(0, &vec![0.0; tensor.len as usize]);
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
