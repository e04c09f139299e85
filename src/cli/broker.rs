//! The flags that say where messages go: brokers, exchange and topics.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{BrokerUrl, exchange, number, topic_prefix};
use crate::broker::address::{BrokerAddress, DEFAULT_PORT};
use crate::broker::pool::Brokers;
use crate::commands::files::operator_ca;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;
use fedora_message::message::secret::OperatorCas;

/// Fedora's broker of an environment, and the prefix of all topics that its consumers expect
/// (<https://fedora-messaging.readthedocs.io/en/stable/user-guide/quick-start.html>).
struct Fedora {
    host: &'static str,
    topic_prefix: &'static str,
}

impl Fedora {
    fn of(environment: Environment) -> Self {
        match environment {
            Environment::Prod => Self { host: "rabbitmq.fedoraproject.org", topic_prefix: "org.fedoraproject.prod" },
            Environment::Stg => Self { host: "rabbitmq.stg.fedoraproject.org", topic_prefix: "org.fedoraproject.stg" },
        }
    }

    /// The address of the broker, with the virtual host for publishers.
    fn address(&self) -> BrokerAddress {
        BrokerAddress { host: self.host.to_owned(), port: DEFAULT_PORT, vhost: "/pubsub".to_owned() }
    }
}

/// Flags that say where messages go.
#[derive(Args, Clone, Debug)]
pub struct BrokerArgs {
    /// Broker and virtual host of production [default: amqps://rabbitmq.fedoraproject.org/%2Fpubsub]
    #[arg(long, env = "PROD_AMQP_URL", hide_env_values = true, value_parser = BrokerUrl, value_name = "URL")]
    pub prod_amqp_url: Option<BrokerAddress>,
    /// Broker and virtual host of staging [default: amqps://rabbitmq.stg.fedoraproject.org/%2Fpubsub]
    #[arg(long, env = "STG_AMQP_URL", hide_env_values = true, value_parser = BrokerUrl, value_name = "URL")]
    pub stg_amqp_url: Option<BrokerAddress>,
    /// Prefix of production's topics [default: org.fedoraproject.prod on rabbitmq.fedoraproject.org, none on
    /// others]
    #[arg(long, env = "PROD_TOPIC_PREFIX", value_name = "PREFIX", value_parser = topic_prefix)]
    pub prod_topic_prefix: Option<String>,
    /// Prefix of staging's topics [default: org.fedoraproject.stg on rabbitmq.stg.fedoraproject.org, none on
    /// others]
    #[arg(long, env = "STG_TOPIC_PREFIX", value_name = "PREFIX", value_parser = topic_prefix)]
    pub stg_topic_prefix: Option<String>,
    /// File with the CA of production's broker, for Senders and Secrets without a CA. It is read once, at
    /// the start
    #[arg(long, env = "PROD_CA_FILE", value_name = "FILE")]
    pub prod_ca_file: Option<PathBuf>,
    /// File with the CA of staging's broker, for Senders and Secrets without a CA
    #[arg(long, env = "STG_CA_FILE", value_name = "FILE")]
    pub stg_ca_file: Option<PathBuf>,
    /// Exchange that messages are published to. It must exist [default: amq.topic]
    #[arg(long, env = "EXCHANGE", value_parser = exchange)]
    pub exchange: Option<String>,
    /// Add a W3C trace context to each message: the header traceparent. A header of that name in the resource
    /// names the trace that the message belongs to
    #[arg(long, env = "TRACE_CONTEXT")]
    pub trace_context: bool,
    /// Time for a broker to confirm a message, in seconds, before it is sent again
    #[arg(long, env = "CONFIRM_TIMEOUT", default_value_t = 30, value_name = "SECONDS", value_parser = number(1..=u16::MAX))]
    pub confirm_timeout: u16,
}

impl BrokerArgs {
    /// Returns the address of each environment's broker.
    #[must_use]
    pub fn brokers(&self) -> Brokers {
        let broker =
            |environment| self.given_broker(environment).cloned().unwrap_or_else(|| Fedora::of(environment).address());
        Brokers { prod: broker(Environment::Prod), stg: broker(Environment::Stg) }
    }

    /// Returns the address of an environment's broker that a flag or variable sets.
    #[must_use]
    pub fn given_broker(&self, environment: Environment) -> Option<&BrokerAddress> {
        match environment {
            Environment::Prod => self.prod_amqp_url.as_ref(),
            Environment::Stg => self.stg_amqp_url.as_ref(),
        }
    }

    /// Returns the exchange that messages are published to.
    #[must_use]
    pub fn exchange(&self) -> &str {
        self.exchange.as_deref().unwrap_or("amq.topic")
    }

    /// Returns the prefix of an environment's topics that a flag or variable sets, which may be empty.
    #[must_use]
    pub fn given_topic_prefix(&self, environment: Environment) -> Option<&str> {
        match environment {
            Environment::Prod => self.prod_topic_prefix.as_deref(),
            Environment::Stg => self.stg_topic_prefix.as_deref(),
        }
    }

    /// Returns the prefix of an environment's topics, which may be empty.
    fn topic_prefix(&self, environment: Environment, broker: &BrokerAddress) -> String {
        let given = self.given_topic_prefix(environment).or_else(|| expected_topic_prefix(broker));
        given.unwrap_or_default().to_owned()
    }

    /// Returns the time that a broker has to confirm a message.
    #[must_use]
    pub fn confirm_timeout(&self) -> Duration {
        Duration::from_secs(self.confirm_timeout.into())
    }

    /// Reads the operator's own CAs. The error names the file and its fault.
    pub fn cas(&self) -> anyhow::Result<OperatorCas> {
        let read = |file: &Option<PathBuf>| file.as_deref().map(operator_ca).transpose();
        Ok(OperatorCas { prod: read(&self.prod_ca_file)?, stg: read(&self.stg_ca_file)? })
    }

    /// Returns the exchange and the topic prefixes.
    #[must_use]
    pub fn routing(&self) -> Routing {
        let Brokers { prod, stg } = self.brokers();
        Routing {
            exchange: self.exchange().to_owned(),
            prod_topic_prefix: self.topic_prefix(Environment::Prod, &prod),
            stg_topic_prefix: self.topic_prefix(Environment::Stg, &stg),
            trace_context: self.trace_context,
            require_sender: false,
        }
    }
}

/// Returns the prefix that consumers of one of Fedora's own brokers expect. On other brokers none is known.
#[must_use]
pub fn expected_topic_prefix(broker: &BrokerAddress) -> Option<&'static str> {
    fedoras_environment(broker).map(|environment| Fedora::of(environment).topic_prefix)
}

/// Returns the environment of one of Fedora's own brokers. On other brokers none is known.
#[must_use]
pub fn fedoras_environment(broker: &BrokerAddress) -> Option<Environment> {
    [Environment::Prod, Environment::Stg].into_iter().find(|it| Fedora::of(*it).host.eq_ignore_ascii_case(&broker.host))
}
