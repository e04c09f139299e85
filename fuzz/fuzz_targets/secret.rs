//! Selection from Secrets and ConfigMaps: a message never gets bytes of an object in another namespace
//! without its owner's consent. The error for such an object is the same as for an absent one.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use fedora_message::api::names::{SourceKind, SourceName};
use fedora_message::message::authentication::{Authentication, ClientKeys, SourceKey};
use fedora_message::message::secret::{
    CONSENT_ANNOTATION, KeyLocations, OperatorCa, PemFiles, Secret, select, used_keys,
};
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::check_error;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as KubeSecret};
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
    /// If true, certificate and key have a Secret each.
    two: bool,
    names: [Name; 2],
    ca: Option<(CaKind, Name)>,
    operator_has_ca: bool,
    stored: Vec<Option<Stored>>,
}

#[derive(Arbitrary, Debug)]
enum CaKind {
    Secret,
    ConfigMap,
}

/// A namespace, a name and a key, by number.
#[derive(Arbitrary, Debug)]
struct Name(u8, u8, u8);

#[derive(Arbitrary, Debug)]
struct Stored {
    consent: Option<Consent>,
    keys: u16,
    no_data: bool,
    /// If true, a `ConfigMap` has its data as bytes instead of text.
    binary: bool,
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
    let operator_ca = OperatorCa { place: "the operator's file".to_owned(), pem: "a CA".to_owned() };
    let operator_ca = input.operator_has_ca.then_some(&operator_ca);
    within(0, || check(&authentication, &input.stored, operator_ca));
});

fn check(authentication: &Authentication, stored: &[Option<Stored>], operator_ca: Option<&OperatorCa>) {
    let names: Vec<_> = authentication.sources().collect();
    let object = |(index, stored): (usize, &Option<Stored>)| {
        let is_map = names.get(index).is_some_and(|name| name.kind == SourceKind::ConfigMap);
        let stored = stored.as_ref()?;
        Some(Arc::new(if is_map { stored.config_map().into() } else { stored.secret().into() }))
    };
    let objects: Vec<_> = stored.iter().enumerate().map(object).collect();
    let forbidden = |(name, stored): (&SourceName, &Option<Stored>)| {
        stored.as_ref().is_some_and(|stored| name.namespace != OWN && !allows(&stored.metadata()))
    };
    match select(authentication, OWN, &objects, operator_ca) {
        Ok(pem) => {
            assert!(objects.len() >= names.len());
            let all = names.iter().copied().zip(stored);
            assert!(!all.into_iter().any(forbidden), "{authentication:?} was used");
            check_pem(&pem, authentication, &objects, operator_ca);
        }
        Err(error) => {
            check_error(&error.to_string());
            let hidden: Vec<_> = names
                .iter()
                .copied()
                .zip(stored)
                .zip(&objects)
                .map(|(pair, object)| if forbidden(pair) { None } else { object.clone() })
                .collect();
            let again = select(authentication, OWN, &hidden, operator_ca);
            assert_eq!(again.map(drop), Err(error), "absent differs from denied");
        }
    }
}

/// Checks that each PEM text is from the object that is named for it, or the operator's if nothing is,
/// and that a Pod would mount the same. The bytes are unique.
fn check_pem(
    pem: &PemFiles<'_>,
    authentication: &Authentication,
    objects: &[Option<Arc<Secret>>],
    operator_ca: Option<&OperatorCa>,
) {
    let client = usize::from(authentication.ca.is_some());
    let key = client + usize::from(matches!(authentication.client, ClientKeys::Two { .. }));
    // Only one Secret for all may have a CA that nothing names.
    let may_have_ca = authentication.ca.is_some() || key == client;
    let locations = KeyLocations::find(authentication, &objects[..=key]);
    let parts = [
        (&pem.ca, Some(0).filter(|_| may_have_ca), locations.ca.as_ref()),
        (&pem.cert, Some(client), Some(&locations.cert)),
        (&pem.key, Some(key), Some(&locations.key)),
    ];
    for (part, index, location) in parts {
        let found = index.and_then(|index| {
            let object = objects[index].as_ref().expect("it was used");
            let is_here = |key: &&&str| object.get(key).is_some_and(|bytes| std::ptr::eq(bytes, part.bytes));
            let key = KEYS.iter().find(is_here)?;
            let source = authentication.sources().nth(index).expect("it is named");
            assert!(used_keys(authentication, source).contains(key), "{key} of {source} was used");
            assert_eq!(part.place, format!("key {key:?} of {source}"));
            Some(SourceKey { source: source.clone(), key: (*key).to_owned() })
        });
        assert_eq!(found.as_ref(), location, "{authentication:?}");
        if found.is_none() {
            let operator_ca = operator_ca.expect("it is from nowhere else");
            assert!(authentication.ca.is_none() && std::ptr::eq(part, &raw const pem.ca));
            assert_eq!((part.bytes, &part.place), (operator_ca.pem.as_bytes(), &operator_ca.place));
        }
    }
}

/// Returns true if the annotation allows the message's namespace. It parses the list character by
/// character.
fn allows(metadata: &ObjectMeta) -> bool {
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(CONSENT_ANNOTATION));
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
        let [cert, key] = &self.names;
        let client = if self.two {
            ClientKeys::Two { cert: cert.key(SourceKind::Secret), key: key.key(SourceKind::Secret) }
        } else {
            ClientKeys::One(cert.source(SourceKind::Secret))
        };
        let ca = self.ca.as_ref().map(|(kind, name)| match kind {
            CaKind::Secret => name.key(SourceKind::Secret),
            CaKind::ConfigMap => name.key(SourceKind::ConfigMap),
        });
        Authentication { client, ca }
    }
}

impl Name {
    fn source(&self, kind: SourceKind) -> SourceName {
        SourceName { kind, namespace: pick(&NAMESPACES, self.0), name: pick(&NAMES, self.1) }
    }

    fn key(&self, kind: SourceKind) -> SourceKey {
        SourceKey { source: self.source(kind), key: pick(&KEYS, self.2) }
    }
}

impl Stored {
    fn metadata(&self) -> ObjectMeta {
        let consent =
            self.consent.as_ref().map(|consent| BTreeMap::from([(CONSENT_ANNOTATION.to_owned(), consent.text())]));
        ObjectMeta { annotations: consent, ..ObjectMeta::default() }
    }

    /// Returns the data, in which each value is its own key.
    fn data<T>(&self, value: impl Fn(&str) -> T) -> Option<BTreeMap<String, T>> {
        let keys = KEYS.iter().enumerate().filter(|(bit, _)| self.keys >> bit & 1 == 1);
        let data = keys.map(|(_, key)| ((*key).to_owned(), value(key))).collect();
        (!self.no_data).then_some(data)
    }

    fn secret(&self) -> KubeSecret {
        let data = self.data(|key| ByteString(key.as_bytes().to_vec()));
        KubeSecret { metadata: self.metadata(), data, ..KubeSecret::default() }
    }

    fn config_map(&self) -> ConfigMap {
        let text = self.data(str::to_owned).filter(|_| !self.binary);
        let binary = self.data(|key| ByteString(key.as_bytes().to_vec())).filter(|_| self.binary);
        ConfigMap { metadata: self.metadata(), data: text, binary_data: binary, ..ConfigMap::default() }
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
