#![allow(unused_mut)]
use ndarray::{Array2, Array3};
use std::time::Instant;
use wgpu_lstm::*;

fn time<T>(name: &str, count: usize, mut work: impl FnMut() -> T) {
    let mut all: Vec<f64> = (0..count)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(work());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    println!("{name}: median {:.4} ms, least {:.4} ms of {count}", all[count / 2], all[0]);
}

fn main() {
    let device = Device::cpu();
    time("build Lstm::keras(1024), I = 50", 3, || Lstm::keras(1024).build(&device, 50, 0).unwrap());
    let path = std::env::temp_dir().join("measure_api.safetensors");
    if !path.exists() {
        Sequential::new(50).add(Lstm::keras(1024)).build(&device, 0).unwrap().save(&path).unwrap();
    }
    println!("{} bytes", std::fs::metadata(&path).unwrap().len());
    time("Model::load", 3, || Model::load(&path, &device).unwrap());
    for (name, device) in [
        ("cpu", Device::cpu()),
        ("gpu", Device::gpu(&GpuOptions { software: Software::Fallback, ..GpuOptions::default() }).unwrap()),
    ] {
        let mut model = Sequential::new(3).add(Lstm::new(16)).add(Dense::new(1)).build(&device, 0).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).unwrap();
        let x = Array3::<f32>::ones((1, 10, 3));
        time(&format!("{name}: predict 1"), 2000, || model.predict(x.view()).unwrap());
        time(&format!("{name}: predict 1, async in pollster"), 2000, || {
            pollster::block_on(model.predict_async(x.view())).unwrap()
        });
        let layer = Lstm::new(16).build(&device, 3, 0).unwrap();
        time(&format!("{name}: forward 1"), 2000, || layer.forward(x.view(), None).unwrap());
        let (x, y) = (Array3::<f32>::ones((320, 10, 3)), Array2::<f32>::zeros((320, 1)));
        time(&format!("{name}: fit, 10 steps"), 50, || model.fit(x.view(), y.view(), Fit::new()).unwrap());
    }
}
