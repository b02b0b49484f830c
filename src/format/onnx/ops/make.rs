//! Constants, casts, and what hands its input on.

use super::{Kernel, run};
use crate::format::onnx::call::{Call, Outcome};
use crate::format::onnx::node::Attributes;
use crate::format::onnx::tensor::{self, Beside, READ};
use crate::format::onnx::value::{Element, Value, any, data_type_name, each};
use ndarray::{ArrayD, IxDyn, arr0};

/// Constant.
pub(super) fn constant(attributes: &mut Attributes, beside: &Beside) -> Outcome<Kernel> {
    let mut values = Vec::new();
    if let Some(tensor) = attributes.tensor("value")? {
        values.push(tensor::read(&tensor, beside).map_err(|reason| format!("its tensor {reason}"))?);
    }
    values.extend(attributes.float("value_float")?.map(|x| arr0(x).into()));
    values.extend(attributes.int("value_int")?.map(|x| arr0(x).into()));
    values.extend(attributes.floats("value_floats")?.map(|all| ndarray::Array1::from(all).into()));
    values.extend(attributes.ints("value_ints")?.map(|all| ndarray::Array1::from(all).into()));
    attributes.done()?;
    match (values.pop(), values.is_empty()) {
        (Some(value), true) => run(move |call| copy(call, &value)),
        _ => Err("it must have one value".into()),
    }
}

fn copy(call: &Call, value: &Value) -> Outcome<Value> {
    call.fits_as(value, value.shape()).map(|()| value.clone())
}

/// ConstantOfShape.
pub(super) fn constant_of_shape(attributes: &mut Attributes, beside: &Beside) -> Outcome<Kernel> {
    let value = match attributes.tensor("value")? {
        Some(tensor) => tensor::read(&tensor, beside).map_err(|reason| format!("its value {reason}"))?,
        None => arr0(0f32).into(),
    };
    if value.len() != 1 {
        return Err(format!("its value has {} elements, expected 1", value.len()));
    }
    fn filled<T: Element>(value: &ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
        ArrayD::from_elem(IxDyn(shape), value.iter().copied().next().unwrap_or_default())
    }
    run(move |call| {
        let given = call.integers(0)?;
        let wrong = |_| format!("its shape is {given:?}; no size may be negative");
        let shape = given.iter().map(|&size| usize::try_from(size).map_err(wrong)).collect::<Outcome<Vec<_>>>()?;
        call.fits_as(&value, &shape)?;
        Ok(each!(&value, value => filled(value, &shape)))
    })
}

/// Identity.
pub(super) fn identity(_: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    run(|call| copy(call, call.input(0)?))
}

/// Cast, between the types that there are.
pub(super) fn cast(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let to = attributes.int("to")?.ok_or("attribute to is missing")?;
    // Both are about 8-bit floats.
    attributes.ignore("saturate");
    attributes.ignore("round_mode");
    let to = i32::try_from(to).unwrap_or_default();
    if arr_of_nothing().cast(to).is_none() {
        return Err(format!("it casts to {}; {READ}", data_type_name(to)));
    }
    run(move |call| {
        let value = call.input(0)?;
        call.fits::<f64>(value.shape())?;
        value.cast(to).ok_or_else(|| format!("it casts to {}; {READ}", data_type_name(to)))
    })
}

fn arr_of_nothing() -> Value {
    ndarray::Array1::<f32>::default(0).into()
}

/// Dropout in inference: the identity.
pub(super) fn dropout(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let old = attributes.opset < 12;
    if old {
        attributes.float("ratio")?;
    } else {
        attributes.int("seed")?;
    }
    if attributes.opset < 10 && attributes.wants(1) {
        return Err(format!("its mask is not supported in opset {}", attributes.opset));
    }
    Ok(Box::new(move |call| {
        let value = call.input(0)?;
        if old && call.inputs.len() > 1 {
            return Err("its ratio is an attribute in this opset, not an input".into());
        }
        if call.optional(2).is_some() && call.scalar::<bool>(2)? {
            return Err("it is in training mode, which is not supported".into());
        }
        let mask = any!(value, array => ArrayD::from_elem(array.raw_dim(), true));
        call.fits::<[f64; 2]>(value.shape())?;
        Ok(vec![value.clone(), mask.into()])
    }))
}
