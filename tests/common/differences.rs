//! Gradients in f64 of the very plan that trains, against central differences of its own loss.

use std::sync::Arc;
use wgpu_lstm::Machine;
use wgpu_lstm::plan::{BufferId, Plan};

/// The part of a training plan before the optimiser, on the f64 machine.
pub struct Losses {
    pub machine: Machine<f64>,
    pub plan: Arc<Plan>,
    /// Commands before the optimiser.
    pub end: usize,
    loss: BufferId,
}

impl Losses {
    pub fn new(plan: Plan, loss: BufferId) -> Losses {
        let is_optimiser = |section: &String| section.starts_with("optimiser");
        let end = plan.commands.iter().position(|command| is_optimiser(&plan.sections[command.section])).unwrap();
        let plan = Arc::new(plan);
        Losses { machine: Machine::new(plan.clone(), |_| None).unwrap(), plan, end, loss }
    }

    /// Runs forward and backward; the loss.
    pub fn run(&self) -> f64 {
        self.machine.run(0..self.end).unwrap();
        self.machine.read((self.loss, 0), 1)[0]
    }

    /// The gradient of a weight after a run; `None` for a parameter that is not there.
    pub fn gradient(&self, weight: BufferId) -> Option<Vec<f64>> {
        let buffer = &self.plan.buffers[weight.0];
        let gradient = self.plan.find(&format!("grad {}", buffer.name))?;
        let mut before = self.plan.commands[..self.end].iter();
        before.any(|command| command.buffers.contains(&gradient)).then(|| {
            self.run();
            self.machine.read((gradient, 0), buffer.len)
        })
    }

    /// Holds elements of a gradient against differences; `rounding` is that of a difference over 2e-6.
    pub fn hold(
        &self,
        what: &str,
        weight: BufferId,
        given: &[f64],
        elements: impl Iterator<Item = usize>,
        rounding: f64,
    ) {
        let name = &self.plan.buffers[weight.0].name;
        for at in elements {
            let step = 1e-6;
            let value = self.machine.read((weight, at as u64), 1)[0];
            let moved = |by: f64| {
                self.machine.write((weight, at as u64), &[value + by]);
                self.run()
            };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            self.machine.write((weight, at as u64), &[value]);
            assert!(
                (given[at] - expected).abs() <= rounding + 1e-6 * expected.abs(),
                "{what}: gradient of {name}[{at}] is {}, expected {expected}",
                given[at]
            );
        }
    }
}
