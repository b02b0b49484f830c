//! A run that is stopped and goes on ends with the bits of one that was not stopped.

mod common;

use common::{Draw, close};
use ndarray::{Array1, Array3, s};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use wgpu_lstm::{
    Callback, Checkpoint, Clip, CsvLog, Dense, Device, Dropout, EarlyStopping, EpochEvent, Error, Fit, Flow, History,
    Inputs, Loss, Lstm, Model, Optimiser, Reset, Result, Schedule, Sequential, StepEvent, Stopped, TimeCheckpoints,
    Update,
};

const LENGTHS: [usize; 7] = [4, 2, 5, 5, 1, 3, 5];

fn data() -> (Array3<f32>, Array3<f32>) {
    let mut draw = Draw::new(6);
    (draw.array3((7, 5, 3)), draw.array3((7, 5, 2)))
}

fn fresh(device: &Device, optimiser: Optimiser) -> Model {
    let mut model = Sequential::new(3)
        .add(Lstm::new(4).layers(2).dropout(0.3).recurrent_dropout(0.2).weight_dropout(0.1).return_sequences(true))
        .add(Dropout::new(0.2))
        .add(Dense::new(2))
        .build(device, 1)
        .unwrap();
    model.compile(Loss::Huber { delta: 0.7 }, Update::new(optimiser).clip(Clip::Norm(0.5))).unwrap();
    model
}

/// Schedules per step, per epoch, and by the loss.
fn schedules() -> [Schedule; 3] {
    [Schedule::cosine(21).warmup(4, 0.1).per_step(), Schedule::step(2, 0.5).per_epoch(), Schedule::plateau(0.5, 1)]
}

fn fit(epochs: usize) -> Fit<'static> {
    let (x, y) = data();
    Fit::new()
        .epochs(epochs)
        .batch_size(3)
        .seed(8)
        .lengths(LENGTHS.to_vec())
        .validation_data(Inputs::from(x).lengths(LENGTHS.to_vec()), y)
}

fn stopped_and_resumed(device: &Device) {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let optimisers = [Optimiser::adamw(0.02, 0.01), Optimiser::sgd_nesterov(0.05, 0.9), Optimiser::rmsprop(0.01)];
    for (optimiser, schedule) in optimisers.into_iter().zip(schedules()) {
        let path = folder.path().join("stopped.safetensors");
        let mut whole = fresh(device, optimiser.clone());
        let history = whole.fit(x.view(), y.view(), fit(7).schedule(schedule.clone())).unwrap();

        let mut stopped = fresh(device, optimiser.clone());
        let checkpoint = Checkpoint::every_epoch(&path).training(true);
        stopped.fit(x.view(), y.view(), fit(3).schedule(schedule.clone()).callback(checkpoint)).unwrap();
        drop(stopped);
        let mut resumed = Model::load_training(&path, device).unwrap();
        let rest = resumed.fit(x.view(), y.view(), fit(7).resume(true)).unwrap();

        assert_eq!(history.loss[3..], rest.loss, "{optimiser:?}");
        assert_eq!(history.validation_loss[3..], rest.validation_loss, "{optimiser:?}");
        assert_eq!(history.learning_rate[3..], rest.learning_rate, "{optimiser:?}");
        assert_eq!(history.schedule, rest.schedule, "{optimiser:?}");
        assert_eq!(whole.parameters().unwrap(), resumed.parameters().unwrap(), "{optimiser:?}");

        // The file is a model like any other.
        let plain = Model::load(&path, device).unwrap();
        assert!(plain.predict(x.view()).is_ok() && Model::load_training(&path, device).is_ok());
    }
}

