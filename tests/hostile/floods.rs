//! What a client of HTTP/2 can send faster than a server should work for it, as a table: for a visitor against the
//! relay, and for a relay against the agent.

use std::time::Duration;

use crate::frames::*;

type Unit = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// One flood.
pub(crate) struct Flood {
    /// The weakness, and where it is known from.
    pub(crate) name: &'static str,
    /// What goes in front of it.
    pub(crate) before: Vec<u8>,
    pub(crate) most: u32,
    pub(crate) unit: Unit,
    /// Whether a server that faces strangers must put an end to it; elsewhere bounded cost is enough.
    pub(crate) must_end: bool,
}

/// Behind the last frame of a flood, the far end may still put an end to it for so long.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

impl Flood {
    fn new(name: &'static str, most: u32, unit: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self { name, before: Vec::new(), most, unit: Box::new(unit), must_end: false }
    }

    fn behind(self, before: Vec<u8>) -> Self {
        Self { before, ..self }
    }

    fn must_end(self) -> Self {
        Self { must_end: true, ..self }
    }
}

/// The number of the `n`th stream of a client.
const fn id(n: u32) -> u32 {
    2 * n + 1
}

/// All of them, with requests for this host. One that is `held` is not answered before its body ends.
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
pub(crate) fn all(host: &str) -> Vec<Flood> {
    let get = request("GET", host, "/flood");
    let post = request("POST", host, "/flood");
    let asked =
        |n| frame(HEADERS, END_HEADERS | END_STREAM, id(n), request("GET", "shop.ptth.localhost", "/flood"));
    let begun = {
        let post = post.clone();
        move |n: u32| frame(HEADERS, END_HEADERS, id(n), &post)
    };
    let cancel = 8_u32.to_be_bytes();
    let mut all = vec![
        Flood::new("rapid reset: CVE-2023-44487", 20_000, {
            let get = get.clone();
            move |n| {
                [frame(HEADERS, END_HEADERS | END_STREAM, id(n), &get), frame(RST_STREAM, 0, id(n), cancel)]
                    .concat()
            }
        })
        .must_end(),
        Flood::new("rapid reset of uploads: CVE-2023-44487", 20_000, {
            let begun = begun.clone();
            move |n| [begun(n), frame(DATA, 0, id(n), "x"), frame(RST_STREAM, 0, id(n), cancel)].concat()
        })
        .must_end(),
    ];
    all.extend(made_to_reset(&begun));
    all.extend(heads(&get, &begun));
    all.extend([
        Flood::new("streams beyond the limit: RFC 9113 §5.1.2", 5_000, begun.clone()),
        Flood::new("empty DATA: CVE-2019-9518, RUSTSEC-2026-0258", 60_000, |_| frame(DATA, 0, 1, []))
            .behind(begun(0)),
        Flood::new("padding alone: CVE-2019-9518", 3_000, |_| {
            frame(DATA, PADDED, 1, [&[255][..], &[0; 255]].concat())
        })
        .behind(begun(0)),
        Flood::new("PING: CVE-2019-9512", 60_000, |n| frame(PING, 0, 0, u64::from(n).to_be_bytes())),
        Flood::new("SETTINGS: CVE-2019-9515", 30_000, |_| frame(SETTINGS, 0, 0, [])),
        Flood::new("SETTINGS of many values: CVE-2020-11080", 300, |_| {
            frame(SETTINGS, 0, 0, values(&[(3, 100); 2_400]))
        }),
        Flood::new("windows up and down: RFC 9113 §6.9.2", 10_000, |n| {
            frame(SETTINGS, 0, 0, values(&[(4, if n % 2 == 0 { 0 } else { 0x7fff_ffff })]))
        })
        .behind(begun(0)),
        Flood::new("a table up and down: RFC 7541 §4.2", 10_000, |n| {
            frame(SETTINGS, 0, 0, values(&[(1, if n % 2 == 0 { 0 } else { 1 << 24 })]))
        }),
        Flood::new("windows by single bytes: RFC 9113 §6.9", 60_000, |_| {
            frame(WINDOW_UPDATE, 0, 1, 1_u32.to_be_bytes())
        })
        .behind(begun(0)),
        Flood::new("priorities: CVE-2019-9513", 60_000, |n| {
            frame(PRIORITY, 0, id(n), [&id(n + 1).to_be_bytes()[..], &[9]].concat())
        }),
        Flood::new("frames of an unknown type: RFC 9113 §4.1", 30_000, |_| frame(0xbb, 0, 0, [0; 64])),
        Flood::new("unread answers: CVE-2019-9517", 2_000, asked).behind(frame(
            SETTINGS,
            0,
            0,
            values(&[(4, 0)]),
        )),
        Flood::new("a frame of 16 MiB: RFC 9113 §4.2", 1, |_| {
            [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 40_000]].concat()
        })
        .must_end(),
        Flood::new("a promise of a client: RFC 9113 §8.4", 1, |_| {
            frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])
        })
        .must_end(),
        Flood::new("resets of idle streams: RFC 9113 §5.1", 1, |_| frame(RST_STREAM, 0, 99, [0; 4]))
            .must_end(),
        Flood::new("GOAWAY: RFC 9113 §6.8", 5_000, |_| frame(GOAWAY, 0, 0, [0; 8])),
    ]);
    all
}

