//! Ways to open a session.
