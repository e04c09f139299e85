//! The operator as a process, and its requests to the API server.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rig::guard::Signal;
use rig::port::Port;
use rig::{Guard, images, wait_for, wait_until};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::namespace::{Summary, TestNamespace};
use crate::shared::{SOON, program, shared};

/// The log level of most tests.
pub const DEBUG: &str = "fedora_message_operator=debug";

/// A running operator. Dropping it ends the process.
pub struct Operator {
    guard: Guard,
    port: Port,
    /// Its process.
    pub pid: u32,
}

impl Operator {
    /// Starts an operator for one namespace and the shared broker, and waits until it is ready.
    pub fn start(namespace: &TestNamespace, arguments: &[&str]) -> Self {
        Self::with_broker(&shared().broker.url(), namespace, arguments)
    }

    /// Starts an operator for one namespace and this broker, and waits until it is ready.
    pub fn with_broker(broker_url: &str, namespace: &TestNamespace, arguments: &[&str]) -> Self {
        let arguments = [&["--watch-namespaces", &namespace.name], arguments].concat();
        Self::launch_ready(&namespace.kube.kubeconfig(), broker_url, &arguments)
    }

    /// Starts an operator as a user of an API server, and waits until it is ready.
    pub fn launch_ready(kubeconfig: &Path, broker_url: &str, arguments: &[&str]) -> Self {
        let operator = Self::launch(kubeconfig, broker_url, arguments, DEBUG);
        operator.wait_ready();
        operator
    }

    /// Starts an operator as a user of an API server, with this log level, and does not wait.
    pub fn launch(kubeconfig: &Path, broker_url: &str, arguments: &[&str], log: &str) -> Self {
        Self::spawn(command(kubeconfig, broker_url, arguments, log))
    }

    /// Starts an operator with these environment variables, for one namespace and the shared broker,
    /// and waits until it is ready.
    pub fn with_environment<V: AsRef<OsStr>>(
        variables: impl IntoIterator<Item = (&'static str, V)>,
        namespace: &TestNamespace,
    ) -> Self {
        let arguments = ["--watch-namespaces", &namespace.name];
        let mut command = command(&namespace.kube.kubeconfig(), &shared().broker.url(), &arguments, DEBUG);
        command.envs(variables);
        let operator = Self::spawn(command);
        operator.wait_ready();
        operator
    }

    /// Starts an operator for these namespaces and the shared broker with a soft and a hard limit of
    /// open files, and waits until it is ready.
    pub fn with_file_limits(soft: u32, hard: u32, namespaces: &[&TestNamespace], arguments: &[&str]) -> Self {
        let names: Vec<&str> = namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
        let names = names.join(",");
        let arguments = [&["--watch-namespaces", names.as_str()], arguments].concat();
        let command = command(&shared().kube.kubeconfig(), &shared().broker.url(), &arguments, DEBUG);
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={soft}:{hard}")).arg(command.get_program()).args(command.get_args());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let operator = Self::spawn(limited);
        operator.wait_ready();
        operator
    }

    fn spawn(mut command: Command) -> Self {
        let (guard, port) = (Guard::new("operator").expect("a guard"), Port::reserve().expect("a free port"));
        command.args(["--admin-address", &format!("127.0.0.1:{}", port.number())]);
        let pid = guard.start("operator", &command).expect("the operator starts");
        Self { guard, port, pid }
    }

    /// Waits until the operator is ready.
    pub fn wait_ready(&self) {
        self.wait_until(SOON, "the operator is ready", || self.probe("/readyz") == Some(200));
    }

    /// Waits until a condition is true. Panics with the log if it is not true in time.
    #[track_caller]
    pub fn wait_until(&self, within: Duration, what: &str, condition: impl FnMut() -> bool) {
        wait_until(within, what, condition).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// Waits until the log contains this text.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_for_log_from(0, text);
    }

    /// Waits until the log contains this text after its first `start` bytes.
    pub fn wait_for_log_from(&self, start: usize, text: &str) {
        self.wait_until(SOON, &format!("the log contains {text:?}"), || self.log_from(start as u64).contains(text));
    }

    /// Returns the status code of a probe, or `None` without an answer.
    pub fn probe(&self, path: &str) -> Option<u16> {
        self.http_get(path).map(|(code, _)| code)
    }

    /// Returns status code and body of an HTTP request, or `None` without an answer.
    pub fn http_get(&self, path: &str) -> Option<(u16, String)> {
        self.http_get_by(self.connect().ok()?, path)
    }

    /// The same over this connection.
    pub fn http_get_by(&self, mut stream: TcpStream, path: &str) -> Option<(u16, String)> {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Connects to its admin port.
    pub fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.port.number()))
    }

    /// Connects to its admin port from another address of this machine, 127.0.0.2.
    pub fn connect_from_elsewhere(&self) -> io::Result<TcpStream> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (from, to) =
            (SocketAddr::from(([127, 0, 0, 2], 0)), SocketAddr::from(([127, 0, 0, 1], self.port.number())));
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(from)?;
            socket.connect(to).await?.into_std()
        };
        let stream = runtime.block_on(connect)?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Fetches the metrics from another address of this machine.
    pub fn scrape_from_elsewhere(&self) -> Option<(u16, String)> {
        self.http_get_by(self.connect_from_elsewhere().ok()?, "/metrics")
    }

    /// Returns the log.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    /// Returns the log after its first `start` bytes.
    pub fn log_from(&self, start: u64) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.guard.err("operator")) {
            let _ = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_string(&mut text));
        }
        text
    }

    /// Returns how often the log contains this text.
    pub fn count_in_log(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Ends the operator as the kubelet would (SIGTERM), and returns its exit code.
    pub fn stop(&self) -> Option<i64> {
        assert!(self.guard.stop("operator", SOON).expect("a signal"), "the operator ends by itself");
        self.guard.exited("operator").expect("the exit code is known")
    }

    /// Returns the resident memory, in bytes.
    pub fn resident(&self) -> usize {
        process_status(self.pid, "VmRSS:") * 1024
    }

    /// Returns the resident memory without the pages of the program's file, in bytes.
    pub fn anonymous(&self) -> usize {
        process_status(self.pid, "RssAnon:") * 1024
    }

    /// Returns the peak of the resident memory, in bytes.
    pub fn peak(&self) -> usize {
        process_status(self.pid, "VmHWM:") * 1024
    }

    /// Returns the number of open files and sockets. Only root can count those of a process that
    /// can't be debugged.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Freezes the operator (SIGSTOP).
    pub fn freeze(&self) {
        self.guard.signal("operator", Signal::Freeze).expect("a signal");
    }

    /// Lets a frozen operator continue (SIGCONT).
    pub fn thaw(&self) {
        self.guard.signal("operator", Signal::Thaw).expect("a signal");
    }

    /// Kills the operator (SIGKILL).
    pub fn kill(&self) {
        self.guard.kill("operator").expect("a signal");
    }
}

