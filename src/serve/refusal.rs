//! What is answered to a request that is not done, in the shape that clients of OpenAI's interface know.

use hyper::StatusCode;
use serde_json::{Value, json};

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// One sentence.
    pub message: String,
    /// The field of the request that is at fault.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), param: None, code: Some(code) }
    }

    /// A field that cannot be used.
    pub fn field(name: &str, reason: impl std::fmt::Display) -> Refusal {
        let (status, message) = (StatusCode::BAD_REQUEST, format!("{name} {reason}"));
        Refusal { status, message, param: Some(name.to_owned()), code: None }
    }

    /// The body of the response.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}
