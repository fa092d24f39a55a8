//! The file of `ptth agent --config`: several services, each with the flags of `ptth agent` as its keys.

use std::path::Path;

use clap::error::ContextKind;
use clap::{Arg, ArgAction, Args as _, Command, FromArgMatches as _, ValueHint};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ServiceArgs;
use crate::cli::Failure;
use crate::cli::file::ConfigText;

/// The table that holds the services.
pub(in crate::cli) const TABLE: &str = "service";
/// The key of a service for its target, which has no flag on the command line.
pub(in crate::cli) const TARGET: &str = "target";
/// A known key is suggested for an unknown key that is at least as similar (Jaro-Winkler, from 0 to 1).
const SIMILAR: f64 = 0.75;

/// One service of an agent.
#[derive(Debug, Clone)]
pub(in crate::cli) struct AgentService {
    /// The name in the file; `None` for the service of a command line.
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) target: String,
    pub(in crate::cli) args: ServiceArgs,
    /// The settings as words of a command line.
    words: Vec<String>,
}

impl AgentService {
    /// The service of a command line.
    pub(super) fn of_command_line(target: String, args: ServiceArgs) -> Self {
        Self { name: None, target, args, words: Vec::new() }
    }

    /// Checks the target and the files of the settings. Starts and makes nothing.
    ///
    /// # Errors
    /// [`Failure`] with code 2.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        let name = self.name.as_deref().unwrap_or_default();
        let checked = super::origin::serve(&self.target, &self.args)
            .and_then(|_| self.args.visitors.rules(&self.args.name, &self.args.host))
            .and_then(|_| self.args.approach.token());
        checked
            .map(drop)
            .map_err(|failure| Failure { message: format!("service {name}: {failure}"), ..failure })
    }

    /// Whether another version of this service has the same settings.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.target, &self.words) == (&other.target, &other.words)
    }
}

/// A key of the file, as words of a command line.
struct Setting {
    key: String,
    /// The offset of the key in the file.
    at: usize,
    words: Vec<String>,
}

/// The flags that can be keys of a service.
pub(super) fn flags() -> Vec<Arg> {
    let command = ServiceArgs::augment_args(Command::new(TABLE));
    command.get_arguments().filter(|flag| flag.get_long().is_some()).cloned().collect()
}

/// Whether the file at `path` has services, and so belongs to an agent. False for a file that cannot be read.
pub(in crate::cli) fn is_of_agent(path: &Path) -> bool {
    let Ok(config) = ConfigText::read(path) else { return false };
    DeTable::parse(&config.text).is_ok_and(|document| {
        document.get_ref().keys().any(|key| [TABLE, TARGET].contains(&key.get_ref().as_ref()))
    })
}

/// Reads the services of a file. Keys outside of a service are for every service that does not set them. Relative paths
/// start from the directory of the file.
///
/// # Errors
/// [`Failure`] with code 2, and file, line, column and fault.
pub(in crate::cli) fn load(path: &Path) -> Result<Vec<AgentService>, Failure> {
    let config = ConfigText::read(path)?;
    let document =
        DeTable::parse(&config.text).map_err(|error| config.malformed(&error, "ptth agent --help"))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let reader = ServiceReader { config: &config, flags: flags(), base };
    let (mut shared, mut tables) = (Vec::new(), Vec::new());
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            (TABLE, DeValue::Table(services)) => tables.extend(services),
            (TABLE, _) => return Err(config.fault(key.span().start, "write [service.NAME]")),
            (TARGET, _) => {
                return Err(config.fault(key.span().start, "a target belongs below [service.NAME]"));
            }
            _ => shared.push(reader.setting(key, value)?),
        }
    }
    let mut services = Vec::new();
    for (name, table) in tables {
        let DeValue::Table(keys) = table.get_ref() else {
            return Err(config.fault(name.span().start, format_args!("write [service.{}]", name.get_ref())));
        };
        let service = reader.service(name, keys, &shared)?;
        reader.check_names(name, &service, &services)?;
        services.push(service);
    }
    match services.is_empty() {
        true => {
            Err(config.fault(0, "the file has no service: write [service.NAME], and target = 3000 below it"))
        }
        false => Ok(services),
    }
}

