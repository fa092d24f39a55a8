//! A secret that a person types or pastes at a terminal. The terminal does not show it.

use std::io::{IsTerminal as _, Write as _};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Failure;
use crate::domain::Secret;

/// The limit for a secret in bytes, far above the length of any token.
const MOST: usize = 4096;

/// Restores the terminal.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // The program ends soon after a failure here, and the shell sets the terminal again.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Prints `label` on stderr, and reads a line from the terminal without echo. `None` if stdin is no terminal.
///
/// # Errors
/// [`Failure`] when the person cancels, or when the terminal fails.
pub(super) fn secret(label: &str) -> Result<Option<Secret>, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let failed = |error: Errno| Failure::failed(format!("cannot read from the terminal: {error}"));
    let before = tcgetattr(&stdin).map_err(failed)?;
    let mut raw = before.clone();
    // Without the line discipline of the terminal, Ctrl-C is a byte, so that it cannot leave the echo off.
    raw.make_raw();
    // A line that was pasted before this point stays in the queue of the terminal.
    tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(failed)?;
    let restore = Restore(before);
    let _ = write!(std::io::stderr(), "{label}: ");
    let line = read_line(|| {
        let mut byte = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(&stdin, &mut byte))
            .map(|count| (count > 0).then_some(byte[0]))
    });
    drop(restore);
    let _ = writeln!(std::io::stderr());
    line.map_err(failed)?.map(Some).ok_or_else(|| Failure::failed("cancelled"))
}

/// Reads bytes up to the end of a line, and applies the keys that edit it. `None` for Ctrl-C, or at the end of the
/// input.
fn read_line(mut next: impl FnMut() -> Result<Option<u8>, Errno>) -> Result<Option<Secret>, Errno> {
    let mut line = Vec::new();
    while let Some(byte) = next()? {
        match byte {
            b'\r' | b'\n' => return Ok(Some(Secret::new(String::from_utf8_lossy(&line).trim()))),
            // Ctrl-C and Ctrl-D.
            3 | 4 => return Ok(None),
            // Backspace.
            8 | 127 => drop(line.pop()),
            // Ctrl-U.
            21 => line.clear(),
            byte if line.len() < MOST => line.push(byte),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Option<String> {
        let mut keys = keys.iter().copied();
        read_line(|| Ok(keys.next())).unwrap().map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn keys_edit_the_line_and_enter_ends_it() {
        assert_eq!(typed(b"ptth_a_b\rrest").as_deref(), Some("ptth_a_b"));
        assert_eq!(typed(b" xx\x7f\x7fab\x08c \n").as_deref(), Some("ac"));
        assert_eq!(typed(b"wrong\x15right\r").as_deref(), Some("right"));
        assert_eq!(typed(b"ptth\x03\r"), None);
        assert_eq!(typed(b"ptth"), None);
    }
}
