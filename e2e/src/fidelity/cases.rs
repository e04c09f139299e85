//! The compared messages, with every shape that a manifest can hold.

use std::fs;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

use crate::{project, read};

/// The topic prefix of production. The library removes the dots at its end, and so does the
/// operator.
pub const PREFIX: &str = "org.fedoraproject.prod.";

/// Lets every second message name the Sender of its environment instead of a Secret.
pub fn half_by_sender(manifests: &str) -> String {
    let mut text = String::new();
    let mut parts = manifests.split(r#""authentication": {"secretRef": {"name": "certs"}}"#).enumerate().peekable();
    while let Some((number, part)) = parts.next() {
        if parts.peek().is_none() {
            return text + part;
        }
        if number % 2 == 0 {
            text += part;
            text += r#""authentication": {"secretRef": {"name": "certs"}}"#;
            continue;
        }
        let (before, env) = part.rsplit_once(r#""env": "#).expect("an environment");
        let name = env.trim_end_matches([',', ' ']);
        text.extend([before, r#""senderRef": {"name": "#, name, "}"]);
    }
    text
}

/// The Senders that [`half_by_sender`] names.
pub const SENDERS: &str = r#"
{"apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessageSender", "metadata": {"name": "prod"}, "spec": {"env": "prod", "authentication": {"secretRef": {"name": "certs"}}}}
---
{"apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessageSender", "metadata": {"name": "stg"}, "spec": {"env": "stg", "authentication": {"secretRef": {"name": "certs"}}}}
"#;

/// A message as a user writes it.
pub struct Case {
    /// The name in reports.
    pub name: String,
    /// The environment. `prod` has a topic prefix, `stg` has none.
    pub env: &'static str,
    /// The topic, without the prefix.
    pub topic: String,
    /// The body as JSON.
    pub body: String,
    /// The body that the API server stores, if it differs: numbers are int64 or float64.
    pub stored: Option<String>,
    /// The other fields of `spec.message`.
    pub fields: Value,
}

impl Case {
    /// Returns the manifest as JSON.
    pub fn manifest(&self, name: &str) -> String {
        let Self { env, topic, body, fields, .. } = self;
        // The body stays as written. The other fields form one object, which is left open for the
        // body.
        let mut message = fields.clone();
        message["topic"] = json!(topic);
        let message = message.to_string();
        let open = message.strip_suffix('}').expect("an object");
        format!(
            r#"{{"apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {{"name": "{name}"}},
"spec": {{"env": "{env}", "authentication": {{"secretRef": {{"name": "certs"}}}}, "message": {open}, "body": {body}}}}}}}
"#
        )
    }

    /// Returns the message for the Python library, with this body.
    ///
    /// The priority is always set. The library's API leaves it unset unless it is configured. Its
    /// command line and the operator always set it, to 0 by default.
    pub fn reference(&self, body: &Value) -> Value {
        let field = |name: &str| self.fields.get(name).cloned();
        let mut case = json!({
            "topic": self.topic,
            "body": body,
            "headers": field("headers").unwrap_or(json!({})),
            "severity": self.severity(),
            "priority": field("priority").unwrap_or(json!(0)),
        });
        if let Some(schema) = field("schema") {
            case["schema"] = schema;
            // The library also omits the package of a schema that it does not know.
            case["schemaPackage"] = field("schemaPackage").unwrap_or(Value::Null);
        }
        case
    }

    /// Returns the body as the user wrote it.
    pub fn written(&self) -> &str {
        &self.body
    }

    /// Returns the body as the API server stores it.
    pub fn stored(&self) -> &str {
        self.stored.as_deref().unwrap_or(&self.body)
    }

    /// Returns the library's number for the severity.
    pub fn severity(&self) -> u8 {
        match self.fields.get("severity").and_then(Value::as_str) {
            Some("Debug") => 10,
            None | Some("Info") => 20,
            Some("Warning") => 30,
            Some("Error") => 40,
            Some(other) => panic!("no such severity: {other}"),
        }
    }

    fn with(name: impl Into<String>, body: impl Into<String>, fields: Value) -> Self {
        Self { name: name.into(), env: "prod", topic: String::new(), body: body.into(), stored: None, fields }
    }
}

