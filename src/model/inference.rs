//! Evaluation and prediction.

use super::Model;
use super::batch::check_divides;
use super::cache::Compiled;
use super::data::Data;
use super::given::{Inputs, Targets};
use super::plans::PlanPurpose;
use crate::device::{Place, Reading};
use crate::error::{Error, Result};
use crate::memory;
use crate::network::{NetworkPlan, Source};
use crate::plan::{BufferId, Role};
use crate::schedule::Sequence;
use crate::transfer::{Downloads, Order};
use crate::wait;
use ndarray::{Array3, ArrayD};
use std::collections::BTreeMap;
use std::ops::Range;

/// Options of [`Model::evaluate_with`].
///
/// ```
/// use wgpu_lstm::Evaluate;
/// let options = Evaluate::new().batch_size(64);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluate {
    batch_size: Option<usize>,
    stateful: bool,
}

impl Evaluate {
    /// Independent batches of a size that suits the number of steps.
    pub fn new() -> Evaluate {
        Evaluate::default()
    }

    /// Sequences of a batch; 256 at most by default.
    pub fn batch_size(self, batch_size: usize) -> Evaluate {
        Evaluate { batch_size: Some(batch_size), ..self }
    }

    /// Has each batch continue from the states of the one before, as [`Fit::stateful`](crate::Fit::stateful) trains: the states begin at
    /// zero and are carried from batch to batch. [`Model::stream`] predicts so. The batch size, which must divide the number of
    /// sequences, has to be given.
    pub fn stateful(self, stateful: bool) -> Evaluate {
        Evaluate { stateful, ..self }
    }
}

