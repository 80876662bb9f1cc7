//! The conversation of a request: `messages`, up to where the assistant is to answer or to go on.

use super::Served;
use super::ask::fits;
use super::fields::{Fields, asks_nothing};
use super::refusal::Refusal;
use crate::data::record::{Role, Turn};
use crate::input::quoted;
use hyper::StatusCode;
use serde_json::{Value, json};

/// The tokens of `messages`: up to where the assistant answers; where the last message is its own, that is continued.
/// And the text that the model generates before what it says.
pub(super) fn chat(fields: &mut Fields, served: &Served) -> Result<(Vec<u32>, String), Refusal> {
    let encoder = served.encoder.as_ref().map_err(|reason| {
        let message = format!("the model cannot chat: {reason}");
        Refusal::new(StatusCode::BAD_REQUEST, "model_cannot_chat", message)
    })?;
    let Some(messages) = fields.take("messages") else { return Err(Refusal::field("messages", "is missing")) };
    let turns = match messages {
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().map(|(i, message)| turn(i, message)).collect::<Result<Vec<_>, _>>()?
        }
        _ => return Err(Refusal::field("messages", "must be a list with at least one message")),
    };
    // vLLM's two words for it, which may say here what is done anyway.
    let goes_on = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    for (name, done) in [("continue_final_message", goes_on), ("add_generation_prompt", !goes_on)] {
        let reason = "does not suit the last message: one of the assistant is continued, any other is answered";
        fields.only(name, &[json!(done)], reason)?;
    }
    let refuse = |reason| Refusal::field("messages", format_args!("cannot be written: the chat template {reason}"));
    let prompt = encoder.prompt(&turns).map_err(refuse)?;
    fits("messages", &prompt, served)?;
    let lead = if goes_on { "" } else { encoder.lead() };
    Ok((prompt, lead.to_owned()))
}

/// A message; its content is a text, or a list of parts of text. What else a server says in a message of the assistant
/// may come back as long as it says nothing: `"refusal": null`, `"tool_calls": []`.
fn turn(i: usize, message: &Value) -> Result<Turn, Refusal> {
    let refuse = |what: &str, reason: String| Refusal::field(&format!("messages[{i}]{what}"), reason);
    let Value::Object(message) = message else { return Err(refuse("", "must be an object".to_owned())) };
    let known = |key: &str| ["role", "content", "name"].contains(&key);
    if let Some((key, _)) = message.iter().find(|(key, value)| !known(key) && !asks_nothing(value)) {
        return Err(refuse("", format!("has {}, which is not supported", quoted(key))));
    }
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => return Err(refuse(".role", format!("is {}; use system, user or assistant", quoted(other)))),
        None => return Err(refuse(".role", "must be system, user or assistant".to_owned())),
    };
    let part = |part: &Value| {
        let text = part.get("text").and_then(Value::as_str);
        text.filter(|_| part.get("type").and_then(Value::as_str) == Some("text")).map(str::to_owned)
    };
    let content = match message.get("content") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(parts)) => parts.iter().map(part).collect(),
        _ => None,
    };
    let content = content.ok_or_else(|| refuse(".content", "must be a string, or a list of parts of text".to_owned()));
    let name = match message.get("name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()).filter(|name| !name.is_empty()),
        Some(_) => return Err(refuse(".name", "must be a string".to_owned())),
    };
    Ok(Turn { name, ..Turn::new(role, content?) })
}
