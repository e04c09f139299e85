//! Schemas and rules of the CRD that can't be derived from a Rust type.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::{Message, Rule};
use strum::VariantArray;

use super::object::FIRST_STATUS;
use super::v1alpha1::Environment;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The fields of the spec that never change.
const FIXED: [&str; 7] = [
    "env",
    "authentication",
    REQUIRED,
    "senderRef",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
];
/// The only one of them that is never absent.
const REQUIRED: &str = "message";

pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Header values of any type, including null. The API server drops a null that the schema does not
/// allow, and then nothing can refuse it. The number is limited because the admission policy
/// evaluates each header (manifests/base/admission-policy.yaml).
pub(crate) fn any_headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 1000,
        "additionalProperties": {
            "x-kubernetes-preserve-unknown-fields": true,
            "nullable": true
        }
    })
}

pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"]
    })
}

pub(crate) fn boolean(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "boolean"})
}

pub(crate) fn int64(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64"})
}

/// There is no format `int32`, because the API server reports its violation without the field's name.
pub(crate) fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": i32::MAX})
}

/// Names the values, so that the field keeps its own description.
pub(crate) fn environment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": Environment::VARIANTS.iter().map(|it| it.name()).collect::<Vec<_>>()})
}

/// Names the values, so that the field keeps its own description.
pub(crate) fn severity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Debug", "Info", "Warning", "Error"]})
}

pub(crate) fn octet(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": 255})
}

pub(crate) fn positive_seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 1})
}

pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// A Secret's name.
pub(crate) fn secret_name(_: &mut SchemaGenerator) -> Schema {
    object_name("a Secret")
}

/// The name of a Secret or `ConfigMap`.
pub(crate) fn source_name(_: &mut SchemaGenerator) -> Schema {
    object_name("a Secret or ConfigMap")
}

/// A Sender's name.
pub(crate) fn sender_name(_: &mut SchemaGenerator) -> Schema {
    object_name("a FedoraMessageSender")
}

/// A DNS subdomain, which the API server requires for the name of most objects.
fn object_name(what: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 253,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
            "message": format!("must be the name of {what}: at most 253 lower case letters, digits, dashes and dots")
        }]
    })
}

/// A DNS label, which the API server requires for a namespace's name.
pub(crate) fn namespace_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 63,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "message": "must be the name of a namespace: at most 63 lower case letters, digits and dashes"
        }]
    })
}

pub(crate) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    data_key("a Secret")
}

pub(crate) fn source_key(_: &mut SchemaGenerator) -> Schema {
    data_key("a Secret or ConfigMap")
}

fn data_key(what: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 253,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[-._a-zA-Z0-9]+$')",
            "message": format!("must be a key of {what}: at most 253 letters, digits, dashes, dots and underscores")
        }]
    })
}

/// A topic prefix, which may be empty. The rules are those of topics.
pub(crate) fn topic_prefix(_: &mut SchemaGenerator) -> Schema {
    let rule = |rule: &str, message: &str| serde_json::json!({"rule": rule, "message": message});
    json_schema!({
        "type": "string",
        "maxLength": 200,
        "x-kubernetes-validations": [
            rule("size(bytes(self)) <= 200", "spec.topicPrefix must have at most 200 bytes in UTF-8"),
            rule("!self.startsWith('.') && !self.endsWith('.') && !self.contains('..')", "spec.topicPrefix must be words separated by single dots, or empty"),
            rule("!self.contains('*') && !self.contains('#')", "spec.topicPrefix must not contain * or #, which are wildcards for subscriptions"),
            rule(r"!self.matches('[\\s\\p{Z}\\p{Cc}]')", "spec.topicPrefix must not contain white space or control characters")
        ]
    })
}

/// A text of at most 255 bytes without control characters. A broker limits the size of all properties of
/// a client together.
pub(crate) fn short_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "x-kubernetes-validations": [
            {"rule": "size(bytes(self)) <= 255", "message": "must have at most 255 bytes in UTF-8"},
            {"rule": r"!self.matches('[\\p{Cc}]')", "message": "must not contain control characters"}
        ]
    })
}

pub(crate) fn contacts(generator: &mut SchemaGenerator) -> Schema {
    let item = short_text(generator);
    json_schema!({"type": "array", "maxItems": 10, "items": item})
}

