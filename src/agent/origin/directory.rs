//! A directory as an origin. `tower-http` serves ranges, dates, types and `index.html`; this module restricts the
//! paths.

use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Uri};
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, DefaultServeDirFallback, TokioBackend, TokioFile};
use tower_service::Service;

use super::connect::Probe;
use super::listing;
use crate::message::authority::origin_form;
use crate::message::{Body, Request, Response, page};

/// Serves the files below one directory.
///
/// No path leads out of the directory, neither by `..` nor by a link. A path with a part that begins with a dot is not
/// found, unless that part is `.well-known` (RFC 8615). Pipes, sockets and devices are not found either. A process that
/// may write into the directory while it is served can still win a race against the check.
#[derive(Clone)]
pub(super) struct FileServer {
    root: Arc<Path>,
    files: ServeDir<DefaultServeDirFallback, RootBackend>,
    listing: bool,
}

impl FileServer {
    /// A file `NAME.br` or `NAME.gz` is sent in place of `NAME` to visitors that accept its coding. With `listing`, a
    /// directory without `index.html` is answered with the list of its files.
    pub(super) fn new(root: &Path, listing: bool) -> Self {
        // A missing root serves no files, and the probe reports it.
        let root: Arc<Path> = root.canonicalize().unwrap_or_else(|_| root.to_owned()).into();
        let files = ServeDir::with_backend(root.clone(), RootBackend { root: root.clone() });
        Self { files: files.precompressed_br().precompressed_gzip(), root, listing }
    }

    pub(super) fn probe(&self) -> Probe {
        let root = self.root.display();
        match self.root.is_dir() {
            true => Probe::new(true, format!("the files of {root} can be read")),
            false => {
                Probe::new(false, format!("the directory {root} is missing: requests will be answered 404"))
            }
        }
    }

    /// Answers one request. A file is read while it is sent; dropping the future or the body closes it.
    pub(super) async fn answer(mut self, request: Request) -> Response {
        let html = page::wants_html(request.headers());
        let (mut parts, _) = request.into_parts();
        parts.uri = single_slash(&parts.uri);
        let directory = match self.listing && parts.uri.path().ends_with('/') {
            true => Some(parts.uri.path().to_owned()),
            false => None,
        };
        let Ok(response) = self.files.call(http::Request::from_parts(parts, Body::empty())).await;
        let status = response.status();
        if let Some(path) = directory.filter(|_| status == StatusCode::NOT_FOUND)
            && let Some(page) = listing::page(self.root, path).await
        {
            return html_page(page);
        }
        let mut answer = match status {
            StatusCode::NOT_FOUND => error_response(status, "There is no such file here.", html),
            StatusCode::METHOD_NOT_ALLOWED => error_response(status, "Files here can only be read.", html),
            StatusCode::INTERNAL_SERVER_ERROR => error_response(status, "This file cannot be read.", html),
            _ => return with_charset(response.map(Body::wrap)),
        };
        if let Some(allow) = response.headers().get(ALLOW) {
            answer.headers_mut().insert(ALLOW, allow.clone());
        }
        answer
    }
}

/// The target without authority and with a single leading slash: with several slashes, a redirect would lead to another
/// host.
fn single_slash(uri: &Uri) -> Uri {
    let target = origin_form(uri);
    let text = target.to_string();
    if !text.starts_with("//") {
        return target;
    }
    format!("/{}", text.trim_start_matches('/')).parse().unwrap_or(target)
}

/// Texts without a charset are read as UTF-8, which nearly all are; browsers would assume an encoding of the last
/// century.
fn with_charset(mut response: Response) -> Response {
    if let Some(kind) = response.headers_mut().get_mut(CONTENT_TYPE)
        && kind.as_bytes().starts_with(b"text/")
        && !kind.as_bytes().contains(&b';')
        && let Ok(with_charset) = HeaderValue::from_bytes(&[kind.as_bytes(), b"; charset=utf-8"].concat())
    {
        *kind = with_charset;
    }
    response
}

fn html_page(text: String) -> Response {
    let mut response = Response::new(Body::full(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page::HTML));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    page::protect(headers);
    response
}

fn error_response(status: StatusCode, text: &str, html: bool) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let (kind, body) = match html {
        true => (page::HTML, page::page(title, &format!("<p>{text}</p>"))),
        false => ("text/plain; charset=utf-8", format!("{text}\n")),
    };
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    page::protect(response.headers_mut());
    response
}

/// The part of the file system within the root.
#[derive(Clone)]
struct RootBackend {
    root: Arc<Path>,
}

impl RootBackend {
    async fn inside(self, path: PathBuf) -> io::Result<(PathBuf, Metadata)> {
        // A panic of the task is not possible; a runtime that ends cancels the task.
        let found = tokio::task::spawn_blocking(move || inside(&self.root, &path)).await;
        found.unwrap_or_else(|_| Err(io::ErrorKind::NotFound.into()))
    }
}

/// The real path and the metadata of `path`, if `path` is a file or directory below `root` that may be served. Blocks.
pub(super) fn inside(root: &Path, path: &Path) -> io::Result<(PathBuf, Metadata)> {
    let relative = path.strip_prefix(root).map_err(|_| io::ErrorKind::NotFound)?;
    if relative.components().any(is_hidden) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let real = path.canonicalize()?;
    let metadata = real.metadata()?;
    match real.starts_with(root) && (metadata.is_file() || metadata.is_dir()) {
        true => Ok((real, metadata)),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

fn is_hidden(part: Component<'_>) -> bool {
    let name = part.as_os_str().as_encoded_bytes();
    name.starts_with(b".") && name != b".well-known"
}

impl Backend for RootBackend {
    type File = TokioFile;
    type Metadata = Metadata;
    type OpenFuture = BoxFuture<'static, io::Result<TokioFile>>;
    type MetadataFuture = BoxFuture<'static, io::Result<Metadata>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let inside = self.clone().inside(path);
        Box::pin(async move { TokioBackend.open(inside.await?.0).await })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let inside = self.clone().inside(path);
        Box::pin(async move { Ok(inside.await?.1) })
    }
}
