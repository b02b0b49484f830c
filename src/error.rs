//! The crate's one error type.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the graphics driver or a parser that is behind an [`Error`]; it derefs to that.
// No alias: an `Arc` of an error is an error itself, and `source()` would give the `Arc`, which nobody can downcast.
#[derive(Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Cause {
        Cause(Arc::new(error))
    }
}

impl Deref for Cause {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Everything that can go wrong, with what was given, what was expected and where.
///
/// A message is complete in this crate's words: it gives the reason also where only `{error}` is printed. The words of the
/// system, the driver or a parser are in [`source()`](std::error::Error::source) and not in the message, so that printing
/// the chain (anyhow's `{:#}`) says nothing twice.
///
/// ```
/// use wgpu_lstm::{Device, Lstm};
/// let lstm = Lstm::new(4).build(&Device::cpu(), 3, 0)?;
/// let error = lstm.forward(ndarray::Array3::zeros((2, 7, 5)).view(), None).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "input has 5 features, the layer expects 3 (shape [B, T, I] = [2, 7, 5])"
/// );
///
/// use std::error::Error as _;
/// let error = wgpu_lstm::Model::load("no such file", &Device::cpu()).unwrap_err();
/// assert_eq!(error.to_string(), "cannot read \"no such file\": there is no such file or folder");
/// assert!(error.source().unwrap().is::<std::io::Error>());
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
        /// Name of the array.
        what: String,
        /// Index of the value, with the names of the axes.
        position: String,
        /// The value found.
        value: f32,
    },

    /// Training diverged: the loss or the weights are no longer finite.
    #[error(
        "{} step {step} of epoch {epoch}; a lower learning rate, gradient clipping (clip_norm) or scaled inputs usually help",
        match loss.is_finite() {
            true => format!("the loss was {loss}, but weights became infinite or NaN in"),
            false => format!("the loss became {loss} at"),
        }
    )]
    Diverged {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Optimiser step within the epoch, counted from 1.
        step: usize,
        /// The loss read back. Finite where the weights were found not to be: the loss is taken before the step.
        loss: f32,
    },

    /// No GPU adapter answers the request.
    #[error("no GPU adapter found: {reason}; {advice}")]
    NoAdapter {
        /// The request, and the adapters that there are.
        reason: String,
        /// A remedy.
        advice: String,
    },

    /// The adapter exists but would not open.
    #[error("adapter \"{adapter}\" refused to open a device: {reason}; Device::cpu() runs everything without it")]
    DeviceRefused {
        /// Adapter name.
        adapter: String,
        /// Why.
        reason: String,
        /// The driver's error, where it was the driver that refused.
        #[source]
        cause: Option<Cause>,
    },

    /// Something is larger than the device can bind or hold.
    #[error("{what} needs {needed} {unit}, the device offers {available}; {advice}")]
    TooLarge {
        /// The tensor with its shape, or the dispatch.
        what: String,
        /// Number that is needed.
        needed: u64,
        /// Number that the device offers.
        available: u64,
        /// Unit of both numbers.
        unit: Unit,
        /// A remedy.
        advice: String,
    },

    /// Memory of the device or of the host that could not be allocated.
    #[error("out of memory: {needed} bytes for {what} could not be allocated; use smaller sizes or free memory")]
    OutOfMemory {
        /// Use of the memory.
        what: String,
        /// Bytes asked for; [`u64::MAX`] stands for more than can be counted.
        needed: u64,
        /// The error of wgpu.
        #[source]
        cause: Option<Cause>,
    },

    /// The device failed while running: lost, reset, or refused by its driver. The device stays failed, and everything that
    /// is on it is lost; a new [`Device`](crate::Device) may work in the same process.
    #[error("the device failed during {during}: {reason}; open a new device, or use Device::cpu()")]
    DeviceFailed {
        /// The operation that failed.
        during: String,
        /// Why.
        reason: String,
        /// The error of wgpu, where it gave one.
        #[source]
        cause: Option<Cause>,
    },

    /// A file could not be read or written.
    #[error("cannot {action} \"{}\": {}", path.display(), words(cause))]
    File {
        /// "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },

    /// A file was read but is not what it should be.
    #[error("\"{}\" {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The defect, and what was expected.
        reason: String,
        /// The error of the parser, where its words are not part of `reason`.
        #[source]
        cause: Option<Cause>,
    },

    /// A plan breaks its own rules; this is a bug in this crate, never in the caller.
    #[error("internal error in the plan: {0}; please report it")]
    Plan(String),
}

/// Unit of the numbers of [`Error::TooLarge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes of a buffer, or of all buffers of a plan.
    Bytes,
    /// Workgroups along one dimension of a dispatch.
    Workgroups,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Bytes => "bytes",
            Unit::Workgroups => "workgroups",
        })
    }
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of a system's error, in words. Kinds that say nothing are left to the error itself.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder".into(),
        ErrorKind::AlreadyExists => "it exists already".into(),
        ErrorKind::IsADirectory => "it is a folder".into(),
        ErrorKind::NotADirectory => "a part of its path is no folder".into(),
        kind => match kind.to_string().as_str() {
            "other error" | "uncategorized error" => error.to_string(),
            words => words.into(),
        },
    }
}

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
        Error::Format { path: path.to_owned(), reason: reason.into(), cause: None }
    }

    /// [`Error::format`] with the error of a parser, whose words `reason` does not repeat.
    pub(crate) fn format_because(
        path: &Path,
        reason: impl Into<String>,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::Format { path: path.to_owned(), reason: reason.into(), cause: Some(Cause::new(cause)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// A message has the system's words if they are the only reason; `source()` is there all the same.
    #[test]
    fn a_file_error_gives_its_reason_in_words() {
        let says = |cause: io::Error| Error::file("read", Path::new("x"))(cause).to_string();
        assert_eq!(says(ErrorKind::NotFound.into()), "cannot read \"x\": there is no such file or folder");
        assert_eq!(says(ErrorKind::PermissionDenied.into()), "cannot read \"x\": permission denied");
        assert_eq!(says(io::Error::other("the disk is gone")), "cannot read \"x\": the disk is gone");
        let uncategorized = io::Error::from_raw_os_error(5);
        assert_eq!(says(io::Error::from_raw_os_error(5)), format!("cannot read \"x\": {uncategorized}"));
    }
}
