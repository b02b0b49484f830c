//! A graph, or a graph inside a node of one (of If, Loop and Scan), with every name checked.

use super::call::{Call, Outcome};
use super::node::Attributes;
use super::ops::{self, Kernel};
use super::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::recurrent::{Recurrent, RecurrentOp};
use super::tensor::{self, Beside};
use super::value::{Value, data_type_name, shape_name};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// A node, understood as far as it is supported.
pub(super) struct Node {
    /// Its own name, or that of its first output where it has none; unique in its graph.
    pub name: String,
    pub op: String,
    /// Names; empty where an optional input is left out.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub what: What,
}

pub(super) enum What {
    Host(Kernel),
    Recurrent(Box<Recurrent>),
    /// Why it cannot be run.
    Unsupported(String),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}({})", self.outputs.join(", "), self.op, self.inputs.join(", "))
    }
}

impl Node {
    /// The node with its operator, for messages.
    pub fn title(&self) -> String {
        format!("node \"{}\" ({})", self.name, self.op)
    }
}

/// Size of an axis of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// This one.
    Fixed(usize),
    /// Any, under a name.
    Named(String),
    /// Any.
    Any,
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The element type, as [`Value::kind`] names it; as the file does, for what is not supported.
    pub kind: String,
    /// Sizes of the axes, where the file says them.
    pub shape: Option<Vec<Size>>,
    /// True for an input with a default.
    pub optional: bool,
    /// The number of the element type.
    pub(super) data_type: i32,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)?;
        if let Some(shape) = &self.shape {
            let size = |size: &Size| match size {
                Size::Fixed(size) => size.to_string(),
                Size::Named(name) => name.clone(),
                Size::Any => "?".into(),
            };
            write!(f, " [{}]", shape.iter().map(size).collect::<Vec<_>>().join(", "))?;
        }
        if self.optional { write!(f, " (optional)") } else { Ok(()) }
    }
}

impl Port {
    fn new(info: ValueInfoProto, optional: bool) -> Port {
        let Some(tensor) = info.r#type.and_then(|kind| kind.tensor_type) else {
            return Port { name: info.name, kind: "not a tensor".into(), shape: None, optional, data_type: 0 };
        };
        let kind = match none_of(tensor.elem_type) {
            Some(value) => value.kind().to_string(),
            None => data_type_name(tensor.elem_type),
        };
        let shape = tensor.shape.map(|shape| {
            let size = |dim: super::proto::DimensionProto| match (dim.dim_value, dim.dim_param) {
                (Some(size), _) => usize::try_from(size).map_or(Size::Any, Size::Fixed),
                (None, Some(name)) if !name.is_empty() => Size::Named(name),
                _ => Size::Any,
            };
            shape.dim.into_iter().map(size).collect()
        });
        Port { name: info.name, kind, shape, optional, data_type: tensor.elem_type }
    }

    /// Refuses a value of another type or shape.
    pub fn check(&self, value: &Value) -> Outcome<()> {
        let fits = self.shape.as_ref().is_none_or(|shape| {
            let same = |(expected, &given): (&Size, &usize)| !matches!(expected, Size::Fixed(size) if *size != given);
            shape.len() == value.shape().len() && shape.iter().zip(value.shape()).all(same)
        });
        match fits && value.data_type() == self.data_type {
            true => Ok(()),
            false => Err(format!(
                "input \"{}\" was given as {} {}, the graph expects {self}",
                self.name,
                value.kind(),
                shape_name(value.shape())
            )),
        }
    }
}

/// An array of no elements of a type, where there is that type.
fn none_of(data_type: i32) -> Option<Value> {
    Value::from(ndarray::Array1::<f32>::default(0)).cast(data_type)
}

/// A graph.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// The graph around it.
    pub parent: Option<usize>,
    /// Prefix of its nodes' names: the node that the graph is in, and the attribute.
    pub path: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub nodes: Vec<Node>,
    /// Initialisers; what is wrong with those that cannot be read.
    pub constants: HashMap<String, Outcome<Arc<Value>>>,
    /// The node that makes a value.
    pub made_by: HashMap<String, usize>,
    /// Values that nobody needs after a node.
    pub done_after: Vec<Vec<String>>,
}

impl Scope {
    /// A node's name in the file.
    pub fn full_name(&self, node: &Node) -> String {
        format!("{}{}", self.path, node.name)
    }
}

/// Bytes of a path that are kept, its end: names of nodes may be long, and graphs in them many.
const LONGEST_PATH: usize = 100;

