//! Conversations: how they are written, what of them a model learns, and what it is asked.
//!
//! In reading order: [`conversation`] (records as messages), [`template`] (messages as text: ChatML, or a Jinja
//! template), [`encode`] (text as tokens, with the targets that count), [`pack`] (tokens as rows of a batch),
//! [`preference`] (two answers to a prompt), [`exam`] (what the world's held-out chats ask).

pub mod conversation;
pub mod encode;
pub mod exam;
pub mod pack;
pub mod preference;
pub mod template;

pub use encode::{Encoded, Encoder};
pub use template::Template;
