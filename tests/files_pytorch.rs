//! Files that PyTorch wrote (tests/fixtures/make_files_pytorch.py) hold the same numbers here and run to the same outputs; what is
//! written here is read again. Tolerance 1e-6: outputs of order 1 after 7 steps in f32, against f64.
#![cfg(feature = "pytorch")]

mod common;

use common::{Draw, Fixture, close, fixture};
use ndarray::{Array3, ArrayD};
use std::path::PathBuf;
use wgpu_lstm::format::pytorch::{Module, Weights};
use wgpu_lstm::{
    Activation, Bias, Cell, Dense, Device, Embedding, Error, Gru, IndRnn, LayerNorm, Lstm, LstmLayer, Merge, MinLstm,
    Model, Pool, Rnn, SLstm, Sequential,
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

/// A state dict does not say which nonlinearity an RNN has, a module saved whole does.
fn plain_recurrent_layers_are_those_of_pytorch(device: &Device) {
    let expected = fixture("file_pytorch_rnn_expected.safetensors");
    let x = expected.array3("x");
    let files = [
        ("file_pytorch_rnn_module.pt", ["encoder", "decoder", "cell"], "encoder"),
        ("file_pytorch_rnn_state_dict.pt", ["encoder:rnn(relu)", "decoder:rnn", "cell:rnn(relu)"], "encoder:rnn(relu)"),
    ];
    for (file, layers, below) in files {
        let weights = open(file);
        for (prefix, name) in layers.into_iter().zip(["encoder", "decoder", "cell"]) {
            let layer = weights.layer(Some(prefix), device).unwrap();
            let out = layer.forward(x.view(), None).unwrap();
            let own = |what: &str| &expected.tensors[&format!("{name}.{what}")];
            close(&format!("{file}: {prefix} output"), &out.output, own("output"), 1e-6, 1e-6);
            close(&format!("{file}: {prefix} h_n"), &out.state.h, own("h_n"), 1e-6, 1e-6);
        }
        let model = weights.model(&[below, "head"], device).unwrap();
        let y = model.predict(x.view()).unwrap();
        close(&format!("{file}: model"), &y, &expected.tensors["model.output"], 2e-6, 2e-6);
    }
}

#[test]
fn nonlinearities_of_rnns_are_found_or_named() {
    let (module, state) = (open("file_pytorch_rnn_module.pt"), open("file_pytorch_rnn_state_dict.pt"));
    let found = |weights: &Weights, prefix: &str| weights.recurrent(Some(prefix)).unwrap().to_string();
    assert_eq!(found(&module, "encoder"), "RNN (ReLU), I = 3, H = 4, L = 2, D = 2");
    assert_eq!(found(&state, "encoder"), "RNN (tanh), I = 3, H = 4, L = 2, D = 2");
    assert_eq!(found(&state, "encoder:rnn(relu)"), found(&module, "encoder"));
    assert_eq!(found(&module, "encoder.:RNN(Tanh)"), found(&state, "encoder"));
    assert_eq!(found(&module, "decoder"), "RNN (tanh), I = 3, H = 5, L = 1, D = 1, no bias");
    assert_eq!(found(&module, "cell:rnn"), "RNNCell (ReLU), I = 3, H = 6, L = 1, D = 1");
    says(state.sequential(&["encoder:gru"]), &["no GRU", "an RNN (tanh), I = 3"]);
    says(state.sequential(&["encoder:rnn(elu)"]), &["tanh or relu"]);
    let relu = Module::Rnn { prefix: "encoder".into(), nonlinearity: Some(Activation::Relu) };
    assert_eq!(state.sequential(&[relu]).unwrap(), module.sequential(&["encoder"]).unwrap());
    // Beside a layer of another cell, and with weights that are computed
    let lstm = zeros(&[("l.weight_ih_l0", &[8, 3]), ("l.weight_hh_l0", &[8, 2])]);
    says(lstm.sequential(&["l:rnn"]), &["no RNN", "an LSTM, I = 3"]);
    let dropped = zeros(&[("r.module.weight_ih_l0", &[2, 3]), ("r.weight_hh_l0_raw", &[2, 2])]);
    assert_eq!(found(&dropped, "r.module"), "RNN (tanh), I = 3, H = 2, L = 1, D = 1, no bias");
}

on_both!(
    plain_recurrent_layers_are_those_of_pytorch,
    outputs_are_those_of_pytorch,
    layers_of_computed_parameters,
    modules_as_the_caller_names_them
);

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
    // A sparse tensor is listed beside others.
    let sparse = open("file_pytorch_sparse.pt");
    assert_eq!(sparse.tensor("dense").unwrap().shape(), [2, 3, 4]);
    let listed: Vec<_> = sparse.tensors().map(|own| (own.name, own.shape.to_vec(), own.supported)).collect();
    assert_eq!(listed, [("dense", vec![2, 3, 4], true), ("sparse", vec![3, 3], false)]);
    says(sparse.tensor("sparse"), &["tensor sparse", "type sparse", "to_dense()"]);
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
    refused(&[ih, ("lstm.weight_hh_l0", &[2, 2])], &["lstm.weight_ih_l0", "[8, 3]", "[2, 3] was expected of this RNN"]);
    refused(&[ih, ("lstm.weight_hh_l0", &[7, 2])], &["lstm.weight_hh_l0", "[7, 2]", "4H rows", "H of an RNN"]);
    refused(&[("lstm.weight_ih_l0", &[6, 3]), hh], &["lstm.weight_ih_l0", "[6, 3]", "[8, 3] was expected"]);
    refused(&[ih, hh, ("lstm.bias_ih_l0", &[8])], &["lacks tensor lstm.bias_hh_l0 of shape [8]"]);
    refused(&[ih, hh, ("lstm.bias_ih_l0", &[8]), ("lstm.bias_hh_l0", &[6])], &["lstm.bias_hh_l0", "[6]", "[8]"]);
    refused(&[ih, hh, ("lstm.weight_ih_l1", &[8, 2])], &["lstm.weight_ih_l1", "does not belong"]);
    refused(&[ih, hh, ("lstm.weight_hh_l1", &[8, 2])], &["lacks tensor lstm.weight_ih_l1"]);
    refused(&[ih, hh, ("lstm.weight_ih_l0_reverse", &[8, 3])], &["lacks tensor lstm.weight_hh_l0_reverse"]);
    refused(&[ih, hh, ("lstm.weight_hr_l0", &[2, 2])], &["projection"]);
    refused(&[ih, hh, ("lstm.weight_hr_l0", &[2, 5])], &["lstm.weight_hh_l0", "H = 5"]);
    refused(&[("fc.weight", &[2, 3])], &["no recurrent layer", "fc.weight"]);
    // What is beside a layer's tensors and touches them
    refused(&[ih, hh, ("lstm.weight_hh_l0_scale", &[8])], &["lstm.weight_hh_l0_scale", "LSTM, I = 3", "not known"]);
    refused(
        &[ih, hh, ("lstm.lora_A", &[2, 3]), ("lstm.lora_B", &[8, 2])],
        &["LoRA", "lstm.lora_A", "merge_and_unload"],
    );
    let cell = [("c.weight_ih", &[8, 3][..]), ("c.weight_hh", &[8, 2][..]), ("c.layernorm_i.weight", &[8][..])];
    refused(&cell, &["c.layernorm_i.weight", "LSTMCell", "not known"]);
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
    says(model(&[]), &["state_dict.pt", "at least one"]);
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

/// The cases of a fixture that begin with `case.`, but for those of other kinds.
fn of_case<'a>(expected: &'a Fixture, case: &str) -> impl Iterator<Item = (String, &'a ArrayD<f32>)> {
    let start = format!("{case}.weight.");
    expected.tensors.iter().filter_map(move |(name, values)| Some((name.strip_prefix(&start)?.to_string(), values)))
}

