//! Reads the library's configuration, `config.toml`.
//!
//! The keys and their meaning are those of fedora-messaging 3.9.1, `config.py` and
//! `twisted/service.py`. Keys for consumers are passed over, and keys for publishers that have no use
//! here are named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use toml::{Table, Value};

use crate::broker::address::BrokerAddress;
use crate::cli::topic_prefix;
use fedora_message::api::sender::ApplicationSpec;
use fedora_message::message::sender::Application;
use fedora_message::text::{MAX_PHRASE, MAX_QUOTE, printable};

/// Where the library looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/fedora-messaging/config.toml";

/// Keys that only consumers use, and those that say how the library logs.
const OF_CONSUMERS: [&str; 9] = [
    "bindings",
    "callback",
    "consumer_config",
    "exchanges",
    "log_config",
    "monitoring",
    "passive_declares",
    "qos",
    "queues",
];
/// The client properties that the library allows nobody to change.
const RESERVED_PROPERTIES: [&str; 3] = ["information", "product", "version"];

/// The settings for publishers in a `config.toml`.
#[derive(Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `amqp_url`, without its user, password and query.
    pub address: BrokerAddress,
    /// `ca_cert`, `certfile` and `keyfile` in `tls`.
    pub certificate: [PathBuf; 3],
    /// `topic_prefix`, which may be empty.
    pub topic_prefix: String,
    /// `publish_exchange`.
    pub exchange: Option<String>,
    /// `publish_priority`.
    pub priority: Option<u8>,
    /// `client_properties`, if there are any.
    pub application: Option<Arc<Application>>,
    /// The keys that have no effect here.
    pub notes: Vec<String>,
}

impl Configuration {
    /// Reads a file. The error names the file, the key and its fault.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let place = path.display();
        let text = fs::read_to_string(path).map_err(|error| anyhow!("can't read {place}: {error}: check the file"))?;
        Self::parse(&text).with_context(|| place.to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut keys, mut notes) = (Keys::parse(text)?, Vec::new());
        let address = address(&mut keys, &mut notes)?;
        let mut tls = keys.section("tls")?;
        let mut file = |key: &str| {
            tls.text(key)?.map(PathBuf::from).with_context(|| {
                format!(
                    "tls.{key} is missing: name the file. The broker is used only with a client certificate and its CA"
                )
            })
        };
        let [ca, cert, key] = ["ca_cert", "certfile", "keyfile"].map(&mut file);
        let certificate = [ca?, cert?, key?];
        tls.note_rest(&mut notes);
        let prefix = keys.text("topic_prefix")?.unwrap_or_default();
        let priority = keys.integer("publish_priority")?.map(u8::try_from).transpose();
        let priority = priority.ok().context("publish_priority must be a whole number from 0 to 255")?;
        let configuration = Self {
            topic_prefix: topic_prefix(&prefix).map_err(|detail| anyhow!("topic_prefix: {detail}"))?,
            exchange: keys.text("publish_exchange")?,
            application: application(&mut keys, &mut notes)?,
            address,
            certificate,
            priority,
            notes: Vec::new(),
        };
        keys.table.retain(|key, _| !OF_CONSUMERS.contains(&key));
        keys.note_rest(&mut notes);
        Ok(Self { notes, ..configuration })
    }
}

/// Reads the broker's address. The parameters of the connection in its query have no effect, most of them not in
/// the library's command either.
fn address(keys: &mut Keys, notes: &mut Vec<String>) -> anyhow::Result<BrokerAddress> {
    let url = keys.text("amqp_url")?.context("amqp_url is missing: add the broker's, for example amqp_url = \"amqps://rabbitmq.fedoraproject.org/%2Fpubsub\"")?;
    let (url, query) = url.split_once('?').unwrap_or((&url, ""));
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        notes.push(format!("{} in amqp_url", printable(name, MAX_QUOTE)));
    }
    url.parse::<BrokerAddress>().context("amqp_url")
}

/// Reads the client properties that Fedora's policy asks for.
fn application(keys: &mut Keys, notes: &mut Vec<String>) -> anyhow::Result<Option<Arc<Application>>> {
    const NO_TEXTS: &str = "client_properties.app_contacts_email must be a list of texts";
    let mut properties = keys.section("client_properties")?;
    let name = properties.text("app")?;
    let contacts = match properties.table.remove("app_contacts_email") {
        None => Vec::new(),
        Some(Value::String(contact)) => vec![contact],
        Some(Value::Array(contacts)) => {
            let texts = contacts.into_iter().map(|contact| match contact {
                Value::String(contact) => Some(contact),
                _ => None,
            });
            texts.collect::<Option<_>>().context(NO_TEXTS)?
        }
        Some(_) => bail!(NO_TEXTS),
    };
    let (version, url) = (properties.text("app_version")?, properties.text("app_url")?);
    properties.table.retain(|key, _| !RESERVED_PROPERTIES.contains(&key));
    properties.note_rest(notes);
    let Some(name) = name else { return Ok(None) };
    let spec = ApplicationSpec { name, version, url, contacts };
    let key = |field: &str| match field {
        "name" => "client_properties.app".to_owned(),
        "contacts" => "client_properties.app_contacts_email".to_owned(),
        field => format!("client_properties.app_{field}"),
    };
    Ok(Some(Arc::new(Application::declared(spec, key)?)))
}

/// A table of the file. Reading a key removes it.
struct Keys {
    /// The beginning of the names of its keys, with a dot.
    path: String,
    table: Table,
}

impl Keys {
    /// Parses a file. The error quotes none of it, because a URL may have a password.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
            let line = before.matches('\n').count() + 1;
            anyhow!("line {line} is not valid TOML: {}", printable(error.message(), MAX_PHRASE))
        })?;
        // The library takes keys in capitals too.
        Ok(Self {
            path: String::new(),
            table: table.into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect(),
        })
    }

    fn text(&mut self, key: &str) -> anyhow::Result<Option<String>> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => bail!("{}{key} must be a text: put it in quotes", self.path),
        }
    }

    fn integer(&mut self, key: &str) -> anyhow::Result<Option<i64>> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(number)),
            Some(_) => bail!("{}{key} must be a whole number", self.path),
        }
    }

    fn section(&mut self, key: &str) -> anyhow::Result<Self> {
        let path = format!("{key}.");
        match self.table.remove(key) {
            None => Ok(Self { path, table: Table::new() }),
            Some(Value::Table(table)) => Ok(Self { path, table }),
            Some(_) => bail!("{key} must be a section: write [{key}]"),
        }
    }

    /// Notes the keys that were not read.
    fn note_rest(&self, notes: &mut Vec<String>) {
        notes.extend(self.table.keys().map(|key| format!("{}{}", self.path, printable(key, MAX_QUOTE))));
    }
}

#[cfg(test)]
mod tests;
