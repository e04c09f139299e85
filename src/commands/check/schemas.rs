//! `check --schemas` and `check --schema`: what a catalogue of schemas holds, and whether messages in files
//! fit one of its schemas. Nothing is sent, and no broker is asked.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::SchemaCheckArgs;
use crate::commands::publish::read;
use crate::commands::{complain, fail, misused, print};
use crate::message::catalogue::{Catalogue, Found, LeftOut, Schema};
use crate::message::conform::{Schemas, Unknown, conform};
use crate::message::envelope::Routing;
use crate::message::incoming::FedoraMessage;
use crate::message::validate::{InvalidMessage, validate};
use crate::schemas::SchemaFile;

/// Lists the catalogue, or checks files against one of its schemas.
#[must_use]
pub fn main(arguments: &SchemaCheckArgs) -> ExitCode {
    let catalogue = match SchemaFile::open(&arguments.catalogue).map(|file| file.current().catalogue.clone()) {
        Ok(Some(catalogue)) => catalogue,
        Ok(None) => {
            return misused("no schemas are known: give the file that `just schemas` writes as --schema-catalog");
        }
        Err(words) => return misused(&words),
    };
    match &arguments.schema {
        Some(name) => check(arguments, name, catalogue),
        None => list(&catalogue),
    }
}

/// One line for each schema. It fails if one can't be used, as messages of it would be refused.
fn list(catalogue: &Catalogue) -> ExitCode {
    let mut broken = 0_usize;
    let mut lines = Vec::new();
    for schema in &catalogue.schemas {
        let state = match catalogue.test(schema) {
            Ok(()) if schema.deprecated => "  (deprecated)".to_owned(),
            Ok(()) => String::new(),
            Err(words) => {
                broken += 1;
                format!("  can't be used: {words}")
            }
        };
        let Schema { name, severity, distribution, version, .. } = schema;
        lines.push(format!("{name:<44} {severity:?}  {distribution} {version}{state}"));
    }
    for left in &catalogue.left_out {
        let LeftOut { name, distribution, version, why } = left;
        lines.push(format!("{name:<44} left out  {distribution} {version}: {why}"));
    }
    let Catalogue { schemas, library, .. } = catalogue;
    lines.push(format!("{} schemas, exported with fedora-messaging {library}\n", schemas.len()));
    let printed = print(lines.join("\n"));
    match broken {
        0 => printed,
        broken => fail(&format!("{broken} of the schemas can't be used: tell their packages' maintainers")),
    }
}

fn check(arguments: &SchemaCheckArgs, name: &str, catalogue: Arc<Catalogue>) -> ExitCode {
    if let Found::Lacking(left_out) = catalogue.find(name, None) {
        return misused(&match left_out {
            Some(left) => format!("{name} is left out of the catalogue: {}", left.why),
            None => format!("the catalogue has no schema {name}: `check --schemas` lists those it has"),
        });
    }
    let manifests = match read(&arguments.files) {
        Ok(manifests) => manifests,
        Err(words) => return misused(&words),
    };
    let schemas = Schemas { catalogue: Some(catalogue), unknown: Unknown::Refuse };
    let mut all_fit = true;
    for mut message in manifests.messages {
        if let Ok(spec) = &mut message.spec {
            spec.message.schema = Some(name.to_owned());
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

fn fits(message: &FedoraMessage, schemas: &Schemas) -> Result<(), InvalidMessage> {
    conform(&mut validate(message, &Routing::default())?, schemas).map(drop)
}
