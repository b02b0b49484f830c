//! Types of files, told from first bytes, list of entries and name, before a reader is chosen.

use crate::error::{Error, Result};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Types of files that people take for models.
///
/// ```
/// use wgpu_lstm::format::{FileType, Reader, identify};
/// let path = std::env::temp_dir().join("wgpu-lstm-doc.tflite");
/// std::fs::write(&path, b"\x1c\0\0\0TFL3").unwrap();
/// let file_type = identify(&path)?;
/// assert_eq!(file_type, FileType::TfLite);
/// assert_eq!(file_type.reader(), None);
/// println!("{} is {file_type}: {}", path.display(), file_type.advice());
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// Written by [`Model::save`](crate::Model::save).
    Own,
    /// Other safetensors: weights by name.
    Safetensors,
    /// Written by `torch.save`.
    PyTorch,
    /// Written by `torch.save` before PyTorch 1.6.
    PyTorchLegacy,
    /// Written by `torch.save` before PyTorch 0.1.10.
    PyTorchTar,
    /// Written by `torch.jit.save`.
    TorchScript,
    /// Written by `torch.export.save`.
    ExportedProgram,
    /// A pickle of something else.
    Pickle,
    /// A `.keras` archive.
    Keras,
    /// HDF5, as Keras writes it.
    Hdf5,
    /// An ONNX graph.
    Onnx,
    /// TensorFlow Lite.
    TfLite,
    /// A TensorFlow SavedModel, or the file saved_model.pb of one.
    SavedModel,
    /// A frozen TensorFlow graph.
    FrozenGraph,
    /// A part of a TensorFlow checkpoint.
    TensorFlowCheckpoint,
    /// TensorFlow.js.
    TensorFlowJs,
    /// Core ML.
    CoreMl,
    /// A TensorRT engine.
    TensorRt,
    /// OpenVINO.
    OpenVino,
    /// llama.cpp's GGUF.
    Gguf,
    /// A Keras architecture without weights, as `model.to_json()` gives it.
    KerasJson,
    /// The index of a model in several files.
    ShardIndex,
    /// The configuration of a Hugging Face model.
    Configuration,
    /// NumPy arrays.
    NumPy,
    /// A MATLAB file.
    Matlab,
    /// A tar archive.
    Tar,
    /// A zip archive of something else.
    Zip,
    /// A compressed file or another archive.
    Compressed,
    /// A pointer of Git LFS in the place of a file.
    GitLfsPointer,
    /// A web page.
    Html,
    /// Other JSON.
    Json,
    /// Other text, such as CSV.
    Text,
    /// No bytes.
    Empty,
    /// A folder of something else.
    Folder,
    /// Anything else.
    Unknown,
}

/// Readers of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reader {
    /// [`Model::load`](crate::Model::load).
    Own,
    /// `format::pytorch`.
    PyTorch,
    /// `format::keras`.
    Keras,
    /// `format::onnx`.
    Onnx,
}

impl Reader {
    /// Its files, and the function that reads them.
    fn words(self) -> [&'static str; 2] {
        match self {
            Reader::Own => ["a model that Model::save wrote", "Model::load"],
            Reader::PyTorch => ["weights of PyTorch", "format::pytorch::Weights::open"],
            Reader::Keras => ["a model of Keras", "format::keras::load"],
            Reader::Onnx => ["an ONNX graph", "format::onnx::Graph::load"],
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileType::Own => "a model of this crate (Model::save)",
            FileType::Safetensors => "a safetensors file of weights without an architecture",
            FileType::PyTorch => "a file of PyTorch (torch.save)",
            FileType::PyTorchLegacy => "a file of PyTorch before 1.6 (torch.save)",
            FileType::PyTorchTar => "a tar archive as PyTorch before 0.1.10 wrote them",
            FileType::TorchScript => "a TorchScript program of PyTorch (torch.jit.save)",
            FileType::ExportedProgram => "an exported program of PyTorch (torch.export.save)",
            FileType::Pickle => "a pickle that torch.save did not write",
            FileType::Keras => "a Keras model (.keras archive)",
            FileType::Hdf5 => "an HDF5 file, as Keras writes them",
            FileType::Onnx => "an ONNX graph",
            FileType::TfLite => "a TensorFlow Lite model",
            FileType::SavedModel => "a TensorFlow SavedModel",
            FileType::FrozenGraph => "a frozen TensorFlow graph",
            FileType::TensorFlowCheckpoint => "a part of a TensorFlow checkpoint",
            FileType::TensorFlowJs => "a TensorFlow.js model",
            FileType::CoreMl => "a Core ML model",
            FileType::TensorRt => "a TensorRT engine",
            FileType::OpenVino => "an OpenVINO model",
            FileType::Gguf => "a GGUF model of llama.cpp",
            FileType::KerasJson => "a Keras architecture without weights",
            FileType::ShardIndex => "the index of a model in several files",
            FileType::Configuration => "the configuration of a model, without weights",
            FileType::NumPy => "a file of NumPy arrays",
            FileType::Matlab => "a MATLAB file",
            FileType::Tar => "a tar archive",
            FileType::Zip => "a zip archive that is no model",
            FileType::Compressed => "a compressed file",
            FileType::GitLfsPointer => "a pointer of Git LFS, not the file itself",
            FileType::Html => "a web page",
            FileType::Json => "JSON that is no model",
            FileType::Text => "text",
            FileType::Empty => "empty",
            FileType::Folder => "a folder",
            FileType::Unknown => "of no known type",
        })
    }
}

