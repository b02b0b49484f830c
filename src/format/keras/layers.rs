//! From Keras's layers to this crate's.

use super::Result;
use super::chain::{Link, MOST};
use super::settings::{LayerConfig, class};
use super::weights::{Form, Source};
use crate::activation::Activation;
use crate::layer::{Bias, Dense, Dropout, Embedding, Gru, Layer, LayerNorm, Lstm, Masking, Merge, Pool, Rnn};
use serde_json::{Map, Value};

/// The network so far.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Features of the input, once they are known.
    pub input: Option<usize>,
    pub layers: Vec<Layer>,
    /// Keras's layers that hold weights, in their order.
    pub holders: Vec<Holder>,
    /// Output of the last layer.
    flow: Flow,
    /// True if its steps carry a mask.
    masked: bool,
    version: Version,
    /// True if the input has a fixed batch size.
    fixed_batch: bool,
}

/// Differences between versions of Keras in the meaning of one configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Version {
    /// `hard_sigmoid` is relu6(x + 3) / 6.
    pub keras3: bool,
    /// A Bidirectional that returns sequences gives 0 in masked steps, whatever its layers say.
    pub bidirectional_zeros: bool,
    /// A TimeDistributed runs a batch of fixed size step by step, and repeats its last output in masked steps.
    pub distributes_by_step: bool,
}

impl Version {
    /// From `keras_version`, of a file or an archive; files without one are from before Keras 2.
    pub fn of(text: &str) -> Version {
        let mut numbers = text.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        let major = if text.is_empty() { 1 } else { numbers.next().unwrap_or(1) };
        let minor = numbers.next().unwrap_or(0);
        // TensorFlow's own Keras ("-tf", and all from 2.4 on), never the package by itself.
        let bidirectional_zeros = major >= 3 || major == 2 && (minor >= 4 || text.ends_with("-tf"));
        let distributes_by_step = (major, minor) < (2, 4);
        Version { keras3: major >= 3, bidirectional_zeros, distributes_by_step }
    }
}

/// A Keras layer that holds weights.
#[derive(Debug)]
pub(super) struct Holder {
    pub class: String,
    /// Its name, where it is known.
    pub name: Option<String>,
    pub sources: Vec<Source>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Flow {
    /// No layer yet.
    #[default]
    Nothing,
    /// Indices [B, T].
    Indices,
    /// Sequences [B, T, F].
    Sequences,
    /// Vectors [B, F].
    Vectors,
}

/// A recurrent layer or cell: its configuration and the form of its weights.
struct Unit {
    lstm: Lstm,
    form: Form,
}

impl Network {
    pub fn new(version: Version) -> Network {
        Network { version, ..Network::default() }
    }

    /// Takes an input's shape [B, T, F], or [B, T] of indices.
    pub fn shape(&mut self, shape: &Value) -> Result<()> {
        let sizes = shape.as_array().map(Vec::as_slice).unwrap_or_default();
        self.fixed_batch = sizes.first().is_some_and(|batch| !batch.is_null());
        let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0);
        match sizes {
            [_, _, features] if size(features).is_some() => {
                (self.input, self.flow) = (size(features), Flow::Sequences);
                Ok(())
            }
            [_, _] => {
                (self.input, self.flow) = (Some(1), Flow::Indices);
                Ok(())
            }
            _ => Err(format!("has an input of shape {shape}; sequences [B, T, F] or indices [B, T] are expected")),
        }
    }

