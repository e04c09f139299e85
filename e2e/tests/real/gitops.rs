//! Argo CD, Flux and kstatus judge messages and Senders rightly in every state, and their ways of changing
//! resources do what docs/gitops.md says.

use std::path::Path;
use std::process::Command;

use rig::{go_module, testdata};
use serde::Deserialize;
use serde_json::{Value, json};

use e2e::raw::RawConsumer;
use e2e::{
    Operator, SOON, TestNamespace, message, project, read, run, sender, shared, unused_broker_url, wait_soon, with_spec,
};

const ARGOCD: &str = "manifests/integrations/argocd";
const FLUX: &str = "manifests/integrations/flux/kustomization.yaml";

/// The CRD of Flux's Kustomizations.
const KUSTOMIZATION_CRD: (&str, &str, &str) = (
    "github.com/fluxcd/kustomize-controller",
    "v1.9.6",
    "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
);

/// The judgment of kstatus, Argo CD and Flux.
#[derive(Debug, Deserialize)]
struct Judgment {
    kstatus: String,
    argocd: String,
    message: String,
    flux: String,
}

/// Judges objects by the health checks of their kind.
fn judgments(objects: &[Value]) -> Vec<Judgment> {
    let flux: Value = serde_saphyr::from_str(&read(FLUX)).expect("YAML");
    let checks = flux["spec"]["healthCheckExprs"].as_array().expect("a list");
    let lines: Vec<_> = objects
        .iter()
        .map(|object| {
            let kind = object["kind"].as_str().expect("a kind");
            let cel = checks.iter().find(|check| check["kind"] == kind).expect("expressions");
            json!({"object": object, "lua": read(&format!("{ARGOCD}/{kind}/health.lua")), "cel": cel}).to_string()
        })
        .collect();
    // It has the libraries of kstatus, of Argo CD's Lua and of Flux. The first build takes about 2 minutes.
    let program = go_module::program(&testdata("gitops"), "gitops").expect("the program");
    let answers = run(&mut Command::new(program), &lines.join("\n")).expect("it judges");
    answers.lines().map(|line| serde_json::from_str(line).expect("a judgment")).collect()
}

#[track_caller]
fn assert_judged(object: &Value, expected: [&str; 3]) {
    let [judgment] = &judgments(std::slice::from_ref(object))[..] else { panic!("one judgment") };
    let Judgment { kstatus, argocd, flux, .. } = judgment;
    assert_eq!([kstatus.as_str(), argocd, flux], expected, "{judgment:?}\n{object:#}");
}