impl FileType {
    /// The reader for such files, if there is one; it may still refuse a part of them, by name.
    pub fn reader(self) -> Option<Reader> {
        match self {
            FileType::Own => Some(Reader::Own),
            FileType::Safetensors
            | FileType::PyTorch
            | FileType::PyTorchLegacy
            | FileType::PyTorchTar
            | FileType::TorchScript
            | FileType::ExportedProgram
            | FileType::Pickle => Some(Reader::PyTorch),
            FileType::Keras | FileType::Hdf5 => Some(Reader::Keras),
            FileType::Onnx => Some(Reader::Onnx),
            _ => None,
        }
    }

    /// True of models in formats that are not read here.
    pub fn is_foreign_model(self) -> bool {
        matches!(
            self,
            FileType::TfLite
                | FileType::SavedModel
                | FileType::FrozenGraph
                | FileType::TensorFlowCheckpoint
                | FileType::TensorFlowJs
                | FileType::CoreMl
                | FileType::TensorRt
                | FileType::OpenVino
                | FileType::Gguf
                | FileType::Matlab
        )
    }

    /// Advice on such a file: the way to a file that is read here.
    pub fn advice(self) -> &'static str {
        match self {
            FileType::Own => "Model::load reads it",
            FileType::Safetensors | FileType::PyTorch | FileType::PyTorchLegacy => {
                "format::pytorch::Weights::open reads it"
            }
            FileType::PyTorchTar => "load it in that version of PyTorch and save it anew",
            FileType::TorchScript | FileType::ExportedProgram => {
                "in Python, save its weights: torch.save(module.state_dict(), \"weights.pt\")"
            }
            FileType::Pickle => {
                "in Python, save the weights of what it holds: torch.save(module.state_dict(), \"weights.pt\")"
            }
            FileType::Keras | FileType::Hdf5 => "format::keras::load reads it",
            FileType::Onnx => "format::onnx::Graph::load reads it",
            FileType::TfLite => {
                "give the Keras model that it was made of, or convert it: python -m tf2onnx.convert --tflite FILE --output model.onnx"
            }
            FileType::SavedModel => {
                "in Keras 2, save it as .keras: keras.models.load_model(FOLDER).save(\"model.keras\"); or convert it: python -m \
                 tf2onnx.convert --saved-model FOLDER --output model.onnx"
            }
            FileType::FrozenGraph => {
                "convert it: python -m tf2onnx.convert --graphdef FILE --inputs NAME:0 --outputs NAME:0 --output model.onnx"
            }
            FileType::TensorFlowCheckpoint => {
                "it holds weights without an architecture; in Keras, build the model, call load_weights, then model.save(\"model.keras\")"
            }
            FileType::TensorFlowJs => {
                "convert it: tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras model.json model.h5"
            }
            FileType::CoreMl => "give the model of PyTorch or Keras that it was made of",
            FileType::TensorRt => "an engine is for one kind of GPU; give the ONNX file that it was built from",
            FileType::OpenVino => "give the ONNX file or the model that it was made of",
            FileType::Gguf => "such language models have no recurrent layers that could run here",
            FileType::KerasJson => {
                "save architecture and weights together: keras.models.model_from_json(...), load_weights, then model.save(\"model.keras\")"
            }
            FileType::ShardIndex => "join the files: load the model in Python and save its state_dict in one file",
            FileType::Configuration => "give the file of weights beside it, such as model.safetensors",
            FileType::NumPy => "arrays are inputs; a model is expected here",
            FileType::Matlab => "export the model from MATLAB: exportONNXNetwork(net, \"model.onnx\")",
            FileType::Tar | FileType::Zip | FileType::Compressed => "unpack it and give the file inside",
            FileType::GitLfsPointer => "fetch the file itself: git lfs pull",
            FileType::Html => {
                "the download gave a page about the file, or an error; fetch the file itself (the \"raw\" or \"resolve\" link)"
            }
            FileType::Json | FileType::Text => "a model is expected here",
            FileType::Empty => "the file was not written or not downloaded; fetch or save it again",
            FileType::Folder => "give a file in it",
            FileType::Unknown => {
                "files of this crate, of PyTorch (.pt, .safetensors), Keras (.keras, .h5) and ONNX (.onnx) are read; it may be damaged \
                 or cut off"
            }
        }
    }

    /// False if the end of a file's name promises another type.
    pub fn fits_name(self, path: &Path) -> bool {
        use FileType::*;
        let promised: &[FileType] = match &extension(path)[..] {
            "keras" => &[Keras, Hdf5],
            "h5" | "hdf5" => &[Hdf5],
            "onnx" => &[Onnx],
            "pt" | "pth" => &[PyTorch, PyTorchLegacy, PyTorchTar, TorchScript, ExportedProgram, Pickle],
            "ckpt" => &[PyTorch, PyTorchLegacy, PyTorchTar, Pickle, TensorFlowCheckpoint, Hdf5],
            "pt2" => &[ExportedProgram],
            "safetensors" => &[Own, Safetensors],
            "tflite" => &[TfLite],
            "mlmodel" | "mlpackage" => &[CoreMl],
            "gguf" => &[Gguf],
            "npy" | "npz" => &[NumPy],
            "pb" => &[SavedModel, FrozenGraph, Onnx],
            _ => return true,
        };
        promised.contains(&self) || matches!(self, Empty | Unknown)
    }

    /// Words of a message on a file that is not what `reader` reads.
    fn refusal(self, path: &Path, reader: Reader) -> String {
        let named = if self.fits_name(path) { "" } else { ", whatever its name says" };
        let [expected, _] = reader.words();
        let stop = match self {
            FileType::Empty => "; it should be",
            _ => ", not",
        };
        match self.reader() {
            Some(other) => format!("is {self}{named}{stop} {expected}; {} reads it", other.words()[1]),
            None => format!("is {self}{named}{stop} {expected}: {}", self.advice()),
        }
    }
}

