//! Validates a [`FedoraMessage`]. The result is an [`OutgoingMessage`], which can be sent, or an
//! [`InvalidMessage`], which names the wrong field. Only the length of the topic depends on a setting
//! of the operator too.
//!
//! The CRD's schema and the `ValidatingAdmissionPolicy` check the same at admission. The checks are
//! repeated here because the policy may not be installed, and because the `publish` command has no
//! API server. Sources: RabbitMQ's and fedora-messaging's rules, docs/wire-format.md.

use std::sync::Arc;

use uuid::{Uuid, Variant};

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::{Environment, FedoraMessageSpec, MessageSpec, Severity};
use crate::message::authentication::{Authentication, check_name, valid_authentication};
use crate::message::body;
use crate::message::envelope::{self, Routing};
use crate::message::invalid::{InvalidMessage, PrepareError, refuse};
use crate::message::outgoing::{BASE_SCHEMA, BASE_SCHEMA_PACKAGE, HeaderValue, OutgoingMessage};
use crate::message::sender::{Application, Sender, SenderError};
use crate::message::trace_context::{self, Trace};
use crate::text::{MAX_QUOTE, printable, quoted};

/// The maximum length of AMQP short strings (routing key, header names), in bytes.
const MAX_SHORT_STRING: usize = 255;
/// The maximum number of headers. Admission would be too slow with more.
const MAX_HEADERS: usize = 1000;
/// The number of dropped nulls that an error names.
const MAX_SHOWN: usize = 5;
/// Headers by which consumers filter. All others that begin with `fedora_messaging` are reserved.
const FILTER_HEADERS: [&str; 6] = ["user", "group", "rpm", "container", "module", "flatpak"];

/// Validates all fields that can be checked without a Secret or a broker. `sender` is the Sender that the
/// message names, if it names one.
pub fn validate(
    message: &FedoraMessage,
    sender: Option<Result<&Sender, SenderError>>,
    routing: &Routing,
) -> Result<OutgoingMessage, PrepareError> {
    let spec = *message.spec().map_err(|error| InvalidMessage(error.to_string()))?;
    valid_limits(&spec)?;
    valid_body(&spec.message, message.last_applied.as_deref())?;
    let (schema, schema_package) = valid_schema(&spec.message)?;
    let id = valid_uid(message.uid())?;
    let mut headers = valid_headers(&spec.message)?;
    if routing.trace_context {
        let value = HeaderValue::String(Trace::of(id, &spec.message.headers).header());
        headers.retain(|(name, _)| *name != trace_context::HEADER);
        headers.push((trace_context::HEADER.to_owned(), value));
    }
    let sent_at = message
        .created
        .ok_or_else(|| InvalidMessage("metadata.creationTimestamp is missing: it is the message's time".to_owned()))?;
    valid_topic(&spec.message.topic).map_err(|detail| InvalidMessage(format!("spec.message.topic {detail}")))?;
    let route = route(message.namespace(), &spec, sender, routing)?;
    Ok(OutgoingMessage {
        id,
        sent_at,
        environment: route.environment,
        routing_key: valid_routing_key(&route, routing, &spec.message.topic)?,
        schema,
        schema_package,
        severity: spec.message.severity.or(route.severity),
        priority: spec.message.priority.or(route.priority).unwrap_or_default(),
        headers,
        authentication: route.authentication,
        owner: route.owner,
        application: route.application,
        body: spec.message.body,
        warning: None,
    })
}

/// The fields that a message has from its Sender or names itself.
struct Route<'a> {
    environment: Environment,
    /// The prefix of the topic, which may be empty.
    prefix: &'a str,
    severity: Option<Severity>,
    priority: Option<u8>,
    authentication: Authentication,
    owner: String,
    application: Arc<Application>,
}

