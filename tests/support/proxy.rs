//! The network between agent and relay. It forwards TCP connections, cuts them, redirects them, or drops their packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use ptth::internals::net::splice::splice;
use ptth::internals::net::{Scope, WatchedStream};
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::QUIET;

/// A filter program that takes no packet (`BPF_RET | BPF_K`, length 0).
const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// See the module.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    scope: Scope,
}

struct State {
    target: Mutex<SocketAddr>,
    cut: Mutex<CancellationToken>,
    frozen: Mutex<CancellationToken>,
    accepted: AtomicUsize,
    carried: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: Mutex::new(target),
            cut: Mutex::default(),
            frozen: Mutex::default(),
            accepted: AtomicUsize::new(0),
            carried: AtomicUsize::new(0),
        });
        let scope = Scope::new();
        let (owner, shared) = (scope.clone(), state.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                owner.spawn(shared.clone().forward(stream));
            }
        });
        Self { address, state, scope }
    }

    /// The number of connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// The number of bytes from the relay to the agent so far.
    pub(crate) fn carried(&self) -> usize {
        self.state.carried.load(Ordering::Relaxed)
    }

    /// Sets the target of later connections.
    pub(crate) fn redirect_to(&self, target: SocketAddr) {
        *self.state.target.lock() = target;
    }

    /// Ends all open connections. New connections are accepted.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.state.cut.lock()).cancel();
    }

    /// Drops all packets of the open connections from now on, before the kernel processes them: no byte, no ACK and no
    /// FIN arrives. New connections are accepted.
    pub(crate) async fn freeze(&self) {
        // Packets that have arrived are acknowledged first: otherwise this machine would retransmit them.
        tokio::time::sleep(QUIET).await;
        std::mem::take(&mut *self.state.frozen.lock()).cancel();
    }
}

impl State {
    async fn forward(self: Arc<Self>, mut near: TcpStream) {
        let target = *self.target.lock();
        let (cut, frozen) = (self.cut.lock().clone(), self.frozen.lock().clone());
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        for stream in [&near, &far] {
            let _ = stream.set_nodelay(true);
        }
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            () = frozen.cancelled() => {
                for stream in [&near, &far] {
                    SockRef::from(stream).attach_filter(&NOTHING).unwrap();
                }
                // The sockets stay open without traffic until the test ends.
                std::future::pending().await
            }
            () = self.splice(&mut near, &mut far) => {}
        }
    }
}

impl State {
    async fn splice(&self, near: &mut TcpStream, far: &mut TcpStream) {
        let count = |bytes| {
            self.carried.fetch_add(bytes, Ordering::Relaxed);
        };
        let _ = splice(&mut WatchedStream::new(near, |_| Ok(()), count), far).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.scope.abort();
    }
}
