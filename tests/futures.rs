//! Asynchronous functions: no poll of theirs blocks, any executor can run them, and a future may be dropped at any time.
#![cfg(all(feature = "keras", feature = "onnx", feature = "pytorch"))]

mod common;

use common::Draw;
use ndarray::{Array2, Array3, ArrayD, s};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use wgpu_lstm::format::onnx::Graph;
use wgpu_lstm::{
    Checkpoint, Dense, Device, Dropout, EarlyStopping, Evaluate, Executable, Fit, GpuOptions, Loss, Lstm, LstmLayer,
    LstmOutput, Model, Optimiser, Sequential, Stream, adapters,
};

/// Never called; it compiles.
#[allow(dead_code)]
fn all_futures_are_send(
    (model, layer, stream): (&mut Model, &LstmLayer, &mut Stream),
    (executable, graph, device): (&Executable, &mut Graph, &Device),
    (x, parameters): (&Array3<f32>, BTreeMap<String, ArrayD<f32>>),
) {
    fn send<T: Send>(_: T) {
        unreachable!("it is not called");
    }
    let view = || x.view();
    send(Device::auto_async());
    send(Device::gpu_async(&GpuOptions::default()));
    send(adapters());
    send(Sequential::new(1).build_async(device, 0));
    send(model.compile_async(Loss::MeanSquaredError, Optimiser::adam(0.1)));
    send(Sequential::new(1).build_with_async(device, parameters.clone()));
    send(model.set_parameters_async(parameters));
    let fit = Fit::new().callback(EarlyStopping::new(1)).callback(Checkpoint::best(""));
    send(model.fit_async(view(), view(), fit));
    send(model.evaluate_async(view(), view()));
    send(model.evaluate_with_async(view(), view(), Evaluate::new().batch_size(1).stateful(true)));
    send(model.predict_async(view()));
    send(model.stream_async(1));
    send(stream.feed_async(view()));
    send(stream.state_async(0));
    send(layer.stream_async(1));
    send(layer.forward_async(view(), None));
    send(layer.forward_into_async(view(), None, None, &mut LstmOutput::default()));
    send(layer.gradients_async(view(), None, None, view(), None));
    send(executable.read_async((executable.plan().find("y").unwrap(), 0), 1));
    send(graph.run_async(BTreeMap::new()));
    send(graph.lift_async(""));
}

/// A waker's flag.
#[derive(Default)]
struct Woken(AtomicBool, Mutex<()>, Condvar);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _held = self.1.lock().unwrap();
        self.0.store(true, Ordering::SeqCst);
        self.2.notify_all();
    }
}

impl Woken {
    fn wait(&self) {
        let mut held = self.1.lock().unwrap();
        while !self.0.swap(false, Ordering::SeqCst) {
            held = self.2.wait(held).unwrap();
        }
    }
}

/// Runs a future on an executor of one thread, beside a ticker that is ready at any time. Gives the polls of each.
fn beside_a_ticker<F: Future>(future: F) -> (F::Output, usize, usize) {
    let (mut future, woken) = (pin!(future), Arc::new(Woken::default()));
    let waker = Waker::from(woken.clone());
    woken.0.store(true, Ordering::SeqCst);
    let (mut polls, mut ticks) = (0, 0);
    loop {
        if woken.0.swap(false, Ordering::SeqCst) {
            polls += 1;
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return (output, polls, ticks);
            }
        }
        ticks += 1;
        std::hint::spin_loop();
    }
}

/// Runs a future as an executor of several threads may, with each poll on another one. The bounds are those of `tokio::spawn`.
fn spawn<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (mut future, woken) = (Box::pin(future), Arc::new(Woken::default()));
    loop {
        let waker = Waker::from(woken.clone());
        let poll = move || (future.as_mut().poll(&mut Context::from_waker(&waker)), future);
        match std::thread::spawn(poll).join().unwrap() {
            (Poll::Ready(output), _) => return output,
            (Poll::Pending, pending) => future = pending,
        }
        woken.wait();
    }
}

/// Polls a future so often, waiting for it to be woken in between, and drops it; its output if it was ready.
fn give_up<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let (mut future, woken) = (pin!(future), Arc::new(Woken::default()));
    let waker = Waker::from(woken.clone());
    for k in 0..polls {
        if k > 0 {
            woken.wait();
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
    }
    None
}

