//! Modules one after another as a model's architecture.

use super::Weights;
use super::module::{FUNCTIONS, Module};
use super::recurrent::{Recurrent, class, parted, under};
use crate::activation::Activation;
use crate::cell::Cell;
use crate::error::Result;
use crate::layer::{Dense, Embedding, Layer, LayerNorm, Pool};
use crate::model::Sequential;

/// An architecture with what each of its tensors is.
pub(super) struct Stack {
    pub config: Sequential,
    /// Names in the model, and in the file; of a parameter that the module does not have, its shape, and it is 0.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // models are built where a thread can block
    pub tensors: Vec<(String, Result<String, Vec<usize>>)>,
}

/// Tensors of modules, for messages.
const EMBEDDING: &str = "an nn.Embedding has [entries, features] and no bias";
const LINEAR: &str = "an nn.Linear (a dense layer) has [units, inputs] and a bias [units] or none";
const LAYER_NORM: &str = "an nn.LayerNorm over the last axis has [features] and a bias [features] or none";

/// A module as the file has it.
enum Found {
    Recurrent(Recurrent),
    /// Of shape [entries, features].
    Embedding(String, [usize; 2]),
    /// Of shape [units, inputs], with or without a bias.
    Linear(String, [usize; 2], bool),
    /// A matrix [rows, columns] without a bias, which can be either of the two.
    Matrix(String, [usize; 2]),
    /// Of so many features, with its ε.
    Norm(String, usize, f32),
    Pool(Pool),
    Final,
    Activation(Activation),
}

impl Found {
    /// Features that it takes; None where it takes any number.
    fn takes(&self) -> Option<usize> {
        match self {
            Found::Recurrent(found) => Some(found.input),
            Found::Embedding(..) => Some(1),
            Found::Linear(_, [_, inputs], _) | Found::Matrix(_, [_, inputs]) => Some(*inputs),
            Found::Norm(_, features, ..) => Some(*features),
            Found::Pool(_) | Found::Final | Found::Activation(_) => None,
        }
    }
}

/// Readings of a matrix without a bias, by the features that the next module takes.
fn matrix(prefix: &str, shape: [usize; 2], next: Option<(usize, &str)>) -> std::result::Result<Found, String> {
    let [rows, columns] = shape;
    let fits = |gives: usize| next.is_none_or(|(takes, _)| takes == gives);
    let weight = under(prefix, "weight");
    match (fits(columns), fits(rows)) {
        (true, false) => Ok(Found::Embedding(prefix.into(), shape)),
        (false, true) => Ok(Found::Linear(prefix.into(), shape, false)),
        (true, true) => Err(format!(
            "has {weight} of shape {shape:?} without a bias, which can be an nn.Embedding of {rows} entries or an nn.Linear of {columns} \
             inputs; say \"{prefix}:embedding\" or \"{prefix}:linear\""
        )),
        (false, false) => {
            let (takes, text) = next.unwrap_or_default();
            Err(format!(
                "has {weight} of shape {shape:?} without a bias, which gives {columns} features as an nn.Embedding and {rows} as an \
                 nn.Linear; \"{text}\" after it takes {takes}"
            ))
        }
    }
}

impl Weights {
    /// The architecture of modules one after another.
    pub(super) fn stack(&self, modules: &[Module]) -> Result<Stack> {
        let mut found: Vec<(String, Found)> = Vec::new();
        for module in modules {
            let (text, module) = match module {
                Module::Named(text) => {
                    let parsed = Module::parse(text, |prefix| self.holds(prefix));
                    (text.clone(), parsed.map_err(|reason| self.refuse(reason))?)
                }
                other => (self.text(other), other.clone()),
            };
            if let Some(own) = self.found(&module)? {
                found.push((text, own));
            }
        }
        // An embedding comes first; there alone a matrix can be one.
        for index in 0..found.len() {
            if let Found::Matrix(prefix, shape) = &found[index].1 {
                let next = found[index + 1..].iter().find_map(|(text, own)| Some((own.takes()?, text.as_str())));
                let own = match index {
                    0 => matrix(prefix, *shape, next).map_err(|reason| self.refuse(reason))?,
                    _ => Found::Linear(prefix.clone(), *shape, false),
                };
                found[index].1 = own;
            }
        }
        let Some(input) = found.iter().find_map(|(_, own)| own.takes()) else {
            return Err(self
                .refuse("becomes no model without a module that has weights; name at least one by its prefix".into()));
        };
        self.assembled(input, found)
    }

