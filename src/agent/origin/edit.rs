//! `--request-header`, `--response-header` and `--no-forwarded`: edits of fields on the way to the target and back.

use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderName, TE, TRAILER};
use http::{HeaderMap, HeaderValue};

use crate::message::hop::HOP_BY_HOP;
use crate::message::{Request, Response, fields, interim};
use crate::session::Handler;

/// The fields by which a relay states facts about a visitor.
const FORWARDING: [HeaderName; 4] =
    [FORWARDED, fields::X_FORWARDED_FOR, fields::X_FORWARDED_PROTO, fields::X_FORWARDED_HOST];
/// Fields of one hop, or with the length of the body, in addition to [`HOP_BY_HOP`].
const FRAMING: [HeaderName; 4] = [CONTENT_LENGTH, EXPECT, TE, TRAILER];

/// An edit of one field: `NAME: VALUE` replaces the field, `-NAME` removes it. Several edits `NAME: VALUE` of one name
/// give the field several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldEdit {
    name: HeaderName,
    /// `None` removes the field.
    value: Option<HeaderValue>,
}

/// Why a text is no [`FieldEdit`]. The value, which may be a secret, is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEdit {
    /// It has neither form.
    #[error("write 'NAME: VALUE' to set a field, or '-NAME' to remove it")]
    Form,
    /// No field can have this name.
    #[error("{0:?} is not the name of a field")]
    Name(String),
    /// No field can have this value.
    #[error("the value for {0} cannot be that of a field: use printable characters on one line")]
    Value(HeaderName),
    /// The Host has a setting of its own.
    #[error("host is set with --host-header")]
    Host,
    /// The field belongs to one connection, frames the message, or is internal to relay and agent.
    #[error("{0} cannot be edited: relay and agent need it to transfer the message")]
    Reserved(HeaderName),
}

impl FromStr for FieldEdit {
    type Err = BadEdit;

    fn from_str(text: &str) -> Result<Self, BadEdit> {
        let (name, value) = match (text.strip_prefix('-'), text.split_once(':')) {
            (Some(name), _) => (name, None),
            (None, Some((name, value))) if !name.is_empty() => (name, Some(value.trim())),
            _ => return Err(BadEdit::Form),
        };
        let name = HeaderName::try_from(name).map_err(|_| BadEdit::Name(name.into()))?;
        if name == HOST {
            return Err(BadEdit::Host);
        }
        let internal = name.as_str().starts_with(fields::INTERNAL) || name == fields::REQUESTING_CLIENT;
        if internal || HOP_BY_HOP.contains(&name) || FRAMING.contains(&name) {
            return Err(BadEdit::Reserved(name));
        }
        let value = value.map(|value| HeaderValue::from_str(value).map_err(|_| BadEdit::Value(name.clone())));
        Ok(Self { value: value.transpose()?, name })
    }
}

/// The edits of one direction, in their order.
pub(super) struct FieldEdits(Box<[(FieldEdit, bool)]>);

impl FieldEdits {
    /// `None` without edits. `no_forwarded` removes the forwarding fields before any other edit.
    pub(super) fn new(edits: Vec<FieldEdit>, no_forwarded: bool) -> Option<Self> {
        let removed = FORWARDING.into_iter().filter(|_| no_forwarded);
        let removed = removed.map(|name| FieldEdit { name, value: None });
        let mut all: Vec<(FieldEdit, bool)> = Vec::new();
        for edit in removed.chain(edits) {
            // The first value of a name replaces the field, each further value is added.
            let adds = all.iter().rev().find(|(earlier, _)| earlier.name == edit.name);
            let adds = adds.is_some_and(|(earlier, _)| earlier.value.is_some());
            all.push((edit, adds));
        }
        Some(Self(all.into())).filter(|edits| !edits.0.is_empty())
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for (FieldEdit { name, value }, adds) in &self.0 {
            match value {
                None => drop(headers.remove(name)),
                Some(value) if *adds => drop(headers.append(name, value.clone())),
                Some(value) => drop(headers.insert(name, value.clone())),
            }
        }
    }
}

/// Edits requests just before the origin receives them.
pub(super) struct EditedRequests {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) edits: FieldEdits,
}

impl Handler for EditedRequests {
    fn call(&self, mut request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        self.edits.apply(request.headers_mut());
        self.handler.call(request, interim)
    }
}

/// Edits final answers just before the visitor receives them.
pub(super) struct EditedResponses {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) edits: Arc<FieldEdits>,
}

impl Handler for EditedResponses {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let (answer, edits) = (self.handler.call(request, interim), self.edits.clone());
        Box::pin(async move {
            let mut response = answer.await;
            edits.apply(response.headers_mut());
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edits: &[&str], no_forwarded: bool, before: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let edits = edits.iter().map(|text| text.parse().unwrap()).collect();
        FieldEdits::new(edits, no_forwarded).unwrap().apply(&mut headers);
        let mut all: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn edits_replace_add_and_remove_in_their_order() {
        let before =
            [("x-a", "1"), ("x-a", "2"), ("x-b", "3"), ("x-forwarded-for", "::1"), ("forwarded", "for=x")];
        assert_eq!(
            edited(&["X-A: new", "-x-b", "x-a:more", "X-Forwarded-For: me"], true, &before),
            ["x-a: more", "x-a: new", "x-forwarded-for: me"]
        );
        assert_eq!(edited(&["X-B: 1", "-X-B", "X-B: 2", "X-C:"], false, &before[2..3]), ["x-b: 2", "x-c: "]);
        assert!(FieldEdits::new(Vec::new(), false).is_none());
    }

    #[test]
    fn fields_that_the_transfer_needs_cannot_be_edited() {
        for name in HOP_BY_HOP
            .iter()
            .chain(&FRAMING)
            .map(HeaderName::as_str)
            .chain(["PTTH-Status", "Requesting-Client"])
        {
            for text in [format!("{name}: x"), format!("-{name}")] {
                assert!(matches!(text.parse::<FieldEdit>(), Err(BadEdit::Reserved(_))), "{text}");
            }
        }
        assert_eq!("Host: x".parse::<FieldEdit>(), Err(BadEdit::Host));
        for bad in ["", "x", ": x", "-", "a b: x", ":path: /", "-:path", "x: a\nb: c"] {
            let error = bad.parse::<FieldEdit>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
