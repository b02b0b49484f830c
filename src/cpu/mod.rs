//! The CPU executor, and the twins of the kernels that divide their work among threads: products and the recurrence.
//!
//! A twin has its kernel's name and the same effect on the same buffers. All are generic over the number type: plans run in
//! f32; tests use f64 to compare whole networks' gradients with central differences.

mod barrier;
mod buffer;
mod kept;
mod panels;
mod partition;
mod product;
mod recurrence;
mod share;
mod short;
mod team;
mod workers;

pub use buffer::{Buffer, Shared};
pub use kept::CpuWeights;
pub use partition::{Partition, partition};
pub(crate) use product::{batch_matmul, matmul};
pub(crate) use recurrence::{KeyAndLengths, fused_step, scan_backward, scan_forward, stack_step, time};
pub(crate) use team::WORTH_A_THREAD;
pub use team::{Team, Threads};
pub(crate) use workers::{DEFAULT_THREADS, MOST_THREADS, PROCESSORS};

use crate::cell::{BackwardRowFn, CellSpec, ForwardRowFn};
use crate::error::Error;
use crate::kernel::{Access, Binding, Call, Kernel};
use crate::real::Real;
use kept::Kept;
use panels::Matrices;
use std::sync::Arc;

/// Functions of the cells' and the kernels' tables for a number type.
pub trait Pick: Real {
    /// The cell's forward step for this type.
    fn cell_forward(cell: &CellSpec) -> ForwardRowFn<Self>;
    /// The cell's backward step for this type.
    fn cell_backward(cell: &CellSpec) -> BackwardRowFn<Self>;
    /// The kernel's twin for this type.
    fn twin(kernel: &Kernel) -> fn(&Call, &mut Args<Self>);
}

impl Pick for f32 {
    fn cell_forward(cell: &CellSpec) -> ForwardRowFn<f32> {
        cell.forward_row.0
    }
    fn cell_backward(cell: &CellSpec) -> BackwardRowFn<f32> {
        cell.backward_row.0
    }
    fn twin(kernel: &Kernel) -> fn(&Call, &mut Args<f32>) {
        kernel.twin.f32
    }
}

impl Pick for f64 {
    fn cell_forward(cell: &CellSpec) -> ForwardRowFn<f64> {
        cell.forward_row.1
    }
    fn cell_backward(cell: &CellSpec) -> BackwardRowFn<f64> {
        cell.backward_row.1
    }
    fn twin(kernel: &Kernel) -> fn(&Call, &mut Args<f64>) {
        kernel.twin.f64
    }
}

/// A buffer that a call binds.
#[derive(Debug)]
pub enum Bound<'a, F> {
    /// A buffer that is read, which other runs may read at the same time.
    Read(&'a Buffer<F>),
    /// A buffer that is written to, exclusive to this run.
    Write(&'a mut Buffer<F>),
}

impl<F> Bound<'_, F> {
    pub(crate) fn buffer(&self) -> &Buffer<F> {
        match self {
            Bound::Read(buffer) => buffer,
            Bound::Write(buffer) => buffer,
        }
    }

    /// The same for the time of a call.
    pub(crate) fn again(&mut self) -> Bound<'_, F> {
        match self {
            Bound::Read(buffer) => Bound::Read(buffer),
            Bound::Write(buffer) => Bound::Write(buffer),
        }
    }
}

/// The buffers of a call, in binding order, with scratch space for intermediate results.
pub struct Args<'a, 'b, F> {
    /// One per binding.
    pub buffers: &'a mut [Bound<'b, F>],
    /// The kernel's use of them.
    pub bindings: &'static [Binding],
    /// Form in which weights are kept packed; `None` for bindings of others.
    pub weights: &'a [Option<CpuWeights>],
    /// Scratch space; it grows as twins need it and is reused, so that no step allocates.
    pub scratch: &'a mut Vec<F>,
    /// Error of a twin without memory for its scratch space, which then leaves its buffers unchanged.
    pub lacking: &'a mut Option<Error>,
    /// Threads of the run.
    pub team: &'a Team,
}

impl<F: Real> Args<'_, '_, F> {
    /// Grows the scratch space to the size that [`Args::parts`] will need; returns false, with the error in `lacking`, if there is
    /// no memory for it.
    pub(crate) fn reserve(&mut self, scratch: usize) -> bool {
        if self.scratch.len() < scratch {
            // Cleared so that growing does not copy the old contents.
            self.scratch.clear();
            match crate::memory::reserve(self.scratch, scratch, "intermediate results") {
                Ok(()) => self.scratch.resize(scratch, F::zero()),
                Err(error) => *self.lacking = Some(error),
            }
        }
        self.scratch.len() >= scratch
    }

    /// The buffers that the kernel reads and those that it writes, as arrays in the order of bindings, and `scratch` elements of
    /// scratch space.
    pub(crate) fn parts<const R: usize, const W: usize>(
        &mut self,
        scratch: usize,
    ) -> ([&[F]; R], [&mut [F]; W], &mut [F]) {
        if self.scratch.len() < scratch {
            self.scratch.resize(scratch, F::zero());
        }
        let mut reads: [&[F]; R] = [&[]; R];
        let mut writes: [&mut [F]; W] = std::array::from_fn(|_| Default::default());
        let (mut to_read, mut to_write) = (reads.iter_mut(), writes.iter_mut());
        for (buffer, binding) in self.buffers.iter_mut().zip(self.bindings) {
            // The kernel's row says how many there are, and the executor locks for writing what a kernel writes to.
            match (binding.access, buffer) {
                (Access::Read, buffer) => *to_read.next().expect("a place for every binding read") = buffer.buffer(),
                (Access::ReadWrite, Bound::Write(buffer)) => {
                    *to_write.next().expect("a place for every binding written") = buffer;
                }
                (Access::ReadWrite, Bound::Read(_)) => panic!("binding {} is not held for writing", binding.name),
            }
        }
        (reads, writes, &mut self.scratch[..scratch])
    }

    /// The numbers of a binding.
    pub(crate) fn values(&self, binding: usize) -> &[F] {
        self.buffers[binding].buffer()
    }

    /// Panels of a binding's matrices, if they are weights and packing them pays for `rows` more rows.
    ///
    /// # Errors
    /// No memory for weights that are to be read in another form than they have, with the error in `lacking`.
    fn panels(&mut self, binding: usize, matrices: Matrices, rows: usize) -> Result<Option<Arc<Kept<F>>>, Lacking> {
        let Some(form) = self.weights[binding] else { return Ok(None) };
        self.buffers[binding].buffer().panels(self.team, matrices, form, rows).map_err(|error| {
            *self.lacking = Some(error);
            Lacking
        })
    }
}

/// A twin ends without memory, the error being in [`Args::lacking`].
struct Lacking;
