//! Sizes that callers and files ask for, in processes whose memory is limited (`ulimit -v`): an error, never an abort.
#![cfg(all(feature = "keras", feature = "onnx", feature = "pytorch"))]
#![cfg(target_os = "linux")]

use ndarray::{Array1, Array2, Array3, arr0};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::process::{Command, Output};
use wgpu_lstm::data::{Scaler, Windows};
use wgpu_lstm::metrics::ConfusionMatrix;
use wgpu_lstm::{
    Capabilities, Dense, Device, Embedding, Error, Fit, Loss, Lstm, LstmState, Model, Optimiser, Result, Sequential,
    Strategy,
};

/// Variable with the task of a child process, which is this test once more.
const TASK: &str = "WGPU_LSTM_TEST_TASK";

/// Runs a task of [`child`] in a process that may have so many KiB of memory.
fn limited(task: &str, kib: u64) -> Output {
    let script = format!("ulimit -v {kib} && exec \"$0\" --exact child --nocapture --test-threads 1");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).env(TASK, task);
    command.output().unwrap()
}

/// Runs a task in 1 GiB, in which it must not fail.
fn passes(task: &str) {
    let output = limited(task, 1 << 20);
    let said = String::from_utf8_lossy(&output.stderr).to_string() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("done"), "{task}: {}\n{said}", output.status);
}

/// Runs the task of a child process; does nothing when the tests run.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    match task.as_str() {
        "nothing" => {}
        "layers" => layers(),
        "arrays" => arrays(),
        "plans" => plans(),
        "files" => files(),
        #[cfg(feature = "onnx")]
        "graphs" => graphs(),
        "everything" => match everything() {
            Ok(()) => println!("enough"),
            Err(error) => println!("{error}"),
        },
        other => panic!("{other}"),
    }
    println!("done");
}

/// The error says what needs how much.
#[track_caller]
fn lacks<T: Debug>(result: Result<T>, name: &str, least: u64) {
    match result {
        Err(Error::OutOfMemory { what, needed, .. }) => {
            assert!(what.contains(name) && needed >= least, "{what} needs {needed}");
        }
        other => panic!("{name}: {:?}", other.map(drop)),
    }
}

#[test]
fn layers_of_any_size() {
    passes("layers");
}

fn layers() {
    let cpu = Device::cpu();
    lacks(Lstm::new(20_000).build(&cpu, 3, 0), "lstm.l0.r", 4 * 80_000 * 20_000);
    lacks(Lstm::keras(15_000).build(&cpu, 3, 0), "lstm.l0.r", 4 * 60_000 * 15_000);
    lacks(Sequential::new(3).add(Dense::new(1 << 27)).build(&cpu, 0), "dense.weight", 12 << 27);
    lacks(Sequential::new(1).add(Embedding::new(1 << 20, 1 << 10)).build(&cpu, 0), "embedding.weight", 4 << 30);
    lacks(Lstm::new(1).layers((1 << 28) - 1).build(&cpu, 3, 0), "a stack of 268435455 layers", 1 << 38);
    lacks(LstmState::zeros(&Lstm::new(1 << 20), 1 << 20), "state", 4 << 40);
    lacks(LstmState::zeros(&Lstm::new(usize::MAX).bidirectional(true), usize::MAX), "state", u64::MAX);
    // Sizes whose products cannot be counted are refused, too.
    for size in [usize::MAX, usize::MAX / 4, 1 << 62, 1 << 31, (1 << 28) - 1] {
        for lstm in [
            Lstm::new(size),
            Lstm::new(size).bidirectional(true).layers(3),
            Lstm::new(2).layers(size),
            Lstm::new(size).projection(size - 1),
            Lstm::new(size).peepholes(true).layer_norm(true),
        ] {
            assert!(lstm.clone().build(&cpu, 3, 0).is_err(), "{size}");
            assert!(lstm.clone().build(&cpu, size, 0).is_err(), "{size}");
            assert!(lstm.plan(size, size, size, &Capabilities::default()).is_err(), "{size}");
            let stack = Sequential::new(size).add(lstm.return_sequences(true)).add(Dense::new(size));
            assert!(stack.output() == size && stack.build(&cpu, 0).is_err(), "{size}");
        }
        assert!(Sequential::new(1).add(Embedding::new(size, size)).build(&cpu, 0).is_err(), "{size}");
    }
    let model = Sequential::new(3).add(Lstm::new(64)).add(Dense::new(2)).build(&cpu, 0).unwrap();
    lacks(model.stream(1 << 21), "", 1 << 29);
    for batch in [usize::MAX, 1 << 31] {
        assert!(model.stream(batch).is_err());
    }
}

