//! The operator deletes finished messages when their time to live is over: in few requests, once,
//! and nothing else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rig::proxy::{Answer, Direction};
use rig::{Broker, Clock, Proxy, wait_until};

use crate::events::events;
use e2e::raw::RawConsumer;
use e2e::{
    Operator, SOON, TestNamespace, by_sender, certificate, message, requests, sender, shared, unused_broker_url,
    wait_for_requests, wait_soon, with_body, with_secret, with_spec,
};

/// Returns a message with this time to live, in seconds.
fn with_ttl(seconds: u32, manifest: &str) -> String {
    with_spec(manifest, &format!("ttlSecondsAfterFinished: {seconds}"))
}

/// A message that is given up after one attempt.
fn refused(name: &str, topic: &str) -> String {
    with_spec(&message(name, &format!("evil.{topic}"), ""), "backoffLimit: 0")
}

fn suspended(manifest: &str) -> String {
    with_spec(manifest, "suspend: true")
}

/// Returns the names of all messages.
fn names(namespace: &TestNamespace) -> Vec<String> {
    let names = namespace.kubectl(&["get", "fmsg", "-o", "name"]);
    names.lines().filter_map(|name| name.split_once('/')).map(|(_, name)| name.to_owned()).collect()
}

/// Waits until exactly these messages are left, in order of their names.
fn wait_for_names(operator: &Operator, namespace: &TestNamespace, expected: &[&str]) {
    wait_until(SOON, &format!("only {expected:?} are left"), || names(namespace) == expected)
        .unwrap_or_else(|error| panic!("{error}, but {:?}\n{}", names(namespace), operator.log()));
}

/// Messages are finished when they are sent or stopped. All others stay.
#[test]
fn deletes_finished_messages() {
    let namespace = TestNamespace::new("lifetime").with_certificate(&shared().broker, "nice-app");
    let consumer = RawConsumer::start(&shared().broker, "nice.lifetime");
    let operator = Operator::start(&namespace, &[]);
    let absent = with_secret(&message("waits", "nice.lifetime", ""), "absent");
    let manifests = [
        with_ttl(0, &message("at-once", "nice.lifetime", "")),
        with_ttl(1, &message("after-a-second", "nice.lifetime", "")),
        with_ttl(0, &refused("forbidden", "lifetime")),
        refused("given-up", "lifetime"),
        message("kept", "nice.lifetime", ""),
        with_ttl(9_999, &message("long", "nice.lifetime", "")),
        with_ttl(0, &suspended(&message("suspended", "nice.lifetime", ""))),
        with_ttl(0, &absent),
    ];
    namespace.apply(&manifests.concat());
    namespace.wait_for_reason("waits", "SecretNotFound");
    namespace.wait_for_reason("suspended", "Suspended");
    let kept = ["given-up", "kept", "long", "suspended", "waits"];
    wait_for_names(&operator, &namespace, &kept);
    assert_eq!(consumer.take(4, SOON).len(), 4);
    namespace.wait_for_reason("given-up", "BackoffLimitExceeded");
    namespace.wait_for_reason_of(&["kept", "long"], "Sent");
    assert_eq!(wait_for_requests(&namespace, "delete", 3).len(), 3, "no request for the others");

    // The default applies to sent messages that set none, also to those of the previous operator.
    assert_eq!(operator.stop(), Some(0));
    let operator = Operator::start(&namespace, &["--default-ttl-seconds-after-finished", "1"]);
    wait_for_names(&operator, &namespace, &["given-up", "long", "suspended", "waits"]);
    namespace.apply(&message("another", "nice.lifetime", ""));
    assert_eq!(consumer.take(1, SOON).len(), 1);
    wait_for_names(&operator, &namespace, &["given-up", "long", "suspended", "waits"]);
    assert_eq!(warnings(&operator), Vec::<String>::new());
}

