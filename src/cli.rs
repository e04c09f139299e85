//! The command line: flags and environment variables, each checked where it is read, so that what
//! comes out can be trusted.

#![expect(clippy::doc_markdown, reason = "the comments on flags are printed by --help, where backticks disturb")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::broker::address::BrokerAddress;
use crate::broker::pool::Brokers;
use crate::message::envelope::Routing;
use crate::message::resource::Environment;
use crate::message::validate::valid_topic;

/// Version and commit, as `--version` prints them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMMIT"), ")");

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
    Run(RunArgs),
    /// Print the CRD, to install it: fedora-message-operator crd | kubectl apply --server-side -f -
    Crd,
    /// Publish FedoraMessage manifests from files, without any cluster
    ///
    /// Reads FedoraMessage manifests, and the Secrets they name, from YAML or JSON files, publishes
    /// each as the operator would, and prints what its status would be. A manifest without
    /// metadata.uid gets a new message id each time.
    Publish(PublishArgs),
    /// Connect to a broker and say what is found there, or which step failed and what to do
    Check(CheckArgs),
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
    /// How messages are delivered
    #[arg(long, env = "DELIVERY_MODE", value_enum, default_value_t = DeliveryMode::Direct)]
    pub delivery_mode: DeliveryMode,
    /// Namespaces to watch, separated by commas; all if none are given
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// How many messages of an environment are under way at a time
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// Where /livez and /readyz are served
    #[arg(long, env = "ADMIN_ADDRESS", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub admin_address: SocketAddr,
    /// How log lines are written; text on a terminal, json elsewhere, unless given. RUST_LOG sets
    /// the level, for example info or fedora_message_operator=debug
    #[arg(long, env = "LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// How messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeliveryMode {
    /// The operator publishes them itself.
    Direct,
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
        value_name = "URL",
        default_value = "amqps://rabbitmq.fedoraproject.org/%2Fpubsub"
    )]
    pub prod_amqp_url: BrokerAddress,
    /// Staging's broker and virtual host
    #[arg(
        long,
        env = "STG_AMQP_URL",
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
    /// How many seconds a broker has to confirm a message, before it is sent again
    #[arg(long, env = "CONFIRM_TIMEOUT", default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
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
    /// How results are printed: text for people, json for one object a message
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// How many messages of an environment are under way at a time
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
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
pub struct CheckArgs {
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The environment whose broker is checked
    #[arg(long, value_parser = environment, value_name = "prod|stg")]
    pub env: Environment,
    /// File with the CA certificates that the broker's certificate is checked against
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// File with the client certificate
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// File with the client certificate's private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

fn environment(name: &str) -> Result<Environment, String> {
    Environment::ALL
        .into_iter()
        .find(|environment| environment.name() == name)
        .ok_or_else(|| "there are prod and stg".to_owned())
}

/// A prefix is a topic, but for dots at its end, which the library allows too.
fn topic_prefix(prefix: &str) -> Result<String, String> {
    match prefix.trim_end_matches('.') {
        "" => Ok(String::new()),
        prefix => valid_topic(prefix).map(|()| prefix.to_owned()).map_err(|words| format!("the prefix {words}")),
    }
}

fn exchange(name: &str) -> Result<String, String> {
    match name.len() {
        1..=255 => Ok(name.to_owned()),
        length => Err(format!("an exchange's name has 1 to 255 bytes, not {length}")),
    }
}

fn namespace(name: &str) -> Result<String, String> {
    let label = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if label {
        Ok(name.to_owned())
    } else {
        Err("a namespace's name has 1 to 63 lower case letters, digits and dashes".to_owned())
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
    fn a_wrong_flag_says_what_would_be_right() {
        for (arguments, words) in [
            (vec!["--prod-amqp-url", "amqp://localhost"], "amqps://"),
            (vec!["--prod-topic-prefix", "org..fedora"], "doubled dots"),
            (vec!["--watch-namespaces", "a,B"], "lower case"),
            (vec!["--exchange", ""], "1 to 255"),
        ] {
            let error =
                Cli::try_parse_from([vec!["fedora-message-operator"], arguments].concat()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
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
}
