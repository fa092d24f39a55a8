//! Every default, each with its unit and its reason.

mod origin;

use std::time::Duration;

pub use self::origin::*;

/// The domain below which names are served. It needs no DNS (RFC 6761 §6.3), and a wildcard certificate for
/// it is allowed.
pub const DOMAIN: &str = "ptth.localhost";
/// The listener is reachable from this machine only, until an operator sets another address.
pub const LISTEN: &str = "127.0.0.1:8443";
/// The admin listener is reachable from this machine only: metrics and sessions are not public.
pub const ADMIN: &str = "127.0.0.1:9180";
/// The path of the ReverseHttp gateway, as in the original ReverseHttp.
pub const GATEWAY: &str = "/reversehttp";

/// From accept to the end of the TLS handshake. Slow mobile links need about 2 s. A longer handshake is an attack or
/// a dead peer.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// The time in which a transport must admit or refuse a stream that is its own from the first byte: two flights and a
/// lookup of the token.
pub const STREAM: Duration = Duration::from_secs(10);
/// The part of a PROXY protocol version 2 header behind its first 16 bytes, in bytes: addresses, and the contents
/// of a certificate.
pub const PROXY_HEADER: usize = 4 << 10;
/// From the start to the end of a connection to the admin listener.
pub const ADMIN_TIME: Duration = Duration::from_secs(30);
/// The time for the head of a request, and the idle timeout of a visitor's keep-alive connection.
pub const HEAD: Duration = Duration::from_secs(30);
/// The relay sends a PING on a visitor's HTTP/2 connection after [`HEAD`] of silence. Without an answer for this long
/// the connection is dead.
pub const VISITOR_PING_DEAD: Duration = Duration::from_secs(20);
/// The wait for the raw stream after a 101 was sent or received: one flush.
pub const FLIP: Duration = Duration::from_secs(10);
/// Interim responses (1xx) before one answer: enough for an origin that sends a 102 every few seconds for as long as an
/// answer may take. More of them are a flood and end the request.
pub const INTERIM: usize = 32;
/// The size of one interim response over HTTP/1.1, in bytes: enough for the links of a large page.
pub const INTERIM_BYTES: usize = 16 << 10;
/// The trailers of one message over HTTP/1.1, in bytes.
pub const TRAILERS: usize = 16 << 10;
/// Trailer fields of one message: agents of version 0.1 accept no more.
pub const TRAILER_FIELDS: usize = 100;
/// The longest reason phrase that is forwarded, in bytes: phrases are a few words. A longer phrase becomes the usual one.
pub const REASON: usize = 256;
/// A request that has passed through so many relays is in a loop: relays in front of one another are few.
pub const LOOP: usize = 8;
/// The wait for the head of an answer: longer than people wait, and bounded.
pub const ANSWER: Duration = Duration::from_secs(120);
/// How long a request waits for a free connection when all connections of its agent are in use.
pub const WAIT_FREE: Duration = Duration::from_secs(10);
/// The same when the agent can open no more connections, because it has [`H1_MOST`] or polls with [`ENVELOPES`] requests in
/// flight: then only the end of another request makes a place. Many of those may be streams without an end.
pub const WAIT_FULL: Duration = Duration::from_secs(1);
/// How long an agent's offer waits for the directory that several relays share: a network hop and a write.
pub const DIRECTORY: Duration = Duration::from_millis(500);
/// How long a request waits for an agent that has just disconnected: a reconnect takes less.
pub const WAIT_AGENT: Duration = Duration::from_secs(3);
/// When an answer precedes the end of its upload, a short rest of the upload is read for this long, so that the
/// connection can serve the next request. After that the connection lingers: see [`LINGER`].
pub const DRAIN: Duration = Duration::from_secs(2);
/// The same between relay and agent over HTTP/1.1, where the next request waits for the connection.
pub const H1_DRAIN: Duration = Duration::from_millis(100);
/// The longest rest of an upload that is read to keep the connection, in bytes: about as much as is in transit.
pub const DRAIN_BYTES: usize = 256 << 10;
/// After an early answer the server closes its sending direction and discards what the far end sends (RFC 9112 §9.6):
/// at most for this long. Many programs read the answer only when they have sent the whole upload. 30 s and
/// [`LINGER_SILENCE`] are the values of nginx, and 64 MiB in 30 s is 18 Mbit/s.
pub const LINGER: Duration = Duration::from_secs(30);
/// A far end that sends nothing for this long has read the answer, or is gone.
pub const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// The discarded bytes of one connection: an upload of this size still ends with its status.
pub const LINGER_BYTES: u64 = 64 << 20;
/// The number of public connections divided by this is the most that linger at once. Beyond it, the connection that has
/// lingered longest is closed.
pub const LINGER_SHARE: usize = 20;
/// How long a connection lingers once its server stops: one round trip for the answer.
pub const LINGER_STOP: Duration = Duration::from_secs(1);
/// How often a connection is checked for a reset once its visitor has closed its sending direction. A visitor that has
/// left is reported to the origin within this time and a round trip.
pub const HALF_CLOSED_CHECK: Duration = Duration::from_millis(250);
/// How often a connection is checked for a reset while the upload on it is not read.
pub const UNREAD_CHECK: Duration = Duration::from_secs(1);
/// The lowest rate at which a visitor must send or receive, in bytes a second, while it occupies a whole connection and
/// other requests wait for one. The slowest mobile network is faster.
pub const PACE: u64 = 8 << 10;
/// The time over which [`PACE`] is measured. A visitor that was fast at first and is slow now is found within twice
/// this time, and the next request after that gets its place.
pub const PACE_WITHIN: Duration = Duration::from_secs(3);
/// [`PACE`] is enforced only when another request has waited for this long: half of [`WAIT_FULL`], so that the request
/// gets the place that becomes free.
pub const PACE_PATIENCE: Duration = Duration::from_millis(500);
/// Requests that wait for one agent. A longer queue would only hide the outage.
pub const WAITING: usize = 512;
/// How often a request is repeated that is harmless to repeat. When a whole agent disappears, its connections are found
/// dead one after the other.
pub const REPEATS: usize = 4;
/// The `Retry-After` of a 503 to a visitor.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The `Retry-After` for a visitor that has as many requests in flight as the name allows: any of them may end
/// at any moment.
pub const RETRY_SOON: Duration = Duration::from_secs(1);
/// How long routes stay reserved for their token after its last connection has ended.
pub const LEASE: Duration = Duration::from_secs(60);
/// How long requests in flight have to finish when the process stops.
pub const GRACE: Duration = Duration::from_secs(30);
/// When [`GRACE`] ends and requests are cut, the log names at most this many of their agents, one by one.
pub const CUT_NAMED: usize = 100;