#[test]
fn what_cannot_be_resumed_is_refused() {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model = fresh(&Device::cpu(), Optimiser::adam(0.01));
    model.fit(x.view(), y.view(), fit(1)).unwrap();
    model.save(&path).unwrap();
    let error = Model::load_training(&path, &Device::cpu()).unwrap_err().to_string();
    assert!(error.contains("without the state of its training"), "{error}");
    model.save_training(&path).unwrap();
    let mut again = Model::load_training(&path, &Device::cpu()).unwrap();
    let error = again.fit(x.view(), y.view(), fit(2).seed(9).resume(true)).unwrap_err().to_string();
    assert!(error.contains("seed 8") && error.contains("9"), "{error}");
    // Nothing is left to do.
    assert!(again.fit(x.view(), y.view(), fit(1).resume(true)).unwrap().loss.is_empty());
    // A memory that is cut off, or of something else, is found.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    assert!(matches!(Model::load_training(&path, &Device::cpu()), Err(Error::Format { .. })));
    let uncompiled = Sequential::new(3).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    assert!(uncompiled.save_training(&path).unwrap_err().to_string().contains("compile"));
}

/// Ends a fit by an error, as if the process had been killed: what is on disk then is what the run goes on from.
enum Kill {
    /// Before the callbacks hear of this step of this epoch.
    Steps(usize, usize),
    /// At the end, when everything is saved.
    End,
}

impl Kill {
    fn at(&self, here: bool) -> Result<Flow> {
        if here { Err(Error::Config("killed".into())) } else { Ok(Flow::Continue) }
    }
}

impl Callback for Kill {
    fn on_steps(&mut self, event: &StepEvent, _: &mut Model) -> Result<Flow> {
        self.at(matches!(*self, Kill::Steps(epoch, step) if (epoch, step) == (event.epoch, event.step)))
    }
    fn interval(&self) -> usize {
        1
    }
    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.at(matches!(*self, Kill::End)).map(drop)
    }
}

/// Every way of carrying states, with a checkpoint by steps that falls within epochs and within sequences.
fn killed_within_an_epoch(device: &Device) {
    let (x, y) = data();
    let part = s![..6, .., ..];
    let (x, y) = (x.slice(part), y.slice(part));
    let folder = tempfile::tempdir().unwrap();
    let [path, log] = ["training.safetensors", "log.csv"].map(|name| folder.path().join(name));
    let plain = || {
        let fit = Fit::new().epochs(4).batch_size(2).seed(8).lengths(LENGTHS[..6].to_vec());
        fit.validation_data(x.to_owned(), y.to_owned()).sample_weights(Array1::linspace(0.5, 1.0, 6))
    };
    type MakeFit<'a> = Box<dyn Fn() -> Fit<'static> + 'a>;
    let fits: [(&str, MakeFit); 4] = [
        ("plain", Box::new(|| plain().batch_size(1))),
        ("truncated", Box::new(|| plain().truncated(2))),
        ("stateful", Box::new(|| plain().shuffle(false).stateful(Reset::EachEpoch).truncated(3))),
        ("by hand", Box::new(|| plain().shuffle(false).stateful(Reset::ByHand).truncated(2))),
    ];
    for (name, fit) in fits {
        let schedule = Schedule::cosine(40).warmup(4, 0.1);
        let begin = || fit().schedule(schedule.clone()).callback(EarlyStopping::new(2));
        let mut whole = fresh(device, Optimiser::adamw(0.02, 0.01));
        let history = whole.fit(x, y, begin().callback(CsvLog::new(&log))).unwrap();
        let rows = without_seconds(&log);
        for (epoch, step) in [(1, 2), (1, 3), (2, 1), (2, 5), (3, 4), (4, 2)] {
            let callbacks =
                |fit: Fit<'static>| fit.callback(CsvLog::new(&log)).callback(Checkpoint::every_steps(&path, 2));
            let mut stopped = fresh(device, Optimiser::adamw(0.02, 0.01));
            let kill = Kill::Steps(epoch, step);
            let error = stopped.fit(x, y, callbacks(begin()).callback(kill)).unwrap_err().to_string();
            assert_eq!(error, "killed", "{name} {epoch} {step}");
            drop(stopped);
            // Nothing was saved before the second step.
            let mut resumed = match (epoch, step) {
                (1, 2) => fresh(device, Optimiser::adamw(0.02, 0.01)),
                _ => Model::load_training(&path, device).unwrap(),
            };
            let rest = resumed.fit(x, y, callbacks(begin()).resume(true)).unwrap();
            let first = history.loss.len() - rest.loss.len();
            assert!(first <= epoch && first + 2 >= epoch, "{name} {epoch} {step}: {first}");
            assert_eq!(history.loss[first..], rest.loss, "{name} {epoch} {step}");
            assert_eq!(history.validation_loss[first..], rest.validation_loss, "{name} {epoch} {step}");
            assert_eq!(history.learning_rate[first..], rest.learning_rate, "{name} {epoch} {step}");
            assert_eq!((&history.schedule, history.stopped), (&rest.schedule, rest.stopped), "{name} {epoch} {step}");
            assert_eq!(whole.parameters().unwrap(), resumed.parameters().unwrap(), "{name} {epoch} {step}");
            assert_eq!(without_seconds(&log), rows, "{name} {epoch} {step}");
            fs::remove_file(&path).unwrap();
        }
    }
}

