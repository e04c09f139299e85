//! What RabbitMQ, lapin and rustls answer, turned into our errors by the phase in which it
//! happened: the same `ACCESS_REFUSED` means one thing at the login and another at a publish.

use std::io;

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error as Lapin, ErrorKind as LapinKind};
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as Rustls};

use super::address::BrokerAddress;
use super::transport::TransportError;
use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message::text::{MAX_DETAIL, printable};

/// Why a message was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Nobody answers, or the connection ended.
    #[error("no connection to the broker {broker}: {detail}: check that it runs, its URL, and the network between")]
    Unreachable {
        /// Host and port.
        broker: String,
        /// What the operating system or the broker said.
        detail: String,
    },
    /// The connection ended after the message was handed to it.
    #[error(
        "the connection to the broker {broker} was lost before it confirmed the message ({detail}): it is sent again with the same id, so that consumers can tell"
    )]
    Lost {
        /// Host and port.
        broker: String,
        /// What the operating system or the broker said.
        detail: String,
    },
    /// One side does not accept the other's certificate.
    #[error("no TLS connection to the broker {broker}: {detail}")]
    Tls {
        /// Host and port.
        broker: String,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// The broker does not know the user.
    #[error(
        "the broker {broker} refuses the user {user}, which is the client certificate's common name ({detail}): ask the broker's administrators to create it, or use another certificate"
    )]
    Authentication {
        /// Host and port.
        broker: String,
        /// The certificate's common name.
        user: String,
        /// The broker's answer.
        detail: String,
    },
    /// No such virtual host, or not for this user.
    #[error(
        "the broker {broker} refuses the virtual host {vhost} to the user {user} ({detail}): check the path of its URL, or ask the broker's administrators for access"
    )]
    Vhost {
        /// Host and port.
        broker: String,
        /// The virtual host.
        vhost: String,
        /// The certificate's common name.
        user: String,
        /// The broker's answer.
        detail: String,
    },
    /// The broker's memory or disk alarm.
    #[error(
        "the broker {broker} takes no messages at present ({detail}): it will take them once its administrators have made room"
    )]
    Blocked {
        /// Host and port.
        broker: String,
        /// The broker's reason.
        detail: String,
    },
    /// No confirm came.
    #[error(
        "the broker {broker} did not confirm the message within {seconds} s: it is sent again with the same id, so that consumers can tell"
    )]
    ConfirmTimeout {
        /// Host and port.
        broker: String,
        /// How long was waited.
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
    /// No right to publish there.
    #[error("the user {user} may not publish this message ({detail}): {advice}")]
    TopicForbidden {
        /// The certificate's common name.
        user: String,
        /// The broker's answer.
        detail: String,
        /// What to do.
        advice: &'static str,
    },
    /// No such exchange.
    #[error(
        "the exchange {exchange} does not exist at the broker {broker} ({detail}): check the operator's --exchange"
    )]
    ExchangeNotFound {
        /// Host and port.
        broker: String,
        /// The exchange's name.
        exchange: String,
        /// The broker's answer.
        detail: String,
    },
    /// Larger than the broker allows.
    #[error(
        "the message's body of {size} bytes is larger than the broker {broker} takes ({detail}): send a reference to the data instead"
    )]
    TooLarge {
        /// Host and port.
        broker: String,
        /// Bytes of the body.
        size: usize,
        /// The broker's answer.
        detail: String,
    },
    /// The broker finds fault with the message itself.
    #[error(
        "the broker {broker} refuses the message ({detail}): create another FedoraMessage, and change what is named there"
    )]
    Refused {
        /// Host and port.
        broker: String,
        /// The broker's answer.
        detail: String,
    },
}

impl Failure for BrokerError {
    fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => Reason::BrokerUnreachable,
            Self::Tls { .. } => Reason::TlsFailed,
            Self::Authentication { .. } => Reason::AuthenticationFailed,
            Self::Vhost { .. } => Reason::VhostRefused,
            Self::Blocked { .. } => Reason::BrokerBlocked,
            Self::ConfirmTimeout { .. } => Reason::ConfirmTimeout,
            Self::Nacked { .. } => Reason::Nacked,
            Self::TopicForbidden { .. } => Reason::TopicForbidden,
            Self::ExchangeNotFound { .. } => Reason::ExchangeNotFound,
            Self::TooLarge { .. } => Reason::MessageTooLarge,
            Self::Refused { .. } => Reason::InvalidMessage,
        }
    }
}

/// Who talks to whom; every error names it.
#[derive(Clone, Debug)]
pub struct ErrorContext {
    /// Where the broker listens.
    pub broker: BrokerAddress,
    /// The client certificate's common name.
    pub user: String,
}

