//! Every kernel of the table against its CPU twin on an adapter, over odd sizes.
//!
//! Buffers are filled with the same numbers on both; afterwards every buffer must agree, the ones that a kernel only
//! reads included. Tolerance 2e-5 relative to the buffer's largest number: the two sum in different orders.

#[path = "../common/mod.rs"]
mod common;
mod layers;
mod recurrence;

use common::{Draw, adapter, checked_adapter, long};
use std::collections::HashSet;
use wgpu_lstm::cell::{CELLS, Settings, Shape};
use wgpu_lstm::kernel::{self, Carries, Constant, Constants, KERNELS, Kernel, LossKind, NoConstants, Params};
use wgpu_lstm::plan::Role;
use wgpu_lstm::schedule::Builder;
use wgpu_lstm::{AdapterKind, CooperativeMatrices, Device, GpuOptions, Grid, Matrices, Software, StepWeights};

/// A call: constants, parameters as words, and the buffers' lengths.
struct Case {
    kernel: &'static Kernel,
    constants: Vec<u32>,
    params: Vec<u32>,
    /// Elements of each buffer, a few more than the call may touch.
    lens: Vec<u64>,
}

fn case(kernel: &'static Kernel, constants: impl Constants, params: impl Params) -> Case {
    let constants = constants.values();
    let params: Vec<u32> = bytemuck::cast_slice(bytemuck::bytes_of(&params)).to_vec();
    let mut lens = vec![0; kernel.bindings.len()];
    let cells = if kernel.takes_cell { CELLS.iter().map(Some).collect() } else { vec![None] };
    for cell in cells {
        let call = kernel::Call { kernel, cell, constants: constants.clone(), params: params.clone() };
        let touches = call.touches();
        assert_eq!(touches.len(), lens.len(), "{} with {constants:?}", kernel.name);
        lens.iter_mut().zip(touches).for_each(|(len, touch)| *len = (touch.end() + 7).max(*len));
    }
    Case { kernel, constants, params, lens }
}

/// Settings of a cell, different in every round.
fn settings(round: usize) -> Settings {
    let shape = |kind: usize| Shape { kind: kind as u32 % 12, alpha: 0.3, beta: 0.4 };
    match round % 3 {
        0 => Settings::default(),
        1 => Settings { clip: 0.9, cell_clip: 0.7, coupled: round % 2 == 1, ..Settings::default() },
        _ => Settings {
            gate: shape(round),
            candidate: shape(round + 5),
            output: shape(round + 9),
            ..Settings::default()
        },
    }
}

/// Sizes that fill tiles and workgroups, fall short of them and pass them by one.
const ODD: [u32; 8] = [1, 2, 3, 7, 16, 33, 64, 130];

/// Threads of the largest subgroups for which products by cooperative matrices are compiled, all that an adapter with that side has may be.
fn subgroups(side: u32) -> Vec<u32> {
    match side {
        8 => vec![8, 32],
        _ => vec![32, 64],
    }
}

