//! The masking layer: padding recognised by its value.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use crate::error::{Error, Result};
use crate::schedule::{Builder, Sequence};
use serde::{Deserialize, Serialize};

/// Masks padded steps: those whose features all equal one value, as in
/// [Keras's Masking](https://keras.io/api/layers/core_layers/masking/). Each sequence then ends before its first padded step, as if
/// its length had been given to [`Fit::lengths`](crate::Fit::lengths) or
/// [`Inputs::lengths`](crate::Inputs::lengths); lengths that are also given must agree. Later layers get padded steps
/// as zeros. Only as the first layer of a model.
///
/// In padded steps the outputs of recurrent layers are 0, or repeat the last output as in Keras
/// ([`Lstm::repeat_output`](crate::Lstm::repeat_output)); losses ignore both.
///
/// Padding must be at the end of a sequence: an unmasked step after a masked one is an error that names both. A
/// [`Stream`](crate::Stream) has no end and refuses masked steps.
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::{Device, Lstm, Masking, Sequential};
/// let model = Sequential::new(1).add(Masking::new(-1.0)).add(Lstm::new(8)).build(&Device::cpu(), 0)?;
/// let (padded, alone) = (array![[[0.5], [0.2], [-1.0]]], array![[[0.5], [0.2]]]); // [B, T, I]
/// assert_eq!(model.predict(padded.view())?, model.predict(alone.view())?);
/// assert!(model.predict(array![[[-1.0], [0.5]]].view()).is_err());
/// assert_eq!(Masking::new(-1.0).value(), -1.0);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Masking {
    pub(crate) value: f32,
}

impl Masking {
    /// Steps whose features all equal `value` (finite; Keras's default is 0) are padding.
    pub fn new(value: f32) -> Masking {
        Masking { value }
    }

    /// The value of padding.
    pub fn value(&self) -> f32 {
        self.value
    }
}

/// No commands run on the device: the host computes the lengths of sequences.
impl Operator for Masking {
    fn kind(&self) -> &'static str {
        "masking"
    }

    fn describe(&self) -> String {
        format!("Masking({})", self.value)
    }

    fn validate(&self, name: &str, _: &[usize]) -> Result<()> {
        match self.value.is_finite() {
            true => Ok(()),
            false => Err(Error::Config(format!("{name}: the value is {}; it must be finite", self.value))),
        }
    }

    fn padding(&self) -> Option<f32> {
        Some(self.value)
    }

    fn step_tensors(&self, _: &Site) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn forward(&self, _: &mut Builder, _: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        Ok(Output::new(x[0].clone(), Masked))
    }
}

struct Masked;

impl Trace for Masked {
    fn backward(&self, _: &mut Builder, _: &Site, Upstream { dy, .. }: Upstream) -> Result<Vec<Sequence>> {
        Ok(vec![dy.clone()])
    }
}
