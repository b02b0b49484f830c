//! Convolution along time, as products of the input at each tap of the kernel.

use super::Init;
use super::activation::{apply, apply_backward};
use super::operator::{Inputs, Operator, Output, Place, Site, StateSlot, Time, Trace, Upstream};
use super::padding::{Padding, Windows};
use super::shift::{TimeShift, shift};
use super::taps::{Part, Taps, clear};
use super::tensor::{DeviceTensor, Initial, Layout, Parameter};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::kernel::{self, NoConstants, RowShift, ShiftLimit};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// A convolution along time: `y[t]` = activation(Σ_k W_k · `x[t · stride + k · dilation − padding]` + b), from [B, T, I] to
/// [B, T', filters], where [`Padding`] says how many steps T' are. As
/// [`torch.nn.Conv1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html) (which has the time axis last) and [Keras's
/// Conv1D](https://keras.io/api/layers/convolution_layers/convolution1d/). Parameters `weight` [filters, I / groups, size] and `bias`
/// `[filters]`.
///
/// A causal convolution without a stride can stream: its state is the last (size − 1) · dilation steps of its input. Where sequences
/// have lengths, each has the steps that it has alone.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Activation, Conv1d, Dense, Device, Lstm, Padding, Sequential, WindowPool};
/// let conv = Conv1d::new(8, 5).activation(Activation::Relu);
/// let model = Sequential::new(3).add(conv).add(WindowPool::max(2)).add(Lstm::new(16)).add(Dense::new(2));
/// let model = model.build(&Device::cpu(), 0)?;
/// assert_eq!(model.predict(Array3::zeros((4, 20, 3)).view())?.shape(), [4, 2]);
///
/// let causal = Conv1d::new(8, 3).padding(Padding::Causal).dilation(2);
/// let mut stream = Sequential::new(3).add(causal).build(&Device::cpu(), 0)?.stream(1)?;
/// assert_eq!(stream.feed(Array3::ones((1, 1, 3)).view())?.shape(), [1, 1, 8]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv1d {
    pub(crate) filters: usize,
    pub(crate) size: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
    pub(crate) padding: Padding,
    pub(crate) bias: bool,
    pub(crate) activation: Activation,
    pub(crate) init: Init,
}

impl Conv1d {
    /// `filters` output features from kernels of `size` steps, with a bias, without padding, stride, dilation or activation,
    /// initialised as PyTorch does (weights and biases uniform in ±1/√(size · I / groups)).
    pub fn new(filters: usize, size: usize) -> Conv1d {
        Conv1d {
            filters,
            size,
            stride: 1,
            dilation: 1,
            groups: 1,
            padding: Padding::Valid,
            bias: true,
            activation: Activation::Linear,
            init: Init::PyTorch,
        }
    }

    /// The same, initialised as Keras does (Glorot uniform, with fans of size · I / groups and size · filters; bias 0).
    pub fn keras(filters: usize, size: usize) -> Conv1d {
        Conv1d { init: Init::Keras, ..Conv1d::new(filters, size) }
    }

    /// Padding at the ends. None by default.
    pub fn padding(self, padding: Padding) -> Conv1d {
        Conv1d { padding, ..self }
    }

    /// Steps from one output step to the next. 1 by default.
    pub fn stride(self, stride: usize) -> Conv1d {
        Conv1d { stride, ..self }
    }

    /// Steps between the taps of the kernel. 1 by default.
    pub fn dilation(self, dilation: usize) -> Conv1d {
        Conv1d { dilation, ..self }
    }

    /// Groups of input features and of filters, each of which is convolved by itself. 1 by default. Each group is a product of its
    /// own, so that many of them are slow.
    pub fn groups(self, groups: usize) -> Conv1d {
        Conv1d { groups, ..self }
    }

    /// Adds a bias (the default), or none.
    pub fn bias(self, bias: bool) -> Conv1d {
        Conv1d { bias, ..self }
    }

    /// Activation of the sum. Linear by default.
    pub fn activation(self, activation: Activation) -> Conv1d {
        Conv1d { activation, ..self }
    }

    /// Initial weights.
    pub fn init(self, init: Init) -> Conv1d {
        Conv1d { init, ..self }
    }

    /// Output features.
    pub fn filters(&self) -> usize {
        self.filters
    }

    /// Taps of the kernel.
    pub fn size(&self) -> usize {
        self.size
    }

