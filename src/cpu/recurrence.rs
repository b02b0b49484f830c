//! The recurrence, forward and backward.
//!
//! Each thread carries a tile through all steps. If the batch is large enough, a tile has some of the rows and all units, and
//! there is no barrier. If it is not, or if the weights of all units exceed the caches, a tile has all rows and some of the
//! units, and threads exchange their states at a barrier in each step.

use super::barrier::Barrier;
use super::panels::{Axis, COLUMNS, Matrices, Panels, pack_all, packed_len};
use super::product::{group, multiply, single, single_packed};
use super::share::{BufferSlice, deal, share};
use super::team::WORTH_A_THREAD;
use super::{Args, Pick, Team};
use crate::cell::{BackwardRow, BackwardRowFn, ForwardRow, ForwardRowFn, GATES, MAX_SAVED, MAX_STATES, Settings};
use crate::kernel::{self, Call, ScanBackwardConstants, ScanForwardConstants, widened};
use crate::lock::{read, write};
use crate::random::bits;
use crate::real::Real;
use crate::simd::{Work, dispatch};
use pulp::Simd;
use std::ops::Range;
use std::sync::RwLock;

/// Bytes of recurrent weights above which threads divide the units instead of the rows: such weights exceed the second-level
/// cache, and reading them dominates the time.
const SHARED_WEIGHTS: usize = 8 << 20;
/// Rows of a thread below which threads divide the units instead: each weight that is read would serve too few rows.
const FEW_ROWS: usize = 4;

/// A tile of the state that a thread carries through time: some rows of one direction, and some units.
struct Tile {
    direction: usize,
    rows: Range<usize>,
    units: Range<usize>,
}

/// The tiles of every thread, and true if threads divide the units, which they then must exchange.
fn tiles(hidden: usize, batch: usize, directions: usize, threads: usize) -> (Vec<Vec<Tile>>, bool) {
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

/// Exchange of states between threads that divide the units, once a step. Two buffers alternate: while some threads still read
/// one, others already fill the other, and no thread is two barriers ahead.
struct Exchange<F> {
    barrier: Barrier,
    /// Buffers [thread][trade % 2]: a thread's units of all rows.
    rooms: Vec<[RwLock<Vec<F>>; 2]>,
}

impl<F: Real> Exchange<F> {
    fn new(threads: usize) -> Self {
        Exchange { barrier: Barrier::new(threads), rooms: (0..threads).map(|_| Default::default()).collect() }
    }

    /// Gives this thread's columns of `state` [rows, width] to the others and takes theirs. `columns` are those of each
    /// thread, `trades` counts this thread's trades.
    fn trade(&self, thread: usize, trades: &mut usize, state: &mut [F], width: usize, columns: &[Range<usize>]) {
        let turn = *trades % 2;
        *trades += 1;
        {
            let mut own = write(&self.rooms[thread][turn]);
            own.clear();
            for row in state.chunks_exact(width) {
                own.extend_from_slice(&row[columns[thread].clone()]);
            }
        }
        self.barrier.wait();
        for (other, columns) in columns.iter().enumerate().filter(|&(other, _)| other != thread) {
            let theirs = read(&self.rooms[other][turn]);
            for (row, values) in state.chunks_exact_mut(width).zip(theirs.chunks_exact(columns.len())) {
                row[columns.clone()].copy_from_slice(values);
            }
        }
    }
}

/// Product of a tile's rows and its columns of the weights: out [rows, columns], rounded up to whole panels.
struct Product<'a, F> {
    /// [rows, terms].
    state: &'a [F],
    /// Scratch space of the same size.
    grouped: &'a mut [F],
    terms: usize,
    weights: Side<'a, F>,
    out: &'a mut [F],
    columns: usize,
}

impl<F: Real> Work for Product<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Product { state, grouped, terms, weights, out, columns } = self;
        let panels = match weights {
            Side::Rows(rows, stride) => return single(simd, state, (rows, stride), false, &mut out[..columns]),
            Side::Panels(panels) => panels,
            Side::Blocks(blocks) => {
                let rows = state.chunks_exact(terms).zip(out.chunks_exact_mut(columns.next_multiple_of(COLUMNS)));
                return rows.for_each(|(state, out)| blocks.multiply(simd, state, &mut out[..columns]));
            }
        };
        if state.len() == terms {
            return single_packed(simd, state, panels.data, &mut out[..columns.next_multiple_of(COLUMNS)]);
        }
        let rows = state.len() / terms;
        group(rows, terms, |m| &state[m * terms..], grouped);
        let columns = columns.next_multiple_of(COLUMNS);
        for panel in 0..panels.count {
            multiply(simd, grouped, terms, panels.panel(panel), &mut out[panel * COLUMNS..], columns);
        }
    }
}

