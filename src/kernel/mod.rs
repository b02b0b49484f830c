//! The [`KERNELS`] table: every kernel with its shader, bindings, parameters, constants and CPU twin.
//!
//! A file here is a kernel family: parameter blocks, constants, rows, the elements that a call reads and writes, and the twins;
//! the shaders are in `shaders/`. The tests walk the table: they compare a row's bindings, constants and parameter struct with
//! the shader's reflection, and its twin with the shader's results.
//!
//! ```
//! use wgpu_lstm::{cell::CELLS, kernel::KERNELS};
//! for kernel in KERNELS {
//!     let bindings: Vec<&str> = kernel.bindings.iter().map(|binding| binding.name).collect();
//!     println!("{} binds {bindings:?}, {} parameters", kernel.name, kernel.params.len());
//!     assert!(kernel.source(CELLS.first()).contains("fn main"));
//! }
//! ```

mod additive;
mod batch_norm;
mod batch_product;
mod call;
mod carries;
mod declare;
mod dense;
mod dropout;
mod elementwise;
mod embed;
mod fused_step;
mod gather;
mod grid;
mod half;
mod head_product;
mod int8;
mod loss;
mod masked_softmax;
mod memory;
mod merge;
mod norm;
mod norm_state;
mod optimiser;
mod pool;
mod product;
mod ragged;
mod reduce;
mod region;
mod regularisation;
mod reset;
mod scan;
mod shares;
mod shift;
mod softmax;
mod stack_step;
mod window_pool;

pub use self::half::{HALF, Half};
pub use additive::{
    ADDITIVE_SCORES, ADDITIVE_SCORES_BACKWARD, AdditiveScores, AdditiveScoresBackward, AdditiveScoresBackwardConstants,
};
pub use batch_norm::{
    BATCH_MOMENTS, BATCH_NORM_BACKWARD, BATCH_NORM_FORWARD, BATCH_NORM_SUMS, BATCH_NORM_UPDATE, BatchMoments,
    BatchMomentsConstants, BatchNormBackward, BatchNormConstants, BatchNormForward, BatchNormSums, BatchNormUpdate,
};
pub use batch_product::{BATCH_MATMUL, BatchMatmul};
pub use call::Call;
pub use carries::Carries;
pub use declare::{Constant, Constants, NoConstants, Params};
pub use dense::{DENSE_BACKWARD, DENSE_FORWARD, DenseBackward, DenseConstants, DenseForward};
pub use dropout::{DROPOUT, Dropout};
pub use elementwise::{
    ELEMENTWISE, Elementwise, ElementwiseConstants, ElementwiseKind, MAXIMUM_BACKWARD, MaximumBackward,
};
pub use embed::{EMBED_BACKWARD, EMBED_FORWARD, EmbedBackward, EmbedForward};
pub(crate) use fused_step::fused_step_memory;
pub use fused_step::{FUSED_STEP, FUSED_STEP_HALF, FUSED_STEP_INT8, FusedStepConstants};
pub use gather::{GATHER, Gather};
pub use grid::{GRID_FORWARD, GRID_REPAIR};
pub(crate) use grid::{barrier_words, repair_memory};
pub use head_product::{HEAD_PRODUCT, HeadProduct};
pub use int8::{INT8, Int8};
pub use loss::{LOSS, Loss, LossConstants, LossKind};
pub use masked_softmax::{
    MASKED_SOFTMAX_BACKWARD, MASKED_SOFTMAX_FORWARD, MaskedSoftmaxBackward, MaskedSoftmaxConstants,
    MaskedSoftmaxForward,
};
pub use memory::{COPY, FILL, Fill, StridedCopy};
pub use merge::{MERGE_BACKWARD, MERGE_FORWARD, MergeBackward, MergeConstants, MergeForward, MergeKind};
pub use norm::{NORM_BACKWARD, NORM_FORWARD, NormBackward, NormBackwardConstants, NormForward, NormForwardConstants};
pub use norm_state::{
    NORM_STATE_BACKWARD, NORM_STATE_FORWARD, NormStateBackward, NormStateBackwardConstants, NormStateForward,
    NormStateForwardConstants,
};
pub(crate) use optimiser::HYPER;
pub use optimiser::{ADAM, Adam, SGD, Sgd};
pub use pool::{POOL_BACKWARD, POOL_FORWARD, PoolBackward, PoolConstants, PoolForward, PoolKind};
pub use product::{
    MATMUL, MATMUL_COOPERATIVE_8, MATMUL_COOPERATIVE_16, MATMUL_REGISTERS, MATMUL_SKINNY, MATMUL_SKINNY_DENSE, Matmul,
    MatmulConstants, MatmulCooperative8Constants, MatmulCooperative16Constants, MatmulRegistersConstants,
    MatmulSkinnyConstants, MatmulSkinnyDenseConstants,
};
pub use ragged::{CARRY, Carry, TRIM, Trim};
pub use reduce::{COLUMN_SUM, COLUMN_SUM_FEW, ColumnSum, REDUCE, Reduce};
pub use region::{Region, Touch};
pub use regularisation::{CLIP, Clip, MAX_NORM, MaxNorm, PENALTY, Penalty};
pub use reset::{RESET_BACKWARD, RESET_FORWARD, ResetBackward, ResetConstants, ResetForward};
pub(crate) use scan::Division;
pub use scan::{
    SCAN_BACKWARD, SCAN_BACKWARD_HALF, SCAN_FORWARD, SCAN_FORWARD_HALF, SEQUENCE_BACKWARD, SEQUENCE_BACKWARD_HALF,
    SEQUENCE_FORWARD, SEQUENCE_FORWARD_HALF, SEQUENCE_FORWARD_INT8, STEP_BACKWARD, STEP_BACKWARD_HALF, STEP_FORWARD,
    STEP_FORWARD_HALF, STEP_FORWARD_INT8, ScanBackward, ScanBackwardConstants, ScanForward, ScanForwardConstants,
};
pub(crate) use shares::Shares;
pub use shift::{RowShift, SHIFT, Shift, ShiftConstants, ShiftLimit, same_padding};
pub use softmax::{SOFTMAX_BACKWARD, SOFTMAX_FORWARD, SoftmaxBackward, SoftmaxConstants, SoftmaxForward};
pub use stack_step::{STACK_STEP, StackStepConstants};
pub use window_pool::{
    WINDOW_POOL_BACKWARD, WINDOW_POOL_FORWARD, WindowPoolBackward, WindowPoolConstants, WindowPoolForward,
    WindowPoolKind,
};

