//! Every default, each with its unit and its reason.

use std::time::Duration;

/// The domain below which names are served: needs no DNS (RFC 6761 §6.3), and a star certificate for it is legal.
pub const DOMAIN: &str = "ptth.localhost";
/// Only this machine, until an operator says otherwise.
pub const LISTEN: &str = "127.0.0.1:8443";
/// Metrics and sessions are nobody's business but the machine's.
pub const ADMIN: &str = "127.0.0.1:9180";
/// The path of the ReverseHttp gateway, as the original calls it.
pub const GATEWAY: &str = "/reversehttp";

/// From accept to the end of the TLS handshake. Slow mobile links need about 2 s; more is an attack or a corpse.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the first byte of a stream that a transport takes to its admission: two flights and a look at the tokens.
pub const STREAM: Duration = Duration::from_secs(10);
/// A header of the PROXY protocol, version 2, in bytes behind its first 16: addresses, and what a certificate says.
pub const PROXY_HEADER: usize = 4 << 10;
/// From the start to the end of a connection to the admin listener.
pub const ADMIN_TIME: Duration = Duration::from_secs(30);
/// For the head of a request, and how long a keep-alive connection of a visitor may be silent.
pub const HEAD: Duration = Duration::from_secs(30);
/// A visitor's HTTP/2 connection that is asked after [`HEAD`] of silence and does not answer for this long is dead.
pub const VISITOR_PING_DEAD: Duration = Duration::from_secs(20);
/// For the raw stream after a 101 was written or read: one flush away.
pub const FLIP: Duration = Duration::from_secs(10);
/// Interim responses (1xx) before one answer: an origin that says 102 every few seconds for as long as an answer may
/// take. More is a flood, and ends the request.
pub const INTERIM: usize = 32;
/// One interim response over HTTP/1.1, in bytes: the links of a large page.
pub const INTERIM_BYTES: usize = 16 << 10;
/// The trailers of one message over HTTP/1.1, in bytes.
pub const TRAILERS: usize = 16 << 10;
/// How many they may be: agents of version 0.1 take no more.
pub const TRAILER_FIELDS: usize = 100;
/// Until the head of an answer: longer than what people wait, shorter than forever.
pub const ANSWER: Duration = Duration::from_secs(120);
/// How long a request waits for a free connection of an agent that has some.
pub const WAIT_FREE: Duration = Duration::from_secs(10);
/// How long an agent's offer waits for the directory that several relays share: a network hop and a write.
pub const DIRECTORY: Duration = Duration::from_millis(500);
/// How long a request waits for an agent that has just gone: a reconnect takes less.
pub const WAIT_AGENT: Duration = Duration::from_secs(3);
/// After an answer that came before the end of the upload, the rest is read for this long.
pub const LINGER: Duration = Duration::from_secs(2);
/// The same between relay and agent over HTTP/1.1, where a connection that lingers is one that the next request lacks.
pub const H1_LINGER: Duration = Duration::from_millis(100);
/// And at most so much of it, in bytes: what is under way already, not a whole upload.
pub const LINGER_BYTES: usize = 256 << 10;
/// What a visitor must send or take at least, in bytes a second, while others wait for the connection that it has all
/// to itself: slower than the slowest mobile network.
pub const PACE: u64 = 8 << 10;
/// Measured over this: whoever was fast at first and is slow now is found within twice that, which is short of
/// [`WAIT_FREE`].
pub const PACE_WITHIN: Duration = Duration::from_secs(3);
/// And only when others have waited for this long.
pub const PACE_PATIENCE: Duration = Duration::from_secs(1);
/// Requests that wait for one agent; past this a queue only hides the outage.
pub const WAITING: usize = 512;
/// How often a harmless request is repeated: when a whole agent goes, its connections are found dead one by one.
pub const REPEATS: usize = 4;
/// What a visitor who gets a 503 is told to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What a visitor is told to wait who has as many requests under way as the name allows: one of them may end any moment.
pub const RETRY_SOON: Duration = Duration::from_secs(1);
/// How long routes stay held for the token that had them after its last connection went.
pub const LEASE: Duration = Duration::from_secs(60);
/// What is in flight gets this long to finish when the process is asked to stop.
pub const GRACE: Duration = Duration::from_secs(30);
/// Agents whose requests were cut when it ended that the log names one by one.
pub const CUT_NAMED: usize = 100;

