//! Files that PyTorch wrote (tests/fixtures/make_files_pytorch.py) hold the same numbers here and run to the same outputs; what is
//! written here is read again. Tolerance 1e-6: outputs of order 1 after 7 steps in f32, against f64.
#![cfg(feature = "pytorch")]

mod common;

use common::{Draw, Fixture, close, fixture};
use ndarray::{Array3, ArrayD};
use std::path::PathBuf;
use wgpu_lstm::format::pytorch::Weights;
use wgpu_lstm::{
    Activation, Bias, Cell, Dense, Device, Embedding, Error, Gru, LayerNorm, Lstm, LstmLayer, Merge, Model, Sequential,
};

/// The network's files, and what their names begin with.
const FILES: [(&str, &str); 7] = [
    ("file_pytorch_state_dict.pt", ""),
    ("file_pytorch_state_dict_protocol5.pt", ""),
    ("file_pytorch_state_dict_legacy.pth", ""),
    ("file_pytorch_state_dict.safetensors", ""),
    ("file_pytorch_module.pt", ""),
    ("file_pytorch_module_legacy.pt", ""),
    ("file_pytorch_checkpoint.ckpt", "model."),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn open(name: &str) -> Weights {
    Weights::open(path(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn expected() -> Fixture {
    fixture("file_pytorch_expected.safetensors")
}

#[track_caller]
fn says<T>(result: Result<T, Error>, parts: &[&str]) {
    let text = match result {
        Ok(_) => panic!("no error; expected one that says {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is missing in: {text}");
    }
}

#[test]
fn every_container_holds_the_same_numbers() {
    let expected = expected().under("tensor.");
    for (file, before) in FILES {
        let weights = open(file);
        for (name, values) in &expected {
            assert_eq!(&weights.tensor(&format!("{before}{name}")).unwrap(), values, "{file}: {name}");
        }
        let mut names: Vec<String> = weights.tensors().map(|tensor| tensor.name.to_string()).collect();
        names.sort();
        let mut own: Vec<String> = expected.keys().map(|name| format!("{before}{name}")).collect();
        own.push(format!("{before}steps")); // an integer, which is listed and not read
        own.sort();
        assert_eq!(names, own, "{file}");
        says(weights.tensor(&format!("{before}steps")), &[file, "steps", "I64", "F32"]);
    }
}

#[test]
fn layers_are_found_by_names_and_shapes() {
    for (file, before) in FILES {
        let weights = open(file);
        let found: Vec<String> = (weights.prefixes().into_iter())
            .map(|prefix| format!("{prefix}: {}", weights.recurrent(Some(prefix)).unwrap()))
            .collect();
        let own = [
            "cell: LSTMCell, I = 3, H = 6, L = 1, D = 1",
            "encoder: LSTM, I = 3, H = 4, L = 2, D = 2",
            "inner.gru: GRU, I = 3, H = 4, L = 1, D = 1",
            "projected: LSTM, I = 3, H = 5, L = 1, D = 1, P = 2, no bias",
        ];
        assert_eq!(found, own.map(|layer| format!("{before}{layer}")), "{file}");
        says(weights.recurrent(None), &[file, "4 recurrent layers", "encoder", "inner.gru", "prefix"]);
        says(weights.recurrent(Some("nothing")), &["\"nothing\"", "encoder"]);
        // A last dot is no matter
        let dotted = weights.recurrent(Some(&format!("{before}encoder."))).unwrap();
        assert_eq!((dotted.config().hidden(), dotted.input()), (4, 3));
    }
}

fn outputs_are_those_of_pytorch(device: &Device) {
    let expected = expected();
    let x = expected.array3("x");
    // Files differ in how they are read, not in what is computed: one of each kind is run.
    for (file, before) in [FILES[0], FILES[2], FILES[3], FILES[4], FILES[6]] {
        let weights = open(file);
        for (prefix, name) in
            [("encoder", "encoder"), ("inner.gru", "gru"), ("projected", "projected"), ("cell", "cell")]
        {
            let layer = weights.layer(Some(&format!("{before}{prefix}")), device).unwrap();
            let out = layer.forward(x.view(), None).unwrap();
            close(
                &format!("{file}: {name} output"),
                &out.output,
                &expected.tensors[&format!("{name}.output")],
                1e-6,
                1e-6,
            );
            close(&format!("{file}: {name} h_n"), &out.state.h, &expected.tensors[&format!("{name}.h_n")], 1e-6, 1e-6);
            if let Some(c) = expected.tensors.get(&format!("{name}.c_n")) {
                close(&format!("{file}: {name} c_n"), &out.state.c, c, 1e-6, 1e-6);
            }
        }
        let layers = ["encoder", "norm", "head"].map(|name| format!("{before}{name}"));
        let model = weights.model(&layers.each_ref().map(String::as_str), device).unwrap();
        close(
            &format!("{file}: model"),
            &model.predict(x.view()).unwrap(),
            &expected.tensors["model.output"],
            2e-6,
            2e-6,
        );
    }
}

on_both!(outputs_are_those_of_pytorch);

#[test]
fn numbers_of_every_type_and_stride() {
    let weights = open("file_pytorch_numbers.pt");
    let expected = expected().under("number.");
    assert_eq!(expected.len(), 8);
    for (name, values) in &expected {
        assert_eq!(&weights.tensor(name).unwrap(), values, "{name}");
    }
    for (name, number) in [("i64", "I64"), ("bool", "BOOL"), ("c64", "C64"), ("f8", "torch.float8_e4m3fn")] {
        let listed = weights.tensors().find(|tensor| tensor.name == name).unwrap();
        assert!(listed.number == number && !listed.supported, "{listed:?}");
        says(weights.tensor(name), &[name, number, "F16, BF16, F32 and F64"]);
    }
    says(Weights::open(path("file_pytorch_sparse.pt")), &["sparse", "_rebuild_sparse_tensor", "not read"]);
}

/// A file with these tensors, all zeros.
fn zeros(tensors: &[(&str, &[usize])]) -> Weights {
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| vec![0; 4 * shape.iter().product::<usize>()]).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data).unwrap())
    });
    Weights::from_bytes("zeros.safetensors", safetensors::serialize(views, None).unwrap()).unwrap()
}

