//! Conversations: how they are written, what of them a model learns, and what it is asked.
//!
//! In reading order: [`conversation`] (records as messages), `tags`, `json` and `python` (Jinja2 as transformers sets
//! it up), `written` (text of which it is known what is a message's), [`template`] (messages as text: ChatML, or a
//! Jinja template), [`folder`] (the template of a model's folder), [`encode`] (text as tokens, with the targets that
//! count), [`pack`] (tokens as rows of a batch), [`preference`] (two answers to a prompt), [`exam`] (what the world's
//! held-out chats ask).

pub mod conversation;
pub mod encode;
pub mod exam;
pub mod folder;
pub mod pack;
pub mod preference;
mod json;
mod python;
mod tags;
pub mod template;
mod written;

pub use encode::{Encoded, Encoder};
pub use template::Template;
