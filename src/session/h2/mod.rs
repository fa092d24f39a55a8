//! HTTP/2 on a flipped connection: many requests at once.

mod budget;
pub(crate) mod client;
mod discard;
mod goaway;
mod ping;
#[cfg(feature = "relay")]
pub(crate) mod refused;
pub mod send;
pub mod serve;
pub(crate) mod server;
mod stream;
mod stream_windows;
mod uploads;

#[cfg(test)]
mod tests;

pub use budget::ReceiveBudget;
#[cfg(feature = "relay")]
pub(crate) use uploads::UploadPolicy;

#[cfg(any(test, fuzzing))]
pub(crate) use goaway::property as fuzz_frames;
