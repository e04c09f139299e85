//! `run`: the operator.

use std::future::Future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::FutureExt;
use kube::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::VERSION;
use crate::admin::{self, Admin, Page};
use crate::broker::pool::Pool;
use crate::cli::{DeliveryMode, LogFormat, RunArgs};
use crate::cluster::client::client;
use crate::cluster::events::Events;
use crate::cluster::inspect::installed_crd;
use crate::cluster::leader_election::{Elector, ElectorReports, Leadership, Moment};
use crate::cluster::pods::Pods;
use crate::cluster::refetch::Refetcher;
use crate::cluster::secrets::{SecretChange, Secrets};
use crate::cluster::senders::{SenderStatusWriter, Senders};
use crate::cluster::status::{StatusWriter, at_a_time};
use crate::cluster::watch::{INSTALL, WatchMonitor, Watches};
use crate::controller::queue::{PodLimits, Queue};
use crate::controller::{self, Inputs, NOT_LISTED, Wake};
use crate::credential_reader::CredentialReader;
use crate::delivery::{Delivery, Fallback, PodDelivery};
use crate::fence::Fence;
use crate::metrics::Metrics;
use crate::reconciler::Reconciler;
use crate::schema_file::SchemaFile;
use crate::senders::{self, Checker, Notice, SenderInputs, SenderWake};
use crate::ttl::TtlController;
use crate::{cli::BrokerArgs, traces::Traces};
use fedora_message::api::compare::InstalledCrd;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::bounds::MAX_LARGE_PREPARATIONS;
use fedora_message::message::envelope::Routing;
use fedora_message::message::secret::OperatorCas;

/// The default log filter. The kube client would log whole answers that it can't read, which may be Secrets. lapin logs
/// errors that the operator reports itself.
const LOG: &str = "info,kube_client=off,lapin=off";

