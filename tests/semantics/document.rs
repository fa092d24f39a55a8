//! `docs/conformance.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::{CASES, Case, EXCEPTIONS, attempt, carriers, exception};

const INTRODUCTION: &str = "# What of HTTP passes

Every row is a case of `tests/semantics`: raw bytes go through a relay and an agent, and what arrives is compared with what
was sent, both ways. The columns are the carriers, the ways in which a request crosses from the relay to an agent.
`PTTH_DOCS=1 cargo test --test semantics document` writes this file from a run; every other run of the tests checks that
it lists exactly the cases that there are, with their results.
";

fn render(passes: impl Fn(&'static Case) -> Vec<bool>) -> String {
    let on = carriers();
    let mut text = INTRODUCTION.to_owned();
    let mut group = "";
    for case in CASES {
        if case.group != group {
            group = case.group;
            let names: Vec<_> = on.iter().map(|on| on.carrier.label()).collect();
            let _ = write!(text, "\n## {group}\n\n| case | source | {} |\n", names.join(" | "));
            let _ = writeln!(text, "|---|---|{}", "---|".repeat(on.len()));
        }
        let marks: Vec<_> = passes(case).iter().map(|passed| if *passed { "yes" } else { "no" }).collect();
        let _ = writeln!(text, "| {} | {} | {} |", case.what, case.source, marks.join(" | "));
    }
    if !EXCEPTIONS.is_empty() {
        text.push_str("\n## What does not pass, and why\n\n| case | carrier | why |\n|---|---|---|\n");
    }
    for (name, carrier, why) in EXCEPTIONS {
        let case = CASES.iter().find(|case| case.name == *name).expect("an exception of no case");
        let _ = writeln!(text, "| {} | {carrier} | {why} |", case.what);
    }
    text
}

#[test]
fn the_document_lists_every_case() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    if std::env::var_os("PTTH_DOCS").is_some() {
        let on = carriers();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, render(|case| attempt(case, &on))).unwrap();
    }
    let known = |case: &'static Case| {
        carriers().iter().map(|on| exception(case.name, on.carrier).is_none()).collect()
    };
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == render(known),
        "docs/conformance.md is not what the cases are; PTTH_DOCS=1 cargo test --test semantics document writes it"
    );
}
