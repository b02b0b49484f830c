//! Epochs as rows of a CSV file.

use super::{Callback, EpochEvent, Flow};
use crate::error::{Error, Result};
use crate::model::Model;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const HEADER: &str = "epoch,loss,validation_loss,learning_rate,seconds";

/// Writes each epoch's number, losses, learning rate (of its last step) and seconds since the fit began as a row of a CSV
/// file, at once; the validation loss is empty where there is none. As
/// [Keras's CSVLogger](https://keras.io/api/callbacks/csv_logger/).
///
/// A resumed fit goes on with the file: rows at its end of epochs that the run has not done yet, which were written between the last
/// checkpoint and the break, are taken out, and then come again.
///
/// ```
/// use wgpu_lstm::{CsvLog, Fit};
/// let fit = Fit::new().callback(CsvLog::new("training.csv")); // replaces an older file
/// let fit = Fit::new().callback(CsvLog::append("training.csv")); // for a run that goes on
/// ```
#[derive(Debug)]
pub struct CsvLog {
    path: PathBuf,
    append: bool,
    file: Option<File>,
}

impl CsvLog {
    /// A new file; an older one is replaced when a fit begins that does not resume a run.
    pub fn new(path: impl Into<PathBuf>) -> CsvLog {
        CsvLog { path: path.into(), append: false, file: None }
    }

    /// Adds rows to the file, or makes one where there is none. A last row that was cut off is taken out; a file with other
    /// columns is refused. A device or a pipe gets the header and the rows.
    pub fn append(path: impl Into<PathBuf>) -> CsvLog {
        CsvLog { append: true, ..CsvLog::new(path) }
    }

    /// Opens the file for a fit that begins after `done` epochs.
    fn open(&self, done: usize) -> Result<File> {
        // A device or a pipe has no rows to keep, and reading one might never end.
        let regular = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_file());
        let kept = match (done, self.append) {
            _ if !regular => 0,
            (0, false) => 0,
            (0, true) => whole_rows(&self.path, usize::MAX)?,
            (done, _) => whole_rows(&self.path, done)?,
        };
        let open = || {
            if kept > 0 {
                let file = File::options().append(true).open(&self.path)?;
                file.set_len(kept)?;
                return Ok(file);
            }
            let mut file = File::create(&self.path)?;
            writeln!(file, "{HEADER}")?;
            Ok(file)
        };
        open().map_err(Error::file("write", &self.path))
    }
}

/// Length in bytes of the complete rows of a log, without those at its end of epochs after `last`; 0 where not even its header is
/// complete.
fn whole_rows(path: &Path, last: usize) -> Result<u64> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let header = text.lines().next().unwrap_or(HEADER);
    if !text.contains('\n') && HEADER.starts_with(header) {
        return Ok(0);
    }
    if header != HEADER {
        return Err(Error::format(path, format!("begins with \"{header}\", a log of epochs with \"{HEADER}\"")));
    }
    let mut rows: Vec<&str> = text.split_inclusive('\n').filter(|row| row.ends_with('\n')).collect();
    let is_later =
        |row: &str| row.split(',').next().and_then(|epoch| epoch.parse().ok()).is_some_and(|epoch: usize| epoch > last);
    while rows.last().is_some_and(|row| is_later(row)) {
        rows.pop();
    }
    Ok(rows.iter().map(|row| row.len() as u64).sum())
}

impl Callback for CsvLog {
    fn on_begin(&mut self, model: &mut Model) -> Result<()> {
        self.file = Some(self.open(model.progress()?.epoch)?);
        Ok(())
    }

    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
        let EpochEvent { epoch, loss, validation_loss, learning_rate, seconds, .. } = event;
        let validation = validation_loss.map(|loss| loss.to_string()).unwrap_or_default();
        if let Some(file) = &mut self.file {
            let row = format!("{epoch},{loss},{validation},{learning_rate},{seconds:.3}\n");
            file.write_all(row.as_bytes()).map_err(Error::file("write", &self.path))?;
        }
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.file = None;
        Ok(())
    }
}
