//! The directory for the state that outlives a relay process.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Failure;

/// The directory `configured`, or the default of the XDG Base Directory Specification.
pub(super) fn directory(configured: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let default = || from_environment(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"));
    configured.or_else(default).ok_or_else(|| {
        Failure::usage(
            "there is no directory for the state: neither XDG_STATE_HOME nor HOME is set; pass --state DIR",
        )
    })
}

/// The specification requires that a path that is not absolute is ignored.
fn from_environment(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(xdg).or_else(|| absolute(home).map(|home| home.join(".local/state")));
    state.map(|state| state.join("ptth"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_xdg() {
        let at = |xdg: &str, home: &str| from_environment(Some(xdg.into()), Some(home.into()));
        assert_eq!(at("/x", "/h"), Some("/x/ptth".into()));
        assert_eq!(at("", "/h"), Some("/h/.local/state/ptth".into()));
        assert_eq!(at("relative", "/h"), Some("/h/.local/state/ptth".into()));
        assert_eq!(from_environment(None, None), None);
    }
}
