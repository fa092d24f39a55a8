//! Requests whose messages a transport writes itself.

use http::Method;

use super::*;
use crate::message::Response;

fn ok() -> Response {
    http::Response::builder().header("content-length", "7").body(Body::full("hey")).unwrap()
}

fn request(method: Method, body: &'static str) -> Request {
    http::Request::builder().method(method).uri("http://a.test/x").body(Body::full(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_unsent_delivery_goes_to_the_next_poll() {
    let Bench { router, queue, link } = Bench::new();
    let sent = link.send_plain(request(Method::PUT, "abc"), link.reserve().unwrap());
    let work = async {
        drop(queue.poll(1, IN_MEMORY, HOLD).await.ok().unwrap());
        let delivery = queue.poll(2, IN_MEMORY, HOLD).await.ok().unwrap();
        assert_eq!(
            delivery.request().map(|(request, body)| (request.uri().path(), &body[..])),
            Some(("/x", &b"abc"[..]))
        );
        drop(delivery.written("unsent".into()));
        let delivery = queue.poll(3, IN_MEMORY, HOLD).await.ok().unwrap();
        let text = delivery.written("sent".into()).collect().await.unwrap().to_bytes();
        assert_eq!(text, "sent");
        assert!(
            matches!(router.respond(2, Ok(ok())), Err(AnswerError::Unknown)),
            "this URL delivered nothing"
        );
        assert!(router.respond(3, Ok(ok())).unwrap());
        assert!(matches!(router.respond(3, Ok(ok())), Err(AnswerError::Unknown)));
        assert!(matches!(queue.poll(3, IN_MEMORY, HOLD).await, Err(PollEnd::Used)));
    };
    let response = tokio::join!(sent, work).0.unwrap();
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hey");
}

#[tokio::test(start_paused = true)]
async fn a_lost_delivery_is_repeated_when_its_url_is_polled_again() {
    let Bench { router, queue, link } = Bench::new();
    let sent = link.send_plain(request(Method::PUT, "abc"), link.reserve().unwrap());
    let work = async {
        for _ in 0..2 {
            let delivery = queue.poll(1, PollMode::IN_MEMORY, HOLD).await.ok().unwrap();
            assert_eq!(delivery.request().map(|(_, body)| &body[..]), Some(&b"abc"[..]));
            delivery.written("sent".into()).collect().await.unwrap();
        }
        assert!(router.respond(1, Ok(ok())).unwrap());
        assert!(matches!(queue.poll(1, PollMode::IN_MEMORY, HOLD).await, Err(PollEnd::Used)));
    };
    assert_eq!(tokio::join!(sent, work).0.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_outlives_its_session_and_a_head_request_gets_no_body() {
    let Bench { router, queue, link } = Bench::new();
    let sent = link.send_plain(request(Method::HEAD, ""), link.reserve().unwrap());
    let work = async {
        let delivery = queue.poll(1, IN_MEMORY, HOLD).await.ok().unwrap();
        delivery.written("sent".into()).collect().await.unwrap();
        queue.lock().end();
        assert!(!router.respond(1, Ok(ok())).unwrap(), "the session has ended");
    };
    let response = tokio::join!(sent, work).0.unwrap();
    assert_eq!(response.headers()["content-length"], "7");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}
