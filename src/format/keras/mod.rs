//! Keras's model files: [`.keras`](https://keras.io/api/models/model_saving_apis/model_saving_and_loading/) (architecture and weights, a
//! zip), `.weights.h5` (weights alone), and the older `.h5` of Keras 1 and 2, which Keras 3 still writes.
//!
//! **Read** are Sequential models, and functional ones that are one straight chain, of InputLayer, Embedding, Masking, LSTM, GRU,
//! SimpleRNN, CuDNNLSTM, CuDNNGRU, RNN of LSTMCell, GRUCell, SimpleRNNCell or a stack of them, Bidirectional, Dense, TimeDistributed(Dense), Dropout,
//! LayerNormalization, Activation (right after a Dense), Flatten (of vectors), GlobalAveragePooling1D and GlobalMaxPooling1D, in
//! float32. They predict what Keras predicts, for any T, in masked steps, too: there, recurrent layers repeat their last output unless
//! `zero_output_for_mask` is set (see [`Lstm::repeat_output`](crate::Lstm::repeat_output)). A layer or an option beyond that is an error that names it; what only matters for training from
//! here on (initialisers, regularisers, constraints, `trainable`, the optimiser) is not taken over. [`describe`] lists what a file
//! holds and what of it is not supported.
//!
//! **Written** is `.keras`, for Keras 3. It has one bias for each gate of an LSTM and one for a SimpleRNN, so two of PyTorch's are added.
//! A stack becomes several layers, with Dropout between them where the stack drops. What Keras does not have (projection, peepholes, zoneout, ...)
//! is an error that names it.
//!
//! Files are not trusted: nothing in them is executed, and every size is held against the bytes that are there. Weights unpack to at
//! most 32 times the size of the archive plus 1 MiB, and memory holds them about five times at most. Configurations have at most
//! 2 MiB, of which 200 MB may become.
//!
//! ```
//! use ndarray::Array3;
//! use wgpu_lstm::{Dense, Device, Lstm, Sequential, format::keras};
//! # fn main() -> wgpu_lstm::Result<()> {
//! let path = std::env::temp_dir().join("wgpu-lstm-doc.keras");
//! let device = Device::cpu();
//! let mut model = Sequential::new(3).add(Lstm::keras(8).bidirectional(true)).add(Dense::keras(2)).build(&device, 0)?;
//! keras::save(&model, &path)?; // keras.saving.load_model reads it
//! let mut again = keras::load(&path, &device)?;
//! let x = Array3::ones((4, 5, 3)); // [B, T, I]
//! assert_eq!(model.predict(x.view())?, again.predict(x.view())?);
//! print!("{}", keras::describe(&path)?);
//! # std::fs::remove_file(path).unwrap();
//! # Ok(())
//! # }
//! ```

mod archive;
mod chain;
mod contents;
mod hdf5;
mod layers;
mod outline;
mod settings;
mod weights;

pub use contents::{Contents, Tensor};

use super::Reader;
use crate::device::Device;
use crate::error::{Error, Result as CrateResult};
use crate::layer::HostTensor;
use crate::memory;
use crate::model::{Model, Sequential};
use crate::network::Node;
use crate::transfer::finite;
use archive::{Archive, TEXT, is_archive};
use chain::MOST;
use hdf5::{File, Writer};
use layers::{Holder, Network, Version};
use outline::{KerasLayer, numbered, outline, serialized};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use weights::{Array, Form};

/// A result whose error is the reason why a file is refused; the file's path is added at the border.
type Result<T> = std::result::Result<T, String>;

impl From<hdf5::Error> for String {
    fn from(error: hdf5::Error) -> String {
        error.to_string()
    }
}

/// The version that files are written for.
const WRITTEN_FOR: &str = "3.15.1";

/// Name in messages for a file that has no path.
const NO_PATH: &str = "(bytes)";

/// Loads a model from a `.keras` file, or from an older `.h5` that holds the architecture, too.
///
/// # Errors
/// A file that cannot be read or is damaged; a layer or an option that is not supported, by name; weights that do not fit the
/// architecture; a device that cannot hold them.
///
/// ```no_run
/// use wgpu_lstm::{Device, format::keras};
/// let mut model = keras::load("model.keras", &Device::auto())?;
/// println!("{}", model.summary());
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn load(path: impl AsRef<Path>, device: &Device) -> CrateResult<Model> {
    let path = path.as_ref();
    super::check(path, Reader::Keras)?;
    build(path, &memory::read(path)?, device)
}

