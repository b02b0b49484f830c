//! ONNX files: what the onnx package, PyTorch and scripts wrote gives the numbers that they say (`tests/fixtures/onnx`); what
//! is written here is read back to the same numbers (`tests/interop/opened_by_onnxruntime.py` has ONNX Runtime read it); what is
//! not supported, not whole or made to harm ends with an error that names it.
#![cfg(feature = "onnx")]

mod common;

use common::{Draw, close};
use ndarray::{Array1, Array3, ArrayD, IxDyn, array, s};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::PathBuf;
use wgpu_lstm::format::onnx::{self, Graph, Value};
use wgpu_lstm::{
    Activation, Bias, Cell, Dense, Device, Dropout, Embedding, Gru, IndRnn, LayerNorm, Lstm, LstmState, Masking, Merge,
    MinLstm, Model, Pool, Rnn, SLstm, Sequential,
};

/// f32 throughout; sums of some dozens of terms.
const VALUES: f32 = 1e-5;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

/// The files whose names start so.
fn names(prefix: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files
        .filter_map(|name| name.strip_suffix(".onnx").map(str::to_string))
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// Inputs and outputs of a file's graph.
fn values(name: &str) -> [BTreeMap<String, Value>; 2] {
    let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    ["input.", "output."].map(|prefix| {
        let of = |(name, view): (String, safetensors::tensor::TensorView)| {
            let shape = IxDyn(view.shape());
            macro_rules! array {
                ($type:ident, $size:literal) => {{
                    let all = view.data().chunks_exact($size).map(|b| $type::from_le_bytes(b.try_into().unwrap()));
                    ArrayD::from_shape_vec(shape, all.collect()).unwrap()
                }};
            }
            let value: Value = match view.dtype() {
                Dtype::F32 => array!(f32, 4).into(),
                Dtype::F64 => array!(f64, 8).into(),
                Dtype::I32 => array!(i32, 4).into(),
                Dtype::I64 => array!(i64, 8).into(),
                Dtype::U8 => array!(u8, 1).mapv(|byte| byte != 0).into(),
                other => panic!("{other:?}"),
            };
            Some((name.strip_prefix(prefix)?.to_string(), value))
        };
        file.tensors().into_iter().filter_map(of).collect()
    })
}

fn load(name: &str, device: &Device) -> Graph {
    Graph::load(folder().join(format!("{name}.onnx")), device).unwrap_or_else(|error| panic!("{error}"))
}

/// The same type and shape; the same numbers, within VALUES where they are not whole.
#[track_caller]
fn same(what: &str, given: &Value, expected: &Value) {
    assert_eq!((given.kind(), given.shape()), (expected.kind(), expected.shape()), "{what}");
    match (given, expected) {
        (Value::F32(given), Value::F32(expected)) => close(what, given, expected, VALUES, VALUES),
        _ => assert_eq!(given, expected, "{what}"),
    }
}

fn check(name: &str, device: &Device) {
    let mut graph = load(name, device);
    let [inputs, expected] = values(name);
    // Twice: the second time with layers and plans that are there.
    for _ in 0..2 {
        let outputs = graph.run(inputs.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outputs.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (output, value) in &outputs {
            same(&format!("{name} {output}"), value, &expected[output]);
        }
    }
}

/// All LSTM, GRU and RNN cases of the onnx package: weights, states and lengths are graph inputs.
fn node_cases(device: &Device) {
    let names = names("node_");
    assert_eq!(names.len(), 18);
    names.iter().for_each(|name| check(name, device));
}

/// Graphs made for this test; the one with If is only lifted from.
fn graphs(device: &Device) {
    let names = names("graph_");
    assert!(names.len() > 12);
    names.iter().filter(|name| *name != "graph_inner").for_each(|name| check(name, device));
}

/// Exports of PyTorch, by both of its exporters, and of Keras by tf2onnx, fed with sizes that these did not see.
fn exports(device: &Device) {
    let names: Vec<String> = ["pytorch_", "tf2onnx_"].iter().flat_map(|prefix| names(prefix)).collect();
    assert!(names.len() > 15);
    names.iter().filter(|name| *name != "tf2onnx_gru_loop").for_each(|name| check(name, device));
}

/// A lifted layer gives what its node gives.
fn lifted_layers(device: &Device) {
    for (name, reverse) in [("node_lstm_reverse", true), ("graph_lstm_lowercase", false)] {
        // The onnx package's cases have weights as inputs.
        if reverse {
            let error = load(name, device).lift("Y_h").unwrap_err().to_string();
            assert!(error.contains("\"W\" is an input"), "{error}");
            continue;
        }
        let lstm = load(name, device).lift("the_lstm").unwrap();
        let [inputs, outputs] = values(name);
        let x = inputs["X"].array::<f32>().unwrap().view().into_dimensionality::<ndarray::Ix3>().unwrap();
        let out = lstm.forward(x.permuted_axes([1, 0, 2]), None).unwrap();
        let expected = outputs["Y"].array::<f32>().unwrap().view().permuted_axes(vec![2, 0, 1, 3]); // [B, T, D, H]
        close(name, &out.output, &expected.to_owned(), VALUES, VALUES);
        close(name, &out.state.c, outputs["Y_c"].array::<f32>().unwrap(), VALUES, VALUES);
    }
    let rnn = load("graph_rnn_reverse", device).lift("the_rnn").unwrap();
    assert_eq!(*rnn.config(), Lstm::from(Rnn::new(4).activation(Activation::Relu).reverse(true)));
    let [inputs, outputs] = values("graph_rnn_reverse");
    let x = inputs["X"].array::<f32>().unwrap().view().into_dimensionality::<ndarray::Ix3>().unwrap();
    let out = rnn.forward(x.permuted_axes([1, 0, 2]), None).unwrap();
    close("graph_rnn_reverse", &out.state.h, outputs["Y_h"].array::<f32>().unwrap(), VALUES, VALUES);
    // Of a graph inside of If, by the end of the name and by all of it
    let [inputs, outputs] = values("graph_inner");
    let graph = load("graph_inner", device);
    let nodes: Vec<String> = graph.recurrent().into_iter().map(|node| node.name).collect();
    assert_eq!(nodes, ["choice/else_branch/rnn", "choice/then_branch/rnn"]);
    assert_eq!(graph.recurrent()[0].input, Some(2));
    assert!(graph.lift("rnn").unwrap_err().to_string().contains("several recurrent nodes"));
    assert!(graph.lift("cnn").unwrap_err().to_string().contains("choice/then_branch/rnn"));
    let lstm = graph.lift("then_branch/rnn").unwrap();
    let x = inputs["X"].array::<f32>().unwrap().view().into_dimensionality::<ndarray::Ix3>().unwrap();
    let out = lstm.forward(x.permuted_axes([1, 0, 2]), None).unwrap();
    close("graph_inner", &out.state.h, outputs["Z"].array::<f32>().unwrap(), VALUES, VALUES);
}

/// A lifted layer as a stream: frames of one step, the state on the device.
fn lifted_streams(device: &Device) {
    let lstm = load("graph_lstm_lowercase", device).lift("the_lstm").unwrap();
    let [inputs, outputs] = values("graph_lstm_lowercase");
    let x = inputs["X"].array::<f32>().unwrap().view().into_dimensionality::<ndarray::Ix3>().unwrap(); // [T, B, I]
    let expected = outputs["Y"].array::<f32>().unwrap().view().into_dimensionality::<ndarray::Ix4>().unwrap();
    let mut stream = lstm.stream(x.dim().1).unwrap();
    for t in 0..x.dim().0 {
        let y = stream.feed(x.slice(s![t..t + 1, .., ..]).permuted_axes([1, 0, 2])).unwrap();
        close(&format!("step {t}"), y.slice(s![.., 0, ..]), expected.slice(s![t, 0, .., ..]), VALUES, VALUES);
    }
    let state = stream.state(1).unwrap();
    let c = outputs["Y_c"].array::<f32>().unwrap();
    close("c_n", &state.c[0], c.slice(s![0, 1, ..]), VALUES, VALUES);
}

/// A file of its own for a test.
fn temporary() -> tempfile::NamedTempFile {
    tempfile::Builder::new().suffix(".onnx").tempfile().unwrap()
}

/// Models of every kind of layer that has a meaning in ONNX.
fn models(device: &Device) -> Vec<(&'static str, Model)> {
    let build = |layers: Sequential| layers.build(device, 5).unwrap();
    let two = || Lstm::new(4).layers(2).bidirectional(true);
    let tanh = Activation::ScaledTanh { alpha: 1.2, beta: 0.7 };
    vec![
        ("plain", build(Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2)))),
        (
            "stack",
            build(
                Sequential::new(3)
                    .add(two().return_sequences(true).dropout(0.5))
                    .add(Dropout::new(0.2))
                    .add(LayerNorm::new().epsilon(1e-3))
                    .add(Gru::new(3).bidirectional(true).return_sequences(true))
                    .add(Dense::new(2).activation(Activation::Softsign)),
            ),
        ),
        ("last_of_two", build(Sequential::new(3).add(two()).add(Dense::new(2).bias(false).activation(tanh)))),
        (
            "gru",
            build(Sequential::new(3).add(Gru::keras(4).layers(2)).add(Dense::new(1).activation(Activation::Sigmoid))),
        ),
        ("gru_reset_before", build(Sequential::new(3).add(Gru::new(4).reset_after(false).return_sequences(true)))),
        (
            "gru_options",
            build(
                Sequential::new(3).add(
                    Gru::new(4)
                        .layers(2)
                        .bidirectional(true)
                        .reset_after(false)
                        .clip(0.6)
                        .gate_activation(Activation::KERAS_HARD_SIGMOID)
                        .activation(Activation::LeakyRelu { alpha: 0.2 })
                        .return_sequences(true),
                ),
            ),
        ),
        (
            "rnn",
            build(
                Sequential::new(3)
                    .add(Rnn::new(4).layers(2).bidirectional(true).return_sequences(true))
                    .add(Rnn::keras(3).activation(Activation::Relu))
                    .add(Dense::new(2)),
            ),
        ),
        (
            "rnn_options",
            build(
                Sequential::new(3).add(
                    Rnn::new(4)
                        .bidirectional(true)
                        .bias(Bias::None)
                        .merge(Merge::Sum)
                        .clip(0.6)
                        .activation(Activation::LeakyRelu { alpha: 0.2 })
                        .return_sequences(true),
                ),
            ),
        ),
        ("rnn_reverse", build(Sequential::new(3).add(Rnn::new(4).reverse(true).activation(Activation::Linear)))),
        ("softmax", build(Sequential::new(3).add(Lstm::new(4)).add(Dense::new(3).activation(Activation::Softmax)))),
        (
            "logsoftmax",
            build(
                Sequential::new(3)
                    .add(Lstm::new(4).return_sequences(true))
                    .add(Dense::new(3).activation(Activation::LogSoftmax)),
            ),
        ),
        ("embedding", build(Sequential::new(1).add(Embedding::new(7, 3)).add(Lstm::keras(4)).add(Dense::keras(2)))),
        ("mean", build(Sequential::new(3).add(Lstm::new(4).return_sequences(true)).add(Pool::Mean))),
        ("max", build(Sequential::new(3).add(Lstm::new(4).return_sequences(true)).add(Pool::Max).add(Dense::new(2)))),
        (
            "total",
            build(
                Sequential::new(3)
                    .add(Lstm::new(4).return_sequences(true))
                    .add(Activation::Relu)
                    .add(Pool::Sum)
                    .add(Activation::Softmax),
            ),
        ),
        ("last", build(Sequential::new(3).add(Lstm::new(4).return_sequences(true)).add(Pool::Last))),
        ("sum", build(Sequential::new(3).add(Lstm::new(4).bidirectional(true).merge(Merge::Sum)))),
        (
            "merged",
            build(
                Sequential::new(3)
                    .add(Lstm::new(4).bidirectional(true).merge(Merge::Mul).return_sequences(true))
                    .add(Lstm::new(4).bidirectional(true).merge(Merge::Ave).return_sequences(true)),
            ),
        ),
        ("backwards", build(Sequential::new(3).add(Lstm::new(4).go_backwards(true).return_sequences(true)))),
        ("backwards_last", build(Sequential::new(3).add(Lstm::new(4).go_backwards(true)))),
        ("reverse", build(Sequential::new(3).add(Lstm::new(4).reverse(true).return_sequences(true)))),
        ("reverse_last", build(Sequential::new(3).add(Gru::new(4).reverse(true)))),
        (
            "options",
            build(
                Sequential::new(3).add(
                    Lstm::new(4)
                        .layers(2)
                        .bidirectional(true)
                        .bias(Bias::None)
                        .peepholes(true)
                        .coupled(true)
                        .clip(0.7)
                        .gate_activation(Activation::KERAS_HARD_SIGMOID)
                        .candidate_activation(Activation::Linear)
                        .output_activation(Activation::Elu { alpha: 0.6 })
                        .return_sequences(true),
                ),
            ),
        ),
        (
            "affine",
            build(Sequential::new(3).add(Dense::new(2).activation(Activation::Affine { alpha: 2.0, beta: -1.0 }))),
        ),
    ]
}