fn cases() -> Vec<Case> {
    let mut draw = Draw::new(7);
    let mut odd = || ODD[draw.below(ODD.len())];
    let mut all = Vec::new();
    for round in 0..24 {
        let (m, n, k) = (odd(), odd(), odd());
        let back = round % 2 == 1; // rows that run backwards in time
        let (split, k_split) = ([1, 3, m][round % 3], [k, 5, 1][round % 3]);
        let outer = m.div_ceil(split);
        let product = kernel::Matmul {
            m,
            n,
            k,
            accumulate: (round % 4 == 3) as u32,
            m_split: split,
            k_split,
            a_offset: 5 + if back { (outer - 1) * split * (k + 2) } else { 0 },
            a_m_hi: (split * (k + 2)) as i32 * if back { -1 } else { 1 },
            a_m_lo: (k + 2) as i32,
            a_k_hi: k_split as i32,
            a_k_lo: 1,
            b_offset: 3,
            b_k_hi: (k_split * (n + 1)) as i32,
            b_k_lo: (n + 1) as i32,
            b_n: 1,
            c_offset: 9,
            c_m_hi: (split * (n + 3)) as i32,
            c_m_lo: (n + 3) as i32,
            part: 0,
            c_part: 0,
        };
        // The same sizes with rows of A and terms of B side by side.
        let turned = kernel::Matmul {
            a_offset: 5 + if back { (outer - 1) * split } else { 0 },
            a_m_hi: split as i32 * if back { -1 } else { 1 },
            a_m_lo: 1,
            a_k_hi: (k_split * (m + split)) as i32,
            a_k_lo: (m + split) as i32,
            b_k_hi: k_split as i32,
            b_k_lo: 1,
            b_n: (k + k_split) as i32,
            ..product
        };
        let tiles = [(64, 64), (128, 64), (128, 128)];
        for (index, (rows, columns)) in tiles.into_iter().enumerate() {
            // Which threads load what is a matter of speed alone; a division too many is, too.
            let varied = |product: &kernel::Matmul| {
                let constants = product.tiles(rows, columns);
                kernel::MatmulConstants {
                    a_along_k: round % 2 == 0,
                    b_along_n: round / 2 % 2 == 0,
                    k_split: constants.k_split || round / 4 % 2 == 0,
                    ..constants
                }
            };
            all.push(case(&kernel::MATMUL, varied(&product), product));
            if index == round / 3 % 3 {
                let part = k_split * [1, 4, 40][round / 9]; // of the terms, each to a C of its own
                let parts = kernel::Matmul { part, c_part: (m + split) * (n + 3), ..product };
                all.push(case(&kernel::MATMUL, varied(&parts), parts));
                all.push(case(&kernel::MATMUL, varied(&turned), turned));
            }
        }
        skinny_products(&mut all, round, n);
        let part = if k_split < k { k_split } else { 16 } * 4;
        let parts = kernel::Matmul { part, c_part: (m + split) * (n + 3), ..product };
        for product in [product, turned, parts] {
            all.extend(subgroups(8).into_iter().map(|threads| {
                let constants = product.cooperative_8(threads).expect("a size that devices have");
                let constants = kernel::MatmulCooperative8Constants {
                    a_along_k: round % 2 == 0,
                    b_along_n: round / 2 % 2 == 0,
                    ..constants
                };
                case(&kernel::MATMUL_COOPERATIVE_8, constants, product)
            }));
        }
        // By fours: rows or terms of A side by side, columns or terms of B.
        let [m4, n4, k4] = [m, n, k].map(|size| 4 * size.div_ceil(4));
        let (a_along_k, b_along_n) = (round % 2 == 0, round % 4 < 2);
        // Without a stride of terms to follow, there may be any number of them.
        let terms = if a_along_k || !b_along_n { k4 } else { k };
        let product = kernel::Matmul {
            m: m4,
            n: n4,
            k: terms,
            m_split: if a_along_k && round % 3 == 0 { 4 } else { m4 },
            k_split: if round % 3 == 1 { 4 } else { terms },
            a_offset: 8,
            a_m_hi: 4 * (k4 + 4) as i32,
            a_m_lo: if a_along_k { (k4 + 4) as i32 } else { 1 },
            a_k_hi: if a_along_k { 4 } else { 4 * (m4 + 8) as i32 },
            a_k_lo: if a_along_k { 1 } else { (m4 + 8) as i32 },
            b_offset: 4,
            b_k_hi: if b_along_n { 4 * (n4 + 4) as i32 } else { 4 },
            b_k_lo: if b_along_n { (n4 + 4) as i32 } else { 1 },
            b_n: if b_along_n { 1 } else { (k4 + 8) as i32 },
            c_offset: 12,
            c_m_hi: 4 * (n4 + 4) as i32,
            c_m_lo: (n4 + 4) as i32,
            ..product
        };
        let along = product.fours().expect("sizes by fours");
        let rows = if m4 > 4 { 8 } else { 4 };
        assert_eq!(along, kernel::MatmulRegistersConstants { rows, a_along_k, b_along_n }, "{product:?}");
        all.push(case(&kernel::MATMUL_REGISTERS, along, product));
        if a_along_k {
            let part = [8, 32, 64][round % 3];
            let parts = kernel::Matmul { part, c_part: (m4 + 4) * (n4 + 4), ..product };
            for product in [product, parts] {
                all.extend(subgroups(16).into_iter().map(|threads| {
                    let constants = product.cooperative_16(threads).expect("sizes by fours");
                    let k_split = constants.k_split || round % 4 == 0; // a division too many
                    let constants = kernel::MatmulCooperative16Constants { k_split, ..constants };
                    case(&kernel::MATMUL_COOPERATIVE_16, constants, product)
                }));
            }
            let single = kernel::Matmul { m: 1, m_split: 1, ..product };
            let along = single.fours().expect("sizes by fours");
            assert_eq!(along.rows, 1, "{single:?}");
            all.push(case(&kernel::MATMUL_REGISTERS, along, single));
        }
        let (batch, h, directions) = (odd().min(33), odd().min(65), 1 + round as u32 % 2);
        let steps = if round % 4 < 2 { 1 } else { 4 };
        recurrence::scans(&mut all, round, back, [batch, h, directions, steps]);
        recurrence::fused_steps(&mut all, round, [batch, h, directions], odd().min(65));
        recurrence::stack_steps(&mut all, round, [batch, h]);
        recurrence::grids(&mut all, round, back, [batch, h, directions, steps]);
        let [heads, units] = [odd().min(16), odd().min(7)];
        let head_product = kernel::HeadProduct {
            steps,
            batch,
            heads,
            units,
            accumulate: round as u32 % 2,
            h_offset: 2,
            h_step: batch * (heads * units + 1),
            h_row: heads * units + 1,
            dg_offset: 3,
            dg_step: directions * batch * 4 * heads * units,
            dr_offset: 5,
        };
        all.push(case(&kernel::HEAD_PRODUCT, NoConstants, head_product));
        let (features, index_step) = (odd(), [0, 1000][round % 2]);
        let dropout = kernel::Dropout {
            steps,
            rows: batch,
            features,
            src_offset: 3,
            src_step: batch * (features + 2),
            src_row: features + 2,
            dst_offset: 5,
            dst_step: batch * features,
            dst_row: features,
            index: 77,
            index_step,
            site: round as u32,
            threshold: 1 << 30,
            scale: 1.5,
        };
        all.push(case(&kernel::DROPOUT, NoConstants, dropout));
        let trim = kernel::Trim {
            steps,
            batch,
            features,
            src_offset: 3,
            src_step: (batch * (features + 2)) as i32,
            src_row: (features + 2) as i32,
            dst_offset: if back { (steps - 1) * batch * features } else { 0 },
            dst_step: (batch * features) as i32 * if back { -1 } else { 1 },
            dst_row: features as i32,
            time: if back { steps - 1 } else { 0 },
            time_step: if back { -1 } else { 1 },
        };
        all.push(case(&kernel::TRIM, NoConstants, trim));
        all.push(case(&kernel::HALF, NoConstants, kernel::Half { n: odd() * 5 }));
        let int8 = kernel::Int8 { directions, terms: odd(), units: h };
        all.push(case(&kernel::INT8, NoConstants, int8));
        let size = [odd().min(7), odd().min(16), odd().min(7), odd().min(33)];
        let [_, n1, n2, n3] = size.map(|n| n as i32);
        all.push(case(
            &kernel::COPY,
            NoConstants,
            kernel::StridedCopy {
                n0: size[0],
                n1: size[1],
                n2: size[2],
                n3: size[3],
                src_offset: 2 + if back { (n1 - 1) as u32 * (n2 * n3) as u32 } else { 0 },
                src_0: n1 * n2 * n3,
                src_1: n2 * n3 * if back { -1 } else { 1 },
                src_2: n3,
                src_3: 1,
                dst_offset: 1,
                dst_0: n1 * n2 * n3,
                dst_1: n3,
                dst_2: n1 * n3,
                dst_3: 1,
                add: round as u32 % 2,
            },
        ));
        let rows = odd() * 3;
        all.push(case(&kernel::FILL, NoConstants, kernel::Fill { offset: round as u32, n: odd() * 9, value: -1.5 }));
        let pool = kernel::PoolForward {
            steps,
            batch,
            features,
            x_offset: 3,
            x_step: batch * (features + 2),
            x_row: features + 2,
            time: (round % 2) as u32 * 2,
            total_steps: steps + 3,
        };
        let constants =
            kernel::PoolConstants { kind: kernel::PoolKind::ALL[round / 2 % 4], ragged: round / 8 % 2 == 1 };
        all.push(case(&kernel::POOL_FORWARD, constants, pool));
        let pool = kernel::PoolBackward {
            steps,
            batch,
            features,
            dx_offset: 4,
            dy_offset: 1,
            time: (round % 2) as u32 * 2,
            total_steps: steps + 3,
        };
        all.push(case(&kernel::POOL_BACKWARD, constants, pool));
        layers::windows(&mut all, round, [steps, batch, features]);
        layers::batch_norm(&mut all, round, [steps, batch, features]);
        let count = batch * steps;
        let epsilon = 1e-3;
        let (group, groups) = [(count, 1), (batch, directions), (1, 3)][round % 3];
        let params = kernel::NormForward { rows: count, features, group, groups, x_offset: 3, y_offset: 2, epsilon };
        let constants = kernel::NormForwardConstants { bias: round / 2 % 2 == 1, add: round % 2 == 1 };
        all.push(case(&kernel::NORM_FORWARD, constants, params));
        let params = kernel::NormBackward {
            rows: batch,
            steps,
            features,
            group,
            groups,
            x_offset: 3,
            dy_offset: 2,
            dx_offset: 1,
            epsilon,
        };
        all.push(case(&kernel::NORM_BACKWARD, kernel::NormBackwardConstants { add: round % 2 == 1 }, params));
        let slot = directions * batch * h;
        // Steps that are more than one dispatch.
        let (backwards, total_steps) = ((round % 9 == 4) as u32, 3);
        let (site, zoneout_h, zoneout_c, alpha, beta) = (5, 1 << 30, 1 << 29, 0.3, 0.4);
        let state = kernel::NormStateForward {
            batch,
            directions,
            h_in: 3,
            c_in: if back { slot } else { 0 },
            c_out: if back { 0 } else { slot },
            step: 1,
            total_steps,
            backwards,
            site,
            zoneout_h,
            zoneout_c,
            keep_h: 0.25,
            keep_c: 0.5,
            alpha,
            beta,
            epsilon,
        };
        let carries = Carries(round as u32 % 4);
        let (train, kind) = (round / 2 % 2 == 1, round as u32 % 12);
        let constants = kernel::NormStateForwardConstants { h, train, carries, kind };
        all.push(case(&kernel::NORM_STATE_FORWARD, constants, state));
        let state = kernel::NormStateBackward {
            batch,
            directions,
            c_in: 2,
            saved_offset: 3,
            dh_offset: 4,
            dc_offset: 5,
            step: 1,
            total_steps,
            backwards,
            site,
            zoneout_h,
            zoneout_c,
            alpha,
            beta,
            cell_clip: [f32::MAX, 0.4][round % 2],
            epsilon,
            first: (round % 3 == 2) as u32,
        };
        // of the gates, the candidate and the output; coupled
        let kinds = (2 + round as u32 % 3)
            | (round as u32 % 12) << 16
            | (3 - round as u32 % 2) << 8
            | (round as u32 / 2 % 2) << 24;
        let constants = kernel::NormStateBackwardConstants { h, carries, kinds };
        all.push(case(&kernel::NORM_STATE_BACKWARD, constants, state));
        let clip = [f32::MAX, 0.9][round % 2];
        let constants = kernel::ResetConstants { kind: round as u32 % 12 };
        let (hidden, biases) = (h, round as u32 % 3);
        let reset = kernel::ResetForward {
            batch,
            directions,
            hidden,
            biases,
            xw_offset: 8,
            h_offset: 3,
            s_offset: 2,
            alpha,
            beta,
            clip,
        };
        all.push(case(&kernel::RESET_FORWARD, constants, reset));
        let reset = kernel::ResetBackward {
            batch,
            directions,
            hidden,
            saved_offset: 1,
            h_offset: 3,
            dg_offset: 12,
            clipped: round as u32 % 2,
            alpha,
            beta,
            clip,
        };
        all.push(case(&kernel::RESET_BACKWARD, constants, reset));
        let carry = kernel::Carry {
            batch,
            directions,
            features,
            src_offset: 3,
            dst_offset: 2,
            step: 1,
            total_steps,
            backwards,
            add: round as u32 % 2,
        };
        all.push(case(&kernel::CARRY, NoConstants, carry));
        let params = kernel::EmbedForward { rows: count, features, entries: 5, index_offset: 3, y_offset: 2 };
        all.push(case(&kernel::EMBED_FORWARD, NoConstants, params));
        let params = kernel::EmbedBackward { rows: count, features, entries: 5, index_offset: 3, dy_offset: 2 };
        all.push(case(&kernel::EMBED_BACKWARD, NoConstants, params));
        // Of five sequences; the first step of the list is up to 5.
        let (src_steps, step, dst_offset) = (steps + 4, round as u32 % 3, 5);
        let gather = kernel::Gather { steps, batch, features, sequences: 5, src_steps, step, dst_offset };
        all.push(case(&kernel::GATHER, NoConstants, gather));
        let merge = kernel::MergeConstants { kind: kernel::MergeKind::ALL[round % 3] };
        let params = kernel::MergeForward { rows: batch * steps, width: features, x_offset: 3, y_offset: 5 };
        all.push(case(&kernel::MERGE_FORWARD, merge, params));
        let params =
            kernel::MergeBackward { rows: batch * steps, width: features, x_offset: 3, dy_offset: 5, dx_offset: 1 };
        all.push(case(&kernel::MERGE_BACKWARD, merge, params));
        let activation = kernel::DenseConstants { activation: round as u32 % 12 };
        let (alpha, beta) = (0.3, 0.4);
        let features = odd();
        let dense = kernel::DenseForward { rows, features, has_bias: (round % 5 > 0) as u32, y_offset: 2, alpha, beta };
        all.push(case(&kernel::DENSE_FORWARD, activation, dense));
        let backward = kernel::DenseBackward { n: rows * features, y_offset: 1, dy_offset: 3, alpha, beta };
        all.push(case(&kernel::DENSE_BACKWARD, activation, backward));
        let logarithm = kernel::SoftmaxConstants { log: round % 2 == 1 };
        let softmax = kernel::SoftmaxForward { rows, features, y_offset: 2 };
        all.push(case(&kernel::SOFTMAX_FORWARD, logarithm, softmax));
        let backward = kernel::SoftmaxBackward { rows, features, y_offset: 1, dy_offset: 3 };
        all.push(case(&kernel::SOFTMAX_BACKWARD, logarithm, backward));
        let sum = kernel::ColumnSum {
            rows,
            columns: features,
            a_offset: 4,
            out_offset: 2,
            copies: 1 + round as u32 % 2,
            accumulate: (round % 3 == 0) as u32,
        };
        all.push(case(&kernel::COLUMN_SUM, NoConstants, sum));
        all.push(case(&kernel::COLUMN_SUM_FEW, NoConstants, kernel::ColumnSum { rows: 1 + round as u32 % 17, ..sum }));
        layers::attention_cases(&mut all, round, [odd(), odd().min(33), odd(), odd()]);
        let kind = LossKind::ALL[round % LossKind::ALL.len()];
        let (targets, levels) = (
            features,
            match kind {
                LossKind::Huber => 1,
                LossKind::Quantile => 3,
                _ => 0,
            },
        );
        let loss = kernel::Loss {
            rows,
            width: targets * levels.max(1),
            targets,
            levels,
            weighted: round as u32 % 2,
            prediction_offset: 1,
            target_offset: 2,
            gradient_offset: 3,
            row_offset: 4,
            scale: 0.25,
        };
        let loss = match kind {
            LossKind::SparseSoftmax => kernel::Loss { targets: 1, ..loss },
            LossKind::Gaussian => kernel::Loss { width: 2 * targets, ..loss },
            _ => loss,
        };
        all.push(case(&kernel::LOSS, kernel::LossConstants { kind }, loss));
        let n = rows * features;
        let per_group = odd() * 10;
        let reduce = kernel::Reduce { n, offset: 3, per_group, out_offset: 1, square: round as u32 % 2 };
        all.push(case(&kernel::REDUCE, NoConstants, reduce));
        all.push(case(&kernel::CLIP, NoConstants, kernel::Clip { n: odd(), max_norm: [0.1, 100.0][round % 2] }));
        let (limit, l2) = ([f32::MAX, 0.2][round % 2], [0.0, 0.1][round / 2 % 2]);
        all.push(case(
            &kernel::SGD,
            NoConstants,
            kernel::Sgd { n, momentum: 0.9, nesterov: round as u32 % 2, limit, l2 },
        ));
        let means = (round % 3 > 0) as u32;
        let adam = kernel::Adam { n, means, beta1: 0.9, take1: 0.1, beta2: 0.999, take2: 0.001, limit, l2 };
        all.push(case(&kernel::ADAM, NoConstants, adam));
        all.push(case(&kernel::PENALTY, NoConstants, kernel::Penalty { n, l1: 0.3, l2 }));
        // Rows of a matrix as it stands, or columns of matrices one after another
        let (rows, columns) = (odd(), odd());
        let (inner_stride, stride, matrices) = if back { (columns, 1, 1) } else { (1, rows, 2) };
        let bound = kernel::MaxNorm {
            vectors: matrices * rows,
            length: columns,
            inner: rows,
            outer_stride: rows * columns,
            inner_stride,
            stride,
            limit: 0.5 + round as f32 / 10.0,
        };
        all.push(case(&kernel::MAX_NORM, NoConstants, bound));
    }
    // Sizes that need a second row of workgroups: more than 65,535 groups of 256.
    let large = 65_535 * 256 + 300;
    all.push(case(&kernel::FILL, NoConstants, kernel::Fill { offset: 3, n: large, value: 2.0 }));
    all.push(case(
        &kernel::REDUCE,
        NoConstants,
        kernel::Reduce { n: 3_000_001, offset: 0, per_group: 4096, out_offset: 0, square: 1 },
    ));
    all
}

