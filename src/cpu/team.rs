//! The threads of a run.

use super::barrier::{Attendance, Barrier};
use super::workers::{Answer, MOST_THREADS, Worker, dismiss, hire};
use std::cell::{Cell, RefCell};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Multiplications below which another thread does not pay for the barrier at the end.
pub(crate) const WORTH_A_THREAD: u64 = 1 << 17;
/// Approximate time of these multiplications.
const TIME_OF_A_THREAD: Duration = Duration::from_micros(6);
/// Time for which the number of simultaneous runs is remembered: two loops of small runs share the processors, even while one
/// of them is between two runs.
const REMEMBERED: Duration = Duration::from_millis(100);
/// Least time that a worker has to answer; a worker that runs answers at once.
const ANSWER: Duration = Duration::from_micros(3);
/// Longest and shortest time for which a thread spins for others that are not ready, before it sleeps until they are.
const LOOK_OUT: Duration = Duration::from_micros(200);
const LEAST_LOOK_OUT: Duration = Duration::from_micros(20);

/// Number of threads of a run. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// At most this many, including the caller's own: fewer if there is little work, or if other runs or other processes need the
    /// processors.
    AtMost(usize),
    /// Exactly this many wherever work can be divided, however long the wait for them; for tests.
    Exactly(usize),
}

/// Number of current runs.
static RUNS: AtomicUsize = AtomicUsize::new(0);
/// Largest recent number of simultaneous runs, and its time, in microseconds after [`START`].
static MOST_RUNS: AtomicUsize = AtomicUsize::new(0);
static MOST_RUNS_AT: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The threads of a run: its caller's, and workers that it borrows when there is enough work.
pub struct Team {
    threads: Threads,
    crew: RefCell<Vec<Worker>>,
    /// Expected gain by the workers, at the last call of [`Team::threads_for`].
    gain: Cell<Duration>,
}

