//! Tuning: launches of the recurrence and of large products measured on the user's own device, and choices kept.
//!
//! A layer's pass has some hundred launches that compute the same: workgroups of other sizes, threads that share the terms of a
//! product or not, one dispatch a step or one for many. A product has some dozen: tiles, and workgroups that share sums. The
//! scheduler estimates each by a model of cost and takes the best ([`Tuning::Model`](crate::Tuning::Model), the default, which
//! measures nothing). With [`Tuning::Measure`](crate::Tuning::Measure), or by [`Model::tune`](crate::Model::tune), the best few by
//! the model are run on the device, and the fastest is kept, in memory and in a file. The same choices give the same bits.
//!
//! ```
//! use wgpu_lstm::{Device, GpuOptions, Software, Tuning};
//! let options = GpuOptions { software: Software::Fallback, tuning: Tuning::Measure, ..GpuOptions::default() };
//! let device = Device::gpu(&options).unwrap_or_else(|_| Device::cpu()); // which has no choice
//! ```
//!
//! The right device depends on the model, too: [`Device::fastest`](crate::Device::fastest) runs it on both.

#[cfg(not(target_arch = "wasm32"))]
mod fastest;
mod file;
mod measure;
mod report;
mod sample;
mod tunable;
mod tuner;

#[cfg(not(target_arch = "wasm32"))]
pub use fastest::Work;
pub(crate) use measure::Which;
pub use report::{LaunchTime, PassTuning, TuningReport};
pub(crate) use tuner::Tuner;