impl ErrorContext {
    /// An error while TCP or TLS was set up.
    #[must_use]
    pub fn transport(&self, error: &TransportError) -> BrokerError {
        match error {
            TransportError::Tls(error) if rustls_error(error).is_some() => self.tls(error),
            // A proxy whose broker is away accepts connections, and ends them or is silent.
            TransportError::Tcp(error) | TransportError::Tls(error) => self.unreachable(error),
        }
    }

    /// An error while the AMQP connection was opened: the login, then the virtual host.
    #[must_use]
    pub fn login(&self, error: &Lapin) -> BrokerError {
        let broker = self.broker.to_string();
        match error.kind() {
            LapinKind::ProtocolError(answer) => {
                let detail = printable(answer.get_message().as_str(), MAX_DETAIL);
                let (user, vhost) = (self.user.clone(), self.broker.vhost.clone());
                match answer.kind() {
                    AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                        BrokerError::Authentication { broker, user, detail }
                    }
                    AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                        BrokerError::Vhost { broker, vhost, user, detail }
                    }
                    AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BrokerError::Unreachable { broker, detail },
                }
            }
            // Under TLS 1.3 the broker judges the client's certificate after the handshake.
            LapinKind::IOError(error) if rustls_error(error).is_some() => self.tls(error),
            LapinKind::IOError(error) => self.unreachable(error),
            _ => BrokerError::Unreachable { broker, detail: printable(&error.to_string(), MAX_DETAIL) },
        }
    }

    /// An error while a message was under way on a channel; the broker may have it.
    #[must_use]
    pub fn publish(&self, error: &Lapin, exchange: &str, size: usize) -> BrokerError {
        let broker = self.broker.to_string();
        let LapinKind::ProtocolError(answer) = error.kind() else {
            return BrokerError::Lost { broker, detail: printable(&error.to_string(), MAX_DETAIL) };
        };
        self.answer(answer, exchange, size)
    }

    fn answer(&self, answer: &AMQPError, exchange: &str, size: usize) -> BrokerError {
        let (broker, user) = (self.broker.to_string(), self.user.clone());
        let detail = printable(answer.get_message().as_str(), MAX_DETAIL);
        match answer.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                // Of an exchange that does not exist, RabbitMQ says the same to who may not write to it.
                let advice = if detail.contains("access to exchange") {
                    "check the operator's --exchange, or ask the broker's administrators for the right"
                } else {
                    "choose a topic the user may publish to, or ask the broker's administrators for the right"
                };
                BrokerError::TopicForbidden { user, detail, advice }
            }
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
                BrokerError::ExchangeNotFound { broker, exchange: exchange.to_owned(), detail }
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if detail.contains("message size") => {
                BrokerError::TooLarge { broker, size, detail }
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => BrokerError::Refused { broker, detail },
            AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BrokerError::Lost { broker, detail },
        }
    }

    /// Nobody answers.
    #[must_use]
    pub fn unreachable(&self, error: &io::Error) -> BrokerError {
        BrokerError::Unreachable { broker: self.broker.to_string(), detail: io_words(error) }
    }

    fn tls(&self, error: &io::Error) -> BrokerError {
        let advice = rustls_error(error).and_then(|error| self.advice(error));
        let advice =
            advice.unwrap_or_else(|| "check host and port in the URL, or ask the broker's administrators".to_owned());
        BrokerError::Tls { broker: self.broker.to_string(), detail: format!("{}: {advice}", io_words(error)) }
    }

    /// What to do about an error that people meet.
    fn advice(&self, error: &Rustls) -> Option<String> {
        let user = &self.user;
        Some(match error {
            Rustls::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "the broker's certificate was not issued by the given CA; use the CA that issued it".to_owned()
            }
            Rustls::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("use a name that the broker's certificate is for, not {}, in the URL", self.broker.host),
            Rustls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                "the broker's own certificate has expired; tell its administrators".to_owned()
            }
            Rustls::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => format!(
                "the broker does not trust who issued the client certificate of {user}; use one that the broker's CA issued"
            ),
            Rustls::AlertReceived(AlertDescription::CertificateExpired) => {
                format!("the broker finds the client certificate of {user} expired; renew it")
            }
            Rustls::AlertReceived(AlertDescription::CertificateRevoked) => {
                format!("the client certificate of {user} was revoked; use another")
            }
            Rustls::InvalidMessage(_) => "what answers there does not speak TLS; check the port in the URL".to_owned(),
            _ => return None,
        })
    }
}

/// What a broker said, fit for a status and a terminal.
pub(crate) fn answer(detail: &str) -> String {
    printable(detail, MAX_DETAIL)
}

fn rustls_error(error: &io::Error) -> Option<&Rustls> {
    error.get_ref()?.downcast_ref()
}

/// What the operating system or rustls says; the latter's words for an early end name its manual.
fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
        _ => printable(&error.to_string(), MAX_DETAIL),
    }
}
