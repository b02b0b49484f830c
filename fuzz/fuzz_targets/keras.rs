//! Any bytes as a file of Keras: an error or a model, nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpu_lstm::Device;
use wgpu_lstm::format::keras;

fuzz_target!(|bytes: &[u8]| {
    let device = Device::cpu();
    let _ = keras::describe_bytes(bytes).map(|contents| contents.to_string());
    if let Ok(model) = keras::from_bytes(bytes, &device) {
        // What can be read can be written, or is refused by name.
        let _ = keras::to_bytes(&model);
    }
});
