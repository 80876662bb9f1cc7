//! Records: what one JSON line tells a model, in any of the shapes in which such data come.
//!
//! The shapes are those that TRL documents, and those of Alpaca, ShareGPT and GSM8K; a line's keys tell which it has,
//! and where it has those of several, what the stage can use. Every stage of training reads lines by [`read_for`];
//! pretraining takes the text that `render` makes of the records. What else a line has that decides its meaning is read
//! with it, or the line refused (`columns`).

use super::columns;
use super::jsonl::{self, Object, Value};
use super::message::{content, turns};
use std::fmt;

/// Every key that is looked at.
const KEYS: [&str; 37] = [
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
    "system",
    "system_prompt",
    "system_message",
    "conversation",
    "query",
    "problem",
    "user",
    "history",
    "context",
    "weight",
    "kto_tag",
    "tools",
    "functions",
    "documents",
    "chat_template_kwargs",
    "image",
    "images",
    "audio",
    "audios",
    "video",
    "videos",
];

/// Keys of what an answer to a `prompt` is compared with; where a line has several, it has the first.
const REFERENCES: [&str; 3] = ["ground_truth", "answer", "solution"];

/// What a stage makes of lines, which decides what is taken of those that have the keys of several shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Texts to be pretrained on.
    Text,
    /// Conversations to be fine-tuned on.
    Chat,
    /// Pairs of answers.
    Pair,
    /// Questions with what is right.
    Question,
}

impl Purpose {
    /// Whether it can use lines of this shape.
    fn takes(self, shape: Shape) -> bool {
        let pair = matches!(shape, Shape::Preference | Shape::ConversationPreference);
        match self {
            Purpose::Text => true,
            Purpose::Chat => !matches!(shape, Shape::Text | Shape::Prompt),
            Purpose::Pair => pair,
            Purpose::Question => shape != Shape::Text && !pair,
        }
    }
}

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

/// The shapes with the keys that tell them; where a line has those of several, it has the first that is of use.
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
    /// Who sets the rules: `system`, `developer`.
    System,
    /// Who asks: `user`, `human`.
    User,
    /// Who answers, the model: `assistant`, `gpt`.
    Assistant,
    /// What a program answers: `tool`.
    Tool,
}

