//! The network between agent and relay: TCP passed on, cut, led elsewhere, or silently lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use ptth::internals::net::Scope;
use ptth::internals::net::splice::splice;
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
    to: Mutex<SocketAddr>,
    cut: Mutex<CancellationToken>,
    frozen: Mutex<CancellationToken>,
    accepted: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            to: Mutex::new(to),
            cut: Mutex::default(),
            frozen: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let scope = Scope::new();
        let (owner, shared) = (scope.clone(), state.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                owner.spawn(shared.clone().pass(stream));
            }
        });
        Self { address, state, scope }
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Where the next connections go.
    pub(crate) fn redirect_to(&self, to: SocketAddr) {
        *self.state.to.lock() = to;
    }

    /// Ends every connection there is; new ones are welcome.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.state.cut.lock()).cancel();
    }

    /// From now on nothing of the connections there are arrives, not even for the kernel: no byte, no ACK, no FIN.
    /// New ones are welcome.
    pub(crate) async fn freeze(&self) {
        // What has arrived is acknowledged first; else this machine would go on repeating it, which is no silence.
        tokio::time::sleep(QUIET).await;
        std::mem::take(&mut *self.state.frozen.lock()).cancel();
    }
}

impl State {
    async fn pass(self: Arc<Self>, mut near: TcpStream) {
        let (to, cut, frozen) = (*self.to.lock(), self.cut.lock().clone(), self.frozen.lock().clone());
        let Ok(mut far) = TcpStream::connect(to).await else { return };
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
                // The sockets stay open, deaf and silent, until the test ends.
                std::future::pending().await
            }
            _ = splice(&mut near, &mut far) => {}
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.scope.abort();
    }
}
