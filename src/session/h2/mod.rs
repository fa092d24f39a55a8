//! HTTP/2 on a flipped connection: many requests at once.

pub(crate) mod client;
mod flow;
mod goaway;
mod ping;
pub(crate) mod refused;
mod room;
pub mod send;
pub mod serve;
pub(crate) mod server;
mod stream;
mod windows;

#[cfg(test)]
mod tests;

pub(crate) use room::UploadPolicy;
pub use windows::Windows;

#[cfg(any(test, fuzzing))]
pub(crate) use goaway::property as fuzz_frames;