/// Weights as PyTorch's modules have them in evaluation, in f64 and rounded: so are they here.
#[test]
fn computed_parameters_are_those_of_pytorch() {
    let (weights, expected) = (open("file_pytorch_computed.pt"), fixture("file_pytorch_computed_expected.safetensors"));
    let mut cases: Vec<String> =
        weights.tensors().filter_map(|own| Some(own.name.split_once('.')?.0.to_string())).collect();
    cases.dedup();
    cases.sort();
    cases.dedup();
    assert_eq!(cases.len(), 33);
    for case in &cases {
        let mut checked = 0;
        for (name, values) in of_case(&expected, case) {
            let name = format!("{case}.{name}");
            // Of a square matrix the file does not say the dim; PyTorch's default is read, another one refused.
            if case.ends_with("spectral_square_1") {
                says(weights.tensor(&name), &["file_pytorch_computed.pt", &name, "another dim"]);
                checked += 1;
                continue;
            }
            let own = weights.tensor(&name).unwrap();
            assert_eq!(own.shape(), values.shape(), "{name}");
            for (a, b) in own.iter().zip(values.iter()) {
                // The sums are in another order.
                assert!((a - b).abs() <= 2e-7 * b.abs() || a.is_nan() && b.is_nan(), "{name}: {a}, expected {b}");
            }
            checked += 1;
        }
        assert!(checked > 0, "{case}");
    }
    // A row of zeros becomes NaN in PyTorch, too, and no model.
    for age in ["old", "new"] {
        let name = format!("{age}_norm_zeros.fc.weight");
        assert!(weights.tensor(&name).unwrap().row(1).iter().all(|value| value.is_nan()));
        let given = format!("{age}_norm_zeros.fc:linear");
        says(
            weights.model(&[given], &Device::cpu()),
            &["computed.pt", &name, "weight normalisation", "NaN", "element 3"],
        );
    }
}