/// The end of a path.
fn shortened(path: String) -> String {
    let first = path.len().saturating_sub(LONGEST_PATH);
    match path.char_indices().find(|&(at, _)| at >= first) {
        Some((at, _)) if at > 0 => path[at..].to_string(),
        _ => path,
    }
}

/// Properties that all graphs of a file share.
pub(super) struct File {
    pub opset: i64,
    pub beside: Beside,
}

/// Understands a graph and those inside it, as scopes in `into`, the outer ones first. The depth is bounded by that of messages
/// that protobuf readers accept (100, three for a graph).
pub(super) fn build(
    graph: GraphProto,
    file: &File,
    path: String,
    parent: Option<usize>,
    known: &mut Vec<HashSet<String>>,
    into: &mut Vec<Scope>,
) -> Outcome<()> {
    if !graph.sparse_initializer.is_empty() {
        return Err(format!("has sparse initialisers in graph \"{}\", which are not supported", graph.name));
    }
    let own = into.len();
    let mut scope = Scope { parent, path, ..Scope::default() };
    let (mut names, mut inputs) = (HashSet::new(), HashSet::new());
    for initializer in graph.initializer {
        let TensorProto { name, .. } = &initializer;
        if name.is_empty() || !names.insert(name.clone()) {
            return Err(format!("has two initialisers named \"{name}\", or one without a name"));
        }
        let value = tensor::read(&initializer, &file.beside).map(Arc::new);
        scope.constants.insert(initializer.name, value);
    }
    for input in graph.input {
        let default = scope.constants.contains_key(&input.name);
        if !inputs.insert(input.name.clone()) {
            return Err(format!("has two inputs named \"{}\"", input.name));
        }
        names.insert(input.name.clone());
        scope.inputs.push(Port::new(input, default));
    }
    let path = scope.path.clone();
    into.push(Scope::default());
    known.push(names);
    let mut titles = HashSet::new();
    for (index, node) in graph.node.into_iter().enumerate() {
        let node = build_node(node, file, &path, own, known, into, &mut titles)?;
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if known.last_mut().is_some_and(|names| !names.insert(output.clone())) {
                return Err(format!("has two values named \"{output}\"; the second is made by {}", node.title()));
            }
            scope.made_by.insert(output.clone(), index);
        }
        scope.nodes.push(node);
    }
    for output in graph.output {
        if !known.iter().any(|names| names.contains(&output.name)) {
            return Err(format!("has the output \"{}\", which no node computes", output.name));
        }
        scope.outputs.push(Port::new(output, false));
    }
    known.pop();
    scope.done_after = done_after(&scope);
    into[own] = scope;
    Ok(())
}

fn build_node(
    node: NodeProto,
    file: &File,
    path: &str,
    own: usize,
    known: &mut Vec<HashSet<String>>,
    into: &mut Vec<Scope>,
    titles: &mut HashSet<String>,
) -> Outcome<Node> {
    let mut title = match node.name.is_empty() {
        true => node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default(),
        false => node.name.clone(),
    };
    // Names of nodes need not be unique, but here they lead to nodes.
    if !titles.insert(title.clone()) {
        let output = node.output.first().cloned().unwrap_or_default();
        title = format!("{title}:{output}");
        titles.insert(title.clone());
    }
    for input in node.input.iter().filter(|name| !name.is_empty()) {
        if !known.iter().any(|names| names.contains(input)) {
            return Err(format!(
                "has node \"{title}\" ({}) with the input \"{input}\", which nothing before it makes: nodes must be in the order in \
                 which they run, without a cycle",
                node.op_type
            ));
        }
    }
    let mut plain = Vec::new();
    // In front of names in graphs inside; put together once, since there may be many
    let mut inner: Option<String> = None;
    for mut attribute in node.attribute {
        let graphs = attribute.g.take().map(|graph| *graph).into_iter().chain(std::mem::take(&mut attribute.graphs));
        let graphs: Vec<GraphProto> = graphs.collect();
        if !graphs.is_empty() {
            let path = inner.get_or_insert_with(|| shortened(format!("{path}{title}/")));
            let path = shortened(format!("{path}{}/", attribute.name));
            for graph in graphs {
                build(graph, file, path.clone(), Some(own), known, into)?;
            }
        }
        plain.push(attribute);
    }
    let what = match &node.domain[..] {
        _ if inner.is_some() => Err("it has graphs inside, which are not run".into()),
        "" | "ai.onnx" => understand(&node.op_type, &node.input, &node.output, plain, file),
        domain => Err(format!("operators of the domain \"{domain}\" are not supported")),
    };
    let what = what.unwrap_or_else(What::Unsupported);
    Ok(Node { name: title, op: node.op_type, inputs: node.input, outputs: node.output, what })
}