/// Decides as whom a message in `namespace` is sent, and where to.
fn route<'a>(
    namespace: &str,
    spec: &FedoraMessageSpec,
    sender: Option<Result<&'a Sender, SenderError>>,
    routing: &'a Routing,
) -> Result<Route<'a>, PrepareError> {
    if let Some(reference) = &spec.sender_ref {
        check_name("spec.senderRef", "FedoraMessageSender", &reference.name, reference.namespace.as_deref())?;
    }
    match (&spec.authentication, &spec.sender_ref) {
        (Some(_), Some(_)) => refuse("spec.authentication and spec.senderRef exclude each other: remove one of them"),
        (Some(_), None) if routing.require_sender => refuse(
            "spec.authentication is not allowed, because the operator requires a FedoraMessageSender: create another FedoraMessage with spec.senderRef, or without it for the Sender default",
        ),
        (Some(authentication), None) => {
            let environment = spec.env.ok_or_else(|| {
                InvalidMessage("spec.env is missing: add prod or stg, which spec.authentication needs".to_owned())
            })?;
            let authentication = valid_authentication(authentication, namespace)?;
            let certificate = authentication.certificate();
            let name = format!("{}/{}", certificate.namespace, certificate.name);
            Ok(Route {
                environment,
                prefix: routing.prefix(environment),
                severity: None,
                priority: None,
                owner: namespace.to_owned(),
                application: Arc::new(Application::named(name)),
                authentication,
            })
        }
        (None, _) => {
            let no_default = || SenderError::NoDefault(namespace.to_owned());
            let sender = sender.unwrap_or_else(|| Err(no_default())).map_err(|error| match error {
                SenderError::Absent(_) if spec.sender_ref.is_none() => no_default(),
                error => error,
            })?;
            let environment = sender.environment;
            if let Some(other) = spec.env.filter(|env| *env != environment) {
                return refuse(format!(
                    "spec.env is {other}, but {} sends to {environment}: create another FedoraMessage without spec.env, or with another Sender",
                    sender.name
                ));
            }
            Ok(Route {
                environment,
                prefix: sender.topic_prefix.as_deref().unwrap_or_else(|| routing.prefix(environment)),
                severity: sender.severity,
                priority: sender.priority,
                authentication: sender.authentication.clone(),
                owner: sender.name.namespace.clone(),
                application: sender.application.clone(),
            })
        }
    }
}

/// Checks the ranges of the CRD's schema. Only manifests that no API server has seen can violate them.
fn valid_limits(spec: &FedoraMessageSpec) -> Result<(), InvalidMessage> {
    const MAX_COUNT: i64 = i32::MAX as i64;
    for (field, least, most, value) in [
        ("activeDeadlineSeconds", 1, i64::MAX, spec.active_deadline_seconds),
        ("backoffLimit", 0, MAX_COUNT, spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", 0, MAX_COUNT, spec.ttl_seconds_after_finished.map(i64::from)),
    ] {
        if let Some(value) = value
            && !(least..=most).contains(&value)
        {
            return refuse(format!("spec.{field} is {value}, but must be at least {least} and at most {most}"));
        }
    }
    Ok(())
}

fn valid_uid(uid: &str) -> Result<Uuid, InvalidMessage> {
    message_id(uid).ok_or_else(|| {
        InvalidMessage(format!(
            "metadata.uid is {}, but must be a UUID of version 4, because it becomes the message's id: correct it, or remove it to get a new one",
            quoted(uid)
        ))
    })
}

/// Returns a message's id, if the text is one as it is on the wire: a UUID of version 4.
#[must_use]
pub fn message_id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.get_version_num() == 4 && id.get_variant() == Variant::RFC4122 && id.to_string() == text).then_some(id)
}

fn valid_body(message: &MessageSpec, last_applied: Option<&str>) -> Result<(), InvalidMessage> {
    let json = message.body.get();
    if !json.starts_with('{') {
        return refuse(format!(
            "spec.message.body is {}, but must be an object: put the value under a key",
            kind(json)
        ));
    }
    let depth = body::depth(json);
    if depth > body::MAX_DEPTH {
        return refuse(format!(
            "spec.message.body is nested {depth} levels deep, but consumers can read at most {}: flatten it",
            body::MAX_DEPTH
        ));
    }
    let dropped = last_applied.map(|applied| body::dropped_nulls(applied, json)).unwrap_or_default();
    if !dropped.is_empty() {
        let shown: Vec<_> = dropped.iter().take(MAX_SHOWN).map(|path| printable(path, MAX_QUOTE)).collect();
        let (shown, more) = (shown.join(", "), dropped.len().saturating_sub(MAX_SHOWN));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return refuse(format!(
            "client-side kubectl apply dropped the null values at {shown}{more}: delete the resource and use `kubectl apply --server-side` or `kubectl create`, which keep them. A manifest that was exported from the cluster has lost them: write them again"
        ));
    }
    Ok(())
}

