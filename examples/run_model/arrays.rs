//! Arrays of NumPy's files.

use crate::common::note;
use crate::distinct::distinct;
use crate::npy;
use anyhow::{Context, Result, anyhow, bail};
use ndarray::{Array3, ArrayD, Ix3, IxDyn};
use ndarray_npy::{NpzWriter, ReadNpyError};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use wgpu_lstm::files;

/// An input, with the file that it comes from.
pub struct Array {
    path: PathBuf,
    pub numbers: Numbers,
}

/// The numbers of an input.
#[derive(Clone)]
pub enum Numbers {
    /// f32, or f64 rounded to it.
    F32(ArrayD<f32>),
    /// i64, or i32: indices, lengths.
    I64(ArrayD<i64>),
}

impl Array {
    /// Reads an npy file of f32, f64, i64 or i32.
    pub fn read(path: &Path) -> Result<Array> {
        Ok(Array { path: path.into(), numbers: Array::numbers(path)? })
    }

    fn numbers(path: &Path) -> Result<Numbers> {
        let failed = || format!("cannot read \"{}\"", path.display());
        let bytes = files::read(path)?;
        let other = |error: &ReadNpyError| matches!(error, ReadNpyError::WrongDescriptor(_));
        match npy::array::<f32, IxDyn>(&bytes) {
            Ok(array) => return Ok(Numbers::F32(array)),
            Err(error) if !other(&error) => return Err(error).with_context(failed),
            Err(_) => {}
        }
        match npy::array::<f64, IxDyn>(&bytes) {
            Ok(array) => return Ok(Numbers::F32(rounded(path, &array)?)),
            Err(error) if !other(&error) => return Err(error).with_context(failed),
            Err(_) => {}
        }
        match npy::array::<i64, IxDyn>(&bytes) {
            Ok(array) => return Ok(Numbers::I64(array)),
            Err(error) if !other(&error) => return Err(error).with_context(failed),
            Err(_) => {}
        }
        match npy::array::<i32, IxDyn>(&bytes) {
            Ok(array) => Ok(Numbers::I64(array.mapv(i64::from))),
            Err(error) => Err(error).with_context(|| format!("{}; f32, f64, i64 and i32 are read", failed())),
        }
    }

    /// As f32; integers that f32 does not hold exactly are refused.
    pub fn f32(&self) -> Result<ArrayD<f32>> {
        match &self.numbers {
            Numbers::F32(array) => Ok(array.clone()),
            Numbers::I64(array) => match array.iter().find(|value| value.unsigned_abs() > 1 << 24) {
                Some(value) => bail!("\"{}\" holds {value}, which f32 does not hold exactly", self.path.display()),
                None => Ok(array.mapv(|value| value as f32)),
            },
        }
    }

    /// Sequences [B, T, I]; [B, T] is one feature.
    pub fn sequences(&self) -> Result<Array3<f32>> {
        let array = self.f32()?;
        let shape = array.shape().to_vec();
        let array = if array.ndim() == 2 { array.insert_axis(ndarray::Axis(2)) } else { array };
        array
            .into_dimensionality::<Ix3>()
            .map_err(|_| anyhow!("\"{}\" has shape {shape:?}; [B, T, I] was expected", self.path.display()))
    }
}

/// f64 rounded to f32. What is beyond f32 is refused; numbers that become the same are said.
fn rounded(path: &Path, array: &ArrayD<f64>) -> Result<ArrayD<f32>> {
    let rounded = array.mapv(|value| value as f32);
    if let Some((value, _)) =
        array.iter().zip(&rounded).find(|(value, rounded)| value.is_finite() && !rounded.is_finite())
    {
        bail!("\"{}\" holds {value:e}, which is beyond f32", path.display());
    }
    let (all, kept) = (distinct(array.iter().copied()), distinct(rounded.iter().map(|&value| value.into())));
    if kept < all {
        note!(
            "\"{}\": of {all} different f64 numbers {kept} are different in f32, in which models run",
            path.display()
        );
    }
    Ok(rounded)
}

/// Steps of each sequence.
pub fn lengths(path: &Path) -> Result<Vec<usize>> {
    let Numbers::I64(array) = Array::read(path)?.numbers else {
        bail!("\"{}\" holds no i64; lengths are i64", path.display())
    };
    let shape = array.shape().to_vec();
    let length =
        |value: i64| usize::try_from(value).map_err(|_| anyhow!("\"{}\" holds the length {value}", path.display()));
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
