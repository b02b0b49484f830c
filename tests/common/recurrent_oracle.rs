//! Naive f64 recurrent layers (LSTM with all its options, layer-norm LSTM, GRU, the article's cell, plain RNN, minLSTM, sLSTM), written straight
//! from the equations with plain vectors and indexing loops.
//!
//! Like the older `oracle.rs`, it exists to check the crate against, so it shares no code with it and makes no attempt
//! to be fast. Every array is row-major. Gradients come from `oracle::central_differences`.
//!
//! Sizes: `B` batch, `T` time steps, `I` input features, `H` hidden units, `L` layers, `D` directions (1 or 2), `P`
//! projected size, `K` width of the recurrent state h (`P` with a projection, else `H`).
#![allow(dead_code)]
#![allow(clippy::needless_range_loop)]

use std::collections::BTreeMap;

/// Equations of a time step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecurrentCell {
    /// Gate rows i, f, g, o. Peepholes and projection where `params` has them.
    Lstm,
    /// The same with layer normalisation of both products and of c on its way to h.
    LayerNormLstm,
    /// Gate rows r, z, n; the reset gate acts on the recurrent product.
    GruResetAfter,
    /// The reset gate acts on h' before the recurrent product.
    GruResetBefore,
    /// The article's LSTM; gate rows i, f, g, o.
    Article,
    /// nn.RNN; one gate row.
    Rnn,
    /// Gate rows i, f, candidate; no recurrent weights.
    MinLstm,
    /// Gate rows i, f, z, o; c stands for c, n, m.
    SLstm,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActivationKind {
    Sigmoid,
    Tanh,
    Relu,
    HardSigmoid,
    Softsign,
    Softplus,
    Elu,
    LeakyRelu,
    ThresholdedRelu,
    Affine,
    ScaledTanh,
}

/// An activation by ONNX's name, with its two numbers (whatever they are where it has none).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OracleActivation {
    pub kind: ActivationKind,
    pub alpha: f64,
    pub beta: f64,
}

/// Combination of the two directions' outputs in the top layer. Between layers they are concatenated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OracleMerge {
    Concat,
    Sum,
    Mul,
    Ave,
}

/// A stack of recurrent layers.
#[derive(Clone, Debug)]
pub struct RecurrentOracle {
    pub cell: RecurrentCell,
    /// `I`
    pub input: usize,
    /// `H`
    pub hidden: usize,
    /// `L`
    pub layers: usize,
    /// `D`, 1 or 2. Direction 1 runs backward in time.
    pub directions: usize,
    /// Groups of units that do not see each other: `weight_hh` is then [heads, G*H/heads, H/heads].
    pub heads: usize,
    /// `P`, 0 where there is none.
    pub projection: usize,
    /// f = 1 - i.
    pub coupled: bool,
    /// Bounds every gate's sum to ± this; 0 where there is none.
    pub clip: f64,
    /// Bounds c to ± this; 0 where there is none.
    pub cell_clip: f64,
    pub gate: OracleActivation,
    pub candidate: OracleActivation,
    pub output_activation: OracleActivation,
    /// With `D` = 1: every layer runs backward in time.
    pub go_backwards: bool,
    /// With `go_backwards`: the result's `output` is in the order of the visits (last valid step first) as Keras has
    /// it, instead of the input's order as ONNX has it. Layers read each other in the input's order either way.
    pub visiting_order: bool,
    /// The output past a row's length is the state that the direction has there, instead of 0.
    pub repeat_output: bool,
    pub merge: OracleMerge,
    /// Zoneout's probability for h at inference.
    pub zoneout_h: f64,
    /// Zoneout's probability for c at inference.
    pub zoneout_c: f64,
    /// By name: `weight_ih_l0`, `weight_hh_l0_reverse` and so on. Biases and peepholes may be absent.
    pub params: BTreeMap<String, Vec<f64>>,
}

