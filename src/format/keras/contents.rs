//! Summaries of Keras files.

use super::chain::chain;
use super::hdf5::File;
use super::{Opened, Result, network, plans, tensors};
use serde_json::Value;

/// A summary of a Keras file, made by [`describe`](super::describe). Its `Display` is a list of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// The kind of file.
    pub kind: &'static str,
    /// Keras's version, where the file says it.
    pub version: Option<String>,
    /// The model's layers from input to output, a line each; none where the file has weights alone.
    pub layers: Vec<String>,
    /// Names of the outputs: Keras names them after the layers that make them.
    pub outputs: Vec<String>,
    /// All arrays.
    pub tensors: Vec<Tensor>,
    /// Reasons why [`load`](super::load) refuses the file; empty if it does not.
    pub unsupported: Vec<String>,
}

/// An array of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its path within the file.
    pub path: String,
    /// Its sizes, as Keras has them.
    pub shape: Vec<usize>,
    /// Its type, in NumPy's words.
    pub dtype: String,
}

/// Options worth a line.
const SHOWN: &[&str] = &[
    "batch_shape",
    "batch_input_shape",
    "units",
    "activation",
    "recurrent_activation",
    "return_sequences",
    "go_backwards",
    "zero_output_for_mask",
    "merge_mode",
    "rate",
    "input_dim",
    "output_dim",
    "mask_zero",
    "mask_value",
    "epsilon",
];

impl Contents {
    pub(super) fn of(opened: Opened) -> Result<Contents> {
        let file = File::open(opened.weights())?;
        let kind = match &opened {
            Opened::Archive(_) => "a .keras archive",
            Opened::Hdf5(_) if file.text("", "model_config")?.is_some() => "an older .h5 file of a whole model",
            Opened::Hdf5(_) => "a file of weights",
        };
        let mut contents = Contents {
            kind,
            version: opened.version(&file)?,
            layers: Vec::new(),
            outputs: Vec::new(),
            tensors: Vec::new(),
            unsupported: Vec::new(),
        };
        for (path, dataset) in file.datasets() {
            let (path, shape) = (path.to_string(), dataset.shape.clone());
            contents.tensors.push(Tensor { path, shape, dtype: dataset.kind() });
        }
        if let Err(why) = contents.architecture(&opened, &file) {
            contents.unsupported.push(why);
        }
        Ok(contents)
    }

    fn architecture(&mut self, opened: &Opened, file: &File) -> Result<()> {
        let (config, version) = opened.config(file)?;
        let links = chain(&config)?;
        for link in &links {
            let shown = SHOWN.iter().filter_map(|&key| Some((key, link.options.get(key)?)));
            let shown: Vec<String> = shown.map(|(key, value)| format!("{key} {value}")).collect();
            let within = link.options.get("layer").or_else(|| link.options.get("cell"));
            let within = within.and_then(|layer| layer.get("class_name")).and_then(Value::as_str);
            let within = within.map_or_else(String::new, |class| format!(" of {class}"));
            self.layers.push(format!("{}: {}{within} ({})", link.name, link.class, shown.join(", ")));
        }
        self.outputs.extend(links.last().map(|link| link.name.to_string()));
        let (network, problems) = network(&config, version)?;
        if problems.is_empty() {
            let (_, plans) = plans(&network)?;
            tensors(file, &network.holders, &plans, opened.weights().len())?;
        }
        self.unsupported.extend(problems);
        Ok(())
    }
}

impl std::fmt::Display for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => writeln!(f, "{}, by Keras {version}", self.kind)?,
            None => writeln!(f, "{}", self.kind)?,
        }
        let mut part = |title: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return Ok(());
            }
            writeln!(f, "{title}:")?;
            lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
        };
        part("layers", self.layers.clone())?;
        part("outputs", self.outputs.clone())?;
        let line = |tensor: &Tensor| format!("{} {:?} {}", tensor.path, tensor.shape, tensor.dtype);
        part("tensors", self.tensors.iter().map(line).collect())?;
        part("not supported", self.unsupported.clone())
    }
}