pub(crate) fn allowed_namespaces(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 100,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": "self == '*' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "message": "must be the name of a namespace, or * for all namespaces"
            }]
        }
    })
}

/// Returns the rule that only `suspend` may change in the spec. It applies to the whole resource.
///
/// API servers evaluate every rule on every write, and take milliseconds to compare two large bodies.
/// A status is written by a separate request, which can't change the spec. So the rule compares nothing
/// if the status differs (docs/decisions/0030).
pub(crate) fn only_suspend_changes() -> Rule {
    let fields = FIXED.map(|field| {
        let (now, before) = (format!("self.spec.{field}"), format!("oldSelf.spec.{field}"));
        let same = match field {
            REQUIRED => format!("{now} == {before}"),
            _ => format!("has({now}) == has({before}) && (!has({now}) || {now} == {before})"),
        };
        (field, same)
    });
    let same: Vec<_> = fields.iter().map(|(_, same)| same.as_str()).collect();
    let changed = fields
        .iter()
        .rfold("'spec'".to_owned(), |others, (field, same)| format!("!({same}) ? 'spec.{field}' : {others}"));
    let other_status = "has(self.status) && (!has(oldSelf.status) || self.status != oldSelf.status)";
    let detail = "can't be changed, because the message may have been sent already: create another FedoraMessage";
    Rule::new(format!("{other_status} || {}", same.join(" && ")))
        .message(Message::Expression(format!("({changed}) + \" {detail}\"")))
        .field_path(".spec")
}

/// Returns the rule that `suspend` may not change once the message is sent or given up.
///
/// The operator does not look at such a message again. So its status would describe an old generation
/// forever, and `kubectl wait` and kstatus would wait for the new one. Before it evaluates rules for a
/// change of the spec, the API server puts the old status back.
pub(crate) fn suspend_stays_after_end() -> Rule {
    let sent = "has(oldSelf.status.status) && oldSelf.status.status";
    let given_up = "has(oldSelf.status.conditions) && oldSelf.status.conditions.exists(c, c.type == 'Stalled' && c.status == 'True')";
    let (now, before) = ("self.spec.suspend", "oldSelf.spec.suspend");
    let same = format!("has({now}) == has({before}) && (!has({now}) || {now} == {before})");
    Rule::new(format!("!has(oldSelf.status) || !({sent} || {given_up}) || {same}"))
        .message("spec.suspend can't be changed any more, because the message was sent or given up")
        .field_path(".spec.suspend")
}

/// Returns the definition with what can't be derived from a type.
pub(super) fn polished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let versions = crd.spec.versions.iter_mut();
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        without_nulls(schema);
        without_line_breaks(schema);
        in_progress_until_first_status(schema);
    }
    crd
}

/// Gives a resource without a status one that describes no generation.
///
/// kstatus, and so Flux and Helm, take a resource for current that has no status. With this default they wait for
/// the operator (docs/decisions/0052).
fn in_progress_until_first_status(schema: &mut JSONSchemaProps) {
    let status = schema.properties.as_mut().and_then(|properties| properties.get_mut("status"));
    if let Some(status) = status {
        status.default = serde_json::from_str(FIRST_STATUS).ok().map(JSON);
    }
}

/// Removes `nullable` from every schema except that of header values, see [`any_headers`].
///
/// The API server then drops a null as if the field were absent. Users expect this of an optional
/// field, and rules with `has()` rely on it.
fn without_nulls(schema: &mut JSONSchemaProps) {
    if schema.x_kubernetes_preserve_unknown_fields != Some(true) {
        schema.nullable = None;
    }
    below(schema).for_each(without_nulls);
}

/// Joins the lines of every description. `kubectl explain` wraps lines itself, but keeps the line
/// breaks of the source.
fn without_line_breaks(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    below(schema).for_each(without_line_breaks);
}

/// Returns the schemas of the properties, values or items of `schema`.
fn below(schema: &mut JSONSchemaProps) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let properties = schema.properties.iter_mut().flat_map(|properties| properties.values_mut());
    let values = match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(&mut **values),
        _ => None,
    };
    let items = match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&mut **items),
        _ => None,
    };
    properties.chain(values).chain(items)
}
