//! How much of its uploads a server takes before somebody reads them.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};

use super::windows::{Deaf, FIRST_UPLOAD, Flow, Reserved, Told, Watch, Windows};
use crate::defaults;

/// Uploads of one connection that go on although another waits.
const BESIDE: u32 = 4;

/// What may wait of uploads that nobody reads yet.
#[derive(Debug, Clone)]
pub(crate) enum Room {
    /// Each long upload takes from this account for itself: those of one connection are many people's.
    Stream(Arc<Windows>),
    /// The connection takes from it, up to `most` bytes for all its uploads, with the first long one: until then a
    /// stranger has been granted `first` and no more.
    Connection {
        /// The account.
        windows: Arc<Windows>,
        /// In bytes.
        first: u32,
        /// In bytes.
        most: u32,
    },
}

/// The windows of one connection.
pub(super) enum Granted {
    Stream(Arc<Flow>, Told),
    Connection { windows: Arc<Windows>, first: u32, most: u32, reserved: Option<Reserved> },
}

impl Granted {
    pub(super) fn new(room: Room) -> Self {
        match room {
            Room::Stream(windows) => {
                let flow = Flow::new(windows, FIRST_UPLOAD);
                Self::Stream(flow.clone(), Told::new(flow))
            }
            Room::Connection { windows, first, most } => {
                Self::Connection { windows, first, most, reserved: None }
            }
        }
    }

    pub(super) fn begin<'a>(&self, builder: &'a mut Builder) -> &'a mut Builder {
        match self {
            Self::Stream(_, told) => builder
                .initial_window_size(told.size())
                .initial_connection_window_size(defaults::CONNECTION_WINDOW),
            Self::Connection { first, .. } => {
                builder.initial_window_size(first / 2).initial_connection_window_size(*first)
            }
        }
    }

    /// Tells the far end what has changed.
    pub(super) fn update<T>(&mut self, connection: &mut Connection<T, Bytes>) -> Result<(), Deaf>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        match self {
            Self::Stream(_, told) => told.update(|size| connection.set_initial_window_size(size)),
            Self::Connection { .. } => Ok(()),
        }
    }

    /// A long upload has begun.
    pub(super) fn grow<T: AsyncRead + AsyncWrite + Unpin>(&mut self, connection: &mut Connection<T, Bytes>) {
        let Self::Connection { windows, first, most, reserved: reserved @ None } = self else { return };
        let more = windows.reserve(*most);
        let all = *first + more.bytes;
        // Refused while an earlier change is not acknowledged; there was none.
        if connection.set_initial_window_size((all / BESIDE).max(*first / 2)).is_ok() {
            connection.set_target_window_size(all);
            *reserved = Some(more);
        }
    }

    /// Watches an upload where each counts for itself.
    pub(super) fn watch(&self, length: Option<u64>) -> Option<Watch> {
        match self {
            Self::Stream(flow, _) => flow.watch(length),
            Self::Connection { .. } => None,
        }
    }
}
