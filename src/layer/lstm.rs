//! The LSTM layer's configuration.

use super::Init;
use crate::activation::Activation;
use crate::cell::{self, Cell, CellOption, CellSpec, Settings};
use crate::error::{Error, Result};
use crate::kernel::MergeKind;
use crate::schedule::recurrence::{CARRY, CELL, Drops, PRODUCT, PRODUCT_NORM, PROJECT, RESET, STATE_NORM, Stage};
use serde::{Deserialize, Serialize};

/// Biases of a layer's gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// None.
    None,
    /// One per gate, as Keras has it.
    Single,
    /// Two per gate that are added, as PyTorch has it. Trained with Adam, their sum changes twice as fast as a single bias.
    #[default]
    Double,
}

impl Bias {
    pub(crate) fn count(self) -> usize {
        match self {
            Bias::None => 0,
            Bias::Single => 1,
            Bias::Double => 2,
        }
    }
}

/// Merge of the outputs of two directions, as in
/// [Keras's Bidirectional](https://keras.io/api/layers/recurrent_layers/bidirectional/). Between layers they are concatenated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Merge {
    /// Concatenation: 2·K features.
    #[default]
    Concat,
    /// Their sum: K features.
    Sum,
    /// Their product: K features.
    Mul,
    /// Their mean: K features.
    Ave,
}

impl Merge {
    /// The kernel's constant; `None` for a concatenation.
    pub(crate) fn kernel(self) -> Option<MergeKind> {
        match self {
            Merge::Concat => None,
            Merge::Sum => Some(MergeKind::Sum),
            Merge::Mul => Some(MergeKind::Product),
            Merge::Ave => Some(MergeKind::Mean),
        }
    }
}

/// An LSTM: H hidden units, L layers, one or two directions. With the defaults it is
/// [`torch.nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html); [`Lstm::keras`] is
/// [Keras's LSTM](https://keras.io/api/layers/recurrent_layers/lstm/).
///
/// Inside a [`Sequential`](crate::Sequential) model it returns the last step, unless
/// [`return_sequences`](Lstm::return_sequences) is set. Built alone ([`Lstm::build`]), it returns every step and the final states.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Device, Lstm};
///
/// let lstm = Lstm::new(16).layers(2).bidirectional(true).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let x = Array3::<f32>::zeros((2, 10, 4)); // [B, T, I]
/// let out = lstm.forward(x.view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 32)); // [B, T, D·H]
/// assert_eq!(out.state.h.dim(), (4, 2, 16)); // [L·D, B, H]
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lstm {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) bidirectional: bool,
    pub(crate) bias: Bias,
    pub(crate) cell: Cell,
    pub(crate) return_sequences: bool,
    pub(crate) init: Init,
    #[serde(default)]
    pub(crate) options: Options,
}

/// Options that most layers leave at their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    /// Not written if it is 1, so that files of such layers stay as they were before this option existed.
    #[serde(skip_serializing_if = "is_one")]
    pub heads: usize,
    pub projection: Option<usize>,
    pub layer_norm: bool,
    pub peepholes: bool,
    pub coupled: bool,
    pub clip: Option<f32>,
    pub cell_clip: Option<f32>,
    pub gate_activation: Activation,
    pub activation: Activation,
    pub output_activation: Activation,
    pub forget_bias: bool,
    pub merge: Merge,
    pub reverse: bool,
    pub go_backwards: bool,
    pub repeat_output: bool,
    pub dropout: f64,
    pub input_dropout: f64,
    pub recurrent_dropout: f64,
    pub weight_dropout: f64,
    pub zoneout_h: f64,
    pub zoneout_c: f64,
}

fn is_one(heads: &usize) -> bool {
    *heads == 1
}

impl Default for Options {
    fn default() -> Self {
        Options {
            heads: 1,
            projection: None,
            layer_norm: false,
            peepholes: false,
            coupled: false,
            clip: None,
            cell_clip: None,
            gate_activation: Activation::Sigmoid,
            activation: Activation::Tanh,
            output_activation: Activation::Tanh,
            forget_bias: true,
            merge: Merge::Concat,
            reverse: false,
            go_backwards: false,
            repeat_output: false,
            dropout: 0.0,
            input_dropout: 0.0,
            recurrent_dropout: 0.0,
            weight_dropout: 0.0,
            zoneout_h: 0.0,
            zoneout_c: 0.0,
        }
    }
}

impl Lstm {
    /// `hidden` units, one layer, one direction, PyTorch's two biases and initial weights.
    pub fn new(hidden: usize) -> Lstm {
        Lstm {
            hidden,
            layers: 1,
            bidirectional: false,
            bias: Bias::Double,
            cell: Cell::Standard,
            return_sequences: false,
            init: Init::PyTorch,
            options: Options::default(),
        }
    }

