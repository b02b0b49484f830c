//! Layer normalisation of every step.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial};
use crate::error::{Error, Result};
use crate::kernel::{self, NoConstants, NormBackwardConstants, NormForwardConstants};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// Normalises the features of every step to mean 0 and variance 1, then scales and shifts them by learned numbers (Ba, Kiros and
/// Hinton 2016). As [`torch.nn.LayerNorm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html) over the last
/// axis; parameters `weight` (1 at first) and `bias` (0 at first), each `[F]`.
///
/// ```
/// use wgpu_lstm::{Dense, LayerNorm, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(LayerNorm::new()).add(Dense::new(2));
/// assert_eq!(LayerNorm::new().eps(), 1e-5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    pub(crate) epsilon: f32,
}

impl Default for LayerNorm {
    fn default() -> Self {
        LayerNorm { epsilon: 1e-5 }
    }
}

impl LayerNorm {
    /// With PyTorch's ε of 1e-5.
    pub fn new() -> LayerNorm {
        LayerNorm::default()
    }

    /// With the ε of 1e-3 of [Keras's
    /// LayerNormalization](https://keras.io/api/layers/normalization_layers/layer_normalization/).
    ///
    /// ```
    /// use wgpu_lstm::LayerNorm;
    /// assert_eq!(LayerNorm::keras(), LayerNorm::new().epsilon(1e-3));
    /// ```
    pub fn keras() -> LayerNorm {
        LayerNorm { epsilon: 1e-3 }
    }

    /// Sets ε, which is added to the variance; above 0.
    pub fn epsilon(self, epsilon: f32) -> LayerNorm {
        LayerNorm { epsilon }
    }

    /// ε, which is added to the variance.
    pub fn eps(&self) -> f32 {
        self.epsilon
    }
}

impl Operator for LayerNorm {
    fn kind(&self) -> &'static str {
        "layer_norm"
    }

    fn describe(&self) -> String {
        format!("LayerNorm({:e})", self.epsilon)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Error::Config(format!("{name}: epsilon is {}; it must be finite and above 0", self.epsilon)));
        }
        size("the number of input features", inputs[0]).map(drop)
    }

    /// Weight and bias, `[input]` each.
    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let tensor = |kind: &str, first| {
            DeviceTensor::plain(format!("{name}.{kind}"), vec![inputs[0]], Initial::Constant(first))
        };
        vec![tensor("weight", 1.0), tensor("bias", 0.0)]
    }

    fn depth(&self) -> usize {
        1
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, .. }: Inputs) -> Result<Output> {
        let (x, epsilon) = (&x[0], self.epsilon);
        plan.section(format!("{} forward", site.name));
        let y = plan.sequence(&format!("{}.y", site.name), [x.steps, site.batch, x.features], 0, Role::Scratch)?;
        for part in x.parts(&y) {
            let ((from, x_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
            let rows = part.len() as u32 * site.batch;
            let features = x.features;
            let params = kernel::NormForward { rows, features, group: rows, groups: 1, x_offset, y_offset, epsilon };
            plan.push(
                &kernel::NORM_FORWARD,
                None,
                &NormForwardConstants { bias: true, add: false },
                &params,
                &[weights[0], weights[1], from, to],
            );
        }
        Ok(Output::new(y, Normalised { epsilon, x: x.clone() }))
    }
}

struct Normalised {
    epsilon: f32,
    /// The layer's input.
    x: Sequence,
}

impl Trace for Normalised {
    /// Computes dx, and the gradients of weight and bias.
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>> {
        let Upstream { dy, weights, gradients, .. } = upstream;
        let Normalised { epsilon, ref x } = *self;
        let features = x.features;
        plan.section(format!("{} backward", site.name));
        let dx = plan.sequence(&format!("{}.dx", site.name), [x.steps, site.batch, features], 0, Role::Scratch)?;
        let longest = dx.chunk_range(0).len() as u64;
        let own = plan.buffer(
            format!("{}.dweight", site.name),
            longest * site.batch as u64 * features as u64,
            Role::Scratch,
        )?;
        for (index, part) in x.parts(&dx).into_iter().enumerate() {
            let ((of, x_offset), (from, dy_offset), (to, dx_offset)) =
                (x.at(part.start), dy.at(part.start), dx.at(part.start));
            let rows = part.len() as u32 * site.batch;
            let params = kernel::NormBackward {
                rows,
                steps: 1,
                features,
                group: rows,
                groups: 1,
                x_offset,
                dy_offset,
                dx_offset,
                epsilon,
            };
            plan.push(
                &kernel::NORM_BACKWARD,
                None,
                &NormBackwardConstants { add: false },
                &params,
                &[weights[0], of, from, to, own],
            );
            for (values, a_offset, sums) in [(own, 0, gradients[0]), (from, dy_offset, gradients[1])] {
                let accumulate = (index > 0 || plan.adds()) as u32;
                let params =
                    kernel::ColumnSum { rows, columns: features, a_offset, out_offset: 0, copies: 1, accumulate };
                plan.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[values, sums]);
            }
        }
        Ok(vec![dx])
    }
}
