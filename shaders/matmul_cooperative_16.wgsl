// C[m, n] (+)= Σ_k A[m, k]·B[k, n] by cooperative matrices of 16 x 16 (common/cooperative.wgsl)

alias MatrixA = coop_mat16x16<f16, A>; // [m, k]
alias MatrixB = coop_mat16x16<f16, B>; // [k, n]
alias MatrixC = coop_mat16x16<f32, C>; // [m, n]
const SIDE = 16u;
