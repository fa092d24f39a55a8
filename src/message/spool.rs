//! Bodies that must be complete before they are forwarded: short bodies in memory, long bodies in an unnamed file. Such
//! a body can be read more than once, so a body that was sent and lost can be sent again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::body::{FrameSource, PolledFrame};
use super::store::SpoolBudget;
use super::{Body, BoxError, trailers};
use crate::defaults;

/// Room for the bodies of one session.
pub struct SpoolRoom {
    /// The room for all bodies of the session, in bytes.
    all: Arc<Semaphore>,
    /// The room for one body, in bytes.
    one: usize,
    /// The room for the bodies of all sessions.
    store: Arc<SpoolBudget>,
}

impl Default for SpoolRoom {
    fn default() -> Self {
        // The default is for an agent: an envelope has a head before its body.
        Self::new(defaults::MESSAGE + defaults::FIELDS as usize, defaults::MESSAGES)
    }
}

/// A complete body and its trailers. Cloning is cheap; the room is released when the last clone is dropped.
#[derive(Clone, Default)]
pub struct Spooled {
    place: SpoolPlace,
    trailers: Option<Arc<HeaderMap>>,
    share: Option<Arc<Share>>,
}

#[derive(Clone)]
enum SpoolPlace {
    Memory(Bytes),
    File { file: Arc<File>, length: u64 },
}

impl Default for SpoolPlace {
    fn default() -> Self {
        Self::Memory(Bytes::new())
    }
}

/// Why a body cannot be taken in as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The body is larger than the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Other bodies occupy the room of this session or of all sessions.
    #[error("too many bodies are held already")]
    Full,
    /// The body did not end in time.
    #[error("the body did not arrive in time")]
    Late,
    /// The body broke off.
    #[error("the body broke off: {0}")]
    Broken(BoxError),
    /// The temporary file cannot be created or written.
    #[error("cannot create or write a temporary file: {0}")]
    Disk(#[from] io::Error),
}

impl SpoolRoom {
    /// Room for bodies of up to `one` bytes each, and `all` bytes together.
    pub fn new(one: usize, all: usize) -> Self {
        // On 32-bit targets a semaphore has fewer permits.
        Self { all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))), one, store: Arc::default() }
    }

    /// The longest body that is taken in, in bytes.
    pub fn most(&self) -> usize {
        self.one
    }

    /// The same room, as a part of the budget of all sessions.
    pub fn within(self, store: Arc<SpoolBudget>) -> Self {
        Self { store, ..self }
    }

    /// Takes a body in, up to its end, with its trailers. Dropping the future releases the room.
    ///
    /// # Errors
    /// [`SpoolError`]
    pub async fn take_in(&self, body: Body) -> Result<Spooled, SpoolError> {
        tokio::time::timeout(defaults::TAKE_IN, self.take(body)).await.unwrap_or(Err(SpoolError::Late))
    }

    async fn take(&self, mut body: Body) -> Result<Spooled, SpoolError> {
        let (mut memory, mut file) = (BytesMut::new(), None);
        let mut share = Share::default();
        let (mut length, mut trailers) = (0, None);
        while let Some(frame) = body.frame().await {
            let data = match frame.map_err(SpoolError::Broken)?.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let fields = frame.into_trailers().unwrap_or_default();
                    let size = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
                    grow(&mut share.own, &self.all, size)?;
                    grow(&mut share.memory, &self.store.memory, size)?;
                    trailers = Some(Arc::new(fields));
                    continue;
                }
            };
            length += data.len();
            if length > self.one {
                return Err(SpoolError::TooLarge(self.one));
            }
            grow(&mut share.own, &self.all, data.len())?;
            if file.is_none() && length > defaults::MESSAGE_MEMORY {
                grow(&mut share.disk, &self.store.disk, length)?;
                let mut fresh = tokio::fs::File::from_std(unnamed(self.store.folder.clone()).await?);
                fresh.write_all(&std::mem::take(&mut memory)).await?;
                share.memory = None;
                file = Some(fresh);
            } else if file.is_some() {
                grow(&mut share.disk, &self.store.disk, data.len())?;
            } else {
                grow(&mut share.memory, &self.store.memory, data.len())?;
            }
            if length == data.len() && body.is_end_stream() && file.is_none() {
                let (place, share) = (SpoolPlace::Memory(data), Some(Arc::new(share)));
                return Ok(Spooled { place, trailers, share });
            }
            match &mut file {
                Some(file) => file.write_all(&data).await?,
                None => memory.extend_from_slice(&data),
            }
        }
        let place = match file {
            None => SpoolPlace::Memory(memory.freeze()),
            Some(mut file) => {
                file.flush().await?;
                SpoolPlace::File { file: Arc::new(file.into_std().await), length: length as u64 }
            }
        };
        let is_empty = length == 0 && trailers.is_none();
        Ok(Spooled { place, trailers, share: (!is_empty).then(|| Arc::new(share)) })
    }
}

