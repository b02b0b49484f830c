//! Time series for training: windows, splits and scalers.
//!
//! ```
//! use ndarray::Array2;
//! use wgpu_lstm::data::{Scaler, Windows, chronological_split};
//!
//! let series = Array2::from_shape_fn((100, 2), |(t, f)| (t * (f + 1)) as f64); // [time, features], f64 or f32
//! let (train, test) = chronological_split(series.view(), 20)?;
//! let scaler = Scaler::standard(train)?; // fitted on the training part only
//! let train = scaler.transform(train)?; // f32 from here on
//! let windows = Windows::new(30, 7).target(&[0]).cut(train.view())?;
//! assert_eq!(windows.x.dim(), (44, 30, 2)); // [N, lookback, features]
//! assert_eq!(windows.y.dim(), (44, 7)); // [N, horizon · targets]
//! # let _ = test;
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod scaler;
mod windows;

pub use scaler::Scaler;
pub use windows::{Windowed, Windows, chronological_split};