/// Some columns of the weights.
#[derive(Clone, Copy)]
enum Side<'a, F> {
    /// Row-major, with the stride of their rows: for a single row of the batch.
    Rows(&'a [F], usize),
    /// Packed.
    Panels(Panels<'a, F>),
    /// Columns of a block-diagonal matrix.
    Blocks(Blocks<'a, F>),
}

/// Some columns of a block-diagonal matrix, stored as its blocks, [terms, columns] each, side by side.
#[derive(Clone, Copy)]
struct Blocks<'a, F> {
    /// Elements from the first column on.
    data: &'a [F],
    /// Stride of a term.
    stride: usize,
    /// Index of the first column.
    first: usize,
    terms: usize,
    columns: usize,
}

impl<F: Real> Blocks<'_, F> {
    /// Multiplies a row [blocks · terms] by the columns.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, row: &[F], out: &mut [F]) {
        let (mut at, end) = (self.first, self.first + out.len());
        while at < end {
            let block = at / self.columns;
            let own = at - self.first..end.min((block + 1) * self.columns) - self.first;
            at += own.len();
            let (row, data) = (&row[block * self.terms..][..self.terms], &self.data[own.start..]);
            single(simd, row, (data, self.stride), false, &mut out[own]);
        }
    }
}

/// The weights [terms, columns] of each direction as tiles read them: packed, or row-major for a single row, for which packing
/// does not pay. Those of several heads are blocks of `terms` terms side by side.
struct Weights<'a, F> {
    data: &'a [F],
    packed: bool,
    terms: usize,
    columns: usize,
    heads: usize,
}

/// Addresses of the weights of all directions.
fn matrices(directions: usize, terms: usize, columns: usize) -> Matrices {
    let apart = (terms * columns) as i64;
    Matrices { count: directions, first: 0, apart, terms, columns, k: Axis::plain(columns), n: 1 }
}

impl<'a, F: Real> Weights<'a, F> {
    /// Elements of scratch space for packing.
    fn room(directions: usize, terms: usize, columns: usize, heads: usize, batch: usize) -> usize {
        if batch == 1 || heads > 1 { 0 } else { directions * packed_len(terms, columns) }
    }

    /// Packs the weights in `room`, unless it is empty.
    fn new(team: &Team, data: &'a [F], terms: usize, columns: usize, heads: usize, room: &'a mut [F]) -> Self {
        if room.is_empty() {
            return Weights { data, packed: false, terms, columns, heads };
        }
        let own = matrices(1, terms, columns);
        for (direction, room) in room.chunks_exact_mut(packed_len(terms, columns)).enumerate() {
            pack_all(team, data, Matrices { first: direction as i64 * own.apart, ..own }, room);
        }
        Weights { data: room, packed: true, terms, columns, heads }
    }

    /// Some columns of a direction.
    fn side(&self, direction: usize, columns: Range<usize>) -> Side<'a, F> {
        if self.packed {
            let len = packed_len(self.terms, self.columns);
            let own = packed_len(self.terms, columns.start)..packed_len(self.terms, columns.end);
            return Side::Panels(Panels::packed(&self.data[direction * len..][own], self.terms));
        }
        let first = direction * self.terms * self.columns;
        let data = &self.data[first..first + self.terms * self.columns][columns.start..];
        if self.heads == 1 {
            return Side::Rows(data, self.columns);
        }
        let (first, stride, columns) = (columns.start, self.columns, self.columns / self.heads);
        Side::Blocks(Blocks { data, stride, first, terms: self.terms, columns })
    }
}

/// Splits scratch space into slices of the given lengths.
fn rooms<F>(mut scratch: &mut [F], lens: impl IntoIterator<Item = usize>) -> Vec<&mut [F]> {
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
struct TileSlices {
    first: usize,
    steps: usize,
    layers: usize,
    width: usize,
    hidden: usize,
    batch: usize,
    directions: usize,
}

impl TileSlices {
    /// Deals the slices [step][row][layer] to each tile of each thread.
    fn deal<'a, F>(&self, buffer: &'a mut [F], tiles: &[Vec<Tile>]) -> Vec<Vec<Vec<&'a mut [F]>>> {
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

/// The key of a run's random bits (2 words), then the lengths of its sequences.
pub(crate) struct KeyAndLengths<'a, F>(pub &'a [F]);

