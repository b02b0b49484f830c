//! Products.

use super::{Kernel, run};
use crate::format::onnx::call::{Call, Outcome, broadcast};
use crate::format::onnx::node::Attributes;
use crate::format::onnx::tensor::Beside;
use crate::format::onnx::value::{Element, Value};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayD, ArrayView2, Axis, Dimension, Ix2, IxDyn, LinalgScalar, indices};

/// A matrix of a call's inputs, transposed where asked for.
fn matrix<'a, T: Element>(call: &Call<'a>, k: usize, transposed: bool) -> Outcome<ArrayView2<'a, T>> {
    let array = call.array::<T>(k)?.view().into_dimensionality::<Ix2>();
    let array = array.map_err(|_| format!("{} must be a matrix", call.name(k)))?;
    Ok(if transposed { array.reversed_axes() } else { array })
}

/// Gemm: y = α·A·B + β·C.
pub(super) fn gemm(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let alpha = attributes.float("alpha")?.unwrap_or(1.0);
    let beta = attributes.float("beta")?.unwrap_or(1.0);
    let transposed = [attributes.flag("transA")?.unwrap_or(false), attributes.flag("transB")?.unwrap_or(false)];
    fn of<T: Element + LinalgScalar>(call: &Call, [alpha, beta]: [T; 2], transposed: [bool; 2]) -> Outcome<Value> {
        let (a, b) = (matrix::<T>(call, 0, transposed[0])?, matrix::<T>(call, 1, transposed[1])?);
        if a.ncols() != b.nrows() {
            return Err(format!(
                "{} and {} cannot be multiplied: {} columns, {} rows",
                call.name(0),
                call.name(1),
                a.ncols(),
                b.nrows()
            ));
        }
        let shape = [a.nrows(), b.ncols()];
        call.fits::<T>(&shape)?;
        let mut y = Array2::<T>::zeros(shape);
        if call.optional(2).is_some() {
            let c = call.array::<T>(2)?;
            let c = c.broadcast(shape).ok_or_else(|| format!("{} does not stretch to {shape:?}", call.name(2)))?;
            y.assign(&c);
        }
        general_mat_mul(alpha, &a, &b, beta, &mut y);
        Ok(y.into())
    }
    run(move |call| match call.input(0)? {
        Value::F32(_) => of::<f32>(call, [alpha, beta], transposed),
        Value::F64(_) => of::<f64>(call, [alpha.into(), beta.into()], transposed),
        _ => Err(format!("{} must be f32 or f64", call.name(0))),
    })
}

/// MatMul: NumPy's `matmul`.
pub(super) fn matmul(_: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    run(|call| match call.input(0)? {
        Value::F32(a) => product::<f32>(call, a),
        Value::F64(a) => product::<f64>(call, a),
        _ => Err(format!("{} must be f32 or f64", call.name(0))),
    })
}

fn product<T: Element + LinalgScalar>(call: &Call, a: &ArrayD<T>) -> Outcome<Value> {
    let b = call.array::<T>(1)?;
    if a.ndim() == 0 || b.ndim() == 0 {
        return Err(format!("{} and {} must have an axis", call.name(0), call.name(1)));
    }
    let (row, column) = (a.ndim() == 1, b.ndim() == 1);
    let a = if row { a.view().insert_axis(Axis(0)) } else { a.view() };
    let b = if column { b.view().insert_axis(Axis(1)) } else { b.view() };
    let (outer_a, [n, k]) = split(a.shape());
    let (outer_b, [k_b, m]) = split(b.shape());
    let mut shape = match broadcast(outer_a, outer_b) {
        Some(outer) if k == k_b => outer,
        _ => return Err(format!("{} and {} cannot be multiplied", call.name(0), call.name(1))),
    };
    let outer = shape.clone();
    shape.extend([n, m]);
    call.fits::<T>(&shape)?;
    let mut y = ArrayD::<T>::zeros(IxDyn(&shape));
    let (shape_a, shape_b) = ([&outer[..], &[n, k]].concat(), [&outer[..], &[k, m]].concat());
    let (Some(a), Some(b)) = (a.broadcast(shape_a), b.broadcast(shape_b)) else {
        return Err(format!("{} and {} cannot be multiplied", call.name(0), call.name(1)));
    };
    for place in indices(IxDyn(&outer)) {
        let mut target = y.view_mut();
        let (mut a, mut b) = (a.view(), b.view());
        for &at in place.as_array_view() {
            (a, b) = (a.index_axis_move(Axis(0), at), b.index_axis_move(Axis(0), at));
            target = target.index_axis_move(Axis(0), at);
        }
        let matrices = (a.into_dimensionality::<Ix2>(), b.into_dimensionality::<Ix2>());
        let (Ok(a), Ok(b), Ok(mut target)) = (matrices.0, matrices.1, target.into_dimensionality::<Ix2>()) else {
            return Err("its inputs are no matrices".into());
        };
        general_mat_mul(T::one(), &a, &b, T::zero(), &mut target);
    }
    if row {
        shape.remove(outer.len());
    }
    if column {
        shape.pop();
    }
    Ok(T::value(y.into_shape_with_order(shape).map_err(|error| error.to_string())?))
}

/// All axes but two, and these.
fn split(shape: &[usize]) -> (&[usize], [usize; 2]) {
    let (outer, inner) = shape.split_at(shape.len() - 2);
    (outer, [inner[0], inner[1]])
}
