//! Outputs, gradients, trained weights, model files and plans as hashes, for comparing the code before and after a change that may
//! change no bit. Not part of the default tests, since the bits of sums differ from processor to processor:
//!
//! ```text
//! scripts/same-bits write FILE    # before
//! scripts/same-bits check FILE    # after
//! ```

mod common;

use common::{Draw, adapter_with, cpu_with};
use ndarray::{Array, Array2, Array3, ArrayD, Dimension};
use std::collections::BTreeMap;
use wgpu_lstm::network::{Batch, Node, Purpose, gradients, network};
use wgpu_lstm::plan::Plan;
use wgpu_lstm::{
    Activation, Capabilities, Cell, Clip, Dense, Device, Dropout, Embedding, Fit, Gru, Init, LayerNorm, Loss, Lstm,
    LstmState, Masking, Merge, Model, Optimiser, Pool, Regulariser, Sequential, StepWeights, Strategy, TimeCheckpoints,
    Update,
};

/// FNV-1a: the same on every machine and version of Rust.
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn array<D: Dimension>(&mut self, array: &Array<f32, D>) {
        self.bytes(format!("{:?}", array.shape()).as_bytes());
        array.iter().for_each(|value| self.bytes(&value.to_bits().to_le_bytes()));
    }

    fn arrays(&mut self, arrays: &BTreeMap<String, ArrayD<f32>>) {
        for (name, array) in arrays {
            self.bytes(name.as_bytes());
            self.array(array);
        }
    }
}

/// Recurrent layers with each of their options.
fn recurrent() -> Vec<(&'static str, Lstm)> {
    let lstm = || Lstm::new(12);
    vec![
        ("plain", lstm()),
        ("stack", lstm().layers(3).dropout(0.3)),
        ("bidirectional", lstm().layers(2).bidirectional(true)),
        ("wide", Lstm::new(130)),
        ("odd", Lstm::new(7).layers(2)),
        ("keras", Lstm::keras(12)),
        ("article", lstm().cell(Cell::Article)),
        ("reverse", lstm().reverse(true)),
        ("go_backwards", lstm().go_backwards(true)),
        ("merge_sum", lstm().bidirectional(true).merge(Merge::Sum)),
        ("merge_multiply", lstm().bidirectional(true).merge(Merge::Mul)),
        ("peepholes", lstm().peepholes(true)),
        ("coupled", lstm().coupled(true).clip(1.5).cell_clip(0.9)),
        ("activations", lstm().gate_activation(Activation::KERAS_HARD_SIGMOID).activation(Activation::Softsign)),
        ("projection", lstm().layers(2).projection(5)),
        ("layer_norm", lstm().layer_norm(true).layers(2)),
        ("layer_norm_zoneout", lstm().layer_norm(true).zoneout(0.1, 0.2)),
        ("zoneout", lstm().zoneout(0.1, 0.2).layers(2)),
        ("input_dropout", lstm().input_dropout(0.3).recurrent_dropout(0.2).layers(2)),
        ("weight_dropout", lstm().weight_dropout(0.4)),
        ("repeat_output", lstm().repeat_output(true)),
        ("gru", Gru::new(12).into()),
        ("gru_stack", Gru::new(12).layers(2).bidirectional(true).into()),
        ("gru_reset_before", Gru::new(12).reset_after(false).layers(2).into()),
    ]
}

/// Stacks of layers, with whether a target is a sequence.
fn stacks() -> Vec<(&'static str, Sequential)> {
    let tagger = Sequential::new(3).add(Lstm::new(8).return_sequences(true).bidirectional(true));
    vec![
        ("tagger", tagger.add(Dropout::new(0.2)).add(LayerNorm::new()).add(Dense::new(2))),
        (
            "forecaster",
            Sequential::new(3).add(Lstm::new(8)).add(Dense::new(5).activation(Activation::Relu)).add(Dense::new(2)),
        ),
        (
            "pools",
            Sequential::new(3)
                .add(Gru::new(8).return_sequences(true))
                .add(Activation::Tanh)
                .add(Pool::Max)
                .add(Dense::new(2).activation(Activation::Softmax)),
        ),
        (
            "mean",
            Sequential::new(3)
                .add(Masking::new(-9.0))
                .add(Lstm::new(8).return_sequences(true).layer_norm(true))
                .add(Pool::Mean)
                .add(Dense::new(2).init(Init::Keras)),
        ),
        ("embedding", Sequential::new(1).add(Embedding::new(5, 4)).add(Lstm::new(8).projection(3)).add(Dense::new(2))),
        ("segments", Sequential::new(3).add(Lstm::new(8).layers(2).return_sequences(true)).add(Dense::new(2))),
    ]
}

