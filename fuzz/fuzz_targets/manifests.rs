//! Files for `publish`, in YAML or JSON: they become messages, Senders, Secrets and ConfigMaps, or an
//! error.

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
            Ok(()) => {
                manifests.resolve();
                check(&manifests);
            }
            Err(error) => check_error_hides_keys(&format!("{error:#}"), bytes),
        }
    });
});

fn check(manifests: &Manifests) {
    let routing = Routing { exchange: "amq.topic".to_owned(), ..Routing::default() };
    for message in &manifests.messages {
        let found = manifests.sender(message);
        let sender = found.as_ref().map(|found| found.as_deref().map_err(Clone::clone));
        check_message(message, sender.clone(), &routing);
        assert!(message.created.is_some() && message.status.is_none());
        let Ok(outgoing) = validate(message, sender, &routing) else { continue };
        assert_eq!(message.environment(), Some(outgoing.environment));
        let names = outgoing.authentication.sources();
        let secrets: Vec<_> = names.map(|name| manifests.secrets.get(name).cloned()).collect();
        if let Err(error) = select(&outgoing.authentication, &outgoing.owner, &secrets, None) {
            check_error(&error.to_string());
        }
    }
}
