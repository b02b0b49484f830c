//! Tuning: measured choices are the fastest of their record, plans follow them, files keep and repeat them.

mod common;

use common::{Draw, close};
use ndarray::Array3;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wgpu_lstm::tune::{TuningReport, Work};
use wgpu_lstm::{
    AdapterKind, Dense, Device, Error, Fit, GpuOptions, Gru, Loss, Lstm, Model, Optimiser, Sequential, Software, Tuning,
};

/// Options of an adapter whose choices are kept in a folder.
fn options(folder: &Path) -> GpuOptions {
    GpuOptions {
        software: Software::Fallback,
        tuning_folder: Some(folder.to_owned()),
        tuning_budget: Some(Duration::from_millis(300)),
        ..GpuOptions::default()
    }
}

fn open(options: &GpuOptions) -> Device {
    Device::gpu(options).unwrap_or_else(|error| panic!("{error}"))
}

/// A model of an LSTM with `hidden` units, ready to train.
fn model(device: &Device, hidden: usize) -> Model {
    let layers = Sequential::new(3).add(Lstm::new(hidden)).add(Dense::new(2));
    let mut model = layers.build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2)).unwrap();
    model
}

/// Bits of the predictions after two training steps.
fn trained(model: &mut Model, batch: usize, steps: usize) -> Vec<u32> {
    let x = Draw::new(7).array3((batch, steps, 3));
    let y = ndarray::Array2::from_elem((batch, 2), 0.5);
    model.fit(x.view(), y.view(), Fit::new().epochs(2).batch_size(batch)).unwrap();
    model.predict(x.view()).unwrap().iter().map(|value| value.to_bits()).collect()
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Changes a file of choices so that each pass has the slowest launch that was measured.
fn choose_the_slowest(path: &Path) {
    let mut file = json(path);
    for pass in file["passes"].as_array_mut().unwrap() {
        let us = |time: &Value| time["measured_us"].as_f64().unwrap();
        let measured = pass["measured"].as_array().unwrap();
        let slowest = measured.iter().max_by(|a, b| us(a).total_cmp(&us(b))).unwrap();
        pass["choice"] = slowest["launch"].clone();
    }
    std::fs::write(path, file.to_string()).unwrap();
}

/// The choice has the least time of all that were measured, and the model's choice is among them.
fn check(report: &TuningReport) {
    for pass in report.passes() {
        let name = pass.pass();
        let (chosen, model) = (pass.chosen().unwrap(), pass.by_model().unwrap());
        assert_eq!(Some(model), pass.measured().first(), "{name}: the model's choice comes first");
        for time in pass.measured() {
            assert!(time.measured_us > 0.0 && time.measured_us.is_finite() && time.runs > 0, "{name}: {time:?}");
            assert!(time.model_us > 0.0 && time.model_us.is_finite(), "{name}: {time:?}");
            assert!(chosen.measured_us <= time.measured_us, "{name}: {chosen:?} was chosen, not {time:?}");
        }
    }
}

#[test]
fn the_cpu_executor_has_nothing_to_tune() {
    let device = Device::cpu();
    assert!(model(&device, 4).tune(2, 3).unwrap().passes().is_empty());
    let error = device.save_tuning("tuning.json").unwrap_err();
    assert!(matches!(&error, Error::Config(reason) if reason.contains("CPU executor")), "{error}");
    assert!(matches!(model(&device, 4).tune(0, 3), Err(Error::Config(reason)) if reason.contains("B is 0")));
    assert!(matches!(model(&device, 4).tune(2, 0), Err(Error::Config(reason)) if reason.contains("T is 0")));
}

/// The fastest device is the CPU or a GPU, never a software adapter, and a second question has the same answer.
#[test]
fn the_fastest_device_is_no_software_adapter() {
    let layers = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(1));
    let ask = || [Device::fastest(&layers, 2, 5).unwrap(), Device::fastest_for_training(&layers, 2, 5).unwrap()];
    let (first, second) = (ask(), ask());
    for (one, other) in first.iter().zip(&second) {
        assert!(one.adapter().is_none() || one.is_hardware());
        assert_eq!(one.to_string(), other.to_string());
    }
    for work in [Work::Predict, Work::Train] {
        assert!(Device::cpu().time_of(&layers, 2, 5, work).unwrap() > Duration::ZERO);
    }
    assert!(matches!(Device::cpu().time_of(&layers, 0, 5, Work::Predict), Err(Error::Shape(_))));
}

