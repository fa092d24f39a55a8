//! The program itself, in processes whose memory can be measured.

use std::time::{Duration, Instant};

use crate::recorder::Recorder;
use crate::site::{Agent, Relay, Site};
use crate::support::{Wire, limit, named, within};
use crate::world::{NAME, PROMPT, connect};

pub(crate) const MIB: usize = 1 << 20;

/// A relay and an agent as processes, and an origin here.
pub(crate) struct Program {
    pub(crate) relay: Relay,
    _agent: Agent,
    _origin: Recorder,
    pub(crate) site: Site,
}

impl Program {
    /// With further arguments for each.
    pub(crate) async fn start(relay: &[&str], agent: &[&str]) -> Self {
        let (site, origin) = (Site::new(), Recorder::start().await);
        let relay = Relay::start(site.relay_command("http://127.0.0.1:0").args(relay));
        let url = format!("http://localhost:{}", relay.port);
        let target = origin.address().to_string();
        let agent = Agent::start(site.agent_command(&url, target).args(agent));
        Self { relay, _agent: agent, _origin: origin, site }
    }

    /// What is resident of the relay, in bytes.
    pub(crate) fn relay_memory(&self) -> usize {
        resident(self.relay.process.id())
    }

    /// An honest visitor: it is answered, and soon; how soon.
    pub(crate) async fn is_healthy(&self) -> Duration {
        let asked = Instant::now();
        let mut visitor = Wire::new(connect(([127, 0, 0, 1], self.relay.port).into()).await);
        visitor.send(format!("GET /honest HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
        let (head, body) = within("an honest visitor's answer", visitor.message()).await;
        assert_eq!((head.status(), &*body), (200, "ok"), "{head:?}");
        assert!(asked.elapsed() < limit(PROMPT), "an honest visitor waited for {:?}", asked.elapsed());
        asked.elapsed()
    }
}

/// What is resident of a process, in bytes.
pub(crate) fn resident(pid: u32) -> usize {
    memory(pid, "VmRSS:")
}

/// The most that was ever resident of a process, in bytes.
pub(crate) fn peak(pid: u32) -> usize {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, what: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
