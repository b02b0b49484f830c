//! Checksums of model files: a bit that is flipped anywhere is found or changes nothing, files without checksums load, and others read
//! the files as ever.

mod common;

use common::Draw;
use std::fs;
use std::path::Path;
use wgpu_lstm::{
    Checkpoint, Dense, Device, EarlyStopping, Error, Fit, Loss, Lstm, Model, Optimiser, Result, Schedule, Sequential,
};

/// A file with all kinds of tensors: weights, the optimiser's memory, carried states and weights of a callback.
fn write(path: &Path) {
    let mut draw = Draw::new(2);
    let (x, y) = (draw.array3((4, 6, 1)), draw.array3((4, 6, 1)));
    let layers = Sequential::new(1).add(Lstm::new(1).return_sequences(true)).add(Dense::new(1));
    let mut model = layers.build(&Device::cpu(), 1).unwrap();
    model.set_extra("lookback", &30).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.01, 0.9)).unwrap();
    let fit = Fit::new().batch_size(2).truncated(3).schedule(Schedule::cosine(9));
    let checkpoint = Checkpoint::every_steps(path, 3);
    model.fit(x.view(), y.view(), fit.epochs(2).callback(EarlyStopping::new(3)).callback(checkpoint)).unwrap();
}

fn load(path: &Path) -> Result<Model> {
    Model::load_training(path, &Device::cpu())
}

#[test]
fn every_bit_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let [path, flipped, again] = ["good", "flipped", "again"].map(|name| folder.path().join(name));
    write(&path);
    let good = fs::read(&path).unwrap();
    for prefix in ["optimiser.", "state.", "callback.0 lstm.weight_ih_l0"] {
        assert!(good.windows(prefix.len()).any(|window| window == prefix.as_bytes()), "{prefix}");
    }
    load(&path).unwrap().save_training(&again).unwrap();
    assert_eq!(fs::read(&again).unwrap(), good, "a file read and written is the same");
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let (mut found, mut tensors, mut same) = (0, 0, 0);
    // All bits were tried once and take minutes; every 13th is each of the eight in turn.
    for at in (0..8 * good.len()).step_by(13) {
        let mut bytes = good.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        fs::write(&flipped, &bytes).unwrap();
        match load(&flipped) {
            Err(error) => {
                assert!(matches!(error, Error::Format { .. }), "bit {at}: {error}");
                if at / 8 >= header {
                    let text = error.to_string();
                    assert!(text.contains("has tensor ") && text.contains("checksum"), "bit {at}: {text}");
                    tensors += 1;
                }
                found += 1;
            }
            Ok(model) => {
                model.save_training(&again).unwrap();
                assert_eq!(fs::read(&again).unwrap(), good, "bit {at} of byte {} was flipped unseen", at / 8);
                same += 1;
            }
        }
    }
    assert_eq!(tensors, (0..8 * good.len()).step_by(13).filter(|at| at / 8 >= header).count());
    println!("{found} flips found, {same} of no effect, in {} bytes", good.len());
    assert!(same < 8, "{same} flips, more than the entry's name has, were not found");
}

/// The same for files without the state of a training, and for weights alone.
#[test]
fn models_and_weights_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let build = |seed| Sequential::new(2).add(Lstm::new(3)).add(Dense::new(1)).build(&Device::cpu(), seed).unwrap();
    build(1).save(&path).unwrap();
    let mut other = build(2);
    other.load_weights(&path).unwrap();
    assert_eq!(other.parameters().unwrap(), build(1).parameters().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    for error in [Model::load(&path, &Device::cpu()).unwrap_err(), other.load_weights(&path).unwrap_err()] {
        assert!(error.to_string().contains("checksum"), "{error}");
    }
    assert_eq!(other.parameters().unwrap(), build(1).parameters().unwrap(), "nothing was changed");
}

#[test]
fn other_programs_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path);
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("dense.weight").unwrap().shape(), [1, 1]);
}