/// Returns the routing key: prefix and topic, as the library builds it.
///
/// Refuses a topic that has a prefix already. With another one in front, no consumer would get the
/// message.
fn valid_routing_key(route: &Route<'_>, routing: &Routing, topic: &str) -> Result<String, PrepareError> {
    let &Route { environment, prefix, .. } = route;
    if let Some(rest) = without_prefix(topic, prefix) {
        return refuse(format!(
            "spec.message.topic {} already begins with the prefix {}, which the operator adds: create another FedoraMessage with the topic {}",
            quoted(topic),
            quoted(prefix),
            quoted(rest)
        ));
    }
    let other = match environment {
        Environment::Prod => Environment::Stg,
        Environment::Stg => Environment::Prod,
    };
    let (own_prefix, other_prefix) = (routing.prefix(environment), routing.prefix(other));
    if let Some(rest) = without_prefix(topic, other_prefix).filter(|_| without_prefix(topic, own_prefix).is_none()) {
        let topic_there = if prefix.is_empty() { format!("{own_prefix}.{rest}") } else { rest.to_owned() };
        return refuse(format!(
            "spec.message.topic {} begins with the prefix of {other}, but the message is for {environment}: create another FedoraMessage with the topic {}",
            quoted(topic),
            quoted(topic_there.trim_start_matches('.'))
        ));
    }
    let key = if prefix.is_empty() { topic.to_owned() } else { format!("{prefix}.{topic}") };
    if key.len() > MAX_SHORT_STRING {
        let (length, prefix) = (key.len(), prefix.len());
        return Err(PrepareError::Misconfigured(format!(
            "spec.message.topic makes a routing key of {length} bytes, {prefix} of them the configured prefix, but AMQP allows at most {MAX_SHORT_STRING}: create another FedoraMessage with a shorter topic, or ask the operator's administrators for a shorter prefix"
        )));
    }
    Ok(key)
}

/// Returns what follows the prefix in a topic, if the topic begins with it.
fn without_prefix<'a>(topic: &'a str, prefix: &str) -> Option<&'a str> {
    topic.strip_prefix(prefix).filter(|_| !prefix.is_empty())?.strip_prefix('.')
}

/// Checks a topic or a topic prefix. The error is a sentence without its subject.
pub fn valid_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("is empty: name a topic, for instance nice.message".to_owned());
    }
    if topic.len() > MAX_SHORT_STRING {
        return Err(format!("has {} bytes in UTF-8, but must have at most {MAX_SHORT_STRING}", topic.len()));
    }
    if topic.split('.').any(str::is_empty) {
        return Err(format!("{} must be words separated by single dots", quoted(topic)));
    }
    if topic.contains(['*', '#']) {
        return Err(format!("{} must not contain * or #, which are wildcards for subscriptions", quoted(topic)));
    }
    if topic.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} must not contain white space or control characters", quoted(topic)));
    }
    Ok(())
}