/// The inputs of one run. Empty vectors stand for what is not there.
#[derive(Clone, Debug, Default)]
pub struct OracleRun {
    /// `[B, T, I]`
    pub x: Vec<f64>,
    pub b: usize,
    pub t: usize,
    /// `[L*D, B, K]`; empty: zeros.
    pub h_0: Vec<f64>,
    /// `[L*D, B, H]`; empty: zeros. GRUs have none. For an sLSTM `[L*3*D, B, H]`: of each layer c, n, m.
    pub c_0: Vec<f64>,
    /// `[B]`, each 0 to `T`; empty: `T` for all.
    pub lengths: Vec<usize>,

    // What training multiplies by; each is drawn by the caller and holds whatever scale belongs to it.
    /// `[B, I]` on x, the same at all steps.
    pub input_mask: Vec<f64>,
    /// `L*D` entries `[B, K]` on h' where it enters the recurrent product, and there only.
    pub recurrent_masks: Vec<Vec<f64>>,
    /// `L-1` entries `[B, T, D*K]` on the output of each layer but the last, as the next one reads it.
    pub between_masks: Vec<Vec<f64>>,
    /// `L*D` entries of the shape of `weight_hh` on it.
    pub weight_masks: Vec<Vec<f64>>,
    /// `L*D` entries `[T, B, K]`, by the step's place in the input: 1 keeps the old h, 0 takes the new one. Used in
    /// place of `zoneout_h`.
    pub zoneout_keep_h: Vec<Vec<f64>>,
    /// `L*D` entries `[T, B, H]`: the same for c.
    pub zoneout_keep_c: Vec<Vec<f64>>,
}

/// Result of [`RecurrentOracle::forward`].
#[derive(Clone, Debug)]
pub struct OracleResult {
    /// `[B, T, D*K]`, or `[B, T, K]` merged otherwise than by concatenation. Zeros past a row's length, unless
    /// they are repeated.
    pub output: Vec<f64>,
    /// `[L*D, B, K]`: after each direction's last step; the initial state where there was no step.
    pub h_n: Vec<f64>,
    /// `[L*D, B, H]`; empty for GRUs.
    pub c_n: Vec<f64>,
}

impl OracleActivation {
    pub fn new(kind: ActivationKind, alpha: f64, beta: f64) -> OracleActivation {
        OracleActivation { kind, alpha, beta }
    }

    /// From "Name,alpha,beta", as the fixtures' metadata has it.
    pub fn parse(text: &str) -> OracleActivation {
        let parts: Vec<&str> = text.split(',').collect();
        assert_eq!(parts.len(), 3, "{text}: not Name,alpha,beta");
        let kind = match parts[0] {
            "Sigmoid" => ActivationKind::Sigmoid,
            "Tanh" => ActivationKind::Tanh,
            "Relu" => ActivationKind::Relu,
            "HardSigmoid" => ActivationKind::HardSigmoid,
            "Softsign" => ActivationKind::Softsign,
            "Softplus" => ActivationKind::Softplus,
            "Elu" => ActivationKind::Elu,
            "LeakyRelu" => ActivationKind::LeakyRelu,
            "ThresholdedRelu" => ActivationKind::ThresholdedRelu,
            "Affine" => ActivationKind::Affine,
            "ScaledTanh" => ActivationKind::ScaledTanh,
            other => panic!("no activation is called {other}"),
        };
        OracleActivation { kind, alpha: parts[1].parse().unwrap(), beta: parts[2].parse().unwrap() }
    }

    pub fn apply(self, x: f64) -> f64 {
        let OracleActivation { kind, alpha, beta } = self;
        match kind {
            ActivationKind::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            ActivationKind::Tanh => x.tanh(),
            ActivationKind::Relu => x.max(0.0),
            ActivationKind::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
            ActivationKind::Softsign => x / (1.0 + x.abs()),
            // ln(1 + e^x), which must not overflow for large x.
            ActivationKind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            ActivationKind::Elu => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x.exp_m1()
                }
            }
            ActivationKind::LeakyRelu => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x
                }
            }
            ActivationKind::ThresholdedRelu => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            ActivationKind::Affine => alpha * x + beta,
            ActivationKind::ScaledTanh => alpha * (beta * x).tanh(),
        }
    }
}

