//! Layer normalisation.

use super::declare::{constants, kernel, params};
use super::{Call, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// Normalises rows to mean 0 and variance 1, then scales and shifts them.
    NormForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Consecutive rows that share a set of weights.
        group: u32,
        /// Sets of weights; groups of rows cycle through them.
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
        /// True if the result is added to y; else it overwrites y.
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

/// Twin of `shaders/norm_forward.wgsl`.
fn norm_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormForward = call.params();
    let NormForwardConstants { bias: has_bias, add } = call.constants();
    let ([weight, bias, x], [y], _) = args.parts(0);
    let n = p.features as usize;
    let rows = x[p.x_offset as usize..].chunks_exact(n).take(p.rows as usize);
    for (row, (x, y)) in rows.zip(y[p.y_offset as usize..].chunks_exact_mut(n)).enumerate() {
        let weight = of_row(weight, row, [p.group, p.groups, p.features]);
        let bias = has_bias.then(|| of_row(bias, row, [p.group, p.groups, p.features]));
        let (mean, scale) = moments(x, p.epsilon);
        for f in 0..n {
            let value = weight[f] * (x[f] - mean) * scale + bias.map_or(F::zero(), |bias| bias[f]);
            y[f] = if add { y[f] + value } else { value };
        }
    }
}

/// Mean of a row, and 1 / sqrt(variance + ε).
pub(super) fn moments<F: Real>(row: &[F], epsilon: f32) -> (F, F) {
    let count = F::of(row.len() as f32);
    let mean = row.iter().copied().sum::<F>() / count;
    let variance = row.iter().map(|&x| (x - mean) * (x - mean)).sum::<F>() / count;
    (mean, (variance + F::of(epsilon)).sqrt().recip())
}

/// The weights of a row: groups of `group` rows cycle through `groups` sets.
fn of_row<F>(weight: &[F], row: usize, [group, groups, features]: [u32; 3]) -> &[F] {
    let own = row / group as usize % groups as usize;
    &weight[own * features as usize..][..features as usize]
}

params! {
    /// Gradient of the rows before normalisation, and the terms of the weight's gradient, summed over steps.
    NormBackward {
        /// Rows of a step.
        rows: u32,
        /// Steps.
        steps: u32,
        /// Features of a row.
        features: u32,
        /// Consecutive rows that share a set of weights.
        group: u32,
        /// Sets of weights; groups of rows cycle through them.
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
        /// True if the terms of the weight's gradient are added to `dweight`; else they overwrite it.
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

/// Twin of `shaders/norm_backward.wgsl`.
fn norm_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormBackward = call.params();
    let NormBackwardConstants { add } = call.constants();
    let ([weight, x, dy], [dx, dweight], _) = args.parts(0);
    let (n, rows, count) = (p.features as usize, p.rows as usize, F::of(p.features as f32));
    for (step, row) in (0..p.steps as usize).flat_map(|step| (0..rows).map(move |row| (step, row))) {
        let at = (step * rows + row) * n;
        let x = &x[p.x_offset as usize + at..][..n];
        let dy = &dy[p.dy_offset as usize + at..][..n];
        let dx = &mut dx[p.dx_offset as usize + at..][..n];
        let weight = of_row(weight, row, [p.group, p.groups, p.features]);
        let (mean, scale) = moments(x, p.epsilon);
        let normal = |f: usize| (x[f] - mean) * scale;
        let (mut straight, mut along) = (F::zero(), F::zero());
        for (f, dweight) in dweight[row * n..][..n].iter_mut().enumerate() {
            straight += weight[f] * dy[f] / count;
            along += weight[f] * dy[f] * normal(f) / count;
            let before = if add || step > 0 { *dweight } else { F::zero() };
            *dweight = before + dy[f] * normal(f);
        }
        for f in 0..n {
            dx[f] = scale * (weight[f] * dy[f] - straight - normal(f) * along);
        }
    }
}