    /// Adds what a layer is here.
    pub fn add(&mut self, link: &Link) -> Result<()> {
        let of = format!("{} \"{}\"", link.class, link.name);
        if self.flow == Flow::Nothing {
            // Keras 1 and 2: the first layer of a Sequential may carry the shape.
            if let Some(shape) = link.options.get("batch_input_shape").or_else(|| link.options.get("batch_shape")) {
                self.shape(shape)?;
            }
        }
        if link.class == "InputLayer" {
            return self.input_layer(of, link);
        }
        let settings = LayerConfig::new(of, link.options)?;
        self.expect(&settings, link.class)?;
        self.check_mask(&settings, link)?;
        match link.class {
            "LSTM" | "GRU" | "SimpleRNN" | "CuDNNLSTM" | "CuDNNGRU" => {
                let unit = unit(&settings, link.class, self.version.keras3)?;
                let lstm = self.sequence_options(&settings, unit.lstm)?;
                settings.done()?;
                if self.masked && link.class.starts_with("CuDNN") {
                    return settings.refuse("gets masked sequences, which it does not take");
                }
                self.check_backwards(&settings, &lstm, 1)?;
                let cell = if link.class.starts_with("CuDNN") { "" } else { "cell" };
                self.hold(link, vec![Source::new(self.layers.len(), 0, "", cell, unit.form)]);
                self.push(lstm.into());
            }
            "RNN" => self.rnn(link, &settings)?,
            "Bidirectional" => self.bidirectional(link, &settings)?,
            "Dense" => self.dense(link, &settings, "")?,
            "TimeDistributed" => {
                let (class, options) = inner(&settings, "layer")?;
                if class != "Dense" || self.flow != Flow::Sequences {
                    return settings.refuse(format!("holds a {class}; only a Dense on sequences is supported in it"));
                }
                settings.done()?;
                if self.masked && self.fixed_batch && self.version.distributes_by_step {
                    return settings.refuse(
                        "gets masked sequences in batches of a fixed size, in whose masked steps Keras before 2.4 repeats an output, \
                         which is not supported; save the model without a fixed batch size",
                    );
                }
                let below = LayerConfig::new(format!("the Dense in TimeDistributed \"{}\"", link.name), options)?;
                self.dense(link, &below, "layer")?;
            }
            "Embedding" => {
                let (entries, features) = (settings.size("input_dim")?, settings.size("output_dim")?);
                self.masked = settings.flag("mask_zero", false)?;
                settings.done()?;
                self.hold(link, vec![Source::new(self.layers.len(), 0, "", "", Form::Embedding)]);
                self.push(Embedding::keras(entries, features).mask_zero(self.masked).into());
                self.flow = Flow::Sequences;
            }
            "Masking" => {
                let value = settings.number("mask_value", 0.0)?;
                settings.done()?;
                self.masked = true;
                self.push(Masking::new(value as f32).into());
            }
            "Dropout" => {
                let rate = settings.number("rate", 0.0)?;
                settings.none("noise_shape")?;
                settings.done()?;
                self.push(Dropout::new(rate).into());
            }
            "LayerNormalization" => {
                let axes = if self.flow == Flow::Sequences { [-1, 2] } else { [-1, 1] };
                let axis = settings.take("axis");
                let only =
                    axis.map(|axis| axis.as_array().map_or(axis, |all| if all.len() == 1 { &all[0] } else { axis }));
                if !only.is_none_or(|axis| axis.as_i64().is_some_and(|axis| axes.contains(&axis))) {
                    return settings
                        .refuse(format!("has axis = {}; only the last is supported", axis.unwrap_or(&Value::Null)));
                }
                settings.off("rms_scaling")?;
                let form = Form::Norm { scale: settings.flag("scale", true)?, center: settings.flag("center", true)? };
                let epsilon = settings.number("epsilon", 1e-3)? as f32;
                settings.done()?;
                self.hold(link, vec![Source::new(self.layers.len(), 0, "", "", form)]);
                self.push(LayerNorm::new().epsilon(epsilon).into());
            }
            "Activation" => {
                let activation = activation(&settings, "activation", self.version.keras3)?;
                settings.done()?;
                self.activate(&settings, activation)?;
            }
            "Flatten" => {
                settings.take("data_format"); // of one axis there is one order
                settings.done()?;
                if self.flow != Flow::Vectors {
                    return settings
                        .refuse("flattens sequences, which is not supported; vectors [B, F] may be flattened");
                }
            }
            "GlobalAveragePooling1D" | "GlobalMaxPooling1D" => {
                if settings.take("data_format").is_some_and(|format| format != "channels_last") {
                    return settings.refuse("has another data_format than channels_last, which is not supported");
                }
                settings.off("keepdims")?;
                settings.done()?;
                let pool = match link.class {
                    "GlobalAveragePooling1D" => Pool::Mean,
                    // It looks at no mask.
                    _ if self.masked => Pool::MaxWithPadding,
                    _ => Pool::Max,
                };
                self.push(pool.into());
                self.flow = Flow::Vectors;
            }
            _ => return settings.refuse("is a layer that is not supported"),
        }
        Ok(())
    }

