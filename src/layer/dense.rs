//! The dense layer: y = activation(x·Wᵀ + b) on every step.

use super::Init;
use super::activation::{apply, apply_backward, apply_to_rows};
use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial};
use crate::activation::Activation;
use crate::error::Result;
use crate::kernel::{self, NoConstants};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// A fully connected layer: y = activation(x·Wᵀ + b), on the last axis: [B, F] to [B, units], [B, T, F] to
/// [B, T, units]. As [`torch.nn.Linear`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html) and
/// [Keras's Dense](https://keras.io/api/layers/core_layers/dense/).
///
/// ```
/// use wgpu_lstm::{Dense, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(Dense::new(2));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    pub(crate) units: usize,
    pub(crate) bias: bool,
    pub(crate) activation: Activation,
    pub(crate) init: Init,
}

impl Dense {
    /// `units` outputs, with a bias, no activation, initialised as PyTorch does.
    pub fn new(units: usize) -> Dense {
        Dense { units, bias: true, activation: Activation::Linear, init: Init::PyTorch }
    }

    /// The same, initialised as Keras does (Glorot uniform, bias 0).
    pub fn keras(units: usize) -> Dense {
        Dense { init: Init::Keras, ..Dense::new(units) }
    }

    /// Adds a bias (the default), or none.
    pub fn bias(self, bias: bool) -> Dense {
        Dense { bias, ..self }
    }

    /// Activation of the sum. Linear by default.
    pub fn activation(self, activation: Activation) -> Dense {
        Dense { activation, ..self }
    }

    /// Initial weights.
    pub fn init(self, init: Init) -> Dense {
        Dense { init, ..self }
    }

    /// Output features.
    pub fn units(&self) -> usize {
        self.units
    }

    /// True if a bias is added.
    pub fn has_bias(&self) -> bool {
        self.bias
    }

    /// The activation after the sum.
    ///
    /// ```
    /// use wgpu_lstm::{Activation, Dense, Layer, Lstm, Sequential};
    /// let model = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(2).activation(Activation::Softmax));
    /// if let Layer::Dense(dense) = &model.layers()[1] {
    ///     assert_eq!((dense.units(), dense.has_bias(), dense.function()), (2, true, Activation::Softmax));
    /// }
    /// ```
    pub fn function(&self) -> Activation {
        self.activation
    }
}

impl Operator for Dense {
    fn kind(&self) -> &'static str {
        "dense"
    }

    fn describe(&self) -> String {
        format!("Dense({}, {})", self.units, self.activation.to_string().to_lowercase())
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        self.activation.validate(&format!("{name}: the activation"))?;
        size("the number of input features", inputs[0])?;
        size("the number of dense units", self.units).map(drop)
    }

    fn output(&self, _: &[usize]) -> usize {
        self.units
    }

    fn output_activation(&self) -> Option<Activation> {
        Some(self.activation)
    }

    /// Weight [units, input] and bias `[units]`, whose tensor is empty if there is none.
    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let input = inputs[0];
        let [of_weight, of_bias] = match self.init {
            Init::PyTorch => [(); 2].map(|()| Initial::Uniform(1.0 / (input as f64).sqrt())),
            Init::Keras => [Initial::Glorot { fan_in: input, fan_out: self.units }, Initial::Constant(0.0)],
        };
        let bias = format!("{name}.bias");
        vec![
            DeviceTensor::plain(format!("{name}.weight"), vec![self.units, input], of_weight),
            match self.bias {
                true => DeviceTensor::plain(bias, vec![self.units], of_bias),
                false => DeviceTensor::new(bias, Vec::new()),
            },
        ]
    }

    fn depth(&self) -> usize {
        1
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input().max(self.units))])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, .. }: Inputs) -> Result<Output> {
        let (x, input, output) = (&x[0], site.input() as u32, self.units as u32);
        plan.section(format!("{} forward", site.name));
        let y = plan.sequence(&format!("{}.y", site.name), [x.steps, site.batch, output], 0, Role::Scratch)?;
        for part in x.parts(&y) {
            let ((from, a_offset), (to, c_offset)) = (x.at(part.start), y.at(part.start));
            let rows = part.len() as u32 * site.batch;
            let product = kernel::Matmul {
                m_split: site.batch,
                a_offset,
                a_m_hi: x.step as i32,
                a_m_lo: x.row as i32,
                b_k_lo: 1,
                b_n: input as i32,
                c_offset,
                c_m_hi: y.step as i32,
                c_m_lo: y.row as i32,
                ..kernel::Matmul::plain(rows, output, input)
            };
            let (bias, shape) = (self.bias.then_some(weights[1]), self.activation.shape());
            if bias.is_some() && plan.matmul_dense(product, [from, weights[0], to], bias, shape) {
                apply_to_rows(plan, self.activation, [rows, output], (to, c_offset));
            } else {
                plan.rounded_matmul(product, from, weights[0], to);
                apply(plan, self.activation, bias, [rows, output], (to, c_offset));
            }
        }
        Ok(Output::new(y.clone(), DenseTrace { layer: self.clone(), x: x.clone(), y }))
    }
}

struct DenseTrace {
    layer: Dense,
    x: Sequence,
    y: Sequence,
}

impl Trace for DenseTrace {
    /// Computes dW, db and, if the caller needs it, dx. `dy` is overwritten with the gradient before the activation.
    fn backward(
        &self,
        plan: &mut Builder,
        site: &Site,
        Upstream { dy, weights, gradients, wants_dx, .. }: Upstream,
    ) -> Result<Vec<Sequence>> {
        let (x, y, input, output) = (&self.x, &self.y, site.input() as u32, self.layer.units as u32);
        plan.section(format!("{} backward", site.name));
        let dx = match wants_dx {
            true => {
                vec![plan.sequence(&format!("{}.dx", site.name), [x.steps, site.batch, input], 0, Role::Scratch)?]
            }
            false => Vec::new(),
        };
        for (index, part) in x.parts(y).into_iter().enumerate() {
            let ((from, x_at), (made, y_at), (to, dy_at)) = (x.at(part.start), y.at(part.start), dy.at(part.start));
            let rows = part.len() as u32 * site.batch;
            apply_backward(plan, self.layer.activation, [rows, output], (made, y_at), (to, dy_at));
            let accumulate = (index > 0 || plan.adds()) as u32;
            let dw = kernel::Matmul {
                accumulate,
                k_split: site.batch,
                a_offset: dy_at,
                a_m_lo: 1,
                a_k_hi: dy.step as i32,
                a_k_lo: dy.row as i32,
                b_offset: x_at,
                b_k_hi: x.step as i32,
                b_k_lo: x.row as i32,
                ..kernel::Matmul::plain(output, input, rows)
            };
            plan.matmul(dw, to, from, gradients[0]);
            if self.layer.bias {
                let params =
                    kernel::ColumnSum { rows, columns: output, a_offset: dy_at, out_offset: 0, copies: 1, accumulate };
                plan.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[to, gradients[1]]);
            }
            if let Some(dx) = dx.first() {
                let (target, c_offset) = dx.at(part.start);
                let product = kernel::Matmul {
                    m_split: site.batch,
                    a_offset: dy_at,
                    a_m_hi: dy.step as i32,
                    a_m_lo: dy.row as i32,
                    c_offset,
                    c_m_hi: dx.step as i32,
                    c_m_lo: dx.row as i32,
                    ..kernel::Matmul::plain(rows, input, output)
                };
                plan.matmul(product, to, weights[0], target);
            }
        }
        Ok(dx)
    }
}