#[test]
fn arrays_of_any_size() {
    passes("arrays");
}

fn arrays() {
    let series = Array2::<f32>::zeros((1_000_000, 8));
    lacks(Windows::new(365, 7).cut(series.view()), "windows x of shape (999629, 365, 8)", 4 * 999_629 * 365 * 8);
    lacks(
        Windows::new(7, 365).target(&[0, 1, 2]).cut(series.view()),
        "windows y of shape (999629, 1095)",
        4 * 999_629 * 1095,
    );
    let all: Vec<usize> = (0..100_000).map(|k| k % 8).collect();
    lacks(Windows::new(1, 999_000).target(&all).cut(series.view()), "windows y", 4 * 99_900_000_000);
    let scaler = Scaler::standard(series.slice(ndarray::s![..9, ..])).unwrap();
    let (one, long) = (arr0(1.0f32), (1 << 40, 8));
    lacks(scaler.transform(one.broadcast(long).unwrap()), "the scaled series", 4 << 43);
    let none = Array1::<usize>::zeros(3);
    lacks(
        ConfusionMatrix::new(none.view(), none.view(), 50_000),
        "a confusion matrix of 50000 classes",
        20_000_000_000,
    );
    lacks(ConfusionMatrix::new(none.view(), none.view(), usize::MAX), "a confusion matrix", u64::MAX);
}

#[test]
fn plans_of_any_size() {
    passes("plans");
}

fn plans() {
    let mut model = Sequential::new(1).add(Lstm::new(1024)).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    let (x, y) = (Array3::zeros((256, 1000, 1)), Array2::zeros((256, 1)));
    lacks(model.predict(x.view()), "", 1 << 29);
    lacks(model.fit(x.view(), y.view(), Fit::new().batch_size(256).epochs(1)), "", 1 << 29);
    // More steps than there is memory for their commands
    let capabilities = Capabilities { strategy: Some(Strategy::PerStep), ..Capabilities::default() };
    lacks(Lstm::new(4).plan(3, 1, 1 << 22, &capabilities), "commands", 1 << 28);
    // And afterwards it goes on.
    let few = x.slice(ndarray::s![..2, ..10, ..]);
    assert_eq!(model.predict(few).unwrap().shape(), [2, 1]);
}

#[test]
fn files_of_any_size() {
    passes("files");
}

fn files() {
    let folder = tempfile::tempdir().unwrap();
    let sparse = |name: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(100 << 30).unwrap();
        path
    };
    let large = sparse("model.bin");
    lacks(Model::load(&large, &Device::cpu()), "model.bin", 100 << 30);
    lacks(wgpu_lstm::files::read(&large), "model.bin", 100 << 30);
    #[cfg(feature = "pytorch")]
    lacks(wgpu_lstm::format::pytorch::Weights::open(&large), "model.bin", 100 << 30);
    #[cfg(feature = "keras")]
    {
        lacks(wgpu_lstm::format::keras::load(&large, &Device::cpu()), "model.bin", 100 << 30);
        lacks(wgpu_lstm::format::keras::describe(&large), "model.bin", 100 << 30);
    }
    #[cfg(feature = "onnx")]
    {
        lacks(wgpu_lstm::format::onnx::Graph::load(&large, &Device::cpu()), "model.bin", 100 << 30);
        lacks(wgpu_lstm::format::onnx::read_tensor(&large), "model.bin", 100 << 30);
    }
    // A header that asks for more than the file has, or than can be counted
    for shape in ["[1000000000000]", "[4294967296,4294967296,4294967296]"] {
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,4]}}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        let path = folder.path().join("forged.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Model::load(&path, &Device::cpu()), Err(Error::Format { .. })));
        #[cfg(feature = "pytorch")]
        assert!(wgpu_lstm::format::pytorch::Weights::open(&path).is_err());
    }
}