    fn input_layer(&mut self, of: String, link: &Link) -> Result<()> {
        // Its dtype is that of the data, not a policy of computation.
        let mut options = link.options.clone();
        let dtype = options.remove("dtype");
        let settings = LayerConfig::new(of, &options)?;
        let given = self.flow != Flow::Nothing;
        if !self.layers.is_empty() || !given {
            return settings.refuse("is no input of one known shape in front of all layers");
        }
        let dtype = dtype.as_ref().and_then(Value::as_str).unwrap_or("float32");
        let whole = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"];
        if dtype != "float32" && !(self.flow == Flow::Indices && whole.contains(&dtype)) {
            return settings
                .refuse(format!("has the dtype {dtype}; float32 is expected, or whole numbers for indices"));
        }
        for key in ["sparse", "ragged", "optional"] {
            settings.off(key)?;
        }
        settings.done()
    }

    /// Refuses layers where their kind of input is not.
    fn expect(&self, settings: &LayerConfig, class: &str) -> Result<()> {
        let expected = match class {
            "Embedding" => Some((Flow::Indices, "indices [B, T]")),
            "LSTM"
            | "GRU"
            | "SimpleRNN"
            | "CuDNNLSTM"
            | "CuDNNGRU"
            | "RNN"
            | "Bidirectional"
            | "Masking"
            | "GlobalAveragePooling1D"
            | "GlobalMaxPooling1D" => Some((Flow::Sequences, "sequences [B, T, F]")),
            _ => None,
        };
        match (self.flow, expected) {
            (Flow::Nothing, _) => settings.refuse("is the first layer, but the file gives no shape of the input"),
            (Flow::Indices, None) => settings.refuse("takes an input of shape [B, T]; only an Embedding does here"),
            (flow, Some((expected, words))) if flow != expected => settings.refuse(format!("must take {words}")),
            _ => Ok(()),
        }
    }

    /// Refuses layers that look at a mask but get another than the one that belongs to their input.
    fn check_mask(&self, settings: &LayerConfig, link: &Link) -> Result<()> {
        let looks =
            matches!(link.class, "LSTM" | "GRU" | "SimpleRNN" | "RNN" | "Bidirectional" | "GlobalAveragePooling1D");
        match link.masked.filter(|&masked| looks && masked != self.masked) {
            None => Ok(()),
            Some(true) => settings.refuse("is given a mask, but no layer below it makes one for its input"),
            Some(false) => {
                settings.refuse("is given no mask, though a layer below it makes one; that is not supported")
            }
        }
    }

    /// Refuses outputs in reversed time with a mask, which Keras leaves in the order of time: it then covers other steps.
    fn check_backwards(&self, settings: &LayerConfig, lstm: &Lstm, levels: usize) -> Result<()> {
        if self.masked && lstm.options.go_backwards && (lstm.return_sequences || levels > 1) {
            return settings
                .refuse("goes backwards through masked sequences and returns all of them, which is not supported");
        }
        Ok(())
    }

    fn hold(&mut self, link: &Link, sources: Vec<Source>) {
        self.holders.push(Holder { class: link.class.into(), name: Some(link.name.into()), sources });
    }

