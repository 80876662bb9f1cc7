//! Fuzzes a body that a client of `hadal serve` sends.
#![no_main]

use hadal::generate::Dialogue;
use hadal::serve::Served;
use hadal::serve::ask::{Ask, Kind};
use hadal::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let tokenizer = Tokenizer::load("world").unwrap();
    let dialogue = Dialogue::open(Path::new("."), &tokenizer);
    Served { name: "m".to_owned(), dialogue, tokenizer, capacity: 256, created: 0 }
});

fuzz_target!(|bytes: &[u8]| {
    for kind in [Kind::Completion, Kind::Chat] {
        let _ = Ask::read(kind, bytes, &SERVED, 128);
    }
});