    fn windows(&self) -> Windows {
        let reach = (self.size.saturating_sub(1)).saturating_mul(self.dilation).saturating_add(1);
        Windows { reach, stride: self.stride, padding: self.padding }
    }

    /// The taps of a kernel over `steps` steps.
    fn taps(&self, site: &Site, steps: u32) -> Taps {
        Taps {
            count: self.size as u32,
            stride: self.stride as u32,
            dilation: self.dilation as u32,
            left: self.windows().left(steps),
            batch: site.batch,
            input: site.input() as u32,
            output: self.filters as u32,
            groups: self.groups as u32,
        }
    }

    /// Steps of the tail that a causal convolution carries on; 0 if it carries none.
    fn tail(&self) -> usize {
        if self.windows().is_causal() { self.windows().reach - 1 } else { 0 }
    }

    /// True if the input is copied to a padded sequence, since rows have ends of their own.
    fn pads_rows(&self, site: &Site) -> bool {
        let pads = match self.padding {
            Padding::Valid | Padding::Causal => false,
            Padding::Same => self.windows().reach > 1,
            Padding::Both(padding) => padding > 0,
        };
        site.ragged && pads
    }

    /// The shift from the input to the padded sequence, or back.
    fn shift(&self, site: &Site, back: bool) -> TimeShift {
        let Windows { reach, stride, .. } = self.windows();
        let (sign, limit) = if back { (1, ShiftLimit::Destination) } else { (-1, ShiftLimit::Source) };
        let (row, shift) = match self.padding {
            Padding::Both(padding) => (RowShift::None, sign * padding as i32),
            _ => (RowShift::Same, 0),
        };
        TimeShift { shift, by_row: sign, limit, windows: [reach as u32, stride as u32], ..TimeShift::of(site, row) }
    }
}