impl RecurrentOracle {
    /// One layer, one direction, the usual activations, no options and no parameters yet.
    pub fn new(cell: RecurrentCell, input: usize, hidden: usize) -> RecurrentOracle {
        let sigmoid = OracleActivation::new(ActivationKind::Sigmoid, 0.0, 0.0);
        let tanh = OracleActivation::new(ActivationKind::Tanh, 0.0, 0.0);
        RecurrentOracle {
            cell,
            input,
            hidden,
            layers: 1,
            directions: 1,
            heads: 1,
            projection: 0,
            coupled: false,
            clip: 0.0,
            cell_clip: 0.0,
            gate: sigmoid,
            candidate: tanh,
            output_activation: tanh,
            go_backwards: false,
            visiting_order: false,
            repeat_output: false,
            merge: OracleMerge::Concat,
            zoneout_h: 0.0,
            zoneout_c: 0.0,
            params: BTreeMap::new(),
        }
    }

    /// `K`
    pub fn width(&self) -> usize {
        if self.projection > 0 { self.projection } else { self.hidden }
    }

    pub fn has_c(&self) -> bool {
        self.planes() > 0
    }

    /// States of a unit beside h.
    pub fn planes(&self) -> usize {
        match self.cell {
            RecurrentCell::Lstm | RecurrentCell::LayerNormLstm | RecurrentCell::Article => 1,
            RecurrentCell::SLstm => 3,
            RecurrentCell::GruResetAfter | RecurrentCell::GruResetBefore => 0,
            RecurrentCell::Rnn | RecurrentCell::MinLstm => 0,
        }
    }

    /// Number of gates that the rows of the weights are stacked of.
    pub fn gates(&self) -> usize {
        match self.cell {
            RecurrentCell::Rnn => 1,
            RecurrentCell::GruResetAfter | RecurrentCell::GruResetBefore | RecurrentCell::MinLstm => 3,
            _ => 4,
        }
    }

    /// Runs the whole stack.
    pub fn forward(&self, run: &OracleRun) -> OracleResult {
        let (b, t, hidden, width) = (run.b, run.t, self.hidden, self.width());
        let both = self.directions * width;
        let states = self.layers * self.directions;
        let c_width = self.planes() * hidden;
        self.check(run);

        let lengths = if run.lengths.is_empty() { vec![t; b] } else { run.lengths.clone() };
        let mut h_n = if run.h_0.is_empty() { vec![0.0; states * b * width] } else { run.h_0.clone() };
        let mut c_n = if run.c_0.is_empty() { vec![0.0; states * b * c_width] } else { run.c_0.clone() };

        // What the current layer reads: x for the first layer, then the output of the layer below.
        let mut layer_input = run.x.clone(); // [B, T, features]
        let mut features = self.input;
        if !run.input_mask.is_empty() {
            for sample in 0..b {
                for time in 0..t {
                    for k in 0..features {
                        layer_input[(sample * t + time) * features + k] *= run.input_mask[sample * features + k];
                    }
                }
            }
        }

        for layer in 0..self.layers {
            let mut layer_output = vec![0.0; b * t * both]; // [B, T, D*K]

            for direction in 0..self.directions {
                let index = layer * self.directions + direction;
                let weights = self.weights(layer, direction, features, entry(&run.weight_masks, index));
                let backward = direction == 1 || self.go_backwards;

                for sample in 0..b {
                    let at_h = (index * b + sample) * width;
                    // Where unit k of all planes' units lies: planes come before directions.
                    let at_c = |k: usize| {
                        let (plane, unit) = (k / hidden, k % hidden);
                        let slot = (layer * self.planes() + plane) * self.directions + direction;
                        (slot * b + sample) * hidden + unit
                    };
                    let mut h = h_n[at_h..at_h + width].to_vec();
                    let mut c: Vec<f64> = (0..c_width).map(|k| c_n[at_c(k)]).collect();

                    for n in 0..lengths[sample] {
                        // A backward direction visits length-1, ..., 1, 0.
                        let time = if backward { lengths[sample] - 1 - n } else { n };

                        let from = (sample * t + time) * features;
                        let x_t = &layer_input[from..from + features];
                        let mut h_in = h.clone();
                        if let Some(mask) = entry(&run.recurrent_masks, index) {
                            for k in 0..width {
                                h_in[k] *= mask[sample * width + k];
                            }
                        }
                        let (h_new, c_new) = self.step(&weights, x_t, &h, &h_in, &c);

                        for k in 0..width {
                            let keep = entry(&run.zoneout_keep_h, index)
                                .map_or(self.zoneout_h, |keep| keep[(time * b + sample) * width + k]);
                            h[k] = keep * h[k] + (1.0 - keep) * h_new[k];
                        }
                        for k in 0..c_width {
                            let keep = entry(&run.zoneout_keep_c, index)
                                .map_or(self.zoneout_c, |keep| keep[(time * b + sample) * hidden + k]);
                            c[k] = keep * c[k] + (1.0 - keep) * c_new[k];
                        }

                        let to = (sample * t + time) * both + direction * width;
                        layer_output[to..to + width].copy_from_slice(&h);
                    }

                    if self.repeat_output && layer + 1 == self.layers {
                        // A backward direction comes by here before its first step.
                        let there = if backward { h_n[at_h..at_h + width].to_vec() } else { h.clone() };
                        for time in lengths[sample]..t {
                            let to = (sample * t + time) * both + direction * width;
                            layer_output[to..to + width].copy_from_slice(&there);
                        }
                    }
                    h_n[at_h..at_h + width].copy_from_slice(&h);
                    for k in 0..c_width {
                        c_n[at_c(k)] = c[k];
                    }
                }
            }

            if layer + 1 < self.layers
                && let Some(mask) = entry(&run.between_masks, layer)
            {
                for k in 0..layer_output.len() {
                    layer_output[k] *= mask[k];
                }
            }
            layer_input = layer_output;
            features = both;
        }

        let mut output = layer_input;
        if self.visiting_order {
            output = turned(&output, &lengths, t, both);
        }
        OracleResult { output: self.merged(&output), h_n, c_n }
    }

