//! Plans for a whole network: predict, evaluate, stream, train; and for a bare stack with all its gradients.

use super::backward::{self, StateGradients, Upstream};
use super::builder::{Builder, Drop, Trained};
use super::dense::{self, DenseSizes, DenseWeights};
use super::forward::{self, Initial, LayerTrace, LayerWeights, LstmSizes};
use super::norm::{self, NormWeights};
use super::pool::{self, Pooled};
use super::sequence::Sequence;
use super::strategy;
use super::update;
use crate::error::{Error, Result};
use crate::layer::{Dense, Dropout, Embedding, Layer, LayerNorm, Lstm, Merge, Pool};
use crate::plan::{BufferId, Capabilities, Plan, Role, Strategy};
use crate::train::{Loss, Update};

/// What a plan is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// The output alone, from zero states.
    Predict,
    /// The output, from states given and with the final states returned in the same buffers.
    Stream,
    /// The output and its loss.
    Evaluate {
        /// The loss.
        loss: &'a Loss,
        /// Whether the host gives each row a factor, in [`NetworkPlan::row_weights`].
        weighted: bool,
    },
    /// The loss, the gradients and the optimiser's step.
    Train {
        /// The loss.
        loss: &'a Loss,
        /// The optimiser, and what is done beside its step.
        update: &'a Update,
        /// Whether the host gives each row a factor, in [`NetworkPlan::row_weights`].
        weighted: bool,
    },
}

/// The sizes of a batch.
///
/// ```
/// use wgpu_lstm::schedule::Batch;
/// let batch = Batch::new(32, 100).ragged(true); // B = 32 sequences of up to T = 100 steps
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    rows: usize,
    steps: usize,
    ragged: bool,
}

impl Batch {
    /// B sequences of T steps.
    pub fn new(rows: usize, steps: usize) -> Batch {
        Batch { rows, steps, ragged: false }
    }

    /// Whether each sequence has a length of its own, which the host writes to the plan's words.
    pub fn ragged(self, ragged: bool) -> Batch {
        Batch { ragged, ..self }
    }
}

/// A layer with its name and its input features.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Name: prefix of its buffers and of its tensors in files.
    pub name: String,
    /// Features it takes.
    pub input: usize,
    /// Its configuration.
    pub layer: Layer,
}

impl LayerPlan {
    /// Refuses sizes of 0 and sizes beyond 32-bit offsets.
    pub(crate) fn validate(&self) -> Result<()> {
        match &self.layer {
            Layer::Lstm(lstm) => lstm_sizes(&self.name, lstm, self.input, [1, 1], false).map(drop),
            Layer::Dense(dense) => {
                dense.activation.validate(&format!("{}: the activation", self.name))?;
                dense_sizes(&self.name, dense, self.input).map(drop)
            }
            Layer::Dropout(Dropout { probability }) if !(0.0..1.0).contains(probability) => Err(Error::Config(
                format!("{}: the probability is {probability}; it must be at least 0 and below 1", self.name),
            )),
            Layer::Dropout(_) | Layer::Pool(_) => Ok(()),
            Layer::LayerNorm(norm) if !(norm.epsilon > 0.0 && norm.epsilon.is_finite()) => {
                Err(Error::Config(format!("{}: epsilon is {}; it must be finite and above 0", self.name, norm.epsilon)))
            }
            Layer::Masking(masking) if !masking.value.is_finite() => {
                Err(Error::Config(format!("{}: the value is {}; it must be finite", self.name, masking.value)))
            }
            Layer::Masking(_) => Ok(()),
            Layer::LayerNorm(_) => size("the number of input features", self.input).map(drop),
            Layer::Embedding(embedding) => embedding_sizes(embedding).map(drop),
        }
    }
}

