//! Requests that may be sent twice.

use http::header::UPGRADE;
use http::{Extensions, HeaderName, HeaderValue, Method, Uri};
use http_body::Body as _;

use super::{Body, Request};

/// Whether a request does no harm when it is sent again: its method is safe (RFC 9110 §9.2.1, RFC 10008), and it has
/// neither a body nor an Upgrade, of which a part could have been sent already. A PUT or DELETE is idempotent (§9.2.2)
/// and yet not repeated: another client may have changed the resource in between.
pub fn is_harmless(request: &Request) -> bool {
    const SAFE: [Method; 5] = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::QUERY];
    SAFE.contains(request.method())
        && request.body().is_end_stream()
        && !request.headers().contains_key(UPGRADE)
}

/// A request without a body, for a carrier that consumes the head of the request. The fields are a list: a header map
/// is made only if the request is sent again.
pub struct RequestCopy {
    method: Method,
    target: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

impl RequestCopy {
    /// A copy of the head of `request`.
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let fields = request.headers().iter().map(|(name, value)| (name.clone(), value.clone()));
        Self {
            method: request.method().clone(),
            target: request.uri().clone(),
            fields: fields.collect(),
            extensions: request.extensions().clone(),
        }
    }

    /// The request.
    pub fn into_request(self) -> Request {
        let mut request = Request::new(Body::empty());
        (*request.method_mut(), *request.uri_mut()) = (self.method, self.target);
        *request.extensions_mut() = self.extensions;
        let headers = request.headers_mut();
        headers.reserve(self.fields.len());
        for (name, value) in self.fields {
            headers.append(name, value);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_field_in_its_order() {
        let request = http::Request::get("https://a.test/b?c")
            .header("x-a", "1")
            .header("cookie", "a=1")
            .header("x-a", "2")
            .body(Body::empty())
            .unwrap();
        let copy = RequestCopy::of(&request).into_request();
        assert_eq!((copy.method(), copy.uri()), (request.method(), request.uri()));
        assert_eq!(copy.headers(), request.headers());
        assert_eq!(copy.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
