//! The rules of the repository that no compiler knows: who may import whom, and what may stand where.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ptth::internals::domain::ErrorCode;

/// Which top modules each top module may name, beside itself and [`EVERYBODYS`].
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("fuzzing", &["http1", "message", "session", "transport"]),
    (
        "cli",
        &["agent", "message", "net", "observe", "policy", "registry", "relay", "session", "tls", "transport"],
    ),
    ("relay", &["http1", "message", "net", "observe", "policy", "registry", "session", "tls", "transport"]),
    ("agent", &["http1", "message", "net", "observe", "session", "tls", "transport"]),
    ("transport", &["http1", "message", "net", "observe", "session", "tls"]),
    ("registry", &["message", "observe", "policy", "session"]),
    ("session", &["http1", "message", "net", "observe"]),
    ("http1", &["message", "net"]),
    ("policy", &["observe"]),
    ("net", &["observe", "tls"]),
    ("tls", &["observe"]),
    ("observe", &["message"]),
    ("message", &[]),
];
/// These import nothing of ours, and everyone may import them.
const EVERYBODYS: [&str; 2] = ["domain", "defaults"];

const MOST_LINES: usize = 500;

/// A word that is forbidden, where it is allowed all the same, and what to do instead.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("tokio::spawn(", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("task::spawn(", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("spawn_local(", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("runtime.spawn(", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("handle.spawn(", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("current().spawn(", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("JoinSet", &["net/scope.rs"], "a task has an owner: net::Scope spawns"),
    ("std::time::Instant", &[], "use tokio::time::Instant: one clock, which tests can pause"),
    ("std::time::{Duration, Instant", &[], "use tokio::time::Instant: one clock, which tests can pause"),
    ("process::exit", &["main.rs"], "only main.rs ends the process"),
    ("process::abort", &["main.rs"], "only main.rs ends the process"),
    (".unwrap()", &[], "handle the missing value"),
    (".expect(", &[], "handle the missing value"),
    ("[allow(", &[], "use #[expect(…, reason = \"…\")]"),
];

/// Here cfg(feature) may stand on a variant: only the program serves a directory.
const OPTIONAL_VARIANTS: [&str; 3] =
    ["agent/origin/connect.rs", "agent/origin/mod.rs", "agent/origin/target.rs"];

/// Types of one name in several modules, and why.
const NAMED_ALIKE: [(&str, &str); 3] = [
    ("Agent", "each transport has an agent's half, beside the agent that programs start"),
    ("Relay", "each transport has a relay's half, beside the relay that programs start"),
    ("Args", "each command has flags"),
];

/// Verbs of speech and other riddles: no function or type is one of them, or begins with one.
const RIDDLES: [&str; 10] = ["say", "said", "tell", "told", "hear", "heard", "ask", "asked", "way", "glance"];

/// The keyword and the name of what a line of code defines: a function or a type. Associated types are not counted.
fn definition(line: &str) -> Option<(&str, &str)> {
    let line_start = line.trim_start();
    let public = line_start.strip_prefix("pub").map_or(line_start, |rest| match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
        None => rest,
    });
    let mut words = public.split_whitespace().skip_while(|word| ["async", "const"].contains(word));
    let keyword = words.next()?;
    let types = ["struct", "enum", "union", "trait"].contains(&keyword)
        || keyword == "type" && !line.starts_with(' ');
    let name = words.next().filter(|_| types || keyword == "fn")?;
    Some((keyword, &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())]))
}

/// The first word of a name in either case.
fn first_word(name: &str) -> String {
    let start = name.chars().next().map(|c| c.to_ascii_lowercase());
    let rest = name.chars().skip(1).take_while(|c| c.is_ascii_lowercase());
    start.into_iter().chain(rest).collect()
}

