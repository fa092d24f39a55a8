//! `Accept` in a poll and in its response: which messages an agent takes and how it answers, and whether the relay
//! takes live answers.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::http1::embedded::{APPLICATION_HTTP, MESSAGE_HTTP};
use crate::message::hop;
use crate::session::envelope::PollMode;
use crate::transport::StreamingSupport;

/// The `Accept` of a relay that takes a live answer, in the response to a poll with the same parameter (RFC 9110
/// §12.5.1 allows that).
pub(super) const LIVE: &str = "message/http;live=1";

/// The `Accept` of an agent whose bodies stream as `flow` describes.
pub(super) fn value_for(flow: StreamingSupport) -> &'static str {
    match (flow.down, flow.up) {
        (true, true) => "message/http;stream=1;live=1",
        (true, false) => "message/http;stream=1",
        (false, true) => LIVE,
        (false, false) => MESSAGE_HTTP,
    }
}

/// The mode that an `Accept` announces: `message/http` with our own parameters (`stream=1`: the agent reads a message
/// while the message arrives; `live=1`: the agent writes an answer while the answer is made), or `application/http`:
/// all whole messages that wait.
pub(super) fn poll_mode(headers: &HeaderMap) -> PollMode {
    let (mut mode, mut batch) = (PollMode::WHOLE, false);
    for range in headers.get_all(ACCEPT).iter().flat_map(hop::list) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if media_type.eq_ignore_ascii_case(MESSAGE_HTTP) {
            for parameter in parts {
                mode.streams |= parameter.eq_ignore_ascii_case("stream=1");
                mode.live |= parameter.eq_ignore_ascii_case("live=1");
            }
        } else {
            batch |= media_type.eq_ignore_ascii_case(APPLICATION_HTTP);
        }
    }
    if batch && mode == PollMode::WHOLE { PollMode::BATCH } else { mode }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_accept_field_selects_the_poll_mode() {
        let parsed = |accept: &'static str| {
            poll_mode(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        for accept in [
            "message/http;stream=1",
            "text/html, Message/HTTP ; Stream=1",
            "application/http, message/http;stream=1",
        ] {
            assert_eq!(parsed(accept), PollMode::STREAM, "{accept}");
        }
        for (accept, streams) in [
            ("message/http;stream=1;live=1", true),
            ("message/http; LIVE=1", false),
            ("application/http, message/http;live=1", false),
        ] {
            assert_eq!(parsed(accept), PollMode { streams, live: true, ..PollMode::WHOLE }, "{accept}");
        }
        for accept in ["application/http", "message/http, Application/HTTP;q=0.5"] {
            assert_eq!(parsed(accept), PollMode::BATCH, "{accept}");
        }
        for accept in [
            "*/*, message/http",
            "message/http;stream=0;live=",
            "*/*;stream=1;live=1",
            "application/*",
            "*/*",
        ] {
            assert_eq!(parsed(accept), PollMode::WHOLE, "{accept}");
        }
    }

    #[test]
    fn both_sides_agree_on_the_accept_field() {
        for (down, up) in [(true, true), (true, false), (false, true), (false, false)] {
            let accept = HeaderValue::from_static(value_for(StreamingSupport { down, up }));
            let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
            assert_eq!(poll_mode(&headers), PollMode { streams: down, live: up, ..PollMode::WHOLE });
        }
        assert!(poll_mode(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(LIVE))])).live);
        assert!(!poll_mode(&HeaderMap::new()).live);
    }
}