/// Parses JSON without a limit of its depth.
pub fn parse(json: &str) -> Value {
    let mut json = serde_json::Deserializer::from_str(json);
    json.disable_recursion_limit();
    Value::deserialize(&mut json).expect("valid JSON")
}

/// Returns JSON with its numbers as the API server stores them: 64-bit integers, and 64-bit floats.
pub fn as_stored(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_i64() => Value::Number(number),
        Value::Number(number) => {
            let number = number.as_f64().expect("a float");
            let digits = number.to_string();
            let integer = digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from));
            Value::Number(integer.unwrap_or_else(|_| Number::from_f64(number).expect("finite")))
        }
        Value::Array(items) => items.into_iter().map(as_stored).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, as_stored(value))).collect(),
        other => other,
    }
}

/// A message of an application of Fedora, in `testdata/messages`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Recorded {
    /// The repository and the file that it comes from.
    #[serde(rename = "source")]
    _source: String,
    topic: String,
    schema: String,
    schema_package: String,
    severity: u8,
    headers: Value,
    body: Box<RawValue>,
}

/// Returns the messages in `testdata/messages`, with topics that begin with `root`.
pub fn recorded(root: &str) -> Vec<Case> {
    let mut files: Vec<_> = fs::read_dir(project("testdata/messages"))
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let cases = files.iter().map(|file| {
        let text = fs::read_to_string(file).expect("a text");
        let message: Recorded =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let severity = match message.severity {
            10 => "Debug",
            20 => "Info",
            30 => "Warning",
            40 => "Error",
            other => panic!("{}: {other}", file.display()),
        };
        let fields = json!({
            "headers": message.headers, "severity": severity,
            "schema": message.schema, "schemaPackage": message.schema_package,
        });
        let body = message.body.get();
        let stored = Some(as_stored(parse(body)).to_string());
        let topic = format!("{root}.{}", message.topic);
        Case { topic, stored, ..Case::with(file.file_stem().expect("a name").to_string_lossy(), body, fields) }
    });
    cases.collect()
}

/// The cases of `testdata/fidelity.yaml`, which describes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    texts: Vec<(String, String)>,
    bodies: Vec<(String, String)>,
    numbers: Vec<(String, String)>,
    header_integers: Vec<i64>,
    headers: Vec<(String, Value)>,
    fields: Vec<Value>,
}

/// Returns all cases, with topics that begin with `root`.
pub fn all(root: &str) -> Vec<Case> {
    let written: Written = serde_saphyr::from_str(&read("testdata/fidelity.yaml")).expect("YAML");
    let made = [deep(), large(), written.texts(), written.numbers(), written.headers()];
    let mut cases: Vec<Case> = made.into_iter().flatten().collect();
    cases.extend(written.bodies.into_iter().map(|(name, body)| Case::with(name, body, json!({}))));
    cases.extend(written.fields.into_iter().map(|fields| Case::with(fields.to_string(), "{}", fields)));
    for (number, case) in cases.iter_mut().enumerate() {
        case.topic = format!("{root}.{number}");
    }
    cases.extend(topics(root));
    cases
}

impl Written {
    fn texts(&self) -> Vec<Case> {
        let each = |(name, text): &(String, String)| {
            let body = json!({"text": text, "list": [text], (text): true}).to_string();
            [
                Case::with(format!("{name} in the body"), body, json!({})),
                Case::with(format!("{name} in a header"), "{}", json!({"headers": {"text": text}})),
            ]
        };
        self.texts.iter().flat_map(each).collect()
    }

