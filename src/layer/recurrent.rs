//! Recurrent layers as operators: LSTM and GRU stacks with all their options.
//!
//! On the device each layer of a stack has W [D, I, 4H], R [D, K, 4H] and bias [D, biases, 4H], with the four gates of a unit side
//! by side: column 4·unit + gate. PyTorch has [4H, I] and [4H, K], with row gate·H + unit.

use super::merge::{merge, unmerge};
use super::operator::{Inputs, Operator, Output, Place, Site, StateGradients, StateSlot, Time, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial, Layout, Parameter};
use super::{Init, Lstm};
use crate::error::{Error, Result};
use crate::memory;
use crate::plan::{BufferId, Capabilities, Strategy};
use crate::schedule::recurrence::backward::{self, Backward};
use crate::schedule::recurrence::forward::{self, Forward};
use crate::schedule::recurrence::{self, Initial as Start, LayerTrace, LayerWeights, LstmSizes, Norms, Pass};
use crate::schedule::{Builder, Sequence, describe_strategy, size};

/// Columns of peepholes: i, f, o.
const PEEPHOLES: &[usize] = &[0, 1, 3];

/// All columns.
const GATES: &[usize] = &[0, 1, 2, 3];

impl Operator for Lstm {
    fn kind(&self) -> &'static str {
        self.cell.spec().kind
    }

    fn describe(&self) -> String {
        let layers = if self.layers > 1 { format!(", {} layers", self.layers) } else { String::new() };
        let directions = if self.bidirectional { ", bidirectional" } else { "" };
        format!("LSTM({}{layers}{directions}, {} cell)", self.hidden, self.spec().name)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        self.sizes(&Site::smallest(name, inputs))?;
        // Each layer of a stack has names, tensors and commands beside its numbers.
        memory::probe(self.layers as u64 * 4096, format_args!("{name}: a stack of {} layers", self.layers))
    }

    fn output(&self, _: &[usize]) -> usize {
        Lstm::output(self)
    }

    fn time(&self) -> Time {
        if self.return_sequences { Time::Kept } else { Time::Ended }
    }

    fn takes_sequence(&self) -> bool {
        true
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        match self {
            Lstm { bidirectional: true, .. } => Some("is bidirectional"),
            Lstm { options, .. } => (options.reverse || options.go_backwards).then_some("runs backwards"),
        }
    }

    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let layers = 0..self.layers;
        layers.flat_map(|k| self.layer_tensors(name, k, if k == 0 { inputs[0] } else { self.stacked() })).collect()
    }

    fn depth(&self) -> usize {
        self.layers
    }

    fn states(&self, _: &[usize]) -> Vec<StateSlot> {
        let directions = self.directions();
        (0..self.layers)
            .flat_map(|layer| {
                let slot = |name, planes: usize, width| {
                    let features = planes.saturating_mul(directions).saturating_mul(width);
                    StateSlot { layer, name, planes, directions, features, repeats_h: false }
                };
                let cell = self.spec();
                let beside = StateSlot { repeats_h: cell.state_is_hidden, ..slot("c", cell.states.len(), self.hidden) };
                [slot("h", 1, self.width()), beside]
            })
            .collect()
    }

    fn shares_states(&self) -> bool {
        true
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(self.sizes(site)?.per_step(site.train))
    }

    fn strategy(&self, site: &Site, segment: Option<u32>, capabilities: &Capabilities) -> Result<Option<String>> {
        let sizes = self.sizes(site)?;
        let sizes = LstmSizes { steps: segment.unwrap_or(sizes.steps), ..sizes };
        let what = sizes.recurrence(Pass::Forward);
        let capabilities = &Capabilities { choices: capabilities.choices.quiet(), ..capabilities.clone() };
        let launch = sizes.launch(Pass::Forward, capabilities);
        let limit = capabilities.whole_sequence_units;
        let why = match (sizes.unfused(), capabilities.strategy) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(asked)) if asked == launch.strategy => "as asked for".to_string(),
            (None, Some(Strategy::Grid)) => "no grid of this device computes such a layer".to_string(),
            (None, Some(_)) => format!("H = {} is more than a workgroup of this device holds", sizes.hidden),
            (None, None) if capabilities.choices.has(&what) => "as chosen for this device by measurement".to_string(),
            (None, None) if capabilities.shared_terms => {
                format!("H = {}, B = {}, T = {}; by the model of cost", sizes.hidden, sizes.batch, sizes.steps)
            }
            (None, None) if limit == u32::MAX => "the choice of this device".to_string(),
            (None, None) => format!("H = {}, T = {}; whole sequences up to {limit} units", sizes.hidden, sizes.steps),
        };
        let diagonal = match site.train || sizes.stack_step(capabilities).is_none() {
            true => "",
            false => "; layers step along the diagonal, T + L - 1 dispatches in all",
        };
        Ok(Some(format!("{}: {}{diagonal} ({why})", site.name, describe_strategy(&launch))))
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, start }: Inputs) -> Result<Output> {
        let sizes = self.sizes(site)?;
        let weights = self.stack_weights(weights)?;
        let start = match start {
            [] => Start::Zero,
            places => Start::States(places.as_chunks().0.to_vec()),
        };
        let stack =
            Forward { weights: &weights, x: &x[0], initial: &start, train: site.train, whole: self.return_sequences };
        let layers = forward::lstm(plan, &sizes, &stack)?;
        let top = layers.last().ok_or_else(|| Error::Config("an LSTM needs at least one layer".into()))?;
        let apart = match &top.y {
            Some(y) => y.clone(),
            None => recurrence::last_step(plan, &sizes, top)?,
        };
        let y = merge(plan, &site.name, self.options.merge, &apart, site.batch)?;
        Ok(Output::new(y, RecurrentTrace { layer: self.clone(), sizes, layers, apart }))
    }
}

