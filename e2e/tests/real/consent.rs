//! A Secret of another namespace is used only with its owner's consent. Without consent, nobody
//! learns whether the Secret exists.

use std::time::Duration;

use e2e::{
    Operator, TestNamespace, certificate, latencies, message, shared, wait_soon, with_foreign_secret, with_spec,
};

/// Creates a namespace for a guest, one for an owner with a certificate, and an operator for the
/// guest.
fn set_up() -> (TestNamespace<'static>, TestNamespace<'static>, Operator) {
    let (guest, owner) = (TestNamespace::new("guest"), TestNamespace::with_publisher("owner"));
    let operator = Operator::start(&guest, &[]);
    (guest, owner, operator)
}

/// Returns a message that names a Secret of the owner.
fn naming(owner: &TestNamespace, name: &str, secret: &str) -> String {
    with_foreign_secret(&message(name, "consent.topic", ""), secret, owner)
}

/// Returns the status and the Event of a message, without its name, its Secret and all times.
fn visible(guest: &TestNamespace, name: &str, secret: &str) -> String {
    wait_soon("one Event", || guest.events(name).len() == 1);
    let mut status = guest.get(name)["status"].take();
    status["messageId"].take();
    status["conditions"].as_array_mut().expect("conditions").iter_mut().for_each(|condition| {
        condition["lastTransitionTime"].take();
    });
    let event = &guest.events(name)[0];
    format!("{status} {} {} {}", event["type"], event["reason"], event["message"]).replace(secret, "SECRET")
}

/// Status and Event are equal. With consent, the operator sends the message.
#[test]
fn denied_looks_absent() {
    let (guest, owner, _operator) = set_up();
    guest.apply(&naming(&owner, "denied", "certs"));
    guest.apply(&naming(&owner, "absent", "nothing"));
    guest.wait_for_reason_of(&["denied", "absent"], "SecretNotFound");
    let denied = visible(&guest, "denied", "certs");
    assert_eq!(denied, visible(&guest, "absent", "nothing"));
    assert!(denied.contains("does not exist, or does not allow namespace"), "{denied}");

    // None of these allows the guest, and the guest does not notice them.
    for namespaces in ["somebody", &guest.name[..guest.name.len() - 1], &guest.name.to_uppercase(), "guest*"] {
        owner.allow(namespaces);
    }
    owner.allow(&format!("somebody, {}", guest.name));
    guest.wait_for_reason("denied", "Sent");
    let writes = || {
        let events = shared().kube.audit_events().expect("the audit log is read");
        let of_denied = events.iter().filter(|event| {
            let object = &event["objectRef"];
            object["namespace"] == guest.name.as_str()
                && object["name"] == "denied"
                && object["subresource"] == "status"
        });
        of_denied.count()
    };
    // The API server writes an entry after its answer.
    wait_soon("both writes are in the audit log", || writes() >= 2);
    assert_eq!(writes(), 2, "one write for the lack of consent, one for success");
}

/// New consent sends them.
#[test]
fn withdrawn_consent_stops_messages() {
    let (guest, owner, _operator) = set_up();
    owner.allow("*");
    let suspended = with_spec(&naming(&owner, "late", "certs"), "suspend: true");
    guest.apply(&naming(&owner, "early", "certs"));
    guest.apply(&suspended);
    guest.wait_for_reason("early", "Sent");
    guest.wait_for_reason("late", "Suspended");
    owner.allow("");
    // The operator has seen the change as soon as it refuses a new message.
    let mut number = 0;
    wait_soon("the operator sees the change", || {
        number += 1;
        let name = format!("probe{number}");
        guest.apply(&naming(&owner, &name, "certs"));
        let decided = || guest.get(&name)["status"]["reason"].as_str().map(str::to_owned);
        wait_soon("a reason", || decided().is_some());
        decided().as_deref() == Some("SecretNotFound")
    });
    guest.patch("late", r#"{"spec": {"suspend": false}}"#);
    guest.wait_for_reason("late", "SecretNotFound");
    owner.allow(&guest.name);
    guest.wait_for_reason("late", "Sent");
}

/// Returns what `/metrics` and the log tell everybody about attempts without a Secret.
fn failed_attempts(operator: &Operator) -> (Vec<String>, usize) {
    let (_, page) = operator.http_get("/metrics").expect("metrics");
    let counts = page.lines().filter(|line| line.contains("attempts_total") && line.contains("SecretNotFound"));
    (counts.map(str::to_owned).collect(), operator.count_in_log("SecretNotFound"))
}

/// Many messages that name a Secret would show each of its changes in the metrics and the log.
#[test]
fn changes_of_denied_secret_are_invisible() {
    let (guest, owner, operator) = set_up();
    let names: Vec<String> = (0..17).map(|n| format!("spy{n}")).collect();
    guest.apply(&names.iter().map(|name| naming(&owner, name, "certs")).collect::<String>());
    guest.wait_for_reason_of(&names, "SecretNotFound");
    let before = failed_attempts(&operator);
    assert!(!before.0.is_empty(), "they are counted");
    owner.allow("somebody");
    owner.kubectl(&["delete", "secret", "certs"]);
    owner.store_certificate(&shared().broker, "publisher");
    owner.allow("somebody, else");
    // The operator sees this change after all others.
    owner.allow(&guest.name);
    guest.wait_for_reason_of(&names, "Sent");
    assert_eq!(failed_attempts(&operator), before);
}

#[test]
fn denied_takes_as_long_as_absent() {
    const COUNT: usize = 20;
    let (guest, owner) = (TestNamespace::new("guest"), TestNamespace::new("owner"));
    let certificate = certificate("publisher");
    for n in 0..COUNT {
        owner.store_secret(&format!("denied{n}"), &certificate);
    }
    let _operator = Operator::start(&guest, &[]);
    let names: Vec<String> = (0..COUNT).flat_map(|n| [format!("absent{n}"), format!("denied{n}")]).collect();
    for name in &names {
        guest.apply(&naming(&owner, name, name));
        guest.wait_for_reason(name, "SecretNotFound");
    }
    let median = |kind: &str| {
        let took = latencies(&guest, kind);
        took[took.len() / 2]
    };
    let (absent, denied) = (median("absent"), median("denied"));
    let (short, long) = (absent.min(denied), absent.max(denied));
    assert!(long < short * 2 + Duration::from_millis(20), "absent: {absent:?}, denied: {denied:?}");
}