/// A plan and where its host finds things.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The plan.
    pub plan: Plan,
    /// Input [T, B, I].
    pub x: Sequence,
    /// Output [T or 1, B, F].
    pub y: Sequence,
    /// Target [T or 1, B, features], where there is a loss; see [`Loss::target_width`].
    pub target: Option<Sequence>,
    /// Factor of each row's loss, [T or 1, B], where the purpose is weighted: its weight over the number of terms that the
    /// loss is a mean of.
    pub row_weights: Option<BufferId>,
    /// The mean loss, where there is one.
    pub loss: Option<BufferId>,
    /// States (h, c) of every LSTM layer, each [D, B, H], where the plan takes or gives them.
    pub states: Vec<(BufferId, BufferId)>,
    /// Numbers the host gives the optimiser at each step.
    pub hyper: Option<BufferId>,
    /// Words the host writes: a key for random bits (2), which training with dropout needs, then the lengths of sequences (B),
    /// where these have some.
    pub words: Option<BufferId>,
}

pub(crate) fn size(what: &str, value: usize) -> Result<u32> {
    match u32::try_from(value) {
        Ok(size @ 1..=0xfff_ffff) => Ok(size),
        _ => Err(Error::Config(format!("{what} is {value}; it must be at least 1 and below 2^28"))),
    }
}

fn lstm_sizes(name: &str, lstm: &Lstm, input: usize, [batch, steps]: [u32; 2], ragged: bool) -> Result<LstmSizes> {
    lstm.validate(name)?;
    if ragged && lstm.options.projection.is_some() {
        return Err(Error::Config(format!(
            "{name}: sequences of different lengths are not supported with a projection"
        )));
    }
    Ok(LstmSizes {
        name: name.to_string(),
        cell: lstm.spec(),
        settings: lstm.settings(),
        steps,
        batch,
        input: size("the number of input features", input)?,
        hidden: size("the number of hidden units", lstm.hidden)?,
        width: size("the width of the hidden state", lstm.width())?,
        layers: size("the number of layers", lstm.layers)?,
        directions: lstm.directions() as u32,
        biases: lstm.bias.count() as u32,
        ragged,
        backwards: lstm.options.reverse || lstm.options.go_backwards,
        in_scan_order: lstm.options.go_backwards,
        drops: lstm.drops(),
    })
}

fn embedding_sizes(embedding: &Embedding) -> Result<[u32; 2]> {
    let entries = size("the number of an embedding's entries", embedding.entries)?;
    Ok([entries, size("the number of an embedding's features", embedding.features)?])
}

fn dense_sizes(name: &str, dense: &Dense, input: usize) -> Result<DenseSizes> {
    Ok(DenseSizes {
        name: name.to_string(),
        input: size("the number of input features", input)?,
        output: size("the number of dense units", dense.units)?,
        bias: dense.bias,
        activation: dense.activation,
    })
}

/// Says how the recurrence of the layers runs, and why.
fn describe<'a>(builder: &mut Builder, steps: u32, layers: impl Iterator<Item = &'a LstmSizes>) {
    let mut all: Vec<String> = Vec::new();
    for sizes in layers {
        let strategy = match sizes.projected() {
            true => Strategy::PerStep,
            false => Strategy::choose(sizes.hidden, sizes.steps, &builder.capabilities),
        };
        let limit = builder.capabilities.whole_sequence_units;
        let why = match builder.capabilities.strategy {
            _ if sizes.projected() => "the hidden state is projected between steps".to_string(),
            Some(_) => "as asked for".to_string(),
            None if limit == u32::MAX => "the choice of this device".to_string(),
            None => format!("H = {}, T = {}; whole sequences up to {limit} units", sizes.hidden, sizes.steps),
        };
        let text = format!("{}: {} ({why})", sizes.name, strategy::describe(strategy));
        if !all.contains(&text) {
            all.push(text);
        }
    }
    let chunk = builder.chunk_steps(steps);
    all.push(if chunk == steps {
        "time is not split".to_string()
    } else {
        format!(
            "time is split into {} chunks of at most {chunk} steps, because bindings hold {} bytes",
            steps.div_ceil(chunk),
            builder.capabilities.max_binding_bytes
        )
    });
    builder.strategy(all.join("; "));
}

enum Sized {
    Lstm {
        sizes: LstmSizes,
        whole: bool,
        merge: Merge,
    },
    Dense(DenseSizes),
    Dropout {
        name: String,
        probability: f64,
    },
    Pool {
        name: String,
        pool: Pool,
    },
    Norm {
        name: String,
        features: u32,
        epsilon: f32,
    },
    Embedding {
        name: String,
        sizes: [u32; 2],
    },
    /// Nothing to run: the host makes lengths of it.
    Masking,
}