/// The room that one body occupies.
#[derive(Default)]
struct Share {
    own: Option<OwnedSemaphorePermit>,
    memory: Option<OwnedSemaphorePermit>,
    disk: Option<OwnedSemaphorePermit>,
}

fn grow(
    share: &mut Option<OwnedSemaphorePermit>,
    from: &Arc<Semaphore>,
    bytes: usize,
) -> Result<(), SpoolError> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let more = from.clone().try_acquire_many_owned(bytes).map_err(|_| SpoolError::Full)?;
    match share {
        Some(share) => share.merge(more),
        None => *share = Some(more),
    }
    Ok(())
}

/// An unnamed file, which is deleted when it is closed, however this process ends.
async fn unnamed(folder: Option<PathBuf>) -> io::Result<File> {
    let make = move || folder.map_or_else(tempfile::tempfile, tempfile::tempfile_in);
    tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?
}

impl Spooled {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match &self.place {
            SpoolPlace::Memory(bytes) => bytes.len() as u64,
            SpoolPlace::File { length, .. } => *length,
        }
    }

    /// Whether trailers follow the bytes.
    pub fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The bytes, if they are in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.place {
            SpoolPlace::Memory(bytes) => Some(bytes),
            SpoolPlace::File { .. } => None,
        }
    }

    /// Reads a body that is in a file into memory. Cancel safe.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn load(&mut self) -> Result<(), BoxError> {
        if let SpoolPlace::File { .. } = self.place {
            self.place = SpoolPlace::Memory(self.body().collect().await?.to_bytes());
        }
        Ok(())
    }

    /// The body from its start. Several of these bodies may be read at the same time.
    pub fn body(&self) -> Body {
        let mut body = match &self.place {
            SpoolPlace::Memory(bytes) => Body::full(bytes.clone()),
            SpoolPlace::File { file, length } => {
                Body::from_source(FileBody { file: file.clone(), at: 0, length: *length, piece: None })
            }
        };
        if let Some(share) = &self.share {
            body.hold(share.clone());
        }
        trailers::append(body, self.trailers.as_deref().cloned())
    }
}

