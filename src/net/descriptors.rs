//! File descriptors: how many this process may have, and which of them are reserved for agents, the admin
//! listener and files.

use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that is set when the hard limit is infinite: macOS refuses more (setrlimit(2), `OPEN_MAX`).
const INFINITE: u64 = 10_240;
/// The limit divided by this is the number of reserved descriptors.
const RESERVED: usize = 4;
/// The most descriptors that are reserved.
const RESERVED_MOST: usize = 4_096;
/// The number of reserved descriptors divided by this is the number of the last descriptors, which no connection of the
/// public listeners may keep.
const LAST: usize = 8;

/// Raises this process's soft limit to its hard limit. Shells set a soft limit of 1,024 for programs that use
/// select(2); ptth does not use it.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(INFINITE);
    if current.is_none_or(|current| current >= most) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }) {
        tracing::debug!(%error, limit = most, "cannot raise the limit of open files");
    }
}

/// The shares of a process's descriptors. The system always assigns the lowest free descriptor (POSIX, "File Descriptor
/// Allocation"), so the number of a fresh connection is the count of all descriptors in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    limit: usize,
}

impl Descriptors {
    /// The descriptors of this process, by its current soft limit.
    pub fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.and_then(|limit| limit.try_into().ok());
        Self { limit: limit.unwrap_or(usize::MAX) }
    }

    /// The number of descriptors that the process may have.
    pub fn limit(self) -> usize {
        self.limit
    }

    /// The number of descriptors that are reserved for agents, the admin listener and files.
    pub fn reserved(self) -> usize {
        (self.limit / RESERVED).min(RESERVED_MOST)
    }

    /// Whether a fresh connection has taken a reserved descriptor.
    pub fn is_reserved(self, fresh: &impl AsRawFd) -> bool {
        number(fresh) >= self.limit - self.reserved()
    }

    /// Whether a fresh connection has taken one of the last descriptors, which no connection of the public
    /// listeners may keep.
    pub fn is_last(self, fresh: &impl AsRawFd) -> bool {
        number(fresh) >= self.limit - self.reserved() / LAST
    }

    /// How many connections fit before the reserve, in addition to `fresh` and all that was opened before it.
    pub fn fit_beside(self, fresh: &impl AsRawFd) -> usize {
        (self.limit - self.reserved()).saturating_sub(number(fresh) + 1)
    }
}

fn number(descriptor: &impl AsRawFd) -> usize {
    usize::try_from(descriptor.as_raw_fd()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(i32);

    impl AsRawFd for Number {
        fn as_raw_fd(&self) -> i32 {
            self.0
        }
    }

    #[test]
    fn a_quarter_is_reserved_and_the_last_are_closed_to_connections() {
        let few = Descriptors { limit: 1_024 };
        let shares = [767, 768, 991, 992].map(|n| (few.is_reserved(&Number(n)), few.is_last(&Number(n))));
        assert_eq!(shares, [(false, false), (true, false), (true, false), (true, true)]);
        assert_eq!(Descriptors { limit: 1 << 20 }.reserved(), RESERVED_MOST);
        assert!(!Descriptors { limit: usize::MAX }.is_reserved(&Number(i32::MAX)));
    }
}
