//! Time steps forward.

use super::exchange::Exchange;
use super::fused_step::sum_biases;
use super::tiles::{Division, Tile, TileSlices, divide, rooms};
use super::weights::{Product, Weights, matrices};
use super::{KeyAndLengths, time, worth};
use crate::cell::{ForwardRow, ForwardRowFn, GATES, Settings};
use crate::cpu::panels::COLUMNS;
use crate::cpu::{Args, Pick};
use crate::kernel::{self, Call, ScanForwardConstants};
use crate::random::bits;
use crate::real::Real;
use std::ops::Range;

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
    /// An exchange for each group of threads; none where threads do not divide the units.
    exchanges: Vec<Exchange<F>>,
    /// Units of each thread of a group.
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
        let (group, member) = (thread / self.units.len(), thread % self.units.len());
        for step in 0..steps {
            if let Some(weights) = weights {
                Product {
                    state: own.h,
                    grouped: own.grouped,
                    terms: width,
                    weights,
                    out: own.rh,
                    columns: columns.len(),
                }
                .compute();
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
            if let (Some(exchange), true) = (self.exchanges.get(group), step + 1 < steps) {
                exchange.trade(member, trades, own.h, hidden, &self.units);
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

/// Twin of `shaders/scan_forward.wgsl`, and of its variants whose threads share terms.
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

    let wide = call.kernel.weights.in_f32(args.values(1), [directions, terms, hidden]);
    // Packed once for all steps and, for weights, until they change; else here.
    let packed_weights = match wide {
        None if multiplies && heads == 1 => args.panels(1, matrices(directions, width, columns), batch * steps),
        _ => Ok(None),
    };
    let Ok(packed_weights) = packed_weights else { return };
    let threads = team.threads_for(worth(call));
    let Division { tiles, units } = divide(hidden, batch, directions, threads);
    let packs = packed_weights.is_none() && multiplies;
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
    let weights = multiplies.then(|| match &packed_weights {
        Some(kept) => Weights::kept(kept, terms, columns),
        None => Weights::new(team, r, terms, columns, heads, own),
    });
    let (sums, extra) = (room(), room());
    let parameters = biases + spec.extra as usize;
    for (direction, sums) in sums.chunks_exact_mut(columns).enumerate() {
        let own = &bias[direction * parameters * columns..];
        sum_biases(sums, own, biases);
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
        exchanges: Exchange::of_groups(tiles.len(), units.len()),
        units,
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
    let barriers: Vec<_> = pass.exchanges.iter().map(|exchange| &exchange.barrier).collect();
    team.each_with(work, &barriers, |(thread, own)| {
        let mut trades = 0;
        for tile in own {
            pass.run(thread, &mut trades, tile);
        }
    });
}
