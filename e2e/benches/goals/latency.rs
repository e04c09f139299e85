//! From `kubectl apply` to a consumer on an idle system, beside the least that it can take: the delivery of
//! a watch's event, and one confirm. Both in turns, message by message.

use std::pin::Pin;
use std::time::Instant;

use fedora_message::api::object::FedoraMessage;
use fedora_message_operator::internals::PENDING;
use futures::{Stream, StreamExt, future};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};

use crate::broker::{BarePublisher, Inbox, Receipts};
use crate::plot::{Line, distribution, draw};
use crate::table::{Row, quantile, ratios};
use crate::world::{Of, Space, World};
use e2e::bench::Result;

/// Messages one after another, in each round.
const MESSAGES: Of<usize> = Of { full: 200, short: 60 };
const ROUNDS: Of<usize> = Of { full: 4, short: 2 };
const HALF: Of<f64> = Of { full: 1.5, short: 5.0 };
const NEARLY_ALL: Of<f64> = Of { full: 3.0, short: 15.0 };

/// Seconds of each message.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    watch: Vec<f64>,
    confirm: Vec<f64>,
}

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let mut probe = world.runtime.block_on(Probe::start(world, world.space("latency")?))?;
    let operator = world.operator(&[&probe.space], &[])?;
    let mut bare = world.runtime.block_on(Bare::start(world, world.space("bare")?))?;
    // The first ones open connections.
    world.runtime.block_on(async { tokio::try_join!(probe.send_and_settle(), bare.sum()) })?;
    let mut rounds = Vec::new();
    for _ in 0..world.of(ROUNDS) {
        let mut times = Times::default();
        for _ in 0..world.of(MESSAGES) {
            times.ours.push(world.runtime.block_on(probe.send_and_settle())?);
            let (watch, confirm) = world.runtime.block_on(bare.sum())?;
            times.watch.push(watch);
            times.confirm.push(confirm);
        }
        rounds.push(times);
    }
    operator.stop()?;
    if !world.short {
        let all = |pick: fn(&Times) -> Vec<f64>| {
            distribution(&milliseconds(&rounds.iter().flat_map(pick).collect::<Vec<_>>()))
        };
        let lines = [
            Line { name: "apply to consumer", points: all(|times| times.ours.clone()) },
            Line { name: "a watch's event and a confirm", points: all(Times::sums) },
        ];
        draw("latency", "Latency on an idle system", ["milliseconds", "% of the messages"], &lines)?;
    }
    Ok(rows(world, &rounds))
}

fn rows(world: &World, rounds: &[Times]) -> Vec<Row> {
    let of = |per_cent: usize, pick: fn(&Times) -> Vec<f64>| -> Vec<f64> {
        rounds.iter().map(|times| quantile(&milliseconds(&pick(times)), per_cent)).collect()
    };
    let (ours, sum) = (|times: &Times| times.ours.clone(), Times::sums);
    vec![
        Row::ratio("apply to consumer, p50: beside a watch's event and a confirm", ratios(&of(50, ours), &of(50, sum)))
            .at_most(world.of(HALF)),
        Row::ratio("apply to consumer, p99: beside a watch's event and a confirm", ratios(&of(99, ours), &of(99, sum)))
            .at_most(world.of(NEARLY_ALL)),
        Row::figure("apply to consumer, p50", "ms", of(50, ours)),
        Row::figure("apply to consumer, p99", "ms", of(99, ours)),
        Row::figure("create to a bare watch's event, p50", "ms", of(50, |times| times.watch.clone())),
        Row::figure("bare publish to confirm, p50", "ms", of(50, |times| times.confirm.clone())),
    ]
}

impl Times {
    /// The least that each could take.
    fn sums(&self) -> Vec<f64> {
        self.watch.iter().zip(&self.confirm).map(|(watch, confirm)| watch + confirm).collect()
    }
}

fn milliseconds(seconds: &[f64]) -> Vec<f64> {
    seconds.iter().map(|seconds| seconds * 1000.0).collect()
}

/// Sends single messages of a namespace through the operator to a consumer.
pub struct Probe<'a> {
    pub space: Space<'a>,
    api: Api<FedoraMessage>,
    receipts: Receipts,
    _inbox: Inbox,
    number: usize,
}

impl<'a> Probe<'a> {
    pub async fn start(world: &World, space: Space<'a>) -> Result<Self> {
        let inbox = Inbox::bind(&world.rig.broker, &space.topic()).await?;
        let api = Api::namespaced(world.client.clone(), &space.name);
        Ok(Self { space, api, receipts: inbox.consume().await?, _inbox: inbox, number: 0 })
    }

