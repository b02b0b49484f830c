//! Data of a model: inputs and targets checked against the network, and parts of them.

use super::Model;
use super::given::{GivenInput, GivenTarget, Inputs, Targets};
use super::resident::Resident;
use crate::cpu::Threads;
use crate::device::Unsubmitted;
use crate::error::{Error, Result};
use crate::memory;
use crate::network::{CHAIN, Graph, GraphInput, GraphOutput};
use crate::train::Loss;
use crate::transfer::{Rows, all_finite, finite_by, not_empty};
use ndarray::{Array2, ArrayD, Axis, CowArray, Dimension, Ix3, IxDyn, s};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Checked data of a model, or of a batch of it, in the order of the network's inputs and outputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data<'x, 'y> {
    /// The sequences of a batch by their index in the arrays x and y, which then are those of all; lengths, weights and what is missing are
    /// of the batch alone.
    pub chosen: Option<Vec<usize>>,
    /// First step of a batch's window, in the arrays of all.
    pub first_step: usize,
    /// All data, if they are on the device, too.
    pub resident: Option<Arc<Resident>>,
    /// Set where inputs and targets were written to a plan's buffers ahead.
    pub ahead: Option<Unsubmitted>,
    pub inputs: Vec<InputData<'x>>,
    /// `None` for an output without a loss.
    pub targets: Vec<Option<TargetData<'y>>>,
    /// Rows of each output that count in all batches of an optimiser step, if it has several.
    pub group: Option<Vec<usize>>,
    /// Targets of a loss of the caller's own, by name.
    pub own: BTreeMap<String, ArrayD<f32>>,
}

/// An input.
#[derive(Clone, Debug)]
pub(crate) struct InputData<'a> {
    /// [N, T, I]; T = 1 for a vector.
    pub x: CowArray<'a, f32, Ix3>,
    /// `[N]`.
    pub lengths: Option<Vec<usize>>,
}

/// A target.
#[derive(Clone, Debug)]
pub(crate) struct TargetData<'a> {
    /// [N, T or 1, F].
    pub y: CowArray<'a, f32, Ix3>,
    /// [N, T or 1].
    pub weights: Option<Array2<f32>>,
    /// True for rows that are missing, [N, T or 1]; their numbers are 0.
    pub missing: Option<Array2<bool>>,
}

impl Data<'_, '_> {
    /// N.
    pub fn count(&self) -> usize {
        let all = || self.inputs.first().map_or(0, |input| input.x.dim().0);
        self.chosen.as_ref().map_or_else(all, Vec::len)
    }

