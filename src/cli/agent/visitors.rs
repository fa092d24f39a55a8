//! The rules for visitors: made from flags and files, and sent to the relay.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::cli::Failure;
use crate::cli::text::{FromText, parse};
use crate::defaults;
use crate::domain::{HostName, Name, Secret};
use crate::policy::{FieldSecret, Rules, User, network};
use crate::tls::files;

/// The flags of the rules for visitors.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "visitors")]
#[command(next_help_heading = "Rules for visitors (enforced by the relay; by default, everybody may visit)")]
pub struct Args {
    /// Require a password: a file with lines of USER:PASSWORD. The relay receives only hashes, and does not forward the
    /// Authorization field
    #[arg(long, value_name = "FILE")]
    pub visitor_basic: Option<PathBuf>,
    /// Admit only visitors from this network, such as 192.0.2.0/24 or 2001:db8::/32, or from this address
    #[arg(long, value_name = "CIDR", value_parser = parse::<IpNet>)]
    pub visitor_net: Vec<IpNet>,
    /// Require a secret header field: a file with one line of FIELD: VALUE. The relay does not forward the field
    #[arg(long, value_name = "FILE")]
    pub visitor_secret_file: Option<PathBuf>,
    /// Limit the requests per second from one address
    #[arg(long, value_name = "N")]
    pub visitor_rate: Option<NonZeroU32>,
    /// Limit the requests in flight from one address
    #[arg(long, value_name = "N")]
    pub visitor_in_flight: Option<NonZeroU32>,
    /// Limit the requests per second of all visitors together
    #[arg(long, value_name = "N")]
    pub all_visitors_rate: Option<NonZeroU32>,
    /// Limit the requests in flight of all visitors together
    #[arg(long, value_name = "N")]
    pub all_visitors_in_flight: Option<NonZeroU32>,
    /// Limit the length of a request body, in bytes
    #[arg(long, value_name = "BYTES")]
    pub visitor_body: Option<u64>,
}

impl FromText for IpNet {
    fn from_text(text: &str) -> Result<Self, String> {
        network(text).map_err(str::to_owned)
    }
}

impl Args {
    /// Reads the files and makes the rules; `None` without a rule.
    ///
    /// # Errors
    /// [`Failure`] with code 2. An unreadable or empty file is an error, never the absence of a rule.
    pub fn rules(&self, names: &[Name], hosts: &[HostName]) -> Result<Option<Rules>, Failure> {
        let names = names.iter().map(ToString::to_string).chain(hosts.iter().map(ToString::to_string));
        // Agents with the same names use the same salts: with different salts, equal rules would differ at the relay.
        let salt_context: Vec<String> = names.collect();
        let rules = Rules {
            basic: self
                .visitor_basic
                .as_deref()
                .map_or(Ok(Vec::new()), |file| users(file, &salt_context.join(",")))?,
            networks: self.visitor_net.clone(),
            secret: self.visitor_secret_file.as_deref().map(secret).transpose()?,
            rate: self.all_visitors_rate,
            in_flight: self.all_visitors_in_flight,
            visitor_rate: self.visitor_rate,
            visitor_in_flight: self.visitor_in_flight,
            body: self.visitor_body,
        };
        if rules.to_string().len() > defaults::VISITORS {
            return Err(Failure::usage(format!(
                "there are too many users and networks: the rules have {} bytes, and the limit is {} bytes",
                rules.to_string().len(),
                defaults::VISITORS
            )));
        }
        Ok((rules != Rules::default()).then_some(rules))
    }
}

fn lines(file: &Path) -> Result<Vec<String>, Failure> {
    let bytes = files::read_secret(file).map_err(Failure::usage)?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::usage(format!("{}: the file is not UTF-8 text", file.display())))?;
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        Err(Failure::usage(format!("{}: the file is empty", file.display())))
    } else {
        Ok(lines)
    }
}

/// An error names the number of the line, and never its text.
fn users(file: &Path, salt_context: &str) -> Result<Vec<User>, Failure> {
    let user = |(index, line): (usize, String)| {
        let made = match line.split_once(':') {
            Some((name, password)) => User::new(name, &Secret::new(password), salt_context),
            None => Err("write USER:PASSWORD"),
        };
        made.map_err(|why| Failure::usage(format!("{}:{}: {why}", file.display(), index + 1)))
    };
    lines(file)?.into_iter().enumerate().map(user).collect()
}

fn secret(file: &Path) -> Result<FieldSecret, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{}: {why}", file.display()));
    let lines = lines(file)?;
    let [line] = &lines[..] else { return Err(wrong("write one line of FIELD: VALUE")) };
    let (field, value) = line.split_once(':').ok_or_else(|| wrong("write one line of FIELD: VALUE"))?;
    FieldSecret::new(field.trim(), value.trim()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rules(args: &Args) -> Result<Option<Rules>, Failure> {
        args.rules(&[Name::parse("shop").unwrap()], &[])
    }

    #[test]
    fn without_flags_there_are_no_rules() {
        assert_eq!(rules(&Args::default()).unwrap(), None);
    }

    #[test]
    fn rules_contain_hashes_instead_of_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let [basic, secret] = ["basic", "secret"].map(|name| dir.path().join(name));
        fs::write(&basic, "ann:hush:hush\n\nbob:quiet\r\n").unwrap();
        fs::write(&secret, "X-Edge-Key: whisper\n").unwrap();
        let args = Args { visitor_basic: Some(basic), visitor_secret_file: Some(secret), ..Args::default() };
        let made = rules(&args).unwrap().unwrap();
        let text = made.to_string();
        assert!(
            text.contains("\"ann\"") && text.contains("\"bob\"") && text.contains("x-edge-key"),
            "{text}"
        );
        for hidden in ["hush", "quiet", "whisper"] {
            assert!(!text.contains(hidden), "{text}");
        }
        assert_eq!(rules(&args).unwrap().unwrap(), made, "two agents with the same name have the same rules");
    }

    #[test]
    fn an_empty_or_malformed_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let basic = Args { visitor_basic: Some(file.clone()), ..Args::default() };
        let secret = Args { visitor_secret_file: Some(file.clone()), ..Args::default() };
        let refused = |args: &Args, text: &str| {
            let failure = rules(args).expect_err(text);
            assert!(failure.code == 2 && !failure.message.contains("hush"), "{failure}");
        };
        refused(&basic, "it is missing");
        refused(&secret, "it is missing");
        for text in ["", "\n", " \n\n", "hush", ":hush", "ann:", "ann:x\nhush", "\u{fc}:hush"] {
            fs::write(&file, text).unwrap();
            refused(&basic, text);
        }
        for text in
            ["", "\n", "hush", "X-A:", ": hush", "Host: hush", "X-A: hush\nX-B: hush", "X-A: h\u{fc}sh hush"]
        {
            fs::write(&file, text).unwrap();
            refused(&secret, text);
        }
        fs::write(&file, "ann:hush").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o622)).unwrap();
        refused(&basic, "others may write it");
    }
}
