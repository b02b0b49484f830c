//! Windows along time: their padding, and the number of steps that they make.

use super::operator::Time;
use crate::error::Result;
use crate::kernel::same_padding;
use crate::schedule::size;
use serde::{Deserialize, Serialize};

/// Padding of the time axis for windows of it, in [`Conv1d`](crate::Conv1d) and [`WindowPool`](crate::WindowPool): zeros for a
/// convolution; steps that do not count for pooling. T is the number of input steps, and a window reaches over
/// k = (size − 1) · dilation + 1 steps. Where sequences have lengths, each is padded from its own end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Padding {
    /// None: ⌊(T − k) / stride⌋ + 1 output steps.
    #[default]
    Valid,
    /// As TensorFlow's and Keras's "same", and PyTorch's for stride 1: ⌈T / stride⌉ output steps, and half of the padding, rounded
    /// down, in front.
    Same,
    /// k − 1 steps in front, so that no output step reads a later input step: ⌈T / stride⌉ output steps. As Keras's "causal".
    Causal,
    /// So many steps on both sides, as the `padding` of
    /// [`torch.nn.Conv1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html).
    Both(usize),
}

/// Windows along time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// Steps from the first to the last of a window.
    pub reach: usize,
    /// Steps from one window to the next.
    pub stride: usize,
    /// Padding.
    pub padding: Padding,
}

impl Windows {
    /// Refuses sizes out of range.
    pub fn validate(&self, name: &str) -> Result<()> {
        size(&format!("{name}: the steps that a window reaches over"), self.reach)?;
        size(&format!("{name}: the stride"), self.stride)?;
        match self.padding {
            Padding::Both(padding) => {
                size(&format!("{name}: the padding and a step"), padding.saturating_add(1)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Number of windows in `steps` steps; 0 if there are too few.
    pub fn output_steps(&self, steps: usize) -> usize {
        let padded = match self.padding {
            _ if steps == 0 => 0,
            Padding::Same | Padding::Causal => return steps.div_ceil(self.stride),
            Padding::Valid => steps,
            Padding::Both(padding) => steps.saturating_add(padding.saturating_mul(2)),
        };
        if padded < self.reach { 0 } else { (padded - self.reach) / self.stride + 1 }
    }

    /// Steps of padding in front of `steps` steps.
    pub fn left(&self, steps: u32) -> u32 {
        match self.padding {
            Padding::Valid => 0,
            Padding::Same => same_padding(steps, self.reach as u32, self.stride as u32),
            Padding::Causal => self.reach as u32 - 1,
            Padding::Both(padding) => padding as u32,
        }
    }

    /// The time axis of the windows.
    pub fn time(&self) -> Time {
        let kept = self.stride == 1
            && match self.padding {
                Padding::Same | Padding::Causal => true,
                Padding::Valid => self.reach == 1,
                Padding::Both(padding) => self.reach == padding.saturating_mul(2).saturating_add(1),
            };
        if kept { Time::Kept } else { Time::Changed }
    }

    /// True if a window reads nothing after its output's own time.
    pub fn is_causal(&self) -> bool {
        self.stride == 1 && (self.padding == Padding::Causal || self.reach == 1 && self.time() == Time::Kept)
    }

    /// The padding and the stride, unless they are those by default.
    pub fn describe(&self, stride: usize) -> String {
        let mut text = match self.padding {
            Padding::Valid => String::new(),
            Padding::Same => ", same".to_string(),
            Padding::Causal => ", causal".to_string(),
            Padding::Both(padding) => format!(", padding {padding}"),
        };
        if self.stride != stride {
            text += &format!(", stride {}", self.stride);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of TensorFlow and PyTorch by hand.
    #[test]
    fn steps_and_padding() {
        let windows = |reach, stride, padding| Windows { reach, stride, padding };
        for (given, steps, expected, left) in [
            (windows(3, 1, Padding::Valid), 7, 5, 0),
            (windows(3, 2, Padding::Valid), 7, 3, 0),
            (windows(3, 2, Padding::Valid), 2, 0, 0),
            (windows(3, 1, Padding::Same), 7, 7, 1),
            (windows(4, 1, Padding::Same), 7, 7, 1),
            (windows(3, 2, Padding::Same), 7, 4, 1),
            (windows(3, 2, Padding::Same), 8, 4, 0),
            (windows(2, 3, Padding::Same), 8, 3, 0),
            (windows(5, 2, Padding::Causal), 8, 4, 4),
            (windows(3, 2, Padding::Both(1)), 8, 4, 1),
            (windows(3, 1, Padding::Both(4)), 1, 7, 4),
            (windows(3, 1, Padding::Both(4)), 0, 0, 4),
        ] {
            assert_eq!(
                (given.output_steps(steps), given.left(steps as u32)),
                (expected, left),
                "{given:?}, T = {steps}"
            );
        }
    }
}
