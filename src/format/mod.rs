//! Model files: what others trained runs here, and what was trained here runs there.
//!
//! | module | reads | writes | feature |
//! |---|---|---|---|
//! | [`Model::save`](crate::Model::save), [`Model::load`](crate::Model::load) | the crate's own safetensors | the same | always there |
//! | `pytorch` | `.pt`, `.pth`, Lightning's `.ckpt`, `.safetensors` | `.safetensors` | `pytorch` |
//! | `keras` | `.keras`, `.weights.h5`, older `.h5` | `.keras` | `keras` |
//! | `onnx` | `.onnx` | `.onnx` | `onnx` |
//!
//! [`identify`] tells what a file is before a reader is chosen, also of formats that are not read here, and what to do with it.
//!
//! All features are on by default; without them the library needs no crate for other formats.
//!
//! Files are not trusted. Reading one executes nothing, allocates no more than a small multiple of the file's size (each module
//! says how much), and ends with a model or with an [`Error`](crate::Error) that names the tensor or layer and what was expected.

mod identify;
#[cfg(all(feature = "keras", not(target_arch = "wasm32")))]
pub mod keras;
pub(crate) mod number;
#[cfg(feature = "onnx")]
pub mod onnx;
pub(crate) mod own;
#[cfg(feature = "pytorch")]
pub mod pytorch;

#[allow(unused_imports)] // without files of others there may be none to check
pub(crate) use identify::check;
pub use identify::{FileType, Reader, identify, identify_bytes};
