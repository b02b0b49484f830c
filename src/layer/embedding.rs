//! The embedding: rows of a table by index.

use super::Init;
use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial};
use crate::error::Result;
use crate::kernel::{self, NoConstants};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// Rows that one dispatch of the table's gradient sums: some drivers end a shader's loops after 65,535 iterations.
const MOST_ROWS: u32 = 1 << 15;

/// A table of `entries` learned vectors: from one input feature, a whole number from 0 to below `entries`, to `features` output
/// features. As [`torch.nn.Embedding`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html) and
/// [Keras's Embedding](https://keras.io/api/layers/core_layers/embedding/); only as the first layer of a model of one input
/// feature. Parameter `weight` [entries, features].
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::{Device, Embedding, Lstm, Sequential};
/// let model = Sequential::new(1).add(Embedding::new(26, 8)).add(Lstm::new(16)).build(&Device::cpu(), 0)?;
/// let words = array![[[7.0], [4.0], [11.0], [11.0], [14.0]]]; // [B, T, 1]
/// assert_eq!(model.predict(words.view())?.shape(), [1, 16]);
/// assert!(model.predict(array![[[26.0]]].view()).is_err());
/// let table = Embedding::new(26, 8);
/// assert_eq!((table.entries(), table.features(), table.masks_zero()), (26, 8, false));
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
    /// `entries` vectors of `features` numbers, initialised as PyTorch does (normal, deviation 1).
    pub fn new(entries: usize, features: usize) -> Embedding {
        Embedding { entries, features, init: Init::PyTorch, mask_zero: false }
    }

    /// The same, initialised as Keras does (uniform in ±0.05).
    pub fn keras(entries: usize, features: usize) -> Embedding {
        Embedding { init: Init::Keras, ..Embedding::new(entries, features) }
    }

    /// Takes index 0 as padding, as Keras's `mask_zero`: each sequence then ends before its first 0. As
    /// [`Masking`](crate::Masking) by the value 0, with the same rules.
    ///
    /// ```
    /// use ndarray::array;
    /// use wgpu_lstm::{Device, Embedding, Lstm, Sequential};
    /// let layers = Sequential::new(1).add(Embedding::new(27, 8).mask_zero(true)).add(Lstm::new(16));
    /// let model = layers.build(&Device::cpu(), 0)?;
    /// let (padded, alone) = (array![[[8.0], [9.0], [0.0]]], array![[[8.0], [9.0]]]); // [B, T, 1]
    /// assert_eq!(model.predict(padded.view())?, model.predict(alone.view())?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn mask_zero(self, mask_zero: bool) -> Embedding {
        Embedding { mask_zero, ..self }
    }

    /// Entries of the table.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Output features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// True if index 0 is padding.
    pub fn masks_zero(&self) -> bool {
        self.mask_zero
    }
}

impl Operator for Embedding {
    fn kind(&self) -> &'static str {
        "embedding"
    }

    fn describe(&self) -> String {
        format!("Embedding({}, {})", self.entries, self.features)
    }

    fn validate(&self, _: &str, _: &[usize]) -> Result<()> {
        size("the number of an embedding's entries", self.entries)?;
        size("the number of an embedding's features", self.features).map(drop)
    }

    fn output(&self, _: &[usize]) -> usize {
        self.features
    }

    fn padding(&self) -> Option<f32> {
        self.mask_zero.then_some(0.0)
    }

    fn index_limit(&self) -> Option<usize> {
        Some(self.entries)
    }

    /// Weight [entries, features].
    fn parameters(&self, name: &str, _: &[usize]) -> Vec<DeviceTensor> {
        let initial = match self.init {
            Init::PyTorch => Initial::Normal,
            Init::Keras => Initial::Uniform(0.05),
        };
        vec![DeviceTensor::plain(format!("{name}.weight"), vec![self.entries, self.features], initial)]
    }

    fn depth(&self) -> usize {
        1
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(self.features)])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, .. }: Inputs) -> Result<Output> {
        let (x, entries, features) = (&x[0], self.entries as u32, self.features as u32);
        plan.section(format!("{} forward", site.name));
        let y = plan.sequence(&format!("{}.y", site.name), [x.steps, site.batch, features], 0, Role::Scratch)?;
        for part in x.parts(&y) {
            let ((from, index_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
            let rows = part.len() as u32 * site.batch;
            let params = kernel::EmbedForward { rows, features, entries, index_offset, y_offset };
            plan.push(&kernel::EMBED_FORWARD, None, &NoConstants, &params, &[weights[0], from, to]);
        }
        Ok(Output::new(y, Lookup { sizes: [entries, features], indices: x.clone() }))
    }
}

struct Lookup {
    /// Entries and features.
    sizes: [u32; 2],
    indices: Sequence,
}

impl Trace for Lookup {
    /// Computes the gradient of the table; indices have none.
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>> {
        let Upstream { dy, gradients, .. } = upstream;
        let Lookup { sizes: [entries, features], indices: ref x } = *self;
        plan.section(format!("{} backward", site.name));
        if !plan.adds() {
            plan.fill(gradients[0], 0..entries * features, 0.0);
        }
        for part in x.parts(dy) {
            let ((of, index), (from, dy_at)) = (x.at(part.start), dy.at(part.start));
            let rows = part.len() as u32 * site.batch;
            for first in (0..rows).step_by(MOST_ROWS as usize) {
                let params = kernel::EmbedBackward {
                    rows: MOST_ROWS.min(rows - first),
                    features,
                    entries,
                    index_offset: index + first,
                    dy_offset: dy_at + first * features,
                };
                plan.push(&kernel::EMBED_BACKWARD, None, &NoConstants, &params, &[from, of, gradients[0]]);
            }
        }
        Ok(Vec::new())
    }
}
