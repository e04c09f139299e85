//! What is finished is deleted when its time is over, and nothing else; by whom, in how many requests, and what
//! becomes of that when something fails.

use std::sync::atomic::{AtomicU32, Ordering};

use rig::proxy::{Answer, Direction};
use rig::{Broker, Proxy, wait_until};

use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, requests, wait_for_all_sent, world};

/// A message whose resource is to live for so many seconds.
fn living(seconds: u32, manifest: &str) -> String {
    manifest.replace("\nspec:\n", &format!("\nspec:\n  ttlSecondsAfterFinished: {seconds}\n"))
}

fn suspended(manifest: &str) -> String {
    manifest.replace("\nspec:\n", "\nspec:\n  suspend: true\n")
}

/// The names of all messages that are there.
fn names(space: &Space) -> Vec<String> {
    let names = space.kubectl(&["get", "fmsg", "-o", "name"], "").expect("kubectl lists");
    names.lines().filter_map(|name| name.split_once('/')).map(|(_, name)| name.to_owned()).collect()
}

/// Waits until only these messages are left, in order of their names.
fn wait_for_names(operator: &Operator, space: &Space, expected: &[&str]) {
    wait_until(SOON, &format!("only {expected:?} are left"), || names(space) == expected)
        .unwrap_or_else(|error| panic!("{error}, but {:?}\n{}", names(space), operator.log()));
}

#[test]
fn what_was_sent_or_given_up_is_deleted_when_its_time_is_over_and_nothing_else_is() {
    let space = Space::new("lifetime");
    space.certificate(&world().broker, "nice-app");
    let consumer = RawConsumer::start(&world().broker, "nice.lifetime");
    let operator = Operator::start(&space, &[]);
    let absent = message("waits", "nice.lifetime", "").replace("name: certs", "name: absent");
    let manifests = [
        living(0, &message("at-once", "nice.lifetime", "")),
        living(1, &message("after-a-second", "nice.lifetime", "")),
        living(0, &message("forbidden", "evil.lifetime", "")),
        message("given-up", "evil.lifetime", ""),
        message("kept", "nice.lifetime", ""),
        living(9_999, &message("long", "nice.lifetime", "")),
        living(0, &suspended(&message("suspended", "nice.lifetime", ""))),
        living(0, &absent),
    ];
    space.apply(&manifests.concat()).expect("they are accepted");
    space.wait_for_reason("waits", "SecretNotFound");
    space.wait_for_reason("suspended", "Suspended");
    let kept = ["given-up", "kept", "long", "suspended", "waits"];
    wait_for_names(&operator, &space, &kept);
    assert_eq!(consumer.take(4, SOON).len(), 4);
    for (name, reason) in [("given-up", "TopicForbidden"), ("kept", "Sent"), ("long", "Sent")] {
        space.wait_for_reason(name, reason);
    }
    assert_eq!(requests(&space, "delete").len(), 3, "none was tried for what is kept");

    // The default is for those that set none; also for what the operator before has finished.
    assert_eq!(operator.stop(), Some(0));
    let operator = Operator::start(&space, &["--default-ttl-seconds-after-finished", "1"]);
    wait_for_names(&operator, &space, &["long", "suspended", "waits"]);
    space.apply(&message("another", "nice.lifetime", "")).expect("it is accepted");
    assert_eq!(consumer.take(1, SOON).len(), 1);
    wait_for_names(&operator, &space, &["long", "suspended", "waits"]);
    assert_eq!(log_throttle(&operator), Vec::<String>::new());
}

#[test]
fn the_next_operator_deletes_what_the_last_one_sent() {
    let space = Space::new("restarted");
    space.certificate(&world().broker, "publisher");
    let operator = Operator::start(&space, &[]);
    let manifests = living(1, &message("mortal", "restarted.it", "")) + &message("kept", "restarted.it", "");
    space.apply(&manifests).expect("they are accepted");
    wait_for_all_sent(&space);
    operator.kill();
    let operator = Operator::start(&space, &[]);
    wait_for_names(&operator, &space, &["kept"]);
}

