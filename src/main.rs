//! The `ptth` program. Everything it does is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use ptth::internals::cli;

/// Requests allocate much and for a short time, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = cli::parse(std::env::args_os()).and_then(|said| match said {
        Some(said) => said.log.start().and_then(|()| cli::run(said)),
        None => Ok(()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With nobody there to read it, the code still tells.
            let _ = writeln!(std::io::stderr(), "ptth: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
