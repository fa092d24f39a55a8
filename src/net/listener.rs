//! Listening sockets: one per core, all on one address.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::keepalive::{self, FarEnd};

/// Connections that wait to be accepted: enough for a burst while a core is busy.
const BACKLOG: i32 = 1024;
/// A pause after the system ran out of descriptors, so that the loop does not spin.
const EXHAUSTED: Duration = Duration::from_millis(50);

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Binds `count` listeners to one address. A port on which another process listens is an error, even if that process
/// would share the port: the first bind requests the port exclusively.
///
/// # Errors
/// The error of the system: in use, not permitted, no such address.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    // If the system chooses the port, no other process has that port, so the first socket stays open. If it were closed
    // before the next bind, another relay that requests any port could get the same port.
    let any_port = address.port() == 0;
    let first = open(address, any_port)?;
    let bound = first.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP address"))?;
    let mut listeners: Vec<StdListener> = Vec::new();
    if any_port {
        first.listen(BACKLOG)?;
        listeners.push(first.into());
    } else {
        first.listen(1)?;
        drop(first);
    }
    while listeners.len() < count.max(1) {
        let socket = open(bound, true)?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok((bound, listeners))
}

/// Accepts one connection. Never fails: an error of a single connection is skipped, and when the system has no
/// descriptor left the call waits. Cancel safe.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                tune(&stream);
                return (stream, remote);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for the moment");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Sets the options of every socket: no Nagle, and keep-alive, by which the kernel finds in the end that the far
/// end is gone.
pub fn tune(stream: &TcpStream) {
    keepalive::log_failure(SockRef::from(stream).set_tcp_nodelay(true));
    FarEnd::Other.keep_alive(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_relay_on_the_port_fails_to_bind() {
        let (address, first) = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.len(), 2);
        assert_eq!(bind(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(address, 2).unwrap();
    }
}
