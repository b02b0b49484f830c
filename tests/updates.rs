//! Frozen parameters, parameter groups, optimisers on named arrays: the numbers of PyTorch
//! (tests/fixtures/make_groups.py and make_training.py compute in f64) and of equations.
//!
//! Tolerance 2e-5 for files of PyTorch, as in tests/optimisers.rs.

mod common;

use common::{Draw, close, fixture};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, arr1, s};
use std::collections::BTreeMap;
use wgpu_lstm::plan::{Plan, Role};
use wgpu_lstm::{
    Bias, Clip, Dense, Device, Error, Fit, Loss, Lstm, Model, Optimiser, Regulariser, Rule, Schedule, Sequential,
    Stepper, Update, WeightDecay,
};

type Arrays = BTreeMap<String, ArrayD<f32>>;

fn groups() -> Vec<(&'static str, Update)> {
    let sgd = Update::new(Optimiser::sgd(0.1, 0.9).weight_decay(0.01));
    vec![
        ("adam_rates", Update::new(Optimiser::adam(0.02)).rate("lstm", 0.1)),
        ("adamw_without_decay_of_biases", Update::new(Optimiser::adamw(0.01, 0.2)).decay("bias", WeightDecay::None)),
        (
            "sgd_decays_and_rates",
            sgd.decay("weight_ih", WeightDecay::L2(0.05))
                .decay("weight_hh", WeightDecay::L2(0.1))
                .rate("weight_hh", 3.0),
        ),
        ("frozen_lstm_clipped", Update::new(Optimiser::adam(0.05)).clip(Clip::Norm(0.1)).freeze("lstm")),
        (
            "frozen_dense_clipped",
            Update::new(Optimiser::rmsprop(0.002).weight_decay(0.05)).clip(Clip::Norm(0.02)).freeze("dense"),
        ),
    ]
}

fn parameter_groups_of_pytorch(device: &Device) {
    let fixture = fixture("training_groups.safetensors");
    let (x, y, init) = (fixture.array3("x"), &fixture.tensors["y"], fixture.under("init."));
    for (name, update) in groups() {
        let mut model = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2)).build(device, 0).unwrap();
        model.set_parameters(init.clone()).unwrap();
        model.compile(Loss::MeanSquaredError, update).unwrap();
        let mut fit = Fit::new().epochs(12).batch_size(x.dim().0).shuffle(false);
        if name == "sgd_decays_and_rates" {
            fit = fit.schedule(Schedule::exponential(0.9));
        }
        let history = model.fit(x.view(), y.view(), fit).unwrap();
        close(&format!("{name} losses"), &history.loss, &fixture.tensors[&format!("{name}.losses")], 1e-6, 2e-5);
        let after = fixture.under(&format!("{name}.final."));
        for (parameter, values) in model.parameters().unwrap() {
            close(&format!("{name} {parameter}"), &values, &after[&parameter], 2e-5, 2e-5);
        }
    }
}

fn small(device: &Device, update: impl Into<Update>) -> (Model, Array3<f32>, Array2<f32>) {
    let layers = Sequential::new(3).add(Lstm::new(4).layers(2).bidirectional(true)).add(Dense::new(2));
    let mut model = layers.build(device, 3).unwrap();
    model.compile(Loss::MeanSquaredError, update).unwrap();
    let (x, y) = (Draw::new(1).array3((6, 5, 3)), Draw::new(2).array3((6, 1, 2)));
    (model, x, y.index_axis_move(Axis(1), 0))
}

fn rules() -> Vec<Optimiser> {
    vec![
        Optimiser::sgd_nesterov(0.1, 0.9).weight_decay(0.1),
        Optimiser::adamw(0.05, 0.1),
        Optimiser::nadam(0.05).weight_decay(0.1),
        Optimiser::rmsprop(0.05).decoupled_weight_decay(0.1),
    ]
}

