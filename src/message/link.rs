//! `Link` fields (RFC 8288), as far as reverse HTTP uses them.

use http::{HeaderMap, HeaderValue, header::LINK};

/// The targets of every link with relation `rel`, in order. A `rel` may be quoted or bare, and may list several.
pub fn targets<'a>(headers: &'a HeaderMap, rel: &'a str) -> impl Iterator<Item = &'a str> {
    headers.get_all(LINK).iter().filter_map(|v| v.to_str().ok()).flat_map(links).filter_map(
        move |(url, params)| {
            let mut rels = params.split(';').filter_map(|p| p.trim().strip_prefix("rel="));
            let found =
                rels.any(|r| r.trim_matches('"').split(' ').any(|name| name.eq_ignore_ascii_case(rel)));
            found.then_some(url)
        },
    )
}

/// Splits `<URL>; params, <URL>; params`. A comma inside the brackets belongs to the URL.
fn links(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once('<')?;
        let (url, after) = after.split_once('>')?;
        let mut quoted = false;
        let end = after.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (params, next) = after.split_at(end.unwrap_or(after.len()));
        rest = next;
        Some((url, params))
    })
}

/// One field with a link of relation `rel` for each URL, in the form that the clients of 2009 can read: one space
/// after each comma and semicolon.
pub fn value<'a>(urls: impl IntoIterator<Item = &'a str>, rel: &str) -> Option<HeaderValue> {
    let all: Vec<_> = urls.into_iter().map(|url| format!("<{url}>; rel=\"{rel}\"")).collect();
    HeaderValue::try_from(all.join(", ")).ok().filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_they_were_written() {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, value(["https://a.test/x,y", "https://b.test/"], "related").unwrap());
        headers.append(LINK, HeaderValue::from_static("<https://c.test/>; title=x; rel=\"next related\""));
        headers.append(LINK, HeaderValue::from_static("<https://d.test/>; rel=next, broken"));
        let found: Vec<_> = targets(&headers, "related").collect();
        assert_eq!(found, ["https://a.test/x,y", "https://b.test/", "https://c.test/"]);
        assert_eq!(targets(&headers, "next").last(), Some("https://d.test/"));
    }
}
