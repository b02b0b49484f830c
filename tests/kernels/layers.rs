//! Cases of layers beside the recurrence.

use super::{Case, case};
use wgpu_lstm::kernel::{self, NoConstants};

/// Cases of attention, and of elementwise arithmetic: T queries or steps, B, T' keys, F features.
pub fn attention_cases(all: &mut Vec<Case>, round: usize, [steps, batch, keys, features]: [u32; 4]) {
    let accumulate = (round % 4 == 3) as u32;
    // A transposed or not, B transposed or not, as in q·kᵀ, a·v and the gradients of keys and values
    let (a_m, a_k) = if round.is_multiple_of(2) { (batch * (features + 1), 1) } else { (1, batch * (steps + 2)) };
    let (b_k, b_n) = if round.is_multiple_of(3) { (batch * (keys + 1), 1) } else { (1, batch * (features + 3)) };
    let product = kernel::BatchMatmul {
        batch,
        m: steps,
        n: keys,
        k: features,
        accumulate,
        a_offset: 3,
        a_b: if round.is_multiple_of(2) { features + 1 } else { steps + 2 } as i32,
        a_m: a_m as i32,
        a_k: a_k as i32,
        b_offset: 5,
        b_b: if round.is_multiple_of(3) { keys + 1 } else { features + 3 } as i32,
        b_k: b_k as i32,
        b_n: b_n as i32,
        c_offset: 2,
        c_b: if round % 5 < 3 { keys + 2 } else { steps * (keys + 1) } as i32,
        c_m: if round % 5 < 3 { batch * (keys + 2) } else { keys + 1 } as i32,
    };
    all.push(case(&kernel::BATCH_MATMUL, NoConstants, product));
    let masks = kernel::MaskedSoftmaxConstants {
        causal: round % 2 == 1,
        ragged_queries: round / 2 % 2 == 1,
        ragged_keys: round / 4 % 2 == 1,
    };
    let (time, scale) = (round as u32 % 3, [1.0, 0.3][round % 2]);
    let softmax = kernel::MaskedSoftmaxForward { steps, batch, keys, a_offset: 3, time, scale };
    all.push(case(&kernel::MASKED_SOFTMAX_FORWARD, masks, softmax));
    let backward = kernel::MaskedSoftmaxBackward { rows: steps * batch, keys, a_offset: 3, da_offset: 1, scale };
    all.push(case(&kernel::MASKED_SOFTMAX_BACKWARD, NoConstants, backward));
    let [q_row, k_row, s_row] = [features + 2, features + 1, keys + 3];
    let scores = kernel::AdditiveScores {
        steps,
        batch,
        keys,
        features,
        q_offset: 2,
        q_step: batch * q_row,
        q_row,
        k_offset: 1,
        k_step: batch * k_row,
        k_row,
        s_offset: 4,
        s_step: batch * s_row,
        s_row,
    };
    all.push(case(&kernel::ADDITIVE_SCORES, NoConstants, scores));
    let backward = kernel::AdditiveScoresBackward {
        steps,
        batch,
        others: keys,
        features,
        accumulate,
        x_offset: 2,
        x_step: batch * q_row,
        x_row: q_row,
        y_offset: 1,
        y_step: batch * k_row,
        y_row: k_row,
        ds_offset: 4,
        ds_step: if round.is_multiple_of(2) { batch * s_row } else { 1 },
        ds_row: if round.is_multiple_of(2) { s_row } else { steps },
        ds_other: if round.is_multiple_of(2) { 1 } else { batch * steps },
        dx_offset: 3,
        parts_offset: 5,
    };
    let parts = kernel::AdditiveScoresBackwardConstants { parts: !round.is_multiple_of(3) };
    all.push(case(&kernel::ADDITIVE_SCORES_BACKWARD, parts, backward));
    // x is as long as y, the same in every step, or a number
    let [x_step, x_row, x_feature] = [[batch * q_row, q_row, 1], [0, q_row, 1], [0, 0, 0]][round % 3];
    let elementwise = kernel::Elementwise {
        steps,
        batch,
        features,
        x_offset: 3,
        x_step,
        x_row,
        x_feature,
        y_offset: 2,
        y_step: batch * k_row,
        y_row: k_row,
    };
    let kind = kernel::ElementwiseConstants { kind: kernel::ElementwiseKind::ALL[round % 2] };
    all.push(case(&kernel::ELEMENTWISE, kind, elementwise));
    let backward = kernel::MaximumBackward {
        steps,
        batch,
        features,
        x_offset: 3,
        x_step: batch * q_row,
        x_row: q_row,
        y_offset: 2,
        rest_offset: 1,
        dx_offset: 4,
    };
    all.push(case(&kernel::MAXIMUM_BACKWARD, NoConstants, backward));
}

