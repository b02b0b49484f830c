//! GPUs that fail: every call ends in an error or succeeds, nothing panics or is written to standard error, and a new
//! device works in the same process.
//!
//! `vulkan_fault/layer.c` makes one function of Vulkan fail from a moment on, in a process of its own for every case: this
//! test runs its own binary. It is left out, and says so, where there is no C compiler, header of Vulkan or software adapter.
//! By default each function fails at each moment with one of the codes; `scripts/test --faults` tries them all.

mod common;

use ndarray::{Array2, Array3};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use wgpu_lstm::plan::{BufferId, Role};
use wgpu_lstm::schedule::Builder;
use wgpu_lstm::{
    Dense, Device, Error, Executable, Fit, GpuOptions, Loss, Lstm, Model, Optimiser, Sequential, Software,
};

/// The functions that the layer can make fail.
const FUNCTIONS: [&str; 18] = [
    "CreateDevice",
    "WaitSemaphores",
    "WaitForFences",
    "GetSemaphoreCounterValue",
    "QueueSubmit",
    "QueueWaitIdle",
    "AllocateMemory",
    "MapMemory",
    "CreateBuffer",
    "CreateComputePipelines",
    "CreateShaderModule",
    "AllocateDescriptorSets",
    "CreateDescriptorPool",
    "AllocateCommandBuffers",
    "CreateCommandPool",
    "BeginCommandBuffer",
    "EndCommandBuffer",
    "CreateSemaphore",
];

/// No memory on the host, none on the device, device lost.
const CODES: [i32; 3] = [-1, -2, -4];

/// Moments at which the function begins to fail.
const MOMENTS: [&str; 5] = ["opening", "compiling", "running", "reading", "dropping"];

/// Asks for all codes.
const ALL: &str = "GPU_FAILURES_ALL";
/// Variables of a child.
const MOMENT: &str = "GPU_FAILURES_MOMENT";
const ON: &str = "FAULT_ON";

fn open() -> wgpu_lstm::Result<Device> {
    Device::gpu(&GpuOptions { software: Software::Only, ..GpuOptions::default() })
}

fn model(device: &Device) -> wgpu_lstm::Result<Model> {
    Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(device, 7)
}

fn input() -> Array3<f32> {
    Array3::from_shape_fn((3, 5, 2), |(b, t, i)| (b as f32 - 0.3 * t as f32 + 0.5 * i as f32).sin())
}

/// Four ones that a kernel writes and another copies.
fn ones(device: &Device) -> wgpu_lstm::Result<(Executable, BufferId)> {
    let mut builder = Builder::new("ones", device.capabilities().clone());
    let ones = builder.buffer("ones", 4, Role::Output)?;
    let copy = builder.buffer("copy", 4, Role::Output)?;
    builder.fill(ones, 0..4, 1.0);
    builder.copy_run(4, (ones, 0), (copy, 0));
    Ok((device.compile(builder.finish()?)?, copy))
}

/// Everything that a program does with a device; `begin` is called before each moment but the last.
fn work(begin: &dyn Fn(&str)) -> wgpu_lstm::Result<()> {
    begin("opening");
    let device = open()?;
    begin("compiling");
    let (ones, copy) = ones(&device)?;
    let mut model = model(&device)?;
    model.predict(input().view())?;
    begin("running");
    ones.write((copy, 0), &[2.0; 4])?;
    ones.run()?;
    ones.gpu_milliseconds()?;
    model.predict(input().view())?;
    begin("reading");
    assert_eq!(ones.read((copy, 0), 4)?, [1.0; 4]);
    model.parameters()?;
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    model.fit(input().view(), Array2::zeros((3, 1)).view(), Fit::new().epochs(1))?;
    begin("dropping");
    Ok(())
}

/// A message with its causes.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words} < {}", cause.to_string().replace('\n', " ")))
}

mod on_adapter {
    use super::*;

