//! `docs/options.md` says which option was checked how. Its tables are made here, from what the tests themselves run: the files
//! of `tests/fixtures` with what they describe, the random combinations, the stacks of layers, the kinds of masks. Where the
//! committed document differs, this test fails; `UPDATE=1 cargo test --test options` writes it anew.

mod common;

use common::combination::{Case, ON_ADAPTER, ON_CPU, seeds};
use common::stacks::stacks;
use common::{Fixture, fixture, fixture_names, masks, recurrent_files};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use wgpu_lstm::{Bias, Cell, Dense, Dropout, Embedding, Layer, Lstm};

/// A letter for each kind of reference, in the order of the document, and what it stands for.
const REFERENCES: [(char, &str); 8] = [
    ('P', "a file made by PyTorch"),
    ('K', "a file made by Keras"),
    ('R', "a file made by ONNX Runtime"),
    ('O', "a node case of the onnx package"),
    ('E', "a file made from the equations, written out in PyTorch in f64"),
    ('C', "random combinations of options against a naive oracle in f64, gradients against its central differences"),
    ('D', "central differences in f64 of the very plan that trains"),
    ('S', "statistics of masks, and the same bits on both executors"),
];

/// Settings of a layer that change no number of a pass, or are in every row.
const NO_OPTION: [&str; 6] = ["hidden", "units", "return_sequences", "init", "forget_bias", "layer"];

/// Columns of a row.
#[derive(Default)]
struct Checked {
    /// Forward, backward; CPU, GPU.
    by: [[BTreeSet<usize>; 2]; 2],
    /// With sequences of different lengths.
    ragged: BTreeSet<usize>,
}

#[derive(Clone, Copy)]
enum Pass {
    Forward,
    Backward,
}

const BOTH: [usize; 2] = [0, 1];
const CPU: [usize; 1] = [0];

/// Rows by kind of layer, then by option; the kind's first row is the layer itself.
#[derive(Default)]
struct Tables(BTreeMap<String, BTreeMap<String, Checked>>);

impl Tables {
    fn note(&mut self, layer: &Layer, reference: char, pass: Pass, executors: &[usize], ragged: bool) {
        let index = REFERENCES.iter().position(|&(letter, _)| letter == reference).unwrap();
        let (kind, options) = options(layer);
        for option in options {
            let row = self.0.entry(kind.clone()).or_default().entry(option).or_default();
            for &executor in executors {
                row.by[pass as usize][executor].insert(index);
            }
            if ragged {
                row.ragged.insert(index);
            }
        }
    }
}

/// The kind of a layer, and those of its settings that are not the plain layer's, by the names that files give them.
fn options(layer: &Layer) -> (String, Vec<String>) {
    let plain: Layer = match layer {
        Layer::Lstm(_) => Lstm::new(1).into(),
        Layer::Dense(_) => Dense::new(1).into(),
        Layer::Embedding(_) => Embedding::new(1, 1).into(),
        other => other.clone(),
    };
    let (given, plain) = (flat(layer), flat(&plain));
    let mut kind = layer.kind().to_string();
    if given.get("cell").is_some_and(|cell| !["standard", &kind].contains(&cell.as_str().unwrap())) {
        kind = format!("{kind}, {} cell", given["cell"].as_str().unwrap());
    }
    let mut rows = vec![String::new()];
    for (key, value) in &given {
        let merges = key == "merge" && given["bidirectional"] == Value::Bool(true);
        if NO_OPTION.contains(&&key[..]) || key == "cell" {
            continue;
        }
        match value {
            Value::String(name) if plain.get(key) != Some(value) || key == "bias" || merges => {
                rows.push(format!("{key} = {name}"));
            }
            Value::String(_) => {}
            _ if matches!(layer, Layer::Activation(_)) => rows.push(key.clone()),
            Value::Object(_) => rows.push(format!("{key} = {}", value.as_object().unwrap().keys().next().unwrap())),
            Value::Null if matches!(layer, Layer::Pool(_)) => rows.push(key.clone()),
            Value::Number(_) if ["epsilon", "value", "probability", "entries", "features"].contains(&&key[..]) => {}
            Value::Number(_) if key == "layers" && plain[key] != *value => rows.push("layers above 1".into()),
            _ if plain.get(key) != Some(value) => {
                rows.push(if *value == Value::Bool(false) { format!("{key} = false") } else { key.clone() });
            }
            _ => {}
        }
    }
    (kind, rows)
}

