//! Waiting for a device: on a thread that may block, and in a task that must not.
//!
//! The crate's functions that block run its asynchronous ones by [`block_on`]. The few places that wait, or work for long, ask
//! [`may_block`] whether that is what polls them: then they wait on the spot, which is the fastest. Otherwise somebody's executor
//! polls them; they return `Pending` and have it woken.

use std::future::poll_fn;
use std::task::{Context, Poll};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::block_on;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::{Context, Waker};

    thread_local! {
        /// The waker of the innermost [`block_on`] of this thread.
        static BLOCKED: RefCell<Option<Waker>> = const { RefCell::new(None) };
    }

    /// Puts the waker of the [`block_on`] outside back, also where a poll panics.
    struct Entered(Option<Waker>);

    impl Drop for Entered {
        fn drop(&mut self) {
            BLOCKED.set(self.0.take());
        }
    }

    /// Runs a future to its end on this thread, which may block.
    pub fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        pollster::block_on(poll_fn(|context| {
            let _entered = Entered(BLOCKED.replace(Some(context.waker().clone())));
            future.as_mut().poll(context)
        }))
    }

    pub fn may_block(context: &Context<'_>) -> bool {
        BLOCKED.with_borrow(|waker| waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())))
    }
}

/// True if [`block_on`] polls with this context. An executor that runs inside of it, in a callback, has wakers of its own.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn may_block(context: &Context<'_>) -> bool {
    native::may_block(context)
}

/// In browsers nothing waits: the page's event loop drives what is awaited.
#[cfg(target_arch = "wasm32")]
pub(crate) fn may_block(_: &Context<'_>) -> bool {
    true
}

/// Lets an executor's other tasks run, unless the thread may block.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) || may_block(context) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// [`may_block`] for who polls this.
pub(crate) async fn is_blocking() -> bool {
    poll_fn(|context| Poll::Ready(may_block(context))).await
}

/// Does work that blocks: on this thread if that may block, else on one of its own.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::{Arc, Mutex};
    if is_blocking().await {
        return work();
    }
    let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
    let work = Arc::new(Mutex::new(Some(work)));
    // Nothing that panics holds the lock.
    let take = |work: &Mutex<Option<_>>| crate::lock::lock(work).take();
    let theirs = work.clone();
    let thread = move || {
        let result = take(&theirs).map(|work| catch_unwind(AssertUnwindSafe(work)));
        // Nobody waits any more if the future was dropped.
        let _ = sender.send(result);
    };
    if std::thread::Builder::new().spawn(thread).is_err()
        && let Some(work) = take(&work)
    {
        // The system has no thread left.
        return work();
    }
    match receiver.receive().await.flatten() {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("the thread sends before it ends"),
    }
}

/// `Send`, but in browsers, where nothing goes to another thread.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send + ?Sized> MaybeSend for T {}
/// `Send`, but in browsers, where nothing goes to another thread.
#[cfg(target_arch = "wasm32")]
pub trait MaybeSend {}
#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> MaybeSend for T {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn yields_to_an_executor_once_and_not_where_the_thread_may_block() {
        let (mut context, mut yielding) = (Context::from_waker(Waker::noop()), pin!(yield_now()));
        assert!(yielding.as_mut().poll(&mut context).is_pending());
        assert!(yielding.as_mut().poll(&mut context).is_ready());
        let polls = std::cell::Cell::new(0);
        block_on(async {
            let mut yielding = pin!(yield_now());
            poll_fn(|context| {
                polls.set(polls.get() + 1);
                yielding.as_mut().poll(context)
            })
            .await;
        });
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn work_that_blocks_has_a_thread_of_its_own() {
        let here = std::thread::current().id();
        let of_work = || blocking(|| std::thread::current().id());
        assert_eq!(block_on(of_work()), here);
        assert_ne!(pollster::block_on(of_work()), here);
        let panics = || pollster::block_on(blocking(|| panic!("on purpose")));
        assert!(std::panic::catch_unwind(panics).is_err());
    }

    #[test]
    fn another_executor_inside_must_not_block() {
        let with = |context: &mut Context<'_>| match pin!(is_blocking()).poll(context) {
            Poll::Ready(blocking) => blocking,
            Poll::Pending => unreachable!("it is ready at once"),
        };
        block_on(async {
            assert!(is_blocking().await);
            assert!(!with(&mut Context::from_waker(Waker::noop())));
            block_on(async { assert!(is_blocking().await) });
            assert!(is_blocking().await, "after one inside ended");
        });
        assert!(!pollster::block_on(is_blocking()));
    }
}
