//! Outputs before and after a conversion, held against each other.

use anyhow::{Result, bail, ensure};
use ndarray::{ArrayD, ArrayView1, Axis, Dimension};

/// Largest difference, relative to the size of the output. Both sides hold the same weights and compute in f32, with sums in another
/// order: that is some dozens of roundings of 6e-8 of a sum's terms, which the steps of a sequence may pass on.
pub const TOLERANCE: f64 = 1e-5;

/// Features of one output are sums of the same hidden units, so one that is small beside the others has their roundings: no
/// feature counts as smaller than this share of the largest.
const SHARE: f64 = 1e-3;

/// Below it, f32 has fewer digits than the tolerance asks for.
const SMALLEST: f64 = 1e-32;

/// The place where two outputs differ most, for their size.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its place, index by index.
    pub at: Vec<usize>,
    /// The value expected there.
    pub expected: f32,
    /// The value given there.
    pub given: f32,
    /// Size of that feature: its largest absolute value, over all sequences and steps.
    pub scale: f64,
}

impl Difference {
    /// Between outputs [B, F] or [B, T, F].
    ///
    /// # Errors
    /// Other shapes; numbers that are not finite, which show nothing.
    pub fn between(expected: &ArrayD<f32>, given: &ArrayD<f32>) -> Result<Difference> {
        let (shape, other) = (expected.shape(), given.shape());
        ensure!(shape == other, "outputs have the shapes {shape:?} and {other:?}");
        for (which, output) in [("of the model", expected), ("of the converted file", given)] {
            if let Some((at, value)) = output.indexed_iter().find(|(_, value)| !value.is_finite()) {
                bail!("the output {which} is {value} at {}, which cannot be compared", place(at.as_array_view()));
            }
        }
        let largest = |values: &mut dyn Iterator<Item = &f32>| values.fold(0.0, |most, v| f64::from(v.abs()).max(most));
        let all = largest(&mut expected.iter());
        let scales: Vec<f64> = match expected.ndim() {
            0 => vec![all],
            axes => expected.axis_iter(Axis(axes - 1)).map(|feature| largest(&mut feature.iter())).collect(),
        };
        let mut worst: Option<Difference> = None;
        for ((at, &expected), &given) in expected.indexed_iter().zip(given) {
            let at = at.as_array_view().to_vec();
            let feature = scales[at.last().copied().unwrap_or(0)];
            let here = Difference { at, expected, given, scale: feature.max(SHARE * all).max(SMALLEST) };
            if worst.as_ref().is_none_or(|worst| here.relative() > worst.relative()) {
                worst = Some(here);
            }
        }
        match worst {
            Some(worst) => Ok(worst),
            None => bail!("outputs of the shape {shape:?} hold nothing to compare"),
        }
    }

    /// The difference itself.
    pub fn value(&self) -> f64 {
        (f64::from(self.expected) - f64::from(self.given)).abs()
    }

    /// The difference over the size of the output.
    pub fn relative(&self) -> f64 {
        self.value() / self.scale
    }

    /// The difference in few words, for one that is rounding.
    pub fn brief(&self) -> String {
        match self.value() {
            0.0 => "outputs are the same".into(),
            value => format!("outputs differ by at most {value:.1e}, {:.1e} of their size there", self.relative()),
        }
    }

    /// True of rounding.
    pub fn is_rounding(&self) -> bool {
        self.relative() <= TOLERANCE
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { at, expected, given, scale } = self;
        let (value, relative) = (self.value(), self.relative());
        write!(
            f,
            "{value:.1e} at {}, where {expected} was expected and {given} came out: {relative:.1e} of the output's size there, {scale:.3}",
            place(ArrayView1::from(&at[..]))
        )
    }
}

fn place(at: ArrayView1<usize>) -> String {
    let axes = match at.len() {
        2 => "[sequence, feature]",
        3 => "[sequence, step, feature]",
        _ => "[...]",
    };
    format!("{axes} = {:?}", at.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn between(expected: Array2<f32>, given: Array2<f32>) -> Difference {
        Difference::between(&expected.into_dyn(), &given.into_dyn()).unwrap()
    }

    /// Logits near 37 have an ulp of 3.8e-6; ten of them are more than 1e-5.
    #[test]
    fn rounding_of_large_outputs_is_rounding() {
        let found = between(array![[37.0, -36.5]], array![[37.0, -36.50004]]);
        assert!(found.is_rounding() && found.value() > 1e-5, "{found}");
    }

    #[test]
    fn an_error_of_small_outputs_is_an_error() {
        let found = between(array![[2e-4, -1e-4]], array![[2e-4, -1.0001e-4]]);
        assert!(!found.is_rounding() && found.value() < 1e-5, "{found}");
        assert_eq!(found.at, [0, 1]);
        assert!(found.to_string().contains("[sequence, feature] = [0, 1]"), "{found}");
    }

    /// A feature of its own size beside one that is large.
    #[test]
    fn features_have_their_own_size() {
        let found = between(array![[1000.0, 2.0]], array![[1000.0, 2.001]]);
        assert!(!found.is_rounding(), "{found}");
        assert_eq!((found.at, found.scale), (vec![0, 1], 2.0));
    }

    #[test]
    fn equal_zeros_are_equal_and_others_are_not() {
        assert!(between(array![[0.0, 0.0]], array![[0.0, 0.0]]).is_rounding());
        assert!(!between(array![[0.0, 0.0]], array![[0.0, 1e-9]]).is_rounding());
    }

    #[test]
    fn what_shows_nothing_is_refused() {
        let refused =
            |a: Array2<f32>, b: Array2<f32>| Difference::between(&a.into_dyn(), &b.into_dyn()).unwrap_err().to_string();
        assert!(refused(array![[1.0]], array![[1.0, 2.0]]).contains("[1, 1] and [1, 2]"));
        assert!(refused(array![[f32::NAN]], array![[f32::NAN]]).contains("NaN at [sequence, feature] = [0, 0]"));
        assert!(refused(array![[1.0]], array![[f32::INFINITY]]).contains("of the converted file is inf"));
    }
}
