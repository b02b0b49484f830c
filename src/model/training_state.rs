//! The state of training as plain data, for files.

use super::{Model, not_compiled};
use crate::device::{Device, Tensor};
use crate::error::Result;
use crate::fit::Progress;
use crate::network::{Batch, Purpose, graph_plan};
use crate::plan::Role;
use crate::train::{Losses, TimeCheckpoints, Update, check_count};
use crate::wait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Settings and progress of training, and the tensors that the device keeps from step to step.
#[derive(Serialize, Deserialize)]
pub(crate) struct TrainingState {
    pub loss: Losses,
    pub update: Update,
    /// Number of optimiser steps.
    pub steps: u64,
    pub progress: Progress,
    #[serde(default)]
    pub checkpoints: TimeCheckpoints,
    /// The optimiser's state by name, "<kind> <buffer>".
    #[serde(skip)]
    pub memory: BTreeMap<String, Vec<f32>>,
    /// States that are carried from batch to batch, by B and buffer name.
    #[serde(skip)]
    pub carried: BTreeMap<(usize, String), Vec<f32>>,
}

impl TrainingState {
    /// Refuses a state that no training can reach.
    pub fn validate(&self) -> Result<()> {
        check_count("the steps of the optimiser", self.steps)?;
        self.progress.validate()
    }
}

impl Model {
    /// The state of its training.
    pub(crate) fn training_state(&self) -> Result<TrainingState> {
        let training = self.training.as_ref().ok_or_else(not_compiled)?;
        Ok(TrainingState {
            loss: training.loss.clone(),
            update: training.update.clone(),
            steps: training.steps,
            progress: training.progress.clone(),
            checkpoints: training.checkpoints,
            memory: read_all(&training.memory)?,
            carried: read_all(&training.states)?,
        })
    }

    /// Continues from a state of training. Its settings must be those that the model was compiled with.
    pub(crate) fn restore_training(&mut self, state: TrainingState) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        training.memory = upload_all(&self.device, state.memory, |name| name)?;
        training.states = upload_all(&self.device, state.carried, |(_, name)| name)?;
        (training.steps, training.progress) = (state.steps, state.progress);
        Ok(())
    }

    /// Number of elements of an optimiser's state of this name, "<kind> <buffer>", if the model has such a parameter.
    pub(crate) fn optimiser_memory_len(&self, name: &str) -> Option<u64> {
        name.split_once(' ').and_then(|(_, buffer)| self.parameters.tensor(buffer)).map(|tensor| tensor.len)
    }

    /// True if batches of `batch` sequences carry a state of this name and length.
    pub(crate) fn has_carried_state(&self, batch: usize, name: &str, len: u64) -> Result<bool> {
        // A state has at least one element for each sequence.
        if batch as u64 > len {
            return Ok(false);
        }
        let sizes = Batch::new(batch, 1).stateful(true);
        let plan = graph_plan(&self.graph, &sizes, Purpose::Predict, self.device.capabilities())?.plan;
        let buffer = plan.find(name).map(|id| &plan.buffers[id.0]);
        Ok(buffer.is_some_and(|buffer| buffer.role == Role::State && buffer.len == len))
    }
}

fn read_all<K: Ord + Clone>(tensors: &HashMap<K, Tensor>) -> Result<BTreeMap<K, Vec<f32>>> {
    tensors.iter().map(|(key, tensor)| Ok((key.clone(), wait::block_on(tensor.read_all())?))).collect()
}

fn upload_all<K: Eq + std::hash::Hash>(
    device: &Device,
    arrays: BTreeMap<K, Vec<f32>>,
    name: fn(&K) -> &String,
) -> Result<HashMap<K, Tensor>> {
    let upload = |(key, values): (K, Vec<f32>)| {
        let tensor = wait::block_on(device.tensor(name(&key), values.len() as u64))?;
        tensor.write(0, &values);
        Ok((key, tensor))
    };
    arrays.into_iter().map(upload).collect()
}