/// Public connections at once, over all cores: at about 30 KiB each, half a gigabyte. A connection with data that its
/// receiver does not read takes up to ten times that.
pub const CONNECTIONS: usize = 16_384;
/// Connections at once that are accepted although visitors use all public connections. Each must prove to be an agent's
/// within a few round trips. Enough for a burst of agents that reconnect.
pub const NEWCOMERS: usize = 128;
/// The number of reserved descriptors divided by this is another limit for [`NEWCOMERS`].
pub const NEWCOMERS_SHARE: usize = 8;
/// Public connections at once from one address (one /64 with IPv6): a hundred people behind one NAT, each with as many
/// as a browser opens. Only sixteen addresses together can take all [`CONNECTIONS`].
pub const CONNECTIONS_PER_ADDRESS: usize = 1_024;
/// Agent connections at once of one token.
pub const CONNECTIONS_PER_AGENT: usize = 1_024;
/// Names and hosts in one offer: each is compared with every other, and the answer lists them all.
pub const ROUTES_PER_OFFER: usize = 256;
/// Names and hosts that one token holds, leases included. The table of all routes is copied when an agent connects;
/// with this many entries the copy takes a millisecond.
pub const ROUTES_PER_AGENT: usize = 16_384;

/// Wrong credentials of agents, and URLs that the relay did not issue, from one address within [`GUESSES_WITHIN`]:
/// a person who mistypes needs three. Valid credentials and URLs are still accepted after that, since others may
/// share the address.
pub const GUESSES: u32 = 20;
/// Wrong passwords of visitors from one address within [`GUESSES_WITHIN`]: people choose these passwords, so fewer
/// tries find one.
pub const GUESSES_VISITOR: u32 = 10;
/// See [`GUESSES`].
pub const GUESSES_WITHIN: Duration = Duration::from_secs(60);
/// Addresses whose wrong credentials are counted at the same time: a few megabytes at most.
pub const GUESSERS: usize = 16_384;
/// Passwords of visitors that are hashed at once: twenty milliseconds of one core each.
pub const HASHING: usize = 2;
/// Passwords for one name that are hashed at once, so that wrong passwords for one name do not delay first logins
/// at other names.
pub const HASHING_PER_NAME: usize = 1;
/// How long a visitor's password waits to be hashed.
pub const HASHING_WAIT: Duration = Duration::from_secs(5);
/// Verified credentials of visitors that are remembered, per name: each saves twenty milliseconds a request.
pub const CREDENTIALS_KNOWN: usize = 1_024;
/// Addresses of visitors that are counted at the same time, for each name that has a limit per visitor.
pub const VISITORS_KNOWN: usize = 8_192;
/// The rules for visitors, as text, in bytes: a dozen users and a dozen networks. For an agent that polls, URLs contain
/// the rules too.
pub const VISITORS: usize = 2_048;

