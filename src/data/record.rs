//! Records: what one JSON line tells a model, in any of the shapes in which such data come.
//!
//! The shapes are those that TRL documents, and those of Alpaca, ShareGPT and GSM8K; a line's keys tell which it has.
//! Every stage of training reads lines by [`read`] and takes of the records those that it can use; pretraining takes
//! the text that `render` makes of them.

use super::jsonl::{self, Object, Value};
use crate::input::quoted;
use std::fmt;

/// Every key that a shape has.
const KEYS: [&str; 16] = [
    "text",
    "conversations",
    "chosen",
    "rejected",
    "margin",
    "messages",
    "prompt",
    "completion",
    "label",
    "instruction",
    "input",
    "output",
    "question",
    "answer",
    "solution",
    "ground_truth",
];

/// Keys of what an answer to a `prompt` is compared with; where a line has several, it has the first.
const REFERENCES: [&str; 3] = ["ground_truth", "answer", "solution"];

/// Which keys a line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `text`
    Text,
    /// `conversations`, `chosen`, `rejected`: ShareGPT with preferences
    ConversationPreference,
    /// `conversations`: ShareGPT
    Conversation,
    /// `chosen`, `rejected`, and `prompt` unless both begin with it; perhaps `margin`
    Preference,
    /// `messages`
    Messages,
    /// `prompt`, `completion`, `label`
    Labelled,
    /// `prompt`, `completion`
    Completion,
    /// `instruction`, `output`, perhaps `input`: Alpaca
    Instruction,
    /// `question`, `answer`: GSM8K
    Question,
    /// `prompt`, perhaps `ground_truth`, `answer` or `solution`
    Prompt,
}

/// The shapes with the keys that tell them; where a line has those of several, it has the first.
const SHAPES: [(Shape, &[&str]); 10] = [
    (Shape::Text, &["text"]),
    (Shape::ConversationPreference, &["conversations", "chosen", "rejected"]),
    (Shape::Conversation, &["conversations"]),
    (Shape::Preference, &["chosen", "rejected"]),
    (Shape::Messages, &["messages"]),
    (Shape::Labelled, &["prompt", "completion", "label"]),
    (Shape::Completion, &["prompt", "completion"]),
    (Shape::Instruction, &["instruction", "output"]),
    (Shape::Question, &["question", "answer"]),
    (Shape::Prompt, &["prompt"]),
];

impl fmt::Display for Shape {
    /// The keys that tell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = SHAPES.iter().find(|(shape, _)| shape == self).map(|(_, keys)| keys.join("+"));
        f.write_str(&keys.unwrap_or_default())
    }
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who sets the rules: `system`.
    System,
    /// Who asks: `user`, `human`.
    User,
    /// Who answers, the model: `assistant`, `gpt`.
    Assistant,
    /// What a program answers: `tool`.
    Tool,
}

impl Role {
    fn of(name: &str) -> Option<Role> {
        match name {
            "system" => Some(Role::System),
            "user" | "human" => Some(Role::User),
            "assistant" | "gpt" => Some(Role::Assistant),
            "tool" => Some(Role::Tool),
            _ => None,
        }
    }

    /// Its name in ChatML.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A part of a record: plain text or messages. Two parts of one record are of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text as it stands.
    Text(String),
    /// Messages, at least one.
    Turns(Vec<Turn>),
}

/// What one line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A text.
    Text(String),
    /// A conversation of at least one message.
    Messages(Vec<Turn>),
    /// What is asked, and how it goes on.
    Completion {
        /// What comes first.
        prompt: Content,
        /// What goes on from there.
        completion: Content,
    },
    /// The same, and whether it is wanted.
    Labelled {
        /// What comes first.
        prompt: Content,
        /// What goes on from there.
        completion: Content,
        /// Whether that is wanted.
        label: bool,
    },
    /// Two ways to go on, of which the first is preferred.
    Preference {
        /// What comes first; none where both begin with it.
        prompt: Option<Content>,
        /// The better one.
        chosen: Content,
        /// The worse one.
        rejected: Content,
        /// By how much the better one should be ahead, where that is said.
        margin: Option<f64>,
    },
    /// A task, what it is about, and its solution.
    Instruction {
        /// The task.
        instruction: String,
        /// What it is about; may be empty.
        input: String,
        /// The solution.
        output: String,
    },
    /// A question with its answer.
    Question {
        /// The question.
        question: String,
        /// The answer.
        answer: String,
    },
    /// What is asked, without any answer that could be learnt from.
    Prompt {
        /// What is asked.
        prompt: Content,
        /// What an answer is compared with, where that is said.
        reference: Option<String>,
    },
}