fn without_seconds(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_string()).collect()
}

/// Data on which the validation loss falls, then rises.
fn overfitted(share: f32) -> (Array3<f32>, Array3<f32>, Array3<f32>) {
    let mut draw = Draw::new(9);
    let x = draw.array3((8, 5, 3));
    let y = Array3::from_shape_fn((8, 5, 2), |(n, t, k)| 2.0 * x[[n, t, k]]);
    let validation = y.mapv(|value| share * value);
    (x, y, validation)
}

/// Stops where the whole run stops, with its best weights, wherever it is broken off: also between the last file and the end.
fn early_stopping_goes_on_counting(device: &Device) {
    let (x, y, validation) = overfitted(0.5);
    let folder = tempfile::tempdir().unwrap();
    let [path, best] = ["training.safetensors", "best.safetensors"].map(|name| folder.path().join(name));
    let model = || {
        let layers = Sequential::new(3).add(Lstm::new(4).return_sequences(true)).add(Dense::new(2));
        let mut model = layers.build(device, 1).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
        model
    };
    let fit = |epochs| {
        let fit = Fit::new().epochs(epochs).batch_size(4).validation_data(x.clone(), validation.clone());
        let fit = fit.callback(Checkpoint::every_epoch(&path).training(true)).callback(Checkpoint::best(&best));
        fit.callback(EarlyStopping::new(3))
    };
    let mut whole = model();
    let history = whole.fit(x.view(), y.view(), fit(99)).unwrap();
    let epochs = history.loss.len();
    assert!(history.stopped == Some(Stopped::Callback) && epochs > 5 && epochs < 99, "{:?}", history.validation_loss);
    let bytes = fs::read(&best).unwrap();
    for stop in 1..=epochs {
        let mut stopped = model();
        let fitted =
            stopped.fit(x.view(), y.view(), if stop < epochs { fit(stop) } else { fit(99).callback(Kill::End) });
        assert_eq!(fitted.is_err(), stop == epochs);
        let mut resumed = Model::load_training(&path, device).unwrap();
        let rest = resumed.fit(x.view(), y.view(), fit(99).resume(true)).unwrap();
        assert_eq!(rest.validation_loss, history.validation_loss[stop..], "{stop}");
        assert_eq!(rest.stopped, Some(Stopped::Callback));
        assert_eq!(whole.parameters().unwrap(), resumed.parameters().unwrap(), "{stop}");
        assert_eq!(fs::read(&best).unwrap(), bytes, "{stop}: the best model on disk");
    }
}

/// Fails to save, as if the process had been killed between two files.
struct FailToSave {
    epoch: usize,
    now: bool,
}

impl Callback for FailToSave {
    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
        self.now = event.epoch == self.epoch;
        Ok(Flow::Continue)
    }
    fn save(&mut self, _: &mut Model, _: Flow) -> Result<()> {
        if self.now { Err(Error::Config("killed".into())) } else { Ok(()) }
    }
}

