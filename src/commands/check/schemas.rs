//! `check --schemas` lists a catalog of schemas. `check --schema` checks messages in files against one of its schemas.
//! Neither sends anything or connects to a broker.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::SchemaCheckArgs;
use crate::commands::publish::read;
use crate::commands::{complain, fail, misused, print};
use crate::schema_file::SchemaFile;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;
use fedora_message::message::invalid::PrepareError;
use fedora_message::message::sender::Sender;
use fedora_message::message::validate::validate;
use fedora_message::schema::catalog::{Catalog, LeftOut, Schema, SchemaLookup};
use fedora_message::schema::check::{Schemas, UnknownSchemaPolicy, check_schema};

/// Lists the catalog, or checks files against one of its schemas.
#[must_use]
pub fn main(arguments: &SchemaCheckArgs) -> ExitCode {
    let catalog = match SchemaFile::open(arguments.catalog.settings()).map(|file| file.current().catalog.clone()) {
        Ok(Some(catalog)) => catalog,
        Ok(None) => {
            return misused("no schemas are known: give the file that `just schemas` writes as --schema-catalog");
        }
        Err(error) => return misused(&error.to_string()),
    };
    match &arguments.schema {
        Some(name) => check(arguments, name, catalog),
        None => list(&catalog),
    }
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

fn check(arguments: &SchemaCheckArgs, name: &str, catalog: Arc<Catalog>) -> ExitCode {
    if let SchemaLookup::Missing(left_out) = catalog.find(name, None) {
        return misused(&match left_out {
            Some(left) => format!("{name} is left out of the catalog: {}", left.why),
            None => format!("the catalog has no schema {name}: `check --schemas` lists those it has"),
        });
    }
    let manifests = match read(&arguments.files) {
        Ok(manifests) => manifests,
        Err(detail) => return misused(&detail),
    };
    let schemas = Schemas { catalog: Some(catalog), unknown: UnknownSchemaPolicy::Refuse };
    let mut all_fit = true;
    for mut message in manifests.messages {
        if let Ok(mut spec) = message.spec() {
            spec.message.schema = Some(name.to_owned());
            if let Err(error) = message.set_spec(&spec) {
                return fail(&format!("internal error: {error}. Please report this bug"));
            }
        }
        let title = if message.name().is_empty() { "(no name)" } else { message.name() };
        match fits(&message, &schemas) {
            Ok(()) => drop(print(format!("{title} fits {name}\n"))),
            Err(invalid) => {
                complain(&format!("{title}: {invalid}"));
                all_fit = false;
            }
        }
    }
    if all_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks a message against the schemas. Its Sender is of no importance for that.
fn fits(message: &FedoraMessage, schemas: &Schemas) -> Result<(), PrepareError> {
    let environment = message.environment().unwrap_or(Environment::Prod);
    let sender = message.summary.sender.as_ref().map(|name| Sender::assumed(name.clone(), environment));
    let sender = sender.as_ref().map(Ok);
    check_schema(&mut validate(message, sender, &Routing::default())?, schemas).map(drop)
}
