//! Fuzzes `metrics.jsonl`, as `plot` reads it.
#![no_main]

use hadal::plot::Run;
use hadal::train::journal::read_stamped;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(FOLDER.path().join("metrics.jsonl"), bytes).unwrap();
    if let Ok(rows) = read_stamped(FOLDER.path()) {
        Run::from_rows("run", &rows);
    }
});
