//! Tensors of a model's plans, to and from arrays by name: outputs and their gradients, states.

use super::Model;
use super::cache::Compiled;
use super::data::Data;
use super::pass::{NamedArrays, PassOptions};
use crate::device::Executable;
use crate::error::{Error, Result};
use crate::layer::Place;
use crate::memory;
use crate::network::{NetworkPlan, Source, StateValue, Tape};
use crate::schedule::Sequence;
use crate::transfer::{Downloads, Order, Rows, download, finite, upload};
use ndarray::{Array2, Array3, ArrayD, ArrayView, ArrayView3, Axis, CowArray, Ix3, IxDyn, s};
use std::collections::BTreeMap;

/// The target of an output.
pub(crate) struct NamedTarget<'d> {
    /// Name of the output.
    pub output: String,
    /// In the output's shape.
    pub y: ArrayD<f32>,
    /// True for rows that are missing, [N, T or 1].
    pub missing: Option<&'d Array2<bool>>,
}

impl Model {
    /// The outputs of every layer after a run.
    pub(super) async fn layer_outputs(
        &self,
        Compiled { plan, executable }: &Compiled<NetworkPlan>,
        batch: usize,
    ) -> Result<NamedArrays> {
        let mut all = NamedArrays::new();
        for (at, (node, value)) in self.graph.nodes.iter().zip(&plan.values).enumerate() {
            all.insert(node.name.clone(), self.read_tensor(executable, Source::Node(at), value, batch).await?);
        }
        Ok(all)
    }

    /// Reads the outputs after a forward pass.
    pub(super) async fn read_outputs(
        &self,
        Compiled { plan, executable }: &Compiled<NetworkPlan>,
        batch: usize,
    ) -> Result<NamedArrays> {
        let mut all = NamedArrays::new();
        for (output, planned) in self.graph.outputs.iter().zip(&plan.outputs) {
            all.insert(output.name.clone(), self.read_tensor(executable, output.from, &planned.y, batch).await?);
        }
        Ok(all)
    }

    /// The outputs for checked data, by name.
    pub(crate) async fn named_outputs(&self, data: &Data<'_, '_>) -> Result<NamedArrays> {
        let arrays = self.predict_data(data).await?;
        Ok(self.graph.outputs.iter().map(|output| output.name.clone()).zip(arrays).collect())
    }