    /// A child: not a test by itself.
    #[test]
    #[ignore = "run by no_failure_of_the_driver_ends_the_process"]
    fn child() {
        let Ok(moment) = std::env::var(MOMENT) else { return };
        // SAFETY: the process runs this test alone, and drivers read their own variables when they are loaded.
        let begin = |now: &str| {
            if now == moment {
                unsafe { std::env::set_var(ON, "1") }
            }
        };
        let outcome = work(&begin);
        unsafe { std::env::remove_var(ON) }
        match &outcome {
            Ok(()) => println!("outcome: success"),
            Err(error) => println!("outcome: {}", chain(error)),
        }
        if let Err(error) = outcome {
            let known = matches!(
                error,
                Error::NoAdapter { .. }
                    | Error::DeviceRefused { .. }
                    | Error::DeviceFailed { .. }
                    | Error::OutOfMemory { .. }
            );
            assert!(known, "{error:?}");
        }
        // The fault is over: a new device does what the CPU does.
        let given = model(&open().unwrap()).unwrap().predict(input().view()).unwrap();
        let expected = model(&Device::cpu()).unwrap().predict(input().view()).unwrap();
        common::close("after the failure", &given, &expected, 1e-6, 1e-5);
        println!("a new device works");
    }

    #[test]
    fn no_failure_of_the_driver_ends_the_process() {
        let folder = tempfile::tempdir().unwrap();
        if let Err(reason) = build(folder.path()).and_then(|()| open().map(drop).map_err(|error| error.to_string())) {
            println!("skipped: {reason}");
            return;
        }
        let all = std::env::var_os(ALL).is_some();
        let mut cases: Vec<(&str, i32, &str)> = Vec::new();
        for (m, moment) in MOMENTS.into_iter().enumerate() {
            for (f, function) in FUNCTIONS.into_iter().enumerate() {
                let codes = CODES.into_iter().enumerate().filter(|&(c, _)| all || (m + f) % CODES.len() == c);
                cases.extend(codes.map(|(_, code)| (function, code, moment)));
            }
        }
        let next = AtomicUsize::new(0);
        let run = || {
            let mut outcomes = Vec::new();
            while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                outcomes.push((case, judge(case, folder.path())));
            }
            outcomes
        };
        let mut outcomes = std::thread::scope(|scope| {
            let second = scope.spawn(run);
            let mut outcomes = run();
            outcomes.extend(second.join().unwrap());
            outcomes
        });
        outcomes.sort_by_key(|&(case, _)| cases.iter().position(|&known| known == case));
        let wrong: Vec<String> = (outcomes.iter())
            .filter_map(|(case, outcome)| outcome.as_ref().err().map(|why| format!("{case:?}: {why}")))
            .collect();
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        // The layer did make calls fail.
        for (function, moment, words) in [
            (
                "CreateDevice",
                "opening",
                "refused to open a device: its driver did not open it; Device::cpu() runs everything",
            ),
            ("WaitSemaphores", "running", "the device failed during reading results back: "),
            ("QueueSubmit", "running", "the device failed during "),
            ("CreateComputePipelines", "compiling", "the device failed during compiling a plan: "),
            ("CreateBuffer", "compiling", "out of memory: 16 bytes for ones could not be allocated"),
        ] {
            let mut said = outcomes.iter().filter(|(case, _)| (case.0, case.2) == (function, moment));
            assert!(said.any(|(_, said)| said.as_ref().is_ok_and(|said| said.contains(words))), "{function}, {moment}");
        }
    }
}

/// Compiles the layer into a folder.
fn build(folder: &Path) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("the layer is for Linux".into());
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vulkan_fault");
    std::fs::copy(source.join("fault.json"), folder.join("fault.json")).map_err(|error| error.to_string())?;
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([folder.join("libfault.so"), source.join("layer.c")])
        .output()
        .map_err(|error| format!("no C compiler: {error}"))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(format!("the layer does not compile: {}", String::from_utf8_lossy(&made.stderr))),
    }
}

/// Runs a case; what the child said of its outcome, or what is wrong.
fn judge((function, code, moment): (&str, i32, &str), folder: &Path) -> Result<String, String> {
    let output = run(Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "on_adapter::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(MOMENT, moment)
        .env("FAULT_FN", function)
        .env("FAULT_CODE", code.to_string())
        .env("VK_LAYER_PATH", folder)
        .env("VK_INSTANCE_LAYERS", "VK_LAYER_WGPU_LSTM_fault")
        // Mesa looks for a desktop and says so where there is none.
        .env("XDG_RUNTIME_DIR", folder)
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE"))?;
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if !output.status.success() || !err.trim().is_empty() || !out.contains("a new device works") {
        return Err(format!("{}\n{}\n{}", output.status, out.trim(), err.trim()));
    }
    out.lines().find_map(|line| Some(line.split_once("outcome: ")?.1.to_string())).ok_or("no outcome".into())
}

/// A process to its end, or for a minute.
fn run(command: &mut Command) -> Result<Output, String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            return Err(format!("hangs: {}", String::from_utf8_lossy(&output.stdout)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output().unwrap())
}
