//! Optimisers: how a gradient becomes a weight update.

use crate::error::{Error, Result};
use crate::kernel::HYPER;
use serde::{Deserialize, Serialize};

/// An optimiser with its settings.
///
/// ```
/// use wgpu_lstm::Optimiser;
/// let torch = Optimiser::adam(1e-3); // ε = 1e-8, added after the bias correction
/// let keras = Optimiser::adam_keras(1e-3); // ε = 1e-7, added before it
/// let sgd = Optimiser::sgd(0.1, 0.9).weight_decay(1e-4);
/// assert_eq!(Optimiser::adamw(1e-3, 0.01), Optimiser::adam(1e-3).decoupled_weight_decay(0.01));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimiser {
    /// Learning rate; finite and at least 0.
    pub lr: f64,
    /// The update rule.
    pub rule: Rule,
    /// Weight decay on all parameters alike, biases too; none by default.
    pub weight_decay: WeightDecay,
}

/// Update rules: the step that an [`Optimiser`] makes of the gradients g.
///
/// ```
/// use wgpu_lstm::{Optimiser, Rule};
/// let Rule::Nadam { momentum_decay, .. } = Optimiser::nadam(2e-3).rule else { unreachable!() };
/// assert_eq!(momentum_decay, 0.004);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// Gradient descent, as [`torch.optim.SGD`](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html):
    /// v = momentum·v + g, and a step of lr·v, or with Nesterov's lookahead of lr·(g + momentum·v).
    Sgd {
        /// Share of the last step's velocity that is kept, 0 to below 1.
        momentum: f32,
        /// True for Nesterov momentum.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015), as
    /// [`torch.optim.Adam`](https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html) or
    /// [`keras.optimizers.Adam`](https://keras.io/api/optimizers/adam/).
    Adam {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squares.
        beta2: f64,
        /// Keeps the step finite where gradients vanish.
        epsilon: f64,
        /// True if ε is added before the mean of squares is corrected for its start at 0 (Keras), false for after (PyTorch).
        epsilon_before_correction: bool,
    },
    /// Adam with Nesterov's momentum (Dozat 2016), as
    /// [`torch.optim.NAdam`](https://docs.pytorch.org/docs/stable/generated/torch.optim.NAdam.html). Keras's
    /// [`Nadam`](https://keras.io/api/optimizers/Nadam/) is the same with a momentum decay of 1.
    Nadam {
        /// Decay of the mean of gradients, in the long run.
        beta1: f64,
        /// Decay of the mean of squares.
        beta2: f64,
        /// Keeps the step finite where gradients vanish.
        epsilon: f64,
        /// ψ of β1·(1 − ½·0.96^(ψ·t)), the decay in step t; finite and at least 0.
        momentum_decay: f64,
    },
    /// Steps over the root of a mean of squares (Hinton 2012), without momentum, as
    /// [`torch.optim.RMSprop`](https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html) or
    /// [`keras.optimizers.RMSprop`](https://keras.io/api/optimizers/rmsprop/).
    RmsProp {
        /// Decay of the mean of squares (PyTorch's alpha, Keras's rho).
        decay: f64,
        /// Keeps the step finite where gradients vanish.
        epsilon: f64,
        /// True if ε is added before the root is taken (Keras), false for after (PyTorch).
        epsilon_inside_root: bool,
    },
}

/// Weight decay: the pull of weights to 0 in every step, beside their gradients.
///
/// ```
/// use wgpu_lstm::{Optimiser, WeightDecay};
/// assert_eq!(Optimiser::adam(1e-3).weight_decay(0.1).weight_decay, WeightDecay::L2(0.1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeightDecay {
    /// No weight decay.
    #[default]
    None,
    /// λ·w is added to the gradient, after clipping: `weight_decay` of PyTorch's optimisers without W.
    L2(f64),
    /// Weights are multiplied by 1 − lr·λ before the step (Loshchilov and Hutter 2019): PyTorch's AdamW, and
    /// `weight_decay` of every optimiser of Keras.
    Decoupled(f64),
}

impl WeightDecay {
    /// λ; 0 without decay.
    pub(crate) fn strength(self) -> f64 {
        match self {
            WeightDecay::None => 0.0,
            WeightDecay::L2(decay) | WeightDecay::Decoupled(decay) => decay,
        }
    }
}

impl Optimiser {
    fn new(lr: f64, rule: Rule) -> Optimiser {
        Optimiser { lr, rule, weight_decay: WeightDecay::None }
    }

