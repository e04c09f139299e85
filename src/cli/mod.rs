//! The command line: flags and environment variables, each checked where it is read, so that what
//! comes out can be trusted.

#![expect(clippy::doc_markdown, reason = "the comments on flags are printed by --help, where backticks disturb")]

mod pods;
mod schemas;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;

use self::pods::PodArgs;
pub use self::schemas::{SchemaArgs, SchemaCheckArgs};
use self::values::{BrokerUrl, environment, exchange, lease_name, namespace, topic_prefix, watched_namespace};
use crate::broker::address::BrokerAddress;
use crate::broker::pool::Brokers;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;

/// Version and commit, as `--version` prints them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMMIT"), ")");

/// The longest time to live that the CRD allows, in seconds.
const MAX_TTL_SECONDS: i64 = i32::MAX as i64;

const EXIT_CODES: &str = "\
Exit codes:
  0  all went well: every message was sent, the check found nothing wrong, the operator was told to stop
  1  it did not: a message was not sent, the check failed, the operator can't go on
  2  the command line, or a file it names, is wrong

Every flag can be given as the environment variable named with it; the flag wins.";

/// Publishes `FedoraMessage` resources to Fedora's RabbitMQ brokers, exactly as the
/// fedora-messaging library would, and records in their status what became of them.
///
/// Without a command it runs the operator. The cluster comes from KUBECONFIG or, in a pod, from
/// its service account.
#[derive(Debug, Parser)]
#[command(name = "fedora-message-operator", version = VERSION, after_help = EXIT_CODES)]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    /// What to do; `run` unless given.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: send what is applied to the cluster (default)
    Run(Box<RunArgs>),
    /// Print the CRD, to install it: fedora-message-operator crd | kubectl apply --server-side -f -
    Crd,
    /// Publish FedoraMessage manifests from files, without any cluster
    ///
    /// Reads FedoraMessage manifests, and the Secrets they name, from YAML or JSON files, publishes
    /// each as the operator would, and prints what its status would be. A manifest without
    /// metadata.uid gets a new message id each time.
    Publish(Box<PublishArgs>),
    /// Look at a broker (--env), the cluster (--cluster) or both, and say what is found, or what failed
    /// and what to do
    Check(Box<CheckArgs>),
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Flags of the operator.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Whose messages, and which way.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// How many messages of an environment are under way at a time; an eighth as many statuses are written at a time
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// After how many seconds messages are deleted that were sent or given up, unless they say so
    /// themselves; none unless given
    #[arg(long, env = "DEFAULT_TTL_SECONDS_AFTER_FINISHED", value_name = "SECONDS", value_parser = value_parser!(u32).range(..=MAX_TTL_SECONDS))]
    pub default_ttl_seconds_after_finished: Option<u32>,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, env = "ADMIN_ADDRESS", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub admin_address: SocketAddr,
    /// How log lines are written; text on a terminal, json elsewhere, unless given. RUST_LOG sets
    /// the level, for example info or fedora_message_operator=debug
    #[arg(long, env = "LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// What messages are checked against.
    #[command(flatten)]
    pub schemas: SchemaArgs,
    /// Where traces go: the address of an OpenTelemetry collector that takes OTLP over HTTP, for example
    /// http://localhost:4318; none are made unless given
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = self::values::collector)]
    pub otlp_endpoint: Option<String>,
    /// What is chosen about Pods. The last, for its heading goes on.
    #[command(flatten)]
    pub pods: PodArgs,
}

