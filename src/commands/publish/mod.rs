//! `publish`: sends messages from files or flags, with the same steps as the operator but without a cluster.

pub mod assignment;
mod config;
mod flags;
mod in_cluster;
mod manifest;
mod preview;

use std::cell::RefCell;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use self::config::{Configuration, DEFAULT_PATH};
use super::manifests::{Manifests, completed, recorded};
use crate::broker::address::BrokerAddress;
use crate::broker::credential_cache::CredentialCache;
use crate::broker::credentials::Credentials;
use crate::broker::login::Login;
use crate::broker::pool::{Brokers, Pool};
use crate::cli::{BrokerArgs, Output, PublishArgs, expected_topic_prefix, fedoras_environment};
use crate::delivery::{Delivery, DeliveryRequest, Identity};
use crate::fence::Fence;
use crate::schema_file::SchemaFile;
use fedora_message::api::names::{DEFAULT_SENDER, SenderName};
use fedora_message::api::object::{FedoraMessage, Metadata};
use fedora_message::api::v1alpha1::{Environment, FedoraMessageSpec, FedoraMessageStatus};
use fedora_message::message::envelope::Routing;
use fedora_message::message::invalid::PrepareError;
use fedora_message::message::outgoing::OutgoingMessage;
use fedora_message::message::prepare::prepare;
use fedora_message::message::secret::{OperatorCas, select};
use fedora_message::message::sender::{Application, Sender, SenderError, borrowed};
use fedora_message::policy::outcome::{Attempt, Mode, Outcome, Reason};
use fedora_message::policy::retry::{Decision, decide};
use fedora_message::schema::check::Schemas;
use fedora_message::state::{Facts, MessageState};

/// From this many messages on, a terminal shows a progress bar.
const PROGRESS_FROM: usize = 20;
/// The maximum number of results that are printed with one system call.
const MAX_BATCH: usize = 100;

/// Publishes the messages in the files, or the one that the flags make. Succeeds only if all were sent.
#[must_use]
pub fn main(arguments: &PublishArgs) -> ExitCode {
    match run(arguments) {
        Ok(code) => code,
        Err(error) => super::misused(&error),
    }
}

fn run(arguments: &PublishArgs) -> anyhow::Result<ExitCode> {
    let input = match flags::spec(arguments)? {
        Some(spec) if arguments.message.print_manifest => return Ok(manifest::print(&arguments.message, &spec)),
        Some(spec) if arguments.message.via_cluster => return Ok(in_cluster::main(arguments, &spec)),
        Some(spec) => Input::of_flags(&spec)?,
        None => {
            let operands = arguments.operands.iter().map(PathBuf::from);
            read(&arguments.files.iter().cloned().chain(operands).collect::<Vec<_>>())?
        }
    };
    let publisher = Publisher::new(arguments, input)?;
    if arguments.dry_run {
        return Ok(publisher.preview_all(arguments.output));
    }
    Ok(match super::block_on(publisher.publish_all(arguments.concurrency.into(), arguments.output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => super::fail(&error),
    })
}

/// The messages to publish.
pub(crate) struct Input {
    /// The messages, and the objects that they name.
    pub(crate) manifests: Manifests,
    /// True if the messages are plain: recorded, or made of flags. They name no Sender and no Secret.
    pub(crate) is_plain: bool,
}

impl Input {
    fn of_flags(spec: &FedoraMessageSpec) -> anyhow::Result<Self> {
        let message = FedoraMessage::of_spec(completed(Metadata::default()), spec);
        let messages = vec![message.context("the message can't be written as JSON")?];
        Ok(Self { manifests: Manifests { messages, ..Manifests::default() }, is_plain: true })
    }
}

/// Reads files: all with manifests, or all with recorded messages. At least one has to hold a message.
pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Input> {
    let mut manifests = Manifests::default();
    let mut kinds = Vec::new();
    for file in files {
        let (place, text) = read_text(file)?;
        let is_recorded = recorded::is_recorded(&text);
        if is_recorded {
            manifests.messages.extend(recorded::read(&text, &place)?);
        } else {
            manifests.add(&text, &place)?;
        }
        kinds.push(is_recorded);
    }
    let is_plain = kinds.first().copied().unwrap_or_default();
    let are_alike = kinds.iter().all(|is_recorded| *is_recorded == is_plain);
    ensure!(are_alike, "some files have recorded messages, others manifests: publish them one after the other");
    manifests.resolve();
    ensure!(!manifests.messages.is_empty(), "there is no FedoraMessage in the files: add a manifest of one");
    Ok(Input { manifests, is_plain })
}

/// Reads a file, or standard input for `-`. Returns its name too.
fn read_text(file: &Path) -> anyhow::Result<(String, String)> {
    let (place, text) = match file {
        path if path == Path::new("-") => ("standard input".to_owned(), io::read_to_string(io::stdin())),
        path => (path.display().to_string(), fs::read_to_string(path)),
    };
    match text {
        Ok(text) => Ok((place, text)),
        Err(error) => bail!("can't read {place}: {}", describe(&error)),
    }
}

/// Says why a file can't be read, and what to do.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "it is not UTF-8 text: give a YAML or JSON file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory: give the files in it".to_owned(),
        _ => format!("{error}: check the file's name"),
    }
}