/// Numbers for a model: indices where it takes some.
fn input(model: &Model) -> Array3<f32> {
    let mut draw = Draw::new(3);
    match model.config().unwrap().output() {
        _ if model.summary().contains("Embedding") => Array3::from_shape_fn((3, 5, 1), |_| draw.below(7) as f32),
        _ => draw.array3((3, 5, 3)),
    }
}

/// Models that are written are read back to the same numbers.
fn written_models(device: &Device) {
    for (name, model) in models(device) {
        let (x, path) = (input(&model), temporary());
        onnx::save(&model, path.path()).unwrap();
        let mut graph = Graph::load(path.path(), device).unwrap();
        let outputs = graph.run(BTreeMap::from([("input".into(), x.clone().into())])).unwrap();
        same(name, &outputs["output"], &model.predict(x.view()).unwrap().into());
    }
}

/// Bare layers, from initial states of 0 and from given ones.
fn written_layers(device: &Device) {
    let configs: Vec<(Lstm, bool)> = vec![
        (Lstm::new(4), false),
        (Lstm::new(4).layers(2).bidirectional(true).peepholes(true), true),
        (Lstm::keras(4).layers(2).reverse(true), true),
        (Lstm::new(4).bias(Bias::None), true),
        (Gru::new(4).layers(2).bidirectional(true).into(), true),
        (Gru::new(4).into(), false),
        (Rnn::new(4).layers(2).bidirectional(true).into(), true),
        (Rnn::new(4).activation(Activation::Softsign).into(), false),
    ];
    for (config, with_states) in configs {
        let layer = config.clone().build(device, 3, 1).unwrap();
        let (mut draw, path) = (Draw::new(7), temporary());
        let x = draw.array3((2, 5, 3));
        let mut state = LstmState::zeros(&config, 2).unwrap();
        let mut inputs = BTreeMap::from([("input".to_string(), x.clone().into())]);
        if with_states {
            state.h.mapv_inplace(|_| draw.next());
            state.c.mapv_inplace(|_| draw.next());
            inputs.insert("h_0".into(), state.h.clone().into());
            if !state.c.is_empty() {
                inputs.insert("c_0".into(), state.c.clone().into());
            }
            onnx::save_layer_with_states(&layer, path.path()).unwrap();
        } else {
            onnx::save_layer(&layer, path.path()).unwrap();
        }
        let outputs = Graph::load(path.path(), device).unwrap().run(inputs).unwrap();
        let expected = layer.forward(x.view(), Some(&state)).unwrap();
        let what = format!("{config:?}");
        same(&what, &outputs["output"], &expected.output.into());
        same(&what, &outputs["h_n"], &expected.state.h.into());
        match outputs.get("c_n") {
            Some(c) => same(&what, c, &expected.state.c.into()),
            None => assert!(expected.state.c.is_empty(), "{what}"),
        }
    }
}

