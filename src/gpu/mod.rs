//! Everything that touches wgpu: adapters, the open device, buffers, pipelines and the executor.

mod adapter;
mod context;
mod grid;
mod guard;
#[cfg(not(target_arch = "wasm32"))]
mod poller;
mod program;
mod staging;
// Browsers have no such clock.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
mod timeline;
mod timestamps;

pub use adapter::{Adapter, AdapterKind, Backend, GpuOptions, Grid, Software, Tuning, adapters};
pub(crate) use context::{Context, GpuBuffer, Readback};
pub(crate) use program::{CopyAfter, Program};
pub(crate) use staging::Destination;
pub use timeline::Submission;
