//! Why a head is refused. The texts name the cause, and repeat no byte of the head.

use crate::defaults;

/// The longest target that the `http` crate takes, in bytes.
pub(super) const TARGET: usize = u16::MAX as usize - 1;

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// The first line is not that of a request or of a response.
    #[error("the first line is malformed")]
    StartLine,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// The status is not a number from 100 to 999.
    #[error("the status is not a number from 100 to 999")]
    Status,
    /// The target is longer than the `http` crate takes.
    #[error("the target has more than {TARGET} bytes")]
    Target,
    /// The target has a byte that must be percent-encoded (RFC 3986 §2). The `http` crate takes UTF-8
    /// beyond ASCII and `[ ] { } | \ ^`, and would drop a `#` and the bytes behind it.
    #[error("the target has a byte that must be percent-encoded")]
    TargetByte,
    /// A line is not a field.
    #[error(transparent)]
    Field(#[from] FieldFault),
    /// More bytes than a head may have.
    #[error("the head has more than {0} bytes")]
    Bytes(usize),
    /// More fields than a head may have.
    #[error("the head has more than {} fields", defaults::H1_FIELDS)]
    Fields,
    /// The end of the message is ambiguous.
    #[error(transparent)]
    Framing(#[from] FramingFault),
}

/// Why a line of a head is not a field (RFC 9112 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// The line begins with a blank (RFC 9112 §5.2).
    #[error("a field is folded over several lines")]
    Folded,
    /// The line has no colon.
    #[error("a field line has no colon")]
    NoColon,
    /// A blank between the name and the colon (RFC 9112 §5.1).
    #[error("there is a space before the colon of a field")]
    SpaceBeforeColon,
    /// The name is empty, or has a byte that is not allowed in a token (RFC 9110 §5.6.2).
    #[error("a field name is empty or has a byte that is not allowed there")]
    Name,
    /// A CR that is not followed by an LF (RFC 9112 §2.2).
    #[error("a field has a CR without an LF")]
    BareCr,
    /// A control character (RFC 9110 §5.5).
    #[error("a field value has a control character")]
    Value,
}

/// Why the end of a message is ambiguous (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// `Content-Length` is not a number, or too large.
    #[error("its Content-Length is not a valid number")]
    Length,
    /// Several lengths that are not equal.
    #[error("it has Content-Length values that differ")]
    LengthsDiffer,
    /// Both fields that declare the end.
    #[error("it has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// A transfer coding besides one `chunked` (RFC 9112 §6.1).
    #[error("its Transfer-Encoding is not exactly \"chunked\"")]
    Coding,
    /// HTTP/1.0 has no transfer codings (RFC 9112 §6.1).
    #[error("it has a Transfer-Encoding, which HTTP/1.0 does not have")]
    CodingInHttp10,
}

impl FieldFault {
    /// The first fault in the fields of a head that the parser has refused.
    pub(super) fn in_head(head: &[u8]) -> Self {
        let lines = head.split(|byte| *byte == b'\n').skip(1);
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.filter(|line| !line.is_empty()).find_map(Self::in_line).unwrap_or(Self::Value)
    }

    fn in_line(line: &[u8]) -> Option<Self> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        if line.first().is_some_and(is_blank) {
            return Some(Self::Folded);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Some(Self::NoColon) };
        let (name, value) = line.split_at(colon);
        let is_malformed = |name: &[u8]| name.is_empty() || !name.iter().all(|byte| is_token(*byte));
        match name.strip_suffix(b" ").or_else(|| name.strip_suffix(b"\t")) {
            Some(name) if !is_malformed(name.trim_ascii_end()) => return Some(Self::SpaceBeforeColon),
            None if !is_malformed(name) => {}
            _ => return Some(Self::Name),
        }
        if value.contains(&b'\r') {
            return Some(Self::BareCr);
        }
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        value.iter().any(is_control).then_some(Self::Value)
    }
}

/// A byte of a token (RFC 9110 §5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
