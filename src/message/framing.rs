//! Where the body of an HTTP/1 message ends, told in one way only (RFC 9112 §6.1, §6.3), and how large the head of a request is.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, StatusCode};

/// What is in a line beside its name and its value, in bytes.
const LINE: usize = ": \r\n".len();

/// What the head of a request takes as HTTP/1.1 at least, in bytes. HTTP/2 measures otherwise (RFC 9113 §6.5.2), and
/// hyper reads up to twice its bound before it looks: where heads end for everybody is said by this.
pub fn size<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    request.method().as_str().len() + target + fields.sum::<usize>()
}

/// Whether every reader of HTTP/1 finds the same end of the body. One `chunked` and no length beside it is all that a
/// request may say: a coding that stands before it would be lost here, and what is more than that is read differently
/// by different servers.
pub fn is_clear(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return true };
    let only_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    only_chunked && codings.next().is_none() && !headers.contains_key(CONTENT_LENGTH)
}

/// Whether the answer to this method ends with its head, whatever length that says (RFC 9112 §6.3).
pub fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

/// Whether a request says its length even if that is 0: with this method readers expect a body (RFC 9110 §8.6).
pub fn expects_length(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_head_is_as_large_as_its_lines() {
        let request = Request::get("http://a.test/b?c").header("d", "ef").header("d", "").body(()).unwrap();
        assert_eq!(size(&request), "GET/b?c".len() + "d: ef\r\n".len() + "d: \r\n".len());
    }

    #[test]
    fn one_chunked_alone_is_clear() {
        let clear = |codings: &[&'static str], length: bool| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
            }
            if length {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
            }
            is_clear(&headers)
        };
        assert!(
            clear(&[], false)
                && clear(&[], true)
                && clear(&["chunked"], false)
                && clear(&["Chunked "], false)
        );
        for codings in
            [&["gzip, chunked"][..], &["chunked, chunked"], &["chunked", "chunked"], &["x", "chunked"], &[""]]
        {
            assert!(!clear(codings, false), "{codings:?}");
        }
        assert!(!clear(&["chunked"], true));
    }
}
