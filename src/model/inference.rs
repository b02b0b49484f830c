//! Evaluation and prediction.

use super::Model;
use super::batch::{BatchInputs, check_divides};
use super::cache::{Compiled, Lease};
use super::plans::PlanPurpose;
use crate::error::{Error, Result};
use crate::fit;
use crate::memory;
use crate::network::NetworkPlan;
use crate::plan::{BufferId, Role};
use crate::transfer::{Order, download, finite};
use crate::wait;
use ndarray::{Array3, ArrayD, ArrayView, ArrayView3, Axis, Dimension, Ix3, s};

impl Model {
    /// The loss on x and y (shaped as for [`Model::fit`]), averaged over all sequences.
    ///
    /// # Errors
    /// As [`Model::fit`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate<D: Dimension>(&self, x: ArrayView3<f32>, y: ArrayView<f32, D>) -> Result<f32> {
        let y = self.target(y)?;
        wait::block_on(self.evaluate_async(x, y, None))
    }

    /// [`Model::evaluate`] for sequences that end before step `lengths[n]`, as in [`Fit::lengths`](crate::Fit::lengths): steps past
    /// their ends do not count.
    ///
    /// # Errors
    /// As [`Model::fit`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_ragged<D: Dimension>(
        &self,
        x: ArrayView3<f32>,
        y: ArrayView<f32, D>,
        lengths: &[usize],
    ) -> Result<f32> {
        let y = self.target(y)?;
        wait::block_on(self.evaluate_async(x, y, Some(lengths)))
    }

    /// [`Model::evaluate`] in batches of `batch_size`, each of which continues from the states of the one before, as
    /// [`Fit::stateful`](crate::Fit::stateful) trains: the states begin at zero and are carried from batch to batch.
    /// [`Model::stream`] predicts so.
    ///
    /// # Errors
    /// As [`Model::fit`]; a batch size that does not divide N.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_stateful<D: Dimension>(
        &self,
        x: ArrayView3<f32>,
        y: ArrayView<f32, D>,
        batch_size: usize,
    ) -> Result<f32> {
        let y = self.target(y)?;
        wait::block_on(self.evaluate_stateful_async(x, y, None, batch_size))
    }

    /// [`Model::evaluate_stateful`] for places that cannot block, with y as [N, T, F]; with `lengths`, as
    /// [`Model::evaluate_ragged`].
    pub async fn evaluate_stateful_async(
        &self,
        x: ArrayView3<'_, f32>,
        y: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
        batch_size: usize,
    ) -> Result<f32> {
        self.check_carried()?;
        check_divides("x", x.dim().0, batch_size)?;
        self.evaluate_in(x, y, lengths, Some(batch_size)).await
    }

    /// [`Model::evaluate`] for places that cannot block, with y as [N, T, F]; with `lengths`, as [`Model::evaluate_ragged`].
    pub async fn evaluate_async(
        &self,
        x: ArrayView3<'_, f32>,
        y: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
    ) -> Result<f32> {
        self.evaluate_in(x, y, lengths, None).await
    }

    /// The loss, in batches of `stateful` sequences that carry their states, or in independent batches.
    pub(super) async fn evaluate_in(
        &self,
        x: ArrayView3<'_, f32>,
        y: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
        stateful: Option<usize>,
    ) -> Result<f32> {
        fit::check_data(self, "x", "y", &x, &y)?;
        let (count, steps, _) = x.dim();
        let lengths = self.config.lengths("x", &x, lengths)?;
        let (mut sum, mut terms) = (0.0f64, 0usize);
        let mut lease: Option<Lease<'_, _, _>> = None;
        for range in batches(count, stateful.unwrap_or_else(|| batch_size(steps))) {
            let rows = s![range.clone(), .., ..];
            let given = BatchInputs {
                x: x.slice(rows),
                y: Some(y.slice(rows)),
                lengths: lengths.as_ref().map(|all| &all[range.clone()]),
                weights: None,
                stateful: stateful.is_some(),
            };
            let counted = given.rows(self.returns_sequences());
            // Batches of the same size continue with the same states.
            let compiled = match lease.take() {
                Some(lease) if lease.key() == given.key(PlanPurpose::Evaluate) => lease,
                _ => {
                    let compiled = self.compiled(PlanPurpose::Evaluate, &given).await?;
                    zero_states(&compiled)?;
                    compiled
                }
            };
            self.run(&compiled, &given).await?;
            let loss = compiled.plan.loss.ok_or_else(|| Error::Plan("an evaluation without a loss".into()))?;
            sum += compiled.executable.read_async((loss, 0), 1).await?[0] as f64 * counted as f64;
            lease = Some(compiled);
            terms += counted;
        }
        Ok((sum / terms.max(1) as f64) as f32)
    }

    /// The output for x [N, T, I]: [N, F] for a model that returns the last step, else [N, T, F].
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, sizes that the device cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict(&self, x: ArrayView3<f32>) -> Result<ArrayD<f32>> {
        wait::block_on(self.predict_async(x, None))
    }

    /// [`Model::predict`] for sequences that end before step `lengths[n]`: recurrent layers and pooling ignore later steps. Outputs
    /// of recurrent layers past a sequence's end are 0; dense layers above them map these zeros to the output.
    ///
    /// # Errors
    /// As [`Model::predict`]; lengths that are too many, too few or beyond T.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(8).bidirectional(true)).add(Dense::new(2)).build(&Device::cpu(), 7)?;
    /// let (padded, alone) = (Array3::ones((1, 9, 1)), Array3::ones((1, 4, 1)));
    /// assert_eq!(model.predict_ragged(padded.view(), &[4])?, model.predict(alone.view())?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict_ragged(&self, x: ArrayView3<f32>, lengths: &[usize]) -> Result<ArrayD<f32>> {
        wait::block_on(self.predict_async(x, Some(lengths)))
    }

    /// [`Model::predict`] for places that cannot block; with `lengths`, as [`Model::predict_ragged`].
    pub async fn predict_async(&self, x: ArrayView3<'_, f32>, lengths: Option<&[usize]>) -> Result<ArrayD<f32>> {
        self.check_input("x", &x)?;
        finite("x", "[sequence, step, feature]", &x)?;
        let (count, steps, _) = x.dim();
        let lengths = self.config.lengths("x", &x, lengths)?;
        let mut parts: Vec<Array3<f32>> = Vec::new();
        for range in batches(count, batch_size(steps)) {
            let given = BatchInputs {
                x: x.slice(s![range.clone(), .., ..]),
                y: None,
                lengths: lengths.as_ref().map(|all| &all[range.clone()]),
                weights: None,
                stateful: false,
            };
            let compiled = self.compiled(PlanPurpose::Predict, &given).await?;
            self.run(&compiled, &given).await?;
            let mut y = Array3::default((0, 0, 0));
            download(&compiled.executable, compiled.plan.y(), range.len(), Order::Batch, &mut y).await?;
            parts.push(y);
        }
        let y = if parts.len() == 1 { parts.remove(0) } else { joined(&parts)? };
        Ok(if self.returns_sequences() { y.into_dyn() } else { y.index_axis_move(Axis(1), 0).into_dyn() })
    }

    /// A target as [N, T, F].
    pub(super) fn target<'a, D: Dimension>(&self, y: ArrayView<'a, f32, D>) -> Result<ArrayView3<'a, f32>> {
        let y = y.into_dyn();
        let given = y.shape().to_vec();
        let y = match (y.ndim(), self.returns_sequences()) {
            (1, false) => y.insert_axis(Axis(1)).insert_axis(Axis(2)),
            (2, false) => y.insert_axis(Axis(1)),
            _ => y,
        };
        y.into_dimensionality::<Ix3>().map_err(|_| {
            let expected = if self.returns_sequences() { "[N, T, F]" } else { "[N, F]" };
            Error::Shape(format!("y has shape {given:?}, the model's output is {expected}"))
        })
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

fn batches(count: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..count).step_by(size).map(move |first| first..(first + size).min(count))
}
