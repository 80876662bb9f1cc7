//! Fuzzes `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = hadal::config::hf::parse_config("config.json".as_ref(), bytes);
});
