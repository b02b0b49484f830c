//! Tensors of a file as values, and back.

use super::call::{Outcome, elements};
use super::proto::TensorProto;
use super::value::{Element, Value, any, data_type_name};
use crate::memory;
use ndarray::{ArrayD, IxDyn};
use prost::bytes::Bytes;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder of the tensors that a file keeps in other files beside it.
#[derive(Debug)]
pub(super) enum Beside {
    /// In this folder.
    Folder(PathBuf),
    /// Nowhere: the file was given as bytes.
    Nowhere,
}

/// The value of a tensor. Takes no more memory than its data, which must be there.
pub(super) fn read(tensor: &TensorProto, beside: &Beside) -> Outcome<Value> {
    if tensor.segment.is_some() {
        return Err("is split into segments, which are not supported".into());
    }
    let shape = shape(&tensor.dims)?;
    elements(&shape)?;
    let raw = match tensor.data_location {
        0 if !tensor.external_data.is_empty() => {
            return Err("names external data, but says that its data are in the file".into());
        }
        0 => tensor.raw_data.clone(),
        1 => Some(external(tensor, shape.iter().product(), beside)?),
        other => return Err(format!("has data_location {other}, which is not known")),
    };
    let source = Source { tensor, shape, raw };
    match tensor.data_type {
        f32::DATA_TYPE => source.value(f32::from_le_bytes, &tensor.float_data, |x| x),
        f64::DATA_TYPE => source.value(f64::from_le_bytes, &tensor.double_data, |x| x),
        i32::DATA_TYPE => source.value(i32::from_le_bytes, &tensor.int32_data, |x| x),
        i64::DATA_TYPE => source.value(i64::from_le_bytes, &tensor.int64_data, |x| x),
        bool::DATA_TYPE => source.value(|[byte]: [u8; 1]| byte != 0, &tensor.int32_data, |x| x != 0),
        other => Err(format!("is of type {}; {READ}", data_type_name(other))),
    }
}

/// The element types that there are, for messages.
pub(super) const READ: &str = "FLOAT, DOUBLE, INT32, INT64 and BOOL are supported";

/// Sizes, none negative.
fn shape(dims: &[i64]) -> Outcome<Vec<usize>> {
    let size = |&dim: &i64| usize::try_from(dim).map_err(|_| format!("has a size of {dim} (dims {dims:?})"));
    dims.iter().map(size).collect()
}

struct Source<'a> {
    tensor: &'a TensorProto,
    shape: Vec<usize>,
    /// Little-endian bytes, where the data are not in a field of their type.
    raw: Option<Bytes>,
}

impl Source<'_> {
    fn value<T: Element, F: Copy, const N: usize>(
        self,
        of_bytes: fn([u8; N]) -> T,
        field: &[F],
        of_field: fn(F) -> T,
    ) -> Outcome<Value> {
        let count: usize = self.shape.iter().product();
        let typed = [
            self.tensor.float_data.len(),
            self.tensor.double_data.len(),
            self.tensor.int32_data.len(),
            self.tensor.int64_data.len(),
        ];
        let elsewhere = typed.iter().sum::<usize>() - field.len();
        if elsewhere > 0 || (self.raw.is_some() && !field.is_empty()) {
            return Err("has data in more than one field, or in that of another type".into());
        }
        let (held, values): (usize, Vec<T>) = match &self.raw {
            Some(raw) => {
                // What is left over makes the number of bytes wrong, which is told below.
                let chunks = raw.chunks_exact(N);
                let values = chunks.map(|chunk| of_bytes(chunk.try_into().unwrap_or([0; N])));
                (raw.len(), collect(values.len(), values)?)
            }
            None => (field.len() * N, collect(field.len(), field.iter().map(|&x| of_field(x)))?),
        };
        if held != count * N {
            return Err(format!(
                "has {held} bytes of data; its shape {:?} of {} needs {}",
                self.shape,
                T::KIND,
                count * N
            ));
        }
        ArrayD::from_shape_vec(IxDyn(&self.shape), values).map(T::value).map_err(|error| error.to_string())
    }
}

/// The numbers of a tensor.
fn collect<T>(len: usize, values: impl Iterator<Item = T>) -> Outcome<Vec<T>> {
    memory::collect(len, values, "its numbers").map_err(|error| format!("cannot be read: {error}"))
}

/// The bytes of a tensor that lie in a file beside the model.
fn external(tensor: &TensorProto, count: usize, beside: &Beside) -> Outcome<Bytes> {
    let (mut location, mut offset, mut length) = (None, 0, None);
    for entry in &tensor.external_data {
        let number = || {
            let wrong = |_| format!("has external data whose {} is \"{}\", which is no number", entry.key, entry.value);
            entry.value.parse::<u64>().map_err(wrong)
        };
        match &entry.key[..] {
            "location" => location = Some(&entry.value[..]),
            "offset" => offset = number()?,
            "length" => length = Some(number()?),
            "checksum" => {} // of the whole file, and optional
            other => return Err(format!("has external data with the key \"{other}\", which is not known")),
        }
    }
    let location = location.ok_or("has external data without a location")?;
    let Beside::Folder(folder) = beside else {
        return Err(format!("has its data in the file \"{location}\"; a model given as bytes has no files beside it"));
    };
    if !Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("has its data in \"{location}\", which does not lie in the model's folder"));
    }
    let failed = |error: std::io::Error| format!("has its data in \"{location}\", which cannot be read: {error}");
    // A link may lead elsewhere, too.
    let path = folder.join(location).canonicalize().map_err(failed)?;
    if !path.starts_with(folder.canonicalize().map_err(failed)?) {
        return Err(format!("has its data in \"{location}\", which does not lie in the model's folder"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("has its data in \"{location}\", which is no file"));
    }
    let size = match tensor.data_type {
        bool::DATA_TYPE => 1,
        f64::DATA_TYPE | i64::DATA_TYPE => 8,
        _ => 4, // a type that is not read is refused later
    };
    let length = length.unwrap_or(count as u64 * size);
    if offset.checked_add(length).is_none_or(|end| end > metadata.len()) {
        return Err(format!(
            "has {length} bytes of data from byte {offset} of \"{location}\", which has {}",
            metadata.len()
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

/// A tensor that holds a value.
pub(super) fn write(name: &str, value: &Value) -> TensorProto {
    let raw: Vec<u8> = match value {
        Value::F32(array) => array.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Value::F64(array) => array.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Value::I32(array) => array.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Value::I64(array) => array.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Value::Bool(array) => array.iter().map(|&x| x as u8).collect(),
    };
    TensorProto {
        name: name.into(),
        dims: any!(value, array => array.shape()).iter().map(|&size| size as i64).collect(),
        data_type: value.data_type(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// The array of a `.pb` file: one tensor and nothing else, as the onnx package writes the inputs and outputs of its test cases.
///
/// # Errors
/// A file that cannot be read or holds something else; a type that is not supported.
pub fn read_tensor(path: impl AsRef<Path>) -> crate::error::Result<Value> {
    use crate::error::Error;
    let path = path.as_ref();
    let bytes = memory::read(path)?;
    let tensor: TensorProto = prost::Message::decode(Bytes::from(bytes))
        .map_err(|error| Error::format_because(path, "is no ONNX tensor", error))?;
    read(&tensor, &Beside::Nowhere).map_err(|reason| Error::format(path, format!("holds a tensor that {reason}")))
}
