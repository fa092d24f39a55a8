//! The URI template `/.well-known/ptth/{serialized_origin}/` and its query forms (draft-kazuho-ptth-ptth-01 §4).

use http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::domain::{Below, HostName, Offer, Wanted};

const WELL_KNOWN: &str = "/.well-known/ptth/";
const VARIABLE: &str = "serialized_origin";

/// The error of a target whose origins cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a list of origins: {reason}")]
pub(super) struct BadOrigins {
    text: String,
    reason: &'static str,
}

/// Whether a target is the default endpoint's.
pub(super) fn is_well_known(uri: &Uri) -> bool {
    uri.path().starts_with(WELL_KNOWN)
}

/// The origins of a target, in the well-known path or in either form of the query. Each list is split at literal commas
/// before it is decoded. A target without origins gives an empty list.
pub(super) fn wanted(uri: &Uri) -> Result<Vec<Wanted>, BadOrigins> {
    let in_path = uri.path().strip_prefix(WELL_KNOWN).map(|rest| rest.trim_end_matches('/'));
    let in_query = uri.query().into_iter().flat_map(|q| q.split('&')).filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == VARIABLE).then_some(value)
    });
    let lists = in_path.filter(|list| !list.is_empty()).into_iter().chain(in_query);
    lists.flat_map(|list| list.split(',')).map(origin).collect()
}

fn origin(encoded: &str) -> Result<Wanted, BadOrigins> {
    let bad = |reason| BadOrigins { text: encoded.to_owned(), reason };
    let text = percent_decode_str(encoded).decode_utf8().map_err(|_| bad("it is not UTF-8"))?;
    let (scheme, authority) =
        text.split_once("://").ok_or_else(|| bad("an origin begins with https:// or http://"))?;
    if !["https", "http"].contains(&scheme) {
        return Err(bad("the scheme is neither https nor http"));
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Err(bad("an origin has a scheme, a host and perhaps a port, nothing else"));
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| bad("its host is malformed"))?;
    HostName::parse(authority.host()).map(Wanted::Origin).map_err(|_| bad("its host is malformed"))
}

/// The target that requests an offer's origins. A name becomes the origin `https://NAME.` + the relay's own authority.
pub(super) fn target(relay: &Uri, offer: &Offer) -> String {
    let authority = relay.authority().map_or("localhost", |a| a.as_str());
    let origins = offer.wanted.iter().map(|wanted| match wanted {
        Wanted::Name(name) => format!("https://{name}.{authority}"),
        // A relay refuses these: no origin has a star (RFC 6454 §4).
        Wanted::Below(below @ Below::Name(_)) => format!("https://{below}.{authority}"),
        Wanted::Below(below @ Below::Host(_)) => format!("https://{below}"),
        Wanted::Host(host) | Wanted::Origin(host) => format!("https://{host}"),
    });
    let encoded: Vec<_> = origins.map(|o| utf8_percent_encode(&o, NON_ALPHANUMERIC).to_string()).collect();
    match encoded.is_empty() {
        true => WELL_KNOWN.to_owned(),
        false => format!("{WELL_KNOWN}{}/", encoded.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Name;

    fn hosts(target: &'static str) -> Result<Vec<String>, BadOrigins> {
        let wanted = wanted(&Uri::from_static(target))?;
        Ok(wanted
            .into_iter()
            .map(|w| if let Wanted::Origin(host) = w { host.to_string() } else { panic!() })
            .collect())
    }

    #[test]
    fn the_three_expansions_of_the_template_mean_the_same() {
        let both = vec!["a.example".to_owned(), "b.example".to_owned()];
        let a = "https%3A%2F%2Fa.example";
        let b = "https%3A%2F%2Fb.example%3A8443";
        for target in [
            format!("/.well-known/ptth/{a},{b}/"),
            format!("/x?serialized_origin={a},{b}"),
            format!("/x?serialized_origin={a}&serialized_origin={b}"),
        ] {
            assert_eq!(hosts(target.leak()).unwrap(), both);
        }
        assert_eq!(hosts("/reverse-endpoint").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_malformed_origin_is_refused() {
        for bad in [
            "null",
            "a.example",
            "ftp%3A%2F%2Fa",
            "https%3A%2F%2Fa%2Fb",
            "https%3A%2F%2Fu%40a",
            "https%3A%2F%2F",
            "%ff",
            "",
        ] {
            let target = format!("/.well-known/ptth/{bad},https%3A%2F%2Fa.example/");
            assert!(hosts(target.leak()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_an_origin_below_the_relay() {
        let offer = Offer { wanted: vec![Wanted::Name(Name::parse("shop").unwrap())], ..Offer::default() };
        let target = target(&Uri::from_static("https://relay.test:8443"), &offer);
        assert_eq!(target, "/.well-known/ptth/https%3A%2F%2Fshop%2Erelay%2Etest%3A8443/");
        assert_eq!(hosts(target.leak()).unwrap(), ["shop.relay.test"]);
    }
}
