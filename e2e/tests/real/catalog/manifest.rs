//! Messages that differ in something from one that is right.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::text::expand;

/// Fields of a message, by their path.
pub type Fields = BTreeMap<String, Value>;

/// The manifest of a message with this name in which these fields are set and those left out, as
/// JSON.
pub fn manifest(name: &str, set: &Fields, remove: &[String]) -> String {
    let mut message = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessage",
        "metadata": {"name": name},
        "spec": {
            "env": "prod",
            "message": {"topic": "nice.message", "body": {"a": 1}},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    });
    for (path, value) in set {
        *path.split('.').fold(&mut message, |place, field| &mut place[field]) = value.clone();
    }
    for path in remove {
        let (above, field) = path.rsplit_once('.').unwrap_or(("", path));
        let fields = above.split('.').filter(|field| !field.is_empty());
        let place = fields.fold(&mut message, |place, field| &mut place[field]);
        place.as_object_mut().expect("an object").remove(field).expect("the field was there");
    }
    expand(&message.to_string()) + "\n"
}

/// The manifest of a message that names its certificate like this.
pub fn manifest_with(name: &str, authentication: Value, mut set: Fields) -> String {
    set.insert("spec.authentication".to_owned(), authentication);
    manifest(name, &set, &[])
}
