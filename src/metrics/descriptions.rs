//! What each metric is called, and what it tells: for those who gather them, and as a page of docs.

use prometheus_client::registry::{Metric, Registry, Unit};
use strum::VariantArray;

use super::{AGES, UNKNOWN};
use fedora_message::policy::outcome::Reason;

/// What every metric's name begins with.
pub(crate) const PREFIX: &str = "fedora_message_operator";
/// What a metric is called, for its users.
pub(crate) struct Description {
    /// Without the [`PREFIX`] and without what follows from its unit and kind.
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    help: &'static str,
}

/// Which way a metric's values go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// A gauge or a histogram in seconds.
    GaugeOfSeconds,
    Histogram,
}

pub(crate) const BUILD_INFO: Description = Description {
    name: "build_info",
    kind: Kind::Gauge,
    labels: "version, commit",
    help: "Always 1: the labels tell which program this is",
};
pub(crate) const LEADER: Description = Description {
    name: "leader",
    kind: Kind::Gauge,
    labels: "",
    help: "1 where this replica sends messages, 0 where it stands by",
};
pub(crate) const ATTEMPTS: Description = Description {
    name: "attempts",
    kind: Kind::Counter,
    labels: "env, mode, reason",
    help: "How often a message had its turn, by what came of it",
};
pub(crate) const FINISHED: Description = Description {
    name: "messages_finished",
    kind: Kind::Counter,
    labels: "env, mode, reason",
    help: "Messages that were sent or given up",
};
pub(crate) const PENDING: Description = Description {
    name: "messages_pending",
    kind: Kind::Gauge,
    labels: "env, older_than",
    help: "Messages neither sent nor given up nor suspended, older than the label says; only the replica that sends knows",
};
pub(crate) const PUBLISH: Description = Description {
    name: "publish_duration",
    kind: Kind::Histogram,
    labels: "env",
    help: "How long sent messages took until they were handed to the connection: the wait for a channel, and for room in it",
};
pub(crate) const CONFIRM: Description = Description {
    name: "confirm_duration",
    kind: Kind::Histogram,
    labels: "env",
    help: "How long the broker then took to confirm them",
};
pub(crate) const DELIVERY: Description = Description {
    name: "delivery_duration",
    kind: Kind::Histogram,
    labels: "env, mode",
    help: "How old messages were when they were sent, since creationTimestamp, which is a whole second",
};
pub(crate) const CONNECTIONS: Description = Description {
    name: "connections",
    kind: Kind::Gauge,
    labels: "env",
    help: "Open connections to the environment's broker: one for each client certificate",
};
pub(crate) const CHANNELS: Description =
    Description { name: "channels", kind: Kind::Gauge, labels: "env", help: "Open channels on these" };
pub(crate) const BLOCKED: Description = Description {
    name: "broker_blocked",
    kind: Kind::Gauge,
    labels: "env",
    help: "Connections of these that the broker blocks, by its memory or disk alarm",
};
pub(crate) const CERTIFICATES: Description = Description {
    name: "certificate_not_after_timestamp",
    kind: Kind::GaugeOfSeconds,
    labels: "namespace, secret",
    help: "Until when the client certificate in this Secret is valid, in seconds since 1970; of those that messages named in the last day",
};
pub(crate) const STATUS_WRITES: Description = Description {
    name: "status_writes",
    kind: Kind::Counter,
    labels: "result",
    help: "Writes of a status: written, gone (the resource was deleted), changed (it was changed meanwhile) or failed",
};

pub(crate) const DELETIONS: Description = Description {
    name: "deletions",
    kind: Kind::Counter,
    labels: "result",
    help: "Tries to delete a FedoraMessage whose time to live is over: deleted, gone (somebody else did), kept (its \
           time is not over any more), denied (no right to) or failed",
};

pub(crate) const SCHEMAS: Description = Description {
    name: "schemas",
    kind: Kind::Gauge,
    labels: "",
    help: "Message schemas in use, of the file --schema-catalog; none without one",
};
pub(crate) const SCHEMAS_IN_STEP: Description = Description {
    name: "schemas_in_step",
    kind: Kind::Gauge,
    labels: "",
    help: "1 where these are what the file says, 0 where it has changed and can't be used",
};

/// All of them, in the order in which they are explained.
const ALL: [&Description; 16] = [
    &ATTEMPTS,
    &FINISHED,
    &PENDING,
    &PUBLISH,
    &CONFIRM,
    &DELIVERY,
    &CONNECTIONS,
    &CHANNELS,
    &BLOCKED,
    &CERTIFICATES,
    &STATUS_WRITES,
    &DELETIONS,
    &SCHEMAS,
    &SCHEMAS_IN_STEP,
    &LEADER,
    &BUILD_INFO,
];

impl Description {
    /// Has the registry tell this metric under its name.
    pub(crate) fn register(&self, registry: &mut Registry, metric: impl Metric) {
        match self.kind {
            Kind::Counter | Kind::Gauge => registry.register(self.name, self.help, metric),
            Kind::GaugeOfSeconds | Kind::Histogram => {
                registry.register_with_unit(self.name, self.help, Unit::Seconds, metric);
            }
        }
    }

    /// The name of its series.
    fn full_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::GaugeOfSeconds | Kind::Histogram => "_seconds",
        };
        format!("{PREFIX}_{}{suffix}", self.name)
    }

    fn row(&self) -> String {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::GaugeOfSeconds => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> =
            self.labels.split(", ").filter(|label| !label.is_empty()).map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |\n", self.full_name(), labels.join(", "), self.help)
    }
}

/// The metrics as a page of docs.
#[must_use]
pub fn page() -> String {
    let rows: String = ALL.into_iter().map(Description::row).collect();
    let reasons: Vec<String> = Reason::VARIANTS.iter().map(|reason| format!("`{reason}`")).collect();
    let ages: Vec<String> = AGES.into_iter().map(|(age, _)| format!("`{age}`")).collect();
    format!(
        "# Metrics\n\n\
        What the operator tells at `/metrics` (`--admin-address`), in the OpenMetrics text format. This page is\n\
        written by `fedora-message-operator metrics`; how to gather and watch them is in\n\
        [monitoring.md](monitoring.md).\n\n\
        | metric | kind | labels | what it tells |\n|---|---|---|---|\n{rows}\n\
        - `env`: `prod`, `stg`, or `{UNKNOWN}` where a message can't be read.\n\
        - `mode`: `direct`, or `pod` where a Pod sent or tried to send the message.\n\
        - `reason`: what stands in `status.reason`: {}.\n\
        - `older_than`: {}; each counts the older ones too, so `0s` is all of them.\n\n\
        Labels come from these lists, so messages can't make new series; of certificates there are at most\n\
        1,000. A replica that stands by tells of no pending messages.\n",
        reasons.join(", "),
        ages.join(", "),
    )
}
