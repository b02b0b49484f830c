//! Arrays to and from the sequences of a plan.

use crate::cpu::{Team, Threads};
use crate::device::{Destination, Executable, Place, Reading};
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::memory;
use crate::plan::BufferId;
use crate::schedule::Sequence;
use ndarray::{Array3, ArrayView, ArrayView2, ArrayView3, ArrayViewMut3, Axis, Dimension, s};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sequences of an array, as they lie or chosen by index.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// [N, T, F], any strides.
    pub values: ArrayView3<'a, f32>,
    /// `[B]`: the sequences of the batch, in their order; all without.
    pub chosen: Option<&'a [usize]>,
}

impl<'a> Rows<'a> {
    /// All sequences of an array [B, T, F].
    pub fn all(values: ArrayView3<'a, f32>) -> Rows<'a> {
        Rows { values, chosen: None }
    }

    /// All sequences of an array [T, B, F].
    pub fn by_time(values: ArrayView3<'a, f32>) -> Rows<'a> {
        Rows::all(values.permuted_axes([1, 0, 2]))
    }

    /// B.
    pub fn count(&self) -> usize {
        self.chosen.map_or(self.values.dim().0, <[usize]>::len)
    }

    /// Some steps.
    fn steps(&self, steps: Range<usize>) -> Rows<'a> {
        Rows { values: self.values.slice_move(s![.., steps, ..]), chosen: self.chosen }
    }

    /// A sequence [T, F] of the batch.
    fn row(&self, b: usize) -> ArrayView2<'a, f32> {
        self.values.index_axis_move(Axis(0), self.chosen.map_or(b, |chosen| chosen[b]))
    }
}

/// Writes sequences to a plan's buffers.
pub(crate) fn upload(executable: &Executable, sequence: &Sequence, rows: Rows<'_>) -> Result<()> {
    for (k, &buffer) in sequence.chunks.iter().enumerate() {
        let range = sequence.chunk_range(k);
        let part = rows.steps(range.start as usize..range.end as usize);
        let (_, steps, features) = part.values.dim();
        let len = (steps * part.count() * features) as u64;
        executable.write_with((buffer, sequence.lead as u64), len, |to, threads| put_by_time(part, to, threads))??;
    }
    Ok(())
}

/// Writes an array of any strides, in the order of its axes.
pub(crate) fn write(executable: &Executable, place: (BufferId, u64), values: ArrayView3<f32>) -> Result<()> {
    let rows = Rows::by_time(values);
    executable.write_with(place, values.len() as u64, |to, threads| put_by_time(rows, to, threads))?
}

/// Writes an array of any strides, in the order of its axes.
pub(crate) fn put_rows(values: ArrayView3<'_, f32>, to: Destination<'_>, threads: Threads) -> Result<()> {
    put_by_time(Rows::by_time(values), to, threads)
}

/// Elements that pay for another thread; a copy of as many takes about 10 µs.
const ELEMENTS_A_THREAD: usize = 1 << 15;

/// Threads of a team that copy or check so many elements.
fn threads_for(team: &Team, elements: usize) -> usize {
    team.threads_for((elements / ELEMENTS_A_THREAD) as u64)
}

