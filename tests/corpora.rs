//! The user's data: every kind of file, the cache, the order of batches, and what is wrong with bad files.

use hadal::config::data::{DataConfig, TokenType};
use hadal::data::{Cache, Dataset, shuffle::permuted};
use hadal::error::Error;
use hadal::tokenizer::Tokenizer;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Sequences of the tests.
const LENGTH: usize = 32;

fn config(paths: &[&Path]) -> DataConfig {
    DataConfig { path: paths.iter().map(|p| p.to_path_buf()).collect(), ..DataConfig::default() }
}

/// Text that does not repeat, of about `bytes` bytes.
fn prose(seed: u64, bytes: usize) -> String {
    let world = hadal::data::world::World::new(seed);
    let (mut text, mut n) = (String::new(), 0);
    while text.len() < bytes {
        text += &world.story(n).text;
        text += if n % 3 == 0 { "\n\n" } else { " " };
        n += 1;
    }
    text
}

/// A folder with a cache in it that takes in everything.
fn folder() -> (TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache { folder: Some(dir.path().join("cache")), smallest: 0 };
    (dir, cache)
}

fn open(config: &DataConfig, tokenizer: &Tokenizer, cache: &Cache) -> Dataset {
    Dataset::open_in(config, tokenizer, LENGTH, 5, cache).unwrap()
}

fn fails(config: &DataConfig, tokenizer: &str, cache: &Cache) -> String {
    let error = Dataset::open_in(config, &Tokenizer::load(tokenizer).unwrap(), LENGTH, 5, cache).err().unwrap();
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn windows(data: &Dataset) -> Vec<Vec<u32>> {
    (0..data.train_windows().unwrap()).map(|i| data.train_window(i).unwrap()).collect()
}

fn held_out(data: &Dataset) -> Vec<Vec<u32>> {
    (0..data.val_windows().unwrap()).map(|i| data.val_window(i).unwrap()).collect()
}

/// Writes `ids` as an .npy file of `descr`.
fn npy(path: &Path, descr: &str, shape: &str, bytes: &[u8]) {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    fs::write(path, [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), bytes].concat()).unwrap();
}

fn u16s(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect()
}

fn u32s(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|&id| id.to_le_bytes()).collect()
}

#[test]
fn plain_text_has_the_windows_of_its_whole_stream_cut_and_shuffled() {
    let (dir, cache) = folder();
    let text = dir.path().join("text");
    fs::create_dir(&text).unwrap();
    // More than one read, more than one piece, a byte-order mark, an empty file, characters of several bytes.
    let files = [("a.txt", prose(1, 1_300_000)), ("b.md", String::new()), ("c.txt", "\u{e9}^\u{4f60} ".repeat(9000))];
    for (name, content) in &files {
        fs::write(text.join(name), ["\u{feff}", content].concat()).unwrap();
    }
    for name in ["gpt2", "byte", "cl100k"] {
        let tokenizer = Tokenizer::load(name).unwrap();
        let mut stream = Vec::new();
        for (_, content) in &files {
            stream.extend(tokenizer.encode(content));
            stream.push(tokenizer.eos());
        }
        let train = stream.len() - (stream.len() as f64 * 0.1) as usize;
        let (n, val) = ((train - 1) / LENGTH, (stream.len() - train - 1) / LENGTH);
        let in_memory = Cache { folder: Some(dir.path().join("nothing")), smallest: u64::MAX };
        for cache in [&cache, &cache, &in_memory] {
            let data = open(&config(&[&text]), &tokenizer, cache);
            assert_eq!((data.train_windows(), data.val_windows()), (Some(n as u64), Some(val)), "{name}");
            for i in (0..2 * n as u64).step_by(7) {
                let at = permuted(i % n as u64, n as u64, 5, i / n as u64) as usize * LENGTH;
                assert_eq!(data.train_window(i).unwrap(), stream[at..at + LENGTH + 1], "{name}: window {i}");
            }
            for i in 0..val {
                assert_eq!(data.val_window(i).unwrap(), stream[train + i * LENGTH..][..LENGTH + 1]);
            }
            let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
            assert!((data.bytes_per_token() - bytes as f64 / stream.len() as f64).abs() < 1e-9);
        }
        assert!(!in_memory.folder.unwrap().exists());
    }
}

