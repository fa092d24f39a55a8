//! A tab of a real browser as an agent: the demo page of a real relay, and a page of another origin.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use sha2::{Digest as _, Sha256};

use crate::client::{file, plain, token};
use crate::devtools::{Browser, Tab};
use crate::long::is_long;
use crate::process::PATIENCE;
use crate::site::{Relay, Site, poll};

/// Every value that a byte can have.
fn every_byte() -> Vec<u8> {
    (0..=255).collect()
}

/// A relay with a demo page.
struct Demo {
    site: Site,
    relay: Relay,
    scheme: &'static str,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        Self::listening("http://127.0.0.1:0", "http", arguments)
    }

    fn listening(listen: &str, scheme: &'static str, arguments: &[&str]) -> Self {
        let site = Site::new();
        let mut command = site.relay_command(listen);
        let relay = Relay::start(command.args(["--demo", "--lease-seconds", "0"]).args(arguments));
        Self { site, relay, scheme }
    }

    fn at(&self, path: &str) -> String {
        format!("{}://ptth.localhost:{}{path}", self.scheme, self.relay.port)
    }

    /// Opens the page, gives the tab a name and a token, and presses the button.
    fn serve(&self, browser: &mut Browser, name: &str, token: &str) -> Tab {
        let tab = browser.open(self.at("/demo"));
        browser.until(&tab, "document.getElementById('name').value.startsWith('tab-')");
        let fill = format!(
            "document.getElementById('name').value = '{name}'; document.getElementById('token').value = '{token}';
             document.getElementById('button').click()"
        );
        browser.value(&tab, &fill);
        tab
    }

    /// As [`serve`](Self::serve), until the tab answers; with its public URL.
    fn serving(&self, browser: &mut Browser, name: &str) -> (Tab, String) {
        let tab = self.serve(browser, name, "");
        browser.until(&tab, "!document.getElementById('serving').hidden");
        let url = browser.text(&tab, "document.getElementById('url').href");
        assert_eq!(url, format!("{}://{name}.ptth.localhost:{}/", self.scheme, self.relay.port));
        (tab, url)
    }

    /// The status of a form POST that claims a name by another secret.
    fn claims(&self, name: &str) -> u16 {
        let form = format!("name={name}&token=another");
        self.site.curl(["--data", &form, &self.at("/reversehttp")]).status
    }
}

#[test]
fn a_tab_answers_visitors() {
    let demo = Demo::start(&["--open-registration"]);
    demo.relay.process.logs("registration is open");
    let mut browser = Browser::start();
    let (tab, url) = demo.serving(&mut browser, "tab");
    let said = "document.getElementById('visits').innerText";

    let got = demo.site.curl(["--user-agent", "somebody's", &format!("{url}a%20b?c")]);
    assert_eq!((got.status, got.text()), (200, "Hello from a browser tab.\n".to_owned()), "{got:?}");
    assert_eq!(got.field("content-type"), "text/plain; charset=utf-8");
    browser.until(&tab, &format!("{said}.includes('GET /a%20b?c, by somebody\\'s at 127.0.0.1:')"));
    browser.value(&tab, "document.getElementById('text').value = 'Grüße'");
    assert_eq!(demo.site.curl([&url]).text(), "Grüße");

    // Every byte, both ways.
    let bytes = demo.site.write("bytes", every_byte());
    let upload = format!("@{}", bytes.display());
    assert_eq!(demo.site.curl(["--data-binary", &upload, &url]).status, 200);
    let digest: String = Sha256::digest(every_byte()).iter().map(|b| format!("{b:02x}")).collect();
    browser.until(&tab, &format!("{said}.includes('POST /, 256 bytes, SHA-256 {digest},')"));
    browser.choose(&tab, "file", &bytes);
    let got = demo.site.curl([&url]);
    assert_eq!((got.body == every_byte(), got.field("content-type")), (true, "application/octet-stream"));

    // Its button is a switch, and gives the name back.
    assert_eq!(demo.claims("tab"), 403);
    browser.value(&tab, "document.getElementById('button').click()");
    browser.until(&tab, "document.getElementById('state').textContent === 'Stopped.'");
    assert!(poll(|| (demo.claims("tab") == 201).then_some(())).is_some(), "{}", demo.relay.process);
}

