//! Inspects JSON from users without trusting it: its nesting depth, and the nulls that client-side
//! `kubectl apply` dropped from it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bounds::MAX_CHECKED_CONTAINERS;
use crate::text::MAX_DETAIL;

/// The maximum nesting depth of a body. The API server stores thousands of levels, but consumers'
/// JSON parsers fail long before that.
pub const MAX_DEPTH: usize = 128;

/// Returns the maximum nesting depth of arrays and objects in `json`, which must be well-formed.
#[must_use]
pub fn depth(json: &str) -> usize {
    shape(json).0
}

/// Returns true if `json` has too many arrays and objects to be parsed. It must be well-formed.
#[must_use]
pub fn is_too_complex(json: &str) -> bool {
    json.len() > MAX_CHECKED_CONTAINERS && shape(json).1 > MAX_CHECKED_CONTAINERS
}

/// Returns the maximum nesting depth and the number of arrays and objects in `json`.
///
/// It counts without recursion, so that no input can exhaust the stack.
fn shape(json: &str) -> (usize, usize) {
    let (mut depth, mut deepest, mut count) = (0_usize, 0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                count += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest, count)
}

/// The part of a `FedoraMessage` in which a dropped null changes the message.
#[derive(Deserialize)]
struct Applied<'a> {
    #[serde(borrow)]
    spec: Option<AppliedSpec<'a>>,
}

#[derive(Deserialize)]
struct AppliedSpec<'a> {
    #[serde(borrow)]
    message: Option<AppliedMessage<'a>>,
}

#[derive(Deserialize)]
struct AppliedMessage<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<BTreeMap<String, &'a RawValue>>,
}

/// Returns the paths of headers and body values that the user wrote as null and that are not stored.
///
/// `last_applied` is the annotation that client-side `kubectl apply` writes. If it can't be parsed,
/// there are no paths, because the API server does not check what the client writes there.
#[must_use]
pub fn dropped_nulls(last_applied: &str, body: &str) -> Vec<String> {
    let message = serde_json::from_str::<Applied<'_>>(last_applied).ok().and_then(|applied| applied.spec?.message);
    let Some(AppliedMessage { body: written, headers }) = message else {
        return Vec::new();
    };
    // Validation refuses null headers that are stored, because of their type.
    let nulls = headers.into_iter().flatten().filter(|(_, value)| value.get() == "null");
    let mut paths: Vec<_> = nulls.map(|(name, _)| shortened(&format!("spec.message.headers.{name}"))).collect();
    // Only a null that was written can be dropped. kubectl limits the annotation to 256 KiB, so it
    // can't be about a body beyond the bound.
    let written = written
        .map(RawValue::get)
        .filter(|written| written.contains("null") && depth(written) <= MAX_DEPTH && !is_too_complex(body));
    if let Some(written) = written.and_then(value)
        && let Some(stored) = value(body)
    {
        compare(&written, &stored, &mut "spec.message.body".to_owned(), &mut paths);
    }
    paths
}

/// Parses JSON whose depth the caller has checked. The parser's own limit is one level lower than
/// [`MAX_DEPTH`].
pub(crate) fn value(json: &str) -> Option<Value> {
    let mut json = serde_json::Deserializer::from_str(json);
    json.disable_recursion_limit();
    Value::deserialize(&mut json).ok()
}

/// Adds the paths of nulls in `written` that `stored` lacks. `path` is the path of both values, and
/// is unchanged afterwards.
fn compare(written: &Value, stored: &Value, path: &mut String, paths: &mut Vec<String>) {
    let above = path.len();
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => {
            for (key, value) in written {
                path.extend([".", key]);
                match stored.get(key) {
                    None if value.is_null() => paths.push(shortened(path)),
                    None => {}
                    Some(stored) => compare(value, stored, path, paths),
                }
                path.truncate(above);
            }
        }
        (Value::Array(written), Value::Array(stored)) => {
            for (index, (written, stored)) in written.iter().zip(stored).enumerate() {
                path.extend(["[", &index.to_string(), "]"]);
                compare(written, stored, path, paths);
                path.truncate(above);
            }
        }
        _ => {}
    }
}

/// Bounds memory: a key may be as long as the whole body, and stand above thousands of nulls.
fn shortened(path: &str) -> String {
    path[..path.floor_char_boundary(MAX_DETAIL)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn counts_nesting_depth() {
        for (json, expected) in [
            ("1", 0),
            ("{}", 1),
            ("[[],[[]]]", 3),
            (r#"{"a":{"b":[]},"c":{}}"#, 3),
            (r#"{"brackets in a string":"[[[[\"[[["}"#, 1),
            (r#"{"a backslash at the end":"\\","b":[]}"#, 2),
        ] {
            assert_eq!(depth(json), expected, "{json}");
        }
        let thousands = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(depth(&thousands), 100_000);
    }

    #[test]
    fn names_dropped_headers() {
        let applied = r#"{"spec":{"message":{"headers":{"a":null,"b":"null"},"body":{}}}}"#;
        assert_eq!(dropped_nulls(applied, "{}"), ["spec.message.headers.a"]);
    }

    #[test]
    fn finds_a_dropped_null_at_the_maximum_depth() {
        let nested = |inside: &str| r#"{"a":"#.repeat(MAX_DEPTH - 1) + inside + &"}".repeat(MAX_DEPTH - 1);
        let written = nested(r#"{"b":null}"#);
        assert_eq!(depth(&written), MAX_DEPTH);
        let applied = format!(r#"{{"spec":{{"message":{{"body":{written}}}}}}}"#);
        assert_eq!(dropped_nulls(&applied, &nested("{}")).len(), 1);
    }

    #[test]
    fn ignores_an_annotation_that_is_no_manifest() {
        for applied in ["", "null", "[]", "{}", r#"{"spec":null}"#, r#"{"spec":{"message":3}}"#] {
            assert_eq!(dropped_nulls(applied, "{}"), Vec::<String>::new(), "{applied}");
        }
    }

    #[test]
    fn a_long_key_above_thousands_of_nulls_costs_little_memory() {
        let key = "k".repeat(100_000);
        let nulls: Map<_, _> = (0..10_000).map(|number| (number.to_string(), Value::Null)).collect();
        let applied = json!({"spec": {"message": {"body": {&key: nulls}}}}).to_string();
        let paths = dropped_nulls(&applied, &json!({&key: {}}).to_string());
        assert_eq!(paths.len(), 10_000);
        assert!(paths.iter().map(String::len).sum::<usize>() < 10_000_000);
    }

    #[test]
    fn a_path_is_cut_between_characters_only() {
        for key in ["é".repeat(1_000), format!("a{}", "é".repeat(1_000))] {
            let applied = json!({"spec": {"message": {"body": {&key: null}, "headers": {&key: null}}}}).to_string();
            assert_eq!(dropped_nulls(&applied, "{}").len(), 2);
        }
    }
}