/// Decay, penalties, bounds and clipping do not touch what is frozen, and there is no memory for it.
fn frozen_parameters_keep_their_bits(device: &Device) {
    for optimiser in rules() {
        let update = Update::new(optimiser.clone())
            .clip(Clip::Norm(0.5))
            .regularise(Regulariser::l1_l2(0.1, 0.1))
            .regularise(Regulariser::max_norm(0.1))
            .freeze("weight_ih_l0")
            .freeze("dense.");
        let (mut model, x, y) = small(device, update);
        let before = model.parameters().unwrap();
        model.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(2)).unwrap();
        for (name, after) in model.parameters().unwrap() {
            let frozen = name.contains("weight_ih_l0") || name.contains("dense.");
            let same = after.iter().zip(&before[&name]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert_eq!(same, frozen, "{optimiser:?}: {name}");
        }
        let plan = model.training_plan(6, 5).unwrap();
        let memory: Vec<&str> = names(&plan, Role::Optimiser);
        assert!(!memory.is_empty());
        assert!(memory.iter().all(|name| !name.contains("weight_ih_l0") && !name.contains("dense")), "{memory:?}");
    }
}

fn names(plan: &Plan, role: Role) -> Vec<&str> {
    plan.buffers.iter().filter(|buffer| buffer.role == role).map(|buffer| buffer.name.as_str()).collect()
}

/// Exceptions that change nothing change no bit; each pair of rate and decay has its numbers.
#[test]
fn plans_have_a_buffer_for_each_group() {
    let plan = |update: Update| small(&Device::cpu(), update).0.training_plan(6, 5).unwrap();
    let adam = || Update::new(Optimiser::adam(0.01));
    let hyper = |plan: &Plan| -> Vec<String> {
        names(plan, Role::Input).into_iter().filter(|name| name.starts_with("hyper")).map(String::from).collect()
    };
    let plain = plan(adam());
    assert_eq!(hyper(&plain), ["hyper"]);
    let same = plan(adam().rate("lstm.", 2.0).rate("lstm.", 0.5).decay("dense.", WeightDecay::None));
    assert_eq!(plain.to_string(), same.to_string());
    // Nothing goes backward below what is trained.
    assert!(plain.dispatches_of("scan_backward") > 0);
    assert_eq!(plan(adam().freeze("lstm.")).dispatches_of("scan_backward"), 0);
    assert!(plan(adam().freeze("dense.")).dispatches_of("scan_backward") > 0);
    let two = plan(adam().rate("lstm.", 0.5).decay("weight_hh", WeightDecay::Decoupled(0.1)));
    assert_eq!(hyper(&two), ["hyper", "hyper 1", "hyper 2"]);
    let trained = |update| {
        let (mut model, x, y) = small(&Device::cpu(), update);
        model.fit(x.view(), y.view(), Fit::new().epochs(2)).unwrap();
        model.parameters().unwrap()
    };
    assert_eq!(trained(adam()), trained(adam().rate("bias", 1.0).decay("weight", WeightDecay::None)));
    // All at twice the rate are those of an optimiser of that rate.
    assert_eq!(trained(Optimiser::adam(0.02).into()), trained(adam().rate("", 2.0)));
}

