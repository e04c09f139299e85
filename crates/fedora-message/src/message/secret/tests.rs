//! Selection of PEM texts from Secrets, and consent.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::names::SourceName;
use crate::api::v1alpha1::Environment;
use crate::bounds::MAX_SECRET_BYTES;
use crate::message::authentication::{Authentication, ClientKeys, SourceKey};
use crate::message::secret::{
    CONSENT_ANNOTATION, KeyLocations, OperatorCa, OperatorCas, PemFiles, Secret, SecretError, select, used_keys,
};
use crate::policy::outcome::{Failure, Reason};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as KubeSecret};

fn name(namespace: &str, name: &str) -> SourceName {
    SourceName::secret(namespace, name)
}

/// The location of certificate, key and CA in one Secret, under known names.
fn one(namespace: &str) -> Authentication {
    Authentication { client: ClientKeys::One(name(namespace, "certs")), ca: None }
}

fn key(source: SourceName, key: &str) -> SourceKey {
    SourceKey { source, key: key.to_owned() }
}

/// The location of certificate and key in two Secrets, without a CA.
fn two() -> Authentication {
    let client = ClientKeys::Two {
        cert: key(name("apps", "nice-crt"), "nice-cert.pem"),
        key: key(name("apps", "nice-key"), "nice-key.pem"),
    };
    Authentication { client, ca: None }
}

fn ca_map() -> SourceName {
    SourceName::config_map("apps", "fedora-ca")
}

/// A `ConfigMap` with this text and these bytes.
fn config_map(text: &[(&str, &str)], binary: &[(&str, &str)]) -> Arc<Secret> {
    let data = text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let binary = binary.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    Arc::new(ConfigMap { data: Some(data), binary_data: Some(binary), ..ConfigMap::default() }.into())
}

fn operator_ca() -> OperatorCa {
    OperatorCa { place: "the operator's file /etc/ca.pem".to_owned(), pem: "operator's".to_owned() }
}

/// A Secret in which the value of each key is its own name after a secret word.
fn secret(keys: &[&str], consent: Option<&str>) -> Arc<Secret> {
    let mut secret = KubeSecret::default();
    let text = |key: &str| ByteString(format!("hush {key}").into_bytes());
    secret.data = Some(keys.iter().map(|key| ((*key).to_owned(), text(key))).collect());
    secret.metadata.annotations =
        consent.map(|list| [(CONSENT_ANNOTATION.to_owned(), list.to_owned())].into_iter().collect());
    Arc::new(secret.into())
}

/// Selects from one Secret of the message's namespace, and returns the values of CA, certificate and key.
fn found(keys: &[&str]) -> Result<[String; 3], SecretError> {
    let secrets = [Some(secret(keys, None))];
    let PemFiles { ca, cert, key } = select(&one("apps"), "apps", &secrets, None)?;
    Ok([ca, cert, key].map(|pem| String::from_utf8(pem.bytes.to_vec()).unwrap()))
}

#[test]
fn finds_each_set_of_known_keys() {
    for keys in [["ca", "cert", "key"], ["ca.crt", "tls.crt", "tls.key"], ["cacert.pem", "cert.pem", "key.pem"]] {
        assert_eq!(found(&keys).unwrap(), keys.map(|key| format!("hush {key}")));
    }
}

#[test]
fn prefers_a_complete_set_of_keys() {
    let both = ["ca", "cert", "key", "ca.crt", "tls.crt", "tls.key"];
    assert_eq!(found(&both).unwrap(), ["hush ca", "hush cert", "hush key"]);
    let one = ["ca", "cert", "ca.crt", "tls.crt", "tls.key"];
    assert_eq!(found(&one).unwrap(), ["hush ca.crt", "hush tls.crt", "hush tls.key"]);
}

