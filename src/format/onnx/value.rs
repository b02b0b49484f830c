//! Arrays of the element types that graphs are run in.

use ndarray::{Array, ArrayD, Dimension};

/// A tensor of a graph: an array of one of five element types, in row-major order.
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::format::onnx::Value;
/// let value = Value::from(array![[1i64, 2], [3, 4]]);
/// assert_eq!((value.kind(), value.shape()), ("i64", &[2, 2][..]));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// FLOAT.
    F32(ArrayD<f32>),
    /// DOUBLE.
    F64(ArrayD<f64>),
    /// INT32.
    I32(ArrayD<i32>),
    /// INT64.
    I64(ArrayD<i64>),
    /// BOOL.
    Bool(ArrayD<bool>),
}

/// Does the same to the array of a value whatever its elements are; gives a value.
macro_rules! each {
    ($value:expr, $array:ident => $body:expr) => {
        match $value {
            $crate::format::onnx::Value::F32($array) => $crate::format::onnx::Value::F32($body),
            $crate::format::onnx::Value::F64($array) => $crate::format::onnx::Value::F64($body),
            $crate::format::onnx::Value::I32($array) => $crate::format::onnx::Value::I32($body),
            $crate::format::onnx::Value::I64($array) => $crate::format::onnx::Value::I64($body),
            $crate::format::onnx::Value::Bool($array) => $crate::format::onnx::Value::Bool($body),
        }
    };
}
pub(super) use each;

/// The same, giving whatever the body gives.
macro_rules! any {
    ($value:expr, $array:ident => $body:expr) => {
        match $value {
            $crate::format::onnx::Value::F32($array) => $body,
            $crate::format::onnx::Value::F64($array) => $body,
            $crate::format::onnx::Value::I32($array) => $body,
            $crate::format::onnx::Value::I64($array) => $body,
            $crate::format::onnx::Value::Bool($array) => $body,
        }
    };
}
pub(super) use any;

/// An element type of [`Value`].
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Its name in messages.
    const KIND: &'static str;
    /// Its number in files (`TensorProto.DataType`).
    const DATA_TYPE: i32;
    /// The value of an array.
    fn value(array: ArrayD<Self>) -> Value;
    /// The array of a value of this type.
    fn of(value: &Value) -> Option<&ArrayD<Self>>;
    /// The number as f32, rounded where it does not hold it.
    fn to_f32(self) -> f32;
}

macro_rules! element {
    ($($type:ident $kind:ident $number:literal $to_f32:expr;)*) => {$(
        impl Element for $type {
            const KIND: &'static str = stringify!($type);
            const DATA_TYPE: i32 = $number;

            fn value(array: ArrayD<$type>) -> Value {
                Value::$kind(array)
            }

            fn of(value: &Value) -> Option<&ArrayD<$type>> {
                match value {
                    Value::$kind(array) => Some(array),
                    _ => None,
                }
            }

            fn to_f32(self) -> f32 {
                let to_f32: fn($type) -> f32 = $to_f32;
                to_f32(self)
            }
        }
    )*};
}
element! {
    f32 F32 1 |x| x;
    i32 I32 6 |x| x as f32;
    i64 I64 7 |x| x as f32;
    bool Bool 9 |x| x.into();
    f64 F64 11 |x| x as f32;
}

impl<T: Element, D: Dimension> From<Array<T, D>> for Value {
    fn from(array: Array<T, D>) -> Value {
        T::value(row_major(array.into_dyn()))
    }
}

/// An array in row-major order, which every value is kept in.
pub(super) fn row_major<T: Clone>(array: ArrayD<T>) -> ArrayD<T> {
    if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }
}

