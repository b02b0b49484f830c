//! A bare layer without states: forward, and its gradients for given gradients of its output.

use super::pass::NamedArrays;
use super::{Model, Sequential};
use crate::device::Device;
use crate::error::Result;
use crate::layer::{Dense, Embedding, Layer, LayerNorm};
use ndarray::{ArrayD, ArrayView, Axis, Dimension};

/// A dense layer, an embedding or a layer normalisation with its weights on a device; made by [`Dense::build`],
/// [`Embedding::build`], [`LayerNorm::build`]. [`LstmLayer`](crate::LstmLayer) is that of recurrent layers.
#[derive(Clone, Debug)]
pub struct BareLayer {
    model: Model,
    /// Prefix of its parameters in the model.
    prefix: String,
}

/// Gradients of a [`BareLayer`].
#[derive(Clone, Debug, PartialEq)]
pub struct LayerGradients {
    /// Gradient of the input, in its shape; `None` for indices.
    pub x: Option<ArrayD<f32>>,
    /// Gradients of the parameters by PyTorch's names (`weight`, `bias`).
    pub parameters: NamedArrays,
}

impl BareLayer {
    fn new(layer: Layer, device: &Device, input: usize, seed: u64) -> Result<BareLayer> {
        let prefix = format!("{}.", layer.kind());
        Ok(BareLayer { model: Sequential::new(input).add(layer).build(device, seed)?, prefix })
    }

    /// The output for x: [B, F] or [B, T, F] for a layer of features, which keeps the axes in front; indices [B, T] for an embedding, which
    /// gives [B, T, F].
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, indices beyond the table, a device failure.
    pub fn forward<D: Dimension>(&self, x: ArrayView<f32, D>) -> Result<ArrayD<f32>> {
        let (x, steps) = self.sequences(x.into_dyn());
        let y = self.model.predict(x)?;
        Ok(without(y, steps))
    }

    /// Gradients of Σ output ⊙ `d_output` for x; both as [`BareLayer::forward`] has them.
    ///
    /// # Errors
    /// As [`BareLayer::forward`].
    pub fn gradients<D: Dimension, E: Dimension>(
        &self,
        x: ArrayView<f32, D>,
        d_output: ArrayView<f32, E>,
    ) -> Result<LayerGradients> {
        let (x, steps) = self.sequences(x.into_dyn());
        let d_output = if steps { d_output.into_dyn() } else { d_output.into_dyn().insert_axis(Axis(1)) };
        let gradients = self.model.forward(x)?.backward(d_output)?;
        let own = |(name, array): (String, ArrayD<f32>)| {
            (name.strip_prefix(&self.prefix).map_or_else(|| name.clone(), String::from), array)
        };
        let x = gradients.inputs.into_values().next().map(|dx| without(dx, steps));
        Ok(LayerGradients { x, parameters: gradients.parameters.into_iter().map(own).collect() })
    }

    /// All parameters by PyTorch's names (`weight`, `bias`), in its shapes.
    ///
    /// # Errors
    /// A device failure.
    pub fn parameters(&self) -> Result<NamedArrays> {
        let all = self.model.parameters()?.into_iter();
        Ok(all.map(|(name, array)| (name.trim_start_matches(&self.prefix).to_string(), array)).collect())
    }

    /// Replaces all parameters, by PyTorch's names and in its shapes.
    ///
    /// # Errors
    /// A tensor that is missing, unknown, of another shape or not finite; the parameters are then unchanged.
    pub fn set_parameters(&mut self, parameters: NamedArrays) -> Result<()> {
        let all = parameters.into_iter().map(|(name, array)| (format!("{}{name}", self.prefix), array));
        self.model.set_parameters(all.collect())
    }

    /// x as [B, T, I], and true if it has a time axis.
    fn sequences<'a>(&self, x: ArrayView<'a, f32, ndarray::IxDyn>) -> (ArrayView<'a, f32, ndarray::IxDyn>, bool) {
        let indices = matches!(self.model.layers().next(), Some((_, Layer::Embedding(_))));
        match (x.ndim(), indices) {
            (2, true) => (x.insert_axis(Axis(2)), true),
            (2, false) => (x.insert_axis(Axis(1)), false),
            _ => (x, true),
        }
    }
}

/// An array [B, T, F], or without its time axis, which has one step.
fn without(y: ArrayD<f32>, steps: bool) -> ArrayD<f32> {
    if steps { y } else { y.index_axis_move(Axis(1), 0) }
}

impl Dense {
    /// Puts the layer for `input` features on a device, its weights drawn by `seed`.
    ///
    /// # Errors
    /// A size that is 0, or weights that the device cannot bind.
    ///
    /// ```
    /// use ndarray::Array2;
    /// use wgpu_lstm::{Dense, Device};
    /// let dense = Dense::new(2).build(&Device::cpu(), 3, 0)?;
    /// let (x, dy) = (Array2::ones((4, 3)), Array2::ones((4, 2))); // [B, F]
    /// assert_eq!(dense.forward(x.view())?.shape(), [4, 2]);
    /// assert_eq!(dense.gradients(x.view(), dy.view())?.parameters["weight"].shape(), [2, 3]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn build(self, device: &Device, input: usize, seed: u64) -> Result<BareLayer> {
        BareLayer::new(self.into(), device, input, seed)
    }
}

impl LayerNorm {
    /// Puts the layer for `input` features on a device; its weights begin as 1 and 0.
    ///
    /// # Errors
    /// As [`Dense::build`].
    pub fn build(self, device: &Device, input: usize) -> Result<BareLayer> {
        BareLayer::new(self.into(), device, input, 0)
    }
}

impl Embedding {
    /// Puts the table on a device, its entries drawn by `seed`.
    ///
    /// # Errors
    /// As [`Dense::build`].
    ///
    /// ```
    /// use ndarray::array;
    /// use wgpu_lstm::{Device, Embedding};
    /// let table = Embedding::new(10, 4).build(&Device::cpu(), 0)?;
    /// assert_eq!(table.forward(array![[1.0, 9.0, 0.0]].view())?.shape(), [1, 3, 4]); // [B, T] to [B, T, F]
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn build(self, device: &Device, seed: u64) -> Result<BareLayer> {
        BareLayer::new(self.into(), device, 1, seed)
    }
}
