//! The smallest Keras program, in Rust: three sequences of three steps, and the number that follows each.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- --cell article
//! ```

mod common;

use anyhow::Result;
use clap::Parser;
use common::say;
use ndarray::array;
use wgpu_lstm::{Cell, Dense, Fit, Loss, Lstm, Optimiser, Sequential};

#[derive(Parser)]
#[command(about = "Trains LSTM(10) and Dense(1) on three short sequences and predicts what follows them")]
struct Arguments {
    /// Equations of the cell; --cell alone takes the article's
    #[arg(long, value_enum, num_args = 0..=1, default_value_t = CellName::Standard, default_missing_value = "article")]
    cell: CellName,
    /// Times through the data
    #[arg(long, default_value_t = 100)]
    epochs: usize,
    /// Seed of the first weights
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Device to run on
    #[arg(long, value_enum, default_value_t = common::DeviceName::Auto)]
    device: common::DeviceName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CellName {
    /// PyTorch's and Keras's LSTM
    Standard,
    /// The article's cell: the forget gate acts on the candidate
    Article,
}

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    let x = array![[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]], [[7.0], [8.0], [9.0]]]; // [N, T, I]
    let y = array![[8.0], [9.0], [10.0]]; // [N, F]

    let cell = match arguments.cell {
        CellName::Standard => Cell::Standard,
        CellName::Article => Cell::Article,
    };
    let layers = Sequential::new(1).add(Lstm::keras(10).cell(cell)).add(Dense::keras(1));
    let device = arguments.device.open_for_training(&layers, 3, 3)?; // B and T of x
    say!("running on {device}\n");
    let mut model = layers.build(&device, arguments.seed)?;
    say!("{}\n", model.summary());

    model.compile(Loss::MeanSquaredError, Optimiser::adam_keras(1e-3))?;
    let history = model.fit(x.view(), y.view(), Fit::new().epochs(arguments.epochs))?;
    for (epoch, loss) in history.loss.iter().enumerate() {
        if (epoch + 1) % 10 == 0 || epoch == 0 {
            say!("epoch {:>4}  loss {loss:.4}", epoch + 1);
        }
    }

    let prediction = model.predict(x.view())?; // [N, F]
    say!();
    for n in 0..3 {
        let known: Vec<f32> = x.index_axis(ndarray::Axis(0), n).iter().copied().collect();
        say!("{known:?} is followed by {:.2} (truth {})", prediction[[n, 0]], y[[n, 0]]);
    }
    Ok(())
}
