//! The recurrence, forward and backward.
//!
//! Each thread carries a tile through all steps. Where the batch is large enough a tile has its own rows and all units,
//! and threads never meet. Where it is not, or where the weights of all units pass the caches, a tile has all rows and
//! its own units, and threads meet once a step to exchange what they made.

use super::memory::widened;
use super::panels::{Axis, COLUMNS, Matrices, Panels, pack_all, packed_len};
use super::product::{group, multiply, single, single_packed};
use super::workers::{Attending, Meeting, Piece, WORTH_A_THREAD, deal, share};
use super::{Args, Pick, Team};
use crate::cell::{BackwardRow, BackwardRowFn, ForwardRow, ForwardRowFn, GATES, MAX_SAVED};
use crate::kernel::{Call, params};
use crate::real::Real;
use crate::simd::{Work, dispatch};
use pulp::Simd;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

/// Recurrent weights of this many bytes are shared out among threads rather than read by each: they pass the second
/// cache, and reading them is what takes the time.
const SHARED_WEIGHTS: usize = 8 << 20;
/// Where a thread has fewer rows than this, sharing out the units is better: each weight that is read then serves too few.
const FEW_ROWS: usize = 4;

/// What a thread carries through time: some rows of one direction, and some units.
struct Tile {
    direction: usize,
    rows: Range<usize>,
    units: Range<usize>,
}

/// The tiles of every thread, and whether threads share the rows and must exchange their units.
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

/// What threads that share the rows hand each other, once a step. Two rooms take turns: while some still read what was
/// left in one, others already fill the other, and nobody is two meetings ahead.
struct Exchange<F> {
    meeting: Meeting,
    /// [thread][trade % 2]: a thread's units of all rows.
    rooms: Vec<[RwLock<Vec<F>>; 2]>,
}

impl<F: Real> Exchange<F> {
    fn new(threads: usize) -> Self {
        Exchange { meeting: Meeting::new(threads), rooms: (0..threads).map(|_| Default::default()).collect() }
    }

    /// Gives this thread's columns of `state` [rows, width] to the others and takes theirs. `columns` are those of each
    /// thread, `trades` counts this thread's trades.
    fn trade(&self, thread: usize, trades: &mut usize, state: &mut [F], width: usize, columns: &[Range<usize>]) {
        let turn = *trades % 2;
        *trades += 1;
        {
            let mut own = self.rooms[thread][turn].write().unwrap_or_else(PoisonError::into_inner);
            own.clear();
            for row in state.chunks_exact(width) {
                own.extend_from_slice(&row[columns[thread].clone()]);
            }
        }
        self.meeting.wait();
        for (other, columns) in columns.iter().enumerate().filter(|&(other, _)| other != thread) {
            let theirs = self.rooms[other][turn].read().unwrap_or_else(PoisonError::into_inner);
            for (row, values) in state.chunks_exact_mut(width).zip(theirs.chunks_exact(columns.len())) {
                row[columns.clone()].copy_from_slice(values);
            }
        }
    }
}

/// Rows of a tile times its columns of the weights: out [rows, columns], rounded up to whole panels.
struct Product<'a, F> {
    /// [rows, terms].
    state: &'a [F],
    /// Room for as much.
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
    /// As they stand, with the stride of their rows: for a single row of the batch.
    Rows(&'a [F], usize),
    /// Packed.
    Panels(Panels<'a, F>),
}

/// The weights [terms, columns] of each direction as tiles read them: packed; for a single row that is not worth packing
/// them, as they stand.
struct Weights<'a, F> {
    data: &'a [F],
    packed: bool,
    terms: usize,
    columns: usize,
}

/// Where the weights of all directions lie.
fn matrices(directions: usize, terms: usize, columns: usize) -> Matrices {
    let apart = (terms * columns) as i64;
    Matrices { count: directions, first: 0, apart, terms, columns, k: Axis::plain(columns), n: 1 }
}

impl<'a, F: Real> Weights<'a, F> {
    /// Elements of room that packing takes.
    fn room(directions: usize, terms: usize, columns: usize, batch: usize) -> usize {
        if batch == 1 { 0 } else { directions * packed_len(terms, columns) }
    }

