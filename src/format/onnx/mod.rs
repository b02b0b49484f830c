//! [ONNX](https://onnx.ai/onnx/) files: graphs made of LSTM, GRU, RNN and what surrounds them in exports of PyTorch and Keras run
//! here; from any other graph the recurrent nodes can be lifted as layers; models are written for other runtimes.
//!
//! Recurrent nodes run on the device, everything else on the host. Operator sets 7 to 28 of the default domain are read.
//! Supported, with all their attributes but those of training: LSTM, GRU, RNN, Add, Cast, Clip, Concat, Constant, ConstantOfShape, Div,
//! Dropout, Elu, Expand, Flatten, Gather, Gemm, HardSigmoid, Identity, LayerNormalization, LeakyRelu, LogSoftmax, MatMul, Mul,
//! ReduceMax, ReduceMean, ReduceProd, ReduceSum, Relu, Reshape, Shape, Sigmoid, Slice, Softmax, Softplus, Softsign, Split, Squeeze, Sub, Tanh,
//! ThresholdedRelu, Transpose, Unsqueeze, on f32, f64, i32, i64 and bool. What else a graph holds is named when it is asked to
//! run.
//!
//! ONNX Runtime decides what ONNX leaves open: a sequence of length 0 ends with states of 0, activations that state no
//! defaults have its. Numbers that are not finite do not go into a recurrent node: that is an error.
//!
//! Files need not be trusted. Nothing in them is executed; an error says which node or tensor is wrong. Reading takes memory in
//! proportion to the file: up to about its size twice for weights, and up to 400 bytes for each byte of a file that is
//! nothing but empty nodes. Running is bounded by [`Graph::memory_limit`]. Graphs inside of graphs are read 30 deep.
//!
//! ```no_run
//! use ndarray::Array3;
//! use std::collections::BTreeMap;
//! use wgpu_lstm::{Device, format::onnx::{Graph, Value}};
//! let mut graph = Graph::load("model.onnx", &Device::auto())?;
//! println!("{}", graph.describe());
//! let x = Array3::<f32>::zeros((2, 10, 3));
//! let outputs = graph.run(BTreeMap::from([("input".to_string(), Value::from(x))]))?;
//! println!("{:?}", outputs["output"]);
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod activation;
mod call;
mod describe;
mod node;
mod ops;
mod proto;
mod recurrent;
mod scope;
mod tensor;
mod value;
#[cfg(not(target_arch = "wasm32"))]
mod write;

pub use scope::{Port, Size};
pub use tensor::read_tensor;
pub use value::{Element, Value};
#[cfg(not(target_arch = "wasm32"))]
pub use write::{save, save_layer, save_layer_with_states};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::layer::Lstm;
use crate::model::LstmLayer;
use call::{Call, Outcome};
use proto::ModelProto;
use recurrent::{RecurrentOp, Wrong};
use scope::{Constants, Scope, What};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tensor::Beside;

/// Operator sets that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// A graph read from a file, with its recurrent layers on a device.
#[derive(Debug)]
pub struct Graph {
    path: PathBuf,
    device: Device,
    opset: i64,
    producer: String,
    /// The graph, then those inside it.
    scopes: Vec<Scope>,
    limit: u64,
}

/// A recurrent node of a graph, or of one inside it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecurrentNode {
    /// Its name, as [`Graph::lift`] takes it: that of its first output where it has none; of a node in a graph inside of a node, it
    /// begins with that node's name and attribute.
    pub name: String,
    /// LSTM, GRU or RNN.
    pub op: &'static str,
    /// Features that it takes, where its weights are constant.
    pub input: Option<usize>,
    /// The configuration as a layer of this crate, or the reason why there is none.
    pub config: Result<Lstm, String>,
}

/// A node of a graph, as the file has it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GraphNode {
    /// Its name, or that of its first output where it has none.
    pub name: String,
    /// The operator, as ONNX calls it.
    pub op: String,
    /// Names of what it takes; empty where an optional input is left out.
    pub inputs: Vec<String>,
    /// Names of what it gives.
    pub outputs: Vec<String>,
}

