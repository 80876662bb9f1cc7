//! Fuzzes a body that a client of `hadal serve` sends.
#![no_main]

use hadal::chat::{Encoder, Template};
use hadal::config::sft::SftMask;
use hadal::serve::Served;
use hadal::serve::ask::{Ask, Kind};
use hadal::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let tokenizer = Tokenizer::load("world").unwrap();
    let template = Template::chatml(&tokenizer).unwrap();
    let encoder = Encoder::new(template, tokenizer.clone(), SftMask::default()).map_err(|e| e.to_string());
    Served { name: "m".to_owned(), encoder, tokenizer, capacity: 256, created: 0 }
});

fuzz_target!(|bytes: &[u8]| {
    for kind in [Kind::Completion, Kind::Chat] {
        let _ = Ask::read(kind, bytes, &SERVED, 128);
    }
});