/// Public connections at once, over all cores: at about 30 KiB each, half a gigabyte. One that sends or receives what
/// nobody takes has up to ten times that.
pub const CONNECTIONS: usize = 16_384;
/// Connections at once that come when visitors have all theirs, and have still to show that they are an agent's: as many
/// as a burst of agents that come back, each for the time of a few round trips.
pub const NEWCOMERS: usize = 128;
/// And at most this share of the descriptors that are reserved.
pub const NEWCOMERS_SHARE: usize = 8;
/// From one address (one /64 with IPv6): a hundred people behind one NAT with as many as a browser opens. It takes
/// sixteen addresses to have them all.
pub const CONNECTIONS_PER_ADDRESS: usize = 1_024;
/// Agent connections at once of one token.
pub const CONNECTIONS_PER_AGENT: usize = 1_024;
/// Names and hosts in one offer: each is held against every other, and all stand in the answer.
pub const ROUTES_PER_OFFER: usize = 256;
/// Names and hosts that one token holds, leases among them: the table of all routes is copied when an agent comes, which
/// takes a millisecond with so many.
pub const ROUTES_PER_AGENT: usize = 16_384;

/// Wrong credentials of agents, and URLs that were not made here, from one address within [`GUESSES_WITHIN`]: a person
/// who mistypes needs three. What is right passes all the same, since others may share the address.
pub const GUESSES: u32 = 20;
/// Wrong passwords of visitors from one address: people choose them, so fewer tries find one.
pub const GUESSES_VISITOR: u32 = 10;
/// See [`GUESSES`].
pub const GUESSES_WITHIN: Duration = Duration::from_secs(60);
/// Addresses whose wrong credentials are counted at the same time: half a megabyte.
pub const GUESSERS: usize = 16_384;
/// Passwords of visitors that are hashed at once: twenty milliseconds of one core each.
pub const HASHING: usize = 2;
/// And of one name, so that wrong passwords for it do not delay the first logins of all others.
pub const HASHING_PER_NAME: usize = 1;
/// How long a visitor's password waits for that.
pub const HASHING_WAIT: Duration = Duration::from_secs(5);
/// Credentials of visitors that are known to be right, per name: each saves twenty milliseconds a request.
pub const CREDENTIALS_KNOWN: usize = 1_024;
/// Addresses of visitors that are counted at the same time, per name with a limit for each visitor.
pub const VISITORS_KNOWN: usize = 8_192;
/// The rules for visitors, as text, in bytes: a dozen users and a dozen networks. They travel in URLs, too, where an
/// agent polls.
pub const VISITORS: usize = 2_048;

/// Names that one agent without a token may hold: a person's few projects.
pub const OPEN_NAMES_PER_AGENT: usize = 8;
/// Names that agents without a token may hold from one address (one /64 with IPv6): a classroom behind one NAT.
pub const OPEN_NAMES_PER_ADDRESS: usize = 32;
/// Names held without a token in all, leases among them. Each may hold memory for its agent; who needs more names has
/// users worth giving tokens to.
pub const OPEN_NAMES: usize = 1_024;
/// Agent connections at once of one agent without a token: what one busy `h1` agent opens.
pub const OPEN_CONNECTIONS_PER_AGENT: usize = 64;
/// The bodies that wait for one polling agent without a token, in bytes. Anybody may send them, and they may fill a disk.
pub const OPEN_MESSAGES: usize = 16 << 20;
/// Names that are never given without a token: software looks for some by itself (RFC 2142, WPAD, autodiscovery), and
/// people take the rest for the operator's own.
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

