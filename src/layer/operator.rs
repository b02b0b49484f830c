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

    /// Refuses settings out of range, sizes of 0 and sizes beyond 32-bit offsets.
    fn validate(&self, name: &str, input: usize) -> Result<()>;

    /// Output features for `input` features.
    fn output(&self, input: usize) -> usize {
        input
    }

    /// Number of inputs.
    fn inputs(&self) -> usize {
        1
    }

    /// True if it reduces a sequence to one vector.
    fn ends_sequence(&self) -> bool {
        false
    }

    /// True if it needs a sequence.
    fn takes_sequence(&self) -> bool {
        false
    }

    /// The reason why it needs the whole sequence, so that a part cannot continue from the states of another; `None` if it does not.
    fn needs_whole_sequence(&self) -> Option<&'static str> {
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
    fn parameters(&self, _name: &str, _input: usize) -> Vec<DeviceTensor> {
        Vec::new()
    }

    /// Lower bound of its number of parameters: the layers of a stack, each of which has some.
    fn depth(&self) -> usize {
        0
    }

    /// Its states, which steps carry from one to the next.
    fn states(&self) -> Vec<StateSlot> {
        Vec::new()
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

/// A layer's site: its place in a network, and the sizes of a batch there.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Prefix of the names of its buffers and parameters.
    pub name: String,
    /// Features of its input.
    pub input: usize,
    /// B.
    pub batch: u32,
    /// T, or 1 above a layer that ends the sequence.
    pub steps: u32,
    /// True if each sequence has a length of its own.
    pub ragged: bool,
    /// True if backward follows.
    pub train: bool,
}

impl Site {
    /// Elements of a step with `features` features, with the name of the tensor.
    pub fn step(&self, features: usize) -> (String, u64) {
        let text = format!("{} [B, features] = [{}, {features}]", self.name, self.batch);
        (text, self.batch as u64 * features as u64)
    }
}

/// States of a recurrent layer, [planes, D, B, width] in each layer of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateSlot {
    /// Layer of the stack.
    pub layer: usize,
    /// The field's name: h for the hidden state, c for those beside it.
    pub name: &'static str,
    /// States of a unit.
    pub planes: usize,
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
    /// Trace for the backward pass.
    pub trace: Box<dyn Trace>,
}

impl Output {
    /// An output with its trace.
    pub fn new(y: Sequence, trace: impl Trace + 'static) -> Output {
        Output { y, trace: Box::new(trace) }
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
}