impl<F: Real> KeyAndLengths<'_, F> {
    pub fn key(&self) -> [u32; 2] {
        [self.0[0].word(), self.0[1].word()]
    }

    /// True if a time is before the end of a row's sequence.
    pub fn holds(&self, row: usize, time: usize) -> bool {
        time < self.0[2 + row].word() as usize
    }
}

/// The time of a step of the scan.
pub(crate) fn time(step: usize, total: u32, direction: usize, backwards: u32) -> usize {
    if direction == 1 || backwards == 1 { total as usize - 1 - step } else { step }
}

/// Inputs of a forward pass that all tiles share.
struct ForwardPass<'a, F> {
    cell: ForwardRowFn<F>,
    p: kernel::ScanForward,
    settings: Settings,
    ragged: bool,
    /// True if states are carried past the cell; `zoneout` if units keep them by zoneout.
    carries: bool,
    zoneout: bool,
    xw: &'a [F],
    /// Bias summed, [D, 4H].
    bias: &'a [F],
    /// Further parameters, [D, 4H]; empty where the cell has none.
    extra: &'a [F],
    /// `None` if the product has been added to W·x.
    weights: Option<Weights<'a, F>>,
    key_and_lengths: KeyAndLengths<'a, F>,
    /// Factors of h' before the product, [D, B, K]; empty without dropout.
    mask: &'a [F],
    exchange: Option<Exchange<F>>,
    /// Units of each thread.
    units: Vec<Range<usize>>,
    hidden: usize,
    /// Width of the recurrent state.
    width: usize,
    /// States of a unit beside h.
    states: usize,
    saved: usize,
}

/// A tile with its state and outputs.
struct ForwardTile<'a, F> {
    tile: Tile,
    /// Input of the product: hidden state of the tile's rows and all units, under the mask, [rows, K].
    h: &'a mut [F],
    /// The same in groups of rows.
    grouped: &'a mut [F],
    /// States beside h, [rows, STATES, units].
    c: &'a mut [F],
    /// Hidden state before the step, [rows, units]; kept only if it is carried past the cell.
    before: &'a mut [F],
    /// States of a row beside h, before the step, [STATES, units]; kept only if they are carried past the cell.
    c_prev: &'a mut [F],
    /// R·h', [rows, units, 4], rows rounded up to whole panels.
    rh: &'a mut [F],
    /// [step][row], units long.
    h_out: Vec<&'a mut [F]>,
    /// [step][row][STATES] in training, else [row][STATES].
    c_out: Vec<&'a mut [F]>,
    /// [step][row][SAVED]; empty unless in training.
    saved: Vec<&'a mut [F]>,
}

