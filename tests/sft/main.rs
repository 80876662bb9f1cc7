//! Fine-tuning on conversations: which tokens count, rows of several conversations, templates, vocabularies that grow,
//! preferences between answers, and questions for rewards.

mod columns; // what stands beside the keys of a shape
#[path = "../common/mod.rs"]
mod common;
mod labels; // ids and targets, by hand
#[path = "../common/models.rs"]
mod models;
mod packing; // several conversations in a row
mod preferences; // pairs of answers, of files and of the world
mod questions; // what rewards judge answers to
mod sums; // sets of conversations however they are arranged
mod templates; // Jinja, sound and hostile

use hadal::data::record::{Role, Turn};

/// Messages by their roles' first letters.
fn turns(messages: &[(char, &str)]) -> Vec<Turn> {
    let role = |letter| match letter {
        's' => Role::System,
        'u' => Role::User,
        't' => Role::Tool,
        _ => Role::Assistant,
    };
    messages.iter().map(|&(letter, content)| Turn::new(role(letter), content)).collect()
}
