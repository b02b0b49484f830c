//! Arrays of NumPy's files.

use crate::npy;
use anyhow::{Context, Result, anyhow, bail};
use ndarray::{Array3, ArrayD, Ix3, IxDyn};
use ndarray_npy::{NpzWriter, ReadNpyError};
use std::io::Cursor;
use std::path::Path;
use wgpu_lstm::files;

/// An input.
pub enum Array {
    /// f32, or f64 rounded to it.
    F32(ArrayD<f32>),
    /// i64, or i32: indices, lengths.
    I64(ArrayD<i64>),
}

impl Array {
    /// Reads an npy file of f32, f64, i64 or i32.
    pub fn read(path: &Path) -> Result<Array> {
        let failed = || format!("cannot read \"{}\"", path.display());
        let bytes = files::read(path)?;
        let other = |error: &ReadNpyError| matches!(error, ReadNpyError::WrongDescriptor(_));
        match npy::array::<f32, IxDyn>(&bytes) {
            Ok(array) => return Ok(Array::F32(array)),
            Err(error) if !other(&error) => return Err(error).with_context(failed),
            Err(_) => {}
        }
        match npy::array::<f64, IxDyn>(&bytes) {
            Ok(array) => return Ok(Array::F32(array.mapv(|value| value as f32))),
            Err(error) if !other(&error) => return Err(error).with_context(failed),
            Err(_) => {}
        }
        match npy::array::<i64, IxDyn>(&bytes) {
            Ok(array) => return Ok(Array::I64(array)),
            Err(error) if !other(&error) => return Err(error).with_context(failed),
            Err(_) => {}
        }
        match npy::array::<i32, IxDyn>(&bytes) {
            Ok(array) => Ok(Array::I64(array.mapv(i64::from))),
            Err(error) => Err(error).with_context(|| format!("{}; f32, f64, i64 and i32 are read", failed())),
        }
    }

    /// As f32; integers that f32 does not hold exactly are refused.
    pub fn f32(&self) -> Result<ArrayD<f32>> {
        match self {
            Array::F32(array) => Ok(array.clone()),
            Array::I64(array) => match array.iter().find(|value| value.unsigned_abs() > 1 << 24) {
                Some(value) => bail!("an input holds {value}, which f32 does not hold exactly"),
                None => Ok(array.mapv(|value| value as f32)),
            },
        }
    }

    /// Sequences [B, T, I]; [B, T] is one feature.
    pub fn sequences(&self) -> Result<Array3<f32>> {
        let array = self.f32()?;
        let shape = array.shape().to_vec();
        let array = if array.ndim() == 2 { array.insert_axis(ndarray::Axis(2)) } else { array };
        array.into_dimensionality::<Ix3>().map_err(|_| anyhow!("an input has shape {shape:?}; [B, T, I] was expected"))
    }
}

/// Steps of each sequence.
pub fn lengths(path: &Path) -> Result<Vec<usize>> {
    let Array::I64(array) = Array::read(path)? else { bail!("\"{}\" holds no i64; lengths are i64", path.display()) };
    let shape = array.shape().to_vec();
    let length = |value: i64| usize::try_from(value).map_err(|_| anyhow!("a length is {value}"));
    if array.ndim() != 1 {
        bail!("\"{}\" has shape {shape:?}; lengths are [B]", path.display());
    }
    array.into_iter().map(length).collect()
}

/// Writes an npz file.
pub fn write(path: &Path, outputs: &[(String, ArrayD<f32>)]) -> Result<()> {
    let failed = || format!("cannot write \"{}\"", path.display());
    let mut writer = NpzWriter::new(Cursor::new(Vec::new()));
    for (name, array) in outputs {
        writer.add_array(name, array).with_context(failed)?;
    }
    let bytes = writer.finish().with_context(failed)?.into_inner();
    Ok(files::replace(path, bytes)?)
}
