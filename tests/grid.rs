//! Layers as grids: workgroups that wait for each other after each step. Outputs against the naive f64 oracle and gradients against the CPU,
//! whether the workgroups met or not: a software adapter runs only as many side by side as it has threads, and those only if the processors
//! are free, so that both happen here. Then the barrier's algorithm itself, simulated by a thread for each workgroup.

mod common;

use common::oracle::{OracleCell, OracleLstm, OracleWeights};
use common::{Draw, close};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, fence};
use std::time::Duration;
use wgpu_lstm::cell::CELLS;
use wgpu_lstm::kernel::{self, Carries, Constants};
use wgpu_lstm::plan::Role;
use wgpu_lstm::schedule::Builder;
use wgpu_lstm::{AdapterKind, Capabilities, Device, GpuOptions, Grid, Lstm, Software, Strategy};

fn device(grid: Grid, max_binding_bytes: Option<u64>) -> Device {
    let options = GpuOptions {
        grid,
        max_binding_bytes,
        strategy: Some(Strategy::Grid),
        software: Software::Fallback,
        schedule_as: Some(AdapterKind::Discrete),
        ..GpuOptions::default()
    };
    Device::gpu(&options).unwrap_or_else(|error| panic!("{error}"))
}

/// Dispatches of grids and of repairs that a layer's forward pass has on a device.
fn dispatches(device: &Device, lstm: &Lstm, [t, b, i]: [usize; 3]) -> [usize; 2] {
    let grid_workgroups = device.grid().unwrap_or(0);
    let capabilities = Capabilities { grid_workgroups, ..device.capabilities().clone() };
    let plan = lstm.plan(i, b, t, &capabilities).unwrap();
    ["grid_forward", "grid_repair"].map(|kernel| plan.dispatches_of(kernel))
}

/// A forward pass and gradients of a layer on a device.
fn agree(device: &Device, [t, b, i, h, l]: [usize; 5], bidirectional: bool, seed: u64) {
    let what = format!("T B I H L {:?} bidirectional {bidirectional}", [t, b, i, h, l]);
    let mut draw = Draw::new(seed);
    let config = Lstm::new(h).layers(l).bidirectional(bidirectional);
    let layer = config.clone().build(device, i, seed).unwrap();
    let x = draw.array3((b, t, i));
    let out = layer.forward(x.view(), None).unwrap();
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let parameters = layer.parameters().unwrap();
    let suffixes = ["", "_reverse"].into_iter().take(config.directions());
    let names = (0..l).flat_map(|layer| suffixes.clone().map(move |suffix| format!("_l{layer}{suffix}")));
    let weights = names.map(|name| {
        let [w_ih, w_hh, b_ih, b_hh] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            .map(|kind| wide(parameters[&format!("{kind}{name}")].as_slice().unwrap()));
        OracleWeights { w_ih, w_hh, b_ih, b_hh }
    });
    let (cell, directions) = (OracleCell::Standard, config.directions());
    let oracle = OracleLstm { cell, input: i, hidden: h, layers: l, directions, weights: weights.collect() };
    let zeros = vec![0.0; l * directions * b * h];
    let expected = oracle.forward(&wide(x.as_slice().unwrap()), b, t, &zeros, &zeros);
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
    // f32 against f64, as in tests/oracle.rs.
    close(&format!("{what} output"), &out.output, &narrow(&expected.output), 1e-5, 1e-5);
    close(&format!("{what} h_n"), &out.state.h, &narrow(&expected.h_n), 1e-5, 1e-5);
    close(&format!("{what} c_n"), &out.state.c, &narrow(&expected.c_n), 1e-5, 1e-5);

    let cpu = config.build(&Device::cpu(), i, seed).unwrap();
    let d_output = draw.array3((b, t, directions * h));
    let [given, expected] = [&layer, &cpu].map(|layer| layer.gradients(x.view(), None, d_output.view(), None).unwrap());
    close(&format!("{what} dx"), &given.x, &expected.x, 1e-5, 1e-5);
    for (name, gradient) in &given.parameters {
        // Sums over T x B rows, in another order.
        close(&format!("{what} {name}"), gradient, &expected.parameters[name], 1e-4, 1e-5);
    }
}

