//! Requests that two readers may read differently, as a table. In a text `{p}` is the request's own path, `{h}` its Host
//! line, `{m}` a whole request for the marker's path, `{ml}` its length, `{cl}` that of `0\r\n\r\n` and the marker; a
//! character stands for the byte of its number.

/// What a strict reader makes of a message. Refusing it is right in every case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strict {
    /// Nothing: it is to be refused.
    Refuse,
    /// One request with this body, and the marker is no request of its own.
    Body(String),
    /// One request with this body; what stands behind it is the next request.
    Pipelined(&'static str),
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) strict: Strict,
}

fn refuse(name: impl Into<String>, text: impl Into<String>) -> Row {
    Row { name: name.into(), text: text.into(), strict: Strict::Refuse }
}

fn body(name: impl Into<String>, text: impl Into<String>, body: &str) -> Row {
    Row { name: name.into(), text: text.into(), strict: Strict::Body(body.into()) }
}

fn next(name: impl Into<String>, text: impl Into<String>, body: &'static str) -> Row {
    Row { name: name.into(), text: text.into(), strict: Strict::Pipelined(body) }
}

/// All of them.
pub(crate) fn all() -> Vec<Row> {
    [lengths(), codings(), chunks(), lines(), fields(), methods(), upgrades()].concat()
}

/// RFC 9112 §6.3, RFC 9110 §8.6; RUSTSEC-2021-0078 (`+`), CVE-2023-40225 (empty), CVE-2021-40346.
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
fn lengths() -> Vec<Row> {
    let bad = [
        "+{ml}",
        "-1",
        "-0",
        "0x1f",
        "{ml}.0",
        "1e1",
        "{ml};",
        "{ml};a=b",
        "{ml} {ml}",
        "{ml} 0",
        "",
        "\u{b}{ml}",
        "{ml}\u{b}",
        "{ml}\u{c}",
        "{ml}\0",
        "\0{ml}",
        "'{ml}'",
        "\"{ml}\"",
        "{ml}_0",
        "_{ml}",
        "0,{ml}",
        "{ml},0",
        "{ml}, 0",
        "a",
        "{ml}a",
        "\u{a0}{ml}",
        "{ml}\u{85}",
        "18446744073709551616",
        "18446744073709551657",
        "99999999999999999999999999",
        "4294967296 ",
        "{ml}\r",
        "{ml}\u{7f}",
        "٣",
        "Infinity",
        "null",
        "{ml}\\r\\n",
    ];
    let alone = bad.iter().map(|v| {
        // A length that is only too long is legal; then nothing of what follows is a request.
        let text = format!("POST {{p}} HTTP/1.1\r\n{{h}}Content-Length: {v}\r\n\r\n{{m}}");
        refuse(format!("cl {v:?}"), text)
    });
    let with = |order: fn(&str) -> String, what: &'static str| {
        bad.iter().map(move |v| {
            let text = format!("POST {{p}} HTTP/1.1\r\n{{h}}{}\r\n{{m}}", order(v));
            refuse(format!("cl {v:?} {what} a good one"), text)
        })
    };
    let before = with(|v| format!("Content-Length: {v}\r\nContent-Length: {{ml}}\r\n"), "before");
    let behind = with(|v| format!("Content-Length: {{ml}}\r\nContent-Length: {v}\r\n"), "behind");
    let others = [
        body("cl ok", "POST {p} HTTP/1.1\r\n{h}Content-Length: {ml}\r\n\r\n{m}", "{m}"),
        body(
            "cl twice the same",
            "POST {p} HTTP/1.1\r\n{h}Content-Length: {ml}\r\nContent-Length: {ml}\r\n\r\n{m}",
            "{m}",
        ),
        body("cl a list of the same", "POST {p} HTTP/1.1\r\n{h}Content-Length: {ml}, {ml}\r\n\r\n{m}", "{m}"),
        body("cl with a zero in front", "POST {p} HTTP/1.1\r\n{h}Content-Length: 000{ml}\r\n\r\n{m}", "{m}"),
        body("cl with blanks", "POST {p} HTTP/1.1\r\n{h}Content-Length: \t {ml} \t\r\n\r\n{m}", "{m}"),
        body("cl in odd case", "POST {p} HTTP/1.1\r\n{h}cOnTeNt-LeNgTh: {ml}\r\n\r\n{m}", "{m}"),
        refuse(
            "cl 0 and another",
            "POST {p} HTTP/1.1\r\n{h}Content-Length: 0\r\nContent-Length: {ml}\r\n\r\n{m}",
        ),
        refuse(
            "cl another and 0",
            "POST {p} HTTP/1.1\r\n{h}Content-Length: {ml}\r\nContent-Length: 0\r\n\r\n{m}",
        ),
        refuse(
            "cl with a blank before the colon",
            "POST {p} HTTP/1.1\r\n{h}Content-Length : {ml}\r\n\r\n{m}",
        ),
        refuse("cl with a tab before the colon", "POST {p} HTTP/1.1\r\n{h}Content-Length\t: {ml}\r\n\r\n{m}"),
        refuse("cl with a NUL in its name", "POST {p} HTTP/1.1\r\n{h}Content-Length\0: {ml}\r\n\r\n{m}"),
        refuse("cl folded", "POST {p} HTTP/1.1\r\n{h}Content-Length:\r\n {ml}\r\n\r\n{m}"),
        refuse("cl as a fold", "POST {p} HTTP/1.1\r\n{h}X: y\r\n Content-Length: {ml}\r\n\r\n{m}"),
        refuse("cl behind a bare CR", "POST {p} HTTP/1.1\r\n{h}X: y\rContent-Length: {ml}\r\n\r\n{m}"),
        // RFC 9112 §2.2 lets a reader take a bare LF for a line end; then it must mean that for all that follows.
        body("cl behind a bare LF", "POST {p} HTTP/1.1\r\n{h}X: y\nContent-Length: {ml}\r\n\r\n{m}", "{m}"),
    ];
    alone.chain(before).chain(behind).chain(others).collect()
}

