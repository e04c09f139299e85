//! Which bytes of which Secrets are the certificate, and who may use them.

use std::sync::Arc;

use crate::message::authentication::{Authentication, SecretKey, SecretName};
use crate::message::secret::{CONSENT_ANNOTATION, Secret, SecretError, select};
use crate::policy::outcome::{Failure, Reason};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;

fn name(namespace: &str, name: &str) -> SecretName {
    SecretName { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A Secret in which each key holds its own name, and a secret besides.
fn secret(keys: &[&str], consent: Option<&str>) -> Arc<Secret> {
    let mut secret = KubeSecret::default();
    let text = |key: &str| ByteString(format!("hush {key}").into_bytes());
    secret.data = Some(keys.iter().map(|key| ((*key).to_owned(), text(key))).collect());
    secret.metadata.annotations =
        consent.map(|list| [(CONSENT_ANNOTATION.to_owned(), list.to_owned())].into_iter().collect());
    Arc::new(secret.into())
}

/// Where CA, certificate and key are found in one Secret of the message's namespace.
fn found(keys: &[&str]) -> Result<[String; 3], SecretError> {
    let secrets = [Some(secret(keys, None))];
    let material = select(&Authentication::One(name("apps", "certs")), "apps", &secrets)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ok([text(material.ca.bytes), text(material.cert.bytes), text(material.key.bytes)])
}

#[test]
fn each_known_set_of_keys_is_found() {
    for keys in [["ca", "cert", "key"], ["ca.crt", "tls.crt", "tls.key"], ["cacert.pem", "cert.pem", "key.pem"]] {
        assert_eq!(found(&keys).unwrap(), keys.map(|key| format!("hush {key}")));
    }
}

#[test]
fn of_several_sets_a_complete_one_is_taken() {
    let both = ["ca", "cert", "key", "ca.crt", "tls.crt", "tls.key"];
    assert_eq!(found(&both).unwrap(), ["hush ca", "hush cert", "hush key"]);
    let one = ["ca", "cert", "ca.crt", "tls.crt", "tls.key"];
    assert_eq!(found(&one).unwrap(), ["hush ca.crt", "hush tls.crt", "hush tls.key"]);
}

#[test]
fn a_missing_key_is_named() {
    let none = r#"the keys "ca", "cert" and "key" (or "ca.crt", "tls.crt" and "tls.key", or "cacert.pem", "cert.pem" and "key.pem"): add the broker's CA, the client certificate and its private key"#;
    for (keys, missing) in [
        (vec!["ca", "cert"], r#"the key "key" with the private key: add it"#),
        (vec!["ca", "key"], r#"the key "cert" with the client certificate: add it"#),
        (vec!["ca"], r#"the key "cert" with the client certificate and the key "key" with the private key: add them"#),
        (vec!["tls.crt", "tls.key"], r#"the key "ca.crt" with the broker's CA: add it"#),
        (vec!["cert.pem", "key.pem", "ca"], r#"the key "cacert.pem" with the broker's CA: add it"#),
        (vec![], none),
        (vec!["password"], none),
    ] {
        let error = found(&keys).unwrap_err();
        assert_eq!(error.to_string(), format!("Secret apps/certs lacks {missing}"), "{keys:?}");
        assert_eq!(error.reason(), Reason::SecretInvalid);
    }
}

#[test]
fn three_secrets_give_one_key_each() {
    let part = |secret: &str, key: &str| SecretKey { secret: name("apps", secret), key: key.to_owned() };
    let authentication = Authentication::Three {
        ca: part("nice-ca", "cacert.pem"),
        cert: part("nice-crt", "nice-cert.pem"),
        key: part("nice-key", "nice-key.pem"),
    };
    let mut secrets = vec![
        Some(secret(&["cacert.pem"], None)),
        Some(secret(&["nice-cert.pem"], None)),
        Some(secret(&["nice-key.pem"], None)),
    ];
    let material = select(&authentication, "apps", &secrets).unwrap();
    assert_eq!(material.ca.bytes, b"hush cacert.pem");
    assert_eq!(material.cert.bytes, b"hush nice-cert.pem");
    assert_eq!(material.key.bytes, b"hush nice-key.pem");
    assert_eq!(material.cert.place, r#"key "nice-cert.pem" of Secret apps/nice-crt"#);
    assert!(!format!("{material:?}").contains("hush"), "{material:?}");

    secrets[1] = Some(secret(&["other"], None));
    let error = select(&authentication, "apps", &secrets).unwrap_err();
    assert_eq!(error.to_string(), r#"Secret apps/nice-crt lacks the key "nice-cert.pem": add it"#);
    secrets[1] = None;
    let error = select(&authentication, "apps", &secrets).unwrap_err();
    assert!(error.to_string().starts_with("Secret apps/nice-crt does not exist: create it"), "{error}");
}

#[test]
fn a_secret_elsewhere_is_used_only_with_its_owners_consent() {
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
        let selected = select(&Authentication::One(name("infra", "certs")), "apps", &secrets);
        assert_eq!(selected.is_ok(), allowed, "{consent:?}");
    }
}

#[test]
fn a_denied_secret_looks_like_an_absent_one() {
    let authentication = Authentication::One(name("infra", "certs"));
    let detail = "Secret infra/certs does not exist, or does not allow namespace apps to use it: create it, or let its \
                 owner add apps to its annotation apps.fedoraproject.org/allowed-namespaces";
    for found in [None, Some(secret(&["ca", "cert", "key"], None)), Some(secret(&[], Some("other")))] {
        let error = select(&authentication, "apps", &[found]).unwrap_err();
        assert_eq!(error.to_string(), detail);
        assert_eq!(error.reason(), Reason::SecretNotFound);
    }
}

#[test]
fn ones_own_secret_needs_no_consent() {
    let secrets = [Some(secret(&["ca", "cert", "key"], Some("other")))];
    assert!(select(&Authentication::One(name("apps", "certs")), "apps", &secrets).is_ok());
}
