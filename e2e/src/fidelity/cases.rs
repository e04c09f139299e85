//! The compared messages, with every shape that a manifest can hold.

use serde::Deserialize;
use serde_json::{Value, json};

/// The topic prefix of production. The library removes the dots at its end, and so does the
/// operator.
pub const PREFIX: &str = "org.fedoraproject.prod.";

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

/// Texts that some encoder, decoder or line splitter has failed on. Each one is a value and a key
/// of a body, and a header.
const TEXTS: [(&str, &str); 19] = [
    ("empty text", ""),
    ("white space", " \t\n\r "),
    ("Latin letters", "Ångström, naïve, Łódź"),
    ("combining characters, which nobody may compose", "e\u{301} is not \u{e9}"),
    ("other scripts", "日本語 שלום العربية हिन्दी"),
    ("astral characters", "😀 𝒳 \u{10ffff}"),
    ("joined emoji", "👩\u{200d}👩\u{200d}👧 🇨🇿"),
    ("line ends of JavaScript and Python", "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g\u{1d}h\u{1e}i"),
    ("NUL", "a\0b"),
    ("control characters", "\u{1}\u{7}\u{8}\u{1b}\u{1f}\u{7f}\u{80}\u{9f}"),
    ("quotes and backslashes", r#"" \ \" / \/ \n \u0041 \ud800 ' ` %s {} ${x}"#),
    ("HTML", "<a href='x'>&amp; &</a><!-- -->"),
    ("byte order marks and no characters", "\u{feff}a\u{fffe}b\u{ffff}c\u{fffd}\u{e000}"),
    ("a number in a string", "1.0"),
    ("a boolean in a string", "true"),
    ("a null in a string", "null"),
    ("YAML in a string", "- a: [b]\n---\n# c\n...\n<<: *d"),
    ("JSON in a string", r#"{"a": [1, null]}"#),
    ("a date in a string", "2019-07-30T19:12:22+00:00"),
];

const BODIES: [(&str, &str); 15] = [
    ("an empty body", "{}"),
    ("the proposal's example", r#"{"encouragement": "You're doing great!"}"#),
    ("values of each type", r#"{"a": null, "b": true, "c": false, "d": 0, "e": "", "f": [], "g": {}}"#),
    ("nulls everywhere", r#"{"a": null, "b": {"c": null}, "d": [null, {"e": null}, [null]]}"#),
    ("lists in lists", r#"{"a": [[], [[]], [[[1], 2], {"b": [{}]}]]}"#),
    ("keys out of order", r#"{"z": 1, "a": {"y": 2, "b": 3}, "Z": 4, "_": 5, "0": 6}"#),
    ("keys that differ in case", r#"{"key": 1, "Key": 2, "KEY": 3}"#),
    (
        "keys that are keywords of YAML",
        r#"{"n": 1, "y": 2, "on": 3, "no": 4, "null": 5, "~": 6, "1": 7, "<<": 8, "=": 9}"#,
    ),
    (
        "keys that are paths",
        r#"{"a.b": 1, "a/b": 2, "a~1b": 3, "/": 4, ".": 5, "..": 6, "$": 7, "*": 8, "f:a": 9, "k:{}": 10}"#,
    ),
    ("keys that programs use", r#"{"__proto__": 1, "constructor": 2, "$ref": "3", "__class__": 4, "null": 5}"#),
    (
        "a body that looks like a resource",
        r#"{"apiVersion": "v1", "kind": "List", "metadata": {"name": "x", "uid": "y"}, "items": [], "spec": {}, "status": {}}"#,
    ),
    (
        "a body that looks like a message",
        r#"{"id": "x", "topic": "y", "headers": {"sent-at": 1}, "body": {}, "msg": {}}"#,
    ),
    ("escapes", r#"{"\u0061": "\u00e9\ud83d\ude00\u2028\/\b\f\n\r\t\"\\", "\u0000": "\u0000"}"#),
    ("white space between", "{ \"a\" :\t[ 1 ,\r\n 2 ] , \"b\" : { } }"),
    ("numbers in order", r#"{"list": [3, 1, 2, 1, -1, 1.5, 1]}"#),
];

/// Numbers as written and as stored. The API server stores whole numbers without an exponent as
/// 64-bit integers, and all others as 64-bit floats.
const NUMBERS: [(&str, &str); 33] = [
    ("0", "0"),
    ("-1", "-1"),
    ("2147483647", "2147483647"),
    ("2147483648", "2147483648"),
    ("-2147483648", "-2147483648"),
    ("-2147483649", "-2147483649"),
    ("4294967296", "4294967296"),
    ("9007199254740991", "9007199254740991"),
    ("9007199254740992", "9007199254740992"),
    ("9007199254740993", "9007199254740993"),
    ("9223372036854775807", "9223372036854775807"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("1.5", "1.5"),
    ("-0.1", "-0.1"),
    ("3.141592653589793", "3.141592653589793"),
    ("0.30000000000000004", "0.30000000000000004"),
    ("1e300", "1e300"),
    ("-1e300", "-1e300"),
    ("1e-300", "1e-300"),
    ("1e-7", "1e-7"),
    ("1.7976931348623157e308", "1.7976931348623157e308"),
    ("2.2250738585072014e-308", "2.2250738585072014e-308"),
    ("5e-324", "5e-324"),
    // The API server changes the following numbers.
    ("1.0", "1"),
    ("-0.0", "0"),
    ("1e2", "100"),
    ("1E+2", "100"),
    ("123456789012345680.0", "123456789012345680"),
    ("9223372036854775808", "9223372036854776000"),
    ("-9223372036854775809", "-9223372036854776000"),
    ("12345678901234567890", "12345678901234567000"),
    ("100000000000000000000000", "1e23"),
    ("0.1000000000000000055511151231257827", "0.1"),
];

/// AMQP has a separate type for 32-bit integers.
const HEADER_INTEGERS: [i64; 18] = [
    0,
    1,
    -1,
    127,
    -129,
    255,
    256,
    32_768,
    -32_769,
    65_536,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i32::MIN as i64,
    i32::MIN as i64 - 1,
    u32::MAX as i64 + 1,
    9_007_199_254_740_993,
    i64::MAX,
    i64::MIN,
];

/// Returns all cases, with topics that begin with `root`.
pub fn all(root: &str) -> Vec<Case> {
    let mut cases: Vec<Case> =
        [bodies(), texts(), numbers(), headers(), fields(), large()].into_iter().flatten().collect();
    for (number, case) in cases.iter_mut().enumerate() {
        case.topic = format!("{root}.{number}");
    }
    cases.extend(topics(root));
    cases
}

fn bodies() -> Vec<Case> {
    let flat = BODIES.map(|(name, body)| Case::with(name, body, json!({})));
    let deep = [2, 64, 127, 128].into_iter().flat_map(|depth| {
        let nested =
            |open: &str, close: &str| format!("{{\"a\": {}{}}}", open.repeat(depth - 1), close.repeat(depth - 1));
        let objects = format!("{}{{}}{}", "{\"a\": ".repeat(depth - 1), "}".repeat(depth - 1));
        [
            Case::with(format!("{depth} nested objects"), objects, json!({})),
            Case::with(format!("{depth} nested lists"), nested("[", "]"), json!({})),
        ]
    });
    flat.into_iter().chain(deep).collect()
}

fn texts() -> Vec<Case> {
    let each = |(name, text): (&str, &str)| {
        [
            Case::with(
                format!("{name} in the body"),
                json!({"text": text, "list": [text], (text): true}).to_string(),
                json!({}),
            ),
            Case::with(format!("{name} in a header"), "{}", json!({"headers": {"text": text}})),
        ]
    };
    TEXTS.into_iter().flat_map(each).collect()
}

fn numbers() -> Vec<Case> {
    let each = |(written, stored): (&str, &str)| {
        let body = |number: &str| format!(r#"{{"number": {number}, "list": [{number}]}}"#);
        Case { stored: Some(body(stored)), ..Case::with(format!("the number {written}"), body(written), json!({})) }
    };
    NUMBERS.into_iter().map(each).collect()
}

fn headers() -> Vec<Case> {
    let integers = HEADER_INTEGERS.map(|n| (format!("the header {n}"), json!({"number": n, "text": n.to_string()})));
    let filters = ["user", "group", "rpm", "container", "module", "flatpak"].map(|object| {
        (format!("a filter header for a {object}"), json!({(format!("fedora_messaging_{object}_a-b.c")): true}))
    });
    let many: serde_json::Map<_, _> = (0..500).map(|n| (format!("header-{n}"), json!(n))).collect();
    let others = [
        ("headers of each type", json!({"string": "very", "integer": 7, "true": true, "false": false})),
        ("no headers", json!({})),
        ("header names of unicode", json!({"größe": 1, "大きさ": "2", "😀": true, "a\u{2028}b": 3})),
        ("header names of 255 bytes", json!({("n".repeat(255)): 1, ("é".repeat(127)): 2})),
        (
            "header names with signs",
            json!({"a b": 1, "a.b": 2, "a/b": 3, "a:b": 4, "<&>": 5, "\"\\'": 6, "\n": 7, " ": 8}),
        ),
        (
            "header names that are almost reserved",
            json!({"cc": "a", "bcc": "b", "Priority": 1, "Sent-At": "c", "sent_at": 2, "fedora": 3}),
        ),
        (
            "header names of properties",
            json!({"message_id": "a", "user_id": "b", "app_id": "c", "type": "d", "timestamp": 1, "delivery_mode": 1}),
        ),
        ("five hundred headers", Value::Object(many)),
        ("a header of 100,000 bytes", json!({"long": "x".repeat(100_000)})),
    ];
    let others = others.map(|(name, headers)| (name.to_owned(), headers));
    integers
        .into_iter()
        .chain(filters)
        .chain(others)
        .map(|(name, headers)| Case::with(name, "{}", json!({"headers": headers})))
        .collect()
}

fn fields() -> Vec<Case> {
    let severities = ["Debug", "Info", "Warning", "Error"].map(|severity| json!({"severity": severity}));
    let priorities = [0, 1, 9, 10, 127, 128, 255].map(|priority| json!({"priority": priority}));
    let others = [
        json!({"schema": "base.message"}),
        json!({"schema": "base.message", "schemaPackage": "fedora_messaging"}),
        json!({"schema": "nice.encouragement.v1", "schemaPackage": "nice_messages"}),
        json!({"schema": "nice.unknown-package.v1"}),
        json!({
            "schema": "nice.encouragement.v2", "schemaPackage": "nice_messages", "severity": "Warning", "priority": 3,
            "headers": {"niceness": "very", "fedora_messaging_user_ralph": true, "count": i64::MAX}
        }),
    ];
    let name = |fields: &Value| fields.to_string();
    severities
        .into_iter()
        .chain(priorities)
        .chain(others)
        .map(|fields| Case::with(name(&fields), "{}", fields))
        .collect()
}

/// RabbitMQ accepts 1 MiB here. The library writes ASCII, so an astral character takes 12 bytes.
fn large() -> Vec<Case> {
    let keys: serde_json::Map<_, _> = (0..5_000).map(|n| (format!("key-{n}"), json!({"n": n}))).collect();
    [
        ("a text of 900,000 bytes", json!({"text": "x".repeat(900_000)})),
        ("a text of 80,000 astral characters", json!({"text": "😀".repeat(80_000)})),
        ("a list of 100,000 numbers", json!({"list": (0..100_000).collect::<Vec<_>>()})),
        ("five thousand keys", Value::Object(keys)),
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
