//! The fields of a registration: a form, in the body or in the query, whatever its `Content-Type` is.

use std::time::Duration;

use form_urlencoded::Serializer;

use crate::defaults;
use crate::domain::{Malformed, Secret, Wanted};

/// The fields of a registration. Unknown fields are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) wanted: Vec<Wanted>,
    pub(super) token: Option<Secret>,
    pub(super) lease: Option<Duration>,
}

/// Why a form is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadForm {
    /// A malformed name or host.
    #[error(transparent)]
    Wanted(#[from] Malformed),
    /// A lease that is not a number of seconds.
    #[error("{0:?} is not a lease: write a whole number of seconds")]
    Lease(String),
}

/// Reads a registration. Fields in the body take precedence over those in the query.
pub(super) fn read(query: &str, body: &[u8]) -> Result<Fields, BadForm> {
    let body = parse(body)?;
    let query = parse(query.as_bytes())?;
    Ok(Fields {
        wanted: if body.wanted.is_empty() { query.wanted } else { body.wanted },
        token: body.token.or(query.token),
        lease: body.lease.or(query.lease),
    })
}

fn parse(text: &[u8]) -> Result<Fields, BadForm> {
    let mut fields = Fields::default();
    // A form that was made with echo ends in a line end.
    for (key, value) in form_urlencoded::parse(text.trim_ascii()) {
        match &*key {
            // The old clients write a hyphen where they have no token.
            "token" if !value.is_empty() && value != "-" => fields.token = Some(Secret::new(&*value)),
            "lease" => fields.lease = Some(lease(&value)?),
            _ => fields.wanted.extend(Wanted::read(&key, &value).transpose()?),
        }
    }
    Ok(fields)
}

fn lease(text: &str) -> Result<Duration, BadForm> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number with too many digits is clamped, like any other number that is too large.
    let seconds = digits.then(|| text.parse().unwrap_or(u64::MAX));
    let seconds = seconds.ok_or_else(|| BadForm::Lease(text.to_owned()))?;
    Ok(Duration::from_secs(seconds).clamp(defaults::POLL_LEASE, defaults::POLL_LEASE_MOST))
}

/// Appends the requested names and hosts.
pub(super) fn write(form: &mut Serializer<'_, String>, wanted: &[Wanted]) {
    for wanted in wanted {
        let (key, value) = wanted.parameter();
        form.append_pair(key, &value);
    }
}

/// Names and hosts are the same after `write` and `read`, and a lease is within its bounds.
#[cfg(any(test, fuzzing))]
pub(crate) fn property(bytes: &[u8]) {
    let (query, body) = bytes.split_at(bytes.iter().position(|b| *b == 0).unwrap_or(0));
    let Ok(fields) = read(&String::from_utf8_lossy(query), body) else { return };
    let mut form = Serializer::new(String::new());
    write(&mut form, &fields.wanted);
    let reread = read("", form.finish().as_bytes()).map(|parsed| parsed.wanted);
    assert_eq!(reread.as_ref(), Ok(&fields.wanted));
    let bounds = defaults::POLL_LEASE..=defaults::POLL_LEASE_MOST;
    assert!(fields.lease.is_none_or(|lease| bounds.contains(&lease)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Name;

    fn name(text: &str) -> Wanted {
        Wanted::Name(Name::parse(text).unwrap())
    }

    #[test]
    fn the_body_takes_precedence_over_the_query() {
        let fields = read("name=a&token=q&lease=60&x=y", b"name=Demo&token=T%2b+\n").unwrap();
        assert_eq!(fields.wanted, [name("demo")]);
        assert_eq!(fields.token, Some(Secret::new("T+ ")));
        assert_eq!(fields.lease, Some(Duration::from_secs(60)));
        assert_eq!(
            read("name=a", b"token=-").unwrap(),
            Fields { wanted: vec![name("a")], ..Fields::default() }
        );
    }

    #[test]
    fn a_lease_is_clamped_and_must_be_a_number() {
        let lease = |text: &str| read(&format!("lease={text}"), b"").map(|f| f.lease.unwrap().as_secs());
        assert_eq!(["0", "31", "99999999999999999999999"].map(|t| lease(t).unwrap()), [30, 31, 3600]);
        for bad in ["", "-1", "abc", "1.5", "%2B1"] {
            assert!(lease(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn requested_names_survive_a_round_trip(labels in proptest::collection::vec("[a-z]([a-z0-9-]{0,8}[a-z0-9])?", 0..4)) {
            let wanted: Vec<_> = labels.iter().map(|label| name(label)).collect();
            let mut form = Serializer::new(String::new());
            write(&mut form, &wanted);
            prop_assert_eq!(read("", form.finish().as_bytes()).unwrap().wanted, wanted);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read("", &bytes);
        }
    }
}
