//! Cases of the recurrence.

use super::common::long;
use super::{Case, case, settings};
use wgpu_lstm::StepWeights;
use wgpu_lstm::cell::Settings;
use wgpu_lstm::kernel::{self, Carries, Kernel};

/// Steps by the scan, and by the kernels that do the same with shared terms.
pub fn scans(all: &mut Vec<Case>, round: usize, back: bool, [batch, h, directions, steps]: [u32; 4]) {
    let slot = directions * batch * h;
    // Units shared out among workgroups for one step, or whole sequences: one workgroup has them all.
    let (units, threads) = if steps == 1 { (64, 64) } else { (h, [8, 64, 256][round % 3]) };
    let rows = [1, 4, 8][round % 3];
    // A thread of many rows may make several units at once.
    let [span, back_span] = if rows > 1 && h % 4 == 0 && round % 8 != 1 { [2, 4] } else { [1, 1] };
    // What rows and units may do beside the plain step.
    let settings = settings(round);
    let (carries, kinds) = (Carries([0, 1, 0, 2, 0, 3][round % 6]), settings.kinds());
    let projected = steps == 1 && h > 4 && round.is_multiple_of(5) && !carries.any();
    let k = if projected { h / 2 } else { h };
    // as the scheduler does it: few rows and units of a thread where a step is long
    let plain = !carries.any() && settings == Settings::default();
    let (rows, span, back_span) = if plain { (rows, span, back_span) } else { (rows.min(4), 1, 1) };
    // Units in heads: two, as many as there are, or those of a size that is no power of two.
    let heads = match round % 8 {
        3 if h % 2 == 0 => 2,
        6 => h,
        7 if h % 3 == 0 => h / 3,
        _ => 1,
    };
    let heads = if projected { 1 } else { heads };
    let (span, back_span) =
        if heads == 1 { (span, back_span) } else { (1, if h / heads % 4 == 0 { back_span } else { 1 }) };
    // Weights in f16 change nothing but how weights are loaded: drivers take seconds to compile what is not plain.
    for kernel in [&kernel::SCAN_FORWARD, &kernel::SCAN_FORWARD_HALF].into_iter().take(1 + plain as usize) {
        let train = round % 2 == 1;
        let params = kernel::ScanForward {
            batch,
            directions,
            biases: round as u32 % 3,
            steps,
            xw_offset: 4 * slot,
            h_in: if back { directions * batch * k } else { 0 },
            c_in: slot,
            c_out: 2 * slot,
            saved_offset: 11,
            first_step: round as u32 % 2,
            total_steps: steps + 1,
            backwards: (round % 9 == 4) as u32,
            site: 5,
            zoneout_h: 1 << 30,
            zoneout_c: 1 << 29,
            keep_h: 0.25,
            keep_c: 0.5,
            ..bytemuck::Zeroable::zeroed()
        };
        let drop = round % 5 == 2;
        // Where another kernel made the product, it lies in W·x.
        let terms = if round % 7 == 1 && !projected { 0 } else { k / heads };
        let constants = kernel::ScanForwardConstants {
            h,
            k,
            train,
            drop,
            carries,
            kinds,
            rows,
            units,
            span,
            threads,
            terms,
            heads,
            memory: 0,
        };
        all.push(case(kernel, constants, params.with_settings(&settings)));
        // The same with shared terms, in one step or in several.
        let shared: &[&Kernel] = match (steps, kernel.weights) {
            (1, StepWeights::F32) => &[&kernel::STEP_FORWARD],
            (1, _) => &[&kernel::STEP_FORWARD_HALF, &kernel::STEP_FORWARD_INT8],
            (_, StepWeights::F32) => &[&kernel::SEQUENCE_FORWARD],
            (_, _) => &[&kernel::SEQUENCE_FORWARD_HALF, &kernel::SEQUENCE_FORWARD_INT8],
        };
        for constants in rounds(round).filter_map(|n| forward_shares(constants, steps, n)) {
            for &shared in shared {
                all.push(case(shared, constants, params.with_settings(&settings)));
            }
        }
    }
    for kernel in [&kernel::SCAN_BACKWARD, &kernel::SCAN_BACKWARD_HALF].into_iter().take(1 + plain as usize) {
        let params = kernel::ScanBackward {
            batch,
            directions,
            biases: round as u32 % 3,
            steps,
            dy_from: [0, steps, steps - 1][round % 3],
            dy_step: directions * batch * h,
            has_next: (round % 4 != 2) as u32,
            first: (round % 3 == 2) as u32,
            dy_offset: 6,
            dy_direction: if back { h } else { batch * h },
            dy_row: if back { directions * h } else { h },
            dy_whole: (round % 4 == 1) as u32,
            saved_offset: 13,
            saved_step: 6 * slot,
            c_in: 0,
            dg_next: 4 * slot * steps,
            dg_offset: 0,
            first_step: round as u32 % 2,
            total_steps: steps + 1,
            backwards: (round % 9 == 4) as u32,
            site: 5,
            zoneout_h: 1 << 30,
            zoneout_c: 1 << 29,
            drop_site: 3,
            drop: 1 << 31,
            drop_scale: 2.0,
            ..bytemuck::Zeroable::zeroed()
        };
        let drop = round % 5 == 2;
        let span = back_span;
        let terms = if round % 7 == 3 { 0 } else { h / heads };
        let memory = 0;
        let constants =
            kernel::ScanBackwardConstants { h, drop, carries, kinds, rows, units, span, threads, terms, heads, memory };
        all.push(case(kernel, constants, params.with_settings(&settings)));
        let shared = match (steps, kernel.weights) {
            (1, StepWeights::F32) => &kernel::STEP_BACKWARD,
            (1, _) => &kernel::STEP_BACKWARD_HALF,
            (_, StepWeights::F32) => &kernel::SEQUENCE_BACKWARD,
            (_, _) => &kernel::SEQUENCE_BACKWARD_HALF,
        };
        for constants in rounds(round).filter_map(|n| backward_shares(constants, steps, n)) {
            all.push(case(shared, constants, params.with_settings(&settings)));
        }
    }
}

