//! Every rung of the ladder, selected by its name.

use crate::origin::GatedService;
use crate::site::{Agent, Site};

#[test]
fn every_rung_can_be_selected_by_its_name() {
    let (site, service) = (Site::new(), GatedService::start());
    service.open_gate();
    let relay = site.relay();
    for (name, carrier) in [
        ("auto", "h2"),
        ("ptth10", "h2"),
        ("ptth10-h1", "h1"),
        ("ptth", "h2"),
        ("reversehttp", "envelope"),
        ("comet", "envelope"),
    ] {
        let mut command = site.agent_command(&relay.url(), service.port.to_string());
        let agent = Agent::start(command.args(["--transport", name]));
        let rung = if name == "auto" { "ptth10" } else { name };
        let line = agent.process.logs(" connected ");
        let fields = [format!("rung=\"{rung}\""), format!("carrier={carrier}")];
        let is_logged = |field: &String| line.split_whitespace().any(|part| part == field);
        assert!(fields.iter().all(is_logged), "{name}: {line}");
        assert_eq!(site.curl([format!("{}wait/{name}", agent.url)]).text(), name);
    }
}
