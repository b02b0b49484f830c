//! Standard output that may be closed or full.

use std::io::{Error, ErrorKind, Result, Write};

/// Standard output. Where it is closed, because a reader such as `head` has seen enough, the process ends as if it had succeeded;
/// where it takes nothing more, the process ends with a message and code 1. `println!` would panic.
pub struct Output;

impl Output {
    fn written(result: Result<()>) -> Result<()> {
        result.map_err(|error| end(&error))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut out = std::io::stdout().lock();
        Output::written(out.write_all(bytes).and_then(|()| out.flush())).map(|()| bytes.len())
    }

    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        Output::written(out.write_fmt(text).and_then(|()| out.flush()))
    }

    fn flush(&mut self) -> Result<()> {
        Output::written(std::io::stdout().flush())
    }
}

/// Ends the process after a failed write.
fn end(error: &Error) -> Error {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    // Standard error may be full, too.
    let _ = writeln!(std::io::stderr(), "Error: cannot write to standard output: {error}");
    std::process::exit(1);
}

/// Prints a line, as `println!` does, to [`Output`].
#[allow(unused_macros)] // each example uses its own part
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // A write that fails ends the process.
        let _ = writeln!($crate::common::Output, $($text)*);
    }};
}
#[allow(unused_imports)]
pub(crate) use say;

/// Prints a line to standard error, as `eprintln!` does, and goes on where that is closed or full.
#[allow(unused_macros)]
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
#[allow(unused_imports)]
pub(crate) use note;

/// The arguments of the command line; where they ask for help or are wrong, that is printed and the process ends.
pub fn arguments<A: clap::Parser>() -> A {
    A::try_parse().unwrap_or_else(|error| {
        let printed = error.print();
        match printed {
            Err(failed) if !error.use_stderr() => _ = end(&failed),
            _ => {}
        }
        std::process::exit(error.exit_code())
    })
}