/// The type of a file or folder. Its content decides where it can, then its name.
///
/// # Errors
/// A file that cannot be opened or read.
pub fn identify(path: impl AsRef<Path>) -> Result<FileType> {
    let path = path.as_ref();
    let failed = |error| Error::file("read", path)(error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Ok(folder(path));
    }
    if !metadata.is_file() {
        return Ok(FileType::Unknown); // what is read of a pipe is gone
    }
    let file = File::open(path).map_err(failed)?;
    of(&mut BufReader::new(file), path).map_err(failed)
}

/// The type of a file of these bytes and this name.
///
/// ```
/// use wgpu_lstm::format::{FileType, identify_bytes};
/// assert_eq!(identify_bytes("model.h5", b"<!DOCTYPE html><title>Not found</title>"), FileType::Html);
/// ```
pub fn identify_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> FileType {
    // Memory does not fail to be read.
    of(&mut io::Cursor::new(bytes), name.as_ref()).unwrap_or(FileType::Unknown)
}

/// Refuses a file that is something else than what a reader reads. What is not known is for the reader to refuse.
pub(crate) fn check(path: &Path, reader: Reader) -> Result<()> {
    let file_type = identify(path)?;
    // Of safetensors, whole or cut off, the crate's own reader says more.
    let unsure = file_type == FileType::Safetensors && reader == Reader::Own;
    if file_type == FileType::Unknown || file_type.reader() == Some(reader) || unsure {
        return Ok(());
    }
    Err(Error::format(path, file_type.refusal(path, reader)))
}