#[test]
fn the_cache_is_used_and_a_damaged_or_foreign_one_is_not() {
    let (dir, cache) = folder();
    let file = dir.path().join("text.txt");
    fs::write(&file, prose(1, 100_000)).unwrap();
    let (gpt2, byte) = (Tokenizer::load("gpt2").unwrap(), Tokenizer::load("byte").unwrap());
    let folder = cache.folder.clone().unwrap();
    let shards = || fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let first = windows(&open(&config(&[&file]), &gpt2, &cache));
    let known = shards();
    assert_eq!(known.len(), 1);
    let stamp = fs::metadata(&known[0]).unwrap().modified().unwrap();
    assert_eq!(windows(&open(&config(&[&file]), &gpt2, &cache)), first);
    assert_eq!(fs::metadata(&known[0]).unwrap().modified().unwrap(), stamp, "not written again");
    let mut bytes = fs::read(&known[0]).unwrap();
    bytes[5000] ^= 64;
    fs::write(&known[0], &bytes).unwrap();
    assert_eq!(windows(&open(&config(&[&file]), &gpt2, &cache)), first, "a damaged shard is made again");
    assert_ne!(fs::read(&known[0]).unwrap(), bytes);
    open(&config(&[&file]), &byte, &cache);
    assert_eq!(shards().len(), 2, "another tokenizer");
    fs::write(&file, prose(2, 100_000)).unwrap();
    assert_ne!(windows(&open(&config(&[&file]), &gpt2, &cache)), first, "another text");
    let data = open(&config(&[&file]), &gpt2, &cache);
    fs::remove_dir_all(&folder).unwrap();
    #[cfg(unix)]
    assert!(data.train_window(0).is_ok(), "an open shard stays");
}

#[test]
fn a_json_line_is_a_document_and_the_split_keeps_documents_whole() {
    let (dir, cache) = folder();
    let file = dir.path().join("docs.jsonl");
    let text = prose(3, 300_000);
    let docs: Vec<&str> = text.split("\n\n").collect();
    let lines = |key: &str| -> String {
        docs.iter()
            .enumerate()
            .map(|(i, t)| format!("{}\r\n", serde_json::json!({"id": i, key: t, "meta": {}})))
            .collect()
    };
    fs::write(&file, format!("\u{feff}{}\n  \n", lines("text"))).unwrap();
    let tokenizer = Tokenizer::load("gpt2").unwrap();
    let stream: Vec<u32> = docs.iter().flat_map(|t| tokenizer.encode(t).into_iter().chain([tokenizer.eos()])).collect();
    let plain = DataConfig { shuffle: false, ..config(&[&file]) };
    let data = open(&plain, &tokenizer, &cache);
    let (seen, held) = (windows(&data), held_out(&data));
    seen.iter().enumerate().for_each(|(i, w)| assert_eq!(*w, stream[i * LENGTH..][..LENGTH + 1]));
    let start = stream.len() - stream.len() / 10;
    let cut = start - 1 + stream[start - 1..].iter().position(|&id| id == tokenizer.eos()).unwrap() + 1;
    assert_eq!(seen.len(), (cut - 1) / LENGTH);
    held.iter().enumerate().for_each(|(i, w)| assert_eq!(*w, stream[cut + i * LENGTH..][..LENGTH + 1]));
    assert!(data.describe().starts_with("1 file, "), "{}", data.describe());
    fs::write(&file, lines("body")).unwrap();
    let error = fails(&plain, "gpt2", &cache);
    assert!(error.contains("docs.jsonl") && error.contains("line 1 has none of the known shapes"), "{error}");
    assert!(error.contains("data.text_field") && error.contains("and "), "{error}");
    let named = DataConfig { text_field: "body".into(), ..plain };
    assert_eq!(windows(&open(&named, &tokenizer, &cache)), seen);
}

