//! Fuzzes a line of `.jsonl`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = hadal::data::record::read(bytes);
});
