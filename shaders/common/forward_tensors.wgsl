// Tensors of the forward steps whose W·x other kernels have computed.

@group(0) @binding(1) var<storage, read> xw: array<vec4f>;        // [steps, D, B, H] of 4 gates: W·x
@group(0) @binding(2) var<storage, read> r: array<Weights>;       // [D, K / HEADS (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases + EXTRA, H] of 4 gates
@group(0) @binding(4) var<storage, read_write> h: array<vec4f>;   // [1 + steps, D, B, K], four units an element
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [slots, STATES, D, B, H]
@group(0) @binding(6) var<storage, read_write> saved: array<f32>; // [steps, SAVED (in training) + 1 (if projected), D, B, H]
@group(0) @binding(7) var<storage, read> words: array<u32>;       // [2 + B]: key of random bits, lengths
@group(0) @binding(8) var<storage, read> mask: array<f32>;        // [D, B, K] where DROP