    /// One time step of one sample, before zoneout: `x: [I]`, `h: [K]`, `c: [H]` to the new `(h, c)`. `h_in` is what
    /// the recurrent product reads, which is `h` without recurrent dropout.
    fn step(&self, w: &Weights, x: &[f64], h: &[f64], h_in: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        match self.cell {
            RecurrentCell::Lstm | RecurrentCell::LayerNormLstm => self.lstm_step(w, x, h_in, c),
            RecurrentCell::GruResetAfter => (self.gru_after_step(w, x, h, h_in), vec![]),
            RecurrentCell::GruResetBefore => (self.gru_before_step(w, x, h, h_in), vec![]),
            RecurrentCell::Article => self.article_step(w, x, h_in, c),
            RecurrentCell::Rnn => (self.rnn_step(w, x, h_in), vec![]),
            RecurrentCell::MinLstm => (self.min_lstm_step(w, x, h), vec![]),
            RecurrentCell::SLstm => self.s_lstm_step(w, x, h_in, c),
        }
    }

    /// ```text
    /// a = W x + R h' + b              layer norm: LN(W x) + LN(R h') + b
    /// i = F(clip(a_i + p_i*c'))
    /// f = F(clip(a_f + p_f*c'))       coupled: 1 - i
    /// c = f*c' + i*G(clip(a_g))       bounded to ± cell_clip
    /// o = F(clip(a_o + p_o*c))
    /// m = o * H(c)                    layer norm: o * H(LN(c))
    /// h = m                           projection: W_hr m
    /// ```
    fn lstm_step(&self, w: &Weights, x: &[f64], h_in: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let hidden = self.hidden;
        let normed = self.cell == RecurrentCell::LayerNormLstm;
        let mut from_x = product(&w.ih, x);
        let mut from_h = product(&w.hh, h_in);
        if normed {
            from_x = layer_norm(&from_x, &w.norm_ih, &vec![0.0; 4 * hidden]);
            from_h = layer_norm(&from_h, &w.norm_hh, &vec![0.0; 4 * hidden]);
        }
        let sum = |row: usize| from_x[row] + from_h[row] + w.bias_ih[row] + w.bias_hh[row];

        let mut c_new = vec![0.0; hidden];
        for j in 0..hidden {
            let i = self.gate.apply(self.clipped(sum(j) + w.peephole[j] * c[j]));
            let f = if self.coupled {
                1.0 - i
            } else {
                self.gate.apply(self.clipped(sum(hidden + j) + w.peephole[hidden + j] * c[j]))
            };
            let g = self.candidate.apply(self.clipped(sum(2 * hidden + j)));
            c_new[j] = f * c[j] + i * g;
            if self.cell_clip > 0.0 {
                c_new[j] = c_new[j].max(-self.cell_clip).min(self.cell_clip);
            }
        }

        let seen = if normed { layer_norm(&c_new, &w.norm_c_weight, &w.norm_c_bias) } else { c_new.clone() };
        let mut m = vec![0.0; hidden];
        for j in 0..hidden {
            let o = self.gate.apply(self.clipped(sum(3 * hidden + j) + w.peephole[2 * hidden + j] * c_new[j]));
            m[j] = o * self.output_activation.apply(seen[j]);
        }
        let h_new = if self.projection > 0 { product(&w.hr, &m) } else { m };
        (h_new, c_new)
    }

