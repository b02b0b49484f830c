//! Weights that are kept packed, in one of several forms.

use super::Team;
use super::panels::{Matrices, Packed, pack_all, packed_len};
use super::short::{ShortPanels, Shortened};
use crate::error::Result;
use crate::memory;
use crate::real::Real;
use half::{bf16, f16};

/// Form in which the CPU executor reads weights of recurrent layers in inference: W, R and projections, in whole sequences and in streams
/// alike. States, sums and everything else stay f32, and so do weights in training. A step of few rows and many hidden units waits
/// for its weights, so fewer bytes take less time. R of layers of several heads stays f32.
///
/// Weights are rounded at the first run after they change; the f32 ones stay beside them.
///
/// ```
/// use wgpu_lstm::{CpuOptions, CpuWeights, Device};
/// let device = Device::cpu_with_options(&CpuOptions { weights: CpuWeights::Int8, ..CpuOptions::default() });
/// assert!(device.to_string().ends_with("weights in int8)"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuWeights {
    /// As they are.
    #[default]
    F32,
    /// Rounded to f16: half the bytes, 11 bits of each number. Weights beyond 65,504 become infinite. With weights up to 1, outputs stay
    /// within 1e-3 (`tests/cpu_weights.rs`).
    F16,
    /// Rounded to bf16: half the bytes, 8 bits of each number. With weights up to 1, outputs stay within 1e-2.
    Bf16,
    /// Whole numbers from −127 to 127 with a factor for each gate of a unit, the largest of its weights / 127: a quarter of the bytes. A
    /// weight is off by up to 1/254 of the largest of its gate and unit. With weights up to 1, outputs stay within 1e-2.
    /// `benches/results/step-weights.txt`, made by `scripts/step-weights`, has the effect of all forms on models: here scores of
    /// `disorder`, from 0 to 1, move by up to 0.024, and no utterance of `vowels` is told otherwise.
    Int8,
}

impl CpuWeights {
    /// Name for people, of all but f32.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            CpuWeights::F32 => None,
            CpuWeights::F16 => Some("f16"),
            CpuWeights::Bf16 => Some("bf16"),
            CpuWeights::Int8 => Some("int8"),
        }
    }
}

/// Packed panels of one or several matrices that are kept.
#[derive(Debug)]
pub(super) enum Kept<F> {
    /// As [`pack`](super::panels::pack) makes them.
    F32 {
        panels: Vec<F>,
        matrices: Matrices,
    },
    F16(ShortPanels<f16>),
    Bf16(ShortPanels<bf16>),
    Int8(ShortPanels<i8>),
}

impl<F: Real> Kept<F> {
    /// Packs matrices on all threads, if it can in the memory of `older` ones.
    pub fn new(team: &Team, values: &[F], matrices: Matrices, form: CpuWeights, older: Option<Self>) -> Result<Self> {
        Ok(match form {
            CpuWeights::F32 => {
                let mut panels = if let Some(Kept::F32 { panels, .. }) = older { panels } else { Vec::new() };
                let len = packed_len(matrices.terms, matrices.columns);
                let all = matrices.count * len;
                memory::reserve(&mut panels, all, "packed weights")?;
                panels.resize(all, F::zero());
                for (index, panels) in panels.chunks_exact_mut(len).enumerate() {
                    let first = matrices.first + index as i64 * matrices.apart;
                    pack_all(team, values, Matrices { first, ..matrices }, panels);
                }
                Kept::F32 { panels, matrices }
            }
            CpuWeights::F16 => Kept::F16(ShortPanels::new(team, values, matrices)?),
            CpuWeights::Bf16 => Kept::Bf16(ShortPanels::new(team, values, matrices)?),
            CpuWeights::Int8 => Kept::Int8(ShortPanels::new(team, values, matrices)?),
        })
    }

    /// One of the matrices.
    pub fn matrix(&self, index: usize) -> Form<'_, F> {
        match self {
            Kept::F32 { panels, matrices } => {
                let len = packed_len(matrices.terms, matrices.columns);
                Form::F32(Packed::new(&panels[index * len..][..len], matrices.terms))
            }
            Kept::F16(all) => Form::F16(all.matrix(index)),
            Kept::Bf16(all) => Form::Bf16(all.matrix(index)),
            Kept::Int8(all) => Form::Int8(all.matrix(index)),
        }
    }
}

/// A packed matrix in one of the forms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'a, F> {
    F32(Packed<'a, F>),
    F16(Shortened<'a, f16>),
    Bf16(Shortened<'a, bf16>),
    Int8(Shortened<'a, i8>),
}

/// Runs code with the panels of a [`Form`], compiled for each. f64, which only tests use, has no short forms.
macro_rules! with_panels {
    ($form:expr, $number:ty, $panels:ident => $code:expr) => {
        match $form {
            Form::F32($panels) => $code,
            Form::F16($panels) if const { is_f32::<$number>() } => $code,
            Form::Bf16($panels) if const { is_f32::<$number>() } => $code,
            Form::Int8($panels) if const { is_f32::<$number>() } => $code,
            _ => unreachable!("f64 in a short form"),
        }
    };
}
pub(super) use with_panels;
