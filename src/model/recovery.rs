//! Detection of divergence and recovery from it, and other parts of a model that a fit needs.

use super::{Model, not_compiled};
use crate::error::{Error, Result};
use crate::fit::Pace;
use crate::transfer::is_finite;

impl Model {
    /// True if every parameter is finite.
    pub(crate) async fn weights_are_finite(&self) -> Result<bool> {
        self.parameters.are_finite().await
    }

    /// True if the optimiser's state is finite.
    pub(crate) async fn memory_is_finite(&self) -> Result<bool> {
        for tensor in self.training.as_ref().ok_or_else(not_compiled)?.memory.values() {
            if !is_finite(&tensor.read_all().await?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pace of the steps that the host queues.
    pub(crate) fn pace(&mut self) -> Result<&mut Pace> {
        self.training.as_mut().map(|training| &mut training.pace).ok_or_else(not_compiled)
    }

    /// Resets the optimiser except for its learning rate: its state, its count of steps, and the states carried from batch to batch.
    pub(crate) fn restart_optimiser(&mut self) -> Result<()> {
        self.reset_states()?;
        self.clear(|training| &mut training.memory)?;
        self.training.as_mut().ok_or_else(not_compiled)?.steps = 0;
        Ok(())
    }

    /// Loss, optimiser without its learning rate, and checkpoints along time, as in files.
    pub(crate) fn training_settings(&self) -> Result<(String, String, String)> {
        let training = self.training.as_ref().ok_or_else(not_compiled)?;
        let broken = |error: serde_json::Error| Error::Config(format!("the training's settings: {error}"));
        let mut update = serde_json::to_value(&training.update).map_err(broken)?;
        if let Some(optimiser) = update.get_mut("optimiser").and_then(|optimiser| optimiser.as_object_mut()) {
            optimiser.remove("lr");
        }
        let json = |value: serde_json::Result<String>| value.map_err(broken);
        let loss = json(serde_json::to_string(&training.loss))?;
        Ok((loss, update.to_string(), json(serde_json::to_string(&training.checkpoints))?))
    }
}
