//! Tests that the real parts start and work.

use std::time::Duration;

use rig::broker::Options;
use rig::rabbitmq::RabbitMq;
use rig::{Broker, Consumer, Kube, Publisher, kube};
use serde_json::json;

#[test]
fn api_server_keeps_data_after_restart() {
    let kube = Kube::start().unwrap();

    kube.create_namespace("here").unwrap();
    let seen = kube.run(&["get", "namespaces", "-o", "name"]).unwrap();
    assert!(seen.contains("namespace/here"), "{seen}");
    let counted = kube.audit_events().unwrap();
    let creations = counted.iter().filter(|event| event["verb"] == "create" && event["objectRef"]["name"] == "here");
    assert_eq!(creations.count(), 1);
    let seen = kube.run(&["version", "-o", "json"]).unwrap();
    let version = kube::version().unwrap();
    let (minor, _patch) = version.rsplit_once('.').unwrap();
    assert!(seen.contains(&format!("v{minor}.")), "{seen}");

    let alice = kube.kubeconfig_for("alice").unwrap();
    let alice = kube.kubectl().env("KUBECONFIG", alice).args(["get", "namespaces"]).output().unwrap();
    let refusal = String::from_utf8_lossy(&alice.stderr).into_owned();
    assert!(refusal.contains("User \"alice\" cannot list resource \"namespaces\""), "{refusal}");

    for process in [kube::Process::ApiServer, kube::Process::Etcd] {
        kube.kill(process).unwrap();
        kube.restart(process).unwrap();
        let seen = kube.run(&["get", "namespaces", "-o", "name"]).unwrap();
        assert!(seen.contains("namespace/here"), "{seen}");
    }

    kube.freeze(kube::Process::ApiServer).unwrap();
    assert!(kube.run(&["get", "ns", "--request-timeout=1s"]).is_err());
    kube.thaw(kube::Process::ApiServer).unwrap();
    kube.wait_ready().unwrap();

    let scratch = kube.guard().scratch().to_owned();
    drop(kube);
    assert!(!scratch.exists());
}

#[test]
fn broker_runs_without_installation() {
    let rabbitmq = RabbitMq::unpacked().unwrap();
    let broker = Broker::start_from(rabbitmq, &Options::default()).unwrap();
    let users = broker.ctl(&["list_users"]).unwrap();
    assert!(users.contains("publisher"), "{users}");
    let consumer = Consumer::start(&broker, "#").unwrap();
    let mut publisher = Publisher::start(&broker, "publisher", "").unwrap();
    let id = publisher.publish(&json!({"topic": "unpacked", "body": {}})).unwrap();
    let received = consumer.wait_for(1, Duration::from_secs(10)).unwrap();
    assert_eq!(received[0]["id"], json!(id));
}

#[test]
fn consumer_receives_published_messages() {
    let broker = Broker::start().unwrap();
    let consumer = Consumer::start(&broker, "#").unwrap();
    let mut publisher = Publisher::start(&broker, "publisher", "org.fedoraproject.prod").unwrap();

    let id = publisher
        .publish(&json!({"topic": "nice.message", "body": {"a": 1}, "headers": {"niceness": "very"}}))
        .unwrap();
    publisher
        .publish(&json!({
            "topic": "nice.other", "body": {}, "severity": 40, "priority": 7,
            "schema": "bodhi.update", "schemaPackage": "bodhi_messages",
        }))
        .unwrap();
    let received = consumer.wait_for(2, Duration::from_secs(10)).unwrap();

    assert_eq!(received[0]["id"], json!(id));
    assert_eq!(received[0]["topic"], "org.fedoraproject.prod.nice.message");
    assert_eq!(received[0]["body"], json!({"a": 1}));
    assert_eq!(received[0]["headers"]["niceness"], "very");
    assert_eq!(received[0]["severity"], 20);
    assert_eq!(received[1]["headers"]["fedora_messaging_schema"], "bodhi.update");
    assert_eq!(received[1]["headers"]["fedora_messaging_schema_package"], "bodhi_messages");
    assert_eq!(received[1]["priority"], 7);
    assert_eq!(received[1]["headers"]["priority"], 7);
}

#[test]
fn broker_refuses_and_recovers() {
    let broker = Broker::start().unwrap();
    let mut nice = Publisher::start(&broker, "nice-app", "").unwrap();
    nice.publish(&json!({"topic": "nice.message", "body": {}})).unwrap();
    let refusal = nice.publish(&json!({"topic": "other.message", "body": {}})).unwrap_err();
    assert!(refusal.to_string().contains("access to topic 'other.message'"), "{refusal:#}");

    let log = broker.log().unwrap();
    assert!(log.contains("TLSv1.3") || log.contains("nice-app"), "{log}");

    broker.kill().unwrap();
    broker.restart().unwrap();
    broker.stop().unwrap();
    broker.restart().unwrap();

    broker.set_memory_alarm(true).unwrap();
    let alarms = broker.ctl(&["eval", "rabbit_alarm:get_alarms()."]).unwrap();
    assert!(alarms.contains("memory"), "{alarms}");
    broker.set_memory_alarm(false).unwrap();
    let alarms = broker.ctl(&["eval", "rabbit_alarm:get_alarms()."]).unwrap();
    assert!(!alarms.contains("memory"), "{alarms}");

    broker.freeze().unwrap();
    broker.thaw().unwrap();
    Publisher::start(&broker, "nice-app", "").unwrap().publish(&json!({"topic": "nice.message", "body": {}})).unwrap();
}
