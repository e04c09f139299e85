//! The command line: flags and environment variables. Each is validated when it is parsed.

#![expect(clippy::doc_markdown, reason = "the comments on flags are printed by --help, where backticks disturb")]

mod pods;
mod schemas;
mod values;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::pods::PodArgs;
pub use self::schemas::{SchemaArgs, SchemaCheckArgs};
use self::values::{
    BrokerUrl, admin_address, environment, exchange, lease_name, namespace, number, sender, topic_prefix,
    watched_namespace,
};
use crate::broker::address::BrokerAddress;
use crate::broker::pool::Brokers;
use crate::commands::files::operator_ca;
use fedora_message::api::names::SenderName;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;
use fedora_message::message::secret::OperatorCas;

/// Version and commit, as `--version` prints them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMMIT"), ")");

/// The longest time to live that the CRD allows, in seconds.
const MAX_TTL_SECONDS: u32 = i32::MAX.cast_unsigned();

const EXIT_CODES: &str = "\
Exit codes:
  0  success: every message was sent, the check found no fault, the operator was stopped by a signal
  1  failure: a message was not sent, the check failed, the operator can't continue
  2  the command line, or a file that it names, is wrong

Each flag can be set by the environment variable named with it. The flag has precedence.";

/// Publishes `FedoraMessage` resources to Fedora's RabbitMQ brokers, exactly as the
/// fedora-messaging library would, and records the result in their status.
///
/// Without a command it runs the operator. It finds the cluster by KUBECONFIG or, in a pod, by
/// the pod's service account.
#[derive(Debug, Parser)]
#[command(name = "fedora-message-operator", version = VERSION, after_help = EXIT_CODES)]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    /// The command; `run` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The program's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: send the messages that are applied to the cluster (default)
    Run(Box<RunArgs>),
    /// Print the CRDs, to install them: fedora-message-operator crd | kubectl apply --server-side -f -
    Crd {
        /// Print only this one
        #[arg(value_enum)]
        name: Option<CrdName>,
    },
    /// Publish FedoraMessage manifests from files, without a cluster
    ///
    /// Reads FedoraMessage manifests, and the FedoraMessageSenders, Secrets and ConfigMaps that they name,
    /// from YAML or JSON files.
    /// Publishes each message as the operator would, and prints the status that it would have. A
    /// manifest without metadata.uid gets a new message id each time.
    Publish(Box<PublishArgs>),
    /// Check a broker (--env), a Sender (--sender), the cluster (--cluster) or several, and report each finding, or what failed
    /// and how to fix it
    Check(Box<CheckArgs>),
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The resources that the program defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CrdName {
    /// Messages
    Fedoramessages,
    /// Senders
    Fedoramessagesenders,
}

/// Flags of the operator.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Namespaces, delivery and leader election.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Refuse messages that name a certificate themselves, so that only those who may create Senders decide
    /// which certificates are used
    #[arg(long, env = "REQUIRE_SENDER", value_parser = FalseyValueParser::new(), default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    pub require_sender: bool,
    /// Maximum number of messages in flight per environment. An eighth as many statuses are written concurrently
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = number::<u16>(1..=1024))]
    pub concurrency: u16,
    /// Delete messages this many seconds after they were sent, unless their spec sets another time.
    /// Without this flag they are kept. Messages that were given up are kept in any case, and so are those that
    /// Argo CD, Flux or Helm would create again
    #[arg(long, env = "DEFAULT_TTL_SECONDS_AFTER_FINISHED", value_name = "SECONDS", value_parser = number(0..=MAX_TTL_SECONDS))]
    pub default_ttl_seconds_after_finished: Option<u32>,
    /// Address that serves /metrics, /livez and /readyz. [::] stands for all addresses, of IPv6 and IPv4
    #[arg(long, env = "ADMIN_ADDRESS", default_value = "[::]:8080", value_name = "ADDRESS:PORT", value_parser = admin_address)]
    pub admin_address: SocketAddr,
    /// Format of log lines. The default is text on a terminal, and json elsewhere. RUST_LOG sets
    /// the level, for example info or fedora_message_operator=debug
    #[arg(long, env = "LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// The schemas of messages.
    #[command(flatten)]
    pub schemas: SchemaArgs,
    /// Send traces to this OpenTelemetry collector, by OTLP over HTTP, for example
    /// http://localhost:4318. Without it there are no traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = self::values::collector)]
    pub otlp_endpoint: Option<String>,
    /// Delivery by Pods. These flags come last, because their heading applies to all that follow.
    #[command(flatten)]
    pub pods: PodArgs,
}

