//! The bytes of a FedoraMessage or FedoraMessageSender from an API server, and any JSON as its spec, its
//! status and kubectl's annotation. Each is decoded, and is then valid or refused with an error.

#![no_main]

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::message::envelope::Routing;
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::{check_message, check_sender};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use serde_json::value::RawValue;

const MESSAGE: &str = r#"{"body":{"a":[1]},"topic":"nice.message"}"#;
const AUTHENTICATION: &str = r#"{"secretRef":{"name":"certs"}}"#;

fuzz_target!(|bytes: &[u8]| {
    let routing = Routing {
        exchange: "amq.topic".to_owned(),
        prod_topic_prefix: "org.fedoraproject.prod".to_owned(),
        ..Routing::default()
    };
    within(bytes.len(), || {
        if let Ok(message) = serde_json::from_slice::<FedoraMessage>(bytes) {
            check_message(&message, None, &routing);
        }
        let as_sender = stored(&format!(r#"{{"message":{MESSAGE}}}"#), "null", "");
        if let Ok(sender) = serde_json::from_slice::<FedoraMessageSender>(bytes) {
            check_sender(&sender, &as_sender, &routing);
        }
        let Ok(json) = serde_json::from_slice::<&RawValue>(bytes) else { return };
        let valid = format!(r#"{{"env":"stg","message":{MESSAGE},"authentication":{AUTHENTICATION}}}"#);
        for (spec, status) in [
            (json.get(), "null"),
            (&valid, json.get()),
            (&format!(r#"{{"env":"stg","message":{json},"authentication":{AUTHENTICATION}}}"#), "null"),
            (&format!(r#"{{"env":"stg","message":{MESSAGE},"authentication":{json}}}"#), "null"),
        ] {
            check_message(&stored(spec, status, json.get()), None, &routing);
        }
        check_message(&stored(&format!(r#"{{"message":{MESSAGE},"senderRef":{json}}}"#), "null", ""), None, &routing);
        for spec in [
            json.get(),
            &format!(r#"{{"env":"stg","authentication":{json}}}"#),
            &format!(r#"{{"env":"stg","authentication":{AUTHENTICATION},"topicPrefix":{json}}}"#),
            &format!(r#"{{"env":"stg","authentication":{AUTHENTICATION},"application":{json}}}"#),
            &format!(r#"{{"env":"stg","authentication":{AUTHENTICATION},"allowedNamespaces":{json}}}"#),
            &format!(r#"{{"env":"stg","authentication":{AUTHENTICATION},"defaults":{json}}}"#),
        ] {
            // Unlike a message's body, a Sender has no field of any depth, so the decoder has a limit.
            if let Some(sender) = sender(spec) {
                check_sender(&sender, &as_sender, &routing);
            }
        }
    });
});

/// Returns a Sender, unless its spec is nested too deep.
fn sender(spec: &str) -> Option<FedoraMessageSender> {
    let json = format!(r#"{{"metadata":{{"name":"a","namespace":"apps"}},"spec":{spec}}}"#);
    serde_json::from_str(&json).ok()
}

/// Returns a stored message. It can be decoded with any content from the user.
fn stored(spec: &str, status: &str, last_applied: &str) -> FedoraMessage {
    let metadata = json!({
        "name": "a", "namespace": "apps", "uid": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
        "creationTimestamp": "2019-07-30T19:12:22Z",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last_applied},
    });
    let json = format!(r#"{{"metadata":{metadata},"spec":{spec},"status":{status}}}"#);
    serde_json::from_str(&json).expect("only metadata can stop the decoder")
}
