//! The exchange of states between threads that divide the units of the same rows.

use crate::cpu::barrier::Barrier;
use crate::lock::{read, write};
use crate::real::Real;
use std::ops::Range;
use std::sync::RwLock;

/// Exchange of states between threads that divide the units, once a step. Two buffers alternate: while some threads still read
/// one, others already fill the other, and no thread is two barriers ahead.
pub(super) struct Exchange<F> {
    pub(super) barrier: Barrier,
    /// Buffers [thread][trade % 2]: a thread's units of all rows.
    pub(super) rooms: Vec<[RwLock<Vec<F>>; 2]>,
}

impl<F: Real> Exchange<F> {
    fn new(threads: usize) -> Self {
        Exchange { barrier: Barrier::new(threads), rooms: (0..threads).map(|_| Default::default()).collect() }
    }

    /// The exchanges of so many threads, one for each group of `each`; none for groups of one.
    pub(super) fn of_groups(threads: usize, each: usize) -> Vec<Self> {
        if each < 2 { Vec::new() } else { (0..threads / each).map(|_| Exchange::new(each)).collect() }
    }

    /// Gives this thread's columns of `state` [rows, width] to the others and takes theirs. `columns` are those of each
    /// thread, `trades` counts this thread's trades.
    pub(super) fn trade(
        &self,
        thread: usize,
        trades: &mut usize,
        state: &mut [F],
        width: usize,
        columns: &[Range<usize>],
    ) {
        let turn = *trades % 2;
        *trades += 1;
        {
            let mut own = write(&self.rooms[thread][turn]);
            own.clear();
            for row in state.chunks_exact(width) {
                own.extend_from_slice(&row[columns[thread].clone()]);
            }
        }
        self.barrier.wait();
        for (other, columns) in columns.iter().enumerate().filter(|&(other, _)| other != thread) {
            let theirs = read(&self.rooms[other][turn]);
            for (row, values) in state.chunks_exact_mut(width).zip(theirs.chunks_exact(columns.len())) {
                row[columns.clone()].copy_from_slice(values);
            }
        }
    }
}