/// The end of a name, in small letters.
fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

fn folder(path: &Path) -> FileType {
    let holds = |name: &str| path.join(name).exists();
    match &extension(path)[..] {
        "mlpackage" | "mlmodelc" => FileType::CoreMl,
        _ if holds("saved_model.pb") || holds("saved_model.pbtxt") => FileType::SavedModel,
        _ if holds("model.json") && identify(path.join("model.json")).ok() == Some(FileType::TensorFlowJs) => {
            FileType::TensorFlowJs
        }
        _ => FileType::Folder,
    }
}

/// Bytes from the start that are looked at.
const HEAD: u64 = 1 << 16;

fn of(file: &mut (impl Read + Seek), path: &Path) -> io::Result<FileType> {
    let len = file.seek(SeekFrom::End(0))?;
    let head = read(file, 0, HEAD)?;
    let by_name = by_name(path);
    Ok(match &head[..] {
        [] => FileType::Empty,
        // The length in front of it may be any bytes, also those that begin a pickle or an archive.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => safetensors(file, len, &head)?.unwrap_or(by_name),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => {
            let found = zip(&zip_entries(file, len, &head)?);
            // A damaged archive is for the reader that its name promises.
            match by_name.reader() {
                Some(_) if found == FileType::Zip => by_name,
                _ => found,
            }
        }
        [0x1f, 0x8b, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', b'X', b'Z', ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..] => FileType::Compressed,
        [b'7', b'z', 0xbc, 0xaf, ..] | [b'R', b'a', b'r', b'!', ..] => FileType::Compressed,
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => FileType::TfLite,
        [b'G', b'G', b'U', b'F', ..] | [b'l', b'm', b'g', b'g', ..] | [b't', b'j', b'g', b'g', ..] => FileType::Gguf,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => FileType::NumPy,
        [b'p' | b'f', b't', b'r', b't', ..] => FileType::TensorRt,
        _ if head.starts_with(b"MATLAB 5.0 MAT-file") || head.starts_with(b"MATLAB 7.3 MAT-file") => FileType::Matlab,
        _ if hdf5(file, len)? => FileType::Hdf5,
        _ if head.get(257..262) == Some(b"ustar") => match head.split(|&byte| byte == 0).next() {
            Some(b"sys_info" | b"pickle" | b"tensors" | b"storages") => FileType::PyTorchTar,
            _ => FileType::Tar,
        },
        [0x80, 2..=5, ..] if contains(&head[..head.len().min(32)], &TORCH_MAGIC) => FileType::PyTorchLegacy,
        [0x80, 2..=5, ..] => FileType::Pickle,
        _ if read(file, len.saturating_sub(8), 8)? == LEVEL_DB => FileType::TensorFlowCheckpoint,
        _ => match text(&head, len) {
            Some(found) => found,
            None => protobuf(file, len, by_name)?.unwrap_or(by_name),
        },
    })
}

/// The number that begins what torch.save wrote before PyTorch 1.6.
const TORCH_MAGIC: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The end of a LevelDB table, which a checkpoint's index is.
const LEVEL_DB: [u8; 8] = [0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb];

/// The type by the file's name, for content that is not conclusive.
fn by_name(path: &Path) -> FileType {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match &extension(path)[..] {
        "keras" => FileType::Keras,
        "h5" | "hdf5" => FileType::Hdf5,
        "onnx" => FileType::Onnx,
        "pt" | "pth" => FileType::PyTorch,
        "safetensors" => FileType::Safetensors,
        "tflite" => FileType::TfLite,
        "mlmodel" => FileType::CoreMl,
        "engine" | "plan" | "trt" => FileType::TensorRt,
        "pb" if name == "saved_model.pb" => FileType::SavedModel,
        "pb" => FileType::FrozenGraph,
        "index" | "meta" => FileType::TensorFlowCheckpoint,
        _ if name.contains(".data-0") && name.contains("-of-") => FileType::TensorFlowCheckpoint,
        _ => FileType::Unknown,
    }
}

