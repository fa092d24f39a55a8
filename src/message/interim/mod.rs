//! Interim responses (1xx, RFC 9110 §15.2) on their way from an origin to a visitor. No server of hyper can send one,
//! and nearly every request has none. So they take a way beside the answer that costs the others nothing: whoever
//! hears one [`say`]s it while the future that makes the answer is being polled, and whoever polls that future hears
//! what was said ([`heard`]) and writes it first. What nobody collects is dropped, as RFC 9110 §15.2 allows.
//!
//! A 100 goes by the gate of its body ([`super::expect`]), and a 101 is an answer: neither is ever said here.

mod heads;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use http::header::{CONTENT_LENGTH, SET_COOKIE, TRAILER};
use http::{Response, StatusCode};

pub use self::heads::Heads;
use super::hop;

/// The head of an interim response: there is nothing else to it.
pub type Head = Response<()>;

thread_local! {
    /// What was said in the poll that is under way; `None` while nobody listens.
    static SAID: RefCell<Option<Vec<Head>>> = const { RefCell::new(None) };
}

/// Passes an interim response on, without the fields of its hop. For futures that make an answer, from within their
/// own poll.
pub fn say(mut head: Head) {
    let status = head.status();
    if !status.is_informational() || [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status)
    {
        return;
    }
    let headers = head.headers_mut();
    let _ = hop::strip(headers);
    // There is no body, whatever it says.
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    // Whose cookies they may be is judged on answers alone.
    headers.remove(SET_COOKIE);
    SAID.with_borrow_mut(|said| {
        if let Some(said) = said {
            said.push(head);
        }
    });
}

/// Awaits an answer, and gives each interim response that is said meanwhile to `hear`, at once and in order. Dropping
/// the future drops the answer's.
pub async fn heard<F: Future + Unpin>(mut answer: F, mut hear: impl FnMut(Head)) -> F::Output {
    poll_fn(|cx| {
        let (polled, said) = collect(|| Pin::new(&mut answer).poll(cx));
        said.into_iter().for_each(&mut hear);
        polled
    })
    .await
}

/// Runs one poll, and returns what was said in it.
pub fn collect<T>(poll: impl FnOnce() -> T) -> (T, Vec<Head>) {
    /// Who listened before listens again, also when the poll panics.
    struct Back(Option<Vec<Head>>);
    impl Drop for Back {
        fn drop(&mut self) {
            SAID.set(self.0.take());
        }
    }
    let _back = Back(SAID.replace(Some(Vec::new())));
    let polled = poll();
    (polled, SAID.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Head {
        let head = Response::builder().status(status).header("link", "</a>").header("connection", "x-a");
        head.header("x-a", "1").header("content-length", "5").body(()).unwrap()
    }

    #[tokio::test]
    async fn what_is_said_is_heard_before_the_answer_and_by_the_nearest() {
        let mut outer = Vec::new();
        let inner = async {
            say(head(103));
            tokio::task::yield_now().await;
            say(head(100));
            say(head(101));
            say(head(200));
            let mut inner = Vec::new();
            heard(Box::pin(async { say(head(102)) }), |head| inner.push(head.status().as_u16())).await;
            assert_eq!(inner, [102]);
            say(head(199));
        };
        heard(Box::pin(inner), |head| outer.push(head)).await;
        assert_eq!(outer.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [103, 199]);
        assert_eq!(outer[0].headers().len(), 1, "{:?}", outer[0]);
    }

    #[test]
    fn nothing_is_left_for_the_next() {
        say(head(103));
        assert!(collect(|| ()).1.is_empty());
        let _ = std::panic::catch_unwind(|| collect(|| panic!("within a poll")));
        say(head(103));
        assert!(SAID.take().is_none());
    }
}
