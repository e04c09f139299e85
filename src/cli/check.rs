//! The flags of `check`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::ScopeArgs;
use super::broker::BrokerArgs;
use super::schemas::SchemaCheckArgs;
use super::values::{environment, sender};
use fedora_message::api::names::SenderName;
use fedora_message::api::v1alpha1::Environment;

/// Flags of `check`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").args(["env", "sender", "cluster", "schemas", "files"]).required(true).multiple(true)))]
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
    /// Check the cluster: CRDs, admission policies, and the permissions that the operator needs. They depend on the
    /// operator's own flags and variables, which are accepted too
    #[arg(long)]
    pub cluster: bool,
    /// With --cluster: check the permissions of this user, by impersonation. The default is yourself. The
    /// operator is system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", value_name = "USER", requires = "cluster")]
    pub as_user: Option<String>,
    /// Namespaces, delivery, Senders and leader election.
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