struct FileBody {
    file: Arc<File>,
    at: u64,
    length: u64,
    /// The task is not aborted when this body is dropped; its result is discarded then.
    piece: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FrameSource for FileBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if self.at == self.length {
            return Poll::Ready(None);
        }
        let (file, at, left) = (self.file.clone(), self.at, self.length - self.at);
        let piece = self.piece.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(left.min(defaults::PIECE as u64)).unwrap_or(0)];
                file.read_exact_at(&mut bytes, at)?;
                Ok(bytes.into())
            })
        });
        let read = ready!(Pin::new(piece).poll(cx)).map_err(io::Error::other).flatten();
        self.piece = None;
        Poll::Ready(Some(match read {
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Err(error) => Err(error.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.length
    }

    fn length(&self) -> Option<u64> {
        Some(self.length - self.at)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn body(pieces: usize, size: usize) -> Body {
        let pieces = (0..pieces).map(move |n| Ok::<_, io::Error>(Frame::data(vec![n as u8; size].into())));
        Body::wrap(StreamBody::new(stream::iter(pieces)))
    }

    async fn read(spooled: &Spooled) -> Bytes {
        spooled.body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_spooled_body_can_be_read_again_from_memory_or_a_file() {
        for (pieces, size, memory) in [(0, 0, true), (3, 1000, true), (40, 10_007, false)] {
            let room = SpoolRoom::default();
            let spooled = room.take_in(body(pieces, size)).await.unwrap();
            assert_eq!((spooled.length(), spooled.in_memory().is_some()), ((pieces * size) as u64, memory));
            // A body that is dropped in the middle does not disturb the next body.
            let mut broken_off = spooled.body();
            let _ = broken_off.frame().await;
            let all = read(&spooled).await;
            assert_eq!(all.len(), pieces * size);
            assert!(
                all.chunks(size.max(1)).enumerate().all(|(n, piece)| piece.iter().all(|b| *b == n as u8))
            );
            drop(broken_off);
            assert_eq!(read(&spooled).await, all);
            assert_eq!(room.all.available_permits(), defaults::MESSAGES - all.len());
            drop(spooled);
            assert_eq!(room.all.available_permits(), defaults::MESSAGES);
        }
    }

    #[tokio::test]
    async fn one_body_and_all_bodies_together_have_limits() {
        let room = SpoolRoom::new(80, 100);
        let _held = room.take_in(body(1, 60)).await.unwrap();
        assert!(matches!(room.take_in(body(1, 60)).await, Err(SpoolError::Full)));
        assert_eq!(room.all.available_permits(), 40);
        let larger = SpoolRoom::new(80, 1_000).take_in(body(9, 10)).await;
        assert!(matches!(larger, Err(SpoolError::TooLarge(80))));
        assert_eq!(room.all.available_permits(), 40);
    }

    #[tokio::test]
    async fn all_sessions_share_one_spool_budget() {
        let store = Arc::new(SpoolBudget::new(100, 300_000, None));
        let room = || SpoolRoom::new(1 << 20, 1 << 20).within(store.clone());
        let (one, other) = (room(), room());
        let held = one.take_in(body(1, 60)).await.unwrap();
        assert!(matches!(other.take_in(body(1, 60)).await, Err(SpoolError::Full)));
        assert_eq!(store.memory.available_permits(), 40);
        drop(held);
        let store = Arc::new(SpoolBudget::new(1 << 20, 300_000, None));
        let room = || SpoolRoom::new(1 << 20, 1 << 20).within(store.clone());
        let (one, other) = (room(), room());
        let held = one.take_in(body(3, 100_000)).await.unwrap();
        assert_eq!((store.memory.available_permits(), store.disk.available_permits()), (1 << 20, 0));
        assert!(matches!(other.take_in(body(3, 100_000)).await, Err(SpoolError::Full)));
        drop(held);
        assert!(other.take_in(body(3, 100_000)).await.is_ok());
        assert_eq!(store.memory.available_permits(), 1 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_does_not_hold_its_room_for_ever() {
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(defaults::TAKE_IN / 8).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let room = SpoolRoom::new(80, 100);
        let taken = room.take_in(Body::wrap(StreamBody::new(Box::pin(drops)))).await;
        assert!(matches!(taken, Err(SpoolError::Late)));
        assert_eq!(room.all.available_permits(), 100);
    }

    #[tokio::test]
    async fn trailers_are_read_again_with_their_body() {
        let fields = || HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("\"a\""))]);
        for length in [0, 3, 300_000] {
            let room = SpoolRoom::default();
            let body = trailers::append(Body::full(vec![b'x'; length]), Some(fields()));
            let spooled = room.take_in(body).await.unwrap();
            assert!(spooled.has_trailers() && spooled.length() == length as u64);
            for _ in 0..2 {
                let read = spooled.body().collect().await.unwrap();
                assert_eq!(read.trailers(), Some(&fields()));
                assert_eq!(read.to_bytes().len(), length);
            }
            drop(spooled);
            assert_eq!(room.all.available_permits(), defaults::MESSAGES);
        }
    }

    #[tokio::test]
    async fn no_part_of_a_broken_body_is_passed_on() {
        let pieces = [Ok(Frame::data(Bytes::from("abc"))), Err(io::Error::other("it fell"))];
        let broken = Body::wrap(StreamBody::new(stream::iter(pieces)));
        assert!(matches!(SpoolRoom::default().take_in(broken).await, Err(SpoolError::Broken(_))));
        let whole = SpoolRoom::default().take_in(Body::full("abc")).await.unwrap();
        assert_eq!(read(&whole).await, "abc");
    }
}
