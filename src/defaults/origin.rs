//! The defaults of the connections from an agent to its origin.

use std::time::Duration;

/// The time to connect to the origin.
pub const ORIGIN_CONNECT: Duration = Duration::from_secs(5);
/// How long a request waits while the agent has no file descriptor for a connection to the origin. Most requests end
/// sooner and free a descriptor, and a visitor does not mind the wait.
pub const DESCRIPTOR: Duration = Duration::from_secs(3);
/// How often such a request tries again. An attempt without a descriptor costs one system call.
pub const DESCRIPTOR_CHECK: Duration = Duration::from_millis(50);
/// Idle connections to the origin, per core.
pub const ORIGIN_IDLE: usize = 256;
/// An origin may just be closing a connection that was idle for longer than this, so the agent keeps a copy of each
/// repeatable request that it sends there. Under load no connection is idle for so long, and no copy is made.
pub const ORIGIN_RESTED: Duration = Duration::from_millis(10);
/// How long an idle connection to the origin may be used again: less than the 5 s of Node.
pub const ORIGIN_IDLE_FOR: Duration = Duration::from_secs(4);
/// Idle connections to the origin that carry a login and belong to one visitor connection each. Few origins have such
/// logins (NTLM, Negotiate), and a visitor whose connection was closed only logs in once more.
pub const ORIGIN_PRIVATE: usize = 64;
/// How long such a connection may be idle. A person reads a page meanwhile, and should not have to log in again.
pub const ORIGIN_PRIVATE_IDLE_FOR: Duration = Duration::from_secs(60);

/// An origin that sends neither a 100 nor another answer gets the body after this (RFC 9110 §10.1.1 forbids to wait for
/// ever): many origins do not implement `Expect`.
pub const ORIGIN_CONTINUE: Duration = Duration::from_secs(5);
/// How long the sender of a request waits for the end of a body that was announced as empty. The end has mostly arrived
/// already.
pub const EMPTY_BODY: Duration = Duration::from_millis(20);
/// Entries on the page of a directory. A person reads no more, and the page stays below a few megabytes.
pub const LISTED: usize = 10_000;
