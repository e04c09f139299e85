//! `check`: goes the way to a broker step by step, and says what it finds, or which step failed
//! and what to do.

use std::process::ExitCode;

use crate::broker::connection::Link;
use crate::broker::errors::Peers;
use crate::broker::transport::Transport;
use crate::cli::CheckArgs;

/// Checks one environment's broker.
#[must_use]
pub fn main(arguments: &CheckArgs) -> ExitCode {
    match super::block_on(check(arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
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
        super::files::credentials(&arguments.ca, &arguments.cert, &arguments.key).map_err(Failed::at("certificate"))?;
    found(
        "certificate",
        &format!("of {}, valid until {}", credentials.user, credentials.not_after.format("%Y-%m-%d %H:%M:%S UTC")),
    );
    let peers = Peers { broker: broker.clone(), user: credentials.user.clone() };
    let transport = Transport::open(broker, credentials.tls.clone())
        .await
        .map_err(|error| Failed { step: error.step(), words: peers.transport(&error).to_string() })?;
    found("address", &format!("{broker} answers"));
    let version = transport.version.and_then(|version| version.as_str().map(str::to_owned));
    found(
        "TLS",
        &format!(
            "{} with {}, whose certificate the CA issued",
            version.as_deref().unwrap_or("an unknown version"),
            broker.host
        ),
    );
    let link = Link::log_in(peers, transport, || {})
        .await
        .map_err(|error| Failed { step: "login", words: error.to_string() })?;
    found("login", &format!("as {}", credentials.user));
    found("virtual host", &broker.vhost);
    link.find_exchange(exchange).await.map_err(|error| Failed { step: "exchange", words: error.to_string() })?;
    found("exchange", &format!("{exchange} exists"));
    link.close().await;
    Ok(())
}

fn found(what: &str, words: &str) {
    super::print(&format!("{what:<14}{words}\n"));
}
