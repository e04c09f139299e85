//! A Secret of another namespace is used with its owner's consent, and without it nobody learns
//! whether it is there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rig::wait_until;
use serde_json::{Value, json};

use e2e::world::{Operator, SOON, Space, message, world};

/// A guest's namespace, an owner's with a certificate, and an operator for the guest.
fn set_up() -> (Space<'static>, Space<'static>, Operator) {
    let (guest, owner) = (Space::new("guest"), Space::new("owner"));
    owner.certificate(&world().broker, "publisher");
    let operator = Operator::start(&guest, &[]);
    (guest, owner, operator)
}

/// A message that names a Secret of the owner's.
fn naming(owner: &Space, name: &str, secret: &str) -> String {
    let reference = format!("{{name: {secret}, namespace: {}}}", owner.name);
    message(name, "consent.topic", "").replace("{name: certs}", &reference)
}

fn allow(owner: &Space, namespaces: &str) {
    let annotation = format!("apps.fedoraproject.org/allowed-namespaces={namespaces}");
    owner.kubectl(&["annotate", "--overwrite", "secret", "certs", &annotation], "").expect("the owner decides");
}

/// What the guest sees of a message, but for what names it and its Secret, and the times.
fn seen(guest: &Space, name: &str, secret: &str) -> String {
    let selector = format!("involvedObject.name={name}");
    let events = || guest.kubectl(&["get", "events", "--field-selector", &selector, "-o", "json"], "");
    let events = || serde_json::from_str::<Value>(&events().expect("kubectl lists")).expect("kubectl prints JSON");
    wait_until(SOON, "the Event", || events()["items"].as_array().is_some_and(|items| items.len() == 1))
        .expect("there is one Event");
    let mut status = guest.get(name)["status"].take();
    status["messageId"].take();
    status["conditions"].as_array_mut().expect("conditions").iter_mut().for_each(|condition| {
        condition["lastTransitionTime"].take();
    });
    let event = &events()["items"][0];
    format!("{status} {} {} {}", event["type"], event["reason"], event["message"]).replace(secret, "SECRET")
}

#[test]
fn absent_and_denied_look_the_same_and_consent_is_enough() {
    let (guest, owner, _operator) = set_up();
    guest.apply(&naming(&owner, "denied", "certs")).expect("it is accepted");
    guest.apply(&naming(&owner, "absent", "nothing")).expect("it is accepted");
    for name in ["denied", "absent"] {
        guest.wait_for_reason(name, "SecretNotFound");
    }
    let words = seen(&guest, "denied", "certs");
    assert_eq!(words, seen(&guest, "absent", "nothing"));
    assert!(words.contains("does not exist, or does not allow namespace"), "{words}");

    // None of these lets the guest in, and the guest sees nothing of any.
    for namespaces in ["somebody", &guest.name[..guest.name.len() - 1], &guest.name.to_uppercase(), "guest*"] {
        allow(&owner, namespaces);
    }
    allow(&owner, &format!("somebody, {}", guest.name));
    guest.wait_for_reason("denied", "Sent");
    let writes = world().kube.audit_events().expect("the audit log is read");
    let writes = writes.iter().filter(|event| {
        let object = &event["objectRef"];
        object["namespace"] == guest.name.as_str() && object["name"] == "denied" && object["subresource"] == "status"
    });
    assert_eq!(writes.count(), 2, "one for the lack of consent, one for success");
}

#[test]
fn consent_that_is_taken_back_stops_what_is_pending_until_it_is_given_again() {
    let (guest, owner, _operator) = set_up();
    allow(&owner, "*");
    let suspended = naming(&owner, "late", "certs").replace("  env: prod", "  env: prod\n  suspend: true");
    guest.apply(&naming(&owner, "early", "certs")).expect("it is accepted");
    guest.apply(&suspended).expect("it is accepted");
    guest.wait_for_reason("early", "Sent");
    guest.wait_for_reason("late", "Suspended");
    allow(&owner, "");
    // Once a new message is refused, the operator knows.
    let mut number = 0;
    wait_until(SOON, "consent is taken back", || {
        number += 1;
        let name = format!("probe{number}");
        guest.apply(&naming(&owner, &name, "certs")).expect("it is accepted");
        let decided = || guest.get(&name)["status"]["reason"].as_str().map(str::to_owned);
        wait_until(SOON, "it is decided", || decided().is_some()).expect("it is decided");
        decided().as_deref() == Some("SecretNotFound")
    })
    .expect("consent is taken back");
    guest
        .kubectl(&["patch", "fmsg", "late", "--type=merge", "-p", r#"{"spec": {"suspend": false}}"#], "")
        .expect("resumed");
    guest.wait_for_reason("late", "SecretNotFound");
    allow(&owner, &guest.name);
    guest.wait_for_reason("late", "Sent");
}

#[test]
fn absent_and_denied_take_the_same_time() {
    const COUNT: usize = 20;
    let (guest, owner) = (Space::new("guest"), Space::new("owner"));
    let certificate = world().broker.client("publisher").expect("a certificate");
    for n in 0..COUNT {
        owner.apply(&certificate.secret_yaml(&format!("denied{n}"), &owner.name)).expect("the Secret is stored");
    }
    let _operator = Operator::start(&guest, &[]);
    let names: Vec<String> = (0..COUNT).flat_map(|n| [format!("absent{n}"), format!("denied{n}")]).collect();
    for name in &names {
        guest.apply(&naming(&owner, name, name)).expect("it is accepted");
        guest.wait_for_reason(name, "SecretNotFound");
    }
    let events = world().kube.audit_events().expect("the audit log is read");
    // When the API server had stored the message, or its status.
    let time = |name: &str, subresource: &Value| -> DateTime<Utc> {
        let event = events.iter().find(|event| {
            let object = &event["objectRef"];
            object["namespace"] == guest.name.as_str()
                && object["name"] == name
                && object["subresource"] == *subresource
        });
        let stamp = event.and_then(|event| event["stageTimestamp"].as_str()).expect("it is in the log");
        stamp.parse().expect("a time")
    };
    let median = |kind: &str| {
        let names = names.iter().filter(|name| name.starts_with(kind));
        let took = names.map(|name| time(name, &json!("status")) - time(name, &Value::Null));
        let mut took: Vec<Duration> = took.map(|took| took.to_std().unwrap_or_default()).collect();
        took.sort_unstable();
        took[took.len() / 2]
    };
    let (absent, denied) = (median("absent"), median("denied"));
    let (short, long) = (absent.min(denied), absent.max(denied));
    assert!(long < short * 2 + Duration::from_millis(20), "absent: {absent:?}, denied: {denied:?}");
}
