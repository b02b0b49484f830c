//! One call of a kernel: its parameter block, its constants and its cell.

use super::{Constants, Kernel, Params, Touch};
use crate::cell::CellSpec;

/// A kernel with everything that a call fixes except its buffers.
#[derive(Clone, Debug)]
pub struct Call {
    /// The row of the table.
    pub kernel: &'static Kernel,
    /// The cell, where the kernel takes one.
    pub cell: Option<&'static CellSpec>,
    /// Values of the `override` constants, in the table's order.
    pub constants: Vec<u32>,
    /// The parameter block as 32-bit words.
    pub params: Vec<u32>,
}

impl Call {
    /// The parameter block as its struct.
    pub fn params<P: Params>(&self) -> P {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&self.params))
    }

    /// The constants as their struct. Panics on values that the struct cannot have; a plan's check rejects such calls.
    pub fn constants<C: Constants>(&self) -> C {
        C::of(&self.constants).expect("constants of the kernel")
    }

    /// Workgroups to launch.
    pub fn groups(&self) -> [u64; 3] {
        (self.kernel.groups)(self)
    }

    /// Elements read and written, per binding; empty for constants that the kernel does not have or that do not fit the
    /// parameters.
    pub fn touches(&self) -> Vec<Touch> {
        (self.kernel.touches)(self)
    }

    /// Floating point operations.
    pub fn flops(&self) -> u64 {
        (self.kernel.flops)(self)
    }
}
