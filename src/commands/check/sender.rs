//! Checks a Sender of the cluster: its Secrets, its certificate and its broker, with the user's own
//! permissions.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use chrono::Utc;
use kube::Client;

use super::CheckReport;
use super::broker::{self, CERTIFICATE};
use crate::broker::credential_cache::CredentialCache;
use crate::broker::login::Login;
use crate::cli::BrokerArgs;
use crate::cluster::inspect::Cluster;
use crate::cluster::list::get;
use crate::cluster::secrets::read_source;
use crate::cluster::senders;
use fedora_message::api::names::SenderName;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::message::secret::select;
use fedora_message::message::sender::Sender;

/// Checks the Sender, and then the broker with its certificate.
pub(crate) async fn check(arguments: &BrokerArgs, name: &SenderName, report: &mut CheckReport) {
    let cas = match arguments.cas() {
        Ok(cas) => cas,
        Err(error) => return report.misused("CA", &error),
    };
    let cluster = match Cluster::open(None).await {
        Ok(cluster) => cluster,
        Err(error) => return report.failed("kubeconfig", &error),
    };
    let sender = match find(&cluster.client, name).await {
        Ok(sender) => sender,
        Err(error) => return report.failed("Sender", &error),
    };
    report.found("Sender", &format!("{} sends to {}", sender.name, sender.environment));
    let prefix = match sender.topic_prefix.as_deref() {
        None => format!(
            "the operator's; with the flags of this command: {}",
            broker::topic_prefix(arguments, sender.environment)
        ),
        Some("") => "none: the Sender says so".to_owned(),
        Some(prefix) => format!("{prefix}, the Sender's"),
    };
    let mut secrets = Vec::new();
    for source in sender.authentication.sources() {
        match read_source(&cluster.client, source).await {
            Ok(secret) => secrets.push(secret.map(Arc::new)),
            Err(error) => {
                return report.failed(CERTIFICATE, &format!("{source} could not be read: {}", error.explain()));
            }
        }
    }
    let ca = cas.of(sender.environment).as_ref();
    let credentials = select(&sender.authentication, &name.namespace, &secrets, ca)
        .map_err(anyhow::Error::from)
        .and_then(|pem| Ok(CredentialCache::default().credentials(&pem, Utc::now())?));
    match credentials {
        Ok(credentials) => {
            let login = Login { credentials, application: sender.application.clone() };
            broker::check(arguments, sender.environment, &login, &prefix, report).await;
        }
        Err(error) => report.failed(CERTIFICATE, &error),
    }
}

async fn find(client: &Client, name: &SenderName) -> anyhow::Result<Sender> {
    let found = get::<FedoraMessageSender>(client, &name.namespace, &name.name).await;
    let found = found.map_err(|error| match error.code() {
        Some(404) => anyhow!(senders::explain(&error)),
        _ => anyhow!(error.explain()),
    })?;
    let object = found.with_context(|| format!("{name} does not exist: create it, or correct its name"))?;
    Sender::new(&object).with_context(|| format!("{name} can't be used"))
}
