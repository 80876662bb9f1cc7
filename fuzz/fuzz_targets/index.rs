//! Fuzzes `model.safetensors.index.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = hadal::checkpoint::index::Index::parse(bytes);
});