/// Two steps of SGD with momentum and decoupled decay, and of Adam, in f64 by their equations.
#[test]
fn steps_of_groups_follow_the_equations() {
    let start = BTreeMap::from([("a.weight", [1.0, -2.0]), ("b.weight", [0.5, 3.0]), ("b.bias", [-1.0, 0.25])]);
    let gradient = |step: usize, k: usize| [[0.3, -0.7], [1.1, 0.2]][step][k];
    let factor = |name: &str| if name.starts_with("b.") { 0.25 } else { 1.0 };
    let decay = |name: &str| if name.contains("bias") { 0.0 } else { 0.1 };
    let lrs = [0.1, 0.05];
    let settings = |optimiser: Optimiser| {
        Update::new(optimiser.decoupled_weight_decay(0.1)).rate("b.", 0.25).decay("bias", WeightDecay::None)
    };
    type Rule64 = fn(usize, f64, &mut [f64; 2]) -> f64;
    let sgd: Rule64 = |_, g, [v, _]| {
        *v = 0.9 * *v + g;
        *v
    };
    let adam: Rule64 = |t, g, [m, v]| {
        (*m, *v) = (0.9 * *m + 0.1 * g, 0.999 * *v + 0.001 * g * g);
        let (c1, c2) = (1.0 - 0.9f64.powi(t as i32 + 1), 1.0 - 0.999f64.powi(t as i32 + 1));
        *m / c1 / ((*v / c2).sqrt() + 1e-8)
    };
    for (optimiser, rule) in [(Optimiser::sgd(0.1, 0.9), sgd), (Optimiser::adam(0.1), adam)] {
        let mut steps = settings(optimiser).begin(&Device::cpu()).unwrap();
        let mut given: Arrays =
            start.iter().map(|(name, w)| (name.to_string(), arr1(w).mapv(|w| w as f32).into_dyn())).collect();
        let mut expected = start.clone();
        let mut memory: BTreeMap<(&str, usize), [f64; 2]> = BTreeMap::new();
        for (t, lr) in lrs.into_iter().enumerate() {
            let gradients = given.keys().map(|name| (name.clone(), arr1(&[gradient(t, 0), gradient(t, 1)]).into_dyn()));
            let gradients: Arrays = gradients.map(|(name, g)| (name, g.mapv(|g: f64| g as f32))).collect();
            steps.set_learning_rate(lr).unwrap();
            steps.step(&mut given, &gradients).unwrap();
            for (name, w) in &mut expected {
                for (k, w) in w.iter_mut().enumerate() {
                    let lr = lr * factor(name);
                    let step = rule(t, gradient(t, k), memory.entry((name, k)).or_default());
                    *w = *w * (1.0 - lr * decay(name)) - lr * step;
                }
                let expected: Vec<f32> = w.iter().map(|&w| w as f32).collect();
                close(&format!("step {t}, {name}"), &given[*name], &expected, 1e-6, 1e-6);
            }
        }
        assert_eq!(steps.steps(), 2);
    }
}

/// Gradients of the mean squared error of an LSTM's last output through a dense layer, which is written here.
fn gradients(device: &Device, x: &Array3<f32>, y: &ArrayD<f32>, parameters: &Arrays) -> (f32, Arrays) {
    let of_lstm = |all: &Arrays| -> Arrays {
        all.iter().filter_map(|(name, array)| Some((name.strip_prefix("lstm.")?.to_string(), array.clone()))).collect()
    };
    let bias = if parameters.contains_key("lstm.bias_hh_l0") { Bias::Double } else { Bias::Single };
    let lstm = Lstm::new(4).bias(bias).build_with(device, 3, of_lstm(parameters)).unwrap();
    let output = lstm.forward(x.view(), None).unwrap().output;
    let h: ArrayView2<f32> = output.slice(s![.., -1, ..]);
    let weight: ArrayView2<f32> = parameters["dense.weight"].view().into_dimensionality().unwrap();
    let error: Array2<f32> = h.dot(&weight.t());
    let error = error + &parameters["dense.bias"].view() - y;
    let error = error.into_dimensionality::<ndarray::Ix2>().unwrap();
    let loss = error.mapv(|e| e * e).mean().unwrap();
    let d = error.mapv(|e| 2.0 * e / y.len() as f32);
    let mut d_output = Array3::zeros(output.dim());
    d_output.slice_mut(s![.., -1, ..]).assign(&d.dot(&weight));
    let of_lstm = lstm.gradients(x.view(), None, d_output.view(), None).unwrap().parameters;
    let mut all: Arrays = of_lstm.into_iter().map(|(name, array)| (format!("lstm.{name}"), array)).collect();
    all.insert("dense.weight".into(), d.t().dot(&h).into_dyn());
    all.insert("dense.bias".into(), d.sum_axis(Axis(0)).into_dyn());
    (loss, all)
}