/// Sizes whose units are few workgroups, or whose last workgroup is not full.
const SIZES: [[usize; 5]; 6] =
    [[2, 1, 3, 4, 1], [9, 3, 2, 12, 2], [7, 5, 4, 44, 1], [40, 2, 3, 64, 1], [3, 16, 5, 100, 1], [6, 2, 3, 256, 1]];

/// A plan with grids on the CPU executor, by the kernels' twins.
#[test]
fn grids_on_the_cpu() {
    let device = Device::cpu_with(Capabilities {
        grid_workgroups: 64,
        strategy: Some(Strategy::Grid),
        ..Capabilities::default()
    });
    for (seed, size) in SIZES.into_iter().enumerate() {
        let [t, b, i, h, l] = size;
        let capabilities = device.capabilities();
        let plan = Lstm::new(h).layers(l).plan(i, b, t, capabilities).unwrap();
        assert!(plan.dispatches_of("grid_forward") >= l && plan.dispatches_of("grid_repair") >= l, "{size:?}");
        agree(&device, size, seed % 2 == 1, seed as u64);
    }
}

/// With a mask on h' the layer is none that a grid computes.
#[test]
fn layers_with_recurrent_dropout_run_without_grids() {
    let capabilities = Capabilities { grid_workgroups: 64, strategy: Some(Strategy::Grid), ..Capabilities::default() };
    let grids = |lstm: Lstm| lstm.plan(3, 2, 20, &capabilities).unwrap().dispatches_of("grid_forward");
    assert_eq!(grids(Lstm::new(32)), 1);
    assert_eq!(grids(Lstm::new(32).recurrent_dropout(0.5)), 0);
    assert_eq!(grids(Lstm::new(30)), 0);
}

mod on_adapter {
    use super::*;

    /// As many workgroups as a dispatch may have until it is not a grid any more.
    #[test]
    fn grids_of_few_workgroups() {
        for workgroups in [1, 2, 4] {
            for (seed, size) in SIZES.into_iter().enumerate() {
                for bidirectional in [false, true] {
                    let device = device(Grid::Assume(workgroups), None);
                    agree(&device, size, bidirectional, seed as u64);
                    println!("{workgroups} workgroups, {size:?} {bidirectional}: {:?}", device.grid());
                }
            }
        }
    }

    /// The steps by themselves, again and again, with as much patience as a software adapter's loops allow: whenever all workgroups
    /// finished, their results are those of the twin.
    #[test]
    fn workgroups_that_met_are_right() {
        let device = device(Grid::Assume(8), None);
        for (workgroups, batch, hidden) in [(2, 1, 64), (2, 3, 24), (4, 2, 64)] {
            let expected = steps(&Device::cpu(), workgroups, batch, hidden).0;
            let mut met = 0;
            for _ in 0..40 {
                let (given, finished) = steps(&device, workgroups, batch, hidden);
                if finished {
                    met += 1;
                    close("h", &given, &expected, 1e-5, 1e-5);
                }
            }
            println!("{workgroups} workgroups, B = {batch}, H = {hidden}: {met} of 40 met");
        }
    }

    /// The history of h after steps of a grid without a repair, and true if all workgroups finished.
    fn steps(device: &Device, workgroups: u32, batch: u32, hidden: u32) -> (Vec<f32>, bool) {
        const STEPS: u32 = 5;
        let (units, threads) = (hidden / workgroups, 4 * hidden / workgroups);
        let constants = kernel::ScanForwardConstants {
            h: hidden,
            k: hidden,
            train: true,
            drop: false,
            carries: Carries(0),
            kinds: wgpu_lstm::cell::Settings::default().kinds(),
            rows: batch.next_power_of_two(),
            units,
            span: 1,
            threads,
            terms: hidden,
            heads: 1,
            memory: 4 * threads.max(hidden),
        };
        let spins = 50_000;
        let params = kernel::ScanForward {
            batch,
            directions: 1,
            biases: 1,
            steps: STEPS,
            c_out: batch * hidden,
            total_steps: STEPS,
            site: 1,
            zoneout_c: spins,
            ..bytemuck::Zeroable::zeroed()
        };
        let words: &[u32] = bytemuck::cast_slice(bytemuck::bytes_of(&params));
        let kernel = &kernel::GRID_FORWARD;
        let cell = CELLS.iter().find(|cell| cell.name == "standard").unwrap();
        let constants = constants.values();
        let call = kernel::Call { kernel, cell: Some(cell), constants: constants.clone(), params: words.to_vec() };
        let mut plan = Builder::new("steps of a grid", device.capabilities().clone());
        let ends: Vec<u64> = call.touches().iter().map(|touch| touch.end().max(1)).collect();
        let buffers: Vec<_> =
            kernel.bindings.iter().zip(&ends).map(|(b, &len)| plan.buffer(b.name, len, Role::Input).unwrap()).collect();
        plan.push_words(kernel, Some(cell), &constants, words, &buffers);
        // SAFETY: the buffers are as long as the kernel's `touches` asks for.
        let executable = device.compile(unsafe { plan.finish().unwrap().trust() }).unwrap();
        let mut draw = Draw::new(3);
        for (&buffer, (&len, binding)) in buffers.iter().zip(ends.iter().zip(kernel.bindings)) {
            let clear = ["barrier", "words"].contains(&binding.name);
            let values = if clear { vec![0.0; len as usize] } else { draw.vec(len as usize) };
            executable.write((buffer, 0), &values).unwrap();
        }
        executable.run().unwrap();
        let finished = executable.read((buffers[7], 1), 1).unwrap()[0].to_bits();
        (executable.read((buffers[3], 0), ends[3]).unwrap(), finished == workgroups)
    }

