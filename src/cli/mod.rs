//! The command line: flags and environment variables. Each is validated when it is parsed.

#![expect(clippy::doc_markdown, reason = "the comments on flags are printed by --help, where backticks disturb")]

mod broker;
mod check;
mod pods;
mod publish;
mod schemas;
mod values;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fedora_message::bounds::DEFAULT_NAMESPACE_METRICS;

pub use self::broker::{BrokerArgs, expected_topic_prefix, fedoras_environment};
pub use self::check::CheckArgs;
use self::pods::PodArgs;
pub use self::publish::{MessageArgs, Output, PublishArgs};
pub use self::schemas::{SchemaArgs, SchemaCheckArgs};
pub(crate) use self::values::topic_prefix;
use self::values::{admin_address, lease_name, namespace, number, watched_namespace};

/// Version and commit, as `--version` prints them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMMIT"), ")");

/// The longest time to live that the CRD allows, in seconds.
const MAX_TTL_SECONDS: u32 = i32::MAX.cast_unsigned();

/// The name for people, and the resource's short name.
const SHORT_NAME: &str = "fmsg";
/// The beginning of the variables of `publish` and `check`.
const VARIABLE_PREFIX: &str = "FEDORA_MESSAGE_";
/// The library's own variable.
const LIBRARY_VARIABLE: &str = "FEDORA_MESSAGING_CONF";

const EXIT_CODES: &str = "\
Exit codes:
  0  success: every message was sent, the check found no fault, the operator was stopped by a signal
  1  failure: a message was not sent (with --wait: not yet), the check failed, the operator can't continue
  2  the command line, or a file that it names, is wrong

Each flag can be set by the environment variable named with it. The flag has precedence.
publish and check read the operator's variables too, without FEDORA_MESSAGE_ at the beginning.";

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

/// Publishes messages to Fedora's RabbitMQ brokers, and checks what that needs.
///
/// This is fedora-message-operator under its short name, for people: it never runs the operator unless told so.
#[derive(Debug, Parser)]
#[command(name = SHORT_NAME, version = VERSION, after_help = EXIT_CODES, max_term_width = 100)]
struct ShortCli {
    #[command(subcommand)]
    command: Command,
}

/// Returns the command that the command line names. Ends the process if it is wrong, or asks for help.
#[must_use]
pub fn parse() -> Command {
    let mut definition = definition();
    let matches = definition.get_matches_mut();
    let parsed = refuse_flags_without_effect(&mut definition, &matches).and_then(|()| {
        if short_name().is_some() {
            ShortCli::from_arg_matches(&matches).map(|short| short.command)
        } else {
            Cli::from_arg_matches(&matches).map(|cli| cli.command.unwrap_or_else(|| Command::Run(Box::new(cli.run))))
        }
    });
    parsed.unwrap_or_else(|error| error.exit())
}

/// Refuses flags of `publish` about sending if it only makes a resource. These flags have variables, which may be set
/// for other calls, and a conflict of clap's would refuse the variables too. The flags of the certificate have none.
fn refuse_flags_without_effect(definition: &mut clap::Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(("publish", given)) = matches.subcommand() else { return Ok(()) };
    let Some(publish) = definition.find_subcommand_mut("publish") else { return Ok(()) };
    if !given.get_flag("print_manifest") && !given.get_flag("via_cluster") {
        return Ok(());
    }
    let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let flag = publish.get_arguments().find(|it| it.get_env().is_some() && is_given(it.get_id().as_str()));
    let Some(flag) = flag.map(ToString::to_string) else { return Ok(()) };
    let detail = format!(
        "the argument '{flag}' cannot be used with '--print-manifest' or '--via-cluster', because the operator sends the message"
    );
    Err(publish.error(ErrorKind::ArgumentConflict, detail))
}

/// Returns the definition of the command line, under the name by which the program was called.
#[must_use]
pub fn definition() -> clap::Command {
    match short_name() {
        Some(name) => short_definition().bin_name(name),
        None => long_definition(),
    }
}

/// Returns the definition of the command line under the program's name.
#[must_use]
pub fn long_definition() -> clap::Command {
    with_variables(Cli::command())
}

/// Returns the definition of the command line under the short name.
#[must_use]
pub fn short_definition() -> clap::Command {
    with_variables(ShortCli::command())
}

/// Returns the short name by which the program was called: as a link to it, or as kubectl's plugin.
fn short_name() -> Option<&'static str> {
    let program = std::env::args_os().next()?;
    match Path::new(&program).file_stem()?.to_str()? {
        SHORT_NAME => Some(SHORT_NAME),
        "kubectl-fmsg" => Some("kubectl fmsg"),
        _ => None,
    }
}

