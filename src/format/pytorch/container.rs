//! The files around pickles: where a file has its pickle, and where its storages lie.

use super::pickle::{self, Pickle, Value};
use super::tensor::storage_type;
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use zip::{CompressionMethod, ZipArchive};

impl From<pickle::Error> for String {
    fn from(error: pickle::Error) -> String {
        error.to_string()
    }
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// A zip archive: `torch.save` since PyTorch 1.6; Lightning's checkpoints, too.
    Zip,
    /// A sequence of pickles: `torch.save` before PyTorch 1.6.
    Legacy,
    Safetensors,
}

impl Container {
    /// Tells a file's kind by its first bytes.
    pub fn of(bytes: &[u8]) -> Result<Container, String> {
        match bytes {
            // The length in front of it may begin as a pickle does.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(Container::Safetensors),
            [b'P', b'K', 3, 4, ..] => Ok(Container::Zip),
            [0x80, 2..=5, ..] => Ok(Container::Legacy),
            [b'{', ..] => {
                Err("is JSON, such as the index of a model in several files; open one of the files that it names"
                    .into())
            }
            [0x89, b'H', b'D', b'F', ..] => Err("is an HDF5 file, as Keras writes them".into()),
            _ if bytes.get(257..262) == Some(b"ustar") => {
                Err("is a tar archive, as PyTorch before 0.1.10 wrote; load it there and save it anew".into())
            }
            _ => Err(format!(
                "is no file of PyTorch: it starts neither as a zip archive, nor as a pickle, nor as safetensors ({} bytes)",
                bytes.len()
            )),
        }
    }
}

/// The pickle of a file, and its storages by their keys.
pub(super) struct Saved<'a> {
    pub pickle: Pickle<'a>,
    pub storages: HashMap<String, Range<usize>>,
}

/// The parts of a zip archive of `torch.save`.
pub(super) fn zip(bytes: &[u8]) -> Result<Saved<'_>, String> {
    let broken = |error: &dyn std::fmt::Display| format!("is no whole zip archive: {error} ({} bytes)", bytes.len());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
    let listed = listed(bytes, archive.central_directory_start());
    if listed != archive.len() {
        return Err(format!("lists {listed} entries of {} different names", archive.len()));
    }
    let names: Vec<String> = archive.file_names().map(str::to_string).collect();
    let pickles: Vec<&String> =
        names.iter().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).collect();
    if let Some(other) = other_archive(&names) {
        return Err(other.into());
    }
    let [pickle] = pickles[..] else {
        return Err(format!("is a zip archive with {} entries data.pkl; torch.save writes one", pickles.len()));
    };
    let root = pickle.strip_suffix("data.pkl").unwrap_or_default();
    let mut taken = 0;
    let mut entry = |name: &str| -> Result<Range<usize>, String> {
        let mut file =
            archive.by_name(name).map_err(|error| format!("has entry {name} that cannot be read: {error}"))?;
        if file.compression() != CompressionMethod::Stored {
            return Err(format!(
                "has entry {name} that is compressed ({}); torch.save compresses no entry",
                file.compression()
            ));
        }
        let place = usize::try_from(file.data_start()).ok().and_then(|start| {
            let end = start.checked_add(usize::try_from(file.size()).ok()?)?;
            (end <= bytes.len()).then_some(start..end)
        });
        let place = place.ok_or_else(|| format!("has entry {name} of {} bytes; it is cut off", file.size()))?;
        taken += place.len();
        if taken > bytes.len() {
            return Err(format!("has entries that overlap, up to {name}"));
        }
        // Reading compares with the checksum.
        let read = std::io::copy(&mut file, &mut std::io::sink());
        let read = read.map_err(|error| format!("has entry {name} that is damaged: {error}"))?;
        if read != place.len() as u64 {
            return Err(format!("has entry {name} of {} bytes, of which {read} are there", place.len()));
        }
        Ok(place)
    };
    let order = format!("{root}byteorder");
    if names.contains(&order) {
        let order = &bytes[entry(&order)?];
        if order != b"little" {
            return Err(format!(
                "has byte order \"{}\"; little is read",
                String::from_utf8_lossy(order).escape_debug()
            ));
        }
    }
    let pickle = Pickle::read(&bytes[entry(pickle)?])?;
    let mut storages = HashMap::new();
    for name in &names {
        if let Some(key) = name.strip_prefix(root).and_then(|name| name.strip_prefix("data/")) {
            storages.insert(key.to_string(), entry(name)?);
        }
    }
    Ok(Saved { pickle, storages })
}