    /// Packs in `room`, if there is any.
    fn new(team: &Team, data: &'a [F], terms: usize, columns: usize, room: &'a mut [F]) -> Self {
        if room.is_empty() {
            return Weights { data, packed: false, terms, columns };
        }
        let own = matrices(1, terms, columns);
        for (direction, room) in room.chunks_exact_mut(packed_len(terms, columns)).enumerate() {
            pack_all(team, data, Matrices { first: direction as i64 * own.apart, ..own }, room);
        }
        Weights { data: room, packed: true, terms, columns }
    }

    /// Some columns of a direction.
    fn side(&self, direction: usize, columns: Range<usize>) -> Side<'a, F> {
        if self.packed {
            let len = packed_len(self.terms, self.columns);
            let own = packed_len(self.terms, columns.start)..packed_len(self.terms, columns.end);
            return Side::Panels(Panels::packed(&self.data[direction * len..][own], self.terms));
        }
        let first = direction * self.terms * self.columns;
        Side::Rows(&self.data[first..first + self.terms * self.columns][columns.start..], self.columns)
    }
}

/// Splits scratch space into runs of the given lengths.
fn rooms<F>(mut scratch: &mut [F], lens: impl IntoIterator<Item = usize>) -> Vec<&mut [F]> {
    let mut all = Vec::new();
    for len in lens {
        let (own, rest) = std::mem::take(&mut scratch).split_at_mut(len);
        all.push(own);
        scratch = rest;
    }
    all
}

/// Where the pieces of a buffer [slots, D, B, width·H] lie that tiles write: for every step, `layers` of them, and every
/// row the units of the tile; in the order [tile][step][row][layer].
struct Pieces {
    first: usize,
    steps: usize,
    layers: usize,
    width: usize,
    hidden: usize,
    batch: usize,
    directions: usize,
}

impl Pieces {
    /// For each thread, for each of its tiles, the pieces [step][row][layer].
    fn deal<'a, F>(&self, buffer: &'a mut [F], tiles: &[Vec<Tile>]) -> Vec<Vec<Vec<&'a mut [F]>>> {
        let mut pieces = Vec::new();
        let flat = tiles.iter().flatten();
        let slot = self.directions * self.batch * self.hidden * self.width;
        for step in 0..self.steps {
            for layer in 0..self.layers {
                for (to, tile) in flat.clone().enumerate() {
                    for row in tile.rows.clone() {
                        let at = (step * self.layers + layer) * slot
                            + ((tile.direction * self.batch + row) * self.hidden + tile.units.start) * self.width;
                        let index = (step * tile.rows.len() + row - tile.rows.start) * self.layers + layer;
                        pieces.push(Piece { at: self.first + at, len: tile.units.len() * self.width, to, index });
                    }
                }
            }
        }
        let mut dealt = deal(buffer, pieces, flat.count()).into_iter();
        tiles.iter().map(|own| dealt.by_ref().take(own.len()).collect()).collect()
    }
}

/// Everything that all tiles read in a forward pass.
struct ForwardPass<'a, F> {
    cell: ForwardRowFn<F>,
    xw: &'a [F],
    /// Bias summed, [D, 4H].
    bias: &'a [F],
    weights: Weights<'a, F>,
    exchange: Option<Exchange<F>>,
    /// Units of each thread.
    units: Vec<Range<usize>>,
    steps: usize,
    hidden: usize,
    batch: usize,
    directions: usize,
    saved: usize,
}

/// A tile with what it writes.
struct ForwardTile<'a, F> {
    tile: Tile,
    /// Hidden state of the tile's rows and all units, [rows, H].
    h: &'a mut [F],
    /// The same in groups of rows.
    grouped: &'a mut [F],
    /// Cell state, [rows, units].
    c: &'a mut [F],
    /// R·h', [rows, units, 4], rows rounded up to whole panels.
    rh: &'a mut [F],
    /// [step][row], units long.
    h_out: Vec<&'a mut [F]>,
    /// [step][row] in training, else [row].
    c_out: Vec<&'a mut [F]>,
    /// [step][row][SAVED]; empty unless in training.
    saved: Vec<&'a mut [F]>,
}

