//! HTTP/2 on a flipped connection: many requests at once.

mod goaway;
pub mod send;
pub mod serve;
mod stream;
mod windows;

pub use windows::Windows;

#[cfg(any(test, fuzzing))]
pub(crate) use goaway::property as fuzz_frames;