on_both!(node_cases, graphs, exports, lifted_layers, lifted_streams, written_models, written_layers);

/// Writes the models, with input and output of each, into the folder named by the variable, for
/// `tests/interop/opened_by_onnxruntime.py`.
#[test]
#[ignore = "for tests/interop/opened_by_onnxruntime.py, which has ONNX Runtime run the files"]
fn files_for_interop() {
    let folder = PathBuf::from(std::env::var("INTEROP").expect("INTEROP names a folder"));
    let device = Device::cpu();
    for (name, model) in models(&device) {
        let x = input(&model);
        onnx::save(&model, folder.join(format!("{name}.onnx"))).unwrap();
        ndarray_npy::write_npy(folder.join(format!("{name}.input.npy")), &x).unwrap();
        let y = model.predict(x.view()).unwrap();
        ndarray_npy::write_npy(folder.join(format!("{name}.output.npy")), &y).unwrap();
    }
    let config = Lstm::new(4).layers(2).bidirectional(true);
    let layer = config.clone().build(&device, 3, 1).unwrap();
    let mut draw = Draw::new(7);
    let x = draw.array3((3, 5, 3));
    let mut state = LstmState::zeros(&config, 3).unwrap();
    state.h.mapv_inplace(|_| draw.next());
    state.c.mapv_inplace(|_| draw.next());
    onnx::save_layer_with_states(&layer, folder.join("layer.onnx")).unwrap();
    let out = layer.forward(x.view(), Some(&state)).unwrap();
    for (name, array) in [
        ("input", &x),
        ("h_0", &state.h),
        ("c_0", &state.c),
        ("output", &out.output),
        ("h_n", &out.state.h),
        ("c_n", &out.state.c),
    ] {
        ndarray_npy::write_npy(folder.join(format!("layer.{name}.npy")), array).unwrap();
    }
}