/// Up to `most` bytes from a place on.
fn read(file: &mut (impl Read + Seek), from: u64, most: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.by_ref().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// HDF5 begins at 0, or behind a block of the user's of 512, 1024, 2048, ... bytes.
fn hdf5(file: &mut (impl Read + Seek), len: u64) -> io::Result<bool> {
    for from in [0, 512, 1024, 2048, 4096, 8192].into_iter().take_while(|&from| from < len) {
        if read(file, from, 8)? == *b"\x89HDF\r\n\x1a\n" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// None if the eight bytes in front of a brace are no header's length.
fn safetensors(file: &mut (impl Read + Seek), len: u64, head: &[u8]) -> io::Result<Option<FileType>> {
    const LONGEST: u64 = 100_000_000; // safetensors' own bound
    let length = head.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    if !(2..=LONGEST).contains(&length) {
        return Ok(None);
    }
    let header = read(file, 8, length)?;
    let own = match serde_json::from_slice::<serde_json::Value>(&header) {
        Ok(header) => header.pointer("/__metadata__/wgpu_lstm").is_some(),
        // Cut off or damaged, which the reader says.
        Err(_) if length > len => contains(&header, b"\"wgpu_lstm\""),
        Err(_) => contains(&header, b"\"__metadata__\":{\"wgpu_lstm\""),
    };
    Ok(Some(if own { FileType::Own } else { FileType::Safetensors }))
}

/// Names of an archive's entries, as its list has them; where that is missing, the name of the first entry.
fn zip_entries(file: &mut (impl Read + Seek), len: u64, head: &[u8]) -> io::Result<Vec<String>> {
    const LIST: u64 = 1 << 20;
    const END: u64 = 22 + u16::MAX as u64;
    let first = len.saturating_sub(END);
    let tail = read(file, first, END)?;
    let number = |bytes: &[u8], at: usize, size: usize| -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    let mut start = None;
    if let Some(end) = tail.windows(4).rposition(|window| window == b"PK\x05\x06") {
        start = number(&tail, end + 16, 4);
        if start == Some(u32::MAX.into()) {
            // Of large archives the place is in a record of its own, to which one right before the end leads.
            let locator = end.checked_sub(20).filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
            let record = locator.and_then(|at| number(&tail, at + 8, 8));
            let record = record.filter(|&at| at < len).map(|at| read(file, at, 56)).transpose()?;
            start = record.and_then(|record| number(&record, 48, 8));
        }
    }
    let mut names = Vec::new();
    if let Some(start) = start.filter(|&start| start < len) {
        let list = read(file, start, LIST)?;
        let mut at = 0;
        while list[at..].starts_with(b"PK\x01\x02") {
            let size = |field: usize| number(&list, at + field, 2).map(|size| size as usize);
            let (Some(name), Some(extra), Some(comment)) = (size(28), size(30), size(32)) else { break };
            let Some(bytes) = list.get(at + 46..at + 46 + name) else { break };
            names.push(String::from_utf8_lossy(bytes).into_owned());
            at = (at + 46 + name + extra + comment).min(list.len());
        }
    }
    if names.is_empty() {
        let size = number(head, 26, 2).unwrap_or(0) as usize;
        names.extend(head.get(30..30 + size).map(|name| String::from_utf8_lossy(name).into_owned()));
    }
    Ok(names)
}

fn zip(names: &[String]) -> FileType {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let below = |wanted: &str| names.iter().any(|name| name == wanted || name.ends_with(&format!("/{wanted}")));
    if has("config.json") && (has("model.weights.h5") || has("metadata.json")) || names == ["metadata.json"] {
        FileType::Keras
    } else if ["serialized_exported_program.json", "archive_format"].into_iter().any(below) {
        FileType::ExportedProgram
    } else if below("data.pkl") && (below("constants.pkl") || names.iter().any(|name| name.contains("/code/"))) {
        FileType::TorchScript
    } else if below("data.pkl") {
        FileType::PyTorch
    } else if below("saved_model.pb") {
        FileType::SavedModel
    } else if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        FileType::NumPy
    } else {
        FileType::Zip
    }
}

/// None of what is no text.
fn text(head: &[u8], len: u64) -> Option<FileType> {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some(FileType::Text); // UTF-16
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A letter that the end of what was read cuts.
        Err(error) if head.len() as u64 != len && error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
        return None;
    }
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let small = start.get(..start.len().min(512)).unwrap_or(start).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| start.contains(word));
    Some(if start.starts_with("version https://git-lfs") {
        FileType::GitLfsPointer
    } else if small.starts_with('<') && ["<!doctype html", "<html"].iter().any(|tag| small.contains(tag)) {
        FileType::Html
    } else if small.starts_with('<') && has(&["<net "]) {
        FileType::OpenVino
    } else if !start.starts_with(['{', '[']) {
        FileType::Text
    } else if has(&["\"modelTopology\"", "\"weightsManifest\""]) {
        FileType::TensorFlowJs
    } else if has(&["\"class_name\""]) && has(&["\"config\""]) {
        FileType::KerasJson
    } else if has(&["\"weight_map\""]) {
        FileType::ShardIndex
    } else if has(&["\"model_type\"", "\"architectures\""]) {
        FileType::Configuration
    } else {
        FileType::Json
    })
}

