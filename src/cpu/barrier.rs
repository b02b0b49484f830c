//! A barrier for the threads of a team, once a step of the recurrence.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Wait after which the other threads are assumed to have lost their processor.
const STALL: Duration = Duration::from_micros(100);
/// Iterations of the wait before the clock is read.
const SPINS: u32 = 100;

/// A barrier of all threads of a team.
pub(super) struct Barrier {
    parties: usize,
    arrived: AtomicUsize,
    broken: AtomicBool,
    lost: AtomicU64,
}

impl Barrier {
    pub fn new(parties: usize) -> Barrier {
        Barrier { parties, arrived: AtomicUsize::new(0), broken: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    /// Waits until all threads have called this as often as this thread.
    pub fn wait(&self) {
        let turn = self.arrived.fetch_add(1, Ordering::AcqRel) / self.parties + 1;
        let ready = || {
            assert!(!self.broken.load(Ordering::Relaxed), "another thread of this run panicked");
            self.arrived.load(Ordering::Acquire) >= turn * self.parties
        };
        for _ in 0..SPINS {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        let start = Instant::now();
        while !ready() {
            // A thread that yields to another process is away for milliseconds, for which the others wait.
            if start.elapsed() < STALL { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let waited = start.elapsed();
        if waited > STALL {
            self.lost.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Time that all threads together have lost to long waits.
    pub fn lost(&self) -> Duration {
        Duration::from_nanos(self.lost.load(Ordering::Relaxed))
    }
}

/// Guard of a thread that takes part; if the thread panics, the others stop waiting for it.
pub(super) struct Attendance<'a>(pub &'a Barrier);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_holds_everyone_back_and_breaks_when_one_panics() {
        let (barrier, count) = (Barrier::new(2), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for turn in 1..=100 {
                        count.fetch_add(1, Ordering::SeqCst);
                        barrier.wait();
                        assert!(count.load(Ordering::SeqCst) >= 2 * turn);
                        barrier.wait();
                    }
                });
            }
        });
        let waiting = std::thread::scope(|scope| {
            let one = scope.spawn(|| barrier.wait());
            let other = scope.spawn(|| {
                let _attendance = Attendance(&barrier);
                panic!("on purpose");
            });
            assert!(other.join().is_err());
            one.join()
        });
        assert!(waiting.is_err());
    }

    #[test]
    fn long_waits_are_counted_as_lost() {
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| barrier.wait());
            std::thread::sleep(Duration::from_millis(5));
            barrier.wait();
        });
        assert!(barrier.lost() >= STALL);
    }
}
