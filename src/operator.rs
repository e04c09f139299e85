//! The loop around the [`Controller`]: what the watches tell goes into the [`Queue`], what the
//! queue gives out is worked on, and what becomes of it goes back into the queue.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch::Sender;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep, timeout};
use tracing::{info, warn};

use crate::cluster::queue::{Done, Job, Queue, Scope};
use crate::cluster::watch::Event;
use crate::controller::Controller;
use crate::message::authentication::SecretName;
use crate::message::resource::Environment;

/// How often unused connections and watches are looked for.
const TIDY: Duration = Duration::from_mins(1);
/// How long messages under way may take to end when the operator is told to.
const GRACE: Duration = Duration::from_secs(25);

/// Something that waiting messages wait for.
#[derive(Clone, Debug)]
pub enum Wake {
    /// The environment's broker is back.
    Environment(Environment),
    /// The Secret has appeared or changed.
    Secret(SecretName),
}

/// What the loop listens to.
pub struct Inputs<E> {
    /// The watches on pending messages.
    pub events: E,
    /// How many watches there are.
    pub scopes: usize,
    /// What waiting messages wait for.
    pub wakes: UnboundedReceiver<Wake>,
    /// Turns true once every watch has listed what is pending.
    pub synced: Sender<bool>,
}

/// Sends messages, at most `width` of an environment at a time, until `shutdown` ends; then awaits
/// those under way. Fails only if one of them panics.
pub async fn run<E>(
    controller: Arc<Controller>,
    width: usize,
    mut inputs: Inputs<E>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JoinError>
where
    E: Stream<Item = (Scope, Event)> + Unpin,
{
    let mut queue = Queue::new(width);
    let mut hands: JoinSet<(Job, Done)> = JoinSet::new();
    let mut tidy = interval(TIDY);
    let mut unsynced: Vec<Scope> = (0..inputs.scopes).collect();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while let Some(job) = queue.take(Utc::now()) {
            let controller = controller.clone();
            hands.spawn(async move {
                let done = controller.process(&job).await;
                (job, done)
            });
        }
        tokio::select! {
            () = &mut shutdown => break,
            Some((scope, event)) = inputs.events.next() => {
                if observe(&mut queue, scope, event) {
                    unsynced.retain(|other| *other != scope);
                    inputs.synced.send_replace(unsynced.is_empty());
                }
            }
            Some(finished) = hands.join_next() => {
                let (job, done) = finished?;
                queue.finish(&job, done, Utc::now());
            }
            Some(wake) = inputs.wakes.recv() => match wake {
                Wake::Environment(environment) => queue.wake_environment(environment),
                Wake::Secret(secret) => queue.wake_secret(&secret),
            },
            () = sleep_until(queue.next_due()) => {}
            _ = tidy.tick() => {
                controller.secrets.release(|secret| queue.needs(secret));
                let controller = controller.clone();
                tokio::spawn(async move { controller.delivery.close_idle().await });
            }
        }
    }
    drain(hands).await;
    controller.delivery.close().await;
    Ok(())
}

/// Tells the queue what a watch told; true once the watch has listed all.
fn observe(queue: &mut Queue, scope: Scope, event: Event) -> bool {
    match event {
        Event::Begin => queue.begin_sync(scope),
        Event::Seen(message) => queue.observe(scope, message),
        Event::Gone(uid) => queue.forget(&uid),
        Event::Failed(words) => warn!("{words}"),
        Event::Complete => {
            queue.end_sync(scope);
            info!(pending = queue.pending(), "watching");
            return true;
        }
    }
    false
}

async fn sleep_until(due: Option<DateTime<Utc>>) {
    match due {
        // A time that has passed is no time to wait.
        Some(due) => sleep((due - Utc::now()).to_std().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

/// Awaits the messages under way, so that their confirms and statuses are not lost.
async fn drain(mut hands: JoinSet<(Job, Done)>) {
    info!(under_way = hands.len(), "stopping");
    let all = async { while hands.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        warn!("some messages were still under way; the next operator sends them again with the same ids");
    }
}