    /// The sequences of an array x or y of these data.
    pub fn sequences<'a>(&'a self, array: &'a CowArray<'_, f32, Ix3>) -> Rows<'a> {
        Rows { values: array.view(), chosen: self.chosen.as_deref() }
    }

    /// T of each input.
    pub fn steps(&self) -> Vec<usize> {
        self.inputs.iter().map(|input| input.x.dim().1).collect()
    }

    /// The longest T.
    pub fn longest(&self) -> usize {
        self.steps().into_iter().max().unwrap_or(1)
    }

    /// True if sequences have lengths.
    pub fn is_ragged(&self) -> bool {
        self.inputs.iter().any(|input| input.lengths.is_some())
    }

    /// True if rows have weights.
    pub fn is_weighted(&self) -> bool {
        self.targets.iter().flatten().any(|target| target.weights.is_some() || target.missing.is_some())
    }

    /// Lengths along a time axis of the network.
    pub fn lengths(&self, graph: &Graph, axis: usize) -> Option<Vec<usize>> {
        let given: Vec<Option<&[usize]>> = self.inputs.iter().map(|input| input.lengths.as_deref()).collect();
        graph.lengths(axis, &given)
    }

    /// True if rows of targets are missing.
    pub fn has_missing(&self) -> bool {
        self.targets.iter().flatten().any(|target| target.missing.is_some())
    }

    /// Some sequences in a row.
    pub fn rows(&self, range: Range<usize>) -> Data<'_, '_> {
        let mut part = Data::default();
        let arrays = if self.chosen.is_none() { range.clone() } else { 0..usize::MAX };
        part.chosen = self.chosen.as_ref().map(|chosen| chosen[range.clone()].to_vec());
        let slice = |array: &CowArray<'_, f32, Ix3>| arrays.start..arrays.end.min(array.dim().0);
        for InputData { x, lengths } in &self.inputs {
            let x = x.slice(s![slice(x), .., ..]).into();
            part.inputs.push(InputData { x, lengths: lengths.as_ref().map(|lengths| lengths[range.clone()].to_vec()) });
        }
        for target in &self.targets {
            part.targets.push(target.as_ref().map(|TargetData { y, weights, missing }| TargetData {
                y: y.slice(s![slice(y), .., ..]).into(),
                weights: weights.as_ref().map(|weights| weights.slice(s![range.clone(), ..]).to_owned()),
                missing: missing.as_ref().map(|missing| missing.slice(s![range.clone(), ..]).to_owned()),
            }));
        }
        let own = |array: &ArrayD<f32>| array.slice_axis(Axis(0), range.clone().into()).to_owned();
        part.own = self.own.iter().map(|(name, array)| (name.clone(), own(array))).collect();
        part
    }

    /// The first sequences.
    pub fn first(mut self, count: usize) -> Self {
        for InputData { x, lengths } in &mut self.inputs {
            x.slice_collapse(s![..count, .., ..]);
            lengths.iter_mut().for_each(|lengths| lengths.truncate(count));
        }
        for TargetData { y, weights, missing } in self.targets.iter_mut().flatten() {
            y.slice_collapse(s![..count, .., ..]);
            weights.iter_mut().for_each(|weights| weights.slice_collapse(s![..count, ..]));
            missing.iter_mut().for_each(|missing| missing.slice_collapse(s![..count, ..]));
        }
        self.own.values_mut().for_each(|array| array.slice_axis_inplace(Axis(0), (..count).into()));
        self
    }

    /// Some sequences and a window of their steps, whose numbers stay where they are.
    pub fn choose(&self, rows: &[usize], window: &Range<usize>) -> Data<'_, '_> {
        let all_steps = self.longest();
        let inside = |steps: usize| if steps == all_steps { window.clone() } else { 0..steps };
        let mut part = Data { chosen: Some(rows.to_vec()), first_step: window.start, ..Data::default() };
        for InputData { x, lengths } in &self.inputs {
            let within = |&n: &usize, all: &[usize]| steps_within(all[n], &inside(x.dim().1));
            let lengths = lengths.as_ref().map(|all| rows.iter().map(|n| within(n, all)).collect());
            let x = x.slice(s![.., inside(x.dim().1), ..]).into();
            part.inputs.push(InputData { x, lengths });
        }
        for target in &self.targets {
            part.targets.push(target.as_ref().map(|TargetData { y, weights, missing }| TargetData {
                y: y.slice(s![.., inside(y.dim().1), ..]).into(),
                weights: weights.as_ref().map(|all| all.slice(s![.., inside(all.ncols())]).select(Axis(0), rows)),
                missing: missing.as_ref().map(|all| all.slice(s![.., inside(all.ncols())]).select(Axis(0), rows)),
            }));
        }
        part.own = self.own.iter().map(|(name, array)| (name.clone(), array.select(Axis(0), rows))).collect();
        part
    }

    /// The same without references to others' arrays.
    pub fn into_owned<'a>(self) -> Data<'a, 'a> {
        let Data { chosen, first_step, resident, ahead, inputs, targets, group, own } = self;
        let owned = |array: CowArray<'_, f32, Ix3>| CowArray::from(array.into_owned());
        let inputs = inputs.into_iter().map(|InputData { x, lengths }| InputData { x: owned(x), lengths }).collect();
        let target = |TargetData { y, weights, missing }: TargetData<'_>| TargetData { y: owned(y), weights, missing };
        let targets = targets.into_iter().map(|own| own.map(target)).collect();
        Data { chosen, first_step, resident, ahead, inputs, targets, group, own }
    }

    /// Some sequences, copied.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn select(&self, rows: &[usize]) -> Result<Data<'static, 'static>> {
        let Data { inputs, targets, group, own, .. } = self.choose(rows, &(0..self.longest()));
        let select = |all: CowArray<'_, f32, Ix3>| {
            let elements = rows.len() * all.dim().1 * all.dim().2;
            memory::probe(4 * elements as u64, format_args!("a batch of {} sequences", rows.len()))?;
            Ok::<_, Error>(CowArray::from(all.select(Axis(0), rows)))
        };
        let mut part = Data { group, own, ..Data::default() };
        for InputData { x, lengths } in inputs {
            part.inputs.push(InputData { x: select(x)?, lengths });
        }
        for target in targets {
            part.targets.push(match target {
                None => None,
                Some(TargetData { y, weights, missing }) => Some(TargetData { y: select(y)?, weights, missing }),
            });
        }
        Ok(part)
    }
}

