//! The form of an error response of ptth itself: problem details (RFC 9457) for programs, a small page for people, and
//! `Proxy-Status` (RFC 9209), which names the hop.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::page::{HTML, escape, page, protect, wants_html};
use super::{Body, Response, fields};
use crate::domain::ErrorCode;

/// An error that can be rendered as a response.
#[derive(Debug)]
pub struct Problem<'a> {
    /// Determines the status, the text of the page, and the last part of `type`.
    pub code: ErrorCode,
    /// What happened to this request, at which hop, and what to try: for programs and their authors.
    pub detail: &'a str,
    /// The hop that failed, as named in `Proxy-Status`: `ptth-relay` or `ptth-agent`.
    pub hop: &'a str,
    /// The `error` of `Proxy-Status` (RFC 9209 §2.3), if one fits.
    pub error: Option<&'a str>,
    /// The time after which a retry makes sense.
    pub retry_after: Option<Duration>,
    /// The request's id (`X-Request-Id`), which is also in the log.
    pub request: Option<HeaderValue>,
    /// The URL below which the relay has a page for each code, if known.
    pub pages: Option<&'a str>,
}

/// The members of problem details (RFC 9457 §3.1).
#[derive(Serialize)]
struct Details<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// An extension (§3.2): the code, also where `type` cannot name a page.
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

impl Problem<'_> {
    /// Renders the problem in the form that the request's `Accept` prefers.
    pub fn response(&self, request_headers: &HeaderMap) -> Response {
        let html = wants_html(request_headers);
        let body = if html { self.html() } else { self.json() };
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let kind = if html { HTML } else { "application/problem+json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        protect(headers);
        let mut hop = self.hop.to_owned();
        if let Some(error) = self.error {
            let _ = write!(hop, "; error={error}");
        }
        if let Ok(value) = HeaderValue::try_from(hop) {
            headers.insert(fields::PROXY_STATUS, value);
        }
        if let Some(id) = &self.request {
            headers.insert(fields::X_REQUEST_ID, id.clone());
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn json(&self) -> String {
        let code = self.code.as_str();
        let details = Details {
            kind: self.pages.map_or_else(|| "about:blank".to_owned(), |pages| format!("{pages}{code}")),
            title: self.title(),
            status: self.code.status(),
            detail: self.detail,
            code,
            request: self.request_id(),
        };
        // Texts and a number can always be written to memory.
        serde_json::to_string(&details).unwrap_or_default() + "\n"
    }

    fn title(&self) -> &'static str {
        self.status().canonical_reason().unwrap_or("Error")
    }

    fn request_id(&self) -> Option<&str> {
        self.request.as_ref()?.to_str().ok()
    }

    /// The page is the same for each request with this code: `detail` can name limits that are not for every visitor.
    fn html(&self) -> String {
        let request = self.request_id().map(|id| format!(" &middot; request {}", escape(id)));
        page(
            &format!("{} {}", self.code.status(), self.title()),
            &format!(
                "<p>{}</p>\n<p>{}</p>\n<footer>{} &middot; {}{}</footer>",
                escape(self.code.happened()),
                escape(self.code.remedy()),
                self.hop,
                self.code,
                request.unwrap_or_default(),
            ),
        )
    }
}

/// Adds a text without quotes to the `Proxy-Status` of a problem, as its `details` (RFC 9209 §2.1.5).
pub fn add_details(headers: &mut HeaderMap, details: &str) {
    if let Some(Ok(status)) = headers.get(fields::PROXY_STATUS).map(HeaderValue::to_str)
        && let Ok(value) = HeaderValue::try_from(format!("{status}; details=\"{details}\""))
    {
        headers.insert(fields::PROXY_STATUS, value);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn render(accept: &'static str) -> (HeaderMap, String) {
        let mut request_headers = HeaderMap::new();
        request_headers.insert(http::header::ACCEPT, HeaderValue::from_static(accept));
        let problem = Problem {
            code: ErrorCode::NoAgent,
            detail: "no \"agent\" <b>",
            hop: "ptth-relay",
            error: Some("destination_unavailable"),
            retry_after: Some(Duration::from_secs(5)),
            request: Some(HeaderValue::from_static("r<1")),
            pages: Some("https://relay.test/_ptth/errors/"),
        };
        let (parts, body) = problem.response(&request_headers).into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_program_gets_problem_details() {
        let (headers, body) = render("*/*").await;
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["retry-after"], "5");
        assert_eq!(headers["proxy-status"], "ptth-relay; error=destination_unavailable");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let (kind, code) = ("https://relay.test/_ptth/errors/no-agent", "no-agent");
        let expected = serde_json::json!({
            "type": kind, "title": "Service Unavailable", "status": 503, "detail": "no \"agent\" <b>", "code": code,
            "request": "r<1",
        });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn a_person_gets_an_escaped_page() {
        let (headers, body) = render("text/html,*/*;q=0.8").await;
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        let (happened, remedy) = (ErrorCode::NoAgent.happened(), ErrorCode::NoAgent.remedy());
        assert!(body.contains(happened) && body.contains(remedy) && body.contains("r&lt;1"), "{body}");
        assert!(!body.contains("no &quot;agent"), "the page depends on the request: {body}");
    }
}
