//! Worker threads of the CPU executor, which runs borrow from one stock of the process.
//!
//! A processor may have other work. A worker gets work only after it has just shown that it runs, and a worker that made a run
//! wait is not used again until the time that it could have saved pays for another try. So a run that shares its processors with
//! other processes takes about as long as on one thread, and a run that does not share them wakes no worker between its kernels.

use crate::lock::lock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Time for which a worker spins after work. Waking it takes 50 µs and more, as long as a small layer's whole pass; the next
/// kernel, or the next pass of a loop, comes sooner than this.
const AWAKE: Duration = Duration::from_micros(200);
/// The same for a worker that was woken: the work it was woken for is often done by then, and the next pass is still to come.
const AWAKE_ONCE_WOKEN: Duration = Duration::from_millis(1);
/// Time for which a wait keeps its processor before it yields to other threads.
const SPIN: Duration = Duration::from_micros(5);
/// Cost of waking a worker.
const WAKING_COST: Duration = Duration::from_micros(50);
/// Gain from which on a run waits for a worker that was woken.
const WORTH_WAITING: Duration = Duration::from_micros(100);
/// Upper bound of a worker's price.
const HIGHEST_PRICE: Duration = Duration::from_millis(40);
/// Half-life of a price.
const FORGIVEN: Duration = Duration::from_millis(50);
/// Pause after which a worker is asleep again, so that the gain it missed before no longer counts.
const PAUSE: Duration = Duration::from_millis(1);
/// Largest number of threads of a run.
pub(crate) const MOST_THREADS: usize = 1024;

/// Processors that the process may use.
pub(crate) static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |count| count.get()));

/// Default number of threads of a run: `WGPU_LSTM_THREADS`, or one for every processor.
pub(crate) static DEFAULT_THREADS: LazyLock<usize> = LazyLock::new(|| {
    let processors = *PROCESSORS;
    let Some(text) = std::env::var_os("WGPU_LSTM_THREADS") else { return processors };
    threads_of(&text.to_string_lossy(), processors).unwrap_or_else(|reason| {
        log::warn!("{reason}; running on {processors} threads, one for every processor");
        processors
    })
});

/// Parses `WGPU_LSTM_THREADS`; 0 is one thread for every processor.
fn threads_of(text: &str, processors: usize) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(0) => Ok(processors),
        Ok(count) if count <= MOST_THREADS => Ok(count),
        _ => Err(format!("WGPU_LSTM_THREADS is \"{text}\", expected a number of threads from 0 to {MOST_THREADS}")),
    }
}

