//! Time steps backward.

use super::exchange::Exchange;
use super::tiles::{Division, Tile, TileSlices, divide, rooms};
use super::weights::{Product, Weights};
use super::{KeyAndLengths, time, worth};
use crate::cell::{BackwardRow, BackwardRowFn, GATES, MAX_SAVED, MAX_STATES, Settings};
use crate::cpu::panels::COLUMNS;
use crate::cpu::{Args, Pick};
use crate::kernel::{self, Call, ScanBackwardConstants};
use crate::random::bits;
use crate::real::Real;
use std::ops::Range;

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
    /// An exchange for each group of threads; none where threads do not divide the units.
    exchanges: Vec<Exchange<F>>,
    /// Columns of the gate gradients of each thread of a group.
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
        let (group, member) = (thread / self.columns.len(), thread % self.columns.len());
        for step in (0..steps).rev() {
            let later = step + 1 < steps || p.has_next == 1;
            if let (true, Some(weights)) = (later, weights) {
                // Gradient through the later step's product.
                Product { state: own.dg, grouped: own.grouped, terms: gates, weights, out: own.dh, columns: count }
                    .compute();
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
            if let (Some(exchange), true) = (self.exchanges.get(group), step > 0) {
                exchange.trade(member, trades, own.dg, gates, &self.columns);
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

/// Rows of weights to `hidden` units, from rows in which the units of each head are padded to a multiple of four.
fn without_padding<F: Real>(rt: &[F], rows: usize, heads: usize, [padded, hidden]: [usize; 2]) -> Vec<F> {
    let (head, units) = (padded / heads, hidden / heads);
    rt[..rows * padded].chunks_exact(head).flat_map(|head| &head[..units]).copied().collect()
}

/// Twin of `shaders/scan_backward.wgsl`, and of its variants whose threads share terms.
pub fn scan_backward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: kernel::ScanBackward = call.params();
    let constants: ScanBackwardConstants = call.constants();
    let (hidden, carries) = (constants.h as usize, constants.carries.any());
    let [batch, directions, steps] = [p.batch, p.directions, p.steps].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let [terms, heads] = [constants.terms, constants.heads].map(|size| size as usize);
    let (gates, states) = (GATES * hidden, spec.states.len());
    let team = args.team;
    let threads = team.threads_for(worth(call));
    let Division { tiles, units } = divide(hidden, batch, directions, threads);

    let wide = call.kernel.weights.in_f32(args.values(3), [directions, GATES * terms, hidden]);
    let (multiplies, terms) = ((steps > 1 || p.has_next == 1) && terms > 0, GATES * terms);
    let padded = if constants.memory > 0 { constants.shares().padded() as usize } else { hidden };
    let wide = match multiplies && padded != hidden {
        true => Some(without_padding(
            wide.as_deref().unwrap_or(args.values(3)),
            directions * terms,
            heads,
            [padded, hidden],
        )),
        false => wide,
    };
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
        exchanges: Exchange::of_groups(tiles.len(), units.len()),
        columns: units.iter().map(|units| GATES * units.start..GATES * units.end).collect(),
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
    let barriers: Vec<_> = pass.exchanges.iter().map(|exchange| &exchange.barrier).collect();
    team.each_with(work, &barriers, |(thread, own)| {
        let mut trades = 0;
        for tile in own {
            pass.run(thread, &mut trades, tile);
        }
    });
}
