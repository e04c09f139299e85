//! A kustomization of an administrator: an overlay of this project with a component, or with a setting.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rig::Kube;

use crate::project;

/// Writes a kustomization of an overlay with a component into the scratch folder of the API server, and
/// returns its folder.
pub fn with_component(kube: &Kube, overlay: &str, component: &str) -> PathBuf {
    write(kube, &format!("{overlay}-{component}"), overlay, |manifests| {
        format!("components: [{}]\n", manifests.join("components").join(component).display())
    })
}

/// The same with an environment variable of the operator.
pub fn with_variable(kube: &Kube, overlay: &str, name: &str, value: &str) -> PathBuf {
    write(kube, &format!("{overlay}-{}", name.to_lowercase().replace('_', "-")), overlay, |_| {
        format!(
            "
patches:
  - target: {{kind: Deployment, name: fedora-message-operator}}
    patch: |
      - {{op: add, path: /spec/template/spec/containers/0/env/-, value: {{name: {name}, value: {value:?}}}}}
"
        )
    })
}

/// Writes a kustomization of an overlay. `more` gets the relative path to the manifests, and returns
/// further lines.
fn write(kube: &Kube, name: &str, overlay: &str, more: impl FnOnce(&Path) -> String) -> PathBuf {
    // Tests that share the API server may write the same overlay.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = kube.guard().scratch().join(format!("{name}-{number}"));
    fs::create_dir(&folder).expect("a folder");
    let folder = folder.canonicalize().expect("a path");
    let manifests = relative(&folder, &project("manifests").canonicalize().expect("a path"));
    let resources = manifests.join("overlays").join(overlay);
    let text = format!("resources: [{}]\n{}", resources.display(), more(&manifests));
    fs::write(folder.join("kustomization.yaml"), text).expect("it is written");
    folder
}

/// Returns the relative path from one folder to another. Kustomize accepts no absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up = from.components().filter(|part| matches!(part, Component::Normal(_))).map(|_| "..");
    up.collect::<PathBuf>().join(to.strip_prefix("/").expect("an absolute path"))
}
