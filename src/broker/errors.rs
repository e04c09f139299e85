//! Maps errors of RabbitMQ, lapin and rustls to [`BrokerError`] by the phase in which they occur.
//!
//! The same `ACCESS_REFUSED` has one meaning during login and another during a publish.

use std::io;

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error as Lapin, ErrorKind as LapinKind};
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as Rustls};

use super::address::BrokerAddress;
use super::broker_certificate::find_error;
use super::transport::TransportError;
use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message::text::{MAX_DETAIL, printable};

/// The advice if the broker's authorization backend failed.
const CHECK_BACKEND: &str = "its authorization backend fails, so ask the broker's administrators";

/// The reason why a message was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The broker does not answer, or the connection ended.
    #[error("no connection to the broker {broker}: {detail}: check the broker, its URL and the network")]
    Unreachable {
        /// Host and port.
        broker: String,
        /// The message of the operating system or the broker.
        detail: String,
    },
    /// The connection ended after the client wrote the message to it.
    #[error(
        "the connection to the broker {broker} was lost before it confirmed the message ({detail}): it is sent again with the same id, so consumers can detect a duplicate"
    )]
    Lost {
        /// Host and port.
        broker: String,
        /// The message of the operating system or the broker.
        detail: String,
    },
    /// One side does not accept the other's certificate.
    #[error("no TLS connection to the broker {broker}: {detail}")]
    Tls {
        /// Host and port.
        broker: String,
        /// The error, and what to do.
        detail: String,
    },
    /// The broker does not know the user of the certificate. Its configuration decides which part of
    /// the certificate is the user.
    #[error(
        "the broker {broker} refuses the client certificate of {user} ({detail}): ask the broker's administrators to create its user, which at Fedora is the certificate's common name, or use another certificate"
    )]
    Authentication {
        /// Host and port.
        broker: String,
        /// A name of the certificate.
        user: String,
        /// The broker's reply.
        detail: String,
    },
    /// The broker does not take the user from the client certificate.
    #[error(
        "the broker {broker} offers {offered}, but not EXTERNAL, to log in with a client certificate: ask the broker's administrators to enable rabbitmq_auth_mechanism_ssl, and EXTERNAL among its auth_mechanisms"
    )]
    NoExternal {
        /// Host and port.
        broker: String,
        /// The mechanisms that the broker offers.
        offered: String,
    },
    /// The user, or the virtual host, has as many connections or channels as the broker allows.
    #[error(
        "the broker {broker} refuses another {what} to the user {user} ({detail}): ask the broker's administrators to raise the limit, or close what else uses it"
    )]
    LimitReached {
        /// Host and port.
        broker: String,
        /// A connection or a channel.
        what: &'static str,
        /// The user.
        user: String,
        /// The broker's reply.
        detail: String,
    },
    /// The operator has as many connections as it may.
    #[error(
        "{who} use {bound} broker connections, the most that the operator allows, and none became free within {seconds} s: use fewer client certificates at a time"
    )]
    TooManyConnections {
        /// The messages that the bound is for.
        who: String,
        /// The bound.
        bound: usize,
        /// The time that the message waited.
        seconds: u64,
    },
    /// The virtual host does not exist, or the user has no access to it.
    #[error("the broker {broker} refuses the virtual host {vhost} to the user {user} ({detail}): {advice}")]
    Vhost {
        /// Host and port.
        broker: String,
        /// The virtual host.
        vhost: String,
        /// The user.
        user: String,
        /// The broker's reply.
        detail: String,
        /// The action that fixes it.
        advice: &'static str,
    },
    /// The broker could not check if the user may publish the message.
    #[error("the broker {broker} can't check the user's permissions at present ({detail}): {CHECK_BACKEND}")]
    BackendFailed {
        /// Host and port.
        broker: String,
        /// The broker's reply.
        detail: String,
    },
    /// A memory or disk alarm of the broker.
    #[error(
        "the broker {broker} accepts no messages at present ({detail}): wait until its administrators free memory or disk space"
    )]
    Blocked {
        /// Host and port.
        broker: String,
        /// The broker's reason.
        detail: String,
    },
    /// An alarm of the broker that began when the message had been handed over.
    #[error(
        "the broker {broker} accepts no messages at present ({detail}), but was handed this one before, and may deliver it later: wait until its administrators free memory or disk space"
    )]
    Unanswered {
        /// Host and port.
        broker: String,
        /// The broker's reason.
        detail: String,
    },
    /// The broker did not confirm the message in time.
    #[error(
        "the broker {broker} did not confirm the message within {seconds} s: it is sent again with the same id, so consumers can detect a duplicate"
    )]
    ConfirmTimeout {
        /// Host and port.
        broker: String,
        /// The time limit in seconds.
        seconds: u64,
    },
    /// The broker could not take responsibility for the message.
    #[error(
        "the broker {broker} could not store the message (nack): a queue that is bound to its topic is full or failing; ask the broker's administrators"
    )]
    Nacked {
        /// Host and port.
        broker: String,
    },
    /// The user is not allowed to publish to the topic.
    #[error(
        "the user {user} may not publish this message ({detail}): choose a topic the user may publish to, or ask the broker's administrators for permission"
    )]
    TopicForbidden {
        /// The user.
        user: String,
        /// The broker's reply.
        detail: String,
    },
    /// The user is not allowed to publish to the exchange, whatever the topic.
    ///
    /// `RabbitMQ` gives the same reply if the exchange does not exist, and the user may not write to
    /// an exchange of that name.
    #[error(
        "the user {user} may not publish to the exchange {exchange} at the broker {broker} ({detail}): check the operator's --exchange, or ask the broker's administrators for permission"
    )]
    ExchangeForbidden {
        /// Host and port.
        broker: String,
        /// The exchange's name.
        exchange: String,
        /// The user.
        user: String,
        /// The broker's reply.
        detail: String,
    },
    /// The exchange takes messages from other exchanges only.
    #[error(
        "the exchange {exchange} at the broker {broker} is an internal one ({detail}): check the operator's --exchange"
    )]
    ExchangeInternal {
        /// Host and port.
        broker: String,
        /// The exchange's name.
        exchange: String,
        /// The broker's reply.
        detail: String,
    },
    /// The exchange does not exist.
    #[error(
        "the exchange {exchange} does not exist at the broker {broker} ({detail}): check the operator's --exchange"
    )]
    ExchangeNotFound {
        /// Host and port.
        broker: String,
        /// The exchange's name.
        exchange: String,
        /// The broker's reply.
        detail: String,
    },
    /// The body is larger than the broker's limit.
    #[error(
        "the message's body of {size} bytes is larger than the broker {broker} accepts ({detail}): send a reference to the data instead"
    )]
    TooLarge {
        /// Host and port.
        broker: String,
        /// The size of the body in bytes.
        size: usize,
        /// The broker's reply.
        detail: String,
    },
    /// The broker refuses the message itself.
    #[error("the broker {broker} refuses the message ({detail}): create a new FedoraMessage without this problem")]
    Refused {
        /// Host and port.
        broker: String,
        /// The broker's reply.
        detail: String,
    },
}