impl Model {
    /// The loss on inputs and targets (as for [`Model::fit`]), averaged over all sequences, or over all steps before their ends.
    ///
    /// # Errors
    /// As [`Model::fit`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate<'x, 'y>(&self, x: impl Into<Inputs<'x>>, y: impl Into<Targets<'y>>) -> Result<f32> {
        wait::block_on(self.evaluate_async(x, y))
    }

    /// [`Model::evaluate`] for places that cannot block.
    pub async fn evaluate_async<'x, 'y>(&self, x: impl Into<Inputs<'x>>, y: impl Into<Targets<'y>>) -> Result<f32> {
        self.evaluate_with_async(x, y, Evaluate::new()).await
    }

    /// [`Model::evaluate`] with options.
    ///
    /// # Errors
    /// As [`Model::fit`]; a batch size of 0; for states that are carried, one that does not divide N.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Dense, Device, Evaluate, Loss, Lstm, Optimiser, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(4)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// let (x, y) = (Array3::ones((6, 10, 1)), Array2::zeros((6, 1)));
    /// let loss = model.evaluate_with(x.view(), y.view(), Evaluate::new().batch_size(2).stateful(true))?;
    /// assert!(loss > 0.0);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_with<'x, 'y>(
        &self,
        x: impl Into<Inputs<'x>>,
        y: impl Into<Targets<'y>>,
        options: Evaluate,
    ) -> Result<f32> {
        wait::block_on(self.evaluate_with_async(x, y, options))
    }

    /// [`Model::evaluate_with`] for places that cannot block.
    pub async fn evaluate_with_async<'x, 'y>(
        &self,
        x: impl Into<Inputs<'x>>,
        y: impl Into<Targets<'y>>,
        options: Evaluate,
    ) -> Result<f32> {
        if options.stateful {
            self.check_carried()?;
        }
        let data = self.data("", x.into(), Some(y.into()))?;
        self.evaluate_data(&data, options).await
    }

    /// The loss on checked data.
    pub(crate) async fn evaluate_data(&self, data: &Data<'_, '_>, options: Evaluate) -> Result<f32> {
        let Evaluate { batch_size, stateful } = options;
        let size = batch_size.unwrap_or_else(|| self::batch_size(data.longest()));
        if stateful {
            check_divides("x", data.count(), batch_size.unwrap_or(0))?;
        }
        if size == 0 {
            return Err(Error::Config("the batch size is 0; it must be at least 1".into()));
        }
        let purpose = if data.has_missing() { PlanPurpose::EvaluatePresent } else { PlanPurpose::Evaluate };
        let outputs = self.graph.outputs.len();
        let (mut sums, mut terms) = (vec![0.0f64; outputs], vec![0usize; outputs]);
        let ranges: Vec<Range<usize>> = batches(data.count(), size).collect();
        // Batches of the same size continue with the same states.
        for same in ranges.chunk_by(|a, b| a.len() == b.len()) {
            let compiled = self.compiled(purpose, &data.rows(same[0].clone()), stateful).await?;
            zero_states(&compiled)?;
            let outputs = compiled.plan.outputs.iter().enumerate();
            let with_loss: Vec<_> = outputs.filter_map(|(k, output)| Some((k, output, output.loss?))).collect();
            let places: Vec<Place> = with_loss.iter().map(|&(.., loss)| (loss, 0, 1)).collect();
            let mut before: Option<(Data<'_, '_>, Reading<'_>)> = None;
            for at in 0..=same.len() {
                let now = match same.get(at) {
                    None => None,
                    Some(range) => {
                        let part = data.rows(range.clone());
                        let reading = self.run_reading(&compiled, &part, places.clone()).await?;
                        Some((part, reading))
                    }
                };
                let Some((part, reading)) = one_behind(&mut before, now) else { continue };
                let add = |place: usize, mean: &[f32], _| {
                    let (k, output, _) = with_loss[place];
                    let counted = part.counted(&self.graph, k, output.y.steps as usize);
                    sums[k] += mean[0] as f64 * counted as f64;
                    terms[k] += counted;
                };
                reading.see(add).await?;
            }
        }
        Ok(sums.into_iter().zip(terms).map(|(sum, terms)| sum / terms.max(1) as f64).sum::<f64>() as f32)
    }

    /// The output for x [N, T, I]: [N, F] for a model that returns the last step, else [N, T, F].
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, sizes that the device cannot hold; a model of several outputs.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<ArrayD<f32>> {
        wait::block_on(self.predict_async(x))
    }

    /// [`Model::predict`] for places that cannot block.
    pub async fn predict_async<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<ArrayD<f32>> {
        if self.graph.outputs.len() != 1 {
            return Err(Error::Config(format!(
                "the model has the outputs {}; call Model::outputs, which returns all of them",
                self.graph.output_names().join(", ")
            )));
        }
        let data = self.data("", x.into(), None)?;
        Ok(self.predict_data(&data).await?.remove(0))
    }

    /// All outputs by name, each as [`Model::predict`] returns the only one.
    ///
    /// # Errors
    /// As [`Model::predict`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn outputs<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<BTreeMap<String, ArrayD<f32>>> {
        wait::block_on(self.outputs_async(x))
    }

    /// [`Model::outputs`] for places that cannot block.
    pub async fn outputs_async<'a>(&self, x: impl Into<Inputs<'a>>) -> Result<BTreeMap<String, ArrayD<f32>>> {
        let data = self.data("", x.into(), None)?;
        self.named_outputs(&data).await
    }

    /// The outputs for checked data.
    pub(crate) async fn predict_data(&self, data: &Data<'_, '_>) -> Result<Vec<ArrayD<f32>>> {
        let sources = self.graph.outputs.iter().map(|output| output.from);
        self.gathered(data, sources, |plan| plan.outputs.iter().map(|output| &output.y).collect()).await
    }

    /// Tensors of the network for checked data, which plans for batches of them have: [N, T, F], or [N, F] for a vector.
    pub(super) async fn gathered(
        &self,
        data: &Data<'_, '_>,
        sources: impl Iterator<Item = Source> + Clone,
        of: fn(&NetworkPlan) -> Vec<&Sequence>,
    ) -> Result<Vec<ArrayD<f32>>> {
        let ranges: Vec<Range<usize>> = batches(data.count(), batch_size(data.longest())).collect();
        let count = sources.clone().count();
        let mut arrays: Vec<Vec<Array3<f32>>> =
            ranges.iter().map(|_| vec![Array3::default((0, 0, 0)); count]).collect();
        let mut all = ranges.iter().cloned().zip(&mut arrays).peekable();
        for same in ranges.chunk_by(|a, b| a.len() == b.len()) {
            let compiled = self.compiled(PlanPurpose::Predict, &data.rows(same[0].clone()), false).await?;
            let tensors = of(&compiled.plan);
            let mut before: Option<(Downloads<'_>, Reading<'_>)> = None;
            for at in 0..=same.len() {
                let now = match all.next_if(|_| at < same.len()) {
                    None => None,
                    Some((range, arrays)) => {
                        let part = data.rows(range);
                        let mut downloads = Downloads::new();
                        for (&tensor, into) in tensors.iter().zip(arrays) {
                            downloads.add(tensor, part.count(), Order::Batch, into)?;
                        }
                        let reading = self.run_reading(&compiled, &part, downloads.places()).await?;
                        Some((downloads, reading))
                    }
                };
                if let Some((downloads, reading)) = one_behind(&mut before, now) {
                    downloads.fill(reading).await?;
                }
            }
        }
        let mut parts: Vec<Vec<Array3<f32>>> = sources.clone().map(|_| Vec::new()).collect();
        for arrays in arrays {
            parts.iter_mut().zip(arrays).for_each(|(parts, array)| parts.push(array));
        }
        let whole = |(source, mut parts): (Source, Vec<Array3<f32>>)| {
            let y = if parts.len() == 1 { parts.remove(0) } else { joined(&parts)? };
            Ok(self.shaped(source, y))
        };
        sources.zip(parts).map(whole).collect()
    }
}