/// [`load`] from the bytes of a file.
///
/// # Errors
/// As [`load`].
///
/// ```
/// use wgpu_lstm::{Device, format::keras};
/// let error = keras::from_bytes(b"PK\x03\x04...", &Device::cpu()).unwrap_err();
/// assert!(error.to_string().contains("no whole zip archive"));
/// ```
pub fn from_bytes(bytes: &[u8], device: &Device) -> CrateResult<Model> {
    build(Path::new(NO_PATH), bytes, device)
}

/// Loads the weights of a `.weights.h5`, an older `.h5` or a `.keras` file into a model of the same layers. Only weights are looked
/// at: activations and other options stay those of the model. A layer with two biases (PyTorch's) gets Keras's one as its first,
/// and zeros.
///
/// # Errors
/// As [`load`]; weights that do not fit the model; then nothing is changed.
///
/// ```no_run
/// use wgpu_lstm::{Dense, Device, Lstm, Sequential, format::keras};
/// let mut model = Sequential::new(3).add(Lstm::keras(8)).add(Dense::keras(2)).build(&Device::auto(), 0)?;
/// keras::load_weights(&mut model, "model.weights.h5")?;
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn load_weights(model: &mut Model, path: impl AsRef<Path>) -> CrateResult<()> {
    let path = path.as_ref();
    super::check(path, Reader::Keras)?;
    let bytes = memory::read(path)?;
    let plans = model.config()?.nodes()?;
    let wrong = |why: String| Error::format(path, why);
    let broken = |error: hdf5::Error| wrong(error.into());
    let opened = open(&bytes).map_err(wrong)?;
    room_for(&opened)?;
    let file = File::open(opened.weights()).map_err(broken)?;
    let holders = holders(&outline(&plans), &file);
    let tensors = tensors(&file, &holders, &plans, opened.weights().len()).map_err(wrong)?;
    model.import(tensors).map_err(|error| Error::format(path, format!("does not fit the model: {error}")))
}

/// Writes a model as a `.keras` file, which `keras.saving.load_model` of Keras 3 reads. The file is written beside its place and
/// renamed.
///
/// # Errors
/// A layer or an option that Keras does not have, by name; parameters that are not finite; a file that cannot be written.
pub fn save(model: &Model, path: impl AsRef<Path>) -> CrateResult<()> {
    crate::files::replace(path, to_bytes(model)?)
}

/// The bytes of the file that [`save`] writes.
///
/// # Errors
/// As [`save`].
pub fn to_bytes(model: &Model) -> CrateResult<Vec<u8>> {
    let tensors = model.export()?;
    let numbers: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
    // In Keras's layout, as HDF5 and as an archive
    memory::probe(3 * 4 * numbers as u64, "the bytes of a .keras file")?;
    for tensor in &tensors {
        finite(&format!("tensor {}", tensor.name), "[element]", &ndarray::aview1(&tensor.values))?;
    }
    let plans = model.config()?.nodes()?;
    written(model.config()?, &plans, &tensors).map_err(Error::Config)
}

/// Summarises a file: layers, tensors, and what of it is not supported. The file need not be one that [`load`] takes.
///
/// # Errors
/// A file that cannot be read, or that is no Keras file at all.
pub fn describe(path: impl AsRef<Path>) -> CrateResult<Contents> {
    let path = path.as_ref();
    super::check(path, Reader::Keras)?;
    let bytes = memory::read(path)?;
    describe_bytes(&bytes).map_err(|error| match error {
        Error::Format { reason, cause, .. } => Error::Format { path: path.to_owned(), reason, cause },
        other => other,
    })
}

/// [`describe`] of the bytes of a file.
///
/// # Errors
/// As [`describe`].
pub fn describe_bytes(bytes: &[u8]) -> CrateResult<Contents> {
    open(bytes).and_then(Contents::of).map_err(|why| Error::format(Path::new(NO_PATH), why))
}