enum Weights {
    Lstm(Vec<LayerWeights>),
    Dense(DenseWeights),
    Norm(NormWeights),
    /// [entries, features].
    Embedding(BufferId),
    None,
}

enum Trace {
    /// With the output before its directions were merged.
    Lstm(Vec<LayerTrace>, Sequence),
    Dense {
        x: Sequence,
        y: Sequence,
    },
    /// Nothing, where nothing was dropped.
    Dropout(Option<Drop>),
    Pool(Pooled),
    /// With the layer's input.
    Norm(Sequence),
    /// With the indices.
    Embedding(Sequence),
    Masking,
}

impl Sized {
    fn declare(&self, builder: &mut Builder, prefix: &str, role: Role) -> Result<Weights> {
        match self {
            Sized::Lstm { sizes, .. } => forward::declare_weights(builder, sizes, prefix, role).map(Weights::Lstm),
            Sized::Dense(sizes) => dense::declare_weights(builder, sizes, prefix, role).map(Weights::Dense),
            Sized::Dropout { .. } | Sized::Pool { .. } | Sized::Masking => Ok(Weights::None),
            Sized::Norm { name, features, .. } => {
                norm::declare(builder, name, *features, prefix, role).map(Weights::Norm)
            }
            Sized::Embedding { name, sizes: [entries, features] } => {
                let len = *entries as u64 * *features as u64;
                builder.buffer(format!("{prefix}{name}.weight"), len, role).map(Weights::Embedding)
            }
        }
    }
}

/// Sizes of all layers, and time split so that the largest tensor can be bound.
fn sized(
    builder: &mut Builder,
    layers: &[LayerPlan],
    [batch, steps]: [u32; 2],
    ragged: bool,
    train: bool,
) -> Result<Vec<Sized>> {
    let mut along = steps;
    layers
        .iter()
        .map(|LayerPlan { name, input, layer }| match layer {
            Layer::Lstm(lstm) => {
                let sizes = lstm_sizes(name, lstm, *input, [batch, along], ragged)?;
                for (what, elements) in sizes.per_step(train) {
                    builder.chunk_by(&what, elements)?;
                }
                if !lstm.return_sequences {
                    along = 1;
                }
                Ok(Sized::Lstm { sizes, whole: lstm.return_sequences, merge: lstm.options.merge })
            }
            Layer::Dropout(Dropout { probability }) => {
                Ok(Sized::Dropout { name: name.clone(), probability: *probability })
            }
            Layer::Masking(_) => Ok(Sized::Masking),
            Layer::LayerNorm(LayerNorm { epsilon }) => {
                let features = size("the number of input features", *input)?;
                builder
                    .chunk_by(&format!("{name} [B, features] = [{batch}, {input}]"), batch as u64 * *input as u64)?;
                Ok(Sized::Norm { name: name.clone(), features, epsilon: *epsilon })
            }
            Layer::Embedding(embedding) => {
                let sizes = embedding_sizes(embedding)?;
                let [_, features] = sizes;
                builder.chunk_by(&format!("{name} [B, features]"), batch as u64 * features as u64)?;
                Ok(Sized::Embedding { name: name.clone(), sizes })
            }
            Layer::Pool(pool) => {
                builder
                    .chunk_by(&format!("{name} [B, features] = [{batch}, {input}]"), batch as u64 * *input as u64)?;
                along = 1;
                Ok(Sized::Pool { name: name.clone(), pool: *pool })
            }
            Layer::Dense(dense) => {
                let sizes = dense_sizes(name, dense, *input)?;
                let widest = sizes.input.max(sizes.output) as u64;
                builder.chunk_by(&format!("{name} [B, features] = [{batch}, {widest}]"), batch as u64 * widest)?;
                Ok(Sized::Dense(sizes))
            }
        })
        .collect()
}

