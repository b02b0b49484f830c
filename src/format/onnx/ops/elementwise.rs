//! Elementwise operators.

use super::{Kernel, run};
use crate::activation::Activation;
use crate::format::onnx::call::{Call, Outcome, broadcast};
use crate::format::onnx::node::Attributes;
use crate::format::onnx::tensor::Beside;
use crate::format::onnx::value::{Element, Value, row_major, shape_name};
use ndarray::{ArrayD, Zip};

/// A number that is calculated with.
trait Number: Element + PartialOrd {
    const ZERO: Self;
    const ARITHMETIC: [fn(Self, Self) -> Self; 4];
    /// True for integers, whose division by 0 has no result.
    const WHOLE: bool;
}

pub(super) const ADD: usize = 0;
pub(super) const SUB: usize = 1;
pub(super) const MUL: usize = 2;
pub(super) const DIV: usize = 3;

macro_rules! number {
    ($zero:literal $whole:literal: $($type:ident)*; $add:ident $sub:ident $mul:ident $div:ident) => {$(
        impl Number for $type {
            const ZERO: $type = $zero;
            const WHOLE: bool = $whole;
            const ARITHMETIC: [fn($type, $type) -> $type; 4] = [
                |a, b| a.$add(b),
                |a, b| a.$sub(b),
                |a, b| a.$mul(b),
                |a, b| a.$div(b),
            ];
        }
    )*};
}
use std::ops::{Add, Div, Mul, Sub};
number! { 0.0 false: f32 f64; add sub mul div }
number! { 0 true: i32 i64; wrapping_add wrapping_sub wrapping_mul wrapping_div }

/// Add, Sub, Mul and Div, stretched as NumPy does. Whole numbers wrap around.
pub(super) fn arithmetic(which: usize) -> Outcome<Kernel> {
    fn combine<T: Number>(call: &Call, which: usize, a: &ArrayD<T>) -> Outcome<Value> {
        let b = call.array::<T>(1)?;
        let shape = broadcast(a.shape(), b.shape());
        let shape =
            shape.ok_or_else(|| format!("{} and {} do not stretch to one shape", call.name(0), call.name(1)))?;
        call.fits::<T>(&shape)?;
        if T::WHOLE && which == DIV && b.iter().any(|&x| x == T::ZERO) {
            return Err(format!("{} holds a 0 to divide by", call.name(1)));
        }
        let (Some(a), Some(b)) = (a.broadcast(&shape[..]), b.broadcast(&shape[..])) else {
            return Err(format!("{} and {} do not stretch to {}", call.name(0), call.name(1), shape_name(&shape)));
        };
        let f = T::ARITHMETIC[which];
        Ok(T::value(row_major(Zip::from(&a).and(&b).map_collect(|&a, &b| f(a, b)))))
    }
    run(move |call| match call.input(0)? {
        Value::F32(a) => combine(call, which, a),
        Value::F64(a) => combine(call, which, a),
        Value::I32(a) => combine(call, which, a),
        Value::I64(a) => combine(call, which, a),
        Value::Bool(_) => Err(format!("{} is no number", call.name(0))),
    })
}

/// Operators that are activations of cells, too.
pub(super) fn activation(attributes: &mut Attributes, name: &str) -> Outcome<Kernel> {
    let named = crate::format::onnx::activation::Named::of(name).ok_or("this operator is not supported")?;
    let alpha = if named.alpha.is_some() { attributes.float("alpha")? } else { None };
    let beta = if named.beta.is_some() { attributes.float("beta")? } else { None };
    let activation: Activation = named.with(alpha, beta);
    let shape = activation.shape();
    run(move |call| match call.input(0)? {
        Value::F32(array) => call.fits::<f32>(array.shape()).map(|()| array.mapv(|x| shape.of(x)).into()),
        Value::F64(array) => call.fits::<f64>(array.shape()).map(|()| array.mapv(|x| shape.of(x)).into()),
        _ => Err(format!("{} must be f32 or f64", call.name(0))),
    })
}

/// Bounds by attributes below opset 11, by inputs from then on.
pub(super) fn clip(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    fn bound<T: Number>(call: &Call, array: &ArrayD<T>, attributes: [Option<T>; 2]) -> Outcome<Value> {
        let mut bounds = attributes;
        for (k, bound) in bounds.iter_mut().enumerate() {
            if call.optional(1 + k).is_some() {
                *bound = Some(call.scalar::<T>(1 + k)?);
            }
        }
        call.fits::<T>(array.shape())?;
        let [least, most] = bounds;
        // Where the bounds are crossed, the upper one counts.
        let clipped = array.mapv(|x| {
            let x = least.map_or(x, |least| if x < least { least } else { x });
            most.map_or(x, |most| if x > most { most } else { x })
        });
        Ok(T::value(clipped))
    }
    let (least, most) = match attributes.opset < 11 {
        true => (attributes.float("min")?, attributes.float("max")?),
        false => (None, None),
    };
    let old = attributes.opset < 11;
    run(move |call| match call.input(0)? {
        _ if old && call.inputs.len() > 1 => Err("its bounds are attributes in this opset, not inputs".into()),
        Value::F32(array) => bound(call, array, [least, most]),
        Value::F64(array) => bound(call, array, [least.map(f64::from), most.map(f64::from)]),
        Value::I32(array) if !old => bound(call, array, [None, None]),
        Value::I64(array) if !old => bound(call, array, [None, None]),
        _ => Err(format!("{} cannot be clipped in this opset", call.name(0))),
    })
}
