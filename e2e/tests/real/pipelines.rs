//! The examples for pipelines (docs/pipelines.md): API servers accept them, and their messages are sent.
//! `tests/pods` runs those that a node can run.

use std::process::Command;

use serde_json::Value;

use crate::monitoring::files;
use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, read, run, sender, shared};

const FOLDER: &str = "docs/examples/integrations";

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

/// The page lists all examples.
#[test]
fn page_lists_all_examples() {
    let page = read("docs/pipelines.md");
    for file in files(FOLDER, "yaml") {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(page.contains(&format!("[{name}](examples/integrations/{name})")), "{name}");
    }
}

/// The messages that Argo CD and Argo Workflows create, with the values that they fill in.
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
    let all = manifests.map(filled).chain([read(&format!("{FOLDER}/argocd-postsync.yaml"))]).collect::<Vec<_>>();
    namespace.create(&all.join("\n---\n"));
    namespace.wait_for_all_sent();
    let mut topics: Vec<_> = consumer.take(3, SOON).iter().map(|message| message.routing_key.to_string()).collect();
    topics.sort();
    assert_eq!(topics, ["embedded.build.begin", "embedded.build.end", "embedded.deployment.done"]);

    // Argo Workflows reads these fields.
    let condition = &templates[0]["resource"]["successCondition"];
    assert_eq!(condition, "status.status == true");
    assert!(namespace.messages().iter().all(|message| message["status"]["status"] == true));
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