fn valid_schema(message: &MessageSpec) -> Result<(String, Option<String>), InvalidMessage> {
    let schema = message.schema.as_deref().unwrap_or(BASE_SCHEMA);
    let default_package = (schema == BASE_SCHEMA).then_some(BASE_SCHEMA_PACKAGE);
    let package = message.schema_package.as_deref().or(default_package);
    for (field, what, value) in [
        ("schema", "the name of an entry point", Some(schema)),
        ("schemaPackage", "the name of a Python package", package),
    ] {
        let plain = |name: &str| {
            (1..=MAX_SHORT_STRING).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if let Some(value) = value
            && !plain(value)
        {
            return refuse(format!(
                "spec.message.{field} is {}, but must be {what}: 1 to 255 letters, digits, dots, dashes and underscores",
                quoted(value)
            ));
        }
    }
    Ok((schema.to_owned(), package.map(str::to_owned)))
}

fn valid_headers(message: &MessageSpec) -> Result<Vec<(String, HeaderValue)>, InvalidMessage> {
    let count = message.headers.len();
    if count > MAX_HEADERS {
        return refuse(format!(
            "spec.message.headers has {count} headers, but at most {MAX_HEADERS} are allowed: move some to the body"
        ));
    }
    let headers = message
        .headers
        .iter()
        .map(|(name, raw)| {
            valid_header_name(name, raw.get())?;
            let value = header_value(raw.get()).map_err(|found| {
                InvalidMessage(format!("spec.message.headers[{}] is {found}, but must be a string, a 64-bit integer or a boolean: change it, or move it to the body", quoted(name)))
            })?;
            Ok((name.clone(), value))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let size = envelope::table_size(headers.iter().map(|(name, value)| (name.as_str(), value)));
    if size > envelope::MAX_OWN_HEADERS_SIZE {
        return refuse(format!(
            "spec.message.headers take {size} bytes, but at most {} fit into an AMQP frame: move some to the body",
            envelope::MAX_OWN_HEADERS_SIZE
        ));
    }
    Ok(headers)
}

fn valid_header_name(name: &str, json: &str) -> Result<(), InvalidMessage> {
    let field = format!("spec.message.headers[{}]", quoted(name));
    if name.is_empty() || name.len() > MAX_SHORT_STRING {
        return refuse(format!(
            "{field}: the name has {} bytes, but must have 1 to {MAX_SHORT_STRING}: rename the header",
            name.len()
        ));
    }
    match name {
        "sent-at" => {
            return refuse(format!("{field} can't be set: it is the resource's creation time; remove it"));
        }
        "priority" => return refuse(format!("{field} can't be set: use spec.message.priority")),
        "CC" | "BCC" => {
            return refuse(format!(
                "{field} can't be set, because RabbitMQ would route the message by it: rename the header, or create one FedoraMessage for each topic"
            ));
        }
        "fedora_messaging_severity" => return refuse(format!("{field} is reserved: use spec.message.severity")),
        "fedora_messaging_schema" => return refuse(format!("{field} is reserved: use spec.message.schema")),
        "fedora_messaging_schema_package" => {
            return refuse(format!("{field} is reserved: use spec.message.schemaPackage"));
        }
        _ => {}
    }
    if !name.starts_with("fedora_messaging") {
        return Ok(());
    }
    if !is_filter_header(name) {
        return refuse(format!(
            "{field} is reserved: only the filter headers fedora_messaging_{{user,group,rpm,container,module,flatpak}}_NAME may begin with fedora_messaging; rename the header"
        ));
    }
    match json {
        "true" => Ok(()),
        _ => refuse(format!("{field} is a filter header, whose value must be true: set it to true, or remove it")),
    }
}

fn is_filter_header(name: &str) -> bool {
    FILTER_HEADERS.iter().any(|object| {
        name.strip_prefix("fedora_messaging_")
            .and_then(|rest| rest.strip_prefix(object))
            .and_then(|rest| rest.strip_prefix('_'))
            .is_some_and(|name| !name.is_empty())
    })
}

/// Parses a header's value, or returns its type as an error. A list or object is never parsed, because
/// its first character is enough and the user chooses its depth.
fn header_value(json: &str) -> Result<HeaderValue, &'static str> {
    let wrong = || kind(json);
    match json.bytes().next() {
        Some(b'"') => serde_json::from_str(json).map(HeaderValue::String).map_err(|_| wrong()),
        Some(b't' | b'f') => serde_json::from_str(json).map(HeaderValue::Boolean).map_err(|_| wrong()),
        Some(b'-' | b'0'..=b'9') => serde_json::from_str(json).map(HeaderValue::Integer).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// Describes the type of a JSON value by its first character.
fn kind(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) if json.contains(['.', 'e', 'E']) => "a number with a fraction or exponent",
        _ if json.parse::<i64>().is_ok() => "an integer",
        _ => "an integer beyond 64 bits",
    }
}

#[cfg(test)]
mod tests;
