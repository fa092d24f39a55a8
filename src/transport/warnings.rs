//! The warnings of a relay that grants an offer, `PTTH-Warning`, and the limit of answers that is in force,
//! `PTTH-Answer-Timeout`.

use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, Item, List, ListEntry, Parser, StringRef};

use super::Admissions;
use crate::domain::{AgentId, Offer};
use crate::message::fields::{PTTH_ANSWER_TIMEOUT, PTTH_WARNING};

/// The warning about a relay whose answer does not repeat the requested limit of answers.
const NO_TIMEOUT: &str = "this relay does not support an answer timeout of the agent, and its own limit applies; update \
                          the relay";

/// The most warnings that an agent shows. The relay is another machine, so the number needs a bound.
const MOST: usize = 16;

/// Puts the limit of answers that is in force, if the offer requests one, and the warnings into the head of an answer
/// that grants the offer.
pub(super) fn write_terms(
    headers: &mut HeaderMap,
    admissions: &dyn Admissions,
    (agent, offer): (&AgentId, &Offer),
    urls: &[String],
) {
    if offer.answer_timeout.is_some() {
        let timeout = admissions.answer_timeout(agent, offer.answer_timeout);
        headers.insert(PTTH_ANSWER_TIMEOUT, HeaderValue::from(timeout.limit.seconds()));
    }
    write(headers, &admissions.warnings(agent, offer, urls));
}

/// Puts warnings into the head of an answer. A warning that is not ASCII is left out.
fn write(headers: &mut HeaderMap, warnings: &[String]) {
    let entry = |text: &String| {
        let text = StringRef::from_str(text).ok()?.to_owned();
        Some(ListEntry::Item(Item::new(BareItem::String(text))))
    };
    let list: List = warnings.iter().filter_map(entry).collect();
    if let Some(Ok(value)) = sfv::FieldType::serialize(&list).map(HeaderValue::try_from) {
        headers.insert(PTTH_WARNING, value);
    }
}

/// The warnings in the head of an answer to this offer. Malformed fields are skipped.
pub(super) fn read(headers: &HeaderMap, offer: &Offer) -> Vec<String> {
    let mut all = Vec::new();
    for value in headers.get_all(PTTH_WARNING) {
        let Ok(list) = Parser::new(value.as_bytes()).parse::<List>() else { continue };
        all.extend(list.into_iter().filter_map(|entry| match entry {
            ListEntry::Item(Item { bare_item: BareItem::String(text), .. }) => Some(text.into()),
            _ => None,
        }));
    }
    all.truncate(MOST);
    if offer.answer_timeout.is_some() && !headers.contains_key(PTTH_ANSWER_TIMEOUT) {
        all.push(NO_TIMEOUT.into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AnswerLimit;

    #[test]
    fn warnings_survive_a_round_trip() {
        let warnings = ["no certificate for \"a.test\", yet".to_owned(), "b\\c".to_owned()];
        let mut headers = HeaderMap::new();
        write(&mut headers, &warnings);
        assert_eq!(headers[PTTH_WARNING], r#""no certificate for \"a.test\", yet", "b\\c""#);
        assert_eq!(read(&headers, &Offer::default()), warnings);
    }

    #[test]
    fn empty_and_malformed_warnings_are_skipped() {
        let mut headers = HeaderMap::new();
        write(&mut headers, &[]);
        write(&mut headers, &["\u{fc}\n".to_owned()]);
        assert!(headers.is_empty());
        headers.insert(PTTH_WARNING, HeaderValue::from_static("\"a"));
        headers.append(PTTH_WARNING, HeaderValue::from_static("word, \"b\", 7"));
        assert_eq!(read(&headers, &Offer::default()), ["b"]);
        headers.insert(PTTH_WARNING, HeaderValue::try_from(["\"x\""; 99].join(",")).unwrap());
        assert_eq!(read(&headers, &Offer::default()).len(), MOST);
    }

    #[test]
    fn a_relay_that_ignores_the_answer_timeout_causes_a_warning() {
        let offer = Offer { answer_timeout: Some(AnswerLimit::from_seconds(7)), ..Offer::default() };
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers, &offer), [NO_TIMEOUT]);
        headers.insert(PTTH_ANSWER_TIMEOUT, HeaderValue::from(7));
        assert!(read(&headers, &offer).is_empty());
    }
}
