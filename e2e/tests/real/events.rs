//! Kubernetes Events: one warning for each new reason of a message.

use std::sync::atomic::{AtomicBool, Ordering};

use rig::wait_until;
use serde_json::Value;

use e2e::{Operator, SOON, TestNamespace, message, shared, wait_soon};

/// Returns type, reason and message of each Event, as `kubectl describe` shows them.
pub fn events(namespace: &TestNamespace, name: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = namespace.events(name);
    events.iter().map(|event| (text(&event["type"]), text(&event["reason"]), text(&event["message"]))).collect()
}

/// Success writes none.
#[test]
fn writes_one_event_per_reason() {
    let namespace = TestNamespace::new("events");
    let operator = Operator::start(&namespace, &[]);
    namespace.apply(&message("troubled", "events.troubled", ""));
    namespace.wait_for_reason("troubled", "SecretNotFound");
    namespace.kubectl(&["create", "secret", "generic", "certs"]);
    let status = namespace.wait_for_reason("troubled", "SecretInvalid");
    // The same reason with another message.
    namespace.kubectl(&["patch", "secret", "certs", "-p", r#"{"stringData": {"ca": "none"}}"#]);
    wait_soon("the message changes", || namespace.get("troubled")["status"]["message"] != status["message"]);
    namespace.kubectl(&["delete", "secret", "certs"]);
    namespace.store_certificate(&shared().broker, "publisher");
    namespace.wait_for_reason("troubled", "Sent");
    namespace.send("good", "events.good");

    namespace.kubectl(&["delete", "secret", "certs"]);
    namespace.apply(&message("last", "events.last", ""));
    // The operator writes Events in order, so all earlier ones exist once this one does.
    operator.wait_until(SOON, "the last Event", || !events(&namespace, "last").is_empty());
    let reported = events(&namespace, "troubled");
    let count = |reason: &str| reported.iter().filter(|(kind, other, _)| kind == "Warning" && other == reason).count();
    assert_eq!(count("SecretInvalid"), 1, "{reported:#?}");
    // Before the first Secret, and perhaps between the two Secrets.
    assert!((1..=2).contains(&count("SecretNotFound")), "{reported:#?}");
    assert_eq!(count("SecretInvalid") + count("SecretNotFound"), reported.len(), "{reported:#?}");
    assert!(events(&namespace, "good").is_empty());
    let (_, _, note) = &events(&namespace, "last")[0];
    assert_eq!(Some(note.as_str()), namespace.get("last")["status"]["message"].as_str());
}

#[test]
fn reports_failure_of_changing_object() {
    let namespace = TestNamespace::new("restless");
    let _operator = Operator::start(&namespace, &[]);
    namespace.apply(&message("restless", "events.restless", ""));
    let reported = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..10_000).take_while(|_| !reported.load(Ordering::Relaxed)) {
                let change = format!("n={n}");
                namespace.kubectl(&["annotate", "--overwrite", "fmsg", "restless", &change]);
            }
        });
        let found = || namespace.get("restless")["status"]["reason"] == "SecretNotFound";
        let waited = wait_until(SOON, "the status reports the failure", found);
        reported.store(true, Ordering::Relaxed);
        waited.expect("the status reports the failure");
    });
}
