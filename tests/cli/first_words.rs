//! What a person types first: no arguments, help, and the words of other tunnels.

use crate::{fails, home, ptth, ptth_in, succeeds};

#[test]
fn without_arguments_a_short_help_with_examples_is_printed() {
    let home = home();
    let help = succeeds(ptth(home.path(), &[]));
    assert_eq!(help.lines().filter(|line| line.starts_with("  ptth ")).count(), 3, "{help}");
    assert!(help.lines().count() <= 12 && help.contains("ptth --help"), "{help}");
}

#[test]
fn each_help_begins_with_examples() {
    let home = home();
    for command in ["", "demo", "relay", "agent", "doctor", "token new", "certs new", "config check"] {
        let help =
            succeeds(ptth(home.path(), &[command.split_whitespace().collect(), vec!["--help"]].concat()));
        let (examples, usage) = (help.find("Examples:\n  ptth "), help.find("Usage: ptth"));
        assert!(examples.is_some() && examples < usage, "{help}");
        let words = [vec!["help"], command.split_whitespace().collect()].concat();
        assert_eq!(succeeds(ptth(home.path(), &words)), help);
    }
    assert_eq!(succeeds(ptth(home.path(), &["version"])), succeeds(ptth(home.path(), &["--version"])));
}

#[test]
fn man_pages_are_written_for_all_commands() {
    let home = home();
    std::fs::create_dir(home.path().join("man")).unwrap();
    succeeds(ptth(home.path(), &["man", "--out", "man"]));
    for (page, words) in [("ptth.1", "ptth"), ("ptth-agent.1", "target"), ("ptth-token-new.1", "expires")] {
        let text = std::fs::read_to_string(home.path().join("man").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS") && text.contains(words), "{page}: {text}");
    }
    fails(&ptth(home.path(), &["man", "--out", "none"]), 1, "none");
}

/// Each form gets as far as a relay, which is missing.
#[test]
fn a_target_alone_starts_an_agent() {
    let home = home();
    for words in [&["3000"][..], &["http", "3000"], &["localhost:3000", "--subdomain", "shop"], &["."]] {
        fails(&ptth(home.path(), words), 2, "ptth login https://RELAY");
    }
    let outcome = ptth_in(home.path(), &["agent", "3000"], &[("PTTH_NAME", "a.b")], "");
    fails(&outcome, 2, "hyphens");
}

#[test]
fn the_words_of_other_tunnels_are_answered_with_the_right_command() {
    let home = home();
    for (words, instead) in [
        (&["status"][..], "/sessions"),
        (&["tcp", "22"], "no raw TCP"),
        (&["local", "3000", "--to", "bore.example"], "ptth agent 3000"),
        (&["http", "3000", "--basic-auth", "ann:hush"], "--visitor-basic FILE"),
        (&["http", "3000", "--basic-auth=ann:hush"], "--visitor-basic FILE"),
        (&["http", "3000", "--url", "https://shop.relay.example"], "--name shop"),
        (&["http", "--domain=shop.relay.example", "3000"], "--name shop"),
    ] {
        let outcome = ptth(home.path(), words);
        fails(&outcome, 2, instead);
        assert!(!outcome.err.contains("hush") && !outcome.err.contains("--host-header"), "{}", outcome.err);
    }
}
