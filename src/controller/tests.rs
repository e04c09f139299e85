//! The operator's loop, as it loses the Lease and takes it again, while the API server does not
//! answer.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::address::BrokerAddress;
use crate::broker::pool::{Brokers, Pool};
use crate::cluster::events::Events;
use crate::cluster::fake_api;
use crate::cluster::leader_election::{Leadership, Moment};
use crate::cluster::refetch::Refetcher;
use crate::cluster::secrets::Secrets;
use crate::cluster::senders::Senders;
use crate::cluster::status::StatusWriter;
use crate::cluster::watch::{Event, WatchMonitor, Watches};
use crate::controller::queue::{Job, Next, PodLimits, Queue, Uid, Write};
use crate::controller::{self, Inputs, Pending};
use crate::credential_reader::CredentialReader;
use crate::delivery::Delivery;
use crate::fence::Fence;
use crate::log_throttle::LogThrottle;
use crate::metrics::Metrics;
use crate::reconciler::Reconciler;
use crate::ttl::TtlController;
use chrono::Utc;
use fedora_message::api::v1alpha1::Environment;
use futures::{StreamExt, stream};
use kube::{Client, Config};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use fedora_message::fixture::{UID, example, message, plain_routing, set, with};
use fedora_message::message::secret::OperatorCas;
use fedora_message::policy::outcome::Reason;

/// Within this everything happens that is to happen.
const SOON: Duration = Duration::from_secs(30);

fn leader(term: u64) -> Leadership {
    Leadership::Leader { term, until: Moment::now() + 10 * SOON }
}

fn reconciler(client: Client) -> Reconciler {
    let broker: BrokerAddress = "amqps://localhost:1/%2F".parse().unwrap();
    let brokers = Brokers { prod: broker.clone(), stg: broker };
    Reconciler {
        ttl: TtlController::new(None, Arc::default(), |_| {}),
        statuses: StatusWriter::new(client.clone(), 8),
        refetcher: Refetcher::new(client.clone()),
        events: Arc::new(Events::new(client.clone(), "me".to_owned())),
        routing: plain_routing(),
        senders: Arc::default(),
        credentials: Arc::new(CredentialReader::new(
            Secrets::new(Watches::new(client, WatchMonitor::default()), drop),
            OperatorCas::default(),
        )),
        schemas: Arc::default(),
        large_preparations: Semaphore::new(1),
        traces: None,
        metrics: Arc::new(Metrics::new(WatchMonitor::default(), 0)),
        delivery: Arc::new(Delivery::Direct(Pool::new(brokers, SOON, Fence::always_open(), drop))),
    }
}

/// Returns the job for a message, and the queue without which the job would be cancelled.
fn first_job(object: &Value) -> (Queue, Job) {
    let mut queue = Queue::new(8, PodLimits::default());
    queue.lead();
    queue.observe(0, message(object), Instant::now());
    let job = queue.take(Instant::now(), Utc::now()).expect("a job");
    (queue, job)
}

/// Its deadline counts from its resumption, which the watch reports.
#[tokio::test]
async fn suspended_message_is_not_looked_at_again() {
    let (client, _) = fake_api::client([]);
    let suspended = set(with("/spec/suspend", true.into()), "/spec/activeDeadlineSeconds", 60.into());
    let (_queue, job) = first_job(&suspended);
    let Next::Settled { state, due, .. } = reconciler(client).reconcile(&job).await else { panic!("it is settled") };
    assert_eq!((state.reason, due), (Some(Reason::Suspended), None));
}

/// The object has no room for a status, which an unchanged outcome does not change. If it counted as
/// written, the message would be sent without a proof of room.
#[tokio::test(start_paused = true)]
async fn unwritten_status_stays_unwritten() {
    let (client, _) = fake_api::client([]);
    let (mut queue, job) = first_job(&example());
    let reconciler = reconciler(client);
    let Next::Settled { state, write, .. } = reconciler.reconcile(&job).await else { panic!("it is settled") };
    assert_eq!((state.reason, write), (Some(Reason::SecretNotFound), Write::Queued));
    queue.finish(&job, Next::Settled { state, write: Write::Impossible, due: Some(Instant::now()) });
    let job = queue.take(Instant::now(), Utc::now()).expect("it is looked at again");
    let Next::Settled { write, .. } = reconciler.reconcile(&job).await else { panic!("it is settled") };
    assert_eq!(write, Write::Impossible);
}

/// Messages arrive between jobs, and would fill the gaps that large jobs leave (docs/decisions/0056).
#[tokio::test]
async fn job_is_small() {
    let (client, _) = fake_api::client([]);
    let (_queue, job) = first_job(&example());
    let reconciler = reconciler(client);
    let size = size_of_val(&reconciler.reconcile(&job));
    assert!(size <= 4096, "a job needs {size} bytes");
}

/// The other namespace can't be listed. Its Pods are not known to be orphans.
#[test]
fn one_listed_namespace_suffices_for_cleanup() {
    let mut pending = Pending {
        queue: Queue::new(8, PodLimits::default()),
        watch: || (),
        events: (),
        scopes: 2,
        unsynced: Vec::new(),
        not_ready_reason: watch::channel(None).0,
        term: watch::channel(None).0,
        log_throttle: LogThrottle::default(),
    };
    pending.update_term(leader(1));
    assert_eq!(pending.unsent(), None);
    for event in [Event::Begin, Event::Seen(Box::new(message(&example()))), Event::Complete] {
        pending.observe(0, event, &Senders::default());
    }
    assert_eq!(pending.unsent(), Some((HashSet::from([Uid::from(UID)]), vec![1])));
}

#[tokio::test]
async fn term_waits_for_jobs_of_last_term() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let client = Client::try_from(Config::new(address.parse().unwrap())).unwrap();
    let (leadership, receiver) = watch::channel(leader(1));
    let (begun, mut term) = watch::channel(None);
    let (_waker, wakes) = mpsc::unbounded_channel();
    let (requester, requests) = mpsc::channel(1);
    let inputs = Inputs {
        watch: || {
            let pending = [Event::Begin, Event::Seen(Box::new(message(&example()))), Event::Complete];
            stream::iter(pending.map(|event| (0, event))).chain(stream::pending()).boxed()
        },
        scopes: 1,
        wakes,
        requests,
        heartbeat: watch::channel(None).0,
        leadership: receiver,
        term: begun,
        not_ready_reason: watch::channel(None).0,
    };
    let running = tokio::spawn(controller::run(
        Arc::new(reconciler(client)),
        Queue::new(8, PodLimits::default()),
        inputs,
        std::future::pending(),
    ));

    let connection = timeout(SOON, silent.accept()).await.expect("a job reads the Secret").unwrap();
    assert_eq!(*term.borrow(), Some(1));
    let (request, answer) = oneshot::channel();
    requester.send(request).await.unwrap();
    let report = timeout(SOON, answer).await.expect("it answers while a job waits").unwrap();
    assert!(report.leads);
    assert_eq!(report.pending[0], (Some(Environment::Prod), [1; 5]));
    leadership.send_replace(Leadership::Follower);
    timeout(SOON, term.wait_for(Option::is_none)).await.expect("the term ends").unwrap();
    leadership.send_replace(leader(2));
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(*term.borrow(), None, "a job of the first term still waits for its Secret");
    drop((connection, silent));
    timeout(SOON, term.wait_for(|term| *term == Some(2))).await.expect("the next term begins").unwrap();
    running.abort();
}