    /// Gradient descent.
    pub fn sgd(lr: f64, momentum: f32) -> Optimiser {
        Optimiser::new(lr, Rule::Sgd { momentum, nesterov: false })
    }

    /// Gradient descent with Nesterov's momentum.
    pub fn sgd_nesterov(lr: f64, momentum: f32) -> Optimiser {
        Optimiser::new(lr, Rule::Sgd { momentum, nesterov: true })
    }

    /// Adam with PyTorch's defaults: β 0.9 and 0.999, ε 1e-8.
    pub fn adam(lr: f64) -> Optimiser {
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, epsilon_before_correction: false };
        Optimiser::new(lr, rule)
    }

    /// Adam with Keras's defaults: β 0.9 and 0.999, ε 1e-7 added before the correction.
    pub fn adam_keras(lr: f64) -> Optimiser {
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, epsilon_before_correction: true };
        Optimiser::new(lr, rule)
    }

    /// [`Optimiser::adam`] with decoupled weight decay λ, as
    /// [`torch.optim.AdamW`](https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html), whose default is
    /// 0.01.
    pub fn adamw(lr: f64, decay: f64) -> Optimiser {
        Optimiser::adam(lr).decoupled_weight_decay(decay)
    }

    /// Adam with Nesterov's momentum and PyTorch's defaults: β 0.9 and 0.999, ε 1e-8, momentum decay 0.004.
    pub fn nadam(lr: f64) -> Optimiser {
        Optimiser::new(lr, Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, momentum_decay: 0.004 })
    }

    /// Adam with Nesterov's momentum and Keras's defaults: β 0.9 and 0.999, ε 1e-7, momentum decay 1.
    pub fn nadam_keras(lr: f64) -> Optimiser {
        Optimiser::new(lr, Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, momentum_decay: 1.0 })
    }

    /// RMSprop with PyTorch's defaults: decay 0.99, ε 1e-8 added to the root.
    pub fn rmsprop(lr: f64) -> Optimiser {
        Optimiser::new(lr, Rule::RmsProp { decay: 0.99, epsilon: 1e-8, epsilon_inside_root: false })
    }

    /// RMSprop with Keras's defaults: decay 0.9, ε 1e-7 added before the root is taken.
    pub fn rmsprop_keras(lr: f64) -> Optimiser {
        Optimiser::new(lr, Rule::RmsProp { decay: 0.9, epsilon: 1e-7, epsilon_inside_root: true })
    }

    /// Adds λ·w to the gradients: [`WeightDecay::L2`].
    pub fn weight_decay(self, decay: f64) -> Optimiser {
        Optimiser { weight_decay: WeightDecay::L2(decay), ..self }
    }

    /// Shrinks the weights before each step: [`WeightDecay::Decoupled`].
    pub fn decoupled_weight_decay(self, decay: f64) -> Optimiser {
        Optimiser { weight_decay: WeightDecay::Decoupled(decay), ..self }
    }

    /// Name for people.
    pub fn name(&self) -> &'static str {
        match self.rule {
            Rule::Sgd { .. } => "SGD",
            Rule::Adam { .. } => "Adam",
            Rule::Nadam { .. } => "Nadam",
            Rule::RmsProp { .. } => "RMSprop",
        }
    }

    /// Numbers for the device at step `t`, counted from 1: the factor of the mean of gradients (of the velocity for
    /// gradient descent), the factor of the gradient, ε outside the root and inside it, and what decoupled decay leaves of
    /// a weight. Bias corrections are in them: lr·m̂/(√v̂ + ε) = lr·(√c₂/c₁)·m/(√v + ε√c₂) with c = 1 − βᵗ.
    pub(crate) fn hyper(&self, t: u64) -> [f32; HYPER] {
        let (lr, power) = (self.lr, |beta: f64, t: u64| beta.powf(t as f64));
        let [of_mean, of_gradient, outside, inside] = match self.rule {
            Rule::Sgd { .. } => [lr, 0.0, 0.0, 0.0],
            Rule::Adam { beta1, beta2, epsilon, epsilon_before_correction } => {
                let (c1, c2) = (1.0 - power(beta1, t), 1.0 - power(beta2, t));
                let epsilon = if epsilon_before_correction { epsilon } else { epsilon * c2.sqrt() };
                [lr * c2.sqrt() / c1, 0.0, epsilon, 0.0]
            }
            Rule::Nadam { beta1, beta2, epsilon, momentum_decay } => {
                let decay = |t: u64| beta1 * (1.0 - 0.5 * 0.96f64.powf(t as f64 * momentum_decay));
                // A product below the last digit of 1 makes no difference any more, and a decay that has come within it of beta1
                // is beta1 from then on.
                let mut product = 1.0;
                for k in 1..=t {
                    product *= decay(k);
                    if product < 1e-17 {
                        break;
                    }
                    if decay(k) == beta1 {
                        product *= power(beta1, t - k);
                        break;
                    }
                }
                let (now, next) = (decay(t), decay(t.saturating_add(1)));
                let root = (1.0 - power(beta2, t)).sqrt();
                let step = lr * root;
                [step * next / (1.0 - product * next), step * (1.0 - now) / (1.0 - product), epsilon * root, 0.0]
            }
            Rule::RmsProp { epsilon, epsilon_inside_root: true, .. } => [0.0, lr, 0.0, epsilon],
            Rule::RmsProp { epsilon, epsilon_inside_root: false, .. } => [0.0, lr, epsilon, 0.0],
        };
        let left = match self.weight_decay {
            WeightDecay::Decoupled(decay) => 1.0 - lr * decay,
            _ => 1.0,
        };
        [of_mean, of_gradient, outside, inside, left].map(|value| value as f32)
    }

    /// λ of decay that is part of the gradient.
    pub(crate) fn l2(&self) -> f32 {
        match self.weight_decay {
            WeightDecay::L2(decay) => decay as f32,
            _ => 0.0,
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let check = |what: &str, value: f64, good: bool, expected: &str| match good {
            true => Ok(()),
            false => Err(Error::Config(format!("{what} of {} is {value}; it must be {expected}", self.name()))),
        };
        let share = |what, value| check(what, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        let rate = |what, value: f64| check(what, value, value >= 0.0 && value.is_finite(), "finite and at least 0");
        let positive = |value: f64| check("epsilon", value, value > 0.0 && value.is_finite(), "finite and above 0");
        rate("the learning rate", self.lr)?;
        rate("weight decay", self.weight_decay.strength())?;
        match self.rule {
            Rule::Sgd { momentum, nesterov } => {
                share("momentum", momentum as f64)?;
                check("momentum", momentum as f64, !nesterov || momentum > 0.0, "above 0 to look ahead (nesterov)")
            }
            Rule::Adam { beta1, beta2, epsilon, .. } => {
                positive(epsilon)?;
                share("beta1", beta1)?;
                share("beta2", beta2)
            }
            Rule::Nadam { beta1, beta2, epsilon, momentum_decay } => {
                positive(epsilon)?;
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                rate("momentum_decay", momentum_decay)
            }
            Rule::RmsProp { decay, epsilon, .. } => {
                positive(epsilon)?;
                share("decay", decay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_follow_the_paper() {
        let [alpha, _, epsilon, ..] = Optimiser::adam(0.01).hyper(1);
        // t = 1: m̂ = g, v̂ = g², so alpha·0.1·g / (√0.001·|g|) must be 0.01
        assert!((alpha as f64 * 0.1 / 0.001f64.sqrt() - 0.01).abs() < 1e-8);
        assert!((epsilon as f64 - 1e-8 * 0.001f64.sqrt()).abs() < 1e-15);
        assert_eq!(Optimiser::adam_keras(0.01).hyper(1)[2], 1e-7);
    }

    /// The product of Nadam's decays is cut off without being seen.
    #[test]
    fn late_steps_of_nadam_are_those_of_its_limit() {
        let late = Optimiser::nadam(0.01).hyper(1_000_000);
        assert!((late[0] - 0.009).abs() < 1e-9 && (late[1] - 0.001).abs() < 1e-9, "{late:?}");
    }

    /// So many steps cannot be multiplied one by one.
    #[test]
    fn nadam_takes_any_number_of_steps() {
        for beta1 in [0.9, 1.0 - 1e-16] {
            for momentum_decay in [0.0, 1e-9, 0.004, 1.0, 1e9] {
                let rule = Rule::Nadam { beta1, beta2: 0.999, epsilon: 1e-8, momentum_decay };
                let hyper = Optimiser::new(0.01, rule).hyper(u64::MAX);
                assert!(hyper.iter().all(|value| value.is_finite()), "{beta1} {momentum_decay}: {hyper:?}");
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Optimiser::adam(f64::NAN).validate().unwrap_err().to_string().contains("learning rate"));
        assert!(Optimiser::sgd(0.1, 1.0).validate().unwrap_err().to_string().contains("momentum"));
        assert!(Optimiser::adam(1e-3).validate().is_ok());
    }
}