#[test]
fn every_kind_of_token_file_gives_its_tokens() {
    let (dir, cache) = folder();
    let gpt2 = Tokenizer::load("gpt2").unwrap();
    let ids: Vec<u32> = gpt2.encode(&prose(4, 4000)).into_iter().chain([gpt2.eos()]).collect();
    let expected: Vec<u32> = ids[..LENGTH + 1].to_vec();
    let header = |mark: u32, version: u32| {
        let mut words = [0u32; 256];
        words[..3].copy_from_slice(&[mark, version, ids.len() as u32]);
        u32s(&words)
    };
    let wide = |n: usize| ids.iter().flat_map(|&id| u64::from(id).to_le_bytes()[..n].to_vec()).collect::<Vec<_>>();
    let flat = format!("({},)", ids.len());
    let file = |name: &str| dir.path().join(name);
    fs::write(file("raw16.bin"), u16s(&ids)).unwrap();
    fs::write(file("raw32.bin"), u32s(&ids)).unwrap();
    fs::write(file("head16.bin"), [header(20_240_520, 1), u16s(&ids)].concat()).unwrap();
    fs::write(file("head32.bin"), [header(20_240_801, 7), u32s(&ids)].concat()).unwrap();
    npy(&file("two.npy"), "<u2", &flat, &wide(2));
    npy(&file("four.npy"), "<u4", &flat, &wide(4));
    npy(&file("signed.npy"), "<i4", &format!("(1, {})", ids.len()), &wide(4));
    npy(&file("eight.npy"), "<i8", &flat, &wide(8));
    let names =
        ["raw16.bin", "raw32.bin", "head16.bin", "head32.bin", "two.npy", "four.npy", "signed.npy", "eight.npy"];
    for name in names {
        let plain = DataConfig { shuffle: false, val_fraction: 0.0, ..config(&[&file(name)]) };
        let data = open(&plain, &gpt2, &cache);
        assert_eq!(data.train_window(0).unwrap(), expected, "{name}");
        assert_eq!(data.train_windows(), Some((ids.len() as u64 - 1) / LENGTH as u64), "{name}");
        let bytes = gpt2.byte_count(&ids) as f64;
        assert!((data.bytes_per_token() - bytes / ids.len() as f64).abs() < 1e-9, "{name}");
    }
    assert!(!cache.folder.as_ref().unwrap().exists());
    let forced = DataConfig { token_type: TokenType::U16, ..config(&[&file("raw32.bin")]) };
    let data = open(&DataConfig { shuffle: false, ..forced }, &gpt2, &cache);
    assert_eq!(data.train_window(0).unwrap()[..4], [ids[0], 0, ids[1], 0]);
}

#[test]
fn numbers_of_64_bits_are_told_by_their_empty_halves() {
    let (dir, cache) = folder();
    let byte = Tokenizer::load("byte").unwrap();
    let file = dir.path().join("a.bin");
    let ids: Vec<u32> = (0..5000).map(|i| i * 7 % 250).collect();
    fs::write(&file, ids.iter().flat_map(|&id| u64::from(id).to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let plain = DataConfig { shuffle: false, val_fraction: 0.0, ..config(&[&file]) };
    let seen: Vec<u32> = windows(&open(&plain, &byte, &cache)).into_iter().flat_map(|w| w[..LENGTH].to_vec()).collect();
    assert_eq!(seen, ids[..seen.len()]);
    assert_eq!(seen.len(), (ids.len() - 1) / LENGTH * LENGTH);
    // Whoever says that they are of 32 bits is taken at his word.
    let narrow = DataConfig { token_type: TokenType::U32, ..plain };
    assert_eq!(open(&narrow, &byte, &cache).train_window(0).unwrap()[..4], [0, 0, 7, 0]);
}

#[test]
fn files_shorter_than_a_window_are_read_one_after_the_other() {
    let (dir, cache) = folder();
    let folder = shards(dir.path(), &[500, 20, 30, 20, 640]);
    let data = open(&DataConfig { val_fraction: 0.0, ..config(&[&folder]) }, &Tokenizer::load("gpt2").unwrap(), &cache);
    assert_eq!(data.train_windows(), Some(15 + 2 + 19));
    let middle: Vec<u32> = (1000..1020).chain(2000..2030).chain(3000..3020).collect();
    assert!(windows(&data).contains(&middle[..LENGTH + 1].to_vec()));
}

/// A folder of shards, each with tokens of its own: shard s holds s * 1000 + 0, 1, 2, ...
fn shards(at: &Path, sizes: &[usize]) -> PathBuf {
    let folder = at.join("shards");
    fs::create_dir(&folder).unwrap();
    for (s, &size) in sizes.iter().enumerate() {
        let ids: Vec<u32> = (0..size as u32).map(|i| s as u32 * 1000 + i).collect();
        fs::write(folder.join(format!("part_{s:03}.bin")), u16s(&ids)).unwrap();
    }
    fs::write(folder.join("README.md"), "what this is").unwrap();
    folder
}

#[test]
fn shards_come_in_a_seeded_order_whole_and_windows_stay_inside_of_them() {
    let (dir, cache) = folder();
    let folder = shards(dir.path(), &[500, 20, 640, 800]);
    let gpt2 = Tokenizer::load("gpt2").unwrap();
    let all = DataConfig { val_fraction: 0.0, ..config(&[&folder]) };
    let data = open(&all, &gpt2, &cache);
    let n = data.train_windows().unwrap();
    assert_eq!(n, 15 + 19 + 24);
    let shard = |w: &Vec<u32>| w[0] / 1000;
    let epoch = |e: u64| (e * n..(e + 1) * n).map(|i| data.train_window(i).unwrap()).collect::<Vec<_>>();
    let mut orders = HashSet::new();
    for e in 0..20 {
        let seen = epoch(e);
        assert!(seen.iter().all(|w| w.windows(2).all(|pair| pair[1] == pair[0] + 1)), "a window crosses shards");
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), n as usize);
        let mut order: Vec<u32> = seen.iter().map(shard).collect();
        order.dedup();
        assert_eq!(order.len(), 3, "shards are not mixed: {order:?}");
        orders.insert(order);
    }
    assert!(orders.len() > 1, "the order of shards changes");
    assert_eq!(
        epoch(3),
        (3 * n..4 * n).map(|i| open(&all, &gpt2, &cache).train_window(i).unwrap()).collect::<Vec<_>>()
    );
    let other = Dataset::open_in(&all, &gpt2, LENGTH, 6, &cache).unwrap();
    assert_ne!(windows(&other), epoch(0));
}