/// Runs the operator until a signal stops it.
#[must_use]
pub fn main(arguments: RunArgs) -> ExitCode {
    start_log(arguments.log_format);
    raise_file_limit();
    let schemas = match SchemaFile::open(arguments.schemas.settings()) {
        Ok(schemas) => Arc::new(schemas),
        Err(error) => return super::misused(&error),
    };
    let cas = match arguments.broker.cas() {
        Ok(cas) => cas,
        Err(error) => return super::misused(&error),
    };
    match super::block_on(run(arguments, schemas, cas)).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

async fn run(arguments: RunArgs, schemas: Arc<SchemaFile>, cas: OperatorCas) -> anyhow::Result<()> {
    let listener = listen(arguments.admin_address).await?;
    let (client, discard_idle_connections) = client(Fence::always_open()).await?;
    let watches = Watches::new(client.clone(), WatchMonitor::new(move || discard_idle_connections()));
    let (not_ready_reason, unlisted) = watch::channel(Some(NOT_LISTED.to_owned()));
    let (report_requester, report_requests) = mpsc::channel(1);
    let metrics = Arc::new(Metrics::new(watches.monitor().clone(), arguments.namespace_metrics.into()));
    let traces = traces(&arguments)?;
    let mut terminated = pin!(terminated()?.fuse());
    let (mut election, unelected) = Election::begin(&watches, &arguments);
    let (beat, heartbeat) = watch::channel(None);
    let admin = Admin {
        unlisted,
        unelected,
        heartbeat,
        controller: report_requester,
        metrics: metrics.clone(),
        page: Page::default(),
    };
    tokio::spawn(admin::serve(listener, Arc::new(admin)));
    tokio::spawn(look_at_crd(client.clone()));
    tokio::select! {
        () = election.decided() => {}
        () = &mut terminated => return Ok(()),
    }
    let (wake, wakes) = mpsc::unbounded_channel();
    let (notice, notices) = mpsc::unbounded_channel();
    let signals = Signals { wake, notice };
    let begun = watch::Sender::new(None);
    let (namespaces, leadership) = (arguments.scope.namespaces(), election.leadership.clone());
    let senders = Arc::<Senders>::default();
    let ttl = {
        let (default, counts) = (arguments.default_ttl_seconds_after_finished, metrics.clone());
        TtlController::new(default, senders.clone(), move |deletion| counts.count_deletion(deletion))
    };
    let cleaning = tokio::spawn(ttl.clone().run(client.clone(), namespaces.clone(), leadership.clone()));
    tokio::spawn(schemas.clone().watch(signals.on_catalog()));
    let fence = fence(leadership.clone(), begun.subscribe());
    let delivery = delivery(&watches, &arguments, &cas, (&fence, begun.subscribe()), signals.on_recovery()).await?;
    let secrets = Secrets::new(watches.clone(), signals.on_secret());
    let checker = Checker {
        senders: senders.clone(),
        credentials: Arc::new(CredentialReader::new(secrets, cas)),
        delivery: Arc::new(delivery),
        exchange: arguments.broker.exchange().to_owned(),
        events: Arc::new(Events::new(client.clone(), election.me.clone())),
        statuses: SenderStatusWriter::new(client.clone()),
        fence,
    };
    let reconciler = Reconciler {
        senders,
        credentials: checker.credentials.clone(),
        events: checker.events.clone(),
        statuses: StatusWriter::new(client.clone(), at_a_time(arguments.concurrency.into())),
        refetcher: Refetcher::new(client),
        ttl,
        routing: Routing { require_sender: arguments.scope.require_sender, ..arguments.broker.routing() },
        delivery: checker.delivery.clone(),
        metrics,
        schemas,
        large_preparations: Semaphore::new(MAX_LARGE_PREPARATIONS),
        traces: traces.clone(),
    };
    let following = tokio::spawn(senders::run(
        checker,
        SenderInputs {
            events: watches.senders(&namespaces),
            scopes: namespaces.len().max(1),
            notices,
            leadership,
            term: begun.subscribe(),
            wake: signals.on_senders(),
        },
    ));
    let inputs = Inputs {
        watch: || watches.pending(&namespaces),
        scopes: namespaces.len().max(1),
        wakes,
        requests: report_requests,
        heartbeat: beat,
        leadership: election.leadership.clone(),
        term: begun,
        not_ready_reason,
    };
    let queue = Queue::new(arguments.concurrency.into(), by_pods(&arguments));
    let ended = controller::run(Arc::new(reconciler), queue, inputs, terminated).await;
    following.abort();
    cleaning.abort();
    // Deletions end before another replica can lead.
    let _ = cleaning.await;
    election.end().await;
    if let Some(traces) = traces {
        // It fails only while the process is torn down.
        let _ = tokio::task::spawn_blocking(move || traces.end()).await;
    }
    ended.map_err(|error| anyhow!("internal error: {error}. Please report this bug"))
}

/// Listens on the address for probes and metrics.
async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = admin::bind(address).await;
    let listener =
        listener.map_err(|error| anyhow!("can't serve on {address}: {error}; choose another with --admin-address"))?;
    if let Ok(address) = listener.local_addr() {
        info!(%address, version = VERSION, "serving /metrics, /livez and /readyz");
    }
    Ok(listener)
}

/// Creates the fence, which is open during this process's term.
fn fence(leadership: watch::Receiver<Leadership>, begun: watch::Receiver<Option<u64>>) -> Fence {
    Fence::new(move || leadership.borrow().admits(*begun.borrow(), Moment::now()))
}

/// Passes events to the controller of messages and to that of Senders. Their receivers are gone only
/// while the program ends.
struct Signals {
    wake: UnboundedSender<Wake>,
    notice: UnboundedSender<Notice>,
}

impl Signals {
    fn on_catalog(&self) -> impl Fn() + Send + Sync + 'static {
        let wake = self.wake.clone();
        move || drop(wake.send(Wake::Catalog))
    }

    fn on_senders(&self) -> impl Fn(SenderWake) + Send + Sync + 'static {
        let wake = self.wake.clone();
        move |event| drop(wake.send(Wake::Senders(event)))
    }

    fn on_recovery(&self) -> impl Fn(Environment) + Send + Sync + 'static {
        let (wake, notice) = (self.wake.clone(), self.notice.clone());
        move |environment| {
            drop(notice.send(Notice::Environment(environment)));
            drop(wake.send(Wake::Environment(environment)));
        }
    }

    fn on_secret(&self) -> impl Fn(SecretChange) + Send + Sync + 'static {
        let (wake, notice) = (self.wake.clone(), self.notice.clone());
        move |change: SecretChange| {
            drop(notice.send(Notice::Secret(change.clone())));
            drop(wake.send(Wake::Secret(change)));
        }
    }
}

/// Lets the process open as many files as it may. Containers often begin with 1,024, and may have
/// many times as many.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit of open files can't be raised");
    }
}