/// Argo CD, Flux and Helm create a deleted resource again, so its message would be sent for ever.
#[test]
fn default_spares_what_tools_would_create_again() {
    let namespace = TestNamespace::with_publisher("tools");
    let marked = |name: &str, marks: &str| {
        message(name, "tools.it", "").replace("metadata: {", &format!("metadata: {{{marks}, "))
    };
    let argocd = "annotations: {argocd.argoproj.io/tracking-id: app}";
    let operator = Operator::start(&namespace, &["--default-ttl-seconds-after-finished", "0"]);
    let manifests = [
        marked("argocd", argocd),
        marked("flux", "labels: {kustomize.toolkit.fluxcd.io/name: app}"),
        marked("helm", "labels: {app.kubernetes.io/managed-by: Helm}"),
        marked("kept", "annotations: {apps.fedoraproject.org/ignore-default-ttl: 'true'}"),
        with_ttl(1, &marked("own-time", argocd)),
    ];
    namespace.create(&manifests.concat());
    namespace.create(&message("plain", "tools.it", ""));
    wait_for_names(&operator, &namespace, &["argocd", "flux", "helm", "kept"]);
    // Another operator spares them too.
    assert_eq!(operator.stop(), Some(0));
    let operator = Operator::start(&namespace, &["--default-ttl-seconds-after-finished", "0"]);
    operator.wait_for_log("looked for FedoraMessages with a time to live");
    namespace.create(&message("plain", "tools.it", ""));
    wait_for_names(&operator, &namespace, &["argocd", "flux", "helm", "kept"]);

    let [(kind, reason, text)] = &events(&namespace, "own-time")[..] else { panic!("one Event") };
    assert_eq!((kind.as_str(), reason.as_str()), ("Warning", "SentAgainAfterDeletion"));
    assert!(text.contains("Argo CD manages it, and creates it again"), "{text}");
}

#[test]
fn deletes_messages_of_previous_operator() {
    let namespace = TestNamespace::with_publisher("restarted");
    let operator = Operator::start(&namespace, &[]);
    let manifests = with_ttl(1, &message("expiring", "restarted.it", "")) + &message("kept", "restarted.it", "");
    namespace.apply(&manifests);
    namespace.wait_for_all_sent();
    operator.kill();
    let operator = Operator::start(&namespace, &[]);
    wait_for_names(&operator, &namespace, &["kept"]);
}

/// A message with the name of a deleted one does not inherit its time to live.
#[test]
fn keeps_namesake() {
    let namespace = TestNamespace::with_publisher("namesake");
    let operator = Operator::start(&namespace, &[]);
    let first = with_ttl(4, &message("hello", "namesake.hello", ""));
    namespace.apply(&first);
    namespace.wait_for_reason("hello", "Sent");
    namespace.kubectl(&["delete", "fmsg", "hello"]);
    let status = namespace.send("hello", "namesake.hello");
    operator.wait_for_log("not deleted namespace");
    assert_eq!(namespace.get("hello")["status"], status);
    let answers: Vec<_> = wait_for_requests(&namespace, "delete", 1).into_iter().map(|(_, code)| code).collect();
    assert_eq!(answers, [409], "the precondition protects the second message");
}

#[test]
fn keeps_retried_message() {
    let namespace = TestNamespace::with_publisher("retried");
    let consumer = RawConsumer::start(&shared().broker, "retried.again");
    let (_port, nobody) = unused_broker_url();
    let operator = Operator::with_broker(&nobody, &namespace, &[]);
    let again = with_spec(&message("again", "retried.again", ""), "backoffLimit: 0");
    namespace.apply(&with_ttl(3_600, &again));
    namespace.wait_for_reason("again", "BackoffLimitExceeded");
    assert_eq!(operator.stop(), Some(0));

    // Its time to live is over when the next operator starts. The retry is in flight for a while.
    namespace.kubectl(&["annotate", "fmsg/again", "apps.fedoraproject.org/retry=1"]);
    consumer.suspend(&shared().broker);
    let clock = Clock::new().expect("a clock");
    clock.set_forward(Duration::from_hours(2)).expect("the clock is set");
    let operator = Operator::with_environment(clock.environment(), &namespace);
    consumer.wait_for_hand_over(&shared().broker);
    operator.wait_for_log("looked for FedoraMessages with a time to live");
    assert_eq!(names(&namespace), ["again"]);
    consumer.resume(&shared().broker);
    namespace.wait_for_reason("again", "Sent");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}