impl Team {
    /// A team of the caller's thread alone.
    pub(crate) fn new(threads: Threads) -> Team {
        let runs = RUNS.fetch_add(1, Ordering::Relaxed) + 1;
        if runs > 1 && runs >= remembered().unwrap_or(0) {
            MOST_RUNS.store(runs, Ordering::Relaxed);
            MOST_RUNS_AT.store(1 + START.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
        Team { threads, crew: RefCell::default(), gain: Cell::default() }
    }

    /// Threads that pay for work that would keep `worth` of them busy, of at most `most`.
    pub(super) fn wanted(most: usize, worth: u64) -> usize {
        if worth < 2 { 1 } else { most.min(worth.try_into().unwrap_or(usize::MAX)) }
    }

    /// Threads of this run if all runs have equal shares.
    fn share(&self) -> usize {
        match self.threads {
            Threads::Exactly(count) => count.clamp(1, MOST_THREADS),
            Threads::AtMost(1) => 1,
            Threads::AtMost(most) => {
                let runs = RUNS.load(Ordering::Relaxed).max(remembered().unwrap_or(0)).max(1);
                (most.min(MOST_THREADS) / runs).max(1)
            }
        }
    }

    /// Gives back workers that other runs need. Called between kernels only, since a kernel relies on the threads it was given.
    pub(crate) fn give_back(&self) {
        let mut crew = self.crew.borrow_mut();
        if !crew.is_empty() {
            let share = self.share();
            if crew.len() >= share {
                dismiss(crew.drain(share - 1..));
            }
        }
    }

    /// Number of threads for work that would keep `worth` of them busy: this one, and workers that run at this moment.
    pub(crate) fn threads_for(&self, worth: u64) -> usize {
        // A waiting thread of a rayon pool takes other work of that pool, which may need locks that this run holds.
        if worth < 2 || rayon::current_thread_index().is_some() {
            return 1;
        }
        let wanted = Team::wanted(self.share(), worth);
        if wanted < 2 {
            return 1;
        }
        let mut crew = self.crew.borrow_mut();
        let most = match self.threads {
            Threads::AtMost(most) => most.min(MOST_THREADS) - 1,
            Threads::Exactly(_) => usize::MAX,
        };
        if crew.len() < wanted - 1 {
            hire(&mut crew, wanted - 1, most);
        }
        if crew.is_empty() {
            return 1;
        }
        if let Threads::Exactly(_) = self.threads {
            return 1 + crew.len().min(wanted - 1);
        }
        let alone = TIME_OF_A_THREAD.saturating_mul(worth.try_into().unwrap_or(u32::MAX));
        self.gain.set(alone / 2);
        1 + gather(&mut crew, wanted - 1, alone / 2)
    }

    /// Runs parts at the same time, one on this thread; never more parts than [`Team::threads_for`] said.
    pub(crate) fn each<T: Send>(&self, parts: Vec<T>, work: impl Fn(T) + Sync) {
        self.each_with(parts, &[], work);
    }

    /// [`Team::each`] for parts that wait for each other at barriers, each for a group of as many neighbouring parts.
    pub(super) fn each_with<T: Send>(&self, parts: Vec<T>, barriers: &[&Barrier], work: impl Fn(T) + Sync) {
        let group = parts.len().checked_div(barriers.len()).unwrap_or(1).max(1);
        let mut parts: Vec<_> = parts.into_iter().enumerate().collect();
        let Some(last) = parts.pop() else { return };
        let work = |(index, part): (usize, T)| {
            let _attendance = barriers.get(index / group).map(|barrier| Attendance(barrier));
            work(part);
        };
        if parts.is_empty() {
            return work(last);
        }
        let mut crew = self.crew.borrow_mut();
        let others = parts.len();
        assert!(others <= crew.len(), "{} parts for {} threads", others + 1, crew.len() + 1);
        let crew = &mut crew[..others];
        let (done, mut own, start) = (AtomicUsize::new(0), Duration::ZERO, Instant::now());
        let theirs = |part| {
            work(part);
            done.fetch_add(1, Ordering::Release);
        };
        hand_out(crew, parts.into_iter(), &theirs, || {
            work(last);
            own = start.elapsed();
            // A join whose workers are not ready puts this thread to sleep. They are about to be ready, and need a moment more to
            // signal it.
            await_all(|| done.load(Ordering::Acquire) == others, (own / 4).clamp(LEAST_LOOK_OUT, LOOK_OUT));
        });
        let now = Instant::now();
        // Time that one thread would have taken for all parts if each took as long as its own, without the time at the barrier.
        let idle = barriers.iter().map(|barrier| barrier.lost()).sum::<Duration>() / (others as u32 + 1);
        let alone = own.saturating_sub(idle) * (others as u32 + 1);
        let took = now - start;
        for worker in crew {
            match took.checked_sub(alone) {
                Some(lost) => worker.lost(lost, now),
                // Bounded by the expected gain, since this thread may have lost its processor, too.
                None => worker.spared((alone - took).min(self.gain.get())),
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        RUNS.fetch_sub(1, Ordering::Relaxed);
        let crew = self.crew.get_mut();
        if !crew.is_empty() {
            dismiss(crew.drain(..));
        }
    }
}

/// Remembered number of simultaneous runs, if any.
fn remembered() -> Option<usize> {
    let at = MOST_RUNS_AT.load(Ordering::Relaxed);
    let recent = at > 0 && (START.elapsed().as_micros() as u64) < at + REMEMBERED.as_micros() as u64;
    recent.then(|| MOST_RUNS.load(Ordering::Relaxed))
}

/// Moves up to `wanted` workers that run at this moment to the front, and returns their number; each would save this thread
/// `gain`.
fn gather(crew: &mut [Worker], wanted: usize, gain: Duration) -> usize {
    let start = Instant::now();
    let (mut asked, mut late) = (Vec::with_capacity(wanted), false);
    for (place, worker) in crew.iter_mut().enumerate() {
        if asked.len() < wanted {
            match worker.ask(gain, start) {
                Answer::No => {}
                Answer::Soon => asked.push(place),
                Answer::Late => {
                    late = true;
                    asked.push(place);
                }
            }
        }
    }
    if asked.is_empty() {
        return 0;
    }
    let patience = (gain / if late { 2 } else { 8 }).clamp(ANSWER, LOOK_OUT);
    let mut waited = Duration::ZERO;
    while waited < patience && !asked.iter().all(|&place| crew[place].is_here()) {
        std::hint::spin_loop();
        waited = start.elapsed();
    }
    let mut here = 0;
    for place in asked {
        if crew[place].withdraw(waited, start) {
            crew.swap(here, place);
            here += 1;
        }
    }
    here
}

/// Runs a part on each worker, and `own` on this thread in the meantime.
fn hand_out<T: Send>(
    crew: &[Worker],
    mut parts: std::vec::IntoIter<T>,
    theirs: &(impl Fn(T) + Sync),
    own: impl FnOnce(),
) {
    hand_out_to(crew, &mut parts, theirs, &mut Some(own));
}

fn hand_out_to<T: Send>(
    crew: &[Worker],
    parts: &mut std::vec::IntoIter<T>,
    theirs: &(impl Fn(T) + Sync),
    own: &mut Option<impl FnOnce()>,
) {
    match (crew.split_first(), parts.next()) {
        (Some((worker, rest)), Some(part)) => {
            worker.join(move || theirs(part), || hand_out_to(rest, parts, theirs, own));
        }
        _ => own.take().into_iter().for_each(|own| own()),
    }
}

/// Spins briefly for others that should be ready by now. Yielding would mean to wait for another process even when they are ready.
fn await_all(ready: impl Fn() -> bool, patience: Duration) {
    let start = Instant::now();
    while !ready() && start.elapsed() < patience {
        std::hint::spin_loop();
    }
    let ready = Instant::now();
    while ready.elapsed() < Duration::from_nanos(300) {
        std::hint::spin_loop();
    }
}
