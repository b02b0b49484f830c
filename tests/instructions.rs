//! The CPU executor's vector instructions: `WGPU_LSTM_SIMD`, and the same bits whichever the processor has.

mod common;

use common::Draw;
use ndarray::Axis;
use wgpu_lstm::{Cell, Dense, Device, Fit, Gru, Loss, Lstm, Optimiser, Sequential};

const TELL: &str = "WGPU_LSTM_TEST_TELLS_INSTRUCTIONS";

/// FNV-1a of the outputs and trained weights of some layers.
fn hash() -> u64 {
    let device = Device::cpu_threads(1);
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut add = |value: f32| {
        for byte in value.to_bits().to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    let layers: [Lstm; 5] = [
        Lstm::new(40).layers(2),
        Lstm::new(7).bidirectional(true),
        Lstm::new(48).cell(Cell::SLstm),
        Lstm::new(33).peepholes(true),
        Gru::new(24).into(),
    ];
    for layer in layers {
        for batch in [1, 5, 14, 30] {
            let x = Draw::new(3).array3((batch, 6, 9));
            let y = Draw::new(4).array3((batch, 1, 2)).remove_axis(Axis(1));
            let mut model = Sequential::new(9).add(layer.clone()).add(Dense::new(2)).build(&device, 1).unwrap();
            model.predict(x.view()).unwrap().iter().copied().for_each(&mut add);
            model.compile(Loss::MeanSquaredError, Optimiser::adam(5e-3)).unwrap();
            model.fit(x.view(), y.view(), Fit::new().epochs(2).batch_size(batch)).unwrap();
            model.parameters().unwrap().values().flatten().copied().for_each(&mut add);
        }
    }
    hash
}

/// The variable is read once a process, so each value has a process: this test binary, with one test.
#[test]
fn sets_that_fuse_have_the_same_bits_and_the_variable_chooses() {
    if std::env::var_os(TELL).is_some() {
        println!("told: {}, {:x}", Device::cpu().instructions().unwrap(), hash());
        return;
    }
    let told = |value: Option<&str>| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["sets_that_fuse_have_the_same_bits_and_the_variable_chooses", "--exact", "--nocapture"]);
        command.env(TELL, "1").env_remove("WGPU_LSTM_SIMD");
        command.envs(value.map(|value| ("WGPU_LSTM_SIMD", value)));
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let line = text.lines().find_map(|line| Some(line.split_once("told: ")?.1.to_string()));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        let (name, hash) = line.split_once(", ").unwrap();
        (name.to_string(), hash.to_string())
    };
    let best = told(None);
    for unknown in ["", "sse9"] {
        assert_eq!(told(Some(unknown)), best, "{unknown:?}");
    }
    let all = ["scalar", "neon", "avx2", "avx512"].map(|name| told(Some(name)));
    let [scalar, neon, avx2, avx512] = &all;
    assert_eq!(&best, if cfg!(target_arch = "aarch64") { neon } else { avx512 });
    assert_eq!(scalar.0, "scalar");
    for (told, expected) in all.iter().zip(["scalar", "NEON", "AVX2", "AVX-512"]) {
        if told.0 != expected {
            eprintln!("left out: {expected}, which this processor does not have; {} in its place", told.0);
        }
    }
    // Where there are no fused multiply-adds there is nothing to hold the bits against.
    assert_eq!(avx2.1, avx512.1, "{} and {}", avx2.0, avx512.0);
    if cfg!(target_arch = "aarch64") {
        assert_eq!(scalar.1, neon.1, "{} and {}", scalar.0, neon.0);
    }
}