trait Row {
    fn row(&self, at: usize) -> ndarray::ArrayViewD<'_, f32>;
}

impl Row for ArrayD<f32> {
    fn row(&self, at: usize) -> ndarray::ArrayViewD<'_, f32> {
        self.index_axis(ndarray::Axis(0), at)
    }
}

fn layers_of_computed_parameters(device: &Device) {
    let (weights, expected) = (open("file_pytorch_computed.pt"), fixture("file_pytorch_computed_expected.safetensors"));
    let x = expected.array3("x");
    let (mut layers, mut models) = (0, 0);
    for name in expected.tensors.keys().filter(|name| name.ends_with(".output")) {
        let case = name.strip_suffix(".output").unwrap();
        let output = if expected.tensors.contains_key(&format!("{case}.h_n")) {
            layers += 1;
            let prefix = weights.prefixes().into_iter().find(|prefix| prefix.split('.').next() == Some(case)).unwrap();
            let out = weights.layer(Some(prefix), device).unwrap().forward(x.view(), None).unwrap();
            close(&format!("{case} h_n"), &out.state.h, &expected.tensors[&format!("{case}.h_n")], 1e-6, 1e-6);
            close(&format!("{case} c_n"), &out.state.c, &expected.tensors[&format!("{case}.c_n")], 1e-6, 1e-6);
            out.output.into_dyn()
        } else {
            models += 1;
            let modules = [format!("{case}.rnn"), format!("{case}.fc")];
            weights.model(&modules, device).unwrap().predict(x.view()).unwrap()
        };
        close(case, &output, &expected.tensors[name], 1e-6, 1e-6);
    }
    assert_eq!((layers, models), (13, 3));
}

#[test]
fn computed_parameters_are_listed_with_their_origin() {
    let weights = open("file_pytorch_computed.pt");
    let info = |name: &str| weights.tensors().find(|own| own.name == name).unwrap_or_else(|| panic!("{name}"));
    for (name, origin) in [
        ("fastai.0.module.weight_hh_l0", "the weight before dropout, from fastai.0.weight_hh_l0_raw"),
        ("fastai2.0.module.weight_hh_l0_reverse", "the weight before dropout, from fastai2.0.weight_hh_l0_reverse_raw"),
        ("fastai2_linear.fc.module.weight", "the weight before dropout, from fastai2_linear.fc.weight_raw"),
        ("awd.rnn.weight_hh_l0", "the weight before dropout, from awd.rnn.weight_hh_l0_raw"),
        ("awd_copy.rnn.weight_hh_l0", "the weight before dropout, from awd_copy.rnn.weight_hh_l0_raw"),
        ("old_norm_0.weight_hh_l0", "weight normalisation, from old_norm_0.weight_hh_l0_g, old_norm_0.weight_hh_l0_v"),
        (
            "new_spectral.weight_hh_l0",
            "spectral normalisation, from new_spectral.parametrizations.weight_hh_l0.original, \
             new_spectral.parametrizations.weight_hh_l0.0._u, new_spectral.parametrizations.weight_hh_l0.0._v",
        ),
        ("pruned.weight_hh_l0", "pruning, from pruned.weight_hh_l0_orig, pruned.weight_hh_l0_mask"),
    ] {
        let own = info(name);
        assert_eq!((own.computed.as_deref(), &own.number[..], own.supported), (Some(origin), "F32", true), "{name}");
    }
    // Once, though the file has a copy
    assert_eq!(weights.tensors().filter(|own| own.name == "fastai.0.module.weight_hh_l0").count(), 1);
    assert_eq!(info("fastai.0.weight_hh_l0_raw").computed, None);
}

