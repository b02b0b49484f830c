//! A stack of layers in inference whose steps run along the diagonal: while layer l takes a step, the layer above takes the one before. So
//! T steps of L layers are T + L − 1 dispatches, where one a step and layer would cost more than its work.

use super::forward::{Forward, Initial, input_product};
use super::sizes::{LstmSizes, Pass};
use super::trace::LayerTrace;
use super::weights::LayerWeights;
use crate::error::Result;
use crate::kernel::{self, StackStepConstants};
use crate::plan::{BufferId, Capabilities, Launch, Recurrence, Role, StepWeights, Strategy};
use crate::schedule::builder::Builder;
use crate::schedule::sequence::{Direction, Sequence};

/// Rows up to which layers step together; more keep a device busy layer by layer.
const MOST_ROWS: u32 = 8;
/// Estimated bytes that a device copies in the time of a dispatch.
const BYTES_OF_A_DISPATCH: u64 = 1 << 20;

impl LstmSizes {
    /// The launch of steps along the diagonal; `None` where layers run one after the other.
    pub(crate) fn stack_step(&self, capabilities: &Capabilities) -> Option<Launch> {
        let LstmSizes { steps, layers, batch, hidden, .. } = *self;
        let several = capabilities.shared_terms && layers > 1 && steps > 1 && batch <= MOST_ROWS;
        let plain = self.fused()
            && self.has_product()
            && [self.heads, self.directions] == [1, 1]
            && !self.projected()
            && !self.backwards
            && self.carries() == 0
            && capabilities.step_weights == StepWeights::F32;
        if !several || !plain || self.launch(Pass::Forward, capabilities).strategy != Strategy::PerStep {
            return None;
        }
        // The layers' weights are copied to lie together.
        let saved = steps as u64 * layers as u64 - (steps + layers - 1) as u64;
        let copied = 2 * 16 * (2 * layers as u64 - 1) * hidden as u64 * hidden as u64;
        if copied / BYTES_OF_A_DISPATCH > saved {
            return None;
        }
        Launch::best(&Recurrence { input: Some(hidden), ..self.recurrence(Pass::Forward) }, capabilities)
    }
}

/// A tensor of every layer, one after the other, copied together; runs with the same weights leave the copies out.
fn together(
    builder: &mut Builder,
    name: String,
    layers: impl ExactSizeIterator<Item = (BufferId, u32)>,
    len: u32,
) -> Result<BufferId> {
    let all = builder.buffer(name, layers.len() as u64 * len as u64, Role::Scratch)?;
    for (layer, from) in layers.enumerate() {
        builder.copy_run_early(len, from, (all, layer as u32 * len));
    }
    Ok(all)
}

/// Plans the forward pass of all layers.
pub(super) fn lstm(
    builder: &mut Builder,
    sizes: &LstmSizes,
    stack: &Forward,
    launch: Launch,
) -> Result<Vec<LayerTrace>> {
    let LstmSizes { steps, batch, hidden, layers, biases, .. } = *sizes;
    let (name, slot, columns) = (&sizes.name, sizes.slot(), sizes.columns());
    builder.section(format!("{name} all layers forward"));
    let of =
        |pick: fn(&LayerWeights) -> BufferId, from: usize| stack.weights[from..].iter().map(move |own| (pick(own), 0));
    let w = together(builder, format!("{name}.W"), of(|own| own.w, 1), hidden * columns)?;
    let r = together(builder, format!("{name}.R"), of(|own| own.r, 0), hidden * columns)?;
    let bias = together(builder, format!("{name}.bias"), of(|own| own.bias, 0), sizes.parameters() * columns)?;
    let history = (1 + steps) * slot;
    let h = builder.buffer(format!("{name}.h"), layers as u64 * history as u64, Role::Scratch)?;
    let c = builder.buffer(format!("{name}.c"), layers as u64 * sizes.c_slot() as u64, Role::Scratch)?;
    builder.fill(h, 0..layers * history, 0.0);
    builder.fill(c, 0..layers * sizes.c_slot(), 0.0);
    if let Initial::States(states) = stack.initial {
        for (&[own_h, own_c], layer) in states.iter().zip(0..) {
            builder.copy_run(slot, own_h, (h, layer * history));
            builder.copy_run(sizes.c_slot(), own_c, (c, layer * sizes.c_slot()));
        }
    }
    let xw = builder.buffer(format!("{name} W·x"), steps as u64 * sizes.gate_slot() as u64, Role::Scratch)?;
    let direction = Direction::forward(steps);
    for part in direction.segments(0..steps, stack.x.chunk_steps) {
        input_product(builder, sizes, stack.weights[0].w, stack.x, direction, part, (xw, 0, 0));
    }
    let words = builder.words(batch)?;
    let constants = StackStepConstants { common: sizes.forward_constants(&launch), layers, steps };
    for diagonal in 0..steps + layers - 1 {
        let (first, end) = ((diagonal + 1).saturating_sub(steps), layers.min(diagonal + 1));
        let params = kernel::ScanForward {
            batch,
            directions: 1,
            biases,
            steps: end - first,
            site: first,
            first_step: diagonal,
            total_steps: steps,
            ..bytemuck::Zeroable::zeroed()
        }
        .with_settings(&sizes.settings);
        builder.push(&kernel::STACK_STEP, Some(sizes.cell), &constants, &params, &[xw, w, r, bias, h, c, words]);
    }
    let trace = |layer: u32| {
        let first = layer * history + slot; // after step 0
        let states = Sequence {
            chunks: vec![h],
            steps,
            chunk_steps: steps,
            lead: first,
            step: slot,
            row: hidden,
            features: hidden,
        };
        LayerTrace {
            x: stack.x.clone(),
            y: if layer + 1 == layers && !stack.whole { None } else { Some(states.clone()) },
            h_last: states.at(steps - 1),
            h: states,
            saved: None,
            c_last: (c, layer * sizes.c_slot()),
            r: stack.weights[layer as usize].r,
            stages: Vec::new(),
            input_drops: Vec::new(),
            recurrent_drop: None,
            weight_drop: None,
            zoneout_stream: 0,
        }
    };
    Ok((0..layers).map(trace).collect())
}
