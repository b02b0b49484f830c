//! Layer normalisation, and vectors by index.

use super::Args;
use crate::kernel::{
    Call,
    params::{EmbedBackward, EmbedForward, NormBackward, NormForward},
};
use crate::real::Real;

/// Mean of a row, and 1 / sqrt(variance + ε).
pub(super) fn moments<F: Real>(row: &[F], epsilon: f32) -> (F, F) {
    let count = F::of(row.len() as f32);
    let mean = row.iter().copied().sum::<F>() / count;
    let variance = row.iter().map(|&x| (x - mean) * (x - mean)).sum::<F>() / count;
    (mean, (variance + F::of(epsilon)).sqrt().recip())
}

/// The weights of a row: `group` rows share some, and so on in turns.
fn of_row<F>(weight: &[F], row: usize, [group, groups, features]: [u32; 3]) -> &[F] {
    let own = row / group as usize % groups as usize;
    &weight[own * features as usize..][..features as usize]
}

/// Twin of `shaders/norm_forward.wgsl`.
pub fn norm_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormForward = call.params();
    let (has_bias, add) = (call.constants[0] == 1, call.constants[1] == 1);
    let ([weight, bias, x], [y], _) = args.parts(0);
    let n = p.features as usize;
    let rows = x[p.x_offset as usize..].chunks_exact(n).take(p.rows as usize);
    for (row, (x, y)) in rows.zip(y[p.y_offset as usize..].chunks_exact_mut(n)).enumerate() {
        let weight = of_row(weight, row, [p.group, p.groups, p.features]);
        let bias = has_bias.then(|| of_row(bias, row, [p.group, p.groups, p.features]));
        let (mean, scale) = moments(x, p.epsilon);
        for f in 0..n {
            let value = weight[f] * (x[f] - mean) * scale + bias.map_or(F::zero(), |bias| bias[f]);
            y[f] = if add { y[f] + value } else { value };
        }
    }
}

/// Twin of `shaders/norm_backward.wgsl`.
pub fn norm_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormBackward = call.params();
    let add = call.constants[0] == 1;
    let ([weight, x, dy], [dx, dweight], _) = args.parts(0);
    let (n, rows, count) = (p.features as usize, p.rows as usize, F::of(p.features as f32));
    for (step, row) in (0..p.steps as usize).flat_map(|step| (0..rows).map(move |row| (step, row))) {
        let at = (step * rows + row) * n;
        let x = &x[p.x_offset as usize + at..][..n];
        let dy = &dy[p.dy_offset as usize + at..][..n];
        let dx = &mut dx[p.dx_offset as usize + at..][..n];
        let weight = of_row(weight, row, [p.group, p.groups, p.features]);
        let (mean, scale) = moments(x, p.epsilon);
        let normal = |f: usize| (x[f] - mean) * scale;
        let (mut straight, mut along) = (F::zero(), F::zero());
        for (f, dweight) in dweight[row * n..][..n].iter_mut().enumerate() {
            straight += weight[f] * dy[f] / count;
            along += weight[f] * dy[f] * normal(f) / count;
            let before = if add || step > 0 { *dweight } else { F::zero() };
            *dweight = before + dy[f] * normal(f);
        }
        for f in 0..n {
            dx[f] = scale * (weight[f] * dy[f] - straight - normal(f) * along);
        }
    }
}

/// The entry that an index means; those beyond the last, which no checked input has, mean the last.
fn entry<F: Real>(index: F, entries: u32) -> usize {
    index.to_usize().unwrap_or(0).min(entries as usize - 1)
}

/// Twin of `shaders/embed_forward.wgsl`.
pub fn embed_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: EmbedForward = call.params();
    let ([weight, index], [y], _) = args.parts(0);
    let n = p.features as usize;
    for (y, &index) in
        y[p.y_offset as usize..].chunks_exact_mut(n).zip(&index[p.index_offset as usize..][..p.rows as usize])
    {
        y.copy_from_slice(&weight[entry(index, p.entries) * n..][..n]);
    }
}

/// Twin of `shaders/embed_backward.wgsl`.
pub fn embed_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: EmbedBackward = call.params();
    let ([dy, index], [dweight], _) = args.parts(0);
    let n = p.features as usize;
    let rows = dy[p.dy_offset as usize..].chunks_exact(n);
    for (dy, &index) in rows.zip(&index[p.index_offset as usize..][..p.rows as usize]) {
        let own = &mut dweight[entry(index, p.entries) * n..][..n];
        own.iter_mut().zip(dy).for_each(|(sum, &d)| *sum += d);
    }
}
