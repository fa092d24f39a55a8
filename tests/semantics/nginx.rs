//! nginx in the place of relay and agent.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;

use crate::process::Process;
use crate::site::{free_port, program};
use crate::support::relay::certs;
use crate::support::{Front, named};
use crate::world::{Before, FRONT, Speaks};

/// As a careful person writes it who wants HTTP to pass, with room for as many fields as the relay has.
pub(crate) const SERVER: &str = "    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    upstream origin { server ORIGIN; keepalive 16; }
    server {
        listen PLAIN;
        listen TLS ssl http2;
        server_name HOST;
        ssl_certificate DIR/cert.pem;
        ssl_certificate_key DIR/key.pem;
        client_max_body_size 0;
        large_client_header_buffers 16 16k;
        location / {
            PASS
        }
    }";

/// How requests go on.
pub(crate) const PASS: &str = "proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_buffer_size 128k;
            proxy_buffers 4 128k;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_pass_header Server;
            proxy_pass_header Date;";

/// How calls of gRPC go on.
pub(crate) const PASS_CALLS: &str = "grpc_pass grpc://origin;";

/// See the module.
pub(crate) struct Nginx {
    pub(crate) front: Front,
    process: Process,
    _dir: tempfile::TempDir,
}

/// An address that no other nginx here was given: between the look whether it is free and its use is some time.
fn address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    let fresh = std::iter::repeat_with(free_port).find(|port| given.insert(*port)).unwrap();
    SocketAddr::from(([127, 0, 0, 1], fresh))
}

impl Nginx {
    pub(crate) fn start(origin: SocketAddr, before: Before, speaks: Speaks) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display().to_string();
        let plain = address();
        let front = Front { plain, tls: address(), proxies: plain };
        let (listens, more) = match before {
            Before::Nobody => ("", String::new()),
            Before::Proxy => ("", "real_ip_header X-Forwarded-For; real_ip_recursive on;".to_owned()),
            Before::Balancer => (" proxy_protocol", "real_ip_header proxy_protocol;".to_owned()),
        };
        let pass = if speaks == Speaks::Http1 { PASS } else { PASS_CALLS };
        let server = SERVER
            .replace("PASS", pass)
            .replace("PLAIN", &format!("{}{listens}", front.plain))
            .replace("TLS", &front.tls.to_string())
            .replace("ORIGIN", &origin.to_string())
            .replace("HOST", &named("*"))
            .replace("DIR", &at);
        let more = if more.is_empty() { more } else { format!("set_real_ip_from {FRONT}; {more}") };
        let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temps = temps.map(|what| format!("{what}_temp_path {at}/{what};")).join(" ");
        let settings = format!(
            "user root root; daemon off; worker_processes 1; worker_shutdown_timeout 1s; pid {at}/pid;\n\
             error_log stderr notice; events {{}}\nhttp {{\n    access_log off; {temps}\n    {more}\n{server}\n}}\n"
        );
        let pair = &certs().relay;
        fs::write(dir.path().join("cert.pem"), &pair.cert).unwrap();
        fs::write(dir.path().join("key.pem"), &pair.key).unwrap();
        fs::write(dir.path().join("nginx.conf"), settings).unwrap();
        let mut command = Command::new(program("nginx"));
        let file = dir.path().join("nginx.conf");
        let process =
            Process::start(command.arg("-p").arg(dir.path()).arg("-c").arg(file).args(["-e", "stderr"]));
        // Its sockets are open by then.
        process.logs("start worker process ");
        Self { front, process, _dir: dir }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.end();
    }
}
