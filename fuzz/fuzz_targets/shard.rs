//! Fuzzes token shards: the first byte says of which kind.
#![no_main]

use hadal::config::data::DataConfig;
use hadal::data::Cache;
use hadal::data::corpus::Corpus;
use hadal::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load("byte").unwrap());

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let name = if kind & 1 == 0 { "a.bin" } else { "a.npy" };
    let path = FOLDER.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let config = DataConfig::default();
    let cache = Cache { folder: Some(FOLDER.path().to_owned()), smallest: u64::MAX };
    let _ = Corpus::open(&[path], &[], &config, &TOKENIZER, &cache);
});