use crate::cell::CellSpec;
use crate::cpu::Args;
use crate::plan::StepWeights;
use crate::real::Real;

/// A kernel's use of a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Written, and possibly read.
    ReadWrite,
}

/// A storage buffer that a kernel binds; the uniform parameter block is always binding 0, these follow from 1.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Name in the shader.
    pub name: &'static str,
    /// Access by the kernel.
    pub access: Access,
}

/// Type of a field of a parameter block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Unsigned integer: sizes, offsets and flags.
    U32,
    /// Signed integer: strides, which may run backwards in time.
    I32,
    /// Real number.
    F32,
}

/// The CPU twin of a kernel, in f32 for use and in f64 for checking gradients.
#[derive(Clone, Copy)]
pub struct Twin {
    /// Runs the call on f32 buffers.
    pub f32: fn(&Call, &mut Args<f32>),
    /// Runs the call on f64 buffers.
    pub f64: fn(&Call, &mut Args<f64>),
}

/// A row of the table. No other crate can make one: GPUs run these shaders without checks of indices, relying on `touches`.
///
/// ```compile_fail
/// use wgpu_lstm::kernel::{FILL, Kernel};
/// let foreign = Kernel { name: "foreign", shader: "", touches: |_| vec![], ..FILL };
/// ```
#[non_exhaustive]
pub struct Kernel {
    /// Name in plans, logs and file names.
    pub name: &'static str,
    /// WGSL of `shaders/<name>.wgsl` and of the parts that it shares with its like, without the functions common to all kernels and
    /// the cell, which are put in front of it.
    pub shader: &'static str,
    /// True if a cell's source is put in front of the shader.
    pub takes_cell: bool,
    /// Extensions of WGSL that the shader needs; the scheduler takes such a kernel where [`Capabilities`](crate::Capabilities) have what
    /// they stand for.
    pub enables: &'static [&'static str],
    /// Form of the recurrent weights, as [`HALF`] and [`INT8`] make them.
    pub weights: StepWeights,
    /// Storage buffers in binding order (1, 2, ...).
    pub bindings: &'static [Binding],
    /// Fields of the parameter block, in order.
    pub params: &'static [(&'static str, Scalar)],
    /// `override` constants, in order.
    pub constants: &'static [&'static str],
    /// Threads per workgroup, as in the shader; 0 where the constant `THREADS` says how many.
    pub workgroup: [u32; 3],
    /// The CPU twin: the Rust function with the same effect.
    pub twin: Twin,
    /// Workgroups for a call.
    pub groups: fn(&Call) -> [u64; 3],
    /// Elements that a call reads and writes, per binding.
    pub touches: fn(&Call) -> Vec<Touch>,
    /// Floating point operations of a call.
    pub flops: fn(&Call) -> u64,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Kernel {
    /// The complete WGSL: extensions, common functions, the cell if the kernel takes one, and the kernel.
    pub fn source(&self, cell: Option<&CellSpec>) -> String {
        let cell = cell.filter(|_| self.takes_cell).map(CellSpec::source).unwrap_or_default();
        let enables: String = self.enables.iter().map(|extension| format!("enable {extension};\n")).collect();
        [
            enables.as_str(),
            include_str!("../../shaders/common/math.wgsl"),
            include_str!("../../shaders/common/activation.wgsl"),
            include_str!("../../shaders/common/indexing.wgsl"),
            include_str!("../../shaders/common/random.wgsl"),
            include_str!("../../shaders/common/total.wgsl"),
            match self.weights {
                StepWeights::F32 => include_str!("../../shaders/common/weights_f32.wgsl"),
                StepWeights::F16 => include_str!("../../shaders/common/weights_f16.wgsl"),
                StepWeights::Int8 => include_str!("../../shaders/common/weights_i8.wgsl"),
            },
            &cell,
            self.shader,
        ]
        .join("\n")
    }
}

