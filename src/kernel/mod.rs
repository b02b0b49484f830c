//! The [`KERNELS`] table: every kernel with its shader, bindings, parameters, constants and CPU twin.
//!
//! To add a kernel: one WGSL file in `shaders/`, one twin in `src/cpu/`, one row here. The tests walk this table: a
//! row's bindings, constants and parameter struct are held against the shader's reflection, its twin against the
//! shader's results.
//!
//! ```
//! use wgpu_lstm::{cell::CELLS, kernel::KERNELS};
//! for kernel in KERNELS {
//!     let bindings: Vec<&str> = kernel.bindings.iter().map(|binding| binding.name).collect();
//!     println!("{} binds {bindings:?}, {} parameters", kernel.name, kernel.params.len());
//!     assert!(kernel.source(CELLS.first()).contains("fn main"));
//! }
//! ```

mod call;
pub mod params;
mod region;

pub use call::Call;
use params as p;
pub use region::{Region, Touch};

use crate::cell::CellSpec;
use crate::cpu::{self, Args};

/// How a kernel uses a storage buffer.
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
    /// How it is used.
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

/// A row of the table. No other crate can make one: GPUs run these shaders without checks of indices, by what `touches` says.
///
/// ```compile_fail
/// use wgpu_lstm::kernel::{FILL, Kernel};
/// let foreign = Kernel { name: "foreign", shader: "", touches: |_| vec![], ..FILL };
/// ```
#[non_exhaustive]
pub struct Kernel {
    /// Name in plans, logs and file names.
    pub name: &'static str,
    /// WGSL of `shaders/<name>.wgsl`, without what is put in front.
    pub shader: &'static str,
    /// Whether a cell's source stands in front of the shader.
    pub takes_cell: bool,
    /// Whether the recurrent weights are pairs of f16, as [`HALF`] makes them.
    pub half_weights: bool,
    /// Storage buffers in binding order (1, 2, ...).
    pub bindings: &'static [Binding],
    /// Fields of the parameter block, in order.
    pub params: &'static [(&'static str, Scalar)],
    /// `override` constants, in order.
    pub constants: &'static [&'static str],
    /// Threads per workgroup, as in the shader; 0 where the constant `THREADS` says how many.
    pub workgroup: [u32; 3],
    /// The Rust function that does the same.
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
    /// The complete WGSL: common functions, the cell where the kernel takes one, and the kernel.
    pub fn source(&self, cell: Option<&CellSpec>) -> String {
        let cell = cell.filter(|_| self.takes_cell).map(CellSpec::source);
        [
            include_str!("../../shaders/common/math.wgsl"),
            include_str!("../../shaders/common/activation.wgsl"),
            include_str!("../../shaders/common/indexing.wgsl"),
            include_str!("../../shaders/common/random.wgsl"),
            include_str!("../../shaders/common/total.wgsl"),
            if self.half_weights {
                include_str!("../../shaders/common/weights_f16.wgsl")
            } else {
                include_str!("../../shaders/common/weights_f32.wgsl")
            },
            &cell.unwrap_or_default(),
            self.shader,
        ]
        .join("\n")
    }
}

const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read }
}

const fn read_write(name: &'static str) -> Binding {
    Binding { name, access: Access::ReadWrite }
}

/// The twin has the kernel's name, unless the row names another's: a faster variant of a kernel shares its twin.
macro_rules! twin {
    ($name:ident) => {
        Twin { f32: cpu::$name::<f32>, f64: cpu::$name::<f64> }
    };
    ($name:ident $twin:ident) => {
        twin!($twin)
    };
}

/// The shader has the kernel's name, unless the row names another's.
macro_rules! shader {
    ($name:ident) => {
        include_str!(concat!("../../shaders/", stringify!($name), ".wgsl"))
    };
    ($name:ident $shader:ident) => {
        shader!($shader)
    };
}

