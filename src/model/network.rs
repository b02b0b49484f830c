//! Networks that branch: layers as nodes of a graph.

use super::Model;
use super::architecture::Architecture;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::network::{Graph, GraphInput, GraphOutput, Node, Source};
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A network with several inputs and outputs, residuals, states that go from one layer to another, and shared weights; the
/// [functional API of Keras](https://keras.io/guides/functional_api/). [`Sequential`](crate::Sequential) is the chain.
///
/// Tensors along its edges are [`Value`]s, handles that its methods give and take. Mistakes are found when it is built.
///
/// ```
/// use ndarray::{Array2, Array3};
/// use wgpu_lstm::{Add, Dense, Device, Fit, Inputs, Losses, Loss, Lstm, Network, Optimiser, Targets};
/// let mut net = Network::new();
/// let x = net.input("series", 4); // [B, T, 4]
/// let flat = net.vector("store", 3); // [B, 3]
/// let first = net.layer(Lstm::new(8).return_sequences(true)).of(x);
/// let second = net.layer(Lstm::new(8).return_sequences(true)).of(first);
/// let sum = net.layer(Add::new(2)).of([first, second]); // a residual connection
/// let last = net.layer(Lstm::new(8)).named("last").of(sum);
/// let store = net.layer(Dense::new(8)).of(flat);
/// let both = net.layer(Add::new(2)).of([last, store]);
/// let (price, up) = (net.layer(Dense::new(1)).of(both), net.layer(Dense::new(1)).of(both));
/// let mut model = net.output("price", price).output("up", up).build(&Device::cpu(), 1)?;
///
/// let losses = Losses::new().output("price", Loss::MeanSquaredError).weighted("up", Loss::BinaryCrossEntropy, 0.5);
/// model.compile(losses, Optimiser::adam(1e-3))?;
/// let (series, stores) = (Array3::ones((6, 5, 4)), Array2::ones((6, 3)));
/// let inputs = Inputs::new().add("series", series.view()).add("store", stores.view());
/// let target = Array2::ones((6, 1));
/// let targets = Targets::new().add("price", target.view()).add("up", target.view());
/// model.fit(inputs.clone(), targets, Fit::new().epochs(2))?;
/// assert_eq!(model.outputs(inputs)?["price"].shape(), [6, 1]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    inputs: Vec<NetworkInput>,
    nodes: Vec<NetworkNode>,
    outputs: Vec<NetworkOutput>,
}

/// A tensor in a [`Network`]: an input, or an output or state of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value(Origin);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Origin {
    Input(usize),
    Node(usize),
    State(usize, usize),
    Beside(usize, usize),
}

