//! Errors say what is wrong in their message, and carry the error behind them as their source, once.
#![cfg(all(feature = "keras", feature = "onnx", feature = "pytorch"))]

use std::error::Error as _;
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::{Capabilities, Dense, Device, Error, Lstm, Model, Sequential, Unit};

/// The error's source of type `E`, whose words are not in the message: a chain that is printed has them once.
fn source<E: std::error::Error + 'static>(error: &Error) -> String {
    let source = error.source().unwrap_or_else(|| panic!("no source: {error}"));
    assert!(source.is::<E>(), "the source of {error} is {source:?}");
    let words = source.to_string();
    assert!(!error.to_string().contains(&words), "{error} has the words of its source, {words}");
    words
}

#[test]
fn a_file_carries_the_system_s_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for error in [
        Model::load(&missing, &Device::cpu()).unwrap_err(),
        #[cfg(feature = "onnx")]
        wgpu_lstm::format::onnx::Graph::load(&missing, &Device::cpu()).unwrap_err(),
        #[cfg(feature = "keras")]
        wgpu_lstm::format::keras::load(&missing, &Device::cpu()).unwrap_err(),
        #[cfg(feature = "pytorch")]
        wgpu_lstm::format::pytorch::Weights::open(&missing).unwrap_err(),
    ] {
        assert!(source::<std::io::Error>(&error).contains("os error 2"));
        assert!(error.to_string().ends_with("missing\": there is no such file or folder"), "{error}");
    }
    let model = Sequential::new(1).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    let error = model.save(missing.join("model.safetensors")).unwrap_err();
    source::<std::io::Error>(&error);
    assert!(matches!(error, Error::File { action: "write", .. }), "{error}");
}

#[test]
fn a_file_that_is_no_such_file_carries_the_parser_s_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, b"\xc8\0\0\0\0\0\0\0{").unwrap();
    let error = Model::load(&path, &Device::cpu()).unwrap_err();
    source::<safetensors::SafeTensorError>(&error);
    assert!(error.to_string().ends_with("is no whole safetensors file (9 bytes)"), "{error}");

    Sequential::new(1).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap().save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|word| word == b"dense").unwrap();
    bytes[at] = b'D'; // no layer's name
    std::fs::write(&path, bytes).unwrap();
    let error = Model::load(&path, &Device::cpu()).unwrap_err();
    assert!(source::<serde_json::Error>(&error).contains("Dense"), "{error}");
    assert!(error.to_string().contains("(at model.layers[0]"), "{error}");

    #[cfg(feature = "onnx")]
    {
        let error = wgpu_lstm::format::onnx::Graph::from_bytes(vec![0xff; 9], "graph", &Device::cpu()).unwrap_err();
        source::<prost::DecodeError>(&error);
        assert!(error.to_string().contains("is no ONNX file"), "{error}");
    }
}

#[test]
fn what_is_too_large_says_in_what_unit() {
    let plan = |layer: Lstm, capabilities: Capabilities| {
        let layers = [Node::new("lstm", 3, layer)];
        network(&layers, Batch::new(4, 5), Purpose::Predict, &capabilities).unwrap_err()
    };
    // 4·H = 400 columns of 100 rows
    let bytes = plan(Lstm::new(100), Capabilities { max_binding_bytes: 100_000, ..Capabilities::default() });
    assert!(matches!(bytes, Error::TooLarge { unit: Unit::Bytes, needed: 160_000, available: 100_000, .. }), "{bytes}");
    assert!(bytes.to_string().contains("needs 160000 bytes, the device offers 100000"), "{bytes}");
    let groups = plan(Lstm::new(1000), Capabilities { max_groups: 1, ..Capabilities::default() });
    let Error::TooLarge { unit: Unit::Workgroups, needed, available: 1, .. } = groups else { panic!("{groups}") };
    assert!(groups.to_string().contains(&format!("needs {needed} workgroups, the device offers 1")), "{groups}");
    assert!(!groups.to_string().contains("bytes"), "{groups}");
}
