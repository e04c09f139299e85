//! A kustomization as an administrator writes one: an overlay of this project with a component of it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rig::Kube;

use crate::world::project;

/// The folder of such a kustomization, beside what belongs to the API server.
pub fn with_component(kube: &Kube, overlay: &str, component: &str) -> PathBuf {
    let folder = kube.guard().scratch().join(format!("{overlay}-{component}"));
    fs::create_dir(&folder).expect("a folder");
    let folder = folder.canonicalize().expect("a path");
    let way = |part: &str| relative(&folder, &project("manifests").canonicalize().expect("a path").join(part));
    let resources = way(&format!("overlays/{overlay}"));
    let components = way(&format!("components/{component}"));
    let text = format!("resources: [{}]\ncomponents: [{}]\n", resources.display(), components.display());
    fs::write(folder.join("kustomization.yaml"), text).expect("it is written");
    folder
}

/// The way from one folder to another; kustomize takes no other.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up = from.components().filter(|part| matches!(part, Component::Normal(_))).map(|_| "..");
    up.collect::<PathBuf>().join(to.strip_prefix("/").expect("an absolute path"))
}
