//! Parameters by PyTorch's names and layout, and how they lie on the device.
//!
//! On the device an LSTM layer has W [D, I, 4H], R [D, H, 4H] and bias [D, biases, 4H], the four gates of a unit side
//! by side: column 4·unit + gate. PyTorch has [4H, I] and [4H, H], row gate·H + unit.

use super::init::{Init, glorot, normal, orthogonal, uniform};
use super::{Dense, Layer, Lstm};
use crate::cell::GATES;
use crate::error::Result;
use crate::memory;
use crate::transfer::is_finite;
use ndarray::ArrayD;
use rand_pcg::Pcg64;

/// A named tensor on the host, PyTorch's layout.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl HostTensor {
    /// True if no element is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        is_finite(&self.values)
    }

    /// An array under a name.
    pub fn new(name: String, array: &ArrayD<f32>) -> Result<HostTensor> {
        let values = memory::collect(array.len(), array.iter().copied(), &name)?;
        Ok(HostTensor { name, shape: array.shape().to_vec(), values })
    }
}

/// A device tensor: its name, its length and the host tensors it is made of, in order.
#[derive(Clone, Debug)]
pub(crate) struct DeviceTensor {
    pub name: String,
    pub len: u64,
    pub parts: Vec<Part>,
    /// Features that the layer takes.
    inputs: usize,
}

impl DeviceTensor {
    /// Numbers that are parameters.
    pub fn parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

/// A host tensor inside a device tensor.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub name: String,
    pub shape: Vec<usize>,
    pack: Pack,
}