/// A plan's commands in their order, and its buffers by name.
fn plan(rows: &mut BTreeMap<String, u64>, name: &str, plan: &Plan) {
    let (mut commands, mut buffers) = (Hash::new(), Hash::new());
    for command in &plan.commands {
        let call = &command.call;
        commands.bytes(call.kernel.name.as_bytes());
        commands.bytes(call.cell.map_or("", |cell| cell.name).as_bytes());
        commands.bytes(format!("{:?}", (call.kernel.groups)(call)).as_bytes());
        for id in &command.buffers {
            commands.bytes(plan.buffers[id.0].name.as_bytes());
        }
    }
    let mut all: Vec<_> =
        plan.buffers.iter().map(|buffer| format!("{} {} {:?}", buffer.name, buffer.len, buffer.role)).collect();
    all.sort();
    all.iter().for_each(|buffer| buffers.bytes(buffer.as_bytes()));
    rows.insert(format!("plan commands {name}"), commands.0);
    rows.insert(format!("plan buffers {name}"), buffers.0);
}

fn plans(rows: &mut BTreeMap<String, u64>) {
    let small = Capabilities { max_binding_bytes: 4096, ..Capabilities::default() };
    let capabilities = [
        ("default", Capabilities::default()),
        ("steps", Capabilities { strategy: Some(Strategy::PerStep), ..Capabilities::default() }),
        ("f16", Capabilities { step_weights: StepWeights::F16, workgroup_tiles: false, ..Capabilities::default() }),
        ("small", small),
    ];
    let update: Update = Update::new(Optimiser::adam(1e-3)).clip(Clip::Norm(1.0)).regularise(Regulariser::l2(1e-4));
    for (name, lstm) in recurrent() {
        let layer = Node::new("lstm", 5, lstm.return_sequences(true));
        let head = |width: usize| Node::new("head", width, Dense::new(2));
        let layers = [layer.clone(), head(layer.layer.output(5))];
        for (device, capabilities) in &capabilities {
            for ragged in [false, true] {
                let batch = Batch::new(3, 9).ragged(ragged);
                let name = format!("{name} {device} ragged {ragged}");
                let train = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: ragged };
                for (purpose, batch, what) in [
                    (Purpose::Predict, batch.clone(), "predict"),
                    (Purpose::Stream, batch.clone(), "stream"),
                    (train, batch.clone(), "train"),
                    (train, batch.clone().segment(Some(4)), "segments"),
                    (train, batch.clone().stateful(true), "stateful"),
                ] {
                    if let Ok(made) = network(&layers, batch, purpose, capabilities) {
                        plan(rows, &format!("{name} {what}"), &made.plan);
                    }
                }
                if let Ok(made) = gradients(&layer, batch, capabilities) {
                    plan(rows, &format!("{name} gradients"), &made.plan);
                }
            }
        }
    }
}