/// Names that one agent without a token may hold: a person's few projects.
pub const OPEN_NAMES_PER_AGENT: usize = 8;
/// Names that agents without a token may hold from one address (one /64 with IPv6): a classroom behind one NAT.
pub const OPEN_NAMES_PER_ADDRESS: usize = 32;
/// Names held without a token in all, leases included. Each may take memory for its agent. A relay that needs more
/// names should give its users tokens.
pub const OPEN_NAMES: usize = 1_024;
/// Agent connections at once of one agent without a token: as many as one busy `h1` agent opens.
pub const OPEN_CONNECTIONS_PER_AGENT: usize = 64;
/// Bodies that wait for one polling agent without a token, in bytes. Any visitor may send them, and they may
/// fill a disk.
pub const OPEN_MESSAGES: usize = 16 << 20;
/// Names that are never given without a token: software looks some of them up by itself (RFC 2142, WPAD,
/// autodiscovery), and people take the rest for the operator's own.
pub const OPEN_RESERVED: &[&str] = &[
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "auth",
    "autoconfig",
    "autodiscover",
    "billing",
    "ftp",
    "help",
    "hostmaster",
    "imap",
    "isatap",
    "localhost",
    "login",
    "mail",
    "mta-sts",
    "mx",
    "ns",
    "ns1",
    "ns2",
    "oauth",
    "pop",
    "pop3",
    "postmaster",
    "ptth",
    "relay",
    "reversehttp",
    "root",
    "security",
    "smtp",
    "sso",
    "status",
    "support",
    "vpn",
    "webmail",
    "webmaster",
    "wpad",
    "www",
];

/// Requests that are relayed to other hosts at once (RelayHttp). With [`RELAY_HTTP_REQUEST`] this limit
/// bounds their memory.
pub const RELAY_HTTP: usize = 64;
/// The same for one address (one /64 with IPv6), so that one person's page does not wait for another person's.
pub const RELAY_HTTP_PER_ADDRESS: usize = 16;
/// The body of a request that is relayed to another host, in bytes: the bound of the original RelayHttp.
pub const RELAY_HTTP_REQUEST: usize = 1 << 20;
/// The body of an answer from another host, in bytes. The body streams, so this limit bounds traffic, not memory.
pub const RELAY_HTTP_ANSWER: usize = 64 << 20;
/// From the connection to another host to the end of its answer: a reader closes a page that takes longer.
pub const RELAY_HTTP_TIME: Duration = Duration::from_secs(120);

/// The interval of PING frames on an idle `h2` carrier.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A connection without an answer to a PING for this long is dead. With [`PING_EVERY`] a half-open connection is found
/// in 11.5 s.
pub const PING_DEAD: Duration = Duration::from_millis(6_500);
/// A session whose PING is overdue by this much is chosen only after other sessions.
pub const PING_LATE: Duration = Duration::from_secs(1);
/// `h1` carriers have no PING. The kernel sends the first keep-alive probe after this silence.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
/// The interval of the keep-alive probes that follow.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
/// After this many keep-alive probes without an answer the far end is dead. On an idle link that takes 10 s.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// The kernel sends the first keep-alive probe to a visitor or an origin after this silence.
pub const OTHERS_KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// The interval of the probes that follow. A phone that was out of reach stays connected. A phone that is gone is
/// found by [`STALLED`].
pub const OTHERS_KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// A receiver that reads nothing of a body for this long is taken for gone. Until then the body occupies its agent.
pub const STALLED: Duration = Duration::from_secs(300);
/// An `h1` connection to an agent is dead when the head of a request is not acknowledged for this long.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// The age at which an `h1` connection of an agent is replaced, before NATs and load balancers drop it.
pub const H1_AGE: Duration = Duration::from_secs(15 * 60);