#[test]
fn layers_that_do_not_fit_are_named() {
    let refused = |tensors: &[(&str, &[usize])], parts: &[&str]| says(zeros(tensors).recurrent(None), parts);
    let (ih, hh) = (("lstm.weight_ih_l0", &[8, 3][..]), ("lstm.weight_hh_l0", &[8, 2][..]));
    assert!(zeros(&[ih, hh]).recurrent(None).is_ok());
    refused(&[ih], &["lacks tensor lstm.weight_hh_l0"]);
    refused(&[hh], &["lacks tensor lstm.weight_ih_l0"]);
    refused(&[ih, ("lstm.weight_hh_l0", &[16])], &["lstm.weight_hh_l0", "[16]", "a matrix"]);
    refused(&[ih, ("lstm.weight_hh_l0", &[2, 2])], &["lstm.weight_hh_l0", "[2, 2]", "plain RNN", "not supported"]);
    refused(&[ih, ("lstm.weight_hh_l0", &[7, 2])], &["lstm.weight_hh_l0", "[7, 2]", "4H rows"]);
    refused(&[("lstm.weight_ih_l0", &[6, 3]), hh], &["lstm.weight_ih_l0", "[6, 3]", "[8, 3] was expected"]);
    refused(&[ih, hh, ("lstm.bias_ih_l0", &[8])], &["lacks tensor lstm.bias_hh_l0 of shape [8]"]);
    refused(&[ih, hh, ("lstm.bias_ih_l0", &[8]), ("lstm.bias_hh_l0", &[6])], &["lstm.bias_hh_l0", "[6]", "[8]"]);
    refused(&[ih, hh, ("lstm.weight_ih_l1", &[8, 2])], &["lstm.weight_ih_l1", "does not belong"]);
    refused(&[ih, hh, ("lstm.weight_hh_l1", &[8, 2])], &["lacks tensor lstm.weight_ih_l1"]);
    refused(&[ih, hh, ("lstm.weight_ih_l0_reverse", &[8, 3])], &["lacks tensor lstm.weight_hh_l0_reverse"]);
    refused(&[ih, hh, ("lstm.weight_hr_l0", &[2, 2])], &["projection"]);
    refused(&[ih, hh, ("lstm.weight_hr_l0", &[2, 5])], &["lstm.weight_hh_l0", "H = 5"]);
    refused(&[("fc.weight", &[2, 3])], &["no recurrent layer", "fc.weight"]);
    refused(&[("weight_ih_l0", &[0, 3]), ("weight_hh_l0", &[0, 0])], &["weight_ih_l0", "[0, 3]"]);
    // Without a prefix at all
    assert_eq!(
        zeros(&[("weight_ih", &[6, 3]), ("weight_hh", &[6, 2])]).recurrent(None).unwrap().to_string(),
        "GRUCell, I = 3, H = 2, L = 1, D = 1, no bias"
    );
}