macro_rules! kernels {
    ($($(#[$doc:meta])* $id:ident = $name:ident {
        params: $params:ty, bindings: $bindings:expr, constants: $constants:expr, workgroup: $workgroup:expr, cell: $cell:expr, $(half_weights of $shader:ident,)? $(twin: $twin:ident,)?
    })*) => {
        $($(#[$doc])*
        pub static $id: Kernel = Kernel {
            name: stringify!($name),
            shader: shader!($name $($shader)?),
            takes_cell: $cell,
            half_weights: !<[&str]>::is_empty(&[$(stringify!($shader))?]),
            bindings: $bindings,
            params: <$params>::FIELDS,
            constants: $constants,
            workgroup: $workgroup,
            twin: twin!($name $($twin)?),
            groups: |call| call.params::<$params>().groups(call),
            touches: |call| call.params::<$params>().touches(call),
            flops: |call| call.params::<$params>().flops(call),
        };)*

        /// Every kernel of the engine.
        pub static KERNELS: &[&Kernel] = &[$(&$id),*];
    };
}

kernels! {
    /// Matrix product with two-level row addressing, so that it reads sequences in either direction of time.
    MATMUL = matmul {
        params: p::Matmul,
        bindings: &[read("a"), read("b"), read_write("c")],
        constants: &[], workgroup: [16, 16, 1], cell: false,
    }
    /// The same product without workgroup memory, where sizes and strides are multiples of 4.
    MATMUL_REGISTERS = matmul_registers {
        params: p::Matmul,
        bindings: &[read("a"), read("b"), read_write("c")],
        constants: &["ROWS", "A_ALONG_K", "B_ALONG_N"], workgroup: [16, 4, 1], cell: false, twin: matmul,
    }
    /// Time steps of all directions: recurrent product, gates, activations and cell update.
    SCAN_FORWARD = scan_forward {
        params: p::ScanForward,
        bindings: &[
            read("xw"), read("r"), read("bias"), read_write("h"), read_write("c"), read_write("saved"), read("words"),
            read("mask"),
        ],
        constants: &["H", "K", "TRAIN", "DROP", "CARRIES", "KINDS", "ROWS", "UNITS", "SPAN", "THREADS", "TERMS", "HEADS"], workgroup: [0, 1, 1], cell: true,
    }
    /// Time steps backward: gradient through the recurrent product, then through the cell.
    SCAN_BACKWARD = scan_backward {
        params: p::ScanBackward,
        bindings: &[
            read("saved"), read("c"), read("dy"), read("rt"), read_write("dg"), read_write("sums"), read("words"),
            read("bias"),
        ],
        constants: &["H", "DROP", "CARRIES", "KINDS", "ROWS", "UNITS", "SPAN", "THREADS", "TERMS", "HEADS"], workgroup: [0, 1, 1], cell: true,
    }
    /// [`SCAN_FORWARD`] with recurrent weights in f16.
    SCAN_FORWARD_HALF = scan_forward_half {
        params: p::ScanForward,
        bindings: SCAN_FORWARD.bindings,
        constants: SCAN_FORWARD.constants, workgroup: [0, 1, 1], cell: true,
        half_weights of scan_forward, twin: scan_forward,
    }
    /// [`SCAN_BACKWARD`] with recurrent weights in f16.
    SCAN_BACKWARD_HALF = scan_backward_half {
        params: p::ScanBackward,
        bindings: SCAN_BACKWARD.bindings,
        constants: SCAN_BACKWARD.constants, workgroup: [0, 1, 1], cell: true,
        half_weights of scan_backward, twin: scan_backward,
    }
    /// Numbers rounded to f16, two to an element.
    HALF = half {
        params: p::Half,
        bindings: &[read("src"), read_write("dst")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Dropout: elements set to 0 by random bits, the others scaled.
    DROPOUT = dropout {
        params: p::Dropout,
        bindings: &[read("words"), read("src"), read_write("dst")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Copy of a sequence with zeros past each row's end.
    TRIM = trim {
        params: p::Trim,
        bindings: &[read("words"), read("src"), read_write("dst")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// One vector of each row's steps: the last, their mean or the largest.
    POOL_FORWARD = pool_forward {
        params: p::PoolForward,
        bindings: &[read("words"), read("x"), read_write("y"), read_write("at")],
        constants: &["KIND", "RAGGED"], workgroup: [256, 1, 1], cell: false,
    }
    /// Gradient of the steps of which one vector was taken.
    POOL_BACKWARD = pool_backward {
        params: p::PoolBackward,
        bindings: &[read("words"), read("dy"), read("at"), read_write("dx")],
        constants: &["KIND", "RAGGED"], workgroup: [256, 1, 1], cell: false,
    }
    /// The two directions as one: sum, product or mean.
    MERGE_FORWARD = merge_forward {
        params: p::MergeForward,
        bindings: &[read("x"), read_write("y")],
        constants: &["KIND"], workgroup: [256, 1, 1], cell: false,
    }
    /// Gradient of two directions that were merged.
    MERGE_BACKWARD = merge_backward {
        params: p::MergeBackward,
        bindings: &[read("x"), read("dy"), read_write("dx")],
        constants: &["KIND"], workgroup: [256, 1, 1], cell: false,
    }
    /// Layer normalisation of rows.
    NORM_FORWARD = norm_forward {
        params: p::NormForward,
        bindings: &[read("weight"), read("bias"), read("x"), read_write("y")],
        constants: &["BIAS", "ADD"], workgroup: [64, 1, 1], cell: false,
    }
    /// Gradient through layer normalisation.
    NORM_BACKWARD = norm_backward {
        params: p::NormBackward,
        bindings: &[read("weight"), read("x"), read("dy"), read_write("dx"), read_write("dweight")],
        constants: &["ADD"], workgroup: [64, 1, 1], cell: false,
    }
    /// The hidden state of a step whose cell state is normalised on its way there.
    NORM_STATE_FORWARD = norm_state_forward {
        params: p::NormStateForward,
        bindings: &[read("norm"), read_write("h"), read_write("c"), read("words")],
        constants: &["H", "TRAIN", "CARRIES", "KIND"], workgroup: [64, 1, 1], cell: false,
    }
    /// Gradients of the output gate and the cell state of such a step.
    NORM_STATE_BACKWARD = norm_state_backward {
        params: p::NormStateBackward,
        bindings: &[
            read("norm"), read("c"), read("saved"), read("dh"), read("words"), read_write("sums"), read_write("past"),
            read_write("out"),
        ],
        constants: &["H", "CARRIES", "KINDS"], workgroup: [64, 1, 1], cell: false,
    }
    /// A reset gate that acts on the hidden state before the recurrent product.
    RESET_FORWARD = reset_forward {
        params: p::ResetForward,
        bindings: &[read("rh"), read("bias"), read("h"), read_write("xw"), read_write("s")],
        constants: &["KIND"], workgroup: [256, 1, 1], cell: false,
    }
    /// Gradient through such a gate.
    RESET_BACKWARD = reset_backward {
        params: p::ResetBackward,
        bindings: &[
            read("ds"), read("saved"), read("h"), read_write("dg"), read_write("dr"), read_write("back"),
            read_write("sums"),
        ],
        constants: &["KIND"], workgroup: [256, 1, 1], cell: false,
    }
    /// States, or their gradients, of rows whose sequence does not hold a time.
    CARRY = carry {
        params: p::Carry,
        bindings: &[read("words"), read("src"), read_write("dst")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Rows of a table, by index.
    EMBED_FORWARD = embed_forward {
        params: p::EmbedForward,
        bindings: &[read("weight"), read("index"), read_write("y")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Gradient of a table's rows, by index.
    EMBED_BACKWARD = embed_backward {
        params: p::EmbedBackward,
        bindings: &[read("dy"), read("index"), read_write("dweight")],
        constants: &[], workgroup: [64, 1, 1], cell: false,
    }
    /// Strided copy or accumulation of a four-dimensional block.
    COPY = copy {
        params: p::Copy,
        bindings: &[read("src"), read_write("dst")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Sets a range to one value.
    FILL = fill {
        params: p::Fill,
        bindings: &[read_write("dst")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Bias and activation of a dense layer, in place.
    DENSE_FORWARD = dense_forward {
        params: p::DenseForward,
        bindings: &[read("bias"), read_write("y")],
        constants: &["ACTIVATION"], workgroup: [256, 1, 1], cell: false,
    }
    /// Gradient through a dense layer's activation, in place.
    DENSE_BACKWARD = dense_backward {
        params: p::DenseBackward,
        bindings: &[read("y"), read_write("dy")],
        constants: &["ACTIVATION"], workgroup: [256, 1, 1], cell: false,
    }
    /// Softmax of rows, or its logarithm, in place.
    SOFTMAX_FORWARD = softmax_forward {
        params: p::SoftmaxForward,
        bindings: &[read_write("y")],
        constants: &["LOG"], workgroup: [64, 1, 1], cell: false,
    }
    /// Gradient through softmax, or its logarithm, in place.
    SOFTMAX_BACKWARD = softmax_backward {
        params: p::SoftmaxBackward,
        bindings: &[read("y"), read_write("dy")],
        constants: &["LOG"], workgroup: [64, 1, 1], cell: false,
    }
    /// Sum over rows: the gradient of a bias.
    COLUMN_SUM = column_sum {
        params: p::ColumnSum,
        bindings: &[read("a"), read_write("sums")],
        constants: &[], workgroup: [16, 16, 1], cell: false,
    }
    /// Loss of every row and its gradient.
    LOSS = loss {
        params: p::Loss,
        bindings: &[
            read("prediction"), read("target_"), read("level"), read("row_weight"), read_write("gradient"),
            read_write("row_loss"),
        ],
        constants: &["KIND"], workgroup: [256, 1, 1], cell: false,
    }
    /// Sums, or sums of squares, of slices; run twice it sums anything in a fixed order.
    REDUCE = reduce {
        params: p::Reduce,
        bindings: &[read("values"), read_write("sums")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Factor that brings the gradients' norm to at most a maximum.
    CLIP = clip {
        params: p::Clip,
        bindings: &[read("squares"), read_write("scale")],
        constants: &[], workgroup: [1, 1, 1], cell: false,
    }
    /// Stochastic gradient descent with momentum, plain or Nesterov's.
    SGD = sgd {
        params: p::Sgd,
        bindings: &[read("hyper"), read("scale"), read("gradient"), read_write("weight"), read_write("velocity")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Adam and its kin: Nadam and RMSprop.
    ADAM = adam {
        params: p::Adam,
        bindings: &[read("hyper"), read("scale"), read("gradient"), read_write("weight"), read_write("m"), read_write("v")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Gradient of a penalty on weights, added.
    PENALTY = penalty {
        params: p::Penalty,
        bindings: &[read("weight"), read_write("gradient")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
    /// Bounds the norms of vectors of weights.
    MAX_NORM = max_norm {
        params: p::MaxNorm,
        bindings: &[read_write("weight")],
        constants: &[], workgroup: [256, 1, 1], cell: false,
    }
}