    fn push(&mut self, layer: Layer) {
        if layer.operator().ends_sequence() {
            (self.flow, self.masked) = (Flow::Vectors, false);
        }
        self.layers.push(layer);
    }

    fn dense(&mut self, link: &Link, settings: &LayerConfig, path: &str) -> Result<()> {
        let bias = settings.flag("use_bias", true)?;
        let activation = activation(settings, "activation", self.version.keras3)?;
        let dense = Dense::keras(settings.size("units")?).bias(bias).activation(activation);
        settings.done()?;
        self.hold(link, vec![Source::new(self.layers.len(), 0, "", path, Form::Dense)]);
        self.push(dense.into());
        Ok(())
    }

    /// An activation is part of the Dense below it; there is none by itself.
    fn activate(&mut self, settings: &LayerConfig, activation: Activation) -> Result<()> {
        match self.layers.last_mut() {
            _ if activation == Activation::Linear => Ok(()),
            Some(Layer::Dense(dense)) if dense.activation == Activation::Linear => {
                dense.activation = activation;
                Ok(())
            }
            _ => settings.refuse("does not follow a Dense without an activation, which is the only place supported"),
        }
    }

    fn bidirectional(&mut self, link: &Link, settings: &LayerConfig) -> Result<()> {
        let merge = match settings.take("merge_mode") {
            None if !link.options.contains_key("merge_mode") => Merge::Concat, // Keras's default
            None => return settings.refuse("has merge_mode = None, two outputs, which is not supported"),
            Some(mode) => match mode.as_str() {
                Some("concat") => Merge::Concat,
                Some("sum") => Merge::Sum,
                Some("mul") => Merge::Mul,
                Some("ave") => Merge::Ave,
                _ => return settings.refuse(format!("has merge_mode = {mode}, which is not supported")),
            },
        };
        let (class, options) = inner(settings, "layer")?;
        let back = settings.layer("backward_layer")?;
        settings.done()?;
        let direction = |way: &str, class: &str, options: &Map<String, Value>, backwards: bool| {
            let of = format!("the {way} {class} in Bidirectional \"{}\"", link.name);
            let mut options = options.clone();
            let runs = options.insert("go_backwards".into(), false.into());
            let settings = LayerConfig::new(of, &options)?;
            if !matches!(class, "LSTM" | "GRU" | "SimpleRNN" | "CuDNNLSTM" | "CuDNNGRU") {
                return settings.refuse("is not supported there; LSTM, GRU and SimpleRNN are");
            }
            if runs.is_some_and(|runs| runs != backwards) {
                return settings.refuse(format!("has go_backwards = {}, which is not supported", !backwards));
            }
            let unit = unit(&settings, class, self.version.keras3)?;
            let lstm = self.directions_options(&settings, unit.lstm)?;
            settings.done()?;
            if self.masked && class.starts_with("CuDNN") {
                return settings.refuse("gets masked sequences, which it does not take");
            }
            Ok((lstm, unit.form))
        };
        let (lstm, form) = direction("forward", class, options, false)?;
        if let Some((class, options)) = back
            && direction("backward", class, options, true)? != (lstm.clone(), form)
        {
            return settings.refuse("has a backward layer that differs from the forward layer, which is not supported");
        }
        let cell = if class.starts_with("CuDNN") { "" } else { "/cell" };
        let at = self.layers.len();
        self.hold(
            link,
            vec![
                Source::new(at, 0, "", format!("forward_layer{cell}"), form),
                Source::new(at, 0, "_reverse", format!("backward_layer{cell}"), form),
            ],
        );
        self.push(lstm.bidirectional(true).merge(merge).into());
        Ok(())
    }