/// A workgroup whose threads share terms: rows, units, threads and elements of workgroup memory, within WebGPU's default limits.
/// `items` are the elements that hold a head's terms, `head` a head's units, `span` the units of a thread. `None` if the units of a
/// sequence need too many threads.
fn shared(round: usize, steps: u32, span: u32, [heads, head, items]: [u32; 3]) -> Option<[u32; 4]> {
    let units = if steps == 1 { span * [1, 2, 8, 16][round % 4] } else { heads * head };
    let lanes = units / span;
    // A thread for the cell of each row and unit. From 32 shares on they are added up by eights, and 67 leave a rest.
    let shares = [1, 2, 5, 16, 67][round % 5].min(256 / lanes).max(span);
    let threads = shares * lanes;
    let here = if heads == 1 { 1 } else { heads.min((units - 1) / head + 2) };
    let memory = |rows: u32| {
        let sums = if shares > 1 { rows.min(4) * threads } else { 1 };
        match steps {
            // Terms are staged in several chunks or in one.
            1 => sums.max(rows * here * shares * [1, 2, items.div_ceil(shares).max(1)][round % 3]),
            // Forward, h has memory of its own.
            _ if span == 1 => sums,
            _ => rows * heads * items.next_multiple_of(shares) + sums,
        }
    };
    let wanted = [1, 2, 4, 8][round / 2 % 4];
    let rows = [8, 4, 2, 1].into_iter().find(|&rows| {
        let states = rows * heads * items.next_multiple_of(shares);
        rows <= wanted && span * rows <= shares && memory(rows) + states < 1024
    });
    rows.filter(|_| threads <= 256).map(|rows| [rows, units, threads, memory(rows)])
}

/// Rounds that choose the workgroups of kernels with shared terms.
fn rounds(round: usize) -> impl Iterator<Item = usize> {
    [round, round + 7].into_iter().take(1 + long() as usize)
}

/// Constants of the kernel that does the same with shared terms.
fn forward_shares(
    scan: kernel::ScanForwardConstants,
    steps: u32,
    round: usize,
) -> Option<kernel::ScanForwardConstants> {
    let head = scan.h / scan.heads;
    let [rows, units, threads, memory] = shared(round, steps, 1, [scan.heads, head, scan.terms.div_ceil(4)])?;
    Some(kernel::ScanForwardConstants { rows, units, span: 1, threads, memory, ..scan })
}

fn backward_shares(
    scan: kernel::ScanBackwardConstants,
    steps: u32,
    round: usize,
) -> Option<kernel::ScanBackwardConstants> {
    let head = (scan.h / scan.heads).next_multiple_of(4);
    let [rows, units, threads, memory] = shared(round, steps, 4, [scan.heads, head, scan.terms])?;
    Some(kernel::ScanBackwardConstants { rows, units, span: 4, threads, memory, ..scan })
}

/// Constants of an inference step of a layer with one head and without a mask, lengths or zoneout.
fn plain(h: u32, kinds: u32, [rows, units, threads, memory]: [u32; 4]) -> kernel::ScanForwardConstants {
    kernel::ScanForwardConstants {
        h,
        k: h,
        train: false,
        drop: false,
        carries: Carries(0),
        kinds,
        rows,
        units,
        span: 1,
        threads,
        terms: h,
        heads: 1,
        memory,
    }
}

