//! Visitors that speak HTTP/2 to do harm.

use std::time::{Duration, Instant};

use crate::floods::{self, PATIENCE};
use crate::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, request};
use crate::program::{MIB, Program};
use crate::support::{named, run};
use crate::world::{NAME, On, connect};

/// What a relay may grow by all floods together.
const GROWTH: usize = 64 * MIB;
/// A flood that is not ended may take so long to send.
const LONGEST: Duration = Duration::from_secs(20);

/// A19, on the public port.
#[test]
fn frame_floods_use_little_memory_and_end() {
    run(async {
        let program = Program::start(&[], &["--transport", "ptth10"]).await;
        let address = ([127, 0, 0, 1], program.relay.port).into();
        for _ in 0..20 {
            program.is_healthy().await;
        }
        let (before, mut faults) = (program.relay_memory(), Vec::new());
        for flood in floods::all(&named(NAME)) {
            let began = Instant::now();
            let mut visitor = Frames::client(connect(address).await).await;
            visitor.send(&flood.before).await;
            let flooding = visitor.flood(flood.most, PATIENCE, &flood.unit);
            // Honest visitors come all the while.
            let honest = async {
                loop {
                    program.is_healthy().await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let ended = tokio::select! {
                ended = flooding => ended,
                () = honest => unreachable!("the honest visitors do not end"),
            };
            program.is_healthy().await;
            let grown = program.relay_memory().saturating_sub(before);
            if flood.must_end && !ended || began.elapsed() > LONGEST || grown > GROWTH {
                faults.push(format!(
                    "{}: ended {ended}, {:?}, {} MiB more",
                    flood.name,
                    began.elapsed(),
                    grown / MIB
                ));
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    });
}

/// A19, as the carriers feel it: what a visitor cancels is cancelled at the agent, and whoever cancels most does not
/// keep others out.
pub(crate) async fn mass_cancellations_block_no_visitor(on: On) {
    let world = on.world().await;
    let ask = request("POST", &named(NAME), "/cancelled");
    for round in 0..10 {
        let mut visitor = Frames::client(connect(world.relay.plain).await).await;
        for n in 0..50 {
            let id = 2 * n + 1;
            let begun = [frame(HEADERS, END_HEADERS, id, &ask), frame(DATA, 0, id, "begun")].concat();
            if !visitor.send([begun, frame(RST_STREAM, 0, id, 8_u32.to_be_bytes())].concat()).await {
                break;
            }
        }
        // Half of them go without a word.
        if round % 2 == 0 {
            visitor
                .send(frame(HEADERS, END_HEADERS | END_STREAM, 101, request("GET", &named(NAME), "/last")))
                .await;
            visitor.until(PATIENCE, |f| f.has_status(200)).await;
        }
        drop(visitor);
        world.is_healthy().await;
    }
    world.origin.whole();
}