#[test]
fn parameters_that_cannot_be_computed_are_named() {
    let refused = |tensors: &[(&str, &[usize])], parts: &[&str]| {
        let weights = zeros(tensors);
        says(weights.recurrent(None), &[&["zeros.safetensors"][..], parts].concat());
        says(weights.layer(None, &Device::cpu()), parts);
    };
    let ih = ("r.weight_ih_l0", &[8, 3][..]);
    let copy = ("r.weight_hh_l0", &[8, 2][..]);
    let part = |name: &'static str, shape: &'static [usize]| (name, shape);
    // With a copy of the parameter beside it and without: the copy is never taken.
    for beside in [&[ih][..], &[ih, copy]] {
        let with = |more: &[(&'static str, &'static [usize])]| [beside, more].concat();
        let original = part("r.parametrizations.weight_hh_l0.original", &[8, 2]);
        let remove = "remove_parametrizations";
        refused(&with(&[original, part("r.parametrizations.weight_hh_l0.0.base", &[8, 8])]), &["orthogonal", remove]);
        refused(&with(&[original, part("r.parametrizations.weight_hh_l0.0.lora_A", &[1, 2])]), &["LoRA", remove]);
        refused(&with(&[original]), &["r.weight_hh_l0", "orthogonal", "one's own", remove]);
        let chained = [
            original,
            part("r.parametrizations.weight_hh_l0.0._u", &[8]),
            part("r.parametrizations.weight_hh_l0.1.x", &[1]),
        ];
        refused(&with(&chained), &["several on top of each other", remove]);
        let (g, v) = (part("r.weight_hh_l0_g", &[8]), part("r.weight_hh_l0_v", &[8, 2]));
        refused(&with(&[g, v]), &["weight normalisation", "r.weight_hh_l0_g of shape [8]", "[rows, 1]"]);
        let orig = part("r.weight_hh_l0_orig", &[8, 2]);
        refused(&with(&[orig]), &["pruning or spectral", "missing", "prune.remove"]);
        refused(&with(&[orig, part("r.weight_hh_l0_mask", &[8])]), &["pruning", "prune.remove"]);
        refused(&with(&[orig, part("r.weight_hh_l0_u", &[8])]), &["spectral", "before 1.0"]);
        let vectors = [part("r.weight_hh_l0_u", &[8]), part("r.weight_hh_l0_v", &[2])];
        let all = [&[orig][..], &vectors, &[part("r.weight_hh_l0_mask", &[8, 2])]].concat();
        refused(&with(&all), &["pruning and spectral normalisation at once"]);
        refused(&with(&[orig, vectors[0], part("r.weight_hh_l0_v", &[3])]), &["spectral", "do not fit"]);
        let raw = part("r.weight_hh_l0_raw", &[8, 2]);
        refused(&with(&[raw, part("r.weight_hh_l0_g", &[8, 1]), v]), &["two methods"]);
    }
    refused(
        &[ih, copy, part("r.weight_hh_l0_raw", &[8, 4])],
        &["r.weight_hh_l0", "[8, 2]", "[8, 4]", "before dropout"],
    );
    // A raw weight beside two modules that have a copy
    let two = zeros(&[
        ("a.weight_hh_l0_raw", &[8, 2]),
        ("a.x.weight_ih_l0", &[8, 3]),
        ("a.x.weight_hh_l0", &[8, 2]),
        ("a.y.weight_ih_l0", &[8, 3]),
        ("a.y.weight_hh_l0", &[8, 2]),
    ]);
    says(two.recurrent(Some("a.x")), &["a.x.weight_hh_l0", "a.weight_hh_l0_raw", "before dropout"]);
    // LoRA as peft has it, by the module's name and by that of what it wraps
    let peft = zeros(&[
        ("m.fc.base_layer.weight", &[2, 3]),
        ("m.fc.lora_A.default.weight", &[1, 3]),
        ("m.fc.lora_B.default.weight", &[2, 1]),
        ("explorable.weight", &[2, 3]),
        ("explorable.bias", &[2]),
    ]);
    says(peft.sequential(&["m.fc"]), &["LoRA", "m.fc.lora_A.default.weight", "merge_and_unload"]);
    says(peft.sequential(&["m.fc.base_layer:linear"]), &["LoRA", "merge_and_unload"]);
    assert!(peft.sequential(&["explorable"]).is_ok());
    // More than a linear layer has
    let noisy = zeros(&[("fc.weight", &[2, 3]), ("fc.bias", &[2]), ("fc.weight_sigma", &[2, 3])]);
    says(noisy.sequential(&["fc"]), &["fc.weight_sigma", "nn.Linear", "not known"]);
    // Names that only look so
    let plain = zeros(&[("W", &[2, 3]), ("W_g", &[2, 1]), ("W_v", &[2, 3]), ("alpha", &[1]), ("alpha_raw", &[1])]);
    assert!(plain.tensors().all(|own| own.computed.is_none()));
}