/// The operator lists them in pages, deletes each with one request, and uses little memory.
#[test]
fn deletes_many_messages() {
    const COUNT: usize = 1_200;
    let namespace = TestNamespace::with_publisher("many");
    // Large bodies would show in the operator's memory.
    let body = "a".repeat(20_000);
    let large = |n: usize| with_body(&message(&format!("m{n}"), "many.m", ""), &format!("{{text: {body}}}"));
    let operator = Operator::start(&namespace, &[]);
    for batch in (0..COUNT).collect::<Vec<_>>().chunks(400) {
        let manifests: String = batch.iter().map(|n| large(*n)).collect();
        namespace.create(&manifests);
    }
    namespace.wait_for_all_sent();
    assert_eq!(operator.stop(), Some(0));
    assert_eq!(requests(&namespace, "delete").len(), 0);
    let before = requests(&namespace, "list").len();

    let operator = Operator::start(&namespace, &["--default-ttl-seconds-after-finished", "0"]);
    operator.wait_for_log("looked for FedoraMessages with a time to live");
    let resident = operator.resident();
    wait_for_names(&operator, &namespace, &[]);
    let lists: Vec<_> = requests(&namespace, "list").split_off(before);
    let (ours, watch): (Vec<_>, Vec<_>) =
        lists.iter().partition(|(uri, _)| uri.contains("status.status%21%3D&") || uri.contains("continue="));
    assert_eq!((ours.len(), watch.len()), (3, 1), "{lists:#?}");
    let deletes = wait_for_requests(&namespace, "delete", COUNT);
    assert!(deletes.iter().all(|(_, code)| *code == 200), "{deletes:?}");
    assert_eq!(deletes.len(), COUNT);
    println!("{COUNT} of 20 kB: {} MiB resident", resident >> 20);
    // jemalloc takes 1 MiB more than glibc, and keeps freed pages for ten seconds: 2 MiB here.
    assert!(resident < 52 << 20, "{resident} bytes: a page of the list has 10 MB");
}

#[test]
fn former_leader_deletes_nothing() {
    let namespace = TestNamespace::with_publisher("deposed");
    let arguments = ["--leader-elect", "--lease-namespace", &namespace.name];
    let leader = Operator::start(&namespace, &arguments);
    leader.wait_for_log("leading: messages are sent from here");
    let standby = Operator::start(&namespace, &arguments);
    namespace.apply(&with_ttl(8, &message("expiring", "deposed.it", "")));
    namespace.wait_for_reason("expiring", "Sent");
    leader.freeze();
    assert_eq!(names(&namespace), ["expiring"]);
    standby.wait_for_log("leading: messages are sent from here");
    wait_for_names(&standby, &namespace, &[]);
    leader.thaw();
    leader.wait_for_log("not leading any more");
    // The old leader has its Lease again before it can delete.
    assert_eq!(standby.stop(), Some(0));
    namespace.apply(&with_ttl(0, &message("after", "deposed.it", "")));
    wait_for_names(&leader, &namespace, &[]);
    let answers: Vec<_> = wait_for_requests(&namespace, "delete", 2).into_iter().map(|(_, code)| code).collect();
    assert_eq!(answers, [200, 200], "one request for each message");
}

/// Deletes a message, which must succeed at once.
fn delete(namespace: &TestNamespace, name: &str) {
    let answer = namespace.kubectl(&["delete", "fmsg", name, "--timeout=5s"]);
    assert!(answer.contains("deleted"), "{answer}");
}

/// Returns the warnings and errors of the log.
fn warnings(operator: &Operator) -> Vec<String> {
    let log = operator.log();
    log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).map(str::to_owned).collect()
}

