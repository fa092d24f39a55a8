//! `--path` and `--strip-prefix`: several targets under one name, by the prefix of the path.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{HeaderName, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::failure::HOP;
use super::host_header::{DESTINATION, WebOrigin};
use crate::domain::ErrorCode;
use crate::message::problem::Problem;
use crate::message::{Request, Response, fields, interim};
use crate::session::Handler;

/// A prefix of paths, such as `/api`. It covers `/api` itself and all paths below `/api/`, but not `/apis`. The default
/// covers every path.
///
/// A path matches if its first segments, percent-decoded, are those of the prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PathPrefix(Box<str>);

/// Why a text is no [`PathPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a path such as /api, with letters, digits and - . _ ~ between its slashes")]
pub struct BadPrefix;

impl FromStr for PathPrefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_plain = |segment: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
        };
        match path.strip_prefix('/') {
            None if text == "/" => Ok(Self::default()),
            Some(segments) if segments.split('/').all(is_plain) => Ok(Self(path.into())),
            _ => Err(BadPrefix),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl PathPrefix {
    /// Whether the prefix covers every path.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The rest of a path behind this prefix: empty, or with a slash at its start. `None` if the prefix does not cover
    /// the path.
    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut rest = path;
        for segment in self.0.split('/').skip(1) {
            let after = rest.strip_prefix('/')?;
            let end = after.find('/').unwrap_or(after.len());
            if decoded(&after[..end]) != segment {
                return None;
            }
            rest = &after[end..];
        }
        Some(rest)
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    match text.contains('%') {
        true => percent_decode_str(text).decode_utf8_lossy(),
        false => Cow::Borrowed(text),
    }
}

/// Whether some origin may read a segment of the path as `.` or `..`, and so leave the prefix: also encoded, between
/// backslashes, or with parameters (`..;x`), which some servers remove.
fn has_dot_segments(path: &str) -> bool {
    let path = decoded(path);
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.split(['/', '\\']).any(is_dots)
}

/// Sends each request to the target with the longest prefix that covers its path.
pub(super) struct PathTargets {
    /// The longest prefix first.
    targets: Box<[(PathPrefix, Arc<dyn Handler>)]>,
}

impl PathTargets {
    pub(super) fn new(mut targets: Vec<(PathPrefix, Arc<dyn Handler>)>) -> Self {
        targets.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.0.len()));
        Self { targets: targets.into() }
    }
}

impl Handler for PathTargets {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let path = request.uri().path();
        if has_dot_segments(path) {
            return refuse(&request, ErrorCode::DotSegments);
        }
        let target = self.targets.iter().find(|(prefix, _)| prefix.strip(path).is_some());
        match target {
            Some((_, handler)) => handler.call(request, interim),
            None => refuse(&request, ErrorCode::NoTarget),
        }
    }
}

fn refuse(request: &Request, code: ErrorCode) -> BoxFuture<'static, Response> {
    let detail = format!("{} {}", code.happened(), code.remedy());
    let problem = Problem {
        code,
        detail: &detail,
        hop: HOP,
        error: None,
        retry_after: None,
        request: None,
        pages: None,
    };
    Box::pin(std::future::ready(problem.response(request.headers())))
}

/// Removes the prefix from the paths that the target receives, and adds it to the URLs in its redirects.
pub(super) struct Stripped {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) prefix: PathPrefix,
}

impl Handler for Stripped {
    fn call(&self, mut request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let visitor = WebOrigin::of_visitor(&request);
        if let Some(stripped) = self.strip_uri(request.uri()) {
            *request.uri_mut() = stripped;
        }
        let headers = request.headers_mut();
        if let Some(visitor) = &visitor {
            edit_url(headers, &DESTINATION, Some(visitor), |path| self.prefix.strip(path).map(single_slash));
        }
        let outer = headers.get(fields::X_FORWARDED_PREFIX).and_then(|value| value.to_str().ok());
        if let Ok(prefix) = HeaderValue::try_from(format!("{}{}", outer.unwrap_or_default(), self.prefix)) {
            headers.insert(fields::X_FORWARDED_PREFIX, prefix);
        }
        let (answer, prefix) = (self.handler.call(request, interim), self.prefix.clone());
        Box::pin(async move {
            let mut response = answer.await;
            // A target that knows the prefix, from the field, has added it already.
            edit_url(response.headers_mut(), &LOCATION, visitor.as_ref(), |path| {
                prefix.strip(path).is_none().then(|| format!("{prefix}{path}"))
            });
            response
        })
    }
}

