//! Selection from Secrets: a message never gets bytes of a Secret in another namespace without its
//! owner's consent. The error for such a Secret is the same as for an absent one.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use fedora_message::message::authentication::{Authentication, SecretKey, SecretName};
use fedora_message::message::secret::{CONSENT_ANNOTATION, PemFiles, Secret, select};
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::check_error;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use libfuzzer_sys::fuzz_target;

const NAMESPACES: [&str; 3] = ["apps", "other", "app"];
const NAMES: [&str; 2] = ["certs", "more-certs"];
const KEYS: [&str; 11] =
    ["ca", "cert", "key", "ca.crt", "tls.crt", "tls.key", "cacert.pem", "cert.pem", "key.pem", "password", "CA"];
/// The namespace of the message.
const OWN: &str = NAMESPACES[0];

#[derive(Arbitrary, Debug)]
struct Input {
    /// If true, the message names three Secrets instead of one.
    three: bool,
    names: [Name; 3],
    secrets: Vec<Option<Stored>>,
}

/// A namespace, a name and a key, by number.
#[derive(Arbitrary, Debug)]
struct Name(u8, u8, u8);

#[derive(Arbitrary, Debug)]
struct Stored {
    consent: Option<Consent>,
    keys: u16,
    no_data: bool,
}

#[derive(Arbitrary, Debug)]
enum Consent {
    Written(String),
    /// Namespaces by number, with separators.
    List(Vec<(u8, Separator)>),
}

#[derive(Arbitrary, Debug)]
enum Separator {
    Comma,
    CommaAndBlanks,
    Semicolon,
    Nothing,
}

fuzz_target!(|input: Input| {
    let authentication = input.authentication();
    let secrets: Vec<_> = input.secrets.iter().map(|secret| secret.as_ref().map(Stored::secret)).collect();
    within(0, || check(&authentication, &secrets));
});

fn check(authentication: &Authentication, stored: &[Option<KubeSecret>]) {
    let names: Vec<_> = authentication.secrets().collect();
    let secrets: Vec<_> = stored.iter().map(|secret| secret.clone().map(|secret| Arc::new(secret.into()))).collect();
    let forbidden = |(name, secret): (&SecretName, &Option<KubeSecret>)| {
        secret.as_ref().is_some_and(|secret| name.namespace != OWN && !allows(secret))
    };
    match select(authentication, OWN, &secrets) {
        Ok(pem) => {
            assert!(secrets.len() >= names.len());
            let all = names.iter().copied().zip(stored);
            assert!(!all.into_iter().any(forbidden), "{authentication:?} was used");
            check_pem(&pem, &names, &secrets);
        }
        Err(error) => {
            check_error(&error.to_string());
            let hidden: Vec<_> = names
                .iter()
                .copied()
                .zip(stored)
                .zip(&secrets)
                .map(|(pair, secret)| if forbidden(pair) { None } else { secret.clone() })
                .collect();
            assert_eq!(select(authentication, OWN, &hidden).map(drop), Err(error), "absent differs from denied");
        }
    }
}

/// Checks that each PEM text is from the Secret that the message names for it. The bytes are unique.
fn check_pem(pem: &PemFiles<'_>, names: &[&SecretName], secrets: &[Option<Arc<Secret>>]) {
    for (index, part) in [&pem.ca, &pem.cert, &pem.key].into_iter().enumerate() {
        let index = if names.len() == 1 { 0 } else { index };
        let secret = secrets[index].as_ref().expect("it was used");
        let is_here = |key: &&str| secret.get(key).is_some_and(|bytes| std::ptr::eq(bytes, part.bytes));
        let key = KEYS.iter().find(|key| is_here(key)).expect("it is from there");
        assert_eq!(part.place, format!("key {key:?} of Secret {}", names[index]));
    }
}

/// Returns true if the annotation allows the message's namespace. It parses the list character by
/// character.
fn allows(secret: &KubeSecret) -> bool {
    let annotation = secret.metadata.annotations.as_ref().and_then(|all| all.get(CONSENT_ANNOTATION));
    let Some(text) = annotation else { return false };
    let (mut word, mut words) = (String::new(), Vec::new());
    for c in text.chars() {
        match c {
            ',' => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.iter().any(|word| {
        let word = word.trim_matches(char::is_whitespace);
        word == OWN || word == "*"
    })
}

impl Input {
    fn authentication(&self) -> Authentication {
        let [ca, cert, key] = &self.names;
        if self.three {
            Authentication::Three { ca: ca.key(), cert: cert.key(), key: key.key() }
        } else {
            Authentication::One(ca.secret())
        }
    }
}

impl Name {
    fn secret(&self) -> SecretName {
        SecretName { namespace: pick(&NAMESPACES, self.0), name: pick(&NAMES, self.1) }
    }

    fn key(&self) -> SecretKey {
        SecretKey { secret: self.secret(), key: pick(&KEYS, self.2) }
    }
}

impl Stored {
    fn secret(&self) -> KubeSecret {
        let consent =
            self.consent.as_ref().map(|consent| BTreeMap::from([(CONSENT_ANNOTATION.to_owned(), consent.text())]));
        let keys = KEYS.iter().enumerate().filter(|(bit, _)| self.keys >> bit & 1 == 1);
        let data = keys.map(|(_, key)| ((*key).to_owned(), ByteString(key.as_bytes().to_vec()))).collect();
        KubeSecret {
            metadata: ObjectMeta { annotations: consent, ..ObjectMeta::default() },
            data: (!self.no_data).then_some(data),
            ..KubeSecret::default()
        }
    }
}

impl Consent {
    fn text(&self) -> String {
        match self {
            Self::Written(text) => text.clone(),
            Self::List(names) => names
                .iter()
                .map(|(number, separator)| {
                    pick(&NAMESPACES, *number)
                        + match separator {
                            Separator::Comma => ",",
                            Separator::CommaAndBlanks => " ,\t",
                            Separator::Semicolon => ";",
                            Separator::Nothing => "",
                        }
                })
                .collect(),
        }
    }
}

fn pick(all: &[&str], number: u8) -> String {
    all[usize::from(number) % all.len()].to_owned()
}