/// Returns a number of `/proc/PID/status`.
pub fn process_status(pid: u32, field: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let value = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of /proc/PID/status");
    value.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Returns the command `run` as a user of an API server.
fn command(kubeconfig: &Path, broker_url: &str, arguments: &[&str], log: &str) -> Command {
    let mut command = Command::new(program());
    command
        .arg("run")
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env("PROD_AMQP_URL", broker_url)
        .env("STG_AMQP_URL", broker_url)
        // The image that the rig's nodes have. At the tag of a release, the default is another.
        .env("CLI_IMAGE", images::CLI)
        .env("LOG_FORMAT", "text")
        .env("RUST_LOG", log);
    command
}

/// Returns the operators' requests in a namespace, from the API server's audit log.
pub fn audited(namespace: &TestNamespace) -> Vec<Value> {
    let mut events = namespace.kube.audit_events().expect("the audit log");
    events.retain(|event| {
        event["stage"] == "ResponseComplete"
            && event["objectRef"]["namespace"] == namespace.name.as_str()
            && event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("fedora-message-operator/"))
    });
    events
}

/// Returns for each message whose name begins with `prefix` the time from its creation to its status, by
/// the API server's clock. The shortest time comes first.
pub fn latencies(namespace: &TestNamespace, prefix: &str) -> Vec<Duration> {
    let time = |events: &[Value], name: &str, subresource: &Value| -> Option<DateTime<Utc>> {
        let event = events.iter().find(|event| {
            let object = &event["objectRef"];
            object["namespace"] == namespace.name.as_str()
                && object["resource"] == "fedoramessages"
                && object["name"] == name
                && object["subresource"] == *subresource
                && event["stage"] == "ResponseComplete"
        });
        Some(event?["stageTimestamp"].as_str()?.parse().expect("a time"))
    };
    let messages = namespace.summaries().expect("the messages");
    let names: Vec<&str> = messages.iter().map(Summary::name).filter(|name| name.starts_with(prefix)).collect();
    // The API server writes an entry after its answer.
    let logged = wait_for(SOON, "creation and status of each message are in the audit log", || {
        let events = namespace.kube.audit_events()?;
        let took = |name: &&str| {
            let took = time(&events, name, &json!("status"))? - time(&events, name, &Value::Null)?;
            Some(took.to_std().unwrap_or_default())
        };
        Ok(names.iter().map(took).collect::<Option<Vec<Duration>>>())
    });
    let mut latencies = logged.expect("the entries of the log");
    latencies.sort_unstable();
    latencies
}

/// Returns the verb of the operator's status writes on this version of Kubernetes.
pub fn write_verb() -> &'static str {
    let version = rig::kube::version().expect("a version");
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).expect("a minor version");
    if minor < 36 { "patch" } else { "update" }
}

/// Returns URI and status code of the operators' requests for messages with this verb.
pub fn requests(namespace: &TestNamespace, verb: &str) -> Vec<(String, u64)> {
    let events = audited(namespace).into_iter();
    events
        .filter(|event| event["verb"] == verb && event["objectRef"]["resource"] == "fedoramessages")
        .map(|event| {
            let uri = event["requestURI"].as_str().unwrap_or_default().to_owned();
            (uri, event["responseStatus"]["code"].as_u64().unwrap_or_default())
        })
        .collect()
}

/// Waits until the audit log has this number of the requests that [`requests`] returns, and returns them
/// all. The API server writes an entry after its answer.
pub fn wait_for_requests(namespace: &TestNamespace, verb: &str, count: usize) -> Vec<(String, u64)> {
    let found = || requests(namespace, verb);
    wait_until(SOON, &format!("{count} requests to {verb} are in the audit log"), || found().len() >= count)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", found()));
    found()
}

/// Returns a port at which nobody listens while it is kept, and a broker's URL with it.
pub fn unused_broker_url() -> (Port, String) {
    let port = Port::reserve().expect("a free port");
    let url = format!("amqps://localhost:{}/%2Fpubsub", port.number());
    (port, url)
}
