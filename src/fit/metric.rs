//! Scores of predictions after each epoch.

use crate::error::{Error, Result};
use crate::model::{Data, Model};
use crate::wait::MaybeSend;
use ndarray::{Array2, ArrayD, ArrayViewD, Axis};

/// A score that is computed after each epoch.
pub(crate) struct Metric<'a> {
    /// Name of the output; `None` for the first that has a loss.
    pub output: Option<String>,
    pub name: String,
    pub function: Box<dyn MetricFunction + 'a>,
}

/// A score of predictions and targets.
pub(crate) trait MetricFunction:
    FnMut(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> Result<f64> + MaybeSend
{
}

impl<F: FnMut(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> Result<f64> + MaybeSend> MetricFunction for F {}

/// Scores of all predictions for data.
pub(super) async fn scores(
    metrics: &mut [Metric<'_>],
    model: &Model,
    data: &Data<'_, '_>,
) -> Result<Vec<(String, f64)>> {
    let outputs = model.named_outputs(data).await?;
    let targets = model.named_targets(data);
    let mut all: Vec<(String, f64)> = Vec::new();
    for Metric { output, name, function } in metrics {
        if ["loss", "validation_loss"].contains(&name.as_str()) || all.iter().any(|(other, _)| other == name) {
            return Err(Error::Config(format!("there are two scores called \"{name}\"; name each metric differently")));
        }
        let target = match output {
            Some(output) => targets.iter().find(|(other, ..)| other == output),
            None => targets.first(),
        };
        let Some((prediction, target, missing)) =
            target.and_then(|(output, target, missing)| Some((outputs.get(output)?, target, missing)))
        else {
            let known: Vec<&str> = targets.iter().map(|(name, ..)| name.as_str()).collect();
            return Err(Error::Config(format!(
                "metric \"{name}\" is of output \"{}\", which has no target; those with one: {}",
                output.as_deref().unwrap_or("y"),
                if known.is_empty() { "none".into() } else { known.join(", ") }
            )));
        };
        let score = match missing {
            None => function(prediction.view(), target.view())?,
            Some(missing) => function(present(prediction, missing)?.view(), present(target, missing)?.view())?,
        };
        all.push((name.clone(), score));
    }
    Ok(all)
}

/// The rows of an array [N, F] or [N, T, F] that are not missing, [rows, F].
fn present(array: &ArrayD<f32>, missing: &Array2<bool>) -> Result<ArrayD<f32>> {
    let features = array.shape().last().copied().unwrap_or(1);
    let rows = array.to_shape((missing.len(), features)).map_err(|error| Error::Plan(error.to_string()))?;
    let there: Vec<usize> = missing.iter().enumerate().filter(|(_, missing)| !**missing).map(|(row, _)| row).collect();
    Ok(rows.select(Axis(0), &there).into_dyn())
}