impl Failure for BrokerError {
    fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::BackendFailed { .. }
            | Self::TooManyConnections { .. } => Reason::BrokerUnreachable,
            Self::Tls { .. } => Reason::TlsFailed,
            Self::Authentication { .. } | Self::NoExternal { .. } => Reason::AuthenticationFailed,
            Self::Vhost { .. } | Self::LimitReached { .. } => Reason::VhostRefused,
            Self::Blocked { .. } | Self::Unanswered { .. } => Reason::BrokerBlocked,
            Self::ConfirmTimeout { .. } => Reason::ConfirmTimeout,
            Self::Nacked { .. } => Reason::Nacked,
            Self::TopicForbidden { .. } => Reason::TopicForbidden,
            Self::ExchangeNotFound { .. } | Self::ExchangeInternal { .. } | Self::ExchangeForbidden { .. } => {
                Reason::ExchangeNotFound
            }
            Self::TooLarge { .. } => Reason::MessageTooLarge,
            Self::Refused { .. } => Reason::InvalidMessage,
        }
    }

    fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }
}

/// The phase in which a TLS error occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    /// Under TLS 1.3 only the client's certificate is left to be refused.
    Login,
}

/// The broker and the user, which errors name.
#[derive(Clone, Debug)]
pub struct ErrorContext {
    /// The address of the broker.
    pub broker: BrokerAddress,
    /// The client certificate's common name, or another name of it.
    pub user: String,
}

impl ErrorContext {
    /// Maps an error from the TCP or TLS handshake.
    #[must_use]
    pub fn transport(&self, error: &TransportError) -> BrokerError {
        match error {
            TransportError::Tls(error) if rustls_error(error).is_some() => self.tls(error, Phase::Handshake),
            // A proxy whose broker is down accepts connections, and then closes them or is silent.
            TransportError::Tcp(error) | TransportError::Tls(error) => self.unreachable(error),
        }
    }

