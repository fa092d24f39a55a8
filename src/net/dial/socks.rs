//! SOCKS 5 (RFC 1928), with a user and a password where the proxy requires them (RFC 1929). Each read is for a known
//! number of bytes, so no byte that follows an answer is read with it.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::fault::ProxyFault;
use super::protocol::Login;

const VERSION: u8 = 5;
/// Methods (RFC 1928 §3).
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

/// Requests a connection to `host`, which is an address or a name, from the proxy behind `stream`. Dropping the future
/// leaves the stream unusable.
///
/// # Errors
/// [`ProxyFault`], by the failure of the proxy.
pub(super) async fn open<S>(
    stream: &mut S,
    host: &str,
    port: u16,
    login: Option<&Login>,
) -> Result<(), ProxyFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let methods: &[u8] = if login.is_some() { &[NO_LOGIN, PASSWORD] } else { &[NO_LOGIN] };
    send(stream, &[&[VERSION, methods.len() as u8], methods].concat()).await?;
    match (receive(stream).await?, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, PASSWORD], Some(login)) => authenticate(stream, login).await?,
        ([VERSION, NO_METHOD], None) => return Err(ProxyFault::PasswordRequired),
        ([VERSION, NO_METHOD], Some(_)) => {
            return Err(ProxyFault::Unsupported("an unsupported method".into()));
        }
        _ => return Err(ProxyFault::Nonsense("its answer is not SOCKS 5")),
    }
    send(stream, &request(host, port)?).await?;
    let [version, reply, _, kind] = receive(stream).await?;
    if version != VERSION {
        return Err(ProxyFault::Nonsense("its answer is not SOCKS 5"));
    }
    if reply != 0 {
        return Err(ProxyFault::Reply(reply));
    }
    // The address that the proxy has bound is not used, but it precedes the target's bytes.
    let address = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(receive::<_, 1>(stream).await?[0]),
        _ => return Err(ProxyFault::Nonsense("its answer has an address of an unknown type")),
    };
    let mut rest = vec![0; address + 2];
    stream.read_exact(&mut rest).await.map_err(broken)?;
    Ok(())
}

async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    login: &Login,
) -> Result<(), ProxyFault> {
    let mut message = vec![1];
    for text in [&*login.user, login.password.expose()] {
        let length = u8::try_from(text.len());
        message
            .push(length.map_err(|_| ProxyFault::Nonsense("SOCKS takes at most 255 bytes of a password"))?);
        message.extend_from_slice(text.as_bytes());
    }
    send(stream, &message).await?;
    match receive(stream).await? {
        [_, 0] => Ok(()),
        _ => Err(ProxyFault::PasswordWrong),
    }
}

/// CONNECT (RFC 1928 §4).
fn request(host: &str, port: u16) -> Result<Vec<u8>, ProxyFault> {
    let mut message = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            message.push(1);
            message.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            message.push(4);
            message.extend(address.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len());
            message.extend([3, length.map_err(|_| ProxyFault::Nonsense("the name is too long for SOCKS"))?]);
            message.extend(host.as_bytes());
        }
    }
    message.extend(port.to_be_bytes());
    Ok(message)
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> Result<(), ProxyFault> {
    stream.write_all(message).await.map_err(broken)
}

async fn receive<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> Result<[u8; N], ProxyFault> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(broken)?;
    Ok(bytes)
}

fn broken(error: io::Error) -> ProxyFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ProxyFault::Closed,
        _ => ProxyFault::Broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    /// The result for these answers, the bytes that the proxy received, and the bytes that are left to read.
    async fn handshake(
        answers: &[u8],
        host: &str,
        login: Option<&Login>,
    ) -> (Result<(), ProxyFault>, Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(4096);
        far.write_all(answers).await.unwrap();
        far.shutdown().await.unwrap();
        let result = open(&mut near, host, 443, login).await;
        let (mut left, mut sent) = (Vec::new(), Vec::new());
        near.read_to_end(&mut left).await.unwrap();
        drop(near);
        far.read_to_end(&mut sent).await.unwrap();
        (result, sent, left)
    }

    const BOUND: &[u8] = &[5, 0, 0, 1, 127, 0, 0, 1, 1, 2];

    #[tokio::test]
    async fn names_and_both_kinds_of_address_are_requested() {
        for (host, wanted) in [
            ("a.test", &[5, 1, 0, 3, 6, b'a', b'.', b't', b'e', b's', b't', 1, 187][..]),
            ("1.2.3.4", &[5, 1, 0, 1, 1, 2, 3, 4, 1, 187]),
            ("::1", &[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 187]),
        ] {
            let (result, sent, left) = handshake(&[&[5, 0], BOUND, b"next"].concat(), host, None).await;
            assert!(result.is_ok(), "{host}");
            assert_eq!(sent, [&[5, 1, 0], wanted].concat(), "{host}");
            assert_eq!(left, b"next", "the following bytes are not read");
        }
        let named = [&[5, 0, 5, 0, 0, 3, 1][..], b"x", &[0, 1], b"next"].concat();
        assert_eq!(handshake(&named, "a", None).await.2, b"next");
    }

    #[tokio::test]
    async fn a_password_is_sent_only_on_request() {
        let login = Login { user: "ann".into(), password: Secret::new("pw") };
        let (result, sent, _) = handshake(&[&[5, 2, 1, 0], BOUND].concat(), "1.2.3.4", Some(&login)).await;
        assert!(result.is_ok());
        assert!(sent.starts_with(b"\x05\x02\x00\x02\x01\x03ann\x02pw\x05\x01\x00\x01"), "{sent:?}");
        let (result, sent, _) = handshake(&[&[5, 0], BOUND].concat(), "1.2.3.4", Some(&login)).await;
        assert!(result.is_ok() && !sent.windows(2).any(|w| w == b"pw"));
    }

    #[tokio::test]
    async fn each_kind_of_refusal_has_its_own_fault() {
        let login = Login { user: "ann".into(), password: Secret::new("pw") };
        let fault = |answers: &'static [u8], login| async move {
            handshake(answers, "a", login).await.0.unwrap_err()
        };
        assert!(matches!(fault(&[5, 255], None).await, ProxyFault::PasswordRequired));
        assert!(matches!(fault(&[5, 255], Some(&login)).await, ProxyFault::Unsupported(_)));
        assert!(matches!(fault(&[5, 2, 1, 1], Some(&login)).await, ProxyFault::PasswordWrong));
        assert!(matches!(fault(&[5, 2], None).await, ProxyFault::Nonsense(_)));
        assert!(matches!(fault(b"HTTP/1.1 400", None).await, ProxyFault::Nonsense(_)));
        assert!(matches!(fault(&[5, 0, 5, 2, 0, 1], None).await, ProxyFault::Reply(2)));
        assert!(matches!(fault(&[5, 0, 5, 0, 0, 9], None).await, ProxyFault::Nonsense(_)));
        assert!(matches!(fault(&[5], None).await, ProxyFault::Closed));
        assert!(matches!(fault(&[], None).await, ProxyFault::Closed));
    }
}
