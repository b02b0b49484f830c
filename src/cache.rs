//! Compiled plans by purpose and sizes.

use crate::device::Executable;
use crate::error::{Error, Result};

/// Plans of a kind P made ready, by purpose K, T and B; the oldest goes when there are too many.
#[derive(Debug)]
pub(crate) struct Plans<K, P>(Vec<Entry<K, P>>);

#[derive(Debug)]
struct Entry<K, P> {
    key: (K, usize, usize),
    plan: P,
    executable: Executable,
}

impl<K: Copy + PartialEq, P> Plans<K, P> {
    /// A fit with a last, smaller batch and validation uses four.
    const MOST: usize = 8;

    pub fn new() -> Self {
        Plans(Vec::new())
    }

    pub fn has(&self, kind: K, steps: usize, batch: usize) -> bool {
        self.0.iter().any(|entry| entry.key == (kind, steps, batch))
    }

    pub fn get(&self, kind: K, steps: usize, batch: usize) -> Result<(&P, &Executable)> {
        let found = self.0.iter().find(|entry| entry.key == (kind, steps, batch));
        found.map(|entry| (&entry.plan, &entry.executable)).ok_or_else(|| Error::Plan("a plan was not compiled".into()))
    }

    pub fn keep(&mut self, kind: K, steps: usize, batch: usize, plan: P, executable: Executable) {
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        self.0.push(Entry { key: (kind, steps, batch), plan, executable });
    }

    /// Drops the plans of some purposes.
    pub fn forget(&mut self, of: impl Fn(K) -> bool) {
        self.0.retain(|entry| !of(entry.key.0));
    }
}