/// Sets the states that a plan carries from batch to batch in its own buffers to zero.
fn zero_states(compiled: &Compiled<NetworkPlan>) -> Result<()> {
    for (k, buffer) in compiled.plan.plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.role == Role::State) {
        compiled.executable.write((BufferId(k), 0), &memory::zeros(buffer.len as usize, &buffer.name)?)?;
    }
    Ok(())
}

/// Concatenates arrays along the first axis.
fn joined(parts: &[Array3<f32>]) -> Result<Array3<f32>> {
    let (_, steps, features) = parts.first().map_or((0, 0, 0), |part| part.dim());
    let count = parts.iter().map(|part| part.dim().0).sum();
    let values = parts.iter().flatten().copied();
    memory::array_of((count, steps, features), values, format_args!("an output of {count} sequences"))
}

/// Batch size of a pass without training: large, but of bounded memory.
fn batch_size(steps: usize) -> usize {
    (65_536 / steps).clamp(1, 256)
}

/// The batch whose results are to be waited for after `now` was handed over, or after the last: a GPU runs one while the host takes the
/// results of the one before.
fn one_behind<'e, T>(before: &mut Option<(T, Reading<'e>)>, now: Option<(T, Reading<'e>)>) -> Option<(T, Reading<'e>)> {
    match now {
        None => before.take(),
        Some((of, reading)) if reading.is_on_its_way() => before.replace((of, reading)),
        now => now,
    }
}

/// Ranges of `size` of `count` sequences; the last holds the rest.
pub(crate) fn batches(count: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..count).step_by(size).map(move |first| first..(first + size).min(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Capabilities, StepWeights, Strategy};
    use crate::{Device, Loss, Lstm, Optimiser, Sequential};

    /// Kernels of the commands that the next prediction leaves out.
    fn left_out(model: &Model, x: &Array3<f32>) -> Vec<&'static str> {
        wait::block_on(async {
            let data = model.data("", x.view().into(), None).unwrap();
            let lease = model.compiled(PlanPurpose::Predict, &data, false).await.unwrap();
            let first = lease.executable.first_for(model.parameters.version().numbers);
            lease.executable.plan().commands[..first].iter().map(|command| command.call.kernel.name).collect()
        })
    }

    #[test]
    fn weights_are_converted_once() {
        let x = Array3::ones((2, 5, 3));
        let strategy = Some(Strategy::PerStep);
        for (step_weights, kernel, count) in
            [(StepWeights::F16, "half", 2), (StepWeights::Int8, "int8", 2), (StepWeights::F32, "copy", 5)]
        {
            let device = Device::cpu_with(Capabilities { step_weights, strategy, ..Capabilities::default() });
            let mut model = Sequential::new(3).add(Lstm::new(8).layers(2)).build(&device, 0).unwrap();
            model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
            assert!(left_out(&model, &x).is_empty(), "{step_weights:?}");
            model.predict(x.view()).unwrap();
            // Of each layer R; or W, R and bias of all layers side by side, but for the first W.
            assert_eq!(left_out(&model, &x), vec![kernel; count], "{step_weights:?}");
            model.set_parameters(model.parameters().unwrap()).unwrap();
            assert!(left_out(&model, &x).is_empty(), "{step_weights:?}");
        }
    }
}