    /// ```text
    /// r = F(clip(W_r x + b_ir + R_r h' + b_hr)), z likewise
    /// n = G(clip(W_n x + b_in + r*(R_n h' + b_hn)))
    /// h = (1-z)*n + z*h'
    /// ```
    fn gru_after_step(&self, w: &Weights, x: &[f64], h: &[f64], h_in: &[f64]) -> Vec<f64> {
        let hidden = self.hidden;
        let from_x = product(&w.ih, x);
        let from_h = product(&w.hh, h_in);
        let sum = |row: usize| from_x[row] + w.bias_ih[row] + from_h[row] + w.bias_hh[row];

        let mut h_new = vec![0.0; hidden];
        for j in 0..hidden {
            let row_n = 2 * hidden + j;
            let r = self.gate.apply(self.clipped(sum(j)));
            let z = self.gate.apply(self.clipped(sum(hidden + j)));
            let a_n = from_x[row_n] + w.bias_ih[row_n] + r * (from_h[row_n] + w.bias_hh[row_n]);
            let n = self.candidate.apply(self.clipped(a_n));
            h_new[j] = (1.0 - z) * n + z * h[j];
        }
        h_new
    }

    /// ```text
    /// r = F(clip(W_r x + R_r h' + b_r)), z likewise
    /// n = G(clip(W_n x + R_n (r*h') + b_n))
    /// h = (1-z)*n + z*h'
    /// ```
    fn gru_before_step(&self, w: &Weights, x: &[f64], h: &[f64], h_in: &[f64]) -> Vec<f64> {
        let hidden = self.hidden;
        let from_x = product(&w.ih, x);
        let from_h = product(&w.hh, h_in);
        let sum = |row: usize| from_x[row] + from_h[row] + w.bias_ih[row] + w.bias_hh[row];

        let mut reset = vec![0.0; hidden];
        for j in 0..hidden {
            reset[j] = self.gate.apply(self.clipped(sum(j))) * h_in[j];
        }
        let from_reset = product(&w.hh, &reset);

        let mut h_new = vec![0.0; hidden];
        for j in 0..hidden {
            let row_n = 2 * hidden + j;
            let z = self.gate.apply(self.clipped(sum(hidden + j)));
            let a_n = from_x[row_n] + from_reset[row_n] + w.bias_ih[row_n] + w.bias_hh[row_n];
            let n = self.candidate.apply(self.clipped(a_n));
            h_new[j] = (1.0 - z) * n + z * h[j];
        }
        h_new
    }

