//! Programs of Node.js on both sides, unmodified packages that people use: gRPC and WebSockets.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;

use ptth::internals::session::Kind;

use crate::library::agent_over;
use crate::process::Process;
use crate::site::{Relay, Site};

/// The directory of the npm packages that scripts/test has installed. Asserts that it has this version of the package.
pub(crate) fn modules(package: &str, version: &str) -> PathBuf {
    let modules = std::env::var_os("PTTH_NODE_MODULES").map(PathBuf::from).unwrap_or_else(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_ptth")).ancestors().nth(2).unwrap();
        target.join("npm/node_modules")
    });
    let found = std::fs::read_to_string(modules.join(package).join("package.json")).unwrap_or_default();
    assert!(
        found.contains(&format!("\"version\": \"{version}\"")),
        "{package} {version} is not in {}; scripts/test installs it",
        modules.display()
    );
    modules
}

/// A script of two halves, one behind an agent and one before the relay.
struct Halves {
    site: Site,
    relay: Relay,
    origin: Process,
    _agent: Box<dyn Any>,
    script: PathBuf,
    modules: PathBuf,
}

impl Halves {
    fn start(script: &str, modules: PathBuf, scheme: &str, carrier: Kind) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(script);
        let site = Site::new();
        let origin = Process::start(Command::new("node").arg(&script).arg(&modules).arg("serve"));
        let target = format!("{scheme}://127.0.0.1:{}", origin.line(0));
        let relay = site.relay();
        let agent = agent_over(&site, &relay, &target, carrier);
        Self { site, relay, origin, _agent: agent, script, modules }
    }

    /// Runs the visitor's half, and returns its lines.
    fn visit(&self) -> Vec<String> {
        let mut node = Command::new("node");
        node.arg(&self.script).arg(&self.modules).arg("visit").arg(self.relay.port.to_string());
        let output = self.site.run(node.arg(self.site.ca()));
        output.lines().map(str::to_owned).collect()
    }
}

#[test]
fn every_kind_of_grpc_call_crosses() {
    for carrier in [Kind::H2, Kind::H1, Kind::Envelope] {
        let halves = Halves::start("grpc.js", modules("@grpc/grpc-js", "1.14.7"), "h2c", carrier);
        let kinds = [
            "unary",
            "status",
            "server streaming",
            "client streaming",
            "bidirectional streaming",
            "deadline",
            "cancel",
        ];
        assert_eq!(halves.visit(), kinds, "{carrier}");
        // The server is notified of both calls that the client has given up.
        for line in [1, 2] {
            assert_eq!(halves.origin.line(line), "cancelled", "{carrier}");
        }
    }
}

#[test]
fn websockets_cross_with_compression() {
    for carrier in [Kind::H2, Kind::H1, Kind::Envelope] {
        let halves = Halves::start("websocket.js", modules("ws", "8.23.0"), "http", carrier);
        assert_eq!(halves.visit(), ["compression", "messages", "ping", "close"], "{carrier}");
        assert_eq!(halves.origin.line(1), "4001 by the visitor");
        assert_eq!(halves.origin.line(2), "4002 by the origin");
    }
}
