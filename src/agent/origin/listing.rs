//! `--listing`: the page with the files of a directory.

use std::fmt::Write as _;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::directory::inside;
use crate::defaults;
use crate::message::page;

/// The bytes of a name that a link has percent-encoded: all but unreserved ones (RFC 3986 §2.3). Without a colon no
/// name can look like a scheme.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The page of the directory at this path of a URL, which ends with a slash; `None` if there is no such directory that
/// may be shown. It lists what would be served: no names with a dot at their start, and no links out of the root. Names
/// that are not UTF-8 are left out too.
pub(super) async fn page(root: Arc<Path>, path: String) -> Option<String> {
    tokio::task::spawn_blocking(move || list(&root, &path).ok()).await.ok().flatten()
}

fn list(root: &Path, path: &str) -> io::Result<String> {
    let mut directory = root.to_owned();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name = percent_decode_str(segment).decode_utf8().map_err(|_| io::ErrorKind::NotFound)?;
        let mut parts = Path::new(&*name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == &*name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        directory.push(&*name);
    }
    let (directory, _) = inside(root, &directory)?;
    let mut entries = Vec::new();
    let mut is_cut = false;
    for (index, entry) in directory.read_dir()?.enumerate() {
        if index == defaults::LISTED {
            is_cut = true;
            break;
        }
        if let Ok(name) = entry?.file_name().into_string()
            && let Ok((_, metadata)) = inside(root, &directory.join(&name))
        {
            entries.push((!metadata.is_dir(), name, metadata.len()));
        }
    }
    entries.sort();
    let parent = if directory == root { "" } else { "<li><a href=\"../\">../</a></li>\n" };
    let mut body = format!("<ul>\n{parent}");
    for (is_file, name, size) in &entries {
        let slash = if *is_file { "" } else { "/" };
        let (link, shown) = (utf8_percent_encode(name, ENCODED), page::escape(name));
        let size = if *is_file { format!(" <small>{size} bytes</small>") } else { String::new() };
        // Writing to memory cannot fail.
        let _ = writeln!(body, "<li><a href=\"./{link}{slash}\">{shown}{slash}</a>{size}</li>");
    }
    body.push_str("</ul>");
    if is_cut {
        let _ = write!(
            body,
            "\n<p>The directory has more than {} entries; the others are not shown.</p>",
            defaults::LISTED
        );
    }
    let shown = percent_decode_str(path).decode_utf8_lossy();
    Ok(page::page(&format!("Files in {shown}"), &body))
}
