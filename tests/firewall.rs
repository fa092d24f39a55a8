//! A firewall that is one: two network namespaces, and between them a packet filter that lets the agent dial out to
//! port 443 of the relay and lets nobody in.
//!
//! The test starts itself again in namespaces of its own, so that nothing of it is left, however it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "e2e/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::process::Process;

/// Says that this process is the one inside.
const INSIDE: &str = "PTTH_TEST_INSIDE_NAMESPACES";
const RELAY: &str = "10.213.7.1";
const AGENT: &str = "10.213.7.2";
/// What the origin listens on, with every address of the agent's side.
const ORIGIN: u16 = 8080;
/// A port of the relay's side that the firewall does not let through.
const OTHER: u16 = 8443;

/// Nobody in, and out only to the relay's port 443; the loopback interface is the machine itself.
const RULES: &str = "
table inet firewall {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif lo accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
    chain output {
        type filter hook output priority 0; policy drop;
        ct state established,related accept
        oif lo accept
        ip daddr 10.213.7.1 tcp dport 443 accept
    }
}
";

#[test]
fn a_service_behind_a_firewall_is_reachable_only_through_the_relay() {
    if std::env::var_os(INSIDE).is_some() {
        return Lab::new().verify();
    }
    let name = "a_service_behind_a_firewall_is_reachable_only_through_the_relay";
    let done = in_namespaces(|command| {
        command.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
    });
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "inside the namespaces:\n{said}");
}