/// Requests that are relayed to others at once (RelayHttp): with [`RELAY_HTTP_REQUEST`] this bounds their memory.
pub const RELAY_HTTP: usize = 64;
/// For one address (one /64 with IPv6), so that a page of one person does not wait for that of another.
pub const RELAY_HTTP_PER_ADDRESS: usize = 16;
/// The body of a request that is relayed to others, in bytes: the original's bound.
pub const RELAY_HTTP_REQUEST: usize = 1 << 20;
/// The body of an answer from others, in bytes. It streams, so this bounds traffic, not memory.
pub const RELAY_HTTP_ANSWER: usize = 64 << 20;
/// From the connection to the end of such an answer: a page that waits longer is closed by its reader.
pub const RELAY_HTTP_TIME: Duration = Duration::from_secs(120);

/// PING on an idle `h2` carrier.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// No answer to a PING for this long: dead. With [`PING_EVERY`] a half-open connection is found in 11.5 s.
pub const PING_DEAD: Duration = Duration::from_millis(6_500);
/// A PING overdue by this makes a session second choice.
pub const PING_LATE: Duration = Duration::from_secs(1);
/// `h1` carriers have no PING: the kernel asks, first after this silence.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
/// Then again this often.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
/// And after so many questions without an answer the far end is dead: an idle link is found in 10 s.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// Visitors and origins are asked after this silence.
pub const OTHERS_KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// And again this often: a phone that was out of reach is still connected, and one that is gone is found by
/// [`STALLED`].
pub const OTHERS_KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Whoever takes nothing of a body for this long does not come back for it; until then it holds its agent's attention.
pub const STALLED: Duration = Duration::from_secs(300);
/// The head of a request to an agent on `h1` that is not acknowledged for this long: dead.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// An `h1` connection of an agent is replaced after this, before NATs and load balancers forget it.
pub const H1_AGE: Duration = Duration::from_secs(15 * 60);

/// One stream fills 1 Gbit/s at 50 ms, and a slow reader costs at most this, in bytes.
pub const STREAM_WINDOW: u32 = 8 << 20;
/// What waits at a relay for slow visitors and slow agents, in bytes: all streams together, beside one frame for each and
/// [`VISITOR_FIRST_WINDOW`] for each connection that uploads. Some thirty long answers that nobody reads may have a full
/// [`STREAM_WINDOW`].
pub const BUFFERS: usize = 256 << 20;
/// One agent has at most this part of [`BUFFERS`]: slow visitors of one leave room for the visitors of others.
pub const BUFFERS_PER_AGENT: usize = 4;
/// All uploads of visitors with HTTP/2 have at most this part of [`BUFFERS`].
pub const BUFFERS_OF_UPLOADS: usize = 2;
/// What waits at an agent for a slow service, in bytes: all uploads together, beside one frame for each.
pub const AGENT_BUFFERS: usize = 64 << 20;
/// What waits in one stream for the socket, in bytes: two writes.
pub const SEND_BUFFER: usize = 64 << 10;
/// The connection's window never binds: one slow stream must not stall the others. In bytes.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Streams at once on one `h2` carrier.
pub const STREAMS: u32 = 1_024;
/// The head of a request of a visitor, in either version: 64 KiB of fields and its first line, in bytes.
pub const VISITOR_HEAD: usize = 72 << 10;
/// The head of a request between relay and agent over HTTP/1.1: what the relay adds to a visitor's is less than 8 KiB.
pub const H1_HOP_HEAD: usize = VISITOR_HEAD + (8 << 10);
/// The head of an answer over HTTP/1.1, in bytes: as much as a request may have, with what an agent adds.
pub const H1_ANSWER_HEAD: usize = H1_HOP_HEAD;
/// Fields in one head over HTTP/1.1: ten times what browsers send.
pub const H1_FIELDS: usize = 512;
/// The extensions of all chunks of one body, in bytes. Senders hardly use extensions, and without a limit a peer could
/// send any number of bytes that no limit of a body counts (CVE-2023-39326).
pub const CHUNK_EXTENSIONS: usize = 16 << 10;
/// What a visitor may send on an `h2` connection before anything is known of it, in bytes: a form, and as much as one
/// on HTTP/1.1 may.
pub const VISITOR_FIRST_WINDOW: u32 = 128 << 10;
/// What it may send beyond that, in bytes, once there is a long upload: half of it in one, which fills 90 Mbit/s at
/// 50 ms. A hundred connections may have that much of [`BUFFERS`] at once.
pub const VISITOR_WINDOW: u32 = 1 << 20;
/// Streams at once on a visitor's connection: what browsers use, twice.
pub const VISITOR_STREAMS: u32 = 200;
/// A visitor's HTTP/2 connection without a request for this long is closed, at the latest after twice that: browsers
/// let go after about as much.
pub const VISITOR_IDLE: Duration = Duration::from_secs(90);
/// Streams of a visitor that may be reset before they were looked at (CVE-2023-44487): what the h2 crate has found
/// enough for browsers.
pub const VISITOR_RESETS: usize = 20;
/// Streams of a visitor that the relay resets for a fault of theirs before it ends the connection (CVE-2025-8671): the
/// h2 crate's own bound.
pub const VISITOR_FAULTS: usize = 1024;
/// Lines of the access log that wait to be written, in bytes: several thousand. A disk or a pipe that stands still for
/// longer loses lines, and no request waits for it.
pub const ACCESS_QUEUE: usize = 1 << 20;
/// What the queue of the access log begins with, in bytes.
pub const ACCESS_BATCH: usize = 16 << 10;
/// A usual line of the access log, in bytes.
pub const ACCESS_LINE: usize = 384;
/// How long lines of the access log are gathered before they are written: one write for many under load.
pub const ACCESS_GATHER: Duration = Duration::from_millis(10);
/// How long a command that ends waits for its last lines of the access log to be written.
pub const ACCESS_LAST: Duration = Duration::from_secs(1);
/// Bytes of a message's fields: several large cookies.
pub const FIELDS: u32 = 128 << 10;