#[test]
fn a_tab_answers_over_tls_and_http_2() {
    let demo = Demo::listening("127.0.0.1:0", "https", &["--open-registration"]);
    // The browser does not know the CA of the site.
    let mut browser = Browser::with(&["--ignore-certificate-errors"]);
    let (tab, url) = demo.serving(&mut browser, "tab");
    let spoken = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(browser.text(&tab, spoken), "h2");
    for _ in 0..3 {
        assert_eq!(demo.site.curl([&url]).text(), "Hello from a browser tab.\n");
    }
    browser.until(&tab, "document.querySelectorAll('#visits li').length === 3");
}

#[test]
fn visitor_input_is_shown_as_text() {
    let demo = Demo::start(&["--open-registration"]);
    let mut browser = Browser::start();
    let (tab, url) = demo.serving(&mut browser, "tab");
    let attack = "<svg onload=window.hurt=1><img src=x onerror=window.hurt=1>";
    let agent = format!("{attack}<script>window.hurt=1</script>");
    let target = "%3Csvg%20onload=window.hurt=1%3E?'%3E%3Cscript%3Ewindow.hurt=1%3C/script%3E";
    assert_eq!(demo.site.curl(["--user-agent", &agent, &format!("{url}{target}")]).status, 200);
    browser.until(&tab, "document.getElementById('visits').innerText.includes('<svg onload=window.hurt=1>')");
    assert_eq!(browser.value(&tab, "document.querySelectorAll('li *').length"), 0);
    assert_eq!(browser.value(&tab, "window.hurt === undefined"), true);
    // The policy stands behind it: markup that got in all the same would do nothing.
    browser.value(&tab, &format!("document.getElementById('visits').innerHTML = '{attack}'"));
    // As long as an image takes to fail.
    browser.value(&tab, "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))");
    assert_eq!(browser.value(&tab, "window.hurt === undefined"), true);
    assert_eq!(browser.value(&tab, "document.styleSheets.length"), 1, "the page's own style sheet applies");
}

#[test]
fn a_closed_tab_releases_its_name() {
    let demo = Demo::start(&["--open-registration"]);
    let mut browser = Browser::start();
    let (tab, url) = demo.serving(&mut browser, "tab");
    assert_eq!(demo.site.curl([&url]).status, 200);
    assert_eq!(demo.claims("tab"), 403);
    browser.close(&tab);
    // By its own word, sooner than a lease could end.
    demo.relay.process.logs(" agent connection ended ");
    assert!(poll(|| (demo.claims("tab") == 201).then_some(())).is_some(), "{}", demo.relay.process);
    assert!(!demo.relay.process.err.all().iter().any(|line| line.contains("its lease")));
}

/// The lease of a registration is 30 seconds at least, so this takes as long: only with `PTTH_LONG`.
#[test]
fn a_killed_browser_loses_its_name_when_the_lease_ends() {
    if !is_long() {
        return;
    }
    let demo = Demo::start(&["--open-registration"]);
    let mut browser = Browser::start();
    let (_, url) = demo.serving(&mut browser, "tab");
    assert_eq!(demo.site.curl([&url]).status, 200);
    browser.process.kill();
    assert_eq!(demo.claims("tab"), 403, "the lease has not ended");
    let freed = || poll(|| (demo.claims("tab") == 201).then_some(()));
    assert!(freed().or_else(freed).is_some(), "{}", demo.relay.process);
    demo.relay.process.logs("an agent has not polled for as long as its lease");
}

#[test]
fn without_open_registration_a_tab_needs_a_token() {
    let demo = Demo::start(&[]);
    let mut browser = Browser::start();
    let tab = demo.serve(&mut browser, "shop", "");
    assert!(browser.text(&tab, "document.getElementById('hint').innerText").starts_with("Needed:"));
    // The form is not sent without one; with a wrong one the relay says no.
    assert_eq!(browser.value(&tab, "document.getElementById('form').checkValidity()"), false);
    let tab = demo.serve(&mut browser, "shop", "wrong");
    browser.until(
        &tab,
        "document.getElementById('state').textContent.includes('refused the name \"shop\" (403)')",
    );
    let tab = demo.serve(&mut browser, "shop", &token(&demo.site));
    browser.until(&tab, "!document.getElementById('serving').hidden");
    let url = browser.text(&tab, "document.getElementById('url').href");
    assert_eq!(demo.site.curl([&url]).text(), "Hello from a browser tab.\n");
}

