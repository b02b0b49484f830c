//! The naive f64 oracles of recurrent layers and of networks against what PyTorch, Keras, ONNX Runtime and the ONNX package computed,
//! and against itself where a mask must act like something simpler.

mod common;

use common::graph_files::GraphFile;
use common::oracle::central_differences;
use common::recurrent_oracle::*;
use common::{Draw, Fixture, fixture, fixture_names};
use std::collections::BTreeMap;

/// For values: the files hold f32, which ONNX Runtime also computes in. All agree to 2e-7; another version's approximations
/// of sigmoid and tanh may be somewhat worse.
const VALUES: f64 = 1e-5;
/// For gradients: central differences in f64 with a step of 1e-5 are good to about 1e-9, the files hold f32; all agree to
/// 1e-6. Room is left for a reference that comes near a kink.
const GRADIENTS: f64 = 1e-4;
/// Number of elements of each gradient that are compared.
const SAMPLE: usize = 6;

fn wide(fixture: &Fixture, name: &str) -> Vec<f64> {
    fixture.tensors.get(name).map_or(vec![], |array| array.iter().map(|&value| value as f64).collect())
}

/// The oracle and the run that a `recurrent_*` file describes.
fn described(file: &Fixture) -> (RecurrentOracle, OracleRun) {
    let word = |key: &str| &file.metadata[key][..];
    let optional = |key: &str| file.metadata.get(key).map_or(0.0, |value| value.parse().unwrap());
    let cell = match word("cell") {
        "lstm" => RecurrentCell::Lstm,
        "layer_norm_lstm" => RecurrentCell::LayerNormLstm,
        "gru" => RecurrentCell::GruResetAfter,
        "gru_reset_before" => RecurrentCell::GruResetBefore,
        "rnn" => RecurrentCell::Rnn,
        other => panic!("no cell is called {other}"),
    };
    let shape = file.tensors["x"].shape();
    let mut oracle = RecurrentOracle::new(cell, shape[2], file.size("hidden"));
    oracle.layers = file.size("layers");
    oracle.directions = file.size("directions");
    oracle.projection = file.size("projection");
    oracle.coupled = word("coupled") == "1";
    oracle.clip = file.number("clip");
    oracle.cell_clip = file.number("cell_clip");
    oracle.gate = OracleActivation::parse(word("gate"));
    oracle.candidate = OracleActivation::parse(word("candidate"));
    oracle.output_activation = OracleActivation::parse(word("output_activation"));
    oracle.go_backwards = word("go_backwards") == "1";
    oracle.visiting_order = word("output_order") == "visiting";
    oracle.merge = match word("merge") {
        "concat" => OracleMerge::Concat,
        "sum" => OracleMerge::Sum,
        "mul" => OracleMerge::Mul,
        "ave" => OracleMerge::Ave,
        other => panic!("no merge is called {other}"),
    };
    oracle.zoneout_h = optional("zoneout_h");
    oracle.zoneout_c = optional("zoneout_c");
    let params = file.under("param.");
    oracle.params = params.keys().map(|name| (name.clone(), wide(file, &format!("param.{name}")))).collect();

    // What the metadata says of the parameters is what the file has.
    let has = |kind: &str| params.keys().any(|name| name.starts_with(kind));
    let biases = match (has("bias_ih"), has("bias_hh")) {
        (false, false) => "none",
        (true, false) => "single",
        (true, true) => "double",
        (false, true) => "the second alone",
    };
    assert_eq!(biases, word("bias"));
    assert_eq!(has("peephole"), word("peepholes") == "1");
    assert_eq!(has("weight_hr"), oracle.projection > 0);

    let run = OracleRun {
        x: wide(file, "x"),
        b: shape[0],
        t: shape[1],
        h_0: wide(file, "h_0"),
        c_0: wide(file, "c_0"),
        lengths: wide(file, "lengths").into_iter().map(|length| length as usize).collect(),
        ..OracleRun::default()
    };
    (oracle, run)
}

/// |given - expected| ≤ tolerance·(1 + |expected|) for all elements.
#[track_caller]
fn close(what: &str, given: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(given.len(), expected.len(), "{what}: number of elements");
    for (index, (&g, &e)) in given.iter().zip(expected).enumerate() {
        // A NaN on either side fails, too.
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "{what}: element {index} is {g}, expected {e}");
    }
}

