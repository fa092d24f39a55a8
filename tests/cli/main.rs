//! The program as a person or a script runs it: its output, its files and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

mod first_words;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program with nothing in its environment but a home, and `stdin`.
fn ptth_in(home: &Path, args: &[&str], env: &[(&str, &str)], stdin: &str) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ptth"))
        .args(args)
        .env_clear()
        .env("HOME", home)
        .envs(env.iter().copied())
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails before it reads stdin has closed the pipe already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn ptth(home: &Path, args: &[&str]) -> Outcome {
    ptth_in(home, args, &[], "")
}

/// A failure is one line on stderr and nothing on stdout.
#[track_caller]
fn fails(outcome: &Outcome, code: i32, what: &str) {
    let Outcome { err, out, .. } = outcome;
    assert_eq!(outcome.code, code, "{err}");
    assert!(out.is_empty(), "{out}");
    assert!(err.starts_with("ptth: ") && err.ends_with('\n') && err.lines().count() == 1, "{err:?}");
    assert!(err.contains(what), "{err}");
}

#[track_caller]
fn succeeds(outcome: Outcome) -> String {
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(outcome.err, "");
    outcome.out
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_token_is_issued_listed_and_revoked() {
    let home = home();
    let run = |args: &[&str]| ptth(home.path(), args);
    let new = |args: &[&str]| succeeds(run(&[&["token", "new", "--state", "s"], args].concat()));
    let shop = new(&["--name", "Shop", "--name", "shop2", "--host", "shop.example"]);
    let any = new(&["--answer-timeout-seconds", "300"]);
    let [shop, any] = [shop, any].map(|token| {
        assert_eq!(token.lines().count(), 1, "the token alone: {token:?}");
        let mut parts = token.trim_end().splitn(3, '_').map(str::to_owned);
        assert_eq!(parts.next().as_deref(), Some("ptth"));
        (parts.next().unwrap(), parts.next().unwrap())
    });
    let list = succeeds(run(&["token", "list", "--state", "s"]));
    let mut lines: Vec<_> = list.lines().collect();
    lines.sort_unstable_by_key(|line| !line.starts_with(&shop.0));
    assert_eq!(
        lines,
        [
            format!("{}  name shop, name shop2, host shop.example", shop.0),
            format!("{}  any name; answer timeout 300 s", any.0)
        ]
    );
    assert!(!list.contains(&shop.1) && !list.contains(&any.1), "the list shows no secret");

    assert_eq!(succeeds(run(&["token", "revoke", "--state", "s", &shop.0])), "");
    fails(&run(&["token", "revoke", "--state", "s", &shop.0]), 1, "ptth token list");
    assert_eq!(succeeds(run(&["token", "list", "--state", "s"])).lines().count(), 1);
    let mode = fs::metadata(home.path().join("s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_state_is_in_the_given_or_the_default_directory() {
    let home = home();
    let first = ptth(home.path(), &["token", "new"]);
    assert!(first.code == 0 && first.err.contains("a relay of another user"), "{}", first.err);
    succeeds(ptth(home.path(), &["token", "new"]));
    assert!(home.path().join(".local/state/ptth/ptth.db").exists());
    let elsewhere = home.path().join("elsewhere");
    let env = [("PTTH_STATE", elsewhere.to_str().unwrap())];
    succeeds(ptth_in(home.path(), &["token", "new"], &env, ""));
    assert!(elsewhere.join("ptth.db").exists());
    fails(&ptth(home.path(), &["token", "list", "--state", "mistyped"]), 1, "mistyped");
    assert!(!home.path().join("mistyped").exists(), "token list creates no directory");
}

/// The shell makes the file with its own mask.
#[test]
fn a_token_in_a_file_is_for_its_owner_alone() {
    let home = home();
    let line = format!("umask 022; {} token new --state s > shop.token", env!("CARGO_BIN_EXE_ptth"));
    let output = Command::new("sh").args(["-c", &line]).current_dir(home.path()).output().unwrap();
    let file = home.path().join("shop.token");
    assert!(fs::read_to_string(&file).unwrap().starts_with("ptth_"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(String::from_utf8_lossy(&output.stderr).contains("mode 600"), "{output:?}");
}

#[test]
fn bad_grants_are_wrong_usage() {
    let home = home();
    for (args, what) in
        [(["--name", "a.b"], "hyphens"), (["--host", "https://a"], "https://a"), (["--nmae", "a"], "--name")]
    {
        fails(&ptth(home.path(), &[&["token", "new", "--state", "s"], &args[..]].concat()), 2, what);
    }
    assert!(!home.path().join("s").exists());
}

#[test]
fn certificates_are_made_once() {
    let home = home();
    let make = ["certs", "new", "--out", "certs", "--host", "localhost", "--host", "*.ptth.localhost"];
    let out = succeeds(ptth(home.path(), &make));
    let names = ["ca.pem", "ca-key.pem", "relay.pem", "relay-key.pem", "agent.pem", "agent-key.pem"];
    assert_eq!(out.lines().collect::<Vec<_>>(), names.map(|name| format!("certs/{name}")));
    for line in out.lines() {
        let path = home.path().join(line);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077 == 0, line.ends_with("-key.pem"), "{line} {mode:o}");
    }
    let before = fs::read(home.path().join("certs/ca.pem")).unwrap();
    fails(&ptth(home.path(), &make), 1, "certs/ca.pem exists already");
    assert_eq!(fs::read(home.path().join("certs/ca.pem")).unwrap(), before);
    fails(
        &ptth(home.path(), &["certs", "new", "--out", "x", "--host", "*.localhost"]),
        2,
        "*.ptth.localhost",
    );
    fails(&ptth(home.path(), &["certs", "new"]), 2, "--out");
}

#[test]
fn a_configuration_check_makes_no_files() {
    let home = home();
    let check = |text: &str| {
        fs::write(home.path().join("relay.toml"), text).unwrap();
        ptth(home.path(), &["config", "check", "relay.toml"])
    };
    assert_eq!(succeeds(check("listen = [\"127.0.0.1:0\"]\nstate = \"s\"\n")), "relay.toml: ok\n");
    assert!(!home.path().join("s").exists());
    fails(&check("domain = \"a.test\"\nlissten = []\n"), 2, "relay.toml:2:1: unknown field `lissten`");
    fails(&check("cert = \"cert.pem\"\n"), 2, "--key");
    fails(&check("cert = \"cert.pem\"\nkey = \"key.pem\"\n"), 2, "cert.pem");
    succeeds(ptth(home.path(), &["certs", "new", "--out", "c"]));
    succeeds(check("cert = \"c/relay.pem\"\nkey = \"c/relay-key.pem\"\n"));
    fails(&check("cert = \"c/relay.pem\"\nkey = \"c/agent-key.pem\"\n"), 2, "c/relay.pem");
    fails(&ptth(home.path(), &["config", "check", "absent.toml"]), 2, "absent.toml");
    fails(&ptth(home.path(), &["relay", "--config", "absent.toml"]), 2, "absent.toml");
}

#[test]
fn a_relay_with_invalid_settings_does_not_start() {
    let home = home();
    for (args, what) in [
        (&["--cert", "a.pem"][..], "--key"),
        (&["--cert", "a.pem", "--key", "b.pem"], "a.pem"),
        (&["--listen", "8443"], "ADDR:PORT"),
        (&["--routing", "sideways"], "path"),
        (&["--domain", "localhost"], "*.ptth.localhost"),
        (&["--public-url", "https://a/b"], "without a path"),
        (&["--admin", "on"], "or off"),
    ] {
        fails(&ptth(home.path(), &[&["relay"], args].concat()), 2, what);
    }
    fails(&ptth_in(home.path(), &["relay"], &[("PTTH_LISTEN", "nowhere")], ""), 2, "nowhere");
}

#[test]
fn an_agent_reads_its_token_from_safe_sources_only() {
    let home = home();
    let token = home.path().join("token");
    fs::write(&token, "ptth_0123456789ab_hush\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o622)).unwrap();
    let agent = ["agent", "3000", "--relay", "http://localhost:1", "--token-file"];
    let run = |file: &str, stdin: &str| ptth_in(home.path(), &[&agent[..], &[file]].concat(), &[], stdin);
    fails(&run("token", ""), 2, "chmod go-w token");
    fails(&run("absent", ""), 2, "the token file of --token-file: cannot read absent");
    fails(&run("-", "\n"), 2, "stdin");
    fails(&run("-", "hush hush"), 2, "one word");
    assert!(!run("-", "hush hush").err.contains("hush"), "a possible secret is not repeated");
    fails(&ptth_in(home.path(), &agent[..4], &[("PTTH_TOKEN", "")], ""), 2, "PTTH_TOKEN");
    fails(&ptth(home.path(), &["agent", "3000", "--relay", "r.test", "--token", "x"]), 2, "--token-file");
}

#[test]
fn an_agent_with_invalid_flags_does_not_start() {
    let home = home();
    for (args, what) in [
        (&["agent", "3000"][..], "--relay"),
        (&["agent", "--relay", "https://r.test"], "TARGET"),
        (&["agent", "3000", "--relay", "http://r.test"], "https://"),
        (&["agent", "3000", "--relay", "https://t@r.test"], "PTTH_TOKEN"),
        (&["agent", "3000", "--relay", "https://r.test", "--ca", "absent.pem"], "absent.pem"),
        (&["agent", "3000", "--relay", "https://r.test", "--transport", "pigeon"], "ptth10"),
        (&["agent", "3000", "--relay", "https://r.test", "--name", "a.b"], "hyphens"),
    ] {
        fails(&ptth(home.path(), args), 2, what);
    }
}

/// A direct connection would go against the setting of the user.
#[test]
fn a_malformed_proxy_variable_is_an_error() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = home();
    for variable in ["HTTPS_PROXY", "PTTH_PROXY"] {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_ptth"));
        doctor.args(["doctor", "--relay", "https://relay.invalid"]).env_clear().current_dir(home.path());
        doctor.env(variable, std::ffi::OsStr::from_bytes(b"http://proxy\xff.test:3128"));
        let output = doctor.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(variable), "{err}");
    }
}

#[test]
fn help_goes_to_stdout_and_shows_no_environment_values() {
    let home = home();
    let env =
        [("PTTH_TOKEN", "hush"), ("PTTH_STATE", "hush"), ("PTTH_TOKEN_FILE", "hush"), ("PTTH_RELAY", "hush")];
    for args in [&["--help"][..], &["relay", "--help"], &["agent", "--help"], &["token", "new", "--help"]] {
        let help = succeeds(ptth_in(home.path(), args, &env, ""));
        assert!(help.contains("Usage: ptth") && !help.contains("hush"), "{help}");
    }
    // Each rung that a log line can name.
    for args in [&["agent", "--help"][..], &["completions", "bash"]] {
        let text = succeeds(ptth(home.path(), args));
        for name in ["auto", "ptth10", "ptth10-h1", "ptth", "reversehttp", "comet"] {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
            assert!(words.into_iter().any(|word| word == name), "{name} is missing: {text}");
        }
    }
    assert!(succeeds(ptth(home.path(), &["--version"])).starts_with("ptth "));
    assert!(succeeds(ptth(home.path(), &["completions", "bash"])).contains("_ptth"));
    fails(&ptth(home.path(), &["completions", "abacus"]), 2, "bash");
    fails(&ptth(home.path(), &["token", "list", "--log", "ptth=loud"]), 2, "--log");
}