/// Steps of streams, from their input.
pub fn fused_steps(all: &mut Vec<Case>, round: usize, [batch, h, directions]: [u32; 3], input: u32) {
    let slot = directions * batch * h;
    let params = kernel::ScanForward {
        batch,
        directions,
        biases: round as u32 % 3,
        steps: 1,
        xw_offset: 3,                           // of x
        saved_offset: input + round as u32 % 2, // between rows of x
        h_in: 5,
        c_in: slot,
        first_step: round as u32 % 2,
        total_steps: 2,
        keep_h: 0.25,
        keep_c: 0.5,
        ..bytemuck::Zeroable::zeroed()
    };
    let settings = settings(round);
    let terms = if round % 7 == 3 { 0 } else { h };
    let forms = [&kernel::FUSED_STEP, &kernel::FUSED_STEP_HALF, &kernel::FUSED_STEP_INT8];
    for (form, kernel) in forms.into_iter().enumerate() {
        let items = h.div_ceil(4) + input.div_ceil(4);
        let Some([rows, units, threads, memory]) = shared(round + form, 1, 1, [1, h, items]) else { continue };
        let shares = threads / units;
        let staged = input.div_ceil(4).next_multiple_of(shares) + terms.div_ceil(4).next_multiple_of(shares);
        let common = kernel::ScanForwardConstants {
            carries: Carries([0, 1, 0, 2, 0, 3][round % 6]),
            terms,
            ..plain(h, settings.kinds(), [rows, units, threads, memory.max(rows * staged)])
        };
        let constants = kernel::FusedStepConstants { common, input };
        all.push(case(kernel, constants, params.with_settings(&settings)));
    }
}

/// Steps of several layers at once.
pub fn stack_steps(all: &mut Vec<Case>, round: usize, [batch, h]: [u32; 2]) {
    let (layers, steps) = (2 + round as u32 % 3, 1 + round as u32 % 5);
    let diagonal = round as u32 % (steps + layers - 1);
    let (first, end) = ((diagonal + 1).saturating_sub(steps), layers.min(diagonal + 1));
    let settings = settings(round);
    let params = kernel::ScanForward {
        batch,
        directions: 1,
        biases: round as u32 % 3,
        steps: end - first,
        site: first,
        first_step: diagonal,
        total_steps: steps,
        ..bytemuck::Zeroable::zeroed()
    };
    let Some([rows, units, threads, memory]) = shared(round + 2, 1, 1, [1, h, 2 * h.div_ceil(4)]) else { return };
    let memory = memory.max(2 * rows * h.div_ceil(4).next_multiple_of(threads / units));
    let common = plain(h, settings.kinds(), [rows, units, threads, memory]);
    let constants = kernel::StackStepConstants { common, layers, steps };
    all.push(case(&kernel::STACK_STEP, constants, params.with_settings(&settings)));
}

/// Steps of a grid with one workgroup for rows and direction, which waits for none; and their repair. tests/grid.rs has more workgroups.
pub fn grids(all: &mut Vec<Case>, round: usize, back: bool, [batch, h, directions, steps]: [u32; 4]) {
    let h = h.next_multiple_of(4).min(64);
    let (slot, units) = (directions * batch * h, h + 4 * (round as u32 % 2));
    let items = h / 4;
    let Some([rows, units, threads, memory]) = shared(round, 2, 1, [1, units, items]) else { return };
    let settings = settings(round);
    let memory = memory.max(rows * items.next_multiple_of(threads / units));
    let constants = kernel::ScanForwardConstants {
        train: round / 2 % 2 == 1,
        carries: Carries(round as u32 / 4 % 2),
        ..plain(h, settings.kinds(), [rows, units, threads, memory])
    };
    let params = kernel::ScanForward {
        batch,
        directions,
        biases: round as u32 % 3,
        steps,
        xw_offset: 4 * slot,
        h_in: if back { slot } else { 0 },
        c_in: slot,
        c_out: 2 * slot,
        saved_offset: 11,
        first_step: round as u32 % 2,
        total_steps: steps + 1,
        backwards: (round % 9 == 4) as u32,
        site: 2,            // in the barrier
        zoneout_c: 100_000, // spins
        ..bytemuck::Zeroable::zeroed()
    };
    let params = params.with_settings(&settings);
    all.push(case(&kernel::GRID_FORWARD, constants, params));
    // Workgroups that should have finished: some, or none, and there is nothing to repair.
    let params = kernel::ScanForward { zoneout_h: 5 * (round % 4 != 3) as u32, ..params };
    let constants = kernel::ScanForwardConstants {
        rows: 1,
        units: h,
        threads: [8, 64, 256][round % 3],
        memory: h / 2,
        ..constants
    };
    all.push(case(&kernel::GRID_REPAIR, constants, params));
}
