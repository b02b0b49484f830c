//! Numbers as files hold them.

use half::{bf16, f16};

/// A type of number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F16,
    Bf16,
    F32,
    F64,
    /// One that is not read, by its format's name.
    Other(String),
}

impl Number {
    /// Bytes of one; None where it is not read.
    pub fn size(&self) -> Option<usize> {
        match self {
            Number::F16 | Number::Bf16 => Some(2),
            Number::F32 => Some(4),
            Number::F64 => Some(8),
            Number::Other(_) => None,
        }
    }

    /// The little-endian number in `bytes`, which are as many as one has; 0 for what is not read.
    pub fn decode(&self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Number::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (Number::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            (Number::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Number::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => 0.0,
        }
    }

    /// The same without rounding of F64.
    #[cfg(feature = "pytorch")]
    pub fn decode_f64(&self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (Number::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => self.decode(bytes).into(),
        }
    }

    /// The rest of a sentence on a type that is not read.
    pub fn refusal(&self) -> String {
        format!("has type {self}; F16, BF16, F32 and F64 are read")
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Number::F16 => "F16",
            Number::Bf16 => "BF16",
            Number::F32 => "F32",
            Number::F64 => "F64",
            Number::Other(name) => name,
        })
    }
}

impl From<safetensors::Dtype> for Number {
    fn from(kind: safetensors::Dtype) -> Number {
        match kind {
            safetensors::Dtype::F16 => Number::F16,
            safetensors::Dtype::BF16 => Number::Bf16,
            safetensors::Dtype::F32 => Number::F32,
            safetensors::Dtype::F64 => Number::F64,
            other => Number::Other(format!("{other:?}")),
        }
    }
}
