//! How a request carries an offer: the names and hosts in the query, everything else in fields.

use form_urlencoded::Serializer;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::{Call, visitors};
use crate::domain::{AnswerLimit, Instance, Malformed, Name, Offer, Refusal, RefusalKind, Wanted};
use crate::message::fields;

/// Reads `name=` and `host=`, each any number of times. Other parameters are ignored here.
pub(super) fn wanted(query: &str) -> Result<Vec<Wanted>, Malformed> {
    let mut wanted = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        wanted.extend(Wanted::read(&key, &value).transpose()?);
    }
    Ok(wanted)
}

/// An offer of `wanted`, completed from the fields of its request.
pub(super) fn offer(
    wanted: Vec<Wanted>,
    headers: &HeaderMap,
    transport: &'static str,
) -> Result<Offer, Refusal> {
    let header = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let instance = match header(fields::PTTH_INSTANCE) {
        None => None,
        Some(text) => Some(Instance::parse(text).ok_or_else(|| {
            Refusal::new(RefusalKind::Malformed, format!("PTTH-Instance {text:?} is malformed"))
        })?),
    };
    let answer_timeout = match header(fields::PTTH_ANSWER_TIMEOUT) {
        None => None,
        Some(text) => Some(read_limit(text).ok_or_else(|| {
            let message = format!("PTTH-Answer-Timeout {text:?} is no number of seconds");
            Refusal::new(RefusalKind::Malformed, message)
        })?),
    };
    let suggested = header(fields::PTTH_SUGGESTED_NAME).map(Name::parse).transpose();
    let suggested = suggested.map_err(|bad| Refusal::new(RefusalKind::Malformed, bad.to_string()))?;
    let exclusive = header(fields::PTTH_EXCLUSIVE) == Some("?1");
    let (probe, visitors) = (is_probe(headers), visitors(headers)?);
    Ok(Offer { wanted, suggested, instance, exclusive, probe, transport, visitors, answer_timeout })
}

/// Parses a number of seconds, where 0 is no limit.
pub(super) fn read_limit(text: &str) -> Option<AnswerLimit> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(AnswerLimit::from_seconds)
}

/// Writes the options of an offer: everything but its names and hosts.
pub(super) fn write_options(headers: &mut HeaderMap, offer: &Offer) {
    let mut set = |name, value: Result<HeaderValue, _>| {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    };
    if let Some(instance) = &offer.instance {
        set(fields::PTTH_INSTANCE, HeaderValue::try_from(instance.to_string()));
    }
    if let Some(name) = &offer.suggested {
        set(fields::PTTH_SUGGESTED_NAME, HeaderValue::try_from(name.as_str()));
    }
    if offer.exclusive {
        set(fields::PTTH_EXCLUSIVE, HeaderValue::try_from("?1"));
    }
    if offer.probe {
        set(fields::PTTH_PROBE, HeaderValue::try_from("?1"));
    }
    if let Some(rules) = &offer.visitors {
        set(fields::PTTH_VISITORS, HeaderValue::try_from(&**rules));
    }
    if let Some(limit) = offer.answer_timeout {
        set(fields::PTTH_ANSWER_TIMEOUT, Ok(HeaderValue::from(limit.seconds())));
    }
}

/// Writes the fields of an agent's request: its token, and the options of its offer.
pub(super) fn write_fields(headers: &mut HeaderMap, call: &Call) {
    write_options(headers, &call.offer);
    if let Some(secret) = call.credentials.token()
        && let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {}", secret.expose()))
    {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
}

/// Appends the names and hosts of an offer to a path, as a query.
pub(super) fn target(path: &str, offer: &Offer) -> String {
    let mut query = Serializer::new(String::new());
    for wanted in &offer.wanted {
        let (key, value) = wanted.parameter();
        query.append_pair(key, &value);
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// Whether the offer is only a probe. The connection of a probe with Upgrade ends with the 101.
pub(super) fn is_probe(headers: &HeaderMap) -> bool {
    headers.get(fields::PTTH_PROBE).is_some_and(|value| value == "?1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HostName, Name};

    #[test]
    fn an_offer_survives_the_query() {
        let host = HostName::parse("www.example.org").unwrap();
        let requested = vec![Wanted::Name(Name::parse("shop").unwrap()), Wanted::Host(host)];
        let offer = Offer { wanted: requested.clone(), ..Offer::default() };
        let text = target("/reversehttp", &offer);
        assert_eq!(text, "/reversehttp?name=shop&host=www.example.org");
        assert_eq!(wanted("name=Shop&x=1&host=www.example.org.").unwrap(), requested);
        assert_eq!(target("/x", &Offer::default()), "/x");
        assert!(wanted("name=a%20b").is_err());
    }

    #[test]
    fn a_suggested_name_survives_its_field() {
        let suggested = Some(Name::parse("bakilo-vemu").unwrap());
        let mut headers = HeaderMap::new();
        write_options(&mut headers, &Offer { suggested: suggested.clone(), ..Offer::default() });
        assert_eq!(headers[fields::PTTH_SUGGESTED_NAME], "bakilo-vemu");
        assert_eq!(offer(Vec::new(), &headers, "x").unwrap().suggested, suggested);
        headers.insert(fields::PTTH_SUGGESTED_NAME, HeaderValue::from_static("a.b"));
        let bad = offer(Vec::new(), &headers, "x").err();
        assert_eq!(bad.map(|refusal| refusal.kind), Some(RefusalKind::Malformed));
    }

    #[test]
    fn an_answer_timeout_survives_its_field() {
        let offer = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(fields::PTTH_ANSWER_TIMEOUT, HeaderValue::from_static(text));
            offer(Vec::new(), &headers, "x")
        };
        for (seconds, limit) in [("0", AnswerLimit::NONE), ("90", AnswerLimit::from_seconds(90))] {
            let offer = offer(seconds).unwrap();
            assert_eq!(offer.answer_timeout, Some(limit));
            let mut headers = HeaderMap::new();
            write_options(&mut headers, &offer);
            assert_eq!(headers[fields::PTTH_ANSWER_TIMEOUT], seconds);
        }
        for bad in ["", "-1", "+1", "1.5", "1s", "99999999999999999999"] {
            assert_eq!(offer(bad).err().map(|refusal| refusal.kind), Some(RefusalKind::Malformed), "{bad}");
        }
    }
}
