//! Weights in Keras's layout and in PyTorch's, which the crate's parameters have.

use super::Result;
use crate::layer::{HostTensor, Layer};
use crate::network::Node;

/// Place of a group of weights in a Keras file, and the layer here that they belong to.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The number of the layer here.
    pub layer: usize,
    /// Index within a stack of layers.
    level: usize,
    /// The end of the names of its direction.
    direction: &'static str,
    /// The group that holds them, below the Keras layer's.
    pub path: String,
    pub form: Form,
}

/// Kinds of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// kernel [I, 4u], recurrent [u, 4u], bias `[4u]` (CuDNN: `[8u]`, and kernels transposed); gates i, f, c, o.
    Lstm,
    /// kernel [I, 3u], recurrent [u, 3u], bias [2, 3u] (CuDNN: `[6u]`, and kernels transposed); gates z, r, h.
    Gru,
    /// The same with bias `[3u]`, of a GRU whose reset gate comes before the product.
    GruResetBefore,
    /// kernel [I, u], recurrent [u, u], bias `[u]`, of a SimpleRNN.
    Rnn,
    /// kernel [I, units], bias `[units]`.
    Dense,
    /// gamma `[F]` if it scales, beta `[F]` if it centers.
    Norm { scale: bool, center: bool },
    /// [entries, features].
    Embedding,
}

