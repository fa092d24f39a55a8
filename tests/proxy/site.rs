//! What the tests share: certificates, a token, a relay that only proxies can name, and the proxies.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Outcome, Process};

/// The binary under test, with nothing in its environment that says how to get out.
pub(crate) fn ptth() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptth"));
    for (name, _) in std::env::vars_os() {
        let folded = name.to_string_lossy().to_ascii_uppercase();
        if folded.starts_with("PTTH_") || folded.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
}

/// A relay for `relay.test`, which no resolver knows, and for `localhost`.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) relay: Process,
    pub(crate) port: u16,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with("https")
    }

    /// A relay that speaks TLS, or plain `http`.
    pub(crate) fn with(scheme: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let hosts = ["--host", "relay.test", "--host", "*.relay.test", "--host", "localhost"];
        let made = Outcome::of(ptth().args(["certs", "new", "--out"]).arg(at("certs")).args(hosts));
        assert_eq!(made.code, 0, "{}", made.err);
        let token = Outcome::of(ptth().args(["token", "new", "--name", "shop", "--state"]).arg(at("state")));
        fs::write(at("token"), token.out).unwrap();
        let mut command = ptth();
        command.args(["relay", "--domain", "relay.test", "--admin", "off", "--state"]).arg(at("state"));
        command.args(["--listen", &format!("{scheme}://127.0.0.1:0")]);
        if scheme == "https" {
            command.arg("--cert").arg(at("certs/relay.pem")).arg("--key").arg(at("certs/relay-key.pem"));
        }
        let relay = Process::start(&mut command);
        let port = relay.line(0).rsplit(':').next().unwrap().parse().unwrap();
        Self { dir, relay, port }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where only a proxy finds it.
    pub(crate) fn far(&self) -> String {
        format!("https://relay.test:{}", self.port)
    }

    /// Where this machine finds it.
    pub(crate) fn near(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// `ptth agent` or `ptth doctor` for `shop`, with the token and the CA.
    pub(crate) fn command(&self, what: &str, relay: &str) -> Command {
        self.trusting(what, relay, "certs/ca.pem")
    }

    fn trusting(&self, what: &str, relay: &str, ca: &str) -> Command {
        let mut command = ptth();
        command.args([what, "--relay", relay, "--name", "shop", "--token-file"]).arg(self.at("token"));
        command.arg("--ca").arg(self.at(ca));
        command
    }

    /// An agent that serves a directory with one file.
    pub(crate) fn agent(&self, relay: &str) -> Command {
        self.agent_trusting(relay, "certs/ca.pem")
    }

    /// The same with another CA.
    pub(crate) fn agent_trusting(&self, relay: &str, ca: &str) -> Command {
        fs::create_dir_all(self.at("files")).unwrap();
        fs::write(self.at("files/hello.txt"), "from behind the firewall").unwrap();
        let mut command = self.trusting("agent", relay, ca);
        command.arg(self.at("files"));
        command
    }

    /// Asserts that this agent connects and serves.
    #[track_caller]
    pub(crate) fn serves(&self, agent: &mut Command) -> Process {
        let agent = Process::start(agent);
        agent.line(1);
        let (host, port) = ("shop.relay.test", self.port);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--resolve"]);
        curl.arg(format!("{host}:{port}:127.0.0.1")).arg("--cacert").arg(self.at("certs/ca.pem"));
        let got = Outcome::of(curl.arg(format!("https://{host}:{port}/hello.txt")));
        assert_eq!((got.code, &*got.out), (0, "from behind the firewall"), "{} {agent}", got.err);
        agent
    }
}

/// A port that nobody listens on, outside of the range from which the system takes ports by itself.
pub(crate) fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(20_000..30_000)).find(free).unwrap()
}

/// A program, also where Debian keeps those of administrators.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/usr/bin"]);
    let found = places.map(|place| PathBuf::from(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed; run scripts/test, which installs it"))
}

/// A real proxy.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) port: u16,
    _dir: tempfile::TempDir,
}

/// Squid that is killed leaves its shared memory behind.
impl Drop for Running {
    fn drop(&mut self) {
        self.process.end();
    }
}

/// The user and the password that proxies ask for, as they stand in a URL.
pub(crate) const LOGIN: &str = "ann:p%40ss%2Fw";
/// The same, as they are.
const PLAIN: &str = "ann:p@ss/w";

/// Squid, which knows where `relay.test` is; with `rules` in its own language.
pub(crate) fn squid(rules: &str) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    // Started by root, it becomes another user.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(at("hosts"), "127.0.0.1 relay.test\n").unwrap();
    // Asked for one pair a line.
    let judge = format!(
        "#!/bin/sh\nwhile read -r user password; do\n  case \"$user:$password\" in '{PLAIN}') echo OK;; *) echo ERR;; esac\ndone\n"
    );
    fs::write(at("judge"), judge).unwrap();
    fs::set_permissions(at("judge"), fs::Permissions::from_mode(0o755)).unwrap();
    let port = free_port();
    let rules = rules.replace("JUDGE", &at("judge"));
    let settings = format!(
        "http_port 127.0.0.1:{port}\npid_filename none\nhosts_file {}\naccess_log none\ncache_log {}\ncache deny all\n\
         cache_store_log none\ncoredump_dir {}\nnetdb_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\n\
         dns_nameservers 127.0.0.1\nvisible_hostname proxy.test\n{rules}\n",
        at("hosts"),
        at("cache.log"),
        dir.path().display(),
    );
    fs::write(at("squid.conf"), settings).unwrap();
    let mut command = Command::new(program("squid"));
    let process =
        Process::start(command.args(["-N", "-d", "1", "-n", &format!("p{port}"), "-f", &at("squid.conf")]));
    process.logs("Accepting HTTP Socket connections");
    Running { process, port, _dir: dir }
}

/// The rules of a squid that asks for a password.
pub(crate) const WITH_PASSWORD: &str = "auth_param basic program JUDGE\nacl known proxy_auth REQUIRED\n\
                                        http_access allow known\nhttp_access deny all";

/// Tinyproxy, with more `settings`.
pub(crate) fn tinyproxy(settings: &str) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = dir.path().join("tinyproxy.conf");
    let all =
        format!("Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 20\nLogLevel Info\n{settings}\n");
    fs::write(&file, all).unwrap();
    let process = Process::start(Command::new(program("tinyproxy")).arg("-d").arg("-c").arg(&file));
    process.logs("Accepting connections");
    Running { process, port, _dir: dir }
}