impl<F: Real> ForwardPass<'_, F> {
    fn run(&self, thread: usize, trades: &mut usize, mut own: ForwardTile<F>) {
        let Tile { direction, ref rows, ref units } = own.tile;
        let (hidden, count) = (self.hidden, units.len());
        let (xw_row, columns) = (GATES * hidden, GATES * units.start..GATES * units.end);
        let wide = columns.len().next_multiple_of(COLUMNS);
        let weights = self.weights.side(direction, columns.clone());
        let bias = &self.bias[direction * xw_row..][columns.clone()];
        for step in 0..self.steps {
            dispatch(Product {
                state: own.h,
                grouped: own.grouped,
                terms: hidden,
                weights,
                out: own.rh,
                columns: columns.len(),
            });
            for (row, b) in rows.clone().enumerate() {
                let at = ((step * self.directions + direction) * self.batch + b) * xw_row;
                let index = step * rows.len() + row;
                let c = &mut own.c[row * count..][..count];
                let h = &mut *own.h_out[index];
                let saved = if self.saved == 0 { &mut [] } else { &mut own.saved[index * self.saved..][..self.saved] };
                (self.cell)(ForwardRow {
                    wx: &self.xw[at..][columns.clone()],
                    rh: &own.rh[row * wide..][..columns.len()],
                    bias,
                    c,
                    h,
                    saved,
                });
                own.h[row * hidden..][units.clone()].copy_from_slice(h);
                if self.saved > 0 {
                    own.c_out[index].copy_from_slice(c);
                } else if step + 1 == self.steps {
                    own.c_out[row].copy_from_slice(c);
                }
            }
            if let (Some(exchange), true) = (&self.exchange, step + 1 < self.steps) {
                exchange.trade(thread, trades, own.h, hidden, &self.units);
            }
        }
    }
}

/// Twin of `shaders/scan_forward.wgsl`.
pub fn scan_forward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: params::ScanForward = call.params();
    let (hidden, train) = (call.constants[0] as usize, call.constants[1] == 1);
    let [batch, directions, biases, steps] = [p.batch, p.directions, p.biases, p.steps].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let (columns, slot) = (GATES * hidden, directions * batch * hidden);
    let team = args.team;
    let threads = team.threads_for(call.flops() / 2 / WORTH_A_THREAD);
    let (tiles, shared) = tiles(hidden, batch, directions, threads);
    let kept = if train { spec.saved } else { 0 };

    let wide = call.kernel.half_weights.then(|| widened(&args.buffers[1]));
    // Once for all steps and, for weights, until they change; else here.
    let own_packed = match wide {
        Some(_) => None,
        None => args.take_packed(1, matrices(directions, hidden, columns), batch * steps),
    };
    let packed = if own_packed.is_some() { 0 } else { Weights::<F>::room(directions, hidden, columns, batch) };
    let sizes = |tile: &Tile| {
        let (rows, units) = (tile.rows.len(), tile.units.len());
        [rows * hidden, rows * hidden, rows * units, rows * (units * GATES).next_multiple_of(COLUMNS)]
    };
    let lens: Vec<usize> =
        [packed, directions * columns].into_iter().chain(tiles.iter().flatten().flat_map(sizes)).collect();
    let ([xw, r, bias, h, c, saved], scratch) = args.parts(lens.iter().sum());
    let mut rooms = rooms(scratch, lens).into_iter();
    let mut room = || rooms.next().expect("a room of every length asked for");
    let own = room();
    let r = wide.as_deref().unwrap_or(r);
    let weights = match &own_packed {
        Some(packed) => Weights { data: packed.all(), packed: true, terms: hidden, columns },
        None => Weights::new(team, r, hidden, columns, own),
    };
    let sums = room();
    for (direction, sums) in sums.chunks_exact_mut(columns).enumerate() {
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = (0..biases).map(|n| bias[(direction * biases + n) * columns + k]).sum();
        }
    }
    let mut states = Vec::new();
    for tile in tiles.iter().flatten() {
        let (own_h, grouped, own_c, rh) = (room(), room(), room(), room());
        for (row, b) in tile.rows.clone().enumerate() {
            let at = (tile.direction * batch + b) * hidden;
            own_h[row * hidden..][..hidden].copy_from_slice(&h[p.h_in as usize + at..][..hidden]);
            let units = tile.units.len();
            own_c[row * units..][..units].copy_from_slice(&c[p.c_in as usize + at..][tile.units.clone()]);
        }
        states.push((own_h, grouped, own_c, rh));
    }

    let pieces = |first, steps, layers| Pieces { first, steps, layers, width: 1, hidden, batch, directions };
    let h_out = pieces(p.h_in as usize + slot, steps, 1).deal(h, &tiles);
    let c_out = pieces(p.c_out as usize, if train { steps } else { 1 }, 1).deal(c, &tiles);
    let kept_out = pieces(p.saved_offset as usize, if train { steps } else { 0 }, kept).deal(saved, &tiles);
    let pass = ForwardPass {
        cell: F::cell_forward(spec),
        xw: &xw[p.xw_offset as usize..],
        bias: sums,
        weights,
        exchange: shared.then(|| Exchange::new(tiles.len())),
        units: tiles.iter().filter_map(|own| Some(own.first()?.units.clone())).collect(),
        steps,
        hidden,
        batch,
        directions,
        saved: kept,
    };
    let mut states = states.into_iter();
    let mut work = Vec::with_capacity(tiles.len());
    for (thread, (((tiles, h_out), c_out), kept_out)) in
        tiles.into_iter().zip(h_out).zip(c_out).zip(kept_out).enumerate()
    {
        let own = tiles.into_iter().zip(states.by_ref()).zip(h_out).zip(c_out).zip(kept_out);
        let own: Vec<_> = own
            .map(|((((tile, (h, grouped, c, rh)), h_out), c_out), saved)| ForwardTile {
                tile,
                h,
                grouped,
                c,
                rh,
                h_out,
                c_out,
                saved,
            })
            .collect();
        work.push((thread, own));
    }
    team.each(work, |(thread, own)| {
        let _attending = pass.exchange.as_ref().map(|exchange| Attending(&exchange.meeting));
        let mut trades = 0;
        for tile in own {
            pass.run(thread, &mut trades, tile);
        }
    });
    args.put_back(1, own_packed);
}

