//! Compiled plans by purpose and sizes.

use crate::cpu::PROCESSORS;
use crate::device::Executable;
use crate::lock::lock;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard};

/// Default number of sizes that are kept: a fit with a last, smaller batch and validation uses four.
const MOST: usize = 8;

/// A plan and its executable, which has its own buffers except for the weights.
#[derive(Debug)]
pub(crate) struct Compiled<P> {
    pub plan: P,
    pub executable: Executable,
}

/// Compiled plans of type P, by key K (purpose and sizes): an LRU cache. A run takes one out and gives it back when it ends, so that
/// several threads run at the same time; no run holds the lock. Beyond the limit, the least recently used sizes are dropped.
#[derive(Debug)]
pub(crate) struct Plans<K, P> {
    most: usize,
    /// Executables of the same sizes that are kept: the number of threads that can run at once.
    spare: usize,
    /// Least recently used first; runs at the same time leave several of the same sizes.
    idle: Mutex<Vec<(K, Compiled<P>)>>,
}

impl<K: Clone + PartialEq, P> Plans<K, P> {
    pub fn new() -> Self {
        Plans { most: MOST, spare: *PROCESSORS, idle: Mutex::default() }
    }

    /// An empty cache with the same limit.
    pub fn new_like(&self) -> Self {
        Plans { most: self.most, ..Plans::new() }
    }

    /// Keeps the plans of at most `most` sizes.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
        self.trim(&mut self.idle());
    }

    /// Takes out an idle executable.
    pub fn take(&self, key: &K) -> Option<Compiled<P>> {
        let mut idle = self.idle();
        idle.retain(|(_, compiled)| !compiled.executable.is_outdated());
        let at = idle.iter().rposition(|(of, _)| of == key)?;
        Some(idle.remove(at).1)
    }

    /// Lends an executable to a run, after which it returns to the cache.
    pub fn lend(&self, key: K, compiled: Compiled<P>) -> Lease<'_, K, P> {
        Lease { plans: self, key, compiled: Some(compiled) }
    }

    /// Drops the plans of some purposes.
    pub fn forget(&mut self, of: impl Fn(&K) -> bool) {
        self.idle().retain(|(key, _)| !of(key));
    }

    /// Bytes of the largest plan of some purposes.
    pub fn largest(&self, of: impl Fn(&K) -> bool) -> u64 {
        let idle = self.idle();
        let plans = idle.iter().filter(|(key, _)| of(key)).map(|(_, compiled)| compiled.executable.plan().bytes());
        plans.max().unwrap_or(0)
    }

    fn keep(&self, key: K, compiled: Compiled<P>) {
        let mut idle = self.idle();
        if idle.iter().filter(|(of, _)| *of == key).count() < self.spare {
            idle.push((key, compiled));
        }
        self.trim(&mut idle);
    }

    /// Drops the least recently used sizes with all of their executables.
    fn trim(&self, idle: &mut Vec<(K, Compiled<P>)>) {
        let mut recent: Vec<K> = Vec::new();
        for (key, _) in idle.iter().rev() {
            if !recent.contains(key) {
                recent.push(key.clone());
            }
        }
        recent.truncate(self.most);
        idle.retain(|(key, _)| recent.contains(key));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(K, Compiled<P>)>> {
        // Entries are moved whole, so the list is in order whatever panicked.
        lock(&self.idle)
    }
}

/// A compiled plan on loan to a run.
#[derive(Debug)]
pub(crate) struct Lease<'a, K: Clone + PartialEq, P> {
    plans: &'a Plans<K, P>,
    key: K,
    /// `Some` until the lease ends.
    compiled: Option<Compiled<P>>,
}

impl<K: Clone + PartialEq, P> Deref for Lease<'_, K, P> {
    type Target = Compiled<P>;

    fn deref(&self) -> &Compiled<P> {
        // Only `drop` takes it out.
        self.compiled.as_ref().expect("a lease that has not ended")
    }
}

impl<K: Clone + PartialEq, P> Drop for Lease<'_, K, P> {
    fn drop(&mut self) {
        // A run that panicked may have left its buffers in any state.
        if let (Some(compiled), false) = (self.compiled.take(), std::thread::panicking()) {
            self.plans.keep(self.key.clone(), compiled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, plan::Role, schedule::Builder};

    /// A compiled plan with a mark that identifies it.
    fn compiled(mark: u32) -> Compiled<u32> {
        let device = Device::cpu();
        let mut plan = Builder::new("fill", device.capabilities().clone());
        let ones = plan.buffer("ones", 1, Role::Output).unwrap();
        plan.fill(ones, 0..1, 1.0);
        Compiled { plan: mark, executable: device.compile(plan.finish().unwrap()).unwrap() }
    }

    fn use_of(plans: &Plans<usize, u32>, steps: usize, mark: u32) -> bool {
        let (key, found) = (steps, plans.take(&steps));
        let known = found.is_some();
        drop(plans.lend(key, found.unwrap_or_else(|| compiled(mark))));
        known
    }

    #[test]
    fn the_sizes_used_least_recently_are_dropped() {
        let mut plans = Plans::new();
        plans.set_most(2);
        assert!(!use_of(&plans, 1, 0) && !use_of(&plans, 2, 0));
        assert!(use_of(&plans, 1, 0), "both fit");
        assert!(!use_of(&plans, 3, 0), "2 was used before 1 and makes room");
        assert!(use_of(&plans, 1, 0) && use_of(&plans, 3, 0) && !use_of(&plans, 2, 0));
        plans.set_most(1);
        assert!(use_of(&plans, 2, 0) && !use_of(&plans, 3, 0));
        plans.set_most(0);
        assert!(!use_of(&plans, 3, 0) && !use_of(&plans, 3, 0), "nothing is kept");
    }

    #[test]
    fn runs_at_the_same_time_have_an_executable_each() {
        let mut plans = Plans::new();
        plans.spare = 2;
        let key = 1;
        let leases: Vec<_> = (0..3)
            .map(|mark| {
                assert!(plans.take(&key).is_none(), "the others are still out");
                plans.lend(key, compiled(mark))
            })
            .collect();
        drop(leases);
        let kept = [plans.take(&key).unwrap().plan, plans.take(&key).unwrap().plan];
        assert!(kept[0] != kept[1] && plans.take(&key).is_none(), "two are kept: {kept:?}");
    }

    #[test]
    fn a_run_that_panicked_leaves_nothing() {
        let plans = Plans::new();
        let run = || {
            let _lease = plans.lend(1, compiled(0));
            panic!("on purpose");
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        assert!(plans.take(&1).is_none());
    }
}
