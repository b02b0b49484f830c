//! The embedding's configuration.

use super::Init;
use serde::{Deserialize, Serialize};

/// A learned vector for each of so many things: takes one feature, a whole number from 0 to below `entries`, and gives
/// `features`. As [`torch.nn.Embedding`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html) and
/// [Keras's Embedding](https://keras.io/api/layers/core_layers/embedding/); only as the first layer of a model of one input
/// feature. Parameter `weight` [entries, features].
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::{Device, Embedding, Lstm, Sequential};
/// let mut model = Sequential::new(1).add(Embedding::new(26, 8)).add(Lstm::new(16)).build(&Device::cpu(), 0)?;
/// let words = array![[[7.0], [4.0], [11.0], [11.0], [14.0]]]; // [B, T, 1]
/// assert_eq!(model.predict(words.view())?.shape(), [1, 16]);
/// assert!(model.predict(array![[[26.0]]].view()).is_err());
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    pub(crate) entries: usize,
    pub(crate) features: usize,
    pub(crate) init: Init,
    #[serde(default)]
    pub(crate) mask_zero: bool,
}

impl Embedding {
    /// Vectors of `features` numbers for `entries` things, drawn as PyTorch does (normal, deviation 1).
    pub fn new(entries: usize, features: usize) -> Embedding {
        Embedding { entries, features, init: Init::PyTorch, mask_zero: false }
    }

    /// The same, drawn as Keras does (uniform in ±0.05).
    pub fn keras(entries: usize, features: usize) -> Embedding {
        Embedding { init: Init::Keras, ..Embedding::new(entries, features) }
    }

    /// Whether index 0 is padding, as with Keras's `mask_zero`: each sequence then ends before its first 0. As
    /// [`Masking`](crate::Masking) by the value 0, with what is said there.
    ///
    /// ```
    /// use ndarray::array;
    /// use wgpu_lstm::{Device, Embedding, Lstm, Sequential};
    /// let layers = Sequential::new(1).add(Embedding::new(27, 8).mask_zero(true)).add(Lstm::new(16));
    /// let mut model = layers.build(&Device::cpu(), 0)?;
    /// let (padded, alone) = (array![[[8.0], [9.0], [0.0]]], array![[[8.0], [9.0]]]); // [B, T, 1]
    /// assert_eq!(model.predict(padded.view())?, model.predict(alone.view())?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn mask_zero(self, mask_zero: bool) -> Embedding {
        Embedding { mask_zero, ..self }
    }
}
