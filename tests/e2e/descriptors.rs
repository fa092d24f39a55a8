//! A relay with few file descriptors.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::origin::GatedService;
use crate::site::{Agent, Relay, Site, curl, ptth};

/// The limit, soft and hard.
const LIMIT: usize = 1_024;
/// Visitors at once: more than there are descriptors.
const VISITORS: usize = 1_100;

/// The command line of a relay that has [`LIMIT`] descriptors.
fn relay_command(site: &Site) -> Command {
    let relay = ptth();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {LIMIT}; exec \"$0\" \"$@\"")).arg(relay.get_program());
    for (name, _) in relay.get_envs() {
        command.env_remove(name);
    }
    command.args(["relay", "--domain", "ptth.localhost", "--listen", "http://127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--connections-per-address", "16384", "--state"]);
    command.arg(site.at("state"));
    command
}

/// A visitor that has sent one request and stays connected.
fn visitor(port: u16) -> TcpStream {
    let mut visitor = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // A relay without free descriptors does not read the request.
    visitor.write_all(b"GET / HTTP/1.1\r\nHost: ptth.localhost\r\n\r\n").unwrap();
    visitor.set_nonblocking(true).unwrap();
    visitor
}

fn is_connected(visitor: &mut TcpStream) -> bool {
    let mut answer = [0; 4096];
    loop {
        match visitor.read(&mut answer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn idle_visitors_leave_descriptors_for_agents_and_the_admin_listener() {
    // This process has a descriptor for each visitor.
    ptth::internals::net::descriptors::raise();
    let (site, service) = (Site::new(), GatedService::start());
    service.open_gate();
    let relay = Relay::start(&mut relay_command(&site));
    let admin = relay.process.line(1).replace("admin on ", "");
    let url = format!("http://localhost:{}", relay.port);
    let mut idle: Vec<_> = (0..VISITORS).map(|_| visitor(relay.port)).collect();

    let agents = ["ptth10", "ptth10-h1", "reversehttp", "comet"].map(|transport| {
        let mut command = site.agent_command(&url, service.port.to_string());
        Agent::start(command.args(["--transport", transport]))
    });
    let mut ready = curl();
    let ready = ready.arg("--fail").arg(format!("{admin}/ready")).output().unwrap();
    assert!(ready.status.success(), "{}", String::from_utf8_lossy(&ready.stderr));
    let connected = idle.iter_mut().filter_map(|visitor| is_connected(visitor).then_some(())).count();
    assert!(connected > LIMIT / 2, "only {connected} visitors are still connected; {}", relay.process);

    drop(idle);
    let served = crate::site::poll(|| {
        let answer = curl().arg(format!("{}wait/word", agents[0].url)).output().unwrap();
        (answer.stdout == b"word").then_some(())
    });
    assert!(served.is_some(), "{}", relay.process);
}

#[test]
fn the_start_line_reports_how_many_connections_fit() {
    let site = Site::new();
    let few = Relay::start(&mut relay_command(&site));
    let line = few.process.logs("relay started");
    let fit = line.split("connections=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let fit: usize = fit.and_then(|fit| fit.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    assert!((LIMIT / 2..LIMIT).contains(&fit), "{line}");
    few.process.logs("--connections 16384 do not fit");

    let mut enough = relay_command(&site);
    let enough = Relay::start(enough.args(["--connections", "100"]));
    assert!(enough.process.logs("relay started").contains("connections=100"), "{}", enough.process);
    assert!(!enough.process.err.all().iter().any(|line| line.contains("do not fit")), "{}", enough.process);
}

/// A shell's soft limit is often a fraction of the hard one.
#[test]
fn the_soft_limit_is_raised_to_the_hard_limit() {
    let site = Site::new();
    let relay = site.relay();
    let mut command = Command::new("sh");
    let agent = site.agent_command(&relay.url(), "3000");
    command
        .args(["-c", "ulimit -S -n 64; exec \"$0\" \"$@\""])
        .arg(agent.get_program())
        .args(agent.get_args());
    let agent = Agent::start(&mut command);
    for process in [&relay.process, &agent.process] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[3], words[4], "{line}");
    }
}

/// Lowers the limit of a process, so that it can open only `more` files.
fn limit_further_files(process: u32, more: usize) {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut open: Vec<u64> =
        open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    open.sort_unstable();
    // A new file gets the lowest free number, and the limit is above all numbers. A file that the process has inherited
    // may have a number far above the others.
    let mut free = (0..).filter(|number| open.binary_search(number).is_err());
    let limit = free.nth(more).unwrap();
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    let process = Pid::from_raw(process.cast_signed());
    prlimit(process, Resource::Nofile, limit).unwrap();
}

#[test]
fn a_request_waits_for_a_descriptor_of_the_agent() {
    const WAITS: &str = "waiting for a file descriptor";
    let (site, service) = (Site::new(), GatedService::start());
    let relay = site.relay();
    let mut command = site.agent_command(&relay.url(), service.port.to_string());
    let agent = Agent::start(command.arg("--verbose"));
    limit_further_files(agent.process.id(), 2);
    let get = |word: &str| site.curl([format!("{}wait/{word}", agent.url)]);
    std::thread::scope(|scope| {
        let first = ["a", "b"].map(|word| scope.spawn(move || get(word)));
        service.wait_for_requests(2);

        let refused = get("c");
        assert_eq!(refused.status, 502, "{refused:?}");
        assert!(refused.text().contains("no file descriptor left"), "{}", refused.text());

        let waited = agent.process.err.all().iter().filter(|line| line.contains(WAITS)).count();
        assert!(waited > 0, "{}", agent.process);
        let last = scope.spawn(|| get("d"));
        agent.process.logs_times(WAITS, waited + 1);
        service.open_gate();
        for request in first.into_iter().chain([last]) {
            let answer = request.join().unwrap();
            assert_eq!(answer.status, 200, "{answer:?}; {}", agent.process);
        }
    });
}
