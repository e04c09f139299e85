//! A kustomization of an administrator: an overlay of this project with a component.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rig::Kube;

use crate::project;

/// Writes a kustomization into the scratch folder of the API server, and returns its folder.
pub fn with_component(kube: &Kube, overlay: &str, component: &str) -> PathBuf {
    let folder = kube.guard().scratch().join(format!("{overlay}-{component}"));
    fs::create_dir(&folder).expect("a folder");
    let folder = folder.canonicalize().expect("a path");
    let path = |part: &str| relative(&folder, &project("manifests").canonicalize().expect("a path").join(part));
    let resources = path(&format!("overlays/{overlay}"));
    let components = path(&format!("components/{component}"));
    let text = format!("resources: [{}]\ncomponents: [{}]\n", resources.display(), components.display());
    fs::write(folder.join("kustomization.yaml"), text).expect("it is written");
    folder
}

/// Returns the relative path from one folder to another. Kustomize accepts no absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up = from.components().filter(|part| matches!(part, Component::Normal(_))).map(|_| "..");
    up.collect::<PathBuf>().join(to.strip_prefix("/").expect("an absolute path"))
}
