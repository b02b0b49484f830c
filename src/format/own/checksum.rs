//! Checksums of a model file: CRC-32C of each tensor's bytes, and of the header.
//!
//! They stand at the end of the configuration in the file's metadata, `{..., "crc32c": {"header": "1a2b3c4d", "tensors": {"name":
//! "5e6f7a8b", ...}}}`. A tensor's checksum is of its data. The header's is of the configuration without its last entry, followed by
//! a line for each tensor in the order of names: a line feed, then name, sizes and checksum in hexadecimal, each after a space. So
//! every bit that decides what is loaded is covered, and programs that know nothing of it read the file as ever.

use crate::error::{Error, Result};
use crate::layer::HostTensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Start of the entry, behind all others.
const ENTRY: &str = ",\"crc32c\":";

/// The checksums in a configuration.
#[derive(Deserialize)]
struct Sealed {
    #[serde(default)]
    crc32c: Option<Checksums>,
}

#[derive(Serialize, Deserialize)]
struct Checksums {
    header: String,
    tensors: BTreeMap<String, String>,
}

impl Checksums {
    fn new(json: &str, tensors: &[HostTensor]) -> Checksums {
        let shapes: BTreeMap<&str, &HostTensor> = tensors.iter().map(|host| (host.name.as_str(), host)).collect();
        let (mut text, mut all) = (json.to_string(), BTreeMap::new());
        for (name, host) in shapes {
            let checksum = hexadecimal(bytemuck::cast_slice(&host.values));
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{name} {:?} {checksum}", host.shape);
            all.insert(name.to_string(), checksum);
        }
        Checksums { header: hexadecimal(text.as_bytes()), tensors: all }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

/// The configuration, a JSON object that is not empty, with the checksums as its last entry.
pub(super) fn seal(mut json: String, tensors: &[HostTensor]) -> serde_json::Result<String> {
    let checksums = serde_json::to_string(&Checksums::new(&json, tensors))?;
    json.pop(); // the object's end
    Ok(json + ENTRY + &checksums + "}")
}

/// Refuses a file that is not as it was written. Files of older versions have no checksums.
pub(super) fn check(path: &Path, json: &str, tensors: &[HostTensor]) -> Result<()> {
    let refused = |what: String| {
        let advice = "the file is damaged, or was changed by a program that does not know of its checksums";
        Error::format(path, format!("{what}; {advice}"))
    };
    let sealed: Sealed =
        serde_json::from_str(json).map_err(|error| refused(format!("has checksums that cannot be read: {error}")))?;
    let Some(written) = sealed.crc32c else { return Ok(()) };
    let Some(end) = json.rfind(ENTRY) else {
        return Err(refused("has checksums that are not the last entry of its configuration".into()));
    };
    let json = format!("{}}}", &json[..end]);
    let json = json.as_str();
    let found = Checksums::new(json, tensors);
    for (name, checksum) in &found.tensors {
        match written.tensors.get(name) {
            Some(of_file) if of_file == checksum => {}
            Some(of_file) => {
                return Err(refused(format!(
                    "has tensor {name} with the checksum {checksum}, it was written with {of_file}"
                )));
            }
            None => return Err(refused(format!("has tensor {name} without a checksum"))),
        }
    }
    if let Some(name) = written.tensors.keys().find(|name| !found.tensors.contains_key(*name)) {
        return Err(refused(format!("lacks tensor {name}, for which it has a checksum")));
    }
    match written.header == found.header {
        true => Ok(()),
        false => Err(refused(format!(
            "has a header with the checksum {}, it was written with {}",
            found.header, written.header
        ))),
    }
}
