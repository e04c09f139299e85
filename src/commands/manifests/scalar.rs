//! The values of YAML scalars without quotes: those of YAML 1.1, as kubectl's library reads them.

use serde_json::{Number, Value};

/// The value of a scalar without quotes.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that no 64-bit integer holds. It may be infinite, or no number.
    Float(f64),
    Text,
}

impl Scalar {
    pub(super) fn read(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => Self::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => Self::Bool(false),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Self::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => Self::Float(f64::NAN),
            text => number(text).unwrap_or(Self::Text),
        }
    }
}

fn number(text: &str) -> Option<Scalar> {
    match text.as_bytes() {
        [b'.', ..] => float(text),
        [b'+' | b'-' | b'0'..=b'9', ..] => {
            let text = text.replace('_', "");
            integer(&text).or_else(|| float(&text))
        }
        _ => None,
    }
}

fn integer(text: &str) -> Option<Scalar> {
    let (sign, rest) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let (radix, digits) = match rest.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &rest[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &rest[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, rest),
    };
    // After `0b`, another sign may follow.
    if digits.starts_with(['+', '-']) && !text.starts_with("0b") {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if sign == "-" { -value } else { value };
    match i64::try_from(value) {
        Ok(value) => Some(Scalar::Integer(value)),
        Err(_) if sign.is_empty() => u64::try_from(value).ok()?.to_string().parse().ok().map(Scalar::Float),
        Err(_) => None,
    }
}

fn float(text: &str) -> Option<Scalar> {
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value = is_decimal.then(|| text.parse::<f64>().ok()).flatten()?;
    value.is_finite().then_some(Scalar::Float(value))
}

/// Returns a number as the API server stores it: without a fraction as an integer, if 64 bits hold its
/// digits. Returns `None` if JSON can't hold it.
pub(super) fn stored(number: f64) -> Option<Value> {
    // Without a fraction, these are the shortest digits and zeros after them.
    let digits = number.to_string();
    let integer = digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from));
    integer.ok().or_else(|| Number::from_f64(number)).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubectl's values of these scalars. `e2e/tests/real/files.rs` compares more of them with the real one.
    #[test]
    fn scalars_have_the_values_of_yaml_1_1() {
        for (text, value) in [
            ("", Scalar::Null),
            ("Null", Scalar::Null),
            ("nUll", Scalar::Text),
            ("y", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("oFF", Scalar::Text),
            ("0644", Scalar::Integer(420)),
            ("-0o17", Scalar::Integer(-15)),
            ("089", Scalar::Float(89.0)),
            ("0x_1F", Scalar::Integer(31)),
            ("0b101", Scalar::Integer(5)),
            ("0b-1", Scalar::Integer(-1)),
            ("-0b-1", Scalar::Text),
            ("0x-1", Scalar::Text),
            ("0x", Scalar::Text),
            ("1__000_", Scalar::Integer(1000)),
            ("_1", Scalar::Text),
            ("1:30", Scalar::Text),
            ("2001-01-01", Scalar::Text),
            ("1.", Scalar::Float(1.0)),
            (".5e1", Scalar::Float(5.0)),
            ("._5", Scalar::Text),
            ("1e3", Scalar::Float(1000.0)),
            ("1e400", Scalar::Text),
            ("inf", Scalar::Text),
            ("+.INF", Scalar::Float(f64::INFINITY)),
            ("9223372036854775808", Scalar::Float(9_223_372_036_854_775_808.0)),
            ("+0xFFFFFFFFFFFFFFFF", Scalar::Text),
            ("é", Scalar::Text),
            ("+é", Scalar::Text),
            ("-", Scalar::Text),
        ] {
            assert_eq!(Scalar::read(text), value, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_those_that_are_stored() {
        for (number, json) in [
            (1.0, "1"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (1_152_921_504_606_846_976.0, "1152921504606847000"),
            (9_223_372_036_854_775_808.0, "9223372036854776000"),
            (-9_223_372_036_854_775_809.0, "-9.223372036854776e+18"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(stored(number).unwrap().to_string(), json);
        }
        assert_eq!((stored(f64::NAN), stored(f64::INFINITY)), (None, None));
    }
}
