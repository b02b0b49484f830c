//! Logs of a fit: rows of CSV that go on after a break, and event files whose every record has its length and checksums.
//! tests/fixtures/check_tensorboard.py holds what these tests leave behind against TensorBoard's own reader.

mod common;

use common::Draw;
use ndarray::{Array2, s};
use std::fs;
use std::path::{Path, PathBuf};
use wgpu_lstm::{
    CsvLog, Dense, Device, Error, Fit, History, Loss, Lstm, Model, Optimiser, Schedule, Sequential, TensorBoard,
};

const HEADER: &str = "epoch,loss,validation_loss,learning_rate,seconds";

fn fit(fit: Fit) -> Result<History, Error> {
    let x = Draw::new(1).array3((20, 4, 2));
    let y = Array2::from_shape_fn((20, 1), |(n, _)| x.slice(s![n, .., 0]).sum());
    let mut model = Sequential::new(2).add(Lstm::new(3)).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    model.fit(x.view(), y.view(), fit.epochs(3).schedule(Schedule::exponential(0.5)))
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n') && text.starts_with(HEADER), "{text}");
    text.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect()
}

#[test]
fn csv_rows_go_on_after_a_break() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.csv");
    let history = fit(Fit::new().validation_split(0.2).callback(CsvLog::append(&path))).unwrap();
    let first = rows(&path);
    for (k, row) in first.iter().enumerate() {
        assert_eq!(row[0], (k + 1).to_string());
        assert_eq!(row[1].parse::<f32>().unwrap(), history.loss[k]);
        assert_eq!(row[2].parse::<f32>().unwrap(), history.validation_loss[k]);
        assert_eq!(row[3].parse::<f64>().unwrap(), history.learning_rate[k]);
    }
    // Cut off within the last row
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    fit(Fit::new().callback(CsvLog::append(&path))).unwrap();
    let all = rows(&path);
    assert_eq!(all.len(), 2 + 3);
    assert_eq!(all[..2], first[..2]);
    assert_eq!(all[4][2], "", "no validation");
    fit(Fit::new().callback(CsvLog::new(&path))).unwrap();
    assert_eq!(rows(&path).len(), 3);
}

#[test]
fn files_that_cannot_be_logs_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.csv");
    fs::write(&path, "date,temp_max\n2012-01-01,12.8\n").unwrap();
    let error = fit(Fit::new().callback(CsvLog::append(&path))).unwrap_err().to_string();
    assert!(error.contains("data.csv") && error.contains("date,temp_max") && error.contains(HEADER), "{error}");
    assert!(fs::read_to_string(&path).unwrap().contains("12.8"), "the file stays as it is");
    let missing = folder.path().join("missing/log.csv");
    let error = fit(Fit::new().callback(CsvLog::new(missing))).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("missing"), "{error}");
    let error = fit(Fit::new().callback(TensorBoard::new(&path))).unwrap_err().to_string();
    assert!(error.contains("cannot make") && error.contains("data.csv"), "{error}");
}