/// Prefixes that wrappers put before names are names; copies and an optimiser's state are other tensors.
#[test]
fn wrappers_and_copies_are_names() {
    let layer = |prefix: &str| {
        [("weight_ih_l0", vec![8, 3]), ("weight_hh_l0", vec![8, 2])]
            .map(|(kind, shape)| (format!("{prefix}{kind}"), shape))
    };
    let file = |groups: &[&str]| {
        let mut all: Vec<(String, Vec<usize>)> = groups.iter().flat_map(|prefix| layer(prefix)).collect();
        all.extend(["optimizer.state.0.exp_avg", "n_averaged"].map(|name| (name.to_string(), vec![8, 3])));
        zeros(&all.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect::<Vec<_>>())
    };
    for prefix in ["module.rnn.", "_orig_mod.rnn.", "module._orig_mod.", "model.module.rnn.", ""] {
        let found = file(&[prefix]).recurrent(None).unwrap();
        assert_eq!(found.prefix(), prefix.trim_end_matches('.'));
    }
    let both = file(&["model.rnn.", "ema.rnn."]);
    says(both.recurrent(None), &["2 recurrent layers", "\"ema.rnn\"", "\"model.rnn\"", "prefix"]);
    assert!(both.recurrent(Some("model.rnn")).is_ok());
}

fn modules_as_the_caller_names_them(device: &Device) {
    let (weights, expected) =
        (open("file_pytorch_classifier.pt"), fixture("file_pytorch_classifier_expected.safetensors"));
    let (x, indices) = (expected.array3("x"), expected.array3("indices"));
    let mut cases = 0;
    for (name, output) in expected.tensors.iter().filter(|(name, _)| !["x", "indices"].contains(&name.as_str())) {
        let modules: Vec<&str> = name.split(',').collect();
        let model = weights.model(&modules, device).unwrap_or_else(|error| panic!("{name}: {error}"));
        let given = if model.config().unwrap().input() == 1 { &indices } else { &x };
        let made = model.predict(given.view()).unwrap();
        assert_eq!(made.shape(), output.shape(), "{name}");
        // Sums of up to 5 steps of order 1
        close(name, &made, output, 2e-6, 2e-6);
        cases += 1;
    }
    assert_eq!(cases, 29);
}

#[test]
fn modules_become_the_layers_that_cost_least() {
    let weights = open("file_pytorch_classifier.pt");
    let kinds = |modules: &[&str]| -> Vec<String> {
        let summary = weights.model(modules, &Device::cpu()).unwrap().summary();
        summary
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().next().unwrap().to_string())
            .take_while(|w| !w.ends_with(char::is_numeric) || w.contains('_'))
            .collect()
    };
    // An activation after a dense layer is the dense layer's; the last step of one direction is the layer's own.
    let merged = kinds(&["emb:embedding", "rnn", "last", "fc", "dropout", "softmax"]);
    assert_eq!(merged, ["embedding", "lstm", "dense"]);
    assert_eq!(
        kinds(&["both", "last", "relu", "head", "relu", "softmax"]),
        ["lstm", "pool", "activation", "dense", "activation_1"]
    );
    // As values, mixed
    let values = [Module::from("both"), Pool::Last.into(), Activation::Relu.into(), Module::Linear("head.".into())];
    assert_eq!(weights.sequential(&values).unwrap(), weights.sequential(&["both", "last", "relu", "head"]).unwrap());
    let owned: Vec<String> = ["both", "last"].map(String::from).to_vec();
    assert_eq!(weights.sequential(&owned).unwrap(), weights.sequential(&["both", "last"]).unwrap());
}