impl Value {
    fn source(self) -> Source {
        match self.0 {
            Origin::Input(k) => Source::Input(k),
            Origin::Node(at) => Source::Node(at),
            Origin::State(at, k) => Source::State(at, k),
            Origin::Beside(at, k) => Source::Beside(at, k),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NetworkInput {
    name: String,
    features: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    vector: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NetworkNode {
    name: String,
    layer: Layer,
    inputs: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    states: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NetworkOutput {
    name: String,
    value: Value,
}

/// One or several values that a layer reads: a [`Value`], an array, slice or vector of them.
pub trait IntoValues {
    /// The values, in order.
    fn into_values(self) -> Vec<Value>;
}

impl IntoValues for Value {
    fn into_values(self) -> Vec<Value> {
        vec![self]
    }
}

impl<const N: usize> IntoValues for [Value; N] {
    fn into_values(self) -> Vec<Value> {
        self.to_vec()
    }
}

impl IntoValues for &[Value] {
    fn into_values(self) -> Vec<Value> {
        self.to_vec()
    }
}

impl IntoValues for Vec<Value> {
    fn into_values(self) -> Vec<Value> {
        self
    }
}

/// A layer that is about to be added to a [`Network`]; [`NodeBuilder::of`] adds it.
#[derive(Debug)]
pub struct NodeBuilder<'a> {
    network: &'a mut Network,
    layer: Layer,
    name: Option<String>,
    states: Vec<Value>,
    shares: Option<usize>,
}

impl NodeBuilder<'_> {
    /// Gives it a name, the prefix of its parameters. By default its kind with a number: lstm, lstm_1, dense, ...
    pub fn named(self, name: impl Into<String>) -> Self {
        NodeBuilder { name: Some(name.into()), ..self }
    }

    /// Begins with the states that [`Network::states`] gives of another recurrent layer, or with any vectors of their sizes, instead of
    /// zeros: h and c of an LSTM, h of a GRU; for each layer of a stack and each direction, in this order. As Keras's `initial_state`.
    pub fn starts_from(self, states: impl IntoValues) -> Self {
        NodeBuilder { states: states.into_values(), ..self }
    }

    /// Adds the layer, which reads these values; returns its output.
    pub fn of(self, inputs: impl IntoValues) -> Value {
        let NodeBuilder { network, layer, name, states, shares } = self;
        let name = name.unwrap_or_else(|| network.free_name(layer.kind()));
        network.nodes.push(NetworkNode { name, layer, inputs: inputs.into_values(), states, shares });
        Value(Origin::Node(network.nodes.len() - 1))
    }
}

impl Network {
    /// An empty network.
    pub fn new() -> Network {
        Network::default()
    }

    /// Adds an input of sequences, [B, T, features]. Inputs can have different T.
    pub fn input(&mut self, name: impl Into<String>, features: usize) -> Value {
        self.add_input(name.into(), features, false)
    }

    /// Adds an input of vectors, [B, features].
    pub fn vector(&mut self, name: impl Into<String>, features: usize) -> Value {
        self.add_input(name.into(), features, true)
    }

    /// Adds an input of indices, [B, T], for an [`Embedding`](crate::Embedding).
    pub fn tokens(&mut self, name: impl Into<String>) -> Value {
        self.add_input(name.into(), 1, false)
    }

    fn add_input(&mut self, name: String, features: usize, vector: bool) -> Value {
        self.inputs.push(NetworkInput { name, features, vector });
        Value(Origin::Input(self.inputs.len() - 1))
    }

    /// Begins to add a layer.
    pub fn layer(&mut self, layer: impl Into<Layer>) -> NodeBuilder<'_> {
        NodeBuilder { network: self, layer: layer.into(), name: None, states: Vec::new(), shares: None }
    }

    /// Begins to add another use of the layer that has this output, with the same weights. An input has no layer: then the layer is
    /// refused when the network is built.
    ///
    /// ```
    /// use wgpu_lstm::{Concat, Dense, Device, Lstm, Network};
    /// let mut net = Network::new();
    /// let (left, right) = (net.input("left", 3), net.input("right", 3));
    /// let left = net.layer(Lstm::new(8)).of(left);
    /// let right = net.again(left).of(right);
    /// let both = net.layer(Concat::new(2)).of([left, right]);
    /// let same = net.layer(Dense::new(1)).of(both);
    /// let model = net.output("same", same).build(&Device::cpu(), 1)?;
    /// assert_eq!(model.parameters()?.len(), 4 + 2); // one LSTM and one dense layer
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn again(&mut self, value: Value) -> NodeBuilder<'_> {
        let at = value.source().node().unwrap_or(usize::MAX);
        let (layer, shares) = match self.nodes.get(at) {
            Some(node) => (node.layer.clone(), node.shares.unwrap_or(at)),
            None => (crate::Activation::Linear.into(), usize::MAX),
        };
        NodeBuilder { network: self, layer, name: None, states: Vec::new(), shares: Some(shares) }
    }

    /// The final states of the recurrent layer that has this output, [B, H] each: h and c of an LSTM, h of a GRU; for each layer of a
    /// stack and each direction, in this order. As Keras's `return_state=True`. Empty for other layers.
    pub fn states(&self, value: Value) -> Vec<Value> {
        let Some((at, node)) = value.source().node().and_then(|at| Some((at, self.nodes.get(at)?))) else {
            return Vec::new();
        };
        if node.layer.operator().validate(&node.name, &[1]).is_err() {
            return Vec::new();
        }
        let count = Node::new("", 1, node.layer.clone()).state_values().len();
        (0..count).map(|k| Value(Origin::State(at, k))).collect()
    }

    /// The weights of the attention layer that has this output, [B, T of the query, T of the value], to be an output of the network.
    pub fn attention_weights(&self, value: Value) -> Value {
        Value(Origin::Beside(value.source().node().unwrap_or(usize::MAX), 0))
    }

    /// Makes a value an output of the network.
    pub fn output(&mut self, name: impl Into<String>, value: Value) -> &mut Network {
        self.outputs.push(NetworkOutput { name: name.into(), value });
        self
    }

    fn free_name(&self, kind: &str) -> String {
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        let numbered = (1..).map(|number| format!("{kind}_{number}"));
        std::iter::once(kind.to_string()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }

    /// Puts the model on a device, its weights drawn by `seed`.
    ///
    /// # Errors
    /// Layers whose inputs are not what they take, named; layers that nothing reads; sizes of 0; weights that the device cannot bind.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build(&self, device: &Device, seed: u64) -> Result<Model> {
        wait::block_on(self.build_async(device, seed))
    }

    /// [`Network::build`] for places that cannot block.
    pub async fn build_async(&self, device: &Device, seed: u64) -> Result<Model> {
        Model::drawn(Architecture::Network(self.clone()), device, seed).await
    }

    /// Puts the model on a device with parameters as [`Model::set_parameters`] takes them, without drawing any.
    ///
    /// # Errors
    /// As [`Network::build`] and [`Model::set_parameters`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build_with(&self, device: &Device, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<Model> {
        let parameters = super::parameters::hosts(parameters)?;
        wait::block_on(Model::given(Architecture::Network(self.clone()), device, parameters))
    }

