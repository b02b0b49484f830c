//! Model files of Keras: read to Keras's own numbers, refused by name, written and read again, and damaged.
#![cfg(feature = "keras")]

mod common;

use common::{Draw, close, fixture};
use ndarray::{Array3, ArrayD, s};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use wgpu_lstm::format::keras;
use wgpu_lstm::{
    Activation, Bias, Cell, Dense, Device, Dropout, Embedding, Gru, IndRnn, LayerNorm, Lstm, Masking, Merge, MinLstm,
    Model, Pool, Rnn, SLstm, Sequential,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Keras computes in f32, too: 1e-5 is the rounding of a few dozen steps and layers, with a margin.
#[track_caller]
fn equal(what: &str, given: &ArrayD<f32>, expected: &ArrayD<f32>) {
    assert_eq!(given.shape(), expected.shape(), "{what}");
    close(what, given, expected, 1e-5, 1e-5);
}

/// All whole models of a folder, against what Keras predicts with them.
fn all_predict_the_same(folder_name: &str, device: &Device, expected: usize) {
    let truth = fixture(&format!("file_{folder_name}_expected.safetensors"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder().join(folder_name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_string();
        if file.contains("weights") {
            continue;
        }
        let name = file.split('.').next().unwrap();
        let model = keras::load(&path, device).unwrap();
        let y = model.predict(truth.array3(&format!("{name}.x")).view()).unwrap();
        // In masked steps, too
        equal(&file, &y, &truth.tensors[&format!("{name}.y")]);
        let contents = keras::describe(&path).unwrap();
        assert_eq!(contents.unsupported, [""; 0], "{file}");
        assert_eq!(contents.outputs.len(), 1, "{file}");
        count += 1;
    }
    assert_eq!(count, expected);
}

fn keras3_files_predict_what_keras_predicts(device: &Device) {
    all_predict_the_same("keras", device, 22);
}

fn keras2_files_predict_what_keras_predicts(device: &Device) {
    all_predict_the_same("keras2", device, 9);
}

fn simple_rnns_predict_what_keras_predicts(device: &Device) {
    all_predict_the_same("keras_rnn", device, 5);
}

on_both!(
    simple_rnns_predict_what_keras_predicts,
    keras3_files_predict_what_keras_predicts,
    keras2_files_predict_what_keras_predicts
);

/// The model of `make_files_keras.py` and `make_files_keras2.py` by that name, built here.
fn everything(keras3: bool) -> Sequential {
    let hard = Activation::KERAS2_HARD_SIGMOID;
    let gru = Gru::keras(3).bidirectional(true).return_sequences(true).input_dropout(0.1);
    let model = Sequential::new(4);
    if keras3 {
        return model
            .add(Lstm::keras(5).return_sequences(true))
            .add(gru)
            .add(Dense::keras(4).activation(Activation::Softsign))
            .add(LayerNorm::new().epsilon(1e-3))
            .add(Dropout::new(0.2))
            .add(Lstm::new(3)) // two biases
            .add(Dense::keras(6).activation(Activation::Relu))
            .add(Dense::keras(4).activation(Activation::Sigmoid))
            .add(Dense::keras(2));
    }
    model
        .add(Lstm::keras(5).return_sequences(true).gate_activation(hard))
        .add(gru)
        .add(Dense::keras(4).activation(hard))
        .add(LayerNorm::new().epsilon(1e-3))
        .add(Lstm::keras(3).go_backwards(true))
        .add(Dense::keras(2))
}

#[test]
fn weights_go_into_a_model_of_the_same_layers() {
    for (folder_name, files) in [
        ("keras", ["everything.weights.h5", "everything.keras", "everything.h5"]),
        ("keras2", ["everything_weights.h5", "everything.keras", "everything.h5"]),
    ] {
        let truth = fixture(&format!("file_{folder_name}_expected.safetensors"));
        for file in files {
            let mut model = everything(folder_name == "keras").build(&Device::cpu(), 3).unwrap();
            keras::load_weights(&mut model, folder().join(folder_name).join(file)).unwrap();
            let y = model.predict(truth.array3("everything.x").view()).unwrap();
            equal(file, &y, &truth.tensors["everything.y"]);
        }
    }
}

#[test]
fn weights_that_do_not_fit_change_nothing() {
    let path = folder().join("keras/everything.weights.h5");
    for layers in [
        Sequential::new(4).add(Lstm::keras(5)),
        Sequential::new(3).add(Lstm::keras(5).return_sequences(true)).add(Lstm::keras(3)),
        everything(true).add(Dense::keras(2)),
    ] {
        let mut model = layers.build(&Device::cpu(), 3).unwrap();
        let before = model.parameters().unwrap();
        let error = keras::load_weights(&mut model, &path).unwrap_err().to_string();
        assert!(error.contains("tensor"), "{error}");
        assert_eq!(model.parameters().unwrap(), before);
    }
    let legacy = folder().join("keras2/everything_weights.h5");
    let mut model = everything(false).add(Dense::keras(2)).build(&Device::cpu(), 3).unwrap();
    let error = keras::load_weights(&mut model, legacy).unwrap_err().to_string();
    assert!(error.contains("weights for 6 layers") && error.contains("7 that hold weights"), "{error}");
    let error = keras::load(&path, &Device::cpu()).unwrap_err().to_string();
    assert!(error.contains("without an architecture"), "{error}");
}

fn member(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut all = Vec::new();
    zip::ZipArchive::new(Cursor::new(bytes)).unwrap().by_name(name).unwrap().read_to_end(&mut all).unwrap();
    all
}

fn zipped(members: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A fixture with its configuration changed.
fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = std::fs::read(folder().join("keras").join(name)).unwrap();
    let mut config: Value = serde_json::from_slice(&member(&bytes, "config.json")).unwrap();
    edit(&mut config);
    let (metadata, weights) = (member(&bytes, "metadata.json"), member(&bytes, "model.weights.h5"));
    zipped(
        &[("metadata.json", &metadata), ("config.json", config.to_string().as_bytes()), ("model.weights.h5", &weights)],
        zip::CompressionMethod::Deflated,
    )
}

fn refusal(bytes: &[u8]) -> String {
    keras::from_bytes(bytes, &Device::cpu()).unwrap_err().to_string()
}

#[test]
fn an_edited_file_that_says_the_same_is_read() {
    let truth = fixture("file_keras_expected.safetensors");
    let as_list = |config: &mut Value| config["config"] = config["config"]["layers"].take(); // as before Keras 2.3
    for again in [edited("everything.keras", |_| ()), edited("everything.keras", as_list)] {
        let model = keras::from_bytes(&again, &Device::cpu()).unwrap();
        let y = model.predict(truth.array3("everything.x").view()).unwrap();
        equal("everything, edited", &y, &truth.tensors["everything.y"]);
    }
}

/// Options of layers of the fixtures, each with what its error must say.
#[test]
fn what_is_not_supported_is_refused_by_name() {
    let layer = |k: usize| format!("/config/layers/{k}");
    let option = |k: usize, key: &str| format!("/config/layers/{k}/config/{key}");
    let cases: Vec<(&str, String, Value, &[&str])> = vec![
        ("everything.keras", option(1, "return_state"), json!(true), &["LSTM", "enc", "return_state"]),
        ("everything.keras", option(1, "stateful"), json!(true), &["enc", "stateful"]),
        ("everything.keras", option(1, "activation"), json!("gelu"), &["enc", "activation", "gelu"]),
        ("everything.keras", option(1, "activation"), json!("softmax"), &["lstm", "Softmax"]),
        ("everything.keras", option(1, "recurrent_activation"), json!("swish"), &["recurrent_activation", "swish"]),
        ("everything.keras", option(1, "dtype"), json!("mixed_float16"), &["enc", "mixed_float16"]),
        ("everything.keras", option(1, "dtype/config/name"), json!("bfloat16"), &["enc", "bfloat16"]),
        ("everything.keras", option(1, "units"), json!(-3), &["enc", "units", "-3"]),
        ("everything.keras", option(1, "units"), json!(1e300), &["enc", "units"]),
        ("everything.keras", option(1, "units"), json!(u64::MAX), &["enc", "units"]),
        ("everything.keras", option(1, "units"), json!(200_000_000), &["lstm"]),
        ("everything.keras", option(1, "use_bias"), json!("yes"), &["enc", "use_bias"]),
        ("everything.keras", option(1, "dropout"), json!(1.5), &["dropout", "1.5"]),
        ("everything.keras", option(1, "invented"), json!(7), &["enc", "invented"]),
        ("everything.keras", option(1, "return_sequences"), json!(false), &["Bidirectional", "sequences [B, T, F]"]),
        ("everything.keras", layer(1) + "/registered_name", json!("mine>Cell"), &["mine>Cell"]),
        ("everything.keras", layer(1) + "/class_name", json!("ConvLSTM1D"), &["ConvLSTM1D", "not supported"]),
        ("everything.keras", layer(5) + "/class_name", json!("SpatialDropout1D"), &["SpatialDropout1D"]),
        ("everything.keras", layer(4) + "/class_name", json!("Flatten"), &["Flatten"]),
        ("everything.keras", layer(10) + "/class_name", json!("Lambda"), &["Lambda"]),
        ("everything.keras", option(2, "merge_mode"), Value::Null, &["Bidirectional", "merge_mode", "None"]),
        ("everything.keras", option(2, "merge_mode"), json!("max"), &["merge_mode", "max"]),
        ("everything.keras", option(2, "layer/class_name"), json!("SimpleRNN"), &["SimpleRNN", "recurrent_activation"]),
        (
            "everything.keras",
            option(2, "layer/class_name"),
            json!("ConvLSTM1D"),
            &["forward ConvLSTM1D", "SimpleRNN are"],
        ),
        ("everything.keras", option(2, "layer/config/go_backwards"), json!(true), &["forward", "go_backwards"]),
        ("everything.keras", option(2, "backward_layer/config/units"), json!(4), &["backward", "differs"]),
        ("everything.keras", option(3, "layer/class_name"), json!("LSTM"), &["TimeDistributed", "LSTM"]),
        ("everything.keras", option(4, "axis"), json!([1]), &["LayerNormalization", "axis"]),
        ("everything.keras", option(4, "rms_scaling"), json!(true), &["rms_scaling"]),
        ("everything.keras", option(4, "epsilon"), json!(-1.0), &["epsilon"]),
        ("everything.keras", option(5, "noise_shape"), json!([1, 2]), &["Dropout", "noise_shape"]),
        ("everything.keras", option(8, "lora_rank"), json!(4), &["lora_rank"]),
        ("everything.keras", option(8, "units"), json!(7), &["layers/dense/vars/0", "[3, 7]"]),
        ("everything.keras", option(0, "sparse"), json!(true), &["InputLayer", "sparse"]),
        ("everything.keras", option(0, "dtype"), json!("float64"), &["InputLayer", "float64"]),
        ("everything.keras", option(0, "batch_shape"), json!([null, 5, 5, 3]), &["[null,5,5,3]"]),
        ("everything.keras", option(0, "batch_shape"), json!([null, 5, null]), &["[null,5,null]"]),
        ("everything.keras", option(0, "batch_shape"), json!([null, 6, 5]), &["layers/lstm/cell/vars/0", "[5, 20]"]),
        ("everything.keras", "/class_name".into(), json!("Subclassed"), &["Subclassed"]),
        ("everything.keras", "/config/layers".into(), json!([]), &["no layer"]),
        ("functional.keras", option(1, "mask_zero"), json!(true), &["lstm", "given no mask"]),
        ("masked_functional.keras", option(2, "mask_value"), json!(2.5), &["mask", "no Masking or Embedding"]),
        ("masked_words.keras", option(1, "mask_zero"), json!(false), &["mask", "no Masking or Embedding"]),
        ("masked_words.keras", option(4, "return_sequences"), json!(true), &["lstm", "backwards", "masked"]),
        ("masked.keras", option(5, "go_backwards"), json!(true), &["RNN", "backwards", "masked"]),
        ("masked.keras", option(1, "mask_value"), json!("NaN"), &["Masking", "mask_value = NaN", "masks no step"]),
        ("masked.keras", option(1, "mask_value"), json!("Infinity"), &["Masking", "mask_value"]),
        ("masked_functional.keras", option(2, "mask_value"), json!("NaN"), &["Masking", "mask_value = NaN"]),
        ("masked_zeros.keras", option(4, "go_backwards"), json!(false), &["LSTM", "zero_output_for_mask", "padded"]),
        (
            "masked_directions.keras",
            option(2, "layer/config/unroll"),
            json!(true),
            &["forward LSTM", "unroll", "masked"],
        ),
        ("means.keras", layer(2) + "/class_name", json!("Masking"), &["Masking"]),
        ("functional.keras", "/config/output_layers".into(), json!([["score", 0, 0], ["lstm", 0, 0]]), &["one output"]),
        ("functional.keras", "/config/output_layers".into(), json!(["lstm", 0, 0]), &["straight chain"]),
        ("functional.keras", layer(2) + "/inbound_nodes/0/kwargs/training", json!(true), &["training"]),
        ("functional.keras", layer(2) + "/inbound_nodes", json!([1, 2]), &["lstm", "2 times"]),
        ("functional.keras", layer(2) + "/config/name", json!("embedding"), &["two layers named embedding"]),
        (
            "functional.keras",
            layer(1) + "/inbound_nodes/0/args/0/config/keras_history/0",
            json!("dropout"),
            &["circle"],
        ),
        (
            "cells.keras",
            option(1, "cell/class_name"),
            json!("SimpleRNNCell"),
            &["SimpleRNNCell", "recurrent_activation"],
        ),
        ("../keras_rnn/simple.keras", option(1, "return_state"), json!(true), &["SimpleRNN", "return_state"]),
        ("../keras_rnn/simple.keras", option(1, "stateful"), json!(true), &["SimpleRNN", "stateful"]),
        ("../keras_rnn/simple.keras", option(1, "activation"), json!("gelu"), &["SimpleRNN", "activation", "gelu"]),
        ("../keras_rnn/simple.keras", option(1, "unit_forget_bias"), json!(true), &["SimpleRNN", "unit_forget_bias"]),
        ("../keras_rnn/simple.keras", option(1, "reset_after"), json!(true), &["SimpleRNN", "reset_after"]),
        ("../keras_rnn/simple.keras", option(2, "use_bias"), json!(false), &["simple_rnn_1/cell/vars/2", "no layer"]),
        ("../keras_rnn/simple.keras", option(2, "units"), json!(2), &["simple_rnn_1/cell/vars/0", "[4, 2]"]),
        (
            "../keras_rnn/simple_masked.keras",
            option(4, "go_backwards"),
            json!(true),
            &["SimpleRNN", "backwards", "masked"],
        ),
        (
            "../keras_rnn/simple_cells.keras",
            option(1, "cell/config/cells/1/class_name"),
            json!("GRUCell"),
            &["GRUCell"],
        ),
        ("cells.keras", option(2, "cell/config/cells/1/class_name"), json!("Residual"), &["Residual"]),
        ("cells.keras", option(1, "cell/config/reset_after"), json!(false), &["vars/2", "[2, "]),
        ("means.keras", option(2, "data_format"), json!("channels_first"), &["channels_last", "data_format"]),
        ("means.keras", option(2, "keepdims"), json!(true), &["keepdims"]),
    ];
    let mut wrong = Vec::new();
    for (file, pointer, value, words) in cases {
        let place = pointer.clone();
        let bytes = edited(file, |config| match config.pointer_mut(&place) {
            Some(found) => *found = value.clone(),
            None => {
                let (above, key) = place.rsplit_once('/').unwrap();
                let above = config.pointer_mut(above).unwrap_or_else(|| panic!("{file} has no {above}"));
                above.as_object_mut().unwrap().insert(key.into(), value.clone());
            }
        });
        let error = match keras::from_bytes(&bytes, &Device::cpu()) {
            Ok(_) => "no error".to_string(),
            Err(error) => error.to_string(),
        };
        wrong.extend(
            words
                .iter()
                .filter(|word| !error.contains(**word))
                .map(|word| format!("{file} with {pointer} = {value}: \"{error}\" does not say {word}")),
        );
        // What load refuses, describe says.
        let contents = keras::describe_bytes(&bytes).unwrap();
        assert!(!contents.unsupported.is_empty(), "{file} with {pointer} = {value}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The treatment of masked steps is read into the configuration of the layers, and written again.
#[test]
fn masked_steps_follow_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let truth = fixture("file_keras_expected.safetensors");
    for name in ["masked_repeats", "masked_directions", "masked_largest", "masked_zeros"] {
        let model = keras::load(self::folder().join(format!("keras/{name}.keras")), &Device::cpu()).unwrap();
        let path = folder.path().join(format!("{name}.keras"));
        keras::save(&model, &path).unwrap();
        let again = keras::load(&path, &Device::cpu()).unwrap();
        let y = again.predict(truth.array3(&format!("{name}.x")).view()).unwrap();
        equal(name, &y, &truth.tensors[&format!("{name}.y")]);
    }
    // Keras by itself, before 2.4, has no zeros in a Bidirectional; in the reverse direction masked steps come first.
    let bytes = std::fs::read(self::folder().join("keras/masked_directions.keras")).unwrap();
    let [config, weights] = ["config.json", "model.weights.h5"].map(|name| member(&bytes, name));
    let by = |version: &str| {
        let metadata = json!({"keras_version": version}).to_string();
        let bytes = zipped(
            &[("metadata.json", metadata.as_bytes()), ("config.json", &config), ("model.weights.h5", &weights)],
            zip::CompressionMethod::Stored,
        );
        let model = keras::from_bytes(&bytes, &Device::cpu()).unwrap();
        model.predict(truth.array3("masked_directions.x").view()).unwrap()
    };
    let (newer, older) = (by("2.4.0"), by("2.3.1"));
    assert_eq!(by("2.3.0-tf"), newer);
    assert_eq!(newer.slice(s![0, ..4, ..]), older.slice(s![0, ..4, ..]));
    for step in [4, 5] {
        assert!(newer.slice(s![0, step, ..]).iter().all(|&value| value == 0.0));
        assert_eq!(older.slice(s![0, step, ..3]), older.slice(s![0, 3, ..3]));
        assert!(older.slice(s![0, step, 3..]).iter().all(|&value| value == 0.0));
    }
}

/// Python writes numbers that JSON does not have.
#[test]
fn numbers_that_json_does_not_have_are_named() {
    let bytes = std::fs::read(folder().join("keras/masked.keras")).unwrap();
    let [metadata, config, weights] =
        ["metadata.json", "config.json", "model.weights.h5"].map(|name| member(&bytes, name));
    let config = String::from_utf8(config).unwrap();
    let with = |value: &str, name: &str| {
        let config = config.replace("\"mask_value\": -1.5", &format!("\"mask_value\": {value}"));
        let config = config.replace("\"name\": \"masking\"", &format!("\"name\": \"{name}\""));
        assert!(config.contains(value));
        refusal(&zipped(
            &[("metadata.json", &metadata), ("config.json", config.as_bytes()), ("model.weights.h5", &weights)],
            zip::CompressionMethod::Stored,
        ))
    };
    let error = with("NaN", "masking");
    assert!(error.contains("Masking \"masking\" has mask_value = NaN, which equals no number"), "{error}");
    assert!(with("-Infinity", "masking").contains("mask_value"));
    // In a text it stays what it is, also behind a quotation mark that is escaped.
    assert!(with("NaN", r#"a \"NaN\" b"#).contains("mask_value = NaN"));
}

#[test]
fn an_activation_must_follow_a_dense_layer() {
    let moved = edited("everything.keras", |config| {
        let layers = config["config"]["layers"].as_array_mut().unwrap();
        layers.swap(6, 10);
    });
    let error = refusal(&moved);
    assert!(error.contains("Activation \"activation\"") && error.contains("does not follow a Dense"), "{error}");
}

#[test]
fn archives_that_are_not_what_they_should_be() {
    let bytes = std::fs::read(folder().join("keras/means.keras")).unwrap();
    let [metadata, config, weights] =
        ["metadata.json", "config.json", "model.weights.h5"].map(|name| member(&bytes, name));
    let pack = |metadata: &[u8], config: &[u8], weights: &[u8], method| {
        zipped(&[("metadata.json", metadata), ("config.json", config), ("model.weights.h5", weights)], method)
    };
    let (stored, deflated) = (zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated);
    let zeros = vec![0; 64 << 20];
    for (bytes, word) in [
        (vec![], "neither a zip archive nor HDF5"),
        (b"PK\x03\x04".to_vec(), "no whole zip archive"),
        (zipped(&[("config.json", &config)], stored), "metadata.json"),
        (pack(&metadata, &config, b"no", stored), "no HDF5 file"),
        (pack(&metadata, b"{", &weights, stored), "config.json"),
        (pack(&metadata, b"[]", &weights, stored), "class_name"),
        (pack(&metadata, b"\xff", &weights, stored), "UTF-8"),
        (pack(b"1", &config, b"", stored), "no HDF5 file"),
        (pack(&metadata, &[b'['; 100_000], &weights, stored), "recursion limit"),
        (pack(&metadata, &config, &zeros, deflated), "more than"),
        (pack(&zeros, &config, &weights, deflated), "more than"),
    ] {
        let error = refusal(&bytes);
        assert!(error.contains(word), "\"{error}\" does not say {word}");
        assert!(
            keras::describe_bytes(&bytes).is_err()
                || word == "class_name"
                || word == "config.json"
                || word == "recursion limit"
        );
    }
    // A name twice, which the writer does not make: the second one's name is changed in the bytes.
    let mut twice = zipped(
        &[
            ("metadata.json", &metadata),
            ("config.json", &config),
            ("model.weights.h5", &weights),
            ("config.jsoN", b"{}"),
        ],
        stored,
    );
    for at in 0..twice.len() - 11 {
        if &twice[at..at + 11] == b"config.jsoN" {
            twice[at + 10] = b'n';
        }
    }
    let error = refusal(&twice);
    assert!(error.contains("twice"), "{error}");
}

#[test]
fn forms_of_hdf5_that_keras_does_not_write() {
    let read = |name: &str| {
        let mut model = Sequential::new(3).add(Lstm::keras(2)).build(&Device::cpu(), 3).unwrap();
        let loaded = keras::load_weights(&mut model, folder().join(format!("keras_odd/{name}.weights.h5")));
        loaded.map(|()| model.parameters().unwrap()).map_err(|error| error.to_string())
    };
    let plain = read("plain").unwrap();
    assert_eq!(read("latest").as_ref(), Ok(&plain));
    assert_eq!(read("big_endian").as_ref(), Ok(&plain));
    for (name, words) in [
        ("half", "layers/lstm/cell/vars/0 of type float16"),
        ("double", "layers/lstm/cell/vars/0 of type float64"),
        ("whole", "layers/lstm/cell/vars/0 of type int32"),
        ("chunks", "layers/lstm/cell/vars/0, which is stored in chunks"),
        ("packed", "layers/lstm/cell/vars/0, which is compressed"),
        ("soft_link", "soft link"),
        ("other_file", "another file"),
        ("hard_link", "more than one link"),
        ("circle", "more than one link"),
        ("dense_group", "fractal heap"),
    ] {
        let error = read(name).unwrap_err();
        assert!(error.contains(words), "{name}: \"{error}\" does not say {words}");
    }
}

/// Models of everything that Keras has a layer for.
fn writable() -> Vec<(&'static str, Sequential)> {
    let hard = Activation::KERAS_HARD_SIGMOID;
    vec![
        ("lstm", Sequential::new(4).add(Lstm::keras(5)).add(Dense::keras(2))),
        (
            "stack",
            Sequential::new(4)
                .add(Lstm::new(5).layers(3).dropout(0.2).return_sequences(true))
                .add(LayerNorm::new())
                .add(Dropout::new(0.1))
                .add(Dense::new(3).activation(Activation::Softplus))
                .add(Dense::new(2).bias(false).activation(Activation::Sigmoid)),
        ),
        (
            "bidirectional",
            Sequential::new(4)
                .add(
                    Lstm::new(3)
                        .layers(2)
                        .bidirectional(true)
                        .merge(Merge::Ave)
                        .return_sequences(true)
                        .bias(Bias::None),
                )
                .add(Lstm::keras(4).bidirectional(true).merge(Merge::Mul).gate_activation(hard))
                .add(Dense::keras(3).activation(Activation::Elu { alpha: 1.0 })),
        ),
        (
            "gru",
            Sequential::new(4)
                .add(Gru::new(3).layers(2).return_sequences(true))
                .add(Gru::new(4).bidirectional(true).return_sequences(true))
                .add(Gru::keras(3).bias(Bias::None).return_sequences(true))
                .add(Gru::keras(2).bias(Bias::Single).go_backwards(true).return_sequences(true))
                .add(Dense::new(3).activation(Activation::LeakyRelu { alpha: 0.2 })),
        ),
        ("reverse", Sequential::new(4).add(Lstm::new(5).layers(2).reverse(true).activation(Activation::Softsign))),
        ("last", Sequential::new(4).add(Lstm::new(5).return_sequences(true)).add(Pool::Last).add(Dense::new(2))),
        ("mean", Sequential::new(4).add(Lstm::new(5).return_sequences(true)).add(Pool::Mean).add(Dense::new(2))),
        ("max", Sequential::new(4).add(Lstm::new(5).return_sequences(true)).add(Pool::Max).add(Dense::new(2))),
        (
            "embedding",
            Sequential::new(1)
                .add(Embedding::new(7, 4))
                .add(Lstm::new(5).input_dropout(0.1).recurrent_dropout(0.2))
                .add(Dense::new(2)),
        ),
        (
            "masked",
            Sequential::new(4)
                .add(Masking::new(-1.5))
                .add(Lstm::new(3).layers(2).return_sequences(true))
                .add(Gru::new(3).bidirectional(true).return_sequences(true))
                .add(LayerNorm::new())
                .add(Dense::new(3).activation(Activation::Softmax)),
        ),
        (
            "masked repeats",
            Sequential::new(4)
                .add(Masking::new(-1.5))
                .add(Lstm::new(3).layers(2).return_sequences(true).repeat_output(true))
                .add(Gru::new(3).return_sequences(true).repeat_output(true))
                .add(Dense::new(3)),
        ),
        (
            "masked last",
            Sequential::new(4)
                .add(Masking::new(-1.5))
                .add(Lstm::new(3).layers(2).return_sequences(true))
                .add(Lstm::new(3).bidirectional(true).return_sequences(true))
                .add(Lstm::new(3))
                .add(Dense::new(3)),
        ),
        (
            "masked max",
            Sequential::new(4)
                .add(Masking::new(-1.5))
                .add(Gru::new(3).return_sequences(true))
                .add(Pool::MaxWithPadding)
                .add(Dense::new(3)),
        ),
        (
            "masked words",
            Sequential::new(1)
                .add(Embedding::new(7, 4).mask_zero(true))
                .add(Lstm::new(3).bidirectional(true).return_sequences(true))
                .add(Pool::Mean)
                .add(Dense::new(3).activation(Activation::LogSoftmax)),
        ),
        (
            "reset before",
            Sequential::new(4)
                .add(Gru::keras(3).reset_after(false).bias(Bias::Single).return_sequences(true))
                .add(Gru::new(4).reset_after(false).bidirectional(true).merge(Merge::Sum).return_sequences(true))
                .add(Gru::keras(3).activation(Activation::Softsign).gate_activation(hard).recurrent_dropout(0.1)),
        ),
        (
            "simple",
            Sequential::new(4)
                .add(Rnn::new(3).layers(2).return_sequences(true).input_dropout(0.1).recurrent_dropout(0.2))
                .add(Rnn::keras(3).bidirectional(true).merge(Merge::Sum).return_sequences(true))
                .add(Rnn::keras(4).bias(Bias::None).go_backwards(true).return_sequences(true))
                .add(Rnn::new(3).reverse(true).activation(Activation::Relu)),
        ),
        (
            "masked simple",
            Sequential::new(4)
                .add(Masking::new(-1.5))
                .add(Rnn::new(3).return_sequences(true).repeat_output(true))
                .add(Rnn::new(4).return_sequences(true))
                .add(Pool::Last),
        ),
        ("many", (0..40).fold(Sequential::new(4), |model, _| model.add(Lstm::keras(3).return_sequences(true)))),
    ]
}

fn input(config: &str) -> Array3<f32> {
    let mut draw = Draw::new(9);
    match config {
        "embedding" => Array3::from_shape_simple_fn((3, 6, 1), || draw.below(7) as f32),
        "masked words" => {
            Array3::from_shape_fn((3, 6, 1), |(n, t, _)| if t > 2 * n + 1 { 0.0 } else { (n + t + 1) as f32 }.min(6.0))
        }
        "masked" | "masked simple" | "masked repeats" | "masked last" | "masked max" => {
            let mut x = draw.array3((3, 6, 4));
            x.slice_mut(s![1, 2.., ..]).fill(-1.5);
            x.slice_mut(s![2, 5.., ..]).fill(-1.5);
            x
        }
        _ => draw.array3((3, 6, 4)),
    }
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for (name, layers) in writable() {
        let path = folder.path().join(format!("{name}.keras"));
        let model = layers.build(&Device::cpu(), 4).unwrap();
        keras::save(&model, &path).unwrap();
        let again = keras::load(&path, &Device::cpu()).unwrap();
        let x = input(name);
        let (given, expected) = (again.predict(x.view()).unwrap(), model.predict(x.view()).unwrap());
        equal(name, &given, &expected);
        assert_eq!(keras::describe(&path).unwrap().unsupported, [""; 0]);
        // and into a model of the same layers
        let mut other = model.config().unwrap().clone().build(&Device::cpu(), 5).unwrap();
        keras::load_weights(&mut other, &path).unwrap();
        equal(name, &other.predict(x.view()).unwrap(), &expected);
    }
}

#[test]
fn what_keras_does_not_have_is_not_written() {
    let path = std::env::temp_dir().join("wgpu-lstm-not-written.keras");
    let whole = || Lstm::new(4).return_sequences(true);
    for (layers, word) in [
        (Sequential::new(3).add(Lstm::new(4).projection(2)), "projection"),
        (Sequential::new(3).add(Lstm::new(4).peepholes(true)), "peepholes"),
        (Sequential::new(3).add(Lstm::new(4).coupled(true)), "coupled"),
        (Sequential::new(3).add(Lstm::new(4).clip(1.0)), "clip of its gates"),
        (Sequential::new(3).add(Lstm::new(4).cell_clip(1.0)), "clip of its cell state"),
        (Sequential::new(3).add(Lstm::new(4).zoneout(0.1, 0.0)), "zoneout"),
        (Sequential::new(3).add(Lstm::new(4).weight_dropout(0.1)), "recurrent weights"),
        (Sequential::new(3).add(Lstm::new(4).cell(Cell::Article)), "article"),
        (Sequential::new(3).add(Lstm::new(4).output_activation(Activation::Relu)), "two activations"),
        (Sequential::new(3).add(Lstm::new(4).gate_activation(Activation::KERAS2_HARD_SIGMOID)), "HardSigmoid"),
        (Sequential::new(3).add(Rnn::new(4).clip(1.0)), "clip of its gates"),
        (Sequential::new(3).add(Rnn::new(4).heads(2)), "heads"),
        (Sequential::new(3).add(IndRnn::new(4)), "heads"),
        (Sequential::new(3).add(MinLstm::new(4)), "another cell"),
        (Sequential::new(3).add(SLstm::new(4)), "another cell"),
        (Sequential::new(3).add(Rnn::new(4).activation(Activation::KERAS2_HARD_SIGMOID)), "HardSigmoid"),
        (Sequential::new(3).add(whole().reverse(true)), "reverse"),
        (Sequential::new(3).add(whole().bidirectional(true)).add(Pool::Last), "last step"),
        (Sequential::new(3).add(Masking::new(0.0)).add(whole()).add(Pool::Max), "GlobalMaxPooling1D"),
        (
            Sequential::new(3).add(Masking::new(0.0)).add(whole().bidirectional(true).repeat_output(true)),
            "two directions in padded steps",
        ),
        (Sequential::new(3).add(Masking::new(0.0)).add(Lstm::new(4).layers(2).reverse(true)), "masked"),
        (Sequential::new(3).add(Lstm::new(4).layer_norm(true)), "layer normalisation"),
        (
            Sequential::new(3).add(whole()).add(Dense::new(2).activation(Activation::Affine { alpha: 2.0, beta: 1.0 })),
            "Affine",
        ),
    ] {
        let model = layers.build(&Device::cpu(), 0).unwrap();
        let error = keras::save(&model, &path).unwrap_err().to_string();
        assert!(error.contains(word), "\"{error}\" does not say {word}");
        assert!(!path.exists());
    }
}

/// Writes models and what they predict for `tests/interop/opened_by_keras.py`, which sets KERAS_INTEROP_OUT and runs this.
#[test]
#[ignore = "run by tests/interop/opened_by_keras.py"]
fn write_files_for_keras() {
    let folder = PathBuf::from(std::env::var_os("KERAS_INTEROP_OUT").expect("KERAS_INTEROP_OUT names a folder"));
    for (name, layers) in writable() {
        let mut model = layers.build(&Device::cpu(), 4).unwrap();
        // Biases that are 0 at first would hide a wrong order.
        let mut draw = Draw::new(11);
        let mut parameters = model.parameters().unwrap();
        parameters.values_mut().for_each(|array| array.mapv_inplace(|value| value + 0.2 * draw.next()));
        model.set_parameters(parameters).unwrap();
        keras::save(&model, folder.join(format!("{name}.keras"))).unwrap();
        let x = input(name);
        ndarray_npy::write_npy(folder.join(format!("{name}.x.npy")), &x).unwrap();
        ndarray_npy::write_npy(folder.join(format!("{name}.y.npy")), &model.predict(x.view()).unwrap()).unwrap();
    }
}

/// Reads damaged bytes as everything that they may be; the only thing asked is that it ends with a model or an error.
fn survives(bytes: &[u8]) {
    let path = Path::new("(bytes)");
    match keras::from_bytes(bytes, &Device::cpu()) {
        Ok(model) => drop::<Model>(model),
        Err(error) => assert!(error.to_string().contains(&path.display().to_string()), "{error}"),
    }
    if let Ok(contents) = keras::describe_bytes(bytes) {
        assert!(!contents.to_string().is_empty());
    }
}

const DAMAGED: &[&str] = &[
    "keras/means.keras",
    "keras/functional.keras",
    "keras/masked_functional.h5",
    "keras_rnn/simple.h5",
    "keras/everything.weights.h5",
    "keras2/cudnn.h5",
    "keras2/everything.keras",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn files_that_are_cut_off_are_errors(file in 0..DAMAGED.len(), at in 0.0..1.0f64) {
        let bytes = std::fs::read(folder().join(DAMAGED[file])).unwrap();
        let cut = &bytes[..(bytes.len() as f64 * at) as usize];
        survives(cut);
        // The last bytes of an HDF5 file may be room that nothing uses.
        if cut.len() < bytes.len() / 2 {
            prop_assert!(keras::from_bytes(cut, &Device::cpu()).is_err());
        }
    }

    #[test]
    fn files_with_other_bytes_do_not_panic(
        file in 0..DAMAGED.len(),
        changes in prop::collection::vec((0.0..1.0f64, any::<u8>(), 1usize..9), 1..20),
    ) {
        let mut bytes = std::fs::read(folder().join(DAMAGED[file])).unwrap();
        for (at, byte, len) in changes {
            let at = (bytes.len() as f64 * at) as usize;
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(byte);
        }
        survives(&bytes);
    }

    /// The weights' damage, which an archive's checksum hides otherwise.
    #[test]
    fn weights_with_other_bytes_do_not_panic(
        changes in prop::collection::vec((0.0..1.0f64, any::<u64>()), 1..8),
    ) {
        let bytes = std::fs::read(folder().join("keras/means.keras")).unwrap();
        let [metadata, config, mut weights] =
            ["metadata.json", "config.json", "model.weights.h5"].map(|name| member(&bytes, name));
        for (at, value) in changes {
            // addresses and lengths lie at multiples of 8
            let at = (weights.len() as f64 * at) as usize / 8 * 8;
            if let Some(place) = weights.get_mut(at..at + 8) {
                let value = if value % 3 == 0 { value % 24_000 } else { value };
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        survives(&zipped(
            &[("metadata.json", &metadata), ("config.json", &config), ("model.weights.h5", &weights)],
            zip::CompressionMethod::Stored,
        ));
    }
}
