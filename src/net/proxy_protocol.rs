//! The PROXY protocol, versions 1 and 2 (HAProxy, "The PROXY protocol", 2020/03/05): a header with the source of a
//! connection, which a load balancer writes in front of a connection that it passes on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::defaults;

/// §2.2: the first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// §2.1: the longest line of version 1, with its end.
const LINE: usize = 107;
/// §2.2.6: TLS between the visitor and the load balancer.
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 1;

/// The source of a connection that a load balancer passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxiedSource {
    /// The far end, as the load balancer saw it.
    pub remote: SocketAddr,
    /// Whether the connection to the load balancer was encrypted.
    pub tls: bool,
}

/// Reads the header, and not a byte more. `None` when the header names no source, or when the load balancer opened the
/// connection for itself. Dropping the future loses the bytes that were read.
///
/// # Errors
/// When the bytes are no such header, or when the header is longer than [`defaults::PROXY_HEADER`].
pub async fn read<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<Option<ProxiedSource>> {
    let mut start = [0; SIGNATURE.len()];
    io.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(io).await;
    }
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE {
            return Err(malformed());
        }
        line.push(io.read_u8().await?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| malformed())?;
    parse_line(line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the PROXY protocol header is missing or malformed")
}

fn parse_line(line: &str) -> Option<Option<ProxiedSource>> {
    let fields: Vec<_> = line.split(' ').collect();
    let [_, family, rest @ ..] = &fields[..] else { return None };
    if *family == "UNKNOWN" {
        return Some(None);
    }
    let [remote, local, remote_port, local_port] = rest else { return None };
    let address = |text: &str| match *family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let (remote, _) = (address(remote)?, address(local)?);
    let (port, _) = (remote_port.parse().ok()?, local_port.parse::<u16>().ok()?);
    Some(Some(ProxiedSource { remote: SocketAddr::new(remote, port), tls: false }))
}

async fn read_binary<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<Option<ProxiedSource>> {
    let (command, family) = (io.read_u8().await?, io.read_u8().await?);
    let length = usize::from(io.read_u16().await?);
    if length > defaults::PROXY_HEADER {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    io.read_exact(&mut rest).await?;
    parse_binary(command, family, &rest).ok_or_else(malformed)
}

fn parse_binary(command: u8, family: u8, rest: &[u8]) -> Option<Option<ProxiedSource>> {
    match (command, family) {
        // LOCAL: a connection of the load balancer's own, such as a health check.
        (0x20, _) => Some(None),
        (0x21, 0x11) => {
            let (addresses, more) = rest.split_first_chunk::<12>()?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let remote = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
            Some(Some(ProxiedSource { remote, tls: is_encrypted(more)? }))
        }
        (0x21, 0x21) => {
            let (addresses, more) = rest.split_first_chunk::<36>()?;
            let (address, behind) = addresses.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes([behind[16], behind[17]]);
            let remote = SocketAddr::from((Ipv6Addr::from(*address), port));
            Some(Some(ProxiedSource { remote, tls: is_encrypted(more)? }))
        }
        // Unspecified, or a unix socket: there is no IP address.
        (0x21, 0x00 | 0x31) => Some(None),
        _ => None,
    }
}

/// Looks for TLS in the further fields (§2.2.1); `None` when they are malformed.
fn is_encrypted(mut rest: &[u8]) -> Option<bool> {
    let mut tls = false;
    while !rest.is_empty() {
        let ([kind, high, low], behind) = rest.split_first_chunk::<3>()?;
        let (value, more) = behind.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
        if *kind == TYPE_SSL {
            tls = value.first()? & CLIENT_SSL != 0;
        }
        rest = more;
    }
    Some(tls)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The source in the header, and the bytes that are left behind the header.
    fn parse_bytes(bytes: &[u8]) -> io::Result<(Option<ProxiedSource>, Vec<u8>)> {
        let mut left = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let source = runtime.block_on(read(&mut left))?;
        Ok((source, left.to_vec()))
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn a_proxy_line_gives_the_source_and_leaves_the_following_bytes() {
        for (line, remote) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", Some("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", Some("[2001:db8::7]:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 whatever\r\n", None),
        ] {
            let (source, left) = parse_bytes(&[line.as_bytes(), b"GET"].concat()).unwrap();
            assert_eq!(source.map(|s| s.remote), remote.map(|r| r.parse().unwrap()), "{line}");
            assert_eq!(left, b"GET");
        }
    }

    #[test]
    fn a_malformed_proxy_line_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE));
        for line in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
            "PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.7",
            &long,
        ] {
            assert!(parse_bytes(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_binary_header_gives_the_source_and_whether_tls_was_used() {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 1, 187];
        let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 9, 0, 1]].concat();
        let ssl = |client: u8| [&v4[..], &[4, 0, 1, 0], &[TYPE_SSL, 0, 5, client, 0, 0, 0, 0]].concat();
        for (bytes, wanted) in [
            (binary(0x21, 0x11, &v4), Some(("192.0.2.7:56324", false))),
            (binary(0x21, 0x21, &v6), Some(("[2001:db8::7]:9", false))),
            (binary(0x21, 0x11, &ssl(7)), Some(("192.0.2.7:56324", true))),
            (binary(0x21, 0x11, &ssl(0)), Some(("192.0.2.7:56324", false))),
            (binary(0x20, 0x11, &v4), None),
            (binary(0x21, 0x00, &[1, 2, 3]), None),
        ] {
            let (source, left) = parse_bytes(&[&bytes[..], b"GET"].concat()).unwrap();
            let wanted = wanted.map(|(remote, tls)| ProxiedSource { remote: remote.parse().unwrap(), tls });
            assert_eq!((source, &left[..]), (wanted, &b"GET"[..]), "{bytes:?}");
        }
        let mut long = binary(0x21, 0x11, &[&v4[..], &[4, 0x20, 0], &[0; 0x2000]].concat());
        assert!(parse_bytes(&long).is_err());
        long.truncate(20);
        for bytes in [
            long,
            binary(0x21, 0x11, &v4[..11]),
            binary(0x21, 0x21, &v6[..35]),
            binary(0x21, 0x12, &v4),
            binary(0x11, 0x11, &v4),
            binary(0x21, 0x11, &[&v4[..], &[4, 0, 2, 0]].concat()),
        ] {
            assert!(parse_bytes(&bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(command: u8, family: u8, rest: Vec<u8>, line: String) {
            let _ = parse_bytes(&binary(command, family, &rest));
            let _ = parse_bytes(format!("PROXY {line}\r\n").as_bytes());
        }
    }
}