/// A file that was about to be written when the run was killed is written when it goes on, and a better one is not overwritten.
fn the_best_file_stays_the_best(device: &Device) {
    let (x, y, validation) = overfitted(0.2);
    let folder = tempfile::tempdir().unwrap();
    let [path, best] = ["training.safetensors", "best.safetensors"].map(|name| folder.path().join(name));
    let fit = |epochs| Fit::new().epochs(epochs).batch_size(4).validation_data(x.clone(), validation.clone());
    let every = || Checkpoint::every_epoch(&path).training(true);
    let mut whole = fresh(device, Optimiser::adam(0.05));
    let history = whole.fit(x.view(), y.view(), fit(12).callback(every()).callback(Checkpoint::best(&best))).unwrap();
    let bytes = fs::read(&best).unwrap();
    let least = (0..12).min_by(|&a, &b| history.validation_loss[a].total_cmp(&history.validation_loss[b])).unwrap() + 1;
    assert!(least > 1 && least < 12, "{:?}", history.validation_loss);
    for stop in [1, least - 1, least, least + 1] {
        fs::remove_file(&best).unwrap();
        let mut stopped = fresh(device, Optimiser::adam(0.05));
        let callbacks = fit(12)
            .callback(every())
            .callback(FailToSave { epoch: stop, now: false })
            .callback(Checkpoint::best(&best));
        assert_eq!(stopped.fit(x.view(), y.view(), callbacks).unwrap_err().to_string(), "killed");
        let mut resumed = Model::load_training(&path, device).unwrap();
        let callbacks = fit(12).callback(every()).callback(Checkpoint::best(&best)).resume(true);
        resumed.fit(x.view(), y.view(), callbacks).unwrap();
        assert_eq!(fs::read(&best).unwrap(), bytes, "{stop} of {least}");
    }
    // A session without the callback does not make the next one forget.
    let mut resumed = Model::load_training(&path, device).unwrap();
    resumed.fit(x.view(), y.view(), fit(13).callback(every()).resume(true)).unwrap();
    let mut resumed = Model::load_training(&path, device).unwrap();
    resumed.fit(x.view(), y.view(), fit(15).callback(Checkpoint::best(&best)).resume(true)).unwrap();
    assert_eq!(fs::read(&best).unwrap(), bytes);
}

on_both!(stopped_and_resumed, killed_within_an_epoch, early_stopping_goes_on_counting, the_best_file_stays_the_best);

/// A process that is killed without any end: it runs the test below with a file in its environment.
#[test]
fn a_killed_process_can_be_resumed() {
    const FILE: &str = "WGPU_LSTM_TEST_KILLED";
    struct Abort;
    impl Callback for Abort {
        fn on_steps(&mut self, event: &StepEvent, _: &mut Model) -> Result<Flow> {
            if (event.epoch, event.step) == (2, 3) { std::process::abort() } else { Ok(Flow::Continue) }
        }
        fn interval(&self) -> usize {
            1
        }
    }
    let (x, y) = data();
    let fit = || fit(4).batch_size(1).schedule(Schedule::cosine(28));
    if let Some(path) = std::env::var_os(FILE) {
        let fit = fit().callback(Checkpoint::every_steps(path, 1)).callback(Abort);
        let _ = fresh(&Device::cpu(), Optimiser::adam(0.01)).fit(x.view(), y.view(), fit);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_killed_process_can_be_resumed"]).env(FILE, &path);
    assert!(!child.output().unwrap().status.success());
    let mut resumed = Model::load_training(&path, &Device::cpu()).unwrap();
    let rest = resumed.fit(x.view(), y.view(), fit().resume(true)).unwrap();
    assert_eq!(rest.steps, 28 - 9);
    let mut whole = fresh(&Device::cpu(), Optimiser::adam(0.01));
    let history = whole.fit(x.view(), y.view(), fit()).unwrap();
    assert_eq!(rest.loss, history.loss[1..]);
    assert_eq!(resumed.parameters().unwrap(), whole.parameters().unwrap());
}

/// A file written before there were checksums, fingerprints and states of callbacks; tests/fixtures/README.md says how.
#[test]
fn older_files_go_on() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resume_without_checksums.safetensors");
    let (x, y) = data();
    let schedule = Schedule::cosine(21).warmup(4, 0.1).per_step();
    let optimiser = Optimiser::adamw(0.02, 0.01);
    let mut whole = fresh(&Device::cpu(), optimiser);
    let history = whole.fit(x.view(), y.view(), fit(7).schedule(schedule.clone())).unwrap();
    for given in [None, Some(schedule)] {
        let mut resumed = Model::load_training(&path, &Device::cpu()).unwrap();
        let mut fit = fit(7).resume(true);
        if let Some(schedule) = given {
            fit = fit.schedule(schedule);
        }
        let rest = resumed.fit(x.view(), y.view(), fit).unwrap();
        // Another processor may round the sums of the first epochs otherwise.
        close("loss", &rest.loss, &history.loss[3..], 0.0, 1e-4);
        assert_eq!(rest.learning_rate, history.learning_rate[3..]);
    }
    let mut resumed = Model::load_training(&path, &Device::cpu()).unwrap();
    let error = resumed.fit(x.view(), y.view(), fit(7).seed(9).resume(true)).unwrap_err().to_string();
    assert!(error.contains("seed 8") && error.contains('9'), "{error}");
    assert!(Model::load(&path, &Device::cpu()).is_ok());
}

