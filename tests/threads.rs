//! Runs on several threads at once: the same bits, and those that only read what they share do not wait for each other.

mod common;

use common::Draw;
use ndarray::Array3;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, RwLock, mpsc};
use std::time::Duration;
use wgpu_lstm::Machine;
use wgpu_lstm::cpu::{Shared, Threads};
use wgpu_lstm::network::{Batch, GradientPlan, Node, Purpose, gradients, network};
use wgpu_lstm::plan::{Buffer, BufferId, Plan, Role};
use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};

fn layer(hidden: usize, bidirectional: bool) -> Node {
    let config = Lstm::new(hidden).bidirectional(bidirectional).return_sequences(true);
    Node::new("lstm", 24, config)
}

fn forward_plan(hidden: usize, bidirectional: bool, batch: usize, steps: usize) -> Arc<Plan> {
    let capabilities = Device::cpu().capabilities().clone();
    let layers = [layer(hidden, bidirectional)];
    network(&layers, Batch::new(batch, steps), Purpose::Stream, &capabilities).unwrap().plan.into()
}

/// The weights of a plan, to be shared.
fn weights(plan: &Plan, seed: u64) -> Vec<Option<Shared<f32>>> {
    let mut draw = Draw::new(seed);
    let shared = |buffer: &Buffer| {
        let values = (buffer.role == Role::Weight).then(|| draw.vec(buffer.len as usize));
        values.map(|values| Arc::new(RwLock::new(values.into())))
    };
    plan.buffers.iter().map(shared).collect()
}

/// Writes other input to a machine for every seed, runs it from states of zero and reads all that it has.
fn results(machine: &Machine<f32>, plan: &Plan, seed: u64) -> Vec<Vec<f32>> {
    let mut draw = Draw::new(seed);
    for (index, buffer) in plan.buffers.iter().enumerate() {
        match buffer.role {
            Role::Input => machine.write((BufferId(index), 0), &draw.vec(buffer.len as usize)),
            Role::State => machine.write((BufferId(index), 0), &vec![0.0; buffer.len as usize]),
            _ => {}
        }
    }
    machine.run(0..plan.commands.len()).unwrap();
    let all = plan.buffers.iter().enumerate();
    all.map(|(index, buffer)| machine.read((BufferId(index), 0), buffer.len)).collect()
}

/// A run that holds the weights for reading does not keep another from running: one that does so for ever is ended from outside.
#[test]
fn runs_that_only_read_what_they_share_do_not_wait_for_each_other() {
    let plan = forward_plan(16, false, 2, 3);
    let shared = weights(&plan, 1);
    let machine = Machine::new(plan.clone(), |k| shared[k].clone()).unwrap();
    let held: Vec<_> = shared.iter().flatten().map(|weight| weight.read().unwrap()).collect();
    let (done, ready) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            results(&machine, &plan, 2);
            done.send(()).unwrap();
        });
        let in_time = ready.recv_timeout(Duration::from_secs(60));
        drop(held);
        in_time.expect("a run waits for a lock that another holds for reading");
    });
}

/// And one that writes to what another reads does wait.
#[test]
fn a_run_waits_for_a_buffer_that_it_writes_to() {
    let capabilities = Device::cpu().capabilities().clone();
    let GradientPlan { plan, .. } = gradients(&layer(16, false), Batch::new(2, 3), &capabilities).unwrap();
    let plan = Arc::new(plan);
    let output = plan.buffers.iter().position(|buffer| buffer.role == Role::Output).unwrap();
    let len = plan.buffers[output].len as usize;
    let shared: Shared<f32> = Arc::new(RwLock::new(vec![0.0; len].into()));
    let machine = Machine::new(plan.clone(), |k| (k == output).then(|| shared.clone())).unwrap();
    let (held, ran) = (shared.read().unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machine.run(0..plan.commands.len()).unwrap();
            ran.store(true, Ordering::SeqCst);
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!ran.load(Ordering::SeqCst));
        drop(held);
    });
    assert!(ran.load(Ordering::SeqCst));
}

/// Machines of several threads that share weights, each on a number of threads of its own, make the bits that each makes alone.
/// The first runs race to pack the weights.
#[test]
fn concurrent_runs_that_share_weights_make_the_bits_of_single_ones() {
    for (hidden, bidirectional, batch, steps) in [(96, false, 20, 6), (80, true, 1, 30), (48, true, 9, 5)] {
        let plan = forward_plan(hidden, bidirectional, batch, steps);
        let alone: Vec<_> = (0..4)
            .map(|seed| {
                let fresh = weights(&plan, 7);
                let machine =
                    Machine::new(plan.clone(), |k| fresh[k].clone()).unwrap().with_threads(Threads::Exactly(1));
                results(&machine, &plan, seed)
            })
            .collect();
        for threads in [Threads::Exactly(1), Threads::Exactly(3), Threads::AtMost(4)] {
            let shared = weights(&plan, 7);
            let start = Barrier::new(4);
            std::thread::scope(|scope| {
                for (seed, alone) in alone.iter().enumerate() {
                    let (plan, shared, start) = (&plan, &shared, &start);
                    scope.spawn(move || {
                        let machine = Machine::new(plan.clone(), |k| shared[k].clone()).unwrap().with_threads(threads);
                        start.wait();
                        for _ in 0..20 {
                            assert!(results(&machine, plan, seed as u64) == *alone, "H = {hidden} on {threads:?}");
                        }
                    });
                }
            });
        }
    }
}

