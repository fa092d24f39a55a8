//! Real boxes in front of a relay: TLS ends in them, and each has its own idea of what HTTP is for.

use std::fs;
use std::process::Command;

use crate::holder::{Buffering, buffering_proxy};
use crate::process::Process;
use crate::site::{Site, free_port, program};

/// A box, and the relay's address behind it.
pub(crate) struct Middlebox {
    process: Process,
    port: u16,
    /// Writes its configuration with these rules.
    write: Box<dyn Fn(&str)>,
    /// What makes it read its configuration again, and what it says then.
    reload: (&'static str, &'static str),
}

impl Middlebox {
    /// What an agent is given as its relay.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Gives it other rules, and waits until they hold.
    pub(crate) fn change_rules(&self, rules: &str) {
        (self.write)(rules);
        let (signal, word) = self.reload;
        let before = self.process.count(word);
        self.process.signal(signal);
        self.process.logs_again(word, before);
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.process.end();
    }
}

/// nginx as its packages have it, with a `proxy_pass`, and with more `rules` at that place.
pub(crate) fn nginx(site: &Site, rules: &str) -> Middlebox {
    let port = free_port();
    let dir = site.at(&format!("nginx-{port}"));
    fs::create_dir(&dir).unwrap();
    let (relay, at) = (site.port, dir.display().to_string());
    let (cert, key) = (site.at("certs/relay.pem"), site.at("certs/relay-key.pem"));
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temps = temps.map(|what| format!("{what}_temp_path {at}/{what};")).join(" ");
    let file = dir.join("nginx.conf");
    let name = file.clone();
    let write = move |rules: &str| {
        let (cert, key) = (cert.display(), key.display());
        let conf = format!(
            "user root root; daemon off; worker_processes 1; worker_shutdown_timeout 1s;
            pid {at}/pid; error_log stderr notice; events {{}}
            http {{
                access_log off; {temps}
                server {{
                    listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
                    location / {{
                        proxy_pass http://127.0.0.1:{relay}; proxy_set_header Host $http_host;
                        {rules}
                    }}
                }}
            }}"
        );
        fs::write(&name, conf).unwrap();
    };
    write(rules);
    let mut command = Command::new(program("nginx"));
    let process = Process::start(command.arg("-p").arg(&dir).arg("-c").arg(&file).args(["-e", "stderr"]));
    // Its sockets are open by then.
    let reload = ("HUP", "start worker process ");
    process.logs(reload.1);
    Middlebox { process, port, write: Box::new(write), reload }
}

/// What has nginx let Upgrades through, as its manual tells.
pub(crate) const UPGRADE_PASSES: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                                         proxy_set_header Connection $http_connection;";

/// haproxy, whose `rules` stand where requests come in; with its `timeout` for whatever is silent.
pub(crate) fn haproxy(site: &Site, timeout: &str, rules: &str) -> Middlebox {
    let port = free_port();
    let dir = site.at(&format!("haproxy-{port}"));
    fs::create_dir(&dir).unwrap();
    let both = dir.join("both.pem");
    let part = |name: &str| fs::read_to_string(site.at(name)).unwrap();
    fs::write(&both, part("certs/relay.pem") + &part("certs/relay-key.pem")).unwrap();
    let (relay, timeout, file) = (site.port, timeout.to_owned(), dir.join("haproxy.cfg"));
    let name = file.clone();
    let write = move |rules: &str| {
        let both = both.display();
        let conf = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client {timeout}\n timeout server {timeout}\n \
             timeout tunnel {timeout}\nfrontend in\n bind 127.0.0.1:{port} ssl crt {both}\n {rules}\n \
             default_backend relay\nbackend relay\n server relay 127.0.0.1:{relay}\n"
        );
        fs::write(&name, conf).unwrap();
    };
    write(rules);
    let process = Process::start(Command::new(program("haproxy")).args(["-W", "-db", "-f"]).arg(&file));
    let reload = ("USR2", "Loading success");
    process.logs(reload.1);
    Middlebox { process, port, write: Box::new(write), reload }
}

/// For requests that ask for an Upgrade, in haproxy's language.
pub(crate) const IF_UPGRADE: &str = "if { req.hdr(upgrade) -m found }";

/// Our own box that holds bodies; what an agent is given as its relay.
pub(crate) fn holding(site: &Site, holds: Buffering) -> String {
    let part = |name: &str| fs::read(site.at(name)).unwrap();
    let (cert, key) = (part("certs/relay.pem"), part("certs/relay-key.pem"));
    let tls = ptth::internals::tls::server_config_from_pem(&cert, &key, &[]).unwrap();
    format!("https://localhost:{}", buffering_proxy(site.port, tls, holds))
}
