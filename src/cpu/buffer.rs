//! A buffer in main memory, with its numbers packed for products.

use super::Team;
use super::kept::{CpuWeights, Kept};
use super::panels::Matrices;
use crate::error::Result;
use crate::lock::lock;
use crate::real::Real;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Rows that are multiplied with an unpacked matrix before packing it pays.
const WORTH_PACKING: usize = 16;
/// Matrices of a buffer that are kept packed: the weights of both directions are in one buffer, each has its product, and a GRU that
/// resets before the product has two of R.
const MATRICES: usize = 4;

/// A buffer that several plans may share. Runs that only read it run at the same time.
pub type Shared<F> = Arc<RwLock<Buffer<F>>>;

/// The numbers of a buffer. Weights are packed once and stay packed until they are written to.
#[derive(Debug)]
pub struct Buffer<F> {
    values: Vec<F>,
    /// The packed form, which runs that share the buffer share, too. The first run that needs it packs it.
    packed: Mutex<Packed<F>>,
}

impl<F> From<Vec<F>> for Buffer<F> {
    fn from(values: Vec<F>) -> Self {
        Buffer { values, packed: Mutex::new(Packed { all: Vec::new(), unpacked: 0 }) }
    }
}

impl<F> Deref for Buffer<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.values
    }
}

impl<F> DerefMut for Buffer<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        self.packed.get_mut().unwrap_or_else(PoisonError::into_inner).forget();
        &mut self.values
    }
}

impl<F: Real> Buffer<F> {
    /// Panels of matrices, for products of `rows` rows. In f32 `None` if packing does not pay yet, or if there is no memory for a
    /// second form of the weights: products read the first.
    pub(super) fn panels(
        &self,
        team: &Team,
        matrices: Matrices,
        form: CpuWeights,
        rows: usize,
    ) -> Result<Option<Arc<Kept<F>>>> {
        let mut packed = lock(&self.packed);
        if let Some(found) = packed.all.iter().find(|found| found.of == Some((matrices, form))) {
            return Ok(Some(found.panels.clone()));
        }
        packed.unpacked += rows;
        if form == CpuWeights::F32 && packed.unpacked < WORTH_PACKING {
            return Ok(None);
        }
        // An outdated entry is replaced, else the oldest; its memory is reused, unless another run reads it.
        let stale = packed.all.iter().position(|found| found.of.is_none());
        let place = stale.or((packed.all.len() >= MATRICES).then_some(0));
        let older = place.and_then(|place| Arc::try_unwrap(packed.all.remove(place).panels).ok());
        let panels = match Kept::new(team, &self.values, matrices, form, older) {
            Ok(panels) => Arc::new(panels),
            Err(_) if form == CpuWeights::F32 => return Ok(None),
            Err(error) => return Err(error),
        };
        packed.all.push(PackedMatrices { panels: panels.clone(), of: Some((matrices, form)) });
        // the replaced matrices have to earn their packing again
        packed.unpacked = 0;
        Ok(Some(panels))
    }
}

/// Matrices packed since the last change.
#[derive(Debug)]
struct Packed<F> {
    all: Vec<PackedMatrices<F>>,
    /// Rows that were multiplied with the unpacked matrices.
    unpacked: usize,
}

/// Matrices in panels of 16 columns.
#[derive(Debug)]
struct PackedMatrices<F> {
    panels: Arc<Kept<F>>,
    /// `None` after the numbers have changed.
    of: Option<(Matrices, CpuWeights)>,
}

impl<F> Packed<F> {
    /// Invalidates the packed matrices: the numbers have changed.
    fn forget(&mut self) {
        self.all.iter_mut().for_each(|packed| packed.of = None);
        self.unpacked = 0;
    }
}