/// Products of up to 16 rows, with n columns or up to three more; of one row, with more terms than workgroup memory holds.
fn skinny_products(all: &mut Vec<Case>, round: usize, n: u32) {
    let m = [1, 2, 3, 4, 7, 8, 11, 16][round % 8];
    let turn = round / 8; // of all numbers of rows
    let (along_n, back, split) = ((round + turn).is_multiple_of(2), round % 3 == 1, (round / 2 + turn) % 2 == 1);
    let n = if along_n { n.next_multiple_of(4) } else { n };
    let k = [4, 5, 33, 64, 130, 260, 517, 2100][(7 * round + 3 * turn + 7) % 8];
    // Terms that lie side by side, or that have two levels, come by fours.
    let k: u32 = if along_n && !split { k } else { k.next_multiple_of(4) };
    let k_split = if split { 12.min(k) } else { k };
    let m_split = [m, 1, 3][round % 3];
    let b_rows = [k.next_multiple_of(k_split), n + 4][along_n as usize];
    let (outer, b_row) = (k.div_ceil(k_split), if along_n { n + 4 } else { b_rows + 4 });
    let b_k_lo = if along_n { b_row as i32 } else { 1 };
    let product = kernel::Matmul {
        accumulate: (round % 4 == 2) as u32,
        m_split,
        k_split,
        a_offset: 5,
        a_m_hi: (m_split * (k + k_split + 2)) as i32,
        a_m_lo: (k + k_split + 2) as i32,
        a_k_hi: k_split as i32,
        a_k_lo: 1,
        b_offset: 8 + if back { (outer - 1) * k_split * b_k_lo as u32 } else { 0 },
        b_k_hi: k_split as i32 * b_k_lo * if back { -1 } else { 1 },
        b_k_lo,
        b_n: if along_n { 1 } else { b_row as i32 },
        c_offset: 9,
        c_m_hi: (m_split * (n + 3)) as i32,
        c_m_lo: (n + 3) as i32,
        ..kernel::Matmul::plain(m, n, k)
    };
    let part = if split { k_split * [1, 4][turn % 2] } else { 64 };
    let parts = kernel::Matmul { part, c_part: 20 * (n + 3), ..product };
    for product in [product, parts] {
        let shares = [4, 8, 16, 32][(round / 2 + turn) % 4].min(256 / m.next_power_of_two());
        let constants = product.skinny(shares).expect("sizes by fours");
        assert_eq!((constants.b_along_n, constants.rows), (along_n, m.next_power_of_two()), "{product:?}");
        all.push(case(&kernel::MATMUL_SKINNY, constants, product));
        if product.part == 0 {
            let constants = kernel::MatmulSkinnyDenseConstants {
                common: constants,
                activation: round as u32 % 12,
                has_bias: !round.is_multiple_of(5),
                alpha: 0.3,
                beta: 0.4,
            };
            all.push(case(&kernel::MATMUL_SKINNY_DENSE, constants, kernel::Matmul { accumulate: 0, ..product }));
        }
    }
}

