//! An optimiser on named arrays, without a model.

use super::cache::Compiled;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Initial};
use crate::memory;
use crate::network::{StepPlan, optimiser_step};
use crate::train::{Optimiser, Update};
use crate::transfer::finite;
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;

impl Update {
    /// An optimiser for arrays of one's own; its memory is on the device.
    ///
    /// # Errors
    /// Settings out of range.
    ///
    /// ```
    /// use ndarray::arr1;
    /// use std::collections::BTreeMap;
    /// use wgpu_lstm::{Device, Optimiser, Update};
    /// let mut steps = Update::new(Optimiser::adam(0.1)).begin(&Device::cpu())?;
    /// let mut parameters = BTreeMap::from([("w".to_string(), arr1(&[1.0, -2.0]).into_dyn())]);
    /// for _ in 0..200 {
    ///     let gradients = BTreeMap::from([("w".to_string(), 2.0 * &parameters["w"])]); // of Σ w²
    ///     steps.step(&mut parameters, &gradients)?;
    /// }
    /// assert!(parameters["w"].iter().all(|w| w.abs() < 0.05));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn begin(&self, device: &Device) -> Result<Stepper> {
        self.optimiser.validate()?;
        Ok(Stepper { update: self.clone(), device: device.clone(), steps: 0, begun: None })
    }
}

/// An optimiser that takes steps on named arrays, with all that an [`Update`] has; made by [`Update::begin`].
///
/// A model's optimiser ([`Model::compile`](crate::Model::compile)) runs the same kernels.
#[derive(Debug)]
pub struct Stepper {
    update: Update,
    device: Device,
    steps: u64,
    /// Names and shapes of the parameters, and the plan for them; `None` before the first step.
    begun: Option<(Shapes, Compiled<StepPlan>)>,
}

/// Names and shapes of arrays.
type Shapes = Vec<(String, Vec<usize>)>;

impl Stepper {
    /// Takes a step: the parameters are replaced by the updated ones. Those that are frozen need no gradient. Parameters may have been
    /// changed since the last step; their names and shapes may not.
    ///
    /// # Errors
    /// Patterns of the [`Update`] that do not fit the names; names or shapes that differ from the first step's; a gradient that is
    /// missing, that belongs to no parameter or has another shape; numbers that are not finite. Nothing is changed then.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step(
        &mut self,
        parameters: &mut BTreeMap<String, ArrayD<f32>>,
        gradients: &BTreeMap<String, ArrayD<f32>>,
    ) -> Result<()> {
        wait::block_on(self.step_async(parameters, gradients))
    }

    /// [`Stepper::step`] for places that cannot block.
    pub async fn step_async(
        &mut self,
        parameters: &mut BTreeMap<String, ArrayD<f32>>,
        gradients: &BTreeMap<String, ArrayD<f32>>,
    ) -> Result<()> {
        let shapes: Shapes = parameters.iter().map(|(name, array)| (name.clone(), array.shape().to_vec())).collect();
        if self.begun.as_ref().is_none_or(|(known, _)| *known != shapes) {
            self.begin_with(shapes).await?;
        }
        let Some((_, Compiled { plan, executable })) = &self.begun else { return Ok(()) };
        check_gradients(plan, parameters, gradients)?;
        for trained in &plan.trained {
            let name = &trained.tensor.name;
            executable.write((trained.weight, 0), &values(name, &parameters[name])?)?;
            executable.write((trained.gradient, 0), &values(name, &gradients[name])?)?;
        }
        for hyper in &plan.hyper {
            executable.write((hyper.buffer(), 0), &hyper.numbers(&self.update.optimiser, self.steps + 1))?;
        }
        executable.run()?;
        self.steps += 1;
        let mut stepped = Vec::new();
        for trained in &plan.trained {
            stepped.push(executable.read_async((trained.weight, 0), trained.tensor.len).await?);
        }
        for (trained, values) in plan.trained.iter().zip(stepped) {
            if let Some(array) = parameters.get_mut(&trained.tensor.name) {
                let shape = IxDyn(array.shape());
                *array = ArrayD::from_shape_vec(shape, values).map_err(|error| Error::Plan(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.update.optimiser.lr
    }

    /// Sets the learning rate for the steps to come.
    ///
    /// # Errors
    /// A rate that is negative or not finite.
    pub fn set_learning_rate(&mut self, rate: f64) -> Result<()> {
        let optimiser = Optimiser { lr: rate, ..self.update.optimiser.clone() };
        optimiser.validate()?;
        self.update.optimiser = optimiser;
        Ok(())
    }

    /// Plans the steps for parameters of these names and shapes.
    async fn begin_with(&mut self, shapes: Shapes) -> Result<()> {
        if let Some((known, _)) = &self.begun {
            let of = |all: &Shapes, other: &Shapes| {
                let one = all.iter().find(|one| !other.contains(one));
                one.map_or("none".into(), |(name, shape)| format!("{name} of shape {shape:?}"))
            };
            return Err(Error::Shape(format!(
                "the parameters are not those of the first step: it had {}, this one has {}; an optimiser keeps its memory for the \
                 same parameters",
                of(known, &shapes),
                of(&shapes, known)
            )));
        }
        let tensor = |(name, shape): &(String, Vec<usize>)| {
            DeviceTensor::plain(name.clone(), shape.clone(), Initial::Constant(0.0))
        };
        let tensors: Vec<DeviceTensor> = shapes.iter().map(tensor).collect();
        self.update.validate(&tensors)?;
        let plan = optimiser_step(tensors, &self.update, self.device.capabilities())?;
        let executable = self.device.compile_with(plan.plan.clone(), |_| None).await?;
        self.begun = Some((shapes, Compiled { plan, executable }));
        Ok(())
    }
}

/// Refuses gradients that do not fit, and numbers that are not finite.
fn check_gradients(
    plan: &StepPlan,
    parameters: &BTreeMap<String, ArrayD<f32>>,
    gradients: &BTreeMap<String, ArrayD<f32>>,
) -> Result<()> {
    for (name, gradient) in gradients {
        match parameters.get(name) {
            Some(parameter) if parameter.shape() == gradient.shape() => {}
            Some(parameter) => {
                return Err(Error::Shape(format!(
                    "the gradient of {name} has shape {:?}, the parameter has {:?}",
                    gradient.shape(),
                    parameter.shape()
                )));
            }
            None => {
                let names: Vec<&str> = parameters.keys().map(String::as_str).take(6).collect();
                return Err(Error::Shape(format!(
                    "there is a gradient of {name}, but no parameter of that name; among the parameters: {}",
                    names.join(", ")
                )));
            }
        }
    }
    for trained in &plan.trained {
        let name = &trained.tensor.name;
        let gradient = gradients.get(name).ok_or_else(|| {
            Error::Shape(format!(
                "the gradient of {name} is missing; a parameter without one must be frozen (Update::freeze)"
            ))
        })?;
        finite(&format!("the gradient of {name}"), "[index]", &gradient.view())?;
        finite(name, "[index]", &parameters[name].view())?;
    }
    Ok(())
}

/// The elements of an array in the order of its axes.
fn values(name: &str, array: &ArrayD<f32>) -> Result<Vec<f32>> {
    memory::collect(array.len(), array.iter().copied(), name)
}
