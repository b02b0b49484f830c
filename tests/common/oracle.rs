//! A naive f64 LSTM, written straight from the equations with plain vectors and indexing loops.
//!
//! It exists to check the crate against, so it shares no code with it and makes no attempt to be
//! fast. Every array is row-major.
//!
//! Sizes: `B` batch, `T` time steps, `I` input features, `H` hidden features, `L` layers,
//! `D` directions (1 or 2).
#![allow(dead_code)]
#![allow(clippy::needless_range_loop)]

/// Equations of a time step; see [`step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OracleCell {
    /// The usual LSTM cell, as in `torch.nn.LSTM`.
    Standard,
    /// The article's cell: the forget gate acts on the candidate's matrix product, and the input
    /// gate interpolates between the old cell state and the candidate.
    Article,
}

/// Weights of one layer and direction, in PyTorch's layout: the rows are stacked in gate order
/// i, f, g, o. (The article calls g "c".)
#[derive(Clone, Debug)]
pub struct OracleWeights {
    /// `[4H, I]`, where `I` is `D*H` in the layers above the first.
    pub w_ih: Vec<f64>,
    /// `[4H, H]`
    pub w_hh: Vec<f64>,
    /// `[4H]`, zeros where there is none.
    pub b_ih: Vec<f64>,
    /// `[4H]`, zeros where there is none.
    pub b_hh: Vec<f64>,
}

/// A stack of LSTM layers, each running in one or two directions.
#[derive(Clone, Debug)]
pub struct OracleLstm {
    pub cell: OracleCell,
    /// `I`
    pub input: usize,
    /// `H`
    pub hidden: usize,
    /// `L`
    pub layers: usize,
    /// `D`, 1 or 2. Direction 0 runs forward in time, direction 1 runs backward.
    pub directions: usize,
    /// `L*D` entries; the index is `layer * D + direction`.
    pub weights: Vec<OracleWeights>,
}

/// Result of [`OracleLstm::forward`].
#[derive(Clone, Debug)]
pub struct OracleOutput {
    /// `[B, T, D*H]`: the top layer's hidden states; forward features first, then reverse.
    pub output: Vec<f64>,
    /// `[L*D, B, H]`: the hidden state after each direction's last step.
    pub h_n: Vec<f64>,
    /// `[L*D, B, H]`: the cell state after each direction's last step.
    pub c_n: Vec<f64>,
}

impl OracleLstm {
    /// Runs the whole stack over `x: [B, T, I]`, from `h_0: [L*D, B, H]` and `c_0: [L*D, B, H]`.
    pub fn forward(&self, x: &[f64], b: usize, t: usize, h_0: &[f64], c_0: &[f64]) -> OracleOutput {
        let hidden = self.hidden;
        let width = self.directions * hidden;
        let states = self.layers * self.directions;

        assert!(self.layers >= 1, "at least one layer");
        assert!(self.directions == 1 || self.directions == 2, "one or two directions");
        assert_eq!(self.weights.len(), states, "weights: L*D entries");
        assert_eq!(x.len(), b * t * self.input, "x: [B, T, I]");
        assert_eq!(h_0.len(), states * b * hidden, "h_0: [L*D, B, H]");
        assert_eq!(c_0.len(), states * b * hidden, "c_0: [L*D, B, H]");

        let mut h_n = vec![0.0; states * b * hidden];
        let mut c_n = vec![0.0; states * b * hidden];

        // What the current layer reads: x for the first layer, then the output of the layer below.
        let mut layer_input = x.to_vec(); // [B, T, features]
        let mut features = self.input;

        for layer in 0..self.layers {
            let mut layer_output = vec![0.0; b * t * width]; // [B, T, D*H]

            for direction in 0..self.directions {
                let index = layer * self.directions + direction;
                let weights = &self.weights[index];
                assert_eq!(weights.w_ih.len(), 4 * hidden * features, "w_ih: [4H, I]");
                assert_eq!(weights.w_hh.len(), 4 * hidden * hidden, "w_hh: [4H, H]");
                assert_eq!(weights.b_ih.len(), 4 * hidden, "b_ih: [4H]");
                assert_eq!(weights.b_hh.len(), 4 * hidden, "b_hh: [4H]");

                for sample in 0..b {
                    let state = (index * b + sample) * hidden;
                    let mut h = h_0[state..state + hidden].to_vec();
                    let mut c = c_0[state..state + hidden].to_vec();

                    for n in 0..t {
                        // The reverse direction visits T-1, ..., 1, 0.
                        let time = if direction == 0 { n } else { t - 1 - n };

                        let from = (sample * t + time) * features;
                        let x_t = &layer_input[from..from + features];
                        (h, c) = step(self.cell, weights, x_t, &h, &c);

                        let to = (sample * t + time) * width + direction * hidden;
                        layer_output[to..to + hidden].copy_from_slice(&h);
                    }

                    h_n[state..state + hidden].copy_from_slice(&h);
                    c_n[state..state + hidden].copy_from_slice(&c);
                }
            }

            layer_input = layer_output;
            features = width;
        }

        OracleOutput { output: layer_input, h_n, c_n }
    }
}

