//! The shared API server and broker, the program under test, and commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rig::{ClientCert, Kube, Rig, project, wait_until};

use crate::namespace::message;

/// The deadline for everything that a user would wait for, on a busy machine.
pub const SOON: Duration = Duration::from_mins(1);

/// The files with the CRDs.
pub const CRDS: [&str; 2] = ["crds/fedoramessages.yaml", "crds/fedoramessagesenders.yaml"];

/// How to build the program.
const BUILD: &str = "run `cargo build` first, with the same profile and features";

/// Returns the program under test, which Cargo built in the folder of this test or benchmark.
///
/// Panics if the program is absent, or older than one of its sources.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this program");
        let folder = test.ancestors().nth(2).expect("the folder above deps");
        let program = folder.join("fedora-message-operator");
        let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
        let built = modified(&program).unwrap_or_else(|error| panic!("{}: {error}: {BUILD}", program.display()));
        // Cargo lists the program's sources in this file, separated by spaces.
        let sources = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
        let newer =
            sources.split_whitespace().skip(1).find(|path| modified(Path::new(path)).is_ok_and(|at| at > built));
        assert!(newer.is_none(), "{} is older than {newer:?}: {BUILD}", program.display());
        program
    })
}

/// Returns the shared API server and broker, with CRD and admission policy installed.
pub fn shared() -> &'static Rig {
    static SHARED: OnceLock<Rig> = OnceLock::new();
    SHARED.get_or_init(|| {
        let rig = Rig::start().expect("the API server and the broker start");
        install(&rig.kube);
        rig
    })
}

/// Returns a new client certificate of a user of the shared broker.
pub fn certificate(user: &str) -> ClientCert {
    shared().broker.client(user).expect("a certificate")
}

/// Installs CRD and admission policy, and waits until both are in force.
pub fn install(kube: &Kube) {
    let files = CRDS.into_iter().chain(["manifests/base/admission-policy.yaml"]).map(project);
    kube.apply(&files.collect::<Vec<_>>()).expect("the CRDs and the policy are accepted");
    let forbidden = message("forbidden", "a.topic", ", headers: {CC: nobody}");
    let refused = || {
        let mut kubectl = kube.kubectl();
        kubectl.args(["create", "--dry-run=server", "--namespace", "default", "-f", "-"]);
        run(&mut kubectl, &forbidden).is_err_and(|error| error.contains("ValidatingAdmissionPolicy"))
    };
    wait_soon("the policy is in force", refused);
}

/// Stores the admission policies of delivery by Pods. Another test may store them at the same moment.
pub fn store_pod_policies(kube: &Kube) {
    let file = project("manifests/components/pods/admission-policy.yaml");
    wait_soon("the policies of Pods are stored", || kube.apply(std::slice::from_ref(&file)).is_ok());
}

/// Returns the blocks of YAML in a page of Markdown.
pub fn yaml_blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// Reads a text file of the project.
#[track_caller]
pub fn read(path: &str) -> String {
    match std::fs::read_to_string(project(path)) {
        Ok(text) => text,
        Err(error) => panic!("{path}: {error}"),
    }
}

/// Returns the number of messages that a fault test sends: `FAULTS_MESSAGES`, or `default`, which
/// suits CI.
pub fn message_count(default: usize) -> usize {
    std::env::var("FAULTS_MESSAGES").ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// Waits until a condition is true. Panics with `what` if it is not true soon.
#[track_caller]
pub fn wait_soon(what: &str, condition: impl FnMut() -> bool) {
    wait_until(SOON, what, condition).expect(what);
}

/// Lets a fault last for this time. Everything else waits for a condition.
pub fn let_fault_last(time: Duration) {
    std::thread::sleep(time);
}

/// Runs a command with this standard input. Returns its standard output, or all its output if it
/// fails.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
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
