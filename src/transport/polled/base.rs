//! The relay's URL in the agent's configuration. Each URL that the relay sends is reduced to a path on that relay: a
//! relay behind a TLS terminator does not know its own scheme, and no relay may send an agent elsewhere.

use http::Uri;
use http::uri::Authority;

/// See the module.
pub(in crate::transport) struct Base {
    tls: bool,
    authority: Authority,
}

impl Base {
    pub(in crate::transport) fn new(relay: &Uri) -> Self {
        let authority = relay.authority().cloned();
        let tls = relay.scheme() != Some(&http::uri::Scheme::HTTP);
        Self { tls, authority: authority.unwrap_or(Authority::from_static("localhost")) }
    }

    /// The value of `Host`.
    pub(in crate::transport) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The path of a URL of this relay. A URL of another relay is an error.
    pub(in crate::transport) fn rebase(&self, url: &str) -> Result<String, String> {
        let malformed = || format!("the relay sent a malformed URL: {url:?}");
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        if let Some(authority) = uri.authority()
            && !self.is_same_relay(authority, uri.scheme_str() == Some("https"))
        {
            return Err(format!("the relay sent a URL of another host: {authority}"));
        }
        let path = uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
        path.map(ToString::to_string).ok_or_else(malformed)
    }

    fn is_same_relay(&self, authority: &Authority, tls: bool) -> bool {
        let port = |a: &Authority, tls: bool| a.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let same_host = self.authority.host().eq_ignore_ascii_case(authority.host());
        // Equal authorities name the same place, whatever the schemes are.
        self.authority.as_str().eq_ignore_ascii_case(authority.as_str())
            || same_host && port(&self.authority, self.tls) == port(authority, tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_url_becomes_a_path_and_other_hosts_are_refused() {
        let base = Base::new(&Uri::from_static("https://Relay.test"));
        for url in ["https://relay.test/a/b", "http://relay.test/a/b", "https://relay.test:443/a/b", "/a/b"] {
            assert_eq!(base.rebase(url).as_deref(), Ok("/a/b"), "{url}");
        }
        for url in [
            "https://evil.test/a",
            "https://relay.test:8443/a",
            "https://relay.test@evil.test/",
            "",
            "x y",
            "*",
        ] {
            assert!(base.rebase(url).is_err(), "{url}");
        }
    }
}
