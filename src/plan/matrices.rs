//! Matrix units of GPUs, and their use.

/// Use of a GPU's matrix units (NVIDIA's tensor cores, AMD's WMMA, Apple's simdgroup matrices) for large products of forward passes:
/// W·x of all time steps, dense layers, convolutions.
///
/// ```
/// use wgpu_lstm::{GpuOptions, Matrices};
/// let options = GpuOptions { matrices: Matrices::Cooperative, ..GpuOptions::default() };
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Matrices {
    /// None: products are in f32.
    #[default]
    Plain,
    /// Cooperative matrices, where the adapter has them ([`Adapter::cooperative`](crate::Adapter::cooperative)) and the scheduler
    /// estimates or measures that they are faster. Activations and weights are rounded to f16 in these products, sums are in f32: each term
    /// is off by up to 2⁻¹⁰ of its size, and values beyond 65,504 become infinite. Recurrent products, gradients, states and what is
    /// stored stay f32, so training needs no scaling of the loss. Other adapters run as by [`Matrices::Plain`], and the log says so.
    /// wgpu calls its interface to them experimental.
    Cooperative,
}

/// Cooperative matrices of a device: A and B in f16, sums in f32.
///
/// ```
/// use wgpu_lstm::{Capabilities, CooperativeMatrices};
/// let matrices = CooperativeMatrices { side: 16, subgroup_threads: 32 };
/// let capabilities = Capabilities { cooperative: Some(matrices), ..Capabilities::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CooperativeMatrices {
    /// Rows, columns and terms of a matrix: 8 or 16.
    pub side: u32,
    /// Threads of the device's largest subgroups, which share a matrix.
    pub subgroup_threads: u32,
}