fn layers(rows: &mut BTreeMap<String, u64>, kind: &str, device: &Device) {
    for (name, lstm) in recurrent() {
        let mut draw = Draw::new(3);
        let layer = lstm.clone().build(device, 5, 1).unwrap().random_key([7, 1]);
        let x = draw.array3((3, 9, 5));
        let mut initial = LstmState::zeros(&lstm, 3).unwrap();
        initial.h.mapv_inplace(|_| draw.next());
        initial.c.mapv_inplace(|_| draw.next());
        for lengths in [None, Some([9, 4, 0])] {
            let out = match &lengths {
                None => layer.forward(x.view(), Some(&initial)),
                Some(lengths) => layer.forward_ragged(x.view(), lengths, Some(&initial)),
            };
            let Ok(out) = out else { continue };
            let dy = Array3::from_shape_simple_fn(out.output.dim(), || draw.next());
            let gradients = match &lengths {
                None => layer.gradients(x.view(), Some(&initial), dy.view(), Some(&initial)),
                Some(lengths) => layer.gradients_ragged(x.view(), lengths, Some(&initial), dy.view(), Some(&initial)),
            };
            let gradients = gradients.unwrap();
            let mut hash = Hash::new();
            hash.array(&out.output);
            hash.array(&out.state.h);
            hash.array(&out.state.c);
            hash.array(&gradients.x);
            hash.array(&gradients.initial.h);
            hash.array(&gradients.initial.c);
            hash.arrays(&gradients.parameters);
            rows.insert(format!("layer {name} {kind} ragged {}", lengths.is_some()), hash.0);
        }
    }
}

fn trained(mut model: Model, name: &str, of_indices: bool) -> Model {
    let mut draw = Draw::new(5);
    let x = match of_indices {
        true => Array3::from_shape_simple_fn((11, 8, 1), || ((draw.next() + 1.0) * 2.4) as i32 as f32),
        false => draw.array3((11, 8, 3)),
    };
    let update = Update::new(Optimiser::adamw(1e-2, 1e-2)).clip(Clip::Norm(0.5)).regularise(Regulariser::max_norm(0.8));
    model.compile(Loss::MeanSquaredError, update).unwrap();
    if name == "segments" {
        model.checkpoint_time(TimeCheckpoints::Every(3)).unwrap();
    }
    let fit = Fit::new().epochs(2).batch_size(4).seed(2);
    let whole = model.predict(x.view()).unwrap().ndim() == 3;
    match whole {
        true => model.fit(x.view(), Array3::from_shape_simple_fn((11, 8, 2), || draw.next()).view(), fit),
        false => model.fit(x.view(), Array2::from_shape_simple_fn((11, 2), || draw.next()).view(), fit),
    }
    .unwrap();
    model
}

fn models(rows: &mut BTreeMap<String, u64>, kind: &str, device: &Device) {
    for (name, stack) in stacks() {
        let model = trained(stack.build(device, 2).unwrap(), name, name == "embedding");
        let mut hash = Hash::new();
        hash.arrays(&model.parameters().unwrap());
        rows.insert(format!("model {name} {kind} trained"), hash.0);
        let file = std::env::temp_dir().join(format!("same-bits-{}.safetensors", std::process::id()));
        model.save(&file).unwrap();
        let mut hash = Hash::new();
        hash.bytes(&std::fs::read(&file).unwrap());
        std::fs::remove_file(&file).unwrap();
        rows.insert(format!("model {name} {kind} file"), hash.0);
        let mut hash = Hash::new();
        hash.bytes(model.summary().as_bytes());
        rows.insert(format!("model {name} {kind} summary"), hash.0);
    }
}

#[test]
#[ignore = "compares two versions of the code; scripts/same-bits runs it"]
fn the_bits_are_the_same() {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; see scripts/same-bits"));
    let (mode, file) = (variable("SAME_BITS"), variable("SAME_BITS_FILE"));
    let mut rows = BTreeMap::new();
    plans(&mut rows);
    for strategy in Strategy::ALL {
        layers(&mut rows, &format!("cpu {strategy:?}"), &cpu_with(strategy));
    }
    layers(&mut rows, "adapter", &adapter_with(None));
    models(&mut rows, "cpu", &Device::cpu());
    models(&mut rows, "adapter", &adapter_with(None));
    let lines: Vec<String> = rows.iter().map(|(name, hash)| format!("{name}: {hash:016x}")).collect();
    if mode == "write" {
        return std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    }
    let before = std::fs::read_to_string(&file).unwrap();
    let before: Vec<&str> = before.lines().collect();
    let differ: Vec<&&str> = before.iter().filter(|line| !lines.iter().any(|now| now == *line)).collect();
    assert!(!before.is_empty(), "{file} is empty");
    assert!(differ.is_empty(), "{} of {} differ:\n{differ:#?}", differ.len(), before.len());
}
