//! Where requests are served.