/// Threads of a rayon pool take up other runs while they wait, so a run that they start waits for nobody.
#[test]
fn runs_on_threads_of_a_rayon_pool_end() {
    let plan = forward_plan(96, false, 20, 6);
    let shared = weights(&plan, 7);
    let fresh = weights(&plan, 7);
    let alone = results(&Machine::new(plan.clone(), |k| fresh[k].clone()).unwrap(), &plan, 0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    pool.scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|_| {
                let machine =
                    Machine::new(plan.clone(), |k| shared[k].clone()).unwrap().with_threads(Threads::Exactly(3));
                assert!(results(&machine, &plan, 0) == alone);
            });
        }
    });
}

/// Streams of one layer, fed from threads of their own.
#[test]
fn streams_of_one_layer_run_on_threads_of_their_own() {
    let layer = Lstm::new(40).layers(2).build(&Device::cpu(), 5, 3).unwrap();
    let inputs: Vec<Array3<f32>> = (0..3).map(|seed| Draw::new(seed).array3((8, 12, 5))).collect();
    let expected: Vec<_> = inputs.iter().map(|x| layer.forward(x.view(), None).unwrap().output).collect();
    std::thread::scope(|scope| {
        for (x, expected) in inputs.iter().zip(&expected) {
            let mut stream = layer.stream(8).unwrap();
            scope.spawn(move || {
                for _ in 0..20 {
                    stream.reset_all();
                    for (step, x) in x.axis_chunks_iter(ndarray::Axis(1), 1).enumerate() {
                        let y = stream.feed(x).unwrap();
                        let expected = expected.slice(ndarray::s![.., step..step + 1, ..]);
                        assert!(y.iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-6), "step {step}");
                    }
                }
            });
        }
    });
}

/// Models that train at the same time, each with as many threads as it likes, do not change each other's bits.
#[test]
fn models_train_at_the_same_time() {
    let train = |threads: usize, seed: u64| {
        let device = Device::cpu_threads(threads);
        let layers = Sequential::new(3).add(Lstm::new(48).bidirectional(true)).add(Dense::new(2));
        let mut model = layers.build(&device, seed).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(5e-3)).unwrap();
        let x = Draw::new(seed).array3((32, 8, 3));
        let y = Draw::new(seed + 1).array3((32, 1, 2)).remove_axis(ndarray::Axis(1));
        let history = model.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(16)).unwrap();
        history.loss.iter().map(|loss| loss.to_bits()).collect::<Vec<_>>()
    };
    let alone: Vec<_> = (0..3).map(|seed| train(1, seed)).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3u64).map(|seed| scope.spawn(move || train(seed as usize * 2, seed))).collect();
        for (thread, alone) in threads.into_iter().zip(&alone) {
            assert_eq!(thread.join().unwrap(), *alone);
        }
    });
}

#[test]
fn a_device_has_the_threads_that_were_asked_for() {
    assert_eq!(Device::cpu_threads(3).threads(), Some(3));
    assert_eq!(Device::cpu_threads(1).threads(), Some(1));
    assert_eq!(Device::cpu_threads(0).threads(), Device::cpu().threads());
    assert_eq!(Device::cpu_threads(usize::MAX).threads(), Some(1024));
}

/// The process's default is read once, so each value has a process: this test binary, with one test.
#[test]
fn the_variable_sets_the_default() {
    const TELL: &str = "WGPU_LSTM_TEST_TELLS_THREADS";
    if std::env::var_os(TELL).is_some() {
        println!("threads: {:?}", Device::cpu().threads().unwrap());
        return;
    }
    let told = |value: &str| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["the_variable_sets_the_default", "--exact", "--nocapture"]).env(TELL, "1");
        let output = command.env("WGPU_LSTM_THREADS", value).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let at = text.find("threads: ").unwrap_or_else(|| panic!("{text}")) + "threads: ".len();
        text[at..].split_whitespace().next().unwrap().parse::<usize>().unwrap()
    };
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(told("3"), 3);
    assert_eq!(told("1"), 1);
    for default in ["0", "", "-2", "many", "5000"] {
        assert_eq!(told(default), processors, "{default:?}");
    }
}