impl<F: Real> ForwardPass<'_, F> {
    fn run(&self, thread: usize, trades: &mut usize, mut own: ForwardTile<F>) {
        let Tile { direction, ref rows, ref units } = own.tile;
        let (p, hidden, width, count) = (&self.p, self.hidden, self.width, units.len());
        let [batch, directions, steps] = [p.batch, p.directions, p.steps].map(|size| size as usize);
        let (xw_row, columns) = (GATES * hidden, GATES * units.start..GATES * units.end);
        let wide = columns.len().next_multiple_of(COLUMNS);
        let weights = self.weights.as_ref().map(|weights| weights.side(direction, columns.clone()));
        let bias = &self.bias[direction * xw_row..][columns.clone()];
        let extra = if self.extra.is_empty() { &[] } else { &self.extra[direction * xw_row..][columns.clone()] };
        let carries = self.carries;
        own.rh.fill(F::zero());
        for step in 0..steps {
            if let Some(weights) = weights {
                dispatch(Product {
                    state: own.h,
                    grouped: own.grouped,
                    terms: width,
                    weights,
                    out: own.rh,
                    columns: columns.len(),
                });
            }
            for (row, b) in rows.clone().enumerate() {
                let at = ((step * directions + direction) * batch + b) * xw_row;
                let index = step * rows.len() + row;
                let c = &mut own.c[row * self.states * count..][..self.states * count];
                let h = &mut *own.h_out[index];
                let saved = if self.saved == 0 { &mut [] } else { &mut own.saved[index * self.saved..][..self.saved] };
                let scan_step = p.first_step as usize + step;
                let on = !self.ragged
                    || self.key_and_lengths.holds(b, time(scan_step, p.total_steps, direction, p.backwards));
                if on {
                    if carries {
                        own.c_prev.copy_from_slice(c);
                    }
                    (self.cell)(ForwardRow {
                        wx: &self.xw[at..][columns.clone()],
                        rh: &own.rh[row * wide..][..columns.len()],
                        bias,
                        extra,
                        settings: self.settings,
                        states: c,
                        h,
                        saved,
                    });
                    if self.zoneout {
                        let first = (scan_step * directions + direction) * batch + b;
                        let first = (first * hidden + units.start) as u32;
                        let before = &own.before[row * count..][..count];
                        self.zoneout(h, before, 0, first, (p.zoneout_h, p.keep_h));
                        for (c, c_prev) in c.chunks_exact_mut(count).zip(own.c_prev.chunks_exact(count)) {
                            self.zoneout(c, c_prev, 1, first, (p.zoneout_c, p.keep_c));
                        }
                    }
                } else {
                    h.copy_from_slice(&own.before[row * count..][..count]);
                    saved.iter_mut().for_each(|values| values.fill(F::zero()));
                }
                if carries {
                    own.before[row * count..][..count].copy_from_slice(h);
                }
                if width == hidden {
                    let state = &mut own.h[row * hidden..][units.clone()];
                    state.copy_from_slice(h);
                    if !self.mask.is_empty() {
                        let mask = &self.mask[(direction * batch + b) * hidden..][units.clone()];
                        state.iter_mut().zip(mask).for_each(|(value, &factor)| *value *= factor);
                    }
                }
                let kept = if self.saved > 0 { Some(index) } else { (step + 1 == steps).then_some(row) };
                if let Some(kept) = kept {
                    let planes = &mut own.c_out[kept * self.states..];
                    planes.iter_mut().zip(c.chunks_exact(count)).for_each(|(to, c)| to.copy_from_slice(c));
                }
            }
            if let (Some(exchange), true) = (&self.exchange, step + 1 < steps) {
                exchange.trade(thread, trades, own.h, hidden, &self.units);
            }
        }
    }

    /// Keeps old values at random in training, by `word` of the random bits, or a share of them in inference.
    fn zoneout(&self, new: &mut [F], old: &[F], word: usize, first: u32, (threshold, share): (u32, f32)) {
        if self.saved > 0 {
            let key = self.key_and_lengths.key();
            for (k, (new, &old)) in new.iter_mut().zip(old).enumerate() {
                if bits(key, [first.wrapping_add(k as u32), self.p.site])[word] < threshold {
                    *new = old;
                }
            }
        } else {
            new.iter_mut().zip(old).for_each(|(new, &old)| *new += F::of(share) * (old - *new));
        }
    }
}

