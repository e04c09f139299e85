//! Checks the connection to a broker, step by step.

use std::path::Path;

use tokio_rustls::rustls::ProtocolVersion;

use super::CheckReport;
use crate::broker::connection::BrokerConnection;
use crate::broker::errors::{BrokerError, ErrorContext};
use crate::broker::login::Login;
use crate::broker::transport::{Transport, TransportError};
use crate::cli::BrokerArgs;
use crate::commands::files;
use crate::fence::Fence;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::sender::Application;

/// The step that needs no connection.
pub(super) const CERTIFICATE: &str = "certificate";

struct Failed {
    step: &'static str,
    error: BrokerError,
}

/// Checks one environment's broker with the CA, certificate and key in these files.
pub(crate) async fn check_files(
    arguments: &BrokerArgs,
    environment: Environment,
    [ca, cert, key]: [&Path; 3],
    report: &mut CheckReport,
) {
    let application = Application::named(env!("CARGO_PKG_NAME").to_owned()).into();
    match files::credentials(ca, cert, key) {
        Ok(credentials) => {
            let prefix = topic_prefix(arguments, environment);
            check(arguments, environment, &Login { credentials, application }, &prefix, report).await;
        }
        Err(error) => report.misused(CERTIFICATE, &error),
    }
}

/// Returns the prefix of topics, and who sets it.
pub(crate) fn topic_prefix(arguments: &BrokerArgs, environment: Environment) -> String {
    let flag = format!("--{environment}-topic-prefix");
    let routing = arguments.routing();
    match (routing.prefix(environment), arguments.given_topic_prefix(environment)) {
        ("", _) => format!("none, so topics are sent as they stand ({flag} sets one)"),
        (prefix, Some(_)) => format!("{prefix} ({flag})"),
        (prefix, None) => format!("{prefix}, which consumers at this broker expect ({flag} sets another)"),
    }
}

/// Checks one environment's broker with this login. Then says what the topics will begin with, and what a check can't know.
pub(crate) async fn check(
    arguments: &BrokerArgs,
    environment: Environment,
    login: &Login,
    topic_prefix: &str,
    report: &mut CheckReport,
) {
    match go(arguments, environment, login, report).await {
        Ok(()) => {
            report.found("topic prefix", topic_prefix);
            let user = &login.credentials.user;
            report.found(
                "not checked",
                &format!("the topics that {user} may publish to: a broker tells that only when a message is sent"),
            );
        }
        Err(Failed { step, error }) => report.failed(step, &error),
    }
}

async fn go(
    arguments: &BrokerArgs,
    environment: Environment,
    Login { credentials, application }: &Login,
    report: &mut CheckReport,
) -> Result<(), Failed> {
    let brokers = arguments.brokers();
    let broker = brokers.of(environment);
    let exchange = arguments.exchange();
    report.found(
        CERTIFICATE,
        &format!("of {}, valid until {}", credentials.user, credentials.not_after.format("%Y-%m-%d %H:%M:%S UTC")),
    );
    let peers = ErrorContext { broker: broker.clone(), user: credentials.user.clone() };
    let transport = Transport::open(broker, credentials.tls.clone(), Fence::always_open()).await;
    if !matches!(transport, Err(TransportError::Tcp(_))) {
        report.found("address", &format!("{broker} answers"));
    }
    let transport = transport.map_err(|error| Failed { step: error.step(), error: peers.transport(&error) })?;
    report.found("TLS", &format!("{} with {}, whose certificate the CA issued", version(&transport), broker.host));
    let connection = BrokerConnection::log_in(peers, transport, application, || {}).await;
    if matches!(connection, Ok(_) | Err(BrokerError::Vhost { .. })) {
        report.found("login", &format!("with the certificate of {}", credentials.user));
    }
    let connection = connection.map_err(|error| Failed { step: login_step(&error), error })?;
    report.found("virtual host", &broker.vhost);
    connection.find_exchange(exchange).await.map_err(|error| Failed { step: "exchange", error })?;
    report.found("exchange", &format!("{exchange} exists"));
    connection.close().await;
    Ok(())
}

fn version(transport: &Transport) -> &'static str {
    match transport.version {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "an unknown version",
    }
}

/// Returns the step that failed. Under TLS 1.3 the broker verifies the client's certificate after the handshake, and
/// it opens the virtual host with the login.
fn login_step(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::Tls { .. } => "TLS",
        BrokerError::Vhost { .. } => "virtual host",
        _ => "login",
    }
}
