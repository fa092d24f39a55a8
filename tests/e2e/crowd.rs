//! Two hundred visitors at the same time.

use std::fs;

use crate::origin::Held;
use crate::site::{Site, curl};

const VISITORS: usize = 200;

#[test]
fn two_hundred_concurrent_visitors_each_get_their_own_answer() {
    let site = Site::new();
    let held = Held::start();
    let relay = site.relay();
    let agent = site.agent(&relay, held.port.to_string());
    fs::create_dir(site.at("answers")).unwrap();
    let mut visitors = curl();
    visitors.arg("--cacert").arg(site.ca()).args(["--parallel", "--parallel-immediate", "--http1.1"]);
    visitors.args(["--parallel-max", &VISITORS.to_string(), "--write-out", "%{http_code} %{num_connects}\n"]);
    visitors.arg("--output").arg(site.at("answers/#1"));
    visitors.arg(format!("{}wait/word-[1-{VISITORS}]", agent.url));
    let done = std::thread::scope(|scope| {
        let visitors = scope.spawn(|| visitors.output().unwrap());
        // Only when all of them stand before the origin is anybody answered.
        held.holds(VISITORS);
        held.let_go();
        visitors.join().unwrap()
    });
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(said.lines().collect::<Vec<_>>(), ["200 1"; VISITORS]);
    for visitor in 1..=VISITORS {
        let answer = fs::read_to_string(site.at(format!("answers/{visitor}"))).unwrap();
        assert_eq!(answer, format!("word-{visitor}"));
    }
}