/// Flags on which it depends what rights the operator needs, and where.
#[derive(Args, Clone, Debug)]
pub struct ScopeArgs {
    /// How messages are delivered
    #[arg(long, env = "DELIVERY_MODE", value_enum, default_value_t = DeliveryMode::Direct)]
    pub delivery_mode: DeliveryMode,
    /// Namespaces to watch, separated by commas; all if none are given
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',', value_parser = watched_namespace)]
    pub watch_namespaces: Vec<String>,
    /// Send only while holding the Lease, so that several replicas can run and one sends
    #[arg(long, env = "LEADER_ELECT", value_parser = FalseyValueParser::new(), default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    pub leader_elect: bool,
    /// The Lease's namespace; the pod's own, or the kubeconfig's, unless given
    #[arg(long, env = "LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,
    /// The Lease's name: operators with the same one take turns
    #[arg(long, env = "LEASE_NAME", value_name = "NAME", default_value = "fedora-message-operator", value_parser = lease_name)]
    pub lease_name: String,
}

/// How messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeliveryMode {
    /// The operator publishes them itself
    Direct,
    /// For each message, a Pod that runs the fedora-messaging CLI
    Pod,
    /// Direct, and a Pod where that has failed several times
    Fallback,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags that say where messages go.
#[derive(Args, Clone, Debug)]
pub struct BrokerArgs {
    /// Production's broker and virtual host
    #[arg(
        long,
        env = "PROD_AMQP_URL",
        hide_env_values = true,
        value_parser = BrokerUrl,
        value_name = "URL",
        default_value = "amqps://rabbitmq.fedoraproject.org/%2Fpubsub"
    )]
    pub prod_amqp_url: BrokerAddress,
    /// Staging's broker and virtual host
    #[arg(
        long,
        env = "STG_AMQP_URL",
        hide_env_values = true,
        value_parser = BrokerUrl,
        value_name = "URL",
        default_value = "amqps://rabbitmq.stg.fedoraproject.org/%2Fpubsub"
    )]
    pub stg_amqp_url: BrokerAddress,
    /// What stands before production's topics, for example org.fedoraproject.prod
    #[arg(long, env = "PROD_TOPIC_PREFIX", value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = topic_prefix)]
    pub prod_topic_prefix: String,
    /// What stands before staging's topics, for example org.fedoraproject.stg
    #[arg(long, env = "STG_TOPIC_PREFIX", value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = topic_prefix)]
    pub stg_topic_prefix: String,
    /// The exchange that messages are published to; it must exist
    #[arg(long, env = "EXCHANGE", default_value = "amq.topic", value_parser = exchange)]
    pub exchange: String,
    /// Give each message a W3C trace context, the header traceparent, within the trace that its sender's header of
    /// that name tells
    #[arg(long, env = "TRACE_CONTEXT")]
    pub trace_context: bool,
    /// How many seconds a broker has to confirm a message, before it is sent again
    #[arg(long, env = "CONFIRM_TIMEOUT", default_value_t = 30, value_name = "SECONDS", value_parser = value_parser!(u16).range(1..))]
    pub confirm_timeout: u16,
}

impl BrokerArgs {
    /// Where each environment's broker is.
    #[must_use]
    pub fn brokers(&self) -> Brokers {
        Brokers { prod: self.prod_amqp_url.clone(), stg: self.stg_amqp_url.clone() }
    }

    /// How long they have to confirm a message.
    #[must_use]
    pub fn confirm_timeout(&self) -> Duration {
        Duration::from_secs(self.confirm_timeout.into())
    }

    /// Where messages go there.
    #[must_use]
    pub fn routing(&self) -> Routing {
        Routing {
            exchange: self.exchange.clone(),
            prod_topic_prefix: self.prod_topic_prefix.clone(),
            stg_topic_prefix: self.stg_topic_prefix.clone(),
            trace_context: self.trace_context,
        }
    }
}

/// Flags of `publish`.
#[derive(Args, Debug)]
pub struct PublishArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Files with manifests, each of any number of YAML documents; - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The client certificate for all messages, instead of the Secrets that they name
    #[command(flatten)]
    pub certificate: OptionalCertificateArgs,
    /// What messages are checked against.
    #[command(flatten)]
    pub schemas: SchemaArgs,
    /// How results are printed: text for people, json for one object a message
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// How many messages of an environment are under way at a time
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
}

