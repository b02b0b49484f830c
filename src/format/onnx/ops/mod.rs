//! The operators beside the recurrent ones, which run on the host. Each is a function that takes its attributes and gives
//! what it does with its inputs; [operators](https://onnx.ai/onnx/operators/) has their definitions, version by version.

mod elementwise;
mod linear;
mod make;
mod normal;
mod pick;
mod shape;

use super::call::{Call, Outcome};
use super::node::Attributes;
use super::tensor::Beside;
use super::value::Value;
use std::ops::RangeInclusive;

/// The computation of a node, from inputs to outputs.
pub(super) type Kernel = Box<dyn Fn(&Call) -> Outcome<Vec<Value>> + Send + Sync>;

/// Understands a node's attributes.
type Make = fn(&mut Attributes, &Beside) -> Outcome<Kernel>;

struct Operator {
    name: &'static str,
    inputs: RangeInclusive<usize>,
    /// Outputs that it may have.
    outputs: usize,
    make: Make,
}

const fn op(name: &'static str, inputs: RangeInclusive<usize>, outputs: usize, make: Make) -> Operator {
    Operator { name, inputs, outputs, make }
}

/// As many as there are.
const ANY: usize = usize::MAX;

static OPERATORS: &[Operator] = &[
    op("Add", 2..=2, 1, |_, _| elementwise::arithmetic(elementwise::ADD)),
    op("Cast", 1..=1, 1, make::cast),
    op("Clip", 1..=3, 1, elementwise::clip),
    op("Concat", 1..=ANY, 1, pick::concat),
    op("Constant", 0..=0, 1, make::constant),
    op("ConstantOfShape", 1..=1, 1, make::constant_of_shape),
    op("Div", 2..=2, 1, |_, _| elementwise::arithmetic(elementwise::DIV)),
    op("Dropout", 1..=3, 2, make::dropout),
    op("Elu", 1..=1, 1, |a, _| elementwise::activation(a, "Elu")),
    op("Expand", 2..=2, 1, shape::expand),
    op("Flatten", 1..=1, 1, shape::flatten),
    op("Gather", 2..=2, 1, pick::gather),
    op("Gemm", 2..=3, 1, linear::gemm),
    op("HardSigmoid", 1..=1, 1, |a, _| elementwise::activation(a, "HardSigmoid")),
    op("Identity", 1..=1, 1, make::identity),
    op("LayerNormalization", 2..=3, 3, normal::layer_normalization),
    op("LeakyRelu", 1..=1, 1, |a, _| elementwise::activation(a, "LeakyRelu")),
    op("LogSoftmax", 1..=1, 1, |a, _| normal::softmax(a, true)),
    op("MatMul", 2..=2, 1, linear::matmul),
    op("Mul", 2..=2, 1, |_, _| elementwise::arithmetic(elementwise::MUL)),
    op("ReduceMax", 1..=2, 1, |a, _| normal::reduce(a, normal::MAX)),
    op("ReduceMean", 1..=2, 1, |a, _| normal::reduce(a, normal::MEAN)),
    op("ReduceProd", 1..=2, 1, |a, _| normal::reduce(a, normal::PRODUCT)),
    op("ReduceSum", 1..=2, 1, |a, _| normal::reduce(a, normal::SUM)),
    op("Relu", 1..=1, 1, |a, _| elementwise::activation(a, "Relu")),
    op("Reshape", 2..=2, 1, shape::reshape),
    op("Shape", 1..=1, 1, shape::shape),
    op("Sigmoid", 1..=1, 1, |a, _| elementwise::activation(a, "Sigmoid")),
    op("Slice", 1..=5, 1, pick::slice),
    op("Softmax", 1..=1, 1, |a, _| normal::softmax(a, false)),
    op("Softplus", 1..=1, 1, |a, _| elementwise::activation(a, "Softplus")),
    op("Softsign", 1..=1, 1, |a, _| elementwise::activation(a, "Softsign")),
    op("Split", 1..=2, ANY, pick::split),
    op("Squeeze", 1..=2, 1, shape::squeeze),
    op("Sub", 2..=2, 1, |_, _| elementwise::arithmetic(elementwise::SUB)),
    op("Tanh", 1..=1, 1, |a, _| elementwise::activation(a, "Tanh")),
    op("ThresholdedRelu", 1..=1, 1, |a, _| elementwise::activation(a, "ThresholdedRelu")),
    op("Transpose", 1..=1, 1, shape::transpose),
    op("Unsqueeze", 1..=2, 1, shape::unsqueeze),
];

/// The computation of an operator of the default set, or the reason why it is not supported.
pub(super) fn kernel(name: &str, inputs: usize, attributes: &mut Attributes, beside: &Beside) -> Outcome<Kernel> {
    let Some(operator) = OPERATORS.iter().find(|operator| operator.name == name) else {
        return Err("this operator is not supported".into());
    };
    if !operator.inputs.contains(&inputs) {
        let (least, most) = (operator.inputs.start(), operator.inputs.end());
        return Err(match least == most {
            true => format!("it has {inputs} inputs, expected {least}"),
            false if *most == ANY => format!("it has {inputs} inputs, expected at least {least}"),
            false => format!("it has {inputs} inputs, expected {least} to {most}"),
        });
    }
    attributes.at_most_outputs(operator.outputs)?;
    let kernel = (operator.make)(attributes, beside)?;
    attributes.done()?;
    Ok(kernel)
}

/// A kernel.
fn run(kernel: impl Fn(&Call) -> Outcome<Value> + Send + Sync + 'static) -> Outcome<Kernel> {
    Ok(Box::new(move |call| Ok(vec![kernel(call)?])))
}

/// Axes that an attribute gives in older operator sets, an input in newer ones.
#[derive(Clone, Debug)]
enum AxesSource {
    Attribute(Option<Vec<i64>>),
    Input(usize),
}

impl AxesSource {
    /// By an attribute below opset `since`, from then on by input `k`.
    fn of(attributes: &mut Attributes, name: &str, since: i64, k: usize) -> Outcome<AxesSource> {
        match attributes.opset < since {
            true => Ok(AxesSource::Attribute(attributes.ints(name)?)),
            false => Ok(AxesSource::Input(k)),
        }
    }

    fn get(&self, call: &Call) -> Outcome<Option<Vec<i64>>> {
        match self {
            AxesSource::Attribute(_) if call.inputs.len() > 1 => {
                Err(format!("it has {} inputs; in this opset they are attributes", call.inputs.len()))
            }
            AxesSource::Attribute(ints) => Ok(ints.clone()),
            AxesSource::Input(k) if call.optional(*k).is_none() => Ok(None),
            AxesSource::Input(k) => call.integers(*k).map(Some),
        }
    }
}