impl Graph {
    /// Reads a file. Weights that lie in other files are read if these are in the same folder.
    ///
    /// # Errors
    /// A file that cannot be read, is no ONNX file or breaks ONNX's rules: names that are there twice or not made, nodes out of
    /// order. An operator that is not supported is no error until the graph is run.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Graph> {
        let path = path.as_ref();
        super::check(path, super::Reader::Onnx)?;
        let bytes = crate::memory::read(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Graph::read(bytes, path, Beside::Folder(folder.into()), device)
    }

    /// Reads the bytes of a file; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Graph::load`]; weights that lie in other files.
    pub fn from_bytes(bytes: Vec<u8>, name: &str, device: &Device) -> Result<Graph> {
        Graph::read(bytes, Path::new(name), Beside::Nowhere, device)
    }

    fn read(bytes: Vec<u8>, path: &Path, beside: Beside, device: &Device) -> Result<Graph> {
        let wrong = |reason: String| Error::format(path, reason);
        // Weights become arrays; their bytes stay until all are read.
        crate::memory::probe(bytes.len() as u64, format_args!("the tensors of \"{}\"", path.display()))?;
        let model: ModelProto = prost::Message::decode(prost::bytes::Bytes::from(bytes))
            .map_err(|error| Error::format_because(path, "is no ONNX file: it is no message of this kind", error))?;
        let graph = model.graph.ok_or_else(|| wrong("is no ONNX file: it holds no graph".into()))?;
        let sets = model.opset_import.iter().filter(|set| set.domain.is_empty() || set.domain == "ai.onnx");
        let opset = sets.map(|set| set.version).max();
        let opset = opset.ok_or_else(|| wrong("says no version of the default operator set".into()))?;
        if !OPSETS.contains(&opset) {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            return Err(wrong(format!("is of operator set {opset}; {first} to {last} are supported")));
        }
        let mut scopes = Vec::new();
        let file = scope::File { opset, beside };
        scope::build(graph, &file, String::new(), None, &mut Vec::new(), &mut scopes).map_err(wrong)?;
        let producer = [model.producer_name, model.producer_version].join(" ").trim().to_string();
        Ok(Graph { path: path.into(), device: device.clone(), opset, producer, scopes, limit: 4 << 30 })
    }

    /// Bounds the memory of a run: what values that nodes make may take together, 4 GiB by default. A node may need up to ten
    /// times as much while it works. Inputs and weights do not count.
    pub fn memory_limit(self, bytes: u64) -> Graph {
        Graph { limit: bytes, ..self }
    }

    /// Inputs, in the file's order.
    pub fn inputs(&self) -> &[Port] {
        &self.scopes[0].inputs
    }

    /// Outputs, in the file's order.
    pub fn outputs(&self) -> &[Port] {
        &self.scopes[0].outputs
    }

    /// Gives names and element types to arrays, for [`Graph::run`]: one without a name goes to the only input that has none yet;
    /// numbers are brought to the type that the graph expects where that loses nothing.
    ///
    /// # Errors
    /// A name that no input has or two arrays have, an array without a name where several inputs are left, numbers that the expected
    /// type cannot hold.
    pub fn bind(&self, given: Vec<(Option<String>, Value)>) -> Result<BTreeMap<String, Value>> {
        let (named, nameless): (Vec<_>, Vec<_>) = given.into_iter().partition(|(name, _)| name.is_some());
        let mut bound = BTreeMap::new();
        for (name, value) in named.into_iter().chain(nameless) {
            let port = match &name {
                Some(name) => self.port(name)?,
                None => {
                    let left: Vec<&Port> =
                        self.inputs().iter().filter(|port| !port.optional && !bound.contains_key(&port.name)).collect();
                    match left[..] {
                        [port] => port,
                        _ => {
                            let names: Vec<&str> = left.iter().map(|port| &port.name[..]).collect();
                            return Err(Error::Shape(format!(
                                "an array without a name was given; the inputs left are: {}",
                                if names.is_empty() { "none".into() } else { names.join(", ") }
                            )));
                        }
                    }
                }
            };
            let kind = value.kind();
            let value = if value.data_type() == port.data_type { Some(value) } else { value.exactly(port.data_type) };
            let value = value.ok_or_else(|| {
                Error::Shape(format!("input \"{}\" was given as {kind}, the graph expects {port}", port.name))
            })?;
            if bound.insert(port.name.clone(), value).is_some() {
                return Err(Error::Shape(format!("input \"{}\" was given twice", port.name)));
            }
        }
        Ok(bound)
    }

