//! An agent, out through each kind of proxy, and what it says when that does not work.

use std::process::Command;

use crate::process::{Outcome, Process};
use crate::site::{LOGIN, Site, WITH_PASSWORD, ptth, squid, tinyproxy};
use crate::socks::socks;

/// Starts an agent that cannot connect to its relay; the line that it logs.
fn failure(agent: &mut Command) -> String {
    let agent = Process::start(agent);
    let line = agent.logs("trying again");
    assert!(line.contains("cannot reach the relay"), "{line}");
    for secret in ["p%40ss", "p@ss", "wrong"] {
        assert_eq!(agent.count(secret), 0, "{agent}");
    }
    line
}

#[test]
fn an_agent_connects_through_an_open_squid() {
    let (site, squid) = (Site::new(), squid("http_access allow all"));
    let url = format!("http://127.0.0.1:{}", squid.port);
    site.serves(site.agent(&site.far()).args(["--proxy", &url]));
    site.serves(site.agent(&site.far()).env("HTTPS_PROXY", &url));
    site.serves(site.agent(&site.far()).env("all_proxy", &url));
}

#[test]
fn an_agent_logs_in_to_squid_and_reports_a_wrong_password() {
    let (site, squid) = (Site::new(), squid(WITH_PASSWORD));
    let at = format!("127.0.0.1:{}", squid.port);
    site.serves(site.agent(&site.far()).env("HTTPS_PROXY", format!("http://{LOGIN}@{at}")));

    let line = failure(site.agent(&site.far()).env("HTTPS_PROXY", format!("http://{at}")));
    let wanted =
        format!("the proxy {at} wants a password (407); put it into the environment variable HTTPS_PROXY");
    assert!(line.contains(&wanted), "{line}");
    let line = failure(site.agent(&site.far()).env("HTTPS_PROXY", format!("http://ann:wrong@{at}")));
    assert!(line.contains("does not accept this user and password;"), "{line}");
}

#[test]
fn a_refusal_by_squid_is_reported() {
    let (site, squid) = (Site::new(), squid("http_access deny all"));
    let line =
        failure(site.agent(&site.far()).env("HTTPS_PROXY", format!("http://127.0.0.1:{}", squid.port)));
    assert!(line.contains("refused CONNECT to relay.test:") && line.contains("(403)"), "{line}");
}

#[test]
fn a_relay_that_squid_cannot_reach_is_reported() {
    let (site, squid) = (Site::new(), squid("http_access allow all"));
    let gone = crate::site::free_port();
    let proxy = format!("http://127.0.0.1:{}", squid.port);
    let line = failure(site.agent(&format!("https://relay.test:{gone}")).env("HTTPS_PROXY", proxy));
    assert!(line.contains(&format!("did not reach relay.test:{gone} (503); check --relay")), "{line}");
}

#[test]
fn an_agent_connects_through_tinyproxy_with_and_without_a_password() {
    let site = Site::new();
    let open = tinyproxy("");
    let url = format!("http://127.0.0.1:{}", open.port);
    let agent = site.serves(site.agent(&site.near()).args(["--proxy", &url]));
    open.process.logs("CONNECT localhost:");
    drop(agent);

    let closed = tinyproxy("BasicAuth ann pass");
    let at = format!("127.0.0.1:{}", closed.port);
    site.serves(site.agent(&site.near()).env("PTTH_PROXY", format!("http://ann:pass@{at}")));
    closed.process.logs("CONNECT localhost:");
    let line = failure(site.agent(&site.near()).args(["--proxy", &format!("http://{at}")]));
    assert!(line.contains(&format!("the proxy {at} wants a password (407)")), "{line}");
    let line = failure(site.agent(&site.near()).env("PTTH_PROXY", format!("http://ann:wrong@{at}")));
    assert!(line.contains("does not accept this user and password"), "{line}");
}

