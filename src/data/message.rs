//! Messages of JSON lines: by the keys of OpenAI or of ShareGPT, with what they say and whether it is learnt.

use super::jsonl::{Object, Value};
use super::record::{Content, Role, Turn};
use crate::input::quoted;

/// Every key of a message that is looked at.
const KEYS: [&str; 23] = [
    "role",
    "name",
    "content",
    "from",
    "value",
    "weight",
    "train",
    "training",
    "loss",
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "train_detail",
    "training_detail",
    "image",
    "images",
    "audio",
    "audios",
    "video",
    "videos",
];

/// Keys that say whether a message is learnt: of OpenAI's and Mistral's files, of axolotl's, of ms-swift's.
const LEARNT: [&str; 4] = ["weight", "train", "training", "loss"];

/// Keys whose value decides what a message says, of which no text is made.
const UNREAD: [&str; 14] = [
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "train_detail",
    "training_detail",
    "image",
    "images",
    "audio",
    "audios",
    "video",
    "videos",
];

/// Text, messages, or the one message that an object is.
pub fn content(value: Value) -> Result<Content, String> {
    if value.is_string() {
        value.string().map(Content::Text)
    } else if value.is_list() {
        turns(value).map(Content::Turns)
    } else if value.is_object() {
        turn(value).map(|turn| Content::Turns(vec![turn])).map_err(|e| within(value, 1, &e))
    } else {
        Err(value.is_no("a string or a list of messages"))
    }
}

/// The messages of a list.
pub fn turns(value: Value) -> Result<Vec<Turn>, String> {
    if !value.is_list() {
        return Err(value.is_no("a list of messages"));
    }
    let list = value.list()?;
    if list.is_empty() {
        return Err(format!("has no message in the list under {:?}", value.key()));
    }
    list.into_iter().enumerate().map(|(i, one)| turn(one).map_err(|e| within(value, i + 1, &e))).collect()
}

/// What is wrong with the message of this number.
fn within(value: Value, number: usize, reason: &str) -> String {
    format!("has under {:?} a message {number} that {reason}", value.key())
}

fn turn(value: Value) -> Result<Turn, String> {
    let object = value.object(&KEYS)?;
    let filled = |key: &&&str| object.get(key).is_some_and(|value| !value.is_empty());
    match UNREAD.iter().find(filled) {
        Some(key @ (&"tool_calls" | &"function_call")) => {
            return Err(format!("calls tools ({key:?}), which no text is made of; write them into its content"));
        }
        Some(key) => {
            return Err(format!("has {key:?}, which no text is made of; write it into its content, or take it out"));
        }
        None => {}
    }
    let one_of = |a: &str, b: &str| match (object.get(a), object.get(b)) {
        (Some(value), None) | (None, Some(value)) => Ok(value),
        (None, None) => Err(format!("has neither {a:?} nor {b:?}; its keys are {}", object.keys())),
        (Some(_), Some(_)) => Err(format!("has both {a:?} and {b:?}")),
    };
    let (role, content) = (one_of("role", "from")?.string()?, said(one_of("content", "value")?)?);
    let role = Role::of(&role).ok_or_else(|| {
        let known = "known are system (developer), user (human), assistant (gpt) and tool";
        format!("has the unknown role {}; {known}", quoted(&role))
    })?;
    // What is no text names nobody.
    let name = object.get("name").filter(|name| name.is_string()).map(Value::string).transpose()?;
    let name = name.filter(|name| !name.is_empty());
    Ok(Turn { name, learnt: learnt(&object, role)?, ..Turn::new(role, content) })
}

/// What a message says: a string, or parts of text, which are joined with nothing between.
fn said(value: Value) -> Result<String, String> {
    if !value.is_list() {
        return value.string();
    }
    let part = |(i, part): (usize, Value)| {
        let wrong = || format!("has under {:?} a part {} that is no text", value.key(), i + 1);
        let object = part.object(&["type", "text"]).map_err(|_| wrong())?;
        let kind = object.get("type").map(Value::string).transpose()?;
        match object.get("text").filter(|_| kind.as_deref() == Some("text")) {
            Some(text) => text.string(),
            None => Err(wrong()),
        }
    };
    value.list()?.into_iter().enumerate().map(part).collect()
}

/// Whether a message is learnt, if the assistant says it.
fn learnt(object: &Object, role: Role) -> Result<bool, String> {
    let mut found: Option<(&str, bool)> = None;
    for key in LEARNT {
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else { continue };
        let flag = value.flag()?;
        if let Some((other, _)) = found.filter(|(_, before)| *before != flag) {
            return Err(format!("has both {other:?} and {key:?}, of which one says that it is learnt"));
        }
        if flag && role != Role::Assistant {
            let role = role.name();
            return Err(format!("is to be learnt by its {key:?}, but is of {role}: what the assistant says alone is"));
        }
        found = Some((key, flag));
    }
    Ok(found.is_none_or(|(_, flag)| flag || role != Role::Assistant))
}