/// The sizes of an axis of `n` indices split as (n / split, n % split).
fn split_axis(n: u32, split: u32) -> (u32, u32) {
    (n.div_ceil(split), n.min(split))
}

impl StepWeights {
    /// Elements of weights [D, terms, units] of four gates in this form, as rows and columns.
    pub(crate) fn elements(self, directions: u32, terms: u32, units: u32) -> [u32; 2] {
        match self {
            StepWeights::F32 => [directions * terms, 4 * units],
            StepWeights::F16 => [directions * terms, 2 * units],
            StepWeights::Int8 if terms == 0 => [0, 0],
            StepWeights::Int8 => [directions * (terms.div_ceil(4) + 1), 4 * units],
        }
    }

    /// The weights for the twins of kernels that read another form; `None` if it is f32. Only tests run such kernels on the CPU.
    pub(crate) fn in_f32<F: Real>(self, words: &[F], [directions, terms, units]: [usize; 3]) -> Option<Vec<F>> {
        match self {
            StepWeights::F32 => None,
            StepWeights::F16 => Some(half::widened(words)),
            StepWeights::Int8 => Some(int8::unpacked(words, directions, terms, units)),
        }
    }
}

/// Every kernel of the engine.
pub static KERNELS: &[&Kernel] = &[
    &MATMUL,
    &MATMUL_REGISTERS,
    &MATMUL_SKINNY,
    &MATMUL_SKINNY_DENSE,
    &MATMUL_COOPERATIVE_8,
    &MATMUL_COOPERATIVE_16,
    &BATCH_MATMUL,
    &SCAN_FORWARD,
    &SCAN_BACKWARD,
    &SCAN_FORWARD_HALF,
    &SCAN_BACKWARD_HALF,
    &STEP_FORWARD,
    &STEP_BACKWARD,
    &STEP_FORWARD_HALF,
    &STEP_BACKWARD_HALF,
    &SEQUENCE_FORWARD,
    &SEQUENCE_BACKWARD,
    &SEQUENCE_FORWARD_HALF,
    &SEQUENCE_BACKWARD_HALF,
    &FUSED_STEP,
    &FUSED_STEP_HALF,
    &STEP_FORWARD_INT8,
    &SEQUENCE_FORWARD_INT8,
    &FUSED_STEP_INT8,
    &STACK_STEP,
    &GRID_FORWARD,
    &GRID_REPAIR,
    &HEAD_PRODUCT,
    &HALF,
    &INT8,
    &DROPOUT,
    &TRIM,
    &POOL_FORWARD,
    &POOL_BACKWARD,
    &WINDOW_POOL_FORWARD,
    &WINDOW_POOL_BACKWARD,
    &SHIFT,
    &MERGE_FORWARD,
    &MERGE_BACKWARD,
    &NORM_FORWARD,
    &NORM_BACKWARD,
    &BATCH_MOMENTS,
    &BATCH_NORM_FORWARD,
    &BATCH_NORM_SUMS,
    &BATCH_NORM_BACKWARD,
    &BATCH_NORM_UPDATE,
    &NORM_STATE_FORWARD,
    &NORM_STATE_BACKWARD,
    &RESET_FORWARD,
    &RESET_BACKWARD,
    &CARRY,
    &EMBED_FORWARD,
    &EMBED_BACKWARD,
    &GATHER,
    &COPY,
    &FILL,
    &DENSE_FORWARD,
    &DENSE_BACKWARD,
    &SOFTMAX_FORWARD,
    &SOFTMAX_BACKWARD,
    &MASKED_SOFTMAX_FORWARD,
    &MASKED_SOFTMAX_BACKWARD,
    &ADDITIVE_SCORES,
    &ADDITIVE_SCORES_BACKWARD,
    &ELEMENTWISE,
    &MAXIMUM_BACKWARD,
    &COLUMN_SUM,
    &COLUMN_SUM_FEW,
    &LOSS,
    &REDUCE,
    &CLIP,
    &SGD,
    &ADAM,
    &PENALTY,
    &MAX_NORM,
];