#[test]
fn a_model_never_trained_begins_its_run() {
    let (x, y) = data();
    for schedule in schedules() {
        let models = [false, true].map(|resume| {
            let mut model = fresh(&Device::cpu(), Optimiser::adam(0.02));
            let history = model.fit(x.view(), y.view(), fit(4).schedule(schedule.clone()).resume(resume)).unwrap();
            (model, history)
        });
        let [(_, without), (_, with)] = &models;
        assert!(
            with.schedule.is_some() && with.schedule == without.schedule && with.learning_rate == without.learning_rate
        );
        let mut models = models.map(|(model, _)| model);
        assert_eq!(models[0].parameters().unwrap(), models[1].parameters().unwrap());
        // From then on it is a run to go on with.
        assert_eq!(models[1].fit(x.view(), y.view(), fit(5).resume(true)).unwrap().loss.len(), 1);
    }
}

/// Differences between a fit and the run that it resumes, and the words that name each.
#[test]
fn differences_are_named_or_accepted() {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let schedule = || Schedule::cosine(40);
    let plain = || fit(4).schedule(schedule()).callback(EarlyStopping::new(5)).resume(true);
    let mut model = fresh(&Device::cpu(), Optimiser::adam(0.01));
    let first = fit(2).schedule(schedule()).callback(EarlyStopping::new(5));
    model.fit(x.view(), y.view(), first.callback(Checkpoint::every_epoch(&path).training(true))).unwrap();

    let mut other_x = x.clone();
    other_x[[3, 1, 2]] += 1e-6;
    let mut other_y = y.clone();
    other_y[[6, 4, 1]] = -other_y[[6, 4, 1]];
    let (shorter_x, shorter_y) = (x.slice(s![..6, .., ..]).to_owned(), y.slice(s![..6, .., ..]).to_owned());
    let mut lengths = LENGTHS.to_vec();
    lengths[0] = 3;
    let none = |_: &mut Model| {};
    type Change<'a> = (&'a str, &'a Array3<f32>, &'a Array3<f32>, Fit<'a>, fn(&mut Model));
    let cases: Vec<(Vec<&str>, Change)> = vec![
        (vec!["x [7, 5, 3] (checksum", "in the run"], ("x", &other_x, &y, plain(), none)),
        (vec!["y [7, 5, 2] (checksum"], ("y", &x, &other_y, plain(), none)),
        (
            vec!["x [7, 5, 3]", "[6, 5, 3]", "y [7, 5, 2]", "[6, 5, 2]", "lengths"],
            ("shapes", &shorter_x, &shorter_y, plain().lengths(LENGTHS[..6].to_vec()), none),
        ),
        (vec!["lengths of 7 sequences (checksum"], ("lengths", &x, &y, plain().lengths(lengths), none)),
        (vec!["batch size 3 in the run, 2 in this fit"], ("batch", &x, &y, plain().batch_size(2), none)),
        (vec!["shuffle true in the run, false in this fit"], ("order", &x, &y, plain().shuffle(false), none)),
        (vec!["seed 8 in the run, 9 in this fit"], ("seed", &x, &y, plain().seed(9), none)),
        (vec!["truncated none in the run, to 2 steps"], ("truncated", &x, &y, plain().truncated(2), none)),
        (
            vec!["weights none in the run, [7, 1] (checksum"],
            ("weights", &x, &y, plain().sample_weights(Array1::ones(7)), none),
        ),
        (vec!["validation on x", "on a share of 0.2"], ("validation", &x, &y, plain().validation_split(0.2), none)),
        (vec!["schedule {", "step"], ("schedule", &x, &y, plain().schedule(Schedule::step(2, 0.5)), none)),
        (
            vec!["early stopping with patience 5", "none in this fit"],
            ("no callback", &x, &y, fit(4).schedule(schedule()).resume(true), none),
        ),
        (
            vec!["early stopping with patience 5", "with patience 6"],
            ("patience", &x, &y, fit(4).callback(EarlyStopping::new(6)).resume(true), none),
        ),
        (
            vec!["early stopping 2 none in the run, with patience 7"],
            ("another callback", &x, &y, plain().callback(EarlyStopping::new(7)), none),
        ),
        (vec!["optimiser {", "\"clip\":null"], ("clip", &x, &y, plain(), |model| model.clip_norm(None).unwrap())),
        (
            vec!["checkpoints of time \"off\" in the run, {\"every\":2}"],
            ("time", &x, &y, plain(), |model| model.checkpoint_time(TimeCheckpoints::Every(2)).unwrap()),
        ),
    ];
    for (words, (what, x, y, fit, change)) in cases {
        let mut model = Model::load_training(&path, &Device::cpu()).unwrap();
        change(&mut model);
        let before = model.parameters().unwrap();
        let error = model.fit(x.view(), y.view(), fit).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{what}");
        let error = error.to_string();
        for word in words {
            assert!(error.contains(word), "{what}: \"{word}\" is missing in: {error}");
        }
        assert_eq!(model.parameters().unwrap(), before);
        // The run is not lost.
        change(&mut model);
        let fit = plain().accept_changes(true);
        assert_eq!(
            model.fit(x.view(), y.view(), fit.lengths(LENGTHS[..x.dim().0].to_vec())).unwrap().loss.len(),
            2,
            "{what}"
        );
    }
    // Without a difference there is none to accept.
    let mut model = Model::load_training(&path, &Device::cpu()).unwrap();
    assert_eq!(model.fit(x.view(), y.view(), plain()).unwrap().loss.len(), 2);
    // A schedule that is accepted is the one that is used.
    let mut model = Model::load_training(&path, &Device::cpu()).unwrap();
    let fit = plain().schedule(Schedule::step(1, 0.5)).accept_changes(true);
    let rates = model.fit(x.view(), y.view(), fit).unwrap().learning_rate;
    assert_eq!(rates[1], rates[0] * 0.5);
}

