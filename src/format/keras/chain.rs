//! The order of a model's layers, from its configuration: a Sequential, or a functional model that is one straight chain.

use super::Result;
use super::settings::{LayerConfig, class};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// A layer as the file describes it.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub class: &'a str,
    pub name: &'a str,
    pub options: &'a Map<String, Value>,
    /// True if it is given a mask, `None` if the file does not say (only functional models of Keras 3 do).
    pub masked: Option<bool>,
}

/// Layers of a model, or cells of a layer; none that is known has nearly as many.
pub(super) const MOST: usize = 4096;

/// The layers of a model from input to output.
pub(super) fn chain(model: &Value) -> Result<Vec<Link<'_>>> {
    let wrong = "has a configuration without class_name and config";
    let kind = model.get("class_name").and_then(Value::as_str).ok_or(wrong)?;
    if !matches!(kind, "Sequential" | "Functional" | "Model") {
        return Err(format!("holds a {kind}; a Sequential or functional model was expected"));
    }
    let config = model.get("config").ok_or(wrong)?;
    // Before Keras 2.3 the configuration of a Sequential was the list of its layers.
    let layers = config.get("layers").unwrap_or(config).as_array().ok_or("has a configuration without layers")?;
    if layers.len() > MOST {
        return Err(format!("has {} layers; at most {MOST} are read", layers.len()));
    }
    match kind {
        "Sequential" => layers.iter().map(link).collect(),
        _ => functional(config, layers),
    }
}

fn link(layer: &Value) -> Result<Link<'_>> {
    let (class, options) = class(layer).ok_or("has a layer without class_name and config")?;
    let name = options.get("name").or_else(|| layer.get("name")).and_then(Value::as_str);
    let name = name.ok_or_else(|| format!("has a {class} without a name"))?;
    // Keras's own operations are registered by their class.
    let own = layer.get("module").and_then(Value::as_str).is_some_and(|module| module.starts_with("keras."));
    let registered = layer.get("registered_name").filter(|name| !name.is_null());
    if let Some(name) = registered.filter(|name| !own || name.as_str() != Some(class)) {
        return Err(format!("has a layer of the custom class {name}, which is not supported"));
    }
    Ok(Link { class, name, options, masked: None })
}

/// An inbound node: the inputs of a call of a layer.
struct InboundNode<'a> {
    /// The node whose output it takes.
    from: &'a str,
    /// The node whose output is its mask.
    mask: Option<&'a str>,
    /// Numbers beside it, of an operation.
    constant: Option<&'a Value>,
    /// True if the file spells masks out.
    spelled: bool,
}

fn functional<'a>(config: &'a Value, layers: &'a [Value]) -> Result<Vec<Link<'a>>> {
    let mut nodes = HashMap::new();
    for layer in layers {
        let node = link(layer)?;
        let calls = layer.get("inbound_nodes").and_then(Value::as_array);
        let calls = calls.ok_or_else(|| format!("has a layer {} without inbound_nodes", node.name))?;
        let call = match calls.as_slice() {
            [] => None,
            [call] => Some(read_call(&node, call)?),
            _ => return Err(format!("uses layer {} {} times; each layer must be used once", node.name, calls.len())),
        };
        let name = node.name;
        if nodes.insert(name, (node, call)).is_some() {
            return Err(format!("has two layers named {name}"));
        }
    }
    let end = |key: &str| -> Result<&'a str> {
        let ends = config.get(key).ok_or_else(|| format!("has no {key}"))?;
        let only = match ends.as_array().map(Vec::as_slice) {
            Some([Value::String(name), ..]) => Some(name.as_str()),
            Some([Value::Array(one)]) => one.first().and_then(Value::as_str),
            _ => None,
        };
        only.ok_or_else(|| format!("has {key} = {ends}; models of one input and one output are read"))
    };
    let (first, last) = (end("input_layers")?, end("output_layers")?);
    // Back from the output: a chain has no choice.
    let (mut chain, mut seen): (Vec<&str>, HashSet<&str>) = Default::default();
    let mut at = last;
    loop {
        let (_, call) = nodes.get(at).ok_or_else(|| format!("lacks the layer {at}"))?;
        if !seen.insert(at) {
            return Err(format!("has layers in a circle, at {at}"));
        }
        chain.push(at);
        match call {
            Some(call) => at = call.from,
            None => break,
        }
    }
    if at != first {
        return Err(format!("has an output that comes from {at}, not from its input {first}"));
    }
    chain.reverse();
    // A value that equals nothing is the cause of what masks are then made of.
    for (node, _) in chain.iter().filter_map(|name| nodes.get(name)).filter(|(node, _)| node.class == "Masking") {
        LayerConfig::new(format!("Masking \"{}\"", node.name), node.options)?.number("mask_value", 0.0)?;
    }
    let masks = masks(&nodes, &chain)?;
    let known: HashSet<&str> = chain.iter().chain(&masks).copied().collect();
    if let Some((name, (node, _))) = nodes.iter().find(|(name, _)| !known.contains(*name)) {
        return Err(format!(
            "is no straight chain: {} {name} is beside the way from its input to its output ({})",
            node.class,
            chain.join(", ")
        ));
    }
    let mut links = Vec::new();
    for name in chain {
        // Each name of the chain is a node, once.
        if let Some((mut node, call)) = nodes.remove(name) {
            node.masked = call.filter(|call| call.spelled).map(|call| call.mask.is_some());
            links.push(node);
        }
    }
    Ok(links)
}

