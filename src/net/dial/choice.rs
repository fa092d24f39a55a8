//! The choice of a proxy: by an explicit setting, or by the environment.

use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;

use super::proxy::{BadProxy, DialRoute, Proxy};
use crate::domain::HostName;

/// The variables that may name a proxy, in order of precedence; curl reads the lower-case ones.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// The variables that list hosts to reach without a proxy.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// How each host is reached.
#[derive(Debug, Clone, Default)]
pub enum Proxies {
    /// Every host directly.
    #[default]
    None,
    /// Every host through this proxy, by an explicit setting.
    Always(Arc<Proxy>),
    /// Through this proxy of the environment, except hosts that the environment excludes and hosts that
    /// are this machine.
    Environment(Arc<Proxy>, Arc<Matcher>),
}

impl Proxies {
    /// Parses an explicit setting: the URL of a proxy for every host, or `off`. `origin` names the source
    /// of the setting.
    ///
    /// # Errors
    /// [`BadProxy`], which does not repeat the text.
    pub fn parse(text: &str, origin: &'static str) -> Result<Self, BadProxy> {
        if text == "off" {
            return Ok(Self::None);
        }
        let proxy = Proxy::parse(text).map_err(|reason| BadProxy { origin, reason })?;
        Ok(Self::Always(Arc::new(proxy)))
    }

    /// Reads `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` of the environment. `NO_PROXY` lists hosts with all below
    /// them, addresses, networks such as `10.0.0.0/8`, or `*`. When all of `hosts` are this machine, the environment
    /// is not read.
    ///
    /// # Errors
    /// [`BadProxy`], which does not repeat the text.
    pub fn environment<'a>(
        hosts: impl IntoIterator<Item = &'a str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BadProxy> {
        if hosts.into_iter().all(is_this_machine) {
            return Ok(Self::None);
        }
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| Some((*name, variable(name).filter(|v| !v.trim().is_empty())?));
            names.iter().find_map(set)
        };
        let Some((origin, text)) = first(&VARIABLES) else { return Ok(Self::None) };
        let proxy = Proxy::parse(&text).map_err(|reason| BadProxy { origin, reason })?;
        let list = first(&EXCEPTIONS).map_or(String::new(), |(_, list)| list);
        // Many people write *.example.org where programs expect .example.org.
        let entries = list.split([',', ' ']).map(|entry| match entry.strip_prefix("*.") {
            Some(_) => &entry[1..],
            None => entry,
        });
        let exceptions = entries.collect::<Vec<_>>().join(",");
        let matcher = Matcher::builder().all("http://proxy.invalid").no(exceptions).build();
        Ok(Self::Environment(Arc::new(proxy), Arc::new(matcher)))
    }

    /// The route to a host, which is written as in a URL.
    pub fn via(&self, host: &str) -> DialRoute {
        match self {
            Self::None => DialRoute::Direct,
            Self::Always(proxy) => DialRoute::Proxy(proxy.clone()),
            Self::Environment(proxy, matcher) => {
                let local = is_this_machine(host);
                let host = host.trim_end_matches('.');
                let uri: Option<http::Uri> = format!("https://{host}/").parse().ok();
                match uri.is_some_and(|uri| !local && matcher.intercept(&uri).is_some()) {
                    true => DialRoute::Proxy(proxy.clone()),
                    false => DialRoute::Direct,
                }
            }
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    HostName::parse(host).is_ok_and(|host| host.is_this_machine())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy through which this environment routes a host; `None` for a direct connection.
    fn through(environment: &[(&str, &str)], host: &str) -> Option<String> {
        let get = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        match Proxies::environment([host, "relay.test"], get).unwrap().via(host) {
            DialRoute::Direct => None,
            DialRoute::Proxy(proxy) => Some(proxy.address.to_string()),
        }
    }

    #[test]
    fn proxy_variables_follow_the_usual_precedence() {
        let both = [("ALL_PROXY", "http://all:1"), ("https_proxy", "http://low:1")];
        assert_eq!(through(&both, "relay.test").as_deref(), Some("low:1"));
        assert_eq!(through(&both[..1], "relay.test").as_deref(), Some("all:1"));
        assert_eq!(through(&[("HTTPS_PROXY", "up:1"), both[1]], "relay.test").as_deref(), Some("up:1"));
        assert_eq!(through(&[("HTTPS_PROXY", " "), both[0]], "relay.test").as_deref(), Some("all:1"));
        assert_eq!(through(&[("HTTP_PROXY", "http://x:1")], "relay.test"), None);
        for local in ["localhost", "ptth.localhost", "127.0.0.1", "[::1]", "LOCALHOST."] {
            assert_eq!(through(&both, local), None, "{local}");
        }
        let bad = |name: &str| (name == "ALL_PROXY").then(|| "ann:hush@x:y".into());
        assert!(Proxies::environment(["localhost", "[::1]"], bad).is_ok(), "the proxy variables were read");
        let bad = Proxies::environment(["localhost", "relay.test"], bad);
        let error = bad.unwrap_err().to_string();
        assert!(error.starts_with("ALL_PROXY names no proxy") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn exceptions_are_hosts_domains_networks_or_all() {
        let without = |list: &str, host: &str| {
            through(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)], host).is_none()
        };
        for (list, host) in [
            ("relay.test", "relay.test"),
            ("relay.test", "a.relay.test"),
            (".test", "relay.test"),
            ("*.test", "relay.test"),
            ("x, RELAY.test", "relay.test"),
            ("x relay.test", "relay.test."),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "[fd00::1]"),
            ("*", "relay.test"),
        ] {
            assert!(without(list, host), "{list} {host}");
        }
        for (list, host) in [
            ("", "relay.test"),
            ("relay.test", "xrelay.test"),
            ("relay.test", "test"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "10.test"),
        ] {
            assert!(!without(list, host), "{list} {host}");
        }
    }

    #[test]
    fn an_explicit_proxy_applies_to_every_host() {
        let explicit = Proxies::parse("socks5h://p:1", "--proxy").unwrap();
        assert!(matches!(explicit.via("localhost"), DialRoute::Proxy(p) if p.resolves()));
        let error = Proxies::parse("http://ann:hush@a:1/x", "--proxy").unwrap_err().to_string();
        assert!(error.starts_with("--proxy names no proxy") && !error.contains("hush"), "{error}");
        assert!(matches!(Proxies::parse("off", "--proxy").unwrap().via("relay.test"), DialRoute::Direct));
    }
}