/// Writes sequences in the order [T, B, F].
fn put_by_time(rows: Rows<'_>, to: Destination<'_>, threads: Threads) -> Result<()> {
    let (batch, (_, steps, features)) = (rows.count(), rows.values.dim());
    debug_assert_eq!(to.len(), steps * batch * features);
    if to.len() < 2 * ELEMENTS_A_THREAD {
        return put_steps(rows, to);
    }
    let team = Team::new(threads);
    let share = steps.div_ceil(threads_for(&team, to.len()).min(steps.max(1))).max(1);
    if share >= steps {
        return put_steps(rows, to);
    }
    let (mut parts, mut rest) = (Vec::new(), to);
    for first in (0..steps).step_by(share) {
        let end = steps.min(first + share);
        let (own, others) = rest.split_at((end - first) * batch * features);
        parts.push((rows.steps(first..end), own));
        rest = others;
    }
    let failed = Mutex::new(None);
    team.each(parts, |(rows, to)| {
        if let Err(error) = put_steps(rows, to) {
            *lock(&failed) = Some(error);
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// Features from which on a row's step is copied by itself; shorter ones are put in order in a tile first.
const LONG_ROW: usize = 64;
/// Elements of a tile, which stays in a processor's nearest cache.
const TILE: usize = 4096;

/// [`put_by_time`] on one thread.
fn put_steps(rows: Rows<'_>, mut to: Destination<'_>) -> Result<()> {
    let (batch, (_, steps, features)) = (rows.count(), rows.values.dim());
    if rows.chosen.is_none()
        && let Some(values) = rows.values.permuted_axes([1, 0, 2]).to_slice()
    {
        to.put(values);
        return Ok(());
    }
    let lines: Vec<Option<&[f32]>> = memory::collect(batch, (0..batch).map(|b| rows.row(b).to_slice()), "a batch")?;
    if features >= LONG_ROW && lines.iter().all(Option::is_some) {
        for t in 0..steps {
            for line in lines.iter().flatten() {
                to.put(&line[t * features..][..features]);
            }
        }
        return Ok(());
    }
    // As many steps as make a few cache lines of a sequence, or one step of a part of the batch
    let high = (4 * LONG_ROW).div_ceil(features).min(TILE / (batch * features).max(1)).clamp(1, steps.max(1));
    let wide = if high > 1 { batch } else { (TILE / features).clamp(1, batch.max(1)) };
    let mut tile: Vec<f32> = memory::zeros(high * wide * features, "a part of a batch")?;
    for first in (0..steps).step_by(high) {
        let height = high.min(steps - first);
        for left in (0..batch).step_by(wide) {
            let width = wide.min(batch - left);
            for b in 0..width {
                let column = tile[b * features..].chunks_mut(width * features).take(height);
                match lines[left + b] {
                    Some(line) if features == 1 => {
                        column.zip(&line[first..]).for_each(|(to, &value)| to[0] = value);
                    }
                    Some(line) => {
                        let line = line[first * features..].chunks_exact(features);
                        // Not as a copy of slices, whose call costs more than so few elements.
                        let own = column.zip(line);
                        own.for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, &value)| *to = value));
                    }
                    None => {
                        let row = rows.row(left + b);
                        for (t, to) in column.enumerate() {
                            to.iter_mut().zip(row.row(first + t)).for_each(|(to, &value)| *to = value);
                        }
                    }
                }
            }
            to.put(&tile[..height * width * features]);
        }
    }
    Ok(())
}

/// The elements of an array that has this shape or is made anew.
pub(crate) fn shaped(array: &mut Array3<f32>, shape: (usize, usize, usize)) -> Result<&mut [f32]> {
    if array.dim() != shape || !array.is_standard_layout() {
        *array = memory::array(shape, format_args!("an array of shape {shape:?}"))?;
    }
    // In one piece, as was just made sure.
    Ok(array.as_slice_mut().expect("an array in standard layout is contiguous"))
}

/// The first axis of an array of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// [T, B, F], as on the device.
    Time,
    /// [B, T, F].
    Batch,
}

/// Arrays to be read from sequences of a plan, all of them at once.
pub(crate) struct Downloads<'a> {
    into: Vec<Download<'a>>,
    places: Vec<Place>,
}

/// An array, and the steps of each of its chunks.
struct Download<'a> {
    by_time: ArrayViewMut3<'a, f32>,
    chunks: Vec<Range<usize>>,
}