/// The largest window of one stream, in bytes. It fills 1 Gbit/s at a round trip of 50 ms. A connection has it only
/// after a reader has kept up with the first window.
pub const STREAM_WINDOW: u32 = 8 << 20;
/// Bytes that wait at a relay for slow visitors and slow agents: all streams together, not counting one frame for each
/// stream and [`VISITOR_FIRST_WINDOW`] for each connection that uploads. The streams of a connection share what is left,
/// so that one unread answer with a full [`STREAM_WINDOW`] leaves most of it to others.
pub const BUFFERS: usize = 256 << 20;
/// [`BUFFERS`] divided by this is the most for one agent, so that its slow visitors leave room for visitors
/// of other agents: 36 MiB, nine windows of 4 MiB: for eight parallel downloads and a body to come.
pub const BUFFERS_PER_AGENT: usize = 7;
/// [`BUFFERS`] divided by this is the most for all uploads of visitors with HTTP/2 together.
pub const BUFFERS_OF_UPLOADS: usize = 2;
/// [`BUFFERS`] divided by this is the most for the heads of requests in flight that are larger than [`SMALL_HEAD`]:
/// 8 MiB, or 135 heads of the largest size. A head takes up to three times its bytes at the relay, and twice at the
/// agent.
pub const BUFFERS_OF_HEADS: usize = 32;
/// A head up to this size, in bytes with 256 for each field, is not counted: browsers send 20 fields and 2 KiB of
/// cookies.
pub const SMALL_HEAD: usize = 16 << 10;
/// The most that is counted for one head, in bytes: the fields of the largest.
pub const HEAD_MOST: usize = 1 << 20;
/// Large heads that wait for room at once, in bytes: they are in memory too.
pub const HEADS_QUEUE: usize = 4 << 20;
/// How long such a head waits: most services answer within this time.
pub const HEADS_WAIT: Duration = Duration::from_secs(1);
/// Bytes that wait at an agent for a slow origin: all uploads together, not counting one frame for each.
pub const AGENT_BUFFERS: usize = 32 << 20;
/// How often each core returns free memory to the system: a burst of visitors is forgotten within a minute, and the
/// return takes milliseconds.
pub const MEMORY_RETURN: Duration = Duration::from_secs(20);
/// Bytes of one stream that wait for the socket: two writes.
pub const SEND_BUFFER: usize = 64 << 10;
/// Streams at once on one `h2` carrier.
pub const STREAMS: u32 = 1_024;
/// The head of a visitor's request, in HTTP/1.1 or HTTP/2, in bytes: 64 KiB of fields, and the first line.
pub const VISITOR_HEAD: usize = 72 << 10;
/// The head of a request between relay and agent over HTTP/1.1, in bytes: the relay adds less than 8 KiB to the head of
/// a visitor's request.
pub const H1_HOP_HEAD: usize = VISITOR_HEAD + (8 << 10);
/// The head of an answer over HTTP/1.1, in bytes: as much as a request may have, with the fields that an agent adds.
pub const H1_ANSWER_HEAD: usize = H1_HOP_HEAD;
/// Fields in one head over HTTP/1.1: ten times as many as browsers send.
pub const H1_FIELDS: usize = 512;
/// The extensions of all chunks of one body, in bytes. Senders hardly use extensions, and without a limit a peer could
/// send any number of bytes that no limit of a body counts (CVE-2023-39326).
pub const CHUNK_EXTENSIONS: usize = 16 << 10;
/// Bytes that a visitor may send on a new `h2` connection: enough for a form, and as much as a visitor on HTTP/1.1 may
/// send.
pub const VISITOR_FIRST_WINDOW: u32 = 128 << 10;
/// Bytes that a visitor may send beyond [`VISITOR_FIRST_WINDOW`] once it has a long upload. One upload may take half,
/// which fills 90 Mbit/s at a round trip of 50 ms. A hundred connections may take this much of [`BUFFERS`] at once.
pub const VISITOR_WINDOW: u32 = 1 << 20;
/// Streams at once on a visitor's connection: twice as many as browsers use.
pub const VISITOR_STREAMS: u32 = 200;
/// The idle timeout of a visitor's HTTP/2 connection, which is closed at the latest after twice this time. Browsers
/// close idle connections after about the same time.
pub const VISITOR_IDLE: Duration = Duration::from_secs(90);
/// Streams that a visitor may reset before the relay has accepted them (CVE-2023-44487): the h2 crate has found this
/// enough for browsers.
pub const VISITOR_RESETS: usize = 20;
/// Streams of a visitor that the relay resets for an error of the visitor before it ends the connection
/// (CVE-2025-8671): the h2 crate's own bound.
pub const VISITOR_FAULTS: usize = 1024;
/// Lines of the access log that wait to be written, in bytes: several thousand lines. If a disk or a pipe stands still
/// for longer, lines are lost; no request waits for the log.
pub const ACCESS_QUEUE: usize = 1 << 20;
/// The initial capacity of the access log's queue, in bytes.
pub const ACCESS_BATCH: usize = 16 << 10;
/// A usual line of the access log, in bytes.
pub const ACCESS_LINE: usize = 384;
/// How long lines of the access log are gathered before they are written: under load one write carries many lines.
pub const ACCESS_GATHER: Duration = Duration::from_millis(10);
/// How long a command that ends waits for its last lines of the access log to be written.
pub const ACCESS_LAST: Duration = Duration::from_secs(1);
/// Bytes of a message's fields: several large cookies.
pub const FIELDS: u32 = 128 << 10;