/// The cases of tests/optimisers.rs and those above, without a model.
fn optimisers_alone_take_the_steps_of_pytorch_and_keras(device: &Device) {
    let nadam = Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, momentum_decay: 0.1 };
    let decoupled = Optimiser { lr: 0.01, rule: nadam, weight_decay: WeightDecay::Decoupled(0.1) };
    let sgd = || Update::new(Optimiser::sgd(0.2, 0.0));
    let cases = vec![
        ("sgd_nesterov_l2", Optimiser::sgd_nesterov(0.1, 0.9).weight_decay(0.01).into()),
        ("sgd_clip_value", Update::new(Optimiser::sgd(0.5, 0.5)).clip(Clip::Value(0.05))),
        ("adam_l2", Optimiser::adam(0.01).weight_decay(0.05).into()),
        ("adamw", Optimiser::adamw(0.01, 0.1).into()),
        ("rmsprop_l2_clip_norm", Update::new(Optimiser::rmsprop(0.002).weight_decay(0.05)).clip(Clip::Norm(0.1))),
        ("nadam_decoupled", decoupled.into()),
        ("keras_nadam", Optimiser::nadam_keras(0.01).into()),
        (
            "keras_penalties",
            sgd()
                .clip(Clip::Norm(0.3))
                .regularise(Regulariser::l1_l2(0.01, 0.02).on("weight_ih"))
                .regularise(Regulariser::l2(0.05).on("weight_hh"))
                .regularise(Regulariser::l1(0.03).on("dense.weight")),
        ),
        (
            "keras_max_norm",
            sgd()
                .regularise(Regulariser::max_norm(0.6).on("weight_ih"))
                .regularise(Regulariser::max_norm(0.5).on("weight_hh"))
                .regularise(Regulariser::max_norm(0.4).on("dense.weight")),
        ),
    ];
    let files = [("training_optimisers.safetensors", cases), ("training_groups.safetensors", groups())];
    for (file, cases) in files {
        let fixture = fixture(file);
        let (x, y, init) = (fixture.array3("x"), &fixture.tensors["y"], fixture.under("init."));
        for (name, update) in cases {
            let after = fixture.under(&format!("{name}.final."));
            let mut parameters: Arrays = init.clone();
            parameters.retain(|name, _| after.contains_key(name));
            let mut steps: Stepper = update.begin(device).unwrap();
            let mut losses = Vec::new();
            for step in 0..12 {
                let (loss, gradients) = gradients(device, &x, y, &parameters);
                losses.push(loss);
                if name == "sgd_decays_and_rates" {
                    steps.set_learning_rate(0.1 * 0.9f64.powi(step)).unwrap();
                }
                steps.step(&mut parameters, &gradients).unwrap();
            }
            close(&format!("{name} losses"), &losses, &fixture.tensors[&format!("{name}.losses")], 1e-6, 2e-5);
            for (parameter, values) in &parameters {
                close(&format!("{name} {parameter}"), values, &after[parameter], 2e-5, 2e-5);
            }
        }
    }
}

on_both!(
    parameter_groups_of_pytorch,
    frozen_parameters_keep_their_bits,
    optimisers_alone_take_the_steps_of_pytorch_and_keras,
);

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
fn bad_groups_are_refused() {
    let mut model = small(&Device::cpu(), Optimiser::adam(0.1)).0;
    let adam = || Update::new(Optimiser::adam(0.1));
    let mut compile = |update| model.compile(Loss::MeanSquaredError, update);
    says(compile(adam().freeze("gru")), &["freeze is on \"gru\"", "no parameter", "lstm.weight_ih_l0"]);
    says(compile(adam().freeze("bias_hh")), &["names lstm.bias_hh_l0 but not lstm.bias_ih_l0"]);
    says(compile(adam().rate("l0_reverse", 0.5)), &["factor of a learning rate", "lstm.weight_ih_l0_reverse"]);
    for factor in [-1.0, f64::NAN, f64::INFINITY] {
        says(compile(adam().rate("lstm", factor)), &["rate on \"lstm\"", &factor.to_string(), "at least 0"]);
        let decay = WeightDecay::L2(factor);
        says(compile(adam().decay("lstm", decay)), &["decay on \"lstm\"", &factor.to_string(), "at least 0"]);
    }
    says(compile(adam().freeze("lstm").freeze("dense")), &["all parameters are frozen"]);
    says(compile(adam().freeze("")), &["all parameters are frozen"]);
    assert!(compile(adam().freeze("lstm").rate("dense", 0.0)).is_ok());
}