#[test]
fn names_missing_keys() {
    let none = r#"the keys "ca", "cert" and "key" (or "ca.crt", "tls.crt" and "tls.key", or "cacert.pem", "cert.pem" and "key.pem"): add the broker's CA, the client certificate and its private key"#;
    for (keys, missing) in [
        (vec!["ca", "cert"], r#"the key "key" with the private key"#),
        (vec!["ca", "key"], r#"the key "cert" with the client certificate"#),
        (vec!["ca"], r#"the key "cert" with the client certificate and the key "key" with the private key"#),
        (vec!["tls.crt", "tls.key"], r#"the key "ca.crt" with the broker's CA"#),
        (vec!["cert.pem", "key.pem", "ca"], r#"the key "cacert.pem" with the broker's CA"#),
        (vec![], none),
        (vec!["password"], none),
    ] {
        let error = found(&keys).unwrap_err();
        assert_eq!(error.to_string(), format!("Secret apps/certs lacks {missing}"), "{keys:?}");
        assert_eq!(error.reason(), Reason::SecretInvalid);
    }
}

/// A Secret with a value of this size under each key.
fn large(sizes: &[(&str, usize)]) -> Secret {
    let data = sizes.iter().map(|(key, size)| ((*key).to_owned(), ByteString(vec![b'x'; *size]))).collect();
    KubeSecret { data: Some(data), ..KubeSecret::default() }.into()
}

#[test]
fn refuses_a_secret_that_is_too_large() {
    let authentication = one("apps");
    let sizes = [("ca", MAX_SECRET_BYTES - 1), ("cert", 1), ("key", 1)];
    let whole = Some(Arc::new(large(&sizes)));
    let mut kept = large(&sizes);
    kept.keep(&used_keys(&authentication, &name("apps", "certs")), &BTreeSet::new());
    assert_eq!(kept.get("key"), None, "too much is not held");
    for secret in [whole, Some(Arc::new(kept))] {
        let error = select(&authentication, "apps", &[secret], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Secret apps/certs has 262145 bytes of certificates and keys, but may have at most 262144: store only the broker's CA, the client certificate and its private key"
        );
        assert_eq!(error.reason(), Reason::SecretInvalid);
    }
}

/// A Secret may have a large value that nobody uses.
#[test]
fn holds_only_used_keys() {
    let authentication = one("apps");
    let mut secret = large(&[("ca", 1), ("cert", 1), ("key", 1), ("truststore.jks", MAX_SECRET_BYTES)]);
    secret.keep(&used_keys(&authentication, &name("apps", "certs")), &BTreeSet::new());
    assert_eq!(secret.get("truststore.jks"), None);
    assert!(select(&authentication, "apps", &[Some(Arc::new(secret))], None).is_ok());
}

#[test]
fn reads_one_key_from_each_of_three_secrets() {
    let authentication = Authentication { ca: Some(key(name("apps", "nice-ca"), "cacert.pem")), ..two() };
    let mut secrets = vec![
        Some(secret(&["cacert.pem"], None)),
        Some(secret(&["nice-cert.pem"], None)),
        Some(secret(&["nice-key.pem"], None)),
    ];
    let pem = select(&authentication, "apps", &secrets, None).unwrap();
    assert_eq!(pem.ca.bytes, b"hush cacert.pem");
    assert_eq!(pem.cert.bytes, b"hush nice-cert.pem");
    assert_eq!(pem.key.bytes, b"hush nice-key.pem");
    assert_eq!(pem.cert.place, r#"key "nice-cert.pem" of Secret apps/nice-crt"#);
    assert!(!format!("{pem:?}").contains("hush"), "{pem:?}");

    secrets[1] = Some(secret(&["other"], None));
    let error = select(&authentication, "apps", &secrets, None).unwrap_err();
    assert_eq!(error.to_string(), r#"Secret apps/nice-crt lacks the key "nice-cert.pem""#);
    secrets[1] = None;
    let error = select(&authentication, "apps", &secrets, None).unwrap_err();
    assert!(error.to_string().starts_with("Secret apps/nice-crt does not exist: create it"), "{error}");
}

#[test]
fn needs_consent_for_a_secret_in_another_namespace() {
    for (consent, allowed) in [
        (None, false),
        (Some(""), false),
        (Some("apps"), true),
        (Some("*"), true),
        (Some("other, apps ,more"), true),
        (Some("other,*"), true),
        (Some("app"), false),
        (Some("apps2"), false),
        (Some("Apps"), false),
        (Some("app*"), false),
        (Some("apps;other"), false),
        (Some("!apps"), false),
    ] {
        let secrets = [Some(secret(&["ca", "cert", "key"], consent))];
        let selected = select(&one("infra"), "apps", &secrets, None);
        assert_eq!(selected.is_ok(), allowed, "{consent:?}");
    }
}

#[test]
fn reports_denied_and_absent_secrets_alike() {
    let authentication = one("infra");
    let detail = "Secret infra/certs does not exist, or does not allow namespace apps to use it: create it, or let its \
                 owner add apps to its annotation apps.fedoraproject.org/allowed-namespaces";
    for found in [None, Some(secret(&["ca", "cert", "key"], None)), Some(secret(&[], Some("other")))] {
        let error = select(&authentication, "apps", &[found], None).unwrap_err();
        assert_eq!(error.to_string(), detail);
        assert_eq!(error.reason(), Reason::SecretNotFound);
    }
}

#[test]
fn needs_no_consent_in_the_same_namespace() {
    let secrets = [Some(secret(&["ca", "cert", "key"], Some("other")))];
    assert!(select(&one("apps"), "apps", &secrets, None).is_ok());
}

#[test]
fn reads_the_ca_of_a_config_map() {
    let authentication = Authentication { ca: Some(key(ca_map(), "cacert.pem")), ..two() };
    let client = [Some(secret(&["nice-cert.pem"], None)), Some(secret(&["nice-key.pem"], None))];
    let operator_ca = operator_ca();
    for map in [config_map(&[("cacert.pem", "a CA")], &[]), config_map(&[], &[("cacert.pem", "a CA")])] {
        let sources = [[Some(map)].as_slice(), &client].concat();
        let PemFiles { ca, cert, key } = select(&authentication, "apps", &sources, Some(&operator_ca)).unwrap();
        assert_eq!(
            (ca.bytes, ca.place.as_str()),
            (b"a CA".as_slice(), r#"key "cacert.pem" of ConfigMap apps/fedora-ca"#)
        );
        assert_eq!((cert.bytes, key.bytes), (b"hush nice-cert.pem".as_slice(), b"hush nice-key.pem".as_slice()));
    }
    let other = [[Some(config_map(&[("other", "a CA")], &[]))].as_slice(), &client].concat();
    let error = select(&authentication, "apps", &other, Some(&operator_ca)).unwrap_err();
    assert_eq!(error.to_string(), r#"ConfigMap apps/fedora-ca lacks the key "cacert.pem""#);
    assert_eq!(error.reason(), Reason::SecretInvalid);
}

/// A wrong reference is never replaced by another CA in silence.
#[test]
fn names_absent_objects() {
    let with_map = || Some(key(ca_map(), "cacert.pem"));
    let create = |kind: &str, command: &str, name: &str, files: &str| {
        format!(
            "{kind} apps/{name} does not exist: create it, for example by kubectl -n apps create {command} {name} {files}"
        )
    };
    let map = || Some(config_map(&[("cacert.pem", "a CA")], &[]));
    let all = "--from-file=ca=cacert.pem --from-file=cert=cert.pem --from-file=key=key.pem";
    for (authentication, sources, expected) in [
        (one("apps"), vec![None], create("Secret", "secret generic", "certs", all)),
        (
            Authentication { ca: with_map(), ..one("apps") },
            vec![None, None],
            create("ConfigMap", "configmap", "fedora-ca", "--from-file=cacert.pem=cacert.pem"),
        ),
        (
            Authentication { ca: with_map(), ..one("apps") },
            vec![map(), None],
            create("Secret", "secret generic", "certs", "--from-file=cert=cert.pem --from-file=key=key.pem"),
        ),
        (
            Authentication { ca: with_map(), ..two() },
            vec![map(), None, None],
            create("Secret", "secret generic", "nice-crt", "--from-file=nice-cert.pem=cert.pem"),
        ),
        (
            two(),
            vec![Some(secret(&["nice-cert.pem"], None)), None],
            create("Secret", "secret generic", "nice-key", "--from-file=nice-key.pem=key.pem"),
        ),
    ] {
        let error = select(&authentication, "apps", &sources, Some(&operator_ca())).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.reason(), Reason::SecretNotFound);
    }
}

/// The named CA goes before that in the Secret of the certificate, and that before the operator's.
#[test]
fn prefers_the_closest_ca() {
    let all = || Some(secret(&["ca", "cert", "key"], None));
    let no_ca = || Some(secret(&["tls.crt", "tls.key"], None));
    let map = || Some(config_map(&[("cacert.pem", "named")], &[]));
    let named = || Authentication { ca: Some(key(ca_map(), "cacert.pem")), ..one("apps") };
    let own = operator_ca();
    for (authentication, sources, operator_ca, expected) in [
        (named(), vec![map(), all()], Some(&own), "named"),
        (named(), vec![map(), no_ca()], None, "named"),
        (one("apps"), vec![all()], Some(&own), "hush ca"),
        (one("apps"), vec![no_ca()], Some(&own), "operator's"),
    ] {
        let pem = select(&authentication, "apps", &sources, operator_ca).unwrap();
        assert_eq!(str::from_utf8(pem.ca.bytes), Ok(expected));
        assert_eq!(pem.ca.place == own.place, expected == "operator's", "{}", pem.ca.place);
    }
    let client = [Some(secret(&["nice-cert.pem"], None)), Some(secret(&["nice-key.pem"], None))];
    assert_eq!(select(&two(), "apps", &client, Some(&own)).unwrap().ca.bytes, b"operator's");
}

#[test]
fn needs_a_ca() {
    let client = [Some(secret(&["nice-cert.pem"], None)), Some(secret(&["nice-key.pem"], None))];
    let error = select(&two(), "apps", &client, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Secret apps/nice-crt has no CA, and neither has the operator: add the broker's CA to it, or name it in caSecretRef or caConfigMapRef of a FedoraMessageSender, or ask the operator's administrators for its --prod-ca-file or --stg-ca-file"
    );
    assert_eq!(error.reason(), Reason::SecretInvalid);
}

/// A CA that is elsewhere is not missing.
#[test]
fn names_only_keys_that_matter() {
    let missing_key = r#"Secret apps/certs lacks the key "tls.key" with the private key"#;
    let sources = [Some(secret(&["tls.crt"], None))];
    let error = select(&one("apps"), "apps", &sources, Some(&operator_ca())).unwrap_err();
    assert_eq!(error.to_string(), missing_key);
    let named = Authentication { ca: Some(key(ca_map(), "cacert.pem")), ..one("apps") };
    let sources = [Some(config_map(&[("cacert.pem", "a CA")], &[])), sources[0].clone()];
    assert_eq!(select(&named, "apps", &sources, None).unwrap_err().to_string(), missing_key);
}

#[test]
fn operator_has_a_ca_for_each_environment() {
    let cas = OperatorCas { prod: Some(operator_ca()), stg: None };
    assert_eq!(cas.of(Environment::Prod).as_ref().map(|ca| ca.pem.as_str()), Some("operator's"));
    assert!(cas.of(Environment::Stg).is_none());
}

#[test]
fn reads_only_used_keys() {
    let known = || vec!["ca", "ca.crt", "cacert.pem", "cert", "cert.pem", "key", "key.pem", "tls.crt", "tls.key"];
    let in_certs = |key: &str| SourceKey { source: name("apps", "certs"), key: key.to_owned() };
    let with_ca = |ca: SourceKey, to: Authentication| Authentication { ca: Some(ca), ..to };
    let (certs, map) = (name("apps", "certs"), ca_map());
    let both = ClientKeys::Two { cert: in_certs("both"), key: in_certs("both") };
    for (what, authentication, source, expected) in [
        ("one Secret", one("apps"), &certs, known()),
        ("another Secret", one("apps"), &map, vec![]),
        ("a CA elsewhere", with_ca(key(map.clone(), "bundle"), one("apps")), &certs, known()),
        ("the CA's ConfigMap", with_ca(key(map.clone(), "bundle"), one("apps")), &map, vec!["bundle"]),
        ("a known key twice", with_ca(in_certs("ca"), one("apps")), &certs, known()),
        ("two Secrets", two(), &name("apps", "nice-crt"), vec!["nice-cert.pem"]),
        ("a key twice", Authentication { client: both, ca: None }, &certs, vec!["both"]),
        ("a ConfigMap of the same name", one("apps"), &SourceName::config_map("apps", "certs"), vec![]),
    ] {
        let mut keys = used_keys(&authentication, source);
        keys.sort_unstable();
        assert_eq!(keys, expected, "{what}");
    }
}

/// The CA bundle of a whole system fits once, but not twice.
#[test]
fn counts_each_key_once() {
    let authentication = Authentication { ca: Some(key(name("apps", "certs"), "ca")), ..one("apps") };
    let stored = Some(Arc::new(large(&[("ca", MAX_SECRET_BYTES - 2), ("cert", 1), ("key", 1)])));
    let sources = [stored.clone(), stored];
    let pem = select(&authentication, "apps", &sources, None).unwrap();
    assert_eq!(pem.ca.bytes.len(), MAX_SECRET_BYTES - 2);
}

#[test]
fn locates_keys_where_they_are_selected() {
    let in_certs = |name_: &str| key(name("apps", "certs"), name_);
    let map = || Some(config_map(&[("cacert.pem", "a CA")], &[]));
    let named_ca = || Some(key(ca_map(), "cacert.pem"));
    let locations = |ca, cert, key| KeyLocations { ca, cert, key };
    for (what, authentication, sources, expected) in [
        (
            "an own CA",
            one("apps"),
            vec![Some(secret(&["ca.crt", "tls.crt", "tls.key"], None))],
            locations(Some(in_certs("ca.crt")), in_certs("tls.crt"), in_certs("tls.key")),
        ),
        (
            "the operator's CA",
            one("apps"),
            vec![Some(secret(&["tls.crt", "tls.key"], None))],
            locations(None, in_certs("tls.crt"), in_certs("tls.key")),
        ),
        (
            "a named CA",
            Authentication { ca: named_ca(), ..one("apps") },
            vec![map(), Some(secret(&["ca.crt", "tls.crt", "tls.key"], None))],
            locations(named_ca(), in_certs("tls.crt"), in_certs("tls.key")),
        ),
        (
            "two Secrets",
            two(),
            vec![],
            locations(
                None,
                key(name("apps", "nice-crt"), "nice-cert.pem"),
                key(name("apps", "nice-key"), "nice-key.pem"),
            ),
        ),
        (
            "an absent Secret",
            one("apps"),
            vec![None],
            locations(Some(in_certs("ca")), in_certs("cert"), in_certs("key")),
        ),
    ] {
        assert_eq!(KeyLocations::find(&authentication, &sources), expected, "{what}");
    }
}
