//! Training steps by a loss of the caller's own.

use super::Model;
use super::cache::Compiled;
use super::data::Data;
use super::given::{Inputs, Targets};
use super::pass::NamedArrays;
use super::plans::PlanPurpose;
use super::training::{MicroBatch, not_compiled};
use crate::error::{Error, Result};
use crate::fit::{self, Fit, History};
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use crate::wait::MaybeSend;

impl Model {
    /// Takes an optimiser step by a loss of one's own: `loss` is given the outputs by name (`y` for that of a
    /// [`Sequential`](crate::Sequential) model) and returns the loss and its gradients by the outputs, in their shapes; an output that is
    /// left out has a gradient of 0. Returns the loss. Forward, backward and the [`Update`](crate::Update) with all that it has run on
    /// the device; only outputs and their gradients are copied. Compile the model with [`Losses::new`](crate::Losses::new), or with any
    /// loss. [`Model::fit_with`] is the loop over epochs and batches.
    ///
    /// # Errors
    /// As [`Model::predict`]; an error of `loss`; a gradient of another shape; a loss or a gradient that is not finite; a model that was
    /// not compiled. No step is taken then.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Dense, Device, Losses, Lstm, NamedArrays, Optimiser, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 7)?;
    /// model.compile(Losses::new(), Optimiser::adam(0.01))?;
    /// let x = Array3::from_shape_fn((16, 5, 1), |(n, t, _)| (n + t) as f32 / 20.0); // [B, T, I]
    /// let y = Array2::from_shape_fn((16, 1), |(n, _)| (n + 5) as f32 / 20.0).into_dyn(); // [B, F]
    /// let mut losses = Vec::new();
    /// for _ in 0..20 {
    ///     losses.push(model.step_with(x.view(), |outputs| {
    ///         let error = &outputs["y"] - &y;
    ///         let loss = error.mapv(|e| e.cosh().ln()).sum() / 16.0; // log-cosh
    ///         Ok((loss, NamedArrays::from([("y".into(), error.mapv(|e| e.tanh() / 16.0))])))
    ///     })?);
    /// }
    /// assert!(losses[19] < losses[0]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step_with<'a>(
        &mut self,
        x: impl Into<Inputs<'a>>,
        loss: impl FnOnce(&NamedArrays) -> Result<(f32, NamedArrays)>,
    ) -> Result<f32> {
        wait::block_on(self.step_with_async(x, loss))
    }

    /// [`Model::step_with`] for places that cannot block.
    pub async fn step_with_async<'a>(
        &mut self,
        x: impl Into<Inputs<'a>>,
        loss: impl FnOnce(&NamedArrays) -> Result<(f32, NamedArrays)>,
    ) -> Result<f32> {
        let data = self.data("", x.into(), None)?;
        self.set_accumulate(false)?;
        let loss = self.own_step(&data, false, MicroBatch::WHOLE, 1.0, loss).await?;
        match loss.is_finite() {
            true => Ok(loss),
            false => Err(Error::NotFinite { what: "the loss".into(), position: "its value".into(), value: loss }),
        }
    }

    /// [`Model::fit`] by a loss of one's own, which is given the outputs and the targets of a batch by name and returns the loss and its
    /// gradients by the outputs, as for [`Model::step_with`]. Targets can have any names and shapes whose first axis is that of the
    /// sequences; an array without a name is called `y`. They may hold NaN, for values that are missing. The validation loss is this
    /// loss, too, averaged over batches by their sequences. Clipping, frozen parameters, regularisers, schedules and callbacks act as in
    /// every fit.
    ///
    /// # Errors
    /// As [`Model::fit`] and [`Model::step_with`]; windows ([`Fit::truncated`]) and weights, which are for the losses of this crate.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Dense, Device, Fit, Losses, Lstm, NamedArrays, Optimiser, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 7)?;
    /// model.compile(Losses::new(), Optimiser::adam(0.01))?;
    /// let x = Array3::from_shape_fn((16, 5, 1), |(n, t, _)| (n + t) as f32 / 20.0); // [N, T, I]
    /// let y = Array2::from_shape_fn((16, 1), |(n, _)| (n + 5) as f32 / 20.0); // [N, F]
    /// let history = model.fit_with(x.view(), y.view(), Fit::new().epochs(20).batch_size(8), |outputs, targets| {
    ///     let error = &outputs["y"] - &targets["y"];
    ///     let count = error.len() as f32;
    ///     let loss = error.mapv(|e| e * e).sum() / count;
    ///     Ok((loss, NamedArrays::from([("y".into(), error.mapv(|e| 2.0 * e / count))])))
    /// })?;
    /// assert!(history.loss[19] < history.loss[0]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fit_with<'a, 'x, 'y>(
        &mut self,
        x: impl Into<Inputs<'x>>,
        y: impl Into<Targets<'y>>,
        fit: Fit<'a>,
        loss: impl FnMut(&NamedArrays, &NamedArrays) -> Result<(f32, NamedArrays)> + MaybeSend + 'a,
    ) -> Result<History> {
        wait::block_on(self.fit_with_async(x, y, fit, loss))
    }

    /// [`Model::fit_with`] for places that cannot block.
    pub async fn fit_with_async<'a, 'x, 'y>(
        &mut self,
        x: impl Into<Inputs<'x>>,
        y: impl Into<Targets<'y>>,
        mut fit: Fit<'a>,
        loss: impl FnMut(&NamedArrays, &NamedArrays) -> Result<(f32, NamedArrays)> + MaybeSend + 'a,
    ) -> Result<History> {
        fit.loss = Some(Box::new(loss));
        fit::fit(self, x.into(), y.into(), fit).await
    }

    /// An optimiser step, or the part of one, by the caller's loss, whose gradients are multiplied by `share`. Returns the loss; if it is
    /// not finite, no step is taken.
    pub(crate) async fn own_step(
        &mut self,
        data: &Data<'_, '_>,
        stateful: bool,
        micro: MicroBatch,
        share: f32,
        loss: impl FnOnce(&NamedArrays) -> Result<(f32, NamedArrays)>,
    ) -> Result<f32> {
        let key = data.key(PlanPurpose::Step, stateful);
        let (compiled, step) = self.ready_to_step(&key, data, micro).await?;
        let Compiled { plan, executable } = &compiled;
        let (range, backward) = (micro.commands(plan), plan.phases.backward);
        let done = executable.run_slices(range.start..executable.traceless().min(backward)).await?;
        {
            // Carried states and running statistics change here.
            let _changing = self.parameters.change();
            executable.run_range(done..backward)?;
        }
        let outputs = self.read_outputs(&compiled, data.count()).await?;
        let (value, mut gradients) = loss(&outputs)?;
        if value.is_finite() {
            if share != 1.0 {
                gradients.values_mut().for_each(|gradient| gradient.mapv_inplace(|d| share * d));
            }
            let given = gradients.iter().map(|(name, array)| (name.as_str(), array.view())).collect();
            self.write_gradients(&compiled, data.count(), &self.output_lengths(data), &given)?;
            {
                let _changing = self.parameters.change();
                executable.run_range(backward..range.end)?;
            }
            if micro.is_last() {
                self.training.as_mut().ok_or_else(not_compiled)?.steps = step;
            }
        }
        drop(self.plans.lend(key, compiled));
        Ok(value)
    }
}