fn data(count: usize) -> (Array3<f32>, Array2<f32>) {
    let x = Draw::new(1).array3((count, 12, 2));
    let y = Array2::from_shape_fn((count, 1), |(n, _)| x.slice(s![n, .., 0]).sum() / 3.0);
    (x, y)
}

fn model(device: &Device) -> Model {
    let layers = Sequential::new(2).add(Lstm::new(24).layers(2)).add(Dropout::new(0.2)).add(Dense::new(1));
    let mut model = layers.build(device, 3).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
    model
}

fn tickers_do_not_stand_still(device: &Device) {
    let (x, y) = data(600);
    let mut model = model(device);
    let fit = Fit::new().batch_size(6).validation_split(0.5);
    let (history, _, ticks) = beside_a_ticker(model.fit_async(x.view(), y.view(), fit));
    assert_eq!(history.unwrap().steps, 50);
    assert!(ticks >= 50 + 2, "{ticks} ticks in 50 batches and 2 of validation");
    let (y, _, ticks) = beside_a_ticker(model.predict_async(x.view()));
    assert_eq!(y.unwrap(), model.predict(x.view()).unwrap());
    assert!(ticks >= 3, "{ticks} ticks in 3 batches");
}

/// Polls of a function that waits for a device leave the executor free meanwhile. A machine under load may run the device to its end in a
/// single turn of this thread, so what counts is the freest of many attempts: polls that block never leave any time.
const ATTEMPTS: usize = 100;

/// While the device works on one batch, and while its kernels are compiled, the executor is free.
fn the_device_is_not_waited_for(device: &Device) {
    let layer = Lstm::new(48).layers(2).build(device, 3, 0).unwrap();
    let x = Draw::new(1).array3((32, 100, 3));
    let expected = layer.forward(x.view(), None).unwrap();
    let free = (0..ATTEMPTS).any(|_| {
        let (out, polls, ticks) = beside_a_ticker(layer.forward_async(x.view(), None));
        assert_eq!(out.unwrap(), expected);
        ticks > 20 * polls
    });
    assert!(free, "a poll takes as long as the device");
}

/// One command of a plan is the most that a poll does on the CPU.
fn long_batches_are_cut(device: &Device) {
    let layer = Lstm::new(96).layers(4).build(device, 3, 0).unwrap();
    let x = Draw::new(1).array3((16, 200, 3));
    let (out, polls, _) = beside_a_ticker(layer.forward_async(x.view(), None));
    assert!(polls > 4, "{polls} polls for 4 layers");
    assert_eq!(out.unwrap(), layer.forward(x.view(), None).unwrap());
}

fn executors_of_several_threads_run_fits(device: &Device) {
    let (x, y) = data(48);
    let fit = || Fit::new().epochs(3).batch_size(8).validation_split(0.5).callback(EarlyStopping::new(1));
    let mut plain = model(device);
    let expected = plain.fit(x.view(), y.view(), fit()).unwrap();
    let (mut spawned, data, settings) = (model(device), (x.clone(), y.clone()), fit());
    let (spawned, history) = spawn(async move {
        let history = spawned.fit_async(data.0.view(), data.1.view(), settings).await;
        (spawned, history.unwrap())
    });
    assert_eq!((history.loss, history.validation_loss), (expected.loss, expected.validation_loss));
    assert_eq!(spawned.parameters().unwrap(), plain.parameters().unwrap());
    let (prediction, data) = (plain.predict(x.view()).unwrap(), x.clone());
    assert_eq!(spawn(async move { spawned.predict_async(data.view()).await.unwrap() }), prediction);
}

