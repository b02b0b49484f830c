//! Training in segments of time, so that memory grows with the square root of T: states are kept at the start of each segment
//! only, and backward goes forward through a segment once more before it goes back through it (Chen et al. 2016, Gruslys et
//! al. 2016). All segments share the buffers of one.

use super::builder::{Builder, Segment};
use super::network::{LayerPlan, Pairs, Purpose, Run, Sized, Weights, check_carried, leave, sized, target};
use super::recurrence::{Initial, StateGradients};
use super::sequence::Sequence;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::plan::{BufferId, Role};
use crate::train::Loss;
use std::ops::Range;

/// The steps of a segment, no more than what a device can bind; nothing where one would hold all T.
pub(super) fn steps(
    builder: &mut Builder,
    layers: &[LayerPlan],
    purpose: Purpose,
    [steps, segment]: [u32; 2],
) -> Result<Option<u32>> {
    if !matches!(purpose, Purpose::Train { .. }) {
        return Err(Error::Config("segments of time are for training only".into()));
    }
    check_segments(layers)?;
    let segment = segment.min(builder.chunk_steps(steps));
    builder.chunk_by_segments(segment);
    Ok((segment < steps).then_some(segment))
}

/// Refuses models whose time cannot be gone through in segments.
pub(crate) fn check_segments(layers: &[LayerPlan]) -> Result<()> {
    check_carried(layers, "be trained in segments of time")?;
    match layers.iter().any(|plan| matches!(plan.layer, Layer::Lstm(_))) {
        true => Ok(()),
        false => Err(Error::Config("segments of time are for models with a recurrent layer; this one has none".into())),
    }
}

/// A network that is trained in segments.
pub(super) struct Segmented<'a> {
    pub layers: &'a [LayerPlan],
    pub x: &'a Sequence,
    pub weights: &'a [Weights],
    /// Where recurrent layers begin and leave their final states, if not at zero.
    pub states: &'a [Vec<(BufferId, BufferId)>],
    /// T, B and the steps of a segment.
    pub sizes: [u32; 3],
    pub ragged: bool,
}

/// A recurrent layer's h and c at the start of each segment, [segments, B, K] and [segments, B, H].
type Kept = [Sequence; 2];