/// Results as they come: a message with its status.
type Results<'a> = mpsc::UnboundedReceiver<(&'a FedoraMessage, FedoraMessageStatus)>;

struct Publisher {
    schemas: Arc<Schemas>,
    brokers: Brokers,
    routing: Routing,
    delivery: Delivery,
    credential_cache: CredentialCache,
    /// The certificate for all messages, if one was given.
    certificate: Option<Arc<Credentials>>,
    /// Takes the place of a Sender that the files lack, if there is a certificate for all messages.
    stand_in: Option<StandIn>,
    /// The CAs for Senders and Secrets without one.
    cas: OperatorCas,
    manifests: Manifests,
}

/// The settings for messages that name no Sender, and no Secret either.
struct StandIn {
    /// The environment of messages that name none.
    environment: Option<Environment>,
    application: Arc<Application>,
    priority: Option<u8>,
}

impl StandIn {
    /// Returns the Sender of this name for a message, if its environment is known.
    fn sender(&self, name: &SenderName, object: &FedoraMessage) -> Option<Sender> {
        let environment = object.environment().or(self.environment)?;
        let mut sender = Sender::assumed(name.clone(), environment);
        sender.application = self.application.clone();
        sender.priority = self.priority;
        Some(sender)
    }
}

impl Publisher {
    fn new(arguments: &PublishArgs, input: Input) -> anyhow::Result<Self> {
        let of_flags = arguments.certificate.files();
        let may_default = input.is_plain && of_flags.is_none() && arguments.env.is_none();
        let configuration = configuration(arguments, may_default)?;
        let broker = broker(&arguments.broker, configuration.as_ref());
        let files = of_flags.or_else(|| Some(configuration.as_ref()?.certificate.each_ref().map(PathBuf::as_path)));
        let certificate = files.map(|[ca, cert, key]| super::files::credentials(ca, cert, key)).transpose()?;
        let configured = configuration.as_ref().map(|it| fedoras_environment(&it.address).unwrap_or(Environment::Prod));
        let environment = arguments.env.or(configured);
        if input.is_plain && certificate.is_none() && !arguments.dry_run {
            bail!(
                "there is no certificate to publish with: give the library's configuration (--conf FILE, or {DEFAULT_PATH} without --env), or --env, --ca, --cert and --key"
            );
        }
        if input.is_plain && environment.is_none() {
            bail!(
                "it is not known which broker gets the message: give --env prod or --env stg, or the library's configuration (--conf FILE)"
            );
        }
        let stand_in = (certificate.is_some() || arguments.dry_run).then(|| StandIn {
            environment,
            application: configuration
                .as_ref()
                .and_then(|configuration| configuration.application.clone())
                .unwrap_or_else(|| Application::named(env!("CARGO_PKG_NAME").to_owned()).into()),
            priority: configuration.as_ref().and_then(|configuration| configuration.priority),
        });
        let brokers = broker.brokers();
        let pool = Pool::new(brokers.clone(), broker.confirm_timeout(), Fence::always_open(), |_| {});
        Ok(Self {
            schemas: SchemaFile::open(arguments.schemas.settings())?.current(),
            brokers,
            routing: broker.routing(),
            delivery: Delivery::Direct(pool),
            credential_cache: CredentialCache::default(),
            certificate,
            stand_in,
            cas: broker.cas()?,
            manifests: input.manifests,
        })
    }

    /// Publishes all messages, and prints each result. Returns true if all were sent.
    ///
    /// A few workers are faster than a stream with a future for each message (docs/measurements.md).
    async fn publish_all(&self, concurrency: usize, output: Output) -> bool {
        let messages = &self.manifests.messages;
        let waiting = RefCell::new(messages.iter());
        let next = || waiting.borrow_mut().next();
        let (sender, results) = mpsc::unbounded_channel();
        let publish = async {
            let workers = (0..concurrency.min(messages.len())).map(async |_| {
                while let Some(message) = next() {
                    // The receiver lives until there is no sender.
                    let _ = sender.send((message, self.publish(message).await));
                }
            });
            join_all(workers).await;
            drop(sender);
        };
        let ((), all_sent) = tokio::join!(publish, report(results, messages.len(), output));
        self.delivery.close().await;
        all_sent
    }