#[test]
fn held_out_tokens_are_in_no_training_window_whatever_the_source() {
    let (dir, cache) = folder();
    let gpt2 = Tokenizer::load("gpt2").unwrap();
    let folder = shards(dir.path(), &[900, 900, 900]);
    let single = dir.path().join("one.bin");
    fs::write(&single, u16s(&(20_000..20_900).collect::<Vec<u32>>())).unwrap();
    for fraction in [0.1, 0.4] {
        let data = open(&DataConfig { val_fraction: fraction, ..config(&[&folder, &single]) }, &gpt2, &cache);
        let inputs = |windows: Vec<Vec<u32>>| windows.into_iter().flatten().collect::<HashSet<u32>>();
        let held = held_out(&data);
        let both = held.iter().any(|w| w[0] >= 20_000) && held.iter().any(|w| w[0] < 20_000);
        assert!(both, "each source has a part held out");
        assert!(inputs(windows(&data)).is_disjoint(&inputs(held)));
    }
    let apart = folder.join("part_001.bin");
    let config = DataConfig { val_path: vec![apart], ..config(&[&folder]) };
    let data = open(&config, &gpt2, &cache);
    assert!(held_out(&data).iter().all(|w| (1000..2000).contains(&w[0])));
    let trained: HashSet<u32> = windows(&data).iter().map(|w| w[0] / 1000).collect();
    assert_eq!(trained, HashSet::from([0, 2]));
    let only = DataConfig { val_path: vec![folder.clone()], ..config };
    assert!(fails(&only, "gpt2", &cache).contains("nothing but the files of data.val_path"));
}

#[test]
fn several_sources_are_mixed_evenly() {
    let (dir, cache) = folder();
    let byte = Tokenizer::load("byte").unwrap();
    let (a, b) = (dir.path().join("a.txt"), dir.path().join("b.txt"));
    fs::write(&a, "a".repeat(32_000)).unwrap();
    fs::write(&b, "b".repeat(96_000)).unwrap();
    let data = open(&config(&[&a, &b]), &byte, &cache);
    for start in [0, 1000, 3000] {
        let own = (start..start + 400).filter(|&i| data.train_window(i).unwrap()[0] == u32::from(b'a')).count();
        assert!((98..=102).contains(&own), "{own} of 400");
    }
    let first: HashSet<u32> = (0..8).map(|i| data.val_window(i).unwrap()[0]).collect();
    assert_eq!(first.len(), 2, "a few held-out windows show both");
}

