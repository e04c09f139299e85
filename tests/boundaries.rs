//! The boundaries inside this crate. The compiler guards the pure core, which is a crate of its
//! own (`crates/fedora-message`); this test guards which module may use which library.

use std::fs;
use std::path::{Path, PathBuf};

/// A library, and the only modules that may use it.
const USERS: [(&str, &[&str]); 5] = [
    ("lapin", &["broker"]),
    ("tokio_rustls", &["broker", "commands", "main.rs"]),
    ("kube", &["cluster", "commands", "ttl"]),
    ("hyper", &["admin.rs", "cluster"]),
    ("granit_parser", &["commands"]),
];
/// A module, and those that it must not use.
const APART: [(&str, &[&str]); 2] =
    [("broker", &["cluster", "controller", "reconciler"]), ("cluster", &["broker", "delivery", "reconciler"])];

/// The lines of code in `path` and below, each with its place. Comments don't count.
fn lines(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries
            .filter(|path| path.file_stem().is_none_or(|stem| stem != "tests"))
            .for_each(|path| lines(&path, found));
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    found.extend(code.map(|line| (path.to_owned(), line.to_owned())));
}

fn uses(line: &str, root: &str) -> bool {
    line.match_indices(&format!("{root}::")).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') || line[..at].ends_with("crate::")
    })
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn libraries_are_used_where_they_belong() {
    let mut all = Vec::new();
    lines(&source(), &mut all);
    for (library, modules) in USERS {
        let users: Vec<_> = all.iter().filter(|(_, line)| uses(line, library)).collect();
        assert!(!users.is_empty(), "nothing uses {library}: this test sees nothing");
        for (path, line) in users {
            let place = path.strip_prefix(source()).unwrap();
            let allowed =
                modules.iter().any(|module| place.starts_with(module) || place.with_extension("") == Path::new(module));
            assert!(allowed, "{}: {line}: {library} belongs to {modules:?}", place.display());
        }
    }
}

#[test]
fn broker_and_cluster_are_apart() {
    for (module, strangers) in APART {
        let mut all = Vec::new();
        lines(&source().join(module), &mut all);
        for (path, line) in all {
            let stranger = strangers.iter().find(|stranger| uses(&line, &format!("crate::{stranger}")));
            assert!(stranger.is_none(), "{}: {line}: {module} must not use {stranger:?}", path.display());
        }
    }
}
