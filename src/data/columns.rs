//! What a JSON line has beside the keys of its shape and decides its meaning: used, or the line is refused.
//!
//! | key | what becomes of it |
//! |---|---|
//! | `system`, `system_prompt`, `system_message` | the system message of the conversation |
//! | `history` | questions and answers before it, which are learnt as LLaMA-Factory does |
//! | `question`, `instruction` with `input`, `input` beside `chosen` and `rejected` | the prompt |
//! | `kto_tag` | whether the answer is wanted |
//! | `weight` | refused, unless it is 1 |
//! | `tools`, `functions`, `documents`, images and the like | refused, unless they are empty |

use super::jsonl::{Object, Value};
use super::record::{Content, Record, Role, Shape, Turn};

/// Keys of what no text is made of.
const UNREAD: [&str; 10] = [
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

/// Keys under which the question of a pair may stand, and is not looked for.
const UNASKED: [&str; 7] = ["messages", "conversations", "conversation", "query", "problem", "context", "user"];

/// Refuses a line that has something which decides its meaning and cannot be used.
///
/// # Errors
/// Names the key.
pub fn check(object: &Object, shape: Shape) -> Result<(), String> {
    let filled = |key: &&&str| object.get(key).is_some_and(|value| !value.is_empty());
    if let Some(key) = UNREAD.iter().find(filled) {
        return Err(format!("has {key:?}, which no text is made of; write it into the messages, or take it out"));
    }
    if let Some(weight) = object.get("weight").filter(|weight| !weight.is_null())
        && !weight.number().is_ok_and(|weight| weight == 1.0)
    {
        let reason = "that is not 1; a line counts once: take it out, or name it as often as it is to count";
        return Err(format!("has a \"weight\" {reason}"));
    }
    let unused: &[&str] = match shape {
        Shape::Question => &["instruction", "input", "context"],
        Shape::Instruction => &["context"],
        _ => &[],
    };
    match unused.iter().find(filled) {
        Some(key) => Err(format!("has {key:?} beside {shape}, which is not looked at; write it into the question")),
        None => Ok(()),
    }
}

/// The text under `key`; none where that says nothing.
pub fn text(object: &Object, key: &str) -> Result<Option<String>, String> {
    let text = object.get(key).filter(|value| !value.is_null()).map(Value::string).transpose()?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// The prompt that a pair of answers has beside them, and the answers: messages where there are several of these.
///
/// # Errors
/// If it has several prompts that differ.
pub fn asked(
    object: &Object,
    chosen: Content,
    rejected: Content,
) -> Result<(Option<Content>, Content, Content), String> {
    let prompt = object.get("prompt").filter(|value| !value.is_null());
    let prompt = prompt.map(super::message::content).transpose()?;
    let mut question: Option<(&str, String)> = None;
    for key in ["question", "instruction", "input"] {
        let Some(text) = text(object, key)? else { continue };
        question = match question {
            None => Some((key, text)),
            Some((first, before)) if key == "input" => {
                Some((first, if before.contains(&text) { before } else { format!("{before}\n\n{text}") }))
            }
            Some((first, before)) if before == text => Some((first, before)),
            Some((first, _)) => return Err(several(first, key)),
        };
    }
    let Some((key, question)) = question else {
        let texts = [&chosen, &rejected].iter().all(|content| matches!(content, Content::Text(_)));
        if prompt.is_none() && texts {
            check_unasked(object)?;
        }
        return Ok((prompt, chosen, rejected));
    };
    if let Some(prompt) = prompt {
        // A prompt that spells the question out is the whole of it.
        return if holds(&prompt, &question) {
            Ok((Some(prompt), chosen, rejected))
        } else {
            Err(several("prompt", key))
        };
    }
    let answers = |content: &Content| match content {
        Content::Text(_) => true,
        Content::Turns(turns) => turns.first().is_some_and(|turn| turn.role == Role::Assistant),
    };
    if answers(&chosen) && answers(&rejected) {
        let [chosen, rejected] = [chosen, rejected].map(|content| as_turns(content, Role::Assistant));
        return Ok((Some(as_turns(Content::Text(question), Role::User)), chosen, rejected));
    }
    match holds(&chosen, &question) && holds(&rejected, &question) {
        true => Ok((None, chosen, rejected)),
        false => Err(several("chosen", key)),
    }
}

/// Refuses a pair of texts without a prompt whose question stands under a key that is not looked at.
fn check_unasked(object: &Object) -> Result<(), String> {
    let filled = |key: &&&str| object.get(key).is_some_and(|value| !value.is_empty());
    match UNASKED.iter().find(filled) {
        Some(key) => Err(format!("has {key:?} beside \"chosen\", which is not looked at; put it under \"prompt\"")),
        None => Ok(()),
    }
}

fn several(one: &str, other: &str) -> String {
    format!("asks one thing under {one:?} and another under {other:?}; take one of both out")
}

/// Whether a text stands in a content.
fn holds(content: &Content, text: &str) -> bool {
    let text = text.trim();
    match content {
        Content::Text(whole) => whole.contains(text),
        Content::Turns(turns) => turns.iter().any(|turn| turn.content.contains(text)),
    }
}

fn as_turns(content: Content, role: Role) -> Content {
    match content {
        Content::Text(content) => Content::Turns(vec![Turn::new(role, content)]),
        turns => turns,
    }
}

/// The record behind the system message and the history that its line has; then it is a conversation.
///
/// # Errors
/// If both the line and its messages have a system message, and these differ; if there is no message to begin with.
pub fn led(record: Record, object: &Object) -> Result<Record, String> {
    let mut lead = Vec::new();
    for key in ["system", "system_prompt", "system_message"] {
        let Some(content) = text(object, key)? else { continue };
        match lead.first() {
            Some(Turn { content: before, .. }) if *before != content => {
                return Err(format!("has {key:?} beside another system message; take one of both out"));
            }
            _ => lead = vec![Turn::new(Role::System, content)],
        }
    }
    lead.extend(history(object)?);
    if lead.is_empty() {
        return Ok(record);
    }
    let asked = |content| begin(&lead, as_turns(content, Role::User)).map(Content::Turns);
    let answered = |content| as_turns(content, Role::Assistant);
    Ok(match record {
        Record::Messages(turns) => Record::Messages(begin(&lead, Content::Turns(turns))?),
        Record::Completion { prompt, completion } => {
            Record::Completion { prompt: asked(prompt)?, completion: answered(completion) }
        }
        Record::Labelled { prompt, completion, label } => {
            Record::Labelled { prompt: asked(prompt)?, completion: answered(completion), label }
        }
        Record::Preference { prompt: Some(prompt), chosen, rejected, margin } => Record::Preference {
            prompt: Some(asked(prompt)?),
            chosen: answered(chosen),
            rejected: answered(rejected),
            margin,
        },
        Record::Preference { prompt: None, chosen: Content::Turns(a), rejected: Content::Turns(b), margin } => {
            let [chosen, rejected] = [a, b].map(|turns| begin(&lead, Content::Turns(turns)).map(Content::Turns));
            Record::Preference { prompt: None, chosen: chosen?, rejected: rejected?, margin }
        }
        Record::Prompt { prompt, reference } => Record::Prompt { prompt: asked(prompt)?, reference },
        Record::Preference { .. } | Record::Text(_) => {
            return Err("has \"system\" or \"history\" beside texts without a prompt; add one".to_owned());
        }
        exchange => match split(exchange) {
            (prompt, Some(answer)) => {
                let mut turns = begin(&lead, Content::Turns(prompt))?;
                turns.push(answer);
                Record::Messages(turns)
            }
            (prompt, None) => Record::Messages(begin(&lead, Content::Turns(prompt))?),
        },
    })
}

/// Questions and answers before a conversation.
fn history(object: &Object) -> Result<Vec<Turn>, String> {
    let Some(list) = object.get("history").filter(|value| !value.is_empty()) else { return Ok(Vec::new()) };
    let mut turns = Vec::new();
    for (i, pair) in list.list()?.into_iter().enumerate() {
        let texts: Option<Vec<String>> =
            pair.list().ok().and_then(|pair| pair.into_iter().map(|text| text.string().ok()).collect());
        let Some([question, answer]) = texts.as_deref() else {
            return Err(format!("has under \"history\" an entry {} that is no question and answer", i + 1));
        };
        turns.extend([Turn::new(Role::User, question.clone()), Turn::new(Role::Assistant, answer.clone())]);
    }
    Ok(turns)
}

/// `lead` and the messages of `content`, which may begin with the same system message.
fn begin(lead: &[Turn], content: Content) -> Result<Vec<Turn>, String> {
    let mut all = lead.to_vec();
    let Content::Turns(mut turns) = content else { return Ok(all) };
    if turns.first().is_some_and(|turn| turn.role == Role::System) {
        let own = turns.remove(0);
        match all.first().filter(|first| first.role == Role::System) {
            Some(first) if first.content != own.content => {
                return Err("has one \"system\" beside its messages and another among them".to_owned());
            }
            Some(_) => {}
            None => all.insert(0, own),
        }
    }
    all.extend(turns);
    Ok(all)
}

/// What a record asks, and the answer to it where it has one.
fn split(record: Record) -> (Vec<Turn>, Option<Turn>) {
    let turns = |content, role| match as_turns(content, role) {
        Content::Turns(turns) => turns,
        Content::Text(_) => Vec::new(),
    };
    let exchange =
        |question, answer: String| (vec![Turn::new(Role::User, question)], Some(Turn::new(Role::Assistant, answer)));
    match record {
        Record::Messages(mut turns) => {
            let answer = turns.pop_if(|turn| turn.role == Role::Assistant);
            (turns, answer)
        }
        Record::Completion { prompt, completion } | Record::Labelled { prompt, completion, .. } => {
            let answer = turns(completion, Role::Assistant).into_iter().next();
            (turns(prompt, Role::User), answer)
        }
        Record::Instruction { instruction, input, output } => exchange(task(instruction, &input), output),
        Record::Question { question, answer } => exchange(question, answer),
        Record::Prompt { prompt, .. } => (turns(prompt, Role::User), None),
        Record::Text(_) | Record::Preference { .. } => (Vec::new(), None),
    }
}

/// An instruction and, after a blank line, what it is about, if there is such.
pub fn task(instruction: String, input: &str) -> String {
    if input.is_empty() { instruction } else { format!("{instruction}\n\n{input}") }
}

/// A record whose answer is not wanted.
///
/// # Errors
/// If it has none.
pub fn unwanted(record: Record) -> Result<Record, String> {
    match split(record) {
        (prompt, Some(answer)) => {
            let [prompt, completion] = [prompt, vec![answer]].map(Content::Turns);
            Ok(Record::Labelled { prompt, completion, label: false })
        }
        (_, None) => Err("has a \"kto_tag\" beside no answer that it could be of".to_owned()),
    }
}

/// A record to which `reference`, where there is one, says what is right.
pub fn compared(record: Record, reference: Option<String>) -> Record {
    match (record, reference.filter(|right| !right.trim().is_empty())) {
        (record @ (Record::Preference { .. } | Record::Text(_)), _) | (record, None) => record,
        (record, reference) => Record::Prompt { prompt: Content::Turns(split(record).0), reference },
    }
}
