//! Shared parts of the integration tests: devices, fixtures, comparisons and a repeatable source of numbers.
#![allow(dead_code)] // each test binary uses its own part

pub mod combination;
pub mod differences;
pub mod graph_case;
pub mod graph_files;
pub mod graph_oracle;
pub mod masks;
pub mod oracle;
pub mod recurrent_files;
pub mod recurrent_oracle;
pub mod stacks;

use ndarray::{Array3, ArrayD, IxDyn};
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::OnceLock;
use wgpu_lstm::{AdapterKind, Capabilities, Device, GpuOptions, Software, Strategy};

/// The adapter that the tests run on: hardware where there is some, else a software one.
pub fn adapter() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| adapter_with(None)).clone()
}

/// The adapter by the kernels for hardware, with every layer run by this strategy.
pub fn adapter_as_hardware(strategy: Strategy) -> Device {
    let options = GpuOptions {
        software: Software::Fallback,
        strategy: Some(strategy),
        schedule_as: Some(AdapterKind::Discrete),
        ..GpuOptions::default()
    };
    Device::gpu(&options).unwrap_or_else(|error| panic!("{error}"))
}

/// A GPU with hardware's kernels if `scripts/test --hardware` asks for them: software adapters have kernels of their own.
pub fn schedule_as() -> Option<AdapterKind> {
    std::env::var_os("WGPU_LSTM_HARDWARE").map(|_| AdapterKind::Discrete)
}

/// The same, with every layer run by this strategy.
pub fn adapter_with(strategy: Option<Strategy>) -> Device {
    let options =
        GpuOptions { software: Software::Fallback, strategy, schedule_as: schedule_as(), ..GpuOptions::default() };
    Device::gpu(&options)
        .unwrap_or_else(|error| panic!("this test needs an adapter: {error}; or run scripts/test --cpu"))
}

/// The same, with shaders whose every index and loop is checked.
pub fn checked_adapter() -> Device {
    let options = GpuOptions { software: Software::Fallback, checked_shaders: true, ..GpuOptions::default() };
    Device::gpu(&options).unwrap_or_else(|error| panic!("{error}"))
}

/// The CPU executor, with every layer run by this strategy.
pub fn cpu_with(strategy: Strategy) -> Device {
    Device::cpu_with(Capabilities { strategy: Some(strategy), ..Device::cpu().capabilities().clone() })
}

/// True if the long form of tests is asked for, by `scripts/test --long`.
pub fn long() -> bool {
    std::env::var_os("WGPU_LSTM_LONG").is_some()
}

/// A test on both executors: `name_on_cpu`, and `name_on_adapter`, which `scripts/test --cpu` leaves out.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_cpu { $(#[test] fn $name() { super::$name(&wgpu_lstm::Device::cpu()); })* }
        mod on_adapter { $(#[test] fn $name() { super::$name(&$crate::common::adapter()); })* }
    };
}

/// A test on both executors and by every strategy, on the adapter by its own kernels and by those for hardware.
#[macro_export]
macro_rules! on_both_by_every_strategy {
    ($($name:ident),* $(,)?) => {
        mod on_cpu {
            use wgpu_lstm::Strategy;
            $(#[test] fn $name() {
                Strategy::ALL.iter().for_each(|&strategy| super::$name(&$crate::common::cpu_with(strategy)));
            })*
        }
        mod on_adapter {
            use wgpu_lstm::Strategy;
            $(#[test] fn $name() {
                Strategy::ALL.iter().for_each(|&strategy| super::$name(&$crate::common::adapter_with(Some(strategy))));
            })*
        }
        mod on_adapter_as_hardware {
            use wgpu_lstm::Strategy;
            $(#[test] fn $name() {
                Strategy::ALL.iter().for_each(|&strategy| super::$name(&$crate::common::adapter_as_hardware(strategy)));
            })*
        }
    };
}

/// A fixture file: tensors by name, and metadata.
pub struct Fixture {
    pub tensors: BTreeMap<String, ArrayD<f32>>,
    pub metadata: HashMap<String, String>,
}

pub fn fixture_names(prefix: &str) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter(|name| name.starts_with(prefix) && name.ends_with(".safetensors")).collect();
    names.sort();
    assert!(!names.is_empty(), "no fixture starts with {prefix}");
    names
}

pub fn fixture(name: &str) -> Fixture {
    let bytes = std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let array = |view: safetensors::tensor::TensorView| {
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
    };
    let tensors = file.iter().map(|(name, view)| (name.to_string(), array(view))).collect();
    Fixture { tensors, metadata: header.metadata().clone().unwrap_or_default() }
}

impl Fixture {
    pub fn array3(&self, name: &str) -> Array3<f32> {
        self.tensors[name].clone().into_dimensionality().unwrap()
    }

    pub fn number(&self, key: &str) -> f64 {
        self.metadata[key].parse().unwrap()
    }

    pub fn size(&self, key: &str) -> usize {
        self.metadata[key].parse().unwrap()
    }

    /// The tensors whose names start with a prefix, without it.
    pub fn under(&self, prefix: &str) -> BTreeMap<String, ArrayD<f32>> {
        let own = self
            .tensors
            .iter()
            .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?.to_string(), array.clone())));
        own.collect()
    }
}

/// |given − expected| ≤ absolute + relative·|expected|, for all elements.
#[track_caller]
pub fn close<'a>(
    what: &str,
    given: impl IntoIterator<Item = &'a f32>,
    expected: impl IntoIterator<Item = &'a f32>,
    absolute: f32,
    relative: f32,
) {
    let (given, expected): (Vec<f32>, Vec<f32>) =
        (given.into_iter().copied().collect(), expected.into_iter().copied().collect());
    assert_eq!(given.len(), expected.len(), "{what}: number of elements");
    for (index, (&g, &e)) in given.iter().zip(&expected).enumerate() {
        // A NaN on either side fails, too.
        assert!((g - e).abs() <= absolute + relative * e.abs(), "{what}: element {index} is {g}, expected {e}");
    }
}

/// Repeatable numbers in ±1.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) / 2.0 * n as f32) as usize % n
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    pub fn array3(&mut self, shape: (usize, usize, usize)) -> Array3<f32> {
        Array3::from_shape_simple_fn(shape, || self.next())
    }
}
