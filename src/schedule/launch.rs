//! Launches of the recurrence: how a dispatch is divided among workgroups and threads.

use super::cost;
use super::strategy::MOST_ITERATIONS;
use crate::kernel::{Division, Shares, fused_step_memory, repair_memory};
use crate::plan::{Capabilities, Launch, Recurrence, StepWeights, Strategy};
use std::ops::RangeInclusive;

/// Hidden units of layers for which grids are candidates: smaller ones fit a workgroup, larger ones have work for a device in each step.
const GRID_UNITS: RangeInclusive<u32> = 256..=1024;
/// Most batch rows of such a layer.
const GRID_ROWS: u32 = 16;
/// Least steps that pay for clearing the barrier and for a repair that is not needed.
const GRID_STEPS: u32 = 8;
/// Spins that a workgroup of a grid has for all its barriers, and more of them for each step. A spin takes about as long as a load from
/// memory, and a barrier a few; all together stay below the 65,535 iterations after which some drivers end loops.
const GRID_SPINS: u32 = 16_384;
const GRID_STEP_SPINS: u32 = 64;

/// Spins of a workgroup in a grid's dispatch of so many steps.
pub(crate) fn grid_spins(steps: u32) -> u32 {
    GRID_SPINS.saturating_add(GRID_STEP_SPINS.saturating_mul(steps))
}

/// The strategy that was asked for, of those that the scan has: a layer that cannot run as a grid runs per step.
fn asked_of_scans(capabilities: &Capabilities) -> Option<Strategy> {
    capabilities.strategy.map(|asked| if asked == Strategy::Grid { Strategy::PerStep } else { asked })
}

impl Launch {
    /// The launch for a pass: the device's own choice, if there is one that it can run, else that of [`Launch::by_model`].
    pub fn choose(what: &Recurrence, capabilities: &Capabilities) -> Launch {
        Launch::chosen(what, capabilities).unwrap_or_else(|| Launch::by_model(what, capabilities))
    }

    /// The same among the candidates alone; `None` if there are none.
    pub fn best(what: &Recurrence, capabilities: &Capabilities) -> Option<Launch> {
        Launch::chosen(what, capabilities).or_else(|| Launch::least(what, capabilities))
    }

    /// The launch for a pass that nobody has measured: the candidate of least estimated time, or, without threads to spare, that of
    /// the scan.
    pub fn by_model(what: &Recurrence, capabilities: &Capabilities) -> Launch {
        let least = if capabilities.shared_terms { Launch::least(what, capabilities) } else { None };
        least.unwrap_or_else(|| Launch::scan(what, capabilities))
    }

    /// The device's own choice for a pass.
    fn chosen(what: &Recurrence, capabilities: &Capabilities) -> Option<Launch> {
        let launch = capabilities.choices.recurrence(what)?;
        if Launch::candidates(what, capabilities).contains(&launch) {
            return Some(launch);
        }
        log::warn!("{what}: the choice \"{launch}\" is not one that this device can run; the model of cost decides");
        None
    }

