//! Runs a plan on the CPU.

use crate::cpu::{Args, Bound, Buffer, DEFAULT_THREADS, Pick, Shared, Team, Threads};
use crate::error::Result;
use crate::kernel::Access;
use crate::lock::{lock, read, write};
use crate::memory;
use crate::plan::{BufferId, Plan, Role};
use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A plan with its buffers in main memory. What lies outside the plan or its buffers panics here;
/// [`Executable`](crate::Executable) checks first.
///
/// Plans that share buffers run at the same time where all of them only read what they share, as passes forward do with their
/// weights; else they take turns. So do runs of one machine.
///
/// ```
/// use wgpu_lstm::{Capabilities, Machine, plan::{Plan, Role}, schedule::Builder};
/// let mut plan = Builder::new("fill", Capabilities::default());
/// let ones = plan.buffer("ones", 4, Role::Output)?;
/// plan.fill(ones, 0..4, 1.0);
/// let machine = Machine::<f64>::new(plan.finish()?.into(), |_| None)?;
/// machine.run(0..1)?;
/// assert_eq!(machine.read((ones, 0), 4), [1.0; 4]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Debug)]
pub struct Machine<F> {
    plan: Arc<Plan>,
    buffers: Vec<Shared<F>>,
    /// Buffers in the order in which a run locks them, and whether it writes to them.
    locks: Vec<(usize, Access)>,
    scratch: Mutex<Vec<F>>,
    threads: Threads,
}

impl<F: Pick> Machine<F> {
    /// Allocates the plan's buffers, zeroed, except those that `shared` provides by index.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), with the buffer.
    pub fn new(plan: Arc<Plan>, shared: impl Fn(usize) -> Option<Shared<F>>) -> Result<Machine<F>> {
        let buffers = (plan.buffers.iter().enumerate())
            .map(|(k, buffer)| match shared(k) {
                Some(shared) => Ok(shared),
                None => Ok(Arc::new(RwLock::new(memory::zeros(buffer.len as usize, &buffer.name)?.into()))),
            })
            .collect::<Result<Vec<Shared<F>>>>()?;
        let mut locks: Vec<_> = (0..buffers.len()).map(|k| (k, Access::Read)).collect();
        for command in &plan.commands {
            for (id, binding) in command.buffers.iter().zip(command.call.kernel.bindings) {
                if binding.access != Access::Read {
                    locks[id.0].1 = binding.access;
                }
            }
        }
        // By address, so that two plans that share buffers cannot wait for each other.
        locks.sort_by_key(|&(k, _)| Arc::as_ptr(&buffers[k]).addr());
        let threads = Threads::AtMost(*DEFAULT_THREADS);
        Ok(Machine { plan, buffers, locks, scratch: Mutex::default(), threads })
    }

    /// Runs on so many threads instead of one for every processor. Results are the same bits.
    pub fn with_threads(self, threads: Threads) -> Machine<F> {
        Machine { threads, ..self }
    }

    /// Runs the commands of a range.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where there is none for intermediate results; what was written up to
    /// then stays.
    pub fn run(&self, range: Range<usize>) -> Result<()> {
        // All buffers are held while the range runs.
        let mut guards: Vec<(usize, Guard<F>)> =
            self.locks.iter().map(|&(k, access)| (k, Guard::new(&self.buffers[k], access))).collect();
        let mut memory: Vec<Option<Bound<F>>> = self.buffers.iter().map(|_| None).collect();
        for (k, guard) in &mut guards {
            memory[*k] = Some(guard.bound());
        }
        let team = Team::new(self.threads);
        let (mut room, mut written, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut scratch = lock(&self.scratch);
        let mut result = Ok(());
        for command in &self.plan.commands[range] {
            let kernel = command.call.kernel;
            let bindings = || command.buffers.iter().zip(kernel.bindings);
            let is_written = bindings().filter(|(_, binding)| binding.access != Access::Read);
            written.extend(is_written.filter_map(|(id, _)| Some((id.0, memory[id.0].take()?))));
            let mut exclusive = written.iter_mut().map(|(_, buffer)| buffer.again());
            let mut bound = emptied(room);
            // What a command only reads may be bound more than once.
            bound.extend(bindings().filter_map(|(id, binding)| match binding.access {
                Access::Read => memory[id.0].as_ref().map(|buffer| Bound::Read(buffer.buffer())),
                Access::ReadWrite => exclusive.next(),
            }));
            assert_eq!(bound.len(), command.buffers.len(), "a plan's check refuses to bind twice what is written");
            weights.clear();
            weights.extend(command.buffers.iter().map(|id| self.plan.buffers[id.0].role == Role::Weight));
            let mut lacking = None;
            F::twin(kernel)(
                &command.call,
                &mut Args {
                    buffers: &mut bound,
                    bindings: kernel.bindings,
                    weights: &weights,
                    scratch: &mut scratch,
                    lacking: &mut lacking,
                    team: &team,
                },
            );
            room = emptied(bound);
            for (id, buffer) in written.drain(..) {
                memory[id] = Some(buffer);
            }
            if let Some(error) = lacking {
                result = Err(error);
                break;
            }
            team.give_back();
        }
        result
    }

    /// A copy of `len` elements of a buffer from element `at`.
    pub fn read(&self, (id, at): (BufferId, u64), len: u64) -> Vec<F> {
        self.read_with((id, at), len, <[F]>::to_vec)
    }

    /// Shows `len` elements of a buffer from element `at`, without a copy.
    pub fn read_with<R>(&self, (id, at): (BufferId, u64), len: u64, see: impl FnOnce(&[F]) -> R) -> R {
        see(&read(&self.buffers[id.0])[at as usize..][..len as usize])
    }

    /// Overwrites a buffer from element `at`.
    pub fn write(&self, (id, at): (BufferId, u64), values: &[F]) {
        write(&self.buffers[id.0])[at as usize..][..values.len()].copy_from_slice(values);
    }
}

/// The allocation of a list of buffers, for those of another call.
fn emptied<'a, F>(mut bound: Vec<Bound<'_, F>>) -> Vec<Bound<'a, F>> {
    bound.clear();
    bound.into_iter().map_while(|_| None).collect()
}

/// A buffer that a run holds.
enum Guard<'a, F> {
    Read(RwLockReadGuard<'a, Buffer<F>>),
    Write(RwLockWriteGuard<'a, Buffer<F>>),
}

impl<'a, F> Guard<'a, F> {
    fn new(buffer: &'a RwLock<Buffer<F>>, access: Access) -> Self {
        match access {
            Access::Read => Guard::Read(read(buffer)),
            Access::ReadWrite => Guard::Write(write(buffer)),
        }
    }

    fn bound(&mut self) -> Bound<'_, F> {
        match self {
            Guard::Read(buffer) => Bound::Read(buffer),
            Guard::Write(buffer) => Bound::Write(buffer),
        }
    }
}
