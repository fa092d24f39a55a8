//! The source of an agent's token: a file, stdin or the environment, never the command line.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use crate::cli::Failure;
use crate::domain::Secret;
use crate::tls::files;

/// The limit for a token in bytes, far above the length of any token.
const MOST: u64 = 4096;

/// Reads the token. A file takes precedence over the environment. `None` is for relays that require no token.
pub(in crate::cli) fn read(
    file: Option<&Path>,
    environment: Option<OsString>,
) -> Result<Option<Secret>, Failure> {
    match (file, environment) {
        (Some(file), _) if file == Path::new("-") => from_reader(std::io::stdin().lock()).map(Some),
        (Some(file), _) => {
            let unusable = |error| Failure::usage(format!("the token file of --token-file: {error}"));
            let bytes = files::read_secret(file).map_err(unusable)?;
            clean(&bytes, &file.display().to_string()).map(Some)
        }
        (None, Some(text)) => clean(text.as_encoded_bytes(), "PTTH_TOKEN").map(Some),
        (None, None) => Ok(None),
    }
}

fn from_reader(reader: impl Read) -> Result<Secret, Failure> {
    let mut bytes = Vec::new();
    let read = reader.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed(format!("cannot read the token from stdin: {error}")))?;
    clean(&bytes, "stdin")
}

/// The token in `bytes`, which may end with one line end. The token must fit in a header field. An error never repeats
/// the token.
pub(super) fn clean(bytes: &[u8], origin: &str) -> Result<Secret, Failure> {
    let token = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let token = token.strip_suffix(b"\r").unwrap_or(token);
    if token.is_empty() {
        return Err(Failure::usage(format!(
            "{origin} holds no token: it is empty; make a token with ptth token new"
        )));
    }
    match std::str::from_utf8(token) {
        Ok(text) if bytes.len() as u64 <= MOST && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Secret::new(text))
        }
        _ => Err(Failure::usage(format!(
            "{origin} holds no token: a token is one word, as ptth token new prints it"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_line_end_is_removed() {
        for text in ["ptth_a_b", "ptth_a_b\n", "ptth_a_b\r\n"] {
            assert_eq!(from_reader(text.as_bytes()).unwrap().expose(), "ptth_a_b");
        }
    }

    #[test]
    fn an_error_does_not_repeat_an_invalid_token() {
        let long = "x".repeat(5000);
        for text in ["", "\n", "hush hush", "hush\n\n", " hush", "h\u{fc}sh", "hush\n#", &long] {
            let failure = from_reader(text.as_bytes()).unwrap_err();
            assert!(failure.code == 2 && !failure.message.contains("hush"), "{failure}");
        }
        let failure = from_reader(&b"\xff\xfe"[..]).unwrap_err();
        assert_eq!(failure.code, 2);
    }

    #[test]
    fn a_file_overrides_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "from-file\n").unwrap();
        let token = |file, env: Option<&str>| {
            read(file, env.map(Into::into)).map(|token| token.map(|token| token.expose().to_owned()))
        };
        assert_eq!(token(Some(&file), Some("from-env")).unwrap().as_deref(), Some("from-file"));
        assert_eq!(token(None, Some("from-env")).unwrap().as_deref(), Some("from-env"));
        assert_eq!(token(None, None).unwrap(), None);
        assert!(token(None, Some("")).unwrap_err().message.contains("PTTH_TOKEN"));
        assert_eq!(token(Some(&directory.path().join("none")), Some("from-env")).unwrap_err().code, 2);
    }
}