/// Steps of a sequence of this length that lie in a window.
pub(crate) fn steps_within(length: usize, window: &Range<usize>) -> usize {
    length.clamp(window.start, window.end) - window.start
}

/// Arrays of inputs with the lengths given for them.
type GivenArrays<'a> = (Vec<InputData<'a>>, Vec<Option<Cow<'a, [usize]>>>);

impl Graph {
    /// The inputs in their order, but for one if it is left out, checked except for their numbers and lengths.
    fn arrays<'a>(&self, prefix: &str, inputs: Inputs<'a>, except: Option<usize>) -> Result<GivenArrays<'a>> {
        let (mut arrays, mut lengths) = (Vec::new(), Vec::new());
        for (k, given) in self.indices(except).zip(self.in_order(prefix, inputs, except)?) {
            let x = self.input_array(InputName(prefix, &self.inputs[k]), k, given.values)?;
            arrays.push(InputData { x, lengths: None });
            lengths.push(given.lengths);
        }
        self.check_counts(prefix, &arrays, except)?;
        Ok((arrays, lengths))
    }

    /// The inputs in their order, but for one if it is left out, checked.
    ///
    /// # Errors
    /// Names, shapes, lengths and numbers that do not fit the network, named.
    pub(crate) fn input_data<'a>(
        &self,
        prefix: &str,
        inputs: Inputs<'a>,
        except: Option<usize>,
        threads: Threads,
    ) -> Result<Vec<InputData<'a>>> {
        let (mut arrays, lengths) = self.arrays(prefix, inputs, except)?;
        self.check_numbers(prefix, &arrays, except, threads)?;
        self.set_lengths(prefix, &mut arrays, lengths, except)?;
        Ok(arrays)
    }

    /// Indices of the inputs, but for one.
    fn indices(&self, except: Option<usize>) -> impl Iterator<Item = usize> + use<> {
        (0..self.inputs.len()).filter(move |&k| Some(k) != except)
    }

    /// Refuses numbers that are not finite.
    fn check_numbers(&self, prefix: &str, arrays: &[InputData], except: Option<usize>, threads: Threads) -> Result<()> {
        for (k, InputData { x, .. }) in self.indices(except).zip(arrays) {
            // The usual case, without a name
            if !x.as_slice_memory_order().is_some_and(|values| all_finite(values, threads)) {
                let name = InputName(prefix, &self.inputs[k]).to_string();
                finite_by(threads, &name, "[sequence, step, feature]", &x.view())?;
            }
        }
        Ok(())
    }

    /// Sets the lengths, given or from padding.
    fn set_lengths(
        &self,
        prefix: &str,
        arrays: &mut [InputData],
        lengths: Vec<Option<Cow<'_, [usize]>>>,
        except: Option<usize>,
    ) -> Result<()> {
        for ((k, input), given) in self.indices(except).zip(arrays).zip(lengths) {
            let name = InputName(prefix, &self.inputs[k]);
            input.lengths = self.lengths_of(k, name, &input.x.view(), given.as_deref())?;
        }
        Ok(())
    }

    /// The given inputs in the order of the network's.
    fn in_order<'a>(
        &self,
        prefix: &str,
        Inputs { mut given }: Inputs<'a>,
        except: Option<usize>,
    ) -> Result<Vec<GivenInput<'a>>> {
        if let (1, [GivenInput { name: None, .. }]) = (self.indices(except).count(), &given[..]) {
            return Ok(given);
        }
        let names: Vec<&str> = self.indices(except).map(|k| self.inputs[k].name.as_str()).collect();
        let mut all = Vec::new();
        for name in &names {
            let at = given.iter().position(|one| one.name.as_deref() == Some(name)).ok_or_else(|| {
                Error::Config(format!(
                    "the {prefix}data lack input \"{name}\"; the model's inputs are {}, to be given by Inputs::new().add(name, array)",
                    names.join(", ")
                ))
            })?;
            all.push(given.swap_remove(at));
        }
        match given.first() {
            None => Ok(all),
            Some(extra) => Err(Error::Config(format!(
                "the {prefix}data have an input {}; the model's inputs are {}",
                extra.name.as_ref().map_or("without a name".into(), |name| format!("\"{name}\"")),
                names.join(", ")
            ))),
        }
    }

    /// An input as [N, T, I], checked against the network.
    fn input_array<'a>(
        &self,
        name: InputName<'_>,
        k: usize,
        x: CowArray<'a, f32, IxDyn>,
    ) -> Result<CowArray<'a, f32, Ix3>> {
        let GraphInput { features, vector, .. } = &self.inputs[k];
        let shape = x.raw_dim();
        let given = shape.slice();
        let axes = if *vector { "[N, F]" } else { "[N, T, I]" };
        let x = match (x.ndim(), *vector) {
            (2, true) => x.insert_axis(Axis(1)),
            (2, false) if *features == 1 => x.insert_axis(Axis(2)),
            _ => x,
        };
        let wrong =
            || Error::Shape(format!("{name} has shape {given:?}, the model expects {axes} with {features} features"));
        let x = x.into_dimensionality::<Ix3>().map_err(|_| wrong())?;
        if *vector && x.dim().1 != 1 {
            return Err(wrong());
        }
        if x.dim().2 != *features {
            return Err(Error::Shape(format!(
                "{name} has {} features, the model expects {features} (shape {axes} = {given:?})",
                x.dim().2
            )));
        }
        if given.contains(&0) {
            not_empty(&name.to_string(), axes, given)?;
        }
        self.check_indices(k, name, &x.view())?;
        Ok(x)
    }

    /// Refuses inputs of different numbers of sequences.
    fn check_counts(&self, prefix: &str, arrays: &[InputData], except: Option<usize>) -> Result<()> {
        if arrays.len() < 2 {
            return Ok(());
        }
        let count = arrays.first().map_or(0, |input| input.x.dim().0);
        let named: Vec<&GraphInput> = self.indices(except).map(|k| &self.inputs[k]).collect();
        match arrays.iter().zip(&named).find(|(input, _)| input.x.dim().0 != count) {
            None => Ok(()),
            Some((input, known)) => Err(Error::Shape(format!(
                "{} has {} sequences, {} has {count}; all inputs must have as many",
                InputName(prefix, known),
                input.x.dim().0,
                InputName(prefix, named[0])
            ))),
        }
    }

    /// Refuses inputs whose steps differ where a layer joins them.
    pub(crate) fn check_steps(&self, inputs: &[usize]) -> Result<()> {
        if self.axes.len() == 1 {
            return Ok(());
        }
        let steps = self.steps(inputs)?;
        match self.joined().find(|&(_, first, other)| steps[first] != steps[other]) {
            None => Ok(()),
            Some((name, first, other)) => Err(Error::Shape(format!(
                "{name} joins sequences of {} and {} steps; they must have as many",
                steps[first], steps[other]
            ))),
        }
    }

    /// Refuses inputs whose steps or lengths differ where a layer joins them.
    fn check_joined(&self, data: &Data, steps: &[usize]) -> Result<()> {
        if self.axes.len() == 1 {
            return Ok(());
        }
        self.check_steps(&data.steps())?;
        for (name, first, other) in self.joined() {
            let all = |axis: usize| data.lengths(self, axis).unwrap_or_else(|| vec![steps[axis]; data.count()]);
            let (first, other) = (all(first), all(other));
            if let Some(n) = (0..first.len()).find(|&n| first[n] != other[n]) {
                return Err(Error::Shape(format!(
                    "{name} joins sequences whose lengths differ: those of sequence {n} are {} and {}",
                    first[n], other[n]
                )));
            }
        }
        Ok(())
    }
}

