//! Runs a plan on the CPU.

use crate::cpu::{Args, Bound, Buffer, CpuWeights, DEFAULT_THREADS, Pick, Shared, Team, Threads};
use crate::error::Result;
use crate::kernel::Access;
use crate::lock::{lock, read, write};
use crate::memory;
use crate::plan::{BufferId, Command, Plan, Role};
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
    /// Form of the weights that the plan lets products read in another.
    weights: CpuWeights,
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
        Ok(Machine { plan, buffers, locks, scratch: Mutex::default(), threads, weights: CpuWeights::F32 })
    }

    /// Runs on so many threads instead of one for every processor. Results are the same bits.
    pub fn with_threads(self, threads: Threads) -> Machine<F> {
        Machine { threads, ..self }
    }

    /// Form in which a buffer is kept packed, if it has weights.
    fn form_of_weights(&self, id: BufferId) -> Option<CpuWeights> {
        let buffer = &self.plan.buffers[id.0];
        (buffer.role == Role::Weight).then_some(if buffer.rounds { self.weights } else { CpuWeights::F32 })
    }

    /// A buffer, to be shared.
    pub(crate) fn shared(&self, id: BufferId) -> Shared<F> {
        self.buffers[id.0].clone()
    }

    /// Threads of its runs.
    pub(crate) fn threads(&self) -> Threads {
        self.threads
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
        let (mut bound, mut weights) = (Vec::new(), Vec::new());
        let mut scratch = lock(&self.scratch);
        for command in &self.plan.commands[range] {
            weights.clear();
            weights.extend(command.buffers.iter().map(|id| self.form_of_weights(*id)));
            let mut lacking = None;
            let mut call = |buffers: &mut [Bound<F>]| {
                let (bindings, weights) = (command.call.kernel.bindings, &weights);
                let (scratch, lacking, team) = (&mut scratch, &mut lacking, &team);
                F::twin(command.call.kernel)(
                    &command.call,
                    &mut Args { buffers, bindings, weights, scratch, lacking, team },
                );
            };
            if binds_twice(command) {
                call_with_twice(command, &mut memory, &mut call);
            } else {
                bound.extend(command.buffers.iter().filter_map(|id| memory[id.0].take()));
                assert_eq!(bound.len(), command.buffers.len(), "every buffer was given back");
                call(&mut bound);
                for (id, buffer) in command.buffers.iter().zip(bound.drain(..)) {
                    memory[id.0] = Some(buffer);
                }
            }
            if let Some(error) = lacking {
                return Err(error);
            }
            team.give_back();
        }
        Ok(())
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
        self.write_with((id, at), values.len() as u64, |own| own.copy_from_slice(values));
    }

    /// Has `fill` overwrite `len` elements of a buffer from element `at`.
    pub(crate) fn write_with<R>(&self, (id, at): (BufferId, u64), len: u64, fill: impl FnOnce(&mut [F]) -> R) -> R {
        fill(&mut write(&self.buffers[id.0])[at as usize..][..len as usize])
    }
}

impl Machine<f32> {
    /// Runs with weights in a form.
    pub(crate) fn with_weights(self, weights: CpuWeights) -> Self {
        Machine { weights, ..self }
    }
}

/// True if a command binds a buffer more than once, which it then only reads.
fn binds_twice(Command { buffers, .. }: &Command) -> bool {
    buffers.iter().enumerate().any(|(k, id)| buffers[..k].contains(id))
}

/// Calls a command that reads some buffer by several bindings.
fn call_with_twice<F>(command: &Command, memory: &mut [Option<Bound<F>>], call: &mut impl FnMut(&mut [Bound<F>])) {
    let bindings = || command.buffers.iter().zip(command.call.kernel.bindings);
    let is_written = bindings().filter(|(_, binding)| binding.access != Access::Read);
    let mut written: Vec<_> = is_written.filter_map(|(id, _)| Some((id.0, memory[id.0].take()?))).collect();
    let mut exclusive = written.iter_mut().map(|(_, buffer)| buffer.again());
    let bound = bindings().filter_map(|(id, binding)| match binding.access {
        Access::Read => memory[id.0].as_ref().map(|buffer| Bound::Read(buffer.buffer())),
        Access::ReadWrite => exclusive.next(),
    });
    let mut bound: Vec<Bound<F>> = bound.collect();
    assert_eq!(bound.len(), command.buffers.len(), "a plan's check refuses to bind twice what is written");
    call(&mut bound);
    drop(bound);
    for (id, buffer) in written {
        memory[id] = Some(buffer);
    }
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