    /// As many workgroups as the litmus allows, be it none.
    #[test]
    fn grids_by_the_litmus() {
        let device = device(Grid::Litmus, None);
        println!("{:?}", device.grid());
        agree(&device, [9, 2, 3, 256, 1], false, 1);
    }

    /// More workgroups than a software adapter has threads: some wait for others that do not begin before they end.
    #[test]
    fn workgroups_that_never_come_are_repaired() {
        let device = device(Grid::Assume(1024), None);
        let [t, b, i, h] = [12, 2, 3, 512];
        let config = Lstm::new(h);
        assert_eq!(dispatches(&device, &config, [t, b, i]), [1, 1]);
        agree(&device, [t, b, i, h, 1], false, 5);
        if !device.is_hardware() {
            assert!(device.grid().unwrap_err().contains("did not come in time"));
            assert_eq!(dispatches(&device, &config, [t, b, i]), [0, 0]);
        }
        agree(&device, [t, b, i, h, 1], false, 6);
    }

    /// Chunks of time have a grid each.
    #[test]
    fn grids_of_chunks_of_time() {
        let device = device(Grid::Assume(2), Some(20_000));
        let config = Lstm::new(32);
        let [grids, repairs] = dispatches(&device, &config, [40, 3, 2]);
        assert!(grids > 1 && repairs == grids, "{grids} {repairs}");
        agree(&device, [40, 3, 2, 32, 1], false, 3);
    }
}

/// The barrier of `shaders/common/grid_barrier.wgsl` and the steps of a grid, with a thread for each workgroup: the same words, the same
/// relaxed atomics between the same fences. The steps are such that each number depends on all of the step before.
mod simulated {
    use super::*;

    const GAVE_UP: u32 = 1 << 31;

    /// The twin of `all_arrived`.
    fn all_arrived(word: &AtomicU32, all: u32, spins: &mut u32) -> bool {
        fence(std::sync::atomic::Ordering::Release);
        let mut count = word.fetch_add(1, Relaxed) + 1;
        while count < all && *spins > 0 {
            *spins -= 1;
            std::thread::yield_now();
            count = word.load(Relaxed);
        }
        if count < all {
            word.fetch_or(GAVE_UP, Relaxed);
        }
        fence(std::sync::atomic::Ordering::Acquire);
        (all..GAVE_UP).contains(&count)
    }

