//! Bounds on what the users of one namespace can make the operator hold or do, and on the sum over
//! all namespaces.
//!
//! Each bound of one namespace is well below that of all, so that one namespace never takes what
//! others need. docs/scaling.md has the same list for users.

use std::time::Duration;

/// The number of Secrets that are watched for the messages of one namespace. Each watch is a
/// connection to the API server, so a file and some 50 KiB. A namespace uses a handful of Secrets.
pub const MAX_WATCHED_SECRETS_PER_NAMESPACE: usize = 20;

/// The number of watched Secrets in all. It is half of the 400 files that the operator may have
/// open, and ten times what one namespace may take.
pub const MAX_WATCHED_SECRETS: usize = 200;

/// The maximum size in bytes of what is used of a Secret: CA, certificate and key. The CA bundle of
/// a whole system has 220,000 bytes, and a usual CA 2,000.
pub const MAX_SECRET_BYTES: usize = 256 * 1024;

/// The number of Secrets whose contents are read at the same time. A Secret of 1 MiB takes some
/// 4 MiB while it is decoded.
pub const MAX_SECRET_READS: usize = 4;

/// The number of bad certificates whose errors are remembered, so that each is parsed once. An error
/// has some 500 bytes.
pub const MAX_KNOWN_BAD_CREDENTIALS: usize = 1024;

/// A message whose Secret is beyond the bound of watches looks for it again after this time at the
/// earliest. A user who has just created the Secret hardly notices.
pub const MIN_SECRET_POLL: Duration = Duration::from_secs(10);

/// The messages of one namespace that look for Secrets beyond the bound of watches do so at least
/// this time apart: 20 times a second. A thousand messages take 50 seconds. An API server answers
/// some thousand such requests a second.
pub const SECRET_POLL_GAP: Duration = Duration::from_millis(50);

/// The same for messages whose Secret is there, but bad. Each reads its contents, up to 1.5 MiB.
pub const SECRET_CONTENTS_POLL_GAP: Duration = Duration::from_millis(500);

/// After a change of a Secret has woken its messages, its next changes wake them after this time at
/// the earliest. It doubles with each change up to [`MAX_SECRET_WAKE_GAP`]. A certificate that is
/// renewed in several steps has them within a second or two.
pub const MIN_SECRET_WAKE_GAP: Duration = Duration::from_secs(2);

/// The longest time between wakes for the changes of one Secret. 10,000 messages take the operator
/// a few seconds to try.
pub const MAX_SECRET_WAKE_GAP: Duration = Duration::from_mins(1);
