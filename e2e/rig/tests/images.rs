//! Tests `images/oci-archive`: the same content makes the same image, with labels.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use rig::{Guard, project};
use serde_json::Value;

const TITLE: &str = "org.opencontainers.image.title";

/// Creates a folder with the same files in the given order.
fn folder(at: &Path, order: &[&str], time: SystemTime) -> PathBuf {
    fs::create_dir_all(at.join("lib")).expect("a folder");
    for name in order {
        let path = at.join(name);
        fs::write(&path, name).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the mode is set");
        fs::File::open(&path).and_then(|file| file.set_modified(time)).expect("the time is set");
    }
    symlink("program", at.join("link")).expect("a link");
    at.to_owned()
}

/// Packs an image and returns its digest.
fn pack(folder: &Path, archive: &Path, platform: &str) -> String {
    let mut command = oci_archive();
    command.args(["image", "localhost/some:1"]).arg(folder).arg(archive).args(["--platform", platform]);
    command.args(["--config", r#"{"User": "1:1"}"#, &format!("--label={TITLE}=a = b")]);
    digest(&mut command)
}

fn oci_archive() -> Command {
    let mut command = Command::new(project("images/oci-archive"));
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    command
}

/// Returns the digest that the script prints.
fn digest(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a digest").trim().to_owned()
}

fn unpacked(guard: &Guard, archive: &Path) -> PathBuf {
    let to = guard.scratch().join("unpacked");
    fs::create_dir(&to).expect("a folder");
    let tar = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&to).status().expect("tar starts");
    assert!(tar.success());
    to
}

/// Returns the path of a descriptor's blob.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
    layout.join("blobs").join(digest)
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON")
}

#[test]
fn packs_reproducibly() {
    let guard = Guard::new("images").expect("a folder");
    let path = |name: &str| guard.scratch().join(name);
    let one = folder(&path("one"), &["program", "a", "lib/z"], SystemTime::UNIX_EPOCH);
    let other = folder(&path("a/longer/path"), &["lib/z", "a", "program"], SystemTime::now());
    let digest = pack(&one, &path("one.tar"), "linux/arm64");
    assert_eq!(digest, pack(&other, &path("other.tar"), "linux/arm64"));
    assert_eq!(fs::read(path("one.tar")).expect("a file"), fs::read(path("other.tar")).expect("a file"));

    fs::write(other.join("a"), "other").expect("a file");
    assert_ne!(
        digest,
        pack(&other, &path("other.tar"), "linux/arm64"),
        "different content must make a different image"
    );
}

/// One name stands for the images of both platforms, and each keeps its digest and its files.
#[test]
fn joins_platforms() {
    let guard = Guard::new("images").expect("a folder");
    let path = |name: &str| guard.scratch().join(name);
    let content = folder(&path("content"), &["program"], SystemTime::now());
    let platforms = [("amd64", path("amd64.tar")), ("arm64", path("arm64.tar"))];
    let digests = platforms.each_ref().map(|(name, file)| pack(&content, file, &format!("linux/{name}")));
    let joined = path("joined.tar");
    let mut command = oci_archive();
    command.args(["index", "localhost/some:1"]).arg(&joined).args(platforms.each_ref().map(|(_, file)| file));
    let digest = digest(&mut command);

    let layout = unpacked(&guard, &joined);
    let top = &json(&layout.join("index.json"))["manifests"][0];
    assert_eq!(top["digest"], digest);
    assert_eq!(top["annotations"]["org.opencontainers.image.ref.name"], "localhost/some:1");
    let index = json(&blob(&layout, top));
    let found = index["manifests"].as_array().expect("images");
    for ((architecture, _), (image, digest)) in platforms.iter().zip(found.iter().zip(digests)) {
        assert_eq!((&image["platform"]["architecture"], &image["digest"]), (&(*architecture).into(), &digest.into()));
        let manifest = json(&blob(&layout, image));
        assert!(blob(&layout, &manifest["layers"][0]).exists() && blob(&layout, &manifest["config"]).exists());
    }
    assert_eq!(found.len(), 2);
}

#[test]
fn writes_labels_and_compressed_layer() {
    let guard = Guard::new("images").expect("a folder");
    let content = folder(&guard.scratch().join("content"), &["program"], SystemTime::now());
    let archive = guard.scratch().join("image.tar");
    let digest = pack(&content, &archive, "linux/arm64");
    let layout = unpacked(&guard, &archive);
    let index = json(&layout.join("index.json"));
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"], digest);
    assert_eq!(entry["platform"]["architecture"], "arm64");
    let manifest = json(&blob(&layout, entry));
    let config = json(&blob(&layout, &manifest["config"]));
    assert_eq!(manifest["annotations"][TITLE], "a = b");
    assert_eq!(config["config"]["Labels"], manifest["annotations"]);
    assert_eq!((&config["architecture"], &config["created"]), (&"arm64".into(), &"2023-11-14T22:13:20Z".into()));
    assert_eq!(config["config"]["User"], "1:1");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let list = Command::new("tar").arg("-tzf").arg(blob(&layout, layer)).output().expect("tar starts");
    assert_eq!(String::from_utf8_lossy(&list.stdout), "link\nprogram\nlib/\n");
    let for_docker = &json(&layout.join("manifest.json"))[0];
    assert_eq!(for_docker["RepoTags"], serde_json::json!(["localhost/some:1"]));
    for (path, descriptor) in [(&for_docker["Config"], &manifest["config"]), (&for_docker["Layers"][0], layer)] {
        assert_eq!(layout.join(path.as_str().expect("a path")), blob(&layout, descriptor));
    }
}
