//! Visitors, polls and answers of one queue together.

mod in_memory;
mod mailbox;

use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::BodyExt;

use super::*;
use crate::defaults;
use crate::message::{Body, BoxError, Request};
use crate::net::Core;
use crate::net::flag::Flag;
use crate::session::{Kind, Link, SendErrorKind};

const HOLD: Duration = defaults::POLL_HOLD;
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const LIVE: PollMode = PollMode { live: true, ..PollMode::STREAM };

struct Bench {
    router: Arc<AnswerRouter>,
    queue: Arc<Queue>,
    link: Arc<Link>,
}

impl Bench {
    fn new() -> Self {
        let router = Arc::<AnswerRouter>::default();
        let queue =
            Queue::new(router.clone(), defaults::POLL_ABSENCE, (defaults::MESSAGE, defaults::MESSAGES), true);
        let link = Link::new(Box::new(queue.clone()), Kind::Envelope, Core::default(), Arc::default());
        Self { router, queue, link }
    }

    /// A visitor leaves while the poll of `url` has its request. The result shows whether the request is still kept.
    async fn left(&self, url: UrlId, mode: PollMode) -> Weak<()> {
        let token = Arc::new(());
        let kept = Arc::downgrade(&token);
        let mut request = post();
        request.extensions_mut().insert(token);
        let sent = tokio::time::timeout(
            Duration::from_secs(1),
            self.link.send_plain(request, self.link.reserve().unwrap()),
        );
        let polled = async {
            let message = self.queue.poll(url, mode, HOLD).await.ok().unwrap().message();
            message.collect().await.unwrap()
        };
        assert!(tokio::join!(sent, polled).0.is_err());
        kept
    }
}