impl Value {
    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        any!(self, array => array.shape())
    }

    /// Numbers held.
    #[allow(clippy::len_without_is_empty)] // an array's word
    pub fn len(&self) -> usize {
        any!(self, array => array.len())
    }

    /// Name of the element type.
    pub fn kind(&self) -> &'static str {
        fn name<T: Element>(_: &ArrayD<T>) -> &'static str {
            T::KIND
        }
        any!(self, array => name(array))
    }

    /// Number of the element type in files.
    pub(super) fn data_type(&self) -> i32 {
        fn number<T: Element>(_: &ArrayD<T>) -> i32 {
            T::DATA_TYPE
        }
        any!(self, array => number(array))
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        fn size<T>(array: &ArrayD<T>) -> u64 {
            (array.len() * size_of::<T>()) as u64
        }
        any!(self, array => size(array))
    }

    /// The array, if its elements are of this type.
    ///
    /// ```
    /// use ndarray::array;
    /// use wgpu_lstm::format::onnx::Value;
    /// let value = Value::from(array![1.0f32]);
    /// assert_eq!(value.array::<f32>().map(|array| array[0]), Some(1.0));
    /// assert!(value.array::<i64>().is_none());
    /// ```
    pub fn array<T: Element>(&self) -> Option<&ArrayD<T>> {
        T::of(self)
    }

    /// The numbers as f32, rounded where it does not hold them; true is 1.
    ///
    /// ```
    /// use ndarray::array;
    /// use wgpu_lstm::format::onnx::Value;
    /// assert_eq!(Value::from(array![3i64, -1]).to_f32(), array![3.0, -1.0].into_dyn());
    /// ```
    pub fn to_f32(&self) -> ArrayD<f32> {
        any!(self, array => array.mapv(Element::to_f32))
    }

    /// The same numbers in the element type of this number, by Rust's `as`; what is not 0 is true. Nothing for types that
    /// [`Value`] does not have.
    pub(super) fn cast(&self, data_type: i32) -> Option<Value> {
        macro_rules! to {
            ($type:ident) => {
                match self {
                    Value::F32(array) => array.mapv(|x| x as $type).into(),
                    Value::F64(array) => array.mapv(|x| x as $type).into(),
                    Value::I32(array) => array.mapv(|x| x as $type).into(),
                    Value::I64(array) => array.mapv(|x| x as $type).into(),
                    Value::Bool(array) => array.mapv(|x| x as u8 as $type).into(),
                }
            };
        }
        Some(match data_type {
            f32::DATA_TYPE => to!(f32),
            f64::DATA_TYPE => to!(f64),
            i32::DATA_TYPE => to!(i32),
            i64::DATA_TYPE => to!(i64),
            bool::DATA_TYPE => match self {
                Value::F32(array) => array.mapv(|x| x != 0.0).into(),
                Value::F64(array) => array.mapv(|x| x != 0.0).into(),
                Value::I32(array) => array.mapv(|x| x != 0).into(),
                Value::I64(array) => array.mapv(|x| x != 0).into(),
                Value::Bool(array) => array.clone().into(),
            },
            _ => return None,
        })
    }

    /// The same numbers in another element type, if it holds each of them exactly.
    pub(super) fn exactly(&self, data_type: i32) -> Option<Value> {
        let there = self.cast(data_type)?;
        (there.cast(self.data_type()).as_ref() == Some(self)).then_some(there)
    }
}

/// Names of `TensorProto.DataType`, in the order of their numbers.
const DATA_TYPES: [&str; 27] = [
    "UNDEFINED",
    "FLOAT",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "INT32",
    "INT64",
    "STRING",
    "BOOL",
    "FLOAT16",
    "DOUBLE",
    "UINT32",
    "UINT64",
    "COMPLEX64",
    "COMPLEX128",
    "BFLOAT16",
    "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ",
    "UINT4",
    "INT4",
    "FLOAT4E2M1",
    "FLOAT8E8M0",
    "UINT2",
    "INT2",
];

/// The name of an element type in files.
pub(super) fn data_type_name(number: i32) -> String {
    let name = usize::try_from(number).ok().and_then(|number| DATA_TYPES.get(number));
    name.map_or_else(|| format!("number {number}"), |name| name.to_string())
}

/// Sizes as a name: [2, 3].
pub(super) fn shape_name(shape: &[usize]) -> String {
    format!("{shape:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn numbers_change_their_type_only_where_nothing_is_lost() {
        let indices = Value::from(array![0.0f32, 3.0, -2.0]);
        assert_eq!(indices.exactly(i64::DATA_TYPE), Some(array![0i64, 3, -2].into()));
        assert_eq!(Value::from(array![0.5f32]).exactly(i64::DATA_TYPE), None);
        assert_eq!(Value::from(array![0.1f64]).exactly(f32::DATA_TYPE), None);
        assert_eq!(Value::from(array![(1i64 << 40) + 1]).exactly(f32::DATA_TYPE), None);
        assert_eq!(indices.exactly(10), None);
    }

    #[test]
    fn values_are_row_major() {
        let value = Value::from(array![[1, 2], [3, 4]].reversed_axes());
        assert_eq!(value.array::<i32>().unwrap().as_slice(), Some(&[1, 3, 2, 4][..]));
    }
}
