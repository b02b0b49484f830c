//! Attention and layers that join several inputs: outputs against equations in f64 on both executors, gradients of whole plans in f64
//! against central differences, sequences of different lengths against each sequence alone, time in chunks.

mod common;

use common::differences::Losses;
use common::{Draw, close};
use ndarray::{Array2, Array3, Axis, IxDyn, SliceInfo, SliceInfoElem, s};
use std::sync::Arc;
use wgpu_lstm::network::{Batch, Graph, GraphInput, GraphOutput, NetworkPlan, Node, Purpose, Source, network};
use wgpu_lstm::plan::{BufferId, Role};
use wgpu_lstm::real::Real;
use wgpu_lstm::schedule::Sequence;
use wgpu_lstm::{
    Activation, Add, Attention, AttentionPool, AttentionScore, Average, Capabilities, Concat, Decode, Dense, Device,
    Embedding, Fit, Inputs, Layer, Loss, Lstm, Machine, Maximum, Model, Multiply, Network, Optimiser, Repeat,
    Sequential, Targets, Update,
};

const BATCH: usize = 3;

/// Every score, with and without what can be asked for.
fn variants() -> Vec<Attention> {
    let mut all = Vec::new();
    for kind in [Attention::new(), Attention::scaled(), Attention::additive()] {
        for (learnt, causal, keys) in
            [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
        {
            all.push(kind.learnt_scale(learnt).causal(causal).keys(keys));
        }
    }
    all
}

fn input(name: &str, features: usize) -> GraphInput {
    GraphInput { name: name.into(), features, vector: false }
}

fn output(name: &str, from: Source) -> GraphOutput {
    GraphOutput { name: name.into(), from }
}

/// Attention alone, with a query and a value of its own, and a key of the value's steps.
fn alone(layer: Attention) -> Graph {
    let widths = if layer.has_keys() { vec![4, 3, 4] } else { vec![4, 4] };
    let inputs = ["query", "value", "key"].iter().zip(&widths).map(|(name, &width)| input(name, width)).collect();
    let sources = (0..widths.len()).map(Source::Input).collect();
    let outputs = vec![output("y", Source::Node(0)), output("weights", Source::Beside(0, 0))];
    Graph::new(inputs, vec![Node::of("attention", layer, widths, sources)], outputs).unwrap()
}

/// A tensor [T, B, F].
type Tensor = Vec<Vec<Vec<f64>>>;

/// A plan's executor.
trait Run {
    fn write(&self, id: BufferId, values: &[f64]);
    fn write_words(&self, id: BufferId, words: &[u32]);
    fn read(&self, id: BufferId, len: u64) -> Vec<f64>;
    fn run(&self);
}

struct Exact(Machine<f64>, usize);

impl Run for Exact {
    fn write(&self, id: BufferId, values: &[f64]) {
        self.0.write((id, 0), values);
    }
    fn write_words(&self, id: BufferId, words: &[u32]) {
        self.write(id, &words.iter().map(|&word| f64::of_word(word)).collect::<Vec<_>>());
    }
    fn read(&self, id: BufferId, len: u64) -> Vec<f64> {
        self.0.read((id, 0), len)
    }
    fn run(&self) {
        self.0.run(0..self.1).unwrap();
    }
}

struct Single(wgpu_lstm::Executable);

impl Run for Single {
    fn write(&self, id: BufferId, values: &[f64]) {
        self.0.write((id, 0), &values.iter().map(|&value| value as f32).collect::<Vec<_>>()).unwrap();
    }
    fn write_words(&self, id: BufferId, words: &[u32]) {
        self.0.write((id, 0), &words.iter().map(|&word| f32::from_bits(word)).collect::<Vec<_>>()).unwrap();
    }
    fn read(&self, id: BufferId, len: u64) -> Vec<f64> {
        self.0.read((id, 0), len).unwrap().into_iter().map(f64::from).collect()
    }
    fn run(&self) {
        self.0.run().unwrap();
    }
}

fn chunk_len(x: &Sequence, chunk: usize) -> u64 {
    x.lead as u64 + x.chunk_range(chunk).len() as u64 * x.step as u64
}

fn write(run: &dyn Run, to: &Sequence, values: &Tensor) {
    for (chunk, &id) in to.chunks.iter().enumerate() {
        let range = to.chunk_range(chunk);
        let own = &values[range.start as usize..range.end as usize];
        run.write(id, &own.iter().flatten().flatten().copied().collect::<Vec<_>>());
    }
}

fn read(run: &dyn Run, from: &Sequence, batch: usize) -> Tensor {
    let mut all = Vec::new();
    for (chunk, &id) in from.chunks.iter().enumerate() {
        let values = run.read(id, chunk_len(from, chunk));
        for step in 0..from.chunk_range(chunk).len() {
            let at = |row: usize| from.lead as usize + step * from.step as usize + row * from.row as usize;
            all.push((0..batch).map(|row| values[at(row)..][..from.features as usize].to_vec()).collect());
        }
    }
    all
}

fn tensor(draw: &mut Draw, [steps, batch, features]: [usize; 3]) -> Tensor {
    let mut vector = || draw.vec(features).into_iter().map(f64::from).collect::<Vec<_>>();
    (0..steps).map(|_| (0..batch).map(|_| vector()).collect()).collect()
}

/// Attention of one row by its definition: output and weights of each query.
fn by_definition(
    layer: Attention,
    [q, k, v]: [&[Vec<f64>]; 3],
    scale: &[f64],
    steps: [usize; 2],
    lengths: [usize; 2],
) -> [Vec<Vec<f64>>; 2] {
    let score = |q: &[f64], k: &[f64]| -> f64 {
        let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
        let factor = |f: usize| if layer.has_learnt_scale() { scale[f] } else { 1.0 };
        match layer.score() {
            AttentionScore::Dot => factor(0) * dot,
            AttentionScore::Scaled => factor(0) * dot / (q.len() as f64).sqrt(),
            _ => q.iter().zip(k).enumerate().map(|(f, (q, k))| factor(f) * (q + k).tanh()).sum(),
        }
    };
    let mut all = [Vec::new(), Vec::new()];
    for (t, q) in q.iter().enumerate().take(steps[0]) {
        let allowed = |j: usize| t < lengths[0] && j < lengths[1] && (!layer.is_causal() || j <= t);
        let terms: Vec<f64> = (0..steps[1]).map(|j| if allowed(j) { score(q, &k[j]).exp() } else { 0.0 }).collect();
        let sum: f64 = terms.iter().sum();
        let weights: Vec<f64> = terms.iter().map(|term| if sum > 0.0 { term / sum } else { 0.0 }).collect();
        let width = v[0].len();
        let mixed = (0..width).map(|f| (0..steps[1]).map(|j| weights[j] * v[j][f]).sum()).collect();
        all[0].push(mixed);
        all[1].push(weights);
    }
    all
}

fn row(x: &Tensor, row: usize) -> Vec<Vec<f64>> {
    x.iter().map(|step| step[row].clone()).collect()
}

fn near(what: &str, given: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(given.len(), expected.len(), "{what}");
    for (t, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert_eq!(given.len(), expected.len(), "{what}");
        for (f, (g, e)) in given.iter().zip(expected).enumerate() {
            assert!((g - e).abs() <= tolerance, "{what}: [{t}, {f}] is {g}, expected {e}");
        }
    }
}

fn forward_is_the_definition(run: impl Fn(NetworkPlan) -> Box<dyn Run>, device: &Capabilities, tolerance: f64) {
    let (tq, tk) = (7, 5);
    let lengths = [[7, 0, 3], [2, 4, 0]];
    for layer in variants() {
        let graph = alone(layer);
        for (ragged, limit) in [(false, 1 << 27), (true, 1 << 27), (false, 200), (true, 200)] {
            let what = format!("{layer:?}, ragged {ragged}, limit {limit}");
            let capabilities =
                Capabilities { max_binding_bytes: limit.min(device.max_binding_bytes), ..device.clone() };
            let batch = Batch::of(BATCH, vec![tq, tk, tk]).ragged(ragged);
            let plan = network(&graph, batch, Purpose::Predict, &capabilities).expect(&what);
            assert_eq!(limit == 200, plan.outputs[0].y.chunks.len() > 1, "{what}");
            let executor = run(plan.clone());
            let mut draw = Draw::new(5);
            let x: Vec<Tensor> = (plan.inputs.iter())
                .map(|input| tensor(&mut draw, [input.steps as usize, BATCH, input.features as usize]))
                .collect();
            plan.inputs.iter().zip(&x).for_each(|(input, x)| write(&*executor, input, x));
            let scale: Vec<f64> = draw.vec(4).into_iter().map(|value| 1.0 + f64::from(value)).collect();
            if let Some(id) = plan.plan.find("attention.scale") {
                let len = plan.plan.buffers[id.0].len as usize;
                executor.write(id, &scale[..len]);
            }
            for &(axis, id) in &plan.words {
                let own = lengths[axis.min(1)];
                executor.write_words(id, &[&[1, 2], &own.map(|length| length as u32)[..]].concat());
            }
            executor.run();
            let [y, weights] = [0, 1].map(|k| read(&*executor, &plan.outputs[k].y, BATCH));
            let of_both = lengths[0].iter().zip(&lengths[1]).enumerate();
            for (b, (&of_queries, &of_keys)) in of_both {
                let [q, v] = [0, 1].map(|k| row(&x[k], b));
                let k = row(x.last().unwrap(), b);
                let held = if ragged { [of_queries, of_keys] } else { [tq, tk] };
                let expected = by_definition(layer, [&q, &k, &v], &scale, [tq, tk], held);
                near(&what, &row(&y, b), &expected[0], tolerance);
                near(&what, &row(&weights, b), &expected[1], tolerance);
            }
        }
    }
}

#[test]
fn attention_is_its_definition_in_f64() {
    let run = |plan: NetworkPlan| {
        let commands = plan.plan.commands.len();
        Box::new(Exact(Machine::new(Arc::new(plan.plan), |_| None).unwrap(), commands)) as Box<dyn Run>
    };
    forward_is_the_definition(run, &Capabilities::default(), 1e-12);
}

fn on_device(device: &Device) {
    let run = |plan: NetworkPlan| Box::new(Single(device.compile(plan.plan).unwrap())) as Box<dyn Run>;
    // 1e-5: sums of a few products of numbers near 1, and exponentials
    forward_is_the_definition(run, device.capabilities(), 1e-5);
}

/// A network of every layer that joins inputs, on sequences "a" [.., 3] and "b" [.., 2].
fn joined() -> Network {
    let mut net = Network::new();
    let (a, b) = (net.input("a", 3), net.input("b", 2));
    let a = net.layer(Lstm::new(4).return_sequences(true)).of(a);
    let b = net.layer(Lstm::new(4).return_sequences(true)).of(b);
    let mixed = net.layer(Attention::additive()).of([a, b]);
    let own = net.layer(Attention::scaled().causal(true)).of([a, a]);
    let most = net.layer(Maximum::new(2)).of([mixed, own]);
    let product = net.layer(Multiply::new(2)).of([most, a]);
    let mean = net.layer(Average::new(2)).of([product, own]);
    let pooled = net.layer(AttentionPool::new().tanh(true)).of(b);
    let repeated = net.layer(Repeat::over_steps()).of([pooled, a]);
    let all = net.layer(Concat::new(3)).of([mean, repeated, mixed]);
    let steps = net.layer(Dense::new(2)).named("steps").of(all);
    let made = net.layer(Repeat::new(3)).of(pooled);
    let made = net.layer(Lstm::new(2)).of(made);
    let (weights, pool_weights) = (net.attention_weights(mixed), net.attention_weights(pooled));
    net.output("steps", steps).output("made", made).output("weights", weights).output("pool", pool_weights);
    net
}

/// Sequences of different lengths in a batch give what each gives alone.
fn rows_are_those_of_each_sequence_alone(device: &Device) {
    let model = joined().build(device, 3).unwrap();
    let mut draw = Draw::new(9);
    let (a, b) = (draw.array3((4, 6, 3)), draw.array3((4, 5, 2)));
    let (of_a, of_b) = (vec![6, 1, 3, 4], vec![2, 5, 1, 4]);
    let inputs = Inputs::new().add("a", a.view()).lengths(of_a.clone()).add("b", b.view()).lengths(of_b.clone());
    let together = model.outputs(inputs).unwrap();
    for row in 0..4 {
        let (steps, keys) = (of_a[row], of_b[row]);
        let [own_a, own_b] = [a.slice(s![row..=row, ..steps, ..]), b.slice(s![row..=row, ..keys, ..])];
        let alone = model.outputs(Inputs::new().add("a", own_a).add("b", own_b)).unwrap();
        let of = |name: &str, slice: SliceInfo<_, IxDyn, IxDyn>| {
            let own = together[name].index_axis(Axis(0), row);
            close(name, own.slice(slice).iter(), alone[name].iter(), 2e-6, 2e-6);
        };
        let dynamic = |slices: Vec<SliceInfoElem>| SliceInfo::try_from(slices).unwrap();
        let first = |n: usize| SliceInfoElem::from(..n);
        of("steps", dynamic(vec![first(steps), first(2)]));
        of("made", dynamic(vec![first(2)]));
        of("weights", dynamic(vec![first(steps), first(keys)]));
        of("pool", dynamic(vec![first(keys)]));
        let masked = together["weights"].slice(s![row, .., keys..]);
        assert!(
            masked.iter().all(|&weight| weight == 0.0)
                && together["pool"].slice(s![row, keys..]).iter().all(|w| *w == 0.0)
        );
    }
}

/// Training of a network of these layers, by the loss of its sequences, is the same on both executors, and a saved model goes on as it
/// was.
fn networks_train_and_are_saved(device: &Device) {
    let mut draw = Draw::new(2);
    let (a, b) = (draw.array3((5, 6, 3)), draw.array3((5, 4, 2)));
    let y = draw.array3((5, 6, 2));
    let inputs = || Inputs::new().add("a", a.view()).lengths(vec![6, 2, 4, 5, 1]).add("b", b.view());
    let trained = |device: &Device| {
        let mut net = Network::new();
        let (a, b) = (net.input("a", 3), net.input("b", 2));
        let a = net.layer(Lstm::new(4).return_sequences(true)).of(a);
        let b = net.layer(Lstm::new(4).return_sequences(true)).of(b);
        let mixed = net.layer(Attention::new().learnt_scale(true)).of([a, b]);
        let pooled = net.layer(AttentionPool::new()).of(b);
        let repeated = net.layer(Repeat::over_steps()).of([pooled, a]);
        let all = net.layer(Concat::new(2)).of([mixed, repeated]);
        let sum = net.layer(Dense::new(2)).of(all);
        let mut model = net.output("y", sum).build(device, 3).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
        let history =
            model.fit(inputs(), Targets::new().add("y", y.view()), Fit::new().epochs(8).batch_size(3).seed(1));
        (model, history.unwrap().loss)
    };
    let ((model, losses), (_, expected)) = (trained(device), trained(&Device::cpu()));
    assert!(losses.last() < losses.first(), "{losses:?}");
    close("losses", &losses, &expected, 1e-4, 1e-4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    let again = Model::load(&path, device).unwrap();
    assert_eq!(model.outputs(inputs()).unwrap(), again.outputs(inputs()).unwrap());
    let model = joined().build(device, 3).unwrap();
    model.save(&path).unwrap();
    let again = Model::load(&path, device).unwrap();
    assert_eq!(model.outputs(inputs()).unwrap(), again.outputs(inputs()).unwrap());
}

on_both!(
    decoding_steps_attend_as_whole_passes_do,
    on_device,
    rows_are_those_of_each_sequence_alone,
    networks_train_and_are_saved,
    extreme_scores_stay_finite
);

/// A decoder that attends to an encoder's steps gives, step by step, what a pass over all that it was fed gives.
fn decoding_steps_attend_as_whole_passes_do(device: &Device) {
    for layer in [Attention::scaled(), Attention::additive(), Attention::new().learnt_scale(true)] {
        let mut net = Network::new();
        let (source, previous) = (net.input("source", 3), net.tokens("previous"));
        let encoded = net.layer(Lstm::new(6).return_sequences(true)).of(source);
        let states = net.states(encoded);
        let embedded = net.layer(Embedding::new(7, 4)).of(previous);
        let decoded = net.layer(Lstm::new(6).return_sequences(true)).starts_from(states).of(embedded);
        let context = net.layer(layer).of([decoded, encoded]);
        let pooled = net.layer(AttentionPool::new()).of(encoded);
        let repeated = net.layer(Repeat::over_steps()).of([pooled, decoded]);
        let both = net.layer(Concat::new(3)).of([decoded, context, repeated]);
        let logits = net.layer(Dense::new(7)).of(both);
        let model = net.output("next", logits).build(device, 8).unwrap();
        let source = Draw::new(4).array3((3, 5, 3));
        let inputs = || Inputs::new().add("source", source.view()).lengths(vec![5, 2, 3]);
        let decoder = model.decoder("previous", "next").unwrap();
        let given = decoder.greedy(inputs(), Decode { start: 0, end: 99, most: 6 }).unwrap();
        let fed = Array2::from_shape_fn((3, 6), |(row, t)| if t == 0 { 0 } else { given[row][t - 1] });
        let whole = model.predict(inputs().tokens("previous", fed.view())).unwrap();
        for (row, given) in given.iter().enumerate() {
            for (t, &token) in given.iter().enumerate() {
                let best = (0..7).max_by(|&a, &b| whole[[row, t, a]].total_cmp(&whole[[row, t, b]])).unwrap();
                assert_eq!(token as usize, best, "{layer:?}: row {row}, step {t}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |layer: Layer, widths: &[usize], says: &str| {
        let mut net = Network::new();
        let inputs: Vec<_> = widths.iter().enumerate().map(|(k, &width)| net.input(format!("x{k}"), width)).collect();
        let y = net.layer(layer).named("joined").of(inputs);
        let error = net.output("y", y).build(&Device::cpu(), 0).unwrap_err().to_string();
        assert!(error.contains("joined") && error.contains(says), "{error}");
    };
    for layer in [Multiply::new(0).into(), Average::new(0).into(), Maximum::new(0).into(), Layer::from(Concat::new(0))]
    {
        refused(layer, &[], "0 tensors");
    }
    for layer in [Multiply::new(2).into(), Average::new(2).into(), Layer::from(Maximum::new(2))] {
        refused(layer, &[3, 4], "3 and 4 features");
    }
    refused(Attention::new().into(), &[3, 4], "queries of 3 features with keys of 4");
    refused(Attention::new().keys(true).into(), &[3, 3, 4], "queries of 3 features with keys of 4");
    refused(Attention::new().into(), &[3], "takes 2");
    refused(Repeat::new(4).into(), &[3], "repeats a vector");
    let error = Repeat::new(0);
    let mut net = Network::new();
    let x = net.vector("x", 3);
    let y = net.layer(error).of(x);
    let error = net.output("y", y).build(&Device::cpu(), 0).unwrap_err().to_string();
    assert!(error.contains("steps") && error.contains("at least 1"), "{error}");
    // Only when data come are steps known.
    let mut net = Network::new();
    let (q, v, k) = (net.input("q", 3), net.input("v", 3), net.input("k", 3));
    let y = net.layer(Attention::new().keys(true)).of([q, v, k]);
    let model = net.output("y", y).build(&Device::cpu(), 0).unwrap();
    let [long, short] = [4, 3].map(|steps| Array3::<f32>::zeros((2, steps, 3)));
    let inputs = Inputs::new().add("q", long.view()).add("v", long.view()).add("k", short.view());
    let error = model.outputs(inputs).unwrap_err().to_string();
    assert!(error.contains("3 keys for 4 values"), "{error}");
    let error = model.stream(1).unwrap_err().to_string();
    assert!(error.contains("attends to all steps"), "{error}");
    // A step of a decoder does not know its index.
    let mut net = Network::new();
    let (a, b) = (net.input("a", 3), net.input("b", 3));
    let y = net.layer(Attention::new().causal(true)).of([a, b]);
    let model = net.output("y", y).build(&Device::cpu(), 0).unwrap();
    let error = model.decoder("a", "y").unwrap_err().to_string();
    assert!(error.contains("attends up to its own step"), "{error}");
    for layer in [Attention::new().into(), Layer::from(Concat::new(2))] {
        let error = Sequential::new(3).add(layer).build(&Device::cpu(), 0).unwrap_err().to_string();
        assert!(error.contains("takes 2"), "{error}");
    }
}

/// Scores far from 0, weights of which all but one are 0, and queries without a key stay finite, forward and backward.
fn extreme_scores_stay_finite(device: &Device) {
    for layer in [Attention::new(), Attention::scaled().causal(true), Attention::additive()] {
        let mut net = Network::new();
        let (q, v) = (net.input("q", 2), net.input("v", 2));
        let projected = net.layer(Dense::new(2)).of(q);
        let y = net.layer(layer).of([projected, v]);
        let mut model = net.output("y", y).build(device, 0).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::sgd(1e-9, 0.0)).unwrap();
        let mut draw = Draw::new(6);
        let (q, v) = (draw.array3((4, 3, 2)) * 1e6, draw.array3((4, 5, 2)) * 1e6);
        let inputs =
            || Inputs::new().add("q", q.view()).lengths(vec![3, 0, 2, 1]).add("v", v.view()).lengths(vec![5, 2, 0, 1]);
        let target = Array3::<f32>::zeros((4, 3, 2));
        let targets = Targets::new().add("y", target.view());
        model.fit(inputs(), targets, Fit::new().epochs(2)).unwrap();
        assert!(model.outputs(inputs()).unwrap()["y"].iter().all(|value| value.is_finite()), "{layer:?}");
        assert!(model.parameters().unwrap().values().flatten().all(|value| value.is_finite()), "{layer:?}");
    }
}

fn dense(units: usize) -> Layer {
    Dense::new(units).activation(Activation::Tanh).into()
}

/// Graphs of two sequences, "a" [.., 3] and "b" [.., 2].
fn graphs() -> Vec<(Graph, bool)> {
    let two = || vec![input("a", 3), input("b", 2)];
    let mut all = Vec::new();
    for layer in variants() {
        let mut nodes = vec![
            Node::of("q", dense(4), vec![3], vec![Source::Input(0)]),
            Node::of("v", dense(4), vec![2], vec![Source::Input(1)]),
        ];
        let (widths, sources) = if layer.has_keys() {
            nodes.push(Node::of("k", dense(4), vec![2], vec![Source::Input(1)]));
            nodes[1] = Node::of("v", dense(3), vec![2], vec![Source::Input(1)]);
            (vec![4, 3, 4], vec![Source::Node(0), Source::Node(1), Source::Node(2)])
        } else {
            (vec![4, 4], vec![Source::Node(0), Source::Node(1)])
        };
        nodes.push(Node::of("attention", layer, widths.clone(), sources));
        nodes.push(Node::of("out", Dense::new(2), vec![widths[1]], vec![Source::Previous]));
        let last = nodes.len() - 1;
        all.push((Graph::new(two(), nodes, vec![output("y", Source::Node(last))]).unwrap(), true));
        // Attention of a sequence to itself, in a residual block
        let own = layer.keys(false);
        let nodes = vec![
            Node::of("x", dense(4), vec![3], vec![Source::Input(0)]),
            Node::of("attention", own, vec![4, 4], vec![Source::Node(0); 2]),
            Node::of("add", Add::new(2), vec![4, 4], vec![Source::Node(0), Source::Node(1)]),
            Node::of("out", Dense::new(2), vec![4], vec![Source::Previous]),
        ];
        let outputs = vec![output("y", Source::Node(3))];
        all.push((Graph::new(vec![input("a", 3)], nodes, outputs).unwrap(), false));
    }
    for layer in [Multiply::new(3).into(), Average::new(3).into(), Maximum::new(3).into(), Layer::from(Concat::new(3))]
    {
        let (width, all_width) = if let Layer::Concat(_) = layer { (2, 10) } else { (4, 4) };
        let nodes = vec![
            Node::of("one", dense(4), vec![3], vec![Source::Input(0)]),
            Node::of("other", Lstm::new(width).return_sequences(true), vec![3], vec![Source::Input(0)]),
            Node::of("joined", layer.clone(), vec![4, width, 4], [0, 1, 0].map(Source::Node).to_vec()),
            Node::of("out", Dense::new(2), vec![all_width], vec![Source::Previous]),
        ];
        let outputs = vec![output("y", Source::Node(3))];
        all.push((Graph::new(vec![input("a", 3)], nodes, outputs).unwrap(), false));
    }
    for tanh in [false, true] {
        // A vector, repeated over the steps of the other sequence
        let pool = AttentionPool::new().tanh(tanh);
        let nodes = vec![
            Node::of("x", dense(4), vec![2], vec![Source::Input(1)]),
            Node::of("pool", pool, vec![4], vec![Source::Previous]),
            Node::of("repeat", Repeat::over_steps(), vec![4, 3], vec![Source::Previous, Source::Input(0)]),
            Node::of("out", Dense::new(2), vec![4], vec![Source::Previous]),
        ];
        all.push((Graph::new(two(), nodes, vec![output("y", Source::Node(3))]).unwrap(), true));
        // Repeated over seven steps, from which the pooled vector is a query
        let nodes = vec![
            Node::of("x", dense(4), vec![3], vec![Source::Input(0)]),
            Node::of("pool", pool, vec![4], vec![Source::Previous]),
            Node::of("repeat", Repeat::new(7), vec![4], vec![Source::Previous]),
            Node::of("lstm", Lstm::new(4).return_sequences(true), vec![4], vec![Source::Previous]),
            Node::of("attention", Attention::additive(), vec![4, 4], vec![Source::Node(1), Source::Node(3)]),
            Node::of("out", Dense::new(2), vec![4], vec![Source::Previous]),
        ];
        let outputs = vec![output("y", Source::Node(5))];
        all.push((Graph::new(vec![input("a", 3)], nodes, outputs).unwrap(), false));
    }
    all
}

fn gradients_of(graph: &Graph, steps: Vec<usize>, ragged: bool, limit: u64) {
    let what = format!("{:?}, ragged {ragged}, limit {limit}", graph.nodes);
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    let capabilities = Capabilities { max_binding_bytes: limit, ..Capabilities::default() };
    let batch = Batch::of(BATCH, steps.clone()).ragged(ragged);
    let network = network(graph, batch, purpose, &capabilities).unwrap_or_else(|error| panic!("{what}: {error}"));
    let losses = Losses::new(network.plan, network.loss.unwrap());
    let (machine, plan) = (&losses.machine, &losses.plan);
    let mut draw = Draw::new(11);
    let mut weights = Vec::new();
    for (k, buffer) in plan.buffers.iter().enumerate() {
        let axis = network.words.iter().find(|(_, id)| id.0 == k).map(|&(axis, _)| axis);
        let values: Vec<f64> = match (axis, buffer.role) {
            (Some(axis), _) => {
                let held = steps.get(axis).map_or([7, 7, 7], |&steps| [steps as u32, 0, 2]);
                [&[1, 2], &held[..]].concat().into_iter().map(f64::of_word).collect()
            }
            (None, Role::Input | Role::Weight) => {
                draw.vec(buffer.len as usize).into_iter().map(|value| 0.8 * value as f64).collect()
            }
            _ => continue,
        };
        machine.write((BufferId(k), 0), &values);
        if buffer.role == Role::Weight {
            weights.push(BufferId(k));
        }
    }
    for id in weights {
        // Without one, the parameter is not there.
        let Some(given) = losses.gradient(id) else { continue };
        losses.hold(&what, id, &given, (0..given.len()).step_by(1 + given.len() / 20), 1e-9);
    }
}

#[test]
fn gradients_are_central_differences() {
    for (graph, two) in graphs() {
        let steps = if two { vec![5, 4] } else { vec![5] };
        for ragged in [false, true] {
            gradients_of(&graph, steps.clone(), ragged, 1 << 27);
            gradients_of(&graph, steps.clone(), ragged, 400); // time is split
        }
    }
}
