//! The common parts of the tests: a directory with certificates and a token, and the programs that a user would run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{PATIENCE, Process};

/// The program under test, without environment variables that would change its behaviour.
pub(crate) fn ptth() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptth"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PTTH_") {
            command.env_remove(name);
        }
    }
    command
}

/// Certificates for `ptth.localhost` and below, a state with a token for the name `shop`, and room for more.
pub(crate) struct Site {
    dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        let hosts = ["--host", "ptth.localhost", "--host", "localhost", "--host", "*.ptth.localhost"];
        site.run(ptth().args(["certs", "new", "--out"]).arg(site.at("certs")).args(hosts));
        site.secret("token", &site.token("shop"));
        site
    }

    /// A path in the site's directory.
    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.at("certs/ca.pem")
    }

    /// Issues a token.
    pub(crate) fn token(&self, name: &str) -> String {
        self.run(ptth().args(["token", "new", "--name", name, "--state"]).arg(self.at("state")))
    }

    /// Writes a file for the owner alone.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a file, and its directories.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs a command that must succeed, and returns its stdout.
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The command line of a relay; `listen` is an address.
    pub(crate) fn relay_command(&self, listen: &str) -> Command {
        let mut command = ptth();
        command.args([
            "relay",
            "--domain",
            "ptth.localhost",
            "--admin",
            "off",
            "--listen",
            listen,
            "--state",
        ]);
        command.arg(self.at("state"));
        if !listen.starts_with("http://") {
            command.arg("--cert").arg(self.at("certs/relay.pem"));
            command.arg("--key").arg(self.at("certs/relay-key.pem"));
        }
        command
    }

    /// A relay on a free port.
    pub(crate) fn relay(&self) -> Relay {
        self.relay_at("127.0.0.1:0")
    }

    pub(crate) fn relay_at(&self, listen: &str) -> Relay {
        Relay::start(&mut self.relay_command(listen))
    }

    /// The command line of an agent of `shop`.
    pub(crate) fn agent_command(&self, relay: &str, target: impl AsRef<OsStr>) -> Command {
        self.agent_of("shop", "token", relay, target)
    }

    /// The command line of an agent of another name, with the token in this file.
    pub(crate) fn agent_of(
        &self,
        name: &str,
        token: &str,
        relay: &str,
        target: impl AsRef<OsStr>,
    ) -> Command {
        let mut command = ptth();
        command.arg("agent").arg(target).args(["--relay", relay, "--name", name, "--ca"]).arg(self.ca());
        command.arg("--token-file").arg(self.at(token));
        command
    }

    /// An agent of `shop` that is connected.
    pub(crate) fn agent(&self, relay: &Relay, target: impl AsRef<OsStr>) -> Agent {
        Agent::start(&mut self.agent_command(&relay.url(), target))
    }

    /// A visitor that trusts the site's CA; each argument as for curl.
    pub(crate) fn curl<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Answer {
        let mut command = curl();
        command.arg("--cacert").arg(self.ca()).args(arguments);
        Answer::of(&mut command)
    }
}

/// A running relay.
pub(crate) struct Relay {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Relay {
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = Process::start(command);
        let line = process.line(0);
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("no port in {line:?}; {process}")), process }
    }

    /// The URL for agents.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

/// A running agent that is connected.
pub(crate) struct Agent {
    pub(crate) process: Process,
    /// The public URL, with a slash at its end.
    pub(crate) url: String,
}

impl Agent {
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = Process::start(command);
        let url = process.line(0);
        process.line(1);
        Self { process, url }
    }
}

/// curl without a proxy, and with a deadline.
pub(crate) fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]);
    command
}

/// The answer to a visitor.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As curl prints it: `1.1` or `2`.
    pub(crate) version: String,
    /// The head, its field names in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn of(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (head, body) = (dir.path().join("head"), dir.path().join("body"));
        command.arg("--dump-header").arg(&head).arg("--output").arg(&body);
        let output = command.args(["--write-out", "%{http_code} %{http_version}"]).output();
        let output =
            output.unwrap_or_else(|error| panic!("cannot start curl: {error}; scripts/test installs it"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report = String::from_utf8(output.stdout).unwrap();
        let (status, version) = report.split_once(' ').unwrap();
        let head = fs::read_to_string(head).unwrap();
        let lower = |line: &str| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
            None => format!("{line}\n"),
        };
        Self {
            status: status.parse().unwrap(),
            version: version.to_owned(),
            head: head.lines().map(lower).collect(),
            body: fs::read(body).unwrap_or_default(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a field; empty without it.
    pub(crate) fn field(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().trim_end()
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) fn ends(&mut self) -> i32 {
        let ended = poll(|| self.child.try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("the process did not end: {self}")).code().unwrap_or(-1)
    }
}

/// Repeats `attempt` until it returns a value or [`PATIENCE`] has passed.
pub(crate) fn poll<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        let value = attempt();
        if value.is_some() || Instant::now() > until {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port without a listener, outside of the range from which the system takes ports by itself.
pub(crate) fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(20_000..30_000)).find(free).unwrap()
}
