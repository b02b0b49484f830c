//! Layer normalisation.

use super::declare::{constants, kernel, params};
use super::{Region, Touch};
use crate::cpu::{norm_backward, norm_forward};

params! {
    /// Rows brought to mean 0 and variance 1, scaled and shifted.
    NormForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Rows, one after another, that share their weights.
        group: u32,
        /// Weights that rows take in turns.
        groups: u32,
        /// First element of x [rows, features].
        x_offset: u32,
        /// First element of y [rows, features].
        y_offset: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

constants! {
    /// Constants of [`NORM_FORWARD`].
    NormForwardConstants {
        /// True if there is a bias.
        bias: bool,
        /// True if y is added to.
        add: bool,
    }
}

kernel! {
    /// Layer normalisation of rows.
    NORM_FORWARD = norm_forward(NormForward, NormForwardConstants) {
        bindings: [read weight, read bias, read x, write y],
        workgroup: [64, 1, 1],
        rowwise: |p| [p.rows], flops: 8 * p.features as u64,
        touches: |p, c| p.touches(c),
    }
}

impl NormForward {
    fn touches(&self, c: NormForwardConstants) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(own(0, self.groups)),
            Touch::reads(own(0, c.bias as u32 * self.groups)),
            Touch::reads(own(self.x_offset, self.rows)),
            Touch::updates(own(self.y_offset, self.rows), c.add),
        ]
    }
}

params! {
    /// Gradient of rows that were normalised, and the terms of the weight's gradient, summed over steps.
    NormBackward {
        /// Rows of a step.
        rows: u32,
        /// Steps.
        steps: u32,
        /// Features of a row.
        features: u32,
        /// Rows, one after another, that share their weights.
        group: u32,
        /// Weights that rows take in turns.
        groups: u32,
        /// First element of x [steps, rows, features].
        x_offset: u32,
        /// First element of dy [steps, rows, features].
        dy_offset: u32,
        /// First element of dx [steps, rows, features].
        dx_offset: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

constants! {
    /// Constants of [`NORM_BACKWARD`].
    NormBackwardConstants {
        /// True if the terms of the weight's gradient are added to.
        add: bool,
    }
}

kernel! {
    /// Gradient through layer normalisation.
    NORM_BACKWARD = norm_backward(NormBackward, NormBackwardConstants) {
        bindings: [read weight, read x, read dy, write dx, write dweight],
        workgroup: [64, 1, 1],
        rowwise: |p| [p.rows], flops: 20 * p.steps as u64 * p.features as u64,
        touches: |p, c| p.touches(c),
    }
}

impl NormBackward {
    fn touches(&self, c: NormBackwardConstants) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        let all = self.steps * self.rows;
        vec![
            Touch::reads(own(0, self.groups)),
            Touch::reads(own(self.x_offset, all)),
            Touch::reads(own(self.dy_offset, all)),
            Touch::writes(own(self.dx_offset, all)),
            Touch::updates(own(0, self.rows), c.add),
        ]
    }
}