fn understand(
    op: &str,
    inputs: &[String],
    outputs: &[String],
    attributes: Vec<super::proto::AttributeProto>,
    file: &File,
) -> Outcome<What> {
    let outputs = outputs.iter().map(|name| !name.is_empty()).collect();
    let mut attributes = Attributes::new(attributes, file.opset, outputs)?;
    match RecurrentOp::of(op) {
        Some(kind) => {
            let given: Vec<bool> = inputs.iter().map(|name| !name.is_empty()).collect();
            Ok(What::Recurrent(Box::new(Recurrent::new(kind, attributes, &given)?)))
        }
        None => ops::kernel(op, inputs.len(), &mut attributes, &file.beside).map(What::Host),
    }
}

/// Names of values by the last node that uses them (the one that makes them, where none does), outputs left out.
fn done_after(scope: &Scope) -> Vec<Vec<String>> {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (index, node) in scope.nodes.iter().enumerate() {
        for name in node.inputs.iter().chain(&node.outputs).filter(|name| !name.is_empty()) {
            last.insert(name, index);
        }
    }
    for output in &scope.outputs {
        last.remove(&output.name[..]);
    }
    let mut done = vec![Vec::new(); scope.nodes.len()];
    for (name, index) in last {
        done[index].push(name.to_string());
    }
    done
}

/// Constant folding: values that do not depend on the inputs of a graph.
pub(super) struct Constants<'a> {
    scopes: &'a [Scope],
    /// Values computed so far, by scope and node.
    computed: HashMap<(usize, usize), Vec<Arc<Value>>>,
    /// Bytes that they may still take.
    room: u64,
}

/// Nodes one after another that a constant may be made by.
const DEEPEST: usize = 64;

impl<'a> Constants<'a> {
    pub fn new(scopes: &'a [Scope], room: u64) -> Constants<'a> {
        Constants { scopes, computed: HashMap::new(), room }
    }

    /// The value of a name seen from a scope, if it does not depend on inputs.
    pub fn get(&mut self, scope: usize, name: &str) -> Outcome<Arc<Value>> {
        self.find(scope, name, 0)
    }

    fn find(&mut self, mut scope: usize, name: &str, depth: usize) -> Outcome<Arc<Value>> {
        if depth > DEEPEST {
            return Err(format!("\"{name}\" is made by more than {DEEPEST} nodes one after another"));
        }
        let scopes = self.scopes;
        loop {
            let here = &scopes[scope];
            if let Some(value) = here.constants.get(name) {
                return value.clone().map_err(|reason| format!("tensor \"{name}\" {reason}"));
            }
            if let Some(&index) = here.made_by.get(name) {
                return self.compute(scope, index, name, depth);
            }
            match here.parent {
                Some(parent) if !here.inputs.iter().any(|input| input.name == name) => scope = parent,
                _ => return Err(format!("\"{name}\" is an input of the graph, not a constant")),
            }
        }
    }

    fn compute(&mut self, scope: usize, index: usize, name: &str, depth: usize) -> Outcome<Arc<Value>> {
        let node = &self.scopes[scope].nodes[index];
        if !self.computed.contains_key(&(scope, index)) {
            let kernel = match &node.what {
                What::Host(kernel) => kernel,
                What::Recurrent(_) => {
                    return Err(format!("\"{name}\" is made by {}, so it is no constant", node.title()));
                }
                What::Unsupported(reason) => return Err(format!("\"{name}\" is made by {}: {reason}", node.title())),
            };
            let mut values = Vec::new();
            for input in &node.inputs {
                values.push(match input.is_empty() {
                    true => None,
                    false => Some((&input[..], self.find(scope, input, depth + 1)?)),
                });
            }
            let inputs: Vec<_> =
                values.iter().map(|value| value.as_ref().map(|(name, value)| (*name, &**value))).collect();
            let made = kernel(&Call { inputs: &inputs, room: self.room, out_of_memory: Cell::default() });
            let made = made.map_err(|reason| format!("{}: {reason}", node.title()))?;
            self.room = self.room.saturating_sub(made.iter().map(Value::bytes).sum());
            self.computed.insert((scope, index), made.into_iter().map(Arc::new).collect());
        }
        let output = node.outputs.iter().position(|output| output == name).unwrap_or_default();
        let value = self.computed[&(scope, index)].get(output).cloned();
        value.ok_or_else(|| format!("{} does not make \"{name}\"", node.title()))
    }
}
