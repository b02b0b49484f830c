//! Model files of others: read, run, lifted from and written.

#[cfg(feature = "onnx")]
pub mod onnx;
pub(crate) mod safetensors;