/// The settings of a layer as files have them, in one level.
fn flat(layer: &Layer) -> BTreeMap<String, Value> {
    let Value::Object(mut settings) = serde_json::to_value(layer).unwrap() else { panic!("{layer:?} is no table") };
    if let Some(Value::Object(inner)) = settings.remove("options") {
        settings.extend(inner);
    }
    settings.into_iter().collect()
}

/// Every option that there is has a row, checked or not: switches and numbers as the plain layer has them, words as a file that
/// holds an unknown one is told.
fn every_option(tables: &mut Tables) {
    for plain in [Layer::from(Lstm::new(1)), Dense::new(1).into(), Embedding::new(1, 1).into()] {
        let settings = serde_json::to_value(&plain).unwrap();
        let own = tables.0.entry(plain.kind().into()).or_default();
        let mut row = |name: String| {
            own.entry(name).or_default();
        };
        for (key, value) in flat(&plain) {
            let skipped = ["cell", "entries", "features"].contains(&&key[..]);
            if NO_OPTION.contains(&&key[..]) || skipped {
                continue;
            }
            match value {
                Value::String(usual) => {
                    let mut asked = settings.clone();
                    let table = if asked.get(&key).is_some() { &mut asked } else { &mut asked["options"] };
                    table[&key] = Value::String("?".into());
                    let error = serde_json::from_value::<Layer>(asked).unwrap_err().to_string();
                    let words = error.split_once("expected").unwrap().1.split('`').skip(1).step_by(2);
                    words.filter(|&word| word != usual || ["bias", "merge"].contains(&&key[..])).for_each(|word| {
                        row(format!("{key} = {word}"));
                    });
                }
                Value::Bool(true) => row(format!("{key} = false")),
                Value::Number(_) if key == "layers" => row("layers above 1".into()),
                _ => row(key),
            }
        }
    }
    let rows = tables.0.get_mut("lstm").unwrap();
    // Of cells, only elementwise activations; the others are refused (tests/layers.rs).
    rows.retain(|name, _| !name.ends_with("softmax"));
}

fn reference_of(file: &str) -> char {
    match file.split('_').nth(1).unwrap() {
        "pytorch" => 'P',
        "keras" => 'K',
        "onnxruntime" => 'R',
        "onnx" => 'O',
        "equations" => 'E',
        other => panic!("{file}: no letter for {other}"),
    }
}

fn recurrent_files(tables: &mut Tables) {
    for name in fixture_names("recurrent_") {
        let file = fixture(&name);
        let lstm = recurrent_files::layer(&file);
        let (layer, ragged, reference) = (lstm.into(), file.tensors.contains_key("lengths"), reference_of(&name));
        tables.note(&layer, reference, Pass::Forward, &BOTH, ragged);
        if file.tensors.contains_key("d_output") && !file.metadata.contains_key("zoneout_h") {
            tables.note(&layer, reference, Pass::Backward, &BOTH, ragged);
        }
    }
    let older = |file: &Fixture, cell| {
        let lstm = Lstm::new(file.size("H")).layers(file.size("L")).bidirectional(file.size("D") == 2).cell(cell);
        lstm.bias(match (file.size("bias"), cell) {
            (0, _) => Bias::None,
            (_, Cell::Article) => Bias::Single,
            _ => Bias::Double,
        })
    };
    for (prefix, cell, reference) in [("pytorch_lstm_", Cell::Standard, 'P'), ("article_lstm_", Cell::Article, 'E')] {
        for name in fixture_names(prefix) {
            let layer = older(&fixture(&name), cell).into();
            tables.note(&layer, reference, Pass::Forward, &BOTH, false);
            tables.note(&layer, reference, Pass::Backward, &BOTH, false);
        }
    }
}

fn layer_files(tables: &mut Tables) {
    for name in fixture_names("layers_") {
        let file = fixture(&name);
        let ragged = file.metadata.contains_key("lengths");
        let layers: Vec<Layer> = serde_json::from_str(&file.metadata["layers"]).unwrap();
        for layer in layers {
            // What Keras masks, a dense layer does not see.
            let ragged = ragged && !matches!(layer, Layer::Dense(_));
            tables.note(&layer, reference_of(&name), Pass::Forward, &BOTH, ragged);
            tables.note(&layer, reference_of(&name), Pass::Backward, &BOTH, ragged);
        }
    }
}