    /// The first candidate of least estimated time.
    fn least(what: &Recurrence, capabilities: &Capabilities) -> Option<Launch> {
        let cost = |launch: &Launch| cost::of_launch(what, launch, capabilities).us;
        Launch::candidates(what, capabilities).into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    /// Launches that a device can run, in a fixed order. Where terms are not shared by default, on software adapters, those of the scan
    /// come first.
    pub fn candidates(what: &Recurrence, capabilities: &Capabilities) -> Vec<Launch> {
        let mut all = if capabilities.shared_terms { Vec::new() } else { Launch::scans(what, capabilities) };
        let asked = capabilities.strategy;
        if asked != Some(Strategy::PerStep) && what.steps > 1 && what.fused && what.input.is_none() {
            all.extend(Launch::sequences(what, capabilities));
        }
        if asked.is_none_or(|asked| asked == Strategy::Grid) {
            all.extend(Launch::grids(what, capabilities));
        }
        // A layer that cannot run as a grid runs per step.
        if asked == Some(Strategy::Grid) && all.iter().any(|launch| launch.strategy == Strategy::Grid) {
            all.retain(|launch| launch.strategy == Strategy::Grid);
            return all;
        }
        // A layer too large for a workgroup runs per step even if whole sequences are asked for.
        let has_whole = all.iter().any(|launch| launch.strategy == Strategy::WholeSequence);
        if asked != Some(Strategy::WholeSequence) || !has_whole {
            all.extend(Launch::single_steps(what, capabilities));
        }
        all
    }

    /// Launches of `step_forward`, `step_backward` or `fused_step`.
    fn single_steps(what: &Recurrence, capabilities: &Capabilities) -> Vec<Launch> {
        let most = capabilities.workgroup_bytes / 16;
        let mut all = Vec::new();
        for threads in [64, 128, 256].into_iter().filter(|&threads| threads <= capabilities.workgroup_threads) {
            for units in [4, 8, 16, 32, 64, 128, 256] {
                for rows in what.rows() {
                    let shares = what.shares(rows, units, threads);
                    if !shares.holds() || !what.has_work_for(&shares) {
                        continue;
                    }
                    let memory = match what.input {
                        Some(input) => fused_step_memory(&shares, input),
                        // As much as partial sums take: with more, fewer workgroups stay on a compute unit.
                        None => shares.step_memory(most.min(4 * threads)),
                    };
                    if memory <= most {
                        let span = shares.span();
                        let (division, strategy) = (Division::Step, Strategy::PerStep);
                        all.push(Launch { division, rows, units, span, threads, memory, steps: 1, strategy });
                    }
                }
            }
        }
        all
    }

    /// Launches of `sequence_forward` or `sequence_backward`.
    fn sequences(what: &Recurrence, capabilities: &Capabilities) -> Vec<Launch> {
        let most = capabilities.workgroup_bytes / 16;
        let units = what.shares(1, 1, 1).padded();
        let lanes = if what.backward { units / 4 } else { units }; // threads of one share
        let mut all = Vec::new();
        let largest = capabilities.workgroup_threads / lanes;
        let counts = (0..).map(|power| 1 << power).take_while(|&count| count < largest).chain([largest]);
        for threads in counts.filter(|&count| count > 0).map(|count| count * lanes) {
            for rows in what.rows() {
                let shares = what.shares(rows, units, threads);
                if !shares.holds() || !what.has_work_for(&shares) {
                    continue;
                }
                let memory = shares.sequence_memory();
                if shares.all_sequence_memory() <= most {
                    let span = shares.span();
                    let iterations = shares.turns() + shares.shares() + 16;
                    let steps = if capabilities.short_loops { MOST_ITERATIONS / iterations } else { u32::MAX };
                    let (division, strategy) = (Division::Sequence, Strategy::WholeSequence);
                    all.push(Launch { division, rows, units, span, threads, memory, steps, strategy });
                }
            }
        }
        all
    }

    /// Launches of `grid_forward`: all workgroups run side by side. For layers and batches that a step by itself leaves waiting most of its
    /// time, or, if grids are asked for, for all that the kernel can compute.
    fn grids(what: &Recurrence, capabilities: &Capabilities) -> Vec<Launch> {
        let Recurrence { backward, hidden, terms, batch, directions, .. } = *what;
        let can = what.fused && what.plain && !backward && what.input.is_none() && terms == hidden && hidden % 4 == 0;
        let asked = capabilities.strategy == Some(Strategy::Grid);
        let fits = GRID_UNITS.contains(&hidden) && batch <= GRID_ROWS && what.steps >= GRID_STEPS;
        let repairs = 16 * repair_memory(hidden) < capabilities.workgroup_bytes;
        let form = capabilities.step_weights == StepWeights::F32;
        if !can || !form || !repairs || what.steps == 1 || !(asked || fits) || !capabilities.shared_terms {
            return Vec::new();
        }
        let most = capabilities.workgroup_bytes / 16 - 1; // an element for the barrier
        let mut all = Vec::new();
        for threads in [128, 256].into_iter().filter(|&threads| threads <= capabilities.workgroup_threads) {
            for units in [4, 8, 16, 32, 64, 128, 256] {
                for rows in what.rows() {
                    let shares = what.shares(rows, units, threads);
                    let groups = hidden.div_ceil(units) * batch.div_ceil(rows) * directions;
                    if !shares.holds() || !what.has_work_for(&shares) || groups > capabilities.grid_workgroups {
                        continue;
                    }
                    let memory = shares.grid_memory();
                    if memory > most {
                        continue;
                    }
                    let iterations = shares.turns() + shares.shares() / 8 + memory / threads + 16;
                    let steps = match capabilities.short_loops {
                        true => (MOST_ITERATIONS - GRID_SPINS) / (iterations + GRID_STEP_SPINS),
                        false => u32::MAX,
                    };
                    let (division, strategy, span) = (Division::Grid, Strategy::Grid, 1);
                    all.push(Launch { division, rows, units, span, threads, memory, steps, strategy });
                }
            }
        }
        all
    }

    /// Launches of `scan_forward` or `scan_backward`, whose threads have all terms of their units; the first is [`Launch::scan`].
    fn scans(what: &Recurrence, capabilities: &Capabilities) -> Vec<Launch> {
        let mut all = vec![Launch::scan(what, capabilities)];
        let whole = what.fused && what.steps > 1;
        let strategies = match asked_of_scans(capabilities).filter(|_| what.fused) {
            Some(asked) => vec![asked],
            None if whole => Strategy::ALL.to_vec(),
            None => vec![Strategy::PerStep],
        };
        for strategy in strategies {
            for rows in [1, 4, 8] {
                if rows > what.batch.next_power_of_two() || rows > what.most_rows() {
                    continue;
                }
                for span in [1, what.wide()] {
                    if span > 1 && (!what.plain || rows == 1 || !what.hidden.is_multiple_of(4)) {
                        continue;
                    }
                    let launch = Launch::scan_of(what, [rows, span], strategy, capabilities);
                    let whole = strategy == Strategy::WholeSequence;
                    if whole && capabilities.short_loops && what.scan_iterations(&launch) > MOST_ITERATIONS {
                        continue;
                    }
                    if !all.contains(&launch) {
                        all.push(launch);
                    }
                }
            }
        }
        all
    }

    /// The launch of the scan that is chosen by size.
    fn scan(what: &Recurrence, capabilities: &Capabilities) -> Launch {
        let Recurrence { hidden, batch, directions, plain, .. } = *what;
        let all_rows = directions as u64 * batch as u64;
        // Sharing loads pays if enough threads remain to keep the device busy.
        let busy = |rows: u64, span: u64| all_rows * hidden as u64 >= rows * span * capabilities.busy_threads;
        let by_size = match what.steps > 1 && hidden <= capabilities.whole_sequence_units {
            true => Strategy::WholeSequence,
            false => Strategy::PerStep,
        };
        let asked = asked_of_scans(capabilities).unwrap_or(by_size);
        let strategy = if what.fused { asked } else { Strategy::PerStep };
        // A whole sequence also needs at least two workgroups.
        let fits = |rows: u64| {
            let groups = strategy == Strategy::PerStep || all_rows >= 2 * rows;
            batch as u64 >= rows && groups && busy(rows, 1)
        };
        let rows = [8, 4].into_iter().find(|&rows| rows <= what.most_rows() && fits(rows as u64)).unwrap_or(1);
        let wide = what.wide();
        let span =
            if plain && rows > 1 && hidden.is_multiple_of(4) && busy(rows as u64, wide as u64) { wide } else { 1 };
        Launch::scan_of(what, [rows, span], strategy, capabilities)
    }

    /// The launch of the scan with these rows and units of a thread.
    fn scan_of(what: &Recurrence, [rows, span]: [u32; 2], strategy: Strategy, capabilities: &Capabilities) -> Launch {
        let hidden = what.hidden;
        let (division, memory) = (Division::Scan, 0);
        match strategy {
            Strategy::PerStep | Strategy::Grid => {
                let threads = if capabilities.workgroup_tiles { 64 } else { 8 };
                let (units, strategy) = (threads * span, Strategy::PerStep);
                Launch { division, rows, units, span, threads, memory, steps: 1, strategy }
            }
            Strategy::WholeSequence => {
                let threads = hidden.div_ceil(span).next_multiple_of(if capabilities.workgroup_tiles { 64 } else { 8 });
                let threads = threads.min(256);
                let one = Launch { division, rows, units: hidden, span, threads, memory, steps: 1, strategy };
                let most = MOST_ITERATIONS / what.scan_iterations(&one);
                Launch { steps: if capabilities.short_loops { most.max(1) } else { u32::MAX }, ..one }
            }
        }
    }
}

impl Recurrence {
    /// Most rows of a thread of the scan.
    fn most_rows(&self) -> u32 {
        if self.plain { 8 } else { 4 }
    }

