//! Pace: number of steps queued on the device before the host waits for their losses.

use std::time::Duration;

/// Most steps that are queued before the host waits; the device keeps the losses of as many.
pub(crate) const MOST_STEPS: usize = 32;

/// Time for which steps are queued, in two groups: the host waits for one while the device has the other. After it, callbacks are called
/// at the next wait: they are then about a second apart at most, or two steps where those take longer.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Number of steps to queue, adapted to the measured time of a step. A model keeps it from fit to fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    stride: usize,
    /// B·T of the steps that it was measured on.
    size: usize,
}

impl Pace {
    /// The first step alone, since nothing is known of its time.
    pub fn new() -> Pace {
        Pace { stride: 1, size: usize::MAX }
    }

    /// Prepares for steps of this B·T: more steps and sequences are taken to need more time in proportion.
    pub fn resize(&mut self, size: usize) {
        let size = size.max(1);
        if size > self.size {
            let stride = self.stride as f64 * self.size as f64 / size as f64;
            self.stride = (stride as usize).max(1);
        }
        self.size = size;
    }

    /// Steps of a group, to queue next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Takes in that some steps took this time. The number falls at once and doubles at most: the first steps of a plan also
    /// compile it.
    pub fn measured(&mut self, steps: usize, time: Duration) {
        let room = LOOK.as_secs_f64() / 2.0 * steps as f64 / time.as_secs_f64().max(1e-9);
        // A float beyond usize becomes its largest value.
        self.stride = (room as usize).clamp(1, (2 * self.stride).min(MOST_STEPS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which the host looks at a device of this many milliseconds a step, over 200 steps.
    fn longest_wait(step: u64) -> Duration {
        let (mut pace, mut longest, mut done) = (Pace::new(), Duration::ZERO, 0);
        while done < 200 {
            let time = Duration::from_millis(step) * pace.stride() as u32;
            longest = longest.max(time);
            done += pace.stride();
            pace.measured(pace.stride(), time);
        }
        longest
    }

    #[test]
    fn the_host_waits_half_a_second_or_a_step() {
        for step in [0, 1, 10, 100, 300, 656, 1000, 5000] {
            let longest = longest_wait(step);
            assert!(longest <= LOOK.max(Duration::from_millis(step)), "{step} ms a step: {longest:?}");
        }
    }

    #[test]
    fn larger_steps_begin_with_fewer() {
        let mut pace = Pace::new();
        pace.resize(100);
        (0..9).for_each(|_| pace.measured(pace.stride(), Duration::from_micros(100)));
        for (size, expected) in [(100, 32), (50, 32), (400, 4), (usize::MAX, 1)] {
            pace.resize(size);
            assert_eq!(pace.stride(), expected, "{size}");
        }
    }

    #[test]
    fn fast_steps_are_queued_by_32_and_slow_ones_alone() {
        let mut pace = Pace::new();
        for expected in [2, 4, 8, 16, 32, 32] {
            pace.measured(pace.stride(), Duration::from_micros(100));
            assert_eq!(pace.stride(), expected);
        }
        pace.measured(32, Duration::from_secs(20)); // the device became slow
        assert_eq!(pace.stride(), 1);
    }
}