/// An agent opens another `h2` connection when each of its connections carries more requests than this.
pub const BUSY: usize = 32;
/// Idle `h1` connections that an agent keeps ready.
pub const H1_SPARE: usize = 2;
/// `h1` connections of one agent, at most.
pub const H1_MOST: usize = 64;
/// The idle timeout of an `h1` connection beyond [`H1_SPARE`].
pub const H1_IDLE: Duration = Duration::from_secs(30);

/// The first wait between two attempts to reach a relay.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait during the first minute of an outage. It is short, so that an agent reconnects soon after its relay
/// is back. Full jitter spreads the attempts.
pub const BACKOFF_MOST: Duration = Duration::from_secs(2);
/// The longest wait after the first minute: when a relay is unreachable for a minute, a second more does not matter.
pub const BACKOFF_LONG: Duration = Duration::from_secs(10);
/// The age of an outage from which [`BACKOFF_LONG`] applies.
pub const OUTAGE_LONG: Duration = Duration::from_secs(60);
/// A relay that refuses the agent while other relays do not is tried again after this, at the latest: the token may be
/// granted later.
pub const REFUSED_FIRST: Duration = Duration::from_secs(60);
/// The wait doubles up to this: most refusals are permanent, and the relay counts wrong tokens.
pub const REFUSED_MOST: Duration = Duration::from_secs(600);
/// A connection that lasted this long resets the wait: after the next failure the agent begins with [`BACKOFF_FIRST`].
pub const PROVEN: Duration = Duration::from_secs(5);
/// The longest wait that an agent accepts from a relay's `Retry-After`.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(300);
/// An agent that is not on its best transport tries the better ones again after this, at the latest.
pub const CLIMB_FIRST: Duration = Duration::from_secs(30);
/// The wait doubles up to this: a lasting block is a policy, and each attempt costs the relay a handshake.
pub const CLIMB_MOST: Duration = Duration::from_secs(300);
/// When a connection breaks sooner than this and has served no request, the traffic after its 101 is taken
/// for the cause.
pub const STUMBLE: Duration = Duration::from_secs(3);
/// The time to open one TCP connection of an agent.
pub const CONNECT: Duration = Duration::from_secs(10);
/// The delay between the attempts at one address of a host and at the next (RFC 8305 §5).
pub const HAPPY_EYEBALLS: Duration = Duration::from_millis(250);
/// From the Upgrade request to its answer.
pub const UPGRADE: Duration = Duration::from_secs(15);

