//! Macros by which a kernel family declares its parameter blocks, its constants and its rows of the table.

use super::Scalar;

/// A parameter block: the uniform buffer of a call, with the fields of the WGSL struct `Params`. Offsets and strides count f32
/// elements.
pub trait Params: bytemuck::Pod {
    /// Names and types in order, as the shader has them.
    const FIELDS: &'static [(&'static str, Scalar)];
}

/// Values of a kernel's `override` constants, by name.
pub trait Constants: Copy {
    /// Names in order, as the shader has them.
    const NAMES: &'static [&'static str];

    /// Values in the order of the names.
    fn values(&self) -> Vec<u32>;

    /// The constants that [`values`](Constants::values) gave; `None` for values that it never gives.
    fn of(values: &[u32]) -> Option<Self>;
}

/// Constants of a kernel that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoConstants;

impl Constants for NoConstants {
    const NAMES: &'static [&'static str] = &[];

    fn values(&self) -> Vec<u32> {
        Vec::new()
    }

    fn of(values: &[u32]) -> Option<Self> {
        values.is_empty().then_some(NoConstants)
    }
}

/// Type of a constant: a number, or a type whose values a shader has as numbers.
pub trait Constant: Copy {
    /// The shader's number.
    fn word(self) -> u32;

    /// The value of a shader's number, if it is one.
    fn of_word(word: u32) -> Option<Self>;
}

impl Constant for u32 {
    fn word(self) -> u32 {
        self
    }

    fn of_word(word: u32) -> Option<Self> {
        Some(word)
    }
}

/// Its bits.
impl Constant for f32 {
    fn word(self) -> u32 {
        self.to_bits()
    }

    fn of_word(word: u32) -> Option<Self> {
        Some(f32::from_bits(word))
    }
}

impl Constant for bool {
    fn word(self) -> u32 {
        self as u32
    }

    fn of_word(word: u32) -> Option<Self> {
        (word < 2).then_some(word == 1)
    }
}

/// The name of a constant in the shader, from that of its field.
pub(super) const fn upper<const N: usize>(field: &str) -> [u8; N] {
    let mut name = [0; N];
    let mut at = 0;
    while at < N {
        name[at] = field.as_bytes()[at].to_ascii_uppercase();
        at += 1;
    }
    name
}

/// Workgroups of a kernel with a thread, or a workgroup, for every element of a block of these sizes: two dimensions, since one
/// holds only 65,535 groups.
pub(super) fn groups_for<const N: usize>(sizes: [u32; N], per_group: u32) -> [u64; 3] {
    let groups = count(sizes).div_ceil(per_group as u64).max(1);
    let y = groups.div_ceil(65_535);
    [groups.div_ceil(y), y, 1]
}

/// Elements of a block.
pub(super) fn count<const N: usize>(sizes: [u32; N]) -> u64 {
    sizes.iter().map(|&size| size as u64).product()
}

macro_rules! scalar {
    (u32) => {
        $crate::kernel::Scalar::U32
    };
    (i32) => {
        $crate::kernel::Scalar::I32
    };
    (f32) => {
        $crate::kernel::Scalar::F32
    };
}

/// Declares a parameter block.
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

        impl $crate::kernel::Params for $name {
            const FIELDS: &'static [(&'static str, $crate::kernel::Scalar)] =
                &[$((stringify!($field), $crate::kernel::declare::scalar!($ty)),)*];
        }
    };
}

/// The names of one list, then those of another.
pub(super) const fn joined<const N: usize>(first: &[&'static str], then: &[&'static str]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = if at < first.len() { first[at] } else { then[at - first.len()] };
        at += 1;
    }
    names
}

/// The shader's name of a constant.
macro_rules! constant_name {
    ($field:ident) => {{
        const NAME: [u8; stringify!($field).len()] = $crate::kernel::declare::upper(stringify!($field));
        match str::from_utf8(&NAME) {
            Ok(name) => name,
            Err(_) => panic!("names of fields are ASCII"),
        }
    }};
}

/// Declares a kernel's `override` constants: the shader has each by the field's name in capitals. `like` another kernel's constants, they
/// have those first, in the field `common`.
macro_rules! constants {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

        impl $crate::kernel::Constants for $name {
            const NAMES: &'static [&'static str] = &[$($crate::kernel::declare::constant_name!($field),)*];

            fn values(&self) -> Vec<u32> {
                vec![$($crate::kernel::Constant::word(self.$field),)*]
            }

            fn of(values: &[u32]) -> Option<Self> {
                let mut values = values.iter().copied();
                $(let $field = $crate::kernel::Constant::of_word(values.next()?)?;)*
                values.next().is_none().then_some($name { $($field,)* })
            }
        }
    };
    ($(#[$doc:meta])* $name:ident like $common:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            #[doc = concat!("Those of [`", stringify!($common), "`].")]
            pub common: $common,
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $crate::kernel::Constants for $name {
            const NAMES: &'static [&'static str] = {
                const COMMON: &[&str] = <$common as $crate::kernel::Constants>::NAMES;
                const OWN: &[&str] = &[$($crate::kernel::declare::constant_name!($field),)*];
                const ALL: [&str; COMMON.len() + OWN.len()] = $crate::kernel::declare::joined(COMMON, OWN);
                &ALL
            };

            fn values(&self) -> Vec<u32> {
                let mut values = self.common.values();
                values.extend([$($crate::kernel::Constant::word(self.$field),)*]);
                values
            }

            fn of(values: &[u32]) -> Option<Self> {
                let count = <$common as $crate::kernel::Constants>::NAMES.len();
                let (common, own) = values.split_at_checked(count)?;
                let common = <$common as $crate::kernel::Constants>::of(common)?;
                let mut own = own.iter().copied();
                $(let $field = $crate::kernel::Constant::of_word(own.next()?)?;)*
                own.next().is_none().then_some($name { common, $($field,)* })
            }
        }
    };
}

