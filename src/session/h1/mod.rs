//! HTTP/1.1 on a flipped connection: one request at a time, so an agent keeps several.

mod pace;
pub mod send;
pub mod serve;
pub(crate) mod trailers;

use std::future::Future;

use http::Version;

use crate::message::embedded::{Framing, response_head};
use crate::message::interim;
use crate::net::inserts::Inserts;

/// Awaits the answer to a request that came in by hyper's server, and puts the interim responses that are said
/// meanwhile in front of it. Who speaks HTTP/1.0 does not know them (RFC 9110 §15.2). Dropping the future drops the
/// answer's.
pub(crate) async fn interject<F: Future + Unpin>(
    version: Version,
    answer: F,
    inserts: &Inserts,
) -> F::Output {
    let answer = interim::heard(answer, |head| {
        if version >= Version::HTTP_11 {
            inserts.put(&response_head(head.status(), head.headers(), Framing::Empty));
        }
    });
    let answer = answer.await;
    inserts.emptied().await;
    answer
}