    /// `hidden` units with Keras's single bias and initial weights (Glorot, orthogonal, forget bias 1).
    pub fn keras(hidden: usize) -> Lstm {
        Lstm { bias: Bias::Single, init: Init::Keras, ..Lstm::new(hidden) }
    }

    /// L layers on top of each other.
    pub fn layers(self, layers: usize) -> Lstm {
        Lstm { layers, ..self }
    }

    /// Two directions: the second runs from the end of time to its start; outputs are concatenated unless [`Lstm::merge`] is set.
    pub fn bidirectional(self, bidirectional: bool) -> Lstm {
        Lstm { bidirectional, ..self }
    }

    /// Biases of the gates.
    pub fn bias(self, bias: Bias) -> Lstm {
        Lstm { bias, ..self }
    }

    /// The cell's equations.
    pub fn cell(self, cell: Cell) -> Lstm {
        Lstm { cell, ..self }
    }

    /// In a model, returns the output of every step, [B, T, D·K], instead of the last one, [B, D·K]. The last step of
    /// the reverse direction is the one it computes last, at time 0, as in Keras.
    pub fn return_sequences(self, return_sequences: bool) -> Lstm {
        Lstm { return_sequences, ..self }
    }

    /// Initial weights.
    pub fn init(self, init: Init) -> Lstm {
        Lstm { init, ..self }
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Lstm {
        change(&mut self.options);
        self
    }

    /// Splits the units into `heads` groups of the same size, without recurrent weights between them: the recurrent weight matrix is
    /// block-diagonal (xLSTM, Beck et al. 2024). 1 by default. With several heads `weight_hh` is [heads, G·H/heads, H/heads], for each
    /// head the gates of its units in the order of a layer of these units alone.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(12).heads(3).build(&Device::cpu(), 2, 0)?;
    /// assert_eq!(lstm.parameters()?["weight_hh_l0"].shape(), [3, 16, 4]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn heads(self, heads: usize) -> Lstm {
        self.with(|options| options.heads = heads)
    }