/// Windows of time: pooled, and shifted to padded places.
pub fn windows(all: &mut Vec<Case>, round: usize, [steps, batch, features]: [u32; 3]) {
    let (r, ragged) = (round as u32, round % 2 == 1);
    let (size, stride, accumulate) = (1 + r % 4, 1 + r % 3, r / 2 % 2);
    let (total_steps, left) = (steps + 3, r % size);
    let constants =
        kernel::WindowPoolConstants { kind: kernel::WindowPoolKind::ALL[round % 3], ragged, same: round / 4 % 2 == 1 };
    let pool = kernel::WindowPoolForward {
        steps,
        batch,
        features,
        x_offset: 3,
        time: 2,
        out_steps: 1 + r % 5,
        out_time: r % 2,
        y_offset: 1,
        total_steps,
        size,
        stride,
        left,
        accumulate,
    };
    all.push(case(&kernel::WINDOW_POOL_FORWARD, constants, pool));
    let pool = kernel::WindowPoolBackward {
        steps,
        batch,
        features,
        dx_offset: 3,
        time: 2,
        out_steps: 1 + r % 5,
        out_time: r % 2,
        dy_offset: 1,
        total_steps,
        size,
        stride,
        left,
        accumulate,
    };
    all.push(case(&kernel::WINDOW_POOL_BACKWARD, constants, pool));
    let row = kernel::RowShift::ALL[round % 3];
    let limit = kernel::ShiftLimit::ALL[round / 3 % 3];
    let shift = kernel::Shift {
        steps: steps + r % 3,
        batch,
        features,
        src_offset: 2,
        src_steps: steps,
        src_time: r as i32 % 4 - 2,
        dst_offset: 3,
        time: r as i32 % 3 - 1,
        shift: r as i32 % 5 - 2,
        by_row: [1, -1][round / 2 % 2],
        window: size,
        stride,
        first_step: r % 2,
        total_steps,
        accumulate,
    };
    all.push(case(&kernel::SHIFT, kernel::ShiftConstants { row, limit, ragged }, shift));
}

pub fn batch_norm(all: &mut Vec<Case>, round: usize, [steps, batch, features]: [u32; 3]) {
    let (ragged, accumulate, epsilon) = (round % 2 == 1, round as u32 / 2 % 2, 1e-3);
    let (time, total_steps) = (round as u32 % 3, steps + 2);
    let moments = kernel::BatchMoments { steps, batch, features, x_offset: 3, time, total_steps, accumulate };
    for variance in [false, true] {
        all.push(case(&kernel::BATCH_MOMENTS, kernel::BatchMomentsConstants { variance, ragged }, moments));
    }
    let rows = steps * batch;
    let forward = kernel::BatchNormForward { rows, features, x_offset: 3, y_offset: 2, epsilon };
    all.push(case(&kernel::BATCH_NORM_FORWARD, NoConstants, forward));
    let constants = kernel::BatchNormConstants { ragged };
    let sums = kernel::BatchNormSums { rows, features, x_offset: 3, dy_offset: 1, epsilon, accumulate };
    all.push(case(&kernel::BATCH_NORM_SUMS, NoConstants, sums));
    let backward =
        kernel::BatchNormBackward { steps, batch, features, x_offset: 3, dy_offset: 1, dx_offset: 2, time, epsilon };
    all.push(case(&kernel::BATCH_NORM_BACKWARD, constants, backward));
    let update = kernel::BatchNormUpdate { features, momentum: 0.3, unbiased: round as u32 % 2 };
    all.push(case(&kernel::BATCH_NORM_UPDATE, NoConstants, update));
}