/// Flags that decide which permissions the operator needs, and in which namespaces.
#[derive(Args, Clone, Debug)]
pub struct ScopeArgs {
    /// How messages are delivered
    #[arg(long, env = "DELIVERY_MODE", value_enum, default_value_t = DeliveryMode::Direct)]
    pub delivery_mode: DeliveryMode,
    /// Namespaces to watch, separated by commas. The default is all namespaces
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',', value_parser = watched_namespace)]
    watch_namespaces: Vec<String>,
    /// Send only while holding the Lease, so that one of several replicas sends
    #[arg(long, env = "LEADER_ELECT", value_parser = FalseyValueParser::new(), default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    pub leader_elect: bool,
    /// Namespace of the Lease. The default is that of the pod or the kubeconfig
    #[arg(long, env = "LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,
    /// Name of the Lease. Operators with the same Lease elect one leader. The Role names it too
    #[arg(long, env = "LEASE_NAME", value_name = "NAME", default_value = "fedora-message-operator", value_parser = lease_name)]
    pub lease_name: String,
}

impl ScopeArgs {
    /// Returns the namespaces to watch, each once; none stands for all. Two watches on a namespace
    /// would send its messages twice.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.watch_namespaces.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}

/// How messages are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeliveryMode {
    /// The operator publishes each message itself
    Direct,
    /// A Pod that runs the fedora-messaging CLI publishes each message
    Pod,
    /// Direct delivery, and a Pod if that has failed several times
    Fallback,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
}

/// Flags that say where messages go.
#[derive(Args, Clone, Debug)]
pub struct BrokerArgs {
    /// Broker and virtual host of production
    #[arg(
        long,
        env = "PROD_AMQP_URL",
        hide_env_values = true,
        value_parser = BrokerUrl,
        value_name = "URL",
        default_value = "amqps://rabbitmq.fedoraproject.org/%2Fpubsub"
    )]
    pub prod_amqp_url: BrokerAddress,
    /// Broker and virtual host of staging
    #[arg(
        long,
        env = "STG_AMQP_URL",
        hide_env_values = true,
        value_parser = BrokerUrl,
        value_name = "URL",
        default_value = "amqps://rabbitmq.stg.fedoraproject.org/%2Fpubsub"
    )]
    pub stg_amqp_url: BrokerAddress,
    /// Prefix of production's topics, for example org.fedoraproject.prod
    #[arg(long, env = "PROD_TOPIC_PREFIX", value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = topic_prefix)]
    pub prod_topic_prefix: String,
    /// Prefix of staging's topics, for example org.fedoraproject.stg
    #[arg(long, env = "STG_TOPIC_PREFIX", value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = topic_prefix)]
    pub stg_topic_prefix: String,
    /// File with the CA of production's broker, for Senders and Secrets without a CA. It is read once, at
    /// the start
    #[arg(long, env = "PROD_CA_FILE", value_name = "FILE")]
    pub prod_ca_file: Option<PathBuf>,
    /// File with the CA of staging's broker, for Senders and Secrets without a CA
    #[arg(long, env = "STG_CA_FILE", value_name = "FILE")]
    pub stg_ca_file: Option<PathBuf>,
    /// Exchange that messages are published to. It must exist
    #[arg(long, env = "EXCHANGE", default_value = "amq.topic", value_parser = exchange)]
    pub exchange: String,
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
        Brokers { prod: self.prod_amqp_url.clone(), stg: self.stg_amqp_url.clone() }
    }

    /// Returns the time that a broker has to confirm a message.
    #[must_use]
    pub fn confirm_timeout(&self) -> Duration {
        Duration::from_secs(self.confirm_timeout.into())
    }

    /// Reads the operator's own CAs. The error names the file and its fault.
    pub fn cas(&self) -> Result<OperatorCas, String> {
        let read = |file: &Option<PathBuf>| file.as_deref().map(operator_ca).transpose();
        Ok(OperatorCas { prod: read(&self.prod_ca_file)?, stg: read(&self.stg_ca_file)? })
    }

    /// Returns the exchange and the topic prefixes.
    #[must_use]
    pub fn routing(&self) -> Routing {
        Routing {
            exchange: self.exchange.clone(),
            prod_topic_prefix: self.prod_topic_prefix.clone(),
            stg_topic_prefix: self.stg_topic_prefix.clone(),
            trace_context: self.trace_context,
            require_sender: false,
        }
    }
}

