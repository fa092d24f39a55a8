//! HTTP/1.1 requests as a reader takes them that gives nobody the benefit of a doubt (RFC 9112 §2.2, §3, §5, §6, §7).

/// A request that such a reader understands.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }
}

/// The first request of these bytes and how many of them it takes; nothing while it is incomplete.
///
/// The error says what is wrong: an origin would have to refuse it.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = bytes[..end].split_inclusive(|b| *b == b'\n').map(line);
    let first = lines.next().unwrap_or(Err("no request line".into()))?;
    let [method, target, version] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("request line: {first:?}"));
    };
    if !is_token(method) || target.is_empty() || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("request line: {first:?}"));
    }
    if version != "HTTP/1.1" {
        return Err(format!("version: {version:?}"));
    }
    let fields = lines.map(|line| field(&line?)).collect::<Result<Vec<_>, _>>()?;
    let mut request = Request { first, fields, body: Vec::new() };
    if request.all("host").len() != 1 {
        return Err(format!("Host: {:?}", request.all("host")));
    }
    let rest = &bytes[end + 4..];
    let taken = match (&request.all("transfer-encoding")[..], &request.all("content-length")[..]) {
        ([], []) => Some((Vec::new(), 0)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| "a length that is too large")?;
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        (["chunked"], []) => chunked(rest)?,
        (codings, lengths) => return Err(format!("framing: {codings:?} {lengths:?}")),
    };
    Ok(taken.map(|(body, length)| {
        request.body = body;
        (request, end + 4 + length)
    }))
}

fn line(bytes: &[u8]) -> Result<String, String> {
    let text = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
    match text.iter().any(|b| b"\r\n\0".contains(b)) {
        true => Err(format!("line ends: {:?}", String::from_utf8_lossy(bytes))),
        false => Ok(text.iter().map(|b| char::from(*b)).collect()),
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("not a field line: {line:?}"))?;
    let value = value.trim_matches([' ', '\t']);
    let is_clean = value.chars().all(|c| c == '\t' || c >= ' ' && c != '\x7f');
    match is_token(name) && is_clean {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!("field: {line:?}")),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

type Body = Option<(Vec<u8>, usize)>;

fn chunked(bytes: &[u8]) -> Result<Body, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + end]).unwrap_or("?");
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("chunk size: {size:?}"));
        }
        let size = usize::from_str_radix(size, 16).unwrap();
        at += end + 2;
        if size == 0 {
            return trailers(&bytes[at..]).map(|end| end.map(|end| (body, at + end)));
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("a chunk without a line end".into());
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
    }
}

fn trailers(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        if end == 0 {
            return Ok(Some(at + 2));
        }
        let (name, _) = field(&line(&bytes[at..at + end + 2])?)?;
        let forbidden = ["content-length", "transfer-encoding", "host", "authorization", "connection"];
        if forbidden.contains(&&*name.to_ascii_lowercase()) {
            return Err(format!("a forbidden trailer field: {name}"));
        }
        at += end + 2;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

#[test]
fn the_strict_reader_refuses_malformed_requests() {
    let read = |text: &str| request(text.as_bytes());
    let (whole, taken) =
        read("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nokGET").unwrap().unwrap();
    assert_eq!((&whole.body[..], taken), (&b"ok"[..], 49));
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n";
    assert_eq!(read(chunked).unwrap().unwrap().0.body, b"ok");
    assert!(read(&chunked[..chunked.len() - 1]).unwrap().is_none());
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
    ] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}