impl Segmented<'_> {
    /// Plans loss and gradients. Returns output, target, mean loss, and weights with their gradients. An output for every step is
    /// nowhere as a whole: its sequence then has no chunks.
    pub fn train(
        &self,
        builder: &mut Builder,
        loss: &Loss,
        weighted: bool,
    ) -> Result<(Sequence, Sequence, BufferId, Pairs)> {
        let [steps, batch, segment] = self.sizes;
        let count = steps.div_ceil(segment);
        let range = |s: u32| s * segment..((s + 1) * segment).min(steps);
        let full = sized(builder, self.layers, [batch, segment], self.ragged, true)?;
        let last = sized(builder, self.layers, [batch, range(count - 1).len() as u32], self.ragged, true)?;
        // Layers up to the one that ends the sequence, if one does; those above it run once.
        let end = self.layers.iter().position(|plan| plan.layer.ends_sequence());
        let below = end.map_or(self.layers.len(), |end| end + 1);
        let recurrent = self.layers[..below].iter().rposition(|plan| matches!(plan.layer, Layer::Lstm(_)));
        let recurrent = recurrent.map_or(0, |at| at + 1);
        let run = |s: u32, layers: Range<usize>| Run {
            sized: if s + 1 == count { &last[layers.clone()] } else { &full[layers.clone()] },
            weights: &self.weights[layers],
            batch,
            ragged: self.ragged,
            train: true,
        };
        let kept = self.keep(builder, &full, count)?;
        let starts = |s: u32| -> Vec<Initial> {
            let places = |stack: &Vec<Kept>| stack.iter().map(|[h, c]| [h.at(s), c.at(s)]).collect();
            kept.iter().map(|stack| Initial::States(places(stack))).collect()
        };
        for s in 0..count - 1 {
            builder.begin_segment(Segment { first: range(s).start, ..Segment::default() });
            let run = run(s, 0..recurrent);
            let (traces, _) = run.forward(builder, self.x.window(range(s)), &starts(s))?;
            let next = kept.iter().flatten().map(|[h, c]| [h.at(s + 1), c.at(s + 1)]);
            leave(builder, run.sized, &traces, next);
        }
        let s = count - 1;
        let first = Segment { first: range(s).start, ..Segment::default() };
        builder.begin_segment(first);
        let (mut traces, mut flow) = run(s, 0..below).forward(builder, self.x.window(range(s)), &starts(s))?;
        let finals = self.states.iter().flatten().map(|&(h, c)| [(h, 0), (c, 0)]);
        leave(builder, run(s, 0..below).sized, &traces, finals);

        let carried = self.carry(builder, &full)?;
        let (mut pairs, truth, losses, y);
        let mut upstream;
        match end {
            Some(_) => {
                builder.end_segments();
                let above = run(s, below..self.layers.len());
                let (traces, top) = above.forward(builder, flow, &[])?;
                (truth, losses) = target(builder, loss, [1, batch, top.features], weighted)?;
                let gradient = losses.gradient(builder, &top, &truth, 0)?;
                (pairs, upstream) = above.gradients(builder, &traces, gradient, None, true)?;
                y = top;
                builder.begin_segment(first);
            }
            None => {
                (truth, losses) = target(builder, loss, [steps, batch, flow.features], weighted)?;
                upstream = losses.gradient(builder, &flow, &truth.window(range(s)), range(s).start)?;
                pairs = Vec::new();
                y = Sequence { chunks: Vec::new(), steps, chunk_steps: steps, ..flow.clone() };
            }
        }
        pairs.extend(run(s, 0..below).gradients(builder, &traces, upstream, Some(&carried), false)?.0);
        for s in (0..count - 1).rev() {
            builder.begin_segment(Segment { first: range(s).start, adds: true, again: true });
            let run = run(s, 0..below);
            (traces, flow) = run.forward(builder, self.x.window(range(s)), &starts(s))?;
            upstream = match end {
                Some(_) => last_state(&carried, &full)?,
                None => losses.gradient(builder, &flow, &truth.window(range(s)), range(s).start)?,
            };
            run.gradients(builder, &traces, upstream, Some(&carried), false)?;
        }
        builder.end_segments();
        let loss = losses.mean(builder)?;
        Ok((y, truth, loss, pairs))
    }

    /// Places for the states at the start of each segment, those of the first one filled.
    fn keep(&self, builder: &mut Builder, layers: &[Sized], count: u32) -> Result<Vec<Vec<Kept>>> {
        let mut all = Vec::new();
        for layer in layers {
            let Sized::Lstm { sizes, .. } = layer else { continue };
            let mut stack = Vec::new();
            for layer in 0..sizes.layers {
                let mut kept = |kind: &str, width: u32| {
                    let name = format!("{}.l{layer}.{kind} kept", sizes.name);
                    builder.sequence(&name, [count, sizes.batch, width], 0, Role::Scratch)
                };
                stack.push([kept("h", sizes.width)?, kept("c", sizes.c_slot() / sizes.batch)?]);
            }
            all.push(stack);
        }
        builder.section("states before the first step");
        let mut given = self.states.iter().flatten();
        for [h, c] in all.iter().flatten() {
            let given = given.next().map(|&(h, c)| [h, c]);
            for (k, kept) in [h, c].into_iter().enumerate() {
                let (to, at) = kept.at(0);
                match given {
                    Some(states) => builder.copy_run(kept.step, (states[k], 0), (to, at)),
                    None => builder.fill(to, at..at + kept.step, 0.0),
                }
            }
        }
        Ok(all)
    }

    /// Places for the gradients of the states between two segments, which are zero after the last one.
    fn carry(&self, builder: &mut Builder, layers: &[Sized]) -> Result<Vec<StateGradients>> {
        builder.section("gradients of the last states");
        let mut all = Vec::new();
        for layer in layers {
            let Sized::Lstm { sizes, .. } = layer else { continue };
            let (mut finals, mut initials) = (Vec::new(), Vec::new());
            for layer in 0..sizes.layers {
                let mut state = |kind: &str, len: u32| {
                    let id = builder.buffer(format!("{}.l{layer}.d{kind}", sizes.name), len as u64, Role::Scratch)?;
                    builder.fill(id, 0..len, 0.0);
                    Ok::<_, Error>(id)
                };
                let (h, c) = (state("h", sizes.h_slot())?, state("c", sizes.c_slot())?);
                initials.push((h, c));
                // Where both are one state, the gradient of h is all of it.
                finals.push((h, if sizes.cell.state_is_hidden { state("c after", sizes.c_slot())? } else { c }));
            }
            all.push(StateGradients { finals, initials });
        }
        Ok(all)
    }
}

/// The gradient of the topmost hidden state at the end of a segment, [1, B, K].
fn last_state(carried: &[StateGradients], layers: &[Sized]) -> Result<Sequence> {
    let sizes = layers.iter().rev().find_map(|layer| match layer {
        Sized::Lstm { sizes, .. } => Some(sizes),
        _ => None,
    });
    let state = carried.last().and_then(|stack| stack.finals.last());
    let (Some(sizes), Some(&(h, _))) = (sizes, state) else {
        return Err(Error::Plan("segments of time without a recurrent layer".into()));
    };
    let (step, width) = (sizes.h_slot(), sizes.width);
    Ok(Sequence { chunks: vec![h], steps: 1, chunk_steps: 1, lead: 0, step, row: width, features: width })
}