/// Waits a moment for an event that is expected soon: first by spinning, then by yielding to other threads.
fn pause(waited: Duration) {
    if waited < SPIN { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// Parked.
const ASLEEP: u8 = 0;
/// Has just finished its work.
const COMING: u8 = 1;
/// Waits for work; it ran when it began to wait, and may have lost its processor since.
const WAITING: u8 = 2;
/// Has been asked for a sign that it runs.
const ASKED: u8 = 3;
/// Has answered a moment ago.
const PRESENT: u8 = 4;
/// Did not answer in time; goes back to waiting when it runs again.
const ABSENT: u8 = 5;
/// Has work.
const WORKING: u8 = 6;
/// Is being woken, which takes a while.
const WOKEN: u8 = 7;

/// A thread that takes part in the runs of others.
pub(super) struct Worker {
    /// A pool of this one thread, so that work can be sent to it alone.
    pool: rayon::ThreadPool,
    state: Arc<AtomicU8>,
    balance: Balance,
}

impl Worker {
    fn new(index: usize) -> Option<Worker> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(1);
        let pool = builder.thread_name(move |_| format!("wgpu-lstm-{index}")).build();
        let pool = pool.inspect_err(|error| log::warn!("running on fewer threads: {error}")).ok()?;
        Some(Worker { pool, state: Arc::new(AtomicU8::new(ASLEEP)), balance: Balance::default() })
    }

    /// Asks the worker for a sign that it runs, for work of which it would save the caller `gain`; or wakes it, if that pays.
    pub fn ask(&mut self, gain: Duration, now: Instant) -> Answer {
        let state = self.state.load(Ordering::Acquire);
        // a panic may have left it in the state of having work
        let asleep = matches!(state, ASLEEP | WORKING);
        if state == ABSENT || !self.balance.worth_trying(gain, asleep, now) {
            return Answer::No;
        }
        if asleep {
            self.expect(WOKEN);
            self.balance.woke(WAKING_COST, now);
        }
        if asleep || state == WOKEN {
            return if gain > WORTH_WAITING { Answer::Late } else { Answer::No };
        }
        if matches!(state, WAITING | PRESENT) {
            // if that fails, it is falling asleep and will not answer
            _ = self.state.compare_exchange(state, ASKED, Ordering::AcqRel, Ordering::Acquire);
        }
        Answer::Soon
    }

    /// True if it runs: it has answered, or has woken up.
    pub fn is_here(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), WAITING | PRESENT)
    }

    /// Ends the wait for an answer; true if there was one.
    pub fn withdraw(&mut self, waited: Duration, now: Instant) -> bool {
        let asked = self.state.compare_exchange(ASKED, ABSENT, Ordering::AcqRel, Ordering::Acquire);
        match asked {
            Err(PRESENT | WAITING) => return true,
            Err(WOKEN) => self.balance.woke(waited, now),
            _ => self.balance.lost(waited, now),
        }
        false
    }

    /// Queues the worker's wait for work.
    fn expect(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        let state = self.state.clone();
        self.pool.spawn(move || wait_for_work(&state));
    }

    /// Runs `theirs` on this worker and `own` here at the same time.
    pub fn join(&self, theirs: impl FnOnce() + Send, own: impl FnOnce()) {
        self.state.store(WORKING, Ordering::Release);
        self.pool.in_place_scope(|scope| {
            scope.spawn(move |_| theirs());
            own();
        });
        self.expect(COMING);
    }

    /// Records that the worker saved the caller this much time.
    pub fn spared(&mut self, gain: Duration) {
        self.balance.spared(gain);
    }

    /// Records that the worker cost the caller this much time.
    pub fn lost(&mut self, time: Duration, now: Instant) {
        self.balance.lost(time, now);
    }
}

/// Answer of a worker that was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has no processor, or a try does not pay.
    No,
    /// It is awake.
    Soon,
    /// It was asleep, and is being woken.
    Late,
}

/// Loop of a worker that waits for work.
fn wait_for_work(state: &AtomicU8) {
    let change = |from, to| state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    let mut patience = if change(COMING, WAITING).is_ok() {
        AWAKE
    } else if change(WOKEN, WAITING).is_ok() {
        AWAKE_ONCE_WOKEN
    } else {
        return; // work is on its way
    };
    let mut start = Instant::now();
    loop {
        let waited = start.elapsed();
        match state.load(Ordering::Acquire) {
            ASKED => {
                if change(ASKED, PRESENT).is_ok() {
                    (start, patience) = (Instant::now(), AWAKE);
                }
            }
            now @ (WAITING | PRESENT | ABSENT) if waited > patience => {
                if change(now, ASLEEP).is_ok() {
                    return;
                }
            }
            ABSENT => {
                _ = change(ABSENT, WAITING);
            }
            WAITING | PRESENT => pause(waited),
            _ => return,
        }
    }
}

/// Gains and costs of a worker, which limit the tries of a worker that has lost its processor.
#[derive(Default)]
struct Balance {
    /// Gain from which on the next try pays; 0 for a worker without losses.
    price: Duration,
    /// Cost of waking it that no gain has paid for yet.
    wakes: Duration,
    /// Gain that it missed since it last took part.
    missed: Duration,
    last_try: Option<Instant>,
    last_loss: Option<Instant>,
}

impl Balance {
    fn worth_trying(&mut self, gain: Duration, asleep: bool, now: Instant) -> bool {
        if self.last_try.is_some_and(|last| now.saturating_duration_since(last) > PAUSE) {
            self.missed = Duration::ZERO;
        }
        self.last_try = Some(now);
        self.missed += gain;
        let halvings =
            self.last_loss.map_or(0, |last| now.saturating_duration_since(last).as_nanos() / FORGIVEN.as_nanos());
        let forgiven = |price: Duration| price / 2u32.saturating_pow(halvings.min(31) as u32);
        let waking = if asleep { WAKING_COST + forgiven(self.wakes) } else { Duration::ZERO };
        let worth = self.missed >= forgiven(self.price).max(waking);
        if worth {
            self.missed = Duration::ZERO;
        }
        worth
    }

    fn spared(&mut self, gain: Duration) {
        self.price = self.price.saturating_sub(gain);
        self.wakes = self.wakes.saturating_sub(gain);
    }

