//! Epochs for TensorBoard: TFRecords of `Event` messages, as
//! [TensorFlow](https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto) defines them.

use super::{Callback, EpochEvent, Flow};
use crate::error::{Error, Result};
use crate::model::Model;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes each epoch's losses and learning rate (of its last step) to event files that
/// [TensorBoard](https://www.tensorflow.org/tensorboard) shows, in the folders and under the names of
/// [Keras's callback](https://keras.io/api/callbacks/tensorboard/): `epoch_loss` and `epoch_learning_rate` in `train`,
/// `epoch_loss` in `validation`. Metrics ([`Fit::metric`](crate::Fit::metric)) are `epoch_<name>`, in `validation` where there are validation
/// data. Each fit adds files of its own; `tensorboard --logdir` takes the folder. The files of a resumed fit
/// begin with a `SessionLog` that has TensorBoard forget what older files say of epochs that the run has not done yet.
///
/// ```
/// use wgpu_lstm::{Fit, TensorBoard};
/// let fit = Fit::new().validation_split(0.1).callback(TensorBoard::new("logs/run-1"));
/// ```
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    /// Epochs done when the fit began.
    done: usize,
    train: Option<Events>,
    validation: Option<Events>,
}

impl TensorBoard {
    /// Event files in a folder, which is made where it is missing.
    pub fn new(folder: impl Into<PathBuf>) -> TensorBoard {
        TensorBoard { folder: folder.into(), done: 0, train: None, validation: None }
    }
}

impl Callback for TensorBoard {
    fn on_begin(&mut self, model: &mut Model) -> Result<()> {
        self.done = model.progress()?.epoch;
        (self.train, self.validation) = (Some(Events::create(&self.folder.join("train"), self.done)?), None);
        Ok(())
    }

    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
        if let Some(train) = &mut self.train {
            train.scalar("epoch_loss", event.epoch, event.loss)?;
            train.scalar("epoch_learning_rate", event.epoch, event.learning_rate as f32)?;
        }
        if let Some(loss) = event.validation_loss {
            let events = match self.validation.take() {
                Some(events) => events,
                None => Events::create(&self.folder.join("validation"), self.done)?,
            };
            self.validation.insert(events).scalar("epoch_loss", event.epoch, loss)?;
        }
        if let Some(events) =
            self.validation.as_mut().filter(|_| event.validation_loss.is_some()).or(self.train.as_mut())
        {
            for (name, value) in &event.metrics {
                events.scalar(&format!("epoch_{name}"), event.epoch, *value as f32)?;
            }
        }
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        (self.train, self.validation) = (None, None);
        Ok(())
    }
}

/// A file of events.
#[derive(Debug)]
struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Creates the file of a fit that begins after `done` epochs.
    fn create(folder: &Path, done: usize) -> Result<Events> {
        std::fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        let second = now() as u64;
        // Several fits may begin in one second.
        let mut number = 0;
        loop {
            let path = folder.join(format!("events.out.tfevents.{second:010}.{}.{number}", std::process::id()));
            match File::create_new(&path) {
                Ok(file) => {
                    let mut events = Events { path, file };
                    events.record(&event(&[0x1a], b"brain.Event:2"))?; // file_version = 3
                    if done > 0 {
                        // session_log = 7, whose status = 1 is START = 1
                        let fields = [&stepped(done + 1)[..], &[0x3a]].concat();
                        events.record(&event(&fields, &[0x08, 0x01]))?;
                    }
                    return Ok(events);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::file("write", &path)(error)),
            }
        }
    }

    fn scalar(&mut self, tag: &str, step: usize, value: f32) -> Result<()> {
        let mut summary = field(0x0a, tag.as_bytes()); // Value.tag = 1
        summary.push(0x15); // Value.simple_value = 2, a float
        summary.extend(value.to_le_bytes());
        let fields = [&stepped(step)[..], &[0x2a]].concat(); // summary = 5, whose value = 1
        self.record(&event(&fields, &field(0x0a, &summary)))
    }

    /// A TFRecord: length, its checksum, the bytes, their checksum.
    fn record(&mut self, bytes: &[u8]) -> Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let record = [&length[..], &masked(&length), bytes, &masked(bytes)].concat();
        self.file.write_all(&record).map_err(Error::file("write", &self.path))
    }
}

/// An `Event` of now: wall_time = 1, a double; then fields that end with the key of `content`.
fn event(fields: &[u8], content: &[u8]) -> Vec<u8> {
    [&[0x09], &now().to_le_bytes()[..], fields, &varint(content.len() as u64), content].concat()
}

/// An event's step = 2.
fn stepped(step: usize) -> Vec<u8> {
    [&[0x10], &varint(step as u64)[..]].concat()
}

/// A field of bytes: key, length, content.
fn field(key: u8, content: &[u8]) -> Vec<u8> {
    [&[key], &varint(content.len() as u64)[..], content].concat()
}

/// Seven bits to a byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The checksum that TFRecords hold.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
