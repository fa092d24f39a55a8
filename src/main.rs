//! The `ptth` program. The library implements all of its commands.

use std::io::Write as _;
use std::process::ExitCode;

use ptth::internals::cli;

/// Requests allocate much and for a short time, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = cli::parse(std::env::args_os()).and_then(|parsed| match parsed {
        Some(command_line) => command_line.start_log().and_then(|()| cli::run(command_line)),
        None => Ok(()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If stderr cannot be written, the exit code alone reports the failure.
            let _ = writeln!(std::io::stderr(), "ptth: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
