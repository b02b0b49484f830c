//! Zeros before and after a sequence.

use super::operator::{Inputs, Operator, Output, Site, Time, Trace, Upstream};
use super::shift::{TimeShift, shift};
use crate::error::{Error, Result};
use crate::kernel::{RowShift, ShiftLimit};
use crate::plan::Role;
use crate::schedule::{Builder, size};
use serde::{Deserialize, Serialize};

/// Steps of zeros before and after each sequence: [B, T, F] to [B, left + T + right, F]. As
/// [`torch.nn.ZeroPad1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ZeroPad1d.html) and [Keras's
/// ZeroPadding1D](https://keras.io/api/layers/reshaping_layers/zero_padding1d/). Where sequences have lengths, the zeros begin at
/// each one's own end.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Device, Sequential, ZeroPad};
/// let model = Sequential::new(3).add(ZeroPad::new(2, 1)).build(&Device::cpu(), 0)?;
/// assert_eq!(model.predict(Array3::ones((4, 5, 3)).view())?.shape(), [4, 8, 3]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroPad {
    pub(crate) left: usize,
    pub(crate) right: usize,
}

impl ZeroPad {
    /// `left` steps of zeros in front, and `right` at the end.
    pub fn new(left: usize, right: usize) -> ZeroPad {
        ZeroPad { left, right }
    }

    /// Steps of zeros in front.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Steps of zeros at the end.
    pub fn right(&self) -> usize {
        self.right
    }

    /// The shift to the padded sequence, or back.
    fn shift(&self, site: &Site, back: bool) -> TimeShift {
        let left = self.left as i32;
        let (shift, limit) = if back { (left, ShiftLimit::Destination) } else { (-left, ShiftLimit::Source) };
        TimeShift { shift, limit, ..TimeShift::of(site, RowShift::None) }
    }
}

impl Operator for ZeroPad {
    fn kind(&self) -> &'static str {
        "zero_pad"
    }

    fn describe(&self) -> String {
        format!("ZeroPad({}, {})", self.left, self.right)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        if self.left == 0 && self.right == 0 {
            return Err(Error::Config(format!("{name}: it adds 0 steps on both sides; leave it out")));
        }
        size(&format!("{name}: the padding and a step"), self.left.saturating_add(self.right).saturating_add(1))?;
        size("the number of input features", inputs[0]).map(drop)
    }

    fn time(&self) -> Time {
        Time::Changed
    }

    fn output_steps(&self, steps: usize) -> usize {
        if steps == 0 { 0 } else { self.left.saturating_add(steps).saturating_add(self.right) }
    }

    fn takes_sequence(&self) -> bool {
        true
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        Some("adds zeros at the ends")
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        let x = &x[0];
        plan.section(format!("{} forward", site.name));
        let steps = size("the number of padded steps", self.output_steps(x.steps as usize))?;
        let y = plan.sequence(&format!("{}.y", site.name), [steps, site.batch, x.features], 0, Role::Scratch)?;
        shift(plan, site, (x, 0), (&y, 0), self.shift(site, false))?;
        Ok(Output::new(y, *self))
    }
}

impl Trace for ZeroPad {
    fn backward(
        &self,
        plan: &mut Builder,
        site: &Site,
        Upstream { dy, .. }: Upstream,
    ) -> Result<Vec<crate::schedule::Sequence>> {
        plan.section(format!("{} backward", site.name));
        let dx =
            plan.sequence(&format!("{}.dx", site.name), [site.steps, site.batch, dy.features], 0, Role::Scratch)?;
        shift(plan, site, (dy, 0), (&dx, 0), self.shift(site, true))?;
        Ok(vec![dx])
    }
}