/// An agent opens its next `h2` connection when each it has carries more requests than this.
pub const BUSY: usize = 32;
/// Idle `h1` connections that an agent keeps ready.
pub const H1_SPARE: usize = 2;
/// `h1` connections of one agent, at most.
pub const H1_MOST: usize = 64;
/// An `h1` connection beyond the spare ones is closed after this silence.
pub const H1_IDLE: Duration = Duration::from_secs(30);

/// The first wait between two tries to reach a relay.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest during the first minute. Small, so that an agent is back soon after its relay; spread by full jitter.
pub const BACKOFF_MOST: Duration = Duration::from_secs(2);
/// The longest after that: a relay that has been gone for a minute is not missed by a second more.
pub const BACKOFF_LONG: Duration = Duration::from_secs(10);
/// When an outage is long.
pub const OUTAGE_LONG: Duration = Duration::from_secs(60);
/// A relay that refuses the agent while other relays do not is tried again after this, at the latest: the token may be
/// granted later.
pub const REFUSED_FIRST: Duration = Duration::from_secs(60);
/// The wait doubles up to this: a refusal is mostly meant for good, and the relay counts wrong tokens.
pub const REFUSED_MOST: Duration = Duration::from_secs(600);
/// A connection that lived this long was a good one: the next failure starts from the first wait.
pub const PROVEN: Duration = Duration::from_secs(5);
/// The longest `Retry-After` of a relay that is believed.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(300);
/// An agent below its best transport tries the better ones again after this, at the latest.
pub const CLIMB_FIRST: Duration = Duration::from_secs(30);
/// The wait doubles up to this: a block that stays is a policy, and each try costs the relay a handshake.
pub const CLIMB_MOST: Duration = Duration::from_secs(300);
/// A connection that broke sooner than this and served nothing was broken by what came behind its 101.
pub const STUMBLE: Duration = Duration::from_secs(3);
/// For one TCP connection of an agent.
pub const CONNECT: Duration = Duration::from_secs(10);
/// Between the first address of a host and the next (RFC 8305 §5).
pub const HAPPY_EYEBALLS: Duration = Duration::from_millis(250);
/// From the Upgrade request to its answer.
pub const UPGRADE: Duration = Duration::from_secs(15);