    /// Layers of modules, whose sizes must follow from each other.
    fn assembled(&self, input: usize, found: Vec<(String, Found)>) -> Result<Stack> {
        // With what each has in the file
        let mut layers: Vec<(Layer, Option<Found>)> = Vec::new();
        let (mut features, mut vector, mut before) = (input, None::<String>, None::<String>);
        for (text, own) in found {
            if let (Found::Recurrent(_) | Found::Pool(_), Some(ends)) = (&own, &vector) {
                return Err(self.refuse(format!(
                    "cannot run \"{text}\" after \"{ends}\", which leaves one vector of each sequence; \"{text}\" takes sequences"
                )));
            }
            if let (Some(takes), Some(before)) = (own.takes(), &before) {
                if matches!(own, Found::Embedding(..)) {
                    return Err(self.refuse(format!(
                        "has an nn.Embedding as \"{text}\", which takes indices, so it must come first; before it is \"{before}\""
                    )));
                }
                if takes != features {
                    return Err(self.refuse(format!(
                        "has a {} as \"{text}\" that takes {takes} features; \"{before}\" before it gives {features}",
                        own.class()
                    )));
                }
            }
            let layer: Layer = match &own {
                Found::Recurrent(found) => found.config.clone().return_sequences(true).into(),
                Found::Embedding(_, [entries, features]) => Embedding::new(*entries, *features).into(),
                Found::Linear(_, [units, _], bias) => Dense::new(*units).bias(*bias).into(),
                // There are none any more.
                Found::Matrix(_, [units, _]) => Dense::new(*units).bias(false).into(),
                Found::Norm(_, _, epsilon) => LayerNorm::new().epsilon(*epsilon).into(),
                Found::Final | Found::Pool(_) => {
                    match (layers.last_mut(), &own) {
                        (Some((Layer::Lstm(lstm), _)), Found::Final) if lstm.return_sequences => {
                            *lstm = lstm.clone().return_sequences(false);
                        }
                        // Of one direction the last step is the final state.
                        (Some((Layer::Lstm(lstm), _)), Found::Pool(Pool::Last)) if !lstm.bidirectional => {
                            *lstm = lstm.clone().return_sequences(false);
                        }
                        (_, Found::Pool(pool)) => layers.push(((*pool).into(), None)),
                        _ => {
                            return Err(self.refuse(
                                "cannot give a final state (\"final\"): there is no nn.LSTM, nn.GRU or nn.RNN right before it; \"last\" \
                                 takes the last step of any sequence"
                                    .into(),
                            ));
                        }
                    }
                    vector = Some(text.clone());
                    before = Some(text);
                    continue;
                }
                Found::Activation(activation) => {
                    before = Some(text);
                    match layers.last_mut() {
                        Some((Layer::Dense(dense), _)) if dense.activation == Activation::Linear => {
                            *dense = dense.clone().activation(*activation);
                        }
                        _ => layers.push(((*activation).into(), None)),
                    }
                    continue;
                }
            };
            features = layer.output(features);
            before = Some(text);
            layers.push((layer, Some(own)));
        }
        let config = layers.iter().fold(Sequential::new(input), |config, (layer, _)| config.add(layer.clone()));
        let mut tensors = Vec::new();
        let plans = config.nodes().map_err(|error| error.in_file(&self.path))?;
        for (plan, (_, own)) in plans.iter().zip(&layers) {
            match own {
                Some(Found::Recurrent(found)) => {
                    for (own, kind, _) in found.tensors() {
                        let own = own.strip_prefix("lstm.").unwrap_or(&own);
                        tensors.push((format!("{}.{own}", plan.name), Ok(under(&found.prefix, &kind))));
                    }
                }
                Some(
                    Found::Embedding(prefix, ..)
                    | Found::Linear(prefix, ..)
                    | Found::Matrix(prefix, _)
                    | Found::Norm(prefix, ..),
                ) => {
                    for (name, shape) in plan.shapes() {
                        let own = under(prefix, parted(&name).1);
                        let there = self.shape(&own).is_some();
                        tensors.push((name, if there { Ok(own) } else { Err(shape) }));
                    }
                }
                Some(Found::Pool(_) | Found::Final | Found::Activation(_)) | None => {}
            }
        }
        Ok(Stack { config, tensors })
    }