#[test]
fn what_onnx_has_no_operator_for_is_refused_by_name() {
    let device = Device::cpu();
    let path = temporary();
    for (layer, word) in [
        (Lstm::new(4).cell(Cell::Article), "article"),
        (Lstm::new(4).projection(2), "projection"),
        (Lstm::new(4).cell_clip(1.0), "clip of the cell state"),
        (Lstm::new(4).zoneout(0.1, 0.0), "zoneout"),
    ] {
        let model = Sequential::new(3).add(layer.clone()).build(&device, 0).unwrap();
        let error = onnx::save(&model, path.path()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("lstm"), "{error}");
        let error = onnx::save_layer(&layer.build(&device, 3, 0).unwrap(), path.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    for (layers, word) in [
        (Sequential::new(3).add(Masking::new(0.0)).add(Lstm::new(4)), "padding"),
        (Sequential::new(1).add(Embedding::new(5, 3).mask_zero(true)).add(Lstm::new(4)), "padding"),
        (Sequential::new(3).add(Lstm::new(4).layer_norm(true)), "layer normalisation"),
        (Sequential::new(3).add(Rnn::new(4).heads(2)), "RNN has no heads"),
        (Sequential::new(3).add(IndRnn::new(4)), "RNN has no heads"),
        (Sequential::new(3).add(MinLstm::new(4)), "min_lstm cell"),
        (Sequential::new(3).add(SLstm::new(4)), "s_lstm cell"),
    ] {
        let error = onnx::save(&layers.build(&device, 0).unwrap(), path.path()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("cannot be written as ONNX"), "{error}");
    }
    assert_eq!(path.as_file().metadata().unwrap().len(), 0);
}

#[test]
fn inputs_are_bound_by_name_and_type() {
    let graph = load("graph_operators_18", &Device::cpu());
    let name = |name: &str| Some(name.to_string());
    let (x, y) = (array![[1.0f32, 2.0, 3.0]], Array3::<f32>::zeros((1, 3, 4)));
    // Whole numbers as f32 become i64, and the only input left gets the array without a name.
    let whole: Value = array![4.0f32, -2.0].into();
    let given = vec![(None, y.clone().into()), (name("x"), x.clone().into()), (name("whole"), whole.clone())];
    let bound = graph.bind(given).unwrap();
    assert_eq!(bound["whole"], array![4i64, -2].into());
    assert_eq!(bound["y"], y.clone().into());
    let refused = |given: Vec<(Option<String>, Value)>| graph.bind(given).unwrap_err().to_string();
    assert!(refused(vec![(None, whole.clone())]).contains("the inputs left are: x, y, whole"));
    assert!(refused(vec![(name("z"), whole.clone())]).contains("no input \"z\"; its inputs are: x, y, whole"));
    assert!(
        refused(vec![(name("whole"), array![0.5f32].into())])
            .contains("\"whole\" was given as f32, the graph expects whole i64 [M]")
    );
    assert!(refused(vec![(name("x"), x.clone().into()), (name("x"), x.into())]).contains("twice"));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut graph = load("node_lstm_defaults", &Device::cpu());
    let [good, _] = values("node_lstm_defaults");
    let mut refused = |name: &str, value: Option<Value>| {
        let mut inputs = good.clone();
        inputs.remove(name);
        inputs.extend(value.map(|value| (name.to_string(), value)));
        graph.run(inputs).unwrap_err().to_string()
    };
    assert!(refused("W", None).contains("input \"W\" is missing; the graph expects W f32 [1, 12, 2]"));
    let error = refused("X", Some(Array3::<f32>::zeros((1, 3, 5)).into()));
    assert!(error.contains("\"X\" was given as f32 [1, 3, 5], the graph expects X f32 [1, 3, 2]"), "{error}");
    assert!(refused("X", Some(Array3::<f64>::zeros((1, 3, 2)).into())).contains("f64"));
    assert!(refused("Q", Some(array![1i64].into())).contains("no input \"Q\""));
    let error = refused("X", Some(Array3::<f32>::from_elem((1, 3, 2), f32::NAN).into()));
    assert!(error.contains("LSTM") && error.contains("NaN"), "{error}");
}

#[test]
fn a_description_says_what_a_file_holds() {
    let text = load("graph_inner", &Device::cpu()).describe();
    for part in [
        "operator set 17, made by make_onnx.py",
        "X f32 [5, 3, 2]",
        "choice/then_branch/rnn: LSTM, input 2, hidden 4",
        "W f32 [16, 2]",
        "node \"choice\" (If): it has graphs inside, which are not run",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let text = load("graph_lstm_directions_differ", &Device::cpu()).describe();
    assert!(text.contains("different activations"), "{text}");
}

#[test]
fn weights_beside_the_file_are_read_from_its_folder_only() {
    let device = Device::cpu();
    let bytes = std::fs::read(folder().join("graph_beside.onnx")).unwrap();
    let [inputs, _] = values("graph_beside");
    let error = Graph::from_bytes(bytes.clone(), "here", &device).unwrap().run(inputs.clone()).unwrap_err().to_string();
    assert!(error.contains("graph_beside.bin") && error.contains("given as bytes"), "{error}");

    let elsewhere = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let mut bytes = bytes.clone();
        // The names are as long as each other, so that nothing else of the file changes.
        assert_eq!(name.len(), "graph_beside.bin".len());
        while let Some(at) = bytes.windows(16).position(|part| part == b"graph_beside.bin") {
            bytes[at..at + 16].copy_from_slice(name.as_bytes());
        }
        let path = elsewhere.path().join("inner/model.onnx");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        Graph::load(&path, &device).unwrap().run(inputs.clone()).unwrap_err().to_string()
    };
    std::fs::write(elsewhere.path().join("outside_it.b"), vec![0; 4096]).unwrap();
    std::fs::create_dir_all(elsewhere.path().join("inner")).unwrap();
    std::fs::write(elsewhere.path().join("inner/too_short_a_file"), vec![0; 100]).unwrap();
    assert!(refused("../outside_it.bi").contains("does not lie in the model's folder"));
    assert!(refused("/etc/hostname///").contains("does not lie in the model's folder"));
    assert!(refused("there_is_no_such").contains("cannot be read"));
    assert!(refused("too_short_a_file").contains("which has 100"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(
            elsewhere.path().join("outside_it.b"),
            elsewhere.path().join("inner/a_link_elsewhere"),
        )
        .unwrap();
        assert!(refused("a_link_elsewhere").contains("does not lie in the model's folder"));
    }
}

/// Files that are made here byte by byte.
mod wire {
    /// A field of length and bytes.
    pub fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        [&varint(number << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
    }

    /// A field of a whole number.
    pub fn number(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    pub fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// A node without attributes but these.
    pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
        let inputs = inputs.iter().flat_map(|name| field(1, name.as_bytes()));
        let outputs = outputs.iter().flat_map(|name| field(2, name.as_bytes()));
        let attributes = attributes.iter().flat_map(|attribute| field(5, attribute));
        field(1, &inputs.chain(outputs).chain(field(4, op.as_bytes())).chain(attributes).collect::<Vec<u8>>())
    }

    pub fn int(name: &str, value: i64) -> Vec<u8> {
        [field(1, name.as_bytes()), number(3, value as u64), number(20, 2)].concat()
    }

    pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
        let values = values.iter().flat_map(|&value| number(8, value as u64)).collect();
        [field(1, name.as_bytes()), values, number(20, 7)].concat()
    }

    pub fn tensor(name: &str, dims: &[i64], kind: u64, raw: &[u8]) -> Vec<u8> {
        let dims = dims.iter().flat_map(|&dim| number(1, dim as u64)).collect();
        [dims, number(2, kind), field(8, name.as_bytes()), field(9, raw)].concat()
    }

    /// A named i64 tensor among the initialisers.
    pub fn integers(name: &str, values: &[i64]) -> Vec<u8> {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        field(5, &tensor(name, &[values.len() as i64], 7, &raw))
    }

    /// An input (11) or output (12) of a type, with an unknown shape.
    pub fn port(which: u64, name: &str, kind: u64) -> Vec<u8> {
        field(which, &[field(1, name.as_bytes()), field(2, &field(1, &number(1, kind)))].concat())
    }

    pub fn model(opset: u64, graph: &[Vec<u8>]) -> Vec<u8> {
        [number(1, 8), field(7, &graph.concat()), field(8, &number(2, opset))].concat()
    }
}

use wire::{field, int, integers, ints, model, node, number, port, tensor};

fn read(bytes: Vec<u8>) -> wgpu_lstm::Result<Graph> {
    Graph::from_bytes(bytes, "made.onnx", &Device::cpu())
}

/// Loads a graph with the input x [2, 3] and runs it: the error, whichever of both gives one.
fn fails(graph: &[Vec<u8>]) -> String {
    let x: Value = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]].into();
    let bytes = model(17, &[&[port(11, "x", 1), port(12, "y", 1)], graph].concat());
    match read(bytes)
        .map(|graph| graph.memory_limit(1 << 20))
        .and_then(|mut graph| graph.run(BTreeMap::from([("x".into(), x)])))
    {
        Ok(outputs) => panic!("it ran: {outputs:?}"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn says(error: String, parts: &[&str]) {
    says_of("made.onnx", error, parts);
}

/// The error names the file and has these parts.
#[track_caller]
fn says_of(file: &str, error: String, parts: &[&str]) {
    assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not all in: {error}");
    assert!(error.contains(file), "{error}");
}

#[test]
fn what_is_not_supported_is_named() {
    says(fails(&[node("Conv", &["x"], &["y"], &[])]), &["node \"y\" (Conv)", "not supported"]);
    let several = [
        node("Conv", &["x"], &["a"], &[]),
        node("Resize", &["a"], &["b"], &[]),
        node("Conv", &["b"], &["c"], &[]),
        node("Relu", &["c"], &["y"], &[]),
    ];
    says(fails(&several), &["node \"a\" (Conv)", "; not supported are Conv × 2, Resize"]);
    let graph = read(model(17, &[&several[..], &[port(11, "x", 1), port(12, "y", 1)]].concat())).unwrap();
    let lines = [
        "Conv × 2: this operator is not supported; the first is node \"a\"",
        "node \"b\" (Resize): this operator is not supported",
    ];
    assert_eq!(graph.unsupported(), lines);
    assert!(lines.iter().all(|line| graph.describe().lines().any(|own| own.trim() == *line)), "{}", graph.describe());
    let mut gru = load("tf2onnx_gru_loop", &Device::cpu());
    assert!(gru.describe().contains("(Loop): it has graphs inside, which are not run"));
    says_of(
        "tf2onnx_gru_loop",
        gru.run(values("tf2onnx_gru_loop")[0].clone()).unwrap_err().to_string(),
        &["cannot be run"],
    );
    says(fails(&[node("Relu", &["x"], &["y"], &[int("slope", 1)])]), &["Relu", "attribute slope"]);
    says(fails(&[node("Gemm", &["x", "x"], &["y"], &[ints("alpha", &[1])])]), &["alpha", "INTS, expected FLOAT"]);
    says(fails(&[node("Squeeze", &["x"], &["y"], &[ints("axes", &[0])])]), &["attribute axes", "opset 17"]);
    says(fails(&[node("LSTM", &["x", "x", "x"], &["y"], &[int("output_sequence", 1)])]), &["LSTM", "output_sequence"]);
    says(fails(&[node("LSTM", &["x", "x"], &["y"], &[])]), &["input R is missing"]);
    says(fails(&[node("RNN", &["x", "x", "x"], &["y"], &[int("input_forget", 1)])]), &["RNN", "input_forget"]);
    says(fails(&[node("RNN", &["x", "x", "x"], &["", "", "y"], &[])]), &["RNN", "outputs"]);
    says(fails(&[node("RNN", &["x"; 7], &["y"], &[])]), &["RNN", "7 inputs, expected at most 6"]);
    says(fails(&[node("Cast", &["x"], &["y"], &[int("to", 10)])]), &["Cast", "FLOAT16"]);
    says(fails(&[node("Cast", &["x"], &["y"], &[int("to", 99)])]), &["number 99"]);
    says(fails(&[node("Split", &["x"], &["y", "z"], &[int("axis", 1)])]), &["Split", "cannot be split"]);
    let domain = field(1, &[field(1, b"x"), field(2, b"y"), field(4, b"Relu"), field(7, b"com.microsoft")].concat());
    says(fails(&[domain]), &["com.microsoft"]);
    let half = field(5, &tensor("h", &[1], 10, &[0, 0]));
    says(fails(&[half, node("Add", &["x", "h"], &["y"], &[])]), &["tensor \"h\"", "FLOAT16"]);
    says(fails(&[field(15, b"sparse"), node("Relu", &["x"], &["y"], &[])]), &["sparse"]);
    says(read(model(6, &[port(12, "y", 1)])).unwrap_err().to_string(), &["operator set 6", "7 to 28"]);
    says(read(model(29, &[])).unwrap_err().to_string(), &["operator set 29"]);
    says(read(number(1, 8)).unwrap_err().to_string(), &["holds no graph"]);
    says(read(vec![0xff; 100]).unwrap_err().to_string(), &["is no ONNX file"]);
    let strings = [port(11, "s", 8), port(11, "x", 1), port(12, "x", 1)];
    let error = read(model(17, &strings)).unwrap().run(BTreeMap::from([("s".into(), array![1i32].into())]));
    assert!(error.unwrap_err().to_string().contains("s STRING"));
}

#[test]
fn graphs_that_break_the_rules_are_refused() {
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to], &[]);
    says(fails(&[relu("z", "y"), relu("y", "z")]), &["\"z\", which nothing before it makes", "cycle"]);
    says(fails(&[relu("x", "y"), relu("x", "y")]), &["two values named \"y\""]);
    says(fails(&[relu("x", "x"), relu("x", "y")]), &["two values named \"x\""]);
    says(fails(&[integers("a", &[1]), integers("a", &[1]), relu("x", "y")]), &["two initialisers named \"a\""]);
    says(fails(&[port(11, "x", 1), relu("x", "y")]), &["two inputs named \"x\""]);
    says(fails(&[relu("x", "z")]), &["the output \"y\", which no node computes"]);
    // An optional input without a value, an output that is not made
    says(fails(&[node("Add", &["x", ""], &["y"], &[])]), &["Add", "input 1 is missing"]);
    says(fails(&[node("Relu", &["x"], &["y", "z"], &[])]), &["2 outputs"]);
    // Tensors whose data do not fit
    for (dims, raw, part) in [
        (vec![3], 8, "has 8 bytes of data; its shape [3] of f32 needs 12"),
        (vec![-1], 4, "a size of -1"),
        (vec![i64::MAX, i64::MAX], 4, "too large"),
        (vec![0, i64::MAX], 0, "too large"),
        (vec![1; 40], 4, "40 axes"),
    ] {
        let w = field(5, &tensor("w", &dims, 1, &vec![0; raw]));
        says(fails(&[w, node("Add", &["x", "w"], &["y"], &[])]), &["tensor \"w\"", part]);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_node_and_tensor() {
    let with = |op: &str, values: &[i64], attributes: &[Vec<u8>]| {
        fails(&[integers("a", values), node(op, &["x", "a"], &["y"], attributes)])
    };
    says(with("Reshape", &[4, 2], &[]), &["node \"y\" (Reshape)", "\"x\" (f32 [2, 3])", "[4, 2]"]);
    says(with("Reshape", &[-1, -1], &[]), &["two sizes of -1"]);
    says(with("Reshape", &[-1, 0, 0, 0], &[]), &["no axis 2"]);
    says(with("Reshape", &[-2, 3], &[]), &["size of -2"]);
    says(with("Squeeze", &[0], &[]), &["axis 0 of \"x\""]);
    says(with("Squeeze", &[5], &[]), &["axis 5 does not exist"]);
    says(with("Unsqueeze", &[0, 0], &[]), &["named twice"]);
    says(with("Expand", &[4, 2], &[]), &["does not stretch"]);
    says(with("Gather", &[2], &[]), &["\"a\" (i64 [1]) holds 2", "axis 0 of \"x\" (f32 [2, 3]) has 2"]);
    says(with("Add", &[1], &[]), &["\"a\" (i64 [1]) must be f32"]);
    says(fails(&[node("MatMul", &["x", "x"], &["y"], &[])]), &["MatMul", "cannot be multiplied"]);
    says(fails(&[node("Gemm", &["x", "x"], &["y"], &[])]), &["3 columns, 2 rows"]);
    says(fails(&[node("Transpose", &["x"], &["y"], &[ints("perm", &[0, 0])])]), &["named twice"]);
    says(fails(&[node("Transpose", &["x"], &["y"], &[ints("perm", &[0])])]), &["perm is [0]"]);
    says(fails(&[node("Concat", &["x"], &["y"], &[int("axis", 2)])]), &["axis 2 does not exist"]);
    says(fails(&[node("Softmax", &["x"], &["y"], &[int("axis", i64::MIN)])]), &["does not exist"]);
    says(fails(&[node("LSTM", &["x", "x", "x"], &["y"], &[])]), &["LSTM", "input W", "three axes"]);
    let three = [integers("a", &[2, 1, 3]), node("Reshape", &["x", "a"], &["x3"], &[])];
    let lstm = |attributes: &[Vec<u8>]| {
        fails(&[&three[..], &[node("LSTM", &["x3", "x3", "x3"], &["y"], attributes)]].concat())
    };
    says(lstm(&[]), &["its input W (f32 [2, 1, 3]) must have the shape [1, 12, 3]"]);
    says(lstm(&[int("hidden_size", i64::MAX)]), &["too large"]);
    says(lstm(&[int("hidden_size", -4)]), &["hidden_size is -4"]);
}

#[test]
fn a_run_stays_within_its_memory() {
    let fill = |sizes: &[i64]| [integers("a", sizes), node("ConstantOfShape", &["a"], &["y"], &[])];
    says(fails(&fill(&[1 << 20])), &["ConstantOfShape", "needs 4194304 bytes", "memory_limit"]);
    says(fails(&fill(&[1 << 40])), &["memory_limit"]);
    says(fails(&fill(&[i64::MAX])), &["too large"]);
    says(fails(&fill(&[0, 1 << 40])), &["memory_limit"]);
    says(fails(&fill(&[-1])), &["negative"]);
    // Many values that are each small enough: 40 of 40,000 bytes, all needed at the end
    let mut graph = vec![integers("a", &[10_000])];
    let names: Vec<String> = (0..40).map(|k| format!("v{k}")).collect();
    graph.extend(names.iter().map(|name| node("ConstantOfShape", &["a"], &[name], &[])));
    graph.push(node("Concat", &names.iter().map(|name| &name[..]).collect::<Vec<_>>(), &["y"], &[int("axis", 0)]));
    says(fails(&graph), &["memory_limit"]);
    // A long sequence for small weights
    let long = [
        integers("shape", &[1 << 17, 1, 1]),
        node("ConstantOfShape", &["shape"], &["long"], &[]),
        integers("four", &[1, 4, 1]),
        node("ConstantOfShape", &["four"], &["w"], &[]),
        node("LSTM", &["long", "w", "w"], &["y"], &[]),
    ];
    says(fails(&long), &["LSTM", "needs about", "memory_limit"]);
}

#[test]
fn graphs_inside_of_graphs_end_somewhere() {
    let nested = |depth: usize| {
        let mut inner = node("Relu", &["x"], &["z"], &[]);
        for k in 0..depth {
            let attribute = [field(1, b"then_branch"), field(6, &inner), number(20, 5)].concat();
            inner = node("If", &["x"], &[&format!("o{k}")], &[attribute]);
        }
        read(model(17, &[port(11, "x", 1), inner]))
    };
    assert!(nested(30).unwrap().describe().contains("graphs inside"));
    for depth in [200, 2000] {
        let error = nested(depth).unwrap_err();
        says(error.to_string(), &["is no ONNX file"]);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("recursion limit"), "{cause}");
    }
    // A constant made by a long chain of nodes
    let mut graph = vec![integers("c0", &[1])];
    graph.extend((0..200).map(|k| node("Identity", &[&format!("c{k}")], &[&format!("c{}", k + 1)], &[])));
    graph.push(node("LSTM", &["c0", "c200", "c200"], &["y"], &[]));
    let error = read(model(17, &graph)).unwrap().lift("y").unwrap_err().to_string();
    says(error, &["more than 64 nodes"]);
}

mod harm {
    use super::*;
    use proptest::prelude::*;

    /// Everything that can be done with a file, in little memory; only panics matter.
    fn use_up(bytes: Vec<u8>) {
        let Ok(graph) = Graph::from_bytes(bytes, "harm", &Device::cpu()) else { return };
        let mut graph = graph.memory_limit(1 << 22);
        let _ = graph.describe();
        for node in graph.recurrent() {
            let _ = graph.lift(&node.name);
        }
        let inputs = graph.inputs().iter().map(|port| {
            let shape: Vec<usize> = (port.shape.iter().flatten())
                .map(|size| match size {
                    onnx::Size::Fixed(size) => (*size).min(8),
                    _ => 2,
                })
                .collect();
            let zeros: Value = match &port.kind[..] {
                "i64" => ArrayD::<i64>::zeros(shape).into(),
                "i32" => ArrayD::<i32>::zeros(shape).into(),
                _ => ArrayD::<f32>::zeros(shape).into(),
            };
            (port.name.clone(), zeros)
        });
        let inputs = inputs.collect();
        let _ = graph.run(inputs);
    }

    fn files() -> Vec<Vec<u8>> {
        ["graph_", "pytorch_", "node_", "tf2onnx_"]
            .iter()
            .flat_map(|prefix| names(prefix))
            .map(|name| std::fs::read(folder().join(format!("{name}.onnx"))).unwrap())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn cut_files_are_no_panic(file in 0..files().len(), at in 0.0..1.0f64) {
            let mut bytes = files().swap_remove(file);
            bytes.truncate((bytes.len() as f64 * at) as usize);
            use_up(bytes);
        }

        #[test]
        fn changed_bytes_are_no_panic(file in 0..files().len(), changes in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..8)) {
            let mut bytes = files().swap_remove(file);
            for (at, byte) in changes {
                let at = (bytes.len() as f64 * at) as usize;
                bytes[at] = byte;
            }
            use_up(bytes);
        }

        #[test]
        fn flipped_bits_are_no_panic(file in 0..files().len(), flips in prop::collection::vec((0.0..1.0f64, 0..8u8), 1..4)) {
            let mut bytes = files().swap_remove(file);
            for (at, bit) in flips {
                let at = (bytes.len() as f64 * at) as usize;
                bytes[at] ^= 1 << bit;
            }
            use_up(bytes);
        }
    }
}

#[test]
fn a_tensor_file_is_read() {
    let path = temporary();
    let raw: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(path.path(), tensor("t", &[2], 1, &raw)).unwrap();
    assert_eq!(onnx::read_tensor(path.path()).unwrap(), Array1::from(vec![1.5f32, -2.0]).into());
    std::fs::write(path.path(), tensor("t", &[2], 10, &raw)).unwrap();
    assert!(onnx::read_tensor(path.path()).unwrap_err().to_string().contains("FLOAT16"));
}
