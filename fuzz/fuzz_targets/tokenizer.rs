//! Fuzzes `tokenizer.json`, and text by what it describes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = std::str::from_utf8(bytes) else { return };
    if let Ok(tokenizer) = hadal::tokenizer::Tokenizer::from_json("tokenizer.json", json) {
        tokenizer.decode(&tokenizer.encode("One morning, 12 \u{e9}t\u{e9}s </s>   later\n\n"));
    }
});