#[test]
fn bad_steps_are_refused() {
    let array = |values: &[f32]| arr1(values).into_dyn();
    let mut steps = Update::new(Optimiser::adam(0.1)).freeze("b").begin(&Device::cpu()).unwrap();
    let start: Arrays = BTreeMap::from([("a".into(), array(&[1.0, 2.0])), ("b".into(), array(&[3.0]))]);
    let mut parameters = start.clone();
    let of = |name: &str, values: &[f32]| Arrays::from([(name.to_string(), array(values))]);
    says(steps.step(&mut parameters, &of("b", &[1.0])), &["gradient of a is missing", "freeze"]);
    says(steps.step(&mut parameters, &of("a", &[1.0])), &["gradient of a has shape [1]", "[2]"]);
    says(steps.step(&mut parameters, &of("c", &[1.0])), &["gradient of c", "a, b"]);
    says(steps.step(&mut parameters, &of("a", &[1.0, f32::NAN])), &["gradient of a", "NaN", "[1]"]);
    parameters.insert("a".into(), array(&[1.0]));
    says(
        steps.step(&mut parameters, &of("a", &[1.0])),
        &["not those of the first step", "a of shape [2]", "shape [1]"],
    );
    parameters = start.clone();
    parameters.insert("a".into(), array(&[f32::INFINITY, 0.0]));
    says(steps.step(&mut parameters, &of("a", &[1.0, 1.0])), &["a", "inf"]);
    parameters = start.clone();
    assert_eq!(steps.steps(), 0);
    steps.step(&mut parameters, &of("a", &[1.0, 1.0])).unwrap();
    assert!(parameters["a"] != start["a"] && parameters["b"] == start["b"]);
    says(steps.set_learning_rate(-1.0), &["learning rate", "-1"]);
    says(Update::new(Optimiser::adam(-1.0)).begin(&Device::cpu()), &["learning rate", "-1"]);
    let mut unknown = Update::new(Optimiser::adam(0.1)).freeze("c").begin(&Device::cpu()).unwrap();
    says(unknown.step(&mut parameters, &of("a", &[1.0, 1.0])), &["freeze is on \"c\"", "a, b"]);
}

/// Files without these settings are as before, and those with them are read again.
#[test]
fn groups_are_serialised() {
    let plain = serde_json::to_string(&Update::new(Optimiser::adam(0.1))).unwrap();
    assert!(plain.ends_with("\"regularisers\":[]}"), "{plain}");
    assert_eq!(serde_json::from_str::<Update>(&plain).unwrap(), Update::new(Optimiser::adam(0.1)));
    for (_, update) in groups() {
        let json = serde_json::to_string(&update).unwrap();
        assert_eq!(serde_json::from_str::<Update>(&json).unwrap(), update, "{json}");
    }
    let penalty = serde_json::to_string(&Regulariser::l2(0.5).on("weight_hh")).unwrap();
    assert_eq!(penalty, r#"{"action":{"penalty":{"l1":0.0,"l2":0.5}},"on":"weight_hh"}"#);
}

/// A run with groups ends with the bits of one that was not stopped, and goes on with its groups only.
#[test]
fn runs_with_groups_are_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let update = || Update::new(Optimiser::adamw(0.02, 0.1)).freeze("weight_ih_l0").rate("dense", 0.5);
    let fit = |epochs| Fit::new().epochs(epochs).batch_size(2).schedule(Schedule::exponential(0.8));
    let (mut whole, x, y) = small(&Device::cpu(), update());
    whole.fit(x.view(), y.view(), fit(4)).unwrap();
    let (mut stopped, ..) = small(&Device::cpu(), update());
    stopped.fit(x.view(), y.view(), fit(2)).unwrap();
    stopped.save_training(&path).unwrap();
    let mut resumed = Model::load_training(&path, &Device::cpu()).unwrap();
    resumed.fit(x.view(), y.view(), fit(4).resume(true)).unwrap();
    assert_eq!(whole.parameters().unwrap(), resumed.parameters().unwrap());
}

fn model(seed: u64, outputs: usize) -> Model {
    let layers = Sequential::new(3).add(Lstm::new(4).bidirectional(true)).add(Dense::new(outputs));
    layers.build(&Device::cpu(), seed).unwrap()
}

