//! A forward pass that keeps its tape on the device, and the gradients from it.

use super::Model;
use super::cache::{Compiled, Lease};
use super::given::Inputs;
use super::plans::{Key, PlanPurpose};
use super::tensors::tape;
use crate::error::{Error, Result};
use crate::memory;
use crate::network::{NetworkPlan, Node, Source};
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use ndarray::{Array2, ArrayD, ArrayView, Dimension, IxDyn};
use std::collections::BTreeMap;

/// Arrays by name.
pub type NamedArrays = BTreeMap<String, ArrayD<f32>>;

/// Options of [`Model::forward_with`].
///
/// ```
/// use ndarray::Array2;
/// use wgpu_lstm::PassOptions;
/// let options = PassOptions::new().initial("lstm.h", Array2::zeros((16, 8))).random_key([1, 0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct PassOptions {
    pub(super) initial: BTreeMap<String, Array2<f32>>,
    key: [u32; 2],
}

impl PassOptions {
    /// Initial states of 0, and the key (0, 0).
    pub fn new() -> PassOptions {
        PassOptions::default()
    }

    /// Sets an initial state [B, units], named `<layer>.h` or `<layer>.c`: for a stack or two directions `<layer>.h_l1`,
    /// `<layer>.h_reverse`, `<layer>.h_l1_reverse`, as [`Pass::final_states`] names them.
    pub fn initial(mut self, name: impl Into<String>, state: Array2<f32>) -> PassOptions {
        self.initial.insert(name.into(), state);
        self
    }

    /// Sets the key of dropout's random bits, usually a seed and the training step.
    pub fn random_key(self, key: [u32; 2]) -> PassOptions {
        PassOptions { key, ..self }
    }
}

/// A forward pass whose tape is on the device: what its backward pass needs. Made by [`Model::forward`].
///
/// It acts as in training: dropout drops, batch normalisation normalises by the batch. While it is alive the model cannot change.
#[derive(Debug)]
pub struct Pass<'m> {
    model: &'m Model,
    lease: Lease<'m, Key, NetworkPlan>,
    batch: usize,
    /// Lengths of the sequences of each output, if they have some.
    lengths: Vec<Option<Vec<usize>>>,
}

/// Gradients of a [`Pass`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// By the inputs' names (`x` for that of a [`Sequential`](crate::Sequential) model), in their shapes; none for indices.
    pub inputs: NamedArrays,
    /// Of the initial states, [B, units], as [`Pass::final_states`] names them.
    pub initial: NamedArrays,
    /// Of the parameters, by their names and in PyTorch's shapes.
    pub parameters: NamedArrays,
}

impl Model {
    /// Runs forward and keeps what [`Pass::backward`] needs on the device, for losses and loops of one's own.
    ///
    /// # Errors
    /// As [`Model::predict`].
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Dense, Device, Lstm, Optimiser, Sequential, Update};
    /// let mut model = Sequential::new(1).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 7)?;
    /// let mut steps = Update::new(Optimiser::adam(0.01)).begin(model.device())?;
    /// let x = Array3::from_shape_fn((16, 5, 1), |(n, t, _)| (n + t) as f32 / 20.0); // [N, T, I]
    /// for _ in 0..3 {
    ///     let pass = model.forward(x.view())?;
    ///     let d = pass.output()?.mapv(|y| y - 1.0); // of Σ (y − 1)² / 2
    ///     let gradients = pass.backward(d.view())?;
    ///     let mut parameters = model.parameters()?;
    ///     steps.step(&mut parameters, &gradients.parameters)?;
    ///     model.set_parameters(parameters)?;
    /// }
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<Pass<'_>> {
        wait::block_on(self.forward_async(x, &PassOptions::new()))
    }

    /// [`Model::forward`] from given initial states, or with other masks of dropout.
    ///
    /// # Errors
    /// As [`Model::predict`]; a state that is unknown, of another shape or not finite.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_with<'a>(&self, x: impl Into<Inputs<'a>>, options: &PassOptions) -> Result<Pass<'_>> {
        wait::block_on(self.forward_async(x, options))
    }

    /// [`Model::forward_with`] for places that cannot block.
    pub async fn forward_async<'a>(&self, x: impl Into<Inputs<'a>>, options: &PassOptions) -> Result<Pass<'_>> {
        let data = self.data("", x.into(), None)?;
        let lease = self.compiled(PlanPurpose::Pass, &data, false).await?;
        let Compiled { plan, executable } = &*lease;
        self.hand_over(&lease, &data, 0).await?;
        for &(_, words) in &plan.words {
            executable.write((words, 0), &options.key.map(f32::from_bits))?;
        }
        let tape = tape(plan)?;
        self.write_states(executable, tape, options, data.count())?;
        let weights = self.parameters.version().numbers;
        let done = executable.run_slices(executable.first_for(weights)..plan.phases.backward).await?;
        executable.run_range(done..plan.phases.backward)?;
        executable.ran_for(weights);
        let (batch, lengths) = (data.count(), self.output_lengths(&data));
        Ok(Pass { model: self, lease, batch, lengths })
    }

    /// The outputs of every layer, by the layers' names: [N, T, F], or [N, F] for a layer that gives one vector. Dropout is off.
    ///
    /// # Errors
    /// As [`Model::predict`].
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let layers = Sequential::new(1).add(Lstm::new(8).return_sequences(true)).add(Lstm::new(4)).add(Dense::new(2));
    /// let model = layers.build(&Device::cpu(), 7)?;
    /// let hidden = model.hidden_states(Array3::ones((3, 5, 1)).view())?;
    /// assert_eq!(hidden["lstm"].shape(), [3, 5, 8]);
    /// assert_eq!(hidden["lstm_1"].shape(), [3, 4]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn hidden_states<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<NamedArrays> {
        wait::block_on(self.hidden_states_async(x))
    }

    /// [`Model::hidden_states`] for places that cannot block.
    pub async fn hidden_states_async<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<NamedArrays> {
        let data = self.data("", x.into(), None)?;
        let sources = (0..self.graph.nodes.len()).map(Source::Node);
        let arrays = self.gathered(&data, sources, |plan| plan.values.iter().collect()).await?;
        Ok(self.graph.nodes.iter().map(|node| node.name.clone()).zip(arrays).collect())
    }
}

