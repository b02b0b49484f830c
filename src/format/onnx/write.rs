//! Models and layers as ONNX files.
use super::value::Value;
#[cfg(not(target_arch = "wasm32"))]
/// x
pub fn save() {}
#[cfg(not(target_arch = "wasm32"))]
/// x
pub fn save_layer() {}
