//! metapredict's networks: residues one-hot, a bidirectional LSTM, in the newest a layer normalisation, a linear layer; its output
//! between 0 and 1.

use super::fasta::{AMINO_ACIDS, Protein};
use anyhow::{Context, Result, ensure};
use ndarray::{Array3, s};
use std::path::Path;
use wgpu_lstm::format::pytorch::Weights;
use wgpu_lstm::{Device, Inputs, Model};

/// Steps of a batch, with padding.
const BATCH: usize = 65_536;

/// The network of a file, by the names of its tensors.
pub fn open(path: &Path, device: &Device) -> Result<Model> {
    let weights = Weights::open(path)?;
    let has = |name: &str| weights.tensors().any(|tensor| tensor.name == name);
    let layers: &[&str] = match (has("layer_norm.weight"), has("fc.weight")) {
        (false, true) => &["lstm", "fc"],                            // V1, V2
        (true, false) => &["lstm", "layer_norm", "linear_layers.0"], // V3
        _ => anyhow::bail!("\"{}\" holds no network of metapredict that this example knows", path.display()),
    };
    // Further linear layers would have functions between them.
    ensure!(!has("linear_layers.1.weight"), "\"{}\" has several linear layers; V1, V2 and V3 have one", path.display());
    let model = weights.model(layers, device)?;
    let (input, output) = (model.config()?.input(), model.config()?.output());
    ensure!(
        (input, output) == (AMINO_ACIDS.len(), 1),
        "\"{}\" takes {input} features and gives {output}",
        path.display()
    );
    Ok(model)
}

/// The disorder of each residue, from 0 to 1, of all proteins. They run as ragged batches of similar lengths.
pub fn predict(model: &Model, proteins: &[Protein]) -> Result<Vec<Vec<f32>>> {
    let mut order: Vec<usize> = (0..proteins.len()).collect();
    order.sort_by_key(|&n| std::cmp::Reverse(proteins[n].residues.len()));
    let mut scores = vec![Vec::new(); proteins.len()];
    let mut rest = order.as_slice();
    while let Some(&first) = rest.first() {
        let steps = proteins[first].residues.len(); // the longest of those left
        let (batch, others) = rest.split_at((BATCH / steps).clamp(1, rest.len()));
        rest = others;
        let lengths: Vec<usize> = batch.iter().map(|&n| proteins[n].residues.len()).collect();
        let mut x = Array3::zeros((batch.len(), steps, AMINO_ACIDS.len()));
        for (b, &n) in batch.iter().enumerate() {
            for (t, &residue) in proteins[n].residues.iter().enumerate() {
                x[[b, t, residue]] = 1.0;
            }
        }
        let y = model.predict(Inputs::from(x.view()).lengths(&lengths))?; // [B, T, 1]
        let y = y.into_dimensionality::<ndarray::Ix3>().context("the network gives no sequence")?;
        for (b, (&n, &length)) in batch.iter().zip(&lengths).enumerate() {
            scores[n] = y.slice(s![b, ..length, 0]).iter().map(|&score| score.clamp(0.0, 1.0)).collect();
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::super::common::DeviceName;
    use super::super::{fasta, truth};
    use std::path::Path;

    fn scores_are_those_of_metapredict(device: DeviceName) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/disorder");
        let proteins = fasta::read(&folder.join("proteins.fasta")).unwrap();
        assert_eq!(proteins.len(), 10);
        for version in ["v1", "v2"] {
            let model = super::open(&folder.join(format!("{version}.pt")), &device.open().unwrap()).unwrap();
            let scores = super::predict(&model, &proteins).unwrap();
            let difference = truth::difference(&folder.join("truth.npz"), version, &proteins, &scores).unwrap();
            // f32 sums in another order over up to 300 steps, in outputs of order 1
            assert!(difference <= 2e-6, "{version}: {difference:e}");
        }
    }

    #[test]
    fn scores_are_those_of_metapredict_on_cpu() {
        scores_are_those_of_metapredict(DeviceName::Cpu);
    }

    mod on_adapter {
        #[test]
        fn scores_are_those_of_metapredict() {
            super::scores_are_those_of_metapredict(super::super::super::common::DeviceName::Gpu);
        }
    }
}
