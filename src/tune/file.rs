//! Files of choices: JSON for people to read.

use super::report::PassTuning;
use crate::error::{Error, Result};
use crate::gpu::Adapter;
use crate::memory;
use crate::plan::{Capabilities, StepWeights, Strategy};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// First entry of a file.
const FORMAT: &str = "wgpu-lstm tuning";

/// The subject of measurements, which say little about another device, driver or version of the kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    adapter: String,
    backend: String,
    driver: String,
    /// Version of the crate.
    version: String,
    /// Form of the recurrent weights.
    step_weights: StepWeights,
    /// True if products may be by cooperative matrices.
    #[serde(default)]
    cooperative: bool,
    /// True if plans are those for hardware.
    hardware: bool,
    /// The strategy that was asked for.
    strategy: Option<Strategy>,
}

impl Subject {
    pub fn new(adapter: &Adapter, capabilities: &Capabilities) -> Subject {
        Subject {
            adapter: adapter.name.clone(),
            backend: adapter.backend.to_string(),
            driver: adapter.driver.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            step_weights: capabilities.step_weights,
            cooperative: capabilities.cooperative.is_some(),
            hardware: capabilities.shared_terms,
            strategy: capabilities.strategy,
        }
    }

    /// Name of its file in the folder of choices.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn file_name(&self) -> String {
        let letters = self.adapter.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
        let words: Vec<String> = letters.collect::<String>().split('-').map(str::to_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).take(6).collect();
        format!("{}-{:08x}.json", words.join("-"), crc32c::crc32c(format!("{self:?}").as_bytes()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { adapter, backend, driver, version, step_weights, cooperative, hardware, strategy } = self;
        write!(f, "{adapter} ({backend}, driver {driver}) by version {version}")?;
        f.write_str(match step_weights {
            StepWeights::F32 => "",
            StepWeights::F16 => ", weights in f16",
            StepWeights::Int8 => ", weights as whole numbers",
        })?;
        f.write_str(if *cooperative { ", cooperative matrices" } else { "" })?;
        f.write_str(if *hardware { "" } else { ", as software" })?;
        strategy.map_or(Ok(()), |strategy| write!(f, ", {} as asked for", strategy.name()))
    }
}

/// Contents of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct File {
    format: String,
    pub subject: Subject,
    pub passes: Vec<PassTuning>,
}

impl File {
    pub fn new(subject: &Subject, passes: Vec<PassTuning>) -> File {
        File { format: FORMAT.into(), subject: subject.clone(), passes }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<File> {
        let bytes = memory::read(path)?;
        let read = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes));
        let file: File = read.map_err(|error| {
            let reason = "is not a file of choices, as Device::save_tuning writes them";
            let place = error.path().to_string();
            let reason = if place == "." { reason.into() } else { format!("{reason}: {place} is missing or wrong") };
            Error::format_because(path, reason, error.into_inner())
        })?;
        if file.format == FORMAT {
            Ok(file)
        } else {
            Err(Error::format(path, format!("is of the format \"{}\", a file of choices of \"{FORMAT}\"", file.format)))
        }
    }

    /// Writes a file, replacing an older one whole.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Config(format!("choices: {error}")))?;
        crate::files::replace(path, text)
    }
}
