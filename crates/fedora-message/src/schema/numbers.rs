//! Numbers as Python tells them apart: digits alone are an integer, of whatever size, and anything with a
//! fraction or an exponent is none. `serde_json` makes a float of an integer beyond 64 bits and of -0, and
//! jsonschema takes a float of that size for an integer.

use std::borrow::Cow;

/// From this size on, 2^63, jsonschema takes a float for an integer.
const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
/// The largest float below [`TOO_LARGE`].
const LARGEST: f64 = 9_223_372_036_854_774_784.0;

/// JSON in which every integer fits 64 bits, and no other number has the size of one that does not: what is
/// beyond becomes the greatest or least of its kind.
pub(crate) fn apart(json: &str) -> Cow<'_, str> {
    let mut changed = String::new();
    let mut copied = 0;
    let (mut in_string, mut escaped, mut at) = (false, false, 0);
    let bytes = json.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'-' | b'0'..=b'9' if !in_string => {
                let length = bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if let Some(fitting) = fitting(&json[at..at + length]) {
                    changed += &json[copied..at];
                    changed += &fitting;
                    copied = at + length;
                }
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    changed += &json[copied..];
    Cow::Owned(changed)
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// What stands for a number that would be taken for one of the other kind.
fn fitting(number: &str) -> Option<String> {
    if number.contains(['.', 'e', 'E']) {
        let value: f64 = number.parse().ok()?;
        return (value.is_finite() && value.abs() >= TOO_LARGE).then(|| format!("{:.1}", LARGEST.copysign(value)));
    }
    match number.strip_prefix('-') {
        Some("0") => Some("0".to_owned()),
        Some(_) => number.parse::<i64>().is_err().then(|| i64::MIN.to_string()),
        None => number.parse::<u64>().is_err().then(|| u64::MAX.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn integers_stay_integers_and_no_other_number_becomes_one() {
        for (json, expected) in [
            (r#"{"a":12,"b":-7,"c":"99999999999999999999"}"#, r#"{"a":12,"b":-7,"c":"99999999999999999999"}"#),
            (r#"{"a":99999999999999999999}"#, r#"{"a":18446744073709551615}"#),
            ("[-0,-9999999999999999999, 1]", "[0,-9223372036854775808, 1]"),
            (r#"{"\"1":1.0,"b":1e18,"c":[-0.0]}"#, r#"{"\"1":1.0,"b":1e18,"c":[-0.0]}"#),
            (
                "[1e20,-1E+300,9223372036854775808.5]",
                "[9223372036854774784.0,-9223372036854774784.0,9223372036854774784.0]",
            ),
            ("[1e400]", "[1e400]"),
        ] {
            assert_eq!(apart(json), expected);
        }
    }
}