#[test]
fn a_tinyproxy_that_allows_only_port_443_is_reported() {
    let (site, narrow) = (Site::new(), tinyproxy("ConnectPort 443"));
    let proxy = format!("http://127.0.0.1:{}", narrow.port);
    let line = failure(site.agent(&site.near()).args(["--proxy", &proxy]));
    assert!(line.contains("(403)") && line.contains("many proxies allow only port 443"), "{line}");
}

#[test]
fn socks5h_resolves_at_the_proxy_and_socks5_at_the_agent() {
    let (site, socks) = (Site::new(), socks(None, 0));
    let url = |scheme: &str| format!("{scheme}://127.0.0.1:{}", socks.port);
    site.serves(site.agent(&site.far()).env("ALL_PROXY", url("socks5h")));
    assert_eq!(socks.hosts.recv().unwrap(), "relay.test", "socks5h sends the name to the proxy");
    site.serves(site.agent(&site.near()).args(["--proxy", &url("socks5")]));
    assert_eq!(socks.hosts.recv().unwrap(), "127.0.0.1", "the agent resolves the name for socks5");
}

#[test]
fn an_agent_logs_in_to_socks_and_reports_a_wrong_password() {
    let (site, socks) = (Site::new(), socks(Some(("ann", "p@ss/w")), 0));
    let at = format!("127.0.0.1:{}", socks.port);
    site.serves(site.agent(&site.far()).env("HTTPS_PROXY", format!("socks5h://{LOGIN}@{at}")));
    let line = failure(site.agent(&site.far()).env("HTTPS_PROXY", format!("socks5h://{at}")));
    assert!(line.contains("wants a password; put it into the environment"), "{line}");
    let line = failure(site.agent(&site.far()).env("HTTPS_PROXY", format!("socks5h://ann:wrong@{at}")));
    assert!(line.contains("does not accept this user and password"), "{line}");
}

#[test]
fn a_refusal_by_socks_is_reported() {
    let (site, socks) = (Site::new(), socks(None, 2));
    let line =
        failure(site.agent(&site.far()).env("ALL_PROXY", format!("socks5h://127.0.0.1:{}", socks.port)));
    assert!(line.contains("its rules do not allow it (SOCKS reply 2)"), "{line}");
}

#[test]
fn an_unreachable_proxy_is_reported() {
    let site = Site::new();
    let at = format!("127.0.0.1:{}", crate::site::free_port());
    let line = failure(site.agent(&site.far()).env("HTTPS_PROXY", format!("http://{at}")));
    assert!(line.contains(&format!("cannot connect to the proxy {at}")), "{line}");
}

/// The relay is on this machine or in NO_PROXY, or the proxy is switched off: the agent does not dial the proxy.
#[test]
fn a_relay_exempt_from_the_proxy_is_dialled_directly() {
    let site = Site::new();
    let nobody = format!("http://127.0.0.1:{}", crate::site::free_port());
    site.serves(site.agent(&site.near()).env("HTTPS_PROXY", &nobody));
    site.serves(site.agent(&site.near()).env("PTTH_PROXY", &nobody).args(["--proxy", "off"]));
    let line = Process::start(site.agent(&site.far()).env("HTTPS_PROXY", &nobody).env("NO_PROXY", "x,.test"))
        .logs("cannot reach the relay");
    assert!(line.contains("cannot resolve the name \"relay.test\""), "{line}");
}

#[test]
fn a_password_in_the_arguments_is_refused() {
    for what in [&["agent", "3000"][..], &["doctor"]] {
        let relay = ["--relay", "https://relay.test", "--proxy", "http://ann:hush@proxy.test:3128"];
        let outcome = Outcome::of(ptth().args(what).args(relay));
        assert_eq!((outcome.code, &*outcome.out), (2, ""), "{}", outcome.err);
        assert!(outcome.err.contains("HTTPS_PROXY") && !outcome.err.contains("hush"), "{}", outcome.err);
    }
}
