//! Command lines that people bring from other tunnels: a shorter form of a command is expanded, and a word or a flag
//! that `ptth` does not have is answered with the right command.

use std::ffi::OsString;

use clap::Command;

/// The commands of other programs, each with what to write instead.
const COMMANDS: &[(&str, &str)] = &[
    (
        "status",
        "an agent prints its URL in its own terminal, and a relay lists its agents at the URL of its admin \
         listener, by default http://127.0.0.1:9180/sessions; 'ptth doctor' checks the way to a relay",
    ),
    ("tcp", "ptth forwards HTTP, WebSocket and gRPC, but no raw TCP"),
    ("tls", "ptth forwards HTTP, WebSocket and gRPC, but no raw TLS"),
    ("udp", "ptth forwards HTTP, WebSocket and gRPC, but no UDP"),
    ("tunnel", "write 'ptth agent 3000'"),
    ("start", "write 'ptth agent 3000'"),
    ("local", "write 'ptth agent 3000'"),
    ("client", "write 'ptth agent 3000'"),
    ("server", "write 'ptth relay'"),
    ("serve", "write 'ptth agent DIRECTORY' to serve files, or 'ptth relay' to run a relay"),
    ("authtoken", LOGIN),
    ("update", "the program that you installed ptth with updates it"),
];

/// The flags of other programs, each with what to write instead.
const FLAGS: &[(&str, &str)] = &[
    (
        "--basic-auth",
        "every user of this machine can read a password in the process list: write USER:PASSWORD into a file, and \
         give --visitor-basic FILE",
    ),
    ("--auth", "write USER:PASSWORD into a file, and give --visitor-basic FILE"),
    ("--authtoken", LOGIN),
    ("--token", LOGIN),
    ("--url", PUBLIC),
    ("--domain", PUBLIC),
    ("--hostname", PUBLIC),
    ("--cidr-allow", "write --visitor-net CIDR"),
    ("--to", "write --relay https://RELAY"),
    ("--port", "write the port alone, as in 'ptth agent 3000'"),
];

const LOGIN: &str = "every user of this machine can read a token in the process list: write 'ptth login https://RELAY', \
                     which reads the token from the terminal, or give --token-file FILE";

const PUBLIC: &str = "for https://shop.RELAY/ write --name shop; for a host of your own, which the token must allow, \
                      write --host www.example.com";

/// What to write in place of a command of another program.
pub(super) fn in_place_of_command(word: &str) -> Option<&'static str> {
    find(COMMANDS, word)
}

/// What to write in place of a flag of another program.
pub(super) fn in_place_of_flag(flag: &str) -> Option<&'static str> {
    find(FLAGS, flag.split(['=', ' ']).next().unwrap_or(flag))
}

fn find(table: &[(&str, &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(other, _)| *other == word).map(|(_, instead)| *instead)
}

/// Expands `ptth 3000` and `ptth http 3000` to `ptth agent 3000`, `ptth help COMMAND` to `ptth COMMAND --help`, and
/// `ptth version` to `ptth --version`.
pub(super) fn expanded(mut args: Vec<OsString>, commands: &Command) -> Vec<OsString> {
    let Some(first) = args.get(1).and_then(|first| first.to_str()) else { return args };
    match first {
        "http" | "https" => args[1] = "agent".into(),
        "version" => args[1] = "--version".into(),
        "help" => {
            args.remove(1);
            args.push("--help".into());
        }
        target if is_target(target) && commands.find_subcommand(target).is_none() => {
            args.insert(1, "agent".into());
        }
        _ => {}
    }
    args
}

/// Whether a word can only be a target: a port, an address, a URL or a path.
fn is_target(word: &str) -> bool {
    !word.starts_with('-') && (word == "." || word.contains([':', '/']) || word.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::*;

    fn after(line: &str) -> String {
        let args = line.split_whitespace().map(OsString::from).collect();
        let words = expanded(args, &definition()).into_iter().map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn short_forms_are_expanded() {
        for (line, expanded) in [
            ("ptth 3000", "ptth agent 3000"),
            ("ptth http 3000 --name a", "ptth agent 3000 --name a"),
            ("ptth localhost:3000", "ptth agent localhost:3000"),
            ("ptth unix:/run/app.sock", "ptth agent unix:/run/app.sock"),
            ("ptth ./site", "ptth agent ./site"),
            ("ptth .", "ptth agent ."),
            ("ptth version", "ptth --version"),
            ("ptth help", "ptth --help"),
            ("ptth help token new", "ptth token new --help"),
            ("ptth relay", "ptth relay"),
            ("ptth nonsense", "ptth nonsense"),
            ("ptth -v", "ptth -v"),
            ("ptth", "ptth"),
        ] {
            assert_eq!(after(line), expanded);
        }
    }

    #[test]
    fn no_command_and_no_flag_of_an_agent_is_answered_as_foreign() {
        let commands = definition();
        for (word, _) in COMMANDS {
            assert!(commands.find_subcommand(word).is_none(), "{word} exists");
        }
        let agent = commands.find_subcommand("agent").unwrap();
        let flags: Vec<_> = agent.get_arguments().filter_map(clap::Arg::get_long).collect();
        for (flag, _) in FLAGS {
            assert!(!flags.contains(&&flag[2..]), "{flag} exists");
        }
    }
}
