//! Selection of PEM texts from Secrets, and consent.

use std::sync::Arc;

use crate::bounds::MAX_SECRET_BYTES;
use crate::message::authentication::{Authentication, SecretKey, SecretName};
use crate::message::secret::{CONSENT_ANNOTATION, PemFiles, Secret, SecretError, select, used_keys};
use crate::policy::outcome::{Failure, Reason};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;

fn name(namespace: &str, name: &str) -> SecretName {
    SecretName { namespace: namespace.to_owned(), name: name.to_owned() }
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
    let PemFiles { ca, cert, key } = select(&Authentication::One(name("apps", "certs")), "apps", &secrets)?;
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
    let authentication = Authentication::One(name("apps", "certs"));
    let sizes = [("ca", MAX_SECRET_BYTES - 1), ("cert", 1), ("key", 1)];
    let whole = Some(Arc::new(large(&sizes)));
    let mut kept = large(&sizes);
    kept.keep(&used_keys(&authentication, &name("apps", "certs")).into_iter().collect());
    assert_eq!(kept.get("ca"), None, "too much is not held");
    for secret in [whole, Some(Arc::new(kept))] {
        let error = select(&authentication, "apps", &[secret]).unwrap_err();
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
    let authentication = Authentication::One(name("apps", "certs"));
    let mut secret = large(&[("ca", 1), ("cert", 1), ("key", 1), ("truststore.jks", MAX_SECRET_BYTES)]);
    secret.keep(&used_keys(&authentication, &name("apps", "certs")).into_iter().collect());
    assert_eq!(secret.get("truststore.jks"), None);
    assert!(select(&authentication, "apps", &[Some(Arc::new(secret))]).is_ok());
}

#[test]
fn reads_one_key_from_each_of_three_secrets() {
    let key = |secret: &str, key: &str| SecretKey { secret: name("apps", secret), key: key.to_owned() };
    let authentication = Authentication::Three {
        ca: key("nice-ca", "cacert.pem"),
        cert: key("nice-crt", "nice-cert.pem"),
        key: key("nice-key", "nice-key.pem"),
    };
    let mut secrets = vec![
        Some(secret(&["cacert.pem"], None)),
        Some(secret(&["nice-cert.pem"], None)),
        Some(secret(&["nice-key.pem"], None)),
    ];
    let pem = select(&authentication, "apps", &secrets).unwrap();
    assert_eq!(pem.ca.bytes, b"hush cacert.pem");
    assert_eq!(pem.cert.bytes, b"hush nice-cert.pem");
    assert_eq!(pem.key.bytes, b"hush nice-key.pem");
    assert_eq!(pem.cert.place, r#"key "nice-cert.pem" of Secret apps/nice-crt"#);
    assert!(!format!("{pem:?}").contains("hush"), "{pem:?}");

    secrets[1] = Some(secret(&["other"], None));
    let error = select(&authentication, "apps", &secrets).unwrap_err();
    assert_eq!(error.to_string(), r#"Secret apps/nice-crt lacks the key "nice-cert.pem""#);
    secrets[1] = None;
    let error = select(&authentication, "apps", &secrets).unwrap_err();
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
        let selected = select(&Authentication::One(name("infra", "certs")), "apps", &secrets);
        assert_eq!(selected.is_ok(), allowed, "{consent:?}");
    }
}

#[test]
fn reports_denied_and_absent_secrets_alike() {
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
fn needs_no_consent_in_the_same_namespace() {
    let secrets = [Some(secret(&["ca", "cert", "key"], Some("other")))];
    assert!(select(&Authentication::One(name("apps", "certs")), "apps", &secrets).is_ok());
}
