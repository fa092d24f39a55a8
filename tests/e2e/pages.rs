//! The README's commands, as they stand there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::Process;
use crate::site::ptth;

/// The first block of shell below this heading.
fn block(heading: &str) -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let below = text.split_once(heading).unwrap_or_else(|| panic!("the README has no {heading:?}")).1;
    below.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

/// The block names ports, so it runs in namespaces of its own, which end its background processes.
#[test]
fn the_readme_block_for_one_machine_works_when_pasted() {
    let home = tempfile::tempdir().unwrap();
    let program = Path::new(ptth().get_program()).parent().unwrap().to_owned();
    let script = format!("ip link set lo up\nset -e\n{}", block("### One machine, without DNS"));
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    shell.current_dir(home.path()).env("PATH", path).env("NO_PROXY", "*").env("HOME", home.path());
    let mut pasted = Process::start(&mut shell);
    assert_eq!(pasted.ends(), 0, "{pasted}");
    assert!(pasted.out.all().iter().any(|line| line == "hello"), "{pasted}");
}