impl<'a> Downloads<'a> {
    pub fn new() -> Downloads<'a> {
        Downloads { into: Vec::new(), places: Vec::new() }
    }

    /// Adds a sequence and its array, which is replaced where its shape does not fit.
    pub fn add(&mut self, sequence: &Sequence, batch: usize, order: Order, into: &'a mut Array3<f32>) -> Result<()> {
        let (steps, features) = (sequence.steps as usize, sequence.features as usize);
        let by_time = match order {
            Order::Time => {
                shaped(into, (steps, batch, features))?;
                into.view_mut()
            }
            Order::Batch => {
                shaped(into, (batch, steps, features))?;
                into.view_mut().permuted_axes([1, 0, 2])
            }
        };
        let mut chunks = Vec::with_capacity(sequence.chunks.len());
        for (k, &buffer) in sequence.chunks.iter().enumerate() {
            let range = sequence.chunk_range(k);
            self.places.push((buffer, sequence.lead as u64, range.len() as u64 * batch as u64 * features as u64));
            chunks.push(range.start as usize..range.end as usize);
        }
        self.into.push(Download { by_time, chunks });
        Ok(())
    }

    /// Adds elements that lie in one piece, [1, 1, F].
    pub fn add_flat(&mut self, (buffer, at): (BufferId, u64), into: &'a mut [f32]) {
        self.places.push((buffer, at, into.len() as u64));
        let shape = (1, 1, into.len());
        // A slice has the shape of its length.
        let by_time = ArrayViewMut3::from_shape(shape, into).expect("a slice of this length");
        self.into.push(Download { by_time, chunks: std::iter::once(0..1).collect() });
    }

    /// The elements to be read.
    pub fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    /// Waits for a reading of [`Downloads::places`] and fills the arrays.
    pub async fn fill(mut self, reading: Reading<'_>) -> Result<()> {
        let chunks =
            self.into.iter().enumerate().flat_map(|(k, own)| own.chunks.iter().map(move |range| (k, range.clone())));
        let chunks: Vec<(usize, Range<usize>)> = chunks.collect();
        let mut failed = None;
        let fill = |place: usize, values: &[f32], threads: Threads| {
            let (array, steps) = chunks[place].clone();
            let part = self.into[array].by_time.slice_mut(s![steps, .., ..]);
            match ArrayView3::from_shape(part.raw_dim(), values) {
                Ok(values) => take_by_time(values, part, threads),
                Err(error) => failed = Some(Error::Plan(error.to_string())),
            }
        };
        reading.see(fill).await?;
        failed.map_or(Ok(()), Err)
    }
}

/// Copies values [T, B, F] into an array of the same shape and any strides.
fn take_by_time(values: ArrayView3<'_, f32>, mut into: ArrayViewMut3<'_, f32>, threads: Threads) {
    let steps = values.dim().0;
    if values.len() < 2 * ELEMENTS_A_THREAD {
        return take_steps(values, into);
    }
    let team = Team::new(threads);
    let share = steps.div_ceil(threads_for(&team, values.len()).min(steps.max(1))).max(1);
    if share >= steps {
        return take_steps(values, into);
    }
    let parts = values.axis_chunks_iter(Axis(0), share).zip(into.axis_chunks_iter_mut(Axis(0), share));
    team.each(parts.collect(), |(values, into)| take_steps(values, into));
}

/// [`take_by_time`] on one thread.
fn take_steps(values: ArrayView3<'_, f32>, mut into: ArrayViewMut3<'_, f32>) {
    let (steps, batch, features) = values.dim();
    if into.is_standard_layout() || features >= LONG_ROW {
        into.assign(&values);
        return;
    }
    // A few cache lines of a sequence at a time, while what they come from is in the nearest cache
    let high = (4 * LONG_ROW).div_ceil(features.max(1)).min(TILE / (batch * features).max(1)).max(1);
    for first in (0..steps).step_by(high) {
        let part = s![first..steps.min(first + high), .., ..];
        let (values, mut into) = (values.slice(part), into.slice_mut(part));
        for (mut into, values) in into.axis_iter_mut(Axis(1)).zip(values.axis_iter(Axis(1))) {
            for (mut into, values) in into.rows_mut().into_iter().zip(values.rows()) {
                into.iter_mut().zip(values).for_each(|(to, &value)| *to = value);
            }
        }
    }
}