/// To connect to the origin.
pub const ORIGIN_CONNECT: Duration = Duration::from_secs(5);
/// Idle connections to the origin, per core.
pub const ORIGIN_IDLE: usize = 256;
/// One that was idle for longer than this may be closing just now. Under load none is, so what it takes to be ready for
/// that costs nothing there.
pub const ORIGIN_RESTED: Duration = Duration::from_millis(10);
/// An idle connection to the origin is used again within this time: below the 5 s of Node.
pub const ORIGIN_IDLE_FOR: Duration = Duration::from_secs(4);

/// An origin that says neither 100 nor anything else gets the body after this (RFC 9110 §10.1.1 forbids to wait for
/// ever): many origins have never heard of `Expect`.
pub const ORIGIN_CONTINUE: Duration = Duration::from_secs(5);

/// How often the relay looks whether tokens have changed on disk.
pub const TOKENS_CHECK: Duration = Duration::from_millis(500);
/// And at most this often, however many credentials come that it does not know: `ptth token new` prints a token that is
/// valid at once.
pub const TOKENS_LOOKUP: Duration = Duration::from_millis(50);
/// How long a credential that is not known waits for that.
pub const TOKENS_LOOKUP_WAIT: Duration = Duration::from_secs(5);
/// How often the relay looks whether the files of its certificates have changed: a renewal is shown within seconds, and
/// the files are small.
pub const CERTIFICATES_CHECK: Duration = Duration::from_secs(5);
/// After this a changed file is read once more, and loaded if it is the same still: whoever writes a certificate and its
/// key takes less.
pub const CERTIFICATES_SETTLE: Duration = Duration::from_secs(1);
/// How long a reader or writer of the state waits for another: each holds it for milliseconds.
pub const STATE_BUSY: Duration = Duration::from_secs(5);