#[cfg(feature = "onnx")]
#[test]
fn graphs_of_any_size() {
    passes("graphs");
}

#[cfg(feature = "onnx")]
fn graphs() {
    use wgpu_lstm::format::onnx::{Graph, Value};
    /// A field of length and bytes, which are below 128.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
    }
    // elem_type 1 is f32, 7 is i64; the shape is left open
    let port = |name: &str, kind: u8| [field(1, name.as_bytes()), field(2, &field(1, &[0x08, kind]))].concat();
    let x = Value::from(ndarray::array![1.0f32]);
    for (op, inputs) in [("ConstantOfShape", vec!["shape"]), ("Expand", vec!["x", "shape"])] {
        let names: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
        let node = [names, field(2, b"y"), field(3, b"node"), field(4, op.as_bytes())].concat();
        let ports: Vec<u8> =
            inputs.iter().flat_map(|name| field(11, &port(name, if *name == "x" { 1 } else { 7 }))).collect();
        let graph = [field(1, &node), ports, field(12, &port("y", 1))].concat();
        let model = [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 17])].concat();
        let mut graph = Graph::from_bytes(model, "made", &Device::cpu()).unwrap().memory_limit(1 << 50);
        let mut run = |shape: &[i64]| {
            let shape = Value::from(Array1::from(shape.to_vec()));
            let given = [("x", &x), ("shape", &shape)].into_iter().filter(|(name, _)| inputs.contains(name));
            graph.run(given.map(|(name, value)| (name.to_string(), value.clone())).collect::<BTreeMap<_, _>>())
        };
        lacks(run(&[900_000_000]), "its output of shape [900000000]", 3_600_000_000);
        lacks(run(&[1 << 20, 1 << 20]), "node", 4 << 40);
        assert!(matches!(run(&[1 << 40, 1 << 40]), Err(Error::Format { .. })));
        assert_eq!(run(&[2, 3]).unwrap()["y"].shape(), [2, 3]);
    }
}

/// A model that is built, trained, used, saved and loaded.
fn everything() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Sequential::new(8).add(Lstm::new(128).layers(2)).add(Dense::new(4)).build(&Device::cpu(), 0)?;
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01))?;
    let series = Array2::from_shape_fn((232, 8), |(t, f)| ((t * (f + 1)) as f32).sin());
    let cut = Windows::new(32, 1).target(&[0, 1, 2, 3]).cut(series.view())?;
    model.fit(cut.x.view(), cut.y.view(), Fit::new().batch_size(64).epochs(1))?;
    model.predict(cut.x.view())?;
    let path = folder.path().join("model.safetensors");
    model.save_training(&path)?;
    Model::load_training(&path, &Device::cpu())?.predict(cut.x.view())?;
    Ok(())
}

/// The same in every size of memory from what the process itself needs to what is enough: it ends with an error or with success.
#[test]
fn an_error_wherever_memory_ends() {
    let step = 8 << 10;
    let least = (1..).map(|k| k * step).find(|&kib| limited("nothing", kib).status.success()).unwrap();
    let (mut refused, mut kib) = (0, least + 2 * step);
    loop {
        let output = limited("everything", kib);
        let said = String::from_utf8_lossy(&output.stdout).to_string();
        assert!(
            output.status.success() && said.contains("done"),
            "{kib} KiB: {}\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        if said.contains("enough") {
            break;
        }
        assert!(said.contains("out of memory"), "{said}");
        refused += 1;
        kib += step;
    }
    assert!(refused > 3, "{refused}");
}
