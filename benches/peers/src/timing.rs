//! Median of enough runs.

use anyhow::Result;
use std::time::Instant;

/// Milliseconds (median, runs) of `work` after warm-up; slow work runs less often.
pub fn median(budget: f64, mut work: impl FnMut(usize) -> Result<()>) -> Result<(f64, usize)> {
    let mut once = |turn| -> Result<f64> {
        let start = Instant::now();
        work(turn)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    let mut last = once(0)?;
    if last < 2000.0 {
        for turn in 1..3 {
            last = once(turn)?;
        }
    }
    let runs = (budget * 1e3 / last.max(1e-4)).clamp(3.0, 2000.0) as usize;
    let mut times = (0..runs).map(once).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok((times[runs / 2], runs))
}
