//! Runs a plan on the CPU.

use super::buffer::Buffer;
use super::{Args, Pick, Team};
use crate::error::Result;
use crate::kernel::Access;
use crate::memory;
use crate::plan::{BufferId, Plan, Role};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A buffer that several plans may share.
pub type Shared<F> = Arc<Mutex<Buffer<F>>>;

/// A plan with its buffers in main memory. What lies outside the plan or its buffers panics here;
/// [`Executable`](crate::Executable) checks first.
///
/// ```
/// use wgpu_lstm::{cpu::Machine, plan::{Plan, Role}, schedule::Builder, Capabilities};
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
    scratch: Mutex<Vec<F>>,
    threads: usize,
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
                None => Ok(Arc::new(Mutex::new(memory::zeros(buffer.len as usize, &buffer.name)?.into()))),
            })
            .collect::<Result<_>>()?;
        Ok(Machine { plan, buffers, scratch: Mutex::default(), threads: usize::MAX })
    }

    /// Runs on at most `most` threads instead of one for every processor. Results are the same bits.
    pub fn with_threads(self, most: usize) -> Machine<F> {
        Machine { threads: most, ..self }
    }

    /// Runs the commands of a range.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where there is none for intermediate results; what was written up to
    /// then stays.
    pub fn run(&self, range: Range<usize>) -> Result<()> {
        // All buffers are held while the range runs, locked in the order of their addresses so that two plans that
        // share buffers cannot wait for each other.
        let mut order: Vec<usize> = (0..self.buffers.len()).collect();
        order.sort_by_key(|&k| Arc::as_ptr(&self.buffers[k]).addr());
        let mut guards: Vec<Option<MutexGuard<Buffer<F>>>> = self.buffers.iter().map(|_| None).collect();
        for k in order {
            guards[k] = Some(lock(&self.buffers[k]));
        }
        let mut memory: Vec<Buffer<F>> =
            guards.iter_mut().flatten().map(|guard| std::mem::take(&mut **guard)).collect();
        let team = Team::claim(self.threads);
        let (mut bound, mut weights) = (Vec::new(), Vec::new());
        let mut scratch = lock(&self.scratch);
        let mut result = Ok(());
        for command in &self.plan.commands[range] {
            bound.extend(command.buffers.iter().map(|id| std::mem::take(&mut memory[id.0])));
            weights.clear();
            weights.extend(command.buffers.iter().map(|id| self.plan.buffers[id.0].role == Role::Weight));
            let mut lacking = None;
            F::twin(command.call.kernel)(
                &command.call,
                &mut Args {
                    buffers: &mut bound,
                    weights: &weights,
                    scratch: &mut scratch,
                    lacking: &mut lacking,
                    team: &team,
                },
            );
            let bindings = command.call.kernel.bindings;
            for ((id, mut buffer), binding) in command.buffers.iter().zip(bound.drain(..)).zip(bindings) {
                if binding.access != Access::Read {
                    buffer.packed.forget();
                }
                memory[id.0] = buffer;
            }
            if let Some(error) = lacking {
                result = Err(error);
                break;
            }
        }
        for (guard, buffer) in guards.iter_mut().flatten().zip(memory) {
            **guard = buffer;
        }
        result
    }

    /// A copy of `len` elements of a buffer from element `at`.
    pub fn read(&self, (id, at): (BufferId, u64), len: u64) -> Vec<F> {
        self.read_with((id, at), len, <[F]>::to_vec)
    }

    /// Shows `len` elements of a buffer from element `at`, without a copy.
    pub fn read_with<R>(&self, (id, at): (BufferId, u64), len: u64, see: impl FnOnce(&[F]) -> R) -> R {
        see(&lock(&self.buffers[id.0])[at as usize..][..len as usize])
    }

    /// Overwrites a buffer from element `at`.
    pub fn write(&self, (id, at): (BufferId, u64), values: &[F]) {
        lock(&self.buffers[id.0])[at as usize..][..values.len()].copy_from_slice(values);
    }
}

/// A panic while the lock was held is a bug that already showed itself; the numbers are still numbers.
pub(crate) fn lock<T>(buffer: &Mutex<T>) -> MutexGuard<'_, T> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}
