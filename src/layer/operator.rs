//! The trait that all layers share: what a network, a plan, a file or a summary asks of one.

use super::tensor::DeviceTensor;
use crate::activation::Activation;
use crate::error::Result;
use crate::plan::{BufferId, Capabilities};
use crate::schedule::{Builder, Sequence};

/// A layer as an operator of a network. Each file of `src/layer/` implements it for one layer and says all about that layer.
pub(crate) trait Operator {
    /// Prefix of automatic names.
    fn kind(&self) -> &'static str;

    /// The layer in a summary.
    fn describe(&self) -> String;

    /// Refuses settings out of range, sizes of 0 and sizes beyond 32-bit offsets.
    fn validate(&self, name: &str, input: usize) -> Result<()>;

    /// Features of its output, from `input` features.
    fn output(&self, input: usize) -> usize {
        input
    }

    /// Inputs that it takes.
    fn inputs(&self) -> usize {
        1
    }

    /// True if it makes one vector of a sequence.
    fn ends_sequence(&self) -> bool {
        false
    }

    /// True if it needs a sequence.
    fn takes_sequence(&self) -> bool {
        false
    }

    /// The reason why a part of a sequence cannot go on where another ended.
    fn needs_whole_sequence(&self) -> Option<&'static str> {
        None
    }

    /// The value that all features of a padded step have, where the layer finds padding.
    fn padding(&self) -> Option<f32> {
        None
    }

    /// Entries of the table, where the input is indices of one.
    fn index_limit(&self) -> Option<usize> {
        None
    }

    /// The activation that makes its output; `None` where it passes on what others made.
    fn output_activation(&self) -> Option<Activation> {
        Some(Activation::Linear)
    }

    /// The table of its parameters.
    fn parameters(&self, _name: &str, _input: usize) -> Vec<DeviceTensor> {
        Vec::new()
    }

    /// The fewest parameters that it can have: layers of a stack, each of which has some.
    fn depth(&self) -> usize {
        0
    }

    /// Its states: what a step hands to the next.
    fn states(&self) -> Vec<StateSlot> {
        Vec::new()
    }

    /// The largest tensors of a step, with their names; they decide how time is split.
    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>>;

    /// How it goes through the steps of a sequence, or of a segment, and why; for the text of a plan.
    fn strategy(&self, _site: &Site, _segment: Option<u32>, _capabilities: &Capabilities) -> Result<Option<String>> {
        Ok(None)
    }

    /// Plans the layer forward.
    fn forward(&self, plan: &mut Builder, site: &Site, inputs: Inputs) -> Result<Output>;
}

/// A layer's place in a network and the sizes of a batch there.
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
    /// Elements of a step of `features`, with the name of the tensor.
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
    /// True if its values are those of h once more, so that h has the gradient of both.
    pub repeats_h: bool,
}

/// A place of a state in a buffer.
pub(crate) type Place = (BufferId, u32);

/// Operands of a layer going forward.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// [T, B, input] each.
    pub x: &'a [Sequence],
    /// Buffers of [`Operator::parameters`], in their order.
    pub weights: &'a [BufferId],
    /// Places of [`Operator::states`] before the first step; zero where there are none.
    pub start: &'a [Place],
}

/// Result of planning a layer forward.
pub(crate) struct Output {
    /// [T or 1, B, output].
    pub y: Sequence,
    /// What backward needs.
    pub trace: Box<dyn Trace>,
}

impl Output {
    /// An output with its trace.
    pub fn new(y: Sequence, trace: impl Trace + 'static) -> Output {
        Output { y, trace: Box::new(trace) }
    }
}

/// A layer that has gone forward, and can go backward.
pub(crate) trait Trace {
    /// Plans the layer backward: fills the gradients of its parameters, and returns those of its inputs, or none where they are not
    /// asked for. It may overwrite `dy`.
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>>;

    /// Places of [`Operator::states`] after the last step.
    fn final_states(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// Gradients that a layer going backward reads, and those that it fills.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    /// Gradient of the output.
    pub dy: &'a Sequence,
    /// Buffers of the parameters.
    pub weights: &'a [BufferId],
    /// Buffers of the parameters' gradients, in the same order.
    pub gradients: &'a [BufferId],
    /// Gradients of the states, where they go beyond this pass.
    pub states: Option<&'a StateGradients>,
    /// True if the gradient of the input is asked for.
    pub wants_dx: bool,
}

/// Gradients of the states after the last step, and places for those before the first, in the order of [`Operator::states`].
#[derive(Clone, Debug, Default)]
pub(crate) struct StateGradients {
    /// Read.
    pub finals: Vec<BufferId>,
    /// Written.
    pub initials: Vec<BufferId>,
}