impl Operator for Conv1d {
    fn kind(&self) -> &'static str {
        "conv1d"
    }

    fn describe(&self) -> String {
        let mut text = format!("Conv1d({}, {}{}", self.filters, self.size, self.windows().describe(1));
        for (what, value) in [("dilation", self.dilation), ("groups", self.groups)] {
            if value != 1 {
                text += &format!(", {what} {value}");
            }
        }
        text + &format!(", {})", self.activation.to_string().to_lowercase())
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        self.activation.validate(&format!("{name}: the activation"))?;
        let input = inputs[0];
        size("the number of input features", input)?;
        size(&format!("{name}: the number of filters"), self.filters)?;
        size(&format!("{name}: the size of the kernel"), self.size)?;
        size(&format!("{name}: the dilation"), self.dilation)?;
        self.windows().validate(name)?;
        size(&format!("{name}: the number of groups"), self.groups)?;
        if !input.is_multiple_of(self.groups) || !self.filters.is_multiple_of(self.groups) {
            return Err(Error::Config(format!(
                "{name}: {input} input features and {} filters cannot be cut into {} groups; both must be multiples of that",
                self.filters, self.groups
            )));
        }
        let weights = [self.filters, input / self.groups, self.size];
        let count = weights.iter().try_fold(1usize, |count, &size| count.checked_mul(size)).unwrap_or(usize::MAX);
        size(&format!("{name}: the number of weights"), count)?;
        size(&format!("{name}: the elements of a row's tail"), self.windows().reach.saturating_mul(input)).map(drop)
    }

    fn output(&self, _: &[usize]) -> usize {
        self.filters
    }

    fn time(&self) -> Time {
        self.windows().time()
    }

    fn output_steps(&self, steps: usize) -> usize {
        self.windows().output_steps(steps)
    }

    fn takes_sequence(&self) -> bool {
        true
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        (!self.windows().is_causal()).then_some("convolves windows that are not causal, or by a stride")
    }

    fn output_activation(&self) -> Option<Activation> {
        Some(self.activation)
    }

    /// Weight [filters, input / groups, size] and bias `[filters]`, whose tensor is empty if there is none.
    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let own = inputs[0] / self.groups.max(1);
        let (fan_in, fan_out) = (own * self.size, self.filters * self.size);
        let [of_weight, of_bias] = match self.init {
            Init::PyTorch => [(); 2].map(|()| Initial::Uniform(1.0 / (fan_in as f64).sqrt())),
            Init::Keras => [Initial::Glorot { fan_in, fan_out }, Initial::Constant(0.0)],
        };
        let (name, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let shape = vec![self.filters, own, self.size];
        let weight = Parameter { name: name.clone(), shape, layout: Layout::Taps, initial: of_weight };
        vec![
            DeviceTensor::new(name, vec![weight]),
            match self.bias {
                true => DeviceTensor::plain(bias, vec![self.filters], of_bias),
                false => DeviceTensor::new(bias, Vec::new()),
            },
        ]
    }

    fn depth(&self) -> usize {
        1
    }

    /// The tail: the last steps of the input, [(size − 1) · dilation, B, input].
    fn states(&self, inputs: &[usize]) -> Vec<StateSlot> {
        let planes = self.tail();
        let slot =
            StateSlot { layer: 0, name: "tail", planes, directions: 1, features: planes * inputs[0], repeats_h: false };
        if planes == 0 { Vec::new() } else { vec![slot] }
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input().max(self.filters))])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, start }: Inputs) -> Result<Output> {
        let (x, features) = (&x[0], self.filters as u32);
        plan.section(format!("{} forward", site.name));
        let steps = size(&format!("the number of output steps of {}", site.name), self.output_steps(x.steps as usize))?;
        let y = plan.sequence(&format!("{}.y", site.name), [steps, site.batch, features], 0, Role::Scratch)?;
        let (read, taps) = match self.pads_rows(site) {
            true => {
                let steps =
                    size("the number of padded steps", (steps as usize - 1) * self.stride + self.windows().reach)?;
                let shape = [steps, site.batch, x.features];
                let padded = plan.sequence(&format!("{}.padded", site.name), shape, 0, Role::Scratch)?;
                shift(plan, site, (x, 0), (&padded, 0), self.shift(site, false))?;
                (padded, Taps { left: 0, ..self.taps(site, x.steps) })
            }
            false => (x.clone(), self.taps(site, x.steps)),
        };
        let tail = match start.first() {
            Some(&place) => Some(self.first_tail(plan, site, place)?),
            None => None,
        };
        let parts = taps.parts(&y, &read, tail.as_ref());
        for Part { range, taken } in &parts {
            let (into, c_offset) = y.at(range.start);
            for (index, from) in taken.iter().enumerate() {
                taps.forward(plan, from, weights[0], (into, c_offset), index > 0);
            }
            if taken.is_empty() {
                plan.fill(into, c_offset..c_offset + range.len() as u32 * y.step, 0.0);
            }
        }
        for chunk in 0..y.chunks.len() {
            let range = y.chunk_range(chunk);
            let bias = self.bias.then_some(weights[1]);
            apply(plan, self.activation, bias, [range.len() as u32 * site.batch, features], y.at(range.start));
        }
        let after = match &tail {
            Some(tail) => Some(self.next_tail(plan, site, x, tail)?),
            None => None,
        };
        Ok(Output::new(y.clone(), Convolved { layer: self.clone(), steps: x.steps, read, y, taps, tail, after }))
    }
}

impl Conv1d {
    /// The tail before the first step; for training a copy, since the states of a batch are overwritten before its backward pass.
    fn first_tail(&self, plan: &mut Builder, site: &Site, start: Place) -> Result<Sequence> {
        let tail = tail_of(start, self.tail() as u32, site);
        if !site.train {
            return Ok(tail);
        }
        let len = tail.steps * tail.step;
        let copy = plan.buffer(format!("{}.tail before", site.name), len.into(), Role::Scratch)?;
        plan.copy_run(len, start, (copy, 0));
        Ok(tail_of((copy, 0), tail.steps, site))
    }

    /// Copies the last steps of the tail and the input to a buffer.
    fn next_tail(&self, plan: &mut Builder, site: &Site, x: &Sequence, tail: &Sequence) -> Result<BufferId> {
        let planes = tail.steps as i32;
        let after = plan.buffer(format!("{}.tail after", site.name), (tail.steps * tail.step).into(), Role::Scratch)?;
        let by = TimeShift { shift: -planes, ..TimeShift::of(site, RowShift::Length) };
        let into = tail_of((after, 0), tail.steps, site);
        shift(plan, site, (tail, -planes), (&into, 0), by)?;
        shift(plan, site, (x, 0), (&into, 0), TimeShift { add: true, ..by })?;
        Ok(after)
    }
}

/// A tail as a sequence of `planes` steps.
fn tail_of((buffer, lead): Place, planes: u32, site: &Site) -> Sequence {
    let features = site.input() as u32;
    let step = site.batch * features;
    Sequence { chunks: vec![buffer], steps: planes, chunk_steps: planes, lead, step, row: features, features }
}

