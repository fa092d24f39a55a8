//! Whether the tests may take minutes, and may check durations, which are reliable only on a quiet machine.

use std::time::Duration;

/// Whether the tests run with `scripts/test --long`. Only then are durations compared with each other: on a busy machine
/// such a comparison fails without a fault.
pub(crate) fn is_long() -> bool {
    std::env::var_os("PTTH_LONG").is_some()
}

/// The limit for a step that should end within `tight`: `tight` itself with `--long`, five times as much without.
pub(crate) fn limit(tight: Duration) -> Duration {
    if is_long() { tight } else { 5 * tight }
}
