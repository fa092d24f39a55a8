//! A service behind the agent, with what is hard to carry, and visitors of it.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};

/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts it; its port. It ends with the process.
pub(crate) fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let app = Router::new()
        .route("/echo/{number}", get(|Path(number): Path<String>| async move { number }))
        .route("/large/{size}", get(|Path(size): Path<usize>| async move { vec![b'x'; size] }))
        .route("/up", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/events", get(|| async { ([(CONTENT_TYPE, "text/event-stream")], endless()) }))
        .layer(DefaultBodyLimit::disable());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await
        })
    });
    port
}

fn endless() -> Body {
    let first = stream::iter([Ok::<_, Infallible>("data: one\n\n")]);
    Body::from_stream(first.chain(stream::pending()))
}

/// What a visitor got: the status, and all behind the head. A connection that breaks is an error.
pub(crate) fn visit(relay: u16, request: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", relay))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
    let fields = fields.replace('\n', "\r\n");
    let head = format!("{line} HTTP/1.1\r\nHost: shop.relay.test\r\n{fields}\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    let expects = fields.contains("Expect: ");
    while expects && !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    // The visitor sends a body with `Expect` only after a 100.
    if !expects || answer.starts_with(b"HTTP/1.1 100 ") {
        stream.write_all(body)?;
    }
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (Some(status), Some((_, body))) = (status, answer.split_once("\r\n\r\n")) else {
        return Err(std::io::Error::other(format!("no answer: {answer:?}")));
    };
    Ok((status, body.to_owned()))
}

/// A GET on a connection of its own.
pub(crate) fn fetch(relay: u16, path: &str) -> std::io::Result<(u16, String)> {
    visit(relay, &format!("GET {path}\nConnection: close\n"), b"")
}

/// Visitors who come one after the other, several at a time, and count what they got.
pub(crate) struct Crowd {
    threads: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    served: AtomicUsize,
    failed: parking_lot::Mutex<Vec<String>>,
    /// The last good answer, and the longest time without any.
    quiet: parking_lot::Mutex<Option<(Instant, Duration)>>,
}

impl Crowd {
    pub(crate) fn start(relay: u16) -> Self {
        let (over, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
        let threads = (0..4).map(|visitor| {
            let (over, tally) = (over.clone(), tally.clone());
            std::thread::spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let wanted = format!("{visitor}-{number}");
                    tally.note(&wanted, fetch(relay, &format!("/echo/{wanted}")));
                }
            })
        });
        Self { threads: threads.collect(), over, tally }
    }

    /// How many have been served so far.
    pub(crate) fn served(&self) -> usize {
        self.tally.served.load(Ordering::Relaxed)
    }

    /// Waits for so many more to be served.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, more: usize) {
        let (until, wanted) = (Instant::now() + PATIENCE, self.served() + more);
        while self.served() < wanted {
            assert!(
                Instant::now() < until,
                "{} served, failed {:?}",
                self.served(),
                self.tally.failed.lock()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it: how many were served, what failed, and the longest time without a good answer.
    pub(crate) fn end(self) -> (usize, Vec<String>, Duration) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let quiet = self.tally.quiet.lock().map_or(Duration::MAX, |(_, longest)| longest);
        (self.tally.served.load(Ordering::Relaxed), std::mem::take(&mut *self.tally.failed.lock()), quiet)
    }
}

impl Tally {
    fn note(&self, wanted: &str, got: std::io::Result<(u16, String)>) {
        match got {
            Ok((200, body)) if body == wanted => {
                self.served.fetch_add(1, Ordering::Relaxed);
                let mut quiet = self.quiet.lock();
                let (last, longest) = quiet.unwrap_or((Instant::now(), Duration::ZERO));
                *quiet = Some((Instant::now(), longest.max(last.elapsed())));
            }
            other => self.failed.lock().push(format!("{wanted}: {other:?}")),
        }
    }
}