#[test]
fn the_cases_reach_every_row_of_the_table() {
    let covered: HashSet<&str> = cases().iter().map(|case| case.kernel.name).collect();
    for kernel in KERNELS {
        assert!(covered.contains(kernel.name), "{} has no case", kernel.name);
    }
}

fn run(device: &Device, case: &Case, cell: usize) -> Vec<Vec<f32>> {
    let kernel = case.kernel;
    let mut builder = Builder::new(kernel.name, device.capabilities().clone());
    // Inputs: whatever the kernel reads counts as written.
    let buffers: Vec<_> = kernel
        .bindings
        .iter()
        .zip(&case.lens)
        .map(|(binding, &len)| builder.buffer(binding.name, len, Role::Input).unwrap())
        .collect();
    let cell = kernel.takes_cell.then(|| &CELLS[cell]);
    builder.push_words(kernel, cell, &case.constants, &case.params, &buffers);
    // SAFETY: the buffers are as long as the kernel's `touches` asks for, and `cases` keeps to sizes that a schedule has.
    let plan = unsafe { builder.finish().unwrap().trust() };
    let executable = device.compile(plan).unwrap();
    let mut draw = Draw::new(case.params.iter().map(|&word| word as u64).sum());
    for ((binding, &buffer), &len) in kernel.bindings.iter().zip(&buffers).zip(&case.lens) {
        let mut values = draw.vec(len as usize);
        // Sums of squares and means of squares are never negative, probabilities neither.
        if ["squares", "v", "target_", "hyper", "level"].contains(&binding.name) {
            values.iter_mut().for_each(|value| *value = value.abs());
        }
        // A normaliser among the states is positive.
        if binding.name == "c" && cell.is_some_and(|cell| cell.states.len() > 1) {
            values.iter_mut().for_each(|value| *value = 0.5 + value.abs());
        }
        // A number of steps, means, and variances, which are not negative.
        if binding.name == "moments" {
            values.iter_mut().for_each(|value| *value = 0.1 + value.abs());
            values[0] = 5.0;
        }
        // Lengths of up to five steps, after the two words of a key.
        if binding.name.ends_with("words") {
            values.iter_mut().skip(2).for_each(|value| *value = f32::from_bits((value.abs() * 6.0) as u32));
        }
        // Counts, which were cleared.
        if binding.name == "barrier" {
            values.fill(0.0);
        }
        // A class.
        if kernel.name == "loss" && case.constants == [LossKind::SparseSoftmax.word()] && binding.name == "target_" {
            let classes = case.params[1] as f32;
            values.iter_mut().for_each(|value| *value = (*value * classes).floor());
        }
        if binding.name == "index" {
            values.iter_mut().for_each(|value| *value = (value.abs() * 4.99).floor());
        }
        // Times, some of which are none.
        if binding.name == "at" {
            values.iter_mut().for_each(|value| *value = f32::from_bits((value.abs() * 6.0) as u32));
        }
        // Few values, so that many are the largest.
        if kernel.name == "maximum_backward" {
            values.iter_mut().for_each(|value| *value = (*value * 2.0).floor());
        }
        // Numbers that f16 holds: of two that are as near, Vulkan lets a device choose either. tests/products.rs has others.
        if !kernel.enables.is_empty() {
            values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
        }
        // Two numbers to an element; or four bytes, and small factors, which the bits of small numbers are.
        if ["r", "rt", "w"].contains(&binding.name) {
            match kernel.weights {
                StepWeights::F16 => values.iter_mut().for_each(|value| *value = pair_of_halves(*value, -0.7 * *value)),
                StepWeights::Int8 => values.iter_mut().for_each(|value| *value *= 0.01),
                _ => {}
            }
        }
        executable.write((buffer, 0), &values).unwrap();
    }
    executable.run().unwrap();
    buffers.iter().zip(&case.lens).map(|(&buffer, &len)| executable.read((buffer, 0), len).unwrap()).collect()
}

