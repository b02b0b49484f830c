//! Learning rates are those of torch.optim.lr_scheduler (tests/fixtures/make_training.py), in a loop of one's own and in a
//! fit; a schedule goes on after it was written and read.

mod common;

use common::{Draw, close, fixture};
use ndarray::{Array2, Array3};
use wgpu_lstm::{Curve, Dense, Device, Fit, Loss, Model, Optimiser, Schedule, Sequential};

fn cases() -> Vec<(&'static str, Schedule)> {
    let plateau = Curve::Plateau { factor: 0.3, patience: 2, threshold: 1e-4, cooldown: 1, floor: 0.005 };
    vec![
        ("step", Schedule::step(3, 0.5)),
        ("exponential", Schedule::exponential(0.9)),
        ("cosine", Schedule::cosine(10).floor(0.01)),
        ("warm_cosine", Schedule::cosine(10).floor(0.01).warmup(4, 0.1)),
        ("one_cycle", Schedule::one_cycle(0.5, 20)),
        ("plateau", Schedule::new(plateau)),
    ]
}

#[test]
fn rates_are_pytorchs() {
    let fixture = fixture("training_schedules.safetensors");
    for (name, mut schedule) in cases() {
        let expected = &fixture.tensors[name];
        let mut given = vec![schedule.begin(0.1) as f32];
        for k in 1..expected.len() {
            let watched = if name == "plateau" { fixture.tensors["plateau_metric"][[k - 1]] as f64 } else { f64::NAN };
            // Written and read between any two steps
            let json = serde_json::to_string(&schedule).unwrap();
            schedule = serde_json::from_str(&json).unwrap();
            assert_eq!(schedule.begin(7.0) as f32, given[k - 1], "{name}: a schedule that has begun goes on");
            given.push(schedule.advance(watched).unwrap() as f32);
        }
        close(name, &given, expected, 0.0, 1e-6);
    }
}

#[test]
fn rates_stay_after_the_end() {
    for (mut schedule, last) in [(Schedule::cosine(5).floor(0.02), 0.02), (Schedule::one_cycle(0.5, 5), 2e-6)] {
        schedule.begin(0.1);
        let rate = (0..9).map(|_| schedule.advance(0.0).unwrap()).last().unwrap();
        assert!((rate - last).abs() < 1e-12, "{rate}");
    }
}

fn data() -> (Array3<f32>, Array2<f32>) {
    let x = Draw::new(4).array3((10, 1, 3));
    let y = Array2::from_shape_fn((10, 1), |(n, _)| x[[n, 0, 1]]);
    (x, y)
}

fn model() -> Model {
    let mut model = Sequential::new(3).add(Dense::new(1)).build(&Device::cpu(), 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, 0.0)).unwrap();
    model
}

/// x of T = 1 gives [N, 1, F] behind a dense layer alone.
fn fit(model: &mut Model, epochs: usize, schedule: Schedule) -> wgpu_lstm::History {
    let (x, y) = data();
    let y = y.insert_axis(ndarray::Axis(1));
    model.fit(x.view(), y.view(), Fit::new().epochs(epochs).batch_size(3).shuffle(false).schedule(schedule)).unwrap()
}

#[test]
fn fits_count_epochs_or_steps() {
    let history = fit(&mut model(), 4, Schedule::step(2, 0.5));
    assert_eq!(history.learning_rate, [0.1, 0.1, 0.05, 0.05]);
    // Four steps an epoch; the rate of the last is that after 3 and after 7 steps
    let history = fit(&mut model(), 2, Schedule::exponential(0.5).per_step());
    assert_eq!(history.learning_rate, [0.1 / 8.0, 0.1 / 128.0]);
}

#[test]
fn a_fit_in_two_halves_is_the_whole_fit() {
    // A loss that must fall by nine tenths soon does not.
    let plateau = Curve::Plateau { factor: 0.5, patience: 0, threshold: 0.9, cooldown: 0, floor: 0.02 };
    for schedule in [Schedule::cosine(16).warmup(3, 0.0), Schedule::new(plateau)] {
        let mut whole = model();
        let history = fit(&mut whole, 4, schedule.clone());
        let mut halves = model();
        let first = fit(&mut halves, 2, schedule);
        let json = serde_json::to_string(&first.schedule).unwrap();
        let second = fit(&mut halves, 2, serde_json::from_str::<Option<Schedule>>(&json).unwrap().unwrap());
        assert_eq!([first.learning_rate, second.learning_rate].concat(), history.learning_rate);
        assert_eq!(second.schedule, history.schedule);
        assert!(history.learning_rate[3] < 0.05, "{:?}", history.learning_rate);
    }
}
