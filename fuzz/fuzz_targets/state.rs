//! Fuzzes `trainer_state.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = hadal::train::checkpoint::TrainerState::parse("trainer_state.json".as_ref(), bytes);
});
