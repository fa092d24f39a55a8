//! Every page that relay and agent make, in a real browser: narrow and wide, light and dark, and without a violation
//! that axe-core finds.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::client::installed;
use crate::devtools::{Browser, Tab};
use crate::site::{Agent, Relay, Site, free_port};

/// Names of rules and of elements that violate them.
const VIOLATIONS: &str = "axe.run(document).then((result) =>
    result.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`).join('\\n'))";

/// The background as the person sees it: that of the page, not that of the browser.
const COLOURS: &str = "(() => {
    const style = getComputedStyle(document.body);
    return `${style.color} ${getComputedStyle(document.documentElement).colorScheme}`;
})()";

#[test]
fn pages_are_readable_at_every_width_and_in_both_colour_schemes() {
    let site = Site::new();
    let mut command = site.relay_command("http://127.0.0.1:0");
    let relay = Relay::start(command.args(["--demo", "--lease-seconds", "0"]));
    let own = format!("http://ptth.localhost:{}", relay.port);
    let name = format!("http://shop.ptth.localhost:{}/", relay.port);
    let axe = axe();
    let mut browser = Browser::start();
    let pages = [
        ("front", format!("{own}/"), "ptth relay"),
        ("demo", format!("{own}/demo"), "ptth demo"),
        ("errors", format!("{own}/_ptth/errors/"), "Errors of ptth"),
        ("error", format!("{own}/_ptth/errors/no-agent"), "no-agent"),
        ("no-page", format!("{own}/nothing"), "404 Not Found"),
        ("no-route", format!("http://nobody.ptth.localhost:{}/", relay.port), "404 Not Found"),
        ("no-agent", name.clone(), "503 Service Unavailable"),
    ];
    for (file, url, title) in &pages {
        check(&mut browser, &axe, file, url, title);
    }
    let target = format!("127.0.0.1:{}", free_port());
    let _agent = Agent::start(&mut site.agent_command(&own, &target));
    check(&mut browser, &axe, "origin-refused", &name, "502 Bad Gateway");
}

#[test]
fn the_demo_page_shows_its_url_its_visits_and_the_loss_of_the_relay() {
    let site = Site::new();
    let start = |port: u16| {
        let mut command = site.relay_command(&format!("http://127.0.0.1:{port}"));
        Relay::start(command.args(["--demo", "--open-registration", "--lease-seconds", "0"]))
    };
    let mut relay = start(0);
    let mut browser = Browser::start();
    let tab = browser.open(format!("http://ptth.localhost:{}/demo", relay.port));
    browser.until(&tab, "document.getElementById('name').value.startsWith('tab-')");
    browser.value(&tab, "document.getElementById('button').click()");
    browser.until(
        &tab,
        "!document.getElementById('serving').hidden && document.getElementById('code').naturalWidth > 0",
    );
    browser.value(&tab, "document.getElementById('copy').click()");
    browser.until(&tab, "['Copied', 'Selected'].includes(document.getElementById('copy').textContent)");
    let url = browser.text(&tab, "document.getElementById('url').href");
    assert_eq!(site.curl([&url]).status, 200);
    browser.until(
        &tab,
        "document.querySelectorAll('#visits li').length === 1 && document.getElementById('none').hidden",
    );
    let axe = axe();
    check_tab(&mut browser, &axe, "demo-serving", &tab);

    relay.process.kill();
    browser.until(&tab, "document.getElementById('state').className === 'problem'");
    assert!(
        browser
            .text(&tab, "document.getElementById('state').textContent")
            .starts_with("The relay cannot be reached")
    );
    check_tab(&mut browser, &axe, "demo-lost", &tab);
    let _relay = start(relay.port);
    browser.until(&tab, "document.getElementById('state').className === ''");
    assert_eq!(site.curl([&url]).status, 200);
}

fn axe() -> String {
    std::fs::read_to_string(installed("npm/node_modules/axe-core/axe.min.js")).unwrap()
}

fn check(browser: &mut Browser, axe: &str, file: &str, url: &str, title: &str) {
    let tab = browser.open(url);
    assert_eq!(browser.text(&tab, "document.title"), title, "{url}");
    check_tab(browser, axe, file, &tab);
    browser.close(&tab);
}

fn check_tab(browser: &mut Browser, axe: &str, file: &str, tab: &Tab) {
    browser.value(tab, &format!("{axe};0"));
    let mut colours = Vec::new();
    for width in [380, 1_400] {
        for dark in [false, true] {
            emulate(browser, tab, width, dark);
            let shown = format!("{file}, {width} px, dark: {dark}");
            let overflow = browser.value(tab, "document.documentElement.scrollWidth - innerWidth");
            assert!(overflow.as_i64().is_some_and(|pixels| pixels <= 0), "{shown}: {overflow} px too wide");
            let violations = browser.text(tab, VIOLATIONS);
            assert_eq!(violations, "", "{shown}");
            colours.push(browser.text(tab, COLOURS));
            if let Some(folder) = std::env::var_os("PTTH_SCREENSHOTS") {
                let name = format!("{file}-{width}-{}.png", if dark { "dark" } else { "light" });
                std::fs::write(std::path::Path::new(&folder).join(name), screenshot(browser, tab)).unwrap();
            }
        }
    }
    assert!(colours[0] != colours[1] && colours[0].ends_with("light dark"), "{file}: {colours:?}");
    let failed = browser.value(
        tab,
        "performance.getEntriesByType('resource').filter((one) => one.responseStatus > 399 && !one.name.endsWith('/favicon.ico')).length",
    );
    assert_eq!(failed, Value::from(0), "{file}");
}

/// Gives a tab a width in pixels, and its person a preference for a colour scheme.
fn emulate(browser: &mut Browser, tab: &Tab, width: u32, dark: bool) {
    let metrics = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    browser.call(Some(&tab.session), "Emulation.setDeviceMetricsOverride", &metrics);
    let scheme = if dark { "dark" } else { "light" };
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.call(Some(&tab.session), "Emulation.setEmulatedMedia", &features);
}

/// A PNG of a tab.
fn screenshot(browser: &mut Browser, tab: &Tab) -> Vec<u8> {
    let shot = browser.call(Some(&tab.session), "Page.captureScreenshot", &json!({ "format": "png" }));
    BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
}
