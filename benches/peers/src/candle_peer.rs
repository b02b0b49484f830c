//! candle: `candle_nn::rnn::LSTM`, one for each layer.

use crate::grid::Case;
use crate::timing::median;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::rnn::{LSTM, LSTMConfig, RNN, lstm};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};

pub fn run(case: Case, train: bool, budget: f64) -> Result<(f64, usize)> {
    let device = Device::Cpu;
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &device);
    let input = |layer| if layer == 0 { case.i } else { case.h };
    let layers = (0..case.l)
        .map(|layer| lstm(input(layer), case.h, LSTMConfig::default(), builder.pp(layer)))
        .collect::<Result<Vec<LSTM>, _>>()?;
    let inputs =
        (0..4).map(|_| Tensor::rand(-1f32, 1f32, (case.b, case.t, case.i), &device)).collect::<Result<Vec<_>, _>>()?;
    let forward = |turn: usize| -> Result<Tensor> {
        let mut x = inputs[turn % 4].clone();
        for layer in &layers {
            x = layer.states_to_tensor(&layer.seq(&x)?)?;
        }
        Ok(x)
    };
    if !train {
        return median(budget, |turn| Ok(drop(forward(turn)?)));
    }
    let mut adam = AdamW::new(variables.all_vars(), ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..Default::default() })?;
    median(budget, |turn| Ok(adam.backward_step(&forward(turn)?.sqr()?.mean_all()?)?))
}