    /// Publishes a message, and returns its status as the operator would write it.
    async fn publish(&self, object: &FedoraMessage) -> FedoraMessageStatus {
        let attempt = match decide(object, &MessageState::default(), Utc::now()) {
            Decision::Attempt => self.attempt(object).await,
            Decision::Report(outcome) => Some(outcome.into()),
            Decision::Rest => None,
        };
        attempt.map_or_else(FedoraMessageStatus::default, |attempt| status(object, &attempt))
    }

    /// Makes one attempt. Without a cluster nothing cancels it, and there are no Pods.
    async fn attempt(&self, object: &FedoraMessage) -> Option<Attempt> {
        let message = match self.prepare(object) {
            Ok(message) => message,
            Err(outcome) => return Some(outcome.into()),
        };
        let identity = match self.identify(&message) {
            Ok(identity) => identity,
            Err(outcome) => return Some(Attempt { routing_key: Some(message.routing_key), ..outcome.into() }),
        };
        let request = DeliveryRequest {
            object,
            message: &message,
            exchange: &self.routing.exchange,
            identity: &identity,
            attempts: 0,
            mode: Mode::Direct,
            woken_early: None,
            is_cancelled: &|| false,
        };
        self.delivery.send(&request).await.ok()
    }

    /// Validates a message, and the broker that it would go to.
    fn prepare(&self, object: &FedoraMessage) -> Result<OutgoingMessage, Outcome> {
        let sender = self.sender(object);
        let prepared = prepare(object, borrowed(sender.as_ref()), &self.routing, &self.schemas);
        let message = prepared.map_err(|error| match error {
            PrepareError::Sender(error) => without_cluster(error),
            invalid => invalid.into(),
        })?;
        match wrong_broker(message.environment, self.brokers.of(message.environment)) {
            Some(message) => Err(Outcome { reason: Reason::InvalidMessage, message }),
            None => Ok(message),
        }
    }

    /// Returns the Sender that a message names, or what stands in for the Sender `default` of the files.
    fn sender(&self, object: &FedoraMessage) -> Option<Result<Arc<Sender>, SenderError>> {
        let found = self.manifests.sender(object)?;
        let stand_in = match &found {
            Err(SenderError::Absent(name)) if name.name == DEFAULT_SENDER => {
                self.stand_in.as_ref().and_then(|stand_in| stand_in.sender(name, object))
            }
            _ => None,
        };
        Some(stand_in.map_or(found, |sender| Ok(Arc::new(sender))))
    }

    /// Returns the identity that the command line or the Secrets in the files give.
    fn identify(&self, message: &OutgoingMessage) -> Result<Identity, Outcome> {
        let credentials = match &self.certificate {
            Some(certificate) => certificate.clone(),
            None => self.credentials(message)?,
        };
        let login = Login { credentials, application: message.application.clone() };
        Ok(Identity { login, secrets: Vec::new(), warning: None })
    }

    fn credentials(&self, message: &OutgoingMessage) -> Result<Arc<Credentials>, Outcome> {
        let secrets = &self.manifests.secrets;
        let secrets: Vec<_> = message.authentication.sources().map(|name| secrets.get(name).cloned()).collect();
        let ca = self.cas.of(message.environment).as_ref();
        let material = select(&message.authentication, &message.owner, &secrets, ca)
            .map_err(|error| self.secret_without_cluster(error.into(), message))?;
        Ok(self.credential_cache.credentials(&material, Utc::now())?)
    }

    /// Adds to an absent Secret how it is given without a cluster.
    fn secret_without_cluster(&self, mut outcome: Outcome, message: &OutgoingMessage) -> Outcome {
        if outcome.reason == Reason::SecretNotFound {
            let absent = message.authentication.sources().find(|name| !self.manifests.secrets.contains_key(name));
            match absent {
                Some(name) => {
                    outcome.message =
                        format!("{name} is not in the files: add its manifest, or give --ca, --cert and --key");
                }
                None => outcome.message += ", or give --ca, --cert and --key",
            }
        }
        outcome
    }
}

/// Returns the status that a message has after its first attempt.
fn status(object: &FedoraMessage, attempt: &Attempt) -> FedoraMessageStatus {
    let facts = Facts {
        routing_key: attempt.routing_key.as_deref(),
        attempts: attempt.mode.is_some().into(),
        mode: attempt.mode,
        ..Facts::default()
    };
    let state = MessageState::default().next(object, &attempt.outcome, &facts, Utc::now());
    FedoraMessageStatus { env: object.environment(), ..state.to_status(object.uid()) }
}

/// Describes the fault if a message of this environment would go to Fedora's broker of the other one.
fn wrong_broker(environment: Environment, broker: &BrokerAddress) -> Option<String> {
    let other = fedoras_environment(broker).filter(|other| *other != environment)?;
    Some(format!(
        "the message is for {environment}, but would go to {broker}, which is Fedora's broker for {other}: correct its environment, or give a configuration or --{environment}-amqp-url for {environment}"
    ))
}

