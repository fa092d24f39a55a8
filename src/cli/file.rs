//! Reads configuration files (TOML). An error is one line.

use std::fmt::Display;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use crate::tls::files;

use super::Failure;

/// The text of a file, whose errors name their place.
pub(super) struct ConfigText<'a> {
    path: &'a Path,
    pub(super) text: String,
}

impl<'a> ConfigText<'a> {
    /// # Errors
    /// [`Failure`] with code 2 when the file cannot be read.
    pub(super) fn read(path: &'a Path) -> Result<Self, Failure> {
        let bytes = files::read(path).map_err(Failure::usage)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::usage(format!(
                "{}: the file is not UTF-8 text; check the path of the file",
                path.display()
            ))
        })?;
        Ok(Self { path, text })
    }

    /// A fault at the byte `offset`.
    pub(super) fn fault(&self, offset: usize, fault: impl Display) -> Failure {
        let (line, column) = position(&self.text, offset);
        Failure::usage(format!("{}:{line}:{column}: {fault}", self.path.display()))
    }

    /// A fault of the form of the file. `help` is the command that lists the keys.
    pub(super) fn malformed(&self, error: &toml::de::Error, help: &str) -> Failure {
        let fault = error.message();
        let is_clear = fault.contains("expected") || fault.contains("write ");
        let advice = if is_clear { String::new() } else { format!("; see {help}") };
        self.fault(error.span().map_or(0, |span| span.start), format_args!("{fault}{advice}"))
    }
}

/// Reads a file of keys. Those in `keys` are the settings of the second type, all others those of the first. (With
/// `serde(flatten)`, errors would have no position.)
pub(super) fn load<T: DeserializeOwned, U: DeserializeOwned>(
    path: &Path,
    keys: &[String],
) -> Result<(T, U), Failure> {
    let config = ConfigText::read(path)?;
    let failure = |error| config.malformed(&error, "ptth relay --help");
    let document = DeTable::parse(&config.text).map_err(failure)?;
    let span = document.span();
    let is_second = |key: &str| keys.iter().any(|second| second == key);
    let (second, first): (DeTable<'_>, DeTable<'_>) =
        document.into_inner().into_iter().partition(|(key, _)| is_second(key.get_ref()));
    let source = |table| Deserializer::from(Spanned::new(span.clone(), table));
    let first = T::deserialize(source(first)).map_err(failure)?;
    Ok((first, U::deserialize(source(second)).map_err(failure)?))
}

/// Line and column of the byte at `offset`, both from 1. The column counts characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_one_and_in_characters() {
        assert_eq!(position("a = 1\nü = 2", 0), (1, 1));
        assert_eq!(position("a = 1\nü = 2", 6), (2, 1));
        assert_eq!(position("a = 1\nü = 2", 9), (2, 3));
        assert_eq!(position("a", 99), (1, 2));
    }
}
