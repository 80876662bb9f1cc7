//! Fuzzes the header of a `.safetensors` file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = hadal::checkpoint::container::parse(bytes);
});
