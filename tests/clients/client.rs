//! The clients, and how each is started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::site::{Relay, Site};

/// A client, with the application that the tests serve by it.
#[derive(Clone, Copy)]
pub(crate) enum Client {
    Js,
    /// Node.js 18, which Debian 12 ships.
    Js18,
    Deno,
    Wsgi,
    Flask,
    Django,
    Handler,
    Shell,
}

impl Client {
    /// Its command line, as the agent of `shop` at a relay.
    pub(crate) fn command(self, site: &Site, relay: &str, token: &str) -> Command {
        let mut command = match self {
            Self::Js | Self::Js18 => {
                let mut command = match self {
                    Self::Js18 => Command::new(installed("npm/node_modules/node/bin/node")),
                    _ => Command::new("node"),
                };
                command.arg(file("tests/clients/app.mjs")).arg(relay);
                command.env("NODE_EXTRA_CA_CERTS", site.ca());
                command
            }
            Self::Deno => {
                let mut command = Command::new(installed("npm/node_modules/deno/deno"));
                command.args([
                    "run",
                    "--quiet",
                    "--no-config",
                    "--allow-net",
                    "--allow-env",
                    "--allow-read",
                    "--cert",
                ]);
                command.arg(site.ca()).arg(file("tests/clients/app.mjs")).arg(relay);
                command
            }
            Self::Wsgi => python(site, relay, "app:app", file("clients/python/ptth.py")),
            Self::Handler => python(site, relay, "app:Handler", file("clients/python/ptth.py")),
            Self::Flask => framework(site, relay, "flask_app:app"),
            Self::Django => framework(site, relay, "django_app:app"),
            Self::Shell => {
                let mut command = shell();
                command.args([relay, "shop"]).arg(file("tests/clients/handler.sh"));
                command.env("CURL_CA_BUNDLE", site.ca());
                command
            }
        };
        command.env("PTTH_TOKEN", token);
        command
    }

    /// Starts it; with its public URL, once it is registered.
    pub(crate) fn start(self, site: &Site, relay: &str) -> (Process, String) {
        let process = Process::start(&mut self.command(site, relay, &token(site)));
        let url = process.line(0);
        (process, url)
    }
}

/// A file of this repository.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The token for `shop`.
pub(crate) fn token(site: &Site) -> String {
    std::fs::read_to_string(site.at("token")).unwrap().trim().to_owned()
}

/// Where agents reach a relay that listens without TLS.
pub(crate) fn plain(relay: &Relay) -> String {
    format!("http://127.0.0.1:{}", relay.port)
}

/// What `scripts/test` has installed below the target directory.
pub(crate) fn installed(path: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| file("target"), PathBuf::from);
    let found = target.join(path);
    assert!(found.exists(), "{} is missing: scripts/test installs it", found.display());
    found
}

fn python(site: &Site, relay: &str, app: &str, script: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).args([app, "--relay", relay, "--name", "shop", "--ca"]);
    command.arg(site.ca()).current_dir(file("tests/clients")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// As a module, beside an application that needs a package.
fn framework(site: &Site, relay: &str, app: &str) -> Command {
    let mut command = python(site, relay, app, "-mptth");
    let path = std::env::join_paths([file("clients/python"), installed("python")]).unwrap();
    command.env("PYTHONPATH", path);
    command
}

/// The script, in a shell that can be interrupted even where whoever started the tests cannot.
pub(crate) fn shell() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "sh"]).arg(file("clients/curl/serve.sh"));
    command
}
