//! What a person reads on a terminal: the output and the log together, in their order.

use std::path::Path;
use std::process::Command;

use crate::process::Process;
use crate::site::{Site, curl};

/// A program on a terminal of its own.
struct Terminal {
    process: Process,
    pid: String,
}

impl Terminal {
    /// Runs a shell command line; `ptth` is the program under test.
    fn start(line: &str) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_ptth")).parent().unwrap();
        let line = format!("echo $$; PATH={}:$PATH exec {line}", binary.display());
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env("SHELL", "/bin/sh");
        let process = Process::start(&mut script);
        let pid = process.line(0).trim().to_owned();
        Self { process, pid }
    }

    /// A line of the program, from 0.
    fn line(&self, number: usize) -> String {
        self.process.line(number + 1).trim_end().to_owned()
    }
}

impl Drop for Terminal {
    /// The end of the terminal is a SIGHUP, at which the program only reads files again.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(&self.pid).status();
    }
}

#[test]
fn the_url_is_the_first_line_of_an_agent() {
    let site = Site::new();
    site.write("files/index.html", "hello");
    let relay = site.relay();
    let agent = Terminal::start(&format!(
        "ptth agent {} --relay {} --name shop --ca {} --token-file {}",
        site.at("files").display(),
        relay.url(),
        site.ca().display(),
        site.at("token").display()
    ));
    assert_eq!(agent.line(0), format!("https://shop.ptth.localhost:{}/", relay.port), "{}", agent.process);
    assert!(agent.line(1).starts_with("target: the files of "), "{}", agent.process);
}

#[test]
fn a_second_agent_of_a_name_is_reported_on_both_terminals() {
    let site = Site::new();
    site.write("files/index.html", "hello");
    let relay = site.relay();
    let start = || {
        Terminal::start(&format!(
            "env XDG_STATE_HOME={} ptth agent {} --relay {} --name shop --ca {} --token-file {}",
            site.at("user").display(),
            site.at("files").display(),
            relay.url(),
            site.ca().display(),
            site.at("token").display()
        ))
    };
    let first = start();
    first.line(1);
    let second = start();
    assert!(
        second.line(2).contains("another agent on this machine serves https://shop."),
        "{}",
        second.process
    );
    assert!(first.line(2).contains("another agent on this machine now serves"), "{}", first.process);
}

#[test]
fn a_demo_prints_its_url_first_and_shows_each_visit() {
    let demo = Terminal::start("ptth demo");
    let url = demo.line(0);
    assert!(url.starts_with("https://hello.ptth.localhost:"), "{}", demo.process);
    assert!(demo.line(1).starts_with("curl "), "{}", demo.process);
    assert!(demo.line(2).contains("Ctrl-C"), "{}", demo.process);
    let command = demo.line(1);
    let words: Vec<_> = command.split_whitespace().skip(1).collect();
    assert!(curl().args(words).output().unwrap().status.success());
    let visit = demo.line(3);
    assert!(visit.contains("GET") && visit.contains("200"), "{}", demo.process);
}
