//! CA, certificate and key from a Secret: they become credentials, or an error that quotes no key.
//!
//! An input is three PEM texts with a NUL between them. Half of the mutations change the DER inside the
//! PEM, because mutated base64 hardly ever reaches the certificate's decoder.

#![no_main]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message_operator::internals::Credentials;
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::{check_error, check_error_hides_keys};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = |place: &str| PemText { place: place.to_owned(), bytes: parts.next().unwrap_or_default() };
    let pem = PemFiles { ca: part("the CA"), cert: part("the certificate"), key: part("the key") };
    within(bytes.len(), || check(&pem, bytes));
});

fn check(pem: &PemFiles<'_>, given: &[u8]) {
    let credentials = match Credentials::from_pem(pem) {
        Ok(credentials) => credentials,
        Err(error) => return check_error_hides_keys(&error.to_string(), given),
    };
    assert!(!credentials.user.is_empty());
    check_error(&credentials.user);
    for now in [DateTime::<Utc>::MIN_UTC, DateTime::UNIX_EPOCH, credentials.not_after, DateTime::<Utc>::MAX_UTC] {
        if let Err(error) = credentials.check_validity(now, "the certificate") {
            check_error_hides_keys(&error.to_string(), given);
        }
    }
    check_error_hides_keys(&format!("{credentials:?} {pem:?}"), given);
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let changed = if seed % 2 == 0 { None } else { change_inside(&data[..size], max_size, seed) };
    match changed {
        Some(text) => {
            data[..text.len()].copy_from_slice(&text);
            text.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

/// Mutates the DER in one of the PEM blocks.
fn change_inside(text: &[u8], max_size: usize, seed: u32) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?;
    let begins: Vec<_> = text.match_indices("-----BEGIN ").map(|(start, _)| start).collect();
    let begin = *begins.get(seed as usize / 2 % begins.len().max(1))?;
    let start = begin + text[begin..].find('\n')? + 1;
    let end = start + text[start..].find("-----END ")?;
    let base64: String = text[start..end].split_whitespace().collect();
    let mut der = BASE64_STANDARD.decode(base64).ok()?;
    let (size, room) = (der.len(), der.len() + 64);
    der.resize(room, 0);
    let size = fuzzer_mutate(&mut der, size, room);
    let changed = [&text[..start], &BASE64_STANDARD.encode(&der[..size]), "\n", &text[end..]].concat();
    (changed.len() <= max_size).then(|| changed.into_bytes())
}