/// RFC 9112 §6.1, §6.3; RUSTSEC-2021-0079, CVE-2026-2835 (lists), CVE-2026-66752.
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
fn codings() -> Vec<Row> {
    let bad = [
        "xchunked",
        "chunkedx",
        "chunk",
        "chunked, identity",
        "identity",
        "identity, chunked, identity",
        "gzip",
        "chunked, gzip",
        "chunked, chunked",
        "chunked;q=1",
        "chunked; foo=bar",
        "chunked x",
        "\"chunked\"",
        "'chunked'",
        "chunked\0",
        "\0chunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked\u{c}",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "",
        "chunked, ,x",
        "ch\u{b}unked",
        "chunke\u{17f}",
        "chunked\r",
        "chunked\u{7f}",
        "trailers",
        "deflate",
        "x, y, z",
    ];
    let tail = "\r\n0\r\n\r\n{m}";
    let with = |fields: fn(&str) -> String, what: &'static str| {
        bad.iter().map(move |v| {
            let text = format!("POST {{p}} HTTP/1.1\r\n{{h}}{}{tail}", fields(v));
            refuse(format!("te {v:?} {what}"), text)
        })
    };
    let alone = with(|v| format!("Transfer-Encoding: {v}\r\n"), "alone");
    let before = with(|v| format!("Content-Length: {{cl}}\r\nTransfer-Encoding: {v}\r\n"), "behind a length");
    let behind = with(|v| format!("Transfer-Encoding: {v}\r\nContent-Length: {{cl}}\r\n"), "before a length");
    let first = with(
        |v| format!("Transfer-Encoding: {v}\r\nTransfer-Encoding: chunked\r\nContent-Length: {{cl}}\r\n"),
        "then chunked",
    );
    let last = with(
        |v| format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {v}\r\nContent-Length: {{cl}}\r\n"),
        "behind chunked",
    );
    let named = [
        ("blank before the colon", "Transfer-Encoding : chunked"),
        ("tab before the colon", "Transfer-Encoding\t: chunked"),
        ("blank before the name", " Transfer-Encoding: chunked"),
        ("tab before the name", "\tTransfer-Encoding: chunked"),
        ("NUL behind the name", "Transfer-Encoding\0: chunked"),
        ("vertical tab before the name", "\u{b}Transfer-Encoding: chunked"),
        ("a fold", "Transfer-Encoding:\r\n chunked"),
        ("a fold with a tab", "Transfer-Encoding:\r\n\tchunked"),
        ("behind a fold", "X: y\r\n Transfer-Encoding: chunked"),
        ("behind a bare CR", "X: y\rTransfer-Encoding: chunked"),
        ("a high byte in the name", "Transfer-Encod\u{ef}ng: chunked"),
        ("quotes around the name", "\"Transfer-Encoding\": chunked"),
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ];
    let named = named.iter().flat_map(|(what, field)| {
        let alone = format!("POST {{p}} HTTP/1.1\r\n{{h}}{field}\r\n{tail}");
        let length = format!("POST {{p}} HTTP/1.1\r\n{{h}}Content-Length: {{cl}}\r\n{field}\r\n{tail}");
        [refuse(format!("te {what}"), alone), refuse(format!("te {what}, with a length"), length)]
    });
    let others = [
        // Whoever reads such a one by its chunks must close behind the answer (RFC 9112 §6.1).
        body(
            "te then cl",
            format!(
                "POST {{p}} HTTP/1.1\r\n{{h}}Transfer-Encoding: chunked\r\nContent-Length: {{cl}}\r\n{tail}"
            ),
            "",
        ),
        body(
            "cl then te",
            format!(
                "POST {{p}} HTTP/1.1\r\n{{h}}Content-Length: {{cl}}\r\nTransfer-Encoding: chunked\r\n{tail}"
            ),
            "",
        ),
        body(
            "te in odd case with a length",
            format!(
                "POST {{p}} HTTP/1.1\r\n{{h}}Content-Length: {{cl}}\r\ntransfer-ENCODING: ChUnKeD\r\n{tail}"
            ),
            "",
        ),
        refuse("te in HTTP/1.0", format!("POST {{p}} HTTP/1.0\r\n{{h}}Transfer-Encoding: chunked\r\n{tail}")),
        refuse(
            "te in HTTP/1.0 that is kept",
            format!(
                "POST {{p}} HTTP/1.0\r\n{{h}}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n{tail}"
            ),
        ),
        refuse(
            "te and cl in HTTP/1.0",
            format!(
                "POST {{p}} HTTP/1.0\r\n{{h}}Content-Length: {{cl}}\r\nTransfer-Encoding: chunked\r\n{tail}"
            ),
        ),
        refuse(
            "te gzip, chunked",
            format!("POST {{p}} HTTP/1.1\r\n{{h}}Transfer-Encoding: gzip, chunked\r\n{tail}"),
        ),
        next(
            "te named by Connection",
            "POST {p} HTTP/1.1\r\n{h}Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{m}",
            "hello",
        ),
        // The underscore makes another field of it, so there is no body, and what follows is no request.
        body(
            "te with an underscore",
            format!("POST {{p}} HTTP/1.1\r\n{{h}}Transfer_Encoding: chunked\r\n{tail}"),
            "",
        ),
        body(
            "cl named by Connection",
            "POST {p} HTTP/1.1\r\n{h}Connection: close, Content-Length\r\nContent-Length: {ml}\r\n\r\n{m}",
            "{m}",
        ),
    ];
    alone.chain(before).chain(behind).chain(first).chain(last).chain(named).chain(others).collect()
}