/// A file under `src/`, named from there.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The top module that it belongs to.
    fn top(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// How many modules it is below the root of the crate.
    fn depth(&self) -> usize {
        let named = !self.path.ends_with("/mod.rs");
        self.path.matches('/').count() + usize::from(named)
    }

    /// The lines that are neither test, comment nor text, numbered from 1.
    fn code(&self) -> Vec<(usize, String)> {
        if self.path.ends_with("tests.rs") || self.path.contains("/tests/") {
            return Vec::new();
        }
        // Tests are the last thing in a file.
        let lines = without_comments_and_strings(&self.text);
        let code = lines.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]"));
        code.map(str::to_owned).enumerate().map(|(index, line)| (index + 1, line)).collect()
    }

    /// Everything that is wrong with it, each with its line.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let code = self.code();
        for (number, line) in &code {
            let mut fault = |what: String| faults.push(format!("src/{}:{number}: {what}", self.path));
            // A group in braces may go on over the next lines.
            let more = if line.contains("::{") { code.len() } else { *number };
            let on: Vec<&str> = code[number - 1..more].iter().map(|(_, line)| line.as_str()).collect();
            self.imports(line, &on.join("\n"), &mut fault);
            for (word, allowed, instead) in FORBIDDEN {
                if line.contains(word) && !allowed.contains(&self.path.as_str()) {
                    fault(format!("{word}: {instead}"));
                }
            }
            let riddle = definition(line).filter(|(_, name)| RIDDLES.contains(&first_word(name).as_str()));
            if let Some((keyword, name)) = riddle {
                fault(format!("{keyword} {name}: use a term of the field for the thing or its action"));
            }
            if line.contains("cfg(feature") {
                let next =
                    code.iter().skip(*number).map(|(_, line)| line.trim()).find(|line| !line.is_empty());
                let is_mod = |next: &str| next.starts_with("mod ") || next.contains(" mod ");
                let on_mod = next.is_some_and(|next| {
                    is_mod(next) || next.starts_with("use ") || next.starts_with("pub use ")
                });
                let on_row =
                    self.path == "transport/mod.rs" && next.is_some_and(|next| next.starts_with('&'));
                if !on_mod && !on_row && !OPTIONAL_VARIANTS.contains(&self.path.as_str()) {
                    fault(
                        "cfg(feature) stands on a mod line, on a use, or on a row of transport::ALL".into(),
                    );
                }
            }
        }
        let lines = self.text.lines().count();
        if lines > MOST_LINES {
            faults.push(format!("src/{}: {lines} lines, {MOST_LINES} at most", self.path));
        }
        faults
    }

    /// What a line names of other modules; `on` is the line and those behind it.
    fn imports(&self, line: &str, on: &str, fault: &mut impl FnMut(String)) {
        let top = self.top();
        if top == "lib" {
            return;
        }
        let allowed = MAY_IMPORT.iter().find(|(module, _)| *module == top).map_or(&[][..], |row| row.1);
        let root = if top == "main" { "ptth::internals::" } else { "crate::" };
        for (at, _) in line.match_indices(root) {
            for named in first_segments(&on[at + root.len()..]) {
                let free = EVERYBODYS.contains(&named) && !EVERYBODYS.contains(&top);
                if named != top && !free && !allowed.contains(&named) {
                    fault(format!("{top} may not import {named}"));
                }
            }
        }
        for (at, _) in line.match_indices("super::") {
            let rest = &line[at..];
            let steps = rest.split("::").take_while(|part| *part == "super").count();
            if !line[..at].ends_with("super::") && steps >= self.depth() {
                fault("super:: leads out of the top module: write crate::".into());
            }
        }
        let mut folders = self.path.split('/').skip(1);
        let own = match (top, folders.next(), folders.next()) {
            ("transport", Some(own), Some(_)) => Some(own),
            // Whoever serves transports takes those of the table and of its configuration, and knows none.
            ("relay" | "agent" | "cli", ..) => None,
            _ => return,
        };
        for (at, _) in line.match_indices("crate::transport::") {
            for other in first_segments(&on[at + "crate::transport::".len()..]) {
                if Some(other) != own && TRANSPORTS.contains(&other) {
                    let importer = own.map_or(top.to_owned(), |own| format!("the transport {own}"));
                    fault(format!("{importer} may not import the transport {other}"));
                }
            }
        }
    }
}

/// The folders below `transport/`, also those to come.
const TRANSPORTS: [&str; 8] = ["ptth10", "ptth", "reverse", "rh1", "rh2", "rh3", "reversehttp", "comet"];

/// The first names of a path, or of a group of paths in braces: of `{a::b, c}` these are `a` and `c`.
fn first_segments(path: &str) -> Vec<&str> {
    let name = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..name(path)]] };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let part = group[start..at].trim();
                found.push(&part[..name(part)]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Rust without its comments and without what is in its quotes; the lines stay where they are.
fn without_comments_and_strings(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let quoted =
            rest.strip_prefix('r').map(|raw| raw.trim_start_matches('#')).filter(|raw| raw.starts_with('"'));
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(raw) = quoted.filter(|_| !out.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            let hashes = rest.len() - raw.len() - 1;
            let end = format!("\"{}", "#".repeat(hashes));
            raw[1..].find(&end).map_or(rest.len(), |at| 2 + hashes + at + end.len())
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") {
            rest[2..].find('\'').map_or(rest.len(), |at| at + 3)
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().filter(|c| *c == '\n'));
        rest = &rest[length..];
    }
    out
}

