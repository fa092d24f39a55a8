//! The proxy setting: a flag without a password, or the environment.

use http::Uri;

use super::Failure;
use crate::net::dial::Proxies;

/// The variable with the meaning of `--proxy`. Its URL may contain a password.
const VARIABLE: &str = "PTTH_PROXY";

/// A variable of the environment. A value that is not Unicode does not count as a missing variable.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The flag takes precedence over `PTTH_PROXY`, and `PTTH_PROXY` over the variables that every program reads. The
/// latter are not read when all relays are on this machine.
pub(super) fn read(
    flag: Option<&str>,
    relays: &[Uri],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Proxies, Failure> {
    if let Some(text) = flag {
        let proxies = Proxies::parse(text, "--proxy").map_err(Failure::usage)?;
        return match &proxies {
            Proxies::Always(proxy) if proxy.has_password() => Err(Failure::usage(
                "every user of this machine can read the password in --proxy in the process list: put the \
                 same URL into the environment variable HTTPS_PROXY or PTTH_PROXY, and leave --proxy out",
            )),
            _ => Ok(proxies),
        };
    }
    if let Some(text) = variable(VARIABLE) {
        return Proxies::parse(&text, VARIABLE).map_err(Failure::usage);
    }
    let hosts = relays.iter().filter_map(Uri::host);
    Proxies::environment(hosts, variable).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dial::DialRoute;

    /// The proxy for a relay with this flag and this environment.
    fn chosen(flag: Option<&str>, environment: &[(&str, &str)], relay: &str) -> Result<String, Failure> {
        let get = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let relay: Uri = relay.parse().unwrap();
        let proxies = read(flag, std::slice::from_ref(&relay), get)?;
        Ok(match proxies.via(relay.host().unwrap()) {
            DialRoute::Direct => "none".into(),
            DialRoute::Proxy(proxy) => proxy.to_string(),
        })
    }

    #[test]
    fn the_flag_overrides_the_environment() {
        let all = [("PTTH_PROXY", "socks5://u:p@own:1"), ("HTTPS_PROXY", "http://u:p@every:1")];
        let (far, near) = ("https://relay.test", "https://localhost:8443");
        assert_eq!(chosen(Some("http://flag:1"), &all, far).as_deref(), Ok("http://flag:1"));
        assert_eq!(chosen(Some("http://flag:1"), &all, near).as_deref(), Ok("http://flag:1"));
        assert_eq!(chosen(Some("off"), &all, far).as_deref(), Ok("none"));
        assert_eq!(chosen(None, &all, far).as_deref(), Ok("socks5://own:1"));
        assert_eq!(chosen(None, &all[1..], far).as_deref(), Ok("http://every:1"));
        assert_eq!(chosen(None, &all[1..], near).as_deref(), Ok("none"));
        assert_eq!(chosen(None, &[("PTTH_PROXY", "off"), all[1]], far).as_deref(), Ok("none"));
        assert_eq!(chosen(None, &[("HTTPS_PROXY", "no such thing")], near).as_deref(), Ok("none"));
    }

    #[test]
    fn a_password_in_the_flag_is_refused_and_never_repeated() {
        for (flag, environment) in [
            (Some("http://ann:hush@p:1"), &[][..]),
            (Some("http://ann:hush@p:x"), &[]),
            (None, &[("PTTH_PROXY", "http://ann:hush@p:x")]),
            (None, &[("ALL_PROXY", "gopher://ann:hush@p:1")]),
        ] {
            let failure = chosen(flag, environment, "https://relay.test").unwrap_err();
            assert!(failure.code == 2 && !failure.message.contains("hush"), "{failure}");
        }
        let failure = chosen(Some("http://ann:hush@p:1"), &[], "https://relay.test").unwrap_err();
        assert!(failure.message.contains("HTTPS_PROXY"), "{failure}");
        assert!(
            chosen(Some("http://ann@p:1"), &[], "https://relay.test").is_ok(),
            "a user alone is no secret"
        );
    }
}
