//! The examples of docs/pipelines.md that are Pods: they run as they stand, with the operator's image.

use rig::images;
use serde_json::{Value, json};

use crate::cluster::{cluster, environment, namespace, operator, wait_for_reason};
use crate::install::import;
use e2e::raw::RawConsumer;
use e2e::{SOON, TestNamespace, read, sender};

/// Reads an example, and names the images on this node. A cluster without Service addresses needs
/// variables for its API server.
fn example(name: &str, pod: &str) -> String {
    let mut object: Value = serde_saphyr::from_str(&read(&format!("docs/examples/integrations/{name}"))).expect("YAML");
    let env: Vec<_> = environment(cluster())
        .iter()
        .filter(|(name, _)| name.starts_with("KUBERNETES"))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let spec = object.pointer_mut(pod).expect("a Pod");
    for containers in ["initContainers", "containers"] {
        for container in spec[containers].as_array_mut().into_iter().flatten() {
            let is_ours = container["image"].as_str().is_some_and(|image| image.contains("fedora-message-operator"));
            if !is_ours {
                container["args"] = json!(["--version"]);
            }
            container["image"] = images::operator_name().expect("a name").into();
            container["imagePullPolicy"] = "Never".into();
            container["env"] = env.clone().into();
        }
    }
    object.to_string()
}

fn wait_for_job(namespace: &TestNamespace, selector: &[&str]) {
    let wait = [&["wait", "--for=condition=Complete", "--timeout=120s"], selector].concat();
    if let Err(error) = namespace.try_kubectl(&wait, "") {
        panic!("{error}\n{}", namespace.kubectl(&["describe", "pods"]));
    }
}

/// The `CronJob` sends a message, and the Job one before and one after its work.
#[test]
fn jobs_send_messages() {
    let cluster = cluster();
    import(cluster);
    let namespace = namespace("pipelines", "publisher");
    namespace.apply(&read("docs/examples/integrations/permissions.yaml"));
    namespace.apply(&sender("default", ", topicPrefix: pipelines"));
    let consumer = RawConsumer::start(&cluster.broker, "pipelines.#");
    let _operator = operator(&namespace, "direct", &[]);

    namespace.apply(&example("cronjob.yaml", "/spec/jobTemplate/spec/template/spec"));
    namespace.kubectl(&["create", "job", "now", "--from=cronjob/nightly-report"]);
    namespace.create(&example("job.yaml", "/spec/template/spec"));
    wait_for_job(&namespace, &["job", "--all"]);

    let mut names: Vec<_> = namespace.messages().iter().map(|it| it["metadata"]["name"].to_string()).collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        wait_for_reason(&namespace, name.trim_matches('"'), "Sent");
    }
    let mut topics: Vec<_> = consumer.take(3, SOON).iter().map(|message| message.routing_key.to_string()).collect();
    topics.sort();
    assert_eq!(topics, ["pipelines.migration.begin", "pipelines.migration.end", "pipelines.report.nightly"]);
}