/// Twin of `shaders/scan_forward.wgsl`.
pub fn scan_forward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: kernel::ScanForward = call.params();
    let constants: ScanForwardConstants = call.constants();
    let [hidden, width] = [constants.h, constants.k].map(|size| size as usize);
    let (train, drop, carries) = (constants.train, constants.drop, constants.carries.any());
    let [batch, directions, biases, steps] = [p.batch, p.directions, p.biases, p.steps].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let (columns, slot) = (GATES * hidden, directions * batch * hidden);
    let team = args.team;
    let kept = if train { spec.saved } else { 0 };
    let [terms, heads] = [constants.terms, constants.heads].map(|size| size as usize);
    let (projected, multiplies, states) = (width != hidden, terms > 0, spec.states.len());

    let wide = call.kernel.half_weights.then(|| widened(args.values(1)));
    // Packed once for all steps and, for weights, until they change; else here.
    let own_packed = match wide {
        None if multiplies && heads == 1 => args.panels(1, matrices(directions, width, columns), batch * steps),
        _ => None,
    };
    let threads = team.threads_for(call.flops() / 2 / WORTH_A_THREAD);
    let (tiles, shared) = tiles(hidden, batch, directions, threads);
    let packs = own_packed.is_none() && multiplies;
    let packed = if packs { Weights::<F>::room(directions, terms, columns, heads, batch) } else { 0 };
    let sizes = |tile: &Tile| {
        let (rows, units) = (tile.rows.len(), tile.units.len());
        let carries = carries as usize;
        let rh = rows * (units * GATES).next_multiple_of(COLUMNS);
        let c = states * units;
        [rows * width, rows * width, rows * c, carries * rows * units, carries * c, rh]
    };
    let extras = if spec.extra { directions * columns } else { 0 };
    let lens: Vec<usize> =
        [packed, directions * columns, extras].into_iter().chain(tiles.iter().flatten().flat_map(sizes)).collect();
    let room = lens.iter().sum();
    if !args.reserve(room) {
        return;
    }
    let ([xw, r, bias, key_and_lengths, mask], [h, c, saved], scratch) = args.parts(room);
    let mask = if drop { &mask[..directions * batch * width] } else { &[] };
    let mut rooms = rooms(scratch, lens).into_iter();
    let mut room = || rooms.next().expect("a room of every length asked for");
    let own = room();
    let r = wide.as_deref().unwrap_or(r);
    let weights = multiplies.then(|| match &own_packed {
        Some(packed) => Weights { data: packed, packed: true, terms, columns, heads },
        None => Weights::new(team, r, terms, columns, heads, own),
    });
    let (sums, extra) = (room(), room());
    let parameters = biases + spec.extra as usize;
    for (direction, sums) in sums.chunks_exact_mut(columns).enumerate() {
        let own = &bias[direction * parameters * columns..];
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = (0..biases).map(|n| own[n * columns + k]).sum();
        }
        if spec.extra {
            extra[direction * columns..][..columns].copy_from_slice(&own[biases * columns..][..columns]);
        }
    }
    let mut tile_states = Vec::new();
    for tile in tiles.iter().flatten() {
        let (own_h, grouped, own_c, before, c_prev, rh) = (room(), room(), room(), room(), room(), room());
        before.fill(F::zero());
        for (row, b) in tile.rows.clone().enumerate() {
            let from = tile.direction * batch + b;
            let state = &mut own_h[row * width..][..width];
            state.copy_from_slice(&h[p.h_in as usize + from * width..][..width]);
            let units = tile.units.len();
            if carries && !projected {
                before[row * units..][..units].copy_from_slice(&state[tile.units.clone()]);
            }
            if drop {
                let mask = &mask[from * width..];
                state.iter_mut().zip(mask).for_each(|(value, &factor)| *value *= factor);
            }
            for (plane, own_c) in own_c[row * states * units..].chunks_exact_mut(units).take(states).enumerate() {
                let from = p.c_in as usize + plane * slot + from * hidden;
                own_c.copy_from_slice(&c[from..][tile.units.clone()]);
            }
        }
        tile_states.push((own_h, grouped, own_c, before, c_prev, rh));
    }

    let slices = |first, steps, layers| TileSlices { first, steps, layers, width: 1, hidden, batch, directions };
    let c_out = slices(p.c_out as usize, if train { steps } else { 1 }, states).deal(c, &tiles);
    // The hidden state before its projection is stored after the saved values; there is one step then.
    let (saved, projected_out) =
        saved.split_at_mut(if projected { p.saved_offset as usize + kept * slot } else { saved.len() });
    let h_out = if projected {
        slices(0, 1, 1).deal(projected_out, &tiles)
    } else {
        slices(p.h_in as usize + slot, steps, 1).deal(h, &tiles)
    };
    let kept_out = slices(p.saved_offset as usize, if train { steps } else { 0 }, kept).deal(saved, &tiles);
    let pass = ForwardPass {
        cell: F::cell_forward(spec),
        p,
        settings: p.settings(constants.kinds),
        ragged: constants.carries.ragged(),
        carries,
        zoneout: constants.carries.zoneout(),
        xw: &xw[p.xw_offset as usize..],
        bias: sums,
        extra,
        weights,
        key_and_lengths: KeyAndLengths(key_and_lengths),
        mask,
        exchange: shared.then(|| Exchange::new(tiles.len())),
        units: tiles.iter().filter_map(|own| Some(own.first()?.units.clone())).collect(),
        hidden,
        width,
        states,
        saved: kept,
    };
    let mut tile_states = tile_states.into_iter();
    let mut work = Vec::with_capacity(tiles.len());
    for (thread, (((tiles, h_out), c_out), kept_out)) in
        tiles.into_iter().zip(h_out).zip(c_out).zip(kept_out).enumerate()
    {
        let own = tiles.into_iter().zip(tile_states.by_ref()).zip(h_out).zip(c_out).zip(kept_out);
        let own: Vec<_> = own
            .map(|((((tile, (h, grouped, c, before, c_prev, rh)), h_out), c_out), saved)| ForwardTile {
                tile,
                h,
                grouped,
                c,
                before,
                c_prev,
                rh,
                h_out,
                c_out,
                saved,
            })
            .collect();
        work.push((thread, own));
    }
    let barrier = pass.exchange.as_ref().map(|exchange| &exchange.barrier);
    team.each_with(work, barrier, |(thread, own)| {
        let mut trades = 0;
        for tile in own {
            pass.run(thread, &mut trades, tile);
        }
    });
}