struct Convolved {
    layer: Conv1d,
    /// T of the input.
    steps: u32,
    /// The input, or a padded copy of it.
    read: Sequence,
    y: Sequence,
    taps: Taps,
    /// The tail before the first step, if there may be one.
    tail: Option<Sequence>,
    /// The tail after the last step.
    after: Option<BufferId>,
}

impl Trace for Convolved {
    /// Computes dW, db and, if the caller needs them, dx and the gradient of the tail. `dy` is overwritten with the gradient before
    /// the activation.
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>> {
        let Upstream { dy, weights, gradients, wants_dx, states } = upstream;
        let (layer, y) = (&self.layer, &self.y);
        plan.section(format!("{} backward", site.name));
        for chunk in 0..y.chunks.len() {
            let range = y.chunk_range(chunk);
            let (rows, columns) = (range.len() as u32 * site.batch, y.features);
            let (to, a_offset) = dy.at(range.start);
            apply_backward(plan, layer.activation, [rows, columns], y.at(range.start), (to, a_offset));
            if layer.bias {
                let accumulate = (chunk > 0 || plan.adds()) as u32;
                let params = kernel::ColumnSum { rows, columns, a_offset, out_offset: 0, copies: 1, accumulate };
                plan.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[to, gradients[1]]);
            }
        }
        self.weight_gradient(plan, dy, gradients[0]);
        let carried = states.and_then(|states| Some((*states.finals.first()?, *states.initials.first()?)));
        if !wants_dx && carried.is_none() {
            return Ok(Vec::new());
        }
        let shape = [self.read.steps, site.batch, self.read.features];
        let d_read = plan.sequence(&format!("{}.dx", site.name), shape, 0, Role::Scratch)?;
        let d_tail = match (&self.tail, carried) {
            (Some(tail), Some(_)) => {
                let len = tail.steps * tail.step;
                let buffer = plan.buffer(format!("{}.dtail before", site.name), len.into(), Role::Scratch)?;
                Some(tail_of((buffer, 0), tail.steps, site))
            }
            _ => None,
        };
        for into in std::iter::once(&d_read).chain(&d_tail) {
            clear(plan, into);
        }
        for Part { range, taken } in self.taps.parts(y, &d_read, d_tail.as_ref()) {
            for into in &taken {
                self.taps.backward(plan, into, weights[0], dy.at(range.start));
            }
        }
        if let (Some(d_tail), Some((last, first))) = (&d_tail, carried) {
            let (from, planes) = (tail_of((last, 0), d_tail.steps, site), d_tail.steps as i32);
            let by = TimeShift { shift: planes, by_row: -1, add: true, ..TimeShift::of(site, RowShift::Length) };
            shift(plan, site, (&from, 0), (&d_read, 0), by)?;
            shift(plan, site, (&from, 0), (d_tail, -planes), by)?;
            // The gradients after and before may share a buffer, which has been read by now.
            plan.copy_run(d_tail.steps * d_tail.step, d_tail.at(0), (first, 0));
        }
        if !layer.pads_rows(site) {
            return Ok(vec![d_read]);
        }
        let shape = [self.steps, site.batch, d_read.features];
        let dx = plan.sequence(&format!("{}.dx of rows", site.name), shape, 0, Role::Scratch)?;
        shift(plan, site, (&d_read, 0), (&dx, 0), layer.shift(site, true))?;
        Ok(vec![dx])
    }

    fn final_states(&self) -> Vec<Place> {
        self.after.iter().map(|&buffer| (buffer, 0)).collect()
    }
}

impl Convolved {
    /// Computes dW, a tap after the other.
    fn weight_gradient(&self, plan: &mut Builder, dy: &Sequence, gradient: BufferId) {
        let taps = &self.taps;
        let mut begun = vec![plan.adds(); taps.count as usize];
        for Part { range, taken } in taps.parts(&self.y, &self.read, self.tail.as_ref()) {
            for from in &taken {
                let accumulate = std::mem::replace(&mut begun[from.tap as usize], true);
                taps.weight_gradient(plan, from, dy.at(range.start), gradient, accumulate);
            }
        }
        for (tap, _) in (0..).zip(begun).filter(|&(_, begun)| !begun) {
            // A tap that reads nothing but padding.
            let len = taps.weights();
            plan.fill(gradient, tap * len..(tap + 1) * len, 0.0);
        }
    }
}
