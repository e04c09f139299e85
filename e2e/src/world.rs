//! What the tests stand on: the shared parts, a namespace for each test, and the operator as a
//! process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rig::guard::Signal;
use rig::port::Port;
use rig::{Broker, Clock, Guard, Kube, Rig, wait_for, wait_until};
use serde_json::Value;

/// How long anything may take that a user would wait for, on a busy machine.
pub const SOON: Duration = Duration::from_mins(1);

/// How the program is built.
const BUILD: &str = "run `cargo build` first, with the same profile and features";

/// What the operator logs, unless a test wants something else.
pub const DEBUG: &str = "fedora_message_operator=debug";

/// The program under test: the one that Cargo built in the folder of this test or benchmark.
///
/// Panics if it is absent, or older than one of its sources.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this program");
        let folder = test.ancestors().nth(2).expect("the folder above deps");
        let program = folder.join("fedora-message-operator");
        let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
        let built = modified(&program).unwrap_or_else(|error| panic!("{}: {error}: {BUILD}", program.display()));
        // Cargo lists there what it was built from, separated by blanks.
        let sources = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
        let newer =
            sources.split_whitespace().skip(1).find(|path| modified(Path::new(path)).is_ok_and(|at| at > built));
        assert!(newer.is_none(), "{} is older than {newer:?}: {BUILD}", program.display());
        program
    })
}

/// The shared API server and broker, with CRD and admission policy installed.
pub fn world() -> &'static Rig {
    static WORLD: OnceLock<Rig> = OnceLock::new();
    WORLD.get_or_init(|| {
        let rig = Rig::start().expect("the real parts start");
        install(&rig.kube);
        rig
    })
}

/// Installs CRD and admission policy, and waits until both are in force.
pub fn install(kube: &Kube) {
    let files = ["crds/fedoramessages.yaml", "manifests/base/admission-policy.yaml"].map(project);
    kube.apply(&files).expect("the CRD and the policy are accepted");
    let forbidden = message("forbidden", "a.topic", ", headers: {CC: nobody}");
    let try_it = || {
        let mut kubectl = kube.kubectl();
        kubectl.args(["create", "--dry-run=server", "--namespace", "default", "-f", "-"]);
        run(kubectl, &forbidden)
    };
    let refused = || try_it().is_err_and(|words| words.contains("ValidatingAdmissionPolicy"));
    wait_until(SOON, "the policy is in force", refused).expect("the policy is in force");
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// A namespace of a test's own.
pub struct Space<'a> {
    /// Its name.
    pub name: String,
    kube: &'a Kube,
}

impl Space<'static> {
    /// Makes a new namespace.
    pub fn new(title: &str) -> Self {
        Self::on(&world().kube, title)
    }
}

impl<'a> Space<'a> {
    /// Makes a new namespace on a given API server.
    pub fn on(kube: &'a Kube, title: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{title}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        kube.create_namespace(&name).expect("a namespace is made");
        Self { name, kube }
    }

    /// Stores a client certificate of the broker's user `cn` as Secret `certs`.
    pub fn certificate(&self, broker: &Broker, cn: &str) {
        let certificate = broker.client(cn).expect("a certificate is issued");
        self.kube.apply_text(&certificate.secret_yaml("certs", &self.name)).expect("the Secret is stored");
    }

    /// Runs kubectl in the namespace, with `input` as its standard input.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        run(command, input)
    }

    /// kubectl in the namespace; add arguments.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.kube.kubectl();
        command.args(["--namespace", &self.name]);
        command
    }

    /// Applies manifests as a user would; the error is what the user reads.
    pub fn apply(&self, manifests: &str) -> Result<String, String> {
        self.kubectl(&["apply", "--server-side", "-f", "-"], manifests)
    }

    /// Creates a message from JSON that kubectl does not look at, and so does not change or refuse.
    pub fn post(&self, json: &str) -> Result<String, String> {
        let path = format!("/apis/apps.fedoraproject.org/v1alpha1/namespaces/{}/fedoramessages", self.name);
        self.kubectl(&["create", "--raw", &path, "-f", "-"], json)
    }

    /// A message's resource as it is stored.
    pub fn get(&self, name: &str) -> Value {
        let json = self.kubectl(&["get", "fmsg", name, "-o", "json"], "").expect("the message exists");
        serde_json::from_str(&json).expect("kubectl prints JSON")
    }

    /// Waits until a message's status has the given reason, and returns the status.
    pub fn wait_for_reason(&self, name: &str, reason: &str) -> Value {
        let mut last = Value::Null;
        wait_for(SOON, &format!("{name} has reason {reason}"), || {
            last = self.get(name)["status"].take();
            Ok((last["reason"] == reason).then(|| last.clone()))
        })
        .unwrap_or_else(|error| panic!("{error}; the status is {last:#}"))
    }
}

/// A message with this topic and, in flow style, these further fields of `spec.message`.
pub fn message(name: &str, topic: &str, more: &str) -> String {
    format!(
        "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {{name: {name}}}
spec:
  env: prod
  message: {{body: {{name: {name}}}, topic: {topic}{more}}}
  authentication: {{secretRef: {{name: certs}}}}
---
"
    )
}

/// A running operator; it ends with the value.
pub struct Operator {
    guard: Guard,
    port: Port,
    /// Its process.
    pub pid: u32,
}

impl Operator {
    /// Starts an operator for one namespace on the shared parts, and waits until it is ready.
    pub fn start(space: &Space, arguments: &[&str]) -> Self {
        Self::on(&world().kube, &world().broker.url(), space, arguments)
    }