    /// Iterations of the scan's loops in a step, if a workgroup has all units.
    fn scan_iterations(&self, launch: &Launch) -> u32 {
        self.hidden.div_ceil(launch.threads * launch.span) * (self.hidden + 20) + 10
    }

    /// Units of a thread of the scan where it has several.
    fn wide(&self) -> u32 {
        if self.backward { 4 } else { 2 }
    }

    /// Rows that a workgroup may take.
    fn rows(&self) -> impl Iterator<Item = u32> {
        let most = self.batch.next_power_of_two();
        [1, 2, 4, 8].into_iter().filter(move |&rows| rows <= most)
    }

    /// The division among threads of a workgroup.
    pub fn shares(&self, rows: u32, units: u32, threads: u32) -> Shares {
        let Recurrence { backward, hidden, heads, terms, .. } = *self;
        Shares { backward, hidden, heads, terms, rows, units, threads }
    }

    /// True if no thread is without terms, and none without a cell where there are no terms.
    fn has_work_for(&self, shares: &Shares) -> bool {
        shares.shares() <= shares.items().max(shares.span() * shares.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every candidate is one that the kernels allow, within the limits; there is always one.
    #[test]
    fn candidates_fit_the_device() {
        let (small, large) = (
            Capabilities::default(),
            Capabilities { workgroup_threads: 1024, workgroup_bytes: 64 << 10, ..Capabilities::default() },
        );
        let grids = Capabilities { grid_workgroups: 128, strategy: Some(Strategy::Grid), ..large.clone() };
        for capabilities in [small, large, grids] {
            for backward in [false, true] {
                for (hidden, heads) in
                    [(1, 1), (3, 1), (30, 3), (32, 1), (65, 65), (100, 1), (512, 1), (1024, 4), (3001, 1)]
                {
                    for batch in [1, 3, 16, 1000] {
                        for (steps, terms) in [(1, 0), (1, hidden / heads), (50, hidden / heads)] {
                            let what = Recurrence {
                                backward,
                                cell: "standard",
                                hidden,
                                heads,
                                terms,
                                input: None,
                                batch,
                                directions: 1,
                                steps,
                                fused: true,
                                plain: true,
                            };
                            let all = Launch::candidates(&what, &capabilities);
                            assert!(!all.is_empty(), "{what:?}");
                            for launch in all {
                                let shares = what.shares(launch.rows, launch.units, launch.threads);
                                assert!(shares.holds() && launch.span == shares.span(), "{what:?}: {launch:?}");
                                assert!(launch.threads <= capabilities.workgroup_threads, "{what:?}: {launch:?}");
                                assert!(16 * launch.memory <= capabilities.workgroup_bytes, "{what:?}: {launch:?}");
                                let needed = match launch.division {
                                    Division::Step => shares.step_memory(0),
                                    Division::Grid => shares.grid_memory(),
                                    _ => shares.sequence_memory(),
                                };
                                assert!(launch.memory >= needed && launch.steps > 0, "{what:?}: {launch:?}");
                                assert!(cost::of_launch(&what, &launch, &capabilities).us.is_finite());
                            }
                        }
                    }
                }
            }
        }
    }

    /// The forward pass of a plain layer.
    fn layer(hidden: u32, batch: u32) -> Recurrence {
        Recurrence {
            backward: false,
            cell: "standard",
            hidden,
            heads: 1,
            terms: hidden,
            input: None,
            batch,
            directions: 1,
            steps: 100,
            fused: true,
            plain: true,
        }
    }

    /// Grids are for layers in their range, on devices that have them, and never of more workgroups than run side by side.
    #[test]
    fn grids_are_candidates_where_they_were_asked_for() {
        let with = |grid_workgroups| Capabilities {
            workgroup_threads: 1024,
            workgroup_bytes: 48 << 10,
            grid_workgroups,
            ..Capabilities::default()
        };
        let grids = |what: &Recurrence, capabilities: &Capabilities| -> Vec<Launch> {
            let all = Launch::candidates(what, capabilities);
            all.into_iter().filter(|launch| launch.division == Division::Grid).collect()
        };
        for (hidden, batch) in [(256, 1), (512, 16), (1024, 4)] {
            let what = layer(hidden, batch);
            assert_eq!(grids(&what, &with(0)), []);
            let all = grids(&what, &with(128));
            assert!(!all.is_empty());
            for launch in &all {
                assert!(hidden.div_ceil(launch.units) * batch.div_ceil(launch.rows) <= 128, "{launch}");
            }
            assert_eq!(grids(&Recurrence { backward: true, ..what }, &with(128)), []);
            assert_eq!(grids(&Recurrence { plain: false, ..what }, &with(128)), []);
            assert_eq!(grids(&Recurrence { steps: 1, ..what }, &with(128)), []);
        }
        for (hidden, batch) in [(252, 1), (512, 17), (1028, 1), (510, 1)] {
            assert_eq!(grids(&layer(hidden, batch), &with(128)), []);
        }
        // Where an H100 showed them ahead, and level.
        for (hidden, batch, grid) in [(256, 4, true), (512, 1, true), (1024, 4, false)] {
            let choice = Launch::by_model(&layer(hidden, batch), &with(128));
            assert_eq!(choice.strategy == Strategy::Grid, grid, "{choice}");
        }
    }

    /// All loops of a grid's dispatch together, spins included, are fewer iterations than those after which some drivers end them.
    #[test]
    fn spins_and_steps_of_a_grid_are_bounded() {
        for hidden in [256, 512, 1024] {
            let what = Recurrence { steps: 100_000, ..layer(hidden, 1) };
            let capabilities = Capabilities { grid_workgroups: 128, ..Capabilities::default() };
            for launch in Launch::grids(&what, &capabilities) {
                let turns = what.shares(launch.rows, launch.units, launch.threads).turns();
                assert!(launch.steps > 50 && grid_spins(launch.steps) + launch.steps * turns < 60_000, "{launch}");
            }
        }
    }
}