/// Everything that all tiles read in a backward pass.
struct BackwardPass<'a, F> {
    cell: BackwardRowFn<F>,
    p: params::ScanBackward,
    saved: &'a [F],
    c: &'a [F],
    dy: &'a [F],
    /// Nothing where there is no later step to multiply with.
    weights: Option<Weights<'a, F>>,
    exchange: Option<Exchange<F>>,
    /// Columns of the gate gradients of each thread.
    columns: Vec<Range<usize>>,
    hidden: usize,
    kept: usize,
}

/// A tile with what it writes.
struct BackwardTile<'a, F> {
    tile: Tile,
    /// Gate gradients of the later step, the tile's rows and all units, [rows, 4H].
    dg: &'a mut [F],
    /// The same in groups of rows.
    grouped: &'a mut [F],
    /// Gradient of h, [rows, units], rows rounded up to whole panels.
    dh: &'a mut [F],
    /// [step][row], 4·units long.
    dg_out: Vec<&'a mut [F]>,
    /// [row], units long.
    dc: Vec<&'a mut [F]>,
    /// [row], 4·units long.
    dbias: Vec<&'a mut [F]>,
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
                // What the later step sends back.
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
                let dh = &mut own.dh[row * wide..][..count];
                if step >= p.dy_from as usize {
                    let from = p.dy_offset as usize
                        + (step - p.dy_from as usize) * p.dy_step as usize
                        + direction * p.dy_direction as usize
                        + b * p.dy_row as usize;
                    for (sum, &value) in dh.iter_mut().zip(&self.dy[from..][units.clone()]) {
                        *sum += value;
                    }
                }
                let mut saved: [&[F]; MAX_SAVED] = [&[]; MAX_SAVED];
                for (q, values) in saved[..self.kept].iter_mut().enumerate() {
                    let from = p.saved_offset as usize + (step * self.kept + q) * slot + at;
                    *values = &self.saved[from..][units.clone()];
                }
                let c_prev = p.c_in as usize + step * slot + at;
                let gradients = &mut *own.dg_out[step * rows.len() + row];
                (self.cell)(BackwardRow {
                    saved,
                    c_prev: &self.c[c_prev..][units.clone()],
                    c: &self.c[c_prev + slot..][units.clone()],
                    dh,
                    dc: own.dc[row],
                    gates: gradients,
                    dbias: own.dbias[row],
                    first: p.first == 1 && step + 1 == steps,
                });
                own.dg[row * gates..][GATES * units.start..GATES * units.end].copy_from_slice(gradients);
            }
            if let (Some(exchange), true) = (&self.exchange, step > 0) {
                exchange.trade(thread, trades, own.dg, gates, &self.columns);
            }
        }
    }
}

