//! `check -f`: checks messages in files, without a broker or a cluster.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;

use crate::cli::{CheckArgs, SchemaCheckArgs};
use crate::commands::manifests::Manifests;
use crate::commands::publish::{Input, read};
use crate::commands::{complain, fail, misused, print};
use crate::schema_file::SchemaFile;
use fedora_message::api::names::SenderName;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Routing;
use fedora_message::message::invalid::PrepareError;
use fedora_message::message::prepare::prepare;
use fedora_message::message::sender::{Sender, SenderError, borrowed};
use fedora_message::schema::catalog::SchemaLookup;
use fedora_message::schema::check::{Schemas, UnknownSchemaPolicy};

/// Checks the files. Fails if a message would be refused.
#[must_use]
pub fn main(arguments: &CheckArgs) -> ExitCode {
    let routing = Routing { require_sender: arguments.scope.require_sender, ..arguments.broker.routing() };
    let checked = known_schemas(&arguments.schemas).and_then(|schemas| Ok((schemas, read(&arguments.schemas.files)?)));
    let (schemas, Input { mut manifests, is_plain }) = match checked {
        Ok(checked) => checked,
        Err(error) => return misused(&error),
    };
    let mut all_valid = true;
    for mut message in std::mem::take(&mut manifests.messages) {
        if let Some(name) = &arguments.schemas.schema
            && let Ok(mut spec) = message.spec()
        {
            spec.message.schema = Some(name.clone());
            if let Err(error) = message.set_spec(&spec) {
                return fail(&format!("internal error: {error}. Please report this bug"));
            }
        }
        let title = match message.name() {
            "" => message.uid(),
            name => name,
        };
        match check(&message, &manifests, &routing, &schemas) {
            Ok(Verdict { schema, absent: Some(sender) }) if !is_plain => drop(print(format!(
                "{title}: {schema}; {sender} is not in the files, so its environment, prefix and defaults are not known here\n"
            ))),
            Ok(Verdict { schema, .. }) => drop(print(format!("{title}: {schema}\n"))),
            Err(invalid) => {
                complain(&format!("{title}: {invalid}"));
                all_valid = false;
            }
        }
    }
    if all_valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the schemas to check against. The one that a flag names must be there.
fn known_schemas(arguments: &SchemaCheckArgs) -> anyhow::Result<Arc<Schemas>> {
    let schemas = SchemaFile::open(arguments.catalog.settings())?.current();
    let (Some(name), Some(catalog)) = (&arguments.schema, &schemas.catalog) else { return Ok(schemas) };
    match catalog.find(name, None) {
        SchemaLookup::Missing(Some(left)) => bail!("{name} is left out of the catalog: {}", left.why),
        SchemaLookup::Missing(None) => bail!("the catalog has no schema {name}: `check --schemas` lists those it has"),
        _ => Ok(Arc::new(Schemas { unknown: UnknownSchemaPolicy::Refuse, ..Schemas::clone(&schemas) })),
    }
}

/// The result for a valid message.
struct Verdict {
    /// How it was checked against its schema.
    schema: String,
    /// Its Sender, if that is not in the files.
    absent: Option<SenderName>,
}

/// Checks a message.
fn check(
    message: &FedoraMessage,
    manifests: &Manifests,
    routing: &Routing,
    schemas: &Schemas,
) -> Result<Verdict, PrepareError> {
    let found = manifests.sender(message);
    let absent = match &found {
        Some(Err(SenderError::Absent(name))) => Some(name.clone()),
        _ => None,
    };
    let assumed = absent.clone().map(|name| Sender::assumed(name, message.environment().unwrap_or(Environment::Prod)));
    let sender = assumed.as_ref().map(Ok).or_else(|| borrowed(found.as_ref()));
    let outgoing = prepare(message, sender, routing, schemas)?;
    let schema = match (&outgoing.warning, &schemas.catalog) {
        (Some(warning), Some(_)) => format!("valid. {warning}"),
        (None, Some(_)) => format!("valid, fits {}", outgoing.schema),
        (_, None) => format!("valid, not checked against {}: there is no --schema-catalog", outgoing.schema),
    };
    Ok(Verdict { schema, absent })
}