    /// A module by its text, for messages.
    fn text(&self, module: &Module) -> String {
        match module {
            Module::Named(prefix)
            | Module::Embedding(prefix)
            | Module::Lstm(prefix)
            | Module::Gru(prefix)
            | Module::Rnn { prefix, .. }
            | Module::Linear(prefix)
            | Module::LayerNorm { prefix, .. } => prefix.clone(),
            Module::Pool(Pool::Last) => "last".into(),
            Module::Pool(Pool::Mean) => "mean".into(),
            Module::Pool(Pool::Max | Pool::MaxWithPadding) => "max".into(),
            Module::Pool(Pool::Sum) => "sum".into(),
            Module::Final => "final".into(),
            Module::Activation(_) => "activation".into(),
            Module::Dropout => "dropout".into(),
        }
    }

    /// A module as the file has it; `None` for the identity.
    fn found(&self, module: &Module) -> Result<Option<Found>> {
        let recurrent = |prefix: &str, cell: Cell, nonlinearity: Option<Activation>| {
            let found = self.recurrent_with(trimmed(prefix), nonlinearity)?;
            if found.config.cell == cell {
                return Ok(Found::Recurrent(found));
            }
            let article = if found.config.cell == Cell::Gru { "a" } else { "an" };
            Err(self.refuse(format!("has no {} under \"{prefix}\"; it is {article} {found}", class(cell))))
        };
        Ok(Some(match module {
            Module::Dropout => return Ok(None),
            Module::Pool(pool) => Found::Pool(*pool),
            Module::Final => Found::Final,
            Module::Activation(activation) => Found::Activation(*activation),
            Module::Lstm(prefix) => recurrent(prefix, Cell::Standard, None)?,
            Module::Gru(prefix) => recurrent(prefix, Cell::Gru, None)?,
            Module::Rnn { prefix, nonlinearity } => recurrent(prefix, Cell::Rnn, *nonlinearity)?,
            Module::Embedding(prefix) => {
                let prefix = trimmed(prefix);
                match self.plain(prefix, "nn.Embedding")? {
                    ([entries, features], None) => Found::Embedding(prefix.into(), [*entries, *features]),
                    (weight, bias) => return Err(self.misfit(prefix, weight, bias, EMBEDDING)),
                }
            }
            Module::Linear(prefix) => {
                let prefix = trimmed(prefix);
                match self.plain(prefix, "nn.Linear")? {
                    ([units, inputs], bias) if bias.is_none_or(|bias| bias == [*units]) => {
                        Found::Linear(prefix.into(), [*units, *inputs], bias.is_some())
                    }
                    (weight, bias) => return Err(self.misfit(prefix, weight, bias, LINEAR)),
                }
            }
            Module::LayerNorm { prefix, epsilon } => {
                let prefix = trimmed(prefix);
                match self.plain(prefix, "nn.LayerNorm")? {
                    ([features], bias) if bias.is_none_or(|bias| bias == [*features]) => {
                        Found::Norm(prefix.into(), *features, *epsilon)
                    }
                    (weight, bias) => return Err(self.misfit(prefix, weight, bias, LAYER_NORM)),
                }
            }
            Module::Named(prefix) => self.guessed(trimmed(prefix))?,
        }))
    }