/// Plans a network for a batch of `batch` sequences of `steps` steps.
pub fn network(
    layers: &[LayerPlan],
    Batch { rows, steps, ragged }: Batch,
    purpose: Purpose,
    capabilities: &Capabilities,
) -> Result<NetworkPlan> {
    let (batch, steps) = (size("the batch", rows)?, size("the number of time steps", steps)?);
    let title = match purpose {
        Purpose::Predict => "predict",
        Purpose::Stream => "stream",
        Purpose::Evaluate { .. } => "evaluate",
        Purpose::Train { .. } => "training step",
    };
    let mut builder = Builder::new(format!("{title}: T = {steps}, B = {batch}"), capabilities.clone());
    let train = matches!(purpose, Purpose::Train { .. });
    let sized = sized(&mut builder, layers, [batch, steps], ragged, train)?;
    let stacks = sized.iter().filter_map(|layer| match layer {
        Sized::Lstm { sizes, .. } => Some(sizes),
        _ => None,
    });
    describe(&mut builder, steps, stacks);

    let input = size("the number of input features", layers.first().map_or(0, |layer| layer.input))?;
    let x = builder.sequence("x", [steps, batch, input], 0, Role::Input)?;
    let mut states = Vec::new();
    let (mut weights, mut traces) = (Vec::new(), Vec::new());
    let mut flow = x.clone();
    for layer in &sized {
        let declared = layer.declare(&mut builder, "", Role::Weight)?;
        match (layer, &declared) {
            (Sized::Lstm { sizes, whole, merge }, Weights::Lstm(declared)) => {
                let initial = match purpose {
                    Purpose::Stream => Initial::States(declare_states(&mut builder, sizes, Role::State, "")?),
                    _ => Initial::Zero,
                };
                let trace = forward::lstm(&mut builder, sizes, declared, &flow, &initial, train, *whole)?;
                if let Initial::States(pairs) = initial {
                    for (&(h, c), layer) in pairs.iter().zip(&trace) {
                        builder.copy_run(sizes.h_slot(), layer.h_last, (h, 0));
                        builder.copy_run(sizes.slot(), layer.c_last, (c, 0));
                    }
                    states.extend(pairs);
                }
                let top = trace.last().ok_or_else(|| Error::Config("an LSTM needs at least one layer".into()))?;
                flow = match &top.y {
                    Some(y) => y.clone(),
                    None => forward::last_step(&mut builder, sizes, top)?,
                };
                let apart = flow.clone();
                if *merge != Merge::Concat {
                    flow = pool::merge(&mut builder, &sizes.name, *merge, &apart, batch)?;
                }
                traces.push(Trace::Lstm(trace, apart));
            }
            (Sized::Dense(sizes), Weights::Dense(declared)) => {
                let y = dense::forward(&mut builder, sizes, *declared, &flow, batch)?;
                traces.push(Trace::Dense { x: flow, y: y.clone() });
                flow = y;
            }
            (Sized::Dropout { name, probability }, Weights::None) => {
                let drops = train && *probability > 0.0;
                let drop = drops.then(|| Drop { probability: *probability, site: builder.site(), shared: false });
                if let Some(drop) = drop {
                    builder.section(format!("{name} forward"));
                    flow = builder.dropout(&format!("{name}.y"), &flow, batch, drop)?;
                }
                traces.push(Trace::Dropout(drop));
            }
            (Sized::Masking, Weights::None) => traces.push(Trace::Masking),
            (Sized::Pool { name, pool }, Weights::None) => {
                let (y, pooled) = pool::forward(&mut builder, name, *pool, &flow, batch, ragged)?;
                traces.push(Trace::Pool(pooled));
                flow = y;
            }
            (Sized::Norm { name, epsilon, .. }, Weights::Norm(declared)) => {
                let y = norm::forward(&mut builder, name, *epsilon, *declared, &flow, batch)?;
                traces.push(Trace::Norm(flow));
                flow = y;
            }
            (Sized::Embedding { name, sizes }, Weights::Embedding(declared)) => {
                let y = norm::embed(&mut builder, name, *sizes, *declared, &flow, batch)?;
                traces.push(Trace::Embedding(flow));
                flow = y;
            }
            _ => return Err(Error::Plan("a layer declared another kind's weights".into())),
        }
        weights.push(declared);
    }
    let y = flow;
    let (mut target, mut loss, mut hyper) = (None, None, None);
    if let Purpose::Evaluate { loss: kind, weighted } | Purpose::Train { loss: kind, weighted, .. } = purpose {
        let features = size("the number of target features", kind.target_width(y.features as usize)?)?;
        let truth = builder.sequence("target", [y.steps, batch, features], 0, Role::Input)?;
        let (gradient, out) = update::loss(&mut builder, kind, &y, &truth, batch, weighted)?;
        (target, loss) = (Some(truth), Some(out));
        if let Purpose::Train { update, .. } = purpose {
            let trained = gradients(&mut builder, &sized, &weights, &traces, gradient, batch)?;
            update::update(&mut builder, update, &trained, layers)?;
            hyper = builder.find("hyper");
        }
    }
    let words = builder.find("words");
    let row_weights = builder.find(update::ROW_WEIGHTS);
    Ok(NetworkPlan { plan: builder.finish()?, x, y, target, row_weights, loss, states, hyper, words })
}