impl Model {
    /// Data in the order of the network, checked; `prefix` is put before their names in messages.
    ///
    /// # Errors
    /// Names, shapes, lengths and numbers that do not fit the model, named.
    pub(crate) fn data<'x, 'y>(
        &self,
        prefix: &str,
        inputs: Inputs<'x>,
        targets: Option<Targets<'y>>,
    ) -> Result<Data<'x, 'y>> {
        let (inputs, lengths) = self.graph.arrays(prefix, inputs, None)?;
        let mut data = Data { inputs, ..Data::default() };
        let steps = self.graph.steps(&data.steps())?;
        if let Some(targets) = targets {
            data.targets = self.targets(prefix, targets, data.count(), &steps)?;
        }
        self.graph.check_numbers(prefix, &data.inputs, None, self.device.host_threads())?;
        self.check_targets(prefix, &data)?;
        self.graph.set_lengths(prefix, &mut data.inputs, lengths, None)?;
        self.graph.check_joined(&data, &steps)?;
        Ok(data)
    }

    /// Data with targets for a loss of the caller's own, which may have any names, shapes and numbers.
    pub(crate) fn own_data<'x, 'y>(
        &self,
        prefix: &str,
        inputs: Inputs<'x>,
        targets: Targets<'y>,
    ) -> Result<Data<'x, 'y>> {
        let Data { inputs, .. } = self.data(prefix, inputs, None)?;
        let mut data = Data { inputs, ..Data::default() };
        let count = data.count();
        for GivenTarget { name, values, weights } in targets.given {
            let name = name.unwrap_or_else(|| CHAIN[1].to_string());
            if weights.is_some() {
                return Err(Error::Config(format!(
                    "{prefix}target \"{name}\" has weights; a loss of one's own weighs for itself"
                )));
            }
            if values.shape().first() != Some(&count) {
                return Err(Error::Shape(format!(
                    "{prefix}target \"{name}\" has shape {:?}; its first axis must be that of {count} sequences",
                    values.shape()
                )));
            }
            if data.own.insert(name.clone(), values.into_owned()).is_some() {
                return Err(Error::Config(format!("{prefix}target \"{name}\" is given twice")));
            }
        }
        Ok(data)
    }

