//! Tensors of a file: their shapes, and where their numbers lie.

use crate::error::Result;
use crate::format::number::Number;
use crate::memory;
use std::ops::Range;

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub name: String,
    pub number: Number,
    pub shape: Vec<usize>,
    /// Numbers from one element to the next along each axis.
    pub strides: Vec<usize>,
    /// Numbers before the first.
    pub offset: usize,
    /// Bytes of the file.
    pub storage: Range<usize>,
}

impl Tensor {
    /// Elements; None beyond what can be counted.
    pub fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |len, &size| len.checked_mul(size))
    }

    /// Refuses a tensor that its storage cannot hold.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Tensor { name, shape, strides, .. } = self;
        let refuse = |why: String| Err(format!("has tensor {name} of shape {shape:?}, {why}"));
        if shape.len() != strides.len() {
            return refuse(format!("but with strides {strides:?}"));
        }
        let Some(len) = self.len() else { return refuse("which is too large to be true".into()) };
        let Some(size) = self.number.size() else { return Ok(()) };
        let room = self.storage.len() / size;
        if len > room {
            return refuse(format!("but its storage has {room} numbers; an expanded tensor is not read"));
        }
        let steps = shape.iter().zip(strides);
        let last = steps.into_iter().try_fold(self.offset, |last, (&size, &stride)| {
            last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        match last {
            Some(last) if last < room || len == 0 => Ok(()),
            _ => refuse(format!(
                "strides {strides:?} and offset {}, which pass the {room} numbers of its storage",
                self.offset
            )),
        }
    }

    /// Its numbers in the order of its axes, from the file's bytes. It was checked.
    pub fn values(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        let (Some(size), Some(len)) = (self.number.size(), self.len()) else { return Ok(Vec::new()) };
        let storage = &bytes[self.storage.clone()];
        // Along an axis of one element a stride means nothing, however large.
        let strides: Vec<usize> =
            self.shape.iter().zip(&self.strides).map(|(&size, &stride)| if size == 1 { 0 } else { stride }).collect();
        let mut values = memory::room(len, format_args!("tensor {}", self.name))?;
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..len {
            values.push(self.number.decode(&storage[at * size..(at + 1) * size]));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
        Ok(values)
    }
}

/// Strides of a tensor whose last axis is closest together.
pub(super) fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // Sizes that pass usize are refused by `check`.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Type and bytes of the elements of a storage's class.
pub(super) fn storage_type(class: &str) -> Option<(Number, usize)> {
    let other = |name: &str, size| Some((Number::Other(name.into()), size));
    match class {
        "HalfStorage" => Some((Number::F16, 2)),
        "BFloat16Storage" => Some((Number::Bf16, 2)),
        "FloatStorage" => Some((Number::F32, 4)),
        "DoubleStorage" => Some((Number::F64, 8)),
        "LongStorage" => other("I64", 8),
        "IntStorage" => other("I32", 4),
        "ShortStorage" => other("I16", 2),
        "CharStorage" => other("I8", 1),
        "ByteStorage" => other("U8", 1),
        "BoolStorage" => other("BOOL", 1),
        "ComplexFloatStorage" => other("C64", 8),
        "ComplexDoubleStorage" => other("C128", 16),
        "QInt8Storage" => other("QI8", 1),
        "QUInt8Storage" => other("QU8", 1),
        "QInt32Storage" => other("QI32", 4),
        _ => None,
    }
}
