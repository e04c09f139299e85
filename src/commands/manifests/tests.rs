//! Files with manifests.

use fedora_message::fixture::{example, set, with};
use rig::{ClientCert, Pki};
use serde_json::Map;

use super::*;

const MESSAGE: &str = "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {name: hello-world}
spec:
  env: prod
  message: {body: {a: 1}, topic: nice.message}
  authentication: {secret_ref: {name: certs}}
";

fn json() -> String {
    serde_saphyr::from_str::<Value>(MESSAGE).unwrap().to_string()
}

fn read(text: &str) -> Result<Manifests, String> {
    let mut manifests = Manifests::default();
    manifests.add(text, "file").map(|()| manifests).map_err(|error| format!("{error:#}"))
}

/// Returns why a file is not read.
fn refusal(text: &str) -> String {
    read(text).err().unwrap()
}

fn assert_plain(detail: &str) {
    assert!(!detail.contains(|c: char| c.is_control() || c == '\u{202e}'), "{detail:?}");
    assert!(detail.len() < 1_000, "{} bytes: {detail}", detail.len());
}

#[test]
fn messages_and_secrets_stand_in_any_order_and_number() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: certs}\nstringData: {ca: text}\ndata: {cert: dGV4dA==}\n";
    let manifests = read(&format!("---\n{MESSAGE}---\n{secret}---\n# nothing\n--- \n{MESSAGE}")).unwrap();
    assert_eq!(manifests.messages.len(), 2);
    let name = SourceName::secret("default", "certs");
    let secret = &manifests.secrets[&name];
    assert_eq!((secret.get("ca"), secret.get("cert")), (Some(&b"text"[..]), Some(&b"text"[..])));
}

#[test]
fn json_is_read_too_one_object_or_many() {
    let object: Value = serde_saphyr::from_str(MESSAGE).unwrap();
    assert_eq!(read(&format!("{object}\n{object}")).unwrap().messages.len(), 2);
    assert_eq!(
        read(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [object]}).to_string())
            .unwrap()
            .messages
            .len(),
        1
    );
}

#[test]
fn many_messages_are_read_in_their_order_and_the_first_mistake_is_named() {
    let object = json();
    let numbered = |number: usize| object.replace("hello-world", &format!("message-{number}"));
    let many: Vec<_> = (0..300).map(numbered).collect();
    let messages = read(&many.join("\n")).unwrap().messages;
    let names: Vec<_> = messages.iter().map(FedoraMessage::name).collect();
    assert_eq!(names, (0..many.len()).map(|number| format!("message-{number}")).collect::<Vec<_>>());

    let mistaken = |at: &[(usize, &str)]| {
        let mut documents = many.clone();
        for (number, kind) in at {
            documents[*number] = documents[*number].replace("FedoraMessage", kind);
        }
        refusal(&documents.join("\n---\n"))
    };
    let detail = mistaken(&[(105, "Second"), (2, "First")]);
    assert!(detail.starts_with("file, document 3: is a First of"), "{detail}");
}

