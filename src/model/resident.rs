//! The data set of a fit on the device, where batches are gathered from it by a list of their sequences.

use super::Model;
use super::cache::Compiled;
use super::data::Data;
use crate::device::{Device, Executable, Tensor};
use crate::error::{Error, Result};
use crate::kernel::{GATHER, Gather, NoConstants};
use crate::lock::lock;
use crate::network::NetworkPlan;
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence};
use crate::transfer::put_rows;
use ndarray::{ArrayView3, s};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Bytes of a data set that is kept on the device whatever the plan takes; a larger one is kept if the training plan takes as many.
const KEPT: u64 = 256 << 20;
/// Bytes that go to the device at a time.
const PART: usize = 16 << 20;

/// Inputs and targets of all sequences, on the device.
#[derive(Debug)]
pub(crate) struct Resident {
    device: Device,
    sequences: u32,
    inputs: Vec<Resided>,
    /// `None` for an output without a loss.
    targets: Vec<Option<Resided>>,
    /// Plans that gather batches, by the plan that is given them.
    gathers: Mutex<Vec<GatherPlan>>,
}

/// An array [N, T or 1, F] on the device.
#[derive(Debug)]
struct Resided {
    tensor: Tensor,
    steps: u32,
    features: u32,
}

#[derive(Debug)]
struct GatherPlan {
    of: std::sync::Weak<()>,
    executable: Arc<Executable>,
    /// The list: first step, sequences.
    at: BufferId,
}

impl Model {
    /// Puts the data of a fit on the device, if it is a GPU and they fit: they take at most as many bytes as the largest training plan so
    /// far, or 256 MiB.
    pub(crate) async fn reside(&self, data: &Data<'_, '_>) -> Option<Arc<Resident>> {
        self.device.adapter()?;
        let arrays =
            || data.inputs.iter().map(|input| &input.x).chain(data.targets.iter().flatten().map(|target| &target.y));
        let bytes = |len: usize| 4 * len as u64;
        let most = self.device.capabilities().max_binding_bytes.min(4 * i32::MAX as u64);
        let all: u64 = arrays().map(|array| bytes(array.len())).sum();
        // Steps past the ends of sequences are blanked by the host where a layer masks another value than 0.
        let blanks = (0..data.inputs.len()).any(|k| self.graph.mask(k).is_some_and(|value| value != 0.0));
        let planned = self.plans.largest(|key| key.purpose.trains());
        if blanks || all > KEPT.max(planned) || arrays().any(|array| bytes(array.len()) > most) {
            return None;
        }
        match self.resident(data).await {
            Ok(resident) => {
                log::info!("the data set is kept on the device: {all} bytes");
                Some(Arc::new(resident))
            }
            Err(error) => {
                log::info!("the data set is not kept on the device: {error}");
                None
            }
        }
    }

    async fn resident(&self, data: &Data<'_, '_>) -> Result<Resident> {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for input in &data.inputs {
            inputs.push(self.resided(input.x.view()).await?);
        }
        for target in &data.targets {
            targets.push(match target {
                None => None,
                Some(target) => Some(self.resided(target.y.view()).await?),
            });
        }
        let sequences = data.count() as u32;
        Ok(Resident { device: self.device.clone(), sequences, inputs, targets, gathers: Mutex::default() })
    }

    async fn resided(&self, array: ArrayView3<'_, f32>) -> Result<Resided> {
        let (count, steps, features) = array.dim();
        let tensor = self.device.tensor("a data set", array.len() as u64).await?;
        let row = steps * features;
        let rows = (PART / 4 / row.max(1)).max(1);
        for first in (0..count).step_by(rows) {
            let part = array.slice(s![first..count.min(first + rows), .., ..]);
            let (at, len) = (first * row, part.len());
            tensor.write_with(at as u64, len as u64, |to, threads| put_rows(part, to, threads))??;
        }
        Ok(Resided { tensor, steps: steps as u32, features: features as u32 })
    }
}

impl Resident {
    /// Gathers a batch in the buffers of a plan.
    pub async fn hand_over(
        &self,
        Compiled { plan, executable }: &Compiled<NetworkPlan>,
        data: &Data<'_, '_>,
    ) -> Result<()> {
        let Some(chosen) = &data.chosen else { return Err(Error::Plan("a batch without a list".into())) };
        let known = lock(&self.gathers)
            .iter()
            .find(|gather| executable.is(&gather.of))
            .map(|own| (own.executable.clone(), own.at));
        let (gather, at) = match known {
            Some(known) => known,
            None => self.plan(plan, executable, chosen.len()).await?,
        };
        // What a run that was given up has left to write would come later.
        executable.flush()?;
        let list = std::iter::once(data.first_step).chain(chosen.iter().copied());
        let list: Vec<f32> = list.map(|index| f32::from_bits(index as u32)).collect();
        gather.write((at, 0), &list)?;
        gather.run()
    }

