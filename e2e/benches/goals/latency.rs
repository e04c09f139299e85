//! Measures the latency from `kubectl apply` to a consumer on an idle system, compared with the minimum:
//! the delivery of a watch's event, and one confirm. Both are measured in turns, message by message.

use std::pin::Pin;
use std::time::Instant;

use fedora_message::api::object::FedoraMessage;
use futures::{Stream, StreamExt, future};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::time::timeout;

use crate::broker::{BarePublisher, Inbox, Receipts};
use crate::plot::{PlotLine, distribution, draw};
use crate::setup::{BenchNamespace, Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::{Result, TIMEOUT, quantile};

/// The messages of each round, one after another.
const MESSAGES: Scaled<usize> = Scaled { full: 200, short: 60 };
const ROUNDS: Scaled<usize> = Scaled { full: 4, short: 2 };
const HALF: Scaled<f64> = Scaled { full: 1.5, short: 5.0 };
const NEARLY_ALL: Scaled<f64> = Scaled { full: 3.0, short: 15.0 };

/// The seconds of each message.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    watch: Vec<f64>,
    confirm: Vec<f64>,
}

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let mut probe = setup.runtime.block_on(Probe::start(setup, setup.namespace("latency")?))?;
    let operator = setup.operator(&[&probe.namespace], &[]);
    let mut bare = setup.runtime.block_on(BareClient::start(setup, setup.namespace("bare")?))?;
    // The first messages open connections.
    setup.runtime.block_on(async { tokio::try_join!(probe.send_and_settle(), bare.measure()) })?;
    let mut rounds = Vec::new();
    for _ in 0..setup.pick(ROUNDS) {
        let mut times = Times::default();
        for _ in 0..setup.pick(MESSAGES) {
            times.ours.push(setup.runtime.block_on(probe.send_and_settle())?);
            let (watch, confirm) = setup.runtime.block_on(bare.measure())?;
            times.watch.push(watch);
            times.confirm.push(confirm);
        }
        rounds.push(times);
    }
    operator.stop();
    if !setup.short {
        let all = |pick: fn(&Times) -> Vec<f64>| {
            distribution(&milliseconds(&rounds.iter().flat_map(pick).collect::<Vec<_>>()))
        };
        let lines = [
            PlotLine { name: "apply to consumer", points: all(|times| times.ours.clone()) },
            PlotLine { name: "a watch's event and a confirm", points: all(Times::sums) },
        ];
        draw("latency", "Latency on an idle system", ["milliseconds", "% of the messages"], &lines)?;
    }
    Ok(rows(setup, &rounds))
}

fn rows(setup: &Setup, rounds: &[Times]) -> Vec<Row> {
    let of = |per_cent: usize, pick: fn(&Times) -> Vec<f64>| -> Vec<f64> {
        rounds.iter().map(|times| quantile(&milliseconds(&pick(times)), per_cent)).collect()
    };
    let (ours, sum) = (|times: &Times| times.ours.clone(), Times::sums);
    vec![
        Row::ratio("apply to consumer, p50: beside a watch's event and a confirm", ratios(&of(50, ours), &of(50, sum)))
            .at_most(setup.pick(HALF)),
        Row::ratio("apply to consumer, p99: beside a watch's event and a confirm", ratios(&of(99, ours), &of(99, sum)))
            .at_most(setup.pick(NEARLY_ALL)),
        Row::figure("apply to consumer, p50", "ms", of(50, ours)),
        Row::figure("apply to consumer, p99", "ms", of(99, ours)),
        Row::figure("create to a bare watch's event, p50", "ms", of(50, |times| times.watch.clone())),
        Row::figure("bare publish to confirm, p50", "ms", of(50, |times| times.confirm.clone())),
    ]
}

impl Times {
    /// Returns the minimum for each message.
    fn sums(&self) -> Vec<f64> {
        self.watch.iter().zip(&self.confirm).map(|(watch, confirm)| watch + confirm).collect()
    }
}

fn milliseconds(seconds: &[f64]) -> Vec<f64> {
    seconds.iter().map(|seconds| seconds * 1000.0).collect()
}

/// Sends single messages of a namespace through the operator to a consumer.
pub struct Probe<'a> {
    pub namespace: BenchNamespace<'a>,
    api: Api<FedoraMessage>,
    receipts: Receipts,
    _inbox: Inbox,
    number: usize,
}

