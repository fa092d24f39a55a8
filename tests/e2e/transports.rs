//! Every way to a relay, selected by its name.

use crate::origin::Held;
use crate::site::{Agent, Site};

#[test]
fn every_rung_can_be_selected_by_its_name() {
    let (site, held) = (Site::new(), Held::start());
    held.let_go();
    let relay = site.relay();
    for (name, carrier) in [
        ("auto", "h2"),
        ("ptth10", "h2"),
        ("ptth10-h1", "h1"),
        ("ptth", "h2"),
        ("reversehttp", "envelope"),
        ("comet", "envelope"),
    ] {
        let mut command = site.agent_command(&relay.url(), held.port.to_string());
        let agent = Agent::start(command.args(["--transport", name]));
        let rung = if name == "auto" { "ptth10" } else { name };
        let line = agent.process.logs(" connected ");
        let said = [format!("rung=\"{rung}\""), format!("carrier={carrier}")];
        assert!(said.iter().all(|said| line.split_whitespace().any(|word| word == said)), "{name}: {line}");
        assert_eq!(site.curl([format!("{}wait/{name}", agent.url)]).text(), name);
    }
}