/// The operator logs no warning.
#[test]
fn accepts_deletion_at_every_stage() {
    let broker = Broker::start().expect("a broker");
    let namespace = TestNamespace::new("stages").with_certificate(&broker, "nice-app");
    let consumer = RawConsumer::start(&broker, "nice.#");
    let operator = Operator::with_broker(&broker.url(), &namespace, &[]);
    let manifests = [
        message("sent", "nice.sent", ""),
        refused("given-up", "given-up"),
        suspended(&message("suspended", "nice.suspended", "")),
    ];
    namespace.apply(&manifests.concat());
    for (name, reason) in [("sent", "Sent"), ("given-up", "BackoffLimitExceeded"), ("suspended", "Suspended")] {
        namespace.wait_for_reason(name, reason);
        delete(&namespace, name);
    }
    assert_eq!(consumer.take(1, SOON).len(), 1);

    // In flight: the broker has the message, and has not confirmed it.
    consumer.suspend(&broker);
    namespace.apply(&message("in-flight", "nice.in-flight", ""));
    consumer.wait_for_hand_over(&broker);
    delete(&namespace, "in-flight");
    consumer.resume(&broker);
    assert_eq!(consumer.take(1, SOON).len(), 1, "the broker keeps the message");

    // The broker is silent after the operator has written the message. Nothing is logged about it.
    broker.freeze().expect("a signal");
    namespace.apply(&message("frozen", "nice.frozen", ""));
    await_watch(&namespace);
    delete(&namespace, "frozen");
    broker.thaw().expect("a signal");
    namespace.send("last", "nice.last");
    assert_eq!(warnings(&operator), Vec::<String>::new());
    assert_eq!(operator.stop(), Some(0));
}

/// The message waits for a connection, or for a broker that is down.
#[test]
fn never_sends_deleted_message() {
    let namespace = TestNamespace::with_publisher("withdrawn");
    let consumer = RawConsumer::start(&shared().broker, "withdrawn.#");
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    let operator = Operator::with_broker(&proxy.url(), &namespace, &[]);

    // While the operator opens a connection.
    proxy.stall(&[Direction::Up, Direction::Down]);
    namespace.apply(&message("connecting", "withdrawn.connecting", ""));
    wait_soon("a connection begins", || proxy.accepted() > 0);
    delete(&namespace, "connecting");
    await_watch(&namespace);
    proxy.stall(&[]);
    namespace.send("first", "withdrawn.first");

    // While the broker is down.
    proxy.answer(Answer::Close);
    proxy.cut();
    namespace.apply(&message("hopeful", "withdrawn.hopeful", ""));
    namespace.wait_for_reason("hopeful", "BrokerUnreachable");
    delete(&namespace, "hopeful");
    await_watch(&namespace);
    proxy.answer(Answer::Forward);
    namespace.send("last", "withdrawn.last");

    let received = consumer.take(2, SOON);
    let topics: Vec<_> = received.iter().map(|message| message.delivery.routing_key.to_string()).collect();
    assert_eq!(topics, ["withdrawn.first", "withdrawn.last"]);
    assert_eq!(warnings(&operator), Vec::<String>::new());
}

/// Adds a finalizer, so that a deleted message stays in deletion.
fn with_finalizer(manifests: &str) -> String {
    manifests.replace("}\nspec:\n", ", finalizers: [example.org/hold]}\nspec:\n")
}

