//! The form of an error response of ptth itself: problem details (RFC 9457) for programs, a small page for people, and
//! `Proxy-Status` (RFC 9209), which names the hop.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::{Body, Response, fields};

/// An error that can be rendered as a response.
#[derive(Debug)]
pub struct Problem<'a> {
    /// The status of the response.
    pub status: StatusCode,
    /// A stable identifier for programs; becomes the last part of `type`.
    pub code: &'a str,
    /// One sentence for a person: what happened, at which hop, what to try.
    pub detail: &'a str,
    /// The hop that failed, as named in `Proxy-Status`: `ptth-relay` or `ptth-agent`.
    pub hop: &'a str,
    /// The `error` of `Proxy-Status` (RFC 9209 §2.3), if one fits.
    pub error: Option<&'a str>,
    /// The time after which a retry makes sense.
    pub retry_after: Option<Duration>,
    /// The request's id (`X-Request-Id`), which is also in the log.
    pub request: Option<HeaderValue>,
}

/// The members of problem details (RFC 9457 §3.1).
#[derive(Serialize)]
struct Details<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

impl Problem<'_> {
    /// Renders the problem in the form that the request's `Accept` prefers.
    pub fn response(&self, request_headers: &HeaderMap) -> Response {
        let html = wants_html(request_headers);
        let body = if html { self.html() } else { self.json() };
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = if html { "text/html; charset=utf-8" } else { "application/problem+json" };
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

    fn json(&self) -> String {
        let details = Details {
            kind: format!("https://ptth.invalid/problems/{}", self.code),
            title: self.title(),
            status: self.status.as_u16(),
            detail: self.detail,
            request: self.request_id(),
        };
        // Texts and a number can always be written to memory.
        serde_json::to_string(&details).unwrap_or_default() + "\n"
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    fn request_id(&self) -> Option<&str> {
        self.request.as_ref()?.to_str().ok()
    }

    fn html(&self) -> String {
        let title = self.title();
        let request = self.request_id().map(|id| format!(" &middot; request {}", escape(id)));
        page(
            &format!("{} {title}", self.status.as_u16()),
            &format!(
                "<p>{}</p>\n<p><small>{} &middot; {}{}</small></p>",
                escape(self.detail),
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

/// A page of ptth. `title` is escaped here; `body` must be HTML already.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <h1>{title}</h1>\n{body}\n</html>\n"
    )
}

/// Adds the fields that every page of ptth has: no script, no sniffing, no framing.
pub fn protect(headers: &mut HeaderMap) {
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
}

/// Whether the client prefers HTML: browsers name HTML in `Accept`, programs do not.
pub fn wants_html(request_headers: &HeaderMap) -> bool {
    request_headers
        .get_all(ACCEPT)
        .iter()
        .any(|v| v.as_bytes().windows(9).any(|w| w.eq_ignore_ascii_case(b"text/html")))
}

/// Escapes text for HTML, inside elements and attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn render(accept: &'static str) -> (HeaderMap, String) {
        let mut request_headers = HeaderMap::new();
        request_headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let problem = Problem {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "no-agent",
            detail: "no \"agent\" <b>",
            hop: "ptth-relay",
            error: Some("destination_unavailable"),
            retry_after: Some(Duration::from_secs(5)),
            request: Some(HeaderValue::from_static("r-1")),
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
        assert!(body.contains(r#""status":503"#) && body.contains(r#"no \"agent\" <b>"#), "{body}");
    }

    #[tokio::test]
    async fn a_person_gets_an_escaped_page() {
        let (headers, body) = render("text/html,*/*;q=0.8").await;
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert!(body.contains("&lt;b&gt;") && !body.contains("<b>"), "{body}");
    }
}
