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

/// The maximum size in bytes of the metadata of a Secret. The API server allows 256 KiB for annotations,
/// and 1.5 MiB for labels. Each watch holds what has arrived of a change.
pub const MAX_METADATA_BYTES: usize = 512 * 1024;

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
/// renewed in several steps has them within a second or two. The ends of a broker's alarms have the same pace.
pub const MIN_SECRET_WAKE_GAP: Duration = Duration::from_secs(2);

/// The longest time between wakes for the changes of one Secret. 10,000 messages take the operator
/// a few seconds to try.
pub const MAX_SECRET_WAKE_GAP: Duration = Duration::from_mins(1);

/// Up to this size in bytes, all violations of a schema by a body are described. The library collects
/// them all, some 250 bytes for each, and a body may have one for every two bytes. Usual bodies have
/// up to 20,000 bytes.
pub const MAX_EXPLAINED_BYTES: usize = 64 * 1024;

/// The number of objects and lists in a body that is checked against a schema. Each needs up to 650
/// bytes once it is parsed, so a body of 1.5 MB could need 140 MB. The largest that are known have
/// some thousands. A body of client-side `kubectl apply` has at most 37,000.
pub const MAX_CHECKED_CONTAINERS: usize = 50_000;

/// The number of bodies of more than [`MAX_EXPLAINED_BYTES`] that are prepared at the same time. One
/// needs up to 70 MB, and a tenth of a second.
pub const MAX_LARGE_PREPARATIONS: usize = 1;

/// The number of connections to the admin port. The kubelet and a few Prometheus servers need one
/// each, for some milliseconds. Beyond it, the address with the most loses its oldest.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;

/// The maximum size in bytes of a request's head at the admin port. A scrape has some 300. It is also
/// the least that the HTTP server accepts.
pub const MAX_REQUEST_HEAD: usize = 8 * 1024;

/// The time that a client of the admin port has to send a request's head.
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The time until a connection to the admin port is closed, whatever its client does. A page is made
/// within 4 seconds, and has some 100 KB.
pub const ADMIN_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The controller makes a report for `/metrics` at most this often. A report of 100,000 pending
/// messages takes it some milliseconds. Prometheus asks every 15 seconds or more rarely.
pub const MIN_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The number of Events of one namespace that wait to be written. An Event has some 1,500 bytes, and
/// the operator writes some 20 a second.
pub const MAX_WAITING_EVENTS_PER_NAMESPACE: usize = 100;

/// The number of waiting Events in all.
pub const MAX_WAITING_EVENTS: usize = 1000;

/// The number of client certificates in one namespace's Secrets whose end is known, for a day after
/// their last use. Each is a series of a metric. A namespace uses a handful of certificates.
pub const MAX_KNOWN_CERTIFICATES_PER_NAMESPACE: usize = 100;

/// The number of such certificates in all: more than any cluster uses in a day.
pub const MAX_KNOWN_CERTIFICATES: usize = 1000;

/// A message whose spec and last applied configuration take more bytes than this has a status before
/// it is sent, as proof that the API server can store one. etcd stores 1.5 MiB. Managed fields can
/// take three times the size of the spec, and annotations 256 KiB. Messages are rarely larger than
/// 10 KiB.
pub const MAX_SIZE_WITHOUT_PROOF: usize = 256 * 1024;

/// The maximum size in bytes of a message that a Pod sends, as the line that the CLI reads. The API
/// server allows 256 KiB for all annotations of an object, and the other annotations take some 2 KiB.
/// The largest of the recorded messages of Fedora's applications has 32 KiB (docs/decisions/0043).
pub const MAX_POD_MESSAGE_BYTES: usize = 240 * 1024;

/// The number of texts of good certificates that are known, so that each is parsed once. An entry has
/// some 80 bytes.
pub const MAX_KNOWN_CREDENTIALS: usize = 1024;

/// The number of broker connections that the messages of one namespace can have: one for each client
/// certificate and environment. A connection is a file, a thread, and up to 8 MiB of buffers. An
/// application has one certificate, or two while it is renewed, for each of two environments.
pub const MAX_CONNECTIONS_PER_NAMESPACE: usize = 6;

/// The bytes of messages that a broker may return at a time on a connection, because no queue gets them,
/// unless more wait for their confirm. Each body is kept until it is complete and confirmed. An
/// environment's bodies in flight have 8 MiB at most, and `RabbitMQ` 4 takes no message of more than 16 MiB.
pub const MAX_RETURNED_BYTES: usize = 16 << 20;

/// The bytes of messages that an environment's broker may have without an answer after an alarm. No others
/// are published then. Bodies in flight have 8 MiB at most, so a broker that has one alarm meets no bound.
pub const MAX_UNANSWERED_BYTES: usize = 16 << 20;

/// The number of broker connections in all. Connections that have carried several MiB take 4 MiB
/// each, so 100 MiB of the 256 MiB that the Deployment allows.
pub const MAX_CONNECTIONS: usize = 24;

/// A message waits at most this long for its connection, if there are as many as allowed. Each one
/// that no message uses is closed for it. So it waits longer only if a broker confirms slowly.
pub const CONNECTION_WAIT: Duration = Duration::from_secs(10);

/// The number of Senders of one namespace that are held. An application has one for each environment.
/// The CRD bounds the size of each: 20 KB at most, and usually 500 bytes.
pub const MAX_SENDERS_PER_NAMESPACE: usize = 100;

/// The number of Senders in all: more than any cluster has.
pub const MAX_SENDERS: usize = 5000;

/// The number of Senders that are checked at the same time. A check opens a connection to the broker,
/// which is closed at once.
pub const MAX_SENDER_CHECKS: usize = 4;

/// The time that each new Sender of a namespace counts against its pace. [`MAX_SENDERS_PER_NAMESPACE`] of
/// them are checked at once, and more are at this pace. So who creates and deletes Senders in a loop does
/// not make the operator log in to the broker all the time.
pub const MIN_NEW_SENDER_GAP: Duration = Duration::from_secs(2);

/// The number of namespaces with metrics of their own, if `--namespace-metrics` says no other. Each has two
/// series, of some 200 bytes here and some kilobytes in Prometheus.
pub const DEFAULT_NAMESPACE_METRICS: u16 = 500;