/// The messages wait for a broker, for a Secret, for their resumption, for a connection, or for an
/// operator. A finalizer keeps them after their deletion.
#[test]
fn never_sends_message_in_deletion() {
    let namespace = TestNamespace::with_publisher("deleting");
    let consumer = RawConsumer::start(&shared().broker, "deleting.#");
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    let held = |name: &str| with_finalizer(&message(name, &format!("deleting.{name}"), ""));
    let delete = |name: &str| {
        namespace.kubectl(&["delete", "fmsg", name, "--wait=false"]);
        assert!(namespace.get(name)["metadata"]["deletionTimestamp"].is_string(), "a finalizer keeps {name}");
    };
    namespace.apply(&held("before-start"));
    delete("before-start");
    let operator = Operator::with_broker(&proxy.url(), &namespace, &[]);

    // In the queue, while the operator opens a connection.
    proxy.stall(&[Direction::Up, Direction::Down]);
    namespace.apply(&held("queued"));
    wait_soon("a connection begins", || proxy.accepted() > 0);
    delete("queued");
    await_watch(&namespace);
    proxy.stall(&[]);
    namespace.send("first", "deleting.first");

    proxy.answer(Answer::Close);
    proxy.cut();
    let waiting = message("foreground", "deleting.foreground", "")
        + &held("unreachable")
        + &with_secret(&held("without-secret"), "later")
        + &suspended(&held("suspended"));
    namespace.apply(&waiting);
    namespace.wait_for_reason_of(&["foreground", "unreachable"], "BrokerUnreachable");
    namespace.wait_for_reason("without-secret", "SecretNotFound");
    namespace.wait_for_reason("suspended", "Suspended");
    namespace.kubectl(&["delete", "fmsg", "foreground", "--cascade=foreground", "--wait=false"]);
    for name in ["unreachable", "without-secret", "suspended"] {
        delete(name);
    }
    namespace.patch("suspended", r#"{"spec": {"suspend": false}}"#);
    await_watch(&namespace);
    proxy.answer(Answer::Forward);
    namespace.store_secret("later", &certificate("publisher"));
    namespace.send("last", "deleting.last");
    assert_eq!(operator.stop(), Some(0));
    let operator = Operator::start(&namespace, &[]);
    namespace.send("restarted", "deleting.restarted");

    let received = consumer.take(3, SOON);
    let topics: Vec<_> = received.iter().map(|message| message.delivery.routing_key.to_string()).collect();
    assert_eq!(topics, ["deleting.first", "deleting.last", "deleting.restarted"]);
    assert_eq!(warnings(&operator), Vec::<String>::new());
}

/// A finalizer keeps the message after its time to live.
#[test]
fn deletes_no_message_in_deletion_again() {
    let namespace = TestNamespace::with_publisher("deleted");
    namespace.apply(&with_ttl(1, &with_finalizer(&message("sent", "deleted.it", ""))));
    let operator = Operator::start(&namespace, &[]);
    namespace.wait_for_reason("sent", "Sent");
    wait_soon("it is deleted", || namespace.get("sent")["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(operator.stop(), Some(0));
    let before = wait_for_requests(&namespace, "delete", 1).len();
    let operator = Operator::start(&namespace, &[]);
    operator.wait_for_log("looked for FedoraMessages with a time to live");
    namespace.apply(&with_ttl(0, &message("other", "deleted.it", "")));
    wait_for_names(&operator, &namespace, &["sent"]);
    let after = wait_for_requests(&namespace, "delete", before + 1).len();
    assert_eq!(after, before + 1, "only the other one");
}

/// Waits until the operator's watch has delivered everything up to now.
fn await_watch(namespace: &TestNamespace) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("watched-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    namespace.apply(&suspended(&message(&name, "nice.watched", "")));
    namespace.wait_for_reason(&name, "Suspended");
}

/// A Sender's time to live counts as the Sender is when a message would be deleted. Without its Sender a
/// message is kept, also by the default: nothing brings it back.
#[test]
fn time_of_sender_can_change() {
    let namespace = TestNamespace::with_publisher("sender-ttl");
    let ttl = |seconds: u32| format!(", defaults: {{ttlSecondsAfterFinished: {seconds}}}");
    let sent = |name: &str, more: &str| {
        namespace.apply(&by_sender(name, "sender.ttl", more));
        namespace.wait_for_reason(name, "Sent");
    };
    namespace.apply(&(sender("default", &ttl(5)) + &sender("other", "") + &sender("gone", "")));
    let operator = Operator::start(&namespace, &["--default-ttl-seconds-after-finished", "6"]);
    sent("kept", "");
    namespace.apply(&sender("default", &ttl(9_999)));
    sent("kept-too", "");
    sent("orphan", ", senderRef: {name: gone}");
    namespace.kubectl(&["delete", "fmsender", "gone"]);
    // It is deleted by the default, later than the others would be.
    sent("deleted", ", senderRef: {name: other}");
    let kept = ["kept", "kept-too", "orphan"];
    wait_for_names(&operator, &namespace, &kept);
    // The next operator finds them, before it knows the Senders.
    assert_eq!(operator.stop(), Some(0));
    namespace.apply(&sender("other", &ttl(1)));
    let operator = Operator::start(&namespace, &["--default-ttl-seconds-after-finished", "1"]);
    sent("deleted-too", ", senderRef: {name: other}");
    wait_for_names(&operator, &namespace, &kept);
}
