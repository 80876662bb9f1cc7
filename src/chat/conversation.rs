//! Records as conversations to be fine-tuned on.

use crate::data::columns::task;
use crate::data::record::{Content, Record, Role, Turn};

/// The conversation of a record; none where it is marked as not wanted.
///
/// | record | messages |
/// |---|---|
/// | messages | themselves |
/// | prompt and completion | user and assistant; or both lists of messages, one after the other |
/// | preference | the prompt and what is chosen, likewise |
/// | instruction | user: the instruction and, after a blank line, the input unless it is empty; assistant: the output |
/// | question | user and assistant |
///
/// A system message or a history beside them comes first.
///
/// # Errors
/// If it has no answer, or roles in an order that no conversation has; in words that follow the number of its line.
pub fn conversation(record: Record) -> Result<Option<Vec<Turn>>, String> {
    let turns = match record {
        Record::Messages(turns) => turns,
        Record::Labelled { label: false, .. } => return Ok(None),
        Record::Completion { prompt, completion } | Record::Labelled { prompt, completion, .. } => {
            let mut turns = of(prompt, Role::User);
            turns.extend(of(completion, Role::Assistant));
            turns
        }
        Record::Preference { prompt, chosen, .. } => {
            let mut turns = prompt.map_or(Vec::new(), |prompt| of(prompt, Role::User));
            turns.extend(of(chosen, Role::Assistant));
            turns
        }
        Record::Instruction { instruction, input, output } => exchange(task(instruction, &input), output),
        Record::Question { question, answer } => exchange(question, answer),
        Record::Text(_) => return Err("has a text, not a conversation".to_owned()),
        Record::Prompt { .. } => return Err("has a prompt and no answer to it".to_owned()),
    };
    check(&turns)?;
    Ok(Some(turns))
}

/// A part of a record as messages: a text is what `role` says.
pub fn of(content: Content, role: Role) -> Vec<Turn> {
    match content {
        Content::Text(content) => vec![Turn::new(role, content)],
        Content::Turns(turns) => turns,
    }
}

fn exchange(question: String, answer: String) -> Vec<Turn> {
    vec![Turn::new(Role::User, question), Turn::new(Role::Assistant, answer)]
}

/// Checks the order of roles: perhaps a system message, then the user's and the assistant's in turn; a tool may answer
/// the assistant in the user's place.
///
/// # Errors
/// If they have another order, or the assistant says nothing.
pub fn check(turns: &[Turn]) -> Result<(), String> {
    check_order(turns)?;
    match turns.iter().any(|turn| turn.role == Role::Assistant) {
        true => Ok(()),
        false => Err("has no message of the assistant, so nothing to learn".to_owned()),
    }
}

/// Checks the order of roles alone, as [`check`] does.
///
/// # Errors
/// If they have another order.
pub fn check_order(turns: &[Turn]) -> Result<(), String> {
    let mut before = None;
    for (i, turn) in turns.iter().enumerate() {
        let fits = match turn.role {
            Role::System => before.is_none(),
            Role::User => matches!(before, None | Some(Role::System | Role::Assistant)),
            Role::Assistant => matches!(before, Some(Role::User | Role::Tool)),
            Role::Tool => matches!(before, Some(Role::Assistant | Role::Tool)),
        };
        if !fits {
            let after = before.map_or("at the beginning".to_owned(), |role| format!("after one of {}", role.name()));
            return Err(format!(
                "has roles out of order: message {} is of {} {after}; user and assistant take turns, after perhaps one \
                 system message",
                i + 1,
                turn.role.name()
            ));
        }
        before = Some(turn.role);
    }
    Ok(())
}
