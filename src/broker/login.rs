//! Logs in to a broker over an open transport.

use std::sync::Arc;

use async_compat::Compat;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use parking_lot::Mutex;

use super::address::BrokerAddress;
use super::credentials::{Credentials, Fingerprint, hash};
use super::transport::{TlsSocket, TlsTokio};
use crate::VERSION;
use fedora_message::message::envelope::FRAME_MAX;
use fedora_message::message::sender::Application;

/// The AMQP heartbeat timeout in seconds: a peer that is silent for longer counts as gone.
const HEARTBEAT: u16 = 10;

/// The identity of a connection: who logs in, and for which application.
#[derive(Clone, Debug)]
pub struct Login {
    /// The client certificate.
    pub credentials: Arc<Credentials>,
    /// The application that the broker's administrators see.
    pub application: Arc<Application>,
}

impl Login {
    /// Identifies the login. Messages with the same share a connection.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let application = self.application.texts().map(str::as_bytes);
        hash(std::iter::once(self.credentials.fingerprint.as_slice()).chain(application))
    }
}

/// Does the AMQP handshake with the identity in the client certificate (SASL EXTERNAL).
pub(crate) async fn handshake(
    address: &BrokerAddress,
    application: &Application,
    stream: Compat<TlsSocket>,
) -> lapin::Result<Connection> {
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQPS,
        authority: AMQPAuthority { host: address.host.clone(), port: address.port, ..AMQPAuthority::default() },
        vhost: address.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT),
            // lapin allocates 32 frames in each direction. A broker without a limit, or with a
            // large one, must not decide how much memory that takes.
            frame_max: Some(FRAME_MAX),
            auth_mechanism: Some(SASLMechanism::External),
            ..AMQPQueryString::default()
        },
    };
    let stream = Mutex::new(Some(stream));
    let connect = async move |_, _| match stream.lock().take() {
        Some(stream) => Ok(AsyncTcpStream::Plain(stream)),
        None => Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into()),
    };
    Connection::connector(uri, TlsTokio::current(), connect, client_properties(application)).await
}

/// Returns the properties that the broker's administrators see. fedora-messaging requires `app` and
/// suggests the others. It has a list of contacts, but lapin can send only text.
fn client_properties(Application { name, version, url, contacts, .. }: &Application) -> ConnectionProperties {
    let contacts = Some(contacts.join(", ")).filter(|contacts| !contacts.is_empty());
    let properties = [
        ("app", Some(name.as_str())),
        ("app_version", version.as_deref()),
        ("app_url", url.as_deref()),
        ("app_contacts_email", contacts.as_deref()),
        ("product", Some(env!("CARGO_PKG_NAME"))),
        ("version", Some(VERSION)),
    ];
    let given = properties.into_iter().filter_map(|(key, value)| Some((key, value?)));
    given.fold(ConnectionProperties::default().with_connection_name(name.as_str().into()), |all, (key, value)| {
        all.with_client_property(key.into(), value.into())
    })
}