impl<'a> Probe<'a> {
    pub async fn start(setup: &Setup, namespace: BenchNamespace<'a>) -> Result<Self> {
        let inbox = Inbox::bind(&setup.rig.broker, &namespace.topic()).await?;
        let api = Api::namespaced(setup.client.clone(), &namespace.name);
        Ok(Self { namespace, api, receipts: inbox.consume().await?, _inbox: inbox, number: 0 })
    }

    /// Creates a message. Returns the seconds until the response, and until the consumer has the message.
    pub async fn send(&mut self) -> Result<(f64, f64)> {
        let (_, created, received) = self.create().await?;
        Ok((created, received))
    }

    /// Creates a message, and waits until the consumer has it and its status is written. Returns the
    /// seconds until the consumer has the message.
    pub async fn send_and_settle(&mut self) -> Result<f64> {
        let (message, _, received) = self.create().await?;
        let settled = async {
            while self.api.get(message.name()).await?.status.is_none() {}
            Result::Ok(())
        };
        timeout(TIMEOUT, settled).await??;
        Ok(received)
    }

    /// Returns a single message, with the seconds until it was created and received.
    async fn create(&mut self) -> Result<(FedoraMessage, f64, f64)> {
        self.number += 1;
        let (message, start) = (self.namespace.message(self.number), Instant::now());
        let create = async {
            let message = self.namespace.create_one(&message).await?;
            Result::Ok((message, start.elapsed().as_secs_f64()))
        };
        let receive = async {
            let delivery = self.receipts.next().await?;
            Result::Ok((delivery, start.elapsed().as_secs_f64()))
        };
        let ((message, created), (delivery, received)) = future::try_join(create, receive).await?;
        let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
        if id.as_deref() != Some(message.uid()) {
            return Err(format!("expected message {}, received {id:?}", message.uid()).into());
        }
        Ok((message, created, received))
    }
}

/// A bare watch on the messages of a namespace.
pub struct BareWatch(Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<FedoraMessage>>> + Send>>);

impl BareWatch {
    /// Watches new events of these messages.
    pub async fn watch(setup: &Setup, namespace: &BenchNamespace<'_>, selected: WatchParams) -> Result<Self> {
        let api: Api<FedoraMessage> = Api::namespaced(setup.client.clone(), &namespace.name);
        let version = api.list(&ListParams::default().limit(1)).await?.metadata.resource_version.unwrap_or_default();
        Ok(Self(api.watch(&selected.disable_bookmarks(), &version).await?.boxed()))
    }

    /// Returns the time of the next event for a new message, or for a removed one.
    pub async fn next(&mut self, removed: bool) -> Result<Instant> {
        loop {
            match self.0.next().await.ok_or("the watch has ended")?? {
                WatchEvent::Error(status) => return Err(status.message.into()),
                WatchEvent::Added(_) if !removed => return Ok(Instant::now()),
                WatchEvent::Deleted(_) if removed => return Ok(Instant::now()),
                _ => {}
            }
        }
    }
}

/// A client with the minimum work of an operator: an event of a watch, and a confirm.
struct BareClient<'a> {
    namespace: BenchNamespace<'a>,
    events: BareWatch,
    publisher: BarePublisher,
    _inbox: Inbox,
    topic: String,
    number: usize,
}

impl<'a> BareClient<'a> {
    async fn start(setup: &Setup, namespace: BenchNamespace<'a>) -> Result<Self> {
        let topic = namespace.topic();
        Ok(Self {
            events: BareWatch::watch(setup, &namespace, WatchParams::default()).await?,
            publisher: BarePublisher::open(&setup.rig.broker, 1).await?,
            _inbox: Inbox::bind(&setup.rig.broker, &topic).await?,
            topic,
            namespace,
            number: 0,
        })
    }

    /// Returns the seconds from a create request to the watch's event, and from a publish to the confirm.
    async fn measure(&mut self) -> Result<(f64, f64)> {
        self.number += 1;
        let (message, start) = (self.namespace.message(self.number), Instant::now());
        let (_, seen) = future::try_join(self.namespace.create_one(&message), self.events.next(false)).await?;
        let watch = (seen - start).as_secs_f64();
        let (body, start) = (message["spec"]["message"]["body"].to_string(), Instant::now());
        self.publisher.publish(&self.topic, body.as_bytes()).await?;
        Ok((watch, start.elapsed().as_secs_f64()))
    }
}
