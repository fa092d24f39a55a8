//! How an offer stands in the query.

use form_urlencoded::Serializer;

use crate::domain::{HostName, Malformed, Name, Offer, Wanted};

/// Reads `name=` and `host=`, each any number of times; other fields are the business of others.
pub(super) fn wanted(query: &str) -> Result<Vec<Wanted>, Malformed> {
    let mut wanted = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "name" => wanted.push(Wanted::Name(Name::parse(&value)?)),
            "host" => wanted.push(Wanted::Host(HostName::parse(&value)?)),
            _ => {}
        }
    }
    Ok(wanted)
}

/// Writes an offer behind a path.
pub(super) fn target(path: &str, offer: &Offer) -> String {
    let mut query = Serializer::new(String::new());
    for wanted in &offer.wanted {
        match wanted {
            Wanted::Name(name) => query.append_pair("name", name.as_str()),
            Wanted::Host(host) | Wanted::Origin(host) => query.append_pair("host", host.as_str()),
        };
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_survives_the_query() {
        let host = HostName::parse("www.example.org").unwrap();
        let wanted_ = vec![Wanted::Name(Name::parse("shop").unwrap()), Wanted::Host(host)];
        let offer = Offer { wanted: wanted_.clone(), ..Offer::default() };
        let text = target("/reversehttp", &offer);
        assert_eq!(text, "/reversehttp?name=shop&host=www.example.org");
        assert_eq!(wanted("name=Shop&x=1&host=www.example.org.").unwrap(), wanted_);
        assert_eq!(target("/x", &Offer::default()), "/x");
        assert!(wanted("name=a%20b").is_err());
    }
}