/// How long a poll is held open. Middleboxes cut what is silent for 30 s.
pub const POLL_HOLD: Duration = Duration::from_secs(25);
/// The shortest hold that is learned from polls that were cut: shorter ones are a load of their own.
pub const POLL_HOLD_LEAST: Duration = Duration::from_secs(2);
/// A poll that broke sooner than this was not cut for its age.
pub const POLL_CUT: Duration = Duration::from_secs(1);
/// Whole holds in a row before a longer one is tried; doubled with each cut, so that a box is not asked for ever.
pub const POLL_HOLDS: u32 = 16;
/// What that doubling ends at.
pub const POLL_HOLDS_MOST: u32 = 256;
/// Polls that break at the same age, one after the other, before an agent takes it for a cut: a relay that restarts
/// breaks them once.
pub const POLL_BREAKS: u32 = 2;
/// Polls of one registration that are dropped at the same age, one after the other, before it counts as a cut: for
/// agents that cannot say how long to hold.
pub const POLL_DROPS: u32 = 3;
/// How long an agent looks whether bodies get through while they are open: a second of round trip, twice.
pub const PROBE: Duration = Duration::from_secs(2);
/// How long a URL to look with is good for, in seconds: it is used at once.
pub const PROBE_URL_AGE: u64 = 60;
/// Such looks at once, in all: each costs two open requests, mostly for a round trip.
pub const PROBES: usize = 1_024;
/// Of one token, and of one address: no agent's looks shut out those of all others.
pub const PROBES_PER_AGENT: usize = 256;
/// How long requests wait for an agent that polled a moment ago: the Python client sleeps 2 s after every 204.
pub const POLL_ABSENCE: Duration = Duration::from_secs(5);
/// How long requests wait for an agent that has others in hand (ReverseHttp asks for at least this).
pub const POLL_BUSY: Duration = Duration::from_secs(60);
/// Polls of one registration that wait at once; its agent needs no more than it has round trips to bridge.
pub const POLLS_MOST: usize = 64;
/// And of all registrations of one token with one transport: as many as the connections of an agent may be, so that no
/// token has all public connections.
pub const POLLS_PER_AGENT: usize = CONNECTIONS_PER_AGENT;
/// Polls that our own agent keeps open while it is idle.
pub const POLLS: usize = 4;
/// Polls that it opens under load.
pub const POLLS_BUSY: usize = 32;
/// How long an agent that polls keeps an upload open that its origin does not read to the end: by then the answer has
/// begun at the relay, over a connection of its own. An answer without an end does not keep the visitor's for longer.
pub const UPLOAD_KEPT: Duration = Duration::from_secs(10);
/// How long nothing of an answer may move on its way to the relay before its agent gives it up: longer than the relay
/// waits for a visitor that reads nothing.
pub const ANSWER_STUCK: Duration = STALLED.saturating_add(UPGRADE);
/// Requests of one registration, queued and in hand.
pub const ENVELOPES: usize = 256;
/// The body of a message that must be complete before it goes on, where something on the way holds bodies back, in
/// bytes: what crosses within [`ANSWER`] at 20 Mbit/s.
pub const MESSAGE: usize = 256 << 20;
/// All such bodies of one registration, in bytes: four of the largest.
pub const MESSAGES: usize = 1 << 30;
/// A body up to this stays in memory, in bytes. With [`ENVELOPES`] at once that is 64 MiB for each registration.
pub const MESSAGE_MEMORY: usize = 256 << 10;
/// How long such a body may take to come: the largest at 7 Mbit/s. Who sends slower holds its room for others no longer.
pub const TAKE_IN: Duration = Duration::from_secs(300);
/// The bodies and answers of all registrations of a relay that are in memory, in bytes: as much as [`BUFFERS`].
pub const ENVELOPES_MEMORY: u64 = 256 << 20;
/// The longer ones of all registrations, in files, in bytes: four registrations may have all of [`MESSAGES`].
pub const ENVELOPES_DISK: u64 = 4 << 30;
/// How long an answer may take to be complete, where it must be before it goes on: the other half of [`ANSWER`] is for
/// its way.
pub const WHOLE: Duration = Duration::from_secs(60);
/// The same for `text/event-stream`: most have no end, and nobody is to wait long to hear that they cannot be had.
pub const WHOLE_EVENTS: Duration = Duration::from_secs(10);
/// Requests in one `application/http` envelope: enough to hide a round trip from an agent of one thread, and few,
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
/// An answer up to this is taken in before its visitor reads it, so that an agent of one thread is free for the next
/// request; a larger one streams. In bytes.
pub const ANSWER_WHOLE: u64 = 1 << 20;
/// An answer up to this is sent again when its connection breaks: most are smaller, and each costs as much while it is
/// under way. In bytes.
pub const ANSWER_AGAIN: usize = 64 << 10;
/// Request URLs that one registration remembers as used, to refuse them.
pub const URLS_USED: usize = 16_384;
/// Answers still taken, and thrown away, after their visitors left: agents are to hear 202 for them.
pub const ANSWERS_LATE: usize = 1_024;
/// Visitors that left, in the answer to one poll: its head stays below 4 KiB, which everything in between lets pass.
pub const GONE_AT_ONCE: usize = 64;
/// Visitors that left, of whose requests an agent has not heard yet: the two come on different connections.
pub const GONE_EARLY: usize = 64;
/// How long a Request URL is good for, in seconds: 30 days, because old clients never ask for another while they idle.
pub const REQUEST_URL_AGE: u64 = 30 * 24 * 3600;
/// The shortest lease of a registration: the original's.
pub const POLL_LEASE: Duration = Duration::from_secs(30);
/// From the first poll of another poller until it takes over from one that is gone: time enough for one that is there to
/// poll again, and visitors are answered within a second.
pub const POLL_TAKEOVER: Duration = Duration::from_millis(500);
/// The longest: whoever polls once an hour is there, whoever does not is not.
pub const POLL_LEASE_MOST: Duration = Duration::from_secs(3600);
/// A form of a few short fields, in bytes.
pub const FORM: usize = 16 << 10;
/// Deleted registrations that are remembered, so that their URLs stay dead.
pub const DELETED: usize = 4_096;
/// How often a stopping relay looks whether agents that poll have answered all that they have in hand.
pub const ANSWERS_CHECK: Duration = Duration::from_millis(20);
