//! Pages of `docs/` that tests make from the code.

use std::fs;
use std::path::Path;

/// If this variable is set, the tests write the pages instead of comparing them.
const WRITE: &str = "WRITE_DOCS";

/// Compares a page of `docs/` with its present text. `recipe` writes it.
pub(crate) fn assert_current(name: &str, text: &str, recipe: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, text).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == text, "docs/{name} is not up to date: run `{recipe}`");
}
