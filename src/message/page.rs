//! The form of the pages that ptth makes itself: one stylesheet, and a content security policy that lets a page load
//! nothing.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderName};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

/// The media type of a page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The stylesheet of every page.
pub const STYLE: &str = include_str!("page.css");

/// A page of ptth. `title` is escaped here; `body` must be HTML already.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <main>\n<h1>{title}</h1>\n{body}\n</main>\n</html>\n"
    )
}

/// The policy of every page of ptth: no script, no form, no frame, no style but [`STYLE`], and nothing from elsewhere.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
});

/// Adds the fields that every page of ptth has: its policy, and no sniffing.
pub fn protect(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
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
    use super::*;

    #[test]
    fn a_page_loads_nothing_and_its_policy_admits_its_own_style_alone() {
        let page = page("<a>", "<p>text</p>");
        assert!(page.contains("<h1>&lt;a&gt;</h1>") && page.contains(STYLE), "{page}");
        for foreign in ["http:", "https:", "url(", "@import", "<script", "style="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        let mut headers = HeaderMap::new();
        protect(&mut headers);
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    }
}
