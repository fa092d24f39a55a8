//! Two hundred visitors at the same time.

use std::fs;

use crate::origin::GatedService;
use crate::site::{Site, curl};

const VISITORS: usize = 200;

#[test]
fn two_hundred_concurrent_visitors_each_get_their_own_answer() {
    let site = Site::new();
    let service = GatedService::start();
    let relay = site.relay();
    let agent = site.agent(&relay, service.port.to_string());
    fs::create_dir(site.at("answers")).unwrap();
    let mut visitors = curl();
    visitors.arg("--cacert").arg(site.ca()).args(["--parallel", "--parallel-immediate", "--http1.1"]);
    visitors.args(["--parallel-max", &VISITORS.to_string(), "--write-out", "%{http_code} %{num_connects}\n"]);
    visitors.arg("--output").arg(site.at("answers/#1"));
    visitors.arg(format!("{}wait/word-[1-{VISITORS}]", agent.url));
    let output = std::thread::scope(|scope| {
        let visitors = scope.spawn(|| visitors.output().unwrap());
        // The service answers only when all requests have arrived.
        service.wait_for_requests(VISITORS);
        service.open_gate();
        visitors.join().unwrap()
    });
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report.lines().collect::<Vec<_>>(), ["200 1"; VISITORS]);
    for visitor in 1..=VISITORS {
        let answer = fs::read_to_string(site.at(format!("answers/{visitor}"))).unwrap();
        assert_eq!(answer, format!("word-{visitor}"));
    }
}
