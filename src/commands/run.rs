//! `run`: the operator.

use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::admin;
use crate::broker::keyring::Keyring;
use crate::broker::pool::Pool;
use crate::cli::{DeliveryMode, LogFormat, RunArgs};
use crate::cluster::client::client;
use crate::cluster::secrets::Secrets;
use crate::cluster::status::StatusWriter;
use crate::cluster::watch::pending;
use crate::controller::Controller;
use crate::delivery::Delivery;
use crate::operator::{self, Inputs, Wake};

/// The kube client would log whole answers that it can't read, which may be Secrets; lapin reports
/// at error what the operator reports itself.
const LOG: &str = "info,kube_client=off,kube_runtime=off,lapin=off";

/// Runs the operator until it is told to stop.
#[must_use]
pub fn main(arguments: RunArgs) -> ExitCode {
    start_log(arguments.log_format);
    match super::block_on(run(arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(words)) => super::fail(&words),
        Err(error) => super::fail(&format!("can't start: {error}")),
    }
}

async fn run(arguments: RunArgs) -> Result<(), String> {
    let listener = admin::bind(arguments.admin_address).await.map_err(|error| {
        format!("can't serve on {}: {error}; choose another with --admin-address", arguments.admin_address)
    })?;
    if let Ok(address) = listener.local_addr() {
        info!(%address, version = env!("CARGO_PKG_VERSION"), "serving /livez and /readyz");
    }
    let client = client().await?;
    let (synced, ready) = watch::channel(false);
    let (wake, wakes) = mpsc::unbounded_channel();
    let events = pending(&client, &arguments.watch_namespaces);
    let scopes = arguments.watch_namespaces.len().max(1);
    let controller = Arc::new(controller(client, &arguments, wake));
    tokio::spawn(admin::serve(listener, ready));
    let inputs = Inputs { events, scopes, wakes, synced };
    operator::run(controller, arguments.concurrency.into(), inputs, terminated()?)
        .await
        .map_err(|error| format!("stopped by a fault of its own ({error}): please report it"))
}

fn controller(client: Client, arguments: &RunArgs, sender: mpsc::UnboundedSender<Wake>) -> Controller {
    // Nobody listens any more only while the program ends.
    let wake = move |wake| drop(sender.send(wake));
    let wake_secret = wake.clone();
    let pool = Pool::new(arguments.broker.brokers(), arguments.broker.confirm_timeout(), move |environment| {
        wake(Wake::Environment(environment));
    });
    Controller {
        secrets: Secrets::new(client.clone(), move |secret| wake_secret(Wake::Secret(secret))),
        statuses: StatusWriter::new(client),
        routing: arguments.broker.routing(),
        keyring: Keyring::default(),
        delivery: match arguments.delivery_mode {
            DeliveryMode::Direct => Delivery::Direct(pool),
        },
    }
}

/// Ends when the process is told to: by the kubelet, or by Ctrl-C.
fn terminated() -> Result<impl Future<Output = ()>, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("can't listen to signals: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn start_log(format: Option<LogFormat>) {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::new(format!("{LOG},{directives}")),
        Err(_) => EnvFilter::new(LOG),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).init(),
    }
}
