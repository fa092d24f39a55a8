//! Services behind the agent: nginx, and a small service whose answers a test can delay.

use std::path::Path as FilePath;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State, WebSocketUpgrade, ws};
use axum::response::Response;
use axum::routing::get;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::process::Process;
use crate::site::{Site, free_port, poll};

/// An nginx of its own, with its files in the site's `www`.
pub(crate) struct Nginx {
    _process: Process,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
}

impl Nginx {
    /// Starts it; it also listens on the unix socket `nginx.sock` of the site.
    pub(crate) fn start(site: &Site) -> Self {
        site.write("www/index.html", "the front page\n");
        Self::with(site, "nginx", |port, tls_port| server(site, port, tls_port))
    }

    /// Starts it with this certificate and key, and more settings of its server. It logs requests to `access.log`.
    pub(crate) fn with_pair(site: &Site, cert: &FilePath, key: &FilePath, settings: &str) -> Self {
        let log = site.write("access.log", "");
        Self::with(site, "pair", |port, tls_port| {
            let more = format!(
                "ssl_certificate {}; ssl_certificate_key {}; access_log {}; {settings}",
                cert.display(),
                key.display(),
                log.display()
            );
            server(site, port, tls_port).replacen("server {", &format!("server {{ {more}"), 1)
        })
    }

    /// Starts it as a front proxy of a relay that listens on the port `relay`, without TLS between them.
    pub(crate) fn before(site: &Site, relay: u16) -> Self {
        Self::with(site, "front", |port, tls_port| front(port, tls_port, relay))
    }

    fn with(site: &Site, name: &str, server: impl Fn(u16, u16) -> String) -> Self {
        for _ in 0..5 {
            let (port, tls_port) = (free_port(), free_port());
            let _ = std::fs::remove_file(site.at("nginx.sock"));
            let conf = site.write(&format!("{name}.conf"), conf(site, name, &server(port, tls_port)));
            let mut command = Command::new("nginx");
            command.arg("-p").arg(site.at("")).arg("-c").arg(conf).args(["-e", "stderr"]);
            let mut process = Process::start(&mut command);
            let accepts = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            // Another process may have taken the port meanwhile: then nginx ends, and is started with another port.
            if poll(|| (!process.runs()).then_some(false).or(accepts().then_some(true))) == Some(true) {
                return Self { _process: process, port, tls_port };
            }
            eprintln!("{process}");
        }
        panic!("nginx does not start; scripts/test installs it");
    }
}

fn conf(site: &Site, name: &str, server: &str) -> String {
    let dir = site.at("").display().to_string();
    let temp = |kind: &str| format!("{kind}_temp_path {dir}/{name}-{kind};");
    let temps = ["proxy", "fastcgi", "uwsgi", "scgi"].map(temp).join(" ");
    format!(
        "daemon off; master_process off; pid {dir}/{name}.pid; events {{}}
        http {{
            access_log off; {temps} client_body_temp_path {dir}/bodies; client_max_body_size 0;
            default_type application/octet-stream; ssl_certificate {dir}/certs/relay.pem;
            ssl_certificate_key {dir}/certs/relay-key.pem;
            {server}
        }}"
    )
}

/// The proxy settings of nginx's manual. `Forwarded`, which nginx does not write, is removed.
fn front(port: u16, tls_port: u16, relay: u16) -> String {
    format!(
        "server {{
            listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl http2;
            location / {{
                proxy_pass http://127.0.0.1:{relay}; proxy_http_version 1.1; proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Forwarded \"\";
            }}
        }}"
    )
}

fn server(site: &Site, port: u16, tls_port: u16) -> String {
    let dir = site.at("").display().to_string();
    format!(
        "server {{
            listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl; listen unix:{dir}/nginx.sock; root {dir}/www;
            location = /seen {{
                default_type text/plain; add_header X-Origin nginx;
                return 200 \"$request_method $request_uri $host $http_x_forwarded_proto $http_x_mine $https\\n\";
            }}
            location = /sender {{
                default_type text/plain;
                return 200 \"$http_x_forwarded_for | $http_x_forwarded_proto | $http_forwarded\";
            }}
            location = /upload {{
                client_body_in_file_only on; proxy_pass http://127.0.0.1:{port}/took;
                proxy_set_header X-Body-File $request_body_file;
            }}
            location = /broken {{ return 502; }}
            location = /took {{ default_type text/plain; return 200 $http_x_body_file; }}
        }}"
    )
}

/// A service whose `/wait/WORD` answers with the word once the test opens the gate, and whose `/ws` echoes messages.
pub(crate) struct GatedService {
    pub(crate) port: u16,
    arrived: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Gate {
    arrived: Arc<AtomicUsize>,
    open: watch::Receiver<bool>,
}

impl GatedService {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, receiver) = watch::channel(false);
        let arrived = Arc::new(AtomicUsize::new(0));
        let gate = Gate { arrived: arrived.clone(), open: receiver };
        let app = Router::new().route("/wait/{word}", get(wait)).route("/ws", get(echo)).with_state(gate);
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { port, arrived, open, _runtime: runtime }
    }

    /// Waits until so many requests have arrived.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        let all = poll(|| (self.arrived.load(Ordering::SeqCst) >= count).then_some(()));
        assert!(all.is_some(), "{} of {count} requests arrived", self.arrived.load(Ordering::SeqCst));
    }

    /// Answers the waiting requests, and from now on each request at once.
    pub(crate) fn open_gate(&self) {
        self.open.send_replace(true);
    }
}

async fn wait(State(mut gate): State<Gate>, Path(word): Path<String>) -> String {
    gate.arrived.fetch_add(1, Ordering::SeqCst);
    let _ = gate.open.wait_for(|open| *open).await;
    word
}

pub(crate) async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            let is_data = matches!(message, ws::Message::Text(_) | ws::Message::Binary(_));
            if is_data && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}