/// The order of an unfinished epoch is that of its settings: with others, it begins anew.
#[test]
fn another_order_begins_the_epoch_anew() {
    let (x, y) = data();
    let fit = |batch| fit(2).batch_size(batch);
    let mut model = fresh(&Device::cpu(), Optimiser::adam(0.01));
    model.fit(x.view(), y.view(), fit(1).callback(Kill::Steps(2, 4))).unwrap_err();
    let rest = model.fit(x.view(), y.view(), fit(2).resume(true).accept_changes(true)).unwrap();
    assert_eq!((rest.loss.len(), rest.steps), (1, 4));
}

/// The configuration in a file's header, edited, and without checksums.
fn forge(path: &Path, to: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    let json = &mut header["__metadata__"]["wgpu_lstm"];
    let mut own: Value = serde_json::from_str(json.as_str().unwrap()).unwrap();
    own.as_object_mut().unwrap().remove("crc32c").unwrap();
    edit(&mut own);
    *json = Value::String(own.to_string());
    let header = header.to_string();
    fs::write(to, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[end..]].concat()).unwrap();
}

#[test]
fn forged_counts_are_refused() {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let [path, forged] = ["training", "forged"].map(|name| folder.path().join(name));
    // The file is that of step 4 of epoch 2.
    let plateau = || fit(3).batch_size(1).schedule(Schedule::plateau(0.5, 1)).callback(EarlyStopping::new(9));
    let fit = || plateau().callback(Checkpoint::every_steps(&path, 4));
    let mut model = fresh(&Device::cpu(), Optimiser::nadam(0.01));
    model.fit(x.view(), y.view(), fit().callback(Kill::Steps(2, 7))).unwrap_err();
    let resume = |file: &Path| -> Result<History> {
        let mut model = Model::load_training(file, &Device::cpu())?;
        model.fit(
            x.view(),
            y.view(),
            plateau().callback(Checkpoint::every_steps(folder.path().join("other"), 4)).resume(true),
        )
    };
    forge(&path, &forged, |_| {});
    let whole = resume(&path).unwrap();
    assert_eq!(resume(&forged).unwrap().loss, whole.loss, "a file without checksums");

    let huge =
        [json!(u64::MAX), json!(1u64 << 53), json!(-1), json!(0.5), json!(1e300), json!(null), json!("9"), json!([3])];
    let float = [json!(null), json!("NaN"), json!([1.0])];
    let places: [(&str, &[Value]); 13] = [
        ("/training/steps", &huge),
        ("/training/progress/epoch", &huge),
        ("/training/progress/partial/step", &huge),
        ("/training/progress/schedule/count", &huge),
        ("/training/progress/schedule/plateau/bad", &huge),
        ("/training/progress/schedule/plateau/resting", &huge),
        ("/training/progress/callbacks/0/value/waited", &huge),
        ("/training/progress/callbacks/1/value/steps", &huge),
        ("/training/progress/partial/sum", &float),
        ("/training/progress/partial/seen", &[json!(null), json!("1"), json!(-3.0)]),
        ("/training/progress/partial/learning_rate", &[json!(null), json!(-0.1)]),
        ("/training/progress/schedule/base", &[json!(null), json!(-1.0), json!("0")]),
        ("/training/progress/callbacks/0/value/best", &[json!(1e300), json!("low")]),
    ];
    for (place, values) in places {
        for value in values {
            forge(&path, &forged, |own| *own.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone());
            let error = resume(&forged).map(drop).expect_err(&format!("{place} = {value}"));
            assert!(matches!(error, Error::Format { .. } | Error::Config(_)), "{place} = {value}: {error}");
            // The message names the number: by its path, or in words.
            let field = place.rsplit('/').next().unwrap();
            let words =
                ["epochs", "steps", "learning rate", "sum of losses", "number of sequences", "rate that", "best loss"];
            let text = error.to_string();
            assert!(text.contains(field) || words.iter().any(|word| text.contains(word)), "{place} = {value}: {text}");
        }
    }
    // Numbers that are possible, but not in this run
    forge(&path, &forged, |own| own["training"]["progress"]["partial"]["step"] = json!(8));
    let error = resume(&forged).unwrap_err().to_string();
    assert!(error.contains("8 steps of epoch 2, which has 7"), "{error}");
    // A schedule of one's own that claims as much
    let mut schedule = serde_json::to_value(Schedule::exponential(0.5)).unwrap();
    schedule["count"] = json!(u64::MAX);
    let schedule: Schedule = serde_json::from_value(schedule).unwrap();
    let error = model.fit(x.view(), y.view(), Fit::new().schedule(schedule)).unwrap_err().to_string();
    assert!(error.contains("the schedule") && error.contains(&u64::MAX.to_string()), "{error}");
}

/// A file whose carried states claim a batch beyond all sizes.
#[test]
fn states_of_a_forged_batch_are_refused() {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let [path, forged] = ["training", "forged"].map(|name| folder.path().join(name));
    let mut model = fresh(&Device::cpu(), Optimiser::adam(0.01));
    model.fit(x.view(), y.view(), Fit::new().batch_size(7).truncated(2)).unwrap();
    model.save_training(&path).unwrap();
    forge(&path, &forged, |_| {});
    let text = fs::read(&forged).unwrap();
    let end = 8 + u64::from_le_bytes(text[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(text[8..end].to_vec()).unwrap();
    for batch in ["18446744073709551615", "9223372036854775807", "4294967296", "0", "-7", "8"] {
        let header = header.replace("\"state.7 ", &format!("\"state.{batch} "));
        fs::write(&forged, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &text[end..]].concat()).unwrap();
        let error = Model::load_training(&forged, &Device::cpu()).unwrap_err().to_string();
        assert!(error.contains("no state") || error.contains("state"), "{batch}: {error}");
    }
}
