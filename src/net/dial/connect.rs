//! HTTP CONNECT (RFC 9110 §9.3.6), as far as a client that tunnels needs it.
//!
//! hyper-util has a client too, but its errors leave out the status and the challenge of the proxy, which the messages
//! for a person need. Its client of SOCKS 5 does not let a caller read the reply code either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::DialTarget;
use super::fault::ProxyFault;
use super::protocol::Login;

/// The most bytes that are read of the head of an answer.
const HEAD: usize = 16 << 10;
/// Fields of an answer, at most.
const FIELDS: usize = 100;

/// Requests a tunnel to `target` from the proxy behind `stream`. Dropping the future leaves the stream unusable.
///
/// # Errors
/// [`ProxyFault`], by the failure of the proxy.
pub(super) async fn open<S>(
    stream: &mut S,
    target: &DialTarget,
    login: Option<&Login>,
) -> Result<(), ProxyFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let agent = concat!("ptth/", env!("CARGO_PKG_VERSION"));
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {agent}\r\n");
    if let Some(Login { user, password }) = login {
        let credentials = STANDARD.encode(format!("{user}:{}", password.expose()));
        request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(ProxyFault::Broken)?;
    let mut read = Vec::new();
    loop {
        if let Some((answer, length)) = parse(&read)? {
            read.drain(..length);
            match answer {
                // Nothing was sent through the tunnel yet, so the far end cannot have sent anything.
                ConnectResponse::Tunnel if !read.is_empty() => {
                    return Err(ProxyFault::Nonsense("it sent bytes after its answer to CONNECT"));
                }
                ConnectResponse::Tunnel => return Ok(()),
                ConnectResponse::Interim => continue,
                ConnectResponse::Login(schemes) => return Err(login_fault(&schemes, login.is_some())),
                // tinyproxy answers 401 to a wrong password.
                ConnectResponse::Refused(401) if login.is_some() => return Err(ProxyFault::PasswordWrong),
                ConnectResponse::Refused(status) => return Err(ProxyFault::Status(status)),
            }
        }
        if read.len() >= HEAD {
            return Err(ProxyFault::Nonsense("the head of its answer is too long"));
        }
        match stream.read_buf(&mut read).await {
            Ok(0) => return Err(ProxyFault::Closed),
            Ok(_) => {}
            Err(error) => return Err(ProxyFault::Broken(error)),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum ConnectResponse {
    Tunnel,
    Interim,
    /// 407, with the schemes of its `Proxy-Authenticate`.
    Login(Vec<String>),
    /// Another status.
    Refused(u16),
}

/// The first answer in `bytes` and its length, once it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(ConnectResponse, usize)>, ProxyFault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ProxyFault::Nonsense("its answer to CONNECT is not HTTP")),
    };
    let answer = match response.code.unwrap_or_default() {
        100..=199 => ConnectResponse::Interim,
        200..=299 => ConnectResponse::Tunnel,
        407 => ConnectResponse::Login(schemes(response.headers)),
        status => ConnectResponse::Refused(status),
    };
    Ok(Some((answer, length)))
}

/// The schemes of all challenges (RFC 9110 §11.6.1). A scheme is the first token of a part of the list, unless a `=`
/// follows the token: then the part is a parameter.
fn schemes(fields: &[httparse::Header<'_>]) -> Vec<String> {
    let challenges = fields.iter().filter(|f| f.name.eq_ignore_ascii_case("proxy-authenticate"));
    let texts = challenges.filter_map(|f| std::str::from_utf8(f.value).ok());
    let scheme = |part: &str| {
        let part = part.trim();
        let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(part.len());
        let (token, rest) = part.split_at(end);
        let ends_here = rest.is_empty() || rest.starts_with(char::is_whitespace);
        let is_scheme = !token.is_empty() && ends_here && !rest.trim_start().starts_with('=');
        is_scheme.then(|| token.to_owned())
    };
    texts.flat_map(list_parts).filter_map(scheme).take(8).collect()
}

/// The parts of a list. A comma within a quoted string separates nothing (RFC 9110 §5.6.4).
fn list_parts(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let separates = c == ',' && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        separates
    })
}

