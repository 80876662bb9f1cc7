//! The fields of a request's JSON, taken one by one; what is left in the end is unknown.

use super::refusal::Refusal;
use crate::input::{json_object, quoted};
use hyper::StatusCode;
use serde_json::{Map, Value};

/// Fields that change nothing here.
const WITHOUT_EFFECT: [&str; 8] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// The fields that are not taken yet.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields in a body.
    pub fn read(body: &[u8]) -> Result<Fields, Refusal> {
        let refuse = |reason| {
            let message = format!("the body {reason}");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        };
        // As in files: some systems write a byte-order mark before any text.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        json_object(body).map(Fields).map_err(refuse)
    }

    /// A field's value, unless it is null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    /// A number.
    pub fn number(&mut self, name: &str, default: f64) -> Result<f64, Refusal> {
        let number = |value: Value| value.as_f64().ok_or_else(|| Refusal::field(name, "must be a number"));
        self.take(name).map_or(Ok(default), number)
    }

    /// A whole number, at least `least`.
    pub fn count(&mut self, name: &str, least: usize) -> Result<Option<usize>, Refusal> {
        let fits = |value: &Value| value.as_u64().filter(|&n| n >= least as u64).and_then(|n| usize::try_from(n).ok());
        let count = |value: Value| {
            fits(&value).ok_or_else(|| Refusal::field(name, format_args!("must be a whole number from {least} on")))
        };
        self.take(name).map(count).transpose()
    }

    /// True or false; false where it is absent.
    pub fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        let flag = |value: Value| value.as_bool().ok_or_else(|| Refusal::field(name, "must be true or false"));
        self.take(name).map_or(Ok(false), flag)
    }

    /// Refuses a field of OpenAI's that is not supported, unless it has one of the values that ask for nothing.
    pub fn unsupported(&mut self, name: &str, neutral: &[Value]) -> Result<(), Refusal> {
        self.only(name, neutral, "is not supported by this server; leave it out")
    }

    /// Refuses a field for this reason, unless it has one of the values that change nothing.
    pub fn only(&mut self, name: &str, neutral: &[Value], reason: &str) -> Result<(), Refusal> {
        match self.take(name) {
            Some(value) if !neutral.contains(&value) => {
                Err(Refusal { code: Some("unsupported_parameter"), ..Refusal::field(name, reason) })
            }
            _ => Ok(()),
        }
    }

    /// Refuses what nobody took. Null asks for nothing, whatever the field.
    pub fn end(mut self) -> Result<(), Refusal> {
        WITHOUT_EFFECT.iter().for_each(|name| drop(self.take(name)));
        match self.0.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(Refusal {
                code: Some("unknown_parameter"),
                param: Some(name.chars().take(40).collect()),
                ..Refusal::field(&quoted(name), "is no field that this server knows; leave it out")
            }),
            None => Ok(()),
        }
    }
}

/// Whether a value asks for nothing: null, or an empty text, list or object.
pub fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