fn pair_of_halves(low: f32, high: f32) -> f32 {
    let [low, high] = [low, high].map(|value| half::f16::from_f32(value).to_bits() as u32);
    f32::from_bits(low | high << 16)
}

mod on_adapter {
    use super::*;

    #[test]
    fn every_kernel_does_what_its_twin_does() {
        agree(|| device(false), cases());
    }

    /// Operands are numbers that f16 holds, so that the tolerance is that of sums in another order.
    #[test]
    fn products_by_cooperative_matrices_do_what_their_twin_does() {
        for checked_shaders in [false, true] {
            let options = GpuOptions {
                software: Software::Fallback,
                matrices: Matrices::Cooperative,
                checked_shaders,
                ..GpuOptions::default()
            };
            let open = || Device::gpu(&options).unwrap();
            let mut all = cases();
            all.retain(|case| !case.kernel.enables.is_empty());
            agree(open, all);
        }
    }

    /// False if a kernel needs cooperative matrices that the device does not have. A workgroup has four of its subgroups at least.
    fn runs(device: &Device, case: &Case) -> bool {
        let (side, threads) = match case.kernel.name {
            name if name == kernel::MATMUL_COOPERATIVE_8.name => {
                (8, kernel::MatmulCooperative8Constants::of(&case.constants).map(|constants| constants.threads))
            }
            _ => (16, kernel::MatmulCooperative16Constants::of(&case.constants).map(|constants| constants.threads)),
        };
        let fits = |own: CooperativeMatrices| {
            own.side == side && threads.is_some_and(|threads| threads >= 4 * own.subgroup_threads)
        };
        case.kernel.enables.is_empty() || device.capabilities().cooperative.is_some_and(fits)
    }