fn login_fault(schemes: &[String], password_sent: bool) -> ProxyFault {
    let basic = schemes.is_empty() || schemes.iter().any(|s| s.eq_ignore_ascii_case("basic"));
    match (basic, password_sent) {
        (false, _) => ProxyFault::Unsupported(schemes.join(", ")),
        (true, false) => ProxyFault::PasswordRequired,
        (true, true) => ProxyFault::PasswordWrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    /// The result for a proxy with this answer, and the bytes that the proxy received.
    async fn handshake(answer: &[u8], login: Option<&Login>) -> (Result<(), ProxyFault>, String) {
        let (mut near, mut far) = tokio::io::duplex(64 << 10);
        let target = DialTarget { host: "::1".into(), port: 8443, tls: true };
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        let result = open(&mut near, &target, login).await;
        drop(near);
        let mut sent = String::new();
        far.read_to_string(&mut sent).await.unwrap();
        (result, sent)
    }

    #[tokio::test]
    async fn a_tunnel_is_requested_in_authority_form() {
        let (result, sent) = handshake(b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n", None).await;
        assert!(result.is_ok());
        assert!(sent.starts_with("CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{sent}");
        assert!(sent.ends_with("\r\n\r\n") && !sent.contains("Authorization"), "{sent}");
        let login = Login { user: "Aladdin".into(), password: Secret::new("open sesame") };
        let (result, sent) =
            handshake(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 299 \r\n\r\n", Some(&login)).await;
        assert!(result.is_ok());
        // RFC 7617 §2
        assert!(sent.contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{sent}");
    }

    #[test]
    fn a_quoted_realm_and_a_parameter_are_no_schemes() {
        let schemes = |text: &'static str| {
            schemes(&[httparse::Header { name: "Proxy-Authenticate", value: text.as_bytes() }])
        };
        assert_eq!(schemes(r#"Digest realm="Acme, Basic access", qop="auth", NTLM"#), ["Digest", "NTLM"]);
        assert_eq!(schemes(r#"Digest realm="a\", Basic \"b", nonce = "x""#), ["Digest"]);
        assert_eq!(schemes("Negotiate, NTLM abc==, Basic realm=x"), ["Negotiate", "NTLM", "Basic"]);
    }

    #[tokio::test]
    async fn each_kind_of_proxy_refusal_has_its_own_fault() {
        let login = Login { user: "a".into(), password: Secret::new("b") };
        let basic = "HTTP/1.1 407 x\r\nproxy-authenticate: NTLM\r\nProxy-Authenticate: Digest realm=\"a, b\", Basic realm=x\r\n\r\n";
        let ntlm =
            "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM abc==\r\n\r\n";
        let fault = |answer: &str, login| {
            let answer = answer.as_bytes().to_vec();
            async move { handshake(&answer, login).await.0.unwrap_err() }
        };
        assert!(matches!(fault(basic, None).await, ProxyFault::PasswordRequired));
        assert!(matches!(fault(basic, Some(&login)).await, ProxyFault::PasswordWrong));
        let unsupported = fault(ntlm, Some(&login)).await;
        assert!(matches!(unsupported, ProxyFault::Unsupported(s) if s == "Negotiate, NTLM"));
        assert!(matches!(
            fault("HTTP/1.0 401 Unauthorized\r\n\r\n", Some(&login)).await,
            ProxyFault::PasswordWrong
        ));
        assert!(matches!(fault("HTTP/1.1 403 Forbidden\r\n\r\n", None).await, ProxyFault::Status(403)));
        assert!(matches!(fault("HTTP/1.1 302 Found\r\n\r\n", None).await, ProxyFault::Status(302)));
        assert!(matches!(fault("", None).await, ProxyFault::Closed));
        assert!(matches!(fault("HTTP/1.1 200", None).await, ProxyFault::Closed));
        for nonsense in ["SSH-2.0-x\r\n", "HTTP/1.1 200 ok\r\n\r\nhello", "\x05\0"] {
            assert!(matches!(fault(nonsense, None).await, ProxyFault::Nonsense(_)), "{nonsense:?}");
        }
        let endless = format!("HTTP/1.1 200 ok\r\nX: {}", "x".repeat(2 * HEAD));
        assert!(matches!(fault(&endless, None).await, ProxyFault::Nonsense(_)));
    }
}