    /// Projects the hidden state to P < H numbers, h = W_hr·(o ⊙ tanh c), which are the output and the input of the recurrent product
    /// (`proj_size` of [`torch.nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html); Sak et al. 2014).
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(16).projection(5).build(&Device::cpu(), 3, 0)?;
    /// let out = lstm.forward(ndarray::Array3::zeros((2, 7, 3)).view(), None)?;
    /// assert_eq!((out.state.h.dim(), out.state.c.dim()), ((1, 2, 5), (1, 2, 16)));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn projection(self, projection: usize) -> Lstm {
        self.with(|options| options.projection = Some(projection))
    }

    /// Layer normalisation of both products over the 4H gates, and of the cell state before h over the units (Ba, Kiros and Hinton
    /// 2016): `a = LN(W·x) + LN(R·h') + b`, `h = o ⊙ tanh(LN(c))`, with ε = 1e-5. Additional parameters, per layer and direction:
    /// `norm_ih` and `norm_hh`, `[4H]`, scales of the products (1 at first; b is their shift); `norm_c_weight` and `norm_c_bias`, `[H]`.
    /// haste's `LayerNormLSTM` has the same equations.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(4).layer_norm(true).build(&Device::cpu(), 3, 0)?;
    /// assert_eq!(lstm.parameters()?["norm_hh_l0"].shape(), [16]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn layer_norm(self, layer_norm: bool) -> Lstm {
        self.with(|options| options.layer_norm = layer_norm)
    }

    /// Adds peepholes: weights from a unit's cell state to its gates, from the old state to i and f, from the new one to o (P of the
    /// [ONNX operator](https://onnx.ai/onnx/operators/onnx__LSTM.html); Gers and Schmidhuber 2000).
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(4).peepholes(true).build(&Device::cpu(), 3, 0)?;
    /// assert_eq!(lstm.parameters()?["peephole_l0"].shape(), [12]); // i, f, o
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn peepholes(self, peepholes: bool) -> Lstm {
        self.with(|options| options.peepholes = peepholes)
    }

    /// Couples the gates: f = 1 − i (`input_forget` of the ONNX operator). The forget gate's weights exist but are not used.
    pub fn coupled(self, coupled: bool) -> Lstm {
        self.with(|options| options.coupled = coupled)
    }

    /// Bounds the arguments of the activations of gates and candidate to ±clip (`clip` of the ONNX operator).
    pub fn clip(self, clip: f32) -> Lstm {
        self.with(|options| options.clip = Some(clip))
    }

    /// Bounds the cell state to ±clip (cuDNN's `cudnnRNNSetClip`).
    pub fn cell_clip(self, clip: f32) -> Lstm {
        self.with(|options| options.cell_clip = Some(clip))
    }

    /// Activation of the gates i, f, o: ONNX's f, Keras's `recurrent_activation`. Sigmoid by default.
    pub fn gate_activation(self, activation: Activation) -> Lstm {
        self.with(|options| options.gate_activation = activation)
    }

    /// Activation of the candidate: ONNX's g. Tanh by default.
    pub fn candidate_activation(self, activation: Activation) -> Lstm {
        self.with(|options| options.activation = activation)
    }

    /// Activation of the cell state in h: ONNX's h. Tanh by default.
    pub fn output_activation(self, activation: Activation) -> Lstm {
        self.with(|options| options.output_activation = activation)
    }

    /// Activation of candidate and cell state: Keras's `activation`. Tanh by default.
    pub fn activation(self, activation: Activation) -> Lstm {
        self.candidate_activation(activation).output_activation(activation)
    }

    /// Initialises the forget gate's bias to 1 with [`Init::Keras`] (true, the default), or to 0.
    pub fn unit_forget_bias(self, unit: bool) -> Lstm {
        self.with(|options| options.forget_bias = unit)
    }

    /// Merge of the outputs of two directions.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm, Merge};
    /// let lstm = Lstm::new(8).bidirectional(true).merge(Merge::Sum).build(&Device::cpu(), 3, 0)?;
    /// assert_eq!(lstm.forward(ndarray::Array3::zeros((2, 7, 3)).view(), None)?.output.dim(), (2, 7, 8));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn merge(self, merge: Merge) -> Lstm {
        self.with(|options| options.merge = merge)
    }

    /// Runs from the end of time to its start (ONNX's `direction` "reverse"); outputs stay in the order of time.
    pub fn reverse(self, reverse: bool) -> Lstm {
        self.with(|options| options.reverse = reverse)
    }

    /// Runs from the end of time to its start, with outputs in that order (Keras's `go_backwards`); in sequences with lengths, the
    /// padding then comes first.
    pub fn go_backwards(self, go_backwards: bool) -> Lstm {
        self.with(|options| options.go_backwards = go_backwards)
    }

    /// Past the end of a sequence, repeats the output of its last step (Keras's `zero_output_for_mask=False`) instead of returning 0,
    /// which is the default. A direction that runs backwards begins with these steps and returns the initial hidden state there, 0
    /// unless one is given. Gradients of repeated outputs are added to that of the repeated step.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Device, Lstm};
    /// let lstm = Lstm::new(4).repeat_output(true).build(&Device::cpu(), 3, 0)?;
    /// let out = lstm.forward_ragged(Array3::ones((2, 5, 3)).view(), &[5, 2], None)?;
    /// assert_eq!(out.output[[1, 4, 0]], out.output[[1, 1, 0]]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn repeat_output(self, repeat: bool) -> Lstm {
        self.with(|options| options.repeat_output = repeat)
    }

    /// In training, drops outputs between layers, with a new mask at every step (PyTorch's `dropout`).
    /// All probabilities are from 0 to below 1.
    pub fn dropout(self, probability: f64) -> Lstm {
        self.with(|options| options.dropout = probability)
    }

    /// In training, drops inputs of every layer, with the same mask at all steps of a sequence and for both directions (Keras's
    /// `dropout`; Gal and Ghahramani 2016).
    pub fn input_dropout(self, probability: f64) -> Lstm {
        self.with(|options| options.input_dropout = probability)
    }

    /// In training, drops hidden units before the recurrent product, with the same mask at all steps of a sequence (Keras's
    /// `recurrent_dropout`; Gal and Ghahramani 2016).
    pub fn recurrent_dropout(self, probability: f64) -> Lstm {
        self.with(|options| options.recurrent_dropout = probability)
    }

    /// In training, drops recurrent weights, with the same mask for all sequences of a batch (DropConnect; Merity et al. 2017).
    pub fn weight_dropout(self, probability: f64) -> Lstm {
        self.with(|options| options.weight_dropout = probability)
    }

    /// Zoneout: in training, units keep their old hidden and cell state with these probabilities; in inference, these are the shares of
    /// the old state in the new one (Krueger et al. 2016).
    pub fn zoneout(self, hidden: f64, cell: f64) -> Lstm {
        self.with(|options| (options.zoneout_h, options.zoneout_c) = (hidden, cell))
    }

    /// Width K of the hidden state: H, or P if it is projected.
    pub fn width(&self) -> usize {
        self.options.projection.unwrap_or(self.hidden)
    }

    /// The cell as data: the plain cell, or the general LSTM if an option needs it.
    pub(crate) fn spec(&self) -> &'static CellSpec {
        let Options { peepholes, layer_norm, zoneout_h, zoneout_c, .. } = self.options;
        let plain = self.settings() == Settings::default() && !peepholes && !layer_norm;
        let zoneout = zoneout_h > 0.0 || zoneout_c > 0.0;
        match self.cell {
            Cell::Standard if !plain || zoneout => cell::general(peepholes, layer_norm),
            cell => cell.spec(),
        }
    }

    /// True for both GRUs.
    #[cfg(any(feature = "keras", feature = "pytorch"))]
    pub(crate) fn is_gru(&self) -> bool {
        matches!(self.cell, Cell::Gru | Cell::GruResetBefore)
    }

    /// Stages of a time step, in order.
    pub(crate) fn stages(&self) -> Vec<&'static Stage> {
        let mut stages = Vec::new();
        if !self.cell.spec().recurrent_gates.is_empty() {
            stages.push(&PRODUCT);
        }
        if self.options.layer_norm {
            stages.push(&PRODUCT_NORM);
        }
        if self.cell == Cell::GruResetBefore {
            stages.push(&RESET);
        }
        stages.push(&CELL);
        if self.options.layer_norm {
            stages.push(&STATE_NORM);
        }
        if self.options.projection.is_some() {
            stages.extend([&PROJECT, &CARRY]);
        }
        stages
    }

    /// Settings of the cell.
    pub(crate) fn settings(&self) -> Settings {
        let Options { gate_activation, activation, output_activation, clip, cell_clip, coupled, .. } = self.options;
        Settings {
            gate: gate_activation.shape(),
            candidate: activation.shape(),
            output: output_activation.shape(),
            clip: clip.unwrap_or(f32::MAX),
            cell_clip: cell_clip.unwrap_or(f32::MAX),
            coupled,
        }
    }

    pub(crate) fn drops(&self) -> Drops {
        let options = &self.options;
        Drops {
            between: options.dropout,
            input: options.input_dropout,
            recurrent: options.recurrent_dropout,
            weights: options.weight_dropout,
            zoneout_h: options.zoneout_h,
            zoneout_c: options.zoneout_c,
        }
    }

    /// Options in use, among those that only some cells have.
    fn used(&self) -> impl Iterator<Item = CellOption> {
        let options = &self.options;
        [
            (CellOption::Peepholes, options.peepholes),
            (CellOption::Coupled, options.coupled),
            (CellOption::Clip, options.clip.is_some()),
            (CellOption::CellClip, options.cell_clip.is_some()),
            (CellOption::GateActivation, options.gate_activation != Activation::Sigmoid),
            (CellOption::CandidateActivation, options.activation != Activation::Tanh),
            (CellOption::OutputActivation, options.output_activation != Activation::Tanh),
            (CellOption::Projection, options.projection.is_some()),
            (CellOption::LayerNorm, options.layer_norm),
            (CellOption::Zoneout, options.zoneout_h > 0.0 || options.zoneout_c > 0.0),
            (CellOption::Heads, options.heads != 1),
            (CellOption::RecurrentDropout, options.recurrent_dropout > 0.0),
            (CellOption::WeightDropout, options.weight_dropout > 0.0),
        ]
        .into_iter()
        .filter_map(|(option, used)| used.then_some(option))
    }

    /// Refuses options that the cell does not have.
    fn validate_cell(&self, name: &str) -> Result<()> {
        let spec = self.cell.spec();
        let lacks = |option: &CellOption| !spec.options.contains(option);
        if self.used().any(|option| lacks(&option)) {
            let lacking: Vec<String> =
                CellOption::ALL.iter().filter(|option| lacks(option)).map(ToString::to_string).collect();
            let (last, others) = lacking.split_last().expect("one that is used");
            let others = if others.is_empty() { String::new() } else { others.join(", ") + " or " };
            return Err(Error::Config(format!("{name}: the {} cell has no {others}{last}", spec.name)));
        }
        if spec.recurrent_gates.is_empty() && self.bias == Bias::Double {
            return Err(Error::Config(format!(
                "{name}: the {} cell has no recurrent product, and so no second bias; use Bias::Single",
                spec.name
            )));
        }
        let heads = self.options.heads;
        if heads == 0 || !self.hidden.is_multiple_of(heads) {
            return Err(Error::Config(format!(
                "{name}: the {} hidden units cannot be split into {heads} heads of the same size",
                self.hidden
            )));
        }
        if heads > 1 && (self.options.layer_norm || self.options.projection.is_some()) {
            return Err(Error::Config(format!("{name}: heads exclude layer normalisation and a projection")));
        }
        Ok(())
    }

    /// Refuses settings out of range and those that exclude each other.
    pub(crate) fn validate_options(&self, name: &str) -> Result<()> {
        let refuse = |why: String| Err(Error::Config(format!("{name}: {why}")));
        let options = &self.options;
        for (place, activation) in [
            ("gate activation", options.gate_activation),
            ("candidate activation", options.activation),
            ("output activation", options.output_activation),
        ] {
            activation.validate(&format!("{name}: the {place}"))?;
            if activation.is_of_rows() {
                return refuse(format!(
                    "the {place} is {activation}, which needs all units at once; only a Dense layer can have it"
                ));
            }
        }
        for (what, probability) in [
            ("dropout", options.dropout),
            ("input_dropout", options.input_dropout),
            ("recurrent_dropout", options.recurrent_dropout),
            ("weight_dropout", options.weight_dropout),
            ("zoneout of the hidden state", options.zoneout_h),
            ("zoneout of the cell state", options.zoneout_c),
        ] {
            if !(0.0..1.0).contains(&probability) {
                return refuse(format!("{what} is {probability}; it must be at least 0 and below 1"));
            }
        }
        for (what, clip) in [("clip", options.clip), ("cell_clip", options.cell_clip)] {
            if clip.is_some_and(|clip| !(clip > 0.0 && clip.is_finite())) {
                return refuse(format!("{what} is {}; it must be finite and above 0", clip.unwrap_or_default()));
            }
        }
        let zoneout = options.zoneout_h > 0.0 || options.zoneout_c > 0.0;
        self.validate_cell(name)?;
        if options.layer_norm && options.projection.is_some() {
            return refuse("layer normalisation and a projection exclude each other".into());
        }
        if let Some(projection) = options.projection {
            if projection == 0 || projection >= self.hidden {
                return refuse(format!(
                    "the projection to {projection} must be at least 1 and below the {} hidden units",
                    self.hidden
                ));
            }
            if zoneout {
                return refuse("a projection excludes zoneout".into());
            }
        }
        if options.dropout > 0.0 && self.layers < 2 {
            return refuse(format!(
                "dropout {} acts between layers, but there is one; use a Dropout layer after it",
                options.dropout
            ));
        }
        if (options.reverse as usize) + (options.go_backwards as usize) + (self.bidirectional as usize) > 1 {
            return refuse("reverse, go_backwards and bidirectional exclude each other".into());
        }
        if options.merge != Merge::Concat && !self.bidirectional {
            return refuse("directions can only be merged if there are two; set bidirectional(true)".into());
        }
        if options.go_backwards && self.layers > 1 {
            return refuse("go_backwards is for one layer; add several, as in Keras, or use reverse".into());
        }
        Ok(())
    }

    /// Heads: groups of units without recurrent weights between them.
    pub fn head_count(&self) -> usize {
        self.options.heads
    }

    /// Layers L of the stack.
    ///
    /// ```
    /// use wgpu_lstm::{Bias, Cell, Gru, Lstm};
    /// let gru: Lstm = Gru::new(16).layers(2).bidirectional(true).into();
    /// assert_eq!((gru.hidden(), gru.depth(), gru.directions(), gru.output()), (16, 2, 2, 32));
    /// assert_eq!((gru.equations(), gru.biases(), gru.projected_to()), (Cell::Gru, Bias::Double, None));
    /// assert_eq!((gru.head_count(), gru.returns_sequences()), (1, false));
    /// ```
    pub fn depth(&self) -> usize {
        self.layers
    }

    /// The cell.
    pub fn equations(&self) -> Cell {
        self.cell
    }

    /// Biases of the gates.
    pub fn biases(&self) -> Bias {
        self.bias
    }

    /// P, where the hidden state is projected.
    pub fn projected_to(&self) -> Option<usize> {
        self.options.projection
    }

    /// True if a model passes on the output of every step.
    pub fn returns_sequences(&self) -> bool {
        self.return_sequences
    }

    /// Hidden units H.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Directions D.
    pub fn directions(&self) -> usize {
        1 + self.bidirectional as usize
    }

    /// Output features: D·K, or K if directions are merged.
    pub fn output(&self) -> usize {
        if self.options.merge == Merge::Concat { self.stacked() } else { self.width() }
    }

    /// Features between layers of the stack, D·K.
    pub(crate) fn stacked(&self) -> usize {
        self.directions().saturating_mul(self.width())
    }
}
