//! Polls a device for tasks that must not block: wgpu calls back, and so wakes a task, from a poll alone.

use super::context::Sender;
use super::guard::{Guarded, guarded};
use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

/// A thread that polls a device while callbacks are to come, started when the first is. It ends with this.
#[derive(Debug, Default)]
pub(super) struct Poller {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The awaited callbacks with the submissions after which they come, in their order. wgpu drops a callback, which holds the sender, when it
    /// has called it.
    awaited: VecDeque<(Weak<Sender>, wgpu::SubmissionIndex)>,
    closed: bool,
}

impl Poller {
    /// Has the device polled until the callback, which comes after a submission, was called; false if there can be no thread.
    pub fn poll(&self, device: &Guarded<wgpu::Device>, sender: &Arc<Sender>, after: wgpu::SubmissionIndex) -> bool {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (shared, device) = (self.shared.clone(), device.clone());
            let builder = std::thread::Builder::new().name("wgpu-lstm-poll".into());
            *thread = builder.spawn(move || shared.run(&device)).ok();
        }
        lock(&self.shared.state).awaited.push_back((Arc::downgrade(sender), after));
        self.shared.changed.notify_one();
        thread.is_some()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_one();
        // It is this thread where a waker dropped the last model.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = lock(&self.thread).take().filter(other) {
            // It has nothing to say, and ends within a poll.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, device: &wgpu::Device) {
        let mut state = lock(&self.state);
        while !state.closed {
            state.awaited.retain(|(sender, _)| sender.strong_count() > 0);
            let Some((_, first)) = state.awaited.front().cloned() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            // Without a timeout: after one, wgpu-core 30 panics if another thread has polled meanwhile.
            let poll = || device.poll(wgpu::PollType::Wait { submission_index: Some(first), timeout: None });
            let failure = match guarded(poll) {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(message) => Some(message),
            };
            state = lock(&self.state);
            if let Some(failure) = failure {
                for sender in state.awaited.drain(..).filter_map(|(sender, _)| sender.upgrade()) {
                    // Nobody waits any more if the future was dropped.
                    let _ = sender.send(Err(failure.clone()));
                }
            }
        }
    }
}