/// Told from the fields of a message: ONNX's ModelProto, Core ML's Model, TensorFlow's SavedModel and GraphDef.
fn protobuf(file: &mut (impl Read + Seek), len: u64, by_name: FileType) -> io::Result<Option<FileType>> {
    let Some(fields) = fields(file, len)? else { return Ok(None) };
    let has = |wanted: (u64, u8)| fields.iter().any(|&(number, wire, _)| (number, wire) == wanted);
    let only = |known: &[(u64, u8)]| fields.iter().all(|&(number, wire, _)| known.contains(&(number, wire)));
    const NUMBER: u8 = 0;
    const BYTES: u8 = 2;
    if has((1, NUMBER)) && has((2, BYTES)) && fields.iter().any(|&(number, wire, _)| number >= 200 && wire == BYTES) {
        return Ok(Some(FileType::CoreMl));
    }
    if has((7, BYTES)) && (has((8, BYTES)) || has((1, NUMBER)) || by_name == FileType::Onnx) {
        return Ok(Some(FileType::Onnx));
    }
    if has((1, NUMBER)) && has((2, BYTES)) && only(&[(1, NUMBER), (2, BYTES)]) && by_name != FileType::Onnx {
        return Ok(Some(FileType::SavedModel));
    }
    if only(&[(1, BYTES), (2, BYTES), (3, NUMBER), (4, BYTES)])
        && let Some(&(1, BYTES, at)) = fields.first()
    {
        // A node begins with its name and its operator.
        let node = read(file, at, 256)?;
        let named = node.first() == Some(&0x0a);
        let operator = node.get(1).and_then(|&size| node.get(2 + usize::from(size)));
        return Ok((named && operator == Some(&0x12)).then_some(FileType::FrozenGraph));
    }
    Ok(None)
}

/// Numbers, wire types and places of the first fields of a message; None if it is none. The last one may be cut off.
#[allow(clippy::type_complexity)] // (number, wire type, place), used here and right above
fn fields(file: &mut (impl Read + Seek), len: u64) -> io::Result<Option<Vec<(u64, u8, u64)>>> {
    const MOST: usize = 256;
    let varint = |bytes: &[u8]| -> Option<(u64, u64)> {
        let size = 1 + bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
        let value = bytes[..size].iter().rev().fold(0u64, |value, &byte| value << 7 | u64::from(byte & 0x7f));
        Some((value, size as u64))
    };
    let (mut at, mut fields) = (0, Vec::new());
    while at < len && fields.len() < MOST {
        let bytes = read(file, at, 20)?;
        let Some((tag, size)) = varint(&bytes) else { return Ok(None) };
        let (number, wire) = (tag >> 3, (tag & 7) as u8);
        let rest = &bytes[size as usize..];
        let (start, length) = match wire {
            0 => match varint(rest) {
                Some((_, length)) => (size, length),
                None => return Ok(None),
            },
            1 => (size, 8),
            2 => match varint(rest) {
                Some((length, own)) => (size + own, length),
                None => return Ok(None),
            },
            5 => (size, 4),
            _ => return Ok(None),
        };
        if !(1..1 << 29).contains(&number) {
            return Ok(None);
        }
        fields.push((number, wire, at + start));
        at = at.saturating_add(start).saturating_add(length);
    }
    Ok(Some(fields))
}