    /// Maps an error from the AMQP handshake: login, then virtual host.
    #[must_use]
    pub fn login(&self, error: &Lapin) -> BrokerError {
        let broker = self.broker.to_string();
        match error.kind() {
            LapinKind::ProtocolError(reply) => {
                let detail = printable(reply.get_message().as_str(), MAX_DETAIL);
                let (user, vhost) = (self.user_in(&detail), self.broker.vhost.clone());
                match reply.kind() {
                    AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                        BrokerError::Authentication { broker, user: self.user.clone(), detail }
                    }
                    AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if detail.contains("connection limit") => {
                        BrokerError::LimitReached { broker, what: "connection", user, detail }
                    }
                    AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                        let advice = if is_backend_failure(&detail) {
                            CHECK_BACKEND
                        } else {
                            "check the path of its URL, or ask the broker's administrators for access"
                        };
                        BrokerError::Vhost { broker, vhost, user, detail, advice }
                    }
                    AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BrokerError::Unreachable { broker, detail },
                }
            }
            // Under TLS 1.3 the broker checks the client's certificate after the handshake.
            LapinKind::IOError(error) if rustls_error(error).is_some() => self.tls(error, Phase::Login),
            LapinKind::IOError(error) => self.unreachable(error),
            _ => BrokerError::Unreachable { broker, detail: lapin_message(error) },
        }
    }

    /// Returns the error of a broker that offers only these mechanisms to log in.
    #[must_use]
    pub fn without_external(&self, offered: String) -> BrokerError {
        BrokerError::NoExternal { broker: self.broker.to_string(), offered }
    }

    /// Maps an error from opening a channel. The broker closes the whole connection for it. The user
    /// is that of the certificate, because `RabbitMQ` 4.0 names its node where 3.10 names the user.
    #[must_use]
    pub fn channel(&self, error: &Lapin) -> BrokerError {
        let (broker, detail) = (self.broker.to_string(), lapin_message(error));
        if is_refused_channel(error) {
            return BrokerError::LimitReached { broker, what: "channel", user: self.user.clone(), detail };
        }
        BrokerError::Lost { broker, detail }
    }

    /// Maps an error while a message was in flight on a channel. The broker may have the message.
    #[must_use]
    pub fn publish(&self, error: &Lapin, exchange: &str, size: usize) -> BrokerError {
        let LapinKind::ProtocolError(reply) = error.kind() else {
            return BrokerError::Lost { broker: self.broker.to_string(), detail: lapin_message(error) };
        };
        self.refusal(reply, exchange, size)
    }

    fn refusal(&self, reply: &AMQPError, exchange: &str, size: usize) -> BrokerError {
        let detail = printable(reply.get_message().as_str(), MAX_DETAIL);
        let (broker, user, exchange) = (self.broker.to_string(), self.user_in(&detail), exchange.to_owned());
        match reply.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                if is_backend_failure(&detail) {
                    BrokerError::BackendFailed { broker, detail }
                } else if detail.contains("access to exchange") {
                    BrokerError::ExchangeForbidden { broker, exchange, user, detail }
                } else if detail.contains("cannot publish to internal") {
                    BrokerError::ExchangeInternal { broker, exchange, detail }
                } else {
                    BrokerError::TopicForbidden { user, detail }
                }
            }
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => BrokerError::ExchangeNotFound { broker, exchange, detail },
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if detail.contains("message size") => {
                BrokerError::TooLarge { broker, size, detail }
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => BrokerError::Refused { broker, detail },
            AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BrokerError::Lost { broker, detail },
        }
    }

    /// Returns the user that the broker's reply names, or else that of the certificate. They differ
    /// if the broker does not take the user from the common name.
    fn user_in(&self, detail: &str) -> String {
        if detail.contains(&format!("for user '{}'", self.user)) {
            return self.user.clone();
        }
        let named = detail.split_once("for user '").and_then(|(_, rest)| rest.split_once('\''));
        named.map_or_else(|| self.user.clone(), |(user, _)| user.to_owned())
    }

    /// Maps an error from a broker that does not answer.
    #[must_use]
    pub fn unreachable(&self, error: &io::Error) -> BrokerError {
        BrokerError::Unreachable { broker: self.broker.to_string(), detail: io_message(error) }
    }

    fn tls(&self, error: &io::Error, phase: Phase) -> BrokerError {
        if let Some(error) = rustls_error(error).and_then(find_error) {
            return BrokerError::Tls { broker: self.broker.to_string(), detail: error.to_string() };
        }
        let advice = rustls_error(error).and_then(|error| self.advice(error, phase));
        let advice =
            advice.unwrap_or_else(|| "check host and port in the URL, or ask the broker's administrators".to_owned());
        BrokerError::Tls { broker: self.broker.to_string(), detail: format!("{}: {advice}", io_message(error)) }
    }

    /// Returns what to do about a common TLS error.
    fn advice(&self, error: &Rustls, phase: Phase) -> Option<String> {
        let user = &self.user;
        Some(match error {
            Rustls::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "the broker's certificate was not issued by the given CA; use the CA that issued it".to_owned()
            }
            Rustls::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("use a host name from the broker's certificate in the URL, not {}", self.broker.host),
            Rustls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                "the broker's own certificate has expired; tell its administrators".to_owned()
            }
            Rustls::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => format!(
                "the broker does not trust the issuer of the client certificate of {user}; use a certificate from the broker's CA"
            ),
            Rustls::AlertReceived(AlertDescription::CertificateExpired) => {
                format!("the broker reports that the client certificate of {user} has expired; renew it")
            }
            Rustls::AlertReceived(AlertDescription::CertificateRevoked) => {
                format!("the client certificate of {user} was revoked; use another")
            }
            Rustls::AlertReceived(alert)
                if *alert == AlertDescription::UnsupportedCertificate
                    || (*alert == AlertDescription::HandshakeFailure && phase == Phase::Login) =>
            {
                format!(
                    "the broker does not accept the client certificate of {user}, for example because its extended key usage lacks clientAuth, or because of its signature or a critical extension; use another certificate"
                )
            }
            Rustls::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion) => format!(
                "the broker has no TLS version, cipher or signature in common with the operator, or does not accept the client certificate of {user}; ask the broker's administrators for TLS 1.2 or 1.3, and for a certificate with an RSA key, or an ECDSA key on P-256 or P-384, that is signed with SHA-256"
            ),
            Rustls::InvalidMessage(_) => "the server there does not speak TLS; check the port in the URL".to_owned(),
            _ => return None,
        })
    }
}