mod on_adapter {
    use super::*;

    #[test]
    fn choices_of_five_shapes_are_the_fastest_that_were_measured() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&options(folder.path()));
        for (hidden, batch, steps) in [(4, 1, 1), (16, 4, 20), (30, 1, 12), (64, 16, 5), (128, 2, 8)] {
            let report = model(&device, hidden).tune(batch, steps).unwrap();
            assert_eq!(report.passes().len(), 2, "forward and backward");
            check(&report);
        }
    }

    #[test]
    fn all_launches_of_a_pass_are_swept_and_none_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&options(folder.path()));
        let model = Sequential::new(3).add(Gru::new(16).layers(2).bidirectional(true)).build(&device, 1).unwrap();
        let swept = model.sweep(1, 2).unwrap();
        check(&swept);
        let (passes, all) = (swept.passes(), swept.passes()[0].measured().len());
        assert!(passes.len() == 1 && all > 10, "{} passes, {all} launches", passes.len());
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn plans_follow_choices_and_compute_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&options(folder.path()));
        let mut model = model(&device, 24);
        let x = Draw::new(3).array3((5, 9, 3));
        let before = model.predict(x.view()).unwrap();
        let strategy = |model: &Model| model.training_plan(5, 9).unwrap().strategy.clone();
        assert!(!strategy(&model).contains("by measurement"));
        check(&model.tune(5, 9).unwrap());
        assert!(strategy(&model).contains("by measurement"), "{}", strategy(&model));
        let after = model.predict(x.view()).unwrap();
        close("predictions before and after", &after, &before, 1e-6, 1e-5);
    }

    #[test]
    fn a_file_repeats_choices_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        let first = open(&options(folder.path()));
        let mut tuned = model(&first, 40);
        tuned.tune(6, 7).unwrap();
        first.save_tuning(&path).unwrap();
        choose_the_slowest(&path);
        let repeats = GpuOptions { tuning: Tuning::File(path.clone()), ..options(folder.path()) };
        let [mut one, mut other] = [open(&repeats), open(&repeats)].map(|device| model(&device, 40));
        let dispatches = |model: &Model, kernel: &str| model.training_plan(6, 7).unwrap().dispatches_of(kernel);
        let passes = json(&path)["passes"].as_array().unwrap().clone();
        for pass in passes {
            let choice = &pass["choice"];
            let kernel = format!(
                "{}_{}",
                choice["division"].as_str().unwrap(),
                if pass["pass"]["backward"] == true { "backward" } else { "forward" }
            );
            let expected = if choice["strategy"] == "per-step" { 7 } else { 1 };
            assert_eq!(dispatches(&one, &kernel), expected, "{kernel}: {choice}");
        }
        assert_eq!(trained(&mut one, 6, 7), trained(&mut other, 6, 7));
        // A choice of the file is not measured again.
        assert_eq!(one.tune(6, 7).unwrap(), other.tune(6, 7).unwrap());
    }

    #[test]
    fn other_devices_find_what_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let measured = model(&open(&options(folder.path())), 20).tune(3, 6).unwrap();
        let kept = files(folder.path());
        assert_eq!(kept.len(), 1, "one file keeps the choices");
        // Times that agree to the last digit were not taken twice.
        assert_eq!(model(&open(&options(folder.path())), 20).tune(3, 6).unwrap(), measured);
        let file = json(&kept[0]);
        assert_eq!(file["format"], "wgpu-lstm tuning");
        assert_eq!(file["passes"][0]["pass"]["hidden"], 20);
        // Two devices add to the file in turn.
        let more = open(&options(folder.path()));
        let of = |hidden| model(&more, hidden).tune(3, 6).unwrap();
        let (same, new) = (of(20), of(21));
        assert_eq!(same, measured);
        let all = open(&options(folder.path()));
        assert_eq!([model(&all, 20).tune(3, 6).unwrap(), model(&all, 21).tune(3, 6).unwrap()], [measured, new]);
    }

    #[test]
    fn files_that_are_broken_or_of_another_device_are_left_out_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        model(&open(&options(folder.path())), 8).tune(1, 4).unwrap();
        let path = files(folder.path()).remove(0);
        let whole = json(&path);
        let mut foreign = whole.clone();
        foreign["subject"]["driver"] = "another".into();
        for broken in
            [b"{\"format\": \"wgpu-".to_vec(), b"\xff\x00".to_vec(), Vec::new(), foreign.to_string().into_bytes()]
        {
            std::fs::write(&path, broken).unwrap();
            check(&model(&open(&options(folder.path())), 8).tune(1, 4).unwrap());
            assert_eq!(json(&path)["subject"], whole["subject"], "the file is whole again");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_only_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::write(&taken, "a file").unwrap();
        check(&model(&open(&options(&taken)), 8).tune(1, 4).unwrap());
        assert_eq!(std::fs::read(&taken).unwrap(), b"a file");
    }

    #[test]
    fn a_device_that_measures_does_so_before_it_plans() {
        let folder = tempfile::tempdir().unwrap();
        let measures = GpuOptions { tuning: Tuning::Measure, ..options(folder.path()) };
        let x = Array3::ones((2, 6, 3));
        model(&open(&measures), 12).predict(x.view()).unwrap();
        let path = files(folder.path()).remove(0);
        let first = std::fs::read(&path).unwrap();
        assert_eq!(json(&path)["passes"].as_array().unwrap().len(), 1, "predictions have no backward pass");
        let mut again = model(&open(&measures), 12);
        again.predict(x.view()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "nothing new was measured");
        trained(&mut again, 2, 6);
        let mut stream = again.stream(2).unwrap();
        stream.feed(x.view()).unwrap();
        stream.feed(x.slice(ndarray::s![.., ..1, ..])).unwrap();
        let passes = json(&path)["passes"].as_array().unwrap().clone();
        let backward = |pass: &Value| pass["pass"]["backward"].as_bool().unwrap();
        let steps = |pass: &Value| pass["pass"]["steps"].as_u64().unwrap();
        let passes: Vec<_> = passes.iter().map(|pass| (backward(pass), steps(pass))).collect();
        assert_eq!(passes, [(false, 8), (true, 8), (false, 1)]);
    }

    /// T of 5 to 8 are one shape.
    #[test]
    fn a_choice_is_for_passes_of_about_as_many_steps() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&options(folder.path()));
        let mut model = model(&device, 12);
        let tuned = model.tune(2, 5).unwrap();
        assert_eq!(model.tune(2, 8).unwrap(), tuned);
        let by_measurement = |steps| model.training_plan(2, steps).unwrap().strategy.contains("by measurement");
        assert_eq!([4, 5, 8, 9].map(by_measurement), [false, true, true, false]);
    }

    #[test]
    fn by_the_model_nothing_is_measured_or_read() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&options(folder.path()));
        let mut plain = model(&device, 12);
        trained(&mut plain, 2, 6);
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn launches_for_hardware_are_tuned_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let hardware = GpuOptions { schedule_as: Some(AdapterKind::Discrete), ..options(folder.path()) };
        let report = model(&open(&hardware), 32).tune(2, 10).unwrap();
        check(&report);
        let launches = report.passes().iter().flat_map(|pass| pass.measured()).map(|time| time.launch());
        assert!(launches.into_iter().all(|launch| !launch.contains(" scan,")));
    }

    /// Products of a layer: W·x, and its gradients by W and x. Choices of a file are followed, whatever they are.
    #[test]
    fn large_products_are_tuned_kept_and_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        // Time for every launch, on a busy machine, too.
        let tuning_budget = Some(Duration::from_secs(60));
        let schedule_as = Some(AdapterKind::Discrete);
        let hardware = GpuOptions { schedule_as, tuning_budget, ..options(folder.path()) };
        let wide = |device: &Device| {
            let below = Lstm::new(32).return_sequences(true);
            let layers = Sequential::new(96).add(below).add(Lstm::new(32)).add(Dense::new(1));
            let mut model = layers.build(device, 1).unwrap();
            model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2)).unwrap();
            model
        };
        let device = open(&hardware);
        let mut tuned = wide(&device);
        let report = tuned.tune(12, 10).unwrap();
        check(&report);
        let products: Vec<_> = report.passes().iter().filter(|pass| pass.is_product()).collect();
        let names: Vec<String> = products.iter().map(|pass| pass.pass()).collect();
        assert_eq!(names, ["product M=128 N=128 K=128 A·B", "product M=128 N=128 K=128 Aᵀ·B"]);
        assert!(products.iter().all(|pass| pass.measured().len() >= 3 && pass.sample_steps() == 1));
        device.save_tuning(&path).unwrap();
        // Tiles are a choice that shows in a plan.
        let mut file = json(&path);
        for pass in file["passes"].as_array_mut().unwrap().iter_mut().filter(|pass| pass["pass"]["columns"].is_u64()) {
            let measured = pass["measured"].as_array().unwrap();
            let other = measured.iter().find(|time| time["launch"]["tile"] == "128x64").unwrap();
            pass["choice"] = other["launch"].clone();
        }
        std::fs::write(&path, file.to_string()).unwrap();
        let repeats = GpuOptions { tuning: Tuning::File(path), ..hardware };
        let [one, other] = [open(&repeats), open(&repeats)].map(|device| wide(&device));
        let rows = |model: &Model| {
            let plan = model.training_plan(12, 10).unwrap();
            let products = plan.commands.iter().filter(|command| command.call.kernel.name == "matmul");
            products.map(|command| command.call.constants[..2].to_vec()).collect::<Vec<_>>()
        };
        assert!(rows(&one).contains(&vec![128, 64]), "{:?}", rows(&one));
        assert!(!rows(&wide(&open(&options(folder.path())))).contains(&vec![128, 64]));
        let bits = |mut model: Model| {
            let x = Draw::new(7).array3((12, 10, 96));
            let y = ndarray::Array2::from_elem((12, 1), 0.5);
            model.fit(x.view(), y.view(), Fit::new().epochs(2).batch_size(12)).unwrap();
            model.predict(x.view()).unwrap().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(one), bits(other));
    }

    #[test]
    fn a_file_that_the_user_names_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        let opened = || Device::gpu(&GpuOptions { tuning: Tuning::File(path.clone()), ..options(folder.path()) });
        assert!(matches!(opened(), Err(Error::File { .. })));
        for (content, reason) in [
            ("no JSON", "not a file of choices"),
            ("{}", "not a file of choices"),
            ("{\"format\": \"wgpu-lstm tuning\", \"subject\": 1, \"passes\": []}", "subject"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = opened().unwrap_err();
            assert!(matches!(error, Error::Format { .. }) && error.to_string().contains(reason), "{error}");
        }
        let device = open(&options(folder.path()));
        device.save_tuning(&path).unwrap();
        let mut other = json(&path);
        other["format"] = "sonnets".into();
        std::fs::write(&path, other.to_string()).unwrap();
        assert!(opened().unwrap_err().to_string().contains("sonnets"));
    }

    /// Choices that the device cannot run are left out; those of another adapter are followed.
    #[test]
    fn choices_of_a_file_that_fit_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("choices.json");
        let device = open(&options(folder.path()));
        model(&device, 10).tune(4, 5).unwrap();
        device.save_tuning(&path).unwrap();
        let mut file = json(&path);
        file["subject"]["adapter"] = "another card".into();
        file["passes"][1]["choice"]["rows"] = 3.into();
        std::fs::write(&path, file.to_string()).unwrap();
        let device = open(&GpuOptions { tuning: Tuning::File(path.clone()), ..options(folder.path()) });
        device.save_tuning(&path).unwrap();
        let left = json(&path)["passes"].as_array().unwrap().clone();
        assert_eq!(left[..], file["passes"].as_array().unwrap()[..1]);
        trained(&mut model(&device, 10), 4, 5);
    }
}