/// How `publish` prints results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object a message.
    Json,
}

/// Files with a client certificate: all three or none.
#[derive(Args, Clone, Debug)]
pub struct OptionalCertificateArgs {
    /// File with the CA certificates that the broker's certificate is checked against
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// File with the client certificate
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    pub cert: Option<PathBuf>,
    /// File with the client certificate's private key
    #[arg(long, value_name = "FILE", requires_all = ["ca", "cert"])]
    pub key: Option<PathBuf>,
}

/// Flags of `check`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").args(["env", "cluster", "schemas", "schema"]).required(true).multiple(true)))]
pub struct CheckArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The environment whose broker is checked
    #[arg(long, value_parser = environment(), value_name = "prod|stg", requires_all = ["ca", "cert", "key"])]
    pub env: Option<Environment>,
    /// File with the CA certificates that the broker's certificate is checked against
    #[arg(long, value_name = "FILE", requires = "env")]
    pub ca: Option<PathBuf>,
    /// File with the client certificate
    #[arg(long, value_name = "FILE", requires = "env")]
    pub cert: Option<PathBuf>,
    /// File with the client certificate's private key
    #[arg(long, value_name = "FILE", requires = "env")]
    pub key: Option<PathBuf>,
    /// Check the cluster: CRD, admission policy, and the rights that the operator needs. Takes the
    /// operator's own flags and variables, as these depend on them
    #[arg(long)]
    pub cluster: bool,
    /// With --cluster: whose rights are asked for, by impersonation; your own unless given. The
    /// operator's, for example, as system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", value_name = "USER", requires = "cluster")]
    pub as_user: Option<String>,
    /// Whose messages, and which way.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Schemas, and bodies that are to fit them.
    #[command(flatten)]
    pub schemas: SchemaCheckArgs,
}

impl CheckArgs {
    /// The broker to be checked, with CA, certificate and key; clap sees to it that they come together.
    #[must_use]
    pub fn way_to_broker(&self) -> Option<(Environment, [&Path; 3])> {
        let files = [self.ca.as_deref()?, self.cert.as_deref()?, self.key.as_deref()?];
        Some((self.env?, files))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        let cli = Cli::try_parse_from(["fedora-message-operator", "--concurrency", "7"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.concurrency, 7);
    }

    #[test]
    fn a_password_in_a_url_is_not_printed() {
        for url in ["amqp://me:hunter2@localhost/", "amqps://me:hunter2@localhost:0/"] {
            let error =
                Cli::try_parse_from(["fedora-message-operator", "--stg-amqp-url", url]).unwrap_err().to_string();
            assert!(error.contains("'--stg-amqp-url <URL>': the URL"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn certificate_flags_come_together() {
        let publish =
            |more: &[&str]| Cli::try_parse_from([&["fedora-message-operator", "publish", "-f", "x"], more].concat());
        assert!(publish(&[]).is_ok());
        assert!(publish(&["--ca", "a", "--cert", "b"]).is_err());
        assert!(publish(&["--ca", "a", "--cert", "b", "--key", "c"]).is_ok());
    }

    #[test]
    fn a_check_is_one_of_a_broker_of_the_cluster_or_of_both() {
        let check = |more: &[&str]| Cli::try_parse_from([&["fedora-message-operator", "check"], more].concat());
        let files = ["--ca", "a", "--cert", "b", "--key", "c"];
        assert!(check(&[]).is_err());
        assert!(check(&["--cluster"]).is_ok());
        assert!(check(&["--env", "prod"]).is_err());
        assert!(check(&files).is_err());
        assert!(check(&[&["--cluster"], &files[..]].concat()).is_err());
        assert!(check(&[&["--env", "prod"], &files[..]].concat()).is_ok());
        assert!(check(&[&["--cluster", "--env", "prod"], &files[..]].concat()).is_ok());
        assert!(check(&[&["--as", "me", "--env", "prod"], &files[..]].concat()).is_err());
    }
}
