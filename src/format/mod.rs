//! Model files: what others trained runs here, and what was trained here runs there.

#[cfg(feature = "keras")]
pub mod keras;
mod place;
pub(crate) mod safetensors;
