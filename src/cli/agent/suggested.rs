//! The name of an agent that requests none: random and pronounceable, and the same for the same target.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rand::seq::IndexedRandom as _;

use crate::agent::origin::OriginTarget;
use crate::cli::{Failure, state};
use crate::domain::Name;
use crate::tls::files::{self, FileError};

/// The file with one line for each target: `NAME TARGET`.
const FILE: &str = "agent-names";
/// The most targets that are kept; the oldest is forgotten.
const MOST: usize = 256;

const CONSONANTS: &[u8] = b"bdfgklmnprstvz";
const VOWELS: &[u8] = b"aeiou";

/// The kept name for this target, or a new name that is kept from now on. A name that cannot be kept is used all the
/// same, and the failure is logged.
pub(in crate::cli) fn suggested(state: Option<PathBuf>, target: &OriginTarget) -> Name {
    let text = match target {
        OriginTarget::Directory(path) => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        target => target.to_string(),
    };
    let kept = state::directory(state).and_then(|state| load_or_make(&state, &text));
    kept.unwrap_or_else(|failure| {
        tracing::warn!(
            "the name for this target cannot be kept, and is another at the next start: {failure}"
        );
        random()
    })
}

fn load_or_make(state: &Path, target: &str) -> Result<Name, Failure> {
    let file = state.join(FILE);
    let text = match files::read(&file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::failed(error)),
    };
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let known = lines.iter().find(|(_, of)| *of == target).and_then(|(name, _)| Name::parse(name).ok());
    if let Some(name) = known {
        return Ok(name);
    }
    let name = random();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
    made.map_err(|error| Failure::failed(format!("cannot make {}: {error}", state.display())))?;
    let oldest = (lines.len() + 1).saturating_sub(MOST);
    let kept = lines[oldest..].iter().filter(|(_, of)| *of != target);
    let mut text: String = kept.map(|(name, of)| format!("{name} {of}\n")).collect();
    text.push_str(&format!("{name} {target}\n"));
    files::replace(&file, 0o600, text.as_bytes()).map_err(Failure::failed)?;
    Ok(name)
}

/// Three syllables, a hyphen and two syllables: 1.6 thousand million names.
pub(in crate::cli) fn random() -> Name {
    let mut rng = rand::rng();
    let mut letter = |from: &[u8]| from.choose(&mut rng).map_or('a', |letter| char::from(*letter));
    let mut text = String::new();
    for syllable in 0..5 {
        text.push_str(if syllable == 3 { "-" } else { "" });
        text.extend([letter(CONSONANTS), letter(VOWELS)]);
    }
    // Letters and a single hyphen inside always form a name.
    Name::parse(&text).unwrap_or_else(|_| random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = load_or_make(&state, "http://localhost:3000").unwrap();
        let other = load_or_make(&state, "the files of /a b").unwrap();
        assert_ne!(first, other);
        assert_eq!(load_or_make(&state, "http://localhost:3000").unwrap(), first);
        assert_eq!(load_or_make(&state, "the files of /a b").unwrap(), other);
        for number in 0..MOST {
            load_or_make(&state, &number.to_string()).unwrap();
        }
        let text = std::fs::read_to_string(state.join(FILE)).unwrap();
        assert_eq!(text.lines().count(), MOST);
        assert_ne!(load_or_make(&state, "http://localhost:3000").unwrap(), first, "the oldest is forgotten");
    }

    #[test]
    fn a_random_name_can_be_pronounced() {
        let name = random();
        assert!(name.as_str().len() == 11 && name.as_str().as_bytes()[6] == b'-', "{name}");
        assert_ne!(name, random());
    }
}
