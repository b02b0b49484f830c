//! Writing safetensors that PyTorch loads.

use super::recurrent::for_pytorch;
use crate::error::{Error, Result};
use crate::format::own::safetensors;
use crate::layer::{HostTensor, Layer};
use crate::model::{LstmLayer, Model};
use std::collections::HashMap;
use std::path::Path;

impl LstmLayer {
    /// Writes a safetensors file whose tensors
    /// [`nn.LSTM.load_state_dict`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.load_state_dict)
    /// (`nn.GRU`'s for a GRU, `nn.RNN`'s for an RNN) takes, for a module of the same sizes; an nn.RNN's `nonlinearity` is no part of
    /// it. A single bias becomes two, of which the second is 0.
    ///
    /// ```python
    /// lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    /// lstm.load_state_dict(safetensors.torch.load_file("lstm.safetensors"))
    /// ```
    ///
    /// # Errors
    /// An option that PyTorch's layers do not have; a file that cannot be written; a device that failed.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm, format::pytorch::Weights};
    /// let lstm = Lstm::new(4).layers(2).bidirectional(true).build(&Device::cpu(), 3, 0)?;
    /// let path = std::env::temp_dir().join("wgpu-lstm-pytorch-doc.safetensors");
    /// lstm.save_pytorch(&path)?;
    /// let again = Weights::open(&path)?.layer(None, &Device::cpu())?;
    /// assert_eq!(again.parameters()?, lstm.parameters()?);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn save_pytorch(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let host = |(name, array): (String, ndarray::ArrayD<f32>)| {
            let values = crate::memory::collect(array.len(), array.iter().copied(), &name)?;
            Ok(HostTensor { name, shape: array.shape().to_vec(), values })
        };
        let tensors = self.parameters()?.into_iter().map(host).collect::<Result<_>>()?;
        write(path, for_pytorch(self.config(), tensors).map_err(|reason| refusal(path, "the layer", reason))?)
    }
}

impl Model {
    /// Writes a safetensors file of all parameters, named `<layer>.<PyTorch's name>` (`lstm.weight_ih_l0`, `dense.weight`, ...), for
    /// `load_state_dict` of a module with children of these names. Activations are no part of it, as of any state dict.
    ///
    /// # Errors
    /// As [`LstmLayer::save_pytorch`].
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential, format::pytorch::Weights};
    /// let model = Sequential::new(3).add(Lstm::keras(4)).add(Dense::new(2)).build(&Device::cpu(), 0)?;
    /// let path = std::env::temp_dir().join("wgpu-lstm-pytorch-model-doc.safetensors");
    /// model.save_pytorch(&path)?;
    /// assert_eq!(Weights::open(&path)?.tensor("lstm.bias_hh_l0")?, ndarray::arr1(&[0.0; 16]).into_dyn());
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn save_pytorch(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut left = self.export()?;
        let mut all = Vec::new();
        for plan in self.graph().owners() {
            let of = format!("{}.", plan.name);
            let (own, others) = left.into_iter().partition(|tensor| tensor.name.starts_with(&of));
            left = others;
            match &plan.layer {
                Layer::Lstm(lstm) => {
                    all.extend(for_pytorch(lstm, own).map_err(|reason| refusal(path, &plan.name, reason))?);
                }
                _ => all.extend::<Vec<HostTensor>>(own),
            }
        }
        write(path, all)
    }
}

fn refusal(path: &Path, layer: &str, reason: String) -> Error {
    Error::Config(format!("\"{}\" cannot hold {layer}: it {reason}", path.display()))
}

fn write(path: &Path, tensors: Vec<HostTensor>) -> Result<()> {
    for tensor in &tensors {
        let values = ndarray::aview1(&tensor.values);
        crate::transfer::finite(&format!("tensor {}", tensor.name), "[element]", &values)
            .map_err(|error| Error::Config(format!("\"{}\" is not written: {error}", path.display())))?;
    }
    // What PyTorch's own writer puts there
    safetensors::write(path, &tensors, HashMap::from([("format".to_string(), "pt".to_string())]))
}