#[test]
fn forward_equals_every_reference() {
    for name in fixture_names("recurrent_") {
        let file = fixture(&name);
        let (oracle, run) = described(&file);
        let mut result = oracle.forward(&run);
        if file.metadata.get("zero_length_state").is_some_and(|state| state == "zeros") {
            // ONNX Runtime gives zeros there instead of the initial state.
            for (values, initial) in [(&mut result.h_n, &run.h_0), (&mut result.c_n, &run.c_0)] {
                let width = values.len() / (oracle.layers * oracle.directions * run.b);
                for index in 0..values.len() {
                    if run.lengths[index / width % run.b] == 0 {
                        assert_eq!(values[index], initial[index], "{name}: a row without steps keeps its state");
                        values[index] = 0.0;
                    }
                }
            }
        }
        close(&format!("{name} output"), &result.output, &wide(&file, "output"), VALUES);
        close(&format!("{name} h_n"), &result.h_n, &wide(&file, "h_n"), VALUES);
        close(&format!("{name} c_n"), &result.c_n, &wide(&file, "c_n"), VALUES);
    }
}

/// The article's cell, and PyTorch's LSTM once more, from the files of the older oracle.
#[test]
fn forward_equals_the_older_references() {
    for (prefix, cell) in [("article_lstm_", RecurrentCell::Article), ("pytorch_lstm_", RecurrentCell::Lstm)] {
        for name in fixture_names(prefix) {
            let file = fixture(&name);
            let mut oracle = RecurrentOracle::new(cell, file.size("I"), file.size("H"));
            oracle.layers = file.size("L");
            oracle.directions = file.size("D");
            let parameters = file.tensors.keys().filter(|key| key.starts_with("weight") || key.starts_with("bias"));
            oracle.params = parameters.map(|key| (key.clone(), wide(&file, key))).collect();
            let [x, h_0, c_0] = ["x", "h_0", "c_0"].map(|key| wide(&file, key));
            let run = OracleRun { x, b: file.size("B"), t: file.size("T"), h_0, c_0, ..OracleRun::default() };
            let result = oracle.forward(&run);
            close(&format!("{name} output"), &result.output, &wide(&file, "output"), VALUES);
            close(&format!("{name} h_n"), &result.h_n, &wide(&file, "h_n"), VALUES);
            close(&format!("{name} c_n"), &result.c_n, &wide(&file, "c_n"), VALUES);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn differences_equal_every_gradient() {
    let mut files = 0;
    for name in fixture_names("recurrent_") {
        let file = fixture(&name);
        let gradients: Vec<String> = file.under("grad.").into_keys().collect();
        if gradients.is_empty() {
            continue;
        }
        files += 1;
        let (oracle, run) = described(&file);
        let [d_output, d_h_n, d_c_n] = ["d_output", "d_h_n", "d_c_n"].map(|key| wide(&file, key));
        let loss = |oracle: &RecurrentOracle, run: &OracleRun| {
            let result = oracle.forward(run);
            dot(&result.output, &d_output) + dot(&result.h_n, &d_h_n) + dot(&result.c_n, &d_c_n)
        };
        for wanted in gradients {
            let whole = wide(&file, &wanted);
            let expected = wide(&file, &format!("grad.{wanted}"));
            // Spread over the tensor, first and last element included.
            let count = SAMPLE.min(whole.len());
            let places: Vec<usize> = (0..count).map(|k| k * (whole.len() - 1) / (count - 1).max(1)).collect();
            let mut picked: Vec<f64> = places.iter().map(|&place| whole[place]).collect();
            let differences = central_differences(&mut picked, 1e-5, |values| {
                let mut changed = whole.clone();
                places.iter().zip(values).for_each(|(&place, &value)| changed[place] = value);
                let (mut oracle, mut run) = (oracle.clone(), run.clone());
                match wanted.strip_prefix("param.") {
                    Some(parameter) => oracle.params.insert(parameter.to_string(), changed).map(drop).unwrap(),
                    None if wanted == "x" => run.x = changed,
                    None if wanted == "h_0" => run.h_0 = changed,
                    None if wanted == "c_0" => run.c_0 = changed,
                    None => panic!("{name}: the gradient of {wanted}?"),
                }
                loss(&oracle, &run)
            });
            let expected: Vec<f64> = places.iter().map(|&place| expected[place]).collect();
            close(&format!("{name} grad.{wanted}"), &differences, &expected, GRADIENTS);
        }
    }
    assert!(files > 20, "only {files} files have gradients");
}

const CELLS: [RecurrentCell; 5] = [
    RecurrentCell::Lstm,
    RecurrentCell::LayerNormLstm,
    RecurrentCell::GruResetAfter,
    RecurrentCell::GruResetBefore,
    RecurrentCell::Article,
];

/// Two layers, two directions, all parameters drawn; and a run of ragged rows.
fn drawn(cell: RecurrentCell, seed: u64) -> (RecurrentOracle, OracleRun) {
    let (b, t, i, h) = (3, 4, 2, 3);
    let mut draw = Draw::new(seed);
    let mut numbers = |n: usize| draw.vec(n).into_iter().map(|value| value as f64).collect::<Vec<f64>>();
    let mut oracle = RecurrentOracle::new(cell, i, h);
    (oracle.layers, oracle.directions) = (2, 2);
    let rows = oracle.gates() * h;
    let mut params = BTreeMap::new();
    for suffix in ["l0", "l0_reverse", "l1", "l1_reverse"] {
        let features = if suffix.starts_with("l0") { i } else { 2 * h };
        params.insert(format!("weight_ih_{suffix}"), numbers(rows * features));
        params.insert(format!("weight_hh_{suffix}"), numbers(rows * h));
        params.insert(format!("bias_ih_{suffix}"), numbers(rows));
        if cell == RecurrentCell::LayerNormLstm {
            params.insert(format!("norm_ih_{suffix}"), numbers(rows));
            params.insert(format!("norm_hh_{suffix}"), numbers(rows));
            params.insert(format!("norm_c_weight_{suffix}"), numbers(h));
            params.insert(format!("norm_c_bias_{suffix}"), numbers(h));
        }
    }
    oracle.params = params;
    let c_0 = if oracle.has_c() { numbers(4 * b * h) } else { vec![] };
    let (x, h_0) = (numbers(b * t * i), numbers(4 * b * h));
    (oracle, OracleRun { x, b, t, h_0, c_0, lengths: vec![4, 0, 2], ..OracleRun::default() })
}

fn same(what: &str, given: &OracleResult, expected: &OracleResult) {
    close(&format!("{what}: output"), &given.output, &expected.output, 1e-12);
    close(&format!("{what}: h_n"), &given.h_n, &expected.h_n, 1e-12);
    close(&format!("{what}: c_n"), &given.c_n, &expected.c_n, 1e-12);
}

/// Dropout's scale at 50 %; a power of two, so that it does not round.
const SCALE: f64 = 2.0;

#[test]
fn masks_act_like_what_they_stand_for() {
    for (seed, cell) in CELLS.into_iter().enumerate() {
        let (oracle, run) = drawn(cell, seed as u64);
        let (b, t, i, h) = (run.b, run.t, oracle.input, oracle.hidden);
        let rows = oracle.gates() * h;
        let plain = oracle.forward(&run);

        // Ones, and zoneout that never keeps, change nothing.
        let ones = OracleRun {
            input_mask: vec![1.0; b * i],
            recurrent_masks: vec![vec![1.0; b * h]; 4],
            between_masks: vec![vec![1.0; b * t * 2 * h]],
            weight_masks: vec![vec![1.0; rows * h]; 4],
            zoneout_keep_h: vec![vec![0.0; t * b * h]; 4],
            zoneout_keep_c: vec![vec![0.0; t * b * h]; 4],
            ..run.clone()
        };
        same(&format!("{cell:?} ones"), &oracle.forward(&ones), &plain);

        // Scaling h on its way into the product is scaling the weights of the product.
        let masked = OracleRun { recurrent_masks: vec![vec![SCALE; b * h]; 4], ..run.clone() };
        let weighed = OracleRun { weight_masks: vec![vec![SCALE; rows * h]; 4], ..run.clone() };
        same(&format!("{cell:?} recurrent"), &oracle.forward(&masked), &oracle.forward(&weighed));
        let mut scaled = oracle.clone();
        scaled.params.iter_mut().filter(|(name, _)| name.starts_with("weight_hh")).for_each(|(_, values)| {
            values.iter_mut().for_each(|value| *value *= SCALE);
        });
        same(&format!("{cell:?} weights"), &oracle.forward(&weighed), &scaled.forward(&run));
        assert_ne!(oracle.forward(&masked).output, plain.output);

        // One unit of h dropped in one direction is one column of that weight_hh dropped.
        let mut recurrent_masks = vec![vec![]; 4];
        recurrent_masks[3] = [1.0, 0.0, 1.0].repeat(b);
        let mut weight_masks = vec![vec![]; 4];
        weight_masks[3] = [1.0, 0.0, 1.0].repeat(rows);
        let dropped = oracle.forward(&OracleRun { recurrent_masks, ..run.clone() });
        let column = oracle.forward(&OracleRun { weight_masks, ..run.clone() });
        same(&format!("{cell:?} one unit"), &dropped, &column);
        assert_ne!(dropped.output, plain.output);

        // On x, and between layers.
        let masked = OracleRun { input_mask: vec![SCALE; b * i], ..run.clone() };
        let louder = OracleRun { x: run.x.iter().map(|value| value * SCALE).collect(), ..run.clone() };
        same(&format!("{cell:?} input"), &oracle.forward(&masked), &oracle.forward(&louder));
        let masked = OracleRun { between_masks: vec![vec![SCALE; b * t * 2 * h]], ..run.clone() };
        let mut scaled = oracle.clone();
        scaled.params.iter_mut().filter(|(name, _)| name.starts_with("weight_ih_l1")).for_each(|(_, values)| {
            values.iter_mut().for_each(|value| *value *= SCALE);
        });
        same(&format!("{cell:?} between"), &oracle.forward(&masked), &scaled.forward(&run));

        // Keeping a share everywhere is zoneout at inference; keeping all leaves the initial state.
        let kept = |keep_h: f64, keep_c: f64| OracleRun {
            zoneout_keep_h: vec![vec![keep_h; t * b * h]; 4],
            zoneout_keep_c: vec![vec![keep_c; t * b * h]; 4],
            ..run.clone()
        };
        let mut zoned = oracle.clone();
        (zoned.zoneout_h, zoned.zoneout_c) = (0.25, 0.5);
        same(&format!("{cell:?} zoneout"), &oracle.forward(&kept(0.25, 0.5)), &zoned.forward(&run));
        let frozen = oracle.forward(&kept(1.0, 1.0));
        close("frozen h", &frozen.h_n, &run.h_0, 0.0);
        close("frozen c", &frozen.c_n, &run.c_0, 0.0);
    }
}

/// A ragged batch is its rows, each run by itself at its own length.
#[test]
fn a_ragged_batch_is_its_rows() {
    for (seed, cell) in CELLS.into_iter().enumerate() {
        let (oracle, run) = drawn(cell, 10 + seed as u64);
        let (b, t, i, h) = (run.b, run.t, oracle.input, oracle.hidden);
        let whole = oracle.forward(&run);
        for row in 0..b {
            let length = run.lengths[row];
            let own = |values: &[f64]| -> Vec<f64> {
                values.chunks(h).enumerate().filter(|(k, _)| k % b == row).flat_map(|(_, v)| v.to_vec()).collect()
            };
            let alone = oracle.forward(&OracleRun {
                x: run.x[row * t * i..(row * t + length) * i].to_vec(),
                b: 1,
                t: length,
                h_0: own(&run.h_0),
                c_0: own(&run.c_0),
                ..OracleRun::default()
            });
            let mut padded = alone.output.clone();
            padded.resize(t * 2 * h, 0.0);
            close("output", &whole.output[row * t * 2 * h..(row + 1) * t * 2 * h], &padded, 0.0);
            close("h_n", &own(&whole.h_n), &alone.h_n, 0.0);
            close("c_n", &own(&whole.c_n), &alone.c_n, 0.0);
        }
    }
}

/// Going backwards is the reverse direction by itself.
#[test]
fn backwards_is_the_reverse_direction() {
    for (seed, cell) in CELLS.into_iter().enumerate() {
        let (mut both, mut run) = drawn(cell, 20 + seed as u64);
        both.layers = 1;
        let (states, h) = (run.b * both.hidden, both.hidden);
        run.h_0.truncate(2 * states);
        run.c_0.truncate(2 * states);
        let expected = both.forward(&run);

        let mut back = both.clone();
        (back.directions, back.go_backwards) = (1, true);
        let reverse = both.params.iter().filter_map(|(name, values)| {
            Some((name.strip_suffix("_reverse").filter(|name| name.ends_with("l0"))?.to_string(), values.clone()))
        });
        back.params = reverse.collect();
        let second = |values: &[f64]| values[values.len() / 2..].to_vec();
        let run = OracleRun { h_0: second(&run.h_0), c_0: second(&run.c_0), ..run };
        let result = back.forward(&run);
        let side: Vec<f64> = expected.output.chunks(2 * h).flat_map(|step| step[h..].to_vec()).collect();
        close("output", &result.output, &side, 0.0);
        close("h_n", &result.h_n, &second(&expected.h_n), 0.0);

        back.visiting_order = true;
        let visited = back.forward(&run);
        for (row, &length) in run.lengths.iter().enumerate() {
            for time in 0..length {
                let at = |time: usize| (row * run.t + time) * h..(row * run.t + time + 1) * h;
                assert_eq!(visited.output[at(time)], result.output[at(length - 1 - time)]);
            }
        }
    }
}

/// Names of the files of networks that hold one pass.
fn passes() -> Vec<String> {
    let names: Vec<String> =
        fixture_names("graph_").into_iter().filter(|name| fixture(name).metadata["mode"] == "gradients").collect();
    assert!(names.len() >= 60, "{}", names.len());
    names
}

#[test]
fn networks_equal_every_reference() {
    for name in passes() {
        let file = fixture(&name);
        let graph = GraphFile::of(&file);
        let (oracle, outputs) = graph.oracle(&file);
        let values = oracle.forward(&graph.rows(&file));
        for (output, &tensor) in graph.outputs.keys().zip(&outputs) {
            let expected = &file.tensors[&format!("output.{output}")];
            for (row, expected) in expected.outer_iter().enumerate() {
                let mut given = values.row(tensor, row).concat();
                given.resize(expected.len(), 0.0); // past the row's end
                let expected: Vec<f64> = expected.iter().map(|&value| value as f64).collect();
                close(&format!("{name} output {output} of row {row}"), &given, &expected, VALUES);
            }
        }
        let (each, total) = graph.losses(&file, &values, &outputs);
        for (output, loss) in each {
            close(&format!("{name} loss {output}"), &[loss], &wide(&file, &format!("loss.{output}")), VALUES);
        }
        close(&format!("{name} loss"), &[total], &wide(&file, "loss"), VALUES);
    }
}

#[test]
fn differences_of_networks_equal_every_gradient() {
    for name in passes() {
        let file = fixture(&name);
        let graph = GraphFile::of(&file);
        let (mut oracle, outputs) = graph.oracle(&file);
        let rows = graph.rows(&file);
        for (parameter, gradient) in file.under("grad.param.") {
            let gradient: Vec<f64> = gradient.iter().map(|&value| value as f64).collect();
            let values = oracle.params[&parameter].clone();
            let mut loss = |at: usize, by: f64| {
                oracle.params.get_mut(&parameter).unwrap()[at] = values[at] + by;
                let (_, total) = graph.losses(&file, &oracle.forward(&rows), &outputs);
                oracle.params.insert(parameter.clone(), values.clone());
                total
            };
            for at in (0..values.len()).step_by(1 + values.len() / SAMPLE) {
                let given = (loss(at, 1e-5) - loss(at, -1e-5)) / 2e-5;
                close(&format!("{name} d{parameter}[{at}]"), &[given], &gradient[at..at + 1], GRADIENTS);
            }
        }
    }
}
