//! The first step of an attempt: all checks of a message that need no Secret, broker or API server.

use crate::api::object::FedoraMessage;
use crate::message::envelope::Routing;
use crate::message::invalid::PrepareError;
use crate::message::outgoing::OutgoingMessage;
use crate::message::sender::{Sender, SenderError};
use crate::message::validate::validate;
use crate::schema::check::{SchemaCheck, Schemas, check_schema};

/// Validates a message, and checks it against its schema. `sender` is the Sender that it names, if it
/// names one.
pub fn prepare(
    message: &FedoraMessage,
    sender: Option<Result<&Sender, SenderError>>,
    routing: &Routing,
    schemas: &Schemas,
) -> Result<OutgoingMessage, PrepareError> {
    let mut outgoing = validate(message, sender, routing)?;
    outgoing.warning = match check_schema(&mut outgoing, schemas)? {
        SchemaCheck::Passed => None,
        SchemaCheck::Deprecated => {
            Some(format!("Its schema {} is deprecated: use a newer one of its package", outgoing.schema))
        }
        SchemaCheck::Unchecked(why) => Some(format!("It was not checked against its schema: {why}")),
    };
    Ok(outgoing)
}
