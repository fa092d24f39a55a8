//! An origin that writes down what reaches it, and answers whatever a strict reader understands.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use ptth::internals::agent::origin::{Origin, OriginTarget};
use ptth::internals::net::Scope;
use ptth::internals::session::Handler;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::strict::{self, Request};

/// What came over a connection.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// A whole request, well formed.
    Whole(Request),
    /// The start of one, and then the connection ended.
    Cut,
    /// What an origin would have to refuse.
    Malformed(String),
}

/// See the module.
pub(crate) struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    scope: Scope,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (scope, seen) = (Scope::new(), Arc::new(Mutex::new(Vec::new())));
        let (owner, log) = (scope.clone(), seen.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                owner.spawn(record(stream, log.clone()));
            }
        });
        Self { address, seen, scope }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an agent serves to reach it.
    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        let target = OriginTarget::parse(&format!("http://{}", self.address)).unwrap();
        Origin::new(target, Scope::new(), ptth::internals::tls::client_config_for_none().unwrap())
    }

    /// Everything so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// The whole requests so far; anything malformed is a failure.
    pub(crate) fn whole(&self) -> Vec<Request> {
        let whole = |seen| match seen {
            Seen::Whole(request) => Some(request),
            Seen::Cut => None,
            Seen::Malformed(why) => panic!("the origin received a malformed request: {why}"),
        };
        self.seen().into_iter().filter_map(whole).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.scope.abort();
    }
}

async fn record(mut stream: TcpStream, log: Arc<Mutex<Vec<Seen>>>) {
    let _ = stream.set_nodelay(true);
    let mut read = Vec::new();
    loop {
        match strict::request(&read) {
            Ok(Some((request, taken))) => {
                read.drain(..taken);
                log.lock().push(Seen::Whole(request));
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                    return;
                }
            }
            Ok(None) => match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) if read.is_empty() => return,
                Ok(0) | Err(_) => {
                    return log.lock().push(Seen::Cut);
                }
                Ok(_) => {}
            },
            Err(why) => {
                let text = String::from_utf8_lossy(&read).into_owned();
                log.lock().push(Seen::Malformed(format!("{why} in {text:?}")));
                let _ = stream
                    .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    .await;
                return;
            }
        }
    }
}