impl Lstm {
    /// Sizes of the stack and of a batch.
    fn sizes(&self, site: &Site) -> Result<LstmSizes> {
        self.validate_options(&site.name)?;
        Ok(LstmSizes {
            name: site.name.clone(),
            cell: self.spec(),
            settings: self.settings(),
            steps: site.steps,
            batch: site.batch,
            input: size("the number of input features", site.input())?,
            hidden: size("the number of hidden units", self.hidden)?,
            width: size("the width of the hidden state", self.width())?,
            heads: size("the number of heads", self.head_count())?,
            stages: self.stages(),
            layers: size("the number of layers", self.layers)?,
            directions: self.directions() as u32,
            biases: self.bias.count() as u32,
            ragged: site.ragged,
            backwards: self.options.reverse || self.options.go_backwards,
            in_scan_order: self.options.go_backwards,
            repeats_output: self.options.repeat_output,
            drops: self.drops(),
        })
    }

    /// Device tensors of layer `k` of the stack, in the order of [`Lstm::stack_weights`].
    fn layer_tensors(&self, name: &str, k: usize, input: usize) -> Vec<DeviceTensor> {
        let (cell, hidden) = (self.spec(), self.hidden);
        // A device tensor holds the parameters of each direction: kind, shape, layout.
        let tensor = |tensor: &str, kinds: &[(&str, Vec<usize>, Layout)]| {
            let parameters = self.each_direction().flat_map(|direction| {
                kinds.iter().map(move |(kind, shape, layout)| {
                    let name = format!("{name}.{kind}_l{k}{direction}");
                    Parameter { name, shape: shape.clone(), layout: *layout, initial: self.initial(kind, shape) }
                })
            });
            DeviceTensor::new(format!("{name}.l{k}.{tensor}"), parameters.collect())
        };
        let vector = |kind, gates: &'static [usize]| (kind, vec![gates.len() * hidden], Layout::Gates(gates));
        let plain = |kind, shape| (kind, shape, Layout::Plain);
        let mut vectors = vec![vector("bias_ih", cell.input_gates), vector("bias_hh", cell.recurrent_gates)];
        vectors.truncate(self.bias.count());
        if cell.extra {
            vectors.push(vector("peephole", PEEPHOLES));
        }
        let w = ("weight_ih", vec![cell.input_gates.len() * hidden, input], Layout::Gates(cell.input_gates));
        let r = self.recurrent_weights().map(|(shape, layout)| ("weight_hh", shape, layout));
        let mut tensors = vec![tensor("w", &[w]), tensor("r", r.as_slice()), tensor("bias", &vectors)];
        if self.options.layer_norm {
            tensors.push(tensor("norm x", &[vector("norm_ih", GATES)]));
            tensors.push(tensor("norm h", &[vector("norm_hh", GATES)]));
            let both = [plain("norm_c_weight", vec![hidden]), plain("norm_c_bias", vec![hidden])];
            tensors.push(tensor("norm c", &both));
        }
        if let Some(projection) = self.options.projection {
            tensors.push(tensor("projection", &[plain("weight_hr", vec![projection, hidden])]));
        }
        tensors
    }

