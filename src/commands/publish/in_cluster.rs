//! `publish --via-cluster`: creates a `FedoraMessage`, and waits until the operator has sent it.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use indicatif::ProgressBar;
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Error, Resource};
use tokio::time::{Instant, sleep};

use super::{manifest, write_line};
use crate::cli::{MessageArgs, Output, PublishArgs};
use crate::cluster::client::describe;
use crate::cluster::inspect::Cluster;
use crate::cluster::list::get;
use crate::commands;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{FedoraMessageSpec, FedoraMessageStatus};
use fedora_message::state::MessageState;

/// The text about a message without a status.
const UNSEEN: &str = "No operator has looked at it yet";
/// The time between two looks at the status.
const INTERVAL: Duration = Duration::from_millis(500);

/// Creates the message, and waits for it if the flags say so. Fails if it is not sent by then.
pub fn main(arguments: &PublishArgs, spec: &FedoraMessageSpec) -> ExitCode {
    match commands::block_on(create_and_wait(arguments, spec)).flatten() {
        Ok(code) => code,
        Err(error) => commands::fail(&error),
    }
}

async fn create_and_wait(arguments: &PublishArgs, spec: &FedoraMessageSpec) -> anyhow::Result<ExitCode> {
    let client = Cluster::open(None).await?.client;
    let message = create(&client, &arguments.message, spec).await?;
    let name = format!("fedoramessage/{} in namespace {}", message.name(), message.namespace());
    let (mut line, seconds) = (Vec::new(), arguments.message.timeout);
    if !arguments.message.wait {
        match arguments.output {
            Output::Json => write_line(&mut line, &message, &FedoraMessageStatus::default(), arguments.output),
            Output::Text => line.extend(format!("{name} created\n").into_bytes()),
        }
        return Ok(commands::print(line));
    }
    // Waiting may fail or be interrupted, and the name may be a generated one.
    commands::note(&format!("{name} was created. Waiting at most {seconds} s until the operator has sent it"));
    let status = wait(&client, &message, arguments.message.timeout()).await?;
    if status.reason.is_none() {
        commands::note(&format!("{name} was not sent within {seconds} s. {UNSEEN}: does one run for this namespace?"));
        return Ok(ExitCode::FAILURE);
    }
    write_line(&mut line, &message, &status, arguments.output);
    commands::print(line);
    if status.status == Some(true) {
        return Ok(ExitCode::SUCCESS);
    }
    if !MessageState::from(status).is_finished() {
        commands::note(&format!("{name} was not sent within {seconds} s. The operator goes on with it"));
    }
    Ok(ExitCode::FAILURE)
}

async fn create(client: &Client, arguments: &MessageArgs, spec: &FedoraMessageSpec) -> anyhow::Result<FedoraMessage> {
    let namespace = arguments.namespace.as_deref().unwrap_or_else(|| client.default_namespace());
    let path = FedoraMessage::url_path(&(), Some(namespace));
    let request = Request::new(path)
        .create(&PostParams::default(), manifest::json(arguments, spec)?)
        .map_err(|error| anyhow!("the FedoraMessage can't be put into a request: {error}"))?;
    client.request(request).await.map_err(|error| match error {
        Error::Api(status) if status.code == 404 => {
            anyhow!("the cluster does not know FedoraMessages, or has no namespace {namespace}: {}", status.message)
        }
        Error::Api(status) => anyhow!("the API server refuses the FedoraMessage: {}", status.message),
        error => anyhow!("the FedoraMessage can't be created: {}", describe(&error)),
    })
}

/// Waits until the message is sent or given up, or the time is over. Returns the last status.
async fn wait(client: &Client, created: &FedoraMessage, longest: Duration) -> anyhow::Result<FedoraMessageStatus> {
    let end = Instant::now() + longest;
    let progress = if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut last = FedoraMessageStatus::default();
    loop {
        match get::<FedoraMessage>(client, created.namespace(), created.name()).await {
            Ok(Some(message)) if message.uid() == created.uid() => {
                last = message.status.map(|status| *status).unwrap_or_default();
                let state = MessageState::from(last.clone());
                if state.is_finished() {
                    break;
                }
                let reason = last.reason.as_deref().unwrap_or(UNSEEN);
                progress.set_message(format!("{}: {reason}", created.name()));
                progress.tick();
            }
            Ok(_) => {
                bail!("fedoramessage/{} was deleted before its status said that it was sent", created.name());
            }
            Err(error) if error.code() == Some(403) => {
                bail!(
                    "{}: the operator goes on, but --wait needs the permission to get FedoraMessages",
                    error.explain()
                );
            }
            // The API server may be back before the time is over.
            Err(error) if Instant::now() >= end => bail!(error.explain()),
            Err(_) => {}
        }
        if Instant::now() >= end {
            break;
        }
        sleep(INTERVAL).await;
    }
    progress.finish_and_clear();
    Ok(last)
}