    /// The module under a prefix, where there is one reading; of a matrix without a bias neighbours say more.
    fn guessed(&self, prefix: &str) -> Result<Found> {
        if self.groups().contains_key(prefix) {
            let found = self.recurrent_with(prefix, None)?;
            if self.shape(&under(prefix, "weight")).is_some() {
                let kind = class(found.config.cell).to_ascii_lowercase();
                return Err(self.refuse(format!(
                    "has a recurrent module and a weight under \"{prefix}\"; say \"{prefix}:{kind}\" or \"{prefix}:linear\""
                )));
            }
            return Ok(Found::Recurrent(found));
        }
        match self.plain(prefix, "nn.Linear, nn.Embedding or nn.LayerNorm")? {
            ([rows, columns], None) => Ok(Found::Matrix(prefix.into(), [*rows, *columns])),
            ([units, inputs], Some(bias)) if bias == [*units] => {
                Ok(Found::Linear(prefix.into(), [*units, *inputs], true))
            }
            ([features], Some(bias)) if bias == [*features] => {
                Ok(Found::Norm(prefix.into(), *features, LayerNorm::new().epsilon))
            }
            (weight @ [_], None) => {
                let readings = format!(
                    "it can be that of an nn.LayerNorm(bias=False), which \"{prefix}:layernorm\" reads, or of an nn.RMSNorm or nn.PReLU, \
                     which are not supported"
                );
                Err(self.misfit(prefix, weight, None, &readings))
            }
            (weight, bias) => Err(self.misfit(prefix, weight, bias, &[LINEAR, EMBEDDING, LAYER_NORM].join("; "))),
        }
    }

    /// Shapes of the weight and bias under a prefix, which must be all that there is; no size is 0.
    fn plain(&self, prefix: &str, class: &str) -> Result<(&[usize], Option<&[usize]>)> {
        let [weight, bias] = ["weight", "bias"].map(|kind| under(prefix, kind));
        if self.shape(&under(prefix, "running_mean")).is_some() {
            return Err(self.refuse(format!("has a batch normalisation under \"{prefix}\", which is not supported")));
        }
        self.no_adapter(prefix)?;
        let Some(shape) = self.shape(&weight) else {
            let function = match self.holds(prefix) {
                true => String::new(),
                false => format!(", which is no function's word either ({FUNCTIONS})"),
            };
            return Err(self.refuse(format!("has no layer under \"{prefix}\"{function}; {}", self.under(prefix))));
        };
        let with_bias = self.shape(&bias);
        let needed = [weight.as_str(), bias.as_str()];
        for name in &needed[..1 + usize::from(with_bias.is_some())] {
            self.readable(name).map_err(|reason| self.refuse(reason))?;
        }
        if let Some(other) = self.others(prefix, &needed).find(|own| !prefix.is_empty() || !own.contains('.')) {
            return Err(self.refuse(format!(
                "has {other} beside {weight}, which no {class} has; the computation of the module under \"{prefix}\" is not known"
            )));
        }
        if shape.contains(&0) {
            return Err(self.refuse(format!("has {weight} of shape {shape:?}, without elements")));
        }
        Ok((shape, with_bias))
    }

    /// Refuses shapes of a weight and bias, with what was expected.
    fn misfit(&self, prefix: &str, weight: &[usize], bias: Option<&[usize]>, expected: &str) -> crate::error::Error {
        let bias = bias.map_or("without a bias".into(), |bias| format!("with a bias of shape {bias:?}"));
        self.refuse(format!("has {} of shape {weight:?} {bias}; {expected}", under(prefix, "weight")))
    }
}

impl Found {
    /// PyTorch's class, in words.
    fn class(&self) -> String {
        match self {
            Found::Recurrent(found) => found.to_string(),
            Found::Embedding(..) => "nn.Embedding".into(),
            Found::Linear(..) | Found::Matrix(..) => "nn.Linear (a dense layer)".into(),
            Found::Norm(..) => "nn.LayerNorm".into(),
            Found::Pool(_) | Found::Final => "pooling over time".into(),
            Found::Activation(_) => "activation".into(),
        }
    }
}

fn trimmed(prefix: &str) -> &str {
    prefix.strip_suffix('.').unwrap_or(prefix)
}