#[test]
fn models_that_do_not_fit_are_named() {
    let weights = open("file_pytorch_state_dict.pt");
    let model = |prefixes: &[&str]| weights.model(prefixes, &Device::cpu());
    says(model(&[]), &["at least one"]);
    says(model(&["encoder", "nothing"]), &["no layer under \"nothing\"", "encoder.weight_ih_l0"]);
    says(model(&["inner.gru", "head"]), &["dense", "\"head\"", "takes 8", "gives 4"]);
    let norm = zeros(&[("bn.weight", &[2]), ("bn.bias", &[2]), ("bn.running_mean", &[2])]);
    says(norm.sequential(&["bn"]), &["batch normalisation", "\"bn\""]);
    let odd = zeros(&[("conv.weight", &[2, 3, 4]), ("conv.bias", &[2])]);
    says(odd.sequential(&["conv"]), &["conv.weight", "[2, 3, 4]", "dense"]);
    // What is written with an architecture is for Model::load.
    let file = tempfile::NamedTempFile::new().unwrap();
    Sequential::new(3).add(Lstm::new(2)).build(&Device::cpu(), 0).unwrap().save(file.path()).unwrap();
    says(Weights::open(file.path()), &["Model::save", "Model::load"]);
}

#[test]
fn infinite_numbers_are_named() {
    let mut tensors = Vec::new();
    for (name, shape) in [("weight_ih_l0", [8usize, 3]), ("weight_hh_l0", [8, 2])] {
        let mut values = vec![0.0f32; shape.iter().product()];
        values[5] = f32::INFINITY;
        tensors.push((name, shape, bytemuck::cast_slice::<f32, u8>(&values).to_vec()));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data).unwrap())
    });
    let weights = Weights::from_bytes("a", safetensors::serialize(views, None).unwrap()).unwrap();
    says(weights.layer(None, &Device::cpu()), &["weight_ih_l0", "inf", "element 5"]);
}

fn outputs(layer: &LstmLayer, input: usize) -> ArrayD<f32> {
    layer.forward(Draw::new(5).array3((2, 5, input)).view(), None).unwrap().output.into_dyn()
}

#[test]
fn layers_that_were_written_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer.safetensors");
    let device = Device::cpu();
    let layers: Vec<LstmLayer> = vec![
        Lstm::new(4).build(&device, 3, 1).unwrap(),
        Lstm::new(4).layers(2).bidirectional(true).build(&device, 3, 1).unwrap(),
        Lstm::new(4).layers(2).bidirectional(true).projection(2).bias(Bias::None).build(&device, 3, 1).unwrap(),
        Lstm::keras(4).build(&device, 3, 1).unwrap(),
        Gru::new(4).layers(2).build(&device, 3, 1).unwrap(),
        Gru::new(4).bidirectional(true).bias(Bias::Single).build(&device, 3, 1).unwrap(),
    ];
    for layer in layers {
        layer.save_pytorch(&file).unwrap();
        let again = Weights::open(&file).unwrap().layer(None, &device).unwrap();
        // A single bias becomes two, of which one is 0: the same sums.
        assert_eq!(outputs(&again, 3), outputs(&layer, 3), "{:?}", layer.config());
    }
}