    /// With `a = W x + R h'`:
    ///
    /// ```text
    /// i = σ(a_i + b_i)    f = σ(a_f + b_f)    g = tanh(a_g*f + b_g)    o = σ(a_o + b_o)
    /// c = c'*(1-i) + g*i
    /// h = tanh(c)*o
    /// ```
    fn article_step(&self, w: &Weights, x: &[f64], h_in: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let hidden = self.hidden;
        let from_x = product(&w.ih, x);
        let from_h = product(&w.hh, h_in);
        let bias = |row: usize| w.bias_ih[row] + w.bias_hh[row];
        let sum = |row: usize| from_x[row] + from_h[row] + bias(row);

        let mut h_new = vec![0.0; hidden];
        let mut c_new = vec![0.0; hidden];
        for j in 0..hidden {
            let row_g = 2 * hidden + j;
            let i = self.gate.apply(sum(j));
            let f = self.gate.apply(sum(hidden + j));
            let g = self.candidate.apply((from_x[row_g] + from_h[row_g]) * f + bias(row_g));
            let o = self.gate.apply(sum(3 * hidden + j));
            c_new[j] = c[j] * (1.0 - i) + g * i;
            h_new[j] = self.output_activation.apply(c_new[j]) * o;
        }
        (h_new, c_new)
    }

    /// ```text
    /// h = G(clip(W x + R h' + b_ih + b_hh))
    /// ```
    fn rnn_step(&self, w: &Weights, x: &[f64], h_in: &[f64]) -> Vec<f64> {
        let from_x = product(&w.ih, x);
        let from_h = product(&w.hh, h_in);
        let mut h_new = vec![0.0; self.hidden];
        for j in 0..self.hidden {
            let a = from_x[j] + from_h[j] + w.bias_ih[j] + w.bias_hh[j];
            h_new[j] = self.candidate.apply(self.clipped(a));
        }
        h_new
    }

    /// ```text
    /// i = σ(W_i x + b_i)    f = σ(W_f x + b_f)    g = W_g x + b_g
    /// h = f/(f + i)*h' + i/(f + i)*g
    /// ```
    fn min_lstm_step(&self, w: &Weights, x: &[f64], h: &[f64]) -> Vec<f64> {
        let hidden = self.hidden;
        let from_x = product(&w.ih, x);
        let mut h_new = vec![0.0; hidden];
        for j in 0..hidden {
            let i = self.gate.apply(from_x[j] + w.bias_ih[j]);
            let f = self.gate.apply(from_x[hidden + j] + w.bias_ih[hidden + j]);
            let g = from_x[2 * hidden + j] + w.bias_ih[2 * hidden + j];
            h_new[j] = f / (f + i) * h[j] + i / (f + i) * g;
        }
        h_new
    }

    /// Equations 8 to 17 of the xLSTM paper, with the logarithm of a sigmoid as the forget gate's exponent; the first step, where
    /// n' is 0, as in the package xlstm. With `a = W x + R h' + b`:
    ///
    /// ```text
    /// m = max(log σ(a_f) + m', a_i)     n' = 0: a_i
    /// i = exp(a_i - m)                  f = exp(log σ(a_f) + m' - m)
    /// c = f*c' + i*tanh(a_z)            n = f*n' + i
    /// h = σ(a_o)*c/n
    /// ```
    fn s_lstm_step(&self, w: &Weights, x: &[f64], h_in: &[f64], states: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let hidden = self.hidden;
        let from_x = product(&w.ih, x);
        let from_h = product(&w.hh, h_in);
        let sum = |row: usize| from_x[row] + from_h[row] + w.bias_ih[row] + w.bias_hh[row];
        let (c, n, m) = (&states[..hidden], &states[hidden..2 * hidden], &states[2 * hidden..]);

        let mut h_new = vec![0.0; hidden];
        let mut states_new = vec![0.0; 3 * hidden];
        for j in 0..hidden {
            let a_i = sum(j);
            let carried = -((-sum(hidden + j)).exp().ln_1p()) + m[j];
            let m_new = if n[j] == 0.0 { a_i } else { a_i.max(carried) };
            let i = (a_i - m_new).exp();
            let f = (carried - m_new).exp();
            let c_new = f * c[j] + i * sum(2 * hidden + j).tanh();
            let n_new = f * n[j] + i;
            h_new[j] = c_new / n_new / (1.0 + (-sum(3 * hidden + j)).exp());
            (states_new[j], states_new[hidden + j], states_new[2 * hidden + j]) = (c_new, n_new, m_new);
        }
        (h_new, states_new)
    }