/// Reads a sequence into an array, which is replaced where its shape does not fit.
pub(crate) async fn download(
    executable: &Executable,
    sequence: &Sequence,
    batch: usize,
    order: Order,
    into: &mut Array3<f32>,
) -> Result<()> {
    let mut downloads = Downloads::new();
    downloads.add(sequence, batch, order, into)?;
    let reading = executable.run_reading(0..0, downloads.places())?;
    downloads.fill(reading).await
}

/// The key of random bits and the lengths of sequences (T without), as in a plan's buffer "words".
pub(crate) fn key_and_lengths(
    key: [u32; 2],
    lengths: Option<&[usize]>,
    batch: usize,
    steps: usize,
) -> Result<Vec<f32>> {
    if let Some(lengths) = lengths {
        if lengths.len() != batch {
            return Err(Error::Shape(format!("{} lengths were given for B = {batch} sequences", lengths.len())));
        }
        if let Some((row, length)) = lengths.iter().enumerate().find(|&(_, &length)| length > steps) {
            return Err(Error::Shape(format!(
                "the length of sequence {row} is {length}, but the input has T = {steps} steps"
            )));
        }
    }
    let length = |row: usize| lengths.map_or(steps, |lengths| lengths[row]) as u32;
    Ok(key.into_iter().chain((0..batch).map(length)).map(f32::from_bits).collect())
}

/// True if no element is NaN or infinite. One plain pass without an early end, which goes through vector registers.
pub(crate) fn is_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000; // all ones in NaN and infinity
    !values.iter().fold(false, |found, value| found | (value.to_bits() & EXPONENT == EXPONENT))
}

/// [`is_finite`] by several threads.
pub(crate) fn all_finite(values: &[f32], threads: Threads) -> bool {
    if values.len() < 2 * ELEMENTS_A_THREAD {
        return is_finite(values);
    }
    let team = Team::new(threads);
    let threads = threads_for(&team, values.len());
    let finite = AtomicBool::new(true);
    team.each(values.chunks(values.len().div_ceil(threads)).collect(), |part| {
        if !is_finite(part) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

/// Refuses NaN and infinity, naming the place by the axes' names.
pub(crate) fn finite<D: Dimension>(what: &str, axes: &str, values: &ArrayView<f32, D>) -> Result<()> {
    finite_by(Threads::AtMost(1), what, axes, values)
}

/// [`finite`] by several threads.
pub(crate) fn finite_by<D: Dimension>(
    threads: Threads,
    what: &str,
    axes: &str,
    values: &ArrayView<f32, D>,
) -> Result<()> {
    // The usual case
    if values.as_slice_memory_order().is_some_and(|values| all_finite(values, threads)) {
        return Ok(());
    }
    finite_numbers(what, axes, values)
}

/// [`finite`] for numbers of any kind that f64 holds.
pub(crate) fn finite_numbers<D: Dimension>(
    what: &str,
    axes: &str,
    values: &ArrayView<impl Into<f64> + Copy, D>,
) -> Result<()> {
    // The usual case, without the index of every number
    if values.iter().all(|&value| value.into().is_finite()) {
        return Ok(());
    }
    let values = values.view().into_dyn();
    match values.indexed_iter().map(|(index, &value)| (index, value.into())).find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, value)) => {
            let position = format!("{axes} = {:?}", index.as_array_view().to_vec());
            Err(Error::NotFinite { what: what.into(), position, value: value as f32 })
        }
    }
}

/// Refuses an axis of length 0.
pub(crate) fn not_empty(what: &str, axes: &str, shape: &[usize]) -> Result<()> {
    if shape.contains(&0) {
        return Err(Error::Shape(format!("{what} is empty (shape {axes} = {shape:?}); every size must be at least 1")));
    }
    Ok(())
}