struct ServiceReader<'a> {
    config: &'a ConfigText<'a>,
    flags: Vec<Arg>,
    base: &'a Path,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl ServiceReader<'_> {
    fn service(
        &self,
        name: &Key<'_>,
        keys: &DeTable<'_>,
        shared: &[Setting],
    ) -> Result<AgentService, Failure> {
        let (at, name) = (name.span().start, name.get_ref().to_string());
        let (mut own, mut target) = (Vec::new(), None);
        for (key, value) in keys {
            match key.get_ref().as_ref() {
                TARGET => target = Some(self.target(value)?),
                _ => own.push(self.setting(key, value)?),
            }
        }
        let target = target.ok_or_else(|| {
            self.config.fault(at, format_args!("the service {name} has no target: write target = 3000"))
        })?;
        let is_own = |shared: &&Setting| own.iter().any(|own| own.key == shared.key);
        let settings: Vec<_> = own.iter().chain(shared.iter().filter(|shared| !is_own(shared))).collect();
        let words: Vec<String> = settings.iter().flat_map(|setting| setting.words.clone()).collect();
        let command = ServiceArgs::augment_args(Command::new(TABLE).no_binary_name(true));
        // PTTH_NAME would give every service the same name.
        let command = command.mut_arg("name", |name| name.env(None));
        let parsed =
            command.try_get_matches_from(&words).and_then(|matches| ServiceArgs::from_arg_matches(&matches));
        let args = parsed.map_err(|error| self.wrong_value(&name, at, &settings, &error))?;
        Ok(AgentService { name: Some(name), target, args, words })
    }

    /// An error of clap, at the key that it is about.
    fn wrong_value(&self, name: &str, at: usize, settings: &[&Setting], error: &clap::Error) -> Failure {
        let about = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
        let about = about.split([' ', '=']).next().unwrap_or_default().trim_start_matches("--");
        let at = settings.iter().find(|setting| setting.key == about).map_or(at, |setting| setting.at);
        let text = error.render().to_string();
        let fault = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        self.config.fault(at, format_args!("service {name}: {fault}"))
    }

    /// Two services with one name would share its requests.
    fn check_names(
        &self,
        at: &Key<'_>,
        service: &AgentService,
        before: &[AgentService],
    ) -> Result<(), Failure> {
        for name in &service.args.name {
            let Some(other) = before.iter().find(|other| other.args.name.contains(name)) else { continue };
            let other = other.name.as_deref().unwrap_or_default();
            let fault = format!("the services {other} and {} both have the name {name}", at.get_ref());
            return Err(self.config.fault(at.span().start, fault));
        }
        Ok(())
    }

    fn setting(&self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<Setting, Failure> {
        let (at, key) = (key.span().start, key.get_ref().to_string());
        let Some(flag) = self.flags.iter().find(|flag| flag.get_long() == Some(&*key)) else {
            let nearest =
                self.nearest(&key).map_or(String::new(), |known| format!("; did you mean {known}?"));
            return Err(self.config.fault(at, format_args!("there is no key {key}{nearest}")));
        };
        let words = words(flag, value.get_ref(), self.base)
            .map_err(|why| self.config.fault(value.span().start, format_args!("{key}: {why}")))?;
        Ok(Setting { key, at, words })
    }

    fn nearest(&self, key: &str) -> Option<&str> {
        let known = self.flags.iter().filter_map(Arg::get_long).chain([TARGET]);
        let similar = known.map(|known| (strsim::jaro_winkler(known, key), known));
        let (similarity, known) = similar.max_by(|one, other| one.0.total_cmp(&other.0))?;
        (similarity >= SIMILAR).then_some(known)
    }

    /// A path to a directory starts from the directory of the file.
    fn target(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Failure> {
        let text = scalar(value.get_ref())
            .map_err(|why| self.config.fault(value.span().start, format_args!("{TARGET}: {why}")))?;
        match text.starts_with('.') {
            true => Ok(self.base.join(text).display().to_string()),
            false => Ok(text),
        }
    }
}

/// The words of a flag with this value.
fn words(flag: &Arg, value: &DeValue<'_>, base: &Path) -> Result<Vec<String>, &'static str> {
    let long = flag.get_long().unwrap_or_default();
    if !flag.get_action().takes_values() {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{long}")]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            _ => Err("write true or false"),
        };
    }
    let texts = match value {
        DeValue::Array(all) if all.is_empty() => {
            return Err("an empty list is not allowed; leave the key out to use the default");
        }
        DeValue::Array(all) if is_list(flag) => {
            all.iter().map(|one| scalar(one.get_ref())).collect::<Result<_, _>>()?
        }
        DeValue::Array(_) => return Err("write one value"),
        one => vec![scalar(one)?],
    };
    Ok(texts.into_iter().map(|text| format!("--{long}={}", from_base(flag, text, base))).collect())
}

/// The value, with a relative path in it from the directory `base`.
fn from_base(flag: &Arg, text: String, base: &Path) -> String {
    let form = flag.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match (flag.get_value_hint(), text.split_once('=')) {
        (ValueHint::AnyPath, _) if text != "-" => base.join(text).display().to_string(),
        (_, Some((prefix, target))) if form == "PREFIX=TARGET" && target.starts_with('.') => {
            format!("{prefix}={}", base.join(target).display())
        }
        _ if form.ends_with("@FILE") && text.starts_with('@') => {
            format!("@{}", base.join(&text[1..]).display())
        }
        _ => text,
    }
}

/// Whether a flag can be given several times.
pub(super) fn is_list(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Append)
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        _ => Err("write a text in quotes, or a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_from_the_directory_of_the_file() {
        let flags = flags();
        for (key, value, expected) in [
            ("ca", "ca.pem", "/base/ca.pem"),
            ("ca", "/etc/ca.pem", "/etc/ca.pem"),
            ("token-file", "-", "-"),
            ("path", "/docs=./site", "/docs=/base/./site"),
            ("path", "/api=3001", "/api=3001"),
            ("request-header", "@edits", "@/base/edits"),
            ("request-header", "X-A: @b", "X-A: @b"),
            ("name", "./shop", "./shop"),
        ] {
            let flag = flags.iter().find(|flag| flag.get_long() == Some(key)).unwrap();
            assert_eq!(from_base(flag, value.to_owned(), Path::new("/base")), expected, "{key}");
        }
    }
}