/// A run that is broken off after epoch 3 while its checkpoint is that of epoch 2: the logs are those of a run that was not.
#[test]
fn logs_of_resumed_runs_are_whole() {
    let x = Draw::new(1).array3((20, 4, 2));
    let y = Array2::from_shape_fn((20, 1), |(n, _)| x.slice(s![n, .., 0]).sum());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs-resumed");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let [path, log] = ["training.safetensors", "log.csv"].map(|name| folder.join(name));
    let fit = |epochs: usize| {
        let fit = Fit::new().epochs(epochs).validation_split(0.2).callback(TensorBoard::new(&folder));
        fit.callback(CsvLog::new(&log))
    };
    let mut model = Sequential::new(2).add(Lstm::new(3)).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    model.fit(x.view(), y.view(), fit(2)).unwrap();
    model.save_training(&path).unwrap();
    model.fit(x.view(), y.view(), fit(3).resume(true)).unwrap();
    let first = rows(&log);
    let mut resumed = Model::load_training(&path, &Device::cpu()).unwrap();
    resumed.fit(x.view(), y.view(), fit(4).resume(true)).unwrap();
    let all = rows(&log);
    assert_eq!(all.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!((&all[..2], &all[2][..4]), (&first[..2], &first[2][..4]));
    for part in ["train", "validation"] {
        let files = event_files(folder.join(part));
        assert_eq!(files.len(), 3);
        let records = records(&files[2]);
        // step = 3, session_log { status: START }
        assert!(records[1].ends_with(&[0x10, 3, 0x3a, 2, 0x08, 1]), "{:?}", records[1]);
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn only_a_fit_that_resumes_goes_on_with_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.csv");
    let (x, y) = (Draw::new(1).array3((20, 4, 2)), Array2::ones((20, 1)));
    let mut model = Sequential::new(2).add(Lstm::new(3)).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    for (epochs, resume, expected) in [(3, false, 3), (4, true, 4), (1, false, 1), (1, true, 1), (2, true, 2)] {
        let fit = Fit::new().epochs(epochs).resume(resume).callback(CsvLog::new(&path));
        model.fit(x.view(), y.view(), fit).unwrap();
        assert_eq!(rows(&path).len(), expected, "{epochs} {resume}");
    }
}

/// CRC-32C, bit by bit: polynomial 0x1edc6f41, reflected.
fn checksum(bytes: &[u8]) -> u32 {
    let turn = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let crc = !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ byte as u32, turn));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    // RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 0x8a9136aa
    let crc = checksum(&[0; 32]).wrapping_sub(0xa282_ead8).rotate_left(15);
    assert_eq!(crc, 0x8a91_36aa);
}

/// The records of an event file.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut records) = (0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(at + 8), checksum(&bytes[at..at + 8]));
        let data = &bytes[at + 12..][..length];
        assert_eq!(word(at + 12 + length), checksum(data));
        records.push(data.to_vec());
        at += 16 + length;
    }
    records
}

fn event_files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn event_files_are_framed() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs");
    let _ = fs::remove_dir_all(&folder);
    let log = || CsvLog::new(folder.join("train/log.csv"));
    let history = fit(Fit::new().validation_split(0.2).callback(TensorBoard::new(&folder)).callback(log())).unwrap();
    fs::rename(folder.join("train/log.csv"), folder.join("log.csv")).unwrap();
    let [train, validation] = ["train", "validation"].map(|part| event_files(folder.join(part)));
    assert_eq!((train.len(), validation.len()), (1, 1));
    for (file, tags) in [(&train[0], &["epoch_loss", "epoch_learning_rate"][..]), (&validation[0], &["epoch_loss"])] {
        let records = records(file);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert_eq!(records.len(), 1 + 3 * tags.len());
        for (k, record) in records[1..].iter().enumerate() {
            let (epoch, tag) = (k / tags.len(), tags[k % tags.len()]);
            assert_eq!(record[0], 0x09, "wall time");
            assert_eq!(record[9..11], [0x10, epoch as u8 + 1], "step");
            let value = if tag == "epoch_learning_rate" {
                history.learning_rate[epoch] as f32
            } else if file == &train[0] {
                history.loss[epoch]
            } else {
                history.validation_loss[epoch]
            };
            let own = [tag.as_bytes(), &[0x15], &value.to_le_bytes()].concat();
            assert!(record.ends_with(&own), "{record:?} does not end with {own:?}");
        }
    }
    // A second fit adds a file and leaves the first one.
    let before = fs::read(&train[0]).unwrap();
    let again = tempfile::tempdir().unwrap();
    for fits in 1..=2 {
        fit(Fit::new().callback(TensorBoard::new(again.path()))).unwrap();
        assert_eq!(event_files(again.path().join("train")).len(), fits);
    }
    assert_eq!(fs::read(&train[0]).unwrap(), before);
}