/// Declares an enumeration that is a constant; shaders have the variants' numbers, counted from 0.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every variant, by number.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
        }

        impl $crate::kernel::Constant for $name {
            fn word(self) -> u32 {
                self as u32
            }

            fn of_word(word: u32) -> Option<Self> {
                $name::ALL.get(word as usize).copied()
            }
        }
    };
}

/// A function of a call, written as one of its parameter block and, if asked for, its constants and the call itself.
macro_rules! of_call {
    ($params:ty, $constants:ty, |$p:ident $(, $c:ident $(, $given:ident)?)?| $body:expr) => {
        |call: &$crate::kernel::Call| {
            #[allow(unused_variables)]
            let $p: $params = call.params();
            $(
                #[allow(unused_variables)]
                let $c: $constants = call.constants();
                $(let $given = call;)?
            )?
            $body
        }
    };
}

/// Elements of a block per workgroup, by the kind of launch and the threads of a workgroup.
macro_rules! per_group {
    (elementwise, $threads:literal) => {
        $threads
    };
    (rowwise, $threads:literal) => {
        1
    };
}

macro_rules! access {
    (read) => {
        $crate::kernel::Access::Read
    };
    (write) => {
        $crate::kernel::Access::ReadWrite
    };
}

/// Declares a row of the table. Its launch and its cost are
/// - `elementwise`: a thread for every element of a block of these sizes; `flops` are those of an element;
/// - `rowwise`: the same with a workgroup for every row;
/// - else `groups` and `flops` of the whole call.
///
/// The twin has the kernel's name, unless the row names another's: a faster variant of a kernel shares its twin. So has the shader's file.
/// `parts` are files of `shaders/common/` that stand in front of the shader, `enables` the extensions of WGSL that it needs.
macro_rules! kernel {
    ($(#[$doc:meta])* $id:ident = $name:ident($params:ty, $constants:ty) {
        bindings: [$($access:ident $binding:ident),* $(,)?], workgroup: $workgroup:expr,
        groups: |$($g:ident),*| $groups:expr,
        flops: |$($f:ident),*| $flops:expr,
        touches: |$($t:ident),*| $touches:expr,
        $(cell: $cell:literal,)? $(twin: $twin:ident,)? $(file: $file:literal,)? $(parts: [$($part:literal),+],)?
        $(enables: $enables:expr,)?
    }) => {
        $(#[$doc])*
        pub static $id: $crate::kernel::Kernel = $crate::kernel::Kernel {
            name: stringify!($name),
            shader: concat!(
                $($(include_str!(concat!("../../shaders/common/", $part, ".wgsl")), "\n",)+)?
                include_str!(concat!("../../shaders/", $crate::kernel::declare::file!($name $($file)?), ".wgsl")),
            ),
            takes_cell: false $(|| $cell)?,
            enables: $crate::kernel::declare::enables!($($enables)?),
            weights: $crate::plan::StepWeights::F32,
            bindings: &[$($crate::kernel::Binding {
                name: stringify!($binding),
                access: $crate::kernel::declare::access!($access),
            },)*],
            params: <$params as $crate::kernel::Params>::FIELDS,
            constants: <$constants as $crate::kernel::Constants>::NAMES,
            workgroup: $workgroup,
            twin: $crate::kernel::declare::twin!($name $($twin)?),
            groups: $crate::kernel::declare::of_call!($params, $constants, |$($g),*| $groups),
            touches: |call| {
                if <$constants as $crate::kernel::Constants>::of(&call.constants).is_none() {
                    return Vec::new();
                }
                $crate::kernel::declare::of_call!($params, $constants, |$($t),*| Vec::from($touches))(call)
            },
            flops: $crate::kernel::declare::of_call!($params, $constants, |$($f),*| $flops),
        };
    };
    ($(#[$doc:meta])* $id:ident = $name:ident($params:ty, $constants:ty) {
        bindings: $bindings:tt, workgroup: [$x:literal, $y:literal, $z:literal],
        $launch:ident: |$p:ident $(, $c:ident)?| $sizes:expr, flops: $flops:expr,
        touches: $($rest:tt)*
    }) => {
        $crate::kernel::declare::kernel! {
            $(#[$doc])*
            $id = $name($params, $constants) {
                bindings: $bindings, workgroup: [$x, $y, $z],
                groups: |$p $(, $c)?| $crate::kernel::declare::groups_for(
                    $sizes,
                    $crate::kernel::declare::per_group!($launch, $x),
                ),
                flops: |$p $(, $c)?| $crate::kernel::declare::count($sizes) * $flops,
                touches: $($rest)*
            }
        }
    };
}

macro_rules! enables {
    () => {
        &[]
    };
    ($extensions:expr) => {
        $extensions
    };
}

macro_rules! twin {
    ($name:ident) => {
        $crate::kernel::Twin { f32: $name::<f32>, f64: $name::<f64> }
    };
    ($name:ident $twin:ident) => {
        $crate::kernel::declare::twin!($twin)
    };
}

/// The name of a shader's file.
macro_rules! file {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $file:literal) => {
        $file
    };
}

pub(super) use {
    access, constant_name, constants, enables, file, kernel, kinds, of_call, params, per_group, scalar, twin,
};
