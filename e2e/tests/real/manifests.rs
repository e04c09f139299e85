//! The manifests: the API server takes every overlay, alone and with each component, in every field and without a
//! warning. What is seen running is in tests/pods/install.rs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rig::Kube;

use e2e::overlay::with_component;
use e2e::world::{project, run, world};

/// The namespaces that the overlays name.
const NAMESPACES: [&str; 2] = ["fedora-message-operator", "apps"];
/// Groups of resources that no API server has by itself; what is of these is for others to check.
const FOREIGN: &str = "monitoring.coreos.com/";

/// The folders of `manifests/PART`, so that none is forgotten.
fn folders(part: &str) -> Vec<String> {
    let entries = fs::read_dir(project("manifests").join(part)).expect("a folder");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn kustomize(kube: &Kube, folder: &Path) -> String {
    let mut kubectl = kube.kubectl();
    kubectl.arg("kustomize").arg(folder);
    run(kubectl, "").unwrap_or_else(|words| panic!("{}: {words}", folder.display()))
}

/// Lets the API server check the manifests to the last field, and stores nothing. It says what it thinks of each.
fn checked(kube: &Kube, title: &str, manifests: &str) {
    let own: Vec<_> =
        manifests.split("\n---\n").filter(|document| !document.contains(&format!("apiVersion: {FOREIGN}"))).collect();
    let mut kubectl = kube.kubectl();
    kubectl.args(["apply", "--dry-run=server", "--validate=strict", "-f", "-"]);
    let said = run(all_output(&kubectl), &own.join("\n---\n")).unwrap_or_else(|words| panic!("{title}: {words}"));
    assert!(!said.contains("Warning"), "{title}: {said}");
    assert!(said.lines().count() >= own.len(), "{title}: {said}");
}

/// The same command with its warnings on standard output.
fn all_output(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

#[test]
fn the_api_server_takes_every_overlay_with_each_component_without_a_warning() {
    let kube = &world().kube;
    for namespace in NAMESPACES {
        // With this, a Deployment whose Pods would not be let in is a warning.
        let labels = "labels: {pod-security.kubernetes.io/warn: restricted}";
        let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, {labels}}}}}");
        kube.apply_text(&namespace).expect("a namespace is made");
    }
    let (overlays, components) = (folders("overlays"), folders("components"));
    assert_eq!(overlays, ["cluster-wide", "fedora", "local", "one-namespace"]);
    assert!(components.contains(&"pods".to_owned()), "{components:?}");
    for overlay in &overlays {
        checked(kube, overlay, &kustomize(kube, &project("manifests/overlays").join(overlay)));
        // What a component binds, it binds for all namespaces.
        for component in components.iter().filter(|_| overlay != "one-namespace") {
            checked(
                kube,
                &format!("{overlay} with {component}"),
                &kustomize(kube, &with_component(kube, overlay, component)),
            );
        }
    }
}

#[test]
fn one_namespace_alone_takes_nothing_that_belongs_to_the_whole_cluster() {
    let kube = &world().kube;
    let manifests = kustomize(kube, &project("manifests/overlays/one-namespace"));
    let kinds: BTreeSet<_> = manifests.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    let namespaced = kube.run(&["api-resources", "--namespaced=true", "--no-headers"]).expect("kubectl lists");
    let namespaced: BTreeSet<_> = namespaced.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert!(kinds.contains("Deployment") && kinds.is_subset(&namespaced), "{kinds:?}");
}

#[test]
fn manifests_and_image_are_of_the_programs_version() {
    let version = fedora_message_operator::VERSION;
    for (file, words) in [
        ("manifests/base/kustomization.yaml", format!("app.kubernetes.io/version: \"{version}\"\n")),
        ("images/operator/Containerfile", format!("org.opencontainers.image.version=\"{version}\" ")),
    ] {
        let text = fs::read_to_string(project(file)).expect("a file");
        assert!(text.contains(&words), "{file}: no {words}");
    }
}
