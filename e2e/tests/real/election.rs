//! Two operators take turns: one sends, the other takes over without losing or doubling anything.

use std::time::{Duration, Instant};

use rig::wait_until;

use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, wait_for_all_sent, world};

const COUNT: usize = 300;
/// How long a Lease holds after it was last renewed.
const LEASE: Duration = Duration::from_secs(15);
/// What a busy machine may add to that.
const SLACK: Duration = Duration::from_secs(5);

fn start(space: &Space) -> Operator {
    Operator::start(space, &["--leader-elect", "--lease-namespace", &space.name])
}

/// A leader, one that is ready to take over, and a consumer of all they send.
fn pair(title: &str) -> (Space<'static>, RawConsumer, Operator, Operator) {
    let space = Space::new(title);
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, &format!("{title}.#"));
    let leader = start(&space);
    wait_until(SOON, "it leads", || leads(&leader)).expect("it leads");
    let standby = start(&space);
    assert_eq!((leads(&standby), standby.probe("/readyz")), (false, Some(200)));
    (space, consumer, leader, standby)
}

fn leads(operator: &Operator) -> bool {
    let log = operator.log();
    log.rfind("leading: messages are sent from here") > log.rfind("not leading any more")
}

/// Waits until the standby leads; how long that took.
fn takeover(standby: &Operator, since: Instant, within: Duration) -> Duration {
    wait_until(within, "the other one leads", || leads(standby)).unwrap_or_else(|error| {
        panic!("{error}\n{}", standby.log());
    });
    since.elapsed()
}

fn many(title: &str, batch: &str) -> String {
    (0..COUNT).map(|n| message(&format!("{batch}{n}"), &format!("{title}.{batch}.{n}"), "")).collect()
}

fn assert_each_once(consumer: &RawConsumer, count: usize) {
    let received = consumer.take(count, SOON);
    let ids: std::collections::HashSet<String> = received
        .iter()
        .filter_map(|message| message.properties.message_id().as_ref().map(ToString::to_string))
        .collect();
    assert_eq!((ids.len(), received.len()), (count, count), "messages, copies");
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_within_two_seconds_and_nothing_is_sent_twice() {
    let (space, consumer, leader, standby) = pair("handed");
    space.kubectl(&["create", "-f", "-"], &many("handed", "m")).expect("all are accepted");
    let first = consumer.take(10, SOON).len();
    let start = Instant::now();
    assert_eq!(leader.stop(), Some(0));
    let took = takeover(&standby, start, SOON);
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    wait_for_all_sent(&space);
    assert_each_once(&consumer, COUNT - first);
}

#[test]
fn a_leader_that_is_killed_is_replaced_within_the_lease_duration() {
    let (space, consumer, leader, standby) = pair("replaced");
    let start = Instant::now();
    leader.kill();
    space.apply(&message("orphan", "replaced.orphan", "")).expect("it is accepted");
    let took = takeover(&standby, start, LEASE + SLACK);
    assert!(took > LEASE / 2, "nobody takes a Lease that may still be held: {took:?}");
    space.wait_for_reason("orphan", "Sent");
    assert_each_once(&consumer, 1);
}

#[test]
fn a_leader_that_was_paused_sends_nothing_after_its_lease_ended_and_can_lead_again() {
    let (space, consumer, leader, standby) = pair("paused");
    space.apply(&message("before", "paused.before", "")).expect("it is accepted");
    space.wait_for_reason("before", "Sent");
    let start = Instant::now();
    leader.freeze();
    space.kubectl(&["create", "-f", "-"], &many("paused", "m")).expect("all are accepted");
    takeover(&standby, start, LEASE + SLACK);
    // Before the other one has sent them all, and while the broker still keeps the old connection.
    leader.thaw();
    wait_for_all_sent(&space);
    wait_until(SOON, "it knows that it does not lead", || !leads(&leader)).expect("it knows");
    assert_each_once(&consumer, COUNT + 1);

    assert_eq!(standby.stop(), Some(0));
    takeover(&leader, Instant::now(), SOON);
    space.apply(&message("after", "paused.after", "")).expect("it is accepted");
    space.wait_for_reason("after", "Sent");
    assert_each_once(&consumer, 1);
}
