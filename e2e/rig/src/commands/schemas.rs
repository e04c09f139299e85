//! `rig schemas`: writes the catalog of schemas, and the page of docs that lists them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rig::schemas;

use super::say;

/// The head of the page.
const HEADING: &str = "# The schemas that `just schemas` exports\n\n\
    Written by `just schemas`; how to use them is in [schemas.md](schemas.md). The catalog contains the\n\
    packages' schemas and descriptions, and stays under the packages' licenses. All of them may be passed\n\
    on together under GPL-3.0-or-later.\n\n";

/// Writes the catalog to a file, and the list of its schemas to another file.
pub(crate) fn run(catalog: &Path, list: Option<&Path>) -> Result<()> {
    let exported = schemas::catalog()?;
    fs::copy(&exported, catalog).with_context(|| format!("cannot write {}", catalog.display()))?;
    say::part("Catalog", &catalog.display().to_string());
    let table = schemas::table(&exported)?;
    if let Some(list) = list {
        fs::write(list, format!("{HEADING}{table}")).with_context(|| format!("cannot write {}", list.display()))?;
        say::part("List", &list.display().to_string());
    }
    for left_out in table.lines().filter(|line| line.starts_with("Left out")) {
        say::note(left_out);
    }
    Ok(())
}