/// The record in `line` and the shape in which it came; what is wrong with the line otherwise, in words that follow its
/// number.
///
/// # Errors
/// If the line is no JSON object, has none of the shapes, or has a key twice, a value of another type than the shape's,
/// a list without messages or a role that is unknown.
pub fn read(line: &[u8]) -> Result<(Shape, Record), String> {
    let object = jsonl::object(line, &KEYS)?;
    let shape = shape(&object)?;
    let value = |key: &str| object.get(key).ok_or_else(|| format!("has no {key:?}")); // of keys that tell the shape
    let string = |key: &str| value(key)?.string();
    let part = |key: &str| content(value(key)?);
    let margin = || object.get("margin").filter(|value| !value.is_null()).map(Value::number).transpose();
    let record = match shape {
        Shape::Text => Record::Text(string("text")?),
        Shape::Messages => Record::Messages(turns(value("messages")?)?),
        Shape::Conversation => Record::Messages(turns(value("conversations")?)?),
        Shape::Completion | Shape::Labelled => {
            let (prompt, completion) = (part("prompt")?, part("completion")?);
            alike(("prompt", &prompt), ("completion", &completion))?;
            match shape {
                Shape::Labelled => Record::Labelled { prompt, completion, label: value("label")?.truth()? },
                _ => Record::Completion { prompt, completion },
            }
        }
        Shape::Preference => {
            let prompt = object.get("prompt").filter(|value| !value.is_null()).map(content).transpose()?;
            preference(prompt, part("chosen")?, part("rejected")?, margin()?)?
        }
        Shape::ConversationPreference => {
            let (prompt, chosen) = (Content::Turns(turns(value("conversations")?)?), part("chosen")?);
            alike(("conversations", &prompt), ("chosen", &chosen))?;
            preference(Some(prompt), chosen, part("rejected")?, margin()?)?
        }
        Shape::Instruction => {
            let input = object.get("input").filter(|value| !value.is_null());
            let input = input.map_or(Ok(String::new()), Value::string)?;
            Record::Instruction { instruction: string("instruction")?, input, output: string("output")? }
        }
        Shape::Question => Record::Question { question: string("question")?, answer: string("answer")? },
        Shape::Prompt => {
            let reference = REFERENCES.iter().filter_map(|key| object.get(key)).find(|value| !value.is_null());
            Record::Prompt { prompt: part("prompt")?, reference: reference.map(Value::plain).transpose()? }
        }
    };
    Ok((shape, record))
}

fn shape(object: &Object) -> Result<Shape, String> {
    let found = SHAPES.iter().find(|(_, keys)| object.has(keys)).map(|(shape, _)| *shape);
    // Half a pair is no prompt, and no conversation either: which of both was meant is unknown.
    let lacks = |(one, other): &(&str, &str)| object.has(&[one]) && !object.has(&[other]);
    let half = [("chosen", "rejected"), ("rejected", "chosen")].into_iter().find(lacks);
    let half = half.filter(|_| found != Some(Shape::Text));
    match (found, half) {
        (_, Some((one, other))) => Err(format!("has {one:?} without {other:?}; its keys are {}", object.keys())),
        (Some(shape), None) => Ok(shape),
        (None, None) => Err(format!(
            "has none of the known shapes; its keys are {}; set data.text_field to that of the text",
            object.keys()
        )),
    }
}

/// Text, messages, or the one message that an object is.
fn content(value: Value) -> Result<Content, String> {
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

fn turns(value: Value) -> Result<Vec<Turn>, String> {
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

/// A message, by the keys of OpenAI or of ShareGPT.
fn turn(value: Value) -> Result<Turn, String> {
    let object = value.object(&["role", "content", "from", "value", "tool_calls"])?;
    let calls = object.get("tool_calls").filter(|calls| !calls.is_null());
    if let Some(calls) = calls
        && !calls.list().is_ok_and(|list| list.is_empty())
    {
        return Err("calls tools (\"tool_calls\"), which no text is made of; write them into its content".to_owned());
    }
    let one_of = |a: &str, b: &str| match (object.get(a), object.get(b)) {
        (Some(value), None) | (None, Some(value)) => value.string(),
        (None, None) => Err(format!("has neither {a:?} nor {b:?}; its keys are {}", object.keys())),
        (Some(_), Some(_)) => Err(format!("has both {a:?} and {b:?}")),
    };
    let (name, content) = (one_of("role", "from")?, one_of("content", "value")?);
    let role = Role::of(&name).ok_or_else(|| {
        let known = "known are system, user (human), assistant (gpt) and tool";
        format!("has the unknown role {}; {known}", quoted(&name))
    })?;
    Ok(Turn { role, content })
}

/// That two parts are of one kind.
fn alike(a: (&str, &Content), b: (&str, &Content)) -> Result<(), String> {
    match (a.1, b.1) {
        (Content::Text(_), Content::Turns(_)) => Err(format!("has text under {:?}, but messages under {:?}", a.0, b.0)),
        (Content::Turns(_), Content::Text(_)) => Err(format!("has messages under {:?}, but text under {:?}", a.0, b.0)),
        _ => Ok(()),
    }
}

/// A preference. A prompt of plain text beside messages is one that these repeat: published sets have it so.
fn preference(
    mut prompt: Option<Content>,
    chosen: Content,
    rejected: Content,
    margin: Option<f64>,
) -> Result<Record, String> {
    alike(("chosen", &chosen), ("rejected", &rejected))?;
    if let (Some(Content::Text(text)), Content::Turns(chosen), Content::Turns(rejected)) = (&prompt, &chosen, &rejected)
        && [chosen, rejected].into_iter().all(|turns| asked(turns) == Some(text))
    {
        prompt = None;
    }
    if let Some(prompt) = &prompt {
        alike(("prompt", prompt), ("chosen", &chosen))?;
    }
    Ok(Record::Preference { prompt, chosen, rejected, margin })
}

/// What the first message asks that sets no rules.
fn asked(turns: &[Turn]) -> Option<&String> {
    let first = turns.iter().find(|turn| turn.role != Role::System)?;
    (first.role == Role::User).then_some(&first.content)
}
