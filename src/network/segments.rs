//! Training in segments of time (gradient checkpointing), with memory that grows with the square root of T: states are kept at the
//! start of each segment only, and the backward pass repeats the forward pass of a segment first (Chen et al. 2016, Gruslys et
//! al. 2016). All segments share the buffers of one.

use super::Purpose;
use super::graph::Graph;
use super::node::{Node, Source, check_carried};
use super::pass::{ForwardResult, Gradients, Trained, Wanted, backward, forward};
use super::place::{Placed, leave, place, places};
use super::plan::PlanOutput;
use super::update::{OutputLoss, loss_of};
use crate::error::{Error, Result};
use crate::layer::{Place, StateGradients};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Segment, Sequence};
use std::ops::Range;

/// Steps of a segment, bounded by what the device can bind; `None` if one segment would have all T steps.
pub(super) fn steps(
    builder: &mut Builder,
    graph: &Graph,
    purpose: Purpose,
    [steps, segment]: [u32; 2],
) -> Result<Option<u32>> {
    if !matches!(purpose, Purpose::Train { .. }) {
        return Err(Error::Config("segments of time are for training only".into()));
    }
    check_segments(graph)?;
    let segment = segment.min(builder.chunk_steps(steps));
    builder.chunk_by_segments(segment);
    Ok((segment < steps).then_some(segment))
}

/// Refuses models that cannot be trained in segments.
pub(crate) fn check_segments(graph: &Graph) -> Result<()> {
    const WHAT: &str = "be trained in segments of time";
    check_carried(&graph.nodes, WHAT)?;
    for Node { name, layer, .. } in &graph.nodes {
        if let Some(why) = layer.operator().trains_on_whole_sequence() {
            return Err(Error::Config(format!("{name} {why}, which needs the whole sequence, so it cannot {WHAT}")));
        }
    }
    if !graph.is_chain() || graph.axes.len() > 1 {
        return Err(Error::Config(
            "segments of time are for chains of layers that keep the steps; this network branches or changes them"
                .into(),
        ));
    }
    match graph.nodes.iter().any(Node::is_recurrent) {
        true => Ok(()),
        false => Err(Error::Config("segments of time are for models with a recurrent layer; this one has none".into())),
    }
}

/// A network that is trained in segments.
pub(super) struct Segmented<'a> {
    pub graph: &'a Graph,
    /// The nodes, with their weights.
    pub placed: &'a [Placed<'a>],
    pub x: &'a Sequence,
    /// Buffers of initial and final states, by node; empty if states begin at zero.
    pub states: &'a [Vec<BufferId>],
    /// T, B and the steps of a segment.
    pub sizes: [u32; 3],
    pub ragged: bool,
}

impl<'a> Segmented<'a> {
    /// The steps of segment `s`.
    fn range(&self, s: u32) -> Range<u32> {
        let [steps, _, segment] = self.sizes;
        s * segment..((s + 1) * segment).min(steps)
    }