fn sources(dir: &Path, below: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), &format!("{path}/"), found);
        } else if path.ends_with(".rs") {
            found.push(Source { text: fs::read_to_string(entry.path()).unwrap(), path });
        }
    }
}

fn all_sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut found);
    assert!(!found.is_empty(), "no source file in {folder}");
    found
}

#[test]
fn every_source_file_follows_the_rules() {
    let faults: Vec<String> = all_sources("src").iter().flat_map(Source::faults).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_type_has_a_unique_name() {
    let mut types: HashMap<String, Vec<String>> = HashMap::new();
    for source in all_sources("src") {
        for (_, line) in source.code() {
            if let Some((keyword, name)) = definition(&line)
                && keyword != "fn"
            {
                types.entry(name.to_owned()).or_default().push(source.path.clone());
            }
        }
    }
    let twice = types
        .iter()
        .filter(|(name, paths)| paths.len() > 1 && !NAMED_ALIKE.iter().any(|(allowed, _)| allowed == name));
    let twice: Vec<_> = twice.collect();
    assert!(types.len() > 300, "only {} types were found in src", types.len());
    assert!(twice.is_empty(), "several types share a name: {twice:?}");
}

/// docs/errors.md has an entry for each code, and each code has a place where it arises.
#[test]
fn every_error_code_is_used() {
    let sources = all_sources("src");
    let uses = |name: &str| {
        let path = format!("ErrorCode::{name}");
        let whole = |text: &str| {
            let mut after = text.match_indices(&path).map(|(at, _)| text[at + path.len()..].chars().next());
            after.any(|next| next.is_none_or(|next| !next.is_alphanumeric()))
        };
        sources.iter().any(|source| source.code().iter().any(|(_, line)| whole(line)))
    };
    let unused: Vec<_> =
        ErrorCode::ALL.iter().map(|code| format!("{code:?}")).filter(|name| !uses(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    assert!(!uses("Nothing"));
}

#[test]
fn test_files_obey_the_line_limit() {
    for source in all_sources("tests") {
        let lines = source.text.lines().count();
        assert!(lines <= MOST_LINES, "tests/{}: {lines} lines, {MOST_LINES} at most", source.path);
    }
}

#[test]
fn every_top_module_has_a_row_in_may_import() {
    for source in all_sources("src") {
        let top = source.top();
        let known = MAY_IMPORT.iter().any(|(module, _)| *module == top);
        assert!(
            known || top == "lib" || EVERYBODYS.contains(&top),
            "{} has no row in MAY_IMPORT",
            source.path
        );
    }
}

#[test]
fn the_import_table_has_no_cycle() {
    // Rows only name what stands below them, so there is no way back up.
    for (row, (module, imports)) in MAY_IMPORT.iter().enumerate() {
        for import in *imports {
            let place = MAY_IMPORT.iter().position(|(other, _)| other == import);
            assert!(place.is_some_and(|place| place > row), "{module} → {import} may form a cycle");
        }
    }
}

/// Versions below these have weaknesses that anybody can use before being let in.
const FLOORS: &[(&str, [u64; 3], &str)] = &[
    ("h2", [0, 4, 16], "RUSTSEC-2026-0258: empty DATA frames without limit"),
    ("hyper", [1, 5, 1], "the limit on resets was not enforced"),
    ("rustls", [0, 23, 45], "RUSTSEC-2026-0285"),
    ("rustls-webpki", [0, 103, 12], "RUSTSEC-2026-0098"),
    ("tokio-rustls", [0, 26, 0], "RUSTSEC-2020-0019 and all later advisories"),
    ("tungstenite", [0, 20, 1], "RUSTSEC-2023-0065: headers of unlimited size are read"),
];

/// What is wrong with the versions of a lock file.
fn below_floor(lock: &str) -> Vec<String> {
    let field = |package: &str, key: &str| -> Option<String> {
        let line = package.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches([' ', '=', '"']).to_owned())
    };
    let packages: Vec<_> = lock
        .split("[[package]]")
        .filter_map(|package| Some((field(package, "name")?, field(package, "version")?)))
        .collect();
    let mut faults = Vec::new();
    for (name, floor, why) in FLOORS {
        let versions: Vec<_> = packages.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
        if versions.is_empty() {
            faults.push(format!("{name} is no longer a dependency: remove it from FLOORS"));
        }
        for version in versions {
            let numbers: Vec<u64> = version.split(['.', '-', '+']).filter_map(|n| n.parse().ok()).collect();
            if numbers[..] < floor[..] {
                faults.push(format!("{name} {version}: {why}"));
            }
        }
    }
    faults
}

#[test]
fn no_dependency_is_older_than_its_last_security_fix() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = below_floor(&fs::read_to_string(root.join("Cargo.lock")).unwrap());
    assert!(faults.is_empty(), "{faults:?}");
    let old = "[[package]]\nname = \"h2\"\nversion = \"0.4.15\"\n\n[[package]]\nname = \"hyper\"\nversion = \"1.12.0\"";
    let faults = below_floor(old);
    assert!(faults.iter().any(|fault| fault.starts_with("h2 0.4.15: ")), "{faults:?}");
    assert!(!faults.iter().any(|fault| fault.starts_with("hyper ")), "{faults:?}");
}

#[test]
fn violations_are_reported() {
    let faults = |path: &str, text: &str| Source { path: path.into(), text: text.into() }.faults();
    let long = "\n".repeat(MOST_LINES + 1);
    for (path, text, words) in [
        ("relay/mod.rs", "use crate::agent::Config;", "relay may not import agent"),
        ("agent/a/b.rs", "fn f() { crate::relay::start() }", "agent may not import relay"),
        (
            "session/mod.rs",
            "use crate::{domain::Name, transport::{self, Admissions}};",
            "may not import transport",
        ),
        (
            "policy/mod.rs",
            "\nuse crate::{\n    domain::Name,\n    net::Io,\n};",
            "policy/mod.rs:2: policy may not import net",
        ),
        ("domain.rs", "use crate::defaults;", "domain may not import defaults"),
        ("main.rs", "use ptth::internals::relay;", "main may not import relay"),
        ("relay/mod.rs", "use super::agent;", "super::"),
        ("relay/a.rs", "use super::super::agent;", "super::"),
        ("transport/ptth/mod.rs", "use crate::transport::ptth10::X;", "may not import the transport ptth10"),
        (
            "relay/entry.rs",
            "use crate::transport::{self, ptth10::Ptth10};",
            "relay may not import the transport ptth10",
        ),
        ("net/mod.rs", "\ntokio::spawn(f)", "net/mod.rs:2"),
        ("relay/mod.rs", "runtime.spawn(f)", "Scope spawns"),
        ("cli/mod.rs", "std::process::exit(1)", "only main.rs"),
        ("net/mod.rs", "a.unwrap();", "handle the missing value"),
        ("net/mod.rs", "a.expect(\"\");", "handle the missing value"),
        ("net/mod.rs", "let a = '\"'; b.unwrap(); // \"", "handle the missing value"),
        ("net/mod.rs", "let a = r#\"\"\"#; b.unwrap();", "handle the missing value"),
        ("net/mod.rs", "#[allow(dead_code)]", "#[expect("),
        ("net/mod.rs", "#[cfg(feature = \"a\")]\nfn f() {}", "mod line"),
        ("net/mod.rs", "    pub(super) async fn ask_relay(a: u8) {", "fn ask_relay"),
        ("net/mod.rs", "pub struct Told<T> {", "struct Told"),
        ("net/mod.rs", &long, "501 lines"),
    ] {
        let found = faults(path, text);
        assert!(found.len() == 1 && found[0].contains(words), "{path}: {text}: {found:?}");
    }
}

#[test]
fn valid_code_is_accepted() {
    for (path, text) in [
        ("relay/mod.rs", "use crate::transport::{Admissions, agent};\nuse self::agent;"),
        ("relay/a/b.rs", "use super::super::c;"),
        ("transport/ptth/relay.rs", "use crate::transport::{Call, flip};\nuse super::wire;"),
        ("transport/mod.rs", "pub mod ptth;\npub const ALL: [X; 1] = [\n#[cfg(feature = \"a\")]\n&ptth::X];"),
        ("net/scope.rs", "tokio::spawn(f)"),
        ("net/mod.rs", "#[cfg(feature = \"a\")]\n\npub mod quic;"),
        ("net/mod.rs", "// a.unwrap()\n/* a.unwrap()\n */ let a = \"b.unwrap() \\\" crate::relay\";"),
        ("net/mod.rs", "fn f<'a>(a: &'a str) {}\n#[cfg(test)]\nmod tests { a.unwrap(); }"),
        ("policy/tests.rs", "use crate::relay; a.unwrap();"),
        ("net/mod.rs", "#[expect(dead_code, reason = \"\")]"),
        ("net/mod.rs", "fn asker() {}\nfn sayings() {}\nlet told = ways;\n    type Told = u8;"),
    ] {
        let found = Source { path: path.into(), text: text.into() }.faults();
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}
