//! Trailers where a middlebox holds bodies back until they are complete, and where messages cannot carry them.

use ptth::internals::session::Kind;

use crate::holder::Buffering;
use crate::support::{Wire, run};
use crate::world::{On, World};

const SUM: &str = "0\r\nX-Sum: 294\r\n\r\n";

/// A chunked body of this length, with trailers.
fn body(length: usize) -> String {
    match length {
        0 => SUM.into(),
        _ => format!("{length:x}\r\n{}\r\n{SUM}", "x".repeat(length)),
    }
}

/// Reads a chunked body and its trailers.
async fn read(wire: &mut Wire) -> (usize, Vec<(String, String)>) {
    let mut length = 0;
    loop {
        match wire.chunk().await.len() {
            0 => return (length, wire.trailers().await),
            more => length += more,
        }
    }
}

/// Short bodies, and bodies that are kept in a file or stream between relay and agent.
const LENGTHS: [usize; 4] = [0, 3, 300_000, 2_000_000];

#[test]
fn trailers_of_a_request_pass_where_bodies_are_held_back() {
    run(async {
        let world = World::held(Buffering { up: true, down: true }).await;
        for (length, announced) in
            LENGTHS.into_iter().zip(["Trailer: X-Sum\r\n", "", "", "Trailer: X-Sum\r\n"])
        {
            let mut visitor = world.relay.visitor().await;
            let head = World::head("POST", "/", &format!("Transfer-Encoding: chunked\r\n{announced}"));
            visitor.send(head + &body(length)).await;
            let mut origin = world.origin.accept().await;
            assert_eq!(origin.head().await.get("transfer-encoding"), Some("chunked"));
            assert_eq!(read(&mut origin).await, (length, vec![("x-sum".into(), "294".into())]));
            origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
            assert_eq!(visitor.message().await.1, "ok");
        }
    });
}

#[test]
fn the_status_of_a_call_passes_where_bodies_are_held_back() {
    run(async {
        for holds in [Buffering { up: true, down: true }, Buffering { up: true, down: false }] {
            let world = World::held(holds).await;
            for length in LENGTHS {
                let fields = "TE: trailers\r\nConnection: te\r\n";
                let (mut visitor, mut origin, _) = world.begin("GET", "/", fields).await;
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";
                origin.send(head.to_owned() + &body(length)).await;
                let head = visitor.head().await;
                assert_eq!((head.status(), head.get("content-type")), (200, Some("application/grpc")));
                assert_eq!(read(&mut visitor).await, (length, vec![("x-sum".into(), "294".into())]));
            }
            world.still_works().await;
        }
    });
}

#[test]
fn comet_refuses_a_call_that_needs_trailers_before_the_origin_gets_it() {
    run(async {
        let world = On { transport: "comet", carrier: Kind::Envelope }.world().await;
        let call = |kind: &str| {
            let fields = format!("Content-Type: {kind}\r\nTE: trailers\r\nContent-Length: 3\r\n");
            World::head("POST", "/service/method", &fields) + "abc"
        };
        let (head, problem) = world.relay.fetch(&call("application/grpc+proto")).await;
        assert_eq!(head.status(), 501, "{problem}");
        assert!(problem.contains("no-trailers") && problem.contains("gRPC"), "{problem}");
        world.origin.quiet().await;
        // gRPC-Web has its status in the body.
        let mut visitor = world.relay.visitor().await;
        visitor.send(call("application/grpc-web+proto")).await;
        let mut origin = world.origin.accept().await;
        origin.head().await;
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(visitor.message().await.0.status(), 200);
    });
}