/// Two predictions of the same sizes, polled in turns, do not use each other's buffers.
fn futures_of_one_model_run_side_by_side(device: &Device) {
    let (x, _) = data(300);
    let model = model(device);
    let (first, second) = (x.slice(s![.., ..6, ..]), x.slice(s![.., 6.., ..]));
    let expected = (model.predict(first).unwrap(), model.predict(second).unwrap());
    let mut both = (Box::pin(model.predict_async(first)), Box::pin(model.predict_async(second)));
    let mut done = (None, None);
    let ((), polls, _) = beside_a_ticker(poll_fn(|context| {
        fn poll<F: Future>(future: &mut Pin<Box<F>>, done: &mut Option<F::Output>, context: &mut Context<'_>) {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        poll(&mut both.0, &mut done.0, context);
        poll(&mut both.1, &mut done.1, context);
        if done.0.is_some() && done.1.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }));
    assert!(polls > 1);
    assert_eq!((done.0.unwrap().unwrap(), done.1.unwrap().unwrap()), expected);
}

/// A fit that is dropped has taken whole steps, and the model goes on from there.
fn dropped_fits_leave_a_model_that_goes_on(device: &Device) {
    const STEPS: usize = 6;
    let (x, y) = data(8 * STEPS);
    let fit = || Fit::new().batch_size(8).shuffle(false).seed(5);
    let step = |model: &mut Model, k: usize| {
        let rows = 8 * k..8 * (k + 1);
        model.fit(x.slice(s![rows.clone(), .., ..]), y.slice(s![rows, ..]), fit()).unwrap();
    };
    let mut plain = model(device);
    let mut after = vec![plain.parameters().unwrap()];
    for k in 0..STEPS {
        step(&mut plain, k);
        after.push(plain.parameters().unwrap());
    }
    let prediction = plain.predict(x.view()).unwrap();
    let mut reached = BTreeSet::new();
    for polls in 0.. {
        let mut model = model(device);
        let ready = give_up(model.fit_async(x.view(), y.view(), fit()), polls).is_some();
        let now = model.parameters().unwrap();
        let done = after.iter().position(|parameters| *parameters == now);
        let done = done.unwrap_or_else(|| panic!("after {polls} polls, part of a step was taken"));
        for k in done..STEPS {
            step(&mut model, k);
        }
        assert_eq!(model.parameters().unwrap(), after[STEPS], "{polls} polls, {done} steps");
        assert_eq!(model.predict(x.view()).unwrap(), prediction);
        reached.insert(done);
        if ready {
            break;
        }
    }
    // Which step a poll comes to depends on what was compiled before, and on the time that commands take.
    assert!(reached.len() > 3 && reached.contains(&0) && reached.contains(&STEPS), "{reached:?}");
}

/// A stream that is dropped while it is fed has its states of before or of after.
fn dropped_feeds_leave_whole_states(device: &Device) {
    let model = Sequential::new(2).add(Lstm::new(64).layers(3)).build(device, 3).unwrap();
    let x = Draw::new(1).array3((8, 40, 2));
    let mut plain = model.stream(8).unwrap();
    let before = plain.state(5).unwrap();
    let expected = plain.feed(x.view()).unwrap();
    let prediction = model.predict(x.view()).unwrap();
    let after = plain.state(5).unwrap();
    for polls in 0.. {
        let mut stream = model.stream(8).unwrap();
        let ready = give_up(stream.feed_async(x.view()), polls).is_some();
        let state = stream.state(5).unwrap();
        assert!(state == after || !ready && state == before, "{polls} polls");
        stream.reset_all();
        assert_eq!(stream.feed(x.view()).unwrap(), expected);
        give_up(model.predict_async(x.view()), polls);
        assert_eq!(model.predict(x.view()).unwrap(), prediction);
        if ready {
            break;
        }
    }
}

on_both!(
    tickers_do_not_stand_still,
    executors_of_several_threads_run_fits,
    futures_of_one_model_run_side_by_side,
    dropped_fits_leave_a_model_that_goes_on,
    dropped_feeds_leave_whole_states,
);

#[test]
fn long_batches_are_cut_on_cpu() {
    long_batches_are_cut(&Device::cpu());
}

mod on_adapter_alone {
    #[test]
    fn the_device_is_not_waited_for() {
        super::the_device_is_not_waited_for(&crate::common::adapter());
    }

    #[test]
    fn opening_does_not_block() {
        let options = wgpu_lstm::GpuOptions { software: wgpu_lstm::Software::Fallback, ..Default::default() };
        let free = (0..super::ATTEMPTS).any(|_| {
            let (device, polls, ticks) = super::beside_a_ticker(wgpu_lstm::Device::gpu_async(&options));
            assert!(device.unwrap().adapter().is_some());
            ticks > 20 * polls
        });
        assert!(free, "a poll takes as long as opening");
    }
}