fn build(path: &Path, bytes: &[u8], device: &Device) -> CrateResult<Model> {
    let wrong = |why: String| Error::format(path, why);
    let broken = |error: hdf5::Error| wrong(error.into());
    let opened = open(bytes).map_err(wrong)?;
    let file = File::open(opened.weights()).map_err(broken)?;
    let (config, version) = opened.config(&file).map_err(wrong)?;
    let (network, problems) = network(&config, version).map_err(wrong)?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(wrong(format!("cannot be built: {problem}")));
    }
    let (sequential, plans) = plans(&network).map_err(wrong)?;
    room_for(&opened)?;
    let tensors = tensors(&file, &network.holders, &plans, opened.weights().len()).map_err(wrong)?;
    sequential.with_parameters(device, tensors).map_err(|error| error.in_file(path))
}

/// Makes sure of the memory that weights take as arrays of the file, in the crate's layout, and between the two.
fn room_for(opened: &Opened) -> CrateResult<()> {
    memory::probe(3 * opened.weights().len() as u64, "the weights of a Keras file")
}

/// A file's parts.
enum Opened<'a> {
    Archive(Archive),
    Hdf5(&'a [u8]),
}

fn open(bytes: &[u8]) -> Result<Opened<'_>> {
    if is_archive(bytes) {
        return Archive::read(bytes).map(Opened::Archive);
    }
    if bytes.starts_with(&hdf5::SIGNATURE) {
        return Ok(Opened::Hdf5(bytes));
    }
    Err(format!("is no Keras file: it is neither a zip archive nor HDF5 ({} bytes)", bytes.len()))
}

impl Opened<'_> {
    fn weights(&self) -> &[u8] {
        match self {
            Opened::Archive(archive) => &archive.weights,
            Opened::Hdf5(bytes) => bytes,
        }
    }

    /// Keras's version, where the file says it.
    fn version(&self, file: &File) -> Result<Option<String>> {
        match self {
            Opened::Archive(archive) => {
                let metadata: Value = json(&archive.metadata, "metadata.json")?;
                Ok(metadata.get("keras_version").and_then(Value::as_str).map(str::to_string))
            }
            Opened::Hdf5(_) => match file.text("", "keras_version")? {
                None => Ok(file.text("model_weights", "keras_version")?),
                version => Ok(version),
            },
        }
    }

    /// The configuration, and the version of Keras that wrote it.
    fn config(&self, file: &File) -> Result<(Value, Version)> {
        let version = Version::of(&self.version(file)?.unwrap_or_default());
        let config = match self {
            Opened::Archive(archive) => json(&archive.config, "config.json")?,
            Opened::Hdf5(_) => {
                let text = file.text("", "model_config")?.ok_or(
                    "holds weights without an architecture (it has no model_config); build the model and use load_weights",
                )?;
                json(&text, "model_config")?
            }
        };
        Ok((config, version))
    }
}

fn json(text: &str, what: &str) -> Result<Value> {
    // What is made of it takes up to a hundred times as much.
    if text.len() > TEXT {
        return Err(format!("has a {what} of {} bytes; at most {TEXT} are read", text.len()));
    }
    let text = settings::with_named_numbers(text);
    serde_json::from_str(&text).map_err(|error| format!("has a {what} that cannot be read: {error}"))
}

/// The network of a configuration, with what of it is not supported.
fn network(config: &Value, version: Version) -> Result<(Network, Vec<String>)> {
    let links = chain::chain(config)?;
    let mut network = Network::new(version);
    let mut problems = Vec::new();
    let built = config.get("config").and_then(|inner| inner.get("build_input_shape"));
    let built = built.or_else(|| config.get("build_config").and_then(|build| build.get("input_shape")));
    if let (Some(first), Some(shape)) = (links.first(), built.filter(|shape| !shape.is_null()))
        && first.class != "InputLayer"
        && !first.options.contains_key("batch_input_shape")
    {
        problems.extend(network.shape(shape).err());
    }
    for link in &links {
        problems.extend(network.add(link).err());
    }
    if network.layers.is_empty() && problems.is_empty() {
        problems.push("the model has no layer that computes anything".into());
    }
    Ok((network, problems))
}

/// The layers with their names, checked.
fn plans(network: &Network) -> Result<(Sequential, Vec<Node>)> {
    let input = network.input.ok_or("has no input")?;
    let sequential = network.layers.iter().cloned().fold(Sequential::new(input), Sequential::add);
    let plans = sequential.nodes().map_err(|error| format!("cannot be built: {error}"))?;
    Ok((sequential, plans))
}