/// The operations that make masks: Keras 3 spells out those of Embedding and Masking layers as NotEqual and Any. Each must be
/// what that layer means by it.
fn masks<'a>(nodes: &HashMap<&'a str, (Link<'a>, Option<InboundNode<'a>>)>, chain: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut found: Vec<&str> = Vec::new();
    for name in chain {
        let Some(mask) = nodes[name].1.as_ref().and_then(|call| call.mask) else { continue };
        let node = |name: &str| {
            nodes
                .get(name)
                .and_then(|(node, call)| Some((node.class, call.as_ref()?)))
                .ok_or_else(|| format!("lacks the mask {name}"))
        };
        let over_features = |name: &str| {
            let options = nodes[name].0.options;
            options.get("axis").and_then(Value::as_i64) == Some(-1)
                && options.get("keepdims") != Some(&Value::Bool(true))
        };
        let strange = || format!("gives {name} a mask, {mask}, that comes from no Masking or Embedding layer below it");
        let (class, call) = node(mask)?;
        let (compare, features) = match class {
            "Any" if over_features(mask) => (call.from, true),
            "NotEqual" => (mask, false),
            _ => return Err(strange()),
        };
        let (class, call) = node(compare)?;
        let value = call.constant.and_then(Value::as_f64);
        let fits = |layer: &&&str| {
            let (layer, from) = &nodes[**layer];
            let right = match layer.class {
                "Embedding" => {
                    !features && value == Some(0.0) && layer.options.get("mask_zero") == Some(&Value::Bool(true))
                }
                "Masking" => {
                    features && value.is_some() && layer.options.get("mask_value").and_then(Value::as_f64) == value
                }
                _ => false,
            };
            right && from.as_ref().is_some_and(|from| from.from == call.from)
        };
        if class != "NotEqual" || !chain.iter().take_while(|below| *below != name).any(|below| fits(&below)) {
            return Err(strange());
        }
        found.extend([mask, compare]);
    }
    Ok(found)
}

/// One use of a layer.
fn read_call<'a>(node: &Link<'a>, call: &'a Value) -> Result<InboundNode<'a>> {
    let refuse = |what: &str| Err(format!("has a layer {} that {what}", node.name));
    // Keras 2: [[name, node, tensor, kwargs]]
    if let Some(inputs) = call.as_array() {
        let [input] = inputs.as_slice() else { return refuse("takes several inputs; one is supported") };
        let one = input.as_array().map(Vec::as_slice);
        let Some([Value::String(from), Value::Number(index), Value::Number(tensor), rest @ ..]) = one else {
            return refuse("is used in a way that is not understood");
        };
        if (index.as_u64(), tensor.as_u64()) != (Some(0), Some(0)) {
            return refuse("takes another output than the first of a layer");
        }
        let empty = |value: &Value| value.as_object().is_some_and(|options| options.values().all(idle));
        if !rest.iter().all(empty) {
            return refuse("is called with arguments beside its input");
        }
        return Ok(InboundNode { from, mask: None, constant: None, spelled: false });
    }
    // Keras 3: {args: [tensor, ...], kwargs: {...}}
    let args = call.get("args").and_then(Value::as_array).map(Vec::as_slice);
    let (input, constant) = match args {
        Some([input]) => (input, None),
        Some([input, constant]) if constant.is_number() && node.class == "NotEqual" => (input, Some(constant)),
        _ => return refuse("takes several inputs, or none; one is supported"),
    };
    let Some(from) = tensor(input) else { return refuse("takes something else than the first output of a layer") };
    let mut mask = None;
    for (key, value) in call.get("kwargs").and_then(Value::as_object).into_iter().flatten() {
        match (key.as_str(), tensor(value)) {
            ("mask", Some(from)) => mask = Some(from),
            _ if idle(value) => {}
            _ => return refuse(&format!("is called with {key} = {value}, which is not supported")),
        }
    }
    Ok(InboundNode { from, mask, constant, spelled: true })
}

/// True for an argument without effect: null, or `training=False`.
fn idle(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// The layer whose first output a tensor is.
fn tensor(value: &Value) -> Option<&str> {
    let (class, config) = class(value)?;
    match config.get("keras_history")?.as_array()?.as_slice() {
        [Value::String(from), index, tensor] if class == "__keras_tensor__" => {
            (index.as_u64() == Some(0) && tensor.as_u64() == Some(0)).then_some(from)
        }
        _ => None,
    }
}