    /// Trouble that a workgroup has before a step.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Trouble {
        None,
        /// Is late.
        Late(Duration),
        /// Ends without a word, or, before the first step, never comes.
        Gone,
    }

    fn next(unit: u32, before: impl Iterator<Item = u32>) -> u32 {
        before.fold(unit, |sum, h| sum.wrapping_mul(31).wrapping_add(h))
    }

    /// Steps one after the other.
    fn repair(h: &[Vec<AtomicU32>]) {
        for (before, after) in h.iter().zip(&h[1..]) {
            for (unit, to) in (0..).zip(after) {
                to.store(next(unit, before.iter().map(|h| h.load(Relaxed))), Relaxed);
            }
        }
    }

    fn history(steps: usize, hidden: usize) -> Vec<Vec<AtomicU32>> {
        (0..=steps).map(|step| (0..hidden).map(|unit| AtomicU32::new((step * 7 + unit) as u32)).collect()).collect()
    }

    fn values(h: &[Vec<AtomicU32>]) -> Vec<Vec<u32>> {
        h.iter().map(|step| step.iter().map(|h| h.load(Relaxed)).collect()).collect()
    }

    /// Runs a grid; true if all workgroups finished. Then its history is right, else a repair makes it so.
    fn grid(workgroups: usize, steps: usize, spins: u32, trouble: impl Fn(usize, usize) -> Trouble + Sync) -> bool {
        const UNITS: usize = 3;
        let h = history(steps, workgroups * UNITS);
        let [finished, arrivals] = [const { AtomicU32::new(0) }; 2];
        std::thread::scope(|scope| {
            for workgroup in 0..workgroups {
                let (h, finished, arrivals, trouble) = (&h, &finished, &arrivals, &trouble);
                scope.spawn(move || {
                    let mut spins = spins;
                    for step in 0..steps {
                        match trouble(workgroup, step) {
                            Trouble::None => {}
                            Trouble::Late(time) => std::thread::sleep(time),
                            Trouble::Gone => return,
                        }
                        if step > 0 && !all_arrived(arrivals, (step * workgroups) as u32, &mut spins) {
                            return;
                        }
                        for unit in workgroup * UNITS..(workgroup + 1) * UNITS {
                            let made = next(unit as u32, h[step].iter().map(|h| h.load(Relaxed)));
                            h[step + 1][unit].store(made, Relaxed);
                        }
                    }
                    fence(std::sync::atomic::Ordering::Release);
                    finished.fetch_add(1, Relaxed);
                });
            }
        });
        let all = finished.load(Relaxed) == workgroups as u32;
        if !all {
            repair(&h);
        }
        let expected = history(steps, workgroups * UNITS);
        repair(&expected);
        assert_eq!(values(&h), values(&expected), "{workgroups} workgroups, {steps} steps, {spins} spins, met {all}");
        all
    }

    #[test]
    fn workgroups_with_patience_meet() {
        for workgroups in [1, 2, 3, 8] {
            for steps in [1, 2, 9] {
                assert!(grid(workgroups, steps, u32::MAX, |_, _| Trouble::None));
            }
        }
        let late = |workgroup: usize, step: usize| match (workgroup * 5 + step * 3) % 7 {
            0 => Trouble::Late(Duration::from_micros(300)),
            _ => Trouble::None,
        };
        assert!(grid(4, 9, u32::MAX, late));
    }

    #[test]
    fn a_workgroup_that_never_comes_ends_in_a_repair() {
        for (missing, from) in [(0, 0), (2, 0), (1, 1), (3, 4), (0, 8)] {
            let trouble = |workgroup: usize, step: usize| match workgroup == missing && step >= from {
                true => Trouble::Gone,
                false => Trouble::None,
            };
            assert!(!grid(4, 9, 1000, trouble), "{missing} {from}");
        }
    }

    /// One that comes after the others gave up must see that, and not take their arrivals for a step's.
    #[test]
    fn a_workgroup_that_comes_too_late_ends_in_a_repair() {
        let trouble = |workgroup: usize, step: usize| match (workgroup, step) {
            (1, 3) => Trouble::Late(Duration::from_millis(20)),
            _ => Trouble::None,
        };
        // Without a spin, only who comes last goes on.
        assert!(!grid(3, 9, 0, trouble));
    }

    /// Whoever meets or does not: a grid that says that it finished is right. Patience and delays vary.
    #[test]
    fn a_grid_that_finished_is_right() {
        let mut draw = Draw::new(11);
        let mut met = 0;
        let rounds = if cfg!(miri) { 12 } else { 300 };
        for _ in 0..rounds {
            let (workgroups, steps, spins) = (1 + draw.below(6), 1 + draw.below(12), draw.below(60) as u32);
            let seed = draw.below(1000);
            met += grid(workgroups, steps, spins, |workgroup, step| match (seed + workgroup * 13 + step * 7) % 50 {
                0 => Trouble::Late(Duration::from_micros(50)),
                1 if seed.is_multiple_of(5) => Trouble::Gone,
                _ => Trouble::None,
            }) as u32;
        }
        println!("{met} of {rounds} met");
    }
}
