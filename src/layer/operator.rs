//! The interface of layers to networks, plans, files and summaries.

use super::tensor::DeviceTensor;
use crate::activation::Activation;
use crate::error::Result;
use crate::plan::{BufferId, Capabilities};
use crate::schedule::{Builder, Sequence};

/// A layer as an operator of a network. Each file of `src/layer/` implements it for one layer.
pub(crate) trait Operator {
    /// Prefix of automatic names.
    fn kind(&self) -> &'static str;

    /// The layer in a summary.
    fn describe(&self) -> String;

    /// Refuses settings out of range, sizes of 0 and sizes beyond 32-bit offsets, for inputs of these widths.
    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()>;

    /// Output features for inputs of these widths.
    fn output(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    /// Number of inputs.
    fn inputs(&self) -> usize {
        1
    }

    /// The time axis of its output.
    fn time(&self) -> Time {
        Time::Kept
    }

    /// Steps of the output for `steps` steps, if it changes the time axis; 0 if there are too few.
    fn output_steps(&self, steps: usize) -> usize {
        steps
    }

    /// True if it reduces a sequence to one vector.
    fn ends_sequence(&self) -> bool {
        self.time() == Time::Ended
    }

    /// Names of its further outputs, which have no gradient.
    fn beside(&self) -> &'static [&'static str] {
        &[]
    }

    /// True if it needs a sequence.
    fn takes_sequence(&self) -> bool {
        false
    }

    /// The reason why it needs the whole sequence, so that a part cannot continue from the states of another; `None` if it does not.
    fn needs_whole_sequence(&self) -> Option<&'static str> {
        None
    }

    /// The reason why training needs the whole sequence, if nothing else does.
    fn trains_on_whole_sequence(&self) -> Option<&'static str> {
        None
    }

    /// The value of all features of a padded step, if the layer masks padding.
    fn padding(&self) -> Option<f32> {
        None
    }

    /// Entries of its table, if its input is indices.
    fn index_limit(&self) -> Option<usize> {
        None
    }

    /// The activation of its output; `None` if that is the activation of its input (dropout, pooling).
    fn output_activation(&self) -> Option<Activation> {
        Some(Activation::Linear)
    }

    /// The table of its parameters.
    fn parameters(&self, _name: &str, _inputs: &[usize]) -> Vec<DeviceTensor> {
        Vec::new()
    }

    /// Lower bound of its number of parameters: the layers of a stack, each of which has some.
    fn depth(&self) -> usize {
        0
    }

    /// Its states, which steps carry from one to the next.
    fn states(&self, _inputs: &[usize]) -> Vec<StateSlot> {
        Vec::new()
    }

    /// True if other nodes can read its final states and give its initial ones.
    fn shares_states(&self) -> bool {
        false
    }

    /// The largest tensors of a step, with their names; they determine the chunks of time.
    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>>;

    /// Description, for a plan's text, of its strategy for the steps of a sequence or segment, and the reason.
    fn strategy(&self, _site: &Site, _segment: Option<u32>, _capabilities: &Capabilities) -> Result<Option<String>> {
        Ok(None)
    }

    /// Plans the layer forward.
    fn forward(&self, plan: &mut Builder, site: &Site, inputs: Inputs) -> Result<Output>;
}

/// The time axis of an operator's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// That of its inputs, which share one.
    Kept,
    /// That of an input; each input has one of its own.
    Of(usize),
    /// None: a vector.
    Ended,
    /// One of [`Operator::output_steps`] steps; the lengths of sequences change by that function, too.
    Changed,
    /// One of so many steps, made of a vector.
    Made(u32),
}

