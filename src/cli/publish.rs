//! The flags of `publish`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, ValueEnum};

use super::broker::BrokerArgs;
use super::schemas::SchemaArgs;
use super::values::{environment, namespace, number, object_name};
use crate::commands::publish::assignment::Assignment;
use fedora_message::api::v1alpha1::{Environment, Severity};

/// Flags of `publish`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("input").args(["operands", "files", "topic"]).required(true).multiple(true)))]
#[command(group(ArgGroup::new("resource").args(["print_manifest", "via_cluster"])))]
pub struct PublishArgs {
    /// Files with manifests or recorded messages; - for standard input. With --topic: fields of the body,
    /// each as KEY=VALUE, KEY:int=VALUE, KEY:float=VALUE, KEY:bool=VALUE or KEY:json=VALUE
    #[arg(value_name = "FILE|KEY=VALUE")]
    pub operands: Vec<String>,
    /// Files, as kubectl takes them; - for standard input
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "topic")]
    pub files: Vec<PathBuf>,
    /// Configuration of fedora-messaging (config.toml): broker, certificate, topic prefix, exchange, priority
    /// and client properties. Flags go before it. Recorded messages and --topic find it where the library
    /// does, in /etc/fedora-messaging/config.toml, unless --env or --cert is given
    #[arg(long, env = super::LIBRARY_VARIABLE, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Environment of messages that name none. A configuration names one broker, so beside --conf the URL of
    /// this environment's broker must be given too
    #[arg(long, value_parser = environment(), value_name = "prod|stg")]
    pub env: Option<Environment>,
    /// Show each message as consumers will see it, and send nothing. This needs no broker and no certificate,
    /// but --env or --conf if a message names no environment
    #[arg(long)]
    pub dry_run: bool,
    /// Brokers, exchange and topics.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The client certificate for all messages, instead of the Secrets that they name
    #[command(flatten)]
    pub certificate: OptionalCertificateArgs,
    /// The schemas of messages.
    #[command(flatten)]
    pub schemas: SchemaArgs,
    /// Format of the results
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Maximum number of messages in flight per environment. 1 keeps the order of the messages
    #[arg(long, env = "CONCURRENCY", default_value_t = 64, value_parser = number::<u16>(1..=1024))]
    pub concurrency: u16,
    /// One message, made of flags. This comes last, because its heading applies to all that follow.
    #[command(flatten)]
    pub message: MessageArgs,
}

/// Flags that make one message.
#[derive(Args, Debug)]
#[command(next_help_heading = "One message, made of flags")]
pub struct MessageArgs {
    /// Publish one message with this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// File with the body, a JSON object; - for standard input. Fields of the command line are added to it
    #[arg(long, value_name = "FILE", requires = "topic")]
    pub body_file: Option<PathBuf>,
    /// Header, as KEY=VALUE, KEY:int=VALUE or KEY:bool=VALUE
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = Assignment::parse, requires = "topic")]
    pub headers: Vec<Assignment>,
    /// Severity [default: that of the schema if it is known, else info]
    #[arg(long, value_parser = severity(), requires = "topic")]
    pub severity: Option<Severity>,
    /// Schema, by the name of its entry point
    #[arg(long, value_name = "NAME", requires = "topic")]
    pub schema: Option<String>,
    /// Python package that ships the schema
    #[arg(long, value_name = "NAME", requires = "topic")]
    pub schema_package: Option<String>,
    /// AMQP priority
    #[arg(long, value_parser = number::<u8>(0..=255), requires = "topic")]
    pub priority: Option<u8>,
    /// Print the FedoraMessage instead, for kubectl create -f -
    #[arg(long, requires = "topic", conflicts_with_all = ["dry_run", "output", "ca", "cert", "key"])]
    pub print_manifest: bool,
    /// Create the FedoraMessage in the cluster instead, and leave it to the operator there
    #[arg(long, requires = "topic", conflicts_with_all = ["dry_run", "ca", "cert", "key"])]
    pub via_cluster: bool,
    /// With --via-cluster: wait until the operator has sent the message or given it up
    #[arg(long, requires = "via_cluster")]
    pub wait: bool,
    /// With --wait: the longest time to wait, in seconds. The operator goes on after it
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = number::<u32>(1..=86_400), requires = "wait")]
    pub timeout: u32,
    /// FedoraMessageSender of the FedoraMessage [default: the Sender "default" of the namespace]
    #[arg(long, value_name = "NAME", value_parser = object_name, requires = "resource")]
    pub sender: Option<String>,
    /// Namespace of the FedoraMessage [default: that of the kubeconfig]
    #[arg(short, long, value_parser = namespace, requires = "resource")]
    pub namespace: Option<String>,
    /// Name of the FedoraMessage [default: one generated from the topic]
    #[arg(long, value_parser = object_name, requires = "resource")]
    pub name: Option<String>,
}

impl MessageArgs {
    /// Returns the longest time to wait for the operator.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// Parses a severity by its name.
fn severity() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(["debug", "info", "warning", "error"]).map(|name| match name.as_str() {
        "debug" => Severity::Debug,
        "warning" => Severity::Warning,
        "error" => Severity::Error,
        _ => Severity::Info,
    })
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

impl OptionalCertificateArgs {
    /// Returns CA, certificate and key. clap accepts them only together.
    #[must_use]
    pub fn files(&self) -> Option<[&Path; 3]> {
        Some([self.ca.as_deref()?, self.cert.as_deref()?, self.key.as_deref()?])
    }
}