    /// The targets in the order of the network's outputs, checked except for their numbers.
    fn targets<'a>(
        &self,
        prefix: &str,
        Targets { mut given, missing }: Targets<'a>,
        count: usize,
        steps: &[usize],
    ) -> Result<Vec<Option<TargetData<'a>>>> {
        let losses = self.losses()?;
        let wanted: Vec<&str> = self.graph.output_names();
        let with_loss = losses.iter().flatten().count();
        if let ([only], 1) = (&mut given[..], with_loss) {
            let at = losses.iter().position(Option::is_some).unwrap_or(0);
            only.name.get_or_insert_with(|| wanted[at].to_string());
        }
        let mut all = Vec::new();
        for (output, loss) in self.graph.outputs.iter().zip(losses) {
            let Some((loss, _)) = loss else {
                all.push(None);
                continue;
            };
            let at =
                given.iter().position(|one| one.name.as_deref() == Some(output.name.as_str())).ok_or_else(|| {
                    Error::Config(format!(
                        "the {prefix}data lack the target of output \"{}\"; give it by Targets::new().add(name, array)",
                        output.name
                    ))
                })?;
            let GivenTarget { values, weights, .. } = given.swap_remove(at);
            let name = target_name(prefix, output);
            let y = self.target_array(&name, output, loss, values, count, steps)?;
            check_weights(weights.as_ref(), count, y.dim().1)?;
            let (y, missing) = if missing { without_missing(&name, y)? } else { (y, None) };
            all.push(Some(TargetData { y, weights, missing }));
        }
        match given.first() {
            None => Ok(all),
            Some(extra) => Err(Error::Config(format!(
                "the {prefix}data have a target {}; the outputs with a loss are {}",
                extra.name.as_ref().map_or("without a name".into(), |name| format!("\"{name}\"")),
                self.trained_outputs()?.join(", ")
            ))),
        }
    }

    /// A target as [N, T or 1, F].
    fn target_array<'a>(
        &self,
        name: &str,
        output: &GraphOutput,
        loss: &Loss,
        y: CowArray<'a, f32, IxDyn>,
        count: usize,
        steps: &[usize],
    ) -> Result<CowArray<'a, f32, Ix3>> {
        let axis = self.graph.axis(output.from);
        let features = loss.target_width(self.graph.width(output.from).unwrap_or(0))?;
        let given = y.shape().to_vec();
        let y = match (y.ndim(), axis) {
            (1, None) => y.insert_axis(Axis(1)).insert_axis(Axis(2)),
            (2, None) => y.insert_axis(Axis(1)),
            (2, Some(_)) if features == 1 => y.insert_axis(Axis(2)),
            _ => y,
        };
        let y = y.into_dimensionality::<Ix3>().map_err(|_| {
            let expected = if axis.is_some() { "[N, T, F]" } else { "[N, F]" };
            Error::Shape(format!("{name} has shape {given:?}, the model's output is {expected}"))
        })?;
        not_empty(name, "[N, T, F]", y.shape())?;
        let expected = (count, axis.map_or(1, |axis| steps[axis]), features);
        if y.dim() != expected {
            return Err(Error::Shape(format!(
                "{name} has shape {:?}, expected [N, T, F] = {:?} for {count} sequences{}",
                y.shape(),
                <[usize; 3]>::from(expected),
                axis.map_or(String::new(), |axis| format!(" of {} steps", steps[axis])),
            )));
        }
        Ok(y)
    }

    /// Refuses targets that are not finite, or for which the losses have no meaning.
    fn check_targets(&self, prefix: &str, data: &Data) -> Result<()> {
        if data.targets.is_empty() {
            return Ok(());
        }
        let losses = self.losses()?;
        for ((output, target), loss) in self.graph.outputs.iter().zip(&data.targets).zip(losses) {
            if let (Some(TargetData { y, .. }), Some((loss, _))) = (target, loss) {
                let name = target_name(prefix, output);
                finite_by(self.device.host_threads(), &name, "[sequence, step, feature]", &y.view())?;
                loss.check_target(&name, &y.view(), self.graph.width(output.from).unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

/// The name of an input in messages.
#[derive(Clone, Copy)]
struct InputName<'a>(&'a str, &'a GraphInput);

impl fmt::Display for InputName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InputName(prefix, GraphInput { name, .. }) = self;
        match name == CHAIN[0] {
            true if prefix.ends_with("'s ") => write!(f, "{prefix}input"),
            true => write!(f, "{prefix}x"),
            false => write!(f, "{prefix}input \"{name}\""),
        }
    }
}

/// The name of a target in messages.
fn target_name(prefix: &str, GraphOutput { name, .. }: &GraphOutput) -> String {
    if name == CHAIN[1] { format!("{prefix}y") } else { format!("{prefix}target \"{name}\"") }
}

/// A target, and its rows that are missing.
type TargetRows<'a> = (CowArray<'a, f32, Ix3>, Option<Array2<bool>>);

/// A target [N, T or 1, F] with 0 in the rows that are NaN, and those rows, if there are some.
fn without_missing<'a>(name: &str, y: CowArray<'a, f32, Ix3>) -> Result<TargetRows<'a>> {
    let missing = y.map_axis(Axis(2), |row| row.iter().all(|value| value.is_nan()));
    if !missing.iter().any(|&missing| missing) {
        return Ok((y, None));
    }
    let mut y = memory::array_of(y.dim(), y.iter().copied(), format_args!("a copy of {name}"))?;
    for ((n, t), &missing) in missing.indexed_iter() {
        let mut row = y.slice_mut(s![n, t, ..]);
        if missing {
            row.fill(0.0);
        } else if let Some(f) = row.iter().position(|value| value.is_nan()) {
            return Err(Error::NotFinite {
                what: format!("{name}, whose other features at this step are not missing,"),
                position: format!("[sequence, step, feature] = [{n}, {t}, {f}]"),
                value: f32::NAN,
            });
        }
    }
    Ok((y.into(), Some(missing)))
}

/// Refuses weights that do not fit a target [N, T or 1, F], or are no weights.
fn check_weights(weights: Option<&Array2<f32>>, count: usize, steps: usize) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    if weights.nrows() != count || ![1, steps].contains(&weights.ncols()) {
        return Err(Error::Shape(format!(
            "the weights have shape {:?}; expected one for each of {count} sequences, or [N, T] = [{count}, {steps}]",
            weights.shape()
        )));
    }
    match weights.indexed_iter().find(|&(_, &weight)| !(weight >= 0.0 && weight.is_finite())) {
        None => Ok(()),
        Some(((n, t), weight)) => Err(Error::Config(format!(
            "the weight of [sequence, step] = [{n}, {t}] is {weight}; it must be finite and at least 0"
        ))),
    }
}
