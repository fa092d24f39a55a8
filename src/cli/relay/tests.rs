use std::fs;

use clap::Parser;

use super::*;
use crate::net::nets::Nets;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    said: RelaySettings,
}

fn flags(line: &str) -> RelaySettings {
    Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).unwrap().said
}

fn file(text: &str) -> Result<RelaySettings, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.toml");
    fs::write(&path, text).unwrap();
    RelaySettings::load(&path)
}

fn resolved(settings: RelaySettings) -> Settings {
    Settings::resolve(RelaySettings { state: Some("/state".into()), ..settings }).unwrap()
}

#[test]
fn without_settings_the_defaults_apply() {
    let Settings { config, certificate, .. } = resolved(RelaySettings::default());
    assert_eq!(config.listen, [Listen::tls(defaults::LISTEN.parse().unwrap())]);
    assert_eq!(config.domain.as_str(), defaults::DOMAIN);
    assert_eq!(config.admin, Some(Admin { address: defaults::ADMIN.parse().unwrap(), required: false }));
    assert_eq!(
        [config.answer, config.lease, config.grace],
        [defaults::ANSWER, defaults::LEASE, defaults::GRACE]
    );
    assert_eq!(config.buffers, defaults::BUFFERS);
    assert_eq!(
        (config.connections, config.connections_per_address),
        (defaults::CONNECTIONS, defaults::CONNECTIONS_PER_ADDRESS)
    );
    let hosts =
        [defaults::DOMAIN.to_owned(), format!("*.{}", defaults::DOMAIN)].map(|host| host.parse().unwrap());
    assert_eq!(certificate, CertificateSource::Development(hosts.to_vec()));
}

/// The defaults in the help text are the actual defaults.
#[test]
fn the_help_shows_the_actual_defaults() {
    let help = <Line as clap::CommandFactory>::command().render_long_help().to_string();
    let seconds = [defaults::ANSWER, defaults::LEASE, defaults::GRACE].map(|d| d.as_secs().to_string());
    let [answer, lease, grace] = &seconds;
    let buffers = (defaults::BUFFERS >> 20).to_string();
    let connections = [defaults::CONNECTIONS, defaults::CONNECTIONS_PER_ADDRESS].map(|n| n.to_string());
    let [all, each] = connections.each_ref().map(String::as_str);
    for default in
        [defaults::LISTEN, defaults::DOMAIN, defaults::ADMIN, answer, lease, grace, &buffers, all, each]
    {
        assert!(help.contains(&format!("[default: {default}")), "{default}");
    }
}

const EVERYTHING: &str = r#"
listen = ["127.0.0.1:1", "http://127.0.0.1:2"]
domain = "file.test"
authority = ["own.test"]
public-url = "https://public.test"
routing = "path"
trusted-proxy = ["10.0.0.0/8"]
proxy-protocol = ["192.0.2.1", "fd00::/8"]
open-registration = true
demo = false
relay-http = ["www.example.com", "intranet.test:81=10.0.0.5"]
cert = "cert.pem"
key = "/key.pem"
client-ca = "clients.pem"
require-client-cert = true
allow-plain = true
redirect-http = true
hsts-seconds = 5
state = "state"
admin = "off"
answer-timeout-seconds = 7
lease-seconds = 8
grace-seconds = 0
buffer-mib = 64
connections = 99
connections-per-address = 9
access-log = "json"
access-log-file = "access.log"
access-log-query = true

[[certificate]]
cert = "second.pem"
key = "second-key.pem"
"#;

#[test]
fn every_flag_is_a_key_of_the_file() {
    let (flat, _) = EVERYTHING.split_once("[[certificate]]").unwrap();
    let keys: Vec<_> = flat.lines().filter_map(|line| Some(line.split_once(" =")?.0)).collect();
    let command = <Line as clap::CommandFactory>::command();
    let flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    assert_eq!(keys, flags);

    let settings = Settings::resolve(file(EVERYTHING).unwrap()).unwrap();
    let config = settings.config;
    assert_eq!(
        config.listen.iter().map(|l| (l.address.port(), l.tls)).collect::<Vec<_>>(),
        [(1, true), (2, false)]
    );
    assert_eq!((config.domain.as_str(), config.authorities[0].as_str()), ("file.test", "own.test"));
    assert!(settings.client_ca.is_some_and(|ca| ca.is_absolute() && ca.ends_with("clients.pem")));
    assert_eq!((config.client_certs, config.allow_plain), (ClientCerts::Required, true));
    assert_eq!((config.redirect_http, config.hsts), (true, Some(Duration::from_secs(5))));
    assert_eq!((config.routing, config.admin), (Routing::Path, None));
    let has = |nets: &Nets, address: &str| nets.contains(address.parse().unwrap());
    assert!(has(&config.trusted_proxies, "::ffff:10.1.2.3") && !has(&config.trusted_proxies, "11.0.0.1"));
    assert!(has(&config.proxy_protocol, "192.0.2.1") && has(&config.proxy_protocol, "fd00::7"));
    assert_eq!(config.relay_http.len(), 2);
    assert!(config.open_registration && !resolved(RelaySettings::default()).config.open_registration);
    assert_eq!([config.answer, config.lease, config.grace].map(|d| d.as_secs()), [7, 8, 0]);
    assert_eq!(config.buffers, 64 << 20);
    assert_eq!((config.connections, config.connections_per_address), (99, 9));
    assert_eq!(
        (settings.access.access_log, settings.access.access_log_query),
        (Some(AccessForm::Json), true)
    );
    assert!(settings.access.access_log_file.is_some_and(|file| file.is_absolute()));
    assert!(settings.state.is_absolute() && settings.state.ends_with("state"), "relative to the file");
    let CertificateSource::Files(pairs) = settings.certificate else { panic!() };
    let [first, second] = &pairs[..] else { panic!("{pairs:?}") };
    assert!(first.cert.is_absolute() && first.cert.ends_with("cert.pem"));
    assert_eq!(first.key, Path::new("/key.pem"));
    assert!(second.cert.ends_with("second.pem") && second.key.is_absolute());
}