/// Backward through all layers; returns the weights with their gradients.
fn gradients(
    builder: &mut Builder,
    sized: &[Sized],
    weights: &[Weights],
    traces: &[Trace],
    mut upstream: Sequence,
    batch: u32,
) -> Result<Vec<Trained>> {
    let mut pairs = Vec::new();
    for (k, layer) in sized.iter().enumerate().rev() {
        let declared = layer.declare(builder, "grad ", Role::Gradient)?;
        let dx = match (layer, &weights[k], &traces[k], &declared) {
            (
                Sized::Lstm { sizes, whole, merge },
                Weights::Lstm(weights),
                Trace::Lstm(traces, apart),
                Weights::Lstm(declared),
            ) => {
                if *merge != Merge::Concat {
                    builder.section(format!("{} merge backward", sizes.name));
                    upstream = pool::unmerge(builder, &sizes.name, *merge, apart, &upstream, batch)?;
                }
                for (weights, gradients) in weights.iter().zip(declared) {
                    pairs.extend([(weights.w, gradients.w), (weights.r, gradients.r)]);
                    if sizes.parameters() > 0 {
                        pairs.push((weights.bias, gradients.bias));
                    }
                    pairs.extend(weights.projection.zip(gradients.projection));
                }
                let from = if *whole { Upstream::Whole(upstream.clone()) } else { Upstream::Last(upstream.clone()) };
                backward::lstm(builder, sizes, weights, traces, from, None, declared, k > 0)?
            }
            (Sized::Dense(sizes), Weights::Dense(weights), Trace::Dense { x, y }, Weights::Dense(declared)) => {
                pairs.push((weights.weight, declared.weight));
                if sizes.bias {
                    pairs.push((weights.bias, declared.bias));
                }
                dense::backward(builder, sizes, *weights, *declared, x, y, &upstream, batch, k > 0)?
            }
            (Sized::Dropout { name, .. }, _, Trace::Dropout(drop), _) => match drop {
                Some(drop) if k > 0 => {
                    builder.section(format!("{name} backward"));
                    Some(builder.dropout(&format!("{name}.dx"), &upstream, batch, *drop)?)
                }
                _ => None,
            },
            (Sized::Masking, _, Trace::Masking, _) => None, // the first layer
            (Sized::Pool { name, pool }, _, Trace::Pool(pooled), _) => {
                Some(pool::backward(builder, name, *pool, pooled, &upstream, batch)?)
            }
            (Sized::Norm { name, epsilon, .. }, Weights::Norm(weights), Trace::Norm(x), Weights::Norm(declared)) => {
                pairs.extend([(weights.weight, declared.weight), (weights.bias, declared.bias)]);
                Some(norm::backward(builder, name, *epsilon, *weights, *declared, x, &upstream, batch)?)
            }
            (
                Sized::Embedding { name, sizes },
                Weights::Embedding(weight),
                Trace::Embedding(x),
                Weights::Embedding(gradient),
            ) => {
                pairs.push((*weight, *gradient));
                norm::embed_gradient(builder, name, *sizes, *gradient, x, &upstream, batch);
                None
            }
            _ => return Err(Error::Plan("a layer and its trace are of different kinds".into())),
        };
        if let Some(dx) = dx {
            upstream = dx;
        }
    }
    Ok(pairs.into_iter().map(|(weight, gradient)| builder.trained(weight, gradient)).collect())
}