/// Runs a command in a network and a mount namespace of its own: as root, or as somebody who is root only there.
fn in_namespaces(what: impl Fn(&mut Command)) -> Output {
    let mut reasons = Vec::new();
    for flags in [&["-n", "-m"][..], &["-U", "-r", "-n", "-m"]] {
        let unshare = || {
            let mut command = Command::new("unshare");
            // ip keeps its namespaces in /run/netns; this one is seen by nobody else.
            command.args(flags).args(["sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"]);
            command.env(INSIDE, "1");
            command
        };
        match unshare().args(["ip", "netns", "add", "probe"]).output() {
            Ok(done) if done.status.success() => {
                let mut command = unshare();
                what(&mut command);
                return command.output().unwrap();
            }
            Ok(done) => reasons.push(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => reasons.push(format!("unshare: {error}; scripts/test installs it")),
        }
    }
    panic!(
        "cannot create the network namespaces that this test needs: run it as root with CAP_SYS_ADMIN and \
         CAP_NET_ADMIN, or on a machine that permits user namespaces. As root: {}. As a user: {}.",
        reasons[0], reasons[1]
    );
}

/// Two sides, each a network namespace, and a cable between them.
struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        run("ip", &["netns", "add", "public"]);
        run("ip", &["netns", "add", "inside"]);
        run(
            "ip",
            &[
                "link", "add", "cable-p", "netns", "public", "type", "veth", "peer", "cable-i", "netns",
                "inside",
            ],
        );
        for (side, cable, address) in [("public", "cable-p", RELAY), ("inside", "cable-i", AGENT)] {
            run("ip", &["-n", side, "address", "add", &format!("{address}/24"), "dev", cable]);
            run("ip", &["-n", side, "link", "set", cable, "up"]);
            run("ip", &["-n", side, "link", "set", "lo", "up"]);
        }
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The order matters: what the firewall is to prevent is first seen to work without it.
    fn verify(&self) {
        let _origin = self.origin();
        let relay = self.relay();
        let direct = format!("http://{AGENT}:{ORIGIN}/");
        let other = format!("https://{RELAY}:{OTHER}/");
        assert_eq!(self.curl("public", &direct).0, 0, "without a firewall the origin is reachable");
        assert_eq!(self.curl("inside", &other).0, 0, "without a firewall every port can be dialled");

        std::fs::write(self.at("rules"), RULES).unwrap();
        run("ip", &["netns", "exec", "inside", "nft", "-f", &self.at("rules").display().to_string()]);
        // 28: it took too long. A packet filter that drops gives no answer.
        assert_eq!(self.curl("public", &direct).0, 28, "the firewall lets a connection in");
        assert_eq!(self.curl("inside", &other).0, 28, "the firewall lets a connection out to port {OTHER}");
        let (code, body) = self.curl("inside", &format!("http://127.0.0.1:{ORIGIN}/"));
        assert_eq!((code, body.as_str()), (0, "behind the firewall\n"));

        let agent = self.agent();
        assert_eq!(agent.line(0), "https://shop.relay.test/", "{agent} {relay}");
        let (code, body) = self.curl("public", "https://shop.relay.test/");
        assert_eq!((code, body.as_str()), (0, "behind the firewall\n"), "{agent} {relay}");
        assert_eq!(self.curl("public", &direct).0, 28, "the agent makes the origin reachable directly");
        assert!(!agent.logs("connected").contains(&OTHER.to_string()), "{agent}");
    }

    fn origin(&self) -> Process {
        let dir = self.dir.path().display();
        std::fs::create_dir(self.at("www")).unwrap();
        std::fs::write(self.at("www/index.html"), "behind the firewall\n").unwrap();
        let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temps = temps.map(|what| format!("{what}_temp_path {dir}/{what};")).join(" ");
        let conf = format!(
            "user root root; daemon off; master_process off; pid {dir}/pid; error_log stderr notice; events {{}}
            http {{ access_log off; {temps} server {{ listen {ORIGIN}; root {dir}/www; }} }}"
        );
        std::fs::write(self.at("nginx.conf"), conf).unwrap();
        let mut command = command_on("inside", "nginx");
        command.arg("-p").arg(self.dir.path()).arg("-c").arg(self.at("nginx.conf")).args(["-e", "stderr"]);
        let nginx = Process::start(&mut command);
        // Its sockets are open when it says who it is.
        nginx.logs("nginx/");
        nginx
    }

    fn relay(&self) -> Process {
        let hosts = ["--host", RELAY, "--host", "relay.test", "--host", "*.relay.test"];
        let certs = self.at("certs").display().to_string();
        run(env!("CARGO_BIN_EXE_ptth"), &[&["certs", "new", "--out", &certs][..], &hosts].concat());
        let mut command = command_on("public", env!("CARGO_BIN_EXE_ptth"));
        command.args(["relay", "--domain", "relay.test", "--authority", RELAY, "--admin", "off"]);
        command.args([
            "--listen",
            &format!("{RELAY}:443"),
            "--listen",
            &format!("{RELAY}:{OTHER}"),
            "--state",
        ]);
        command.arg(self.at("state")).arg("--cert").arg(self.at("certs/relay.pem"));
        let relay = Process::start(command.arg("--key").arg(self.at("certs/relay-key.pem")));
        relay.line(1);
        relay
    }

    fn agent(&self) -> Process {
        let mut command = command_on("inside", env!("CARGO_BIN_EXE_ptth"));
        command.args([
            "agent",
            &ORIGIN.to_string(),
            "--relay",
            &format!("https://{RELAY}"),
            "--name",
            "shop",
        ]);
        command
            .arg("--ca")
            .arg(self.at("certs/ca.pem"))
            .arg("--token-file")
            .arg(self.at("state/first-token"));
        Process::start(&mut command)
    }

    /// The exit code of curl on one side, and the body that it got.
    fn curl(&self, side: &str, url: &str) -> (i32, String) {
        let mut command = command_on(side, "curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "3", "--cacert"]);
        command.arg(self.at("certs/ca.pem"));
        let done =
            command.args(["--resolve", &format!("shop.relay.test:443:{RELAY}"), url]).output().unwrap();
        print!("{side}: {url}: {}", String::from_utf8_lossy(&done.stderr));
        (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

/// A command on one side. `ip netns exec` becomes the command, so that its process id is the command's.
fn command_on(side: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", side, program]);
    command
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done =
        done.unwrap_or_else(|error| panic!("cannot start {program}: {error}; scripts/test installs it"));
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
