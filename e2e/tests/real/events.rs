//! Kubernetes Events: a warning whenever a message begins to wait for something else, and no more.

use std::sync::atomic::{AtomicBool, Ordering};

use rig::wait_until;
use serde_json::Value;

use e2e::world::{Operator, SOON, Space, message, world};

/// What `kubectl describe` shows: type, reason and words of each Event.
pub fn events(space: &Space, name: &str) -> Vec<(String, String, String)> {
    let selector = format!("involvedObject.name={name}");
    let json =
        space.kubectl(&["get", "events", "--field-selector", &selector, "-o", "json"], "").expect("kubectl lists");
    let list: Value = serde_json::from_str(&json).expect("kubectl prints JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| (text(&item["type"]), text(&item["reason"]), text(&item["message"]))).collect()
}

#[test]
fn each_new_reason_is_told_once_and_success_is_not() {
    let space = Space::new("events");
    let operator = Operator::start(&space, &[]);
    space.apply(&message("troubled", "events.troubled", "")).expect("it is accepted");
    space.wait_for_reason("troubled", "SecretNotFound");
    space.kubectl(&["create", "secret", "generic", "certs"], "").expect("an empty Secret is stored");
    let status = space.wait_for_reason("troubled", "SecretInvalid");
    // The same reason again, in other words.
    space.kubectl(&["patch", "secret", "certs", "-p", r#"{"stringData": {"ca": "none"}}"#], "").expect("it is changed");
    wait_until(SOON, "the words change", || space.get("troubled")["status"]["message"] != status["message"])
        .expect("the words change");
    space.kubectl(&["delete", "secret", "certs"], "").expect("it is deleted");
    space.certificate(&world().broker, "publisher");
    space.wait_for_reason("troubled", "Sent");
    space.apply(&message("good", "events.good", "")).expect("it is accepted");
    space.wait_for_reason("good", "Sent");

    space.kubectl(&["delete", "secret", "certs"], "").expect("it is deleted");
    space.apply(&message("last", "events.last", "")).expect("it is accepted");
    // Events are written in order: once this one is there, all others are.
    wait_until(SOON, "the last Event", || !events(&space, "last").is_empty())
        .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    let last_reported = events(&space, "troubled");
    let count =
        |reason: &str| last_reported.iter().filter(|(kind, other, _)| kind == "Warning" && other == reason).count();
    assert_eq!(count("SecretInvalid"), 1, "{last_reported:#?}");
    // Before the first Secret, and perhaps between the two.
    assert!((1..=2).contains(&count("SecretNotFound")), "{last_reported:#?}");
    assert_eq!(count("SecretInvalid") + count("SecretNotFound"), last_reported.len(), "{last_reported:#?}");
    assert!(events(&space, "good").is_empty());
    let (_, _, words) = &events(&space, "last")[0];
    assert_eq!(Some(words.as_str()), space.get("last")["status"]["message"].as_str());
}

#[test]
fn a_failure_is_told_although_the_object_changes_all_the_time() {
    let space = Space::new("restless");
    let _operator = Operator::start(&space, &[]);
    space.apply(&message("restless", "events.restless", "")).expect("it is accepted");
    let last_reported = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..10_000).take_while(|_| !last_reported.load(Ordering::Relaxed)) {
                let change = format!("n={n}");
                space.kubectl(&["annotate", "--overwrite", "fmsg", "restless", &change], "").expect("it is changed");
            }
        });
        let waited = wait_until(SOON, "it is told", || space.get("restless")["status"]["reason"] == "SecretNotFound");
        last_reported.store(true, Ordering::Relaxed);
        waited.expect("it is told");
    });
}