/// Returns true if the broker refused something only because one of its authorization backends
/// failed: "... refused for user 'USER', backend NAME returned an error: ...". The broker cuts its
/// replies at 255 bytes. No topic contains this text, because topics have no spaces.
fn is_backend_failure(detail: &str) -> bool {
    detail.contains("', backend ")
}

/// Returns true if the broker refuses a new channel, because there are as many as it allows: of the
/// user, or of the node.
pub(super) fn is_refused_channel(error: &Lapin) -> bool {
    let LapinKind::ProtocolError(reply) = error.kind() else { return false };
    matches!(reply.kind(), AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED))
}

/// Returns the limit of channels that the broker names when it refuses another one, as in "has
/// reached the maximum allowed user limit of (4)" (RabbitMQ 3.10 and 4.0).
pub(super) fn allowed_channels(error: &Lapin) -> Option<u16> {
    let LapinKind::ProtocolError(reply) = error.kind() else { return None };
    let (_, limit) = reply.get_message().as_str().rsplit_once("limit of (")?;
    limit.strip_suffix(')')?.parse().ok()
}

/// Makes a broker's reply safe to print in a status or on a terminal.
pub(crate) fn reply(detail: &str) -> String {
    printable(detail, MAX_DETAIL)
}

fn rustls_error(error: &io::Error) -> Option<&Rustls> {
    error.get_ref()?.downcast_ref()
}

/// Returns the message of an error of the AMQP client.
fn lapin_message(error: &Lapin) -> String {
    match error.kind() {
        LapinKind::IOError(error) => io_message(error),
        LapinKind::ProtocolError(broker) => reply(broker.get_message().as_str()),
        _ => printable(&error.to_string(), MAX_DETAIL),
    }
}

/// Returns the error's message, except for the end of the connection. An end without TLS's
/// `close_notify` has a link to rustls's manual, and lapin calls an end with it an abort.
fn io_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted => {
            "the broker closed the connection".to_owned()
        }
        _ => printable(&error.to_string(), MAX_DETAIL),
    }
}