#[test]
fn two_readings_are_refused() {
    let weights = open("file_pytorch_classifier.pt");
    let refused = |modules: &[&str], parts: &[&str]| {
        says(weights.sequential(modules), &[&["file_pytorch_classifier.pt"][..], parts].concat());
    };
    let two = ["emb.weight", "[6, 6]", "\"emb:embedding\"", "\"emb:linear\""];
    refused(&["emb", "rnn", "last"], &two);
    refused(&["emb", "dropout", "mean", "rnn"], &two);
    // Nothing says what follows
    refused(&["words"], &["[7, 3]", "\"words:embedding\"", "\"words:linear\""]);
    refused(&["words", "mean", "softmax"], &["\"words:embedding\""]);
    // Neither reads
    refused(
        &["words", "rnn"],
        &["gives 3 features as an nn.Embedding and 7 as an nn.Linear", "\"rnn\" after it takes 6"],
    );
    refused(&["rnn", "words:embedding"], &["nn.Embedding", "\"words:embedding\"", "first", "\"rnn\""]);
    refused(&["fc:embedding"], &["fc.weight", "[3, 4]", "with a bias of shape [3]", "nn.Embedding"]);
    refused(&["norm:linear"], &["norm.weight", "[4]", "nn.Linear"]);
    refused(&["plain_norm"], &["plain_norm.weight", "\"plain_norm:layernorm\"", "nn.PReLU"]);
    refused(&["rnn:gru"], &["no GRU", "LSTM, I = 6"]);
    refused(&["gru:lstm"], &["no LSTM", "GRU, I = 3"]);
    refused(&["rnn", "last", "both"], &["\"both\" after \"last\"", "takes sequences"]);
    refused(&["rnn", "final", "mean"], &["\"mean\" after \"final\""]);
    refused(&["rnn", "relu", "final"], &["\"final\"", "right before"]);
    refused(&["rnn", "gelu", "fc"], &["no layer under \"gelu\"", "no function's word", "leakyrelu"]);
    refused(&["rnn", "fc:gelu"], &["\"gelu\" is not one of the words", "layernorm"]);
    refused(&["last", "relu"], &["without a module that has weights"]);
    // A module that has the name of a function
    let named = zeros(&[("sum.weight", &[2, 3]), ("sum.bias", &[2]), ("fc.weight", &[3, 3]), ("fc.bias", &[3])]);
    says(named.sequential(&["fc", "sum"]), &["tensors under \"sum\"", "\"sum:linear\"", "\":sum\""]);
    assert_eq!(
        named.sequential(&["fc", "sum:linear"]).unwrap(),
        Sequential::new(3).add(Dense::new(3)).add(Dense::new(2))
    );
    assert_eq!(named.sequential(&["fc", ":sum"]).unwrap(), Sequential::new(3).add(Dense::new(3)).add(Pool::Sum));
    // A recurrent module's tensors and a weight at one level
    let both = zeros(&[("m.weight_ih_l0", &[8, 3]), ("m.weight_hh_l0", &[8, 2]), ("m.weight", &[4, 2])]);
    says(both.sequential(&["m"]), &["\"m:lstm\"", "\"m:linear\""]);
}

#[test]
fn what_is_no_float_lies_beside_what_is() {
    let expected = fixture("file_pytorch_others_expected.safetensors");
    let x = expected.array3("x");
    for (file, prefix, number) in
        [("file_pytorch_quantised.pt", "float", "QU8"), ("file_pytorch_u16_legacy.pth", "", "torch.uint16")]
    {
        let weights = open(file);
        let out = weights.layer(Some(prefix), &Device::cpu()).unwrap().forward(x.view(), None).unwrap();
        close(file, &out.output, &expected.tensors["output"], 1e-6, 1e-6);
        let extra = weights.tensors().find(|own| own.name == "extra").unwrap();
        assert!(!extra.supported && extra.number == number, "{extra:?}");
        says(weights.tensor("extra"), &[file, "tensor extra", number]);
    }
}