/// Twin of `shaders/scan_backward.wgsl`.
pub fn scan_backward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: params::ScanBackward = call.params();
    let hidden = call.constants[0] as usize;
    let [batch, directions, steps] = [p.batch, p.directions, p.steps].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let gates = GATES * hidden;
    let team = args.team;
    let threads = team.threads_for(call.flops() / 2 / WORTH_A_THREAD);
    let (tiles, shared) = tiles(hidden, batch, directions, threads);

    let wide = call.kernel.half_weights.then(|| widened(&args.buffers[3]));
    let multiplies = steps > 1 || p.has_next == 1;
    let packed = if multiplies { Weights::<F>::room(directions, gates, hidden, batch) } else { 0 };
    let sizes = |tile: &Tile| {
        let rows = tile.rows.len();
        [rows * gates, rows * gates, rows * tile.units.len().next_multiple_of(COLUMNS)]
    };
    let lens: Vec<usize> = [packed].into_iter().chain(tiles.iter().flatten().flat_map(sizes)).collect();
    let ([saved, c, dy, rt, dg, dc, dbias], scratch) = args.parts(lens.iter().sum());
    let mut rooms = rooms(scratch, lens).into_iter();
    let mut room = || rooms.next().expect("a room of every length asked for");
    let packed = room();
    let rt = wide.as_deref().unwrap_or(rt);
    let weights = multiplies.then(|| Weights::new(team, rt, gates, hidden, packed));
    let mut states = Vec::new();
    for tile in tiles.iter().flatten() {
        let (own, grouped, dh) = (room(), room(), room());
        if p.has_next == 1 {
            let from = p.dg_next as usize + (tile.direction * batch + tile.rows.start) * gates;
            own.copy_from_slice(&dg[from..][..own.len()]);
        }
        states.push((own, grouped, dh));
    }

    let pieces = |first, steps, width| Pieces { first, steps, layers: 1, width, hidden, batch, directions };
    let dg_out = pieces(p.dg_offset as usize, steps, GATES).deal(dg, &tiles);
    let dc = pieces(0, 1, 1).deal(dc, &tiles);
    let dbias = pieces(0, 1, GATES).deal(dbias, &tiles);
    let columns = |own: &Vec<Tile>| own.first().map(|tile| GATES * tile.units.start..GATES * tile.units.end);
    let pass = BackwardPass {
        cell: F::cell_backward(spec),
        p,
        saved,
        c,
        dy,
        weights,
        exchange: shared.then(|| Exchange::new(tiles.len())),
        columns: tiles.iter().filter_map(columns).collect(),
        hidden,
        kept: spec.saved,
    };
    let mut states = states.into_iter();
    let mut work = Vec::with_capacity(tiles.len());
    for (thread, (((tiles, dg_out), dc), dbias)) in tiles.into_iter().zip(dg_out).zip(dc).zip(dbias).enumerate() {
        let own = tiles.into_iter().zip(states.by_ref()).zip(dg_out).zip(dc).zip(dbias);
        let own: Vec<_> = own
            .map(|((((tile, (dg, grouped, dh)), dg_out), dc), dbias)| BackwardTile {
                tile,
                dg,
                grouped,
                dh,
                dg_out,
                dc,
                dbias,
            })
            .collect();
        work.push((thread, own));
    }
    team.each(work, |(thread, own)| {
        let _attending = pass.exchange.as_ref().map(|exchange| Attending(&exchange.meeting));
        let mut trades = 0;
        for tile in own {
            pass.run(thread, &mut trades, tile);
        }
    });
}
