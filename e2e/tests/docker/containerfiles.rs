//! The Containerfiles, built by an engine as their comments say, beside what `images/build` makes
//! without one.

use std::collections::BTreeSet;
use std::process::Command;

use rig::base_images::{self, BaseImage};
use rig::{Engine, images};
use serde_json::Value;

use crate::without_digests;
use e2e::{project, run};

/// Builds the image that a Containerfile describes on its base image with `docker build` and these
/// arguments.
fn build(engine: &Engine, file: &str, base_image: &BaseImage, name: &str, arguments: &[&str], context: &str) {
    let containerfile = engine.scratch().join("Containerfile");
    let base = without_digests(file, &containerfile);
    engine.import(base_image, &base).expect("a base image");
    let paths = [containerfile, project(context)].map(|path| path.display().to_string());
    let options = ["build", "--quiet", "--network", "host", "--tag", name, "--file", &paths[0]];
    engine.run(&[&options, arguments, &[&paths[1]]].concat()).expect("the image is built");
}

/// Returns what the configuration of an image says about the start of its containers.
fn start(engine: &Engine, image: &str) -> [Value; 4] {
    let text = engine.run(&["image", "inspect", "--format", "{{json .Config}}", image]).expect("an image");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    ["User", "Entrypoint", "Cmd", "Labels"].map(|key| config[key].take())
}

/// Runs a restricted container with these arguments, and returns its output.
fn run_container(engine: &Engine, image: &str, options: &[&str], arguments: &[&str]) -> String {
    let restricted = ["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"];
    engine.run(&[&restricted, options, &[image], arguments].concat()).expect("the container succeeds")
}

/// Prints the version of Python, and the digests of the files of each package. `images/build` omits
/// tests, and writes the program's first line.
const FILES: &str = r#"
import hashlib, importlib.metadata, os, sys
print(sys.version_info[:2], sys.dont_write_bytecode, os.getuid())
for package in sorted(importlib.metadata.distributions(), key=lambda package: package.name):
    for file in sorted(package.files or [], key=str) if package.name != "pip" else []:
        if file.suffix in (".py", ".so", ".pem") and not {"test", "tests"} & set(file.parts):
            digest = hashlib.sha256(file.locate().read_bytes()).hexdigest()
            print(package.name, package.version, file, digest)
"#;

/// Both images of the CLI start the same way, and have the same Python and the same files of the same
/// packages.
#[test]
fn cli_images_are_equal() {
    let [_pause, archive] = images::archives().expect("the archives");
    let file = "images/cli/Containerfile";
    let base_image = base_images::python().expect("a base image");
    let engine = Engine::for_builds().expect("an engine");
    engine.run(&["load", "--input", &archive.display().to_string()]).expect("docker loads the archive");
    let recipe = "localhost/recipe:1";
    engine.run(&["tag", images::CLI, recipe]).expect("another name");
    let built = "localhost/built:1";
    build(&engine, file, &base_image, built, &[], "testdata/python");

    assert_eq!(start(&engine, built), start(&engine, recipe));
    let help = run_container(&engine, built, &[], &["--help"]);
    assert!(help.contains("publish"), "{help}");
    assert_eq!(help, run_container(&engine, recipe, &[], &["--help"]));
    let python = ["--entrypoint", "python3"];
    let files = [built, recipe].map(|image| run_container(&engine, image, &python, &["-c", FILES]));
    assert_eq!(files[0].lines().next(), Some("(3, 14) True 1000"));
    assert!(files[0].contains(" 3.9.1 fedora_messaging/cli.py "), "the CLI is missing");
    let [built, recipe] = files.each_ref().map(|files| files.lines().collect::<BTreeSet<_>>());
    assert_eq!(built.symmetric_difference(&recipe).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// Both images of the operator start the same way, and hold the same program and license to the byte.
#[test]
#[ignore = "takes minutes: just containerfiles"]
fn operator_images_are_equal() {
    let file = "images/operator/Containerfile";
    let engine = Engine::for_builds().expect("an engine");
    let archive = engine.scratch().join("operator.tar");
    images::operator(&archive).expect("the archive");
    engine.run(&["load", "--input", &archive.display().to_string()]).expect("docker loads the archive");
    let recipe = images::operator_name().expect("a name");
    // The commit that the recipe saw: a change may be going on.
    let label = r#"{{index .Config.Labels "org.opencontainers.image.revision"}}"#;
    let revision = engine.run(&["image", "inspect", "--format", label, &recipe]).expect("a label");
    let revision = format!("REVISION={}", revision.trim());
    let built = "localhost/built:1";
    let base_image = base_images::rust().expect("a base image");
    build(&engine, file, &base_image, built, &["--build-arg", &revision], ".");

    assert_eq!(start(&engine, built), start(&engine, &recipe));
    let version = run_container(&engine, built, &[], &["--version"]);
    assert!(version.contains(fedora_message_operator::VERSION), "{version}");
    assert_eq!(files(&engine, built), files(&engine, &recipe));
}

/// Returns the digest and name of each file in an image.
fn files(engine: &Engine, image: &str) -> String {
    let container = engine.run(&["create", "--network", "none", image]).expect("a container");
    let folder = engine.scratch().join(container.trim());
    let to = folder.display().to_string();
    engine.run(&["cp", &format!("{}:/.", container.trim()), &to]).expect("the files");
    let sums = "find . -type f -size +0 -exec sha256sum {} + | sort";
    run(Command::new("sh").args(["-c", sums]).current_dir(folder), "").expect("digests")
}
