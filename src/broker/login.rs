//! Logs in to a broker over an open transport.

use async_compat::Compat;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use parking_lot::Mutex;

use super::address::BrokerAddress;
use super::transport::{TlsSocket, TlsTokio};
use crate::VERSION;
use fedora_message::message::envelope::FRAME_MAX;

/// The AMQP heartbeat timeout in seconds: a peer that is silent for longer counts as gone.
const HEARTBEAT: u16 = 10;

/// Does the AMQP handshake with the identity in the client certificate (SASL EXTERNAL).
pub(crate) async fn handshake(address: &BrokerAddress, stream: Compat<TlsSocket>) -> lapin::Result<Connection> {
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
    Connection::connector(uri, TlsTokio::current(), connect, client_properties()).await
}

/// Returns the properties that the broker's administrators see. fedora-messaging requires `app` and
/// suggests the others.
fn client_properties() -> ConnectionProperties {
    let property = |properties: ConnectionProperties, (key, value): (&str, &str)| {
        properties.with_client_property(key.into(), value.into())
    };
    [
        ("app", env!("CARGO_PKG_NAME")),
        ("app_version", VERSION),
        ("app_url", env!("CARGO_PKG_REPOSITORY")),
        ("product", env!("CARGO_PKG_NAME")),
    ]
    .into_iter()
    .fold(ConnectionProperties::default().with_connection_name(env!("CARGO_PKG_NAME").into()), property)
}