/// Reads the library's configuration, if one is named. Otherwise `may_default` says if the library's own place is
/// looked at. Reports what has no effect.
fn configuration(arguments: &PublishArgs, may_default: bool) -> anyhow::Result<Option<Configuration>> {
    let default = Path::new(DEFAULT_PATH);
    let path = match &arguments.conf {
        Some(path) => path,
        None if may_default && default.exists() => default,
        None => return Ok(None),
    };
    if let Some(environment) = arguments.env
        && arguments.broker.given_broker(environment).is_none()
    {
        bail!(
            "--env {environment} and the configuration {} (--conf or FEDORA_MESSAGING_CONF) both name a broker: remove one of them, or add --{environment}-amqp-url",
            path.display()
        );
    }
    let configuration = Configuration::read(path)?;
    if !configuration.notes.is_empty() {
        super::note(&format!("{}: not used here: {}", path.display(), configuration.notes.join(", ")));
    }
    if let Some(prefix) =
        expected_topic_prefix(&configuration.address).filter(|_| configuration.topic_prefix.is_empty())
    {
        super::note(&format!(
            "{} has no topic_prefix, so topics are sent as they stand; consumers expect {prefix} before them",
            path.display()
        ));
    }
    Ok(Some(configuration))
}

/// Adds to the flags what the configuration says and they do not.
fn broker(flags: &BrokerArgs, configuration: Option<&Configuration>) -> BrokerArgs {
    let mut broker = flags.clone();
    if let Some(Configuration { address, topic_prefix, exchange, .. }) = configuration {
        for url in [&mut broker.prod_amqp_url, &mut broker.stg_amqp_url] {
            url.get_or_insert_with(|| address.clone());
        }
        for prefix in [&mut broker.prod_topic_prefix, &mut broker.stg_topic_prefix] {
            prefix.get_or_insert_with(|| topic_prefix.clone());
        }
        broker.exchange = broker.exchange.or_else(|| exchange.clone());
    }
    broker
}

/// Says of an absent Sender how it is given without a cluster.
fn without_cluster(error: SenderError) -> Outcome {
    let mut outcome = Outcome::from(error.clone());
    match error {
        SenderError::NoDefault(namespace) => {
            outcome.message = format!(
                "the message names neither spec.senderRef nor spec.authentication, and FedoraMessageSender {namespace}/default is not in the files: add its manifest, or give --env, --ca, --cert and --key"
            );
        }
        SenderError::Absent(sender) => outcome.message = format!("{sender} is not in the files: add its manifest"),
        SenderError::NotHeld { .. }
        | SenderError::Denied { .. }
        | SenderError::Invalid { .. }
        | SenderError::Unreadable { .. } => {}
    }
    outcome
}

/// Prints the result of each message. Returns true if all were sent.
async fn report(mut results: Results<'_>, messages: usize, output: Output) -> bool {
    let bar = progress(messages, output);
    let (mut all_sent, mut batch, mut lines) = (true, Vec::new(), Vec::new());
    // Results are printed in batches, because a system call costs as much as a message.
    while results.recv_many(&mut batch, MAX_BATCH).await > 0 {
        bar.inc(batch.len() as u64);
        for (message, status) in batch.drain(..) {
            all_sent &= status.status == Some(true);
            write_line(&mut lines, message, &status, output);
        }
        bar.suspend(|| super::print(&lines));
        lines.clear();
    }
    bar.finish_and_clear();
    all_sent
}

/// Returns a progress bar, which is hidden for few messages, without a terminal, and for JSON.
fn progress(messages: usize, output: Output) -> ProgressBar {
    if messages < PROGRESS_FROM || output == Output::Json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(messages as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Writes the line of one message.
fn write_line(lines: &mut Vec<u8>, message: &FedoraMessage, status: &FedoraMessageStatus, output: Output) {
    #[derive(Serialize)]
    struct Line<'a> {
        namespace: &'a str,
        name: &'a str,
        status: &'a FedoraMessageStatus,
    }
    let (namespace, name) = (message.namespace(), message.name());
    // A write to memory does not fail.
    let _ = match output {
        Output::Json => serde_json::to_writer(&mut *lines, &Line { namespace, name, status }).map_err(Into::into),
        Output::Text => {
            // A plain message has no name.
            let name = if name.is_empty() { status.routing_key.as_deref().unwrap_or("-") } else { name };
            let [id, reason, message] =
                [&status.message_id, &status.reason, &status.message].map(|field| field.as_deref().unwrap_or_default());
            write!(lines, "{name}  {id}  {reason}: {message}")
        }
    };
    lines.push(b'\n');
}

#[cfg(test)]
mod tests;
