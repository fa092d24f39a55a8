//! The demo page: a browser tab that answers requests. The relay serves the page only on its own authority, which with
//! host routing is a browser origin that no agent's page shares.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Method};
use qrcode::QrCode;
use qrcode::render::svg;

use super::config::RelayConfig;
use super::respond::{self, DEMO};
use crate::domain::{Name, Wanted};
use crate::message::page::{HTML, STYLE, protect};
use crate::message::{Body, Request, Response};
use crate::observe::Recording;

/// The page loads its own files and connects to its own relay. It has no inline code, loads nothing from elsewhere, and
/// sends no form.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page, or one of its files; `None` for every other path. `public_url` is the URL of a name.
pub(super) fn answer(
    config: &RelayConfig,
    public_url: impl FnOnce(&Wanted) -> String,
    request: &Request,
    recording: &mut Recording,
) -> Option<Response> {
    if !config.demo {
        return None;
    }
    let (method, uri, request_headers) = (request.method(), request.uri(), request.headers());
    let (kind, body) = match uri.path() {
        DEMO => (HTML, Body::full(page(config.open_registration))),
        "/demo.css" => (CSS, Body::full(STYLE)),
        "/demo.js" => (SCRIPT, Body::full(include_str!("page.js"))),
        "/demo.svg" => (SVG, Body::full(code(public_url, uri.query().unwrap_or_default())?)),
        "/ptth.js" => (SCRIPT, Body::full(include_str!("../../../clients/js/ptth.js"))),
        _ => return None,
    };
    if method != Method::GET && method != Method::HEAD {
        return Some(respond::only_readable(request_headers, recording));
    }
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    protect(headers);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Another version of the relay has another page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

/// The QR code of the URL of the name in the query. `None` if there is no such name.
fn code(public_url: impl FnOnce(&Wanted) -> String, query: &str) -> Option<String> {
    let (_, name) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name")?;
    let url = public_url(&Wanted::Name(Name::parse(&name).ok()?));
    let code = QrCode::new(url).ok()?;
    Some(code.render::<svg::Color<'_>>().build())
}

fn page(open: bool) -> String {
    include_str!("page.html").replace("{registration}", if open { "open" } else { "by-token" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_no_inline_code_and_no_foreign_resources() {
        let page = page(true);
        assert!(page.contains("data-registration=\"open\"") && !page.contains('{'), "{page}");
        for text in ["<style", "style=", "onload", "onclick", "javascript:", "http:", "https:", "//"] {
            assert!(!page.contains(text), "{text}");
        }
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"/").count());
        for text in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "cookie"] {
            assert!(!include_str!("page.js").contains(text), "{text}");
        }
    }
}
