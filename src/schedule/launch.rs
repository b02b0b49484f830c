//! Launches of the recurrence: how a dispatch is divided among workgroups and threads.

use super::cost;
use super::strategy::MOST_ITERATIONS;
use crate::kernel::{Division, Shares, fused_step_memory};
use crate::plan::{Capabilities, Strategy};

/// What a launch is chosen for: a layer's pass over a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recurrence {
    /// True for the backward pass.
    pub backward: bool,
    /// H.
    pub hidden: u32,
    /// Heads.
    pub heads: u32,
    /// Terms of a unit's recurrent product, as far as the cell's kernel computes it.
    pub terms: u32,
    /// I, if the step computes the input product, too.
    pub input: Option<u32>,
    /// B.
    pub batch: u32,
    /// D.
    pub directions: u32,
    /// T.
    pub steps: u32,
    /// True if no other kernels run between the steps.
    pub fused: bool,
    /// True if a step's code is short: drivers take too long to compile longer code for many rows and units of a thread.
    pub plain: bool,
}

/// Division of a dispatch of the recurrence among workgroups and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Launch {
    /// The kernels that divide it so.
    pub division: Division,
    /// Batch rows of a workgroup, which share each weight that is loaded: 1, 2, 4 or 8.
    pub rows: u32,
    /// Hidden units of a workgroup.
    pub units: u32,
    /// Hidden units that a thread computes at once, which share each load of a row's state.
    pub span: u32,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Workgroup memory, in elements of 16 bytes.
    pub memory: u32,
    /// Time steps of a dispatch.
    pub steps: u32,
    /// The strategy of which it is a part.
    pub strategy: Strategy,
}

impl Launch {
    /// The launch for a pass: that of the device's tuning, else the first of [`Launch::candidates`] by the model of cost.
    pub fn choose(what: &Recurrence, capabilities: &Capabilities) -> Launch {
        Launch::best(what, capabilities).unwrap_or_else(|| Launch::scan(what, capabilities))
    }

    /// The same; `None` if the device can run no launch for it.
    pub fn best(what: &Recurrence, capabilities: &Capabilities) -> Option<Launch> {
        let cost = |launch: &Launch| cost::of_launch(what, launch, capabilities);
        Launch::candidates(what, capabilities).into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    /// Launches that a device can run, in a fixed order. Devices without threads to spare have one.
    pub fn candidates(what: &Recurrence, capabilities: &Capabilities) -> Vec<Launch> {
        if !capabilities.shared_terms {
            return vec![Launch::scan(what, capabilities)];
        }
        let mut all = Vec::new();
        let asked = capabilities.strategy;
        if asked != Some(Strategy::PerStep) && what.steps > 1 && what.fused && what.input.is_none() {
            all.extend(Launch::sequences(what, capabilities));
        }
        // A layer too large for a workgroup runs per step even if whole sequences are asked for.
        if asked != Some(Strategy::WholeSequence) || all.is_empty() {
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
                        None => shares.step_memory(most),
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
                if memory <= most {
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

    /// The launch of `scan_forward` or `scan_backward`, whose threads have all terms of their units.
    fn scan(what: &Recurrence, capabilities: &Capabilities) -> Launch {
        let Recurrence { backward, hidden, batch, directions, plain, .. } = *what;
        let all_rows = directions as u64 * batch as u64;
        // Sharing loads pays if enough threads remain to keep the device busy.
        let busy = |rows: u64, span: u64| all_rows * hidden as u64 >= rows * span * capabilities.busy_threads;
        let by_size = match what.steps > 1 && hidden <= capabilities.whole_sequence_units {
            true => Strategy::WholeSequence,
            false => Strategy::PerStep,
        };
        let strategy = if what.fused { capabilities.strategy.unwrap_or(by_size) } else { Strategy::PerStep };
        // A whole sequence also needs at least two workgroups.
        let fits = |rows: u64| {
            let groups = strategy == Strategy::PerStep || all_rows >= 2 * rows;
            batch as u64 >= rows && groups && busy(rows, 1)
        };
        let most: &[u32] = if plain { &[8, 4] } else { &[4] };
        let rows = most.iter().copied().find(|&rows| fits(rows as u64)).unwrap_or(1);
        let wide = if backward { 4 } else { 2 };
        let span =
            if plain && rows > 1 && hidden.is_multiple_of(4) && busy(rows as u64, wide) { wide as u32 } else { 1 };
        let (division, memory) = (Division::Scan, 0);
        match strategy {
            Strategy::PerStep => {
                let threads = if capabilities.workgroup_tiles { 64 } else { 8 };
                Launch { division, rows, units: threads * span, span, threads, memory, steps: 1, strategy }
            }
            Strategy::WholeSequence => {
                let threads = hidden.div_ceil(span).next_multiple_of(if capabilities.workgroup_tiles { 64 } else { 8 });
                let threads = threads.min(256);
                let iterations = hidden.div_ceil(threads * span) * (hidden + 20) + 10;
                let steps = if capabilities.short_loops { (MOST_ITERATIONS / iterations).max(1) } else { u32::MAX };
                Launch { division, rows, units: hidden, span, threads, memory, steps, strategy }
            }
        }
    }
}

impl Recurrence {
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
        for capabilities in [small, large] {
            for backward in [false, true] {
                for (hidden, heads) in
                    [(1, 1), (3, 1), (30, 3), (32, 1), (65, 65), (100, 1), (512, 1), (1024, 4), (3001, 1)]
                {
                    for batch in [1, 3, 16, 1000] {
                        for (steps, terms) in [(1, 0), (1, hidden / heads), (50, hidden / heads)] {
                            let what = Recurrence {
                                backward,
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
                                    _ => shares.sequence_memory(),
                                };
                                assert!(launch.memory >= needed && launch.steps > 0, "{what:?}: {launch:?}");
                                assert!(cost::of_launch(&what, &launch, &capabilities).is_finite());
                            }
                        }
                    }
                }
            }
        }
    }
}
