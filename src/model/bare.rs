//! A bare LSTM on a device: forward, and all gradients for given gradients of its output.

use super::Stream;
use super::cache::{Compiled, Lease, Plans};
use super::parameters::{Parameters, SharedParameters, read_parts};
use crate::device::{Device, Executable, Place, Reading};
use crate::error::{Error, Result};
use crate::layer::{Gru, HostTensor, IndRnn, Lstm, MinLstm, Rnn, SLstm};
use crate::memory;
use crate::network::{AsGraph, Batch, GradientPlan, NetworkPlan, Node, Purpose, gradients, network};
use crate::plan::{BufferId, Capabilities, Plan};
use crate::transfer::{Downloads, Order, Rows, finite, finite_by, key_and_lengths, not_empty, shaped, upload, write};
use crate::wait;
use ndarray::{Array3, ArrayD, ArrayView3, IxDyn, s};
use std::collections::BTreeMap;

impl Lstm {
    /// Puts an LSTM for `input` features on a device, its weights drawn by `seed`.
    ///
    /// # Errors
    /// A size that is 0, or weights that the device cannot bind.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build(self, device: &Device, input: usize, seed: u64) -> Result<LstmLayer> {
        wait::block_on(LstmLayer::new(self, device, input, seed))
    }

    /// Puts the LSTM on a device with parameters as [`LstmLayer::set_parameters`] takes them, without drawing any.
    ///
    /// # Errors
    /// As [`Lstm::build`] and [`LstmLayer::set_parameters`].
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let first = Lstm::new(4).build(&Device::cpu(), 3, 1)?;
    /// let second = Lstm::new(4).build_with(&Device::cpu(), 3, first.parameters()?)?;
    /// assert_eq!(first.parameters()?, second.parameters()?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build_with(
        self,
        device: &Device,
        input: usize,
        parameters: BTreeMap<String, ArrayD<f32>>,
    ) -> Result<LstmLayer> {
        wait::block_on(LstmLayer::with_parameters(self, device, input, parameters))
    }

    /// The plan of a forward pass over B sequences of T steps, for inspection.
    ///
    /// # Errors
    /// A size that is 0, or sizes that do not fit the capabilities.
    pub fn plan(&self, input: usize, batch: usize, steps: usize, capabilities: &Capabilities) -> Result<Plan> {
        let nodes = [node(self, input)];
        Ok(network(&nodes, Batch::new(batch, steps), Purpose::Predict, capabilities)?.plan)
    }
}

/// Implements `build` and `build_with` for layers that wrap an [`Lstm`] of another cell.
macro_rules! build {
    ($($name:ident),*) => {
        $(impl $name {
            /// Puts a layer for `input` features on a device; see [`Lstm::build`].
            ///
            /// # Errors
            /// As [`Lstm::build`].
            #[cfg(not(target_arch = "wasm32"))]
            pub fn build(self, device: &Device, input: usize, seed: u64) -> Result<LstmLayer> {
                Lstm::from(self).build(device, input, seed)
            }

            /// Puts a layer with the given parameters on a device; see [`Lstm::build_with`].
            ///
            /// # Errors
            /// As [`Lstm::build_with`].
            #[cfg(not(target_arch = "wasm32"))]
            pub fn build_with(
                self,
                device: &Device,
                input: usize,
                parameters: BTreeMap<String, ArrayD<f32>>,
            ) -> Result<LstmLayer> {
                Lstm::from(self).build_with(device, input, parameters)
            }
        })*
    };
}

build!(Gru, Rnn, IndRnn, MinLstm, SLstm);

/// Hidden and cell states, in PyTorch's order (layer 0 forward, layer 0 reverse, layer 1 ...).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LstmState {
    /// Hidden state, [L·D, B, K]; K is H, or P if it is projected.
    pub h: Array3<f32>,
    /// Cell state, [L·D, B, H]; [L·D, B, 0] for a cell that has none, such as a GRU. [L·S·D, B, H] for a cell with S states beside h:
    /// for each layer its states in order (c, n and m for an sLSTM), each with all directions.
    pub c: Array3<f32>,
}

