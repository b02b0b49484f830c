//! Tiles of the recurrence: the rows and units that a thread carries through time, and their parts of buffers.

use crate::cell::GATES;
use crate::cpu::panels::COLUMNS;
use crate::cpu::share::{BufferSlice, deal, share};
use std::ops::Range;

/// Bytes of recurrent weights above which threads divide the units instead of the rows: such weights exceed the second-level
/// cache, and reading them dominates the time.
const SHARED_WEIGHTS: usize = 8 << 20;
/// Rows of a thread below which threads divide the units instead: each weight that is read would serve too few rows.
const FEW_ROWS: usize = 4;
/// Multiplications that a thread could do in the time in which it meets one other, once a step. An estimate.
const MEETING: u64 = 1 << 13;

/// A tile of the state that a thread carries through time: some rows of one direction, and some units.
pub(super) struct Tile {
    pub(super) direction: usize,
    pub(super) rows: Range<usize>,
    pub(super) units: Range<usize>,
}

/// Division of a layer's state among threads. Groups of threads share out the rows of all directions, the threads of a group the
/// units of its rows; these must exchange their states.
pub(super) struct Division {
    /// Tiles of every thread, group after group.
    pub(super) tiles: Vec<Vec<Tile>>,
    /// Units of each thread of a group.
    pub(super) units: Vec<Range<usize>>,
}

/// Divides a layer's state among at most `threads` threads.
pub(super) fn divide(hidden: usize, batch: usize, directions: usize, threads: usize) -> Division {
    let rows = batch * directions;
    let (groups, each) = groups(hidden, batch, directions, threads);
    let units: Vec<_> = share(hidden, each, COLUMNS).collect();
    let tiles = |group: Range<usize>, units: &Range<usize>| {
        let each = group.start / batch..group.end.div_ceil(batch);
        each.map(|direction| {
            let first = direction * batch;
            let rows = group.start.max(first) - first..group.end.min(first + batch) - first;
            Tile { direction, rows, units: units.clone() }
        })
        .collect()
    };
    let all = share(rows, groups, 1).flat_map(|group| units.iter().map(move |units| tiles(group.clone(), units)));
    Division { tiles: all.collect(), units }
}

/// Numbers of groups and of threads of a group.
fn groups(hidden: usize, batch: usize, directions: usize, threads: usize) -> (usize, usize) {
    let rows = batch * directions;
    if threads > 1 && directions.is_multiple_of(threads) {
        // Whole directions: no more weights than those of some units of each, and no meetings.
        return (threads, 1);
    }
    let large = size_of::<f32>() * GATES * hidden * hidden > SHARED_WEIGHTS;
    if threads > 1 && hidden >= COLUMNS * threads && (rows < FEW_ROWS * threads || large) {
        return (1, threads);
    }
    // Multiplications of a step, or as many as could be done while the weights are read.
    let step =
        |groups: usize, units: usize| (rows.div_ceil(groups).max(FEW_ROWS) * units) as u64 * (GATES * hidden) as u64;
    let by_rows = (threads.min(rows), 1);
    // Beside the rows alone, threads of a group must pay.
    let (mut best, mut least) = (by_rows, step(by_rows.0, hidden) / 4 * 3);
    for groups in 1..=threads.min(rows) {
        for each in 2..=(threads / groups).min(hidden / COLUMNS) {
            let time = step(groups, hidden.div_ceil(each).next_multiple_of(COLUMNS)) + each as u64 * MEETING;
            if time < least {
                (best, least) = ((groups, each), time);
            }
        }
    }
    best
}

/// Splits scratch space into slices of the given lengths.
pub(super) fn rooms<F>(mut scratch: &mut [F], lens: impl IntoIterator<Item = usize>) -> Vec<&mut [F]> {
    let mut all = Vec::new();
    for len in lens {
        let (own, rest) = std::mem::take(&mut scratch).split_at_mut(len);
        all.push(own);
        scratch = rest;
    }
    all
}

/// Slices of a buffer [slots, D, B, width·H] that tiles write: the units of the tile, for every step, row and layer of a slot, in
/// the order [tile][step][row][layer].
pub(super) struct TileSlices {
    pub(super) first: usize,
    pub(super) steps: usize,
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) hidden: usize,
    pub(super) batch: usize,
    pub(super) directions: usize,
}

impl TileSlices {
    /// Deals the slices [step][row][layer] to each tile of each thread.
    pub(super) fn deal<'a, F>(&self, buffer: &'a mut [F], tiles: &[Vec<Tile>]) -> Vec<Vec<Vec<&'a mut [F]>>> {
        let mut slices = Vec::new();
        let flat = tiles.iter().flatten();
        let slot = self.directions * self.batch * self.hidden * self.width;
        for step in 0..self.steps {
            for layer in 0..self.layers {
                for (to, tile) in flat.clone().enumerate() {
                    for row in tile.rows.clone() {
                        let at = (step * self.layers + layer) * slot
                            + ((tile.direction * self.batch + row) * self.hidden + tile.units.start) * self.width;
                        let index = (step * tile.rows.len() + row - tile.rows.start) * self.layers + layer;
                        slices.push(BufferSlice { at: self.first + at, len: tile.units.len() * self.width, to, index });
                    }
                }
            }
        }
        let mut dealt = deal(buffer, slices, flat.count()).into_iter();
        tiles.iter().map(|own| dealt.by_ref().take(own.len()).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and units of a division's groups.
    fn parts(hidden: usize, batch: usize, directions: usize, threads: usize) -> [usize; 2] {
        let Division { tiles, units } = divide(hidden, batch, directions, threads);
        assert!(tiles.len() <= threads && tiles.len() % units.len() == 0);
        let mut covered = vec![0; directions * batch * hidden];
        for (thread, own) in tiles.iter().enumerate() {
            for tile in own {
                assert_eq!(tile.units, units[thread % units.len()]);
                for row in tile.rows.clone() {
                    let first = (tile.direction * batch + row) * hidden;
                    covered[first + tile.units.start..first + tile.units.end].iter_mut().for_each(|count| *count += 1);
                }
            }
        }
        assert!(
            covered.iter().all(|&count| count == 1),
            "H = {hidden}, B = {batch}, D = {directions}, {threads} threads"
        );
        [tiles.len() / units.len(), units.len()]
    }

    #[test]
    fn every_unit_of_every_row_is_in_one_tile() {
        for hidden in [1, 16, 40, 130, 256] {
            for (batch, directions) in [(1, 1), (1, 2), (5, 1), (5, 2), (32, 1)] {
                for threads in [1, 2, 3, 4, 7, 8, 16, 33, 64] {
                    parts(hidden, batch, directions, threads);
                }
            }
        }
    }

    #[test]
    fn threads_divide_rows_units_or_both() {
        assert_eq!(parts(256, 32, 1, 8), [8, 1], "rows");
        assert_eq!(parts(512, 1, 1, 2), [1, 2], "units of few rows");
        assert_eq!(parts(1536, 32, 1, 4), [1, 4], "units of large weights");
        assert_eq!(parts(256, 32, 1, 64), [8, 8], "both");
        assert_eq!(parts(32, 32, 1, 64), [32, 1], "rows, where meeting takes longer than the units do");
    }
}
