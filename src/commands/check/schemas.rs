//! `check --schemas` lists a catalog of schemas.

use std::process::ExitCode;

use crate::cli::SchemaCheckArgs;
use crate::commands::{fail, misused, print};
use crate::schema_file::SchemaFile;
use fedora_message::schema::catalog::{Catalog, LeftOut, Schema};

/// Lists the catalog.
#[must_use]
pub fn main(arguments: &SchemaCheckArgs) -> ExitCode {
    let catalog = match SchemaFile::open(arguments.catalog.settings()).map(|file| file.current().catalog.clone()) {
        Ok(Some(catalog)) => catalog,
        Ok(None) => {
            return misused("no schemas are known: give the file that `just schemas` writes as --schema-catalog");
        }
        Err(error) => return misused(&error),
    };
    list(&catalog)
}

/// Prints one line for each schema. Fails if one can't be used, because the operator would refuse its messages.
fn list(catalog: &Catalog) -> ExitCode {
    let mut broken = 0_usize;
    let mut lines = Vec::new();
    for schema in &catalog.schemas {
        let state = match catalog.test(schema) {
            Ok(()) if schema.deprecated => "  (deprecated)".to_owned(),
            Ok(()) => String::new(),
            Err(detail) => {
                broken += 1;
                format!("  can't be used: {detail}")
            }
        };
        let Schema { name, severity, distribution, version, .. } = schema;
        lines.push(format!("{name:<44} {severity:?}  {distribution} {version}{state}"));
    }
    for left in &catalog.left_out {
        let LeftOut { name, distribution, version, why } = left;
        lines.push(format!("{name:<44} left out  {distribution} {version}: {why}"));
    }
    let Catalog { schemas, library, .. } = catalog;
    lines.push(format!("{} schemas, exported with fedora-messaging {library}\n", schemas.len()));
    let printed = print(lines.join("\n"));
    match broken {
        0 => printed,
        broken => fail(&format!("{broken} of the schemas can't be used: tell their packages' maintainers")),
    }
}