/// How often the relay checks whether tokens have changed on disk.
pub const TOKENS_CHECK: Duration = Duration::from_millis(500);
/// The least time between two checks that unknown credentials cause, however many arrive. Because of these checks a
/// token is valid as soon as `ptth token new` has printed it.
pub const TOKENS_LOOKUP: Duration = Duration::from_millis(50);
/// How long an unknown credential waits for such a check.
pub const TOKENS_LOOKUP_WAIT: Duration = Duration::from_secs(5);
/// How often the relay checks whether the files of its certificates have changed: a renewed certificate is shown within
/// seconds, and the files are small.
pub const CERTIFICATES_CHECK: Duration = Duration::from_secs(5);
/// A changed file is read again after this time, and loaded if it is still the same: writing a certificate and its
/// key takes less.
pub const CERTIFICATES_SETTLE: Duration = Duration::from_secs(1);
/// How long a reader or writer of the state waits for another: each holds it for milliseconds.
pub const STATE_BUSY: Duration = Duration::from_secs(5);

/// How long a poll is held open. Middleboxes cut connections that are silent for 30 s.
pub const POLL_HOLD: Duration = Duration::from_secs(25);
/// The shortest hold that is learned from polls that were cut: shorter holds are a load of their own.
pub const POLL_HOLD_LEAST: Duration = Duration::from_secs(2);
/// A poll that broke sooner than this was not cut for its age.
pub const POLL_CUT: Duration = Duration::from_secs(1);
/// Complete holds in a row before a longer hold is tried. Each cut doubles the number, so that a middlebox is not
/// probed for ever.
pub const POLL_HOLDS: u32 = 16;
/// The most that [`POLL_HOLDS`] is doubled to.
pub const POLL_HOLDS_MOST: u32 = 256;
/// Polls that break at the same age, one after the other, before an agent assumes a cut: a relay that restarts breaks
/// its polls once.
pub const POLL_BREAKS: u32 = 2;
/// Polls of one registration that are dropped at the same age, one after the other, before the relay assumes a cut: for
/// agents that cannot set how long to hold.
pub const POLL_DROPS: u32 = 3;
/// How long an agent probes whether bodies get through while they are open: a second of round trip, twice.
pub const PROBE: Duration = Duration::from_secs(2);
/// How long the URL of a probe is valid, in seconds: the agent uses it at once.
pub const PROBE_URL_AGE: u64 = 60;
/// Probes at once, in all: each costs two open requests, mostly for one round trip.
pub const PROBES: usize = 1_024;
/// Probes at once of one token, and of one address, so that no agent's probes shut out those of all others.
pub const PROBES_PER_AGENT: usize = 256;
/// How long requests wait for an agent after its last poll: the Python client sleeps 2 s after every 204.
pub const POLL_ABSENCE: Duration = Duration::from_secs(5);
/// How long requests wait for an agent that handles other requests (ReverseHttp requires at least this).
pub const POLL_BUSY: Duration = Duration::from_secs(60);
/// Polls of one registration that are held at once. An agent needs no more of them than bridge its round trips.
pub const POLLS_MOST: usize = 64;
/// Polls of all registrations of one token with one transport that are held at once: as many as the connections of an
/// agent, so that no token takes all public connections.
pub const POLLS_PER_AGENT: usize = CONNECTIONS_PER_AGENT;
/// Polls that our own agent keeps open while it is idle.
pub const POLLS: usize = 4;
/// Polls that our own agent keeps open under load.
pub const POLLS_BUSY: usize = 32;
/// How long an agent that polls keeps an upload open that its origin does not read to the end. By then the answer has
/// begun at the relay, over a connection of its own. An answer without an end does not keep the upload open for longer.
pub const UPLOAD_KEPT: Duration = Duration::from_secs(10);
/// An agent gives up an answer of which nothing has moved to the relay for this long: longer than the relay waits for a
/// visitor that reads nothing.
pub const ANSWER_STUCK: Duration = STALLED.saturating_add(UPGRADE);
/// Requests of one registration, queued and in flight.
pub const ENVELOPES: usize = 256;
/// The body of a message that must be complete before it is forwarded, because something on the path holds bodies back,
/// in bytes: as much as crosses within [`ANSWER`] at 20 Mbit/s.
pub const MESSAGE: usize = 256 << 20;
/// All such bodies of one registration, in bytes: four of the largest.
pub const MESSAGES: usize = 1 << 30;
/// A body up to this size, in bytes, stays in memory. With [`ENVELOPES`] at once that is 64 MiB for each registration.
pub const MESSAGE_MEMORY: usize = 256 << 10;
/// How long such a body may take to arrive: the largest at 7 Mbit/s. A slower body must leave its room to others.
pub const TAKE_IN: Duration = Duration::from_secs(300);
/// The bodies and answers of all registrations of a relay that are in memory, in bytes: as much as [`BUFFERS`].
pub const ENVELOPES_MEMORY: u64 = 256 << 20;
/// The longer bodies and answers of all registrations, in files, in bytes: four registrations may have
/// all of [`MESSAGES`].
pub const ENVELOPES_DISK: u64 = 4 << 30;
/// How long an answer may take to be complete, where it is forwarded only as a whole: the other half of [`ANSWER`] is
/// for the transfer.
pub const WHOLE: Duration = Duration::from_secs(60);
/// The same for `text/event-stream`: most event streams have no end, and a visitor must not wait long for the error.
pub const WHOLE_EVENTS: Duration = Duration::from_secs(10);
/// Requests in one `application/http` envelope: enough to hide a round trip from a single-threaded agent, but few,
/// because each of their visitors waits for the slowest answer.
pub const PIPELINE: usize = 8;
/// The answers to the requests of one such envelope, in bytes: they are read in memory.
pub const PIPELINE_ANSWERS: usize = 8 << 20;
/// All such answers of one registration that are being read, in bytes.
pub const PIPELINES_ANSWERS: usize = 64 << 20;
/// The path of the comet endpoint, below that of the gateway.
pub const COMET: &str = "/_comet";
/// The body of a message that crosses as JSON, in bytes: both ends have it in memory.
pub const COMET_MESSAGE: usize = 8 << 20;
/// All such bodies of one session in one direction, in bytes.
pub const COMET_MESSAGES: usize = 64 << 20;
/// A message as JSON, in bytes: a body of [`COMET_MESSAGE`] of which each byte is escaped, and its fields.
pub const JSON: usize = 2 * COMET_MESSAGE + (1 << 20);
/// An answer up to this size, in bytes, is received before its visitor reads it, so that a single-threaded agent is
/// free for the next request. A larger answer streams.
pub const ANSWER_WHOLE: u64 = 1 << 20;
/// A body in memory or in a file is written in pieces of this size, in bytes: one write to a connection.
pub const PIECE: usize = 64 << 10;
/// The bytes that may wait in each direction of an upgraded stream between two polls: one read of a connection.
pub const PIPE: usize = 64 << 10;
/// An answer up to this size, in bytes, is sent again when its connection breaks. Most answers are smaller, and each
/// takes as much memory while it is in flight.
pub const ANSWER_AGAIN: usize = 64 << 10;
/// Request URLs that one registration remembers as used, to refuse them.
pub const URLS_USED: usize = 16_384;
/// Answers that are still accepted, and discarded, after their visitors have left: agents receive a 202 for them.
pub const ANSWERS_LATE: usize = 1_024;
/// Visitors that have left, in the answer to one poll: its head stays below 4 KiB, which every intermediary forwards.
pub const GONE_AT_ONCE: usize = 64;
/// Visitors that have left before their requests have reached the agent: the report that a visitor has left may
/// overtake the request, because the two use different connections.
pub const GONE_EARLY: usize = 64;
/// How long a Request URL is valid, in seconds: 30 days, because old clients never request another while they are idle.
pub const REQUEST_URL_AGE: u64 = 30 * 24 * 3600;
/// The shortest lease of a registration, as in the original ReverseHttp.
pub const POLL_LEASE: Duration = Duration::from_secs(30);
/// From the first poll of a new poller until it takes over from a poller that is gone: enough for a live poller to poll
/// again, and visitors are answered within a second.
pub const POLL_TAKEOVER: Duration = Duration::from_millis(500);
/// The longest lease of a registration: an agent that does not poll once an hour is gone.
pub const POLL_LEASE_MOST: Duration = Duration::from_secs(3600);
/// A form of a few short fields, in bytes.
pub const FORM: usize = 16 << 10;
/// Deleted registrations that are remembered, so that their URLs stay invalid.
pub const DELETED: usize = 4_096;
/// How often a stopping relay checks whether agents that poll have answered all their requests in flight.
pub const ANSWERS_CHECK: Duration = Duration::from_millis(20);
