//! Model files.

pub(crate) mod safetensors;