    /// An index that leaves its buffer reads something else with checks than without.
    #[test]
    fn every_kernel_does_so_with_checks_of_every_index() {
        let mut seen = HashSet::new();
        let mut all = cases();
        if !long() {
            // A case of each kernel, and one in five of the others.
            let mut index = 0;
            all.retain(|case| {
                index += 1;
                seen.insert(case.kernel.name) || index % 5 == 0
            });
        }
        agree(|| device(true), all);
    }

    /// The adapter, opened with what grids need of it, if it has that.
    fn device(checked_shaders: bool) -> Device {
        let options = GpuOptions {
            grid: Grid::Assume(0),
            software: Software::Fallback,
            schedule_as: common::schedule_as(),
            checked_shaders,
            ..GpuOptions::default()
        };
        Device::gpu(&options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Holds kernels against their twins on a device, but those that it does not have.
    fn agree(open: impl Fn() -> Device, mut cases: Vec<Case>) {
        let shared = open();
        if let Err(reason) = shared.grid() {
            println!("without the kernels of grids: {reason}");
            cases.retain(|case| !case.kernel.name.starts_with("grid_"));
        }
        cases.retain(|case| runs(&shared, case));
        if cases.is_empty() {
            println!("skipped: {shared} has none of them");
        }
        let hardware = shared.adapter().is_some_and(|adapter| adapter.kind != AdapterKind::Software);
        for (index, case) in cases.iter().enumerate() {
            // Vulkan allows a division an error of 2.5 units, so hardware may round a weight to the whole number beside the twin's.
            let rounds = |g: &f32, e: &f32| {
                let [g, e] = [g, e].map(|word| word.to_bits().to_le_bytes().map(|byte| i16::from(byte as i8)));
                hardware && case.kernel.name == "int8" && g.into_iter().zip(e).all(|(g, e)| g.abs_diff(e) <= 1)
            };
            // A cell or two a case, so that each meets every kernel; compiling all of them would take minutes.
            let count = if case.kernel.takes_cell { CELLS.len() } else { 1 };
            let second = if long() { index / 2 + 2 } else { index };
            for cell in HashSet::from([index % count, second % count]) {
                // A device runs no more grids after a repair.
                let given = match case.kernel.name {
                    "grid_repair" => run(&open(), case, cell),
                    _ => run(&shared, case, cell),
                };
                let expected = run(&Device::cpu(), case, cell);
                for ((binding, given), expected) in case.kernel.bindings.iter().zip(&given).zip(&expected) {
                    let largest = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
                    for (at, (g, e)) in given.iter().zip(expected).enumerate() {
                        assert!(
                            (g - e).abs() <= 2e-5 * largest || g.to_bits() == e.to_bits() || rounds(g, e),
                            "{} (case {index}, cell {cell}): {}[{at}] is {g}, the twin has {e}; parameters {:?}",
                            case.kernel.name,
                            binding.name,
                            case.params
                        );
                    }
                }
            }
        }
    }

    /// A table of no entries makes the kernel read far outside it, which the plan's check cannot see. A plan that the scheduler
    /// did not make runs with checks of every index on every device, also after the same kernel ran without.
    #[test]
    fn a_plan_made_by_hand_stays_in_its_buffers() {
        let run = |device: &Device, entries: u32, trusted: bool| {
            let mut builder = Builder::new("embedding", device.capabilities().clone());
            let [weight, index] = ["weight", "index"].map(|name| builder.buffer(name, 4, Role::Input).unwrap());
            let y = builder.buffer("y", 4, Role::Output).unwrap();
            let params = kernel::EmbedForward { rows: 4, features: 1, entries, index_offset: 0, y_offset: 0 };
            builder.push(&kernel::EMBED_FORWARD, None, &NoConstants, &params, &[weight, index, y]);
            let plan = builder.finish().unwrap();
            assert!(!plan.is_trusted());
            // SAFETY: asked for with a table as long as its buffer only.
            let plan = if trusted { unsafe { plan.trust() } } else { plan };
            let executable = device.compile(plan).unwrap();
            executable.write((weight, 0), &[5.0, 6.0, 7.0, 8.0]).unwrap();
            executable.write((index, 0), &[1.0, 1e6, 0.0, 2e9]).unwrap();
            executable.run().unwrap();
            executable.read((y, 0), 4).unwrap()
        };
        let device = adapter();
        assert_eq!(run(&device, 4, true), [6.0, 8.0, 5.0, 8.0]);
        assert_eq!(run(&device, 0, false), run(&checked_adapter(), 0, false));
    }

    /// tanh and sigmoid stay finite and exact at the ends of their range, where a naive formula overflows.
    #[test]
    fn activations_are_safe_for_any_finite_input() {
        let inputs = [-3.0e38, -1e4, -88.8, -44.5, -20.0, -1e-3, 0.0, 1e-3, 20.0, 44.5, 88.8, 1e4, 3.0e38f32];
        for (activation, exact) in [(2u32, (|x| 1.0 / (1.0 + (-x).exp())) as fn(f64) -> f64), (3, f64::tanh)] {
            for device in [Device::cpu(), adapter()] {
                let mut builder = Builder::new("activation", device.capabilities().clone());
                let bias = builder.buffer("bias", 1, Role::Input).unwrap();
                let y = builder.buffer("y", inputs.len() as u64, Role::Input).unwrap();
                let rows = inputs.len() as u32;
                let params =
                    kernel::DenseForward { rows, features: 1, has_bias: 0, y_offset: 0, alpha: 0.0, beta: 0.0 };
                builder.push(&kernel::DENSE_FORWARD, None, &kernel::DenseConstants { activation }, &params, &[bias, y]);
                let executable = device.compile(builder.finish().unwrap()).unwrap();
                executable.write((y, 0), &inputs).unwrap();
                executable.run().unwrap();
                for (x, given) in inputs.iter().zip(executable.read((y, 0), inputs.len() as u64).unwrap()) {
                    assert!(
                        (given as f64 - exact(*x as f64)).abs() < 2e-7,
                        "{device}: activation {activation} of {x} is {given}"
                    );
                }
            }
        }
    }
}
