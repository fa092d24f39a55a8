//! All field names that are not constants of the `http` crate, each with its source.

use http::HeaderName;

/// The prefix of the fields that are internal to relay and agent and are never forwarded. [`REQUESTING_CLIENT`] is such
/// a field without the prefix.
pub const INTERNAL: &str = "ptth-";

/// `ALPN` (RFC 7639 §2; as a response field draft-kazuho-ptth-ptth-01 §3).
pub const ALPN: HeaderName = HeaderName::from_static("alpn");
/// `Keep-Alive` (RFC 2068 §19.7.1.1): hop-by-hop.
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// `Incremental: ?1` (RFC 10036): the message is to be forwarded while it arrives. End-to-end.
pub const INCREMENTAL: HeaderName = HeaderName::from_static("incremental");
/// `Prefer` (RFC 7240): agents set with `wait` how long a poll is to be held.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// `Proxy-Connection`: never standardised, hop-by-hop all the same (RFC 9113 §8.2.2).
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// `Proxy-Status` (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// `HTTP2-Settings` (RFC 7540 §3.2.1): meant for one hop, obsolete since RFC 9113.
pub const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// `X-Forwarded-For`: de facto.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`: de facto.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`: de facto.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Prefix`: de facto. The start of the path that a proxy has removed.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// `X-Request-Id`: de facto. Identifies a request in the logs of every hop.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `Requesting-Client` (ReverseHttp, "Polling"). Dropped from visitors.
pub const REQUESTING_CLIENT: HeaderName = HeaderName::from_static("requesting-client");
/// `PTTH-Instance: ID;boot=N`: our own. The process that a connection belongs to.
pub const PTTH_INSTANCE: HeaderName = HeaderName::from_static("ptth-instance");
/// `PTTH-Connections: N`: our own. The number of connections that the relay can use.
pub const PTTH_CONNECTIONS: HeaderName = HeaderName::from_static("ptth-connections");
/// `PTTH-Status: CODE`: our own. The status of a success that did not accept an Upgrade. In the answer to an extended
/// CONNECT a success itself would mean acceptance (RFC 8441 §5).
pub const PTTH_STATUS: HeaderName = HeaderName::from_static("ptth-status");
/// `PTTH-Reason: PHRASE`: our own, on an answer of our agent over HTTP/2, which has no reason phrases (RFC 9113 §8.3.2).
/// The agent sends the phrase of its origin if it is not the usual one, and the relay writes it for HTTP/1 visitors.
pub const PTTH_REASON: HeaderName = HeaderName::from_static("ptth-reason");
/// `PTTH-Exclusive: ?1`: our own. This process fences every other process with its token and name.
pub const PTTH_EXCLUSIVE: HeaderName = HeaderName::from_static("ptth-exclusive");
/// `PTTH-Stream: ?1`: our own, on the answer to a ReverseHttp registration. The relay streams messages through polls
/// and answers, for agents that request it.
pub const PTTH_STREAM: HeaderName = HeaderName::from_static("ptth-stream");
/// `PTTH-Request: ID`: our own. Names the request in the answer to a poll, for agents that stream or have announced
/// [`PTTH_INSTANCE`].
pub const PTTH_REQUEST: HeaderName = HeaderName::from_static("ptth-request");
/// `PTTH-Cancelled: ID, …`: our own, in the answer to a poll without a request, for agents that have announced
/// [`PTTH_INSTANCE`]. The visitors of these requests have left: the agent drops the requests, and sends no answers.
pub const PTTH_CANCELLED: HeaderName = HeaderName::from_static("ptth-cancelled");
/// `PTTH-Gone: ID, …`: the earlier name of [`PTTH_CANCELLED`], for agents and relays that know only this one.
pub const PTTH_GONE: HeaderName = HeaderName::from_static("ptth-gone");
/// `PTTH-Visitor-Connection: N`: our own, 32 hexadecimal digits, on a request to an agent that sent its instance. The
/// requests with one number come from one visitor connection. The relay sends the field once a login that an origin
/// ties to its connection (NTLM, Negotiate) has begun on the visitor connection, and never for a trusted proxy, which
/// may send the requests of several visitors on one connection. The agent removes the field.
pub const PTTH_VISITOR_CONNECTION: HeaderName = HeaderName::from_static("ptth-visitor-connection");
/// `PTTH-Probe: ?1`: our own. The relay answers as to any offer, then closes. `ptth doctor` sends this field.
pub const PTTH_PROBE: HeaderName = HeaderName::from_static("ptth-probe");
/// `PTTH-Visitors`: our own, a dictionary (RFC 9651 §3.2) of the rules that the relay is to enforce on visitors. Every
/// offer of an agent with rules has this field. A visitor must satisfy all members present:
///
/// | member | is |
/// |---|---|
/// | `basic` | users, each a string with the parameter `pbkdf2`: 16 bytes of salt and 32 of PBKDF2-HMAC-SHA-256 in 100,000 rounds |
/// | `net` | networks, each a string as in `192.0.2.0/24` |
/// | `secret` | the name of a field, with the parameter `sha256`: the digest of its required value |
/// | `rate`, `in-flight` | requests per second, and requests in flight, for the name |
/// | `visitor-rate`, `visitor-in-flight` | the same for one address: IPv4, or the first 64 bits of IPv6 |
/// | `body` | the most bytes in a request's body |
///
/// The relay refuses the whole offer if it does not understand a member. The answer to an offer with rules has
/// `PTTH-Visitors: ?1`. Without that field an agent does not serve, because a relay that does not support rules would
/// admit every visitor.
pub const PTTH_VISITORS: HeaderName = HeaderName::from_static("ptth-visitors");
/// `PTTH-Answer-Timeout: N`: our own. In an offer: how many seconds a visitor may wait for the head of an answer of this
/// agent; 0 requests no limit. The relay caps the value at the most that the token allows, and without a value in the
/// token at the limit of the relay. The answer to an offer with this field has the field too, with the limit in force.
/// Without it, the relay does not support the field, and its own limit applies.
pub const PTTH_ANSWER_TIMEOUT: HeaderName = HeaderName::from_static("ptth-answer-timeout");
/// The name that an agent suggests for itself when it requests no route. A relay that does not know the field refuses
/// the offer if the token allows several names.
pub const PTTH_SUGGESTED_NAME: HeaderName = HeaderName::from_static("ptth-suggested-name");
/// `PTTH-Warning`: our own, a list of strings (RFC 9651 §3.1), on the answer to an offer that was granted. Each string
/// warns the agent's owner of a problem that visitors will meet, such as a host without a certificate. An agent shows
/// the strings and continues. An agent that ignores the field misses only the warnings.
pub const PTTH_WARNING: HeaderName = HeaderName::from_static("ptth-warning");