/// A message is never current before it is sent, also without an operator.
#[test]
fn messages_are_judged_rightly() {
    let namespace = TestNamespace::new("judged");
    let new = |name: &str, more: &str| {
        namespace.apply(&with_spec(&message(name, "judged.it", ""), more));
        namespace.get(name)
    };
    let in_progress = ["InProgress", "Progressing", "InProgress"];
    assert_judged(&new("waiting", "backoffLimit: 9"), in_progress);
    // The operator knows this text, and does not decode it.
    let path = format!("{}/namespaces/{}/fedoramessages/waiting", e2e::MESSAGES, namespace.name);
    let stored = namespace.kubectl(&["get", "--raw", &path]);
    assert!(stored.contains(r#""status":{"observedGeneration":-1}"#), "{stored}");
    assert_judged(&new("suspended", "suspend: true"), ["InProgress", "Suspended", "InProgress"]);

    let operator = Operator::start(&namespace, &[]);
    namespace.wait_for_reason("waiting", "SecretNotFound");
    namespace.wait_for_reason("suspended", "Suspended");
    assert_judged(&namespace.get("waiting"), in_progress);
    assert_judged(&namespace.get("suspended"), ["InProgress", "Suspended", "InProgress"]);
    namespace.store_certificate(&shared().broker, "publisher");
    namespace.wait_for_reason("waiting", "Sent");
    assert_judged(&namespace.get("waiting"), ["Current", "Healthy", "Current"]);
    assert_eq!(operator.stop(), Some(0));

    let (_port, nobody) = unused_broker_url();
    let _operator = Operator::with_broker(&nobody, &namespace, &[]);
    new("given-up", "backoffLimit: 0");
    namespace.wait_for_reason("given-up", "BackoffLimitExceeded");
    assert_judged(&namespace.get("given-up"), ["Failed", "Degraded", "Failed"]);
}

#[test]
fn senders_are_judged_rightly() {
    let namespace = TestNamespace::new("judged-senders");
    namespace.apply(&sender("default", ""));
    assert_judged(&namespace.get_sender("default"), ["InProgress", "Progressing", "InProgress"]);
    let _operator = Operator::start(&namespace, &[]);
    namespace.wait_for_sender("default", "False", "SecretNotFound");
    assert_judged(&namespace.get_sender("default"), ["InProgress", "Degraded", "Failed"]);
    namespace.store_certificate(&shared().broker, "publisher");
    namespace.wait_for_sender("default", "True", "LoggedIn");
    assert_judged(&namespace.get_sender("default"), ["Current", "Healthy", "Current"]);
}

/// The test data has the form that Argo CD's own repository takes.
#[test]
fn argocds_test_data_is_right() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Test {
        health_status: Value,
        input_path: String,
    }
    #[derive(Deserialize)]
    struct Tests {
        tests: Vec<Test>,
    }
    for kind in ["FedoraMessage", "FedoraMessageSender"] {
        let folder = format!("{ARGOCD}/{kind}");
        let Tests { tests } = serde_saphyr::from_str(&read(&format!("{folder}/health_test.yaml"))).expect("YAML");
        let data = std::fs::read_dir(project(&folder).join("testdata")).expect("a folder").count();
        assert_eq!(tests.len(), data, "each file has a test");
        let object =
            |test: &Test| serde_saphyr::from_str(&read(&format!("{folder}/{}", test.input_path))).expect("YAML");
        let objects: Vec<Value> = tests.iter().map(object).collect();
        for (test, judgment) in tests.iter().zip(judgments(&objects)) {
            let found = json!({"status": judgment.argocd, "message": judgment.message});
            assert_eq!(found, test.health_status, "{}", test.input_path);
        }
    }
}

/// The example for Flux has the schema of Flux's own CRD.
#[test]
fn api_server_accepts_fluxs_example() {
    let namespace = TestNamespace::new("flux");
    let example = read(FLUX).replace("namespace: flux-system", &format!("namespace: {}", namespace.name));
    let answer = check_by_crd(&namespace, KUSTOMIZATION_CRD, &example);
    assert!(answer.expect("it is accepted").contains("created"));
    let misspelled = example.replace("healthCheckExprs:", "healthCheckExpr:");
    let error = check_by_crd(&namespace, KUSTOMIZATION_CRD, &misspelled).expect_err("it is refused");
    assert!(error.contains(r#"unknown field "spec.healthCheckExpr""#), "{error}");
}

/// Installs another project's CRD, and lets the API server check an object by it. The CRD is a Go module, its
/// version, and the path of a file in it.
pub(crate) fn check_by_crd(
    namespace: &TestNamespace,
    (module, version, path): (&str, &str, &str),
    object: &str,
) -> Result<String, String> {
    let crd = go_module::file(module, version, path).expect("go downloads the module");
    namespace.kubectl(&["apply", "--server-side", "-f", &crd.display().to_string()]);
    let mut answer = Err(String::new());
    // The API server serves a new kind a moment later.
    wait_soon("the kind is known", || {
        answer = namespace.try_kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], object);
        let unknown = ["no matches for kind", "could not find the requested resource"];
        !matches!(&answer, Err(error) if unknown.iter().any(|text| error.contains(text)))
    });
    answer
}

/// The component adds its keys to the ConfigMap of the kustomization that uses it.
#[test]
fn component_adds_health_checks_to_argocd() {
    let cli = e2e::cli::Cli::new();
    let component = relative(cli.folder(), &project(ARGOCD));
    cli.file(
        "argocd-cm.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: argocd-cm}, data: {url: https://a}}",
    );
    cli.file("kustomization.yaml", &format!("resources: [argocd-cm.yaml]\ncomponents: [{component}]\n"));
    let mut kubectl = Command::new(shared().kube.kubectl_path());
    kubectl.args(["kustomize", "--load-restrictor", "LoadRestrictionsNone"]).arg(cli.folder());
    let built: Value = serde_saphyr::from_str(&run(&mut kubectl, "").expect("it builds")).expect("YAML");
    assert_eq!(built["data"]["url"], "https://a");
    for kind in ["FedoraMessage", "FedoraMessageSender"] {
        let key = format!("resource.customizations.health.apps.fedoraproject.org_{kind}");
        assert_eq!(built["data"][&key], read(&format!("{ARGOCD}/{kind}/health.lua")));
    }
}

/// Returns the path of a folder as seen from another one.
fn relative(from: &Path, to: &Path) -> String {
    let up = from.components().count() - 1;
    format!("{}{}", "../".repeat(up), to.strip_prefix("/").expect("an absolute path").display())
}

/// An edited message in Git is refused with the rule's words. A tool that replaces it sends another message.
#[test]
fn changed_message_is_refused_or_sent_anew() {
    let namespace = TestNamespace::with_publisher("edited");
    let consumer = RawConsumer::start(&shared().broker, "edited.it");
    let _operator = Operator::start(&namespace, &[]);
    let apply = |text: &str| namespace.try_kubectl(&["apply", "--server-side", "-f", "-"], text);
    let first = message("release", "edited.it", "").replace("body: {", "body: {version: 1, ");
    let second = first.replace("version: 1", "version: 2");
    apply(&first).expect("it is created");
    namespace.wait_for_reason("release", "Sent");
    let id = namespace.get("release")["status"]["messageId"].clone();
    apply(&first).expect("nothing changes");
    let refusal = apply(&second).expect_err("it is refused");
    assert!(refusal.contains("spec.message can't be changed") && refusal.contains("create another"), "{refusal}");
    assert_eq!(consumer.take(1, SOON).len(), 1);

    // As Flux with force, and Argo CD with Force=true,Replace=true.
    namespace.try_kubectl(&["replace", "--force", "-f", "-"], &second).expect("it is replaced");
    namespace.wait_for_reason("release", "Sent");
    assert_ne!(namespace.get("release")["status"]["messageId"], id);
    assert_eq!(consumer.take(1, SOON).len(), 1, "another message");

    // Named by its content, a changed message is another resource.
    apply(&second.replace("name: release", "name: release-2")).expect("it is created");
    namespace.wait_for_reason("release-2", "Sent");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}