/// An array of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    /// Its path, for messages.
    pub path: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Source {
    pub fn new(layer: usize, level: usize, direction: &'static str, path: impl Into<String>, form: Form) -> Source {
        Source { layer, level, direction, path: path.into(), form }
    }

    /// Number of arrays for a layer.
    pub fn count(&self, layer: &Layer) -> usize {
        match (self.form, layer) {
            (Form::Lstm | Form::Gru | Form::GruResetBefore | Form::Rnn, Layer::Lstm(lstm)) => {
                2 + (lstm.bias.count() > 0) as usize
            }
            (Form::Dense, Layer::Dense(dense)) => 1 + dense.bias as usize,
            (Form::Norm { scale, center }, _) => scale as usize + center as usize,
            _ => 1,
        }
    }

    /// The crate's tensors, from Keras's arrays in their order. Filled tensors are counted in `filled`.
    pub fn read(&self, plan: &Node, arrays: Vec<Array>) -> Result<Vec<HostTensor>> {
        let name = |kind: &str| format!("{}.{kind}", plan.name);
        let mut arrays = arrays.into_iter();
        let mut next = |what: &str| arrays.next().ok_or_else(|| format!("lacks the {what} of {}", plan.name));
        Ok(match (self.form, &plan.layer) {
            (Form::Dense, Layer::Dense(dense)) => {
                let kernel = next("kernel")?.of(&[plan.input(), dense.units])?;
                let values = transposed(&kernel.values, plan.input(), dense.units);
                let mut all = vec![HostTensor { name: name("weight"), shape: vec![dense.units, plan.input()], values }];
                if dense.bias {
                    all.push(next("bias")?.of(&[dense.units])?.named(name("bias")));
                }
                all
            }
            (Form::Norm { scale, center }, _) => {
                let mut part = |there: bool, what: &str, otherwise: f32, name: String| {
                    if there {
                        return Ok(next(what)?.of(&[plan.input()])?.named(name));
                    }
                    let values = vec![otherwise; plan.input()];
                    Ok::<_, String>(HostTensor { name, shape: vec![plan.input()], values })
                };
                vec![part(scale, "gamma", 1.0, name("weight"))?, part(center, "beta", 0.0, name("bias"))?]
            }
            (Form::Embedding, Layer::Embedding(embedding)) => {
                vec![next("embeddings")?.of(&[embedding.entries, embedding.features])?.named(name("weight"))]
            }
            (Form::Lstm | Form::Gru | Form::GruResetBefore | Form::Rnn, Layer::Lstm(lstm)) => {
                let order = self.gates();
                let (gates, units) = (order.len(), lstm.hidden);
                // A level above the first takes what the one below gives.
                let inputs = if self.level == 0 { plan.input() } else { lstm.stacked() };
                let columns = gates.checked_mul(units).ok_or_else(|| format!("has {units} units"))?;
                let kernel = next("kernel")?.of(&[inputs, columns])?;
                let recurrent = next("recurrent kernel")?.of(&[units, columns])?;
                let bias = if lstm.bias.count() > 0 { Some(next("bias")?) } else { None };
                let cudnn = matches!(self.form, Form::Lstm | Form::Gru)
                    && bias.as_ref().is_some_and(|bias| bias.shape == [2 * columns]);
                let tensor = |kind: &str, shape: Vec<usize>, values: Vec<f32>| HostTensor {
                    name: name(&format!("{kind}_l{}{}", self.level, self.direction)),
                    shape,
                    values,
                };
                // Rows gate·u + unit from columns gate·u + unit, or, of CuDNN, from each gate's numbers as they stand.
                let rows = |array: &Array, inputs: usize| {
                    let columns_of =
                        |gate: usize| (0..inputs * units).map(move |n| (n / units, gate * units + n % units));
                    let at = |(row, column): (usize, usize)| array.values[row * columns + column];
                    let gate = |&gate: &usize| -> Vec<f32> {
                        let own: Vec<f32> = columns_of(gate).map(at).collect(); // [inputs, u]
                        if cudnn { own } else { transposed(&own, inputs, units) }
                    };
                    order.iter().flat_map(gate).collect::<Vec<f32>>()
                };
                let mut all = vec![
                    tensor("weight_ih", vec![columns, inputs], rows(&kernel, inputs)),
                    tensor("weight_hh", vec![columns, units], rows(&recurrent, units)),
                ];
                if let Some(bias) = bias {
                    let two = cudnn || self.form == Form::Gru;
                    let shape: &[usize] = match (cudnn, self.form) {
                        (true, _) => &[2 * columns],
                        (false, Form::Gru) => &[2, columns],
                        (false, _) => &[columns],
                    };
                    let bias = bias.of(shape)?;
                    let half = |k: usize| -> Vec<f32> {
                        let own = &bias.values[k * columns..(k + 1) * columns];
                        order.iter().flat_map(|gate| own[gate * units..(gate + 1) * units].iter().copied()).collect()
                    };
                    let halves = match (lstm.bias.count(), two) {
                        (2, true) => vec![half(0), half(1)],
                        (2, false) => vec![half(0), vec![0.0; columns]],
                        (_, true) => vec![half(0).iter().zip(half(1)).map(|(a, b)| a + b).collect()],
                        (_, false) => vec![half(0)],
                    };
                    for (kind, values) in ["bias_ih", "bias_hh"].into_iter().zip(halves) {
                        all.push(tensor(kind, vec![columns], values));
                    }
                }
                all
            }
            _ => return Err(format!("has weights that are not those of {}", plan.name)),
        })
    }

    /// Keras's arrays, from the crate's tensors.
    pub fn write(&self, plan: &Node, find: impl Fn(&str) -> Option<HostTensor>) -> Result<Vec<Array>> {
        let get = |kind: &str| {
            let name = format!("{}.{kind}", plan.name);
            find(&name).ok_or_else(|| format!("lacks tensor {name}"))
        };
        let array = |shape: Vec<usize>, values: Vec<f32>| Array { path: String::new(), shape, values };
        Ok(match (self.form, &plan.layer) {
            (Form::Dense, Layer::Dense(dense)) => {
                let values = transposed(&get("weight")?.values, dense.units, plan.input());
                let mut all = vec![array(vec![plan.input(), dense.units], values)];
                if dense.bias {
                    all.push(array(vec![dense.units], get("bias")?.values));
                }
                all
            }
            (Form::Norm { .. }, _) => {
                vec![array(vec![plan.input()], get("weight")?.values), array(vec![plan.input()], get("bias")?.values)]
            }
            (Form::Embedding, _) => {
                let HostTensor { shape, values, .. } = get("weight")?;
                vec![array(shape, values)]
            }
            (Form::Lstm | Form::Gru | Form::GruResetBefore | Form::Rnn, Layer::Lstm(lstm)) => {
                let order = self.gates();
                let (gates, units) = (order.len(), lstm.hidden);
                let columns = gates * units;
                let part = |kind: &str| get(&format!("{kind}_l{}{}", self.level, self.direction));
                // Keras's gate k is our gate `order⁻¹`; swapping two is its own inverse.
                let kernel = |kind: &str| {
                    let HostTensor { shape, values, .. } = part(kind)?;
                    let inputs = shape[1];
                    let ordered: Vec<f32> = (order.iter())
                        .flat_map(|gate| values[gate * units * inputs..(gate + 1) * units * inputs].iter().copied())
                        .collect();
                    Ok::<_, String>(array(vec![inputs, columns], transposed(&ordered, columns, inputs)))
                };
                let vector = |kind: &str| {
                    let HostTensor { values, .. } = part(kind)?;
                    let ordered =
                        order.iter().flat_map(|gate| values[gate * units..(gate + 1) * units].iter().copied());
                    Ok::<Vec<f32>, String>(ordered.collect())
                };
                let mut all = vec![kernel("weight_ih")?, kernel("weight_hh")?];
                match (self.form, lstm.bias.count()) {
                    (_, 0) => {}
                    (Form::Gru, biases) => {
                        let mut both = vector("bias_ih")?;
                        both.extend(if biases == 2 { vector("bias_hh")? } else { vec![0.0; columns] });
                        all.push(array(vec![2, columns], both));
                    }
                    (_, 1) => all.push(array(vec![columns], vector("bias_ih")?)),
                    (_, _) => {
                        let both = vector("bias_ih")?.iter().zip(vector("bias_hh")?).map(|(a, b)| a + b).collect();
                        all.push(array(vec![columns], both));
                    }
                }
                all
            }
            _ => return Err(format!("has a layer {} whose weights Keras does not have", plan.name)),
        })
    }

    /// Keras's place of each of our gates: i, f, g, o are i, f, c, o; r, z, n are the second, first and third of z, r, h.
    fn gates(&self) -> &'static [usize] {
        match self.form {
            Form::Gru | Form::GruResetBefore => &[1, 0, 2],
            Form::Rnn => &[0],
            _ => &[0, 1, 2, 3],
        }
    }
}

