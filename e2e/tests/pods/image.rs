//! The operator in its image, in its cluster.

use std::fs;
use std::process::Command;

use rig::{Guard, images};
use serde_json::{Value, json};

use crate::cluster::{cluster, environment, namespace, wait_for_reason};
use e2e::raw::RawConsumer;
use e2e::{SOON, message, project};

/// The image holds a static program and its license. Its labels describe it.
#[test]
fn image_is_small() {
    let guard = Guard::new("image").expect("a folder");
    let path = |name: &str| guard.scratch().join(name);
    images::operator(&path("operator.tar")).expect("the image is built");
    let size = fs::metadata(path("operator.tar")).expect("a file").len();
    assert!(size < 12_000_000, "{size} bytes");
    // In an OCI layout, the index names a manifest, and the manifest names a layer.
    unpack(&guard, "operator.tar");
    let index = fs::read_to_string(path("index.json")).expect("an index");
    let manifest = path(&blob(&index));
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).expect("a manifest")).expect("JSON");
    unpack(&guard, &blob(&manifest["layers"].to_string()));
    let layer = Command::new("tar").arg("-tf").arg(path(&blob(&manifest["layers"].to_string()))).output();
    let listed = String::from_utf8(layer.expect("tar starts").stdout).expect("names");
    assert_eq!(listed, "LICENSE\nfedora-message-operator\n");
    let program = fs::read(path("fedora-message-operator")).expect("a program");
    assert!(program.len() < 20_000_000, "{} bytes", program.len());
    assert_eq!(interpreter(&program), None, "a static program needs no loader");
    let labels = &manifest["annotations"];
    for (label, value) in [
        ("title", "fedora-message-operator"),
        (
            "description",
            "Publishes FedoraMessage resources to Fedora's RabbitMQ brokers, exactly as fedora-messaging would",
        ),
        ("version", fedora_message_operator::VERSION),
        ("source", "https://github.com/fedora-infra/fedora-message-operator"),
        ("licenses", "Apache-2.0"),
    ] {
        assert_eq!(labels[format!("org.opencontainers.image.{label}")], value);
    }
    let home = std::env::home_dir().expect("a home").display().to_string();
    let source = project("").canonicalize().expect("a path").display().to_string();
    for folder in [source, format!("{home}/.cargo")] {
        assert!(
            !program.windows(folder.len()).any(|bytes| bytes == folder.as_bytes()),
            "the program contains {folder}"
        );
    }
}

fn unpack(guard: &Guard, archive: &str) {
    let tar = Command::new("tar").arg("-xf").arg(archive).current_dir(guard.scratch()).status();
    assert!(tar.expect("tar starts").success());
}

/// Returns the file of the first blob in a text.
fn blob(text: &str) -> String {
    let (_, rest) = text.split_once("sha256:").expect("a digest");
    format!("blobs/sha256/{}", &rest[..64])
}

/// Returns the position of the program header that names a loader, in a 64-bit program.
fn interpreter(program: &[u8]) -> Option<usize> {
    const INTERPRETER: u32 = 3;
    assert_eq!(&program[..5], b"\x7fELF\x02");
    let number = |at: usize| usize::from(u16::from_le_bytes([program[at], program[at + 1]]));
    let kind = |at: usize| u32::from_le_bytes(program[at..at + 4].try_into().expect("four bytes"));
    let start = usize::try_from(u64::from_le_bytes(program[32..40].try_into().expect("eight bytes")));
    let (start, size, count) = (start.expect("a position"), number(54), number(56));
    (0..count).map(|header| start + header * size).find(|at| kind(*at) == INTERPRETER)
}

/// The operator runs as a Deployment, under a service account with the permissions of
/// manifests/base, in a namespace that admits only restricted Pods.
#[test]
fn runs_from_image() {
    let cluster = cluster();
    let archive = cluster.node().scratch().join("operator.tar");
    images::operator(&archive).expect("the image is built");
    cluster.import(&archive).expect("the node imports the image");
    let namespace = namespace("image", "publisher");
    let files = ["manifests/base/rbac.yaml", "manifests/components/pods/rbac.yaml"].map(project);
    cluster.kube.apply(&files).expect("the roles are stored");
    namespace.kubectl(&["create", "serviceaccount", "operator"]);
    for role in ["fedora-message-operator", "fedora-message-operator-pods"] {
        let (of, to) = (format!("--clusterrole={role}"), format!("--serviceaccount={}:operator", namespace.name));
        namespace.kubectl(&["create", "rolebinding", role, &of, &to]);
    }
    let consumer = RawConsumer::start(&cluster.broker, "image.#");

    let own = [
        ("WATCH_NAMESPACES", namespace.name.clone()),
        ("DELIVERY_MODE", "pod".to_owned()),
        ("CLI_IMAGE", images::CLI.to_owned()),
    ];
    let env = environment(cluster).into_iter().chain(own);
    let env: Vec<_> = env.map(|(name, value)| json!({"name": name, "value": value})).collect();
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "operator"},
        "spec": {
            "selector": {"matchLabels": {"app": "operator"}},
            "template": {
                "metadata": {"labels": {"app": "operator"}},
                "spec": {
                    "serviceAccountName": "operator",
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "operator",
                        "image": images::operator_name().expect("a name"),
                        "imagePullPolicy": "Never",
                        "env": env,
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    });
    namespace.apply(&deployment.to_string());
    let available = ["wait", "--for=condition=Available", "deployment/operator", "--timeout=60s"];
    let logs = || namespace.try_kubectl(&["logs", "deployment/operator"], "");
    namespace.try_kubectl(&available, "").unwrap_or_else(|error| panic!("{error}\n{:?}", logs()));
    namespace.apply(&message("hello", "image.hello", ""));
    let status = wait_for_reason(&namespace, "hello", "Sent");
    assert_eq!(status["deliveryMode"], "pod");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}