fn combinations(tables: &mut Tables) {
    let mut number = 0;
    seeds(ON_CPU, |seed| {
        let executors: &[usize] = if number < ON_ADAPTER { &BOTH } else { &CPU };
        number += 1;
        let case = Case::new(seed);
        // The forward pass of these cases does not drop.
        let still = common::masks::Chances::default().on(case.lstm.clone());
        tables.note(&still.into(), 'C', Pass::Forward, executors, case.ragged);
        tables.note(&case.lstm.into(), 'C', Pass::Backward, executors, case.ragged);
    });
}

fn differences(tables: &mut Tables) {
    for layer in stacks().into_iter().flatten() {
        tables.note(&layer, 'D', Pass::Backward, &CPU, false);
    }
}

fn statistics(tables: &mut Tables) {
    for kind in masks::KINDS {
        let lstm = Lstm::new(1).layers(2);
        let layer: Layer = match kind {
            "Dropout layer" => Dropout::new(0.5).into(),
            "dropout" => lstm.dropout(0.5).into(),
            "input_dropout" => lstm.input_dropout(0.5).into(),
            "recurrent_dropout" => lstm.recurrent_dropout(0.5).into(),
            "weight_dropout" => lstm.weight_dropout(0.5).into(),
            "zoneout_h" => lstm.zoneout(0.5, 0.0).into(),
            "zoneout_c" => lstm.zoneout(0.0, 0.5).into(),
            other => panic!("{other} is no layer"),
        };
        let (kind, options) = options(&layer);
        let option = options.iter().find(|option| option.contains(kind.as_str()) || option.contains("out")).cloned();
        let rows = tables.0.entry(kind).or_default().entry(option.unwrap_or_default()).or_default();
        let index = REFERENCES.iter().position(|&(letter, _)| letter == 'S').unwrap();
        for set in rows.by.iter_mut().flatten() {
            set.insert(index);
        }
    }
}

fn document(tables: &Tables) -> String {
    let mut text = String::from(
        "# What was checked how\n\nEvery option of every layer: which reference its outputs (forward) and its gradients \
         (backward) are held\nagainst, on which executor. `cargo test --test options` makes this page from what the tests \
         run, and fails where it is\nout of date; `UPDATE=1 cargo test --test options` writes it anew. Options are named as \
         model files name them.\n\n",
    );
    for (letter, what) in REFERENCES {
        writeln!(text, "- **{letter}**: {what}").unwrap();
    }
    text.push_str(
        "\nThe last column: where the option was checked together with sequences of different lengths. GPU: whatever adapter \
         the tests\nfind, which may be a software one. Dropout acts in training alone: what stands under forward is the pass of \
         training.\n",
    );
    let letters = |set: &BTreeSet<usize>| set.iter().map(|&index| REFERENCES[index].0.to_string()).collect::<Vec<_>>();
    for (kind, rows) in &tables.0 {
        write!(text, "\n## {kind}\n\n").unwrap();
        text.push_str("| option | forward, CPU | forward, GPU | backward, CPU | backward, GPU | lengths |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for (option, Checked { by: [forward, backward], ragged }) in rows {
            let option = if option.is_empty() { "(the layer)".to_string() } else { format!("`{option}`") };
            let cells = [&forward[0], &forward[1], &backward[0], &backward[1], ragged];
            let cells = cells.map(|set| if set.is_empty() { "–".to_string() } else { letters(set).join(" ") });
            writeln!(text, "| {option} | {} |", cells.join(" | ")).unwrap();
        }
    }
    text
}

fn tables() -> Tables {
    let mut tables = Tables::default();
    every_option(&mut tables);
    recurrent_files(&mut tables);
    layer_files(&mut tables);
    combinations(&mut tables);
    differences(&mut tables);
    statistics(&mut tables);
    tables
}

#[test]
fn the_document_is_what_the_tests_check() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
    let made = document(&tables());
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        return std::fs::write(path, made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    for (line, (made, committed)) in made.lines().zip(committed.lines().chain(std::iter::repeat(""))).enumerate() {
        assert_eq!(
            committed,
            made,
            "line {} of docs/options.md is out of date; UPDATE=1 cargo test --test options writes it anew",
            line + 1
        );
    }
    assert_eq!(committed.lines().count(), made.lines().count(), "docs/options.md has lines that are out of date");
}