impl Role {
    /// The role of this name.
    pub fn of(name: &str) -> Option<Role> {
        match name {
            "system" | "developer" => Some(Role::System),
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
    /// Who says it by name, which some templates write.
    pub name: Option<String>,
    /// Whether fine-tuning learns it, if the assistant says it: not where its line says so.
    pub learnt: bool,
}

impl Turn {
    /// A message that is learnt if the assistant says it.
    pub fn new(role: Role, content: impl Into<String>) -> Turn {
        Turn { role, content: content.into(), name: None, learnt: true }
    }
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

/// The record in `line` and the shape in which it came, for pretraining; see [`read_for`].
///
/// # Errors
/// As [`read_for`].
pub fn read(line: &[u8]) -> Result<(Shape, Record), String> {
    read_for(line, Purpose::Text)
}

/// The record in `line` that is of use for `purpose`, and the shape in which it came; what is wrong with the line
/// otherwise, in words that follow its number.
///
/// # Errors
/// If the line is no JSON object, has none of the shapes, or has a key twice, a value of another type than the shape's,
/// a list without messages, a role that is unknown, or something that decides its meaning and cannot be used.
pub fn read_for(line: &[u8], purpose: Purpose) -> Result<(Shape, Record), String> {
    let line = jsonl::tolerated(line);
    let object = jsonl::object(&line, &KEYS)?;
    let shape = shape(&object, purpose)?;
    if shape == Shape::Text {
        return Ok((shape, Record::Text(value(&object, "text")?.string()?)));
    }
    columns::check(&object, shape)?;
    let record = columns::led(record(&object, shape)?, &object)?;
    let unwanted = object.get("kto_tag").filter(|tag| !tag.is_null()).map(Value::truth).transpose()? == Some(false);
    let record = if unwanted { columns::unwanted(record)? } else { record };
    let known = matches!(shape, Shape::Question | Shape::Prompt) || purpose != Purpose::Question;
    Ok((shape, if known { record } else { columns::compared(record, reference(&object)?) }))
}

/// The value under a key of those that tell a shape.
fn value<'a>(object: &Object<'a>, key: &str) -> Result<Value<'a>, String> {
    object.get(key).ok_or_else(|| format!("has no {key:?}"))
}

fn record(object: &Object, shape: Shape) -> Result<Record, String> {
    let string = |key: &str| value(object, key)?.string();
    let part = |key: &str| content(value(object, key)?);
    let margin = || object.get("margin").filter(|value| !value.is_null()).map(Value::number).transpose();
    Ok(match shape {
        Shape::Text => Record::Text(string("text")?),
        Shape::Messages => Record::Messages(turns(value(object, "messages")?)?),
        Shape::Conversation => Record::Messages(turns(value(object, "conversations")?)?),
        Shape::Completion | Shape::Labelled => {
            let (prompt, completion) = (part("prompt")?, part("completion")?);
            alike(("prompt", &prompt), ("completion", &completion))?;
            match shape {
                Shape::Labelled => Record::Labelled { prompt, completion, label: value(object, "label")?.truth()? },
                _ => Record::Completion { prompt, completion },
            }
        }
        Shape::Preference => {
            let (chosen, rejected) = (part("chosen")?, part("rejected")?);
            let (prompt, chosen, rejected) = columns::asked(object, chosen, rejected)?;
            preference(prompt, chosen, rejected, margin()?)?
        }
        Shape::ConversationPreference => {
            let (prompt, chosen) = (Content::Turns(turns(value(object, "conversations")?)?), part("chosen")?);
            alike(("conversations", &prompt), ("chosen", &chosen))?;
            preference(Some(prompt), chosen, part("rejected")?, margin()?)?
        }
        Shape::Instruction => {
            let input = columns::text(object, "input")?.unwrap_or_default();
            Record::Instruction { instruction: string("instruction")?, input, output: string("output")? }
        }
        Shape::Question => Record::Question { question: string("question")?, answer: string("answer")? },
        Shape::Prompt => Record::Prompt { prompt: part("prompt")?, reference: reference(object)? },
    })
}

/// What an answer is compared with, where that is said.
fn reference(object: &Object) -> Result<Option<String>, String> {
    let found = REFERENCES.iter().filter_map(|key| object.get(key)).find(|value| !value.is_null());
    found.map(Value::plain).transpose()
}

fn shape(object: &Object, purpose: Purpose) -> Result<Shape, String> {
    // Tables of several shapes fill the columns that a line has not with null.
    let given = |keys: &[&str]| keys.iter().all(|key| object.get(key).is_some_and(|value| !value.is_null()));
    let text = |shape| purpose == Purpose::Text && shape == Shape::Text;
    let full = || SHAPES.iter().filter(|(shape, keys)| given(keys) || text(*shape) && object.has(keys));
    let named = || SHAPES.iter().filter(|(_, keys)| object.has(keys));
    // Two answers are none that is right, unless something says what is.
    let open = |shape| shape == Shape::Prompt && given(&["chosen"]) && !REFERENCES.iter().any(|key| given(&[key]));
    let usable = |shape| purpose.takes(shape) && !(purpose == Purpose::Question && open(shape));
    let found = full().find(|(shape, _)| usable(*shape)).or_else(|| full().next()).or_else(|| named().next());
    let found = found.map(|(shape, _)| *shape);
    // Half a pair is no prompt, and no conversation either: which of both was meant is unknown.
    let lacks = |(one, other): &(&str, &str)| given(&[one]) && !given(&[other]);
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

/// That two parts are of one kind.
pub(super) fn alike(a: (&str, &Content), b: (&str, &Content)) -> Result<(), String> {
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
        && [chosen, rejected].into_iter().all(|turns| first_asked(turns) == Some(text))
    {
        prompt = None;
    }
    if let Some(prompt) = &prompt {
        alike(("prompt", prompt), ("chosen", &chosen))?;
    }
    Ok(Record::Preference { prompt, chosen, rejected, margin })
}

/// What the first message asks that sets no rules.
fn first_asked(turns: &[Turn]) -> Option<&String> {
    let first = turns.iter().find(|turn| turn.role != Role::System)?;
    (first.role == Role::User).then_some(&first.content)
}