/// A layer's site: its place in a network, and the sizes of a batch there.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Prefix of the names of its buffers and parameters.
    pub name: String,
    /// Features of each input.
    pub inputs: Vec<usize>,
    /// B.
    pub batch: u32,
    /// T of the first input; 1 for a vector.
    pub steps: u32,
    /// T of each input.
    pub input_steps: Vec<u32>,
    /// Time axis of each input, which has the lengths of its sequences ([`Builder::words_of`]); `None` for a vector.
    pub axes: Vec<Option<usize>>,
    /// True if each sequence has a length of its own.
    pub ragged: bool,
    /// True if backward follows.
    pub train: bool,
}

impl Site {
    /// Features of the first input.
    pub fn input(&self) -> usize {
        self.inputs[0]
    }

    /// The smallest site of a layer, for checks of its settings.
    pub fn smallest(name: &str, inputs: &[usize]) -> Site {
        let (axes, input_steps) = (vec![None; inputs.len()], vec![1; inputs.len()]);
        let name = name.into();
        Site { name, inputs: inputs.to_vec(), batch: 1, steps: 1, input_steps, axes, ragged: false, train: false }
    }

    /// Elements of a step with `features` features, with the name of the tensor.
    pub fn step(&self, features: usize) -> (String, u64) {
        let text = format!("{} [B, features] = [{}, {features}]", self.name, self.batch);
        (text, self.batch as u64 * features as u64)
    }
}

/// States of a layer, [planes, D, B, width] in each layer of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateSlot {
    /// Layer of the stack.
    pub layer: usize,
    /// The field's name: h for the hidden state, c for those beside it, tail for the last steps of a convolution's input.
    pub name: &'static str,
    /// States of a unit.
    pub planes: usize,
    /// D.
    pub directions: usize,
    /// States times directions times units.
    pub features: usize,
    /// True if it repeats the values of h, whose gradient then covers both.
    pub repeats_h: bool,
}

/// Address of a state: buffer and first element.
pub(crate) type Place = (BufferId, u32);

/// Operands of a layer's forward pass.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// [T, B, input] each.
    pub x: &'a [Sequence],
    /// Buffers of [`Operator::parameters`], in their order.
    pub weights: &'a [BufferId],
    /// Addresses of [`Operator::states`] before the first step; zero if there are none.
    pub start: &'a [Place],
}

/// Result of planning a layer forward.
pub(crate) struct Output {
    /// [T or 1, B, output].
    pub y: Sequence,
    /// The outputs of [`Operator::beside`].
    pub beside: Vec<Sequence>,
    /// Trace for the backward pass.
    pub trace: Box<dyn Trace>,
}

impl Output {
    /// An output with its trace.
    pub fn new(y: Sequence, trace: impl Trace + 'static) -> Output {
        Output { y, beside: Vec::new(), trace: Box::new(trace) }
    }

    /// Adds a further output.
    pub fn beside(mut self, sequence: Sequence) -> Output {
        self.beside.push(sequence);
        self
    }
}

/// Trace of a layer's forward pass, from which it plans its backward pass.
pub(crate) trait Trace {
    /// Plans the layer backward: computes the gradients of its parameters, and returns those of its inputs, or none if the caller does
    /// not need them. It may overwrite `dy`.
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>>;

    /// Addresses of [`Operator::states`] after the last step.
    fn final_states(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// Operands of a layer's backward pass: gradients that it reads and those that it computes.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    /// Gradient of the output.
    pub dy: &'a Sequence,
    /// Buffers of the parameters.
    pub weights: &'a [BufferId],
    /// Buffers of the parameters' gradients, in the same order.
    pub gradients: &'a [BufferId],
    /// Gradients of the states, if they continue beyond this pass.
    pub states: Option<&'a StateGradients>,
    /// True if the caller needs the gradient of the input.
    pub wants_dx: bool,
}

/// Gradients of the states after the last step and of those before the first, in the order of [`Operator::states`].
#[derive(Clone, Debug, Default)]
pub(crate) struct StateGradients {
    /// Read.
    pub finals: Vec<BufferId>,
    /// Written.
    pub initials: Vec<BufferId>,
    /// True if the gradient of an output that is the last state already has that of the state, as between segments of time.
    pub in_output: bool,
}