    /// Seconds from just before the request that creates a message until it is answered, and until the consumer
    /// has the message.
    pub async fn send(&mut self) -> Result<(f64, f64)> {
        let sent = self.create().await?;
        Ok((sent.created, sent.received))
    }

    /// The same, and waits until nothing is left to do for it.
    pub async fn send_and_settle(&mut self) -> Result<f64> {
        let sent = self.create().await?;
        while self.api.get(sent.message.name()).await?.status.is_none() {}
        Ok(sent.received)
    }

    async fn create(&mut self) -> Result<Sent> {
        self.number += 1;
        let (message, start) = (self.space.message(self.number), Instant::now());
        let create = async {
            let message = self.space.create_one(&message).await?;
            Result::Ok((message, start.elapsed().as_secs_f64()))
        };
        let receive = async {
            let delivery = self.receipts.next().await?;
            Result::Ok((delivery, start.elapsed().as_secs_f64()))
        };
        let ((message, created), (delivery, received)) = future::try_join(create, receive).await?;
        let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
        if id.as_deref() != Some(message.uid()) {
            return Err(format!("{} was awaited, and {id:?} came", message.uid()).into());
        }
        Ok(Sent { message, created, received })
    }
}

/// A single message, and after how many seconds it was created and received.
struct Sent {
    message: FedoraMessage,
    created: f64,
    received: f64,
}

/// A bare watch on the messages of a namespace.
pub struct Events(Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<FedoraMessage>>> + Send>>);

impl Events {
    /// Watches from now on.
    pub async fn watch(world: &World, space: &Space<'_>) -> Result<Self> {
        Self::selected(world, space, WatchParams::default()).await
    }

    /// Watches from now on what is not sent, as the operator does.
    pub async fn pending(world: &World, space: &Space<'_>) -> Result<Self> {
        Self::selected(world, space, WatchParams::default().fields(PENDING)).await
    }

    async fn selected(world: &World, space: &Space<'_>, selected: WatchParams) -> Result<Self> {
        let api: Api<FedoraMessage> = Api::namespaced(world.client.clone(), &space.name);
        let version = api.list(&ListParams::default().limit(1)).await?.metadata.resource_version.unwrap_or_default();
        Ok(Self(api.watch(&selected.disable_bookmarks(), &version).await?.boxed()))
    }

    /// When it tells of the next new message.
    pub async fn next(&mut self) -> Result<Instant> {
        self.last_reported(|event| matches!(event, WatchEvent::Added(_))).await
    }

    /// When it tells that the next one is gone.
    pub async fn gone(&mut self) -> Result<Instant> {
        self.last_reported(|event| matches!(event, WatchEvent::Deleted(_))).await
    }

    async fn last_reported(&mut self, awaited: impl Fn(&WatchEvent<FedoraMessage>) -> bool) -> Result<Instant> {
        loop {
            match self.0.next().await.ok_or("the watch has ended")?? {
                WatchEvent::Error(status) => return Err(status.message.into()),
                event if awaited(&event) => return Ok(Instant::now()),
                _ => {}
            }
        }
    }
}

/// What no operator can do without: an event of a watch, and a confirm.
struct Bare<'a> {
    space: Space<'a>,
    events: Events,
    publisher: BarePublisher,
    _inbox: Inbox,
    topic: String,
    number: usize,
}

impl<'a> Bare<'a> {
    async fn start(world: &World, space: Space<'a>) -> Result<Self> {
        let topic = space.topic();
        Ok(Self {
            events: Events::watch(world, &space).await?,
            publisher: BarePublisher::open(&world.rig.broker, 1).await?,
            _inbox: Inbox::bind(&world.rig.broker, &topic).await?,
            topic,
            space,
            number: 0,
        })
    }

    /// Seconds from just before a message's creation until the watch tells of it, and until a confirm.
    async fn sum(&mut self) -> Result<(f64, f64)> {
        self.number += 1;
        let (message, start) = (self.space.message(self.number), Instant::now());
        let (_, seen) = future::try_join(self.space.create_one(&message), self.events.next()).await?;
        let watch = (seen - start).as_secs_f64();
        let (body, start) = (message["spec"]["message"]["body"].to_string(), Instant::now());
        self.publisher.publish(&self.topic, body.as_bytes()).await?;
        Ok((watch, start.elapsed().as_secs_f64()))
    }
}
