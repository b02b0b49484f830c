//! Activations by ONNX's names.

use crate::activation::Activation;

/// An activation by its name in files, with the defaults of its numbers where it has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub name: &'static str,
    pub alpha: Option<f32>,
    pub beta: Option<f32>,
    make: fn(f32, f32) -> Activation,
}

const fn plain(name: &'static str, make: fn(f32, f32) -> Activation) -> Named {
    Named { name, alpha: None, beta: None, make }
}

const fn with_alpha(name: &'static str, alpha: f32, make: fn(f32, f32) -> Activation) -> Named {
    Named { name, alpha: Some(alpha), beta: None, make }
}

const fn with_both(name: &'static str, alpha: f32, beta: f32, make: fn(f32, f32) -> Activation) -> Named {
    Named { name, alpha: Some(alpha), beta: Some(beta), make }
}

/// All of them. Affine and ScaledTanh are no operators and state no defaults; these are ONNX Runtime's.
static NAMED: [Named; 11] = [
    plain("Relu", |_, _| Activation::Relu),
    plain("Sigmoid", |_, _| Activation::Sigmoid),
    plain("Tanh", |_, _| Activation::Tanh),
    plain("Softsign", |_, _| Activation::Softsign),
    plain("Softplus", |_, _| Activation::Softplus),
    with_alpha("Elu", 1.0, |alpha, _| Activation::Elu { alpha }),
    with_alpha("LeakyRelu", 0.01, |alpha, _| Activation::LeakyRelu { alpha }),
    with_alpha("ThresholdedRelu", 1.0, |alpha, _| Activation::ThresholdedRelu { alpha }),
    with_both("HardSigmoid", 0.2, 0.5, |alpha, beta| Activation::HardSigmoid { alpha, beta }),
    with_both("Affine", 1.0, 0.0, |alpha, beta| Activation::Affine { alpha, beta }),
    with_both("ScaledTanh", 1.0, 1.0, |alpha, beta| Activation::ScaledTanh { alpha, beta }),
];

impl Named {
    /// By name, in which case does not matter.
    pub fn of(name: &str) -> Option<Named> {
        NAMED.iter().find(|named| named.name.eq_ignore_ascii_case(name)).copied()
    }

    /// The activation with these numbers, or the defaults.
    pub fn with(&self, alpha: Option<f32>, beta: Option<f32>) -> Activation {
        (self.make)(alpha.or(self.alpha).unwrap_or_default(), beta.or(self.beta).unwrap_or_default())
    }
}

/// Name, α and β of an activation in files; `None` for [`Activation::Linear`].
pub(super) fn written(activation: Activation) -> Option<(&'static str, Option<f32>, Option<f32>)> {
    Some(match activation {
        Activation::Linear => return None,
        Activation::Relu => ("Relu", None, None),
        Activation::Sigmoid => ("Sigmoid", None, None),
        Activation::Tanh => ("Tanh", None, None),
        Activation::Softsign => ("Softsign", None, None),
        Activation::Softplus => ("Softplus", None, None),
        // Of dense layers alone, over the last axis, which is the operators' default
        Activation::Softmax => ("Softmax", None, None),
        Activation::LogSoftmax => ("LogSoftmax", None, None),
        Activation::Elu { alpha } => ("Elu", Some(alpha), None),
        Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        Activation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
        Activation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
        Activation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
        Activation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for named in NAMED {
            let activation = named.with(named.alpha.map(|_| 0.7), named.beta.map(|_| 0.3));
            let (name, alpha, beta) = written(activation).unwrap();
            assert_eq!(
                (name, alpha.is_some(), beta.is_some()),
                (named.name, named.alpha.is_some(), named.beta.is_some())
            );
            assert_eq!(Named::of(&name.to_lowercase()).unwrap().with(alpha, beta), activation);
        }
        assert!(Named::of("Gelu").is_none());
    }
}
