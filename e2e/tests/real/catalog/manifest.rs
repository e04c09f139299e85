//! Messages that differ from a correct one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::text::expand;
use e2e::message_json;

/// Fields of a message, by path.
pub type Fields = BTreeMap<String, Value>;

/// Returns a message as JSON, with some fields set and some removed.
pub fn manifest(name: &str, set: &Fields, remove: &[String]) -> String {
    let mut message = message_json(name, &json!({"topic": "nice.message", "body": {"a": 1}}));
    for (path, value) in set {
        *path.split('.').fold(&mut message, |parent, field| &mut parent[field]) = value.clone();
    }
    for path in remove {
        let (above, field) = path.rsplit_once('.').unwrap_or(("", path));
        let fields = above.split('.').filter(|field| !field.is_empty());
        let parent = fields.fold(&mut message, |parent, field| &mut parent[field]);
        parent.as_object_mut().expect("an object").remove(field).expect("the field");
    }
    expand(&message.to_string()) + "\n"
}

/// Returns a message as JSON, with this `spec.authentication`.
pub fn manifest_with(name: &str, authentication: Value, mut set: Fields) -> String {
    set.insert("spec.authentication".to_owned(), authentication);
    manifest(name, &set, &[])
}
