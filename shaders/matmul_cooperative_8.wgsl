// C[m, n] (+)= Σ_k A[m, k]·B[k, n] by cooperative matrices of 8 x 8 (common/cooperative.wgsl)

alias MatrixA = coop_mat8x8<f16, A>; // [m, k]
alias MatrixB = coop_mat8x8<f16, B>; // [k, n]
alias MatrixC = coop_mat8x8<f32, C>; // [m, n]
const SIDE = 8u;