/// All parameters, from the arrays that a file of `len` bytes has for each holder.
fn tensors(file: &File, holders: &[Holder], plans: &[Node], len: usize) -> Result<Vec<HostTensor>> {
    let mut all = Vec::new();
    let mut filled = 0usize;
    for (holder, arrays) in holders.iter().zip(arrays(file, holders, plans)?) {
        let mut arrays = arrays.into_iter();
        for source in &holder.sources {
            let plan = &plans[source.layer];
            let count = source.count(&plan.layer);
            // Only these have numbers that are not in the file.
            if let Form::Norm { .. } = source.form {
                filled = filled.saturating_add((2 - count).saturating_mul(plan.input()));
                if filled > len {
                    return Err(format!("has layers with {filled} numbers that it does not hold, in {len} bytes"));
                }
            }
            all.extend(source.read(plan, arrays.by_ref().take(count).collect())?);
        }
    }
    // Before a device is asked for room.
    let shapes: HashMap<&str, &[usize]> = all.iter().map(|tensor| (&*tensor.name, &*tensor.shape)).collect();
    for (name, shape) in plans.iter().flat_map(Node::shapes) {
        match shapes.get(name.as_str()) {
            Some(given) if *given == shape => {}
            Some(given) => return Err(format!("has {given:?} numbers for tensor {name}, which has shape {shape:?}")),
            None => return Err(format!("lacks an array for tensor {name} of shape {shape:?}")),
        }
    }
    Ok(all)
}

/// The arrays of each holder, in Keras's order. Arrays that belong to none are errors.
fn arrays(file: &File, holders: &[Holder], plans: &[Node]) -> Result<Vec<Vec<Array>>> {
    let count = |holder: &Holder| -> usize { holder.sources.iter().map(|s| s.count(&plans[s.layer].layer)).sum() };
    let mut used = BTreeSet::new();
    let mut get = |path: String| {
        let dataset = file.dataset(&path).ok_or_else(|| format!("lacks tensor {path}"))?;
        let values = file.values(&path, dataset)?;
        used.insert(path.clone());
        Ok::<_, String>(Array { shape: dataset.shape.clone(), values, path })
    };
    let mut all = Vec::new();
    let root = if file.has_group("model_weights") { "model_weights" } else { "" };
    if let Some(names) = list(file, root, "layer_names")? {
        let mut stored = Vec::new();
        for name in &names {
            let group = if root.is_empty() { name.clone() } else { format!("{root}/{name}") };
            let weights = list(file, &group, "weight_names")?;
            let weights = weights.ok_or_else(|| format!("lacks the weight_names of layer {name}"))?;
            if !weights.is_empty() {
                stored.push((name, group, weights));
            }
        }
        let wanted: Vec<&Holder> = holders.iter().filter(|holder| count(holder) > 0).collect();
        if stored.len() != wanted.len() {
            return Err(format!(
                "has weights for {} layers ({}); the model has {} that hold weights",
                stored.len(),
                stored.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", "),
                wanted.len()
            ));
        }
        let mut stored = stored.into_iter();
        for holder in holders {
            let needed = count(holder);
            let Some((name, group, weights)) = (if needed > 0 { stored.next() } else { None }) else {
                all.push(Vec::new());
                continue;
            };
            if holder.name.as_ref().is_some_and(|expected| expected != name) {
                let expected = holder.name.as_deref().unwrap_or_default();
                return Err(format!(
                    "has weights of a layer {name} where those of {} \"{expected}\" should be",
                    holder.class
                ));
            }
            if weights.len() != needed {
                return Err(format!(
                    "has {} tensors for layer {name}, a {}; {needed} are expected",
                    weights.len(),
                    holder.class
                ));
            }
            all.push(weights.into_iter().map(|weight| get(format!("{group}/{weight}"))).collect::<Result<_>>()?);
        }
    } else if file.has_group("layers") {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for holder in holders {
            let k = counts.entry(&holder.class).or_default();
            let group = format!("layers/{}", numbered(&holder.class, *k));
            *k += 1;
            let mut own = Vec::new();
            for source in &holder.sources {
                let slash = if source.path.is_empty() { "" } else { "/" };
                for k in 0..source.count(&plans[source.layer].layer) {
                    own.push(get(format!("{group}{slash}{}/vars/{k}", source.path))?);
                }
            }
            all.push(own);
        }
    } else {
        return Err(
            "holds no weights of a Keras model: neither a group \"layers\" nor an attribute \"layer_names\"".into()
        );
    }
    let idle = |path: &str| {
        path.starts_with("optimizer/") || path.starts_with("optimizer_weights/") || path.contains("/seed_generator/")
    };
    match file.datasets().find(|(path, _)| !used.contains(*path) && !idle(path)) {
        None => Ok(all),
        Some((path, dataset)) => {
            Err(format!("has tensor {path} of shape {:?}, which belongs to no layer of the model", dataset.shape))
        }
    }
}