/// Inputs of a backward pass that all tiles share.
struct BackwardPass<'a, F> {
    cell: BackwardRowFn<F>,
    p: kernel::ScanBackward,
    settings: Settings,
    ragged: bool,
    /// True if gradients are carried past the cell; `zoneout` if by zoneout.
    carries: bool,
    zoneout: bool,
    drops: bool,
    key_and_lengths: KeyAndLengths<'a, F>,
    /// Biases and further parameters, [D, biases + 1, 4H], if the cell has such.
    parameters: &'a [F],
    extra: bool,
    saved: &'a [F],
    c: &'a [F],
    dy: &'a [F],
    /// `None` if there is no later step.
    weights: Option<Weights<'a, F>>,
    exchange: Option<Exchange<F>>,
    /// Columns of the gate gradients of each thread.
    columns: Vec<Range<usize>>,
    hidden: usize,
    /// States of a unit beside h.
    states: usize,
    kept: usize,
}

/// A tile with its gradients and outputs.
struct BackwardTile<'a, F> {
    tile: Tile,
    /// Gate gradients of the later step, the tile's rows and all units, [rows, 4H].
    dg: &'a mut [F],
    /// The same in groups of rows.
    grouped: &'a mut [F],
    /// Gradient of h, [rows, units], rows rounded up to whole panels.
    dh: &'a mut [F],
    /// Gradients of a row's states carried past the cell, [STATES, units]; empty if none are.
    dc_past: &'a mut [F],
    /// [step][row], 4·units long.
    dg_out: Vec<&'a mut [F]>,
    /// [row][STATES], units long.
    dc: Vec<&'a mut [F]>,
    /// Gradient of h carried past the cell: [row], units long; empty if none is.
    carried: Vec<&'a mut [F]>,
    /// [row], 4·units long.
    dbias: Vec<&'a mut [F]>,
    /// [row], 4·units long; empty if the cell has no further parameters.
    dextra: Vec<&'a mut [F]>,
}