    /// min(max(a, -clip), clip)
    fn clipped(&self, a: f64) -> f64 {
        if self.clip > 0.0 { a.max(-self.clip).min(self.clip) } else { a }
    }

    /// The two directions' outputs `[B, T, D*K]` made one.
    fn merged(&self, output: &[f64]) -> Vec<f64> {
        if self.directions == 1 || self.merge == OracleMerge::Concat {
            return output.to_vec();
        }
        let width = self.width();
        let mut merged = vec![];
        for place in 0..output.len() / (2 * width) {
            for k in 0..width {
                let forward = output[place * 2 * width + k];
                let reverse = output[place * 2 * width + width + k];
                merged.push(match self.merge {
                    OracleMerge::Concat => unreachable!(),
                    OracleMerge::Sum => forward + reverse,
                    OracleMerge::Mul => forward * reverse,
                    OracleMerge::Ave => (forward + reverse) / 2.0,
                });
            }
        }
        merged
    }

    /// The parameters of one layer and direction, with zeros for the biases and peepholes that are absent.
    fn weights(&self, layer: usize, direction: usize, features: usize, weight_mask: Option<&[f64]>) -> Weights {
        let (hidden, width) = (self.hidden, self.width());
        let rows = self.gates() * hidden;
        let suffix = if direction == 1 { format!("l{layer}_reverse") } else { format!("l{layer}") };
        let needed = |kind: &str, size: usize| {
            let name = format!("{kind}_{suffix}");
            let values = self.params.get(&name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(values.len(), size, "{name}: number of elements");
            values.clone()
        };
        let optional = |kind: &str, size: usize| {
            if self.params.contains_key(&format!("{kind}_{suffix}")) { needed(kind, size) } else { vec![0.0; size] }
        };

        let seen = width / self.heads;
        let mut hh = if self.cell == RecurrentCell::MinLstm { vec![] } else { needed("weight_hh", rows * seen) };
        if let Some(mask) = weight_mask {
            assert_eq!(mask.len(), hh.len(), "weight mask: the shape of weight_hh_{suffix}");
            for k in 0..hh.len() {
                hh[k] *= mask[k];
            }
        }
        if self.heads > 1 {
            hh = self.spread(&hh);
        }
        let normed = self.cell == RecurrentCell::LayerNormLstm;
        let norm = |kind: &str, size: usize| if normed { needed(kind, size) } else { vec![] };
        Weights {
            ih: needed("weight_ih", rows * features),
            hh,
            bias_ih: optional("bias_ih", rows),
            bias_hh: optional("bias_hh", rows),
            hr: if self.projection > 0 { needed("weight_hr", self.projection * hidden) } else { vec![] },
            peephole: optional("peephole", 3 * hidden),
            norm_ih: norm("norm_ih", rows),
            norm_hh: norm("norm_hh", rows),
            norm_c_weight: norm("norm_c_weight", hidden),
            norm_c_bias: norm("norm_c_bias", hidden),
        }
    }

    /// Recurrent weights `[heads, G*H/heads, H/heads]` as a matrix `[G*H, H]` with zeros between the heads.
    fn spread(&self, blocks: &[f64]) -> Vec<f64> {
        let (gates, hidden, units) = (self.gates(), self.hidden, self.hidden / self.heads);
        let mut matrix = vec![0.0; gates * hidden * hidden];
        for head in 0..self.heads {
            for gate in 0..gates {
                for to in 0..units {
                    for from in 0..units {
                        let value = blocks[((head * gates + gate) * units + to) * units + from];
                        matrix[(gate * hidden + head * units + to) * hidden + head * units + from] = value;
                    }
                }
            }
        }
        matrix
    }

    /// The sizes of everything that a run is given.
    fn check(&self, run: &OracleRun) {
        let (b, t, hidden, width) = (run.b, run.t, self.hidden, self.width());
        let states = self.layers * self.directions;
        assert!(self.layers >= 1, "at least one layer");
        assert!(self.directions == 1 || self.directions == 2, "one or two directions");
        assert!(!self.go_backwards || self.directions == 1, "going backwards is for one direction");
        assert!(!self.visiting_order || self.go_backwards, "the order of visits is for going backwards");
        assert!(self.has_c() || self.projection == 0, "a GRU has no projection");
        assert!(self.heads == 1 || self.projection == 0, "heads have no projection");
        assert!(self.cell != RecurrentCell::Article || self.projection == 0, "the article's cell has no projection");
        assert_eq!(run.x.len(), b * t * self.input, "x: [B, T, I]");
        let optional = |what: &str, values: &[f64], size: usize| {
            assert!(values.is_empty() || values.len() == size, "{what}: {} elements, not {size}", values.len());
        };
        optional("h_0: [L*D, B, K]", &run.h_0, states * b * width);
        optional("c_0: [L*D, B, H]", &run.c_0, states * b * self.planes() * hidden);
        assert!(run.lengths.is_empty() || run.lengths.len() == b, "lengths: [B]");
        assert!(run.lengths.iter().all(|&length| length <= t), "lengths: at most T");
        optional("input mask: [B, I]", &run.input_mask, b * self.input);
        let optional_list = |what: &str, list: &[Vec<f64>], entries: usize, size: usize| {
            assert!(list.is_empty() || list.len() == entries, "{what}: {entries} entries");
            list.iter().for_each(|values| optional(what, values, size));
        };
        optional_list("recurrent masks: [B, K]", &run.recurrent_masks, states, b * width);
        let both = self.directions * width;
        optional_list("masks between layers: [B, T, D*K]", &run.between_masks, self.layers - 1, b * t * both);
        optional_list("weight masks", &run.weight_masks, states, self.gates() * hidden * width / self.heads);
        optional_list("zoneout of h: [T, B, K]", &run.zoneout_keep_h, states, t * b * width);
        optional_list("zoneout of c: [T, B, H]", &run.zoneout_keep_c, states, t * b * hidden);
    }
}

/// The parameters of one layer and direction.
struct Weights {
    ih: Vec<f64>,
    hh: Vec<f64>,
    bias_ih: Vec<f64>,
    bias_hh: Vec<f64>,
    hr: Vec<f64>,
    peephole: Vec<f64>,
    norm_ih: Vec<f64>,
    norm_hh: Vec<f64>,
    norm_c_weight: Vec<f64>,
    norm_c_bias: Vec<f64>,
}

/// An entry of a list that may be empty or hold an empty vector where there is none.
fn entry(list: &[Vec<f64>], index: usize) -> Option<&[f64]> {
    list.get(index).map(|values| &values[..]).filter(|values| !values.is_empty())
}

/// `matrix: [rows, v.len()]` times `v`.
fn product(matrix: &[f64], v: &[f64]) -> Vec<f64> {
    let columns = v.len();
    let mut result = vec![0.0; matrix.len() / columns];
    for row in 0..result.len() {
        for k in 0..columns {
            result[row] += matrix[row * columns + k] * v[k];
        }
    }
    result
}

/// gain * (v - mean) / sqrt(variance + 1e-5) + bias, with the biased variance.
fn layer_norm(v: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
    let count = v.len() as f64;
    let mut mean = 0.0;
    for k in 0..v.len() {
        mean += v[k] / count;
    }
    let mut variance = 0.0;
    for k in 0..v.len() {
        variance += (v[k] - mean) * (v[k] - mean) / count;
    }
    let mut result = vec![0.0; v.len()];
    for k in 0..v.len() {
        result[k] = gain[k] * (v[k] - mean) / (variance + 1e-5).sqrt() + bias[k];
    }
    result
}

/// `[B, T, width]` with the valid steps of each row in the opposite order.
fn turned(values: &[f64], lengths: &[usize], t: usize, width: usize) -> Vec<f64> {
    let mut result = values.to_vec();
    for sample in 0..lengths.len() {
        for time in 0..lengths[sample] {
            let from = (sample * t + time) * width;
            let to = (sample * t + lengths[sample] - 1 - time) * width;
            result[to..to + width].copy_from_slice(&values[from..from + width]);
        }
    }
    result
}
