//! Any bytes as a file of `Model::save`: an error or a model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpu_lstm::{Device, Model};

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("wgpu-lstm-fuzz-{}.safetensors", std::process::id()));
    if std::fs::write(&path, bytes).is_ok() {
        let _ = Model::load(&path, &Device::cpu());
        let _ = Model::load_training(&path, &Device::cpu());
    }
});