impl Stripped {
    fn strip_uri(&self, uri: &Uri) -> Option<Uri> {
        let path = single_slash(self.prefix.strip(uri.path())?);
        let text = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// The path with a single slash at its start: a target could take what follows `//` for a host, in a redirect.
fn single_slash(rest: &str) -> String {
    format!("/{}", rest.trim_start_matches('/'))
}

/// Edits the path of a field whose value is a URL of `origin`, or a path.
fn edit_url(
    headers: &mut HeaderMap,
    name: &HeaderName,
    origin: Option<&WebOrigin>,
    edit: impl FnOnce(&str) -> Option<String>,
) {
    let Some(value) = headers.get_mut(name) else { return };
    let Ok(url) = value.to_str() else { return };
    let rest = match url.starts_with('/') && !url.starts_with("//") {
        true => url,
        false => match origin.and_then(|origin| origin.strip(url)) {
            Some(rest) => rest,
            None => return,
        },
    };
    let start = &url[..url.len() - rest.len()];
    let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let Some(path) = edit(path) else { return };
    if let Ok(edited) = HeaderValue::try_from(format!("{start}{path}{tail}")) {
        *value = edited;
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::message::Body;
    use crate::session::handler_fn;

    fn prefix(text: &str) -> PathPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_a_plain_path() {
        for (text, shown) in
            [("/", "/"), ("/api", "/api"), ("/api/", "/api"), ("/a-1/b.c/~d_", "/a-1/b.c/~d_")]
        {
            assert_eq!(prefix(text).to_string(), shown);
        }
        for bad in ["", "api", "//", "/a//b", "/a/..", "/./a", "/a%2fb", "/a?b", "/a b", "/ü", "/a=b", "/a;b"]
        {
            assert_eq!(bad.parse::<PathPrefix>(), Err(BadPrefix), "{bad}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let api = prefix("/api/v1");
        for (path, rest) in [
            ("/api/v1", Some("")),
            ("/api/v1/", Some("/")),
            ("/api/v1//x", Some("//x")),
            ("/%61pi/v%31/x%2Fy", Some("/x%2Fy")),
            ("/api/v11", None),
            ("/api", None),
            ("/API/v1", None),
            ("/api%2Fv1", None),
            ("//api/v1", None),
            ("*", None),
        ] {
            assert_eq!(api.strip(path), rest, "{path}");
            assert!(PathPrefix::default().strip(path).is_some());
        }
    }

    #[test]
    fn dot_segments_are_found_in_every_spelling() {
        for path in [
            "/api/..",
            "/api/../x",
            "/./x",
            "/api/%2e%2E/x",
            "/api/.%2e",
            "/api/..%2fx",
            "/api/..\\x",
            "/api%5c..%5cx",
            "/api/..;/x",
            "/api/..;a=b/x",
            "/api/%2e%2e%3b/x",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in ["/", "*", "/api/...", "/a..b", "/.well-known/x", "/api/..x", "/x;..", "/%252e%252e/"] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    /// Targets that answer with their prefix and the target of the request that they receive, and with this `Location`.
    fn paths(prefixes: &[&'static str], location: &'static str) -> PathTargets {
        let target = |text: &&'static str| {
            let text = *text;
            let service = handler_fn(move |request: Request| async move {
                let mut response = Response::new(Body::empty());
                let headers = response.headers_mut();
                let field = |name: &str| request.headers().get(name).cloned();
                headers.insert("x-target", format!("{text} {}", request.uri()).parse().unwrap());
                headers.insert(LOCATION, HeaderValue::from_static(location));
                for name in ["x-forwarded-prefix", "destination"] {
                    headers.extend(field(name).map(|value| (HeaderName::from_static(name), value)));
                }
                response
            });
            let handler: Arc<dyn Handler> = Arc::new(service);
            let prefix = prefix(text);
            match prefix.is_root() {
                true => (prefix, handler),
                false => (prefix.clone(), Arc::new(Stripped { handler, prefix }) as Arc<dyn Handler>),
            }
        };
        PathTargets::new(prefixes.iter().map(target).collect())
    }

    async fn visit(paths: &PathTargets, path: &str, fields: &[(&'static str, &'static str)]) -> Response {
        let mut request = http::Request::get(format!("https://shop.test{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        paths.call(request.body(Body::empty()).unwrap(), interim::Sender::default()).await
    }

    #[tokio::test]
    async fn the_longest_prefix_wins_and_is_stripped() {
        let paths = paths(&["/api", "/", "/api/v1"], "/login?x#y");
        for (path, target, location) in [
            ("/x?y", "/ https://shop.test/x?y", "/login?x#y"),
            ("/apis", "/ https://shop.test/apis", "/login?x#y"),
            ("/api", "/api https://shop.test/", "/api/login?x#y"),
            ("/api/v2?q=/", "/api https://shop.test/v2?q=/", "/api/login?x#y"),
            ("/api/v1/x", "/api/v1 https://shop.test/x", "/api/v1/login?x#y"),
            ("/api//evil.test/", "/api https://shop.test/evil.test/", "/api/login?x#y"),
        ] {
            let answer = visit(&paths, path, &[]).await;
            assert_eq!(answer.headers()["x-target"], target, "{path}");
            assert_eq!(answer.headers()["location"], location, "{path}");
        }
        assert_eq!(visit(&paths, "/api/%2e%2e/x", &[]).await.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn only_urls_of_the_service_get_the_prefix() {
        for (location, expected) in [
            ("https://shop.test/a", "https://shop.test/api/a"),
            ("https://shop.test", "https://shop.test/api/"),
            ("https://else.test/a", "https://else.test/a"),
            ("//else.test/a", "//else.test/a"),
            ("a", "a"),
            ("/api/a", "/api/a"),
            ("/apis", "/api/apis"),
        ] {
            let answer = visit(&paths(&["/api"], location), "/api/x", &[]).await;
            assert_eq!(answer.headers()["location"], expected, "{location}");
        }
    }

    #[tokio::test]
    async fn the_target_learns_the_prefix_and_other_paths_are_not_found() {
        let paths = paths(&["/api"], "/");
        let fields = [("x-forwarded-prefix", "/outer"), ("destination", "https://shop.test/api/b")];
        let answer = visit(&paths, "/api/a", &fields).await;
        assert_eq!(answer.headers()["x-forwarded-prefix"], "/outer/api");
        assert_eq!(answer.headers()["destination"], "https://shop.test/b");
        assert_eq!(visit(&paths, "/other", &[]).await.status(), StatusCode::NOT_FOUND);
    }
}