    fn numbers(&self) -> Vec<Case> {
        let each = |(written, stored): &(String, String)| {
            let body = |number: &str| format!(r#"{{"number": {number}, "list": [{number}]}}"#);
            Case { stored: Some(body(stored)), ..Case::with(format!("the number {written}"), body(written), json!({})) }
        };
        self.numbers.iter().map(each).collect()
    }

    fn headers(&self) -> Vec<Case> {
        let integers = self.header_integers.iter();
        let integers = integers.map(|n| (format!("the header {n}"), json!({"number": n, "text": n.to_string()})));
        let filters = ["user", "group", "rpm", "container", "module", "flatpak"].map(|object| {
            (format!("a filter header for a {object}"), json!({(format!("fedora_messaging_{object}_a-b.c")): true}))
        });
        let many: Value = (0..500).map(|n| (format!("header-{n}"), json!(n))).collect();
        let long = [
            ("header names of 255 bytes", json!({("n".repeat(255)): 1, ("é".repeat(127)): 2})),
            ("five hundred headers", many),
            ("a header of 100,000 bytes", json!({"long": "x".repeat(100_000)})),
        ]
        .map(|(name, headers)| (name.to_owned(), headers));
        let all = integers.chain(filters).chain(long).chain(self.headers.clone());
        all.map(|(name, headers)| Case::with(name, "{}", json!({"headers": headers}))).collect()
    }
}

fn deep() -> Vec<Case> {
    let each = |depth: usize| {
        let objects = format!("{}{{}}{}", "{\"a\": ".repeat(depth - 1), "}".repeat(depth - 1));
        let lists = format!("{{\"a\": {}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        [
            Case::with(format!("{depth} nested objects"), objects, json!({})),
            Case::with(format!("{depth} nested lists"), lists, json!({})),
        ]
    };
    [2, 64, 127, 128].into_iter().flat_map(each).collect()
}

/// RabbitMQ accepts 1 MiB here. The library writes ASCII, so an astral character takes 12 bytes.
fn large() -> Vec<Case> {
    let keys: Value = (0..5_000).map(|n| (format!("key-{n}"), json!({"n": n}))).collect();
    [
        ("a text of 900,000 bytes", json!({"text": "x".repeat(900_000)})),
        ("a text of 80,000 astral characters", json!({"text": "😀".repeat(80_000)})),
        ("a list of 100,000 numbers", json!({"list": (0..100_000).collect::<Vec<_>>()})),
        ("five thousand keys", keys),
        ("a key of 1,000 bytes", json!({("k".repeat(1_000)): 1})),
    ]
    .map(|(name, body)| Case::with(name, body.to_string(), json!({})))
    .into()
}

fn topics(root: &str) -> Vec<Case> {
    let filled = |length: usize, unit: &str| {
        let rest = length - root.len() - 1;
        format!("{root}.{}{}", "x".repeat(rest % unit.len()), unit.repeat(rest / unit.len()))
    };
    let prefixed = 255 - PREFIX.len();
    [
        ("a topic without prefix", "stg", format!("{root}.without.prefix")),
        ("a topic of one word", "stg", root.to_owned()),
        ("a topic of one word with prefix", "prod", root.to_owned()),
        ("a topic of 255 bytes", "stg", filled(255, "t")),
        ("a topic of 255 bytes of unicode", "stg", filled(255, "é")),
        ("a topic of 255 bytes of astral characters", "stg", filled(255, "😀")),
        ("a topic of 255 bytes with the prefix", "prod", filled(prefixed, "t")),
        ("a topic of 255 bytes with the prefix, of unicode", "prod", filled(prefixed, "日")),
        ("a topic of many words", "stg", filled(255, ".w").replacen("..", ".", 1)),
        ("a topic with signs", "prod", format!("{root}.A-b_c.$d.(e).<f&g>.\"h\".i/j.k:l.%20.{{}}")),
        ("a topic of unicode words", "prod", format!("{root}.größe.大きさ.😀.e\u{301}")),
        ("a topic of numbers", "prod", format!("{root}.1.2.3")),
    ]
    .map(|(name, env, topic)| Case { env, topic, ..Case::with(name, "{}", json!({})) })
    .into()
}
