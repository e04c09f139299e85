//! The model speaks of the operator's functions by their names. They must be there, and in
//! docs/model.md.

use std::fs;
use std::path::Path;

use crate::mechanism::Mechanism;
use crate::step::{Act, path};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_function_that_a_step_names_is_there() {
    for function in Act::all().into_iter().flat_map(Act::functions) {
        let (file, owner, name) = function;
        let source = read(file);
        assert!(source.contains(&format!("fn {name}(")), "{file} has no function {name}");
        let is_owned = owner.is_empty() || source.contains(&format!("impl {owner} {{"));
        assert!(is_owned, "{file} has no impl of {owner}");
    }
}

#[test]
fn the_document_tells_of_every_step_and_every_mechanism() {
    let document = read("docs/model.md");
    let steps = Act::all().into_iter().flat_map(Act::functions).map(path);
    let mechanisms = Mechanism::ALL.into_iter().map(|mechanism| format!("{mechanism:?}"));
    for name in steps.chain(mechanisms) {
        assert!(document.contains(&format!("`{name}`")), "docs/model.md does not tell of {name}");
    }
}