/// Gives the variables of commands for people a beginning of their own. The operator's names are read too,
/// where those are not set.
fn with_variables(definition: clap::Command) -> clap::Command {
    let prefixed = |argument: clap::Arg| {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()) else { return argument };
        let own = format!("{VARIABLE_PREFIX}{name}");
        let only_plain = std::env::var_os(&own).is_none() && std::env::var_os(name).is_some();
        if only_plain || name == LIBRARY_VARIABLE { argument } else { argument.env(own) }
    };
    let commands = ["publish", "check"];
    commands.into_iter().fold(definition, |all, name| all.mut_subcommand(name, |command| command.mut_args(prefixed)))
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
    /// Publish messages without a cluster: manifests, recorded messages, or one made of flags
    ///
    /// Reads FedoraMessage manifests, and the FedoraMessageSenders, Secrets and ConfigMaps that they name,
    /// from YAML or JSON files. Or reads recorded messages, the JSON lines of fedora-messaging, and its
    /// configuration. Or makes a message of flags. Publishes each message as the operator would, and prints
    /// the status that it would have. A message without an id gets a new one each time.
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
    /// Namespaces, delivery, Senders and leader election.
    #[command(flatten)]
    pub scope: ScopeArgs,
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
    /// Maximum number of namespaces with metrics of their own: the messages that were given up, and the age of the
    /// oldest that waits. 0 for none
    #[arg(long, env = "NAMESPACE_METRICS", default_value_t = DEFAULT_NAMESPACE_METRICS, value_name = "COUNT")]
    pub namespace_metrics: u16,
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

/// Flags that decide how the operator uses the cluster, which `check` takes too.
#[derive(Args, Clone, Debug)]
pub struct ScopeArgs {
    /// How messages are delivered
    #[arg(long, env = "DELIVERY_MODE", value_enum, default_value_t = DeliveryMode::Direct)]
    pub delivery_mode: DeliveryMode,
    /// Refuse messages that name a certificate themselves, so that only those who may create Senders decide
    /// which certificates are used
    #[arg(long, env = "REQUIRE_SENDER", value_parser = FalseyValueParser::new(), default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    pub require_sender: bool,
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
        assert_eq!(policy(&["--cli-image", "localhost/cli:1"]), "Never");
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

    /// A FedoraMessage is made, and the operator sends it.
    #[test]
    fn flags_without_effect_are_refused() {
        let publish = |more: &[&str]| -> Result<(), clap::Error> {
            let mut definition = long_definition();
            let all = [&["fedora-message-operator", "publish", "--topic", "a"], more].concat();
            let matches = definition.try_get_matches_from_mut(all)?;
            refuse_flags_without_effect(&mut definition, &matches)
        };
        for about_sending in [
            &["--conf", "a"][..],
            &["--prod-amqp-url", "amqps://broker"],
            &["--schema-catalog", "a"],
            &["--unknown-schemas", "refuse"],
            &["--ca", "a", "--cert", "b", "--key", "c"],
        ] {
            publish(about_sending).unwrap();
            for made in ["--print-manifest", "--via-cluster"] {
                let error = publish(&[about_sending, &[made]].concat()).unwrap_err().to_string();
                assert!(error.contains("cannot be used with") && error.contains(about_sending[0]), "{error}");
                assert!(error.contains(made), "{error}");
            }
        }
        for about_resource in [["--name", "a"], ["--namespace", "a"], ["--sender", "a"]] {
            let error = publish(&about_resource).unwrap_err().to_string();
            assert!(error.contains("--print-manifest") && error.contains("--via-cluster"), "{error}");
            publish(&[&about_resource[..], &["--via-cluster"]].concat()).unwrap();
        }
        publish(&["--via-cluster", "-o", "json"]).unwrap();
        publish(&["--print-manifest", "-o", "json"]).unwrap_err();
        publish(&["--print-manifest", "--via-cluster"]).unwrap_err();
    }

    #[test]
    fn fields_of_pods_are_not_misspelled() {
        let parse = |flag: &str, json: &str| Cli::try_parse_from(["fedora-message-operator", flag, json]);
        for (flag, json, unknown) in [
            ("--pod-resources", r#"{"limit": {"memory": "1Gi"}}"#, "limit"),
            ("--pod-tolerations", r#"[{"key": "a"}, {"keys": "b", "effects": "c"}]"#, "1.keys, 1.effects"),
        ] {
            let error = parse(flag, json).unwrap_err().to_string();
            assert!(error.contains(&format!("has unknown fields: {unknown}; correct")), "{error}");
        }
        let cli = parse("--pod-tolerations", r#"[{"key": "a"}, {"key": "b", "effect": "NoSchedule"}]"#).unwrap();
        assert_eq!(cli.run.pods.settings().tolerations.len(), 2);
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