#[test]
fn the_demo_page_is_served_only_at_the_relays_own_authority() {
    let demo = Demo::start(&[]);
    for (path, kind) in [
        ("/demo", "text/html"),
        ("/demo.css", "text/css"),
        ("/demo.svg?name=shop", "image/svg+xml"),
        ("/demo.js", "text/javascript"),
        ("/ptth.js", "text/javascript"),
    ] {
        let got = demo.site.curl([demo.at(path)]);
        assert!(got.status == 200 && got.field("content-type").starts_with(kind), "{got:?}");
        let policy = got.field("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        assert_eq!((got.field("x-content-type-options"), got.field("set-cookie")), ("nosniff", ""));
        assert_eq!(demo.site.curl(["--data", "", &demo.at(path)]).status, 405);
        let named = format!("http://shop.ptth.localhost:{}{path}", demo.relay.port);
        assert_eq!(demo.site.curl([&named]).status, 503, "on a name the path belongs to the agent");
    }
    for query in ["", "?name=", "?name=a.b", "?url=http://evil.test/"] {
        assert_eq!(demo.site.curl([demo.at(&format!("/demo.svg{query}"))]).status, 404, "{query}");
    }
    assert!(demo.site.curl([demo.at("/")]).text().contains("href=\"/demo\""));
    let site = Site::new();
    let relay = site.relay_at("http://127.0.0.1:0");
    for path in ["/demo", "/demo.js", "/ptth.js"] {
        assert_eq!(site.curl([format!("{}{path}", plain(&relay))]).status, 404, "{path}");
    }
    assert!(!site.curl([plain(&relay)]).text().contains("demo"));
}

#[test]
fn there_is_no_demo_with_path_routing() {
    let site = Site::new();
    let mut command = site.relay_command("http://127.0.0.1:0");
    let done = command.args(["--demo", "--routing", "path"]).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("--routing host"), "{said}");
}

/// Serves files to a browser until the test ends; where.
fn pages(files: Vec<(&'static str, &'static str, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let files = files.clone();
            std::thread::spawn(move || page(stream, &files));
        }
    });
    at
}

fn page(mut stream: TcpStream, files: &[(&str, &str, String)]) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut read = Vec::new();
    let mut more = [0; 4096];
    while !read.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut more) {
            Ok(count @ 1..) => read.extend_from_slice(&more[..count]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&read);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, kind, body) = match files.iter().find(|(name, ..)| *name == path) {
        Some((_, kind, body)) => ("200 OK", *kind, body.as_str()),
        None => ("404 Not Found", "text/plain", ""),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

#[test]
fn a_page_of_another_origin_can_be_an_agent() {
    let demo = Demo::start(&["--open-registration"]);
    let library = std::fs::read_to_string(file("clients/js/ptth.js")).unwrap();
    let relay = plain(&demo.relay).replace("127.0.0.1", "ptth.localhost");
    let script = format!(
        "import {{ serve }} from './ptth.js';
         const echo = async (request) => new Response(await request.arrayBuffer());
         try {{
           window.agent = await serve({{ relay: '{relay}', name: 'tab' }}, echo);
           document.title = agent.url;
         }} catch (error) {{
           document.title = `failed: ${{error}}`;
         }}"
    );
    let html = "<!doctype html><title></title><script type=module src=/own.js></script>".to_owned();
    let origin = pages(vec![
        ("/", "text/html", html),
        ("/own.js", "text/javascript", script),
        ("/ptth.js", "text/javascript", library),
    ]);
    let mut browser = Browser::start();
    let tab = browser.open(format!("{origin}/"));
    browser.until(&tab, "document.title !== ''");
    let url = browser.text(&tab, "document.title");
    assert_eq!(url, format!("http://tab.ptth.localhost:{}/", demo.relay.port));
    let bytes = demo.site.write("bytes", every_byte());
    let got = demo.site.curl(["--data-binary", &format!("@{}", bytes.display()), &url]);
    assert!(got.status == 200 && got.body == every_byte(), "{got:?}");
    browser.value(&tab, "agent.stop()");
    demo.relay.process.logs(" agent connection ended ");
}