    /// The layers that have parameters of their own.
    pub(crate) fn own_layers(&self) -> impl Iterator<Item = &Layer> {
        self.nodes.iter().filter(|node| node.shares.is_none()).map(|node| &node.layer)
    }

    /// The network with its nodes in order, checked.
    pub(crate) fn graph(&self) -> Result<Graph> {
        if self.nodes.is_empty() || self.outputs.is_empty() {
            return Err(Error::Config(format!(
                "the network has {} layers and {} outputs; it needs at least one of each (Network::layer and Network::output)",
                self.nodes.len(),
                self.outputs.len()
            )));
        }
        let inputs = self.inputs.iter().map(|NetworkInput { name, features, vector }| GraphInput {
            name: name.clone(),
            features: *features,
            vector: *vector,
        });
        let mut graph = Graph::new(inputs.collect(), Vec::new(), Vec::new())?;
        for node in &self.nodes {
            graph.push(self.node(&graph, node)?)?;
        }
        self.check_shared(&graph)?;
        let outputs = self
            .outputs
            .iter()
            .map(|NetworkOutput { name, value }| GraphOutput { name: name.clone(), from: value.source() });
        graph.finish(outputs.collect())
    }

    /// A node with the features of its inputs, which are in the graph.
    fn node(&self, graph: &Graph, NetworkNode { name, layer, inputs, states, shares }: &NetworkNode) -> Result<Node> {
        let sources: Vec<Source> = inputs.iter().map(|value| value.source()).collect();
        let takes = layer.operator().inputs();
        if sources.len() != takes {
            return Err(Error::Config(format!("{name} is given {} inputs; its layer takes {takes}", sources.len())));
        }
        let mut widths = Vec::new();
        for &source in &sources {
            graph.check_source(name, source)?;
            widths.push(graph.width(source).unwrap_or(0));
        }
        let shares = match shares {
            None => None,
            Some(at) => Some(self.nodes.get(*at).map(|node| node.name.clone()).ok_or_else(|| {
                Error::Config(format!("{name} is to share the weights of a value that no layer gives"))
            })?),
        };
        let initial = states.iter().map(|value| value.source()).collect();
        Ok(Node { initial, shares, ..Node::of(name.clone(), layer.clone(), widths, sources) })
    }

    /// Refuses shared weights of other shapes.
    fn check_shared(&self, graph: &Graph) -> Result<()> {
        let shapes: HashMap<&str, Vec<_>> =
            graph.nodes.iter().map(|node| (node.name.as_str(), node.shapes())).collect();
        for node in &graph.nodes {
            let Some(owner) = node.shares.as_deref() else { continue };
            if shapes.get(owner) != Some(&node.shapes()) {
                return Err(Error::Config(format!(
                    "{} shares the weights of {owner}, but reads {:?} features, for which they have other shapes",
                    node.name, node.inputs
                )));
            }
        }
        Ok(())
    }
}
