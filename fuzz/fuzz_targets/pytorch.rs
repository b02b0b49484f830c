//! Any bytes as a file of PyTorch: an error or tensors and layers, nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpu_lstm::Device;
use wgpu_lstm::format::pytorch::Weights;

fuzz_target!(|bytes: &[u8]| {
    let Ok(weights) = Weights::from_bytes("fuzz", bytes.to_vec()) else { return };
    let names: Vec<&str> = weights.tensors().map(|tensor| tensor.name).collect();
    for name in names.iter().take(100) {
        let _ = weights.tensor(name);
    }
    for prefix in weights.prefixes().into_iter().take(10) {
        if weights.recurrent(Some(prefix)).is_ok() {
            let _ = weights.layer(Some(prefix), &Device::cpu());
        }
        let _ = weights.model(&[prefix, "norm", "head"], &Device::cpu());
        let _ = weights.model(&[prefix, "last", "relu", "head:linear", "softmax"], &Device::cpu());
    }
});
