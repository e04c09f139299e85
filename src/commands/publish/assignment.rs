//! Fields and headers on the command line: `KEY=VALUE`, or with the type of the value `KEY:int=VALUE`.

use serde_json::Value;
use serde_json::value::RawValue;

/// A key and its value, as JSON.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Box<RawValue>,
}

impl Assignment {
    /// Parses an assignment. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (left, value) = text.split_once('=').ok_or("must be KEY=VALUE: add =")?;
        let (key, kind) = left.rsplit_once(':').unwrap_or((left, "str"));
        if key.is_empty() {
            return Err("must be KEY=VALUE: add the key before =".to_owned());
        }
        let not_a = |what: &str| format!("the value after {left}= must be {what}");
        let json = match kind {
            "str" => Value::from(value).to_string(),
            "int" => integer(value).ok_or_else(|| not_a("a whole number"))?,
            "float" => value
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(|number| Value::from(number).to_string())
                .ok_or_else(|| not_a("a number"))?,
            "bool" if ["true", "false"].contains(&value) => value.to_owned(),
            "bool" => return Err(not_a("true or false")),
            "json" => value.to_owned(),
            _ => return Err(format!("the type after {key}: must be str, int, float, bool or json")),
        };
        let value = RawValue::from_string(json).map_err(|error| format!("{}: {error}", not_a("JSON")))?;
        Ok(Self { key: key.to_owned(), value })
    }
}

/// Returns a whole number of any size as JSON.
fn integer(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let digits = digits.trim_start_matches('0');
    is_number.then(|| if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_types() {
        for (text, key, json) in [
            ("a=b", "a", r#""b""#),
            ("a=", "a", r#""""#),
            ("a=b=c", "a", r#""b=c""#),
            ("a=3", "a", r#""3""#),
            ("a:int=3", "a", "3"),
            ("a:int=-007", "a", "-7"),
            ("a:int=-0", "a", "0"),
            ("a:int=123456789012345678901234567890", "a", "123456789012345678901234567890"),
            ("a:float=1.5", "a", "1.5"),
            ("a:bool=true", "a", "true"),
            (r#"a:json={"b": [1, null]}"#, "a", r#"{"b": [1, null]}"#),
            ("http://a:str=b", "http://a", r#""b""#),
            ("é=\"", "é", r#""\"""#),
        ] {
            let assignment = Assignment::parse(text).unwrap();
            assert_eq!((assignment.key.as_str(), assignment.value.get()), (key, json), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, problem) in [
            ("a", "must be KEY=VALUE: add ="),
            ("=b", "must be KEY=VALUE: add the key before ="),
            (":int=1", "must be KEY=VALUE: add the key before ="),
            ("a:int=b", "the value after a:int= must be a whole number"),
            ("a:int=", "the value after a:int= must be a whole number"),
            ("a:int=1.5", "the value after a:int= must be a whole number"),
            ("a:float=nan", "the value after a:float= must be a number"),
            ("a:bool=yes", "the value after a:bool= must be true or false"),
            ("a:date=1", "the type after a: must be str, int, float, bool or json"),
        ] {
            assert_eq!(Assignment::parse(text).unwrap_err(), problem, "{text}");
        }
        assert!(Assignment::parse("a:json={").unwrap_err().starts_with("the value after a:json= must be JSON: "));
    }
}
