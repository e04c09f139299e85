//! The operator's metrics, its log line for each message, and the warning before a certificate
//! expires.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use rig::pki::{DAY, Request};
use rig::wait_until;
use serde_json::{Value, json};

use crate::events::events;
use e2e::{
    DEBUG, Operator, SOON, TestNamespace, certificate, message, numbered, read, role_rules, shared, wait_soon,
    with_secret, with_spec,
};

/// Returns the samples of `/metrics` by name and labels, without the common prefix.
fn scrape(operator: &Operator) -> BTreeMap<String, f64> {
    let (code, text) = operator.http_get("/metrics").expect("an answer");
    assert_eq!(code, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a series and a value");
    let series = series.strip_prefix("fedora_message_operator_").expect("the prefix");
    (series.to_owned(), value.parse().expect("a number"))
}

/// Returns the metrics as soon as they fulfill a condition. Some are a second old.
fn wait_for_metrics(
    operator: &Operator,
    what: &str,
    condition: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    wait_until(SOON, what, || {
        metrics = scrape(operator);
        condition(&metrics)
    })
    .unwrap_or_else(|error| panic!("{error} in {metrics:#?}"));
    metrics
}

/// Returns the metrics as soon as they have these samples.
fn wait_for_samples(operator: &Operator, expected: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let has_samples =
        |metrics: &BTreeMap<String, f64>| expected.iter().all(|(series, value)| metrics.get(*series) == Some(value));
    wait_for_metrics(operator, &format!("{expected:#?}"), has_samples)
}

/// A message that is given up after one attempt.
fn forbidden(name: &str) -> String {
    with_spec(&with_secret(&message(name, &format!("evil.{name}"), ""), "nice"), "backoffLimit: 0")
}

fn store_nice(namespace: &TestNamespace) {
    namespace.store_secret("nice", &certificate("nice-app"));
}

#[test]
fn counts_messages() {
    let namespace = TestNamespace::with_publisher("metrics");
    store_nice(&namespace);
    let started = Instant::now();
    let operator = Operator::start(&namespace, &[]);
    let waiting = with_secret(&message("waits", "metrics.waits", ""), "absent");
    namespace.apply(&(numbered(3, "good", |_| "metrics.good".to_owned()) + &forbidden("bad") + &waiting));
    namespace.wait_for_reason_of(&["good0", "good1", "good2"], "Sent");
    namespace.wait_for_reason("bad", "BackoffLimitExceeded");
    namespace.wait_for_reason("waits", "SecretNotFound");
    let metrics = wait_for_samples(
        &operator,
        &[
            (r#"messages_finished_total{env="prod",mode="direct",reason="Sent"}"#, 3.0),
            (r#"messages_finished_total{env="prod",mode="direct",reason="BackoffLimitExceeded"}"#, 1.0),
            (r#"messages_finished_total{env="stg",mode="direct",reason="Sent"}"#, 0.0),
            (r#"attempts_total{env="prod",mode="direct",reason="Sent"}"#, 3.0),
            (r#"attempts_total{env="prod",mode="direct",reason="SecretNotFound"}"#, 1.0),
            (r#"messages_pending{env="prod",older_than="0s"}"#, 1.0),
            (r#"messages_pending{env="prod",older_than="1h"}"#, 0.0),
            (r#"confirm_duration_seconds_count{env="prod"}"#, 3.0),
            (r#"publish_duration_seconds_count{env="prod"}"#, 3.0),
            (r#"send_duration_seconds_count{env="prod",mode="direct"}"#, 3.0),
            (r#"delivery_duration_seconds_bucket{le="+Inf",env="prod",mode="direct"}"#, 3.0),
            (&of_namespace("namespace_messages_given_up_total", &namespace), 1.0),
            (r#"connections{env="prod"}"#, 2.0),
            (r#"connections{env="stg"}"#, 0.0),
            (r#"broker_blocked{env="prod"}"#, 0.0),
            (r#"status_writes_total{result="written"}"#, 5.0),
            ("leader", 1.0),
        ],
    );
    assert!(metrics[r#"channels{env="prod"}"#] >= 1.0, "{metrics:#?}");
    // Three messages, none of which was known before the operator started.
    let sent = metrics[r#"send_duration_seconds_sum{env="prod",mode="direct"}"#];
    assert!(sent > 0.0 && sent < 3.0 * started.elapsed().as_secs_f64(), "{sent}");
    let oldest = of_namespace("namespace_oldest_pending_age_seconds", &namespace);
    let oldest = wait_for_metrics(&operator, "the age", |metrics| metrics.contains_key(&oldest))[&oldest];
    assert!(oldest >= 0.0 && oldest < started.elapsed().as_secs_f64() + 2.0, "{oldest}");
    let expiry = &metrics
        [&format!(r#"certificate_not_after_timestamp_seconds{{namespace="{}",secret="certs"}}"#, namespace.name)];
    let in_years = (SystemTime::now() + 3000 * DAY).duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    assert!(*expiry > in_years.as_secs_f64(), "{expiry}");
    assert!(metrics.keys().any(|series| series.starts_with("build_info{version=\"")), "{metrics:#?}");
}

/// The name of the series of this namespace.
fn of_namespace(metric: &str, namespace: &TestNamespace) -> String {
    format!(r#"{metric}{{namespace="{}"}}"#, namespace.name)
}

#[test]
fn bounds_namespaces_with_metrics() {
    let (busy, other) = (TestNamespace::new("busy"), TestNamespace::new("other"));
    for namespace in [&busy, &other] {
        store_nice(namespace);
    }
    let operator = Operator::start(&busy, &["--watch-namespaces", &other.name, "--namespace-metrics=1"]);
    busy.apply(&forbidden("bad"));
    busy.wait_for_reason("bad", "BackoffLimitExceeded");
    other.apply(&(forbidden("bad") + &with_secret(&message("waits", "metrics.waits", ""), "absent")));
    other.wait_for_reason("bad", "BackoffLimitExceeded");
    other.wait_for_reason("waits", "SecretNotFound");
    wait_for_samples(&operator, &[(&of_namespace("namespace_messages_given_up_total", &busy), 1.0)]);
    let oldest = of_namespace("namespace_oldest_pending_age_seconds", &other);
    let metrics = wait_for_metrics(&operator, "the age", |metrics| metrics.contains_key(&oldest));
    let is_of_other = |series: &&String| series.starts_with("namespace_") && series.contains(&other.name);
    let of_other: Vec<_> = metrics.keys().filter(is_of_other).collect();
    assert_eq!(of_other, [&oldest], "{metrics:#?}");
}

#[test]
fn topics_add_no_series() {
    let namespace = TestNamespace::new("series");
    store_nice(&namespace);
    let operator = Operator::start(&namespace, &[]);
    let finished = r#"messages_finished_total{env="prod",mode="direct",reason="BackoffLimitExceeded"}"#;
    let pending = r#"messages_pending{env="prod",older_than="0s"}"#;
    // A namespace has this series more while a message is pending.
    let oldest = of_namespace("namespace_oldest_pending_age_seconds", &namespace);
    let wait_until_refused = |count: f64| {
        wait_for_metrics(&operator, "all messages are refused", |metrics| {
            let is_pending = metrics.get(pending) != Some(&0.0) || metrics.contains_key(&oldest);
            metrics[finished] >= count && !is_pending
        })
    };
    namespace.apply(&forbidden("first"));
    let before = wait_until_refused(1.0);
    namespace.create_many(&(0..1000).map(|n| forbidden(&format!("bad{n}"))).collect::<String>());
    let after = wait_until_refused(1001.0);
    assert!(after.keys().eq(before.keys()), "{after:#?}");
}

#[test]
fn standby_reports_no_messages() {
    let namespace = TestNamespace::new("standby");
    let elect = ["--leader-elect", "--lease-namespace", &namespace.name];
    let leader = Operator::start(&namespace, &elect);
    leader.wait_for_log("leading: messages are sent from here");
    let other = Operator::start(&namespace, &elect);
    namespace.apply(&message("waits", "standby.waits", ""));
    namespace.wait_for_reason("waits", "SecretNotFound");
    wait_for_samples(&leader, &[("leader", 1.0), (r#"messages_pending{env="prod",older_than="0s"}"#, 1.0)]);
    let metrics = wait_for_samples(&other, &[("leader", 0.0)]);
    assert!(!metrics.keys().any(|series| series.starts_with("messages_pending")), "{metrics:#?}");
}

/// The operator is not ready, but leads and sends messages of the other namespace.
#[test]
fn unlisted_namespace_hides_no_metrics() {
    let (listed, unlisted) = (TestNamespace::new("listed"), TestNamespace::new("unlisted"));
    listed.grant("operator", "operator", &json!(role_rules("manifests/base/rbac.yaml")));
    let kubeconfig = shared().kube.kubeconfig_for("operator").expect("a user");
    let both = format!("{},{}", listed.name, unlisted.name);
    let operator = Operator::launch(&kubeconfig, &shared().broker.url(), &["--watch-namespaces", &both], DEBUG);
    listed.apply(&message("waits", "unlisted.waits", ""));
    listed.wait_for_reason("waits", "SecretNotFound");
    wait_for_samples(&operator, &[("leader", 1.0), (r#"messages_pending{env="prod",older_than="0s"}"#, 1.0)]);
    assert_eq!((operator.probe("/livez"), operator.probe("/readyz")), (Some(200), Some(503)));
}

#[test]
fn metrics_page_is_complete() {
    let namespace = TestNamespace::with_publisher("page");
    let operator = Operator::start(&namespace, &[]);
    namespace.apply(&message("one", "page.one", ""));
    namespace.wait_for_all_sent();
    let page = read("docs/metrics.md");
    for series in scrape(&operator).into_keys() {
        let name = series.split('{').next().unwrap_or_default();
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(page.contains(&format!("`fedora_message_operator_{name}`")), "{name}");
    }
}

/// The warning is in the status of the message, and in an Event.
#[test]
fn warns_of_expiring_certificate() {
    let namespace = TestNamespace::new("expiry");
    let request = Request { not_after: SystemTime::now() + 10 * DAY + DAY / 2, ..Request::client("publisher") };
    let soon = shared().broker.pki().issue(&request).expect("a certificate");
    namespace.store_secret("certs", &soon);
    let _operator = Operator::start(&namespace, &[]);
    namespace.apply(&message("first", "expiry.first", ""));
    let status = namespace.wait_for_reason("first", "Sent");
    let text = status["message"].as_str().expect("a message");
    let expected = format!(
        ". Its client certificate, of publisher in key \"cert\" of Secret {}/certs, expires on 20",
        namespace.name
    );
    assert!(text.starts_with("Message was sent successfully") && text.contains(&expected), "{text}");
    assert!(text.ends_with(" UTC, in 10 days: renew it"), "{text}");
    wait_soon("an Event", || !events(&namespace, "first").is_empty());
    let [(kind, reason, note)] = &events(&namespace, "first")[..] else { panic!("{:?}", events(&namespace, "first")) };
    assert_eq!((kind.as_str(), reason.as_str()), ("Warning", "CertificateExpires"));
    assert!(text.ends_with(note.as_str()), "{note}");

    // The operator warns once a day. It writes Events in order, so the next Event shows that no
    // other came before.
    namespace.apply(&message("second", "expiry.second", ""));
    namespace.wait_for_reason("second", "Sent");
    namespace.apply(&with_secret(&message("last", "expiry.last", ""), "absent"));
    wait_soon("the last Event", || !events(&namespace, "last").is_empty());
    assert!(events(&namespace, "second").is_empty());
}

#[test]
fn logs_one_line_per_message() {
    let namespace = TestNamespace::with_publisher("line");
    let operator = Operator::start(&namespace, &["--log-format", "json"]);
    namespace.apply(&message("one", "line.one", ""));
    let status = namespace.wait_for_reason("one", "Sent");
    let log = operator.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["level"] == "INFO" && line["name"] == "one")
        .collect();
    let [line] = &lines[..] else { panic!("{log}") };
    assert_eq!(line["uid"], status["messageId"]);
    assert_eq!(line["namespace"], namespace.name.as_str());
    assert_eq!((&line["env"], &line["topic"], &line["reason"]), (&"prod".into(), &"line.one".into(), &"Sent".into()));
    assert_eq!(line["attempt"], 1);
    assert!(line["milliseconds"].as_u64().is_some_and(|took| took < 60_000), "{line}");
}
