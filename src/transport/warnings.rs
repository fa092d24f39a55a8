//! The warnings of a relay that grants an offer: `PTTH-Warning`.

use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, Item, List, ListEntry, Parser, StringRef};

use crate::message::fields::PTTH_WARNING;

/// The most warnings that an agent shows. The relay is another machine, so the number needs a bound.
const MOST: usize = 16;

/// Puts warnings into the head of an answer. A warning that is not ASCII is left out.
pub(super) fn write(headers: &mut HeaderMap, warnings: &[String]) {
    let entry = |text: &String| {
        let text = StringRef::from_str(text).ok()?.to_owned();
        Some(ListEntry::Item(Item::new(BareItem::String(text))))
    };
    let list: List = warnings.iter().filter_map(entry).collect();
    if let Some(Ok(value)) = sfv::FieldType::serialize(&list).map(HeaderValue::try_from) {
        headers.insert(PTTH_WARNING, value);
    }
}

/// The warnings in the head of an answer. Malformed fields are skipped.
pub(super) fn read(headers: &HeaderMap) -> Vec<String> {
    let mut all = Vec::new();
    for value in headers.get_all(PTTH_WARNING) {
        let Ok(list) = Parser::new(value.as_bytes()).parse::<List>() else { continue };
        all.extend(list.into_iter().filter_map(|entry| match entry {
            ListEntry::Item(Item { bare_item: BareItem::String(text), .. }) => Some(text.into()),
            _ => None,
        }));
    }
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_survive_a_round_trip() {
        let warnings = ["no certificate for \"a.test\", yet".to_owned(), "b\\c".to_owned()];
        let mut headers = HeaderMap::new();
        write(&mut headers, &warnings);
        assert_eq!(headers[PTTH_WARNING], r#""no certificate for \"a.test\", yet", "b\\c""#);
        assert_eq!(read(&headers), warnings);
    }

    #[test]
    fn empty_and_malformed_warnings_are_skipped() {
        let mut headers = HeaderMap::new();
        write(&mut headers, &[]);
        write(&mut headers, &["\u{fc}\n".to_owned()]);
        assert!(headers.is_empty());
        headers.insert(PTTH_WARNING, HeaderValue::from_static("\"a"));
        headers.append(PTTH_WARNING, HeaderValue::from_static("word, \"b\", 7"));
        assert_eq!(read(&headers), ["b"]);
        headers.insert(PTTH_WARNING, HeaderValue::try_from(["\"x\""; 99].join(",")).unwrap());
        assert_eq!(read(&headers).len(), MOST);
    }
}