/// One time step of one sample: `x: [I]`, `h: [H]`, `c: [H]` to the new `(h, c)`.
///
/// With `z = W_ih·x + W_hh·h` and `b = b_ih + b_hh`, each cut into its four gates:
///
/// ```text
/// Standard                      Article
/// i  = σ(z_i + b_i)             i  = σ(z_i + b_i)
/// f  = σ(z_f + b_f)             f  = σ(z_f + b_f)
/// g  = tanh(z_g + b_g)          g  = tanh(z_g ⊙ f + b_g)
/// o  = σ(z_o + b_o)             o  = σ(z_o + b_o)
/// c' = f ⊙ c + i ⊙ g            c' = c ⊙ (1 − i) + g ⊙ i
/// h' = o ⊙ tanh(c')             h' = tanh(c') ⊙ o
/// ```
fn step(cell: OracleCell, weights: &OracleWeights, x: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let input = x.len();
    let hidden = h.len();

    let mut z = vec![0.0; 4 * hidden];
    let mut bias = vec![0.0; 4 * hidden];
    for row in 0..4 * hidden {
        for k in 0..input {
            z[row] += weights.w_ih[row * input + k] * x[k];
        }
        for k in 0..hidden {
            z[row] += weights.w_hh[row * hidden + k] * h[k];
        }
        bias[row] = weights.b_ih[row] + weights.b_hh[row];
    }

    let mut h_new = vec![0.0; hidden];
    let mut c_new = vec![0.0; hidden];
    for j in 0..hidden {
        let row_i = j;
        let row_f = hidden + j;
        let row_g = 2 * hidden + j;
        let row_o = 3 * hidden + j;

        let i = sigmoid(z[row_i] + bias[row_i]);
        let f = sigmoid(z[row_f] + bias[row_f]);
        let o = sigmoid(z[row_o] + bias[row_o]);
        match cell {
            OracleCell::Standard => {
                let g = (z[row_g] + bias[row_g]).tanh();
                c_new[j] = f * c[j] + i * g;
            }
            OracleCell::Article => {
                let g = (z[row_g] * f + bias[row_g]).tanh();
                c_new[j] = c[j] * (1.0 - i) + g * i;
            }
        }
        h_new[j] = o * c_new[j].tanh();
    }
    (h_new, c_new)
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The gradient of `loss` at `values`, one entry at a time, by central differences:
/// `(loss(v + step) - loss(v - step)) / (2 * step)`. Leaves `values` as it found them.
pub fn central_differences(values: &mut [f64], step: f64, mut loss: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut gradient = vec![0.0; values.len()];
    for k in 0..values.len() {
        let original = values[k];

        values[k] = original + step;
        let above = loss(values);

        values[k] = original - step;
        let below = loss(values);

        values[k] = original;
        gradient[k] = (above - below) / (2.0 * step);
    }
    gradient
}
