//! The guard around calls into wgpu.
//!
//! wgpu panics where a device fails in a call that cannot return an error, such as `Device::poll` while the host waits, or the
//! drop of a queue. A lost GPU must not end a process that can go on without it, so the guard turns such a panic into an error.
//!
//! A program that is compiled with `panic = "abort"` ends there all the same; the panic's message is then printed as usual.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

thread_local! {
    /// Guards that this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Counts a guard in [`DEPTH`] while it lives.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        DEPTH.set(DEPTH.get() + 1);
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Keeps panics inside a guard off standard error; all others go to the hook that was there before. A hook that the program
/// sets later and that does not call this one sees the guard's panics, too.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    // Where panics abort, the message is all that there will be. Hooks cannot be changed while a thread panics.
    if cfg!(panic = "abort") || std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // Thread-local storage is gone while a thread ends; no guard is active then.
            if !DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false) {
                previous(info);
            }
        }));
    });
}

/// Runs calls into wgpu; a panic becomes its message.
pub fn guarded<R>(calls: impl FnOnce() -> R) -> Result<R, String> {
    install_hook();
    let _inside = Inside::enter();
    panic::catch_unwind(AssertUnwindSafe(calls)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        one_line(text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked without a message"))
    })
}

/// [`guarded`] for a future of wgpu.
pub async fn guarded_future<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match guarded(|| future.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(message) => Poll::Ready(Err(message)),
    })
    .await
}

/// A message of wgpu in one line: the lines below "Caused by:", which name the call and the reason.
pub fn one_line(message: &str) -> String {
    let causes = message.split_once("Caused by:").map_or(message, |(_, causes)| causes);
    let lines: Vec<&str> = causes.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(": ")
}

/// An object of wgpu that is dropped inside the guard: the last handle of a failed device can panic when it goes.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub fn new(object: T) -> Guarded<T> {
        Guarded(Some(object))
    }

    /// The object, no longer guarded.
    pub fn into_inner(mut self) -> T {
        // As below
        self.0.take().expect("an object that is not dropped yet")
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // Only `drop` takes it.
        self.0.as_ref().expect("an object that is not dropped yet")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        // As above
        self.0.as_mut().expect("an object that is not dropped yet")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let object = self.0.take();
        if let Err(message) = guarded(move || drop(object)) {
            log::error!("while an object of a failed device was dropped: {message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(guarded(|| 3), Ok(3));
        assert_eq!(guarded(|| panic!("{} is lost", "it")).unwrap_err(), "it is lost");
        assert_eq!(guarded(|| guarded(|| panic!("inner"))), Ok(Err("inner".into())), "guards can be nested");
        assert_eq!(pollster::block_on(guarded_future(async { panic!("later") })).unwrap_err(), "later");
        let words = "Error in Device::poll: Validation Error\n\nCaused by:\n  Parent device is lost\n";
        assert_eq!(guarded(|| panic!("{words}")).unwrap_err(), "Parent device is lost");
        assert_eq!(DEPTH.get(), 0);
    }

    /// Dropped in the course of another panic, too.
    #[test]
    fn a_drop_that_panics_ends_in_the_guard() {
        struct Fatal;
        impl Drop for Fatal {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        drop(Guarded::new(Fatal));
        let outer = panic::catch_unwind(|| {
            let _held = Guarded::new(Fatal);
            panic::resume_unwind(Box::new("outer"));
        });
        assert_eq!(*outer.unwrap_err().downcast::<&str>().unwrap(), "outer");
    }
}