    fn port(&self, name: &str) -> Result<&Port> {
        self.inputs().iter().find(|port| port.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.inputs().iter().map(|port| &port.name[..]).collect();
            Error::Shape(format!("the graph has no input \"{name}\"; its inputs are: {}", names.join(", ")))
        })
    }

    /// Runs the graph on values by the names of its inputs; gives values by the names of its outputs. Weights may be inputs,
    /// too; those that are constants go to the device once.
    ///
    /// # Errors
    /// An input that is missing, not known, or of another type or shape; a node that is not supported or that its inputs
    /// do not fit, by name; more memory than the limit; a device that failed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&mut self, inputs: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>> {
        crate::wait::block_on(self.run_async(inputs))
    }

    /// [`Graph::run`] for places that cannot block.
    pub async fn run_async(&mut self, inputs: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>> {
        for (name, value) in &inputs {
            self.port(name)?.check(value).map_err(Error::Shape)?;
        }
        if let Some(missing) = self.inputs().iter().find(|port| !port.optional && !inputs.contains_key(&port.name)) {
            return Err(Error::Shape(format!("input \"{}\" is missing; the graph expects {missing}", missing.name)));
        }
        let Graph { path, device, scopes, limit, .. } = self;
        let wrong = |reason: String| Error::format(path, reason);
        let scope = &mut scopes[0];
        if let Some(node) = scope.nodes.iter().find(|node| matches!(node.what, What::Unsupported(_)))
            && let What::Unsupported(reason) = &node.what
        {
            let all = describe::operators(std::slice::from_ref(scope));
            let all = if all.len() > 1 { format!("; not supported are {}", all.join(", ")) } else { String::new() };
            return Err(wrong(format!("has {}, which cannot be run: {reason}{all}", node.title())));
        }
        let mut values: HashMap<String, Arc<Value>> =
            inputs.into_iter().map(|(name, value)| (name, Arc::new(value))).collect();
        let constants = &scope.constants;
        let find = |values: &HashMap<String, Arc<Value>>, name: &str| match (values.get(name), constants.get(name)) {
            (Some(value), _) | (None, Some(Ok(value))) => Ok(value.clone()),
            (None, Some(Err(reason))) => Err(format!("has tensor \"{name}\", which {reason}")),
            (None, None) => Err(format!("has a value \"{name}\" that no node computed")),
        };
        // Bytes of each value that a node made and that is still needed
        let mut held: HashMap<String, u64> = HashMap::new();
        let mut taken = 0u64;
        for (node, done) in scope.nodes.iter_mut().zip(&scope.done_after) {
            let room = limit.saturating_sub(taken);
            let own = |name: &String| if name.is_empty() { Ok(None) } else { find(&values, name).map(Some) };
            let given: Vec<Option<Arc<Value>>> = node.inputs.iter().map(own).collect::<Outcome<_>>().map_err(wrong)?;
            let title = node.title();
            let made = match &mut node.what {
                What::Host(kernel) => {
                    let pairs = node.inputs.iter().zip(&given);
                    let inputs: Vec<Option<(&str, &Value)>> =
                        pairs.map(|(name, value)| value.as_deref().map(|value| (&name[..], value))).collect();
                    let call = Call { inputs: &inputs, room, out_of_memory: Cell::default() };
                    kernel(&call).map_err(|reason| match call.out_of_memory.take() {
                        Some(Error::OutOfMemory { what, needed, .. }) => {
                            Wrong::Device(crate::memory::refused(needed, format_args!("{title}: {what}")))
                        }
                        _ => Wrong::Here(reason),
                    })
                }
                What::Recurrent(recurrent) => {
                    let inputs: Vec<Option<&Arc<Value>>> = given.iter().map(Option::as_ref).collect();
                    recurrent.run(&inputs, room, device).await
                }
                What::Unsupported(reason) => Err(Wrong::Here(reason.clone())),
            };
            let made = made.map_err(|error| match error {
                Wrong::Here(reason) => wrong(format!("has {title} that failed: {reason}")),
                Wrong::Device(error) => error,
            })?;
            let mut made = made.into_iter();
            for (k, name) in node.outputs.iter().enumerate() {
                let value =
                    made.next().ok_or_else(|| wrong(format!("has {title}, which does not make its output {k}")))?;
                if !name.is_empty() {
                    taken += value.bytes();
                    held.insert(name.clone(), value.bytes());
                    values.insert(name.clone(), Arc::new(value));
                }
            }
            for name in done {
                values.remove(name);
                taken -= held.remove(name).unwrap_or_default();
            }
        }
        let mut outputs = BTreeMap::new();
        for port in &scope.outputs {
            let value = find(&values, &port.name).map_err(wrong)?;
            outputs.insert(port.name.clone(), Value::clone(&value));
        }
        Ok(outputs)
    }

    /// The nodes of the graph, in the order in which they run; those of graphs inside of nodes are not among them.
    ///
    /// ```no_run
    /// use wgpu_lstm::{Device, format::onnx::Graph};
    /// let graph = Graph::load("model.onnx", &Device::cpu())?;
    /// for node in graph.nodes() {
    ///     println!("{} = {}({})", node.outputs.join(", "), node.op, node.inputs.join(", "));
    /// }
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn nodes(&self) -> impl Iterator<Item = GraphNode> {
        self.scopes.first().into_iter().flat_map(|scope| &scope.nodes).map(|node| GraphNode {
            name: node.name.clone(),
            op: node.op.clone(),
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
        })
    }

    /// Reasons why the graph cannot be run: operators that are not supported, each kind once with the number of its nodes and the
    /// reason. Empty if there is nothing.
    ///
    /// ```no_run
    /// use wgpu_lstm::{Device, format::onnx::Graph};
    /// let graph = Graph::load("model.onnx", &Device::cpu())?;
    /// for problem in graph.unsupported() {
    ///     println!("{problem}"); // Conv × 83: this operator is not supported; the first is node "/conv/Conv"
    /// }
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn unsupported(&self) -> Vec<String> {
        let Some(scope) = self.scopes.first() else { return Vec::new() };
        let inputs = scope.nodes.iter().flat_map(|node| node.inputs.iter().map(String::as_str));
        let used: HashSet<&str> = inputs.chain(scope.outputs.iter().map(|port| &port.name[..])).collect();
        describe::unsupported(std::slice::from_ref(scope), |name| used.contains(name))
    }

    /// All recurrent nodes, of graphs inside, too.
    pub fn recurrent(&self) -> Vec<RecurrentNode> {
        let mut constants = Constants::new(&self.scopes, self.limit);
        let mut all = Vec::new();
        for (scope, here) in self.scopes.iter().enumerate() {
            for node in &here.nodes {
                let Some(kind) = RecurrentOp::of(&node.op) else { continue };
                let (input, config) = match &node.what {
                    What::Recurrent(recurrent) => {
                        let sizes = weights_of(&mut constants, scope, node).and_then(|inputs| {
                            let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
                            recurrent.sizes(&inputs)
                        });
                        // Weights may be inputs; then the node itself may say how many units it has.
                        let hidden =
                            sizes.as_ref().map(|sizes| sizes.hidden).or_else(|reason| recurrent.hidden.ok_or(reason));
                        (
                            sizes.as_ref().map(|sizes| sizes.input).ok(),
                            hidden.map_err(String::clone).and_then(|hidden| recurrent.config(hidden)),
                        )
                    }
                    What::Unsupported(reason) => (None, Err(reason.clone())),
                    What::Host(_) => continue,
                };
                all.push(RecurrentNode { name: here.full_name(node), op: kind.name(), input, config });
            }
        }
        all
    }

    /// A recurrent node as a layer by itself, with its weights on the device: by its name as [`Graph::recurrent`] has it, or the
    /// end of it from a slash on where only one node ends so. Nothing else of the graph need be supported. The layer is batch-first,
    /// whatever the node is; initial states and lengths of sequences are given to the layer.
    ///
    /// # Errors
    /// No such node, or several; weights that are not constant; what [`RecurrentNode::config`] says.
    ///
    /// ```no_run
    /// use wgpu_lstm::{Device, format::onnx::Graph};
    /// let graph = Graph::load("silero_vad_16k_sequence.onnx", &Device::auto())?;
    /// let lstm = graph.lift("/recurrent/LSTM")?;
    /// let mut stream = lstm.stream(1)?; // B = 1
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn lift(&self, name: &str) -> Result<LstmLayer> {
        crate::wait::block_on(self.lift_async(name))
    }

    /// [`Graph::lift`] for places that cannot block.
    pub async fn lift_async(&self, name: &str) -> Result<LstmLayer> {
        let wrong = |reason: String| Error::format(&self.path, reason);
        let recurrent = |(scope, here): (usize, &'_ Scope)| -> Vec<(usize, usize)> {
            let of = here.nodes.iter().enumerate().filter(|(_, node)| RecurrentOp::of(&node.op).is_some());
            of.map(|(index, _)| (scope, index)).collect()
        };
        let all: Vec<(usize, usize)> = self.scopes.iter().enumerate().flat_map(recurrent).collect();
        let title = |&(scope, index): &(usize, usize)| {
            let here = &self.scopes[scope];
            here.full_name(&here.nodes[index])
        };
        let exact = all.iter().filter(|place| title(place) == name).collect::<Vec<_>>();
        let ending = format!("/{}", name.trim_start_matches('/'));
        let found = match exact[..] {
            [] => all.iter().filter(|place| title(place).ends_with(&ending)).collect(),
            _ => exact,
        };
        let &[&(scope, index)] = &found[..] else {
            let names = |places: &[&(usize, usize)]| places.iter().map(|p| title(p)).collect::<Vec<_>>().join(", ");
            return Err(wrong(match (found.is_empty(), all.is_empty()) {
                (_, true) => format!("has no recurrent node, so none named \"{name}\""),
                (true, _) => {
                    format!("has no recurrent node \"{name}\"; it has: {}", names(&all.iter().collect::<Vec<_>>()))
                }
                _ => format!("has several recurrent nodes \"{name}\": {}", names(&found)),
            }));
        };
        let node = &self.scopes[scope].nodes[index];
        let not_lifted = |reason: String| wrong(format!("has {}, which cannot be lifted: {reason}", node.title()));
        match &node.what {
            What::Recurrent(recurrent) => {
                let mut constants = Constants::new(&self.scopes, self.limit);
                let inputs = weights_of(&mut constants, scope, node).map_err(not_lifted)?;
                let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
                recurrent.lift(&inputs, &self.device).await.map_err(|error| match error {
                    Wrong::Here(reason) => not_lifted(reason),
                    Wrong::Device(error) => error,
                })
            }
            What::Unsupported(reason) => Err(not_lifted(reason.clone())),
            What::Host(_) => Err(not_lifted("it is not recurrent".into())),
        }
    }

    /// A tensor of the graph that does not depend on its inputs, by name: an initialiser, or what nodes make of some.
    ///
    /// # Errors
    /// A name that is not there, or a value that is no constant or of a type that is not supported.
    pub fn constant(&self, name: &str) -> Result<Value> {
        let value = Constants::new(&self.scopes, self.limit).get(0, name);
        value
            .map(|value| Value::clone(&value))
            .map_err(|reason| Error::format(&self.path, format!("has no constant: {reason}")))
    }
}

/// Constant weights of a recurrent node, by position; `None` for its other inputs.
fn weights_of(constants: &mut Constants, scope: usize, node: &scope::Node) -> Outcome<Vec<Option<Arc<Value>>>> {
    let of = |(k, name): (usize, &String)| match recurrent::is_weight(k) && !name.is_empty() {
        true => constants.get(scope, name).map(Some),
        false => Ok(None),
    };
    node.inputs.iter().enumerate().map(of).collect()
}
