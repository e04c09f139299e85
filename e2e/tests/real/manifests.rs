//! The API server accepts every overlay, alone and with each component, with strict validation and
//! without a warning. `tests/pods/install.rs` runs them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rig::Kube;

use e2e::overlay::with_component;
use e2e::{project, read, run, shared};

/// The namespaces that the overlays name.
const NAMESPACES: [&str; 2] = ["fedora-message-operator", "apps"];
/// An API group that a plain API server does not have. `monitoring.rs` checks its resources.
const FOREIGN: &str = "monitoring.coreos.com/";

/// Returns the names of the folders in `manifests/PART`.
fn folders(part: &str) -> Vec<String> {
    let entries = fs::read_dir(project("manifests").join(part)).expect("a folder");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn kustomize(kube: &Kube, folder: &Path) -> String {
    let mut kubectl = kube.kubectl();
    kubectl.arg("kustomize").arg(folder);
    run(&mut kubectl, "").unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// Lets the API server check the manifests strictly, without storing them.
pub(crate) fn check(kube: &Kube, title: &str, manifests: &str) {
    let own: Vec<_> =
        manifests.split("\n---\n").filter(|document| !document.contains(&format!("apiVersion: {FOREIGN}"))).collect();
    let mut kubectl = kube.kubectl();
    kubectl.args(["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"]);
    let output = run(&mut kubectl, &own.join("\n---\n")).unwrap_or_else(|error| panic!("{title}: {error}"));
    assert!(output.lines().count() >= own.len(), "{title}: {output}");
}

#[test]
fn api_server_accepts_overlays() {
    let kube = &shared().kube;
    for namespace in NAMESPACES {
        // With this label, the API server warns of a Deployment whose Pods it would refuse.
        let labels = "labels: {pod-security.kubernetes.io/warn: restricted}";
        let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, {labels}}}}}");
        kube.apply_text(&namespace).expect("a namespace");
    }
    let (overlays, components) = (folders("overlays"), folders("components"));
    assert_eq!(overlays, ["cluster-wide", "fedora", "local", "one-namespace"]);
    assert!(components.contains(&"pods".to_owned()), "{components:?}");
    for overlay in &overlays {
        check(kube, overlay, &kustomize(kube, &project("manifests/overlays").join(overlay)));
        // Components bind roles in all namespaces.
        for component in components.iter().filter(|_| overlay != "one-namespace") {
            check(
                kube,
                &format!("{overlay} with {component}"),
                &kustomize(kube, &with_component(kube, overlay, component)),
            );
        }
    }
}

/// The overlay `one-namespace` has no resource of the whole cluster.
#[test]
fn one_namespace_is_namespaced() {
    let kube = &shared().kube;
    let manifests = kustomize(kube, &project("manifests/overlays/one-namespace"));
    let kinds: BTreeSet<_> = manifests.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    let namespaced = kube.run(&["api-resources", "--namespaced=true", "--no-headers"]).expect("kubectl lists");
    let namespaced: BTreeSet<_> = namespaced.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert!(kinds.contains("Deployment") && kinds.is_subset(&namespaced), "{kinds:?}");
}

#[test]
fn versions_are_equal() {
    let version = fedora_message_operator::VERSION;
    for (file, expected) in [
        ("manifests/base/kustomization.yaml", format!("app.kubernetes.io/version: \"{version}\"\n")),
        ("charts/fedora-message-operator/Chart.yaml", format!("\nversion: {version}\nappVersion: {version}\n")),
        ("images/operator/Containerfile", format!("org.opencontainers.image.version=\"{version}\" ")),
    ] {
        assert!(read(file).contains(&expected), "{file}: no {expected}");
    }
}
