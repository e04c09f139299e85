//! The Sender: at the API server, in each operator's memory, and in what the broker receives.

use std::fmt::{self, Display};

use crate::state::{ObjectUid, WatchState};

/// The Sender at the API server. It has one name, and may be deleted and created again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StoredSender {
    #[default]
    Absent,
    /// The message may be sent as this version.
    Usable(u8),
    /// It does not allow the message's namespace.
    Denied,
}

impl StoredSender {
    /// Returns the version that the message may be sent as.
    pub fn version(self) -> Option<u8> {
        match self {
            Self::Usable(version) => Some(version),
            Self::Absent | Self::Denied => None,
        }
    }
}

/// An operator's watch on Senders, and its knowledge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SenderWatch {
    pub watch: WatchState,
    /// The changes that the watch has not delivered yet.
    pub events: Vec<StoredSender>,
    /// `None` before the first list.
    pub known: Option<StoredSender>,
    /// True if the Sender has changed, and its messages are not woken yet.
    pub wakes: bool,
}

impl SenderWatch {
    /// Returns the version that an attempt may use now.
    pub fn version(&self) -> Option<u8> {
        self.known.and_then(StoredSender::version)
    }

    /// Ends the watch. The next one begins with a list.
    pub fn end(&mut self) {
        self.watch = WatchState::Ended;
        self.events.clear();
    }
}

/// An attempt, and the Sender that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    pub uid: ObjectUid,
    /// The version. `None` if the Sender is absent, or does not allow the message's namespace. A
    /// message that names no Sender is sent as version 0.
    pub sender: Option<u8>,
    /// True if the operator knew another version at that time.
    pub is_old: bool,
}

/// Everything that decides the bytes that the broker receives, and the connection that carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Envelope {
    /// The message, by its object.
    pub uid: ObjectUid,
    /// The message id.
    pub id: usize,
    /// The version of the Sender that gave the prefix of the topic.
    pub prefix: u8,
    /// The version of the Sender that gave the certificate.
    pub certificate: u8,
    /// The header `sent-at`. 0 is the time of the object's creation.
    pub time: u8,
}

impl Display for StoredSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no Sender"),
            Self::Usable(version) => write!(f, "version {version}"),
            Self::Denied => f.write_str("a Sender for other namespaces"),
        }
    }
}

impl Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sender {
            Some(version) => write!(f, "#{} as version {version}", self.uid),
            None => write!(f, "#{} without a Sender", self.uid),
        }
    }
}