/// Declares a pair of state buffers for every layer of a stack.
fn declare_states(
    builder: &mut Builder,
    sizes: &LstmSizes,
    role: Role,
    suffix: &str,
) -> Result<Vec<(BufferId, BufferId)>> {
    (0..sizes.layers)
        .map(|layer| {
            let mut state = |kind: &str, len: u32| {
                let name = format!("{}.l{layer}.{kind}{suffix}", sizes.name);
                builder.buffer(name, len as u64, role)
            };
            Ok((state("h state", sizes.h_slot())?, state("c state", sizes.slot())?))
        })
        .collect()
}

/// A bare LSTM stack with all its gradients: what [`lstm_gradients`] plans.
#[derive(Clone, Debug)]
pub struct LstmGradientPlan {
    /// The plan.
    pub plan: Plan,
    /// Input [T, B, I].
    pub x: Sequence,
    /// Gradient of the output, written by the host.
    pub dy: Sequence,
    /// Gradient of the input.
    pub dx: Sequence,
    /// Initial states per layer, written by the host.
    pub initial: Vec<(BufferId, BufferId)>,
    /// Gradients of the final states per layer, written by the host.
    pub d_final: Vec<(BufferId, BufferId)>,
    /// Gradients of the initial states per layer.
    pub d_initial: Vec<(BufferId, BufferId)>,
    /// As in [`NetworkPlan`].
    pub words: Option<BufferId>,
}

/// Plans a stack forward and backward for given gradients of its output and final states.
pub fn lstm_gradients(
    layer: &LayerPlan,
    Batch { rows, steps, ragged }: Batch,
    capabilities: &Capabilities,
) -> Result<LstmGradientPlan> {
    let Layer::Lstm(lstm) = &layer.layer else {
        return Err(Error::Plan("a gradient plan is for an LSTM".into()));
    };
    let (batch, steps) = (size("the batch", rows)?, size("the number of time steps", steps)?);
    let mut builder = Builder::new(format!("forward and backward: T = {steps}, B = {batch}"), capabilities.clone());
    let sizes = lstm_sizes(&layer.name, lstm, layer.input, [batch, steps], ragged)?;
    for (what, elements) in sizes.per_step(true) {
        builder.chunk_by(&what, elements)?;
    }
    describe(&mut builder, steps, std::iter::once(&sizes));
    let x = builder.sequence("x", [steps, batch, sizes.input], 0, Role::Input)?;
    let merge = lstm.options.merge;
    let dy = builder.sequence("dy", [steps, batch, lstm.output() as u32], 0, Role::Input)?;
    let initial = declare_states(&mut builder, &sizes, Role::Input, "")?;
    let finals = declare_states(&mut builder, &sizes, Role::Input, " final gradient")?;
    let d_initial = declare_states(&mut builder, &sizes, Role::Output, " initial gradient")?;
    let weights = forward::declare_weights(&mut builder, &sizes, "", Role::Weight)?;
    let gradients = forward::declare_weights(&mut builder, &sizes, "grad ", Role::Gradient)?;
    let traces = forward::lstm(&mut builder, &sizes, &weights, &x, &Initial::States(initial.clone()), true, true)?;
    let states = StateGradients { finals: finals.clone(), initials: d_initial.clone() };
    let apart = match (merge, traces.last().and_then(|top| top.y.as_ref())) {
        (Merge::Concat, _) | (_, None) => dy.clone(),
        (_, Some(y)) => pool::unmerge(&mut builder, &sizes.name, merge, y, &dy, batch)?,
    };
    let upstream = Upstream::Whole(apart);
    let dx = backward::lstm(&mut builder, &sizes, &weights, &traces, upstream, Some(&states), &gradients, true)?
        .ok_or_else(|| Error::Plan("the input's gradient was asked for".into()))?;
    let words = builder.find("words");
    Ok(LstmGradientPlan { plan: builder.finish()?, x, dy, dx, initial, d_final: finals, d_initial, words })
}
