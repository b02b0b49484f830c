//! Options that layers of other cells share with the [`Lstm`](super::Lstm).

/// Options of every recurrent layer, and conversions, for a type that wraps an [`Lstm`](super::Lstm).
macro_rules! recurrent_layer {
    ($name:ident) => {
        impl $name {
            /// L layers on top of each other.
            pub fn layers(self, layers: usize) -> $name {
                $name(self.0.layers(layers))
            }

            /// Two directions; see [`Lstm::bidirectional`](crate::Lstm::bidirectional).
            pub fn bidirectional(self, bidirectional: bool) -> $name {
                $name(self.0.bidirectional(bidirectional))
            }

            /// Merge of the outputs of two directions; see [`Lstm::merge`](crate::Lstm::merge).
            pub fn merge(self, merge: $crate::Merge) -> $name {
                $name(self.0.merge(merge))
            }

            /// In a model, returns the output of every step; see [`Lstm::return_sequences`](crate::Lstm::return_sequences).
            pub fn return_sequences(self, return_sequences: bool) -> $name {
                $name(self.0.return_sequences(return_sequences))
            }

            /// Initial weights.
            pub fn init(self, init: $crate::Init) -> $name {
                $name(self.0.init(init))
            }

            /// Runs from the end of time to its start; see [`Lstm::reverse`](crate::Lstm::reverse).
            pub fn reverse(self, reverse: bool) -> $name {
                $name(self.0.reverse(reverse))
            }

            /// Runs from the end of time to its start, with outputs in that order; see [`Lstm::go_backwards`](crate::Lstm::go_backwards).
            pub fn go_backwards(self, go_backwards: bool) -> $name {
                $name(self.0.go_backwards(go_backwards))
            }

            /// Repeats the last output past the end of a sequence; see [`Lstm::repeat_output`](crate::Lstm::repeat_output).
            pub fn repeat_output(self, repeat: bool) -> $name {
                $name(self.0.repeat_output(repeat))
            }

            /// Drops outputs between layers; see [`Lstm::dropout`](crate::Lstm::dropout).
            pub fn dropout(self, probability: f64) -> $name {
                $name(self.0.dropout(probability))
            }

            /// Drops inputs; see [`Lstm::input_dropout`](crate::Lstm::input_dropout).
            pub fn input_dropout(self, probability: f64) -> $name {
                $name(self.0.input_dropout(probability))
            }
        }

        impl From<$name> for $crate::Lstm {
            fn from(layer: $name) -> $crate::Lstm {
                layer.0
            }
        }

        impl From<$name> for $crate::Layer {
            fn from(layer: $name) -> $crate::Layer {
                $crate::Layer::Lstm(layer.0)
            }
        }
    };
}

/// Dropout of hidden units and recurrent weights, for a cell with a recurrent product.
macro_rules! recurrent_dropout {
    ($name:ident) => {
        impl $name {
            /// Drops hidden units before the recurrent product; see [`Lstm::recurrent_dropout`](crate::Lstm::recurrent_dropout).
            pub fn recurrent_dropout(self, probability: f64) -> $name {
                $name(self.0.recurrent_dropout(probability))
            }

            /// Drops recurrent weights; see [`Lstm::weight_dropout`](crate::Lstm::weight_dropout).
            pub fn weight_dropout(self, probability: f64) -> $name {
                $name(self.0.weight_dropout(probability))
            }
        }
    };
}

pub(super) use {recurrent_dropout, recurrent_layer};
