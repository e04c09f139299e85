//! `check`: goes the way to a broker step by step, and says what it finds, or which step failed
//! and what to do.

use std::process::ExitCode;

use tokio_rustls::rustls::ProtocolVersion;

use crate::broker::connection::Link;
use crate::broker::errors::{BrokerError, Peers};
use crate::broker::transport::{Transport, TransportError};
use crate::cli::CheckArgs;

/// The step that looks at files only.
const CERTIFICATE: &str = "certificate";

/// Checks one environment's broker.
#[must_use]
pub fn main(arguments: &CheckArgs) -> ExitCode {
    match super::block_on(check(arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failed { step: CERTIFICATE, words })) => super::misused(&format!("{CERTIFICATE} failed: {words}")),
        Ok(Err(Failed { step, words })) => super::fail(&format!("{step} failed: {words}")),
        Err(error) => super::fail(&format!("can't start: {error}")),
    }
}

struct Failed {
    step: &'static str,
    words: String,
}

impl Failed {
    fn at(step: &'static str) -> impl Fn(String) -> Self {
        move |words| Self { step, words }
    }
}

async fn check(arguments: &CheckArgs) -> Result<(), Failed> {
    let brokers = arguments.broker.brokers();
    let broker = brokers.of(arguments.env);
    let exchange = &arguments.broker.exchange;
    let credentials =
        super::files::credentials(&arguments.ca, &arguments.cert, &arguments.key).map_err(Failed::at(CERTIFICATE))?;
    found(
        CERTIFICATE,
        &format!("of {}, valid until {}", credentials.user, credentials.not_after.format("%Y-%m-%d %H:%M:%S UTC")),
    );
    let peers = Peers { broker: broker.clone(), user: credentials.user.clone() };
    let transport = Transport::open(broker, credentials.tls.clone()).await;
    if !matches!(transport, Err(TransportError::Tcp(_))) {
        found("address", &format!("{broker} answers"));
    }
    let transport =
        transport.map_err(|error| Failed { step: error.step(), words: peers.transport(&error).to_string() })?;
    found("TLS", &format!("{} with {}, whose certificate the CA issued", version(&transport), broker.host));
    let link = Link::log_in(peers, transport, || {}).await;
    if matches!(link, Ok(_) | Err(BrokerError::Vhost { .. })) {
        found("login", &format!("as {}", credentials.user));
    }
    let link = link.map_err(|error| Failed { step: login_step(&error), words: error.to_string() })?;
    found("virtual host", &broker.vhost);
    link.find_exchange(exchange).await.map_err(|error| Failed { step: "exchange", words: error.to_string() })?;
    found("exchange", &format!("{exchange} exists"));
    link.close().await;
    Ok(())
}

fn version(transport: &Transport) -> &'static str {
    match transport.version {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "an unknown version",
    }
}

/// Under TLS 1.3 the broker judges the client's certificate after the handshake; the virtual host is
/// opened with the login.
fn login_step(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::Tls { .. } => "TLS",
        BrokerError::Vhost { .. } => "virtual host",
        _ => "login",
    }
}

fn found(what: &str, words: &str) {
    super::print(&format!("{what:<14}{words}\n"));
}