    /// Starts an operator on the given parts, and waits until it is ready.
    pub fn on(kube: &Kube, broker_url: &str, space: &Space, arguments: &[&str]) -> Self {
        let arguments = [&["--watch-namespaces", &space.name], arguments].concat();
        let operator = Self::launch(&kube.kubeconfig(), broker_url, &arguments, DEBUG);
        operator.wait_ready();
        operator
    }

    /// Starts an operator as some user of an API server, with this log level, and does not wait.
    pub fn launch(kubeconfig: &Path, broker_url: &str, arguments: &[&str], log: &str) -> Self {
        Self::spawn(command(kubeconfig, broker_url, arguments, log))
    }

    /// Starts an operator with a clock of its own for one namespace on the shared parts, and waits
    /// until it is ready.
    pub fn with_clock(clock: &Clock, space: &Space) -> Self {
        let arguments = ["--watch-namespaces", &space.name];
        let mut command = command(&world().kube.kubeconfig(), &world().broker.url(), &arguments, DEBUG);
        command.envs(clock.environment());
        let operator = Self::spawn(command);
        operator.wait_ready();
        operator
    }

    fn spawn(mut command: Command) -> Self {
        let (guard, port) = (Guard::new("operator").expect("a guard"), Port::reserve().expect("a free port"));
        command.args(["--admin-address", &format!("127.0.0.1:{}", port.number())]);
        let pid = guard.start("operator", &command).expect("the operator starts");
        Self { guard, port, pid }
    }

    /// Waits until it is ready.
    pub fn wait_ready(&self) {
        wait_until(SOON, "the operator is ready", || self.probe("/readyz") == Some(200))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// Waits until it has logged these words.
    pub fn wait_for_words(&self, words: &str) {
        wait_until(SOON, &format!("it logs {words:?}"), || self.log().contains(words))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// The status code of a probe; none if nobody answers.
    pub fn probe(&self, path: &str) -> Option<u16> {
        self.ask(path).map(|(code, _)| code)
    }

    /// What it answers; nothing if it does not.
    pub fn ask(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number())).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    /// What it has logged after the first so many bytes.
    pub fn log_from(&self, start: u64) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.guard.err("operator")) {
            let _ = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_string(&mut text));
        }
        text
    }

    /// Ends it as the kubelet would, and returns its exit code.
    pub fn stop(&self) -> Option<i64> {
        assert!(self.guard.stop("operator", SOON).expect("the operator is told to stop"), "it ends by itself");
        self.guard.exited("operator").expect("the exit code is known")
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kB") * 1024
    }

    /// Makes it stand still.
    pub fn freeze(&self) {
        self.guard.signal("operator", Signal::Freeze).expect("the operator is frozen");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.guard.signal("operator", Signal::Thaw).expect("the operator goes on");
    }

    /// Ends it without warning.
    pub fn kill(&self) {
        self.guard.kill("operator").expect("the operator is killed");
    }
}

/// `run` as some user of an API server.
fn command(kubeconfig: &Path, broker_url: &str, arguments: &[&str], log: &str) -> Command {
    let mut command = Command::new(program());
    command
        .arg("run")
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env("PROD_AMQP_URL", broker_url)
        .env("STG_AMQP_URL", broker_url)
        .env("LOG_FORMAT", "text")
        .env("RUST_LOG", log);
    command
}

/// How many messages a fault test sends: `FAULTS_MESSAGES`, or as many as fit into CI.
pub fn messages(usual: usize) -> usize {
    std::env::var("FAULTS_MESSAGES").ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Lets a fault last. Nothing is waited for.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until no message whose name begins so is pending.
pub fn wait_for_none_pending(space: &Space, names: &str) {
    wait_until(SOON, "all messages are sent", || {
        let pending = space.kubectl(&["get", "fmsg", "--field-selector", "status.status!=true", "-o", "name"], "");
        pending.is_ok_and(|all| !all.lines().any(|name| name.contains(&format!("/{names}"))))
    })
    .expect("all messages are sent");
}

/// Waits until every message of the namespace is sent.
pub fn wait_for_all_sent(space: &Space) {
    wait_until(SOON, "all messages are sent", || {
        let pending = space.kubectl(&["get", "fmsg", "--field-selector", "status.status!=true", "-o", "name"], "");
        pending.is_ok_and(|names| names.trim().is_empty())
    })
    .expect("all messages are sent");
}

/// Runs a command to its end: what it prints, or what it complains.
pub fn run(mut command: Command, input: &str) -> Result<String, String> {
    run_again(&mut command, input)
}

/// The same, for a command that is run more than once.
pub fn run_again(command: &mut Command, input: &str) -> Result<String, String> {
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = process.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = process.wait_with_output().expect("the command ends");
    writer.join().expect("the writer ends");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
}

/// The operators' requests of this kind in a namespace: URI and answer.
pub fn requests(space: &Space, verb: &str) -> Vec<(String, u64)> {
    let events = world().kube.audit_events().expect("the audit log is read");
    let of_operators = events.iter().filter(|event| {
        event["stage"] == "ResponseComplete"
            && event["verb"] == verb
            && event["objectRef"]["resource"] == "fedoramessages"
            && event["objectRef"]["namespace"] == space.name.as_str()
            && event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("fedora-message-operator/"))
    });
    let uri = |event: &Value| event["requestURI"].as_str().unwrap_or_default().to_owned();
    of_operators.map(|event| (uri(event), event["responseStatus"]["code"].as_u64().unwrap_or_default())).collect()
}
