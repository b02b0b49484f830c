//! Inputs and targets as callers give them: arrays by name, with lengths and weights.

use ndarray::{Array, Array2, ArrayView, ArrayView2, Axis, CowArray, Dimension, IxDyn};
use std::borrow::Cow;

/// Inputs of a model. An array [N, T, I] is the only input of a model that has one; others are given by name.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Dense, Device, Inputs, Lstm, Sequential};
/// let model = Sequential::new(1).add(Lstm::new(8).bidirectional(true)).add(Dense::new(2)).build(&Device::cpu(), 7)?;
/// let (padded, alone) = (Array3::ones((1, 9, 1)), Array3::ones((1, 4, 1)));
/// let inputs = Inputs::from(padded.view()).lengths(&[4]); // the sequence ends before step 4
/// assert_eq!(model.predict(inputs)?, model.predict(alone.view())?);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a> {
    pub(super) given: Vec<GivenInput<'a>>,
}

#[derive(Clone, Debug)]
pub(super) struct GivenInput<'a> {
    /// `None` for the only input.
    pub name: Option<String>,
    pub values: CowArray<'a, f32, IxDyn>,
    pub lengths: Option<Cow<'a, [usize]>>,
}

impl<'a, D: Dimension> From<&'a Array<f32, D>> for Inputs<'a> {
    fn from(values: &'a Array<f32, D>) -> Inputs<'a> {
        values.view().into()
    }
}

impl<'a, D: Dimension> From<Array<f32, D>> for Inputs<'a> {
    fn from(values: Array<f32, D>) -> Inputs<'a> {
        Inputs { given: vec![GivenInput { name: None, values: values.into_dyn().into(), lengths: None }] }
    }
}

impl<'a, D: Dimension> From<ArrayView<'a, f32, D>> for Inputs<'a> {
    fn from(values: ArrayView<'a, f32, D>) -> Inputs<'a> {
        Inputs { given: vec![GivenInput { name: None, values: values.into_dyn().into(), lengths: None }] }
    }
}

impl<'a> Inputs<'a> {
    /// No inputs yet.
    pub fn new() -> Inputs<'a> {
        Inputs::default()
    }

    /// Adds an input by name: sequences [N, T, F], or vectors [N, F] for an input without a time axis.
    pub fn add<D: Dimension>(mut self, name: impl Into<String>, values: ArrayView<'a, f32, D>) -> Inputs<'a> {
        let values = values.into_dyn().into();
        self.given.push(GivenInput { name: Some(name.into()), values, lengths: None });
        self
    }

    /// Adds an input of indices [N, T], such as characters or words, for an [`Embedding`](crate::Embedding).
    pub fn tokens(mut self, name: impl Into<String>, tokens: ArrayView2<'_, u32>) -> Inputs<'a> {
        // Tables have fewer entries than f32 has whole numbers.
        let values = tokens.mapv(|token| token as f32).insert_axis(Axis(2)).into_dyn().into();
        self.given.push(GivenInput { name: Some(name.into()), values, lengths: None });
        self
    }

    /// Gives the sequences of the input that was added last a length each, `[N]`: they end before that step, and what is padded after
    /// it takes no part in anything. Outputs of recurrent layers past a sequence's end are 0; dense layers above them map these zeros to
    /// the output.
    pub fn lengths(mut self, lengths: impl Into<Cow<'a, [usize]>>) -> Inputs<'a> {
        if let Some(last) = self.given.last_mut() {
            last.lengths = Some(lengths.into());
        }
        self
    }

    /// A copy that borrows nothing.
    pub(crate) fn into_owned(self) -> Inputs<'static> {
        let own = |GivenInput { name, values, lengths }: GivenInput<'a>| GivenInput {
            name,
            values: values.into_owned().into(),
            lengths: lengths.map(|lengths| Cow::Owned(lengths.into_owned())),
        };
        Inputs { given: self.given.into_iter().map(own).collect() }
    }

    /// The lengths of the only input.
    pub(crate) fn lengths_given(&self) -> Option<&[usize]> {
        self.given.iter().find_map(|given| given.lengths.as_deref())
    }

    /// Gives the only input lengths, unless it has some.
    pub(crate) fn or_lengths(self, lengths: Option<Vec<usize>>) -> Inputs<'a> {
        match (lengths, self.given.last()) {
            (Some(lengths), Some(GivenInput { lengths: None, .. })) => self.lengths(lengths),
            _ => self,
        }
    }
}

