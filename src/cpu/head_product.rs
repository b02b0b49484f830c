//! Gradient of the recurrent weights of heads.

use super::Args;
use crate::kernel::{Call, HeadProduct};
use crate::real::Real;

/// Twin of `shaders/head_product.wgsl`.
pub fn head_product<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: HeadProduct = call.params();
    let ([h, dg], [dr], _) = args.parts(0);
    let (units, columns) = (p.units as usize, p.columns() as usize);
    let dr = &mut dr[p.dr_offset as usize..][..units * columns];
    if p.accumulate == 0 {
        dr.fill(F::zero());
    }
    for (step, row) in (0..p.steps).flat_map(|step| (0..p.batch).map(move |row| (step, row))) {
        let h = &h[(p.h_offset + step * p.h_step + row * p.h_row) as usize..];
        let dg = &dg[(p.dg_offset + step * p.dg_step) as usize + row as usize * columns..][..columns];
        for (u, dr) in dr.chunks_exact_mut(columns).enumerate() {
            for ((dr, dg), h) in dr.chunks_mut(4 * units).zip(dg.chunks(4 * units)).zip(h.iter().skip(u).step_by(units))
            {
                dr.iter_mut().zip(dg).for_each(|(sum, &gradient)| *sum += *h * gradient);
            }
        }
    }
}
