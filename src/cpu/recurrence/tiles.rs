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

/// A tile of the state that a thread carries through time: some rows of one direction, and some units.
pub(super) struct Tile {
    pub(super) direction: usize,
    pub(super) rows: Range<usize>,
    pub(super) units: Range<usize>,
}

/// The tiles of every thread, and true if threads divide the units, which they then must exchange.
pub(super) fn tiles(hidden: usize, batch: usize, directions: usize, threads: usize) -> (Vec<Vec<Tile>>, bool) {
    let rows = batch * directions;
    let by_units = threads > 1
        && hidden >= COLUMNS * threads
        && (rows < FEW_ROWS * threads || size_of::<f32>() * GATES * hidden * hidden > SHARED_WEIGHTS);
    if by_units {
        let threads: Vec<_> = share(hidden, threads, COLUMNS).collect();
        let own = |units: &Range<usize>| {
            (0..directions).map(|direction| Tile { direction, rows: 0..batch, units: units.clone() }).collect()
        };
        return (threads.iter().map(own).collect(), true);
    }
    let own = |range: Range<usize>| {
        let each = range.start / batch..range.end.div_ceil(batch);
        each.map(|direction| {
            let first = direction * batch;
            let rows = range.start.max(first) - first..range.end.min(first + batch) - first;
            Tile { direction, rows, units: 0..hidden }
        })
        .collect()
    };
    (share(rows, threads, 1).map(own).collect(), false)
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
