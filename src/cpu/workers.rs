//! Threads of the CPU executor.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// One pool a process, with a thread for every processor but the caller's own.
static POOL: LazyLock<Option<Mutex<rayon::ThreadPool>>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.saturating_sub(1).max(1));
    let named = builder.thread_name(|k| format!("wgpu-lstm-{k}"));
    if threads == 1 { None } else { named.build().ok().map(Mutex::new) }
});

/// Counts the times that the pool was given work.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Below this many multiplications a thread is not worth waking.
pub(super) const WORTH_A_THREAD: u64 = 1 << 17;

/// How long the pool's threads stay awake after work. Waking one takes 50 µs and more, as long as a small layer's whole
/// pass; the next kernel, or the next pass of a loop, comes sooner than this.
const AWAKE: Duration = Duration::from_micros(200);

/// The threads that a run has for itself. While another run has the pool, a run has its caller's thread alone; results
/// do not depend on the number of threads.
pub struct Team {
    pool: Option<MutexGuard<'static, rayon::ThreadPool>>,
    threads: usize,
}

impl Team {
    /// Claims up to `most` threads, the caller's own included.
    pub(super) fn claim(most: usize) -> Team {
        let claimed = POOL.as_ref().filter(|_| most > 1).and_then(|pool| match pool.try_lock() {
            Ok(guard) => Some(guard),
            // A panic in a run says nothing of the pool.
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        let threads = claimed.as_ref().map_or(1, |pool| most.min(1 + pool.current_num_threads()));
        Team { pool: claimed, threads }
    }

    /// Threads for work that would keep `worth` of them busy.
    pub(super) fn threads_for(&self, worth: u64) -> usize {
        self.threads.min(worth.max(1) as usize)
    }

    /// Runs parts at the same time, one on this thread; never more parts than [`Team::threads_for`] said.
    pub(super) fn each<T: Send>(&self, mut parts: Vec<T>, work: impl Fn(T) + Sync) {
        let Some(last) = parts.pop() else { return };
        let Some(pool) = self.pool.as_ref().filter(|_| !parts.is_empty()) else {
            parts.into_iter().chain([last]).for_each(work);
            return;
        };
        let (others, done) = (parts.len(), AtomicUsize::new(0));
        CALLS.fetch_add(1, Ordering::Release);
        pool.in_place_scope(|scope| {
            for part in parts {
                let (work, done) = (&work, &done);
                scope.spawn(move |_| {
                    work(part);
                    done.fetch_add(1, Ordering::Release);
                });
            }
            work(last);
            // A scope that is not ready at its end puts this thread to sleep; the others are about to be ready, and need a
            // moment more to say so to the scope.
            let start = Instant::now();
            spin_until(|| done.load(Ordering::Acquire) == others || start.elapsed() > AWAKE);
            let ready = Instant::now();
            spin_until(|| ready.elapsed() > Duration::from_nanos(300));
        });
        let calls = CALLS.load(Ordering::Acquire);
        pool.spawn_broadcast(move |_| {
            let start = Instant::now();
            spin_until(|| CALLS.load(Ordering::Acquire) != calls || start.elapsed() > AWAKE);
        });
    }
}

/// Waits for something that is about to happen.
fn spin_until(ready: impl Fn() -> bool) {
    while !ready() {
        std::hint::spin_loop();
    }
}

/// Cuts `0..n` in at most `parts` ranges of about the same length, each but the last a multiple of `multiple`.
pub(super) fn share(n: usize, parts: usize, multiple: usize) -> impl Iterator<Item = Range<usize>> {
    let length = n.div_ceil(parts).next_multiple_of(multiple).max(1);
    (0..n).step_by(length).map(move |first| first..n.min(first + length))
}

/// A run of elements of a buffer, and who gets it.
pub(super) struct Piece {
    pub at: usize,
    pub len: usize,
    pub to: usize,
    pub index: usize,
}

/// Deals pieces of a buffer, none of them overlapping, to `parts` receivers, each in the order of `index` from 0.
pub(super) fn deal<F>(buffer: &mut [F], mut pieces: Vec<Piece>, parts: usize) -> Vec<Vec<&mut [F]>> {
    let mut counts = vec![0; parts];
    for piece in &pieces {
        counts[piece.to] += 1;
    }
    let mut dealt: Vec<Vec<&mut [F]>> =
        counts.into_iter().map(|count| (0..count).map(|_| Default::default()).collect()).collect();
    if !pieces.is_sorted_by_key(|piece| piece.at) {
        pieces.sort_unstable_by_key(|piece| piece.at);
    }
    let (mut rest, mut at) = (buffer, 0);
    for piece in pieces {
        let (own, after) = std::mem::take(&mut rest)[piece.at - at..].split_at_mut(piece.len);
        dealt[piece.to][piece.index] = own;
        (rest, at) = (after, piece.at + piece.len);
    }
    dealt
}

/// Where all threads of a team wait for each other, once a step.
pub(super) struct Meeting {
    parties: usize,
    arrived: AtomicUsize,
    broken: AtomicBool,
}

impl Meeting {
    pub fn new(parties: usize) -> Meeting {
        Meeting { parties, arrived: AtomicUsize::new(0), broken: AtomicBool::new(false) }
    }

    /// Waits until all have come as often as this one.
    pub fn wait(&self) {
        let turn = self.arrived.fetch_add(1, Ordering::AcqRel) / self.parties + 1;
        let mut spins = 0u32;
        while self.arrived.load(Ordering::Acquire) < turn * self.parties {
            assert!(!self.broken.load(Ordering::Relaxed), "another thread of this run panicked");
            spins += 1;
            // A step takes microseconds; a thread that was sent to sleep takes longer to come.
            if spins < 10_000 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// Held by a thread while it takes part; if it panics, the others do not wait for it.
pub(super) struct Attending<'a>(pub &'a Meeting);

impl Drop for Attending<'_> {
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
    fn shares_cover_and_keep_to_multiples() {
        for n in [0, 1, 5, 16, 33, 100] {
            for parts in 1..5 {
                let all: Vec<_> = share(n, parts, 4).collect();
                assert!(all.len() <= parts && all.iter().rev().skip(1).all(|range| range.len() % 4 == 0));
                assert_eq!(all.into_iter().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn pieces_are_dealt_in_any_order_of_address() {
        let mut buffer: Vec<u32> = (0..10).collect();
        let piece = |at, len, to, index| Piece { at, len, to, index };
        let dealt = deal(&mut buffer, vec![piece(7, 2, 0, 0), piece(4, 2, 1, 0), piece(1, 3, 0, 1)], 2);
        assert_eq!(dealt, vec![vec![&mut [7, 8][..], &mut [1, 2, 3]], vec![&mut [4, 5][..]]]);
    }

    #[test]
    fn a_meeting_holds_everyone_back_and_breaks_when_one_panics() {
        let (meeting, count) = (Meeting::new(2), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for turn in 1..=100 {
                        count.fetch_add(1, Ordering::SeqCst);
                        meeting.wait();
                        assert!(count.load(Ordering::SeqCst) >= 2 * turn);
                        meeting.wait();
                    }
                });
            }
        });
        let waiting = std::thread::scope(|scope| {
            let one = scope.spawn(|| meeting.wait());
            let other = scope.spawn(|| {
                let _attending = Attending(&meeting);
                panic!("on purpose");
            });
            assert!(other.join().is_err());
            one.join()
        });
        assert!(waiting.is_err());
    }
}