impl LstmState {
    /// Zeros, as at the start of a sequence.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use wgpu_lstm::{Lstm, LstmState};
    /// let state = LstmState::zeros(&Lstm::new(16).layers(2), 3)?; // B = 3
    /// assert_eq!(state.h.dim(), (2, 3, 16));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn zeros(lstm: &Lstm, batch: usize) -> Result<LstmState> {
        let [h, c] = LstmState::shapes(lstm, batch);
        Ok(LstmState { h: memory::array(h, "the hidden state")?, c: memory::array(c, "the cell state")? })
    }

    /// Shapes of h and c.
    fn shapes(lstm: &Lstm, batch: usize) -> [(usize, usize, usize); 2] {
        let all = lstm.layers.saturating_mul(lstm.directions());
        let spec = lstm.spec();
        let cell = if spec.state_is_hidden { 0 } else { lstm.hidden };
        [(all, batch, lstm.width()), (all.saturating_mul(spec.states.len()), batch, cell)]
    }
}

/// Result of a forward pass. The default is empty, for [`LstmLayer::forward_into`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LstmOutput {
    /// Hidden states of the top layer, [B, T, D·K] ([T, B, D·K] if time-major).
    pub output: Array3<f32>,
    /// Final states (h_n, c_n) of all layers and directions.
    pub state: LstmState,
}

/// All gradients of an LSTM.
#[derive(Clone, Debug)]
pub struct LstmGradients {
    /// Gradient of the input, in its shape.
    pub x: Array3<f32>,
    /// Gradient of the initial states.
    pub initial: LstmState,
    /// Gradient of every parameter, by PyTorch's name (`weight_ih_l0`, ...) and in its shape.
    pub parameters: BTreeMap<String, ArrayD<f32>>,
}

/// An LSTM with its weights on a device; made by [`Lstm::build`].
///
/// A plan is compiled for each pair (T, B); the 8 most recently used are kept ([`LstmLayer::plan_cache`]). Calls from several threads
/// run at the same time, each with its own buffers; [`LstmLayer::set_parameters`] waits for them.
#[derive(Debug)]
pub struct LstmLayer {
    node: Node,
    config: Lstm,
    device: Device,
    parameters: SharedParameters,
    time_major: bool,
    key: [u32; 2],
    forward: Plans<LayerKey, NetworkPlan>,
    gradients: Plans<LayerKey, GradientPlan>,
}

/// True if sequences have lengths; T; B.
type LayerKey = (bool, usize, usize);

impl LstmLayer {
    /// A layer whose weights are drawn by `seed`.
    pub(crate) async fn new(config: Lstm, device: &Device, input: usize, seed: u64) -> Result<LstmLayer> {
        let node = checked_node(&config, input)?;
        let parameters = Parameters::new(device, &std::slice::from_ref(&node).graph()?, seed).await?;
        Ok(LstmLayer::of(config, device, node, parameters))
    }

    /// A layer with these parameters, as [`LstmLayer::set_parameters`] takes them.
    pub(crate) async fn with_parameters(
        config: Lstm,
        device: &Device,
        input: usize,
        parameters: BTreeMap<String, ArrayD<f32>>,
    ) -> Result<LstmLayer> {
        let node = checked_node(&config, input)?;
        let parameters = Parameters::given(device, &std::slice::from_ref(&node).graph()?, hosts(parameters)?).await?;
        Ok(LstmLayer::of(config, device, node, parameters))
    }

    fn of(config: Lstm, device: &Device, node: Node, parameters: Parameters) -> LstmLayer {
        LstmLayer {
            node,
            config,
            device: device.clone(),
            parameters: SharedParameters::new(parameters),
            time_major: false,
            key: [0; 2],
            forward: Plans::new(),
            gradients: Plans::new(),
        }
    }

