//! WebDAV behind TLS with `--host-header`: `MOVE` and `COPY` name their destination by a URL with the host of the
//! request.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::long::is_long;
use crate::origin::Nginx;
use crate::process::Process;
use crate::site::{Agent, Site, free_port, poll};

/// The modules of Apache, and where Debian has them.
const MODULES: &str = "/usr/lib/apache2/modules";

/// An Apache of its own that serves the site's directory `dav`, with TLS.
struct Apache {
    _process: Process,
    port: u16,
}

impl Apache {
    fn start(site: &Site) -> Self {
        let at = site.at("").display().to_string().trim_end_matches('/').to_owned();
        // An Apache that root starts serves files as another user.
        for (directory, mode) in [("", 0o711), ("dav", 0o777), ("locks", 0o777)] {
            fs::create_dir_all(site.at(directory)).unwrap();
            fs::set_permissions(site.at(directory), fs::Permissions::from_mode(mode)).unwrap();
        }
        let modules = ["mpm_event", "authz_core", "dav", "dav_fs", "dir", "ssl", "socache_shmcb"];
        let load = modules.map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).concat();
        for _ in 0..5 {
            let port = free_port();
            let conf = format!(
                "{load}
                User www-data\nGroup www-data\nServerRoot {at}\nServerName localhost\nPidFile {at}/apache.pid\nDefaultRuntimeDir {at}
                Listen 127.0.0.1:{port} https\nErrorLog /dev/stderr\nLogLevel warn\n
                CustomLog {at}/locks/log \"%m %{{Host}}i %{{Destination}}i\"\nMutex file:{at}/locks
                SSLEngine on\nSSLCertificateFile {at}/certs/relay.pem\nSSLCertificateKeyFile {at}/certs/relay-key.pem
                SSLSessionCache none\nDocumentRoot {at}/dav\nDavLockDB {at}/locks/DavLock
                <Directory {at}/dav>\nDav On\nRequire all granted\n</Directory>\n"
            );
            let conf = site.write("apache.conf", conf);
            let mut command = Command::new("apache2");
            let mut process = Process::start(command.arg("-X").arg("-f").arg(conf));
            let accepts = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            if poll(|| (!process.runs()).then_some(false).or(accepts().then_some(true))) == Some(true) {
                return Self { _process: process, port };
            }
            eprintln!("{process}");
        }
        panic!("apache2 does not start; scripts/test installs it");
    }
}

#[test]
fn a_file_is_moved_and_copied_on_an_apache_behind_tls() {
    if !is_long() {
        return;
    }
    let site = Site::new();
    let apache = Apache::start(&site);
    let relay = site.relay();
    let mut command = site.agent_command(&relay.url(), format!("https://localhost:{}", apache.port));
    let agent = Agent::start(command.args(["--host-header", "rewrite"]));
    assert!(agent.process.line(1).ends_with(" answers"), "{}", agent.process);
    let url = |name: &str| format!("{}{name}", agent.url);
    let send = |method: &str, name: &str, fields: &[String]| {
        let url = url(name);
        let fields = fields.iter().flat_map(|field| ["--header", field]);
        site.curl(["--request", method, &url].into_iter().chain(fields))
    };
    let to = |name: &str| [format!("Destination: {}", url(name))];
    let put = site.curl(["--request", "PUT", "--data-binary", "a file", &url("a")]);
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(put.field("location"), url("a"));
    let moved = send("MOVE", "a", &to("b"));
    assert_eq!((moved.status, moved.field("location")), (201, &*url("b")), "{moved:?}");
    assert_eq!((send("GET", "a", &[]).status, send("GET", "b", &[]).text()), (404, "a file".into()));
    assert_eq!(send("COPY", "b", &to("c")).status, 201);
    assert_eq!(fs::read(site.at("dav/c")).unwrap(), b"a file");
    // Apache 2.4.67 ignores the host of a destination; the log shows the hosts that it receives. Another host stays.
    assert_eq!(send("MOVE", "b", &["Destination: https://else.test/d".into()]).status, 201);
    let own = format!("localhost:{}", apache.port);
    let log = fs::read_to_string(site.at("locks/log")).unwrap();
    let lines: Vec<_> =
        log.lines().filter(|line| line.starts_with("MOVE") || line.starts_with("COPY")).collect();
    let [moved, copied] = ["MOVE", "COPY"].map(|method| format!("{method} {own} https://{own}/"));
    assert_eq!(lines, [format!("{moved}b"), format!("{copied}c"), format!("MOVE {own} https://else.test/d")]);
}

/// nginx compares the host of a destination with that of the request.
#[test]
fn a_file_is_moved_on_an_nginx_behind_tls() {
    let site = Site::new();
    let [cert, key] = ["relay.pem", "relay-key.pem"].map(|name| site.at("certs").join(name));
    let dav = format!("location /dav/ {{ dav_methods PUT MOVE; root {}; }}", site.at("").display());
    site.write("dav/a", "a file");
    let nginx = Nginx::with_pair(&site, &cert, &key, &dav);
    let relay = site.relay();
    let mut command = site.agent_command(&relay.url(), format!("https://localhost:{}", nginx.tls_port));
    let agent = Agent::start(command.args(["--host-header", "rewrite"]));
    let moved = |to: &str| {
        let destination = format!("Destination: {to}");
        site.curl(["--request", "MOVE", "--header", &destination, &format!("{}dav/a", agent.url)]).status
    };
    assert_eq!(moved("https://else.test/dav/b"), 400);
    assert_eq!(moved(&format!("{}dav/b", agent.url)), 204);
    assert_eq!(fs::read(site.at("dav/b")).unwrap(), b"a file");
}