/// An attribute that is a list of texts; long ones are split into `name0`, `name1`, ...
fn list(file: &File, group: &str, name: &str) -> Result<Option<Vec<String>>> {
    if let Some(all) = file.texts(group, name)? {
        return Ok(Some(all));
    }
    let mut all = Vec::new();
    for k in 0.. {
        match file.texts(group, &format!("{name}{k}"))? {
            Some(part) => all.extend(part),
            None if k == 0 => return Ok(None),
            None => break,
        }
    }
    Ok(Some(all))
}

/// A model's layers that hold weights. Keras has a Dense on sequences by itself or within a TimeDistributed; the file says which.
fn holders(keras_layers: &[KerasLayer], file: &File) -> Vec<Holder> {
    let wrapped = file.groups_in("layers").filter(|name| name.starts_with("time_distributed")).count();
    let on_sequences = |keras_layer: &KerasLayer| keras_layer.class == "Dense" && keras_layer.whole;
    let all_wrapped =
        wrapped > 0 && wrapped == keras_layers.iter().filter(|keras_layer| on_sequences(keras_layer)).count();
    let holder = |keras_layer: &KerasLayer| {
        let mut sources = keras_layer.sources.clone();
        let wrapped = all_wrapped && on_sequences(keras_layer);
        if wrapped {
            sources.iter_mut().for_each(|source| source.path = "layer".into());
        }
        Holder { class: if wrapped { "TimeDistributed" } else { keras_layer.class }.into(), name: None, sources }
    };
    keras_layers.iter().filter(|keras_layer| !keras_layer.sources.is_empty()).map(holder).collect()
}

/// The bytes of a `.keras` file.
fn written(config: &Sequential, plans: &[Node], tensors: &[HostTensor]) -> Result<Vec<u8>> {
    let by_name: HashMap<&str, &HostTensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let find = |name: &str| by_name.get(name).map(|&tensor| tensor.clone());
    let indices = matches!(config.layers.first(), Some(crate::layer::Layer::Embedding(_)));
    let shape = if indices { json!([null, null]) } else { json!([null, null, config.input]) };
    let dtype = if indices { "int32" } else { "float32" };
    let input = json!({"batch_shape": shape, "dtype": dtype, "name": "input_layer"});
    let mut layers = vec![serialized("InputLayer", input)];
    let mut file = Writer::default();
    file.group("vars", Some("sequential"));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let keras_layers = outline(plans);
    if keras_layers.len() >= MOST {
        return Err(format!(
            "the model has {} layers for Keras; below {MOST} can be written, and read again",
            keras_layers.len()
        ));
    }
    for keras_layer in keras_layers {
        let options = keras_layer.options?;
        let count = counts.entry(keras_layer.class).or_default();
        let group = format!("layers/{}", numbered(keras_layer.class, *count));
        *count += 1;
        file.group(&format!("{group}/vars"), options.get("name").and_then(Value::as_str));
        for source in &keras_layer.sources {
            let slash = if source.path.is_empty() { "" } else { "/" };
            let vars = format!("{group}{slash}{}/vars", source.path);
            for (k, array) in source.write(&plans[source.layer], find)?.into_iter().enumerate() {
                file.dataset(&vars, &k.to_string(), &array.shape, array.values);
            }
        }
        layers.push(serialized(keras_layer.class, Value::Object(options)));
    }
    let policy =
        json!({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": null});
    let config = json!({
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": "sequential", "trainable": true, "dtype": policy, "layers": layers, "build_input_shape": shape,
        },
        "registered_name": null,
        "build_config": {"input_shape": shape},
    });
    let metadata = json!({"keras_version": WRITTEN_FOR});
    Archive { metadata: metadata.to_string(), config: config.to_string(), weights: file.finish() }.write()
}