#[test]
fn another_message_under_the_same_name_survives_the_end_of_the_first() {
    let space = Space::new("namesake");
    space.certificate(&world().broker, "publisher");
    let operator = Operator::start(&space, &[]);
    let first = living(4, &message("hello", "namesake.hello", ""));
    space.apply(&first).expect("it is accepted");
    space.wait_for_reason("hello", "Sent");
    space.kubectl(&["delete", "fmsg", "hello"], "").expect("it is deleted");
    space.apply(&message("hello", "namesake.hello", "")).expect("it is accepted");
    let status = space.wait_for_reason("hello", "Sent");
    operator.wait_for_words("not deleted namespace");
    assert_eq!(space.get("hello")["status"], status);
    let answers: Vec<_> = requests(&space, "delete").into_iter().map(|(_, code)| code).collect();
    assert_eq!(answers, [409], "its end came, and was another's");
}

#[test]
fn a_message_that_is_tried_once_more_is_not_deleted_before_that_has_ended() {
    let space = Space::new("retried");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "retried.again");
    let operator = Operator::start(&space, &["--exchange", "absent"]);
    space.apply(&message("again", "retried.again", "")).expect("it is accepted");
    space.wait_for_reason("again", "TopicForbidden");
    assert_eq!(operator.stop(), Some(0));

    // Its time is over when the next operator comes, but it is asked to be tried again, and is under way for a while.
    space.kubectl(&["annotate", "fmsg/again", "apps.fedoraproject.org/retry=1"], "").expect("it is annotated");
    consumer.suspend(&world().broker);
    let operator = Operator::start(&space, &["--default-ttl-seconds-after-finished", "0"]);
    consumer.wait_for_hand_over(&world().broker);
    operator.wait_for_words("looked for FedoraMessages with a time to live");
    assert_eq!(names(&space), ["again"]);
    consumer.resume(&world().broker);
    wait_for_names(&operator, &space, &[]);
    assert_eq!(consumer.take(1, SOON).len(), 1, "it was sent before it was deleted");
}

#[test]
fn many_are_found_page_by_page_and_deleted_with_one_request_each_in_little_memory() {
    const COUNT: usize = 1_200;
    let space = Space::new("many");
    space.certificate(&world().broker, "publisher");
    // Large ones, which would show in the operator's memory.
    let body = "a".repeat(20_000);
    let large = |n: usize| {
        let small = message(&format!("m{n}"), "many.m", "");
        small.replace(&format!("body: {{name: m{n}}}"), &format!("body: {{text: {body}}}"))
    };
    let operator = Operator::start(&space, &[]);
    for some in (0..COUNT).collect::<Vec<_>>().chunks(400) {
        let manifests: String = some.iter().map(|n| large(*n)).collect();
        space.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    }
    wait_for_all_sent(&space);
    assert_eq!(operator.stop(), Some(0));
    assert_eq!(requests(&space, "delete").len(), 0);
    let before = requests(&space, "list").len();

    let operator = Operator::start(&space, &["--default-ttl-seconds-after-finished", "0"]);
    operator.wait_for_words("looked for FedoraMessages with a time to live");
    let resident = operator.resident();
    wait_for_names(&operator, &space, &[]);
    let lists: Vec<_> = requests(&space, "list").split_off(before);
    let (ours, watch): (Vec<_>, Vec<_>) =
        lists.iter().partition(|(uri, _)| uri.contains("status.status%21%3D&") || uri.contains("continue="));
    assert_eq!((ours.len(), watch.len()), (3, 1), "{lists:#?}");
    let deletes = requests(&space, "delete");
    assert!(deletes.iter().all(|(_, code)| *code == 200), "{deletes:?}");
    assert_eq!(deletes.len(), COUNT);
    println!("{COUNT} of 20 kB: {} MiB resident", resident >> 20);
    assert!(resident < 48 << 20, "{resident} bytes: a page has 10 MB");
}

#[test]
fn nothing_is_deleted_by_one_whose_lease_has_ended() {
    let space = Space::new("deposed");
    space.certificate(&world().broker, "publisher");
    let arguments = ["--leader-elect", "--lease-namespace", &space.name];
    let leader = Operator::start(&space, &arguments);
    leader.wait_for_words("leading: messages are sent from here");
    let standby = Operator::start(&space, &arguments);
    space.apply(&living(8, &message("mortal", "deposed.it", ""))).expect("it is accepted");
    space.wait_for_reason("mortal", "Sent");
    leader.freeze();
    assert_eq!(names(&space), ["mortal"]);
    standby.wait_for_words("leading: messages are sent from here");
    wait_for_names(&standby, &space, &[]);
    leader.thaw();
    leader.wait_for_words("not leading any more");
    // It has its Lease back when it could delete again.
    assert_eq!(standby.stop(), Some(0));
    space.apply(&living(0, &message("after", "deposed.it", ""))).expect("it is accepted");
    wait_for_names(&leader, &space, &[]);
    let answers: Vec<_> = requests(&space, "delete").into_iter().map(|(_, code)| code).collect();
    assert_eq!(answers, [200, 200], "each was deleted once, and by one");
}