    fn lost(&mut self, time: Duration, now: Instant) {
        self.price = (2 * self.price + time).min(HIGHEST_PRICE);
        (self.missed, self.last_loss) = (Duration::ZERO, Some(now));
    }

    fn woke(&mut self, time: Duration, now: Instant) {
        self.wakes = (self.wakes + time).min(HIGHEST_PRICE);
        self.last_loss = Some(now);
    }
}

/// Workers that are not in use.
struct Stock {
    idle: Vec<Worker>,
    made: usize,
}

static STOCK: Mutex<Stock> = Mutex::new(Stock { idle: Vec::new(), made: 0 });

/// Adds workers to a crew until it has `count`; makes new ones while the process has fewer than `most`.
pub(super) fn hire(crew: &mut Vec<Worker>, count: usize, most: usize) {
    let mut stock = lock(&STOCK);
    while crew.len() < count {
        let worker = stock.idle.pop().or_else(|| {
            let made = (stock.made < most).then(|| Worker::new(stock.made)).flatten();
            stock.made += made.is_some() as usize;
            made
        });
        let Some(worker) = worker else { return };
        crew.push(worker);
    }
}

/// Gives workers back.
pub(super) fn dismiss(crew: impl Iterator<Item = Worker>) {
    lock(&STOCK).idle.extend(crew);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_a_number_of_threads() {
        assert_eq!(threads_of("3", 8), Ok(3));
        assert_eq!(threads_of(" 16 ", 8), Ok(16));
        assert_eq!(threads_of("0", 8), Ok(8));
        for bad in ["", "-1", "two", "1.5", "1025", "99999999999999999999"] {
            assert!(threads_of(bad, 8).unwrap_err().contains(&format!("{bad:?}")), "{bad}");
        }
    }

    #[test]
    fn a_worker_that_was_no_loss_is_used_at_once_and_one_that_was_has_to_be_worth_it() {
        let (start, micros) = (Instant::now(), Duration::from_micros);
        let mut balance = Balance::default();
        assert!(balance.worth_trying(micros(1), false, start));
        assert!(!balance.worth_trying(micros(30), true, start), "waking costs more than that");
        assert!(balance.worth_trying(micros(30), true, start), "not more than both");
        balance.woke(micros(50), start);
        assert!(balance.worth_trying(micros(1), false, start), "now it is awake");
        assert!(!balance.worth_trying(micros(90), true, start), "the first time was for nothing");
        assert!(balance.worth_trying(micros(10), true, start));
        balance.lost(micros(1000), start);
        assert!(!balance.worth_trying(micros(900), false, start));
        assert!(!balance.worth_trying(micros(900), false, start + 2 * PAUSE), "the pause ended what was missed before");
        assert!(balance.worth_trying(micros(900), false, start + 2 * PAUSE));
        balance.spared(micros(2000));
        assert!(balance.worth_trying(micros(1), false, start), "it has made up for what it cost");
        for _ in 0..100 {
            balance.lost(micros(5000), start);
        }
        assert!(!balance.worth_trying(micros(39_000), false, start));
        assert!(balance.worth_trying(micros(1000), false, start), "no price is higher than this");
        balance.lost(micros(5000), start);
        assert!(balance.worth_trying(micros(100), false, start + 20 * FORGIVEN), "forgiven");
    }

    #[test]
    fn a_worker_sleeps_comes_answers_and_works() {
        let mut worker = Worker::new(0).expect("a thread");
        let until = |what: &dyn Fn(&mut Worker) -> bool, worker: &mut Worker| {
            let start = Instant::now();
            while !what(worker) {
                assert!(start.elapsed() < Duration::from_secs(60));
                std::thread::yield_now();
            }
        };
        assert!(!worker.is_here());
        for _ in 0..100 {
            // On a busy machine it may fall asleep, or be absent, before it is seen.
            let here = |worker: &mut Worker| {
                let answer = worker.ask(Duration::from_secs(1), Instant::now());
                answer != Answer::No && worker.is_here()
            };
            until(&here, &mut worker);
            let (mut own, mut theirs) = (0, None);
            worker.join(|| theirs = Some(std::thread::current().id()), || own = 1);
            assert_eq!(own, 1);
            assert!(theirs.is_some_and(|id| id != std::thread::current().id()));
        }
        until(&|worker| worker.state.load(Ordering::Acquire) == ASLEEP, &mut worker);
    }
}
