//! The errors of a process, or of a machine, that has no file descriptor left.

use std::io;

/// `ENFILE` and `EMFILE` (open(2)). Both have these numbers on every Unix.
const EXHAUSTED: [i32; 2] = [23, 24];

/// Whether a call failed because no file descriptor is left. The same call works once another file is closed.
pub fn is_exhausted(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| EXHAUSTED.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_descriptor_counts() {
        let errors = [23, 24, 111].map(io::Error::from_raw_os_error);
        assert_eq!(errors.each_ref().map(is_exhausted), [true, true, false]);
        assert!(!is_exhausted(&io::ErrorKind::ConnectionRefused.into()));
    }
}
