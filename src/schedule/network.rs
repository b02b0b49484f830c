//! Plans for a whole network: predict, evaluate, stream, train; and for a bare stack with all its gradients.

use super::activation::{self, ActivationSizes};
use super::builder::{Builder, Drop, Trained};
use super::dense::{self, DenseSizes, DenseWeights};
use super::norm::{self, NormWeights};
use super::pool::{self, Pooled};
use super::recurrence::backward::{self, Backward};
use super::recurrence::forward::{self, Forward};
use super::recurrence::{self, Initial, LayerTrace, LayerWeights, LstmSizes, Norms, StateGradients, Upstream};
use super::segments::{self, Segmented};
use super::sequence::Sequence;
use super::strategy;
use super::update::{self, Losses};
use crate::error::{Error, Result};
use crate::layer::{Dense, Dropout, Embedding, Layer, LayerNorm, Lstm, Merge, Pool};
use crate::memory;
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
    stateful: bool,
    segment: Option<usize>,
}

impl Batch {
    /// B sequences of T steps.
    pub fn new(rows: usize, steps: usize) -> Batch {
        Batch { rows, steps, ragged: false, stateful: false, segment: None }
    }

    /// Whether each sequence has a length of its own, which the host writes to the plan's words.
    pub fn ragged(self, ragged: bool) -> Batch {
        Batch { ragged, ..self }
    }

    /// Whether the batch goes on where another ended: recurrent layers begin with the states in [`NetworkPlan::states`] and leave
    /// their final states there. No gradient flows through them (Williams and Peng 1990). [`Purpose::Stream`] does so anyway.
    pub fn stateful(self, stateful: bool) -> Batch {
        Batch { stateful, ..self }
    }

    /// Whether training keeps states at every so many steps only, and goes forward a second time between them; see
    /// [`TimeCheckpoints`](crate::TimeCheckpoints). Segments of T steps or more are plain training.
    pub fn segment(self, steps: Option<usize>) -> Batch {
        Batch { segment: steps, ..self }
    }
}

