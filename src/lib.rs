//! LSTM inference and training on any GPU.
//!
//! The kernels are WGSL compute shaders, run through wgpu on Vulkan, Metal or DX12; each has a twin in Rust that
//! validates it in tests and runs where there is no GPU. The numbers are those of PyTorch and Keras.
//!
//! ```
//! use ndarray::array;
//! use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};
//!
//! # fn main() -> wgpu_lstm::Result<()> {
//! let device = Device::auto(); // the best GPU, else the CPU
//! let x = array![[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]], [[7.0], [8.0], [9.0]]]; // [N, T, I]
//! let y = array![[8.0], [9.0], [10.0]]; // [N, F]
//! let mut model = Sequential::new(1).add(Lstm::keras(10)).add(Dense::keras(1)).build(&device, 42)?;
//! model.compile(Loss::MeanSquaredError, Optimiser::adam_keras(1e-3))?;
//! let history = model.fit(x.view(), y.view(), Fit::new().epochs(100))?;
//! assert!(history.loss[99] < history.loss[0]);
//! println!("{}", model.predict(x.view())?);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Sequential`] and [`Model`]: build, fit, evaluate, predict, save and load.
//! - [`Lstm::build`] and [`LstmLayer`]: a bare LSTM with its states and all its gradients.
//! - [`Stream`]: stateful inference, step by step.
//! - [`metrics`]: scores of predictions.
//! - [`data`]: windows, splits and scalers for time series.
//! - [`format`](mod@format): files of PyTorch, Keras and ONNX, read and written.
//! - [`files`]: replacing a file so that the older one stays whole.
//! - [`plan::Plan`]: what the scheduler made of it, to print.
//! - [`tune`]: launches measured on the user's own device.
//!
//! Arrays are batch-first, [B, T, I]. Letters: T time steps, B batch, I input features, H hidden units, L layers, D
//! directions; gates in the order i, f, g, o.
#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("wgpu-lstm runs on little-endian processors: it writes the numbers of files as they lie in memory");

mod activation;
#[doc(hidden)]
pub mod cell;
#[doc(hidden)]
pub mod cpu;
pub mod data;
mod device;
mod error;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
mod fit;
pub mod format;
mod gpu;
#[doc(hidden)]
pub mod kernel;
mod layer;
mod lock;
mod memory;
pub mod metrics;
mod model;
#[doc(hidden)]
pub mod network;
pub mod plan;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod real;
#[doc(hidden)]
pub mod schedule;
mod simd;
mod train;
mod transfer;
pub mod tune;
mod wait;

pub use activation::Activation;
pub use cell::Cell;
pub use cpu::CpuWeights;
#[doc(hidden)]
pub use device::Machine;
pub use device::{CpuOptions, Device, Executable};
pub use error::{Cause, Error, Result, Unit};
pub use fit::{
    Callback, CallbackState, Checkpoint, CsvLog, EarlyStopping, EpochEvent, Fit, Flow, History, Reset, StepEvent,
    StopFlag, Stopped, TensorBoard, TimeLimit, Validation,
};
pub use gpu::{Adapter, AdapterKind, Backend, GpuOptions, Grid, Software, Submission, Tuning, adapters};
pub use layer::{
    Add, Attention, AttentionPool, AttentionScore, Average, BatchNorm, Bias, Concat, Conv1d, Dense, Dropout, Embedding,
    Gru, IndRnn, Init, Layer, LayerNorm, Lstm, Masking, Maximum, Merge, MinLstm, Multiply, Padding, Pool, Repeat, Rnn,
    SLstm, WindowPool, ZeroPad,
};
#[cfg(not(target_arch = "wasm32"))]
pub use model::{BareLayer, LayerGradients};
pub use model::{
    Decode, Decoder, Decoding, Evaluate, Gradients, Hypothesis, Inputs, IntoValues, LstmGradients, LstmLayer,
    LstmOutput, LstmState, Model, NamedArrays, Network, NodeBuilder, OtherShape, PartialLoad, Pass, PassOptions,
    Sequential, Stepper, Stream, StreamState, Targets, Value,
};
/// The crate of the arrays that functions here take and return. A program that has another version of it can use these types
/// by this path.
pub use ndarray;
pub use plan::{Capabilities, Choices, CooperativeMatrices, Matrices, StepWeights, Strategy};
pub use train::{
    Clip, Curve, Loss, Losses, Optimiser, Regulariser, Rule, Schedule, TimeCheckpoints, Update, WeightDecay,
};

/// The code of `docs/guide/`, run as documentation tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../docs/guide/background_fit.md")]
    mod background_fit {}
    #[doc = include_str!("../docs/guide/own_training.md")]
    mod own_training {}
    #[cfg(feature = "pytorch")]
    #[doc = include_str!("../docs/guide/pytorch_to_stream.md")]
    mod pytorch_to_stream {}
    #[doc = include_str!("../docs/guide/serving.md")]
    mod serving {}
    #[doc = include_str!("../docs/guide/sequence_to_sequence.md")]
    mod sequence_to_sequence {}
    #[cfg(feature = "pytorch")]
    #[doc = include_str!("../docs/guide/transfer_learning.md")]
    mod transfer_learning {}
}
