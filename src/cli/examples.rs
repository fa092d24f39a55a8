//! The examples with which the help of each command begins, and the short help of `ptth` alone.

use clap::Command;

/// The short help: what a person needs for a first try.
pub(super) const SHORT: &str = "\
ptth gives a program behind a firewall a public URL.

  ptth demo                                         see it work on this machine, without any set-up
  ptth relay --domain relay.example.org             run a relay, on a machine that the internet reaches
  ptth agent 3000 --relay https://relay.example.org give the program on port 3000 a URL through that relay

After 'ptth login https://relay.example.org', 'ptth agent 3000' is enough.
All commands: ptth --help. The flags of a command, with examples: ptth COMMAND --help.
";

/// The examples of each command, by its words after `ptth`. Each example is a command line that is accepted as it
/// stands.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("", &["ptth demo", "ptth login https://relay.example.org", "ptth agent 3000"]),
    ("demo", &["ptth demo", "ptth demo --listen http://127.0.0.1:8080"]),
    (
        "relay",
        &[
            "ptth relay",
            "ptth relay --domain relay.example.org --listen 0.0.0.0:443 --cert fullchain.pem --key key.pem",
            "ptth relay --listen http://127.0.0.1:8080 --demo --open-registration",
        ],
    ),
    (
        "agent",
        &[
            "ptth agent 3000",
            "ptth agent 3000 --relay https://relay.example.org --name shop --token-file shop.token",
            "ptth agent 5173 --relay https://relay.example.org --host-header rewrite",
            "ptth agent ./site --relay https://relay.example.org --visitor-basic users",
            "ptth agent --config ptth.toml",
        ],
    ),
    (
        "login",
        &[
            "ptth login https://relay.example.org",
            "ptth login https://relay.example.org --token-file shop.token",
            "ptth login https://relay.example.org --ca ca.pem",
        ],
    ),
    ("doctor", &["ptth doctor 3000 --relay https://relay.example.org --name shop --token-file shop.token"]),
    ("token", &["ptth token new --name shop", "ptth token list", "ptth token revoke 0123456789ab"]),
    (
        "token new",
        &["ptth token new --name shop", "ptth token new --name 'team-*' --sessions 2 --expires 30d"],
    ),
    ("token list", &["ptth token list", "ptth token list --state state"]),
    ("token revoke", &["ptth token revoke 0123456789ab"]),
    ("certs", &["ptth certs new --out certs"]),
    ("certs new", &["ptth certs new --out certs --host relay.test --host '*.relay.test'"]),
    ("config", &["ptth config check relay.toml"]),
    ("config check", &["ptth config check relay.toml", "ptth config check ptth.toml"]),
    ("config schema", &["ptth config schema"]),
    ("man", &["ptth man --out man"]),
    ("completions", &["ptth completions bash"]),
];

/// The order of a help text: what the command does, examples, usage, flags.
const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Puts the examples into the help of `command` and of all commands below it. `path` is the command's words after
/// `ptth`.
pub(super) fn with_examples(command: Command, path: &str) -> Command {
    let below = |name: &str| format!("{path} {name}").trim_start().to_owned();
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names
        .iter()
        .fold(command, |command, name| command.mut_subcommand(name, |sub| with_examples(sub, &below(name))));
    let lines = EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, lines)| *lines);
    let text: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    command.help_template(TEMPLATE).before_help(format!("Examples:{text}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{definition, parse};
    use super::*;

    #[test]
    fn each_command_has_examples_that_are_accepted() {
        let mut commands = vec![(String::new(), definition())];
        while let Some((path, command)) = commands.pop() {
            let lines = EXAMPLES.iter().find(|(of, _)| **of == path).map(|(_, lines)| *lines);
            let help = command.clone().render_long_help().to_string();
            for line in lines.unwrap_or_else(|| panic!("{path:?} has no example")) {
                let words = line.split_whitespace().map(|word| OsString::from(word.trim_matches('\'')));
                parse(words).unwrap_or_else(|failure| panic!("{line}: {failure}"));
                assert!(help.find(line).is_some_and(|at| at < help.find("Usage:").unwrap()), "{help}");
            }
            let below = |name: &str| format!("{path} {name}").trim_start().to_owned();
            commands.extend(command.get_subcommands().map(|sub| (below(sub.get_name()), sub.clone())));
        }
    }
}