impl<F: Real> BackwardPass<'_, F> {
    fn run(&self, thread: usize, trades: &mut usize, mut own: BackwardTile<F>) {
        let Tile { direction, ref rows, ref units } = own.tile;
        let (p, hidden, count) = (&self.p, self.hidden, units.len());
        let (batch, directions, steps) = (p.batch as usize, p.directions as usize, p.steps as usize);
        let (slot, gates) = (directions * batch * hidden, GATES * hidden);
        let wide = count.next_multiple_of(COLUMNS);
        let weights = self.weights.as_ref().map(|weights| weights.side(direction, units.clone()));
        for step in (0..steps).rev() {
            let later = step + 1 < steps || p.has_next == 1;
            if let (true, Some(weights)) = (later, weights) {
                // Gradient through the later step's product.
                dispatch(Product {
                    state: own.dg,
                    grouped: own.grouped,
                    terms: gates,
                    weights,
                    out: own.dh,
                    columns: count,
                });
            } else {
                own.dh.fill(F::zero());
            }
            for (row, b) in rows.clone().enumerate() {
                let at = (direction * batch + b) * hidden;
                let scan_step = p.first_step as usize + step;
                let on = !self.ragged
                    || self.key_and_lengths.holds(b, time(scan_step, p.total_steps, direction, p.backwards));
                let dh = &mut own.dh[row * wide..][..count];
                let first_unit = (at + units.start) as u32;
                if self.drops {
                    let (key, scale) = (self.key_and_lengths.key(), F::of(p.drop_scale));
                    for (k, value) in dh.iter_mut().enumerate() {
                        let dropped = bits(key, [first_unit + k as u32, p.drop_site])[0] < p.drop;
                        *value = if dropped { F::zero() } else { *value * scale };
                    }
                }
                if step >= p.dy_from as usize && (on || p.dy_whole == 1) {
                    let from = p.dy_offset as usize
                        + (step - p.dy_from as usize) * p.dy_step as usize
                        + direction * p.dy_direction as usize
                        + b * p.dy_row as usize;
                    for (sum, &value) in dh.iter_mut().zip(&self.dy[from..][units.clone()]) {
                        *sum += value;
                    }
                }
                let dc = &mut own.dc[row * self.states..(row + 1) * self.states];
                let gradients = &mut *own.dg_out[step * rows.len() + row];
                if self.carries {
                    let carried = &mut *own.carried[row];
                    for (value, past) in dh.iter_mut().zip(carried) {
                        *value += *past;
                        *past = F::zero();
                        if !on {
                            std::mem::swap(value, past);
                        }
                    }
                    if on {
                        let index = (scan_step * slot + at + units.start) as u32;
                        let carried = own.carried[row].iter_mut();
                        self.zoneout(dh.iter_mut().zip(carried), 0, index, p.zoneout_h);
                        own.dc_past.fill(F::zero());
                        for (dc, past) in dc.iter_mut().zip(own.dc_past.chunks_exact_mut(count)) {
                            self.zoneout(dc.iter_mut().zip(past), 1, index, p.zoneout_c);
                        }
                    }
                }
                let first = p.first == 1 && step + 1 == steps;
                if on {
                    let mut saved: [&[F]; MAX_SAVED] = [&[]; MAX_SAVED];
                    for (q, values) in saved[..self.kept].iter_mut().enumerate() {
                        let from = p.saved_offset as usize + step * p.saved_step as usize + q * slot + at;
                        *values = &self.saved[from..][units.clone()];
                    }
                    let c_in = p.c_in as usize + step * self.states * slot + at;
                    let plane = |s: usize| &self.c[c_in + s * slot..][units.clone()];
                    let (mut old, mut new): ([&[F]; MAX_STATES], [&[F]; MAX_STATES]) = Default::default();
                    for s in 0..self.states {
                        (old[s], new[s]) = (plane(s), plane(self.states + s));
                    }
                    let extra = if self.extra {
                        let biases = p.biases as usize;
                        let from = (direction * (biases + 1) + biases) * gates;
                        &self.parameters[from..][GATES * units.start..GATES * units.end]
                    } else {
                        &[]
                    };
                    (self.cell)(BackwardRow {
                        saved,
                        old,
                        new,
                        dh,
                        d_states: dc,
                        gates: gradients,
                        dbias: own.dbias[row],
                        extra,
                        dextra: own.dextra.get_mut(row).map_or(&mut [], |own| &mut **own),
                        settings: self.settings,
                        first,
                    });
                    if self.carries {
                        let sums = dc.iter_mut().flat_map(|plane| plane.iter_mut());
                        sums.zip(&*own.dc_past).for_each(|(sum, &past)| *sum += past);
                    }
                } else {
                    gradients.fill(F::zero());
                    if first {
                        own.dbias[row].fill(F::zero());
                        own.dextra.get_mut(row).into_iter().for_each(|own| own.fill(F::zero()));
                    }
                }
                own.dg[row * gates..][GATES * units.start..GATES * units.end].copy_from_slice(gradients);
            }
            if let (Some(exchange), true) = (&self.exchange, step > 0) {
                exchange.trade(thread, trades, own.dg, gates, &self.columns);
            }
        }
    }

    /// Moves gradients of units that kept their old state from the cell to the state before it.
    fn zoneout<'v>(&self, values: impl Iterator<Item = (&'v mut F, &'v mut F)>, word: usize, first: u32, threshold: u32)
    where
        F: 'v,
    {
        if self.zoneout {
            for (k, (value, past)) in values.enumerate() {
                if bits(self.key_and_lengths.key(), [first.wrapping_add(k as u32), self.p.site])[word] < threshold {
                    std::mem::swap(value, past);
                }
            }
        }
    }
}

