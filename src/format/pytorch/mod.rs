//! Weights of [PyTorch](https://docs.pytorch.org/docs/stable/notes/serialization.html): what `torch.save` writes (zip archives,
//! and pickles as before PyTorch 1.6), Lightning's checkpoints, and safetensors.
//!
//! Such files hold tensors by name and no architecture. [`Weights`] finds the recurrent layers among them by names and shapes
//! (nn.LSTM, nn.GRU, nn.RNN and their cells), and gives them as layers or, with the modules around them, as a model ([`Module`] says
//! how modules are named):
//!
//! ```
//! use ndarray::Array3;
//! use wgpu_lstm::{Device, format::pytorch::Weights};
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/file_pytorch_state_dict.pt");
//! let weights = Weights::open(path)?;
//! let found = weights.recurrent(Some("encoder"))?;
//! assert_eq!(found.to_string(), "LSTM, I = 3, H = 4, L = 2, D = 2");
//! let layer = weights.layer(Some("encoder"), &Device::cpu())?;
//! let out = layer.forward(Array3::zeros((2, 7, 3)).view(), None)?; // [B, T, I]
//! assert_eq!(out.output.dim(), (2, 7, 8));
//! let mut model = weights.model(&["encoder", "norm", "head"], &Device::cpu())?; // LSTM, layer normalisation, dense
//! assert_eq!(model.predict(Array3::zeros((2, 7, 3)).view())?.shape(), [2, 7, 5]);
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```
//!
//! **Parameters that are computed.** Where a file holds what a parameter is computed from, that is what is read, and a copy of the
//! parameter beside it, which training left behind, is not: dropout of weights (`X_raw`; fastai, AWD-LSTM), weight normalisation
//! (`X_g`, `X_v`; `parametrizations.X.original0`, `original1`), spectral normalisation (`X_orig`, `X_u`, `X_v`;
//! `parametrizations.X.original`, `0._u`, `0._v`) and pruning (`X_orig`, `X_mask`), each as PyTorch computes it in evaluation. Other
//! parametrizations and LoRA's adapters are refused by name. [`TensorInfo::computed`] tells which tensors are computed.
//!
//! [`LstmLayer::save_pytorch`](crate::LstmLayer::save_pytorch) and [`Model::save_pytorch`](crate::Model::save_pytorch) write files that
//! `load_state_dict` takes.
//!
//! **What is executed: nothing.** A pickle is a program; here it is read as a description. The instructions that `torch.save` emits
//! are known, others are refused by name. Calls are kept as names with arguments, and only those that make tensors are understood. So
//! whole pickled modules (`torch.save(model)`) can be read, too: their tensors are in the tables of their state.
//!
//! **What is allocated** beside the file's bytes: at most 4 bytes for each of them in tensors, and 16 more while one is computed
//! ([`Weights::open`] refuses files whose tensors, shared storages counted as often as they are used, have more elements than the file
//! has bytes), and at most 256 bytes for each byte of a pickle, which may have 16 MiB and describe 2²⁰ values. Packed zip entries are
//! refused; `torch.save` does not pack.

mod container;
mod derived;
mod module;
mod pickle;
mod recurrent;
mod stack;
mod state;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
mod write;

pub use module::Module;
pub use recurrent::Recurrent;

use super::number::Number;
use crate::activation::Activation;
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::layer::HostTensor;
use crate::memory;
use crate::model::LstmLayer;
use crate::{Device, Model, Sequential};
use container::Container;
use derived::{Derived, Shaped, compute};
use ndarray::{ArrayD, IxDyn};
use recurrent::{Shapes, find, groups, under};
use safetensors::SafeTensors;
use state::Contents;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use tensor::{Tensor, dense_strides};

/// The tensors of a file of PyTorch, by name. See [the module](self).
///
/// Of a checkpoint that has a `state_dict`, as Lightning's, the names are those of it. Inside other dicts, lists and modules, names
/// are joined by dots.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: Vec<Tensor>,
    /// Places in `tensors`.
    by_name: HashMap<String, usize>,
    /// Parameters that follow from tensors; they are taken before tensors of their names.
    derived: BTreeMap<String, Derived>,
    /// The `nonlinearity` of modules in a module saved whole, by prefix.
    nonlinearities: HashMap<String, String>,
    /// Contents of the file that are no tensors, to follow a message on what it lacks.
    about: String,
}

/// Name, shape and type of a tensor, known before its numbers are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its type: "F32", "F16", ...
    pub number: String,
    /// True if it can be read.
    pub supported: bool,
    /// The computation of a parameter that follows from other tensors ("weight normalisation, from fc.weight_g, fc.weight_v"), or why
    /// it is refused; `None` for a tensor that is read as it is stored.
    pub computed: Option<String>,
}

impl Weights {
    /// Reads a file; which of the formats it has is told by its first bytes.
    ///
    /// # Errors
    /// A file that cannot be read, is none of these, is cut off or damaged, holds no tensors or some that do not fit their storages,
    /// or was written by [`Model::save`] (that has an architecture; use [`Model::load`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Weights> {
        let path = path.as_ref();
        super::check(path, super::Reader::PyTorch)?;
        let bytes = crate::memory::read(path)?;
        Weights::from_bytes(path, bytes)
    }

    /// The same from bytes; messages call them `name`.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Weights> {
        let path = name.as_ref();
        let refuse = |reason: String| Error::format(path, reason);
        let contents = match Container::of(&bytes).map_err(refuse)? {
            Container::Zip => container::zip(&bytes).and_then(|saved| state::contents(&saved)),
            Container::Legacy => container::legacy(&bytes).and_then(|saved| state::contents(&saved)),
            Container::Safetensors => safetensors(&bytes).map(|tensors| Contents { tensors, ..Contents::default() }),
        }
        .map_err(refuse)?;
        let about = contents.about_quantised();
        let Contents { tensors, nonlinearities, .. } = contents;
        let mut by_name = HashMap::new();
        let mut elements = 0usize;
        for (index, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), index).is_some() {
                return Err(refuse(format!("has tensor {} twice", tensor.name)));
            }
            if tensor.number.size().is_some() {
                elements = elements.saturating_add(tensor.len().unwrap_or(usize::MAX));
            }
            if elements > bytes.len() {
                return Err(refuse(format!(
                    "has tensors of more elements than its {} bytes, up to {}; too many share a storage",
                    bytes.len(),
                    tensor.name
                )));
            }
        }
        let derived = derived::find(&tensors);
        Ok(Weights { path: path.into(), bytes, tensors, by_name, derived, nonlinearities, about })
    }

    /// All tensors, in the file's order, then parameters that are computed from them and of which the file has no copy.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        let stored = self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
        let computed = self.derived.iter().filter(|(name, _)| !self.by_name.contains_key(*name));
        stored.chain(computed.map(|(name, own)| (name.as_str(), own.shape.as_slice()))).map(|(name, shape)| {
            let own = self.derived.get(name);
            TensorInfo {
                name,
                shape: own.map_or(shape, |own| &own.shape),
                number: self.number(name),
                supported: self.readable(name).is_ok(),
                computed: own.map(|own| own.origin().unwrap_or_else(str::to_string)),
            }
        })
    }

    /// The numbers of a tensor, as f32; of a parameter that is computed, rounded from f64.
    ///
    /// # Errors
    /// No tensor of that name, one of a type that is not read, or a parameter that is computed in a way that is not known here.
    pub fn tensor(&self, name: &str) -> Result<ArrayD<f32>> {
        let host = self.host(name)?;
        let shape = IxDyn(&host.shape);
        ArrayD::from_shape_vec(shape, host.values).map_err(|error| self.refuse(format!("has tensor {name}: {error}")))
    }

    fn host(&self, name: &str) -> Result<HostTensor> {
        self.readable(name).map_err(|reason| self.refuse(reason))?;
        let (shape, values) = match (self.derived.get(name), self.by_name.get(name)) {
            (None, Some(&index)) => {
                let tensor = &self.tensors[index];
                (tensor.shape.clone(), tensor.values(&self.bytes, Number::decode)?)
            }
            _ => {
                let (shape, values) = self.shaped(name)?;
                let rounded = values.iter().map(|&value| value as f32);
                (shape, memory::collect(values.len(), rounded, format_args!("tensor {name}"))?)
            }
        };
        Ok(HostTensor { name: name.into(), shape, values })
    }

    /// The same, of finite numbers.
    #[cfg(not(target_arch = "wasm32"))]
    fn finite(&self, name: &str) -> Result<HostTensor> {
        let host = self.host(name)?;
        match host.values.iter().position(|value| !value.is_finite()) {
            None => Ok(host),
            Some(at) => {
                let origin = self.derived.get(name).and_then(|own| own.origin().ok());
                let origin = origin.map_or(String::new(), |origin| format!(" ({origin})"));
                Err(self.refuse(format!(
                    "has tensor {name}{origin} with {} as element {at}; only finite numbers can be used",
                    host.values[at]
                )))
            }
        }
    }

    /// Shape and numbers in f64 of a tensor or parameter.
    fn shaped(&self, name: &str) -> Result<Shaped> {
        match (self.derived.get(name), self.by_name.get(name)) {
            (Some(own), _) => {
                let refuse = |reason: &str| self.refuse(format!("has tensor {name} {reason}"));
                let method = *own.method.as_ref().map_err(|reason| refuse(reason))?;
                // Computations lie on top of each other three times at most.
                let from = own.from.iter().map(|name| self.shaped(name)).collect::<Result<_>>()?;
                Ok((own.shape.clone(), compute(method, from).map_err(|reason| refuse(&reason))?))
            }
            (None, Some(&index)) => {
                let tensor = &self.tensors[index];
                Ok((tensor.shape.clone(), tensor.values(&self.bytes, Number::decode_f64)?))
            }
            (None, None) => Err(self.refuse(self.lacks(name))),
        }
    }

    /// Refuses a name of no tensor, and one that is not read or computed.
    fn readable(&self, name: &str) -> Result<(), String> {
        match (self.derived.get(name), self.by_name.get(name)) {
            (Some(own), _) => match &own.method {
                Err(reason) => Err(format!("has tensor {name} {reason}")),
                Ok(_) => own.from.iter().try_for_each(|name| self.readable(name)),
            },
            (None, Some(&index)) => match &self.tensors[index].number {
                number if number.size().is_some() => Ok(()),
                number => Err(format!("has tensor {name}, which {}{}", number.refusal(), advice(number))),
            },
            (None, None) => Err(self.lacks(name)),
        }
    }

    fn lacks(&self, name: &str) -> String {
        format!("lacks tensor {name}; {}{}", self.some_names(), self.about)
    }

    /// The type of a tensor's numbers; of a computed one's, that of what it is made of.
    fn number(&self, name: &str) -> String {
        match (self.derived.get(name).and_then(Derived::main), self.by_name.get(name)) {
            (Some(main), _) => self.number(main),
            (None, Some(&index)) => self.tensors[index].number.to_string(),
            (None, None) => "unknown".into(),
        }
    }

    /// The shape of a tensor or parameter.
    fn shape(&self, name: &str) -> Option<&[usize]> {
        match (self.derived.get(name), self.by_name.get(name)) {
            (Some(own), _) => Some(&own.shape),
            (None, Some(&index)) => Some(&self.tensors[index].shape),
            (None, None) => None,
        }
    }

    fn refuse(&self, reason: String) -> Error {
        Error::format(&self.path, reason)
    }

    fn some_names(&self) -> String {
        let names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).take(6).collect();
        format!("it has {} tensors, among them: {}", self.tensors.len(), names.join(", "))
    }

    /// Tensors under a prefix, in words.
    fn under(&self, prefix: &str) -> String {
        let names: Vec<&str> = self.others(prefix, &[]).take(6).collect();
        if names.is_empty() || prefix.is_empty() {
            return self.some_names() + &self.about;
        }
        format!("there are {}{}", names.join(", "), self.about)
    }

    /// True if the file has tensors under a prefix.
    fn holds(&self, prefix: &str) -> bool {
        self.others(prefix, &[]).next().is_some()
    }

    /// Names of the tensors under a prefix but for these, and but for what these are computed from.
    fn others(&self, prefix: &str, these: &[&str]) -> impl Iterator<Item = &str> {
        let mut known: HashSet<&str> = HashSet::new();
        let mut left: Vec<&str> = these.to_vec();
        while let Some(name) = left.pop() {
            let own = self.derived.get_key_value(name).map(|(name, own)| (name.as_str(), &own.from[..]));
            let own = own.or_else(|| self.by_name.get_key_value(name).map(|(name, _)| (name.as_str(), &[][..])));
            if let Some((name, from)) = own
                && known.insert(name)
            {
                left.extend(from.iter().map(String::as_str));
            }
        }
        let start = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let names = self.tensors.iter().map(|tensor| tensor.name.as_str());
        names.filter(move |name| name.starts_with(&start) && !known.contains(name))
    }

    /// Refuses a prefix beside whose weights adapters lie.
    fn no_adapter(&self, prefix: &str) -> Result<()> {
        // peft puts them beside the module "base_layer".
        let module = prefix.strip_suffix("base_layer").map_or(prefix, |module| module.trim_end_matches('.'));
        let start = if module.is_empty() { 0 } else { module.len() + 1 };
        let adapter = self.others(module, &[]).find(|name| {
            let own = &name[start..];
            let mut parts = own.split('.').map(str::to_ascii_lowercase);
            // Those that are parametrizations are refused as such.
            !own.contains("parametrizations.")
                && (!prefix.is_empty() || !own.contains('.'))
                && parts.any(|part| part.starts_with("lora") || part.contains("_lora"))
        });
        match adapter {
            Some(name) => Err(self.refuse(format!(
                "has LoRA adapters beside the weights under \"{prefix}\" ({name}), whose scale is no part of a file; save the model with \
                 its adapters merged (peft: merge_and_unload())"
            ))),
            None => Ok(()),
        }
    }

    fn groups(&self) -> BTreeMap<&str, Shapes<'_>> {
        let stored = self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
        // Later ones replace those of the same name.
        groups(stored.chain(self.derived.iter().map(|(name, own)| (name.as_str(), own.shape.as_slice()))))
    }

    /// Prefixes under which recurrent layers lie, for [`Weights::recurrent`].
    pub fn prefixes(&self) -> Vec<&str> {
        self.groups().into_keys().collect()
    }

    /// The recurrent layer under a prefix (a last dot may be left out); without one, the only one that there is. Of an nn.RNN
    /// `prefix:rnn(relu)` says the nonlinearity, which only a module saved whole has in the file; see [`Module::Rnn`].
    ///
    /// # Errors
    /// None or several, with their prefixes; a tensor that is missing, too many or of another shape than follows from the others.
    pub fn recurrent(&self, prefix: Option<&str>) -> Result<Recurrent> {
        let groups = self.groups();
        match (prefix, groups.keys().next()) {
            (Some(text), _) => match Module::parse(text, |prefix| self.holds(prefix)) {
                Ok(Module::Rnn { prefix, nonlinearity }) => self.recurrent_with(&prefix, nonlinearity),
                _ => self.recurrent_with(text.strip_suffix('.').unwrap_or(text), None),
            },
            (None, Some(only)) if groups.len() == 1 => self.recurrent_with(only, None),
            (None, _) => {
                let held = self.held(&groups);
                Err(self.refuse(if groups.is_empty() { held } else { format!("{held}; name one by its prefix") }))
            }
        }
    }

    /// The recurrent layer under a prefix; of an RNN, with the nonlinearity that is asked for, or else the file's.
    fn recurrent_with(&self, prefix: &str, nonlinearity: Option<Activation>) -> Result<Recurrent> {
        let mut groups = self.groups();
        self.no_adapter(prefix)?;
        let Some(own) = groups.remove(prefix) else {
            return Err(self.refuse(format!("has no recurrent layer under \"{prefix}\"; it {}", self.held(&groups))));
        };
        for kind in own.keys() {
            self.readable(&under(prefix, kind)).map_err(|reason| self.refuse(reason))?;
        }
        let mut found = find(prefix, &own).map_err(|reason| self.refuse(reason))?;
        if found.config.cell == Cell::Rnn {
            let activation = nonlinearity.map_or_else(|| self.nonlinearity(prefix), Ok)?;
            found.config = found.config.candidate_activation(activation);
        }
        let needed: Vec<String> = found.tensors().iter().map(|(_, kind, _)| under(prefix, kind)).collect();
        let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
        let start = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        let foreign = |name: &&str| {
            let own = &name[start..];
            let parameter = !own.contains('.') && ["weight_", "bias_"].iter().any(|kind| own.starts_with(kind));
            // Cells of one's own have PyTorch's names and more, such as normalisations.
            parameter || (found.cell && start > 0 && self.readable(name).is_ok())
        };
        match self.others(prefix, &needed).find(foreign) {
            Some(name) => Err(self.refuse(format!(
                "has tensor {name}, which is no parameter of this {found}; the module's computation is not known"
            ))),
            None => Ok(found),
        }
    }

    /// The nonlinearity of the RNN under a prefix; tanh where the file does not say it.
    fn nonlinearity(&self, prefix: &str) -> Result<Activation> {
        let Some(word) = self.nonlinearities.get(prefix) else { return Ok(Activation::Tanh) };
        module::nonlinearity(word).ok_or_else(|| {
            self.refuse(format!("has an RNN under \"{prefix}\" of nonlinearity \"{word}\"; tanh and relu are read"))
        })
    }

    fn held(&self, groups: &BTreeMap<&str, Shapes>) -> String {
        if groups.is_empty() {
            return format!(
                "holds no recurrent layer: no names like weight_ih_l0 or weight_ih; {}{}",
                self.some_names(),
                self.about
            );
        }
        let names: Vec<String> = groups.keys().take(20).map(|prefix| format!("\"{prefix}\"")).collect();
        format!("holds {} recurrent layers, under {}", groups.len(), names.join(", "))
    }

    /// The recurrent layer under a prefix, on a device; see [`Weights::recurrent`].
    ///
    /// # Errors
    /// As [`Weights::recurrent`]; numbers that are not finite; sizes that the device cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn layer(&self, prefix: Option<&str>, device: &Device) -> Result<LstmLayer> {
        let found = self.recurrent(prefix)?;
        let mut parameters = BTreeMap::new();
        for (own, kind, _) in found.tensors() {
            let own = own.strip_prefix("lstm.").unwrap_or(&own).to_string();
            let HostTensor { shape, values, .. } = self.finite(&under(&found.prefix, &kind))?;
            let array = ArrayD::from_shape_vec(IxDyn(&shape), values);
            parameters.insert(own, array.map_err(|error| self.refuse(format!("has tensor {kind}: {error}")))?);
        }
        found.config.build_with(device, found.input, parameters).map_err(|error| error.in_file(&self.path))
    }

    /// Modules one after another, as a model's architecture: named by their prefixes, where names and shapes allow one reading, or with
    /// what they are; see [`Module`]. A recurrent layer gives its sequence, a dense layer has no activation but one that follows it.
    ///
    /// Of a `weight` of two axes without a bias the first module can be an `nn.Embedding` or an `nn.Linear`; which of them is told by
    /// the features that the next module takes. What the file does not say, such as functions between modules, is for the caller to
    /// know.
    ///
    /// # Errors
    /// A prefix without a module, or with one that has two readings; modules whose sizes do not follow from each other.
    pub fn sequential(&self, modules: &[impl Into<Module> + Clone]) -> Result<Sequential> {
        let modules: Vec<Module> = modules.iter().cloned().map(Into::into).collect();
        Ok(self.stack(&modules)?.config)
    }

    /// [`Weights::sequential`] on a device, with the file's weights.
    ///
    /// # Errors
    /// As [`Weights::sequential`]; numbers that are not finite; sizes that the device cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn model(&self, modules: &[impl Into<Module> + Clone], device: &Device) -> Result<Model> {
        let modules: Vec<Module> = modules.iter().cloned().map(Into::into).collect();
        let stack = self.stack(&modules)?;
        let given = |(own, source): (String, Result<String, Vec<usize>>)| match source {
            Ok(name) => Ok(HostTensor { name: own, ..self.finite(&name)? }),
            Err(shape) => Ok(HostTensor { name: own, values: vec![0.0; shape.iter().product()], shape }),
        };
        let tensors = stack.tensors.into_iter().map(given).collect::<Result<_>>()?;
        stack.config.with_parameters(device, tensors).map_err(|error| error.in_file(&self.path))
    }
}

/// Advice on a tensor of a type that is not read.
fn advice(number: &Number) -> &'static str {
    match number.to_string().as_str() {
        "QI8" | "QU8" | "QI32" => "; it is quantised: save its dequantize()",
        "sparse" => "; save its to_dense()",
        "nested" => "; save its unbind()",
        "meta" => "; it has no numbers: save the model after its weights were loaded",
        _ => "",
    }
}

/// The tensors of a safetensors file.
fn safetensors(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let broken =
        |error: safetensors::SafeTensorError| format!("is no whole safetensors file: {error} ({} bytes)", bytes.len());
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    if metadata.metadata().as_ref().is_some_and(|metadata| metadata.contains_key(crate::format::own::KEY)) {
        return Err("was written by Model::save and has an architecture; load it by Model::load".into());
    }
    let start = header.saturating_add(8);
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (first, end) = info.data_offsets;
        let storage = start.saturating_add(first)..start.saturating_add(end);
        if storage.start > storage.end || storage.end > bytes.len() {
            return Err(format!("has tensor {name} up to byte {}, it is cut off after {}", storage.end, bytes.len()));
        }
        let number = Number::from(info.dtype);
        let strides = dense_strides(&info.shape);
        let tensor = Tensor { name, number, shape: info.shape.clone(), strides, offset: 0, storage };
        tensor.check()?;
        tensors.push(tensor);
    }
    if tensors.is_empty() {
        return Err("holds no tensors".into());
    }
    Ok(tensors)
}
