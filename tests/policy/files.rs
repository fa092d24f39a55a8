//! The program itself: every documented way to say a secret or a rule is in force, or the program does not start.

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// Longer than any of these programs takes to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    dir: TempDir,
}

/// Killed when the test is done with it.
struct Running(Child, String);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ptth() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptth"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// Starts a program and waits for its first line.
fn start(command: &mut Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (told, line) = mpsc::channel();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.read_line(&mut text);
        let _ = told.send(text);
        let _ = std::io::copy(&mut out, &mut std::io::sink());
    });
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let line = line.recv_timeout(PATIENCE).expect("a first line in time");
    Running(child, line.trim().to_owned())
}

/// Runs a program that must end by itself: its exit code and its standard error. A program that hangs is stopped.
fn outcome(command: &mut Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let (told, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        let _ = told.send(text);
    });
    let Ok(said) = ended.recv_timeout(PATIENCE) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return (-1, "the program did not end".into());
    };
    (child.wait().unwrap().code().unwrap_or(-1), said)
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        let hosts = ["--host", "localhost", "--host", "ptth.localhost", "--host", "*.ptth.localhost"];
        assert!(
            ptth()
                .args(["certs", "new", "--out"])
                .arg(site.at("certs"))
                .args(hosts)
                .output()
                .unwrap()
                .status
                .success()
        );
        let token = ptth()
            .args(["token", "new", "--name", "shop", "--state"])
            .arg(site.at("state"))
            .output()
            .unwrap();
        site.secret("token", &String::from_utf8(token.stdout).unwrap());
        site.secret("index.html", "served");
        site
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o600)).unwrap();
        self.at(name)
    }

    fn relay_command(&self) -> Command {
        let mut command = ptth();
        command.args(["relay", "--listen", "127.0.0.1:0", "--admin", "off", "--state"]).arg(self.at("state"));
        command
            .arg("--cert")
            .arg(self.at("certs/relay.pem"))
            .arg("--key")
            .arg(self.at("certs/relay-key.pem"));
        command
    }

    fn agent_command(&self, relay: &Running) -> Command {
        let port = relay.1.rsplit(':').next().unwrap();
        let mut command = ptth();
        command.arg("agent").arg(self.dir.path()).arg("--relay").arg(format!("https://localhost:{port}"));
        command.args(["--name", "shop", "--ca"]).arg(self.at("certs/ca.pem"));
        command
    }

    /// What curl gets, as a status.
    fn curl(&self, url: &str, rest: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--noproxy",
            "*",
            "--max-time",
            "30",
            "--cacert",
        ]);
        let done = curl.arg(self.at("certs/ca.pem")).args(rest).arg(url).output();
        let done =
            done.unwrap_or_else(|error| panic!("cannot start curl: {error}; scripts/test installs it"));
        String::from_utf8(done.stdout).unwrap()
    }
}