impl Array {
    /// Refuses another shape.
    fn of(self, shape: &[usize]) -> Result<Array> {
        if self.shape == shape {
            return Ok(self);
        }
        Err(format!("has tensor {} of shape {:?}; its configuration expects {shape:?}", self.path, self.shape))
    }

    fn named(self, name: String) -> HostTensor {
        HostTensor { name, shape: self.shape, values: self.values }
    }
}

/// [rows, columns] to [columns, rows].
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// The name of a class as Keras writes it in paths: LSTMCell is lstm_cell.
pub(super) fn snake(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut name = String::new();
    for (k, &letter) in letters.iter().enumerate() {
        let lower = |at: Option<&char>| at.is_some_and(|letter| letter.is_ascii_lowercase());
        let ends = k > 0 && (lower(letters.get(k - 1)) || lower(letters.get(k + 1)) && letters[k - 1] != '_');
        if letter.is_ascii_uppercase() && ends {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_keras_names() {
        for (class, name) in [
            ("LSTM", "lstm"),
            ("GRU", "gru"),
            ("LSTMCell", "lstm_cell"),
            ("GRUCell", "gru_cell"),
            ("SimpleRNN", "simple_rnn"),
            ("SimpleRNNCell", "simple_rnn_cell"),
            ("RNN", "rnn"),
            ("Dense", "dense"),
            ("Bidirectional", "bidirectional"),
            ("TimeDistributed", "time_distributed"),
            ("LayerNormalization", "layer_normalization"),
            ("Embedding", "embedding"),
            ("InputLayer", "input_layer"),
        ] {
            assert_eq!(snake(class), name);
        }
    }
}