/// RFC 9112 §7.1; "TERM.EXT", CVE-2020-35863 and its kin.
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
fn chunks() -> Vec<Row> {
    let head = "POST {p} HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\n\r\n";
    let sizes = [
        "+5",
        "-5",
        "0x5",
        "5_",
        "_5",
        "5,5",
        "5.0",
        "",
        "5\0",
        "\u{b}5",
        "g",
        "5g",
        "FFFFFFFFFFFFFFFFF",
        "10000000000000005",
        "100000005;\r",
        "5\r",
        "\"5\"",
        "5 5",
        "5 ;a\n",
        "5;a=\"\n\"",
        "5;\nGET",
        "\u{a0}5",
        "5h",
        "0b101",
    ];
    let sizes = sizes.iter().map(|size| {
        refuse(format!("chunk size {size:?}"), format!("{head}{size}\r\nhello\r\n0\r\n\r\n{{m}}"))
    });
    let ends = [
        ("no end", "5\r\nhello0\r\n\r\n{m}"),
        ("letters for an end", "5\r\nhelloXX0\r\n\r\n{m}"),
        ("a bare LF for an end", "5\r\nhello\n0\r\n\r\n{m}"),
        ("a bare CR for an end", "5\r\nhello\r0\r\n\r\n{m}"),
        ("LF CR for an end", "5\r\nhello\n\r0\r\n\r\n{m}"),
        ("a bare LF behind the size", "5\nhello\r\n0\r\n\r\n{m}"),
        ("a bare CR behind the size", "5\rhello\r\n0\r\n\r\n{m}"),
        ("a bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n{m}"),
        ("CR and a letter behind the last size", "5\r\nhello\r\n0\r\rX\r\n\r\n{m}"),
        ("CR CR behind the last size", "5\r\nhello\r\n0\r\r\n\r\n{m}"),
        ("a letter before the last end", "5\r\nhello\r\n0\r\n\rX{m}"),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nnocolon\r\n\r\n{m}"),
        ("a trailer with a blank in its name", "5\r\nhello\r\n0\r\na b: c\r\n\r\n{m}"),
        ("a folded trailer", "5\r\nhello\r\n0\r\na: b\r\n c\r\n\r\n{m}"),
        ("a NUL in a trailer", "5\r\nhello\r\n0\r\na: \0\r\n\r\n{m}"),
        ("a bare CR in a trailer", "5\r\nhello\r\n0\r\na: b\rc: d\r\n\r\n{m}"),
        ("a size that leaves the marker outside", "1\r\nhello\r\n0\r\n\r\n{m}"),
    ];
    let ends = ends.iter().map(|(what, text)| refuse(format!("chunk: {what}"), format!("{head}{text}")));
    let fine = [
        ("zeros in front", "0000005\r\nhello\r\n0\r\n\r\n{m}"),
        ("an extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n{m}"),
        ("a quoted extension", "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n{m}"),
        ("a blank behind the size", "5 \r\nhello\r\n0\r\n\r\n{m}"),
        ("several zeros at the end", "5\r\nhello\r\n000\r\n\r\n{m}"),
        ("a trailer", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n{m}"),
        ("a trailer that is a length", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n{m}"),
        ("a trailer that is a coding", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n{m}"),
        ("a trailer that is a host", "5\r\nhello\r\n0\r\nHost: other.test\r\n\r\n{m}"),
        ("a trailer that is a credential", "5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n{m}"),
    ];
    let fine =
        fine.iter().map(|(what, text)| next(format!("chunk: {what}"), format!("{head}{text}"), "hello"));
    let cut = [refuse("chunk: cut short", format!("{head}ffff\r\n{{m}}"))];
    sizes.chain(ends).chain(fine).chain(cut).collect()
}

/// RFC 9112 §3.
fn lines() -> Vec<Row> {
    [
        ("two blanks", "GET  {p} HTTP/1.1"),
        ("a tab", "GET\t{p}\tHTTP/1.1"),
        ("a blank in front", " GET {p} HTTP/1.1"),
        ("a blank behind", "GET {p} HTTP/1.1 "),
        ("a second version", "GET {p} HTTP/1.1 HTTP/1.1"),
        ("a blank in the path", "GET {p} x HTTP/1.1"),
        ("a NUL in the path", "GET {p}\0 HTTP/1.1"),
        ("a bare CR in the path", "GET {p}\rx HTTP/1.1"),
        ("a bare CR before the version", "GET {p}\rHTTP/1.1"),
        ("a tab in the path", "GET {p}\tx HTTP/1.1"),
        ("a DEL in the path", "GET {p}\u{7f} HTTP/1.1"),
        ("no slash", "GET x{p} HTTP/1.1"),
        ("no target", "GET HTTP/1.1"),
        ("no version", "GET {p}"),
        ("HTTP/0.9", "GET {p} HTTP/0.9"),
        ("HTTP/1.2", "GET {p} HTTP/1.2"),
        ("HTTP/2.0", "GET {p} HTTP/2.0"),
        ("HTTP/11.1", "GET {p} HTTP/11.1"),
        ("HTTP/1.10", "GET {p} HTTP/1.10"),
        ("http/1.1", "GET {p} http/1.1"),
        ("HTTP/1,1", "GET {p} HTTP/1,1"),
        ("a NUL in the version", "GET {p} HTTP/1.1\0"),
        ("a method in brackets", "(GET) {p} HTTP/1.1"),
        ("a method with a colon", "GET: {p} HTTP/1.1"),
        ("a NUL in the method", "G\0ET {p} HTTP/1.1"),
        ("a high byte in the method", "G\u{e9}T {p} HTTP/1.1"),
        ("an empty method", " {p} HTTP/1.1"),
        ("userinfo in the target", "GET http://shop.ptth.localhost@other.test{p} HTTP/1.1"),
    ]
    .iter()
    .map(|(what, line)| refuse(format!("request line: {what}"), format!("{line}\r\n{{h}}\r\n{{m}}")))
    .collect()
}

/// RFC 9112 §5; CVE-2023-25725 (empty name), CVE-2021-40346 (name of 256 bytes and more).
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
fn fields() -> Vec<Row> {
    let bad = [
        ("no colon", "Foo"),
        ("an empty name", ": bar"),
        ("nothing but a colon", ":"),
        ("a blank in the name", "Foo Bar: x"),
        ("a blank before the colon", "Foo : x"),
        ("a NUL in the name", "F\0o: x"),
        ("a CR in the name", "F\ro: x"),
        ("a slash in the name", "F/o: x"),
        ("a brace in the name", "F{o: x"),
        ("a high byte in the name", "F\u{f6}o: x"),
        ("a NUL in the value", "Foo: a\0b"),
        ("a bare CR in the value", "Foo: a\rb"),
        ("a bare CR at the end", "Foo: a\r"),
        ("a DEL in the value", "Foo: a\u{7f}b"),
        ("an ESC in the value", "Foo: a\u{1b}b"),
        ("a fold", "Foo: a\r\n b"),
        ("a fold of nothing", "Foo: a\r\n \r\n b"),
        ("a fold before any field", " Foo: a"),
    ];
    // The empty name cut off what followed it: the length. It stands behind the field here.
    let bad = bad.iter().flat_map(|(what, field)| {
        let alone = format!("GET {{p}} HTTP/1.1\r\n{{h}}{field}\r\n\r\n{{m}}");
        let length = format!("POST {{p}} HTTP/1.1\r\n{{h}}{field}\r\nContent-Length: {{ml}}\r\n\r\n{{m}}");
        let first = format!("POST {{p}} HTTP/1.1\r\n{field}\r\n{{h}}Content-Length: {{ml}}\r\n\r\n{{m}}");
        [
            refuse(format!("field: {what}"), alone),
            refuse(format!("field: {what}, then a length"), length),
            refuse(format!("field: {what}, first"), first),
        ]
    });
    let names = [255_usize, 256, 257, 270, 511, 512, 1_024, 32_767, 32_768, 65_535, 65_536, 65_537];
    let names = names.iter().flat_map(|length| {
        let long = "a".repeat(*length);
        let content = format!("Content-Length0{}", "a".repeat(*length - 15));
        [long, content].map(|name| {
            let text = format!("POST {{p}} HTTP/1.1\r\n{{h}}{name}:\r\nContent-Length: {{ml}}\r\n\r\n{{m}}");
            body(format!("field: a name of {length}"), text, "{m}")
        })
    });
    let many = (0..2_000).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let others = [
        body(
            "field: thousands, then a length",
            format!("POST {{p}} HTTP/1.1\r\n{{h}}{many}Content-Length: {{ml}}\r\n\r\n{{m}}"),
            "{m}",
        ),
        body(
            "field: a value of 100 kB, then a length",
            format!(
                "POST {{p}} HTTP/1.1\r\n{{h}}X: {}\r\nContent-Length: {{ml}}\r\n\r\n{{m}}",
                "y".repeat(100_000)
            ),
            "{m}",
        ),
        refuse("no Host", "GET {p} HTTP/1.1\r\n\r\n{m}"),
        refuse("two Hosts", "GET {p} HTTP/1.1\r\n{h}Host: other.test\r\n\r\n{m}"),
        refuse("two Hosts, the other first", "GET {p} HTTP/1.1\r\nHost: other.test\r\n{h}\r\n{m}"),
        next("line ends in front", "\r\n\r\nGET {p} HTTP/1.1\r\n{h}\r\n{m}", ""),
        next("bare LFs throughout", "GET {p} HTTP/1.1\nHost: shop.ptth.localhost\n\n{m}", ""),
        next("a high byte in a value", "GET {p} HTTP/1.1\r\n{h}Foo: \u{f6}\r\n\r\n{m}", ""),
    ];
    bad.chain(names).chain(others).collect()
}

/// "CL.0", CVE-2024-28869: a body where some expect none.
fn methods() -> Vec<Row> {
    let methods = ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PATCH", "PUT", "PROPFIND", "FOO", "get"];
    let rows = methods.iter().map(|method| {
        body(
            format!("{method} with a body"),
            format!("{method} {{p}} HTTP/1.1\r\n{{h}}Content-Length: {{ml}}\r\n\r\n{{m}}"),
            "{m}",
        )
    });
    let chunked = methods.iter().map(|method| {
        next(format!("{method} with chunks"), format!("{method} {{p}} HTTP/1.1\r\n{{h}}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{{m}}"), "hello")
    });
    rows.chain(chunked).collect()
}

/// CVE-2026-2833, CVE-2026-73548 (bytes behind an Upgrade that nobody accepted), h2c smuggling. The origin answers each
/// with a plain 200.
fn upgrades() -> Vec<Row> {
    let tokens =
        ["websocket", "h2c", "h2", "HTTP/2.0", "TLS/1.0", "foo", "PTTH/1.0", "ptth", "websocket, h2c", ""];
    let bodies = tokens.iter().map(|token| {
        let text = format!("POST {{p}} HTTP/1.1\r\n{{h}}Connection: Upgrade\r\nUpgrade: {token}\r\nContent-Length: {{ml}}\r\n\r\n{{m}}");
        body(format!("Upgrade {token:?} with a body"), text, "{m}")
    });
    let gets = tokens.iter().map(|token| {
        let text = format!("GET {{p}} HTTP/1.1\r\n{{h}}Connection: Upgrade\r\nUpgrade: {token}\r\nContent-Length: {{ml}}\r\n\r\n{{m}}");
        body(format!("Upgrade {token:?} of a GET with a body"), text, "{m}")
    });
    // What follows is a request of its own once the Upgrade was answered by 200, and never raw bytes.
    let glued = tokens.iter().map(|token| {
        let text = format!("GET {{p}} HTTP/1.1\r\n{{h}}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {token}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{{m}}");
        next(format!("Upgrade {token:?} with a request behind it"), text, "")
    });
    let preface = [body(
        "Upgrade h2c with a preface behind it",
        "GET {p} HTTP/1.1\r\n{h}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0{m}",
        "",
    )];
    let connect = [
        refuse("CONNECT to another host", "CONNECT other.test:80 HTTP/1.1\r\nHost: other.test:80\r\n\r\n{m}"),
        refuse(
            "CONNECT to the tenant",
            "CONNECT shop.ptth.localhost:80 HTTP/1.1\r\nHost: shop.ptth.localhost:80\r\n\r\n{m}",
        ),
    ];
    bodies.chain(gets).chain(glued).chain(preface).chain(connect).collect()
}