    /// The plan that gathers batches for another.
    async fn plan(
        &self,
        plan: &NetworkPlan,
        executable: &Executable,
        batch: usize,
    ) -> Result<(Arc<Executable>, BufferId)> {
        let mut builder = Builder::trusted("a batch of a data set", self.device.capabilities().clone());
        let at = builder.buffer("at", 1 + batch as u64, Role::Input)?;
        let mut tensors = HashMap::new();
        let targets =
            plan.outputs.iter().zip(&self.targets).filter_map(|(output, own)| output.target.as_ref().zip(own.as_ref()));
        for (k, (sequence, own)) in plan.inputs.iter().zip(&self.inputs).chain(targets).enumerate() {
            let Resided { tensor, steps, features } = own;
            let name = format!("data {k}");
            let src = builder.buffer(&name, tensor.len, Role::Input)?;
            tensors.insert(name, tensor.clone());
            let Sequence { chunks, lead, .. } = sequence;
            for (c, &chunk) in chunks.iter().enumerate() {
                let (range, name) = (sequence.chunk_range(c), format!("batch {k} {c}"));
                let into = executable.tensor(chunk);
                let dst = builder.buffer(&name, into.len, Role::Output)?;
                tensors.insert(name, into);
                let params = Gather {
                    steps: range.len() as u32,
                    batch: batch as u32,
                    features: *features,
                    sequences: self.sequences,
                    src_steps: *steps,
                    step: range.start,
                    dst_offset: *lead,
                };
                builder.push(&GATHER, None, &NoConstants, &params, &[at, src, dst]);
            }
        }
        let compiled = self.device.compile_with(builder.finish()?, |name| tensors.get(name).cloned()).await?;
        let compiled = Arc::new(compiled);
        let mut gathers = lock(&self.gathers);
        // Those of plans that are gone would keep their buffers.
        gathers.retain(|gather| gather.of.strong_count() > 0);
        gathers.push(GatherPlan { of: executable.mark(), executable: compiled.clone(), at });
        Ok((compiled, at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::plans::PlanPurpose;
    use super::super::training::MicroBatch;
    use super::*;
    use crate::wait::block_on;
    use crate::{Loss, Lstm, Optimiser, Sequential};
    use ndarray::Array3;

    /// Numbers of the input and the target of a plan.
    fn given(Compiled { plan, executable }: &Compiled<NetworkPlan>) -> Vec<Vec<f32>> {
        let target = plan.outputs[0].target.as_ref().unwrap();
        let chunks = [&plan.inputs[0], target].into_iter().flat_map(|sequence| sequence.chunks.clone());
        chunks.map(|id| executable.read((id, 0), executable.plan().buffers[id.0].len).unwrap()).collect()
    }

    #[test]
    fn a_batch_gathered_on_the_device_is_the_one_that_the_host_writes() {
        let mut model = Sequential::new(3).add(Lstm::new(2).return_sequences(true)).build(&Device::cpu(), 0).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, 0.0)).unwrap();
        let x = Array3::from_shape_fn((5, 7, 3), |(n, t, i)| (100 * n + 10 * t + i) as f32);
        let y = Array3::from_shape_fn((5, 7, 2), |(n, t, i)| -((100 * n + 10 * t + i) as f32));
        let data = model.data("", x.view().into(), Some(y.view().into())).unwrap();
        let resident = Arc::new(block_on(model.resident(&data)).unwrap());
        for (rows, window) in [(&[3, 0, 4][..], 0..7), (&[1, 1, 2], 2..6), (&[4], 6..7)] {
            let mut batch = data.choose(rows, &window);
            let key = batch.key(PlanPurpose::Train, false);
            let mut handed_over = |batch: &Data<'_, '_>| {
                let (compiled, _) = block_on(model.ready_to_step(&key, batch, MicroBatch::WHOLE)).unwrap();
                let numbers = given(&compiled);
                drop(model.plans.lend(key.clone(), compiled));
                numbers
            };
            let by_host = handed_over(&batch);
            assert_eq!(by_host[0][0], x[[rows[0], window.start, 0]]);
            // Other numbers in between, so that gathering has to write.
            assert_ne!(handed_over(&data.choose(&vec![0; rows.len()], &window)), by_host);
            batch.resident = Some(resident.clone());
            assert_eq!(handed_over(&batch), by_host, "{rows:?} {window:?}");
        }
        assert_eq!(lock(&resident.gathers).len(), 3);
    }
}