/// Type of an archive that `torch.save` did not write, by the names of its entries, and advice.
fn other_archive(names: &[String]) -> Option<&'static str> {
    let has = |end: &str| names.iter().any(|name| name == end || name.ends_with(&format!("/{end}")));
    let inside =
        |folder: &str| names.iter().any(|name| name.starts_with(folder) || name.contains(&format!("/{folder}")));
    Some(if has("constants.pkl") {
        "is a TorchScript archive, which holds a program; save its weights instead: \
         torch.save(torch.jit.load(file).state_dict(), \"weights.pt\")"
    } else if has("archive_format") || has("serialized_exported_program.json") || inside("data/aotinductor/") {
        "is a program that torch.export saved (.pt2); save its weights instead: \
         torch.save(torch.export.load(file).state_dict, \"weights.pt\")"
    } else if has(".data/extern_modules") {
        "is an archive of torch.package, which holds programs; load it there and save the model's state_dict"
    } else if has("model.weights.h5") {
        "is a file of Keras (.keras)"
    } else if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        "is an archive of NumPy's arrays (.npz); save the tensors by torch.save or safetensors"
    } else {
        return None;
    })
}

/// Entries in a zip archive's list. Of entries of one name the library keeps one, without a word.
fn listed(bytes: &[u8], start: u64) -> usize {
    let mut at = usize::try_from(start).unwrap_or(usize::MAX);
    let mut count = 0;
    while let Some([b'P', b'K', 1, 2, head @ ..]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<46>()) {
        // Lengths of name, extra field and comment
        let len = |at: usize| usize::from(u16::from_le_bytes([head[at - 4], head[at - 3]]));
        at += 46 + len(28) + len(30) + len(32);
        count += 1;
    }
    count
}

/// The number that begins an older file.
const MAGIC: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The parts of an older file: pickles of a magic number, a version, the system, the object and the storages' keys; then the
/// storages in that order, each a count of elements (8 bytes) and their numbers.
pub(super) fn legacy(bytes: &[u8]) -> Result<Saved<'_>, String> {
    if !bytes[..bytes.len().min(32)].windows(MAGIC.len()).any(|own| own == MAGIC) {
        return Err("is a pickle that torch.save did not write".into());
    }
    let mut at = 0;
    let mut next = || {
        let pickle = Pickle::read(&bytes[at..])?;
        at += pickle.len;
        Ok::<_, pickle::Error>(pickle)
    };
    let (_magic, version, system, pickle, keys) = (next()?, next()?, next()?, next()?, next()?);
    if !matches!(version.values[version.root], Value::Int(1001)) {
        return Err("has another version than 1001 of the older format".into());
    }
    let little = system.entry(system.root, "little_endian").map(|id| &system.values[id]);
    if !matches!(little, Some(Value::Bool(true))) {
        return Err("does not declare the byte order little-endian, the only one that is read".into());
    }
    // Class and bytes of an element, by key. Keys are addresses in the memory of the writer, so messages leave them out.
    let mut sizes: HashMap<&str, (&str, usize)> = HashMap::new();
    for value in &pickle.values {
        let Value::Persistent(description) = value else { continue };
        let (key, class) = match pickle.sequence(*description) {
            Some(&[kind, class, key, ..]) if pickle.text(kind) == Some("storage") => (pickle.text(key), class),
            // A class, with its source
            Some(&[kind, ..]) if pickle.text(kind) == Some("module") => continue,
            _ => return Err("refers to something outside of its pickle that is no storage".into()),
        };
        let key = key.ok_or("has a storage without a name")?;
        let (module, class) = pickle.global(class).ok_or("has a storage without a type")?;
        let size = match (storage_type(class), class) {
            (Some((_, size)), _) => size,
            // It counts bytes; its tensors say what they are of.
            (None, "UntypedStorage") => 1,
            (None, class) => {
                return Err(format!(
                    "has a storage of type {module:.60}.{class:.60}, of which the size of an element is not known; save it anew \
                     without _use_new_zipfile_serialization=False"
                ));
            }
        };
        match sizes.insert(key, (class, size)) {
            Some((other, _)) if other != class => {
                return Err(format!("has a storage of two types, {other:.60} and {class:.60}"));
            }
            _ => {}
        }
    }
    let mut storages = HashMap::new();
    let keys_in_order = keys.sequence(keys.root).ok_or("has no list of storages")?;
    for (index, &key) in keys_in_order.iter().enumerate() {
        let key = keys.text(key).ok_or("has a storage without a name")?;
        let which = format!("storage {} of {}", index + 1, keys_in_order.len());
        let &(class, size) = sizes.get(key).ok_or_else(|| format!("has {which}, which no tensor uses"))?;
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|count| u64::from_le_bytes(*count));
        let end = count.and_then(|count| usize::try_from(count).ok()?.checked_mul(size)?.checked_add(at + 8));
        let place = end.filter(|&end| end <= bytes.len()).map(|end| at + 8..end);
        let place = place.ok_or_else(|| {
            let count = count.map_or("an unknown number of".into(), |count| count.to_string());
            format!("has {which} ({class}) of {count} elements; it is cut off")
        })?;
        at = place.end;
        if storages.insert(key.to_string(), place).is_some() {
            return Err(format!("has {which} ({class}), which came before"));
        }
    }
    Ok(Saved { pickle, storages })
}
