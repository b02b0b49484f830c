//! Burn, on any of its devices: `burn::nn::Lstm`, one for each layer.

use crate::grid::Case;
use crate::timing::median;
use anyhow::Result;
use burn::module::Module;
use burn::nn::{Lstm, LstmConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};

#[derive(Module, Debug)]
struct Stack {
    layers: Vec<Lstm>,
}

impl Stack {
    fn new(case: Case, device: &Device) -> Stack {
        let input = |layer| if layer == 0 { case.i } else { case.h };
        let layer = |layer| LstmConfig::new(input(layer), case.h, true).init(device);
        Stack { layers: (0..case.l).map(layer).collect() }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x, None).0)
    }
}

pub fn run(device: Device, case: Case, train: bool, budget: f64) -> Result<(f64, usize)> {
    let input =
        |device: &Device| Tensor::<3>::random([case.b, case.t, case.i], Distribution::Uniform(-1.0, 1.0), device);
    if !train {
        let stack = Stack::new(case, &device);
        let inputs: Vec<_> = (0..4).map(|_| input(&device)).collect();
        // The output is read back: a caller needs it, and nothing else makes sure that it was computed.
        return median(budget, |turn| Ok(drop(stack.forward(inputs[turn % 4].clone()).into_data())));
    }
    let device = device.autodiff();
    let mut stack = Some(Stack::new(case, &device));
    let mut adam = AdamConfig::new().init();
    let inputs: Vec<_> = (0..4).map(|_| input(&device)).collect();
    median(budget, |turn| {
        let model = stack.take().expect("put back after every step");
        let loss = model.forward(inputs[turn % 4].clone()).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        stack = Some(adam.step(1e-3, model, gradients));
        drop(loss.into_data());
        device.sync()?;
        Ok(())
    })
}