#[test]
fn the_nth_key_belongs_to_the_nth_certificate() {
    let pairs = |settings: RelaySettings| match resolved(settings).certificate {
        CertificateSource::Files(pairs) => {
            pairs.iter().map(|p| format!("{} {}", p.cert.display(), p.key.display())).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let flags = flags("--cert a.pem --cert b.pem --key a.key --key b.key");
    assert_eq!(pairs(flags.clone()), ["a.pem a.key", "b.pem b.key"]);
    assert_eq!(pairs(flags.or(file(EVERYTHING).unwrap())).len(), 2, "flags replace the pairs of the file");
    let list = "cert = [\"/a.pem\", \"/b.pem\"]\nkey = [\"/a.key\", \"/b.key\"]";
    assert_eq!(pairs(file(list).unwrap()), ["/a.pem /a.key", "/b.pem /b.key"]);
    let tables = "[[certificate]]\ncert = \"/a.pem\"\nkey = \"/a.key\"";
    assert_eq!(pairs(file(tables).unwrap()), ["/a.pem /a.key"]);
}

#[test]
fn flags_override_the_file_key_by_key() {
    let settings = flags("--domain flag.test --listen 127.0.0.1:9").or(file(EVERYTHING).unwrap());
    assert_eq!(settings.domain.as_ref().map(HostName::as_str), Some("flag.test"));
    assert_eq!(settings.listen.len(), 1, "a list replaces the list below");
    assert_eq!(settings.lease_seconds, Some(8));
    let mixed = flags("--cert a.pem").or(file(EVERYTHING).unwrap());
    assert_eq!(Settings::resolve(mixed).err().unwrap().code, 2, "the key belongs to another certificate");
}

#[test]
fn an_error_in_the_file_is_one_line_with_line_and_column() {
    for (text, place, expected) in [
        ("domain = \"a.test\"\nlissten = []", ":2:1:", "`listen`"),
        ("domain = 7", ":1:10:", "text in quotes"),
        ("domain = \"a..b\"", ":1:10:", "empty"),
        ("listen = [\"ptth10://127.0.0.1:1\"]", ":1:11:", "requests"),
        ("listen = [\"rhubarb+plain://127.0.0.1:1\"]", ":1:11:", "rhubarb"),
        ("\nlisten = [\"127.0.0.1:1\",\n  \"nowhere\"]", ":3:3:", "ADDR:PORT"),
        ("listen = []", ":1:10:", "empty list"),
        ("trusted-proxy = [\"nginx\"]", ":1:18:", "10.0.0.0/8"),
        ("answer-timeout-seconds = -1", ":1:26:", "u64"),
        ("routing = \"sideways\"", ":1:11:", "host"),
        ("domain = ", ":1:10:", "quoted"),
        ("[relay]\n", ":1:", "`relay`"),
        ("domain = \"a.test\"\naccess-log = \"loud\"", ":2:14:", "`text`"),
        ("[access]\n", ":1:", "`access`"),
        ("cert = 7", ":1:8:", "a path in quotes, or a list"),
        ("[[certificate]]\ncert = \"a.pem\"", ":1:1:", "`key`"),
    ] {
        let failure = file(text).unwrap_err();
        let line = failure.to_string();
        assert_eq!(failure.code, 2);
        assert!(
            line.contains("relay.toml:") && line.contains(place) && line.contains(expected),
            "{text:?}: {line}"
        );
    }
}

#[test]
fn conflicting_settings_are_refused() {
    for (line, expected) in [
        ("--cert a.pem", "--key"),
        ("--key a.pem", "--cert"),
        ("--cert a.pem --cert b.pem --key a.key", "--key"),
        ("--cert a.pem --key b.pem --listen http://127.0.0.1:1", "plain"),
        ("--require-client-cert", "--client-ca"),
        ("--client-ca a.pem --listen http://127.0.0.1:1", "plain"),
        ("--domain 127.0.0.1", "--routing path"),
        ("--domain localhost", "*.ptth.localhost"),
        ("--demo --routing path", "--routing host"),
        ("--redirect-http", "http://[::]:80"),
        ("--redirect-http --listen http://127.0.0.1:1", "[::]:443"),
        ("--hsts-seconds 1 --listen http://127.0.0.1:1", "--trusted-proxy"),
    ] {
        let failure = Settings::resolve(flags(line)).err().unwrap();
        assert!(failure.code == 2 && failure.message.contains(expected), "{line}: {failure}");
    }
    assert_eq!(resolved(flags("--listen http://127.0.0.1:1")).certificate, CertificateSource::None);
    let path = resolved(flags("--domain localhost --routing path")).certificate;
    assert_eq!(path, CertificateSource::Development(vec!["localhost".parse().unwrap()]));
}