/// Warns if the CRD is old: the API server would drop unknown fields from statuses.
async fn look_at_crd(client: Client) {
    if let Ok(Some(InstalledCrd::Older(lacks))) = installed_crd(&client).await {
        warn!("the CRD is older than the operator and lacks {}: install the operator's ({INSTALL})", lacks.join(", "));
    }
}

/// The leadership of this process, and the task of its elector.
struct Election {
    me: String,
    leadership: watch::Receiver<Leadership>,
    elector_task: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Election {
    /// Starts an elector, if leader election is on. Also returns the reason why it can't take part.
    fn begin(watches: &Watches, arguments: &RunArgs) -> (Self, watch::Receiver<Option<String>>) {
        let me = identity();
        let (not_ready_reason, unelected) = watch::channel(None);
        if !arguments.scope.leader_elect {
            return (Self { me, leadership: watch::channel(Leadership::Always).1, elector_task: None }, unelected);
        }
        let (sender, leadership) = watch::channel(Leadership::Unknown);
        let reports = ElectorReports { leadership: sender, not_ready_reason };
        let namespace =
            arguments.scope.lease_namespace.as_deref().unwrap_or_else(|| watches.client().default_namespace());
        let elector = Elector::new(watches.clone(), namespace, arguments.scope.lease_name.clone(), me.clone(), reports);
        let (quit, last_reported) = oneshot::channel();
        let task = tokio::spawn(elector.run(async move { drop(last_reported.await) }));
        (Self { me, leadership, elector_task: Some((quit, task)) }, unelected)
    }

    /// Waits until the leader is known, so that pending messages are listed once.
    async fn decided(&mut self) {
        // It fails only if the elector has ended.
        let _ = self.leadership.wait_for(|leadership| *leadership != Leadership::Unknown).await;
    }

    /// Resigns, so that another replica can lead.
    async fn end(self) {
        if let Some((quit, task)) = self.elector_task {
            drop(quit);
            // If the task has failed, the Lease expires.
            let _ = task.await;
        }
    }
}

/// Returns a unique name for this process: the pod's name, and a random part.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}_{}", if host.is_empty() { "operator" } else { host }, Uuid::new_v4())
}

/// Returns the limits for Pods.
fn by_pods(arguments: &RunArgs) -> PodLimits {
    match arguments.scope.delivery_mode {
        DeliveryMode::Direct => PodLimits::default(),
        mode => PodLimits { concurrency: arguments.pods.max_pods.into(), always: mode == DeliveryMode::Pod },
    }
}

/// Creates the configured delivery, whose fence is open during this process's term.
async fn delivery(
    watches: &Watches,
    arguments: &RunArgs,
    cas: &OperatorCas,
    (fence, term): (&Fence, watch::Receiver<Option<u64>>),
    on_recovery: impl Fn(Environment) + Send + Sync + 'static,
) -> anyhow::Result<Delivery> {
    let brokers = arguments.broker.brokers();
    let pool = || Pool::new(brokers.clone(), arguments.broker.confirm_timeout(), fence.clone(), on_recovery);
    let pods = async || {
        let (fenced, _) = client(fence.clone()).await?;
        let keep_failed = Duration::from_secs(arguments.pods.keep_failed_pods.into());
        let (pods, settings) = (Pods::new(watches.clone(), fenced, keep_failed), arguments.pods.settings());
        let namespaces = arguments.scope.namespaces();
        anyhow::Ok(PodDelivery::new(pods, settings, brokers.clone(), cas.clone(), namespaces, term.clone()))
    };
    Ok(match arguments.scope.delivery_mode {
        DeliveryMode::Direct => Delivery::Direct(pool()),
        DeliveryMode::Pod => Delivery::Pod(pods().await?),
        DeliveryMode::Fallback => {
            let fallback = Fallback { pods: pods().await?, pool: pool(), after: arguments.pods.fallback_after };
            Delivery::Fallback(fallback)
        }
    })
}

/// Creates the exporter of traces, if a collector is configured.
fn traces(arguments: &RunArgs) -> anyhow::Result<Option<Arc<Traces>>> {
    let BrokerArgs { trace_context, .. } = arguments.broker;
    let exchange = arguments.broker.exchange();
    let traces = arguments.otlp_endpoint.as_deref().map(|collector| Traces::to(collector, exchange, trace_context));
    Ok(traces.transpose().context("can't send traces")?.map(Arc::new))
}

/// Completes when the kubelet or Ctrl-C stops the process.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("can't listen to signals");
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
