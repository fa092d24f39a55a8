//! From a name to a TCP connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::{DialError, DialTarget};
use crate::defaults;
use crate::net::exhausted::is_exhausted;
use crate::net::listener::tune;

/// Resolves and connects. Dropping the future gives up.
pub(super) async fn connect(target: &DialTarget) -> Result<TcpStream, DialError> {
    connect_any(addresses(target).await?, target).await
}

/// The addresses of a target.
///
/// # Errors
/// [`DialError::Resolve`]
pub async fn addresses(target: &DialTarget) -> Result<Vec<SocketAddr>, DialError> {
    let found = resolve(&target.host, target.port).await;
    found.map_err(|source| DialError::Resolve { host: target.host.clone(), source })
}

/// Connects to the first of the addresses of `target` that answers. Dropping the future gives up.
///
/// # Errors
/// [`DialError::Connect`], with the system's error for the last address.
pub async fn connect_any(addresses: Vec<SocketAddr>, target: &DialTarget) -> Result<TcpStream, DialError> {
    race(addresses).await.map_err(|source| DialError::Connect { target: target.clone(), source })
}

/// The addresses of a host. Every name under `localhost` is the loopback (RFC 6761 §6.3), without a query.
///
/// # Errors
/// The error of the resolver; also when the name has no address.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let folded = host.trim_end_matches('.').to_ascii_lowercase();
    if folded == "localhost" || folded.ends_with(".localhost") {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(found),
    }
}

/// Tries the addresses in order, each with a head start over the next (RFC 8305 §5); the first
/// established connection wins.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address to try");
    trying.extend(waiting.next().map(TcpStream::connect));
    while !trying.is_empty() {
        let head_start = tokio::time::sleep(defaults::HAPPY_EYEBALLS);
        tokio::select! {
            biased;
            Some(tried) = trying.next() => match tried {
                Ok(stream) => {
                    tune(&stream);
                    return Ok(stream);
                }
                // The error of another address would hide the cause, which is on this machine.
                Err(error) if is_exhausted(&error) => return Err(error),
                Err(error) => {
                    last = error;
                    trying.extend(waiting.next().map(TcpStream::connect));
                }
            },
            () = head_start, if waiting.len() > 0 => trying.extend(waiting.next().map(TcpStream::connect)),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_under_localhost_resolve_without_dns() {
        for host in ["localhost", "shop.PTTH.localhost", "a.localhost."] {
            let found = resolve(host, 1).await.unwrap();
            assert!(found.iter().all(|a| a.ip().is_loopback()), "{host}: {found:?}");
        }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_after_a_refusal() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let refusing = {
            let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            closed.local_addr().unwrap()
        };
        let stream = race(vec![refusing, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(race(vec![refusing]).await.is_err());
        assert!(race(vec![]).await.is_err());
    }
}
