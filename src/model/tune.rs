//! Tuning of a model's recurrent layers and products on its device.

use super::Model;
use super::plans::{Key, PlanPurpose};
use crate::error::{Error, Result};
use crate::tune::{TuningReport, Which};
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;

impl Model {
    /// Measures launches of the recurrent layers and the large products for batches of B sequences of T steps: for predictions, and for training if the model
    /// was compiled. The model's plans follow the fastest from now on, and so do plans that other models on the same
    /// [`Device`](crate::Device) make later. What is known from earlier is not measured again. On the CPU executor there is nothing to
    /// choose.
    ///
    /// The choices hold for this B and for T up to a power of two (65 to 128, and all above, are one shape), those of products for T·B up to a
    /// power of two; without lengths of sequences unless the model masks its input. See [`Tuning::Measure`](crate::Tuning::Measure) for all that comes.
    ///
    /// # Errors
    /// Sizes that are 0 or that the device cannot hold; a device that failed.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let mut model = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// assert!(model.tune(4, 10)?.passes().is_empty()); // B = 4, T = 10
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tune(&mut self, batch: usize, steps: usize) -> Result<TuningReport> {
        wait::block_on(self.tune_async(batch, steps))
    }

    /// [`Model::tune`] for places that cannot block.
    pub async fn tune_async(&mut self, batch: usize, steps: usize) -> Result<TuningReport> {
        let report = self.measured(batch, steps, Which::Best).await?;
        // They follow the choices of before.
        self.plans.forget(|_| true);
        Ok(report)
    }

    /// Measures all launches that the device can run, without a budget, and keeps none of it: for a look at the model of cost.
    ///
    /// # Errors
    /// As [`Model::tune`].
    ///
    /// ```no_run
    /// use wgpu_lstm::{Dense, Device, GpuOptions, Lstm, Sequential};
    /// let device = Device::gpu(&GpuOptions::default())?;
    /// let model = Sequential::new(3).add(Lstm::new(64)).add(Dense::new(1)).build(&device, 0)?;
    /// for time in model.sweep(1, 100)?.passes()[0].measured() { // B = 1, T = 100
    ///     println!("{}: {:.1} µs, by the model {:.1} µs", time.launch(), time.measured_us, time.model_us);
    /// }
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn sweep(&self, batch: usize, steps: usize) -> Result<TuningReport> {
        wait::block_on(self.measured(batch, steps, Which::All))
    }

    async fn measured(&self, batch: usize, steps: usize, which: Which) -> Result<TuningReport> {
        for (what, size) in [("B", batch), ("T", steps)] {
            if size == 0 {
                return Err(Error::Config(format!(
                    "{what} is 0; tuning is for batches of at least one sequence and step"
                )));
            }
        }
        let purposes =
            [PlanPurpose::Predict, PlanPurpose::Train].into_iter().take(1 + self.training.is_some() as usize);
        let mut report = TuningReport::default();
        for purpose in purposes {
            let ragged = self.graph.masks();
            let key = Key { purpose, ragged, stateful: false, batch, steps: vec![steps] };
            report.join(self.device.tune(|capabilities| self.plan_by(&key, capabilities), which).await?);
        }
        Ok(report)
    }
}