    /// Takes and returns arrays with time first, [T, B, ·], instead of batch first.
    pub fn time_major(self, time_major: bool) -> LstmLayer {
        LstmLayer { time_major, ..self }
    }

    /// Sets the key of dropout's random bits, usually a seed and the training step; (0, 0) by default. Only
    /// [`LstmLayer::gradients`] applies dropout.
    pub fn random_key(self, key: [u32; 2]) -> LstmLayer {
        LstmLayer { key, ..self }
    }

    /// Keeps the compiled plans of at most `most` pairs (T, B), 8 by default, for forward and gradients each; see
    /// [`Model::plan_cache`](crate::Model::plan_cache).
    pub fn plan_cache(mut self, most: usize) -> LstmLayer {
        self.forward.set_most(most);
        self.gradients.set_most(most);
        self
    }

    /// The configuration.
    pub fn config(&self) -> &Lstm {
        &self.config
    }

    /// All parameters by PyTorch's names, in its shapes.
    ///
    /// # Errors
    /// A device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn parameters(&self) -> Result<BTreeMap<String, ArrayD<f32>>> {
        Ok(arrays(wait::block_on(self.parameters.export())?))
    }

    /// Replaces all parameters, given by PyTorch's names and in its shapes.
    ///
    /// # Errors
    /// A tensor that is missing, unknown, of another shape or not finite; the parameters are then unchanged.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let first = Lstm::new(4).build(&Device::cpu(), 3, 1)?;
    /// let second = Lstm::new(4).build(&Device::cpu(), 3, 2)?;
    /// second.set_parameters(first.parameters()?)?;
    /// assert_eq!(first.parameters()?, second.parameters()?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn set_parameters(&self, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<()> {
        self.parameters.import(hosts(parameters)?)
    }

    /// A stateful session of B streams, with states of 0, that shares the layer's parameters: it is fed step by step, and keeps the
    /// states on the device. Its input and output are batch-first.
    ///
    /// # Errors
    /// A layer that runs backwards, which needs the whole sequence; states that the device cannot bind.
    ///
    /// ```
    /// use ndarray::{Array3, s};
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(4).build(&Device::cpu(), 3, 0)?;
    /// let x = Array3::ones((2, 5, 3)); // [B, T, I]
    /// let whole = lstm.forward(x.view(), None)?;
    /// let mut stream = lstm.stream(2)?; // B = 2
    /// stream.feed(x.slice(s![.., ..3, ..]))?;
    /// let rest = stream.feed(x.slice(s![.., 3.., ..]))?;
    /// assert!((rest - whole.output.slice(s![.., 3.., ..])).iter().all(|d| d.abs() < 1e-6));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn stream(&self, batch: usize) -> Result<Stream> {
        wait::block_on(self.stream_async(batch))
    }

    /// [`LstmLayer::stream`] for places that cannot block.
    pub async fn stream_async(&self, batch: usize) -> Result<Stream> {
        let parameters = self.parameters.for_stream();
        Stream::new(&std::slice::from_ref(&self.node).graph()?, &self.device, parameters, batch).await
    }

    /// Runs sequences x [B, T, I] from given states (zeros by default).
    ///
    /// # Errors
    /// Shapes that do not fit, sizes that the device cannot hold, a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward(&self, x: ArrayView3<f32>, initial: Option<&LstmState>) -> Result<LstmOutput> {
        wait::block_on(self.forward_async(x, initial))
    }

    /// [`LstmLayer::forward`] for places that cannot block.
    pub async fn forward_async(&self, x: ArrayView3<'_, f32>, initial: Option<&LstmState>) -> Result<LstmOutput> {
        let mut into = LstmOutput::default();
        self.forward_into_async(x, None, initial, &mut into).await?;
        Ok(into)
    }

    /// Runs sequences of different lengths, padded to a common T: row b ends before step `lengths[b]`, which may be 0. Its
    /// output after that is 0 (unless [`Lstm::repeat_output`] is set), and its final state is that of its last step; the reverse
    /// direction starts at the end of each sequence. As
    /// [PyTorch's packed sequences](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html),
    /// in any order.
    ///
    /// # Errors
    /// As [`LstmLayer::forward`]; lengths that are too many, too few or beyond T.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(4).build(&Device::cpu(), 3, 0)?;
    /// let out = lstm.forward_ragged(Array3::ones((2, 5, 3)).view(), &[5, 2], None)?;
    /// assert_eq!(out.output[[1, 1, 0]], out.state.h[[0, 1, 0]]);
    /// assert_eq!(out.output[[1, 2, 0]], 0.0);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_ragged(
        &self,
        x: ArrayView3<f32>,
        lengths: &[usize],
        initial: Option<&LstmState>,
    ) -> Result<LstmOutput> {
        let mut into = LstmOutput::default();
        wait::block_on(self.forward_into_async(x, Some(lengths), initial, &mut into))?;
        Ok(into)
    }

    /// [`LstmLayer::forward`] into arrays of an earlier call, which are reused if their shapes fit: allocation takes longer than a
    /// small layer.
    ///
    /// # Errors
    /// As [`LstmLayer::forward`].
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Device, Lstm, LstmOutput};
    /// let lstm = Lstm::new(4).build(&Device::cpu(), 3, 0)?;
    /// let (x, mut into) = (Array3::ones((2, 5, 3)), LstmOutput::default());
    /// for _ in 0..3 {
    ///     lstm.forward_into(x.view(), None, &mut into)?;
    /// }
    /// assert_eq!(into, lstm.forward(x.view(), None)?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_into(&self, x: ArrayView3<f32>, initial: Option<&LstmState>, into: &mut LstmOutput) -> Result<()> {
        wait::block_on(self.forward_into_async(x, None, initial, into))
    }

    /// [`LstmLayer::forward_into`] for places that cannot block; with `lengths`, as [`LstmLayer::forward_ragged`].
    pub async fn forward_into_async(
        &self,
        x: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
        initial: Option<&LstmState>,
        into: &mut LstmOutput,
    ) -> Result<()> {
        let (x, steps, batch) = self.check_input(x)?;
        self.check_state("initial", initial, batch)?;
        let ragged = lengths.is_some();
        let key_and_lengths = key_and_lengths(self.key, lengths, batch, steps)?;
        let lease = self.forward_plan(ragged, steps, batch).await?;
        let Compiled { plan, executable } = &*lease;
        if let (true, Some(buffer)) = (ragged, plan.key_and_lengths()) {
            executable.write((buffer, 0), &key_and_lengths)?;
        }
        upload(executable, plan.x(), Rows::by_time(x))?;
        self.write_states(executable, &plan.states, initial, batch, false)?;
        let mut downloads = Downloads::new();
        downloads.add(plan.y(), batch, self.order(), &mut into.output)?;
        self.read_states(&plan.states, batch, &mut into.state, &mut downloads)?;
        let reading = match self.run(executable, downloads.places()).await? {
            Some(reading) => reading,
            None => {
                self.write_states(executable, &plan.states, initial, batch, false)?;
                self.run_at_once(executable, downloads.places())?
            }
        };
        downloads.fill(reading).await
    }

    /// Gradients of Σ output ⊙ d_output + Σ h_n ⊙ d_final.h + Σ c_n ⊙ d_final.c for sequences x [B, T, I]: the result of the
    /// backward pass for a loss with these gradients of the outputs.
    ///
    /// # Errors
    /// As [`LstmLayer::forward`].
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(4).build(&Device::cpu(), 3, 0)?;
    /// let x = Array3::from_elem((2, 5, 3), 0.5);
    /// let gradients = lstm.gradients(x.view(), None, Array3::ones((2, 5, 4)).view(), None)?;
    /// assert_eq!(gradients.parameters["weight_ih_l0"].shape(), [16, 3]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gradients(
        &self,
        x: ArrayView3<f32>,
        initial: Option<&LstmState>,
        d_output: ArrayView3<f32>,
        d_final: Option<&LstmState>,
    ) -> Result<LstmGradients> {
        wait::block_on(self.gradients_async(x, None, initial, d_output, d_final))
    }

    /// [`LstmLayer::gradients`] for sequences of different lengths, as in [`LstmLayer::forward_ragged`]. Gradients of outputs past
    /// a sequence's end are ignored, unless outputs are repeated there; gradients of inputs there are 0.
    ///
    /// # Errors
    /// As [`LstmLayer::forward_ragged`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gradients_ragged(
        &self,
        x: ArrayView3<f32>,
        lengths: &[usize],
        initial: Option<&LstmState>,
        d_output: ArrayView3<f32>,
        d_final: Option<&LstmState>,
    ) -> Result<LstmGradients> {
        wait::block_on(self.gradients_async(x, Some(lengths), initial, d_output, d_final))
    }

    /// [`LstmLayer::gradients`] for places that cannot block; with `lengths`, as [`LstmLayer::gradients_ragged`].
    pub async fn gradients_async(
        &self,
        x: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
        initial: Option<&LstmState>,
        d_output: ArrayView3<'_, f32>,
        d_final: Option<&LstmState>,
    ) -> Result<LstmGradients> {
        let (x, steps, batch) = self.check_input(x)?;
        let d_output = self.time_first(d_output);
        if d_output.dim() != (steps, batch, self.config.output()) {
            let (t, b, f) = d_output.dim();
            return Err(Error::Shape(format!(
                "d_output has T = {t}, B = {b} and {f} features, the output has T = {steps}, B = {batch} and {}",
                self.config.output()
            )));
        }
        self.check_state("initial", initial, batch)?;
        self.check_state("d_final", d_final, batch)?;
        let ragged = lengths.is_some();
        let key_and_lengths = key_and_lengths(self.key, lengths, batch, steps)?;
        let lease = self.gradient_plan(ragged, steps, batch).await?;
        let Compiled { plan, executable } = &*lease;
        if let Some(buffer) = plan.words {
            executable.write((buffer, 0), &key_and_lengths)?;
        }
        upload(executable, &plan.x, Rows::by_time(x))?;
        upload(executable, &plan.dy, Rows::by_time(d_output))?;
        self.write_states(executable, &plan.initial, initial, batch, false)?;
        self.write_states(executable, &plan.d_final, d_final, batch, true)?;
        let (mut dx, mut initial) = (Array3::default((0, 0, 0)), LstmState::default());
        let mut downloads = Downloads::new();
        downloads.add(&plan.dx, batch, self.order(), &mut dx)?;
        self.read_states(&plan.d_initial, batch, &mut initial, &mut downloads)?;
        let reading = match self.run(executable, downloads.places()).await? {
            Some(reading) => reading,
            None => self.run_at_once(executable, downloads.places())?,
        };
        downloads.fill(reading).await?;
        let parameters = read_parts(std::slice::from_ref(&self.node), |name, len| async move {
            let buffer = executable.plan().find(&format!("grad {name}"));
            let buffer = buffer.ok_or_else(|| Error::Plan(format!("{name} has no gradient")))?;
            executable.read_async((buffer, 0), len).await
        })
        .await?;
        Ok(LstmGradients { x: dx, initial, parameters: arrays(parameters) })
    }

    async fn forward_plan(&self, ragged: bool, steps: usize, batch: usize) -> Result<Lease<'_, LayerKey, NetworkPlan>> {
        let key = (ragged, steps, batch);
        if let Some(compiled) = self.forward.take(&key) {
            return Ok(self.forward.lend(key, compiled));
        }
        let (layers, sizes) = (std::slice::from_ref(&self.node), Batch::new(batch, steps).ragged(ragged));
        let make = |capabilities: &Capabilities| network(layers, sizes.clone(), Purpose::Stream, capabilities);
        let plan = self.device.plan(make).await?;
        let executable = self.device.compile_with(plan.plan.clone(), |name| self.parameters.tensor(name)).await?;
        Ok(self.forward.lend(key, Compiled { plan, executable }))
    }

    async fn gradient_plan(
        &self,
        ragged: bool,
        steps: usize,
        batch: usize,
    ) -> Result<Lease<'_, LayerKey, GradientPlan>> {
        let key = (ragged, steps, batch);
        if let Some(compiled) = self.gradients.take(&key) {
            return Ok(self.gradients.lend(key, compiled));
        }
        let sizes = Batch::new(batch, steps).ragged(ragged);
        let plan = self.device.plan(|capabilities| gradients(&self.node, sizes.clone(), capabilities)).await?;
        let executable = self.device.compile_with(plan.plan.clone(), |name| self.parameters.tensor(name)).await?;
        Ok(self.gradients.lend(key, Compiled { plan, executable }))
    }

    /// Runs a plan with what is then to be read; `None` if the parameters changed meanwhile, so that it has to run again.
    async fn run<'e>(&self, executable: &'e Executable, places: Vec<Place>) -> Result<Option<Reading<'e>>> {
        wait::yield_now().await;
        if wait::is_blocking().await {
            return self.run_at_once(executable, places).map(Some);
        }
        let before = self.parameters.version();
        let done = executable.run_beginning(executable.first_for(before.numbers)).await?;
        let reading = executable.run_reading(done..executable.plan().commands.len(), places)?;
        let unchanged = self.parameters.version() == before;
        if unchanged {
            executable.ran_for(before.numbers);
        }
        Ok(unchanged.then_some(reading))
    }

    /// [`LstmLayer::run`] with the parameters locked.
    fn run_at_once<'e>(&self, executable: &'e Executable, places: Vec<Place>) -> Result<Reading<'e>> {
        let unchanged = self.parameters.read();
        let weights = unchanged.version.numbers;
        let all = executable.plan().commands.len();
        let reading = executable.run_reading(executable.first_for(weights)..all, places)?;
        executable.ran_for(weights);
        Ok(reading)
    }

    /// The caller's array, [B, T, ·] or [T, B, ·], as [T, B, ·].
    fn time_first<'a>(&self, array: ArrayView3<'a, f32>) -> ArrayView3<'a, f32> {
        if self.time_major { array } else { array.permuted_axes([1, 0, 2]) }
    }

    /// Order of the first two axes in the caller's arrays.
    fn order(&self) -> Order {
        if self.time_major { Order::Time } else { Order::Batch }
    }

    fn check_input<'a>(&self, x: ArrayView3<'a, f32>) -> Result<(ArrayView3<'a, f32>, usize, usize)> {
        let axes = if self.time_major { "[T, B, I]" } else { "[B, T, I]" };
        if x.dim().2 != self.node.input() {
            return Err(Error::Shape(format!(
                "input has {} features, the layer expects {} (shape {axes} = {:?})",
                x.dim().2,
                self.node.input(),
                x.shape()
            )));
        }
        not_empty("input", axes, x.shape())?;
        finite_by(self.device.host_threads(), "input", axes, &x)?;
        let x = self.time_first(x);
        let (steps, batch, _) = x.dim();
        Ok((x, steps, batch))
    }

    fn check_state(&self, what: &str, state: Option<&LstmState>, batch: usize) -> Result<()> {
        let Some(state) = state else { return Ok(()) };
        let [h, c] = LstmState::shapes(&self.config, batch);
        for (kind, array, expected, axes) in [("h", &state.h, h, "[L·D, B, K]"), ("c", &state.c, c, "[L·D, B, H]")] {
            if array.dim() != expected {
                return Err(Error::Shape(format!(
                    "{what} state {kind} has shape {:?}, expected {axes} = {expected:?}",
                    array.dim()
                )));
            }
            finite(&format!("{what} state {kind}"), axes, &array.view())?;
        }
        Ok(())
    }

    /// Writes states, or zeros if there are none. For a cell whose state is the hidden state, h is written to both buffers, but its
    /// gradient to one.
    fn write_states(
        &self,
        executable: &Executable,
        buffers: &[BufferId],
        state: Option<&LstmState>,
        batch: usize,
        gradient: bool,
    ) -> Result<()> {
        let directions = self.config.directions();
        let widest = if state.is_none() || gradient { self.config.hidden } else { 0 };
        let states = self.config.spec().states.len();
        let zeros = memory::zeros(states * directions * batch * widest, "states of 0")?;
        let once = self.config.spec().state_is_hidden;
        for (layer, &[h, c]) in buffers.as_chunks().0.iter().enumerate() {
            let second = state.and_then(|state| match once {
                true => (!gradient).then_some(&state.h),
                false => Some(&state.c),
            });
            let sizes = [(directions, self.config.width()), (states * directions, self.config.hidden)];
            for ((buffer, array), (slots, width)) in
                [(h, state.map(|state| &state.h)), (c, second)].into_iter().zip(sizes)
            {
                match array {
                    Some(array) => {
                        write(executable, (buffer, 0), array.slice(s![layer * slots..(layer + 1) * slots, .., ..]))?
                    }
                    None => executable.write((buffer, 0), &zeros[..slots * batch * width])?,
                }
            }
        }
        Ok(())
    }

    /// Has states read into arrays.
    fn read_states<'a>(
        &self,
        buffers: &[BufferId],
        batch: usize,
        into: &'a mut LstmState,
        downloads: &mut Downloads<'a>,
    ) -> Result<()> {
        let directions = self.config.directions();
        let spec = self.config.spec();
        let second = if spec.state_is_hidden { 0 } else { self.config.hidden };
        let LstmState { h, c } = into;
        let h = (h, directions, self.config.width());
        let c = (c, spec.states.len() * directions, second);
        for (index, (array, slots, width)) in [h, c].into_iter().enumerate() {
            let flat = shaped(array, (self.config.layers * slots, batch, width))?;
            let slot = slots * batch * width;
            for (own, states) in flat.chunks_exact_mut(slot.max(1)).zip(buffers.chunks_exact(2)) {
                downloads.add_flat((states[index], 0), own);
            }
        }
        Ok(())
    }
}

/// The layer as a node, named "lstm".
fn node(config: &Lstm, input: usize) -> Node {
    Node::new("lstm", input, Lstm { return_sequences: true, ..config.clone() })
}

fn checked_node(config: &Lstm, input: usize) -> Result<Node> {
    let node = node(config, input);
    node.validate()?;
    Ok(node)
}

/// Arrays by PyTorch's names as host tensors of the layer called "lstm".
fn hosts(arrays: BTreeMap<String, ArrayD<f32>>) -> Result<Vec<HostTensor>> {
    arrays.iter().map(|(name, array)| HostTensor::new(format!("lstm.{name}"), array)).collect()
}

/// Host tensors of the layer called "lstm" as arrays by PyTorch's names.
fn arrays(tensors: Vec<HostTensor>) -> BTreeMap<String, ArrayD<f32>> {
    let array = |host: HostTensor| {
        let name = host.name.strip_prefix("lstm.").unwrap_or(&host.name).to_string();
        // Shape and values were made together.
        (name, ArrayD::from_shape_vec(IxDyn(&host.shape), host.values).expect("as many values as the shape holds"))
    };
    tensors.into_iter().map(array).collect()
}