fn post() -> Request {
    http::Request::post("http://a.test/").body(Body::full("abc")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_departed_visitor_frees_its_request_and_a_late_answer_is_accepted() {
    for mode in [PollMode::WHOLE, PollMode::BATCH] {
        let bench = Bench::new();
        let kept = bench.left(1, mode).await;
        assert!(kept.upgrade().is_none(), "the relay still holds the request");
        assert!(bench.router.answer(1, Body::full(OK)).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn no_exchange_outlives_its_registration_and_its_visitor() {
    let modes = [PollMode::WHOLE, PollMode::BATCH];
    for (mode, cut) in modes.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let bench = Bench::new();
        bench.left(1, mode).await;
        let (router, queue) = (bench.router.clone(), Arc::downgrade(&bench.queue));
        if cut {
            bench.queue.cut()
        } else {
            bench.queue.lock().end()
        }
        drop(bench);
        assert!(queue.upgrade().is_none(), "{mode:?}, cut {cut}");
        assert!(router.answer(1, Body::full(OK)).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_that_leaves_after_the_end_frees_its_exchange() {
    let Bench { router, queue, link } = Bench::new();
    let slot = link.reserve().unwrap();
    let sent = tokio::time::timeout(Duration::from_secs(1), link.send_plain(post(), slot));
    let polled = async {
        queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap().message().collect().await.unwrap();
        queue.lock().end();
    };
    assert!(tokio::join!(sent, polled).0.is_err());
    assert!(router.answer(1, Body::full(OK)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_began_to_stream_is_not_delivered_twice() {
    let Bench { queue, link, .. } = Bench::new();
    // The agent takes whole messages when the request arrives, and streams when the request is delivered.
    assert!(matches!(queue.poll(1, PollMode::WHOLE, Duration::from_secs(1)).await, Err(PollEnd::Nothing)));
    let mut request = post();
    *request.body_mut() = Body::full(vec![0; 200_000]);
    let work = async {
        tokio::task::yield_now().await;
        let mut message = queue.poll(1, PollMode::STREAM, HOLD).await.ok().unwrap().message();
        assert!(message.frame().await.unwrap().is_ok());
        drop(message);
        assert!(matches!(queue.poll(2, PollMode::STREAM, HOLD).await, Err(PollEnd::Nothing)));
    };
    let error = tokio::join!(link.send_plain(request, link.reserve().unwrap()), work).0.unwrap_err();
    assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Closed, false));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_poll_of_a_streaming_url_fails_its_visitor_at_once() {
    let Bench { queue, link, .. } = Bench::new();
    let since = tokio::time::Instant::now();
    let mut poll = Box::pin(queue.poll(1, PollMode::STREAM, HOLD));
    assert!(futures_util::poll!(&mut poll).is_pending());
    let mut request = post();
    *request.body_mut() =
        Body::wrap(http_body_util::StreamBody::new(futures_util::stream::pending::<std::io::Result<_>>()));
    let work = async {
        // The connection of this delivery broke, and the relay has not noticed.
        let mut stuck = poll.await.ok().unwrap().message();
        assert!(stuck.frame().await.unwrap().is_ok());
        assert!(matches!(queue.poll(1, PollMode::STREAM, HOLD).await, Err(PollEnd::Used)));
        stuck
    };
    let sent = tokio::time::timeout(defaults::ANSWER, link.send_plain(request, link.reserve().unwrap()));
    let error = tokio::join!(sent, work).0.expect("the visitor does not get its error at once").unwrap_err();
    assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Closed, false));
    assert!(since.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_poll_during_a_delivery_gets_the_request_again() {
    for mode in [PollMode::WHOLE, PollMode::BATCH, PollMode::IN_MEMORY] {
        let Bench { router, queue, link } = Bench::new();
        let work = async {
            let lost = queue.poll(1, mode, HOLD).await.ok().unwrap();
            let again = polled(&queue, 1, mode);
            tokio::pin!(again);
            assert!(futures_util::poll!(&mut again).is_pending(), "{mode:?}");
            // All of it leaves this process, on a connection that the agent has given up.
            lost.written("lost".into()).collect().await.unwrap();
            assert!(again.await.ends_with(b"abc"), "{mode:?}");
            assert!(router.respond(1, Ok(http::Response::new(Body::empty()))).unwrap());
        };
        let (sent, ()) = tokio::join!(link.send_plain(post(), link.reserve().unwrap()), work);
        assert_eq!(sent.unwrap().status(), 200, "{mode:?}");
    }
}

/// The body of the answer that the visitor gets when its request was delivered in this mode.
async fn answered(mode: PollMode, pieces: &[&'static str]) -> Result<bytes::Bytes, BoxError> {
    let Bench { router, queue, link } = Bench::new();
    let sent = link.send_plain(http::Request::new(Body::empty()), link.reserve().unwrap());
    let work = async {
        queue.poll(1, mode, HOLD).await.ok().unwrap().message().collect().await.unwrap();
        router.answer(1, in_pieces(pieces)).await
    };
    let read = async { sent.await.map_err(|error| error.kind.to_string())?.into_body().collect().await };
    let (read, answered): (Result<_, BoxError>, _) = tokio::join!(read, work);
    assert!(answered.is_ok(), "{answered:?}");
    read.map(http_body_util::Collected::to_bytes)
}

fn in_pieces(pieces: &[&'static str]) -> Body {
    let frames: Vec<_> =
        pieces.iter().map(|piece| Ok::<_, BoxError>(http_body::Frame::data((*piece).into()))).collect();
    Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test(start_paused = true)]
async fn a_live_answer_that_ends_early_is_an_error() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    for mode in [LIVE, PollMode { live: true, ..PollMode::WHOLE }] {
        assert!(answered(mode, &[head, "half"]).await.is_err());
        assert!(answered(mode, &[chunks]).await.is_err());
        assert_eq!(answered(mode, &[head, "0123456789"]).await.unwrap(), "0123456789");
        assert_eq!(answered(mode, &[chunks, "0\r\n\r\n"]).await.unwrap(), "half");
        assert_eq!(answered(mode, &["HTTP/1.1 200 OK\r\n\r\n", "half"]).await.unwrap(), "half");
    }
    // The clients of 2009 send wrong lengths.
    assert_eq!(answered(PollMode::STREAM, &[head, "half"]).await.unwrap(), "half");
}

/// An upload with `Expect`, and a flag that is raised when its body is read.
fn expecting() -> (Request, Arc<Flag>) {
    let body_read = Arc::<Flag>::default();
    let reads = body_read.clone();
    let body = futures_util::stream::once(async move {
        reads.raise();
        Ok::<_, BoxError>(http_body::Frame::data("abc".into()))
    });
    let mut request = post();
    *request.body_mut() = Body::wrap(http_body_util::StreamBody::new(body));
    request.headers_mut().insert("expect", http::HeaderValue::from_static("100-continue"));
    (request, body_read)
}

/// The first frame of a delivery: the head.
async fn head(message: &mut Body) -> String {
    let frame = message.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_after_a_100_or_a_timeout() {
    for (continues, after) in [(true, Duration::ZERO), (false, defaults::ORIGIN_CONTINUE)] {
        let Bench { router, queue, link } = Bench::new();
        let (request, body_read) = expecting();
        // The first poll shows the mode of the agent.
        assert!(matches!(queue.poll(7, LIVE, Duration::ZERO).await, Err(PollEnd::Nothing)));
        let work = async {
            // A failed delivery is repeated, and the body was not read meanwhile.
            drop(queue.poll(1, LIVE, HOLD).await.ok().unwrap());
            let mut message = queue.poll(1, LIVE, HOLD).await.ok().unwrap().message();
            assert!(head(&mut message).await.contains("Expect: 100-continue\r\n"));
            assert!(futures_util::poll!(message.frame()).is_pending() && !body_read.is_raised());
            let since = tokio::time::Instant::now();
            let proceed: &[_] = if continues { &["HTTP/1.1 100 Continue\r\n\r\n"] } else { &[] };
            let (go, wait) = tokio::sync::oneshot::channel::<()>();
            let rest = futures_util::stream::once(async move {
                wait.await.unwrap();
                Ok::<_, BoxError>(http_body::Frame::data(OK.into()))
            });
            let proceed = proceed.iter().map(|text| Ok(http_body::Frame::data((*text).into())));
            let answer = futures_util::StreamExt::chain(futures_util::stream::iter(proceed), rest);
            let answer = router.answer(1, Body::wrap(http_body_util::StreamBody::new(answer)));
            let read = async {
                assert!(message.collect().await.unwrap().to_bytes().ends_with(b"abc\r\n0\r\n\r\n"));
                assert_eq!(since.elapsed(), after);
                go.send(()).unwrap();
            };
            tokio::join!(answer, read).0.unwrap();
        };
        assert_eq!(
            tokio::join!(link.send_plain(request, link.reserve().unwrap()), work).0.unwrap().status(),
            200
        );
        assert!(body_read.is_raised());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_the_agent_does_not_request_is_not_read() {
    let Bench { router, queue, link } = Bench::new();
    let (request, body_read) = expecting();
    assert!(matches!(queue.poll(7, LIVE, Duration::ZERO).await, Err(PollEnd::Nothing)));
    let work = async {
        let mut message = queue.poll(1, LIVE, HOLD).await.ok().unwrap().message();
        head(&mut message).await;
        router.answer(1, Body::full(OK)).await.unwrap();
        message
    };
    let (response, mut message) = tokio::join!(link.send_plain(request, link.reserve().unwrap()), work);
    tokio::time::advance(2 * defaults::ORIGIN_CONTINUE).await;
    assert!(futures_util::poll!(message.frame()).is_pending());
    drop(response.unwrap());
    assert!(message.frame().await.unwrap().is_err());
    assert!(!body_read.is_raised());
}

/// An upload whose second half arrives after `go`, and a flag that is raised when the first half was read.
fn halting(go: tokio::sync::oneshot::Receiver<()>) -> (Request, Arc<Flag>) {
    let began = Arc::<Flag>::default();
    let begins = began.clone();
    let first = futures_util::stream::once(async move {
        begins.raise();
        Ok::<_, BoxError>(http_body::Frame::data("abc".into()))
    });
    let second = futures_util::stream::once(async move {
        go.await?;
        Ok::<_, BoxError>(http_body::Frame::data("def".into()))
    });
    let mut request = post();
    let halves = futures_util::StreamExt::chain(first, second);
    *request.body_mut() = Body::wrap(http_body_util::StreamBody::new(halves));
    (request, began)
}

/// A poll whose transport writes the message itself, of a URL that is not polled again.
const IN_MEMORY: PollMode = PollMode { again: false, ..PollMode::IN_MEMORY };

/// The message that one poll delivers.
async fn polled(queue: &Arc<Queue>, url: UrlId, mode: PollMode) -> bytes::Bytes {
    let delivery = queue.poll(url, mode, HOLD).await.ok().unwrap();
    let message = match mode.in_memory {
        true => {
            let body = delivery.request().unwrap().1.clone();
            delivery.written(body)
        }
        false => delivery.message(),
    };
    message.collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_poll_dropped_while_it_buffers_a_body_leaves_the_request_queued() {
    for mode in [PollMode::WHOLE, PollMode::BATCH, IN_MEMORY] {
        let Bench { router, queue, link } = Bench::new();
        let (go, wait) = tokio::sync::oneshot::channel();
        let (request, began) = halting(wait);
        // The last poll was one that streams, so the body was not taken in before.
        assert!(matches!(queue.poll(7, LIVE, Duration::ZERO).await, Err(PollEnd::Nothing)));
        let work = async {
            tokio::select! {
                biased;
                _ = polled(&queue, 1, mode) => panic!("half of the body is missing"),
                () = began.listen() => {}
            }
            go.send(()).unwrap();
            assert!(polled(&queue, 2, mode).await.ends_with(b"abcdef"), "{mode:?}");
            router.answer(2, Body::full(OK)).await.unwrap();
        };
        let (sent, ()) = tokio::join!(link.send_plain(request, link.reserve().unwrap()), work);
        assert_eq!(sent.unwrap().status(), 200, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_at_once_if_its_registration_is_cut_during_buffering() {
    for mode in [PollMode::WHOLE, PollMode::BATCH, IN_MEMORY] {
        let Bench { queue, link, .. } = Bench::new();
        let (go, wait) = tokio::sync::oneshot::channel();
        let (request, began) = halting(wait);
        assert!(matches!(queue.poll(7, LIVE, Duration::ZERO).await, Err(PollEnd::Nothing)));
        let cut = async {
            began.listen().await;
            queue.cut();
            go.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        let poll = async {
            // Kept, as by an agent that reads its message before its connection ends.
            let _delivery = queue.poll(1, mode, HOLD).await.ok();
            std::future::pending::<()>().await;
        };
        let since = tokio::time::Instant::now();
        let sent = async {
            tokio::select! {
                sent = link.send_plain(request, link.reserve().unwrap()) => sent,
                () = poll => unreachable!("it never ends"),
                () = cut => unreachable!("it never ends"),
            }
        };
        let sent = tokio::time::timeout(defaults::ANSWER, sent).await.expect("the visitor gets no error");
        assert_eq!(sent.err().map(|error| error.kind), Some(SendErrorKind::Closed), "{mode:?}");
        assert!(since.elapsed() < Duration::from_secs(1), "{mode:?}: {:?}", since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_poll_leaves_its_url_to_the_newer_poll() {
    let Bench { router, queue, link } = Bench::new();
    let (go, wait) = tokio::sync::oneshot::channel();
    let (request, began) = halting(wait);
    assert!(matches!(queue.poll(7, LIVE, Duration::ZERO).await, Err(PollEnd::Nothing)));
    let work = async {
        let mut given_up = Box::pin(queue.poll(1, PollMode::WHOLE, HOLD));
        tokio::select! {
            biased;
            _ = &mut given_up => panic!("half of the body is missing"),
            () = began.listen() => {}
        }
        let (mut other, mut newer) =
            (Box::pin(polled(&queue, 2, PollMode::WHOLE)), Box::pin(polled(&queue, 1, PollMode::WHOLE)));
        assert!(futures_util::poll!(&mut other).is_pending() && futures_util::poll!(&mut newer).is_pending());
        go.send(()).unwrap();
        assert!(matches!(given_up.await, Err(PollEnd::Nothing)));
        assert!(other.await.ends_with(b"abcdef"));
        router.answer(2, Body::full(OK)).await.unwrap();
        assert!(newer.await.ends_with(b"abc"), "the next request");
        router.answer(1, Body::full(OK)).await.unwrap();
    };
    let sent = async {
        let first = link.send_plain(request, link.reserve().unwrap()).await;
        (first, link.send_plain(post(), link.reserve().unwrap()).await)
    };
    let ((first, second), ()) = tokio::join!(sent, work);
    assert_eq!(
        (first.unwrap().status(), second.unwrap().status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
}

#[test]
fn a_poll_dropped_while_it_reads_a_file_leaves_the_request_queued() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    let Bench { router, queue, link } = Bench::new();
    let mut request = post();
    *request.body_mut() = Body::full(vec![b'x'; defaults::MESSAGE_MEMORY + 1]);
    let work = async {
        assert!(matches!(queue.poll(7, IN_MEMORY, Duration::ZERO).await, Err(PollEnd::Nothing)));
        // Not by sleeping: the paused clock would run while the body is written to its file.
        while queue.lock().status().waiting == 0 {
            tokio::task::yield_now().await;
        }
        // The one thread that reads files is busy.
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let reader = tokio::task::spawn_blocking(move || busy.recv());
        let mut poll = Box::pin(queue.poll(1, IN_MEMORY, HOLD));
        assert!(futures_util::poll!(&mut poll).is_pending());
        drop(poll);
        free.send(()).unwrap();
        reader.await.unwrap().unwrap();
        assert_eq!(polled(&queue, 2, IN_MEMORY).await.len(), defaults::MESSAGE_MEMORY + 1);
        assert!(router.respond(2, Ok(http::Response::new(Body::empty()))).unwrap());
    };
    let sent = link.send_plain(request, link.reserve().unwrap());
    runtime.block_on(async {
        let mut sent = std::pin::pin!(sent);
        tokio::select! {
            biased;
            sent = &mut sent => panic!("the request ended before its answer: {:?}", sent.map(drop)),
            () = work => {}
        }
        assert_eq!(sent.await.unwrap().status(), 200);
    });
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_partly_read_body_is_not_retried() {
    let Bench { queue, link, .. } = Bench::new();
    let (_go, wait) = tokio::sync::oneshot::channel();
    let (request, began) = halting(wait);
    assert!(matches!(queue.poll(7, LIVE, Duration::ZERO).await, Err(PollEnd::Nothing)));
    let work = async {
        tokio::select! {
            biased;
            _ = polled(&queue, 1, PollMode::WHOLE) => panic!("half of the body is missing"),
            () = began.listen() => {}
        }
    };
    let sent = tokio::time::timeout(defaults::ANSWER, link.send_plain(request, link.reserve().unwrap()));
    let error = tokio::join!(sent, work).0.expect("the visitor gets no error in time").unwrap_err();
    assert!(error.unsent.is_none(), "half of the body would be missing: {error:?}");
}
