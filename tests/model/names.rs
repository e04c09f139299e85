//! Checks that the operator's functions that the model names exist, and that docs/model.md names
//! them.

use std::fs;
use std::path::Path;

use strum::VariantNames;

use crate::mechanism::Mechanism;
use crate::step::{StepKind, path};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn functions_exist() {
    for function in StepKind::all().into_iter().flat_map(StepKind::functions) {
        let (file, owner, name) = function;
        let source = read(file);
        assert!(source.contains(&format!("fn {name}(")), "{file} has no function {name}");
        let is_impl = |line: &str| {
            let names = line.split(|c: char| !c.is_alphanumeric());
            line.starts_with("impl") && line.ends_with('{') && names.into_iter().any(|name| name == *owner)
        };
        assert!(owner.is_empty() || source.lines().any(is_impl), "{file} has no impl of {owner}");
    }
}

#[test]
fn document_names_steps_and_mechanisms() {
    let document = read("docs/model.md");
    let steps = StepKind::all().into_iter().flat_map(StepKind::functions).map(path);
    let mechanisms = Mechanism::VARIANTS.iter().map(ToString::to_string);
    for name in steps.chain(mechanisms) {
        assert!(document.contains(&format!("`{name}`")), "docs/model.md does not name {name}");
    }
}
