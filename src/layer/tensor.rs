//! The table of a layer's parameters: PyTorch's name and shape of each, its initial values, and its place on the device.
//!
//! Plans, initialisation, readers and writers of files, and regularisers all read this table.

use super::init::{glorot, normal, orthogonal, uniform};
use crate::cell::GATES;
use crate::error::{Error, Result};
use crate::memory;
use crate::transfer::is_finite;
use ndarray::ArrayD;
use rand_pcg::Pcg64;
use std::ops::Range;

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

/// A parameter as users and files know it.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// Name in files: `<layer>.<PyTorch's name>`.
    pub name: String,
    /// PyTorch's shape. By default, regularisers act on weights of products; max-norm can bound matrices only.
    pub shape: Vec<usize>,
    /// The order of its elements in the device tensor.
    pub layout: Layout,
    /// Its initial values.
    pub initial: Initial,
}

/// Order of a parameter's elements on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// The same as on the host.
    Plain,
    /// Row gate·H + unit on the host is column 4·unit + column on the device; the table has the column of each gate.
    Gates(&'static [usize]),
    /// The same for each of several heads of `units` units: a head's rows are columns from those of its first unit on.
    Heads { gates: &'static [usize], units: usize, heads: usize },
    /// A convolution's [O, I, taps] on the host, [taps, O, I] on the device.
    Taps,
}

/// Distribution of a parameter's initial values.
#[derive(Clone, Debug)]
pub(crate) enum Initial {
    /// One value.
    Constant(f32),
    /// 1 in some elements, 0 in the others: the forget gate's part of a bias.
    Ones(Range<usize>),
    /// Uniform in ± the limit.
    Uniform(f64),
    /// Glorot and Bengio 2010, uniform.
    Glorot { fan_in: usize, fan_out: usize },
    /// Orthogonal columns (Saxe et al. 2013), in each matrix of three axes.
    Orthogonal,
    /// Normal, deviation 1.
    Normal,
}

impl Parameter {
    /// True for a matrix, whose rows max-norm can bound.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }

    /// True for weights of a product: a matrix, or one for each head.
    pub fn is_weight(&self) -> bool {
        self.shape.len() >= 2
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of elements on the device, including unused columns.
    fn device_len(&self) -> usize {
        match self.layout {
            Layout::Plain | Layout::Taps => self.len(),
            // A cell without a recurrent product has no gates here.
            Layout::Gates(gates) | Layout::Heads { gates, .. } => self.len() / gates.len().max(1) * GATES,
        }
    }

    /// Position on the device of a host element.
    fn position(&self, index: usize) -> usize {
        match self.layout {
            Layout::Plain => index,
            Layout::Taps => {
                let taps = self.shape[2];
                index % taps * (self.len() / taps) + index / taps
            }
            Layout::Gates(of) => {
                let columns = self.shape.get(1).copied().unwrap_or(1);
                let hidden = self.shape[0] / of.len();
                let (row, column) = (index / columns, index % columns);
                column * GATES * hidden + GATES * (row % hidden) + of[row / hidden]
            }
            Layout::Heads { gates, units, heads } => {
                let (row, column) = (index / units, index % units);
                let (head, row) = (row / (gates.len() * units), row % (gates.len() * units));
                let unit = head * units + row % units;
                GATES * (column * heads * units + unit) + gates[row / units]
            }
        }
    }

    fn draw(&self, random: &mut Pcg64) -> Result<Vec<f32>> {
        let (len, name) = (self.len(), &self.name);
        match &self.initial {
            Initial::Constant(value) => memory::filled(len, *value, name),
            Initial::Ones(ones) => memory::collect(len, (0..len).map(|k| ones.contains(&k) as u8 as f32), name),
            Initial::Uniform(limit) => uniform(random, len, *limit),
            Initial::Glorot { fan_in, fan_out } => glorot(random, len, *fan_in, *fan_out),
            Initial::Orthogonal => {
                let [.., rows, columns] = self.shape[..] else {
                    return Err(Error::Plan(format!("{name} is no matrix")));
                };
                let matrices = (0..len / (rows * columns)).map(|_| orthogonal(random, rows, columns));
                memory::collect(len, matrices.collect::<Result<Vec<_>>>()?.into_iter().flatten(), name)
            }
            Initial::Normal => memory::collect(len, (0..len).map(|_| normal(random) as f32), name),
        }
    }
}

/// A tensor on the device, which holds one or several parameters one after another.
#[derive(Clone, Debug)]
pub(crate) struct DeviceTensor {
    /// Name of its buffer in plans.
    pub name: String,
    /// Elements.
    pub len: u64,
    /// The parameters, in order.
    pub parameters: Vec<Parameter>,
    /// False for statistics that a layer keeps by itself; they have no gradient.
    pub trained: bool,
}

/// Vectors of a device tensor's matrices: rows of PyTorch's matrices, each with the weights into one unit or gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vectors {
    /// Matrices.
    pub matrices: u32,
    /// Vectors of a matrix.
    pub rows: u32,
    /// Elements of a vector.
    pub length: u32,
    /// Stride of a vector.
    pub row_stride: u32,
    /// Stride of an element of a vector.
    pub stride: u32,
}

impl DeviceTensor {
    /// A tensor of parameters.
    pub fn new(name: String, parameters: Vec<Parameter>) -> DeviceTensor {
        let len = parameters.iter().map(|parameter| parameter.device_len() as u64).sum();
        DeviceTensor { name, len, parameters, trained: true }
    }

    /// A tensor of one parameter of the same name and layout.
    pub fn plain(name: String, shape: Vec<usize>, initial: Initial) -> DeviceTensor {
        DeviceTensor::new(name.clone(), vec![Parameter { name, shape, layout: Layout::Plain, initial }])
    }

    /// Number of parameters, without unused columns.
    pub fn count(&self) -> u64 {
        self.parameters.iter().map(|parameter| parameter.len() as u64).sum()
    }

    /// Rows of its matrices; `None` if it has no matrix. Unused columns of gates are included.
    pub fn vectors(&self) -> Option<Vectors> {
        let first = self.parameters.first().filter(|parameter| parameter.is_matrix())?;
        let (matrices, length) = (self.parameters.len() as u32, first.shape[1] as u32);
        let rows = self.len as u32 / matrices / length;
        Some(match first.layout {
            Layout::Plain | Layout::Taps => Vectors { matrices, rows, length, row_stride: length, stride: 1 },
            Layout::Gates(_) | Layout::Heads { .. } => Vectors { matrices, rows, length, row_stride: 1, stride: rows },
        })
    }

    /// Packs host tensors, in the order of the parameters, to the device's values.
    pub fn pack(&self, hosts: &[HostTensor]) -> Result<Vec<f32>> {
        let mut values = memory::zeros(self.len as usize, &self.name)?;
        let mut first = 0;
        for (parameter, host) in self.parameters.iter().zip(hosts) {
            for (index, &value) in host.values.iter().enumerate() {
                values[first + parameter.position(index)] = value;
            }
            first += parameter.device_len();
        }
        Ok(values)
    }

    /// Unpacks the device's values to host tensors.
    pub fn unpack(&self, values: &[f32]) -> Result<Vec<HostTensor>> {
        let mut first = 0;
        let take = |parameter: &Parameter| {
            let elements = (0..parameter.len()).map(|index| values[first + parameter.position(index)]);
            let elements = memory::collect(parameter.len(), elements, &parameter.name)?;
            first += parameter.device_len();
            Ok(HostTensor { name: parameter.name.clone(), shape: parameter.shape.clone(), values: elements })
        };
        self.parameters.iter().map(take).collect()
    }

    /// Draws the initial values of its parameters.
    pub fn initial(&self, random: &mut Pcg64) -> Result<Vec<HostTensor>> {
        let draw = |parameter: &Parameter| {
            let values = parameter.draw(random)?;
            Ok(HostTensor { name: parameter.name.clone(), shape: parameter.shape.clone(), values })
        };
        self.parameters.iter().map(draw).collect()
    }
}