    /// The nodes with their sites in a segment of `steps` steps.
    fn place(&self, steps: u32) -> Vec<Placed<'a>> {
        let mut segment = place(self.graph, self.sizes[1], &[steps], self.ragged, true);
        for (to, from) in segment.iter_mut().zip(self.placed) {
            to.weights.clone_from(&from.weights);
        }
        segment
    }

    /// Plans loss and gradients. Returns the output, the mean loss, and weights with their gradients. An output of every step is not
    /// kept as a whole: its sequence then has no chunks.
    pub fn train(
        &self,
        plan: &mut Builder,
        loss: &OutputLoss,
        weighted: bool,
    ) -> Result<(PlanOutput, BufferId, Vec<Trained>)> {
        let [steps, batch, segment] = self.sizes;
        let count = steps.div_ceil(segment);
        let (full, last) = (self.place(segment), self.place(self.range(count - 1).len() as u32));
        // Layers up to the one that ends the sequence, if one does; those above it run once.
        let end = full.iter().position(|placed| placed.node.layer.operator().ends_sequence());
        let below = end.map_or(full.len(), |end| end + 1);
        let recurrent = full[..below].iter().rposition(|placed| placed.node.is_recurrent()).map_or(0, |at| at + 1);
        let kept = self.keep(plan, count)?;
        let starts = |s: u32| -> Vec<Vec<Place>> {
            kept.iter().map(|slots| slots.iter().map(|slot| slot.at(s)).collect()).collect()
        };
        for s in 0..count - 1 {
            plan.begin_segment(Segment { first: self.range(s).start, ..Segment::default() });
            let nodes = &full[..recurrent];
            let x = [self.x.window(self.range(s))];
            let ForwardResult { traces, .. } = forward(plan, nodes, &x, &starts(s))?;
            for ((placed, trace), next) in nodes.iter().zip(&traces).zip(&starts(s + 1)) {
                leave(plan, placed, trace.final_states(), next);
            }
        }
        let range = self.range(count - 1);
        let first = Segment { first: range.start, ..Segment::default() };
        plan.begin_segment(first);
        let (nodes, above) = last.split_at(below);
        let passed = forward(plan, nodes, &[self.x.window(range.clone())], &starts(count - 1))?;
        for ((placed, trace), states) in nodes.iter().zip(&passed.traces).zip(&places(self.states)) {
            leave(plan, placed, trace.final_states(), states);
        }
        let flow = passed.values.last();

        let carried = self.carry(plan)?;
        let (mut trained, truth, losses, y, upstream);
        match end {
            Some(_) => {
                plan.end_segments();
                let top = forward(plan, above, &[flow], &[])?;
                y = top.values.last();
                (truth, losses) = loss_of(plan, loss, 0, [1, batch, y.features], weighted)?;
                let gradient = losses.gradient(plan, &y, &truth, 0)?;
                (trained, upstream) = match above.last() {
                    None => (Vec::new(), Some(gradient)),
                    Some(last) => {
                        let given = vec![(Source::Node(last.at), gradient)];
                        let Gradients { trained, mut dx, .. } =
                            backward(plan, above, &top, given, None, Wanted::INPUTS)?;
                        (trained, dx.remove(0))
                    }
                };
                plan.begin_segment(first);
            }
            None => {
                (truth, losses) = loss_of(plan, loss, 0, [steps, batch, flow.features], weighted)?;
                upstream = Some(losses.gradient(plan, &flow, &truth.window(range.clone()), range.start)?);
                trained = Vec::new();
                y = Sequence { chunks: Vec::new(), steps, chunk_steps: steps, ..flow };
            }
        }
        let upstream = upstream.ok_or_else(|| Error::Plan("layers above a sequence without a gradient".into()))?;
        let top = Source::Node(below - 1);
        let lower = backward(plan, nodes, &passed, vec![(top, upstream)], Some(&carried), Wanted::default())?;
        trained.extend(lower.trained);
        for s in (0..count - 1).rev() {
            let (nodes, range) = (&full[..below], self.range(s));
            plan.begin_segment(Segment { first: range.start, adds: true, again: true });
            let passed = forward(plan, nodes, &[self.x.window(range.clone())], &starts(s))?;
            let upstream = match end {
                Some(_) => last_state(&carried, &full)?,
                None => losses.gradient(plan, &passed.values.last(), &truth.window(range.clone()), range.start)?,
            };
            backward(plan, nodes, &passed, vec![(top, upstream)], Some(&carried), Wanted::default())?;
        }
        plan.end_segments();
        let loss = losses.mean(plan)?;
        let row_weights = losses.row_weights();
        Ok((PlanOutput { y, target: Some(truth), row_weights, loss: Some(loss) }, loss, trained))
    }

    /// Declares the states at the start of each segment, [segments, B, features] each, by node, and fills those of the first segment.
    fn keep(&self, plan: &mut Builder, count: u32) -> Result<Vec<Vec<Sequence>>> {
        let mut all = Vec::new();
        for Placed { node, site, .. } in self.placed {
            let mut slots = Vec::new();
            for slot in node.states() {
                let name = format!("{}.l{}.{} kept", site.name, slot.layer, slot.name);
                slots.push(plan.sequence(&name, [count, site.batch, slot.features as u32], 0, Role::Scratch)?);
            }
            all.push(slots);
        }
        plan.section("states before the first step");
        let mut given = self.states.iter().flatten();
        for kept in all.iter().flatten() {
            let (to, at) = kept.at(0);
            match given.next() {
                Some(&state) => plan.copy_run(kept.step, (state, 0), (to, at)),
                None => plan.fill(to, at..at + kept.step, 0.0),
            }
        }
        Ok(all)
    }

    /// Declares the gradients of the states between two segments, by node; they are zero after the last segment.
    fn carry(&self, plan: &mut Builder) -> Result<Vec<StateGradients>> {
        plan.section("gradients of the last states");
        let mut all = Vec::new();
        for Placed { node, site, .. } in self.placed {
            let mut carried = StateGradients { in_output: true, ..StateGradients::default() };
            for slot in node.states() {
                let len = slot.features as u32 * site.batch;
                let mut zeros = |name: &str| {
                    let id =
                        plan.buffer(format!("{}.l{}.d{name}", site.name, slot.layer), len as u64, Role::Scratch)?;
                    plan.fill(id, 0..len, 0.0);
                    Ok::<_, Error>(id)
                };
                let state = zeros(slot.name)?;
                carried.initials.push(state);
                // A state that repeats h has no gradient of its own.
                carried.finals.push(if slot.repeats_h { zeros(&format!("{} after", slot.name))? } else { state });
            }
            all.push(carried);
        }
        Ok(all)
    }
}

/// The gradient of the topmost hidden state at the end of a segment, [1, B, K].
fn last_state(carried: &[StateGradients], nodes: &[Placed]) -> Result<Sequence> {
    let recurrent = nodes.iter().zip(carried).rev().find(|(placed, _)| placed.node.is_recurrent());
    let top = recurrent.and_then(|(placed, carried)| {
        let slots = placed.node.states();
        let (slot, &id) = slots.into_iter().zip(&carried.finals).rfind(|(slot, _)| slot.name == "h")?;
        Some((slot.features as u32, placed.site.batch, id))
    });
    let Some((width, batch, h)) = top else {
        return Err(Error::Plan("segments of time without a recurrent layer".into()));
    };
    Ok(Sequence {
        chunks: vec![h],
        steps: 1,
        chunk_steps: 1,
        lead: 0,
        step: width * batch,
        row: width,
        features: width,
    })
}
