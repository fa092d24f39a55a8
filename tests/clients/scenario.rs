//! What every client must do, as far as its platform can.

use crate::client::{Client, plain, token};
use crate::process::Process;
use crate::site::{Relay, Site, curl, free_port, ptth};

/// A relay without TLS, and a client that serves there.
struct Serving {
    site: Site,
    relay: Relay,
    agent: Process,
    url: String,
}

impl Serving {
    fn start(client: Client) -> Self {
        let site = Site::new();
        let relay = site.relay_at("http://127.0.0.1:0");
        let (agent, url) = client.start(&site, &plain(&relay));
        Self { site, relay, agent, url }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A visitor who reads line by line.
    fn reads(&self, path: &str) -> Process {
        Process::start(curl().arg("--no-buffer").arg(self.at(path)))
    }
}

pub(crate) fn requests_are_answered(client: Client) {
    let serving = Serving::start(client);
    assert_eq!(serving.url, format!("http://shop.ptth.localhost:{}/", serving.relay.port));
    let got = serving.site.curl(["--header", "Cookie: a=1; b=2", &serving.at("a%20b?x=%2F&y")]);
    // Python's convention has the path decoded.
    let path =
        if matches!(client, Client::Wsgi | Client::Flask | Client::Django) { "/a b" } else { "/a%20b" };
    assert_eq!((got.status, got.text()), (200, format!("GET {path}?x=%2F&y")), "{}", serving.agent);
    assert_eq!(got.field("x-cookie"), "a=1; b=2");
    assert!(got.head.contains("set-cookie: a=1\n") && got.head.contains("set-cookie: b=2\n"), "{}", got.head);
    let head = serving.site.curl(["--head", &serving.at("a")]);
    assert_eq!((head.status, head.field("x-cookie")), (200, ""), "{head:?}");
    let none = serving.site.curl([serving.at("none")]);
    assert_eq!((none.status, none.body.len()), (204, 0), "{none:?}");
    assert_eq!(serving.site.curl([serving.at("after")]).text(), "GET /after", "{}", serving.agent);
}

pub(crate) fn any_bytes_cross(client: Client) {
    let serving = Serving::start(client);
    let random: Vec<u8> = std::iter::repeat_with(rand::random).take(1 << 20).collect();
    let every: Vec<u8> = (0..=255).collect();
    for body in [random, every, b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec(), b"\n".to_vec(), Vec::new()] {
        let file = format!("@{}", serving.site.write("body", &body).display());
        let got = serving.site.curl(["--data-binary", &file, &serving.at("echo")]);
        assert_eq!(got.status, 200, "{got:?} {}", serving.agent);
        if !matches!(client, Client::Handler) {
            assert_eq!(got.field("x-length"), body.len().to_string(), "{}", got.head);
        }
        assert!(got.body == body, "{} bytes became {}", body.len(), got.body.len());
    }
}

pub(crate) fn an_error_is_a_500(client: Client) {
    let serving = Serving::start(client);
    assert_eq!(serving.site.curl([serving.at("fail")]).status, 500);
    assert_eq!(serving.site.curl([serving.at("a")]).text(), "GET /a", "{}", serving.agent);
    if !matches!(client, Client::Shell) {
        serving.agent.logs("Error: deliberate failure");
    }
}

pub(crate) fn requests_overlap(client: Client) {
    let serving = Serving::start(client);
    // Each of the two is answered only when the other has come as well.
    std::thread::scope(|scope| {
        let fetch = || scope.spawn(|| serving.site.curl([serving.at("meet")]).text());
        for fetched in [fetch(), fetch()] {
            assert_eq!(fetched.join().unwrap(), "met", "{}", serving.agent);
        }
    });
}

pub(crate) fn bodies_stream(client: Client) {
    let serving = Serving::start(client);
    let (mut whole, mut broken) = (serving.reads("stream"), serving.reads("broken"));
    // The second line is not written before the first was read.
    assert_eq!((whole.line(0), broken.line(0)), ("first".to_owned(), "first".to_owned()));
    assert_eq!(serving.site.curl([serving.at("go")]).text(), "gone");
    assert_eq!((whole.line(1), whole.ends()), ("second".to_owned(), 0));
    assert_ne!(broken.ends(), 0, "a broken answer must not look complete; {broken}");
    assert_eq!(serving.site.curl([serving.at("a")]).text(), "GET /a", "{}", serving.agent);
}

pub(crate) fn a_wrong_token_is_reported(client: Client) {
    let site = Site::new();
    let relay = site.relay_at("http://127.0.0.1:0");
    let mut agent = Process::start(&mut client.command(&site, &plain(&relay), "wrong"));
    let said = agent.logs("refused the name");
    assert!(said.contains("shop") && said.contains("403"), "{said}");
    assert_eq!(agent.ends(), 3, "{agent}");
    assert!(agent.out.all().is_empty(), "{agent}");
}

/// It registers for each of its polls, and must be the same one each time.
pub(crate) fn no_token_is_needed_where_registration_is_open(client: Client) {
    let site = Site::new();
    let token = token(&site);
    let id = token.split('_').nth(1).unwrap();
    site.run(ptth().args(["token", "revoke", id, "--state"]).arg(site.at("state")));
    let listen = format!("http://127.0.0.1:{}", free_port());
    let start = || Relay::start(site.relay_command(&listen).arg("--open-registration"));
    let mut relay = start();
    let agent = Process::start(client.command(&site, &plain(&relay), "").env_remove("PTTH_TOKEN"));
    let url = agent.line(0);
    for _ in 0..3 {
        assert_eq!(site.curl([&url]).text(), "GET /", "{agent}");
    }
    relay.process.kill();
    relay = start();
    relay.process.logs(" agent connected ");
    assert_eq!(site.curl([&url]).text(), "GET /", "{agent}");
}

pub(crate) fn a_client_reconnects_to_a_restarted_relay(client: Client) {
    let site = Site::new();
    let listen = format!("http://127.0.0.1:{}", free_port());
    let mut relay = site.relay_at(&listen);
    let (agent, url) = client.start(&site, &plain(&relay));
    assert_eq!(site.curl([&url]).text(), "GET /", "{agent}");
    relay.process.kill();
    let relay = site.relay_at(&listen);
    relay.process.logs(" agent connected ");
    assert_eq!(site.curl([&url]).text(), "GET /", "{agent}");
    assert_eq!(agent.out.all(), [url], "the URL is printed once; {agent}");
}

pub(crate) fn an_interrupt_releases_the_name(client: Client) {
    let Serving { relay, mut agent, .. } = Serving::start(client);
    agent.signal("INT");
    assert_eq!(agent.ends(), 0, "{agent}");
    // By its own word: without one it would stay until its lease is over, and the relay would say so.
    relay.process.logs(" agent connection ended ");
    assert!(!relay.process.err.all().iter().any(|line| line.contains("lease")), "{}", relay.process);
    assert!(agent.err.all().is_empty(), "{agent}");
}

/// Many resolvers know no name under `localhost`.
pub(crate) fn a_name_under_localhost_is_this_machine(client: Client) {
    let site = Site::new();
    let relay = site.relay();
    let (agent, url) = client.start(&site, &format!("https://ptth.localhost:{}", relay.port));
    assert_eq!(site.curl([&url]).text(), "GET /", "{agent}");
}

pub(crate) fn a_client_trusts_a_custom_ca(client: Client) {
    let site = Site::new();
    let relay = site.relay();
    let (agent, url) = client.start(&site, &relay.url());
    assert_eq!(url, format!("https://shop.ptth.localhost:{}/", relay.port));
    assert_eq!(site.curl([&url]).text(), "GET /", "{agent}");
}
