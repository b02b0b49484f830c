//! Plans without any device: their order, their sizes, the hazards that a check must find, and what they print.

use wgpu_lstm::kernel::{self, Access};
use wgpu_lstm::network::{Batch, Node, Purpose, gradients, network};
use wgpu_lstm::plan::{Plan, PlanContents, Role};
use wgpu_lstm::schedule::Builder;
use wgpu_lstm::{
    Bias, Capabilities, Cell, Clip, Dense, Device, Embedding, Error, Loss, Lstm, Optimiser, Strategy, Update,
};

fn layers(lstm: Lstm, input: usize) -> Vec<Node> {
    let output = lstm.output();
    vec![Node::new("lstm", input, lstm), Node::new("dense", output, Dense::new(3))]
}

fn training_plan(lstm: Lstm, batch: usize, steps: usize, capabilities: &Capabilities) -> Result<Plan, Error> {
    let update = Update::new(Optimiser::adam(1e-3)).clip(Clip::Norm(1.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    Ok(network(&layers(lstm, 5), Batch::new(batch, steps), purpose, capabilities)?.plan)
}

fn small(bytes: u64) -> Capabilities {
    Capabilities { max_binding_bytes: bytes, ..Capabilities::default() }
}

/// One dispatch a step, whatever the size.
fn per_step() -> Capabilities {
    Capabilities { strategy: Some(Strategy::PerStep), ..Capabilities::default() }
}

fn products(plan: &Plan) -> usize {
    ["matmul", "matmul_skinny", "matmul_skinny_dense", "matmul_registers"]
        .iter()
        .map(|name| plan.dispatches_of(name))
        .sum()
}

#[test]
fn one_dispatch_a_step_and_layer_for_both_directions() {
    for directions in [1, 2] {
        let lstm = Lstm::new(8).layers(3).bidirectional(directions == 2);
        let plan = training_plan(lstm, 4, 11, &per_step()).unwrap();
        assert_eq!(plan.dispatches_of("step_forward"), 3 * 11);
        assert_eq!(plan.dispatches_of("step_backward"), 3 * 11);
        // W·x: one product a layer and direction; dW, dR likewise; dX for all layers but the first; the dense layer has
        // three (forward, dW, dX)
        let expected = 3 * directions + 2 * 3 * directions + 2 * directions + 3;
        assert_eq!(products(&plan), expected);
        assert_eq!(plan.dispatches_of("adam"), 3 * 3 + 2);
    }
}

#[test]
fn kernels_come_in_the_order_of_the_algorithm() {
    let plan = training_plan(Lstm::new(4), 2, 3, &per_step()).unwrap();
    let mut names: Vec<&str> = plan.commands.iter().map(|command| command.call.kernel.name).collect();
    // Any product will do here; a dense layer of few rows is one, with its bias.
    names.iter_mut().filter(|name| name.starts_with("matmul")).for_each(|name| *name = "matmul");
    names.dedup();
    assert_eq!(
        names,
        [
            "fill",
            "matmul",
            "step_forward", // W·x, then the steps
            "matmul",
            "loss",
            "reduce", // the dense layer and the loss
            "matmul",
            "column_sum",
            "matmul", // its dW, db, dx
            "copy",
            "fill",
            "step_backward",
            "matmul",
            "column_sum", // R transposed, the steps back, dW and dR, db
            "reduce",
            "clip",
            "adam",
        ]
    );
    // Steps read what the step before wrote: their slots follow each other.
    let steps = plan.commands.iter().filter(|command| command.call.kernel.name == "step_forward");
    let slots: Vec<u32> = steps.map(|command| command.call.params::<kernel::ScanForward>().h_in).collect();
    assert_eq!(slots, [0, 8, 16]);
}

/// On devices without threads to spare, a layer whose weights a core keeps close goes through all steps in one dispatch, up to the
/// turns that a shader's loops may take; larger ones take a dispatch a step; either can be asked for.
#[test]
fn the_strategy_follows_the_size() {
    let dispatches = |hidden, steps, strategy| {
        let capabilities = Capabilities { strategy, shared_terms: false, ..Capabilities::default() };
        let plan = training_plan(Lstm::new(hidden), 2, steps, &capabilities).unwrap();
        assert_eq!(plan.dispatches_of("scan_forward"), plan.dispatches_of("scan_backward"));
        (plan.dispatches_of("scan_forward"), plan.strategy.contains("whole sequence:"))
    };
    assert_eq!(dispatches(128, 100, None), (1, true));
    assert_eq!(dispatches(129, 100, None), (100, false));
    assert_eq!(dispatches(128, 1000, None), (4, true)); // 158 turns a step
    assert_eq!(dispatches(8, 100, Some(Strategy::PerStep)), (100, false));
    assert_eq!(dispatches(300, 8, Some(Strategy::WholeSequence)), (1, true));
}

/// On devices whose threads share terms, the model of cost chooses among what a workgroup of the device holds.
#[test]
fn the_model_of_cost_chooses_the_strategy() {
    let dispatches = |hidden, steps, strategy, workgroup_threads| {
        let capabilities = Capabilities { strategy, workgroup_threads, ..Capabilities::default() };
        let plan = training_plan(Lstm::new(hidden), 2, steps, &capabilities).unwrap();
        let whole = ["sequence_forward", "sequence_backward"].map(|kernel| plan.dispatches_of(kernel));
        let single = ["step_forward", "step_backward"].map(|kernel| plan.dispatches_of(kernel));
        assert_eq!(whole[0] > 0, plan.strategy.contains("whole sequence:"), "{}", plan.strategy);
        (whole, single, plan.strategy.clone())
    };
    let (whole, single, _) = dispatches(32, 100, None, 256);
    assert_eq!((whole, single), ([1, 1], [0, 0]));
    let (whole, single, _) = dispatches(512, 20, None, 256);
    assert_eq!((whole, single), ([0, 0], [20, 20]));
    let (whole, single, _) = dispatches(8, 20, Some(Strategy::PerStep), 256);
    assert_eq!((whole, single), ([0, 0], [20, 20]));
    let (whole, single, strategy) = dispatches(300, 8, Some(Strategy::WholeSequence), 256);
    assert_eq!((whole[0], single[0]), (0, 8), "forward, a unit needs a thread");
    assert!(strategy.contains("H = 300 is more than a workgroup of this device holds"), "{strategy}");
    let (whole, single, strategy) = dispatches(300, 8, Some(Strategy::WholeSequence), 1024);
    assert_eq!((whole, single), ([1, 1], [0, 0]));
    assert!(strategy.contains("as asked for"), "{strategy}");
}

/// In inference, layers of few rows that go step by step take their steps along the diagonal.
#[test]
fn stacks_step_along_the_diagonal() {
    let plan = |hidden, count, batch, steps, capabilities: &Capabilities| {
        let lstm = layers(Lstm::new(hidden).layers(count), 5);
        network(&lstm, Batch::new(batch, steps), Purpose::Predict, capabilities).unwrap().plan
    };
    let whole = plan(512, 3, 2, 100, &Capabilities::default());
    assert_eq!(
        (whole.dispatches_of("stack_step"), whole.dispatches_of("step_forward")),
        (102, 0),
        "{}",
        whole.strategy
    );
    assert!(whole.strategy.contains("along the diagonal"), "{}", whole.strategy);
    // Weights that are copied for too little, many rows, and devices without threads to spare
    for (hidden, batch, steps, shared_terms) in [(512, 2, 3, true), (512, 64, 100, true), (64, 2, 20, false)] {
        let capabilities = Capabilities { shared_terms, ..per_step() };
        let plan = plan(hidden, 3, batch, steps, &capabilities);
        assert_eq!(plan.dispatches_of("stack_step"), 0, "{hidden} {batch} {steps}");
    }
}

/// Every size of plan passes its own check, and chunked plans keep the limit.
#[test]
fn plans_of_all_sizes_check_out() {
    for directions in [1usize, 2] {
        for layers in 1..=3 {
            for (batch, steps, hidden) in [(1, 1, 1), (3, 7, 5), (2, 9, 16), (5, 13, 3)] {
                for cell in [Cell::Standard, Cell::Article] {
                    for bytes in [1 << 27, 40_000, 3_000] {
                        let lstm = Lstm::new(hidden).layers(layers).bidirectional(directions == 2).cell(cell);
                        match training_plan(lstm, batch, steps, &small(bytes)) {
                            Ok(plan) => assert!(plan.buffers.iter().all(|buffer| buffer.bytes() <= bytes)),
                            // Only what cannot be split along time may be too large.
                            Err(Error::TooLarge { needed, available, .. }) => {
                                assert!(needed > available && bytes == 3_000)
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn long_sequences_are_split_along_time() {
    // h: 2·8 floats a step and slot, W·x 4 times that: 256 bytes a step, so 4096 bytes hold 15 steps and a slot
    let plan = training_plan(Lstm::new(8), 2, 100, &small(4096)).unwrap();
    let chunks = plan.buffers.iter().filter(|buffer| buffer.name.starts_with("lstm.l0.h[")).count();
    assert_eq!(chunks, 7);
    assert!(plan.to_string().contains("time is split into 7 chunks of at most 15 steps"), "{plan}");
}

#[test]
fn what_cannot_fit_says_what_it_needs_and_what_there_is() {
    let error = training_plan(Lstm::new(64), 100, 3, &small(64_000)).unwrap_err();
    // 100 rows of 5 inputs are small; one step of W·x is 100·256 floats, and a chunk needs two
    let Error::TooLarge { needed, available, .. } = &error else { panic!("{error}") };
    assert_eq!((*needed, *available), (2 * 100 * 256 * 4, 64_000));
    assert!(error.to_string().contains("204800 bytes, the device offers 64000"), "{error}");

    let limited = Capabilities { memory_bytes: Some(10_000), ..Capabilities::default() };
    let error = training_plan(Lstm::new(16), 8, 10, &limited).unwrap_err();
    assert!(matches!(error, Error::TooLarge { available: 10_000, .. }), "{error}");

    let groups = Capabilities { max_groups: 3, ..Capabilities::default() };
    let error = training_plan(Lstm::new(64), 8, 10, &groups).unwrap_err();
    assert!(error.to_string().contains("workgroups"), "{error}");

    for broken in [Lstm::new(0), Lstm::new(4).layers(0)] {
        let error = training_plan(broken, 2, 3, &Capabilities::default()).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
    }
    assert!(training_plan(Lstm::new(4), 0, 3, &Capabilities::default()).is_err());
    assert!(training_plan(Lstm::new(usize::MAX), 2, 3, &Capabilities::default()).is_err());
    assert!(training_plan(Lstm::new(1 << 27), 1 << 27, 3, &Capabilities::default()).is_err());
}

fn broken(change: impl Fn(&mut Plan)) -> String {
    let mut plan = training_plan(Lstm::new(4).bidirectional(true), 2, 5, &per_step()).unwrap();
    assert!(plan.check(&Capabilities::default()).is_ok());
    change(&mut plan);
    plan.check(&Capabilities::default()).expect_err("the check must find it").to_string()
}

/// Checks that every element that a command reads was written before by an earlier one, or given by the host: exactly,
/// element by element, where the plan's own check takes blocks from end to end.
fn reads_only_what_was_written(plan: &Plan) -> Result<(), String> {
    let given = |role| matches!(role, Role::Input | Role::Weight | Role::Optimiser | Role::State);
    let mut written: Vec<Vec<bool>> =
        plan.buffers.iter().map(|buffer| vec![given(buffer.role); buffer.len as usize]).collect();
    for (index, command) in plan.commands.iter().enumerate() {
        let touches = command.call.touches();
        for (touch, id) in touches.iter().zip(&command.buffers) {
            let mut elements = touch.read.iter().flat_map(|region| region.elements());
            if let Some(element) = elements.find(|&element| !written[id.0][element as usize]) {
                let (kernel, buffer) = (command.call.kernel.name, &plan.buffers[id.0].name);
                return Err(format!(
                    "command {index} ({kernel}) reads element {element} of {buffer} before it is written"
                ));
            }
        }
        for (touch, id) in touches.iter().zip(&command.buffers) {
            touch
                .write
                .iter()
                .flat_map(|region| region.elements())
                .for_each(|element| written[id.0][element as usize] = true);
        }
    }
    for (buffer, written) in plan.buffers.iter().zip(&written) {
        if buffer.role == Role::Output && written.contains(&false) {
            return Err(format!("the host reads {} before it is written", buffer.name));
        }
    }
    Ok(())
}

#[test]
fn nothing_is_read_before_it_is_written() {
    for bidirectional in [false, true] {
        for bytes in [1 << 27, 4096, 2048] {
            for strategy in Strategy::ALL {
                let lstm = Lstm::new(5).layers(2).bidirectional(bidirectional);
                let capabilities = Capabilities { strategy: Some(strategy), ..small(bytes) };
                reads_only_what_was_written(&training_plan(lstm, 3, 11, &capabilities).unwrap()).unwrap();
            }
        }
    }
}

/// Leaving out or moving any command that others depend on is found, so the test above can fail.
#[test]
fn hazards_are_found() {
    let plan = training_plan(Lstm::new(4).bidirectional(true), 2, 5, &per_step()).unwrap();
    for index in 0..plan.commands.len() {
        let mut without = plan.clone();
        let command = without.commands.remove(index);
        // A command that only adds to what stands there leaves no hole.
        let adds = command.call.touches().iter().all(|touch| touch.write.is_none() || touch.read == touch.write);
        let kernel = command.call.kernel.name;
        assert!(
            reads_only_what_was_written(&without).is_err() || adds,
            "leaving out command {index} ({kernel}) was not found"
        );
    }
    let step = plan.commands.iter().position(|command| command.call.kernel.name == "step_forward").unwrap();
    for at in step - 1..step + 4 {
        let mut swapped = plan.clone();
        swapped.commands.swap(at, at + 1);
        assert!(reads_only_what_was_written(&swapped).is_err(), "swapping {at} was not found");
    }
    // The plan's own check, which every plan passes through, finds the coarse ones.
    for kernel in ["loss", "clip", "column_sum", "step_forward"] {
        let first = plan.commands.iter().position(|command| command.call.kernel.name == kernel).unwrap();
        assert!(broken(|plan| drop(plan.commands.remove(first))).contains("before it is written"), "{kernel}");
    }
}

#[test]
fn the_check_finds_wrong_sizes_and_bindings() {
    assert!(broken(|plan| plan.buffers[0].len = 1).contains("which has 1"));
    assert!(broken(|plan| plan.commands[2].buffers.truncate(1)).contains("buffers"));
    assert!(broken(|plan| plan.commands[0].call.params.push(0)).contains("parameters"));
    assert!(broken(|plan| plan.commands[0].call.constants.push(0)).contains("constants"));
    assert!(broken(|plan| plan.buffers[1].name = plan.buffers[0].name.clone()).contains("two buffers"));
    let step = |plan: &Plan| plan.commands.iter().position(|command| command.call.cell.is_some()).unwrap();
    let without = broken(|plan| {
        let at = step(plan);
        plan.commands[at].call.cell = None;
    });
    assert!(without.contains("cell"), "{without}");
    let twice = broken(|plan| {
        let command = plan.commands.iter_mut().find(|command| command.buffers.len() > 1).unwrap();
        *command.buffers.last_mut().unwrap() = command.buffers[0];
    });
    assert!(twice.contains("bound twice"), "{twice}");
}

/// The scratch of a step is never larger than it must be: histories grow with T, the rest does not.
#[test]
fn inference_keeps_two_slots_of_the_cell_state() {
    let plan = Lstm::new(8).plan(3, 2, 1000, &Capabilities::default()).unwrap();
    let c = &plan.buffers[plan.find("lstm.l0.c").unwrap().0];
    assert_eq!(c.len, 2 * 2 * 8);
    assert!(plan.buffers.iter().all(|buffer| buffer.role != Role::Optimiser));
}

/// Tensors of a training step for every time step and row: per layer h, c and what the cell keeps; W·x and the gate
/// gradients once for all layers; the gradients of the layers' inputs; and one batch with its target, gradient and loss.
#[test]
fn memory_of_a_training_step_follows_the_formula() {
    let (input, hidden, layers, batch) = (5u64, 12u64, 3u64, 7u64);
    for cell in [Cell::Standard, Cell::Article] {
        let lstm = || Lstm::new(hidden as usize).layers(layers as usize).cell(cell).return_sequences(true);
        let layer = |name: &str| Node::new(name, input as usize, lstm());
        let update = Update::new(Optimiser::adam(1e-3));
        let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
        let bytes = |steps| {
            let network =
                network(&[layer("lstm")], Batch::new(batch as usize, steps), purpose, &Capabilities::default())
                    .unwrap();
            assert!(network.plan.to_string().contains("buffers: "), "a plan prints its memory");
            network.plan.bytes()
        };
        let reserve = layers * (2 + cell.spec().saved as u64) * hidden;
        let scratch = 4 * hidden + 4 * hidden + (layers - 1) * hidden;
        let one_batch = input + 2 * hidden + 1; // x, target and its gradient, loss
        let loss_sums = 1; // may grow by an element where another slice of losses begins
        // from here on, products in parts have all the parts that they may have
        let grown = bytes(800) - bytes(700);
        let expected = 100 * batch * 4 * (reserve + scratch + one_batch);
        assert!(grown >= expected && grown <= expected + 4 * loss_sums, "{cell:?}: {grown}, expected {expected}");
    }
}

#[test]
fn weights_are_only_read_before_the_optimiser() {
    let plan = training_plan(Lstm::new(4).layers(2).bias(Bias::None), 2, 5, &Capabilities::default()).unwrap();
    for command in &plan.commands {
        for (binding, id) in command.call.kernel.bindings.iter().zip(&command.buffers) {
            if plan.buffers[id.0].role == Role::Weight && binding.access == Access::ReadWrite {
                assert_eq!(command.call.kernel.name, "adam");
            }
        }
    }
}

#[test]
fn a_plan_prints_what_it_does() {
    let plan = training_plan(Lstm::new(8).layers(2).bidirectional(true), 4, 16, &Capabilities::default()).unwrap();
    let text = plan.to_string();
    for part in [
        "training step: T = 16, B = 4",
        "strategy: lstm: whole sequence",
        "lstm layer 1 backward",
        "sequence_forward",
        "optimiser (Adam)",
        "FLOPs",
        "floor: ",
        "weight 8",
        "total",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(plan.flops(), plan.commands.iter().map(|command| command.call.flops()).sum::<u64>());
    // The forward steps of layer 0: T steps of D·B·H·(8H + 30)
    let forward: u64 = plan
        .commands
        .iter()
        .filter(|command| {
            command.call.kernel.name == "sequence_forward" && plan.sections[command.section].contains("layer 0")
        })
        .map(|command| command.call.flops())
        .sum();
    assert_eq!(forward, 16 * 2 * 4 * 8 * (8 * 8 + 30));
}

#[test]
fn gradient_plans_are_for_layers_whose_input_has_a_gradient() {
    let dense = Node::new("dense", 3, Dense::new(2));
    assert!(gradients(&dense, Batch::new(1, 1), &Capabilities::default()).is_ok());
    let embedding = Node::new("embedding", 1, Embedding::new(5, 2));
    let error = gradients(&embedding, Batch::new(1, 1), &Capabilities::default()).unwrap_err();
    assert!(error.to_string().contains("the input of embedding has no gradient"), "{error}");
}

/// If C has few tiles and the sums are long, as in weights' gradients, workgroups share the terms.
#[test]
fn long_sums_of_small_matrices_are_made_in_parts() {
    let product = kernel::Matmul::plain(96, 80, 3000);
    let plan_for = |busy_threads, product| {
        let mut builder = Builder::new("product", Capabilities { busy_threads, ..Capabilities::default() });
        let a = builder.buffer("a", 96 * 3000, Role::Input).unwrap();
        let b = builder.buffer("b", 80 * 3000, Role::Input).unwrap();
        let c = builder.buffer("c", 96 * 80, Role::Input).unwrap();
        builder.matmul(product, a, b, c);
        (builder.finish().unwrap(), [a, b, c])
    };
    let (whole, [a, b, c]) = plan_for(1, product);
    assert_eq!(whole.dispatches_of("matmul"), 1);
    assert_eq!(whole.dispatches_of("column_sum_few"), 0);
    for (product, busy) in [(product, 1 << 16), (kernel::Matmul { accumulate: 1, ..product }, 1 << 14)] {
        let (parts, _) = plan_for(busy, product);
        assert_eq!((parts.dispatches_of("matmul"), parts.dispatches_of("column_sum_few")), (1, 1));
        let values = |len: usize, by: usize| (0..len).map(|k| ((k * by) % 17) as f32 * 0.1 - 0.8).collect::<Vec<_>>();
        let results: Vec<Vec<f32>> = [parts, plan_for(1, product).0]
            .into_iter()
            .map(|plan| {
                let executable = Device::cpu().compile(plan).unwrap();
                executable.write((a, 0), &values(96 * 3000, 5)).unwrap();
                executable.write((b, 0), &values(80 * 3000, 7)).unwrap();
                executable.write((c, 0), &values(96 * 80, 3)).unwrap();
                executable.run().unwrap();
                executable.read((c, 0), 96 * 80).unwrap()
            })
            .collect();
        let largest = results[1].iter().fold(1.0f32, |most, value| most.max(value.abs()));
        for (part, whole) in results[0].iter().zip(&results[1]) {
            assert!((part - whole).abs() <= 1e-5 * largest, "{part} instead of {whole}");
        }
    }
}

/// Kernels run without checks of their indices, so constants that would make them leave a buffer are refused.
#[test]
fn constants_that_do_not_fit_the_sizes_are_refused() {
    let product = kernel::Matmul::plain(8, 6, 4); // six columns do not come by fours
    let mut builder = Builder::new("product", Capabilities::default());
    let [a, b, c] =
        [("a", 32), ("b", 24), ("c", 48)].map(|(name, len)| builder.buffer(name, len, Role::Input).unwrap());
    let constants = kernel::MatmulRegistersConstants { rows: 8, a_along_k: true, b_along_n: true };
    builder.push(&kernel::MATMUL_REGISTERS, None, &constants, &product, &[a, b, c]);
    assert!(matches!(builder.finish(), Err(Error::Plan(_))));

    // Six units do not come by fours; others are no values of their constants, or leave rows, units or sums without a place.
    let scan: &[(&str, u32)] = &[("SPAN", 4), ("DROP", 2), ("CARRIES", 4), ("MEMORY", 64)];
    let sequence: &[(&str, u32)] =
        &[("SPAN", 1), ("DROP", 2), ("CARRIES", 4), ("ROWS", 3), ("UNITS", 4), ("THREADS", 7), ("MEMORY", 1)];
    for (shared_terms, kernel, wrong) in [(false, "scan_backward", scan), (true, "sequence_backward", sequence)] {
        let capabilities = Capabilities { shared_terms, ..Capabilities::default() };
        let mut plan = training_plan(Lstm::new(6), 9, 3, &capabilities).unwrap();
        plan.check(&capabilities).unwrap();
        let at = plan.commands.iter().position(|command| command.call.kernel.name == kernel).unwrap();
        let given = plan.commands[at].call.clone();
        for &(name, value) in wrong {
            let place = given.kernel.constants.iter().position(|constant| *constant == name).unwrap();
            plan.commands[at].call = given.clone();
            plan.commands[at].call.constants[place] = value;
            assert!(matches!(plan.check(&capabilities), Err(Error::Plan(_))), "{kernel}: {name}");
        }
    }
}

/// GPUs run the scheduler's own plans without checks of indices, and no others.
#[test]
fn only_unchanged_plans_of_the_scheduler_are_trusted() {
    let capabilities = Capabilities::default();
    let update = Update::new(Optimiser::adam(1e-3));
    let layers = [Node::new("lstm", 3, Lstm::new(4)), Node::new("dense", 4, Dense::new(2))];
    let train = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    for purpose in [Purpose::Predict, train] {
        let plan = network(&layers, Batch::new(2, 3), purpose, &capabilities).unwrap().plan;
        assert!(plan.is_trusted() && plan.clone().is_trusted());
        type Change = fn(&mut Plan);
        let changes: [Change; 4] = [
            |plan| plan.commands.reverse(),
            |plan| plan.commands[0].call.params[0] = 1,
            |plan| plan.buffers[0].len += 1,
            |plan| **plan = PlanContents::default(),
        ];
        for change in changes {
            let mut changed = plan.clone();
            change(&mut changed);
            assert!(!changed.is_trusted());
        }
    }
    let mut builder = Builder::new("by hand", capabilities);
    let ones = builder.buffer("ones", 4, Role::Output).unwrap();
    builder.fill(ones, 0..4, 1.0);
    assert!(!builder.finish().unwrap().is_trusted());
}
