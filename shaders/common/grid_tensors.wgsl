// Tensors of the forward steps of a grid: those of forward_tensors.wgsl, but h, which goes from workgroup to workgroup, is coherent, and in
// place of the mask there is the barrier.

@group(0) @binding(1) var<storage, read> xw: array<vec4f>;        // [steps, D, B, H] of 4 gates: W·x
@group(0) @binding(2) var<storage, read> r: array<Weights>;       // [D, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases + EXTRA, H] of 4 gates
@group(0) @binding(4) @coherent var<storage, read_write> h: array<vec4f>; // [1 + steps, D, B, H], four units an element
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [slots, STATES, D, B, H]
@group(0) @binding(6) var<storage, read_write> saved: array<f32>; // [steps, SAVED (in training), D, B, H]
@group(0) @binding(7) var<storage, read> words: array<u32>;       // [2 + B]: key of random bits, lengths
@group(0) @binding(8) @coherent var<storage, read_write> barrier: array<atomic<u32>>; // [1 + dispatches x (1 + D x groups of rows)]
