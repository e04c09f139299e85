//! The tag of a release: what a user applies from there names the released images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::helm;

use e2e::{project, run, shared};

const IMAGE: &str = "registry.example.org/team/fedora-message-operator";

/// A repository with these sources and a version of its own, on the branch `work`.
struct Repository(PathBuf);

impl Repository {
    fn with_version(version: &str) -> Self {
        let folder = shared().kube.guard().scratch().join("repository");
        fs::create_dir(&folder).expect("a folder");
        // Without the history, which a checkout may lack.
        let copy =
            "tar --create --exclude=./target --exclude=./fuzz/target --exclude=./.git . | tar --extract -C \"$0\"";
        let mut sources = Command::new("bash");
        sources.args(["-euo", "pipefail", "-c", copy]).arg(&folder).current_dir(project(""));
        run(&mut sources, "").expect("a copy");
        let repository = Self(folder);
        repository.git(&["init", "--quiet", "--initial-branch", "work"]);
        repository.git(&["add", "--all"]);
        repository.git(&["commit", "--quiet", "--message", "Sources"]);
        repository.script("set-version", &[version]);
        let (file, heading) = (repository.0.join("CHANGELOG.md"), format!("## {version}, unreleased\n"));
        let changelog = fs::read_to_string(&file).expect("a changelog");
        let news = format!("{heading}\n### Added\n\n- News ([more](docs/install.md)).\n");
        fs::write(&file, changelog.replace(&heading, &news)).expect("it is written");
        repository.git(&["commit", "--quiet", "--all", "--message", "Next version"]);
        repository
    }

    fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> String {
        let mut command = Command::new(program.as_ref());
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Somebody")
                .env(format!("GIT_{role}_EMAIL"), "somebody@example.org");
        }
        command.current_dir(&self.0).env("IMAGE", IMAGE).args(arguments);
        run(&mut command, "").unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.run("git", arguments)
    }

    fn script(&self, name: &str, arguments: &[&str]) {
        self.run(self.0.join(".ci").join(name), arguments);
    }
}

#[test]
fn tag_names_released_images() {
    let kube = &shared().kube;
    let repository = Repository::with_version("9.8.7");
    repository.script("tag", &[]);

    let url = format!("file://{}//manifests/overlays", repository.0.canonicalize().expect("a path").display());
    for overlay in ["cluster-wide", "fedora", "local", "one-namespace"] {
        let manifests = kube.run(&["kustomize", &format!("{url}/{overlay}?ref=v9.8.7")]).expect("it builds");
        let images: Vec<_> = manifests.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        assert_eq!(images, [format!("{IMAGE}:9.8.7")], "{overlay}");
        assert!(manifests.contains("app.kubernetes.io/version: 9.8.7"), "{overlay}");
    }
    let mut template = helm::command(kube).expect("Helm");
    template.args(["template", "name"]).arg(repository.0.join("charts/fedora-message-operator"));
    let chart = run(&mut template, "").expect("the chart is rendered");
    assert!(chart.contains(&format!("image: {IMAGE}:9.8.7\n")), "the chart names another image");
    let flags = repository.git(&["show", "v9.8.7:src/cli/pods.rs"]);
    assert!(flags.contains(&format!("default_value = \"{IMAGE}-cli:9.8.7\"")), "Pods have another image: {flags}");

    let notes = repository.git(&["tag", "--list", "--format=%(contents)", "v9.8.7"]);
    assert!(notes.starts_with("Version 9.8.7\n\n### Added\n\n- News ([more](https://"), "{notes}");
    assert!(notes.contains("/blob/v9.8.7/docs/install.md))."), "{notes}");
    // The branch keeps the image of a checkout, and has the date.
    let branch = repository.git(&["show", "work:manifests/base/kustomization.yaml"]);
    assert!(!branch.contains(IMAGE), "{branch}");
    assert!(repository.git(&["show", "work:CHANGELOG.md"]).contains("\n## 9.8.7, 20"), "the changelog has no date");
}
