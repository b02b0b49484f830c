//! Elementwise arithmetic of two tensors along time.

use super::declare::{constants, kernel, kinds, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

kinds! {
    /// Arithmetic of two elements. Their sum is [`COPY`](super::COPY) with `add`.
    ElementwiseKind {
        /// Their product.
        Product,
        /// The larger of them.
        Maximum,
    }
}

params! {
    /// y = y·x, or the larger of both, over a block [steps, B, features].
    Elementwise {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x.
        x_offset: u32,
        /// Stride of x by step; 0 repeats a step.
        x_step: u32,
        /// Stride of x by row.
        x_row: u32,
        /// Stride of x by feature: 1, or 0 for a number.
        x_feature: u32,
        /// First element of y.
        y_offset: u32,
        /// Stride of y by step.
        y_step: u32,
        /// Stride of y by row; features are contiguous.
        y_row: u32,
    }
}

constants! {
    /// Constants of [`ELEMENTWISE`].
    ElementwiseConstants {
        /// The arithmetic.
        kind: ElementwiseKind,
    }
}

kernel! {
    /// Product or maximum of two tensors, into the second.
    ELEMENTWISE = elementwise(Elementwise, ElementwiseConstants) {
        bindings: [read x, write y],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 1,
        touches: |p| p.touches(),
    }
}

impl Elementwise {
    fn touches(&self) -> Vec<Touch> {
        let axes = |step: u32, row: u32, feature: u32| {
            [(self.steps, step as i32), (self.batch, row as i32), (self.features, feature as i32)]
        };
        vec![
            Touch::reads(Region::strided(self.x_offset, axes(self.x_step, self.x_row, self.x_feature))),
            Touch::updates(Region::strided(self.y_offset, axes(self.y_step, self.y_row, 1)), true),
        ]
    }
}

/// Twin of `shaders/elementwise.wgsl`.
fn elementwise<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Elementwise = call.params();
    let ElementwiseConstants { kind } = call.constants();
    let ([x], [y], _) = args.parts(0);
    for (step, row) in (0..p.steps).flat_map(|step| (0..p.batch).map(move |row| (step, row))) {
        let x = &x[(p.x_offset + step * p.x_step + row * p.x_row) as usize..];
        let y = &mut y[(p.y_offset + step * p.y_step + row * p.y_row) as usize..][..p.features as usize];
        for (f, y) in y.iter_mut().enumerate() {
            let given = x[f * p.x_feature as usize];
            *y = match kind {
                ElementwiseKind::Product => *y * given,
                ElementwiseKind::Maximum => {
                    if given > *y {
                        given
                    } else {
                        *y
                    }
                }
            };
        }
    }
}

params! {
    /// Gradient of one input of a maximum.
    MaximumBackward {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x.
        x_offset: u32,
        /// Stride of x by step.
        x_step: u32,
        /// Stride of x by row.
        x_row: u32,
        /// First element of the maximum y [steps, B, features].
        y_offset: u32,
        /// First element of the gradient that is left, [steps, B, features].
        rest_offset: u32,
        /// First element of dx [steps, B, features].
        dx_offset: u32,
    }
}

kernel! {
    /// Gradient of one input of a maximum, taken from what the inputs before it have left: of equal inputs, the first has all of it.
    MAXIMUM_BACKWARD = maximum_backward(MaximumBackward, NoConstants) {
        bindings: [read x, read y, write rest, write dx],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 1,
        touches: |p| p.touches(),
    }
}

impl MaximumBackward {
    fn touches(&self) -> Vec<Touch> {
        let own = |offset: u32| Region::span(offset, self.steps * self.batch, self.features);
        let axes = [(self.steps, self.x_step as i32), (self.batch, self.x_row as i32), (self.features, 1)];
        vec![
            Touch::reads(Region::strided(self.x_offset, axes)),
            Touch::reads(own(self.y_offset)),
            Touch::updates(own(self.rest_offset), true),
            Touch::writes(own(self.dx_offset)),
        ]
    }
}

/// Twin of `shaders/maximum_backward.wgsl`.
fn maximum_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MaximumBackward = call.params();
    let ([x, y], [rest, dx], _) = args.parts(0);
    let features = p.features as usize;
    for (n, (step, row)) in (0..p.steps).flat_map(|step| (0..p.batch).map(move |row| (step, row))).enumerate() {
        let own = |offset: u32| offset as usize + n * features..offset as usize + (n + 1) * features;
        let x = &x[(p.x_offset + step * p.x_step + row * p.x_row) as usize..];
        let (rest, dx) = (&mut rest[own(p.rest_offset)], &mut dx[own(p.dx_offset)]);
        for (((&x, &y), rest), dx) in x.iter().zip(&y[own(p.y_offset)]).zip(rest).zip(dx) {
            (*dx, *rest) = if x == y { (*rest, F::zero()) } else { (F::zero(), *rest) };
        }
    }
}
