//! Large bodies, and the memory that slow readers may cost.

use std::sync::OnceLock;
use std::time::Duration;

use ptth::internals::defaults;
use sha2::{Digest, Sha256};

use crate::answers::answer;
use crate::support::{TestOrigin, Wire, within};
use crate::world::On;

const LARGE: usize = 64 << 20;
/// What may be on the way besides one stream window: the kernel's buffers of three connections, and ours.
const SLACK: usize = 24 << 20;

/// Bytes that no compression and no repetition would hide a mistake in. Made once, and before there is an agent: on a
/// slow machine that takes longer than an agent may leave a PING unanswered.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = (0..LARGE / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.collect()
    })
}

pub(crate) async fn large_download(on: On) {
    let data = noise();
    let wanted = Sha256::digest(data);
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    let mut digest = Sha256::new();
    let sending = async {
        origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")).await;
        origin.send(data).await;
    };
    let receiving = async {
        assert_eq!(visitor.head().await.get("content-length"), Some(&*LARGE.to_string()));
        visitor.stream(LARGE, |part| digest.update(part)).await;
    };
    within("64 MiB down", async { tokio::join!(sending, receiving) }).await;
    assert_eq!(digest.finalize(), wanted);
}

pub(crate) async fn large_upload(on: On) {
    let data = noise();
    let wanted = Sha256::digest(data);
    let world = on.world().await;
    let length = format!("Content-Length: {LARGE}\r\n");
    let (mut visitor, mut origin, head) = world.begin("POST", "/", &length).await;
    assert_eq!(head.get("content-length"), Some(&*LARGE.to_string()));
    let mut digest = Sha256::new();
    let receiving = origin.stream(LARGE, |part| digest.update(part));
    within("64 MiB up", async { tokio::join!(visitor.send(data), receiving) }).await;
    assert_eq!(digest.finalize(), wanted);
    answer(&mut origin, &mut visitor).await;
}

/// Sends what is left behind `taken` bytes, and sees all of it arrive.
async fn the_rest(sender: &mut Wire, receiver: &mut Wire, taken: usize) {
    let rest = vec![b'x'; LARGE - taken];
    let mut count = 0;
    within("the rest", async {
        tokio::join!(sender.send(&rest), receiver.stream(LARGE, |part| count += part.len()))
    })
    .await;
    assert_eq!(count, LARGE);
}

pub(crate) async fn a_slow_visitor_slows_the_origin(on: On) {
    let world = on.world_with(TestOrigin::with_small_buffers()).await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")).await;
    visitor.head().await;
    let taken = origin.send_until_stuck(LARGE).await;
    assert!(
        taken < defaults::STREAM_WINDOW as usize + SLACK,
        "{taken} bytes were accepted for a visitor that does not read"
    );
    // One that does not read holds nobody else up.
    world.still_works().await;
    // And nothing was lost.
    the_rest(&mut origin, &mut visitor, taken).await;
}

pub(crate) async fn a_slow_origin_slows_the_visitor(on: On) {
    let world = on.world_with(TestOrigin::with_small_buffers()).await;
    let (mut visitor, mut origin, _) =
        world.begin("POST", "/", &format!("Content-Length: {LARGE}\r\n")).await;
    let taken = visitor.send_until_stuck(LARGE).await;
    assert!(
        taken < defaults::STREAM_WINDOW as usize + SLACK,
        "{taken} bytes were accepted for an origin that does not read"
    );
    world.still_works().await;
    the_rest(&mut visitor, &mut origin, taken).await;
}

/// Longer than any deadline for a far end that is silent: whoever only reads slowly is not.
const PAUSE: Duration = Duration::from_secs(13);

pub(crate) async fn a_visitor_that_pauses_loses_nothing(on: On) {
    let world = on.world_with(TestOrigin::with_small_buffers()).await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")).await;
    visitor.head().await;
    let taken = origin.send_until_stuck(LARGE).await;
    tokio::time::sleep(PAUSE).await;
    the_rest(&mut origin, &mut visitor, taken).await;
}

pub(crate) async fn an_origin_that_pauses_loses_nothing(on: On) {
    let world = on.world_with(TestOrigin::with_small_buffers()).await;
    let (mut visitor, mut origin, _) =
        world.begin("POST", "/", &format!("Content-Length: {LARGE}\r\n")).await;
    let taken = visitor.send_until_stuck(LARGE).await;
    tokio::time::sleep(PAUSE).await;
    the_rest(&mut visitor, &mut origin, taken).await;
}