    /// Shape and layout of R, if the cell has one: [G·H, K]; with several heads block-diagonal, [heads, G·H/heads, H/heads]; with as
    /// many heads as units and one gate, `[H]`.
    fn recurrent_weights(&self) -> Option<(Vec<usize>, Layout)> {
        let (gates, heads) = (self.spec().recurrent_gates, self.head_count());
        let units = self.hidden / heads;
        match (gates.len() * units, heads) {
            (0, _) => None,
            (rows, 1) => Some((vec![rows, self.width()], Layout::Gates(gates))),
            (1, _) => Some((vec![heads], Layout::Heads { gates, units, heads })),
            (rows, _) => Some((vec![heads, rows, units], Layout::Heads { gates, units, heads })),
        }
    }

    /// Initial values of a kind of parameter.
    fn initial(&self, kind: &str, shape: &[usize]) -> Initial {
        match (kind, self.init, shape) {
            ("norm_c_bias", ..) => Initial::Constant(0.0),
            ("norm_ih" | "norm_hh" | "norm_c_weight", ..) => Initial::Constant(1.0),
            (_, Init::PyTorch, _) => Initial::Uniform(1.0 / (self.hidden as f64).sqrt()),
            ("weight_hh", Init::Keras, [_]) => Initial::Uniform(1.0),
            ("weight_hh", Init::Keras, _) => Initial::Orthogonal,
            (_, Init::Keras, &[fan_out, fan_in]) => Initial::Glorot { fan_in, fan_out },
            // In one of the biases only, since the two are added.
            ("bias_ih", Init::Keras, _) if self.options.forget_bias => match self.cell.spec().forget_gate {
                Some(gate) => Initial::Ones(gate * self.hidden..(gate + 1) * self.hidden),
                None => Initial::Constant(0.0),
            },
            (_, Init::Keras, _) => Initial::Constant(0.0),
        }
    }

    /// Suffixes of the names of each direction's parameters.
    fn each_direction(&self) -> impl Iterator<Item = &'static str> {
        ["", "_reverse"].into_iter().take(self.directions())
    }

    /// Buffers of the tensors, by layer of the stack.
    fn stack_weights(&self, buffers: &[BufferId]) -> Result<Vec<LayerWeights>> {
        let mut buffers = buffers.iter().copied();
        (0..self.layers)
            .map(|_| {
                let mut next = || buffers.next().ok_or_else(|| Error::Plan("a layer without its weights".into()));
                Ok(LayerWeights {
                    w: next()?,
                    r: next()?,
                    bias: next()?,
                    norm: match self.options.layer_norm {
                        true => Some(Norms { x: next()?, h: next()?, c: next()? }),
                        false => None,
                    },
                    projection: self.options.projection.map(|_| next()).transpose()?,
                })
            })
            .collect()
    }
}

struct RecurrentTrace {
    layer: Lstm,
    sizes: LstmSizes,
    layers: Vec<LayerTrace>,
    /// The output before the merge of its directions.
    apart: Sequence,
}

impl Trace for RecurrentTrace {
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>> {
        let Upstream { dy, weights, gradients, states, wants_dx } = upstream;
        let dy = unmerge(plan, &site.name, self.layer.options.merge, &self.apart, dy, site.batch)?;
        if let (false, Some(StateGradients { finals, in_output: false, .. })) = (self.layer.return_sequences, states) {
            // The output is the last hidden state of the topmost layer.
            if let [.., h, _] = finals[..] {
                self.sizes.add_last(plan, h, &dy);
            }
        }
        let upstream = match self.layer.return_sequences {
            true => recurrence::Upstream::Whole(dy),
            false => recurrence::Upstream::Last(dy),
        };
        let pairs = |places: &[BufferId]| places.as_chunks().0.iter().map(|&[h, c]| (h, c)).collect();
        let states = states.map(|StateGradients { finals, initials, .. }| recurrence::StateGradients {
            finals: pairs(finals),
            initials: pairs(initials),
        });
        let (weights, gradients) = (self.layer.stack_weights(weights)?, self.layer.stack_weights(gradients)?);
        let (traces, states) = (&self.layers, states.as_ref());
        let stack = Backward { weights: &weights, gradients: &gradients, traces, states, wants_dx };
        let dx = backward::lstm(plan, &self.sizes, &stack, upstream)?;
        Ok(dx.into_iter().collect())
    }

    fn final_states(&self) -> Vec<Place> {
        self.layers.iter().flat_map(|layer| [layer.h_last, layer.c_last]).collect()
    }
}
