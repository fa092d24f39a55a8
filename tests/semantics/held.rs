//! Four hours: what stays open and says little is ended by nobody here. Relay, agent, visitors and origin are on one
//! runtime whose clock stands still while there is work, and jumps to whatever is waited for when there is none; the
//! sockets between them are real.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;

use crate::support::Wire;
use crate::visitor::{Http2, Reading, request};
use crate::world::{On, World};

const MINUTE: Duration = Duration::from_secs(60);

/// How long nothing is said, one after the other.
const SILENCES: [Duration; 6] = [
    Duration::from_secs(1),
    MINUTE,
    MINUTE.saturating_mul(5),
    MINUTE.saturating_mul(14),
    MINUTE.saturating_mul(40),
    MINUTE.saturating_mul(181),
];

/// The clock jumps in steps as small as this while a step is done: to bytes that are on their way it would not wait.
const PULSE: Duration = Duration::from_millis(1);

async fn step<T>(step: impl Future<Output = T>) -> T {
    let pulse = async {
        loop {
            tokio::time::sleep(PULSE).await;
        }
    };
    tokio::select! {
        biased;
        done = step => done,
        () = pulse => unreachable!("the pulse does not end"),
    }
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// What is open: each visitor, and its origin.
struct Open {
    events: (Wire, Wire),
    events_over_http2: (Reading, Wire),
    socket: (Wire, Wire),
    _http2: Http2,
}

impl Open {
    async fn new(world: &World) -> Self {
        let (mut page, mut origin, _) = world.begin("GET", "/events", "").await;
        origin.send(EVENTS).await;
        assert_eq!(page.head().await.status(), 200);
        let events = (page, origin);

        let mut http2 = Http2::open(world).await;
        let (mut answering, _) = http2.begin(request("GET", "/events").body(()).unwrap(), true).await;
        let (mut origin, _) = answering.at_origin(world).await;
        origin.send(EVENTS).await;
        let events_over_http2 = (answering.reading().await, origin);

        let asked = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let (mut visitor, mut origin, _) = world.begin("GET", "/socket", asked).await;
        origin.send(SWITCHED).await;
        assert_eq!(visitor.head().await.status(), 101);
        Self { events, events_over_http2, socket: (visitor, origin), _http2: http2 }
    }

    /// One event for everybody, and one word each way.
    async fn exchange_data(&mut self, number: usize) {
        let event = format!("data: {number}\n\n");
        self.events.1.send(&event).await;
        assert_eq!(self.events.0.chunk().await, event);
        self.events_over_http2.1.send(&event).await;
        assert_eq!(self.events_over_http2.0.next().await, event);
        let (visitor, origin) = &mut self.socket;
        visitor.send(&event).await;
        assert_eq!(origin.exact(event.len()).await, event);
        origin.send(&event).await;
        assert_eq!(visitor.exact(event.len()).await, event);
    }

    /// Each ends when its origin ends it.
    async fn end(self) {
        let Self {
            events: (mut page, events),
            events_over_http2: (mut stream, origin),
            socket: (mut visitor, far),
            ..
        } = self;
        drop((events, origin, far));
        assert_eq!(page.chunk().await, "");
        assert_eq!(stream.next().await, "");
        visitor.closed().await;
    }
}

fn held(on: On) {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = step(on.world_on_this_clock()).await;
        let mut open = step(Open::new(&world)).await;
        let begun = Instant::now();
        for (number, silence) in SILENCES.into_iter().enumerate() {
            tokio::time::sleep(silence).await;
            step(open.exchange_data(number)).await;
        }
        assert!(begun.elapsed() > 240 * MINUTE, "{:?}", begun.elapsed());
        step(open.end()).await;
        step(world.still_works()).await;
    });
}

#[test]
fn streams_stay_open_for_four_hours_on_h2() {
    held(On::H2);
}

#[test]
fn streams_stay_open_for_four_hours_on_h1() {
    held(On::H1);
}

#[test]
fn streams_stay_open_for_four_hours_on_envelopes() {
    held(On::Envelope);
}
