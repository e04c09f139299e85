//! Distinguishes integers from other numbers as Python does.
//!
//! In Python, digits alone are an integer of any size, and a number with a fraction or an exponent is
//! not an integer. `serde_json` makes a float of an integer beyond 64 bits and of -0. jsonschema takes
//! a float of that size for an integer.

use std::borrow::Cow;

/// 2^63: jsonschema takes floats of this size and larger for integers.
const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
/// The largest float below [`TOO_LARGE`].
const LARGEST: f64 = 9_223_372_036_854_774_784.0;

/// Returns JSON in which `serde_json` and jsonschema see the same types of numbers as Python.
///
/// An integer beyond 64 bits becomes the largest or smallest one of 64 bits. A float of at least
/// 2^63 becomes the largest float below it.
pub(crate) fn clamp_numbers(json: &str) -> Cow<'_, str> {
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
                if let Some(number) = clamp(&json[at..at + length]) {
                    changed += &json[copied..at];
                    changed += &number;
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

/// Returns the replacement of a number whose type would be mistaken.
fn clamp(number: &str) -> Option<String> {
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
    use super::clamp_numbers;

    #[test]
    fn keeps_the_types_of_numbers() {
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
            assert_eq!(clamp_numbers(json), expected);
        }
    }
}