    /// Cells within an RNN: each is a layer here.
    fn rnn(&mut self, link: &Link, settings: &LayerConfig) -> Result<()> {
        let (class, options) = inner(settings, "cell")?;
        let mut cells = Vec::new();
        if class == "StackedRNNCells" {
            let stack = LayerConfig::new(format!("StackedRNNCells in RNN \"{}\"", link.name), options)?;
            let all = stack.take("cells").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            stack.done()?;
            if all.len() > MOST {
                return stack.refuse(format!("has {} cells; at most {MOST} are read", all.len()));
            }
            let counted = |&class: &&str, before: &[(&str, &Map<String, Value>, String)]| {
                before.iter().filter(|(other, ..)| *other == class).count()
            };
            for cell in all {
                let Some((class, options)) = self::class(cell) else {
                    return stack.refuse("has cells without a class");
                };
                let count = match counted(&class, &cells) {
                    0 => String::new(),
                    count => format!("_{count}"),
                };
                cells.push((class, options, format!("cell/cells/{}{count}", super::weights::snake(class))));
            }
        } else {
            cells.push((class, options, "cell".to_string()));
        }
        if cells.is_empty() {
            return settings.refuse("has no cells");
        }
        let mut layers = Vec::new();
        let mut sources = Vec::new();
        for (k, (class, options, path)) in cells.iter().enumerate() {
            let below = LayerConfig::new(format!("the {class} in RNN \"{}\"", link.name), options)?;
            let kind = match *class {
                "LSTMCell" => "LSTM",
                "GRUCell" => "GRU",
                "SimpleRNNCell" => "SimpleRNN",
                _ => return below.refuse("is not supported there; LSTMCell, GRUCell and SimpleRNNCell are"),
            };
            let unit = unit(&below, kind, self.version.keras3)?;
            below.done()?;
            sources.push(Source::new(self.layers.len() + k, 0, "", path.clone(), unit.form));
            layers.push(unit.lstm.return_sequences(true));
        }
        // The first cell sees time backwards; those above get its outputs in that order.
        let (first, last) = (0, layers.len() - 1);
        let around = self.sequence_options(settings, layers[last].clone())?;
        settings.done()?;
        self.check_backwards(settings, &around, layers.len())?;
        let repeats = around.options.repeat_output;
        layers[last] = layers[last].clone().return_sequences(around.return_sequences).repeat_output(repeats);
        layers[first] = layers[first].clone().go_backwards(around.options.go_backwards);
        self.hold(link, sources);
        layers.into_iter().for_each(|lstm| self.push(lstm.into()));
        Ok(())
    }

    /// Applies the options of a layer around its cell; in masked steps Keras repeats the last output, or gives 0 if it is asked to.
    fn sequence_options(&self, settings: &LayerConfig, lstm: Lstm) -> Result<Lstm> {
        let lstm = sequence_options(settings, lstm)?;
        let zeros = settings.flag("zero_output_for_mask", false)?;
        if !self.masked {
            return Ok(lstm);
        }
        if zeros && !lstm.return_sequences && !lstm.options.go_backwards {
            return settings.refuse(
                "has zero_output_for_mask = true without return_sequences: of a sequence that is padded Keras then gives 0, not the \
                 output of its last step; save the model with zero_output_for_mask = false",
            );
        }
        let repeats = lstm.return_sequences && !zeros;
        Ok(lstm.repeat_output(repeats))
    }

    /// The same for a layer within a Bidirectional.
    fn directions_options(&self, settings: &LayerConfig, lstm: Lstm) -> Result<Lstm> {
        let lstm = sequence_options(settings, lstm)?;
        settings.flag("zero_output_for_mask", false)?;
        if self.masked && lstm.return_sequences && settings.flag("unroll", false)? {
            return settings.refuse(
                "has unroll = true and gets masked sequences: Keras then masks other steps of the backward layer; save the model with \
                 unroll = false",
            );
        }
        let repeats = self.masked && lstm.return_sequences && !self.version.bidirectional_zeros;
        Ok(lstm.repeat_output(repeats))
    }
}

/// The layer that a layer wraps.
fn inner<'a>(settings: &LayerConfig<'a>, key: &'a str) -> Result<(&'a str, &'a Map<String, Value>)> {
    match settings.layer(key)? {
        Some(layer) => Ok(layer),
        None => settings.refuse(format!("lacks its {key}")),
    }
}

