use ndarray::Array3;
use std::time::Instant;
use wgpu_lstm::*;
fn main() -> Result<()> {
    let (b, i, h, l) = (16, 16, 128, 1);
    for t in [256, 1024, 4096] {
        let (x, y) = (
            Array3::from_shape_fn((b, t, i), |(n, t, f)| ((n * 7 + t * 3 + f) % 11) as f32 / 11.0 - 0.5),
            Array3::from_elem((b, t, 1), 0.3f32),
        );
        for checkpoints in [TimeCheckpoints::Off, TimeCheckpoints::SquareRoot] {
            let mut model = Sequential::new(i)
                .add(Lstm::new(h).layers(l).return_sequences(true))
                .add(Dense::new(1))
                .build(&Device::cpu(), 1)?;
            model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
            model.checkpoint_time(checkpoints)?;
            let plan = model.training_plan(b, t)?;
            model.fit(x.view(), y.view(), Fit::new().batch_size(b))?;
            let mut best = f64::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                model.fit(x.view(), y.view(), Fit::new().batch_size(b))?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!(
                "T {t} {checkpoints:?}: {:.1} MB, {:.1} ms a step, {} commands",
                plan.bytes() as f64 / 1e6,
                best * 1e3,
                plan.commands.len()
            );
        }
    }
    Ok(())
}