/// How a host tensor lies inside a device tensor.
#[derive(Clone, Copy, Debug)]
enum Pack {
    /// As it is.
    Plain,
    /// Rows gate·H + unit become columns 4·unit + column, with the column of each gate.
    Gates(&'static [usize]),
    /// The same for each of several heads, of so many units: a head's rows become columns from those of its first unit on.
    Heads { gates: &'static [usize], units: usize, heads: usize },
}

/// Columns of peepholes: i, f, o.
const PEEPHOLES: &[usize] = &[0, 1, 3];

impl Part {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements on the device, where columns may stay empty.
    fn room(&self) -> usize {
        match self.pack {
            Pack::Plain => self.len(),
            Pack::Gates(gates) | Pack::Heads { gates, .. } => self.len() / gates.len() * GATES,
        }
    }

    /// Position on the device of every host element.
    fn position(&self, index: usize) -> usize {
        match self.pack {
            Pack::Plain => index,
            Pack::Gates(of) => {
                let columns = self.shape.get(1).copied().unwrap_or(1);
                let hidden = self.shape[0] / of.len();
                let (row, column) = (index / columns, index % columns);
                column * GATES * hidden + GATES * (row % hidden) + of[row / hidden]
            }
            Pack::Heads { gates, units, heads } => {
                let (row, column) = (index / units, index % units);
                let (head, row) = (row / (gates.len() * units), row % (gates.len() * units));
                let unit = head * units + row % units;
                GATES * (column * heads * units + unit) + gates[row / units]
            }
        }
    }
}

/// The device tensors of a layer, for `input` features, with the plans' buffer names.
pub(crate) fn specs(name: &str, layer: &Layer, input: usize) -> Vec<DeviceTensor> {
    let tensor = |device: String, parts: Vec<Part>| DeviceTensor {
        len: parts.iter().map(|part| part.room() as u64).sum(),
        name: device,
        parts,
        inputs: input,
    };
    match layer {
        Layer::Dense(dense) => {
            let part =
                |kind: &str, shape: Vec<usize>| Part { name: format!("{name}.{kind}"), shape, pack: Pack::Plain };
            let mut tensors = vec![tensor(format!("{name}.weight"), vec![part("weight", vec![dense.units, input])])];
            let bias = if dense.bias { vec![part("bias", vec![dense.units])] } else { vec![] };
            tensors.push(tensor(format!("{name}.bias"), bias));
            tensors
        }
        Layer::Dropout(_) | Layer::Pool(_) | Layer::Masking(_) | Layer::Activation(_) => Vec::new(),
        Layer::LayerNorm(_) => {
            let part = |kind: &str| Part { name: format!("{name}.{kind}"), shape: vec![input], pack: Pack::Plain };
            ["weight", "bias"].map(|kind| tensor(format!("{name}.{kind}"), vec![part(kind)])).to_vec()
        }
        Layer::Embedding(embedding) => {
            let (name, shape) = (format!("{name}.weight"), vec![embedding.entries, embedding.features]);
            vec![tensor(name.clone(), vec![Part { name, shape, pack: Pack::Plain }])]
        }
        Layer::Lstm(lstm) => (0..lstm.layers)
            .flat_map(|k| {
                let cell = lstm.spec();
                let input = if k == 0 { input } else { lstm.stacked() };
                // the parts of each direction: kind, columns, inputs
                let parts = |kinds: &[(&str, &'static [usize], Option<usize>)]| {
                    let each = ["", "_reverse"].into_iter().take(lstm.directions());
                    let all = each.flat_map(|direction| kinds.iter().map(move |&kind| (direction, kind)));
                    all.map(|(direction, (kind, gates, inputs))| Part {
                        name: format!("{name}.{kind}_l{k}{direction}"),
                        shape: [gates.len() * lstm.hidden].into_iter().chain(inputs).collect(),
                        pack: Pack::Gates(gates),
                    })
                    .collect()
                };
                // Block-diagonal: [heads, G·H/heads, H/heads]; with as many heads as units and one gate, [H].
                let recurrent = |mut parts: Vec<Part>| {
                    let (gates, heads) = (cell.recurrent_gates, lstm.head_count());
                    let units = lstm.hidden / heads;
                    if gates.is_empty() {
                        return Vec::new();
                    }
                    for part in parts.iter_mut().filter(|_| heads > 1) {
                        part.pack = Pack::Heads { gates, units, heads };
                        part.shape = match gates.len() * units {
                            1 => vec![heads],
                            rows => vec![heads, rows, units],
                        };
                    }
                    parts
                };
                let mut vectors = vec![("bias_ih", cell.input_gates, None), ("bias_hh", cell.recurrent_gates, None)];
                vectors.truncate(lstm.bias.count());
                if cell.extra {
                    vectors.push(("peephole", PEEPHOLES, None));
                }
                let mut tensors = vec![
                    tensor(format!("{name}.l{k}.w"), parts(&[("weight_ih", cell.input_gates, Some(input))])),
                    tensor(
                        format!("{name}.l{k}.r"),
                        recurrent(parts(&[("weight_hh", cell.recurrent_gates, Some(lstm.width()))])),
                    ),
                    tensor(format!("{name}.l{k}.bias"), parts(&vectors)),
                ];
                if lstm.options.layer_norm {
                    for (device, kind) in [("norm x", "norm_ih"), ("norm h", "norm_hh")] {
                        let all = parts(&[(kind, &[0, 1, 2, 3], None)]);
                        tensors.push(tensor(format!("{name}.l{k}.{device}"), all));
                    }
                    let each = ["", "_reverse"].into_iter().take(lstm.directions());
                    let part = |(direction, kind): (&str, &str)| Part {
                        name: format!("{name}.norm_c_{kind}_l{k}{direction}"),
                        shape: vec![lstm.hidden],
                        pack: Pack::Plain,
                    };
                    let all = each.flat_map(|direction| [(direction, "weight"), (direction, "bias")]).map(part);
                    tensors.push(tensor(format!("{name}.l{k}.norm c"), all.collect()));
                }
                if let Some(projection) = lstm.options.projection {
                    let each = ["", "_reverse"].into_iter().take(lstm.directions());
                    let part = |direction: &str| Part {
                        name: format!("{name}.weight_hr_l{k}{direction}"),
                        shape: vec![projection, lstm.hidden],
                        pack: Pack::Plain,
                    };
                    tensors.push(tensor(format!("{name}.l{k}.projection"), each.map(part).collect()));
                }
                tensors
            })
            .collect(),
    }
}

/// A device tensor's values from its parts, in their order.
pub(crate) fn to_device(spec: &DeviceTensor, parts: &[HostTensor]) -> Result<Vec<f32>> {
    let mut values = memory::zeros(spec.len as usize, &spec.name)?;
    let mut first = 0;
    for (part, host) in spec.parts.iter().zip(parts) {
        for (index, &value) in host.values.iter().enumerate() {
            values[first + part.position(index)] = value;
        }
        first += part.room();
    }
    Ok(values)
}

/// The parts of a device tensor's values.
pub(crate) fn from_device(spec: &DeviceTensor, values: &[f32]) -> Result<Vec<HostTensor>> {
    let mut first = 0;
    let take = |part: &Part| {
        let own = (0..part.len()).map(|index| values[first + part.position(index)]);
        let own = memory::collect(part.len(), own, &part.name)?;
        first += part.room();
        Ok(HostTensor { name: part.name.clone(), shape: part.shape.clone(), values: own })
    };
    spec.parts.iter().map(take).collect()
}

/// Initial values of a device tensor's parts.
pub(crate) fn initial(spec: &DeviceTensor, layer: &Layer, random: &mut Pcg64) -> Result<Vec<HostTensor>> {
    let values = |part: &Part, random: &mut Pcg64| match layer {
        Layer::Lstm(lstm) => lstm_values(lstm, part, random),
        Layer::Dense(dense) => dense_values(dense, part, spec, random),
        Layer::Dropout(_) | Layer::Pool(_) | Layer::Masking(_) | Layer::Activation(_) => Ok(Vec::new()),
        Layer::LayerNorm(_) => {
            memory::filled(part.len(), if part.name.ends_with(".weight") { 1.0 } else { 0.0 }, &part.name)
        }
        Layer::Embedding(embedding) => match embedding.init {
            Init::PyTorch => memory::collect(part.len(), (0..part.len()).map(|_| normal(random) as f32), &part.name),
            Init::Keras => uniform(random, part.len(), 0.05),
        },
    };
    (spec.parts.iter())
        .map(|part| {
            Ok(HostTensor { name: part.name.clone(), shape: part.shape.clone(), values: values(part, random)? })
        })
        .collect()
}

fn lstm_values(lstm: &Lstm, part: &Part, random: &mut Pcg64) -> Result<Vec<f32>> {
    if part.name.contains(".norm_") {
        return memory::filled(part.len(), if part.name.contains(".norm_c_bias") { 0.0 } else { 1.0 }, &part.name);
    }
    match (lstm.init, part.shape.as_slice()) {
        (Init::PyTorch, _) => uniform(random, part.len(), 1.0 / (lstm.hidden as f64).sqrt()),
        (Init::Keras, &[rows, columns]) if part.name.contains("weight_hh") => orthogonal(random, rows, columns),
        // Each head has a matrix of its own.
        (Init::Keras, &[heads, rows, columns]) => {
            let matrices = (0..heads).map(|_| orthogonal(random, rows, columns)).collect::<Result<Vec<_>>>()?;
            memory::collect(part.len(), matrices.into_iter().flatten(), &part.name)
        }
        (Init::Keras, _) if part.name.contains("weight_hh") => uniform(random, part.len(), 1.0),
        (Init::Keras, &[rows, columns]) => glorot(random, part.len(), columns, rows),
        // Forget gate 1, in one bias only: the two are added.
        (Init::Keras, _) => {
            let forget = lstm.cell.spec().forget_gate;
            let first = part.name.contains("bias_ih") && lstm.options.forget_bias;
            let is_one = |row: usize| first && forget == Some(row / lstm.hidden);
            let values = (0..part.len()).map(|row| if is_one(row) { 1.0 } else { 0.0 });
            memory::collect(part.len(), values, &part.name)
        }
    }
}

fn dense_values(dense: &Dense, part: &Part, spec: &DeviceTensor, random: &mut Pcg64) -> Result<Vec<f32>> {
    match (dense.init, part.shape.len()) {
        (Init::PyTorch, _) => uniform(random, part.len(), 1.0 / (spec.inputs as f64).sqrt()),
        (Init::Keras, 2) => glorot(random, part.len(), spec.inputs, dense.units),
        (Init::Keras, _) => memory::zeros(part.len(), &part.name),
    }
}
