//! The documents: the API server accepts their examples, links resolve, and every reason is
//! explained.

use std::fs;

use fedora_message::policy::outcome::Reason;
use strum::VariantArray;

use crate::monitoring::files;
use e2e::{TestNamespace, read};

/// Each command of kubectl creates them without a warning.
#[test]
fn examples_are_accepted() {
    let namespace = TestNamespace::new("examples");
    let files = files("docs/examples", "yaml");
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let file = file.display().to_string();
        let commands = [&["create"][..], &["apply"], &["apply", "--server-side"]];
        // kubectl applies no generated name.
        let number = if file.ends_with("generated-name.yaml") { 1 } else { commands.len() };
        for command in &commands[..number] {
            let rest = ["--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", &file];
            let answer = namespace.try_kubectl(&[*command, &rest].concat(), "");
            let answer = answer.unwrap_or_else(|error| panic!("{file}: {command:?}: {error}"));
            assert!(answer.contains("created") || answer.contains("applied"), "{file}: {command:?}: {answer}");
        }
    }
}

#[test]
fn readme_example_is_accepted() {
    let readme = read("README.md");
    let namespace = TestNamespace::new("readme");
    let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    namespace.try_kubectl(&["create", "--dry-run=server", "-f", "-"], yaml).expect("the API server accepts it");
}

#[test]
fn every_reason_is_documented() {
    let page = read("docs/troubleshooting.md");
    for reason in Reason::VARIANTS {
        assert!(page.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}

#[test]
fn links_resolve() {
    let pages = ["", "docs", "docs/decisions", "docs/runbooks"].map(|folder| files(folder, "md")).concat();
    assert!(pages.len() > 60, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let target = link.split('#').next().unwrap_or_default();
            let folder = page.parent().expect("a folder");
            assert!(target.is_empty() || folder.join(target).exists(), "{}: {link}", page.display());
        }
    }
}