#[test]
fn what_pytorch_lacks_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer.safetensors");
    for lstm in [
        Lstm::new(4).peepholes(true),
        Lstm::new(4).coupled(true),
        Lstm::new(4).clip(3.0),
        Lstm::new(4).cell_clip(3.0),
        Lstm::new(4).gate_activation(Activation::KERAS_HARD_SIGMOID),
        Lstm::new(4).activation(Activation::Relu),
        Lstm::new(4).cell(Cell::Article),
        Lstm::new(4).bidirectional(true).merge(Merge::Sum),
        Lstm::new(4).reverse(true),
        Lstm::new(4).go_backwards(true),
        Lstm::new(4).zoneout(0.1, 0.1),
    ] {
        let layer = lstm.clone().build(&Device::cpu(), 3, 0).unwrap();
        says(layer.save_pytorch(&file), &["layer.safetensors", "PyTorch's layers lack"]);
        let model = Sequential::new(3).add(lstm).build(&Device::cpu(), 0).unwrap();
        says(model.save_pytorch(&file), &["cannot hold lstm"]);
        assert!(!file.exists());
    }
}

#[test]
fn models_that_were_written_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (pytorch, own) = (folder.path().join("pytorch.safetensors"), folder.path().join("own.safetensors"));
    let model = Sequential::new(3)
        .add(Lstm::new(4).layers(2).return_sequences(true))
        .add(LayerNorm::new())
        .add(Gru::new(5).return_sequences(true))
        .add(Dense::new(2))
        .build(&Device::cpu(), 3)
        .unwrap();
    model.save_pytorch(&pytorch).unwrap();
    let weights = Weights::open(&pytorch).unwrap();
    let again = weights.model(&["lstm", "layer_norm", "gru", "dense"], &Device::cpu()).unwrap();
    let x: Array3<f32> = Draw::new(7).array3((2, 5, 3));
    let y = model.predict(x.view()).unwrap();
    assert_eq!(again.predict(x.view()).unwrap(), y);
    // The other way, with an architecture
    again.save(&own).unwrap();
    assert_eq!(Model::load(&own, &Device::cpu()).unwrap().predict(x.view()).unwrap(), y);
    // An embedding's weight has the shape of a dense layer's; it is written.
    let embedding = Sequential::new(1).add(Embedding::new(7, 3)).add(Lstm::new(2)).build(&Device::cpu(), 3).unwrap();
    embedding.save_pytorch(&pytorch).unwrap();
    assert_eq!(Weights::open(&pytorch).unwrap().tensor("embedding.weight").unwrap().shape(), [7, 3]);
}

#[test]
fn half_precision_files_load_as_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("half.safetensors");
    let mut model = Sequential::new(2).add(Dense::new(1)).build(&Device::cpu(), 3).unwrap();
    let (weight, bias) = ([0x00u8, 0x3c, 0x00, 0xc0], 0.25f64.to_le_bytes()); // 1 and -2 in f16
    let views = [
        ("dense.weight", safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![1, 2], &weight).unwrap()),
        ("dense.bias", safetensors::tensor::TensorView::new(safetensors::Dtype::F64, vec![1], &bias).unwrap()),
    ];
    std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    model.load_weights(&file).unwrap();
    let parameters = model.parameters().unwrap();
    assert_eq!(parameters["dense.weight"].iter().copied().collect::<Vec<_>>(), [1.0, -2.0]);
    assert_eq!(parameters["dense.bias"][[0]], 0.25);
}