/// Twin of `shaders/scan_backward.wgsl`.
pub fn scan_backward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: kernel::ScanBackward = call.params();
    let constants: ScanBackwardConstants = call.constants();
    let (hidden, carries) = (constants.h as usize, constants.carries.any());
    let [batch, directions, steps] = [p.batch, p.directions, p.steps].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let [terms, heads] = [constants.terms, constants.heads].map(|size| size as usize);
    let (gates, states) = (GATES * hidden, spec.states.len());
    let team = args.team;
    let threads = team.threads_for(call.flops() / 2 / WORTH_A_THREAD);
    let (tiles, shared) = tiles(hidden, batch, directions, threads);

    let wide = call.kernel.half_weights.then(|| widened(args.values(3)));
    let (multiplies, terms) = ((steps > 1 || p.has_next == 1) && terms > 0, GATES * terms);
    let packed = if multiplies { Weights::<F>::room(directions, terms, hidden, heads, batch) } else { 0 };
    let sizes = |tile: &Tile| {
        let (rows, units) = (tile.rows.len(), tile.units.len());
        [rows * gates, rows * gates, rows * units.next_multiple_of(COLUMNS), carries as usize * states * units]
    };
    let lens: Vec<usize> = [packed].into_iter().chain(tiles.iter().flatten().flat_map(sizes)).collect();
    let room = lens.iter().sum();
    if !args.reserve(room) {
        return;
    }
    let ([saved, c, dy, rt, key_and_lengths, parameters], [dg, sums], scratch) = args.parts(room);
    let mut rooms = rooms(scratch, lens).into_iter();
    let mut room = || rooms.next().expect("a room of every length asked for");
    let packed = room();
    let rt = wide.as_deref().unwrap_or(rt);
    let weights = multiplies.then(|| Weights::new(team, rt, terms, hidden, heads, packed));
    let mut tile_states = Vec::new();
    for tile in tiles.iter().flatten() {
        let (own, grouped, dh, dc_past) = (room(), room(), room(), room());
        if p.has_next == 1 {
            let from = p.dg_next as usize + (tile.direction * batch + tile.rows.start) * gates;
            own.copy_from_slice(&dg[from..][..own.len()]);
        }
        tile_states.push((own, grouped, dh, dc_past));
    }

    let slices = |first, steps, width| TileSlices { first, steps, layers: 1, width, hidden, batch, directions };
    let dg_out = slices(p.dg_offset as usize, steps, GATES).deal(dg, &tiles);
    let slot = directions * batch * hidden;
    let (of_parameters, of_states) = sums.split_at_mut(p.parameter_sums(constants.h, spec.extra) as usize);
    let (dbias, dextra) = of_parameters.split_at_mut(GATES * slot);
    let (dc, carried) = of_states.split_at_mut(states * slot);
    let dc = TileSlices { layers: states, ..slices(0, 1, 1) }.deal(dc, &tiles);
    let carried = slices(0, carries as usize, 1).deal(carried, &tiles);
    let dbias = slices(0, 1, GATES).deal(dbias, &tiles);
    let dextra = slices(0, spec.extra as usize, GATES).deal(dextra, &tiles);
    let columns = |own: &Vec<Tile>| own.first().map(|tile| GATES * tile.units.start..GATES * tile.units.end);
    let pass = BackwardPass {
        cell: F::cell_backward(spec),
        p,
        settings: p.settings(constants.kinds),
        ragged: constants.carries.ragged(),
        carries,
        zoneout: constants.carries.zoneout(),
        drops: constants.drop,
        key_and_lengths: KeyAndLengths(key_and_lengths),
        parameters,
        extra: spec.extra,
        saved,
        c,
        dy,
        weights,
        exchange: shared.then(|| Exchange::new(tiles.len())),
        columns: tiles.iter().filter_map(columns).collect(),
        hidden,
        states,
        kept: spec.saved,
    };
    let mut tile_states = tile_states.into_iter();
    let mut work = Vec::with_capacity(tiles.len());
    let dealt = dg_out.into_iter().zip(dc).zip(carried).zip(dbias).zip(dextra);
    for (thread, (tiles, ((((dg_out, dc), carried), dbias), dextra))) in tiles.into_iter().zip(dealt).enumerate() {
        let own = tiles.into_iter().zip(tile_states.by_ref()).zip(dg_out).zip(dc).zip(carried).zip(dbias).zip(dextra);
        let own: Vec<_> = own
            .map(|((((((tile, (dg, grouped, dh, dc_past)), dg_out), dc), carried), dbias), dextra)| BackwardTile {
                tile,
                dg,
                grouped,
                dh,
                dc_past,
                dg_out,
                dc,
                carried,
                dbias,
                dextra,
            })
            .collect();
        work.push((thread, own));
    }
    let barrier = pass.exchange.as_ref().map(|exchange| &exchange.barrier);
    team.each_with(work, barrier, |(thread, own)| {
        let mut trades = 0;
        for tile in own {
            pass.run(thread, &mut trades, tile);
        }
    });
}
