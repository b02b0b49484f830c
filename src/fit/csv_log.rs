//! Epochs as rows of a CSV file.

use super::{Callback, EpochEvent, Flow};
use crate::error::{Error, Result};
use crate::model::Model;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const HEADER: &str = "epoch,loss,validation_loss,learning_rate,seconds";

/// Writes each epoch's number, losses, learning rate (of its last step) and seconds since the fit began as a row of a CSV
/// file, at once; the validation loss is empty where there is none. Metrics ([`Fit::metric`](crate::Fit::metric)) are further columns. As
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
    /// The header of the file; `None` if nothing but that of a fit without metrics was written.
    header: Option<String>,
}

impl CsvLog {
    /// A new file; an older one is replaced when a fit begins that does not resume a run.
    pub fn new(path: impl Into<PathBuf>) -> CsvLog {
        CsvLog { path: path.into(), append: false, file: None, header: None }
    }

    /// Adds rows to the file, or makes one where there is none. A last row that was cut off is taken out; a file with other
    /// columns is refused. A device or a pipe gets the header and the rows.
    pub fn append(path: impl Into<PathBuf>) -> CsvLog {
        CsvLog { append: true, ..CsvLog::new(path) }
    }

    /// Opens the file for a fit that begins after `done` epochs; gives its header, too, if it has rows.
    fn open(&self, done: usize) -> Result<(File, Option<String>)> {
        // A device or a pipe has no rows to keep, and reading one might never end.
        let regular = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_file());
        let kept = match (done, self.append) {
            _ if !regular => Kept::default(),
            (0, false) => Kept::default(),
            (0, true) => whole_rows(&self.path, usize::MAX)?,
            (done, _) => whole_rows(&self.path, done)?,
        };
        let open = || {
            if kept.length > 0 {
                let file = File::options().append(true).open(&self.path)?;
                file.set_len(kept.length)?;
                return Ok((file, kept.header));
            }
            let mut file = File::create(&self.path)?;
            writeln!(file, "{HEADER}")?;
            Ok((file, None))
        };
        open().map_err(Error::file("write", &self.path))
    }
}

/// Part of a log that is kept.
#[derive(Default)]
struct Kept {
    /// In bytes.
    length: u64,
    /// Its header, if it has rows.
    header: Option<String>,
}

/// The columns of a log with these metrics.
fn header(metrics: &[(String, f64)]) -> String {
    let quoted = |(name, _): &(String, f64)| match name.contains([',', '"', '\n', '\r']) {
        true => format!(",\"{}\"", name.replace('"', "\"\"").replace(['\n', '\r'], " ")),
        false => format!(",{name}"),
    };
    std::iter::once(HEADER.to_string()).chain(metrics.iter().map(quoted)).collect()
}

/// Length in bytes of the complete rows of a log, without those at its end of epochs after `last`; 0 where not even its header is
/// complete.
fn whole_rows(path: &Path, last: usize) -> Result<Kept> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let header = text.lines().next().unwrap_or(HEADER);
    if !text.contains('\n') && HEADER.starts_with(header) {
        return Ok(Kept::default());
    }
    if header != HEADER && !header.starts_with(&format!("{HEADER},")) {
        return Err(Error::format(path, format!("begins with \"{header}\", a log of epochs with \"{HEADER}\"")));
    }
    let mut rows: Vec<&str> = text.split_inclusive('\n').filter(|row| row.ends_with('\n')).collect();
    let is_later =
        |row: &str| row.split(',').next().and_then(|epoch| epoch.parse().ok()).is_some_and(|epoch: usize| epoch > last);
    while rows.last().is_some_and(|row| is_later(row)) {
        rows.pop();
    }
    let kept = (rows.len() > 1 || header != HEADER).then(|| header.to_string());
    Ok(Kept { length: rows.iter().map(|row| row.len() as u64).sum(), header: kept })
}

impl Callback for CsvLog {
    fn on_begin(&mut self, model: &mut Model) -> Result<()> {
        let (file, header) = self.open(model.progress()?.epoch)?;
        (self.file, self.header) = (Some(file), header);
        Ok(())
    }

    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
        let EpochEvent { epoch, loss, validation_loss, learning_rate, seconds, .. } = event;
        let validation = validation_loss.map(|loss| loss.to_string()).unwrap_or_default();
        let Some(file) = &mut self.file else { return Ok(Flow::Continue) };
        let header = header(&event.metrics);
        let mut row = format!("{epoch},{loss},{validation},{learning_rate},{seconds:.3}");
        row.extend(event.metrics.iter().map(|(_, value)| format!(",{value}")));
        row.push('\n');
        match &self.header {
            None if event.metrics.is_empty() => {}
            None => {
                // The columns are known with the first row.
                row = format!("{header}\n{row}");
                if self.path.is_file() {
                    *file = File::create(&self.path).map_err(Error::file("write", &self.path))?;
                }
            }
            Some(known) if *known == header => {}
            Some(known) => {
                return Err(Error::format(&self.path, format!("has the columns \"{known}\", this fit \"{header}\"")));
            }
        }
        file.write_all(row.as_bytes()).map_err(Error::file("write", &self.path))?;
        self.header = Some(header);
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.file = None;
        Ok(())
    }
}
