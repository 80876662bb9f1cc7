//! Fuzzes a configuration file, and the judgement on its values.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = hadal::config::Config::parse("run.toml", text).and_then(|config| config.validate());
});