#[test]
fn some_parameters_are_set() {
    let (from, mut to) = (model(1, 2).parameters().unwrap(), model(2, 2));
    let before = to.parameters().unwrap();
    let clone = to.clone();
    // One of the two directions, which the device keeps in one tensor.
    let name = "lstm.weight_hh_l0_reverse";
    let report = to.set_some_parameters(Arrays::from([(name.into(), from[name].clone())])).unwrap();
    assert_eq!(report.set, [name]);
    assert_eq!(report.left.len(), before.len() - 1);
    assert!(report.unused.is_empty() && report.other_shape.is_empty());
    for (parameter, values) in to.parameters().unwrap() {
        assert_eq!(values, if parameter == name { &from[name] } else { &before[&parameter] }.clone(), "{parameter}");
    }
    assert_eq!(clone.parameters().unwrap(), before, "a clone is another model");
    let now = to.parameters().unwrap();
    let mut set = |name: &str, array: ArrayD<f32>| {
        let good = ("dense.weight".to_string(), from["dense.weight"].clone());
        to.set_some_parameters(Arrays::from([good, (name.to_string(), array)]))
    };
    says(set("dense.bias", arr1(&[1.0]).into_dyn()), &["dense.bias has shape [1]", "[2]"]);
    says(set("dense.biases", arr1(&[1.0]).into_dyn()), &["dense.biases belongs to no layer", "dense.weight"]);
    says(set("dense.bias", arr1(&[1.0, f32::NAN]).into_dyn()), &["dense.bias", "NaN"]);
    assert_eq!(to.parameters().unwrap(), now, "what was refused changed nothing");
    assert_eq!(to.set_some_parameters(Arrays::new()).unwrap().left.len(), before.len());
}

#[test]
fn files_are_loaded_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut from = model(1, 5);
    let (x, y) = (Draw::new(1).array3((4, 3, 3)), Array2::zeros((4, 5)));
    from.compile(Loss::MeanSquaredError, Optimiser::adam(0.1)).unwrap();
    from.fit(x.view(), y.view(), Fit::new()).unwrap();
    // The optimiser's memory is not the model's.
    from.save_training(&path).unwrap();
    let mut to = model(2, 2);
    let (before, loaded) = (to.parameters().unwrap(), from.parameters().unwrap());
    let report = to.load_partial(&path).unwrap();
    assert_eq!(report.set.len(), 8, "{report:?}");
    assert!(report.left.is_empty() && report.unused.is_empty(), "{report:?}");
    let [bias, weight] = &report.other_shape[..] else { panic!("{report:?}") };
    assert_eq!((bias.name.as_str(), &bias.given[..], &bias.expected[..]), ("dense.bias", &[5][..], &[2][..]));
    assert_eq!((weight.name.as_str(), &weight.given[..]), ("dense.weight", &[5, 8][..]));
    for (name, values) in to.parameters().unwrap() {
        assert_eq!(values, if name.starts_with("dense") { &before[&name] } else { &loaded[&name] }.clone(), "{name}");
    }
    // A file with more, a model with more.
    let mut other = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(4)).add(Dense::new(2));
    other = other.add(Dense::new(5));
    let mut other = other.build(&Device::cpu(), 3).unwrap();
    let report = other.load_partial(&path).unwrap();
    assert_eq!(report.unused.len(), 4, "{report:?}");
    assert!(report.unused.iter().all(|name| name.ends_with("_reverse")), "{report:?}");
    assert_eq!(report.left, ["dense_1.bias", "dense_1.weight", "dense_2.bias", "dense_2.weight"]);
    let mut none = Sequential::new(9).add(Dense::new(4)).build(&Device::cpu(), 0).unwrap();
    let before = none.parameters().unwrap();
    says(none.load_partial(&path), &["model.safetensors", "no tensor has the name and shape", "lstm.", "dense.weight"]);
    assert_eq!(none.parameters().unwrap(), before);
    std::fs::write(&path, b"cut off").unwrap();
    assert!(none.load_partial(&path).is_err());
}
