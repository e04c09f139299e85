//! Files for `publish`, in YAML or JSON: they become messages and Secrets, or an error.

#![no_main]

use fedora_message::message::envelope::Routing;
use fedora_message::message::secret::select;
use fedora_message::message::validate::validate;
use fedora_message_operator::internals::Manifests;
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::{check_error, check_error_hides_keys, check_message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    within(bytes.len(), || {
        let mut manifests = Manifests::default();
        match manifests.add(text, "file") {
            Ok(()) => check(&manifests),
            Err(error) => check_error_hides_keys(&error, bytes),
        }
    });
});

fn check(manifests: &Manifests) {
    let routing = Routing { exchange: "amq.topic".to_owned(), ..Routing::default() };
    for message in &manifests.messages {
        check_message(message, &routing);
        assert!(message.created.is_some() && message.status.is_none());
        let Ok(outgoing) = validate(message, &routing) else { continue };
        let names = outgoing.authentication.secrets();
        let secrets: Vec<_> = names.map(|name| manifests.secrets.get(name).cloned()).collect();
        if let Err(error) = select(&outgoing.authentication, message.namespace(), &secrets) {
            check_error(&error.to_string());
        }
    }
}
