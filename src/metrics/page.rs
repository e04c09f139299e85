//! `docs/metrics.md`, made from what [`Metrics::encode`] returns.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use strum::VariantArray;

use super::{AGES, AttemptRecord, Metrics, Report, UNKNOWN};
use crate::broker::pool::Usage;
use crate::cluster::watch::{WatchKind, WatchMonitor};
use crate::docs_page;
use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::policy::outcome::{Mode, Reason, Timing};

#[test]
fn page_of_metrics_is_up_to_date() {
    docs_page::assert_current("metrics.md", &page(&example()), "just metrics");
}

/// Returns all metrics, each with at least one series.
fn example() -> String {
    let watches = WatchMonitor::default();
    let _watch = watches.register(WatchKind::Messages);
    let metrics = Metrics::new(watches, 1);
    for reason in [Reason::Sent, Reason::InvalidMessage] {
        metrics.count_attempt(&AttemptRecord {
            environment: Some(Environment::Prod),
            mode: Mode::Direct,
            reason,
            finished: true,
            took: Some(Timing { publish: Duration::ZERO, confirm: Duration::ZERO }),
            namespace: "apps",
            since_seen: Duration::ZERO,
            age: Duration::ZERO,
        });
    }
    let secret = SourceName::secret("apps", "certs");
    let sender = SenderName::new("apps", "default");
    metrics.encode(Some(&Report {
        pending: vec![(None, [0; AGES.len()])],
        oldest: vec![("apps".to_owned(), TimeDelta::zero())],
        connections: vec![(Environment::Prod, Usage::default())],
        certificates: vec![(secret, DateTime::<Utc>::UNIX_EPOCH)],
        senders: vec![(sender, true)],
        ..Report::default()
    }))
}

/// Returns the page for this text in the `OpenMetrics` format.
fn page(metrics: &str) -> String {
    let rows: String = metrics.split("# HELP ").skip(1).map(row).collect();
    let reasons: Vec<_> = Reason::VARIANTS.iter().map(|reason| format!("`{reason}`")).collect();
    let watches: Vec<_> = WatchKind::VARIANTS.iter().map(|kind| format!("`{}`", kind.name())).collect();
    let ages: Vec<_> = AGES.iter().map(|(age, _)| format!("`{age}`")).collect();
    format!(
        "# Metrics\n\n\
        The operator serves these metrics at `/metrics` (`--admin-address`), in the OpenMetrics text format.\n\
        `just metrics` writes this page. [monitoring.md](monitoring.md) says how to collect and watch them.\n\n\
        | metric | kind | labels | meaning |\n|---|---|---|---|\n{rows}\n\
        - `env`: `prod`, `stg`, or `{UNKNOWN}` if a message can't be read.\n\
        - `mode`: `direct`, or `pod` if a Pod sent or tried to send the message.\n\
        - `reason`: the value of `status.reason`: {}.\n\
        - `watch`: {}; `lease` only if another replica leads, and each only while such a watch exists.\n\
        - `older_than`: {}. Each counts the older ones too, so `0s` is all of them.\n\n\
        Labels come from these lists, so messages can't create new series. There are at most 1,000 series of\n\
        certificates, and 100 of one namespace's Secrets. There are at most 5,000 series of Senders, and 100 of\n\
        one namespace's. At most 500 namespaces have metrics of their own, or as many as `--namespace-metrics`\n\
        says. A replica that stands by reports no pending messages.\n",
        reasons.join(", "),
        watches.join(", "),
        ages.join(", "),
    )
}

/// Returns the row for one metric, whose text begins after `# HELP `.
fn row(text: &str) -> String {
    let mut lines = text.lines();
    let (name, help) = lines.next().and_then(|line| line.split_once(' ')).expect("a name and a description");
    let kind = lines.next().and_then(|line| line.rsplit(' ').next()).expect("a type");
    let sample = lines.find(|line| !line.starts_with('#')).expect("a sample");
    let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
    let labels: Vec<_> = labels
        .split(',')
        .filter_map(|label| Some(label.split_once('=')?.0).filter(|label| *label != "le"))
        .map(|label| format!("`{label}`"))
        .collect();
    let suffix = if kind == "counter" { "_total" } else { "" };
    format!("| `{name}{suffix}` | {kind} | {} | {} |\n", labels.join(", "), help.trim_end_matches('.'))
}