#[test]
fn every_token_source_is_enforced() {
    let site = Site::new();
    let relay = start(&mut site.relay_command());
    let wrong = site.secret("wrong", "ptth_0123456789ab_wrong\n");
    type Give<'a> = &'a dyn Fn(&mut Command, &Path);
    let ways: [(&str, Give<'_>); 3] = [
        ("--token-file", &|command, file| {
            command.arg("--token-file").arg(file);
        }),
        ("PTTH_TOKEN_FILE", &|command, file| {
            command.env("PTTH_TOKEN_FILE", file);
        }),
        ("PTTH_TOKEN", &|command, file| {
            command.env("PTTH_TOKEN", fs::read_to_string(file).unwrap().trim());
        }),
    ];
    let (code, said) = outcome(&mut site.agent_command(&relay));
    assert!(code == 3 && said.contains("401"), "without a token: {code} {said}");
    for (way, give) in ways {
        let mut command = site.agent_command(&relay);
        give(&mut command, &wrong);
        let (code, said) = outcome(&mut command);
        assert!(code == 3 && said.contains("401"), "{way}: {code} {said}");
        assert!(!said.contains("_wrong"), "{way}: the secret was printed: {said}");
        let empty = site.secret("empty", "");
        let mut command = site.agent_command(&relay);
        give(&mut command, &empty);
        let (code, said) = outcome(&mut command);
        assert_eq!(code, 2, "{way}, empty: {said}");
        let mut command = site.agent_command(&relay);
        give(&mut command, &site.at("token"));
        let agent = start(&mut command);
        assert!(agent.1.starts_with("https://shop."), "{way}: {}", agent.1);
        assert_eq!(site.curl(&agent.1, &[]), "200");
    }
}

#[test]
fn every_client_ca_source_is_enforced() {
    let site = Site::new();
    let empty = site.secret("empty.pem", "");
    let ca = site.at("certs/ca.pem");
    type Give<'a> = &'a dyn Fn(&mut Command, &Path);
    let ways: [(&str, Give<'_>); 3] = [
        ("--client-ca", &|command, file| {
            command.arg("--client-ca").arg(file);
        }),
        ("PTTH_CLIENT_CA", &|command, file| {
            command.env("PTTH_CLIENT_CA", file);
        }),
        ("the file", &|command, file| {
            let text = format!("client-ca = {:?}\nrequire-client-cert = true\n", file.display().to_string());
            command.arg("--config").arg(site.secret("relay.toml", &text));
        }),
    ];
    for (way, give) in ways {
        for bad in [empty.clone(), site.at("missing.pem")] {
            let mut command = site.relay_command();
            command.arg("--require-client-cert");
            give(&mut command, &bad);
            let (code, said) = outcome(&mut command);
            assert!(code == 2 && said.contains(".pem"), "{way}: {code} {said}");
        }
        let mut command = site.relay_command();
        if way != "the file" {
            command.arg("--require-client-cert");
        }
        give(&mut command, &ca);
        let relay = start(&mut command);
        let mut agent = site.agent_command(&relay);
        let (code, said) = outcome(agent.arg("--token-file").arg(site.at("token")));
        assert!(code == 3 && said.contains("--cert"), "{way}: {code} {said}");
        let mut agent = site.agent_command(&relay);
        agent.arg("--token-file").arg(site.at("token"));
        agent.arg("--cert").arg(site.at("certs/agent.pem")).arg("--key").arg(site.at("certs/agent-key.pem"));
        let agent = start(&mut agent);
        assert_eq!(site.curl(&agent.1, &[]), "200", "{way}");
    }
    let file = site.secret("check.toml", "state = \"state\"\nclient-ca = \"empty.pem\"\n");
    let (code, said) = outcome(ptth().args(["config", "check"]).arg(file));
    assert!(code == 2 && said.contains("empty.pem"), "{said}");
    let (code, said) = outcome(site.relay_command().arg("--require-client-cert"));
    assert!(code == 2 && said.contains("--client-ca"), "{said}");
}

#[test]
fn every_visitor_rule_is_enforced() {
    let site = Site::new();
    let relay = start(&mut site.relay_command());
    site.secret("users", "ann:hush\n");
    site.secret("edge", "X-Edge-Key: whisper\n");
    let user = ["--user", "ann:hush"];
    let edge = ["-H", "X-Edge-Key: whisper"];
    let users = site.at("users").display().to_string();
    let edges = site.at("edge").display().to_string();
    for (rule, without, with) in [
        (["--visitor-basic", &users], ("401", &[][..]), ("200", &user[..])),
        (["--visitor-secret-file", &edges], ("403", &[][..]), ("200", &edge[..])),
        (["--visitor-net", "192.0.2.0/24"], ("403", &[][..]), ("403", &user[..])),
        (["--visitor-net", "127.0.0.1"], ("200", &[][..]), ("200", &[][..])),
        (["--visitor-body", "3"], ("413", &["-d", "four"][..]), ("405", &["-d", "3"][..])),
    ] {
        let mut agent = site.agent_command(&relay);
        let agent = start(agent.arg("--token-file").arg(site.at("token")).args(rule));
        assert_eq!(site.curl(&agent.1, without.1), without.0, "{rule:?}");
        assert_eq!(site.curl(&agent.1, with.1), with.0, "{rule:?}");
    }
    for rule in [["--visitor-rate", "1"], ["--all-visitors-rate", "1"]] {
        let mut agent = site.agent_command(&relay);
        let agent = start(agent.arg("--token-file").arg(site.at("token")).args(rule));
        let all: Vec<_> = (0..8).map(|_| site.curl(&agent.1, &[])).collect();
        assert!(all[0] == "200" && all.iter().any(|status| status == "429"), "{rule:?}: {all:?}");
    }
    // A file that cannot be read, or says nothing, ends the agent before it has asked for anything.
    for (flag, text) in [
        ("--visitor-basic", ""),
        ("--visitor-basic", "hush"),
        ("--visitor-secret-file", ""),
        ("--visitor-secret-file", "hush"),
    ] {
        let file = site.secret("bad", text);
        let (code, said) =
            outcome(site.agent_command(&relay).arg("--token-file").arg(site.at("token")).arg(flag).arg(file));
        assert!(code == 2 && !said.contains("hush"), "{flag} {text:?}: {code} {said}");
    }
    let (code, said) = outcome(site.agent_command(&relay).args(["--visitor-basic", "/nonexistent/users"]));
    assert_eq!(code, 2, "{said}");
}