/// What kubectl says when it deletes a message, which has to be at once.
fn delete(space: &Space, name: &str) {
    let answer = space.kubectl(&["delete", "fmsg", name, "--timeout=5s"], "").expect("it is deleted");
    assert!(answer.contains("deleted"), "{answer}");
}

/// What an operator has logged above info.
fn log_throttle(operator: &Operator) -> Vec<String> {
    let log = operator.log();
    log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).map(str::to_owned).collect()
}

#[test]
fn a_message_can_be_deleted_at_every_stage_and_is_forgotten_without_a_word() {
    let broker = Broker::start().expect("a broker");
    let space = Space::new("stages");
    space.certificate(&broker, "nice-app");
    let consumer = RawConsumer::start(&broker, "nice.#");
    let operator = Operator::on(&world().kube, &broker.url(), &space, &[]);
    let manifests = [
        message("sent", "nice.sent", ""),
        message("given-up", "evil.given-up", ""),
        suspended(&message("suspended", "nice.suspended", "")),
    ];
    space.apply(&manifests.concat()).expect("they are accepted");
    for (name, reason) in [("sent", "Sent"), ("given-up", "TopicForbidden"), ("suspended", "Suspended")] {
        space.wait_for_reason(name, reason);
        delete(&space, name);
    }
    assert_eq!(consumer.take(1, SOON).len(), 1);

    // Under way: the broker has it, and has not confirmed it.
    consumer.suspend(&broker);
    space.apply(&message("under-way", "nice.under-way", "")).expect("it is accepted");
    consumer.wait_for_hand_over(&broker);
    delete(&space, "under-way");
    consumer.resume(&broker);
    assert_eq!(consumer.take(1, SOON).len(), 1, "what the broker has can't be taken back");

    // A broker that is silent, and has what was written to it: nothing is said of the message any more.
    broker.freeze().expect("it is frozen");
    space.apply(&message("frozen", "nice.frozen", "")).expect("it is accepted");
    await_watch(&space);
    delete(&space, "frozen");
    broker.thaw().expect("it goes on");
    space.apply(&message("last", "nice.last", "")).expect("it is accepted");
    space.wait_for_reason("last", "Sent");
    assert_eq!(log_throttle(&operator), Vec::<String>::new());
    assert_eq!(operator.stop(), Some(0));
}

#[test]
fn a_message_that_is_deleted_while_it_waits_for_a_broker_is_never_sent() {
    let space = Space::new("withdrawn");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "withdrawn.#");
    let proxy = Proxy::start(world().broker.port()).expect("a proxy");
    let operator = Operator::on(&world().kube, &proxy.url(), &space, &[]);

    // While the connection is being made.
    proxy.stall(&[Direction::Up, Direction::Down]);
    space.apply(&message("connecting", "withdrawn.connecting", "")).expect("it is accepted");
    wait_until(SOON, "the connection is under way", || proxy.accepted() > 0).expect("it is");
    delete(&space, "connecting");
    await_watch(&space);
    proxy.stall(&[]);
    space.apply(&message("first", "withdrawn.first", "")).expect("it is accepted");
    space.wait_for_reason("first", "Sent");

    // While the broker is away.
    proxy.answer(Answer::Close);
    proxy.cut();
    space.apply(&message("hopeful", "withdrawn.hopeful", "")).expect("it is accepted");
    space.wait_for_reason("hopeful", "BrokerUnreachable");
    delete(&space, "hopeful");
    await_watch(&space);
    proxy.answer(Answer::Forward);
    space.apply(&message("last", "withdrawn.last", "")).expect("it is accepted");
    space.wait_for_reason("last", "Sent");

    let received = consumer.take(2, SOON);
    let topics: Vec<_> = received.iter().map(|message| message.delivery.routing_key.to_string()).collect();
    assert_eq!(topics, ["withdrawn.first", "withdrawn.last"]);
    assert_eq!(log_throttle(&operator), Vec::<String>::new());
}

/// Waits until the operator has been told of all that has happened so far.
fn await_watch(space: &Space) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("watched-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    space.apply(&suspended(&message(&name, "nice.watched", ""))).expect("it is accepted");
    space.wait_for_reason(&name, "Suspended");
}
