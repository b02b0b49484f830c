//! tract, on the ONNX files that `python_peers.py --export` writes. Forward only; it runs on one thread.

use crate::grid::Case;
use crate::timing::median;
use anyhow::{Context, Result};
use rand::RngExt;
use std::path::Path;
use tract_onnx::prelude::*;

pub fn run(case: Case, models: &Path, budget: f64) -> Result<(f64, usize)> {
    let Case { t, b, i, h, l, .. } = case;
    let path = models.join(format!("lstm_t{t}_b{b}_i{i}_h{h}_l{l}.onnx"));
    let model = tract_onnx::onnx()
        .model_for_path(&path)
        .with_context(|| format!("reading {}", path.display()))?
        .into_optimized()?
        .into_runnable()?;
    let mut generator = rand::rng();
    let inputs: Vec<Tensor> = (0..4)
        .map(|_| {
            let values: Vec<f32> = (0..t * b * i).map(|_| generator.random_range(-1.0..1.0)).collect();
            Tensor::from_shape(&[t, b, i], &values)
        })
        .collect::<Result<_>>()?;
    median(budget, |turn| Ok(drop(model.run(tvec!(inputs[turn % 4].clone().into()))?)))
}