/// Targets of a model. An array is that of the only output: [N, F] (or `[N]` where F is 1) for one without a time axis, else
/// [N, T, F]; others are given by name.
///
/// ```
/// use ndarray::{Array2, array};
/// use wgpu_lstm::Targets;
/// let (price, up) = (array![[1.5], [2.5]], array![[1.0], [0.0]]);
/// let targets = Targets::new().add("price", price.view()).add("up", up.view()).weights(array![1.0, 0.5]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Targets<'a> {
    pub(super) given: Vec<GivenTarget<'a>>,
    /// True if NaN stands for values that are missing.
    pub(super) missing: bool,
}

#[derive(Clone, Debug)]
pub(super) struct GivenTarget<'a> {
    pub name: Option<String>,
    pub values: CowArray<'a, f32, IxDyn>,
    /// [N, T] or [N, 1].
    pub weights: Option<Array2<f32>>,
}

impl<'a, D: Dimension> From<&'a Array<f32, D>> for Targets<'a> {
    fn from(values: &'a Array<f32, D>) -> Targets<'a> {
        values.view().into()
    }
}

impl<'a, D: Dimension> From<Array<f32, D>> for Targets<'a> {
    fn from(values: Array<f32, D>) -> Targets<'a> {
        Targets {
            given: vec![GivenTarget { name: None, values: values.into_dyn().into(), weights: None }],
            missing: false,
        }
    }
}

impl<'a, D: Dimension> From<ArrayView<'a, f32, D>> for Targets<'a> {
    fn from(values: ArrayView<'a, f32, D>) -> Targets<'a> {
        Targets {
            given: vec![GivenTarget { name: None, values: values.into_dyn().into(), weights: None }],
            missing: false,
        }
    }
}

impl<'a> Targets<'a> {
    /// No targets yet.
    pub fn new() -> Targets<'a> {
        Targets::default()
    }

    /// Adds the target of an output.
    pub fn add<D: Dimension>(mut self, name: impl Into<String>, values: ArrayView<'a, f32, D>) -> Targets<'a> {
        let values = values.into_dyn().into();
        self.given.push(GivenTarget { name: Some(name.into()), values, weights: None });
        self
    }

    /// Adds the target of an output whose loss takes classes, [N, T] ([`Loss::SparseSoftmaxCrossEntropy`](crate::Loss::SparseSoftmaxCrossEntropy)).
    pub fn tokens(mut self, name: impl Into<String>, tokens: ArrayView2<'_, u32>) -> Targets<'a> {
        let values = tokens.mapv(|token| token as f32).insert_axis(Axis(2)).into_dyn().into();
        self.given.push(GivenTarget { name: Some(name.into()), values, weights: None });
        self
    }

    /// Weighs the target that was added last: `[N]` by sequences or [N, T] by steps; see
    /// [`Fit::sample_weights`](crate::Fit::sample_weights).
    pub fn weights<D: Dimension>(mut self, weights: ndarray::Array<f32, D>) -> Targets<'a> {
        let weights = weights.into_dyn();
        let columns = weights.len() / weights.shape().first().copied().unwrap_or(1).max(1);
        let rows = weights.shape().first().copied().unwrap_or(1);
        let values: Vec<f32> = weights.iter().copied().collect();
        if let (Some(last), Ok(weights)) = (self.given.last_mut(), Array2::from_shape_vec((rows, columns), values)) {
            last.weights = Some(weights);
        }
        self
    }

    /// Takes rows whose features are all NaN for missing: they count for nothing, in losses and in the number of terms that losses are
    /// averaged over, as Keras's masked losses and PyTorch's `ignore_index` do. A row is a step of a sequence, or the target of a model that
    /// gives one vector. Rows of which only some features are NaN are refused: give the features outputs of their own
    /// ([`Network`](crate::Network)), or write a loss that leaves them out ([`Model::fit_with`](crate::Model::fit_with)).
    ///
    /// ```
    /// use ndarray::{Array3, array};
    /// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential, Targets};
    /// let mut model = Sequential::new(1).add(Lstm::new(4)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// let (x, y) = (Array3::ones((3, 5, 1)), array![[0.5], [f32::NAN], [1.0]]);
    /// model.fit(x.view(), Targets::from(y.view()).missing(true), Fit::new())?;
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn missing(self, missing: bool) -> Targets<'a> {
        Targets { missing, ..self }
    }

    /// A copy that borrows nothing.
    pub(crate) fn into_owned(self) -> Targets<'static> {
        let own = |GivenTarget { name, values, weights }: GivenTarget<'a>| GivenTarget {
            name,
            values: values.into_owned().into(),
            weights,
        };
        Targets { given: self.given.into_iter().map(own).collect(), missing: self.missing }
    }

    /// Gives the only target weights, if there are some.
    pub(crate) fn with_weights(mut self, weights: Option<Array2<f32>>) -> Targets<'a> {
        if let (Some(last), Some(weights)) = (self.given.last_mut(), weights) {
            last.weights = Some(weights);
        }
        self
    }
}