#[test]
fn programs_and_quantised_modules_are_named_with_the_way_out() {
    says(
        Weights::open(path("file_pytorch_exported.pt2")),
        &["exported.pt2", "torch.export", ".pt2", "torch.export.load(file).state_dict"],
    );
    says(
        Weights::open(path("file_pytorch_script.pt")),
        &["script.pt", "TorchScript", "torch.jit.load(file).state_dict()"],
    );
    let way_out = ["quantised module", "before quantize_dynamic"];
    let module = Weights::open(path("file_pytorch_quantised_module.pt"));
    says(
        module,
        &[&["quantised_module.pt", "torch.ao.nn.quantized.dynamic.modules.rnn.LSTM at \"lstm\""][..], &way_out]
            .concat(),
    );
    let state = open("file_pytorch_quantised.pt");
    says(
        state.sequential(&["model.lstm"]),
        &[&["quantised.pt", "\"model.lstm\"", "model.lstm._all_weight_values"][..], &way_out].concat(),
    );
    says(state.sequential(&["model.fc"]), &[&["\"model.fc\"", "model.fc.scale"][..], &way_out].concat());
    says(state.tensor("model.fc._packed_params._packed_params.0"), &["QI8", "dequantize()"]);
}

/// No message shows how a value is written in the code, and each names the file.
#[test]
fn messages_are_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer.safetensors");
    let weights = zeros(&[("fc.weight", &[2, 3, 4]), ("fc.bias", &[2]), ("x.weight", &[2, 3]), ("x.bias", &[3])]);
    let mut all: Vec<Error> = vec![
        weights.sequential(&["fc"]).unwrap_err(),
        weights.sequential(&["x"]).unwrap_err(),
        weights.sequential(&["x:embedding"]).unwrap_err(),
        weights.sequential(&[] as &[&str]).unwrap_err(),
        weights.recurrent(None).unwrap_err(),
    ];
    for lstm in [Lstm::new(4).peepholes(true).clip(2.0), Lstm::new(4).gate_activation(Activation::Elu { alpha: 0.5 })] {
        let layer = lstm.build(&Device::cpu(), 3, 0).unwrap();
        all.push(layer.save_pytorch(&file).unwrap_err());
    }
    for error in all {
        let text = error.to_string();
        assert!(!text.contains('{') && !text.contains("Some(") && !text.contains("None"), "{text}");
        assert!(text.contains(".safetensors"), "{text}");
    }
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
        Rnn::new(4).layers(2).bidirectional(true).build(&device, 3, 1).unwrap(),
        Rnn::keras(4).activation(Activation::Relu).build(&device, 3, 1).unwrap(),
    ];
    for layer in layers {
        layer.save_pytorch(&file).unwrap();
        let relu = *layer.config() == Rnn::keras(4).activation(Activation::Relu).into();
        let prefix = relu.then_some(":rnn(relu)"); // which is no part of the file
        let again = Weights::open(&file).unwrap().layer(prefix, &device).unwrap();
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
        IndRnn::new(4).into(),
        MinLstm::new(4).into(),
        SLstm::new(4).into(),
        Rnn::new(4).clip(3.0).into(),
        Rnn::new(4).heads(2).into(),
        Rnn::new(4).activation(Activation::Softsign).into(),
    ] {
        let kind = lstm.equations().spec().kind;
        let layer = lstm.clone().build(&Device::cpu(), 3, 0).unwrap();
        says(layer.save_pytorch(&file), &["layer.safetensors", "PyTorch's layers lack"]);
        let model = Sequential::new(3).add(lstm).build(&Device::cpu(), 0).unwrap();
        says(model.save_pytorch(&file), &[&format!("cannot hold {kind}")]);
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
        .add(Rnn::new(3).return_sequences(true))
        .add(Dense::new(2))
        .build(&Device::cpu(), 3)
        .unwrap();
    model.save_pytorch(&pytorch).unwrap();
    let weights = Weights::open(&pytorch).unwrap();
    let again = weights.model(&["lstm", "layer_norm", "gru", "rnn", "dense"], &Device::cpu()).unwrap();
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
