//! The crate's own files: safetensors with PyTorch's names of tensors, and the model's configuration as JSON in the metadata.

#[cfg(not(target_arch = "wasm32"))]
mod checksum;
#[cfg(not(target_arch = "wasm32"))]
mod file;
pub(super) mod safetensors;
#[cfg(not(target_arch = "wasm32"))]
mod training;

/// The metadata's key.
pub(super) const KEY: &str = "wgpu_lstm";
