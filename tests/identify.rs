//! Types of files: every fixture goes to its reader, and every reader says of a foreign file what it is.

#![cfg(all(feature = "keras", feature = "onnx", feature = "pytorch"))]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use wgpu_lstm::format::keras;
use wgpu_lstm::format::onnx::Graph;
use wgpu_lstm::format::pytorch::Weights;
use wgpu_lstm::format::{FileType, Reader, identify, identify_bytes};
use wgpu_lstm::{Device, Lstm, Model, Sequential};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A zip archive of empty entries.
fn zipped(names: &[&str]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in names {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"...").unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A field of a protobuf message, of bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let varint = |mut value: u64| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[test]
fn fixtures_go_to_their_reader() {
    let mut counts = [0; 4];
    for folder in ["", "keras", "keras2", "keras_odd", "onnx"] {
        for entry in std::fs::read_dir(fixtures().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let (place, expected) = match path.extension().unwrap_or_default().to_str().unwrap() {
                "pt" | "pth" | "ckpt" => (0, Reader::PyTorch),
                // Those of `Model::save` begin with their configuration.
                "safetensors" => {
                    match std::fs::read(&path).unwrap()[8..].starts_with(br#"{"__metadata__":{"wgpu_lstm":"#) {
                        true => (1, Reader::Own),
                        false => (1, Reader::PyTorch),
                    }
                }
                "keras" | "h5" => (2, Reader::Keras),
                "onnx" => (3, Reader::Onnx),
                _ => continue,
            };
            let found = identify(&path).unwrap();
            assert_eq!(found.reader(), Some(expected), "{}: {found}", path.display());
            assert!(found.fits_name(&path), "{}: {found}", path.display());
            // By its content alone
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(identify_bytes("unnamed", &bytes), found, "{}", path.display());
            counts[place] += 1;
        }
    }
    assert!(counts.iter().all(|&count| count > 5), "{counts:?}");
}

#[test]
fn content_decides_where_it_can() {
    let node = [field(1, b"x"), field(2, b"Placeholder")].concat();
    let cases: Vec<(&str, Vec<u8>, FileType)> = vec![
        ("model.tflite", b"\x1c\0\0\0TFL3....".to_vec(), FileType::TfLite),
        ("model.onnx", b"\x1c\0\0\0TFL3....".to_vec(), FileType::TfLite),
        ("model.pt", zipped(&["model/data.pkl", "model/byteorder", "model/data/0"]), FileType::PyTorch),
        ("model.pt", zipped(&["m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"]), FileType::TorchScript),
        ("model.pt2", zipped(&["m/archive_format", "m/models/model.json"]), FileType::ExportedProgram),
        ("model.pt2", zipped(&["serialized_exported_program.json", "version"]), FileType::ExportedProgram),
        ("model.zip", zipped(&["metadata.json", "config.json", "model.weights.h5"]), FileType::Keras),
        ("model.zip", zipped(&["saved/saved_model.pb", "saved/variables/variables.index"]), FileType::SavedModel),
        ("x.pt", zipped(&["x.npy", "y.npy"]), FileType::NumPy),
        ("x.zip", zipped(&["readme.txt"]), FileType::Zip),
        // A damaged archive is for the reader that its name promises.
        ("x.keras", zipped(&["readme.txt"]), FileType::Keras),
        ("x.keras", b"PK\x03\x04".to_vec(), FileType::Keras),
        ("x.npy", b"\x93NUMPY\x01\0v\0{'descr'".to_vec(), FileType::NumPy),
        ("m.tar.gz", b"\x1f\x8b\x08\0\0".to_vec(), FileType::Compressed),
        ("m.gguf", b"GGUF\x03\0\0\0".to_vec(), FileType::Gguf),
        ("m.engine", b"ptrt\0\0\0\0".to_vec(), FileType::TensorRt),
        ("m.pkl", b"\x80\x04\x95\x10\0\0\0".to_vec(), FileType::Pickle),
        ("m.h5", [vec![0; 512], b"\x89HDF\r\n\x1a\n".to_vec()].concat(), FileType::Hdf5),
        ("m.mlmodel", [vec![8, 4], field(2, b"\n\0"), field(500, b"...")].concat(), FileType::CoreMl),
        ("saved_model.pb", [vec![8, 1], field(2, &field(1, b"\x22\x05serve"))].concat(), FileType::SavedModel),
        ("frozen.pb", [field(1, &node), field(1, &node), field(4, b"\x08\x1b")].concat(), FileType::FrozenGraph),
        ("m.bin", [vec![8, 8], field(2, b"pytorch"), field(7, b"..."), field(8, b"\x10\x11")].concat(), FileType::Onnx),
        // Cut off within the graph
        ("m.bin", [vec![8, 8], field(2, b"pytorch"), field(7, &[0; 300])[..30].to_vec()].concat(), FileType::Onnx),
        ("model.h5", b"<!DOCTYPE html>\n<html><title>404</title>".to_vec(), FileType::Html),
        ("model.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:".to_vec(), FileType::GitLfsPointer),
        ("model.json", br#"{"format": "layers-model", "modelTopology": {}}"#.to_vec(), FileType::TensorFlowJs),
        ("model.json", br#"{"class_name": "Sequential", "config": {"layers": []}}"#.to_vec(), FileType::KerasJson),
        ("model.safetensors.index.json", br#"{"metadata": {}, "weight_map": {}}"#.to_vec(), FileType::ShardIndex),
        ("config.json", br#"{"architectures": ["X"], "model_type": "x"}"#.to_vec(), FileType::Configuration),
        ("x.json", b"[1, 2]".to_vec(), FileType::Json),
        ("model.xml", b"<?xml version=\"1.0\"?>\n<net name=\"x\">".to_vec(), FileType::OpenVino),
        ("data.csv", "date,wert\n2012-01-01,12,8 °C\n".into(), FileType::Text),
        ("data.csv", b"\xff\xfed\0a\0t\0e\0".to_vec(), FileType::Text),
        ("model.pt", Vec::new(), FileType::Empty),
        ("noise.bin", vec![0xff; 100], FileType::Unknown),
        ("noise.onnx", vec![0xff; 100], FileType::Onnx),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(identify_bytes(name, &bytes), expected, "{name} of {} bytes", bytes.len());
        // Cut off anywhere: some answer, no panic.
        (0..bytes.len()).for_each(|len| {
            identify_bytes(name, &bytes[..len]);
        });
    }
}

#[test]
fn folders_are_told_by_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, files: &[(&str, &str)]| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        files.iter().for_each(|(file, text)| std::fs::write(path.join(file), text).unwrap());
        identify(&path).unwrap()
    };
    assert_eq!(make("saved", &[("saved_model.pb", "")]), FileType::SavedModel);
    assert_eq!(make("js", &[("model.json", r#"{"modelTopology": 1}"#)]), FileType::TensorFlowJs);
    assert_eq!(make("m.mlpackage", &[]), FileType::CoreMl);
    assert_eq!(make("other", &[("readme.txt", "")]), FileType::Folder);
}

#[test]
fn a_name_that_promises_another_type_does_not_fit() {
    for (file_type, name, fits) in [
        (FileType::Keras, "x.keras", true),
        (FileType::Hdf5, "x.keras", true), // Keras 2 wrote such
        (FileType::Keras, "x.h5", false),
        (FileType::Keras, "x.onnx", false),
        (FileType::Safetensors, "x.pt", false),
        (FileType::Safetensors, "x.bin", true),
        (FileType::PyTorch, "X.PT", true),
        (FileType::Unknown, "x.onnx", true),
    ] {
        assert_eq!(file_type.fits_name(Path::new(name)), fits, "{file_type} as {name}");
    }
}

/// Every reader of the library gives the same answer.
#[test]
fn readers_say_what_a_foreign_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::cpu();
    let own = folder.path().join("own.safetensors");
    Sequential::new(2).add(Lstm::new(3)).build(&device, 0).unwrap().save(&own).unwrap();
    let lite = folder.path().join("model.tflite");
    std::fs::write(&lite, b"\x1c\0\0\0TFL3....").unwrap();
    let misnamed = folder.path().join("model.onnx");
    std::fs::copy(fixtures().join("keras/means.keras"), &misnamed).unwrap();
    let says = |error: Option<wgpu_lstm::Error>, path: &Path, parts: &[&str]| {
        let error = error.unwrap_or_else(|| panic!("{} was read", path.display())).to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        parts.iter().for_each(|part| assert!(error.contains(part), "\"{part}\" is not in: {error}"));
    };
    let model = |path: &Path| Model::load(path, &device).err();
    says(model(&lite), &lite, &["is a TensorFlow Lite model, not a model that Model::save wrote", "tf2onnx"]);
    says(
        model(&misnamed),
        &misnamed,
        &["is a Keras model (.keras archive), whatever its name says", "keras::load reads it"],
    );
    let cut = folder.path().join("cut.safetensors");
    std::fs::write(&cut, &std::fs::read(&own).unwrap()[..60]).unwrap();
    says(model(&cut), &cut, &["no whole safetensors file"]);
    let load = |path: &Path| keras::load(path, &device).err();
    says(load(&lite), &lite, &["is a TensorFlow Lite model, not a model of Keras"]);
    says(load(&own), &own, &["is a model of this crate (Model::save), not a model of Keras; Model::load reads it"]);
    says(keras::describe(&lite).err(), &lite, &["is a TensorFlow Lite model"]);
    says(load(folder.path()), folder.path(), &["is a folder"]);
    let load = |path: &Path| Graph::load(path, &device).err();
    says(load(&lite), &lite, &["is a TensorFlow Lite model, not an ONNX graph"]);
    says(load(&misnamed), &misnamed, &["is a Keras model", "whatever its name says, not an ONNX graph"]);
    let open = |path: &Path| Weights::open(path).err();
    says(open(&lite), &lite, &["is a TensorFlow Lite model, not weights of PyTorch"]);
    says(open(&own), &own, &["Model::load"]);
}