#[test]
fn token_files_that_are_no_good_are_named_all_at_once() {
    let (dir, cache) = folder();
    let at = dir.path().join("bad");
    fs::create_dir(&at).unwrap();
    let mut ids: Vec<u32> = (0..400_000).map(|i| i % 50_000).collect();
    (ids[300_000], ids[350_000]) = (50_257, 60_000);
    fs::write(at.join("a.bin"), u16s(&ids)).unwrap();
    fs::write(at.join("b.bin"), [1, 2, 3]).unwrap();
    npy(&at.join("c.npy"), "<u2", "(9,)", &[0; 10]);
    npy(&at.join("d.npy"), "<f4", "(2,)", &[0; 8]);
    npy(&at.join("e.npy"), "<i4", "(2,)", &[255; 8]);
    fs::write(at.join("f.npy"), b"\x93NUMPY\x01\x00\xff").unwrap();
    fs::write(at.join("g.npy"), b"text").unwrap();
    npy(&at.join("h.npy"), "<u2", "(9000000000000000000, 8)", &[0; 8]);
    let error = fails(&config(&[&at]), "gpt2", &cache);
    for words in [
        "8 problems with the data",
        "a.bin: token 50257 at position 300000 is beyond the vocabulary of 50257 tokens",
        "b.bin: has 3 bytes",
        "c.npy: is cut off: its header promises 9 tokens of 2 bytes",
        "d.npy: holds numbers of type \"<f4\"",
        "e.npy: token -1 at position 0",
        "f.npy: is cut off in its header",
        "g.npy: does not begin as an .npy file",
        "h.npy: has a shape too large",
    ] {
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    let mut words = [0u32; 300];
    words[..3].copy_from_slice(&[20_240_520, 1, 1000]);
    fs::write(at.join("a.bin"), u32s(&words)).unwrap();
    assert!(fails(&config(&[&at.join("a.bin")]), "gpt2", &cache).contains("promises 1000 tokens"));
    words[1] = 9;
    fs::write(at.join("a.bin"), u32s(&words)).unwrap();
    assert!(fails(&config(&[&at.join("a.bin")]), "gpt2", &cache).contains("version 9"));
}

#[test]
fn text_that_is_no_good_is_named_with_its_place() {
    let (dir, cache) = folder();
    let [latin, cut, lines, empty] = ["latin.txt", "cut.txt", "x.jsonl", "empty"].map(|name| dir.path().join(name));
    let mut bytes = prose(1, 2_500_000).into_bytes();
    bytes[2_200_000] = 0xff;
    fs::write(&latin, &bytes).unwrap();
    fs::write(&cut, b"cut off: \xe4\xbd").unwrap();
    fs::write(&lines, "{\"text\": \"good\"}\n{\"text\": 3}\n{\"text\n{\"text\": \"a\u{e9}\"}\n\n{\"no\": 1}").unwrap();
    fs::create_dir(&empty).unwrap();
    let missing = dir.path().join("missing");
    let error = fails(&config(&[&latin, &missing, &cut, &lines, &empty]), "gpt2", &cache);
    for words in [
        "7 problems with the data",
        "latin.txt: is not UTF-8: byte 2200000 is 0xff",
        "missing: No such file",
        "cut.txt: is not UTF-8: byte 9 is 0xe4",
        "x.jsonl: line 2 has a number under \"text\", not a string",
        "x.jsonl: line 3 is not JSON",
        "x.jsonl: line 6 has none of the known shapes; its keys are \"no\"",
        "empty: holds no text file and no tokens",
    ] {
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    let left = fs::read_dir(cache.folder.as_ref().unwrap()).unwrap().count();
    assert_eq!(left, 0, "nothing unfinished stays");
}

#[test]
fn a_file_that_shrinks_during_a_run_is_an_error_of_the_next_window() {
    let (dir, cache) = folder();
    let file = dir.path().join("a.bin");
    fs::write(&file, u16s(&[7; 5000])).unwrap();
    let data = open(&DataConfig { shuffle: false, ..config(&[&file]) }, &Tokenizer::load("gpt2").unwrap(), &cache);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1000).unwrap();
    assert!(data.train_window(0).is_ok());
    let error = data.train_window(100).unwrap_err();
    assert!(matches!(error, Error::File { .. }) && error.to_string().contains("shorter"), "{error}");
    fs::write(&file, u16s(&[60_000; 5000])).unwrap();
    assert!(data.train_window(2).unwrap_err().to_string().contains("token 60000 at position 64"));
}
