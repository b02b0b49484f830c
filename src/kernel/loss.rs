//! Losses of rows and their gradients.

use super::declare::{constants, kernel, params};
use super::{Region, Touch};
use crate::cpu::loss;

params! {
    /// Loss of each row and its gradient.
    Loss {
        /// Rows.
        rows: u32,
        /// Features, or classes, of a row of the prediction.
        width: u32,
        /// Features of a row of the target.
        targets: u32,
        /// Quantiles, or 1 for Huber's δ, or 0.
        levels: u32,
        /// 1: each row has a factor of its own instead of `scale`.
        weighted: u32,
        /// First element of the prediction [rows, width].
        prediction_offset: u32,
        /// First element of the target [rows, targets].
        target_offset: u32,
        /// First element of the gradient [rows, width].
        gradient_offset: u32,
        /// First element of the row losses and of the rows' factors, `[rows]`.
        row_offset: u32,
        /// Factor that makes the sum a mean.
        scale: f32,
    }
}

constants! {
    /// Constants of [`LOSS`].
    LossConstants {
        /// The loss.
        kind: u32,
    }
}

kernel! {
    /// Loss of every row and its gradient.
    LOSS = loss(Loss, LossConstants) {
        bindings: [read prediction, read target_, read level, read row_weight, write gradient, write row_loss],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows], flops: 5 * p.width as u64,
        touches: |p| [
            Touch::reads(Region::span(p.prediction_offset, p.rows, p.width)),
            Touch::reads(Region::span(p.target_offset, p.rows, p.targets)),
            Touch::reads(Region::span(0, 1, p.levels)),
            Touch::reads(Region::span(p.row_offset, p.weighted, p.rows)),
            Touch::writes(Region::span(p.gradient_offset, p.rows, p.width)),
            Touch::writes(Region::span(p.row_offset, 1, p.rows)),
        ],
    }
}