/// Units, activations, biases and dropout of an LSTM, GRU or SimpleRNN.
fn unit(settings: &LayerConfig, class: &str, keras3: bool) -> Result<Unit> {
    let units = settings.size("units")?;
    let cudnn = class.starts_with("CuDNN");
    let bias = cudnn || settings.flag("use_bias", true)?;
    let single = if bias { Bias::Single } else { Bias::None };
    let activation = if cudnn { Activation::Tanh } else { self::activation(settings, "activation", keras3)? };
    // A SimpleRNN has no gate.
    let gate = match class {
        "SimpleRNN" | "CuDNNLSTM" | "CuDNNGRU" => Activation::Sigmoid,
        _ => self::activation(settings, "recurrent_activation", keras3)?,
    };
    let (lstm, form) = if class == "SimpleRNN" {
        (Rnn::keras(units).bias(single).into(), Form::Rnn)
    } else if class.ends_with("LSTM") {
        let forget = settings.flag("unit_forget_bias", true)?;
        (Lstm::keras(units).bias(single).unit_forget_bias(forget), Form::Lstm)
    } else {
        // Files older than the option have a reset gate before the product.
        let after = cudnn || settings.flag("reset_after", false)?;
        let (two, form) = if after { (Bias::Double, Form::Gru) } else { (Bias::Single, Form::GruResetBefore) };
        (Gru::keras(units).reset_after(after).bias(if bias { two } else { Bias::None }).into(), form)
    };
    let lstm = if form == Form::Lstm { lstm.output_activation(activation) } else { lstm };
    let lstm = lstm
        .candidate_activation(activation)
        .gate_activation(gate)
        .input_dropout(settings.number("dropout", 0.0)?)
        .recurrent_dropout(settings.number("recurrent_dropout", 0.0)?);
    Ok(Unit { lstm, form })
}

/// Applies the options of a layer around its cell.
fn sequence_options(settings: &LayerConfig, lstm: Lstm) -> Result<Lstm> {
    for key in ["return_state", "time_major"] {
        settings.off(key)?;
    }
    if settings.flag("stateful", false)? {
        return settings.refuse(
            "has stateful = true, which a file cannot ask for here; save it with stateful = false and use Model::stream",
        );
    }
    let lstm = lstm.return_sequences(settings.flag("return_sequences", false)?);
    Ok(lstm.go_backwards(settings.flag("go_backwards", false)?))
}

/// An activation by Keras's name.
fn activation(settings: &LayerConfig, key: &'static str, keras3: bool) -> Result<Activation> {
    let Some(value) = settings.take(key) else {
        return settings.refuse(format!("lacks its {key}"));
    };
    // Keras 3 writes a plain function by its name, or as {class_name: "function", config: name}.
    let name = value.as_str().or_else(|| {
        let function = value.get("class_name").and_then(Value::as_str) == Some("function");
        let builtin = value.get("registered_name").is_none_or(|name| name.is_null() || name == "function");
        value.get("config")?.as_str().filter(|_| function && builtin)
    });
    Ok(match name {
        Some("linear") => Activation::Linear,
        Some("relu") => Activation::Relu,
        Some("sigmoid") => Activation::Sigmoid,
        Some("tanh") => Activation::Tanh,
        Some("hard_sigmoid") if keras3 => Activation::KERAS_HARD_SIGMOID,
        Some("hard_sigmoid") => Activation::KERAS2_HARD_SIGMOID,
        Some("softsign") => Activation::Softsign,
        Some("softplus") => Activation::Softplus,
        Some("softmax") => Activation::Softmax,
        Some("log_softmax") => Activation::LogSoftmax,
        Some("elu") => Activation::Elu { alpha: 1.0 },
        Some("leaky_relu") if keras3 => Activation::LeakyRelu { alpha: 0.2 },
        _ => return settings.refuse(format!("has {key} = {value}, which is not supported")),
    })
}