impl Pass<'_> {
    /// The output of a model that has one: [N, F], or [N, T, F] for one that returns sequences.
    ///
    /// # Errors
    /// A model of several outputs; a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn output(&self) -> Result<ArrayD<f32>> {
        let name = self.only()?;
        let mut all = self.outputs()?;
        all.remove(name).ok_or_else(|| Error::Plan(format!("no output {name}")))
    }

    /// All outputs by name; that of a [`Sequential`](crate::Sequential) model is `y`.
    ///
    /// # Errors
    /// A device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn outputs(&self) -> Result<NamedArrays> {
        wait::block_on(self.outputs_async())
    }

    /// [`Pass::outputs`] for places that cannot block.
    pub async fn outputs_async(&self) -> Result<NamedArrays> {
        self.model.read_outputs(&self.lease, self.batch).await
    }

    /// The outputs of every layer by the layers' names, as [`Model::hidden_states`] gives them, but as in training.
    ///
    /// # Errors
    /// A device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn hidden_states(&self) -> Result<NamedArrays> {
        wait::block_on(self.model.layer_outputs(&self.lease, self.batch))
    }

    /// The final states [B, units] of recurrent layers: `<layer>.h`, `<layer>.c`, with the layer of a stack and the direction where
    /// there are several (`<layer>.h_l1_reverse`). Layers whose initial states come from another layer are left out.
    ///
    /// # Errors
    /// A device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn final_states(&self) -> Result<NamedArrays> {
        wait::block_on(self.final_states_async())
    }

    /// [`Pass::final_states`] for places that cannot block.
    pub async fn final_states_async(&self) -> Result<NamedArrays> {
        let mut all = NamedArrays::new();
        for state in &tape(&self.lease.plan)?.states {
            let executable = &self.lease.executable;
            self.model.read_states(executable, state.node, &state.last, self.batch, &mut all).await?;
        }
        Ok(all)
    }

    /// Gradients of Σ output ⊙ `d_output`, for a model of one output: the backward pass of a loss with this gradient of the output, in
    /// the output's shape. Past the ends of sequences it counts as 0.
    ///
    /// # Errors
    /// A shape that is not that of the output; numbers that are not finite; a model of several outputs; a device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward<D: Dimension>(self, d_output: ArrayView<f32, D>) -> Result<Gradients> {
        let given = BTreeMap::from([(self.only()?, d_output.into_dyn())]);
        wait::block_on(self.gradients(&given))
    }

    /// [`Pass::backward`] for gradients of several outputs, by name. Outputs that are not given have a gradient of 0.
    ///
    /// # Errors
    /// As [`Pass::backward`]; an output that does not exist or has no gradient.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward_all(self, d_outputs: &NamedArrays) -> Result<Gradients> {
        wait::block_on(self.backward_async(d_outputs))
    }

    /// [`Pass::backward_all`] for places that cannot block.
    pub async fn backward_async(self, d_outputs: &NamedArrays) -> Result<Gradients> {
        self.gradients(&d_outputs.iter().map(|(name, array)| (name.as_str(), array.view())).collect()).await
    }

    async fn gradients(&self, given: &BTreeMap<&str, ArrayView<'_, f32, IxDyn>>) -> Result<Gradients> {
        let Pass { model, lease, batch, lengths } = self;
        let Compiled { plan, executable } = &**lease;
        model.write_gradients(lease, *batch, lengths, given)?;
        let tape = tape(plan)?;
        executable.run_range(plan.phases.backward..plan.phases.update)?;
        let mut all =
            Gradients { inputs: NamedArrays::new(), initial: NamedArrays::new(), parameters: NamedArrays::new() };
        for (k, input) in model.graph.inputs.iter().enumerate() {
            if let Some(dx) = &tape.d_inputs[k] {
                all.inputs
                    .insert(input.name.clone(), model.read_tensor(executable, Source::Input(k), dx, *batch).await?);
            }
        }
        for state in tape.states.iter().filter(|state| !state.d_initial.is_empty()) {
            let places: Vec<_> = state.d_initial.iter().map(|&buffer| (buffer, 0)).collect();
            model.read_states(executable, state.node, &places, *batch, &mut all.initial).await?;
        }
        for spec in model.graph.owners().flat_map(Node::parameters).filter(|spec| spec.trained && spec.len > 0) {
            let values = match executable.plan().find(&format!("grad {}", spec.name)) {
                Some(buffer) => executable.read_async((buffer, 0), spec.len).await?,
                // The outputs do not depend on it.
                None => memory::zeros(spec.len as usize, "a gradient of 0")?,
            };
            for host in spec.unpack(&values)? {
                let array = ArrayD::from_shape_vec(host.shape, host.values);
                all.parameters.insert(host.name, array.map_err(|error| Error::Plan(error.to_string()))?);
            }
        }
        Ok(all)
    }

    /// The name of the only output.
    fn only(&self) -> Result<&str> {
        match self.model.graph.output_names()[..] {
            [only] => Ok(only),
            ref names => Err(Error::Config(format!(
                "the model has the outputs {}; call Pass::outputs and Pass::backward_all, which take all of them",
                names.join(", ")
            ))),
        }
    }
}
