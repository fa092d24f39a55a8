//! `docs/conformance.md`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;

use crate::differences::{DIFFERENCES, RELAYS_ONLY, WRITTEN_WITH, is_as_written, version};
use crate::nginx::{PASS, PASS_CALLS, SERVER};
use crate::world::On;
use crate::{CASES, Case, EXCEPTIONS, Known, attempt};

const INTRODUCTION: &str = "# HTTP conformance

Every row is a case of `tests/semantics`: the test sends raw bytes through a relay and an agent, in both directions, and
compares the received bytes with the sent ones. The columns `h2`, `h1` and `envelope` are the carriers, which carry requests
from the relay to an agent. `comet` is the transport of that name; its envelopes are whole JSON messages. In the column
`[::1]`, the carrier is `h2`, and relay, origin and visitor have the IPv6 address `::1`; the long run tests the other
carriers there, too. In the column `nginx`, nginx stands between the same visitor and the same origin as a plain reverse proxy, [configured](#nginx) with care.
`–` marks a case that applies to a relay only. A separate test (`held`) keeps server-sent events and WebSockets open for four
hours, silent for most of that time. `tests/e2e` runs real clients and servers of gRPC and WebSockets.

`PTTH_DOCS=1 cargo test --test semantics document` writes this file from a run. Every other run of the tests checks that
the file lists exactly the existing cases, with their results.
";

fn render(passes: impl Fn(&'static Case, On) -> bool) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut group = "";
    for case in CASES {
        if case.group != group {
            group = case.group;
            let names = On::ALL.map(|on| on.to_string()).join(" | ");
            let _ = write!(text, "\n## {group}\n\n| case | source | {names} |\n");
            let _ = writeln!(text, "|---|---|{}", "---|".repeat(On::ALL.len()));
        }
        let marks = On::ALL.map(|on| match Known::of(case.name, on) {
            Known::Nothing => "–",
            _ if passes(case, on) => "yes",
            _ => "no",
        });
        let _ = writeln!(text, "| {} | {} | {} |", case.title, case.source, marks.join(" | "));
    }
    text.push_str("\n## Cases that do not pass, and why\n\n| case | where | why |\n|---|---|---|\n");
    for (name, on, why) in EXCEPTIONS {
        let _ = writeln!(text, "| {} | {on} | {why} |", title(name));
    }
    text.push_str(H2);
    text.push_str(&nginx());
    text
}

/// The limits of the h2 crate that no case can show on the wire.
const H2: &str = "
## What the h2 crate does not allow

- The end of a link that sends requests cannot send GOAWAY with a code: a far end that does not acknowledge smaller windows
  is cut without SETTINGS_TIMEOUT there. The end that answers requests sends the code.
- `:scheme` is not available for a request without `:authority`, so such a request is not compared with its connection.
- Of trailers beyond 128 KiB, the crate drops the fields that do not fit; the rest is compared with the limit for trailers.
";

fn title(name: &str) -> &'static str {
    CASES
        .iter()
        .find(|case| case.name == name)
        .map_or_else(|| panic!("there is no case {name}"), |case| case.title)
}

const NGINX: &str = "
## nginx

The version is VERSION, with the configuration below; HTTP/2 is used over TLS. Where a case trusts an address in front of
nginx, the configuration also has `set_real_ip_from` with that address, and either `real_ip_header X-Forwarded-For`, or
`real_ip_header proxy_protocol` with `proxy_protocol` behind `listen`. gRPC calls are forwarded with `CALLS`. With another
version, the cases in which nginx differs run only with `PTTH_LONG=1`, and some of them may pass.

```nginx
SERVER
```
";

fn nginx() -> String {
    let server: Vec<_> = SERVER.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let server = server.join("\n").replace("PASS", &PASS.replace("\n    ", "\n"));
    let mut text =
        NGINX.replace("VERSION", WRITTEN_WITH).replace("CALLS", PASS_CALLS).replace("SERVER", &server);
    text.push_str("\n## Where nginx differs, and why\n\n| case | why |\n|---|---|\n");
    for difference in DIFFERENCES {
        let _ = writeln!(text, "| {} | {} |", title(difference.case), difference.why);
    }
    for (name, why) in RELAYS_ONLY {
        let _ = writeln!(text, "| {} | not tested: {why} |", title(name));
    }
    text
}

/// Cases that run at once: most of them wait.
const AT_ONCE: usize = 16;

/// The results of a run, every case on every column.
fn run_all() -> String {
    assert!(is_as_written(), "nginx {} is installed, but the document describes {WRITTEN_WITH}", version());
    let mut passed = HashSet::new();
    for cases in CASES.chunks(AT_ONCE) {
        let ran = thread::scope(|scope| {
            let threads: Vec<_> = cases.iter().map(|case| scope.spawn(|| attempt(case, &On::ALL))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (case, ran) in cases.iter().zip(ran) {
            let passes = On::ALL.into_iter().zip(ran).filter(|(_, ran)| ran.is_ok());
            passed.extend(passes.map(|(on, _)| (case.name, on)));
        }
    }
    render(|case, on| passed.contains(&(case.name, on)))
}

#[test]
fn the_document_lists_every_case() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    if std::env::var_os("PTTH_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, run_all()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let known = render(|case, on| matches!(Known::of(case.name, on), Known::Passes));
    let differing = written.lines().zip(known.lines()).find(|(written, known)| written != known);
    assert!(
        written == known,
        "docs/conformance.md does not match the cases; \
         PTTH_DOCS=1 cargo test --test semantics document writes it. First difference: {differing:?}"
    );
}

#[test]
fn each_known_failure_is_listed_once() {
    let named = EXCEPTIONS.iter().map(|(name, on, _)| (*name, *on));
    let on_nginx =
        DIFFERENCES.iter().map(|differs| differs.case).chain(RELAYS_ONLY.iter().map(|(name, _)| *name));
    let mut all: Vec<_> = named.chain(on_nginx.map(|name| (name, On::Nginx))).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "a case is listed twice for one column");
}