/// Flags of `publish`.
#[derive(Args, Debug)]
pub struct PublishArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Files with manifests, each with any number of YAML documents or JSON objects; - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The client certificate for all messages, instead of the Secrets that they name
    #[command(flatten)]
    pub certificate: OptionalCertificateArgs,
    /// The schemas of messages.
    #[command(flatten)]
    pub schemas: SchemaArgs,
    /// Format of the results
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Maximum number of messages in flight per environment
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = number::<u16>(1..=1024))]
    pub concurrency: u16,
}

/// The format of the results of `publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people
    Text,
    /// One JSON object per message
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
#[command(group(ArgGroup::new("what").args(["env", "sender", "cluster", "schemas", "schema"]).required(true).multiple(true)))]
pub struct CheckArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Environment whose broker is checked
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
    /// Sender whose certificate, broker and exchange are checked, with the Secrets that it names in the
    /// cluster
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = sender, conflicts_with = "env")]
    pub sender: Option<SenderName>,
    /// Check the cluster: CRDs, admission policy, and the permissions that the operator needs. They depend on the
    /// operator's own flags and variables, which are accepted too
    #[arg(long)]
    pub cluster: bool,
    /// With --cluster: check the permissions of this user, by impersonation. The default is yourself. The
    /// operator is system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", value_name = "USER", requires = "cluster")]
    pub as_user: Option<String>,
    /// Namespaces, delivery and leader election.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Schemas, and files that are checked against them.
    #[command(flatten)]
    pub schemas: SchemaCheckArgs,
}

impl CheckArgs {
    /// Returns the broker to check, with CA, certificate and key. clap accepts them only together.
    #[must_use]
    pub fn broker_to_check(&self) -> Option<(Environment, [&Path; 3])> {
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
    fn local_image_is_not_pulled() {
        let policy = |flags: &[&str]| {
            let cli = Cli::try_parse_from([&["fedora-message-operator"], flags].concat()).unwrap();
            cli.run.pods.settings().image_pull_policy
        };
        assert_eq!(policy(&[]), "Never");
        assert_eq!(policy(&["--cli-image", "registry.example/cli:1"]), "IfNotPresent");
        assert_eq!(policy(&["--cli-image-pull-policy", "Always"]), "Always");
    }

    #[test]
    fn a_namespace_is_watched_once() {
        let flags = ["--watch-namespaces", "b,a,b", "--watch-namespaces", "a"];
        let cli = Cli::try_parse_from([&["fedora-message-operator"], &flags[..]].concat()).unwrap();
        assert_eq!(cli.run.scope.namespaces(), ["a", "b"]);
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