    /// The targets by the outputs' names, in the outputs' shapes, with the rows that are missing; those of a loss of the caller's own as
    /// they are.
    pub(crate) fn named_targets<'d>(&self, data: &'d Data<'_, '_>) -> Vec<NamedTarget<'d>> {
        let mut all = Vec::new();
        for (k, output) in self.graph.outputs.iter().enumerate() {
            if let Some(Some(target)) = data.targets.get(k) {
                let y = self.shaped(output.from, target.y.to_owned());
                all.push(NamedTarget { output: output.name.clone(), y, missing: target.missing.as_ref() });
            } else if let Some(own) = data.own.get(&output.name) {
                all.push(NamedTarget { output: output.name.clone(), y: own.clone(), missing: None });
            }
        }
        all
    }

    /// Reads a tensor: [B, T, F], or [B, F] for a vector.
    pub(super) async fn read_tensor(
        &self,
        executable: &Executable,
        source: Source,
        value: &Sequence,
        batch: usize,
    ) -> Result<ArrayD<f32>> {
        Ok(self.shaped(source, read_sequence(executable, value, batch).await?))
    }

    /// A tensor [B, T or 1, F] as callers have it: [B, F] for a vector.
    pub(super) fn shaped(&self, source: Source, y: Array3<f32>) -> ArrayD<f32> {
        if self.graph.axis(source).is_some() { y.into_dyn() } else { y.index_axis_move(Axis(1), 0).into_dyn() }
    }

    /// Lengths of the sequences of each output, if they have some.
    pub(super) fn output_lengths(&self, data: &Data<'_, '_>) -> Vec<Option<Vec<usize>>> {
        let of = |from| self.graph.axis(from).and_then(|axis| data.lengths(&self.graph, axis));
        self.graph.outputs.iter().map(|output| of(output.from)).collect()
    }

    /// Writes the gradients of the outputs, by name; 0 for those that are not given, and past the ends of sequences.
    pub(super) fn write_gradients(
        &self,
        Compiled { plan, executable }: &Compiled<NetworkPlan>,
        batch: usize,
        lengths: &[Option<Vec<usize>>],
        given: &BTreeMap<&str, ArrayView<'_, f32, IxDyn>>,
    ) -> Result<()> {
        let names = self.graph.output_names();
        if let Some(name) = given.keys().find(|name| !names.contains(name)) {
            return Err(Error::Config(format!(
                "there is a gradient of output \"{name}\"; the outputs are {}",
                names.join(", ")
            )));
        }
        for (k, (&name, of)) in names.iter().zip(&tape(plan)?.d_outputs).enumerate() {
            let y = &plan.outputs[k].y;
            let shape = (batch, y.steps as usize, y.features as usize);
            let gradient = match (given.get(name), of) {
                (None, None) => continue,
                (Some(_), None) => {
                    return Err(Error::Config(format!("output \"{name}\" has no gradient; leave it out")));
                }
                (Some(gradient), Some(_)) => checked(name, gradient, shape, lengths[k].as_deref())?,
                (None, Some(_)) => memory::array(shape, "a gradient of 0")?.into(),
            };
            if let Some(of) = of {
                upload(executable, of, Rows::all(gradient.view()))?;
            }
        }
        Ok(())
    }

    /// Writes the initial states, 0 where none are given.
    pub(super) fn write_states(
        &self,
        executable: &Executable,
        tape: &Tape,
        options: &PassOptions,
        batch: usize,
    ) -> Result<()> {
        let mut left: Vec<&str> = options.initial.keys().map(String::as_str).collect();
        for state in &tape.states {
            let node = &self.graph.nodes[state.node];
            let (slots, values) = (node.states(), node.state_values());
            for (at, (slot, &buffer)) in slots.iter().zip(&state.initial).enumerate() {
                executable.write((buffer, 0), &memory::zeros(slot.features * batch, "states of 0")?)?;
                // A state that repeats h begins as h does.
                let of = if slot.repeats_h { at - 1 } else { at };
                for value in values.iter().filter(|value| value.slot == of) {
                    let name = format!("{}.{}", node.name, value.name);
                    let Some(array) = options.initial.get(&name) else { continue };
                    left.retain(|other| *other != name);
                    let expected = (batch, value.width);
                    if array.dim() != expected {
                        return Err(Error::Shape(format!(
                            "initial state {name} has shape {:?}, expected [B, units] = {expected:?}",
                            array.dim()
                        )));
                    }
                    finite(&format!("initial state {name}"), "[sequence, unit]", &array.view())?;
                    let values = memory::collect(array.len(), array.iter().copied(), &name)?;
                    executable.write((buffer, (value.part * array.len()) as u64), &values)?;
                }
            }
        }
        match left.first() {
            None => Ok(()),
            Some(name) => {
                let known: Vec<String> = tape.states.iter().flat_map(|state| self.state_names(state.node)).collect();
                Err(Error::Config(format!(
                    "there is no initial state {name}; those of the model are: {}",
                    if known.is_empty() { "none".into() } else { known.join(", ") }
                )))
            }
        }
    }

    fn state_names(&self, at: usize) -> Vec<String> {
        let node = &self.graph.nodes[at];
        node.state_values().iter().map(|value| format!("{}.{}", node.name, value.name)).collect()
    }

    /// Reads states [B, units] of a node by name, from the addresses of its slots.
    pub(super) async fn read_states(
        &self,
        executable: &Executable,
        at: usize,
        places: &[Place],
        batch: usize,
        into: &mut NamedArrays,
    ) -> Result<()> {
        let node = &self.graph.nodes[at];
        for StateValue { name, slot, part, width } in node.state_values() {
            let len = batch * width;
            let (buffer, offset) = places[slot];
            let values = executable.read_async((buffer, offset as u64 + (part * len) as u64), len as u64).await?;
            let array = Array2::from_shape_vec((batch, width), values);
            let array = array.map_err(|error| Error::Plan(error.to_string()))?;
            into.insert(format!("{}.{name}", node.name), array.into_dyn());
        }
        Ok(())
    }
}

/// Reads a tensor of a plan, [B, T, F].
pub(super) async fn read_sequence(executable: &Executable, value: &Sequence, batch: usize) -> Result<Array3<f32>> {
    let mut y = Array3::default((0, 0, 0));
    download(executable, value, batch, Order::Batch, &mut y).await?;
    Ok(y)
}

/// The outputs of a plan, [B, T or 1, F] each, to be read into as many arrays.
pub(super) fn all_outputs<'a>(plan: &NetworkPlan, batch: usize, into: &'a mut [Array3<f32>]) -> Result<Downloads<'a>> {
    let mut all = Downloads::new();
    for (output, into) in plan.outputs.iter().zip(into) {
        all.add(&output.y, batch, Order::Batch, into)?;
    }
    Ok(all)
}

pub(super) fn tape(plan: &NetworkPlan) -> Result<&Tape> {
    plan.tape.as_ref().ok_or_else(|| Error::Plan("a plan without a tape".into()))
}

/// A gradient [B, T or 1, F] of an output: checked, and 0 past the ends of sequences.
fn checked<'a>(
    name: &str,
    gradient: &'a ArrayView<'_, f32, IxDyn>,
    shape: (usize, usize, usize),
    lengths: Option<&[usize]>,
) -> Result<CowArray<'a, f32, Ix3>> {
    let what = format!("the gradient of output \"{name}\"");
    finite(&what, "[index]", gradient)?;
    let view =
        if gradient.ndim() == 2 && shape.1 == 1 { gradient.view().insert_axis(Axis(1)) } else { gradient.view() };
    let view: ArrayView3<f32> = match view.into_dimensionality() {
        Ok(view) if view.dim() == shape => view,
        _ => {
            return Err(Error::Shape(format!(
                "{what} has shape {:?}, the output has [B, T, F] = {shape:?}",
                gradient.shape()
            )));
        }
    };
    let Some(lengths) = lengths else { return Ok(view.into()) };
    let mut own = memory::array_of(shape, view.iter().copied(), format_args!("a copy of {what}"))?;
    for (mut row, &length) in own.outer_iter_mut().zip(lengths) {
        row.slice_mut(s![length.., ..]).fill(0.0);
    }
    Ok(own.into())
}
