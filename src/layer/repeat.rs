//! Repetition of a vector over time.

use super::operator::{Inputs, Operator, Output, Site, Time, Trace, Upstream};
use crate::error::{Error, Result};
use crate::kernel::{self, NoConstants};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// Repeats a vector [B, F] over time, to [B, T, F]: over a number of steps, as
/// [Keras's RepeatVector](https://keras.io/api/layers/reshaping_layers/repeat_vector/), or over the steps of another input, whose
/// lengths of sequences the output then has. A layer of networks that branch.
///
/// ```
/// use wgpu_lstm::Repeat;
/// assert_eq!(Repeat::new(5).steps(), Some(5));
/// assert_eq!(Repeat::over_steps().steps(), None); // inputs: the vector, and a sequence
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    pub(crate) steps: Option<usize>,
}

impl Repeat {
    /// Repeats its input over `steps` steps, at least 1.
    pub fn new(steps: usize) -> Repeat {
        Repeat { steps: Some(steps) }
    }

    /// Repeats its first input over the steps of its second, a sequence that gives nothing else and so has no gradient.
    pub fn over_steps() -> Repeat {
        Repeat { steps: None }
    }

    /// The number of steps; `None` for those of the second input.
    pub fn steps(&self) -> Option<usize> {
        self.steps
    }
}

impl Operator for Repeat {
    fn kind(&self) -> &'static str {
        "repeat"
    }

    fn describe(&self) -> String {
        match self.steps {
            Some(steps) => format!("Repeat({steps})"),
            None => "Repeat(over steps)".into(),
        }
    }

    fn validate(&self, _: &str, inputs: &[usize]) -> Result<()> {
        self.steps.map_or(Ok(1), |steps| size("the number of steps to repeat a vector over", steps))?;
        inputs.iter().try_for_each(|&input| size("the number of input features", input).map(drop))
    }

    fn inputs(&self) -> usize {
        if self.steps.is_some() { 1 } else { 2 }
    }

    fn time(&self) -> Time {
        self.steps.map_or(Time::Of(1), |steps| Time::Made(steps as u32))
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        Some("repeats a vector over time")
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        let vector = &x[0];
        if vector.steps != 1 {
            return Err(Error::Config(format!(
                "{} repeats a vector, but its first input is a sequence of {} steps",
                site.name, vector.steps
            )));
        }
        plan.section(format!("{} forward", site.name));
        let steps = self.steps.map_or_else(|| x[1].steps, |steps| steps as u32);
        let y = plan.sequence(&format!("{}.y", site.name), [steps, site.batch, vector.features], 0, Role::Scratch)?;
        for chunk in 0..y.chunks.len() {
            let part = y.chunk_range(chunk);
            plan.copy(
                [1, part.len() as u32, site.batch, vector.features],
                vector.at(0),
                [0, 0, vector.row as i32, 1],
                y.at(part.start),
                [0, y.step as i32, y.row as i32, 1],
                false,
            );
        }
        Ok(Output::new(y, Repeated))
    }
}

struct Repeated;

impl Trace for Repeated {
    /// The sum over the steps. The other input has no gradient.
    fn backward(&self, plan: &mut Builder, site: &Site, Upstream { dy, .. }: Upstream) -> Result<Vec<Sequence>> {
        plan.section(format!("{} backward", site.name));
        let dx = plan.sequence(&format!("{}.dx", site.name), [1, site.batch, dy.features], 0, Role::Scratch)?;
        let (to, out_offset) = dx.at(0);
        for chunk in 0..dy.chunks.len() {
            let part = dy.chunk_range(chunk);
            let (from, a_offset) = dy.at(part.start);
            let params = kernel::ColumnSum {
                rows: part.len() as u32,
                columns: dx.step,
                a_offset,
                out_offset,
                copies: 1,
                accumulate: (chunk > 0) as u32,
            };
            plan.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[from, to]);
        }
        Ok(vec![dx])
    }
}
