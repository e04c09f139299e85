//! What the operator tells of itself: metrics, the line it logs for each message, and the warning before a
//! certificate runs out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rig::pki::{DAY, Request};
use rig::wait_until;
use serde_json::Value;

use crate::events::events;
use e2e::world::{Operator, SOON, Space, message, project, wait_for_all_sent, world};

/// The samples that `/metrics` tells, by name and labels, without the prefix that all have.
fn scrape(operator: &Operator) -> BTreeMap<String, f64> {
    let (code, text) = operator.ask("/metrics").expect("it answers");
    assert_eq!(code, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a series and a value");
    let series = series.strip_prefix("fedora_message_operator_").expect("the prefix");
    (series.to_owned(), value.parse().expect("a number"))
}

#[track_caller]
fn assert_tells(metrics: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        assert_eq!(metrics.get(*series), Some(value), "{series} in {metrics:#?}");
    }
}

fn forbidden(name: &str) -> String {
    message(name, &format!("evil.{name}"), "").replace("name: certs", "name: nice")
}

fn nice(space: &Space) {
    let nice = world().broker.client("nice-app").expect("a certificate");
    space.apply(&nice.secret_yaml("nice", &space.name)).expect("the Secret is stored");
}

#[test]
fn metrics_tell_what_became_of_messages() {
    let space = Space::new("metrics");
    space.certificate(&world().broker, "publisher");
    nice(&space);
    let operator = Operator::start(&space, &[]);
    let unread = message("waits", "metrics.waits", "").replace("name: certs", "name: absent");
    let all: String = (0..3).map(|n| message(&format!("good{n}"), "metrics.good", "")).collect();
    space.apply(&(all + &forbidden("bad") + &unread)).expect("they are accepted");
    for (name, reason) in [
        ("good0", "Sent"),
        ("good1", "Sent"),
        ("good2", "Sent"),
        ("bad", "TopicForbidden"),
        ("waits", "SecretNotFound"),
    ] {
        space.wait_for_reason(name, reason);
    }
    let metrics = scrape(&operator);
    assert_tells(
        &metrics,
        &[
            (r#"messages_finished_total{env="prod",mode="direct",reason="Sent"}"#, 3.0),
            (r#"messages_finished_total{env="prod",mode="direct",reason="TopicForbidden"}"#, 1.0),
            (r#"messages_finished_total{env="stg",mode="direct",reason="Sent"}"#, 0.0),
            (r#"attempts_total{env="prod",mode="direct",reason="Sent"}"#, 3.0),
            (r#"attempts_total{env="prod",mode="direct",reason="SecretNotFound"}"#, 1.0),
            (r#"messages_pending{env="prod",older_than="0s"}"#, 1.0),
            (r#"messages_pending{env="prod",older_than="1h"}"#, 0.0),
            (r#"confirm_duration_seconds_count{env="prod"}"#, 3.0),
            (r#"publish_duration_seconds_count{env="prod"}"#, 3.0),
            (r#"delivery_duration_seconds_bucket{le="+Inf",env="prod",mode="direct"}"#, 3.0),
            (r#"connections{env="prod"}"#, 2.0),
            (r#"connections{env="stg"}"#, 0.0),
            (r#"broker_blocked{env="prod"}"#, 0.0),
            (r#"status_writes_total{result="written"}"#, 5.0),
            ("leader", 1.0),
        ],
    );
    assert!(metrics[r#"channels{env="prod"}"#] >= 1.0, "{metrics:#?}");
    let expiry =
        &metrics[&format!(r#"certificate_not_after_timestamp_seconds{{namespace="{}",secret="certs"}}"#, space.name)];
    let in_years = (SystemTime::now() + 3000 * DAY).duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    assert!(*expiry > in_years.as_secs_f64(), "{expiry}");
    assert!(metrics.keys().any(|series| series.starts_with("build_info{version=\"")), "{metrics:#?}");
}

#[test]
fn a_thousand_bad_topics_make_no_series() {
    let space = Space::new("series");
    nice(&space);
    let operator = Operator::start(&space, &[]);
    space.apply(&forbidden("first")).expect("it is accepted");
    space.wait_for_reason("first", "TopicForbidden");
    let before = scrape(&operator);
    let all: String = (0..1000).map(|n| forbidden(&format!("bad{n}"))).collect();
    space.kubectl(&["create", "-f", "-"], &all).expect("they are accepted");
    let finished = r#"messages_finished_total{env="prod",mode="direct",reason="TopicForbidden"}"#;
    let refused = || scrape(&operator)[finished] >= 1001.0;
    wait_until(SOON, "all are refused", refused).unwrap_or_else(|error| {
        panic!(
            "{error}\n{}",
            operator
                .log()
                .lines()
                .filter(|l| l.contains("BrokerUnreachable") || l.contains("DEBUG"))
                .take(30)
                .collect::<Vec<_>>()
                .join("\n")
        )
    });
    assert!(scrape(&operator).keys().eq(before.keys()), "{:#?}", scrape(&operator));
}

#[test]
fn a_replica_that_stands_by_tells_so_and_of_no_pending_messages() {
    let space = Space::new("standby");
    let elect = ["--leader-elect", "--lease-namespace", &space.name];
    let leader = Operator::start(&space, &elect);
    let other = Operator::start(&space, &elect);
    space.apply(&message("waits", "standby.waits", "")).expect("it is accepted");
    space.wait_for_reason("waits", "SecretNotFound");
    assert_tells(&scrape(&leader), &[("leader", 1.0), (r#"messages_pending{env="prod",older_than="0s"}"#, 1.0)]);
    let metrics = scrape(&other);
    assert_tells(&metrics, &[("leader", 0.0)]);
    assert!(!metrics.keys().any(|series| series.starts_with("messages_pending")), "{metrics:#?}");
}

#[test]
fn every_series_is_on_the_page_of_metrics() {
    let space = Space::new("page");
    space.certificate(&world().broker, "publisher");
    let operator = Operator::start(&space, &[]);
    space.apply(&message("one", "page.one", "")).expect("it is accepted");
    wait_for_all_sent(&space);
    let page = std::fs::read_to_string(project("docs/metrics.md")).expect("the page is there");
    for series in scrape(&operator).into_keys() {
        let name = series.split('{').next().unwrap_or_default();
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(page.contains(&format!("`fedora_message_operator_{name}`")), "{name}");
    }
}

#[test]
fn a_certificate_that_expires_soon_is_warned_about_where_it_is_used() {
    let space = Space::new("expiry");
    let request = Request { not_after: SystemTime::now() + 10 * DAY + DAY / 2, ..Request::client("publisher") };
    let soon = world().broker.pki().issue(&request).expect("a certificate");
    space.apply(&soon.secret_yaml("certs", &space.name)).expect("the Secret is stored");
    let _operator = Operator::start(&space, &[]);
    space.apply(&message("first", "expiry.first", "")).expect("it is accepted");
    let status = space.wait_for_reason("first", "Sent");
    let words = status["message"].as_str().expect("words");
    let expected =
        format!(". Its client certificate, of publisher in key \"cert\" of Secret {}/certs, expires on 20", space.name);
    assert!(words.starts_with("Message was sent successfully") && words.contains(&expected), "{words}");
    assert!(words.ends_with(" UTC, in 10 days: renew it"), "{words}");
    wait_until(SOON, "an Event", || !events(&space, "first").is_empty()).expect("an Event");
    let [(kind, reason, note)] = &events(&space, "first")[..] else { panic!("{:?}", events(&space, "first")) };
    assert_eq!((kind.as_str(), reason.as_str()), ("Warning", "CertificateExpires"));
    assert!(words.ends_with(note.as_str()), "{note}");

    // Once a day is enough; Events are written in order, so the next one shows that there was none before.
    space.apply(&message("second", "expiry.second", "")).expect("it is accepted");
    space.wait_for_reason("second", "Sent");
    space.apply(&message("last", "expiry.last", "").replace("name: certs", "name: absent")).expect("it is accepted");
    wait_until(SOON, "the last Event", || !events(&space, "last").is_empty()).expect("the last Event");
    assert!(events(&space, "second").is_empty());
}

#[test]
fn a_message_is_one_line_in_the_log() {
    let space = Space::new("line");
    space.certificate(&world().broker, "publisher");
    let operator = Operator::start(&space, &["--log-format", "json"]);
    space.apply(&message("one", "line.one", "")).expect("it is accepted");
    let status = space.wait_for_reason("one", "Sent");
    let log = operator.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["level"] == "INFO" && line["name"] == "one")
        .collect();
    let [line] = &lines[..] else { panic!("{log}") };
    assert_eq!(line["uid"], status["messageId"]);
    assert_eq!(line["namespace"], space.name.as_str());
    assert_eq!((&line["env"], &line["topic"], &line["reason"]), (&"prod".into(), &"line.one".into(), &"Sent".into()));
    assert_eq!(line["attempt"], 1);
    assert!(line["milliseconds"].as_u64().is_some_and(|took| took < 60_000), "{line}");
}
