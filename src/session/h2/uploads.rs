//! How many bytes of uploads a server receives before they are read.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};

use super::budget::{LEAST, ReceiveBudget, window_within};
use super::stream_windows::{ChargedBody, FIRST_UPLOAD, SettingsAckTimeout, StreamWindows};

/// One upload may take the largest window of its connection divided by this number, so that an upload that is not read
/// does not stop all others.
const PART: u32 = 2;
/// A connection takes at most the free bytes divided by this number, so that some are left for later connections.
const PARTS: usize = 3;

/// How many bytes of uploads may wait unread.
#[derive(Debug, Clone)]
pub(crate) enum UploadPolicy {
    /// Each long upload takes from this budget by itself: the uploads of one connection come from many visitors.
    Stream(Arc<ReceiveBudget>),
    /// The connection takes up to `most` bytes from the budget with its first long upload, and keeps them until the
    /// connection ends: a granted window cannot be taken back, and a stranger may use it at any time. Before the first
    /// long upload, the connection has `first` bytes and no more.
    #[cfg_attr(not(any(test, feature = "relay")), expect(dead_code, reason = "only a relay has visitors"))]
    Connection {
        /// The budget.
        budget: Arc<ReceiveBudget>,
        /// Granted before the first long upload, in bytes.
        first: u32,
        /// Taken from the budget at most, in bytes.
        most: u32,
    },
}

/// The windows of the uploads on one connection.
pub(super) enum UploadWindows {
    Stream(Arc<StreamWindows>),
    Connection(ConnectionWindow),
}

/// One window for all uploads of a connection. The window of each stream is constant, because not every client resumes a
/// stream whose window grows by SETTINGS_INITIAL_WINDOW_SIZE. The connection grows by WINDOW_UPDATE.
pub(super) struct ConnectionWindow {
    budget: Arc<ReceiveBudget>,
    first: u32,
    most: u32,
    /// Bytes taken from the budget.
    taken: u32,
    /// A long upload has begun.
    wanted: bool,
}

impl UploadWindows {
    pub(super) fn new(policy: UploadPolicy) -> Self {
        match policy {
            UploadPolicy::Stream(budget) => Self::Stream(StreamWindows::new(budget, FIRST_UPLOAD)),
            UploadPolicy::Connection { budget, first, most } => {
                Self::Connection(ConnectionWindow { budget, first, most, taken: 0, wanted: false })
            }
        }
    }

    /// Sets the windows with which the connection begins.
    pub(super) fn begin<'a>(&self, builder: &'a mut Builder) -> &'a mut Builder {
        let (each, all) = match self {
            Self::Stream(windows) => (windows.window(), windows.connection_window()),
            Self::Connection(window) => ((window.first + window.most) / PART, window.first),
        };
        builder.initial_window_size(each).initial_connection_window_size(all)
    }

    /// Announces changed windows to the far end. Returns whether any has changed. See [`StreamWindows::update`].
    pub(super) fn update<T>(
        &mut self,
        connection: &mut Connection<T, Bytes>,
    ) -> Result<bool, SettingsAckTimeout>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        match self {
            Self::Stream(windows) => windows.update(|size| connection.set_initial_window_size(size)),
            Self::Connection(window) => {
                Ok(window.grow().map(|size| connection.set_target_window_size(size)).is_some())
            }
        }
    }

    /// A long upload has begun.
    pub(super) fn want(&mut self) {
        if let Self::Connection(window) = self {
            window.wanted = true;
        }
    }

    /// An observer of an upload, if each upload takes from the budget by itself.
    pub(super) fn charge(&self, length: Option<u64>) -> Option<ChargedBody> {
        match self {
            Self::Stream(windows) => windows.charge(length),
            Self::Connection(_) => None,
        }
    }
}

impl ConnectionWindow {
    /// The new window of the connection, if it is to grow, as far as the budget permits.
    fn grow(&mut self) -> Option<u32> {
        if !self.wanted || self.taken >= self.most {
            return None;
        }
        let size = window_within(self.budget.free() / PARTS, self.most);
        if size <= self.taken {
            return None;
        }
        self.budget.take((size - self.taken) as usize);
        self.taken = size;
        if size == LEAST {
            self.budget.report_short();
        }
        Some(self.first + size)
    }
}

impl Drop for ConnectionWindow {
    fn drop(&mut self) {
        self.budget.give_back(self.taken as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    /// How many bytes of an unread long upload are received. With `at_once`, the upload begins before the first
    /// SETTINGS come.
    async fn taken(budget: &Arc<ReceiveBudget>, at_once: bool) -> usize {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (first, most) = (128 << 10, 1 << 20);
        let mut granted =
            UploadWindows::new(UploadPolicy::Connection { budget: budget.clone(), first, most });
        let client = async {
            let (mut handle, connection) = h2::client::handshake(near).await.unwrap();
            let mut connection = Box::pin(connection);
            if !at_once {
                let _ = tokio::time::timeout(std::time::Duration::from_millis(100), &mut connection).await;
            }
            let request = http::Request::post("http://a.test/").body(()).unwrap();
            let (_answer, mut upload) = handle.send_request(request, false).unwrap();
            let send = async {
                let mut sent = 0;
                loop {
                    upload.reserve_capacity(1 << 14);
                    let more = poll_fn(|cx| upload.poll_capacity(cx));
                    match tokio::time::timeout(std::time::Duration::from_secs(1), more).await {
                        Ok(more) => {
                            let more = more.unwrap().unwrap();
                            sent += more;
                            upload.send_data(vec![0; more].into(), false).unwrap();
                        }
                        Err(_) => return sent,
                    }
                }
            };
            tokio::select! {
                sent = send => sent,
                _ = connection => panic!("the connection ended"),
            }
        };
        let server = async {
            let mut builder = Builder::new();
            let mut connection = granted.begin(&mut builder).handshake::<_, Bytes>(far).await.unwrap();
            let mut open = Vec::new();
            poll_fn(|cx| {
                loop {
                    while let Poll::Ready(Some(accepted)) = connection.poll_accept(cx) {
                        open.push(accepted.unwrap());
                        granted.want();
                    }
                    if !granted.update(&mut connection).unwrap() {
                        return Poll::<()>::Pending;
                    }
                }
            })
            .await;
        };
        tokio::select! {
            sent = client => sent,
            () = server => 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_upload_gets_its_window_even_on_a_new_connection() {
        let budget = ReceiveBudget::new(128 << 20);
        for at_once in [true, false] {
            assert_eq!(taken(&budget, at_once).await, (128 << 10 | 1 << 20) / 2, "at once: {at_once}");
            assert_eq!(budget.both_taken().0, 0, "the window is returned at the end of the connection");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_budget_leaves_the_initial_window() {
        let budget = ReceiveBudget::new(MOST);
        budget.take(MOST);
        assert!(taken(&budget, true).await <= 128 << 10 | LEAST as usize);
    }

    const MOST: usize = 1 << 20;
}
