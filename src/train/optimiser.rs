//! How weights follow their gradients.

use crate::error::{Error, Result};

/// An optimiser with its settings.
///
/// ```
/// use wgpu_lstm::Optimiser;
/// let torch = Optimiser::adam(1e-3); // ε = 1e-8, added after the bias correction
/// let keras = Optimiser::adam_keras(1e-3); // ε = 1e-7, added before it
/// let sgd = Optimiser::sgd(0.1, 0.9);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Optimiser {
    /// Gradient descent with momentum, as
    /// [`torch.optim.SGD`](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html).
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Share of the last step's velocity that is kept, 0 to below 1.
        momentum: f32,
    },
    /// Adam (Kingma and Ba 2015), as
    /// [`torch.optim.Adam`](https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html) or
    /// [`keras.optimizers.Adam`](https://keras.io/api/optimizers/adam/).
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squares.
        beta2: f64,
        /// Keeps the step finite where gradients vanish.
        epsilon: f64,
        /// Whether ε is added before the mean of squares is corrected for its start at 0 (Keras), or after (PyTorch).
        epsilon_before_correction: bool,
    },
}

impl Optimiser {
    /// Gradient descent.
    pub fn sgd(lr: f64, momentum: f32) -> Optimiser {
        Optimiser::Sgd { lr, momentum }
    }

    /// Adam with PyTorch's defaults: β 0.9 and 0.999, ε 1e-8.
    pub fn adam(lr: f64) -> Optimiser {
        Optimiser::Adam { lr, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, epsilon_before_correction: false }
    }

    /// Adam with Keras's defaults: β 0.9 and 0.999, ε 1e-7 added before the correction.
    pub fn adam_keras(lr: f64) -> Optimiser {
        Optimiser::Adam { lr, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, epsilon_before_correction: true }
    }

    /// Name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Optimiser::Sgd { .. } => "SGD",
            Optimiser::Adam { .. } => "Adam",
        }
    }

    /// The two numbers that the device needs at step `t` (counted from 1): step size, ε. The bias corrections are in
    /// them: lr·m̂/(√v̂ + ε) = lr·(√c₂/c₁)·m/(√v + ε√c₂) with c = 1 − βᵗ.
    pub(crate) fn hyper(&self, t: u64) -> [f32; 2] {
        match *self {
            Optimiser::Sgd { lr, .. } => [lr as f32, 0.0],
            Optimiser::Adam { lr, beta1, beta2, epsilon, epsilon_before_correction } => {
                let (c1, c2) = (1.0 - beta1.powf(t as f64), 1.0 - beta2.powf(t as f64));
                let epsilon = if epsilon_before_correction { epsilon } else { epsilon * c2.sqrt() };
                [(lr * c2.sqrt() / c1) as f32, epsilon as f32]
            }
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |what: &str, value: f64, expected: &str| {
            Err(Error::Config(format!("{what} of {} is {value}; it must be {expected}", self.name())))
        };
        let (lr, decays) = match *self {
            Optimiser::Sgd { lr, momentum } => (lr, vec![("momentum", momentum as f64)]),
            Optimiser::Adam { lr, beta1, beta2, epsilon, .. } => {
                if !(epsilon > 0.0 && epsilon.is_finite()) {
                    return refuse("epsilon", epsilon, "finite and above 0");
                }
                (lr, vec![("beta1", beta1), ("beta2", beta2)])
            }
        };
        if !(lr >= 0.0 && lr.is_finite()) {
            return refuse("the learning rate", lr, "finite and at least 0");
        }
        match decays.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            Some(&(what, value)) => refuse(what, value, "at least 0 and below 1"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_follow_the_paper() {
        let [alpha, epsilon] = Optimiser::adam(0.01).hyper(1);
        // t = 1: m̂ = g, v̂ = g², so alpha·0.1·g / (√0.001·|g|) must be 0.01
        assert!((alpha as f64 * 0.1 / 0.001f64.sqrt() - 0.01).abs() < 1e-8);
        assert!((epsilon as f64 - 1e-8 * 0.001f64.sqrt()).abs() < 1e-15);
        assert_eq!(Optimiser::adam_keras(0.01).hyper(1)[1], 1e-7);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Optimiser::adam(f64::NAN).validate().unwrap_err().to_string().contains("learning rate"));
        assert!(Optimiser::sgd(0.1, 1.0).validate().unwrap_err().to_string().contains("momentum"));
        assert!(Optimiser::adam(1e-3).validate().is_ok());
    }
}