/// Refuses layers that need the whole sequence, so that a part of it cannot go on where another ended; `what` cannot be done then.
pub(crate) fn check_carried(layers: &[LayerPlan], what: &str) -> Result<()> {
    let refuse =
        |why: String| Err(Error::Config(format!("{why}, which needs the whole sequence, so it cannot {what}")));
    for LayerPlan { name, layer, .. } in layers {
        match layer {
            Layer::Pool(_) => return refuse(format!("{name} pools over time")),
            Layer::Lstm(lstm) if lstm.bidirectional => return refuse(format!("{name} is bidirectional")),
            Layer::Lstm(Lstm { options, .. }) if options.reverse || options.go_backwards => {
                return refuse(format!("{name} runs backwards"));
            }
            _ => {}
        }
    }
    Ok(())
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
            Layer::Lstm(lstm) => {
                lstm_sizes(&self.name, lstm, self.input, [1, 1], false)?;
                // Each layer of a stack has names, tensors and commands beside its numbers.
                memory::probe(
                    lstm.layers as u64 * 4096,
                    format_args!("{}: a stack of {} layers", self.name, lstm.layers),
                )
            }
            Layer::Dense(dense) => {
                dense.activation.validate(&format!("{}: the activation", self.name))?;
                dense_sizes(&self.name, dense, self.input).map(drop)
            }
            Layer::Dropout(Dropout { probability }) if !(0.0..1.0).contains(probability) => Err(Error::Config(
                format!("{}: the probability is {probability}; it must be at least 0 and below 1", self.name),
            )),
            Layer::Dropout(_) | Layer::Pool(_) => Ok(()),
            Layer::Activation(activation) => activation.validate(&format!("{}: the activation", self.name)),
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
    /// Output [T or 1, B, F]; without chunks where training goes through [T, B, F] in segments, which are nowhere as a whole.
    pub y: Sequence,
    /// Target [T or 1, B, features], where there is a loss; see [`Loss::target_width`].
    pub target: Option<Sequence>,
    /// Factor of each row's loss, [T or 1, B], where the purpose is weighted: its weight over the number of terms that the
    /// loss is a mean of.
    pub row_weights: Option<BufferId>,
    /// The mean loss, where there is one.
    pub loss: Option<BufferId>,
    /// States of every LSTM layer, h [D, B, K] and those beside it [STATES, D, B, H], where the plan takes or gives them.
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
    Ok(LstmSizes {
        name: name.to_string(),
        cell: lstm.spec(),
        settings: lstm.settings(),
        steps,
        batch,
        input: size("the number of input features", input)?,
        hidden: size("the number of hidden units", lstm.hidden)?,
        width: size("the width of the hidden state", lstm.width())?,
        heads: size("the number of heads", lstm.head_count())?,
        stages: lstm.stages(),
        layers: size("the number of layers", lstm.layers)?,
        directions: lstm.directions() as u32,
        biases: lstm.bias.count() as u32,
        ragged,
        backwards: lstm.options.reverse || lstm.options.go_backwards,
        in_scan_order: lstm.options.go_backwards,
        repeats_output: lstm.options.repeat_output,
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
fn describe<'a>(builder: &mut Builder, steps: u32, segment: Option<u32>, layers: impl Iterator<Item = &'a LstmSizes>) {
    let mut all: Vec<String> = Vec::new();
    for sizes in layers {
        let strategy = match sizes.unfused() {
            Some(_) => Strategy::PerStep,
            None => Strategy::choose(sizes.hidden, segment.unwrap_or(sizes.steps), &builder.capabilities),
        };
        let limit = builder.capabilities.whole_sequence_units;
        let why = match (sizes.unfused(), builder.capabilities.strategy) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(_)) => "as asked for".to_string(),
            (None, None) if limit == u32::MAX => "the choice of this device".to_string(),
            (None, None) => {
                let steps = segment.unwrap_or(sizes.steps);
                format!("H = {}, T = {steps}; whole sequences up to {limit} units", sizes.hidden)
            }
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
    if let Some(segment) = segment {
        all.push(format!(
            "states are kept at the start of {} segments of at most {segment} steps, which are gone through a second time for \
             backward",
            steps.div_ceil(segment)
        ));
    }
    builder.strategy(all.join("; "));
}

pub(super) enum Sized {
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
    Activation(ActivationSizes),
    /// Nothing to run: the host makes lengths of it.
    Masking,
}

pub(super) enum Weights {
    Lstm(Vec<LayerWeights>),
    Dense(DenseWeights),
    Norm(NormWeights),
    /// [entries, features].
    Embedding(BufferId),
    None,
}

pub(super) enum Trace {
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
    /// With the layer's output.
    Activation(Sequence),
    Masking,
}

impl Sized {
    fn declare(&self, builder: &mut Builder, prefix: &str, role: Role) -> Result<Weights> {
        match self {
            Sized::Lstm { sizes, .. } => recurrence::declare_weights(builder, sizes, prefix, role).map(Weights::Lstm),
            Sized::Dense(sizes) => dense::declare_weights(builder, sizes, prefix, role).map(Weights::Dense),
            Sized::Dropout { .. } | Sized::Pool { .. } | Sized::Activation(_) | Sized::Masking => Ok(Weights::None),
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

impl Trace {
    /// Final states, one pair a layer; nothing where the layer is not recurrent.
    pub(super) fn finals(&self) -> Vec<[(BufferId, u32); 2]> {
        match self {
            Trace::Lstm(layers, _) => layers.iter().map(|layer| [layer.h_last, layer.c_last]).collect(),
            _ => Vec::new(),
        }
    }
}

/// Sizes of all layers, and time split so that the largest tensor can be bound.
pub(super) fn sized(
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
            Layer::Activation(activation) => {
                let features = size("the number of input features", *input)?;
                builder
                    .chunk_by(&format!("{name} [B, features] = [{batch}, {input}]"), batch as u64 * *input as u64)?;
                Ok(Sized::Activation(ActivationSizes { name: name.clone(), features, activation: *activation }))
            }
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
    Batch { rows, steps, ragged, stateful, segment }: Batch,
    purpose: Purpose,
    capabilities: &Capabilities,
) -> Result<NetworkPlan> {
    let (batch, steps) = (size("the batch", rows)?, size("the number of time steps", steps)?);
    if stateful {
        check_carried(layers, "carry its state from batch to batch")?;
    }
    let title = match purpose {
        Purpose::Predict => "predict",
        Purpose::Stream => "stream",
        Purpose::Evaluate { .. } => "evaluate",
        Purpose::Train { .. } => "training step",
    };
    let mut builder = Builder::trusted(format!("{title}: T = {steps}, B = {batch}"), capabilities.clone());
    let train = matches!(purpose, Purpose::Train { .. });
    let sized = sized(&mut builder, layers, [batch, steps], ragged, train)?;
    let segment = match segment {
        Some(segment) => segments::steps(&mut builder, layers, purpose, [steps, size("a segment's steps", segment)?])?,
        None => None,
    };
    let stacks = sized.iter().filter_map(|layer| match layer {
        Sized::Lstm { sizes, .. } => Some(sizes),
        _ => None,
    });
    describe(&mut builder, steps, segment, stacks);

    let input = size("the number of input features", layers.first().map_or(0, |layer| layer.input))?;
    let x = builder.sequence("x", [steps, batch, input], 0, Role::Input)?;
    let mut weights = Vec::new();
    for layer in &sized {
        weights.push(layer.declare(&mut builder, "", Role::Weight)?);
    }
    let mut states: Vec<Vec<(BufferId, BufferId)>> = Vec::new();
    if stateful || matches!(purpose, Purpose::Stream) {
        for layer in &sized {
            if let Sized::Lstm { sizes, .. } = layer {
                states.push(declare_states(&mut builder, sizes, Role::State, "")?);
            }
        }
    }
    let run = Run { sized: &sized, weights: &weights, batch, ragged, train };
    let (y, target, loss, trained) = match (segment, purpose) {
        (Some(segment), Purpose::Train { loss, weighted, .. }) => {
            let plan =
                Segmented { layers, x: &x, weights: &weights, states: &states, sizes: [steps, batch, segment], ragged };
            let (y, target, loss, pairs) = plan.train(&mut builder, loss, weighted)?;
            (y, Some(target), Some(loss), pairs)
        }
        _ => {
            let starts: Vec<Initial> = states.iter().map(|pairs| from_start(pairs)).collect();
            let (traces, y) = run.forward(&mut builder, x.clone(), &starts)?;
            leave(&mut builder, &sized, &traces, states.iter().flatten().map(|&(h, c)| [(h, 0), (c, 0)]));
            match purpose {
                Purpose::Evaluate { loss: kind, weighted } | Purpose::Train { loss: kind, weighted, .. } => {
                    let (target, losses) = target(&mut builder, kind, [y.steps, batch, y.features], weighted)?;
                    let gradient = losses.gradient(&mut builder, &y, &target, 0)?;
                    let loss = losses.mean(&mut builder)?;
                    let pairs = match train {
                        true => run.gradients(&mut builder, &traces, gradient, None, false)?.0,
                        false => Vec::new(),
                    };
                    (y, Some(target), Some(loss), pairs)
                }
                Purpose::Predict | Purpose::Stream => (y, None, None, Vec::new()),
            }
        }
    };
    let mut hyper = None;
    if let Purpose::Train { update, .. } = purpose {
        let trained: Vec<Trained> =
            trained.into_iter().map(|(weight, gradient)| builder.trained(weight, gradient)).collect();
        update::update(&mut builder, update, &trained, layers)?;
        hyper = builder.find("hyper");
    }
    let states = states.into_iter().flatten().collect();
    let words = builder.find("words");
    let row_weights = builder.find(update::ROW_WEIGHTS);
    Ok(NetworkPlan { plan: builder.finish()?, x, y, target, row_weights, loss, states, hyper, words })
}

/// The target [T or 1, B, features] of predictions of these sizes, and their loss.
pub(super) fn target<'a>(
    builder: &mut Builder,
    kind: &'a Loss,
    [steps, batch, width]: [u32; 3],
    weighted: bool,
) -> Result<(Sequence, Losses<'a>)> {
    let features = size("the number of target features", kind.target_width(width as usize)?)?;
    let target = builder.sequence("target", [steps, batch, features], 0, Role::Input)?;
    Ok((target, Losses::new(builder, kind, [steps, batch, width], weighted)?))
}

/// Begins with states in buffers.
fn from_start(pairs: &[(BufferId, BufferId)]) -> Initial {
    Initial::States(pairs.iter().map(|&(h, c)| [(h, 0), (c, 0)]).collect())
}

/// Copies the final states of recurrent layers to the places that are given; nothing where there are none.
pub(super) fn leave(
    builder: &mut Builder,
    sized: &[Sized],
    traces: &[Trace],
    mut places: impl Iterator<Item = [(BufferId, u32); 2]>,
) {
    for (layer, trace) in sized.iter().zip(traces) {
        let Sized::Lstm { sizes, .. } = layer else { continue };
        for [h, c] in trace.finals() {
            let Some([h_place, c_place]) = places.next() else { return };
            builder.copy_run(sizes.h_slot(), h, h_place);
            builder.copy_run(sizes.c_slot(), c, c_place);
        }
    }
}

/// Layers one after another, with what they run on.
pub(super) struct Run<'a> {
    pub sized: &'a [Sized],
    pub weights: &'a [Weights],
    pub batch: u32,
    pub ragged: bool,
    pub train: bool,
}

/// Weights with their gradients.
pub(super) type Pairs = Vec<(BufferId, BufferId)>;

impl Run<'_> {
    /// Forward through all layers; recurrent ones begin with `starts`, or at zero where there are none.
    pub fn forward(
        &self,
        builder: &mut Builder,
        mut flow: Sequence,
        starts: &[Initial],
    ) -> Result<(Vec<Trace>, Sequence)> {
        let (mut traces, mut starts) = (Vec::new(), starts.iter());
        for (layer, declared) in self.sized.iter().zip(self.weights) {
            match (layer, declared) {
                (Sized::Lstm { sizes, whole, merge }, Weights::Lstm(declared)) => {
                    let initial = starts.next().unwrap_or(&Initial::Zero);
                    let stack = Forward { weights: declared, x: &flow, initial, train: self.train, whole: *whole };
                    let trace = forward::lstm(builder, sizes, &stack)?;
                    let top = trace.last().ok_or_else(|| Error::Config("an LSTM needs at least one layer".into()))?;
                    flow = match &top.y {
                        Some(y) => y.clone(),
                        None => recurrence::last_step(builder, sizes, top)?,
                    };
                    let apart = flow.clone();
                    if *merge != Merge::Concat {
                        flow = pool::merge(builder, &sizes.name, *merge, &apart, self.batch)?;
                    }
                    traces.push(Trace::Lstm(trace, apart));
                }
                (Sized::Dense(sizes), Weights::Dense(declared)) => {
                    let y = dense::forward(builder, sizes, *declared, &flow, self.batch)?;
                    traces.push(Trace::Dense { x: flow, y: y.clone() });
                    flow = y;
                }
                (Sized::Dropout { name, probability }, Weights::None) => {
                    let drops = self.train && *probability > 0.0;
                    let drop = drops.then(|| Drop { probability: *probability, site: builder.site(), shared: false });
                    if let Some(drop) = drop {
                        builder.section(format!("{name} forward"));
                        flow = builder.dropout(&format!("{name}.y"), &flow, self.batch, drop)?;
                    }
                    traces.push(Trace::Dropout(drop));
                }
                (Sized::Masking, Weights::None) => traces.push(Trace::Masking),
                (Sized::Activation(sizes), Weights::None) => {
                    flow = activation::forward(builder, sizes, &flow, self.batch)?;
                    traces.push(Trace::Activation(flow.clone()));
                }
                (Sized::Pool { name, pool }, Weights::None) => {
                    let (y, pooled) = pool::forward(builder, name, *pool, &flow, self.batch, self.ragged)?;
                    traces.push(Trace::Pool(pooled));
                    flow = y;
                }
                (Sized::Norm { name, epsilon, .. }, Weights::Norm(declared)) => {
                    let y = norm::forward(builder, name, *epsilon, *declared, &flow, self.batch)?;
                    traces.push(Trace::Norm(flow));
                    flow = y;
                }
                (Sized::Embedding { name, sizes }, Weights::Embedding(declared)) => {
                    let y = norm::embed(builder, name, *sizes, *declared, &flow, self.batch)?;
                    traces.push(Trace::Embedding(flow));
                    flow = y;
                }
                _ => return Err(Error::Plan("a layer declared another kind's weights".into())),
            }
        }
        Ok((traces, flow))
    }

    /// Backward through all layers, with gradients of the recurrent ones' states where these are given; returns the weights with
    /// their gradients, from the top down, and the gradient of the input where it is asked for.
    pub fn gradients(
        &self,
        builder: &mut Builder,
        traces: &[Trace],
        mut upstream: Sequence,
        states: Option<&[StateGradients]>,
        wants_dx: bool,
    ) -> Result<(Pairs, Sequence)> {
        let Run { sized, weights, batch, .. } = *self;
        let mut pairs = Vec::new();
        let mut states = states.map(|states| states.iter().rev());
        for (k, layer) in sized.iter().enumerate().rev() {
            let wants_dx = wants_dx || k > 0;
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
                        pairs.push((weights.w, gradients.w));
                        if sizes.has_product() {
                            pairs.push((weights.r, gradients.r));
                        }
                        if sizes.parameters() > 0 {
                            pairs.push((weights.bias, gradients.bias));
                        }
                        pairs.extend(weights.projection.zip(gradients.projection));
                        if let Some((weights, gradients)) = weights.norm.zip(gradients.norm) {
                            let of = |norms: Norms| [norms.x, norms.h, norms.c];
                            pairs.extend(of(weights).into_iter().zip(of(gradients)));
                        }
                    }
                    let from =
                        if *whole { Upstream::Whole(upstream.clone()) } else { Upstream::Last(upstream.clone()) };
                    let states = states.as_mut().and_then(|states| states.next());
                    let stack = Backward { weights, gradients: declared, traces, states, wants_dx };
                    backward::lstm(builder, sizes, &stack, from)?
                }
                (Sized::Dense(sizes), Weights::Dense(weights), Trace::Dense { x, y }, Weights::Dense(declared)) => {
                    pairs.push((weights.weight, declared.weight));
                    if sizes.bias {
                        pairs.push((weights.bias, declared.bias));
                    }
                    dense::backward(builder, sizes, *weights, *declared, x, y, &upstream, batch, wants_dx)?
                }
                (Sized::Dropout { name, .. }, _, Trace::Dropout(drop), _) => match drop {
                    Some(drop) if wants_dx => {
                        builder.section(format!("{name} backward"));
                        Some(builder.dropout(&format!("{name}.dx"), &upstream, batch, *drop)?)
                    }
                    _ => None,
                },
                (Sized::Masking, _, Trace::Masking, _) => None, // the first layer
                (Sized::Activation(sizes), _, Trace::Activation(y), _) => {
                    activation::backward(builder, sizes, y, &upstream, batch);
                    Some(upstream.clone())
                }
                (Sized::Pool { name, pool }, _, Trace::Pool(pooled), _) => {
                    Some(pool::backward(builder, name, *pool, pooled, &upstream, batch)?)
                }
                (
                    Sized::Norm { name, epsilon, .. },
                    Weights::Norm(weights),
                    Trace::Norm(x),
                    Weights::Norm(declared),
                ) => {
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
        Ok((pairs, upstream))
    }
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
            Ok((state("h state", sizes.h_slot())?, state("c state", sizes.c_slot())?))
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
    Batch { rows, steps, ragged, .. }: Batch,
    capabilities: &Capabilities,
) -> Result<LstmGradientPlan> {
    let Layer::Lstm(lstm) = &layer.layer else {
        return Err(Error::Plan("a gradient plan is for an LSTM".into()));
    };
    let (batch, steps) = (size("the batch", rows)?, size("the number of time steps", steps)?);
    let mut builder = Builder::trusted(format!("forward and backward: T = {steps}, B = {batch}"), capabilities.clone());
    let sizes = lstm_sizes(&layer.name, lstm, layer.input, [batch, steps], ragged)?;
    for (what, elements) in sizes.per_step(true) {
        builder.chunk_by(&what, elements)?;
    }
    describe(&mut builder, steps, None, std::iter::once(&sizes));
    let x = builder.sequence("x", [steps, batch, sizes.input], 0, Role::Input)?;
    let merge = lstm.options.merge;
    let dy = builder.sequence("dy", [steps, batch, lstm.output() as u32], 0, Role::Input)?;
    let initial = declare_states(&mut builder, &sizes, Role::Input, "")?;
    let finals = declare_states(&mut builder, &sizes, Role::Input, " final gradient")?;
    let d_initial = declare_states(&mut builder, &sizes, Role::Output, " initial gradient")?;
    let weights = recurrence::declare_weights(&mut builder, &sizes, "", Role::Weight)?;
    let gradients = recurrence::declare_weights(&mut builder, &sizes, "grad ", Role::Gradient)?;
    let start = from_start(&initial);
    let stack = Forward { weights: &weights, x: &x, initial: &start, train: true, whole: true };
    let traces = forward::lstm(&mut builder, &sizes, &stack)?;
    let states = StateGradients { finals: finals.clone(), initials: d_initial.clone() };
    let apart = match (merge, traces.last().and_then(|top| top.y.as_ref())) {
        (Merge::Concat, _) | (_, None) => dy.clone(),
        (_, Some(y)) => pool::unmerge(&mut builder, &sizes.name, merge, y, &dy, batch)?,
    };
    let upstream = Upstream::Whole(apart);
    let stack =
        Backward { weights: &weights, gradients: &gradients, traces: &traces, states: Some(&states), wants_dx: true };
    let dx = backward::lstm(&mut builder, &sizes, &stack, upstream)?
        .ok_or_else(|| Error::Plan("the input's gradient was asked for".into()))?;
    let words = builder.find("words");
    Ok(LstmGradientPlan { plan: builder.finish()?, x, dy, dx, initial, d_final: finals, d_initial, words })
}
