//! The files of the corpus: scalars in each place of a manifest, layouts of documents, and bodies at
//! random with a fixed seed.

use fastrand::Rng;

/// Stands for the value of the label `file`.
pub const MARK: &str = "@FILE@";

/// A file with messages.
pub struct File {
    pub name: String,
    pub text: String,
}

/// A file with a Secret or a `ConfigMap` whose name is `source`.
pub struct Source {
    pub kind: &'static str,
    pub text: String,
}

/// Scalars, separated by white space. Most have no quotes.
const SCALARS: &str = include_str!("scalars.txt");

/// The places of a scalar, which stands for `@`.
const PLACES: [(&str, &str, &str); 16] = [
    ("value", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body:\n      v: @\n"),
    ("flow value", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {v: @ , w: 1}\n"),
    ("item", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body:\n      v:\n      - @\n      - 1\n"),
    ("key", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body:\n      @: 1\n"),
    ("flow key", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {@ : 1}\n"),
    ("alias", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body:\n      v: &a @\n      w: *a\n"),
    ("header", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n    headers:\n      h: @\n"),
    ("header name", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n    headers:\n      @: x\n"),
    ("topic", "{name: m, labels: {file: @FILE@}}", "    topic: @\n    body: {}\n"),
    ("severity", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n    severity: @\n"),
    ("priority", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n    priority: @\n"),
    ("schema", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n    schema: @\n"),
    ("suspend", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n  suspend: @\n"),
    ("deadline", "{name: m, labels: {file: @FILE@}}", "    topic: a.b\n    body: {}\n  activeDeadlineSeconds: @\n"),
    ("name", "{labels: {file: @FILE@}, name: @ }", "    topic: a.b\n    body: {}\n"),
    ("annotation", "{name: m, labels: {file: @FILE@}, annotations: {a: @ }}", "    topic: a.b\n    body: {}\n"),
];

fn manifest(metadata: &str, message: &str) -> String {
    format!(
        "apiVersion: apps.fedoraproject.org/v1alpha1\nkind: FedoraMessage\nmetadata: {metadata}\nspec:\n  env: prod\n  \
         authentication: {{secretRef: {{name: certs}}}}\n  message:\n{message}"
    )
}

/// A message with this name and body, in block style.
fn block(name: &str, body: &str) -> String {
    manifest(&format!("{{name: {name}, labels: {{file: {MARK}}}}}"), &format!("    topic: a.b\n    body: {body}\n"))
}

/// A message with this name and body, in flow style.
fn flow(name: &str, body: &str) -> String {
    format!(
        "{{apiVersion: apps.fedoraproject.org/v1alpha1, kind: FedoraMessage, metadata: {{name: {name}, labels: {{file: {MARK}}}}},\n \
         spec: {{env: prod, authentication: {{secretRef: {{name: certs}}}}, message: {{topic: a.b, body: {body}}}}}}}"
    )
}

/// A message with this name and body, in JSON.
fn json(name: &str, body: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {{"name": "{name}", "labels": {{"file": "{MARK}"}}}},
 "spec": {{"env": "prod", "authentication": {{"secretRef": {{"name": "certs"}}}}, "message": {{"topic": "a.b", "body": {body}}}}}}}"#
    )
}

/// Returns all files with messages.
pub fn files() -> Vec<File> {
    let named = |(name, text): (&str, String)| File { name: name.to_owned(), text };
    let mut files: Vec<File> = flow_files().into_iter().chain(block_files()).map(named).collect();
    files.extend(BODIES.map(|(name, body)| named((name, block("a", body)))));
    files.extend(JSON_BODIES.map(|(name, body)| named((name, json("a", body)))));
    files.extend(METADATA.map(|(name, metadata)| named((name, with_metadata(metadata)))));
    for (place, metadata, message) in PLACES {
        for scalar in SCALARS.split_whitespace() {
            let fill = |text: &str| text.replace('@', "\u{1}").replace("\u{1}FILE\u{1}", MARK).replace('\u{1}', scalar);
            files.push(File { name: format!("{place} {scalar}"), text: manifest(&fill(metadata), &fill(message)) });
        }
    }
    let mut random = Rng::with_seed(20_261_130);
    files.extend((0..600).map(|number| File { name: format!("random body {number}"), text: random_file(&mut random) }));
    files
}

/// Bodies, in a message in block style.
const BODIES: [(&str, &str); 78] = [
    ("a mark in a text", "{s: \"x\n---\ny\"}"),
    ("a mark in a block", "\n      s: |\n        x\n        ---\n        y"),
    ("a byte order mark in a text", "{s: \"x\u{feff}y\"}"),
    ("a key twice", "{n: 1, n: 2}"),
    ("a key twice after conversion", "{yes: 1, on: 2}"),
    ("a number and its text as keys", "{1: 1, \"1\": 2}"),
    ("a list as a key", "{[1]: 2}"),
    ("an object as a key", "{{a: 1}: 2}"),
    ("a key with a question mark", "{? n : 1}"),
    ("a key with a question mark, block", "\n      ? n\n      : 1"),
    ("a key without a value", "{n, m}"),
    ("keys with empty values", "{n: , m: }"),
    ("an empty body", "{}"),
    ("no body", ""),
    ("a list as body", "[1]"),
    ("a colon without a space", "{n:1}"),
    ("a colon without a space after quotes", "{\"n\":1}"),
    ("a list with an empty item", "{n: [1, , 2]}"),
    ("a list with a comma at the end", "{n: [1, 2, ], }"),
    ("a pair in a list", "{n: [a: 1, b]}"),
    ("an address", "{n: http://example.org/a?b=c#d}"),
    ("a text that ends in a colon", "{n: x:}"),
    ("a colon in a text", "\n      n: Fedora 43: released"),
    ("a tab before a value", "{n:\t1}"),
    ("a tab in a text", "\n      n: x\ty\t\n"),
    ("a tab for indentation", "\n\tn: 1"),
    ("a tab in a block", "\n      n: |\n        \tx\n        y\t\n"),
    ("an anchor and an alias", "{n: &n [1, {a: b}], m: *n}"),
    ("an anchor that is redefined", "{a: &n 1, b: *n, c: &n 2, d: *n}"),
    ("an alias as a key", "{a: &n k, *n : 2}"),
    ("an alias of a number as a key", "{a: &n 1, *n : 2}"),
    ("an alias in its anchor", "&n {m: *n}"),
    ("an alias without an anchor", "{m: *n}"),
    ("a merge", "{a: &a {n: 1, m: 2}, b: {<<: *a, m: 3}}"),
    ("a merge of two", "{a: &a {n: 1, m: 2}, b: &b {m: 3, o: 4}, c: {<<: [*a, *b], p: 5}}"),
    ("a merge after other keys", "{a: &a {n: 1, m: 2}, b: {m: 3, <<: *a}}"),
    ("a merge twice", "{a: &a {n: 1}, b: &b {n: 2}, c: {<<: *a, <<: *b}}"),
    ("a merge in place", "{b: {<<: {n: 1}, m: 2}}"),
    ("a merge of null", "{b: {<<: null}}"),
    ("a merge of a list of numbers", "{b: {<<: [1]}}"),
    ("a merge of a merge", "{a: &a {n: 1}, b: &b {<<: *a, m: 2}, c: {<<: *b}}"),
    ("a merge whose key is replaced twice", "{b: {<<: {n: 1}, n: 2, n: 3}}"),
    ("a merge key in quotes", "{a: &a {n: 1}, b: {\"<<\": *a}}"),
    ("a merge key with a tag", "{a: &a {n: 1}, b: {!!str <<: *a}}"),
    ("the tag of a text", "{a: !!str 12, b: !!str yes, c: !!str \"x\", d: !!str ~}"),
    ("the tag of a text without a text", "\n      a: !!str\n      b: 1"),
    ("the tag of a text in full", "{a: !<tag:yaml.org,2002:str> 12}"),
    ("the tag of a text as a key", "{!!str 1: 2}"),
    ("the tag of an integer", "{a: !!int \"12\"}"),
    ("the tag of a float", "{a: !!float 1}"),
    ("the tag of a boolean", "{a: !!bool yes}"),
    ("the tag of null", "{a: !!null \"\"}"),
    ("the tag of bytes", "{a: !!binary aGVsbG8=}"),
    ("the tag of a time", "{a: !!timestamp 2001-01-01}"),
    ("the tag of an object", "!!map {a: 1}"),
    ("the tag of a list", "{a: !!seq [1]}"),
    ("the tag of a set", "{a: !!set {b, c}}"),
    ("a tag of one's own", "{a: !color 12}"),
    ("the tag of no kind", "{a: ! 12}"),
    ("a line separator", "{s: \"x\u{2028}y\"}"),
    ("a paragraph separator", "\n      s: x\u{2029}y"),
    ("a next line", "{s: \"x\u{85}y\"}"),
    ("a control character", "{s: \"x\u{1}y\"}"),
    ("a delete character", "{s: \"x\u{7f}y\"}"),
    ("a control character beyond ASCII", "{s: \"x\u{80}y\"}"),
    ("no character", "{s: \"x\u{fffe}y\"}"),
    ("no character beyond 16 bits", "{s: \"x\u{1fffe}y\"}"),
    ("a NUL", "{s: \"x\0y\"}"),
    ("a character beyond 16 bits", "{s: 😀, \"😀\": \"\\U0001F600\"}"),
    ("a no-break space", "\n      s: \u{a0}x\u{a0}"),
    ("escapes", r#"{s: "\x41\u00e9\U0001F600\a\b\e\f\n\r\t\v\0\ \"\\\N\_\L\P"}"#),
    ("an escaped slash", r#"{s: "\/"}"#),
    ("an escaped line end", "{s: \"x\\\n  y\"}"),
    ("an unknown escape", r#"{s: "\q"}"#),
    (
        "folded texts",
        "\n      s: >\n        x\n        y\n\n        z\n      t: >-\n        x\n         y\n      u: >+\n        x\n\n      v: 1",
    ),
    (
        "literal texts",
        "\n      s: |\n        x\n         y\n\n      t: |-\n        x\n      u: |+\n        x\n\n      v: |2\n          x\n      w: 1",
    ),
    (
        "texts of many lines",
        "\n      s: x\n        y\n\n        z\n      t: \"x\n        y\n\n        z\"\n      u: 'x\n        y'",
    ),
    ("comments", "# comment\n      # comment\n      n: 1 # comment\n      s: 'x # y'\n      t: x#y\n"),
];

/// Bodies in JSON.
const JSON_BODIES: [(&str, &str); 14] = [
    ("JSON with a number beyond floats", r#"{"n": 1e400}"#),
    ("JSON with a number beyond floats and an emoji", r#"{"n": 1e400, "s": "\ud83d\ude00"}"#),
    ("JSON with a number below floats", r#"{"n": 1e-400, "m": -1e-400}"#),
    ("JSON with many digits", r#"{"n": 0.1000000000000000055511151231257827, "m": 1000000000000000000000000}"#),
    ("JSON with a key that is empty", r#"{"": 1}"#),
    ("JSON with a list that ends in a comma", r#"{"n": [1, 2,]}"#),
    ("JSON with a tab", "{\t\"n\":\t1}"),
    ("JSON with a surrogate pair", r#"{"s": "\ud83d\ude00"}"#),
    ("JSON with half a surrogate pair", r#"{"s": "\ud83d"}"#),
    ("JSON with half a surrogate pair, in upper case", r#"{"s": "\uDE00 x"}"#),
    (
        "JSON with numbers",
        r#"{"n": [1.0, -0.0, 1e3, 1e-3, 1E+2, 12345678901234567890, 123456789012345678901234567890, 0.1]}"#,
    ),
    ("JSON with words", r#"{"y": "yes", "on": "0644", "1": "~", "<<": "null"}"#),
    ("a key twice in JSON", r#"{"n": 1, "n": 2}"#),
    ("a line separator in JSON", "{\"s\": \"x\u{2028}y\u{85}z\"}"),
];

/// Metadata beside the label.
const METADATA: [(&str, &str); 19] = [
    ("generateName beside a name", "name: x, generateName: y-"),
    ("no name", "annotations: {}"),
    ("an empty name", "name: ''"),
    ("generateName that is empty", "generateName: ''"),
    ("a name in upper case", "name: Hello"),
    ("a name with an underscore", "name: a_b"),
    ("a name that begins with a dash", "name: -a"),
    ("a name with two dots", "name: a..b"),
    ("an empty namespace", "name: x, namespace: ''"),
    ("a namespace that is null", "name: x, namespace: null"),
    ("a namespace that is a number", "name: x, namespace: 1"),
    ("a namespace in upper case", "name: x, namespace: Default"),
    ("labels that are numbers", "name: x, labels: {a: 1}"),
    ("annotations that are null", "name: x, annotations: null"),
    ("an annotation that is null", "name: x, annotations: {a: null}"),
    ("a metadata field with a slip", "name: x, nme: y"),
    ("finalizers", "name: x, finalizers: [example.org/a]"),
    ("a creation time", "name: x, creationTimestamp: null"),
    ("an owner with a slip", "name: x, ownerReferences: [{apiVersion: v1, kind: Pod, name: a, uid: b, own: c}]"),
];

/// Files with JSON or flow style at the top.
fn flow_files() -> Vec<(&'static str, String)> {
    let (a, b) = (block("a", "{n: 1}"), block("b", "{n: 2}"));
    let (flow_a, flow_b) = (flow("a", "{n: 1}"), flow("b", "{n: 2}"));
    let (json_a, json_b, json_c) = (json("a", r#"{"n": 1}"#), json("b", r#"{"n": 2}"#), json("c", r#"{"n": 3}"#));
    vec![
        ("flow style at the top", flow_a.clone()),
        ("flow style after white space", format!("\n  {flow_a}\n")),
        ("flow style, two documents", format!("{flow_a}\n---\n{flow_b}")),
        ("flow style, then JSON", format!("{flow_a}\n---\n{json_b}")),
        ("flow style with a mistake", flow_a.replace("env:", "env")),
        ("flow style without a mark between", format!("{flow_a}\n{flow_b}")),
        ("JSON", json_a.clone()),
        ("JSON with a comma at the end", format!("{},}}", json_a.strip_suffix('}').expect("an object"))),
        ("JSON with a comment", json_a.replacen('{', "{ # comment\n", 1)),
        ("JSON with a comment of JavaScript", json_a.replacen('{', "{ // comment\n", 1)),
        ("JSON with a comment after a comma", json_a.replacen("\",", "\", # comment\n", 1)),
        ("JSON after a byte order mark", format!("\u{feff}{json_a}")),
        ("JSON after a mark", format!("---\n{json_a}")),
        ("JSON after a comment", format!("# comment\n{json_a}")),
        ("JSON, then YAML", format!("{json_a}\n---\n{b}")),
        ("YAML, then JSON", format!("{a}---\n{json_b}")),
        ("JSON, JSON", format!("{json_a}\n{json_b}")),
        ("JSON, mark, JSON", format!("{json_a}\n---\n{json_b}")),
        ("JSON, mark, JSON, mark, JSON", format!("{json_a}\n---\n{json_b}\n---\n{json_c}")),
        ("JSON, JSON, mark, JSON", format!("{json_a}\n{json_b}\n---\n{json_c}")),
        ("JSON that is cut", json_a[..json_a.len() - 3].to_owned()),
        ("JSON with a text after it", format!("{json_a}\nabc")),
        ("JSON in YAML with a surrogate pair", format!("# YAML\n{}", json("a", r#"{"s": "\ud83d\ude00"}"#))),
        ("JSON in YAML with half a surrogate pair", format!("# YAML\n{}", json("a", r#"{"s": "\ud83d"}"#))),
        ("JSON in YAML with escapes", format!("# YAML\n{}", json("a", r#"{"s": "\/\b\f\n\r\t\"\\\u0000\u00e9"}"#))),
        ("JSON with a priority that is a float", json_a.replace(r#""topic""#, r#""priority": 7.0, "topic""#)),
        ("JSON with a priority in words", json_a.replace(r#""topic""#, r#""priority": "7", "topic""#)),
        ("JSON with a header that is a float", json_a.replace(r#""topic""#, r#""headers": {"h": 1.0}, "topic""#)),
        ("JSON with a header that is a fraction", json_a.replace(r#""topic""#, r#""headers": {"h": 1.5}, "topic""#)),
        ("JSON with suspend in words", json_a.replace(r#""env""#, r#""suspend": "no", "env""#)),
        ("JSON with a number as topic", json_a.replace(r#""a.b""#, "1")),
        ("a List in JSON", format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{json_a}, {json_b}]}}"#)),
        ("a List in YAML", format!("apiVersion: v1\nkind: List\nitems:\n- {flow_a}\n- {flow_b}\n")),
        (
            "a List in a List",
            format!(
                r#"{{"apiVersion": "v1", "kind": "List", "items": [{{"apiVersion": "v1", "kind": "List", "items": [{json_a}]}}]}}"#
            ),
        ),
        ("line ends of Windows in JSON", json_a.replace('\n', "\r\n")),
    ]
}

/// Files in block style.
fn block_files() -> Vec<(&'static str, String)> {
    let (a, b) = (block("a", "{n: 1}"), block("b", "{n: 2}"));
    let flow_a = flow("a", "{n: 1}");
    let body = |body: &str| block("a", body);
    vec![
        ("two documents", format!("{a}---\n{b}")),
        ("a mark first and last", format!("---\n{a}---\n")),
        ("empty documents", format!("---\n---\n\n---\n{a}---\n  \n---\n# comment\n---\n{b}")),
        ("null documents", format!("null\n---\n~\n---\n{a}---\nNull\n")),
        ("a comment after the mark", format!("--- # comment\n{a}")),
        ("white space after the mark", format!("---  \t\n{a}---\t\n{b}")),
        ("a document beside the mark", format!("--- {flow_a}")),
        ("a mark of four dashes", format!("----\n{a}")),
        ("an end", format!("{a}...\n")),
        ("an end, then a mark", format!("{a}...\n---\n{b}")),
        ("an end, then more", format!("{a}...\n{b}")),
        ("an end, then a comment", format!("{a}...\n# comment\n")),
        ("a YAML directive", format!("%YAML 1.1\n---\n{a}")),
        ("a tag directive", format!("%TAG ! tag:example.org,2000:\n---\n{a}")),
        ("a directive after a mark", format!("---\n%YAML 1.1\n---\n{a}")),
        ("a byte order mark", format!("\u{feff}{a}")),
        ("a byte order mark in each document", format!("\u{feff}{a}---\n\u{feff}{b}")),
        ("a byte order mark before the mark", format!("\u{feff}---\n{a}")),
        ("line ends of Windows", format!("{a}---\n{b}").replace('\n', "\r\n")),
        ("line ends of Windows in a block", body("\n      s: |\n        x\n        y\n").replace('\n', "\r\n")),
        ("line ends of Windows in a text", body("{s: \"x\n  y\"}").replace('\n', "\r\n")),
        ("line ends of old", a.replace('\n', "\r")),
        ("no line end", a.trim_end().to_owned()),
        ("a key twice in the spec", format!("{a}  env: stg\n").replace("  env: prod\n", "  env: prod\n  env: prod\n")),
        ("an alias of another document", format!("{}---\n{}", body("{m: &n 1}"), block("b", "{m: *n}"))),
        ("a long name", with_metadata(&format!("name: {}", "a".repeat(253)))),
        ("a name that is too long", with_metadata(&format!("name: {}", "a".repeat(254)))),
        (
            "metadata that are a list",
            block("a", "{}").replace("metadata: {", "metadata: [{").replace("}}\nspec", "}}]\nspec"),
        ),
        ("a field with a slip at the top", format!("{a}specs: {{}}\n")),
        ("a field with a slip in the spec", format!("{a}  senderRefs: {{}}\n")),
        ("a field with a slip in the message", format!("{a}    topics: x\n")),
        ("a status", format!("{a}status: {{status: true}}\n")),
        ("a spec that is null", format!("{}\n", a.split("spec:").next().expect("metadata"))),
    ]
}

fn with_metadata(metadata: &str) -> String {
    manifest(&format!("{{labels: {{file: {MARK}}}, {metadata}}}"), "    topic: a.b\n    body: {}\n")
}

/// A message with a body at random.
fn random_file(random: &mut Rng) -> String {
    let mut body = String::new();
    for key in 0..random.usize(1..5) {
        body.extend(["\n      k", &key.to_string(), ": ", &random_value(random, 3, 8)]);
    }
    let text = block("m", &body);
    if random.u8(..8) == 0 { text.replace('\n', "\r\n") } else { text }
}

/// A value that stands after a key of a block, whose own lines are indented by `indent`.
fn random_value(random: &mut Rng, depth: usize, indent: usize) -> String {
    let margin = " ".repeat(indent);
    match random.u8(if depth == 0 { 0..6 } else { 0..10 }) {
        0..=2 => random_scalar(random),
        3 => format!("{} # comment", random_scalar(random)),
        4 => {
            let style = *random.choice(["|", "|-", "|+", ">", ">-", ">+"].iter()).expect("a style");
            let lines: String = (0..random.usize(1..4))
                .map(|_| match random.u8(..5) {
                    0 => "\n".to_owned(),
                    1 => format!("\n{margin}  {}", random_words(random)),
                    _ => format!("\n{margin}{}", random_words(random)),
                })
                .collect();
            // The first line must not be indented more, because it sets the indentation.
            format!("{style}\n{margin}{}{lines}", random_words(random))
        }
        5 => {
            let quote = if random.bool() { '"' } else { '\'' };
            let breaks = "\n".repeat(random.usize(1..3));
            format!("{quote}{}{breaks}{margin} {}{quote}", random_words(random), random_words(random))
        }
        6 => random_flow(random, depth),
        7 => {
            let items =
                (0..random.usize(1..4)).map(|_| format!("\n{margin}- {}", random_value(random, depth - 1, indent + 2)));
            items.collect()
        }
        _ => {
            let fields = (0..random.usize(1..4))
                .map(|n| format!("\n{margin}f{n}: {}", random_value(random, depth - 1, indent + 2)));
            fields.collect()
        }
    }
}

fn random_flow(random: &mut Rng, depth: usize) -> String {
    let inner = |random: &mut Rng| {
        if depth == 0 || random.bool() { random_scalar(random) } else { random_flow(random, depth - 1) }
    };
    let count = random.usize(0..4);
    let end = if count > 0 && random.u8(..4) == 0 { " ," } else { " " };
    if random.bool() {
        let items: Vec<_> = (0..count).map(|_| inner(random)).collect();
        format!("[{}{end}]", items.join(" , "))
    } else {
        let fields: Vec<_> = (0..count).map(|n| format!("g{n}: {}", inner(random))).collect();
        format!("{{{}{end}}}", fields.join(" , "))
    }
}

fn random_scalar(random: &mut Rng) -> String {
    let scalars: Vec<_> = SCALARS
        .split_whitespace()
        .filter(|scalar| !scalar.starts_with(['@', '%', '`', '&', '*', '!', '|', '>', '?', ',']))
        .collect();
    match random.u8(..6) {
        0 => format!("'{}'", random_words(random)),
        1 => format!("\"{}\"", random_words(random)),
        2 => random_words(random),
        _ => (*random.choice(scalars.iter()).expect("a scalar")).to_owned(),
    }
}

fn random_words(random: &mut Rng) -> String {
    const WORDS: [&str; 14] =
        ["Fedora", "43", "is", "released", "é", "日本", "😀", "x:y", "a#b", "no", "it", "1.0", "-", "~"];
    let words: Vec<_> = (0..random.usize(1..4)).map(|_| *random.choice(WORDS.iter()).expect("a word")).collect();
    // A dash alone would begin a list.
    format!("w {}", words.join(" "))
}

/// Returns all files with Secrets and `ConfigMaps`.
pub fn sources() -> Vec<Source> {
    let source = |kind: &'static str, fields: &str| Source {
        kind,
        text: format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: source, labels: {{file: {MARK}}}}}\n{fields}\n"),
    };
    let plain = "a '' YQ== YQ YR== _-8= '%%%' null ~ 1234 12345678 true yes 0644 1.5 [1] {} 2001-01-01 é \"\\0\"";
    let others = [
        "",
        "\"YWJj\\nZGVm\\n\"",
        "\"YWJj\\r\\nZGVm\"",
        "\"YW Jj\"",
        "\"YWJj\\tZGVm\"",
        "|\n    YWJj\n    ZGVm\n",
        "|-\n    YWJj\n    ZGVm",
        ">\n    YWJj\n    ZGVm\n",
        "!!binary YWJj",
    ];
    let values: Vec<_> = plain.split(' ').chain(others).collect();
    let mut sources = Vec::new();
    for (kind, field) in
        [("Secret", "data"), ("Secret", "stringData"), ("ConfigMap", "data"), ("ConfigMap", "binaryData")]
    {
        sources.extend(values.iter().map(|value| source(kind, &format!("{field}:\n  key: {value}"))));
        sources.extend(["{}", "null", "[]", "text", "1"].map(|value| source(kind, &format!("{field}: {value}"))));
        sources.push(source(kind, &format!("{field}2: {{}}")));
        sources.push(source(kind, "immutable: yes"));
        sources.push(source(kind, "immutable: 'yes'"));
    }
    sources.push(source("Secret", "data: {key: YQ==}\nstringData: {key: b}"));
    sources.push(source("Secret", "type: kubernetes.io/tls2"));
    sources.push(source("Secret", "type: 1"));
    sources
}
