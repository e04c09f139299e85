//! `publish`: sends messages from files, with the same steps as the operator but without a cluster.

use std::cell::RefCell;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use chrono::Utc;
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use super::manifests::Manifests;
use crate::broker::credential_cache::CredentialCache;
use crate::broker::credentials::Credentials;
use crate::broker::login::Login;
use crate::broker::pool::Pool;
use crate::cli::{OptionalCertificateArgs, Output, PublishArgs};
use crate::delivery::{Delivery, DeliveryRequest, Identity};
use crate::fence::Fence;
use crate::schema_file::SchemaFile;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::FedoraMessageStatus;
use fedora_message::message::envelope::Routing;
use fedora_message::message::invalid::PrepareError;
use fedora_message::message::outgoing::OutgoingMessage;
use fedora_message::message::prepare::prepare;
use fedora_message::message::secret::{OperatorCas, select};
use fedora_message::message::sender::{SenderError, borrowed};
use fedora_message::policy::outcome::{Attempt, Mode, Outcome, Reason};
use fedora_message::policy::retry::{Decision, decide};
use fedora_message::schema::check::Schemas;
use fedora_message::state::{Facts, MessageState};

/// From this many messages on, a terminal shows a progress bar.
const PROGRESS_FROM: usize = 20;
/// The maximum number of results that are printed with one system call.
const MAX_BATCH: usize = 100;

/// Publishes the messages in the files. Succeeds only if all were sent.
#[must_use]
pub fn main(arguments: &PublishArgs) -> ExitCode {
    let manifests = match read(&arguments.files) {
        Ok(manifests) => manifests,
        Err(detail) => return super::misused(&detail),
    };
    let certificate = match certificate(&arguments.certificate) {
        Ok(certificate) => certificate,
        Err(detail) => return super::misused(&detail),
    };
    let cas = match arguments.broker.cas() {
        Ok(cas) => cas,
        Err(detail) => return super::misused(&detail),
    };
    let schemas = match SchemaFile::open(arguments.schemas.settings()) {
        Ok(file) => file.current(),
        Err(error) => return super::misused(&error.to_string()),
    };
    let publisher = Publisher {
        schemas,
        routing: arguments.broker.routing(),
        delivery: Delivery::Direct(Pool::new(
            arguments.broker.brokers(),
            arguments.broker.confirm_timeout(),
            Fence::always_open(),
            |_| {},
        )),
        credential_cache: CredentialCache::default(),
        certificate,
        cas,
        manifests,
    };
    match super::block_on(publisher.publish_all(arguments.concurrency.into(), arguments.output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => super::fail(&format!("can't start: {error}")),
    }
}

/// Reads manifests from files. At least one has to hold a message.
pub(crate) fn read(files: &[PathBuf]) -> Result<Manifests, String> {
    let mut manifests = Manifests::default();
    for file in files {
        let (place, text) = match file.as_path() {
            path if path == Path::new("-") => ("standard input".to_owned(), standard_input()),
            path => (path.display().to_string(), fs::read_to_string(path)),
        };
        let text = text.map_err(|error| format!("can't read {place}: {}", describe(&error)))?;
        manifests.add(&text, &place)?;
    }
    manifests.resolve();
    match manifests.messages.len() {
        0 => Err("there is no FedoraMessage in the files: add a manifest of one".to_owned()),
        _ => Ok(manifests),
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

fn standard_input() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map(|_| text)
}

fn certificate(arguments: &OptionalCertificateArgs) -> Result<Option<Arc<Credentials>>, String> {
    match arguments {
        OptionalCertificateArgs { ca: Some(ca), cert: Some(cert), key: Some(key) } => {
            super::files::credentials(ca, cert, key).map(Some)
        }
        _ => Ok(None),
    }
}

/// Results as they come: a message with its status.
type Results<'a> = mpsc::UnboundedReceiver<(&'a FedoraMessage, FedoraMessageStatus)>;

struct Publisher {
    schemas: Arc<Schemas>,
    routing: Routing,
    delivery: Delivery,
    credential_cache: CredentialCache,
    /// The certificate for all messages, if one was given.
    certificate: Option<Arc<Credentials>>,
    /// The CAs for Senders and Secrets without one.
    cas: OperatorCas,
    manifests: Manifests,
}

impl Publisher {
    /// Publishes all messages, and prints each result. Returns true if all were sent.
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
        let new = MessageState::default();
        let attempt = match decide(object, &new, Utc::now()) {
            Decision::Attempt => self.attempt(object).await,
            Decision::Report(outcome) => Some(outcome.into()),
            Decision::Rest => None,
        };
        let Some(attempt) = attempt else { return FedoraMessageStatus::default() };
        let facts = Facts {
            routing_key: attempt.routing_key.as_deref(),
            attempts: attempt.mode.is_some().into(),
            mode: attempt.mode,
            ..Facts::default()
        };
        let status = new.next(object, &attempt.outcome, &facts, Utc::now()).to_status(object.uid());
        FedoraMessageStatus { env: object.environment(), ..status }
    }

    /// Makes one attempt. Without a cluster nothing cancels it, and there are no Pods.
    async fn attempt(&self, object: &FedoraMessage) -> Option<Attempt> {
        let sender = self.manifests.sender(object);
        let message = match prepare(object, borrowed(sender.as_ref()), &self.routing, &self.schemas) {
            Ok(message) => message,
            Err(PrepareError::Sender(error)) => return Some(without_cluster(error).into()),
            Err(invalid) => return Some(invalid.into()),
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
            unanswered: false,
            is_cancelled: &|| false,
        };
        self.delivery.send(&request).await.ok()
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
        let ca = self.cas.of(message.environment);
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

/// Says of an absent Sender how it is given without a cluster.
fn without_cluster(error: SenderError) -> Outcome {
    let mut outcome = Outcome::from(error.clone());
    match error {
        SenderError::NoDefault(namespace) => {
            outcome.message = format!(
                "the message names neither spec.senderRef nor spec.authentication, and FedoraMessageSender {namespace}/default is not in the files: add its manifest"
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
            let name = if name.is_empty() { "(no name)" } else { name };
            let [id, reason, message] =
                [&status.message_id, &status.reason, &status.message].map(|field| field.as_deref().unwrap_or_default());
            write!(lines, "{name}  {id}  {reason}: {message}")
        }
    };
    lines.push(b'\n');
}
