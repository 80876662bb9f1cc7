//! Fuzzes a chat template, and what it makes of a conversation.
#![no_main]

use hadal::chat::{Encoder, Template};
use hadal::config::sft::SftMask;
use hadal::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static BYTES: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::load("byte").and_then(|bytes| bytes.with_special(&["<|im_start|>", "<|im_end|>"])).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Template::parse("chat.jinja", text, &BYTES)
        .and_then(|template| Encoder::new(template, BYTES.clone(), SftMask::Answers));
});