#[test]
fn what_json_says_of_a_body_is_sent_as_it_stands() {
    let body = r#"{"a": 12345678901234567890123, "b": 1.0, "c": "\u00e9"}"#;
    let json = json().replace(r#"{"a":1}"#, body);
    let messages = read(&json).unwrap().messages;
    assert_eq!(messages[0].spec().unwrap().message.body.get(), body);
}

#[test]
fn json_between_marks_is_sent_as_it_stands() {
    let body = r#"{"a": 12345678901234567890123, "b": "\u00e9"}"#;
    let json = json().replace(r#"{"a":1}"#, body);
    let messages = read(&format!("---\n{json}\n---\n{json} {json}\n---\n{MESSAGE}")).unwrap().messages;
    let specs: Vec<_> = messages.iter().map(|message| message.spec().unwrap()).collect();
    let bodies: Vec<_> = specs.iter().map(|spec| spec.message.body.get()).collect();
    assert_eq!(bodies, [body, body, body, r#"{"a":1}"#]);
}

#[test]
fn names_first_faulty_value() {
    for (body, detail) in [
        (r#"{"a": 1e400, "b": "\ud800"}"#, "file, document 1: has a number that no 64-bit float holds"),
        (r#"{"a": "\\ud800", "b": 1e400}"#, "file, document 1: has a number that no 64-bit float holds"),
        (r#"{"a": "\uD800", "b": 1e400}"#, "file, document 1: has half of a surrogate pair"),
        (r#"{"a": 1e40, "b": "\ud800"}"#, "file, document 1: has half of a surrogate pair"),
    ] {
        let error = refusal(&json().replace(r#"{"a":1}"#, body));
        assert!(error.starts_with(detail), "{error}");
    }
}

#[test]
fn errors_tell_the_line_of_the_file() {
    let json = json();
    for (text, detail) in [
        ("a: 1\n", "file, document 1: is no manifest"),
        (&format!("{MESSAGE}---\nb: [\n"), "file, document 2: is not valid YAML: line 10, column 4: "),
        (&format!("{json}\n---\nb: [\n"), "file, document 2: is not valid YAML: line 3, column 4: "),
        (&format!("{json}\n {{\n"), "file, document 1: is not valid JSON: EOF while parsing an object at line 3 "),
        (&format!("{json}\n {{a}}"), "file, document 1: is not valid JSON: key must be a string at line 2 column 3"),
        (&format!("{json}\nb: 1"), "file, document 1: is not valid JSON: expected value at line 2 column 1"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(detail), "{error}");
    }
}

#[test]
fn a_message_has_an_id_of_its_own_unless_it_brings_one() {
    let uid = "8f0c1d5e-7d53-4c0c-9f5b-0d0f64f6b3c1";
    let own = MESSAGE.replace("{name: hello-world}", &format!("{{name: hello-world, uid: {uid}}}"));
    let manifests = read(&format!("{MESSAGE}---\n{MESSAGE}---\n{own}")).unwrap();
    let [a, b, c] = manifests.messages.as_slice() else { panic!("three messages") };
    assert_ne!(a.uid(), b.uid());
    assert_eq!(c.uid(), uid);
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, detail) in [
        ("kind: Deployment\napiVersion: apps/v1", "file, document 1: is a Deployment of apps/v1"),
        ("{", "file, document 1: is not valid JSON"),
        ("a: [", "file, document 1: is not valid YAML"),
        ("a: |\n-----BEGIN", "file, document 1: is not valid YAML"),
        ("hello: world", "file, document 1: is no manifest"),
        ("kind: Pod", "file, document 1: is a Pod without apiVersion: add the line"),
        (
            &format!("{MESSAGE}---\n{}", MESSAGE.replace("topic:", "topics: x, topic:")),
            "file, document 2: has unknown fields: spec.message.topics",
        ),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {key: '%%%'}", "data[\"key\"] must be base64"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(detail) || error.contains(detail), "{error}");
    }
}

#[test]
fn a_body_may_nest_as_deep_as_is_sent() {
    let body = "{a: ".repeat(127) + "{}" + &"}".repeat(127);
    let yaml = MESSAGE.replace("{a: 1}", &body);
    let body = r#"{"a":"#.repeat(127) + "{}" + &"}".repeat(127);
    let json = json().replace(r#"{"a":1}"#, &body);
    for text in [yaml, json] {
        assert!(read(&text).unwrap().messages[0].spec().is_ok());
    }
    for text in ["{a: ".repeat(50_000), "- ".repeat(50_000), r#"{"a":"#.repeat(50_000)] {
        assert!(read(&text).is_err());
    }
}

/// Base64 may have line breaks, as `base64 -w64` writes it.
#[test]
fn base64_may_have_line_breaks() {
    let secret =
        |data: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: certs}}\ndata:\n  ca.crt: {data}\n");
    for data in ["|\n    YWJj\n    ZGVm\n", "\"YWJj\\r\\nZGVm\\n\"", "YWJjZGVm"] {
        let manifests = read(&secret(data)).unwrap();
        let secret = &manifests.secrets[&SourceName::secret("default", "certs")];
        assert_eq!(secret.get("ca.crt"), Some(&b"abcdef"[..]), "{data}");
    }
    let error = refusal(&secret(">\n    YWJj\n    ZGVm\n"));
    assert!(error.contains("data[\"ca.crt\"] is base64 with spaces"), "{error}");
}

#[test]
fn values_of_a_secret_are_never_quoted() {
    let secret = |fields: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: certs}}\n{fields}\n");
    for (fields, detail) in [
        ("stringData: {ca.crt: }", "stringData[\"ca.crt\"] is null"),
        ("stringData: {ca.crt: 12345}", "stringData[\"ca.crt\"] is a number"),
        ("data: {ca.crt: hidden-key}", "data[\"ca.crt\"] must be base64"),
        ("immutable: hidden-key", "immutable has a value of the wrong type"),
        ("metadata: {name: [hidden-key]}", "a key stands there twice"),
    ] {
        let error = refusal(&secret(fields));
        assert!(error.contains(detail) && !error.contains("hidden-key") && !error.contains("12345"), "{error}");
    }
}

#[test]
fn an_empty_namespace_is_as_none() {
    let empty = |text: &str| text.replace("{name: ", "{namespace: '', name: ");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: certs}\n";
    let message = MESSAGE.replace("{name: certs}", "{name: other}");
    for text in [format!("{}---\n{secret}", empty(&message)), format!("{message}---\n{}", empty(secret))] {
        let manifests = read(&text).unwrap();
        assert_eq!(manifests.messages[0].namespace(), "default");
        assert!(manifests.secrets.contains_key(&SourceName::secret("default", "certs")));
    }
}

#[test]
fn flow_style_is_read_at_the_top() {
    let flow =
        "{apiVersion: apps.fedoraproject.org/v1alpha1, kind: FedoraMessage, metadata: {name: a}, spec: {env: prod}}";
    for text in [
        flow.to_owned(),
        format!("\u{feff}{flow}"),
        format!("\u{feff} {flow}"),
        format!("{}\n---\n{flow}", json()),
        json().replacen('{', "{ # comment\n", 1),
        json().replacen("\",", "\" ,\n# comment\n", 1),
        json().strip_suffix('}').unwrap().to_owned() + ",}",
        format!("\u{feff}{}", json()),
    ] {
        assert!(!read(&text).unwrap().messages.is_empty(), "{text}");
    }
    let error = refusal(&flow.replace("env:", "env: ["));
    assert!(error.contains("is not valid YAML"), "{error}");
}

/// The values are those of YAML 1.1, as kubectl reads them.
#[test]
fn words_are_those_of_kubectl() {
    for (body, sent) in [
        ("{x: 1, y: 2}", r#"{"true":2,"x":1}"#),
        ("{mode: 0644, n: no}", r#"{"false":false,"mode":420}"#),
        ("{a: 'no', \"y\": \"0644\"}", r#"{"a":"no","y":"0644"}"#),
        ("{a: &a {b: 1, c: 2}, d: {<<: *a, b: 3}}", r#"{"a":{"b":1,"c":2},"d":{"b":3,"c":2}}"#),
    ] {
        let messages = read(&MESSAGE.replace("{a: 1}", body)).unwrap().messages;
        assert_eq!(messages[0].spec().unwrap().message.body.get(), sent);
    }
}

#[test]
fn a_name_is_generated_as_by_the_api_server() {
    let text = MESSAGE.replace("{name: hello-world}", "{generateName: build-}");
    let messages = read(&format!("{text}---\n{text}")).unwrap().messages;
    let [a, b] = messages.as_slice() else { panic!("two messages") };
    assert!(a.name().starts_with("build-") && a.name().len() == 11, "{}", a.name());
    assert_ne!(a.name(), b.name());
}

/// The number and the depth of the values that aliases stand for are bounded.
#[test]
fn aliases_are_bounded() {
    let many = |count: usize| format!("a: &a [{}]\nb: [{}]\n", "1,".repeat(count), "*a,".repeat(20));
    let error = refusal(&many(2_000));
    assert!(error.contains("stand for too much"), "{error}");
    let error = refusal(&many(200));
    assert!(error.contains("is no manifest"), "{error}");

    let deep = |name: &str, inner: &str| format!("{name}: &{name} {}{inner}{}\n", "[".repeat(90), "]".repeat(90));
    let error = refusal(&(deep("a", "1") + &deep("b", "*a")));
    assert!(error.contains("nested too deep"), "{error}");
}

#[test]
fn a_mistake_in_a_secrets_manifest_quotes_nothing_of_it() {
    let ClientCert { key, .. } = Pki::new("a CA").unwrap().client("nice-app").unwrap();
    let block: String = key.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    let manifest = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: certs}}\nstringData:\n  key: |\n{block}");
    for mistake in ["  cert: [\n", " cert: a\n", "  cert: *a\n", "\tcert: a\n", "  cert: .nan\n"] {
        let detail = refusal(&format!("{manifest}{mistake}"));
        assert!(detail.starts_with("file, document 1: is not valid YAML"), "{detail}");
        assert!(key.lines().all(|line| !detail.contains(line)), "{detail}");
        assert_plain(&detail);
    }
}

#[test]
fn aliases_can_not_make_a_small_file_large() {
    let levels =
        (1..9).map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(",")));
    let laughs = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned()).chain(levels).collect::<String>();
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(50_000), vec!["*a"; 3_000].join(","));
    let fields: Vec<_> = (0..3_000).map(|number| format!("k{number}: v")).collect();
    let uses: Vec<_> = (0..300).map(|number| format!("b{number}: {{<<: *a}}")).collect();
    let merged = format!("a: &a {{{}}}\n{}\n", fields.join(", "), uses.join("\n"));
    for bomb in [laughs, long, merged] {
        let detail = refusal(&bomb);
        assert!(detail.contains("is not valid YAML"), "{detail}");
    }
}

#[test]
fn aliases_are_read_as_kubectl_reads_them() {
    let text = "
apiVersion: apps.fedoraproject.org/v1alpha1
kind: FedoraMessage
metadata: {name: a}
spec:
  env: prod
  message: {topic: &topic nice.message, body: {first: &list [1, *topic], second: *list}}
  authentication: {secretRef: {name: certs}}
";
    let manifests = read(text).unwrap();
    let spec = manifests.messages[0].spec().unwrap();
    assert_eq!(spec.message.body.get(), r#"{"first":[1,"nice.message"],"second":[1,"nice.message"]}"#);
}

#[test]
fn what_a_manifest_says_is_shown_on_one_line() {
    let escape = "\u{1b}[31m\n\u{202e}".repeat(1_000);
    for (pointer, detail) in [
        ("/kind", "is a "),
        ("/apiVersion", "is a FedoraMessage of "),
        ("/metadata/name", "metadata.name is "),
        ("/metadata/namespace", "metadata.namespace is "),
        ("/metadata/uid", "metadata.uid is "),
        ("/metadata/creationTimestamp", "metadata.creationTimestamp is "),
    ] {
        let refusal = refusal(&with(pointer, escape.as_str().into()).to_string());
        assert!(refusal.starts_with(&format!("file, document 1: {detail}")), "{refusal}");
        assert_plain(&refusal);
    }
}

#[test]
fn of_many_unknown_fields_some_are_named() {
    let unknown: Map<_, _> = (0..1_000).map(|number| (format!("a{number:03}\n"), 0.into())).collect();
    let mut spec = example()["spec"].as_object().unwrap().clone();
    spec.extend(unknown);
    assert_eq!(
        refusal(&set(example(), "/spec", spec.into()).to_string()),
        "file, document 1: has unknown fields: spec.a000 , spec.a001 , spec.a002 , spec.a003 , spec.a004  and 995 more; \
         correct or remove them"
    );
}
