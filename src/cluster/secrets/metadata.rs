//! Decodes only the metadata of a Secret or `ConfigMap` that are used.

use std::borrow::Cow;
use std::marker::PhantomData;

use fedora_message::message::secret::{CONSENT_ANNOTATION, SecretMetadata};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// An object of which only the metadata that [`SecretMetadata`] needs are decoded. Its owner decides how
/// large the others are: 50,000 short labels with their managed fields, 1.3 MB of JSON, take 13 MiB once
/// decoded.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub(super) struct UsedMetadata<K> {
    #[serde(deserialize_with = "used")]
    metadata: ObjectMeta,
    #[serde(skip)]
    kind: PhantomData<K>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Used {
    uid: Option<String>,
    resource_version: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "apps.fedoraproject.org/allowed-namespaces")]
    allowed_namespaces: Option<String>,
}

fn used<'de, D: Deserializer<'de>>(metadata: D) -> Result<ObjectMeta, D::Error> {
    let Used { uid, resource_version, annotations } = Used::deserialize(metadata)?;
    let consent = annotations.and_then(|annotations| annotations.allowed_namespaces);
    let annotations = consent.map(|consent| [(CONSENT_ANNOTATION.to_owned(), consent)].into());
    Ok(ObjectMeta { uid, resource_version, annotations, ..ObjectMeta::default() })
}

impl<K> From<UsedMetadata<K>> for SecretMetadata {
    fn from(object: UsedMetadata<K>) -> Self {
        object.metadata.into()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for UsedMetadata<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn metadata_api() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_only_what_is_used() {
        let object = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": "certs", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
            "annotations": {CONSENT_ANNOTATION: "guest", "other": "text"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}}],
        }});
        let object: UsedMetadata<Secret> = serde_json::from_value(object).expect("an object");
        let used = ObjectMeta {
            uid: Some("u".to_owned()),
            resource_version: Some("7".to_owned()),
            annotations: Some([(CONSENT_ANNOTATION.to_owned(), "guest".to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(object.meta(), &used);
    }
}