/// MadeYouReset, CVE-2025-8671: the server is made to reset the streams itself. h2o's first fix missed the first.
fn made_to_reset(begun: &(impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static)) -> Vec<Flood> {
    let made = |name, bad: fn(u32) -> Vec<u8>| {
        let begun = begun.clone();
        Flood::new(name, 20_000, move |n| [begun(n), bad(id(n))].concat()).must_end()
    };
    vec![
        made("MadeYouReset by a window update of 0: CVE-2025-8671", |id| frame(WINDOW_UPDATE, 0, id, [0; 4])),
        made("MadeYouReset by a window beyond 2^31: CVE-2025-8671", |id| {
            frame(WINDOW_UPDATE, 0, id, 0x7fff_ffff_u32.to_be_bytes())
        }),
        made("MadeYouReset by DATA on a closed half: CVE-2025-8671", |id| {
            [frame(DATA, END_STREAM, id, "x"), frame(DATA, 0, id, "x")].concat()
        }),
        made("MadeYouReset by a stream that depends on itself: CVE-2025-8671", |id| {
            frame(PRIORITY, 0, id, [&id.to_be_bytes()[..], &[1]].concat())
        })
        .tolerated(),
        made("MadeYouReset by a PRIORITY of 4 bytes: CVE-2025-8671", |id| frame(PRIORITY, 0, id, [0; 4])),
    ]
}

impl Flood {
    /// Whether the far end ignores it is its own affair.
    fn tolerated(self) -> Self {
        Self { must_end: false, ..self }
    }
}

/// Heads without end, and heads that are small only on the wire.
fn heads(get: &[u8], begun: &(impl Fn(u32) -> Vec<u8> + Clone)) -> Vec<Flood> {
    let (get, first) = (get.to_vec(), begun(0));
    let fields: Vec<u8> = (0..200).flat_map(|_| literal(b"x", &[b'y'; 70])).collect();
    let crumbs: Vec<u8> = (0..3_000).flat_map(|_| literal(b"cookie", b"")).collect();
    // The 62nd entry is the newest (RFC 7541 §2.3.3): 4 KB for a byte.
    let bomb = indexed(b"x", &[b'y'; 4_000]);
    let large = move |get: &[u8]| [get, &[0xbe; 16_000][..]].concat();
    vec![
        Flood::new("CONTINUATION without end: CVE-2024-27316, RUSTSEC-2024-0332", 2_000, move |_| {
            frame(CONTINUATION, 0, 1, &fields)
        })
        .behind(frame(HEADERS, 0, 1, &get))
        .must_end(),
        Flood::new("empty CONTINUATION without end: CVE-2019-9518", 60_000, |_| {
            frame(CONTINUATION, 0, 1, [])
        })
        .behind(frame(HEADERS, 0, 1, &get))
        .must_end(),
        Flood::new("an HPACK bomb: CVE-2016-6581", 200, {
            let get = get.clone();
            move |n| match n {
                0 => frame(HEADERS, END_HEADERS | END_STREAM, id(0), [&get[..], &bomb].concat()),
                n => frame(HEADERS, END_HEADERS | END_STREAM, id(n), large(&get)),
            }
        }),
        Flood::new("thousands of crumbs: CVE-2026-40303's kin", 500, {
            let get = get.clone();
            move |n| frame(HEADERS, END_HEADERS | END_STREAM, id(n), [&get[..], &crumbs[..12_000]].concat())
        }),
        Flood::new("trailers without END_STREAM: CVE-2026-73513", 1_000, |_| {
            frame(HEADERS, END_HEADERS, 1, literal(b"x", b"y"))
        })
        .behind(first),
    ]
}
