//! The crate's one error type.

use std::path::{Path, PathBuf};

/// Everything that can go wrong, with what was given, what was expected and where.
///
/// ```
/// use wgpu_lstm::{Device, Lstm};
/// let lstm = Lstm::new(4).build(&Device::cpu(), 3, 0)?;
/// let error = lstm.forward(ndarray::Array3::zeros((2, 7, 5)).view(), None).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "input has 5 features, the layer expects 3 (shape [B, T, I] = [2, 7, 5])"
/// );
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array's shape does not fit.
    #[error("{0}")]
    Shape(String),

    /// A setting is out of its range, or two settings exclude each other.
    #[error("{0}")]
    Config(String),

    /// NaN or infinity in an array where only finite numbers make sense.
    #[error("{what} holds {value} at {position}; only finite numbers can be used")]
    NotFinite {
        /// Which array.
        what: String,
        /// Where in it, with the names of the axes.
        position: String,
        /// The value found.
        value: f32,
    },

    /// The training loss stopped being a number.
    #[error(
        "the loss became {loss} at step {step} of epoch {epoch}; a lower learning rate, gradient clipping (clip_norm) \
         or scaled inputs usually help"
    )]
    Diverged {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Optimiser step within the epoch, counted from 1.
        step: usize,
        /// The loss read back.
        loss: f32,
    },

    /// No GPU adapter answers the request.
    #[error("no GPU adapter found: {reason}; {advice}")]
    NoAdapter {
        /// What was looked for and what there is.
        reason: String,
        /// What to do.
        advice: String,
    },

    /// The adapter exists but would not open.
    #[error("adapter \"{adapter}\" refused to open a device: {reason}; Device::cpu() runs everything without it")]
    DeviceRefused {
        /// Adapter name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },

    /// Something is larger than the device can bind or hold.
    #[error("{what} needs {needed} bytes, the device offers {available}; {advice}")]
    TooLarge {
        /// Which tensor, and its shape.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes the device offers for it.
        available: u64,
        /// What to do.
        advice: String,
    },

    /// Memory of the device or of the host that cannot be had.
    #[error("out of memory: {needed} bytes for {what} cannot be had; use smaller sizes or free memory")]
    OutOfMemory {
        /// What the memory is for.
        what: String,
        /// Bytes asked for; [`u64::MAX`] stands for more than can be counted.
        needed: u64,
    },

    /// The device failed while running: lost, reset, or refused by its driver.
    #[error("the device failed during {during}: {reason}")]
    DeviceFailed {
        /// What it was doing.
        during: String,
        /// The driver's words.
        reason: String,
    },

    /// A file could not be read or written.
    #[error("cannot {action} \"{}\": {cause}", path.display())]
    File {
        /// "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },

    /// A file was read but is not what it should be.
    #[error("\"{}\" {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        reason: String,
    },

    /// A plan breaks its own rules; this is a bug in this crate, never in the caller.
    #[error("internal error in the plan: {0}; please report it")]
    Plan(String),
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |cause| Error::File { action, path: path.to_owned(), cause }
    }

    /// The error of a file whose numbers or sizes caused this one; what a device caused stays as it is.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        match self {
            Error::Shape(_) | Error::Config(_) | Error::NotFinite { .. } => {
                Error::format(path, format!("does not fit: {self}"))
            }
            other => other,
        }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Error {
        Error::Format { path: path.to_owned(), reason: reason.into() }
    }
}
