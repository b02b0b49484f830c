//! The CPU executor and the twins of all kernels.
//!
//! A twin has its kernel's name and does the same to the same buffers. All are generic over the number type: f32 is
//! what runs, f64 lets the tests hold whole networks' gradients against central differences.

mod buffer;
mod dense;
mod loss;
mod machine;
mod memory;
mod norm;
mod norm_state;
mod optimiser;
mod panels;
mod pool;
mod product;
mod recurrence;
mod reduce;
mod reset;
mod rows;
mod workers;

pub use buffer::Buffer;
pub use dense::{dense_backward, dense_forward, softmax_backward, softmax_forward};
pub use loss::loss;
pub(crate) use machine::lock;
pub use machine::{Machine, Shared};
pub use memory::{copy, fill, half};
pub use norm::{embed_backward, embed_forward, norm_backward, norm_forward};
pub use norm_state::{norm_state_backward, norm_state_forward};
pub use optimiser::{adam, clip, max_norm, penalty, sgd};
pub use pool::{merge_backward, merge_forward, pool_backward, pool_forward};
pub use product::matmul;
pub use recurrence::{scan_backward, scan_forward};
pub use reduce::{column_sum, reduce};
pub use reset::{reset_backward, reset_forward};
pub use rows::{carry, dropout, trim};
pub use workers::Team;

use crate::cell::{BackwardRowFn, CellSpec, ForwardRowFn};
use crate::error::Error;
use crate::kernel::{Call, Kernel};
use crate::real::Real;
use buffer::Packed;
use panels::Matrices;

/// Picks the functions of the cells' and the kernels' tables for a number type.
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

/// The buffers of a call, in binding order, and room for intermediate results.
pub struct Args<'a, F> {
    /// One per binding.
    pub buffers: &'a mut [Buffer<F>],
    /// Which of them are weights, whose packed form is kept.
    pub weights: &'a [bool],
    /// Grows to what a twin needs and is reused, so that no step allocates.
    pub scratch: &'a mut Vec<F>,
    /// Set by a twin that cannot have the scratch space that it needs; it then leaves its buffers as they are.
    pub lacking: &'a mut Option<Error>,
    /// The threads that the run has.
    pub team: &'a Team,
}

impl<F: Real> Args<'_, F> {
    /// Makes the scratch space as large as [`Args::parts`] is about to be asked for; false, with the reason in `lacking`, where
    /// there is no memory for it.
    fn reserve(&mut self, scratch: usize) -> bool {
        if self.scratch.len() < scratch {
            // What it holds is of no use, so that it need not be there twice.
            self.scratch.clear();
            match crate::memory::reserve(self.scratch, scratch, "intermediate results") {
                Ok(()) => self.scratch.resize(scratch, F::zero()),
                Err(error) => *self.lacking = Some(error),
            }
        }
        self.scratch.len() >= scratch
    }

    /// The buffers as an array to take apart, and the scratch space at the asked size.
    fn parts<const N: usize>(&mut self, scratch: usize) -> ([&mut [F]; N], &mut [F]) {
        if self.scratch.len() < scratch {
            self.scratch.resize(scratch, F::zero());
        }
        let mut buffers = self.buffers.iter_mut();
        let parts = std::array::from_fn(|_| {
            // The executor hands over as many buffers as the kernel's row has bindings.
            buffers.next().expect("as many buffers as bindings").values.as_mut_slice()
        });
        (parts, &mut self.scratch[..scratch])
    }

    /// Packs matrices that a binding holds, if they are weights and `rows` rows more make it worth it, and takes the panels
    /// out; [`Args::put_back`] takes them again.
    fn take_packed(&mut self, binding: usize, matrices: Matrices, rows: usize) -> Option<Packed<F>> {
        let Buffer { values, packed } = &mut self.buffers[binding];
        self.weights[binding].then(|| packed.panels(self.team, values, matrices, rows))??;
        Some(std::mem::take(packed))
    }

    /// Keeps panels for the next call.
    fn put_back(&mut self, binding: usize, packed: Option<Packed<F>>) {
        if let Some(packed) = packed {
            self.buffers[binding].packed = packed;
        }
    }
}
