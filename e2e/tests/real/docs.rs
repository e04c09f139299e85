//! The documents: their examples are accepted as they stand, and nothing a user may read is missing.
use strum::VariantArray;

use std::fs;

use fedora_message::policy::outcome::Reason;

use crate::monitoring::runbooks;
use e2e::world::{Space, project};

#[test]
fn every_example_is_accepted_without_a_warning() {
    let space = Space::new("examples");
    let mut files: Vec<_> =
        fs::read_dir(project("docs/examples")).expect("a folder").flatten().map(|file| file.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let manifest = fs::read_to_string(&file).expect("a file");
        let answer = space.kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &manifest);
        let answer = answer.unwrap_or_else(|words| panic!("{}: {words}", file.display()));
        assert!(answer.contains("created"), "{}: {answer}", file.display());
    }
}

#[test]
fn the_readmes_example_is_the_one_of_the_proposal_but_for_the_spelling_of_its_secret() {
    let readme = fs::read_to_string(project("README.md")).expect("a file");
    let space = Space::new("readme");
    let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    space.kubectl(&["create", "--dry-run=server", "-f", "-"], yaml).expect("it is accepted");
}

#[test]
fn every_reason_is_explained() {
    let page = fs::read_to_string(project("docs/troubleshooting.md")).expect("a file");
    for reason in Reason::VARIANTS {
        assert!(page.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let documents = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/README.md",
        "docs/architecture.md",
        "docs/using.md",
        "docs/troubleshooting.md",
        "docs/admission.md",
        "docs/delivery-modes.md",
        "docs/install.md",
        "docs/metrics.md",
        "docs/monitoring.md",
        "docs/releasing.md",
        "docs/from-python.md",
        "docs/operations.md",
        "docs/schemas.md",
        "docs/schema-list.md",
        "SECURITY.md",
    ];
    for page in documents.map(project).into_iter().chain(runbooks()) {
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let target = link.split('#').next().unwrap_or_default();
            let folder = page.parent().expect("a folder");
            assert!(target.is_empty() || folder.join(target).exists(), "{}: {link}", page.display());
        }
    }
}
