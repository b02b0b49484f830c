//! Tensors of a device.

use crate::cpu::{self, Threads};
use crate::error::Result;
use crate::gpu::{self, Destination};
use crate::lock::{read, write};
use crate::memory;
use std::ops::Range;
use std::sync::Arc;

/// Numbers on a device that several plans share.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub len: u64,
    pub(super) storage: Storage,
}

#[derive(Clone, Debug)]
pub(super) enum Storage {
    Cpu(cpu::Shared<f32>),
    Gpu(Arc<gpu::Context>, gpu::GpuBuffer),
}

impl Tensor {
    /// Overwrites elements from `at`.
    pub fn write(&self, at: u64, values: &[f32]) {
        match &self.storage {
            Storage::Cpu(tensor) => write(tensor)[at as usize..][..values.len()].copy_from_slice(values),
            // A device that failed says so to whoever runs or reads next.
            Storage::Gpu(context, buffer) => drop(context.write(buffer, at, values)),
        }
    }

    /// Has `fill` write `len` elements from `at`; it may use the threads that it is told.
    pub fn write_with<R>(&self, at: u64, len: u64, fill: impl FnOnce(Destination<'_>, Threads) -> R) -> Result<R> {
        match &self.storage {
            Storage::Cpu(tensor) => {
                let own = &mut write(tensor)[at as usize..][..len as usize];
                Ok(fill(Destination::Host(own), Threads::AtMost(1)))
            }
            Storage::Gpu(context, buffer) => {
                context.upload(buffer, at, len, |to| fill(to, Threads::AtMost(*cpu::DEFAULT_THREADS)))
            }
        }
    }

    /// Sets all elements to 0.
    pub fn clear(&self) {
        const PART: usize = 1 << 16;
        match &self.storage {
            Storage::Cpu(tensor) => write(tensor).fill(0.0),
            Storage::Gpu(context, buffer) => {
                let zeros = vec![0.0; PART.min(self.len as usize)];
                for at in (0..self.len).step_by(PART) {
                    // As in `write`
                    drop(context.write(buffer, at, &zeros[..zeros.len().min((self.len - at) as usize)]));
                }
            }
        }
    }

    /// Reads elements of a range.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<f32>> {
        self.begin_read(range)?.numbers().await
    }

    /// Has elements of a range read as they are after everything that was run so far, to be waited for later.
    pub fn begin_read(&self, range: Range<u64>) -> Result<TensorReading> {
        Ok(TensorReading(match &self.storage {
            Storage::Cpu(tensor) => {
                let values = &read(tensor)[range.start as usize..range.end as usize];
                Numbers::Here(memory::copy(values, "a copy of a tensor")?)
            }
            Storage::Gpu(context, buffer) => {
                Numbers::Coming(context.clone(), context.begin_read(buffer, range.start, range.end - range.start)?)
            }
        }))
    }

    /// Reads everything.
    pub async fn read_all(&self) -> Result<Vec<f32>> {
        self.read(0..self.len).await
    }
}

/// Elements of a tensor that are read.
#[must_use]
pub(crate) struct TensorReading(Numbers);

enum Numbers {
    Here(Vec<f32>),
    Coming(Arc<gpu::Context>, gpu::Readback),
}

impl TensorReading {
    /// Waits for them.
    pub async fn numbers(self) -> Result<Vec<f32>> {
        match self.0 {
            Numbers::Here(values) => Ok(values),
            Numbers::Coming(context, readback) => readback.numbers(&context).await,
        }
    }
}
