//! The examples for pipelines (docs/pipelines.md): API servers accept them, and their messages are sent.
//! `tests/pods` runs those that a node can run.

use std::process::Command;

use rig::go_module;
use serde_json::Value;

use crate::gitops::check_by_crd;
use crate::monitoring::files;
use e2e::cli::Cli;
use e2e::raw::{RawConsumer, id};
use e2e::{Operator, SOON, TestNamespace, project, read, run, sender, shared, unused_broker_url};

const FOLDER: &str = "docs/examples/integrations";

/// The CRD of Argo's Workflows, with all fields. Nothing else of this module is used.
const WORKFLOW_CRD: (&str, &str, &str) =
    ("github.com/argoproj/argo-workflows/v4", "v4.0.5", "manifests/base/crds/full/argoproj.io_workflows.yaml");

/// Returns the objects of an example.
fn objects(name: &str) -> Vec<Value> {
    let text = read(&format!("{FOLDER}/{name}"));
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect()
}

/// Kubernetes' own kinds, and ours.
#[test]
fn api_server_accepts_examples() {
    let namespace = TestNamespace::new("pipelines");
    for name in ["permissions.yaml", "cronjob.yaml", "job.yaml", "argocd-postsync.yaml"] {
        let text = read(&format!("{FOLDER}/{name}"));
        let arguments = ["create", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"];
        let answer = namespace.try_kubectl(&arguments, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(answer.contains("created"), "{answer}");
    }
}

/// The example for Argo Workflows has the schema of its own CRD.
#[test]
fn api_server_accepts_workflow() {
    let namespace = TestNamespace::new("workflow");
    let example = read(&format!("{FOLDER}/argo-workflow.yaml"));
    let answer = check_by_crd(&namespace, WORKFLOW_CRD, &example);
    assert!(answer.expect("it is accepted").contains("created"));
    let misspelled = example.replace("successCondition:", "successConditions:");
    let error = check_by_crd(&namespace, WORKFLOW_CRD, &misspelled).expect_err("it is refused");
    assert!(error.contains(r#"unknown field "spec.templates[0].resource.successConditions""#), "{error}");
}

/// The page lists all examples.
#[test]
fn page_lists_all_examples() {
    let page = read("docs/pipelines.md");
    for file in files(FOLDER, "yaml") {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(page.contains(&format!("[{name}](examples/integrations/{name})")), "{name}");
    }
}

/// The messages that Argo CD, Argo Workflows and Argo Events create, with the values that they fill in.
#[test]
fn embedded_messages_are_sent() {
    let namespace = TestNamespace::with_publisher("embedded");
    namespace.apply(&sender("default", ""));
    let consumer = RawConsumer::start(&shared().broker, "embedded.#");
    let _operator = Operator::start(&namespace, &["--prod-topic-prefix", "embedded"]);
    let [workflow] = &objects("argo-workflow.yaml")[..] else { panic!("one Workflow") };
    let templates = workflow["spec"]["templates"].as_array().expect("a list");
    let manifests = templates.iter().map(|template| template["resource"]["manifest"].as_str().expect("a text"));
    let filled =
        |text: &str| text.replace("{{workflow.name}}", "build-x7k2p").replace("{{workflow.status}}", "Succeeded");
    let [sensor] = &objects("argo-events.yaml")[..] else { panic!("one Sensor") };
    let trigger = &sensor["spec"]["triggers"][0]["template"]["k8s"];
    assert_eq!(trigger["parameters"][0]["dest"], "spec.message.body.tag");
    let mut created = trigger["source"]["resource"].clone();
    created["spec"]["message"]["body"]["tag"] = "v1.2".into();
    let hook = read(&format!("{FOLDER}/argocd-postsync.yaml"));
    let all = manifests.map(filled).chain([hook, created.to_string()]).collect::<Vec<_>>();
    namespace.create(&all.join("\n---\n"));
    namespace.wait_for_all_sent();
    let mut topics: Vec<_> = consumer.take(4, SOON).iter().map(|message| message.routing_key.to_string()).collect();
    topics.sort();
    assert_eq!(
        topics,
        ["build.begin", "build.end", "deployment.done", "release.new"].map(|topic| format!("embedded.{topic}"))
    );

    // Argo Workflows reads these fields.
    let condition = &templates[0]["resource"]["successCondition"];
    assert_eq!(condition, "status.status == true");
    assert!(namespace.messages().iter().all(|message| message["status"]["status"] == true));
}

/// The Go program, as a user who has only the permissions in `permissions.yaml`.
#[test]
fn go_program_waits_for_result() {
    let (namespace, cli) = (TestNamespace::with_publisher("go"), Cli::new());
    let permissions = objects("permissions.yaml");
    namespace.grant("alice", "messages", &permissions[1]["rules"]);
    namespace.apply(&sender("default", ", topicPrefix: from.go"));
    let consumer = RawConsumer::start(&shared().broker, "from.go.#");
    let program = go_module::program(&project("docs/examples/create-message-go"), "create-message").expect("it builds");

    // As kubectl does, it reads the namespace from the kubeconfig.
    let text = std::fs::read_to_string(shared().kube.kubeconfig_for("alice").expect("a user")).expect("a kubeconfig");
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).expect("YAML");
    kubeconfig["contexts"][0]["context"]["namespace"] = namespace.name.clone().into();
    let kubeconfig = cli.file("kubeconfig", &kubeconfig.to_string());
    let call = || Command::new(&program).env("KUBECONFIG", &kubeconfig).output().expect("it starts");

    let operator = Operator::start(&namespace, &[]);
    let ended = call();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let [received] = &consumer.take(1, SOON)[..] else { panic!("one message") };
    assert_eq!(received.routing_key.as_str(), "from.go.builds.package.built");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), format!("{}\n", id(received)));
    let [stored] = &namespace.messages()[..] else { panic!("one message") };
    assert_eq!(stored["metadata"]["uid"], id(received));
    assert!(stored["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("package-built-")), "{stored}");
    assert_eq!(operator.stop(), Some(0));

    let (_port, nobody) = unused_broker_url();
    namespace.apply(&sender("default", ", topicPrefix: from.go, defaults: {backoffLimit: 0}"));
    let _operator = Operator::with_broker(&nobody, &namespace, &[]);
    let ended = call();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{ended:?}");
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(error.starts_with("package-built-") && error.contains(": given up: "), "{error}");
}

/// The command lines in the examples are valid, with the values that Tekton fills in.
#[test]
fn command_lines_are_valid() {
    let [task, _pipeline] = &objects("tekton.yaml")[..] else { panic!("a Task and a Pipeline") };
    let mut calls = vec![task["spec"]["steps"][0]["args"].clone()];
    calls.push(
        objects("cronjob.yaml")[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"].clone(),
    );
    let pod = &objects("job.yaml")[0]["spec"]["template"]["spec"];
    calls.extend([&pod["initContainers"][0], &pod["containers"][0]].map(|container| container["args"].clone()));
    for call in calls {
        let arguments: Vec<_> =
            call.as_array().expect("a list").iter().map(|it| it.as_str().expect("a text")).collect();
        let filled = arguments.iter().map(|argument| match *argument {
            "$(params.topic)" => "build.end",
            "$(params.fields[*])" => "status=Succeeded",
            "--via-cluster" => "--print-manifest",
            argument => argument,
        });
        let mut command = Command::new(e2e::program());
        command.args(filled.filter(|argument| *argument != "--wait"));
        run(&mut command, "").unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}
