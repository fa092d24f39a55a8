//! Which messages have a body (RFC 9112 §6.3), and how large the head of a request is.

use http::{HeaderMap, Method, Request, StatusCode};

use http_body::Body as _;

use super::{Response, fields};

/// The bytes of a field line besides name and value.
const LINE: usize = ": \r\n".len();

/// The memory of a field besides the bytes of name and value: its places in a map and in a list, two reference-counted
/// buffers, and the overhead of the allocator.
const FIELD: usize = 256;

/// The least size of a request's head as HTTP/1.1, in bytes. HTTP/2 measures differently (RFC 9113 §6.5.2); the limit
/// for all visitors uses this size.
pub fn size<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    request.method().as_str().len() + target + fields.sum::<usize>()
}

/// About how many bytes of memory the head of a request takes, here and in the copies of it that are kept until its
/// answer begins.
pub fn weight<B>(request: &Request<B>) -> usize {
    size(request) + request.headers().len() * FIELD
}

/// Whether an answer with this method and status ends with its head, whatever length the head declares (RFC 9112 §6.3).
pub fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

/// Whether a request declares its length even if it is 0: with this method readers expect a body (RFC 9110 §8.6).
pub fn expects_length(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// Whether a message must be forwarded while it arrives, or not at all (RFC 10036). The value is a boolean, perhaps with
/// parameters (RFC 9651 §3.3.6).
pub fn is_incremental(headers: &HeaderMap) -> bool {
    let value = headers.get(fields::INCREMENTAL).and_then(|value| value.as_bytes().strip_prefix(b"?1"));
    value.is_some_and(|parameters| parameters.is_empty() || parameters.starts_with(b";"))
}

/// Whether an answer has a body that must be forwarded while it arrives, or not at all.
pub fn is_incremental_answer(answer: &Response) -> bool {
    !answer.body().is_end_stream() && is_incremental(answer.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incremental_is_a_boolean() {
        for (value, incremental) in
            [("?1", true), ("?1;a=b", true), ("?0", false), ("?10", false), ("1", false)]
        {
            let headers = [(fields::INCREMENTAL, value.parse().unwrap())].into_iter().collect();
            assert_eq!(is_incremental(&headers), incremental, "{value}");
        }
    }

    #[test]
    fn a_head_is_as_large_as_its_lines() {
        let request = Request::get("http://a.test/b?c").header("d", "ef").header("d", "").body(()).unwrap();
        assert_eq!(size(&request), "GET/b?c".len() + "d: ef\r\n".len() + "d: \r\n".len());
        assert_eq!(weight(&request), size(&request) + 2 * FIELD);
    }
}
