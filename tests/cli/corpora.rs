//! The user's data: counted, trained on, and refused.

use super::{hadal, refused, succeeds, train};
use std::fs;
use std::path::Path;

fn value(out: &str, name: &str) -> f64 {
    let line = out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {out}")).parse().unwrap()
}

/// `n` lines of JSON, each with a text under `key`, and the bytes of these texts.
fn lines(path: &Path, key: &str, n: usize) -> usize {
    let texts: Vec<String> = (0..n).map(|i| format!("Document {i} tells of {} things.", i * i)).collect();
    let lines: String = texts.iter().map(|t| format!("{}\n", serde_json::json!({ "id": 1, key: t }))).collect();
    fs::write(path, lines).unwrap();
    texts.iter().map(String::len).sum()
}

#[test]
fn data_says_what_is_in_files_of_every_kind() {
    let at = tempfile::tempdir().unwrap();
    let bytes = lines(&at.path().join("docs.jsonl"), "text", 30);
    fs::write(at.path().join("a.txt"), "abcabc").unwrap();
    let shard: Vec<u8> = [97u16, 98, 256, 99, 256].iter().flat_map(|id| id.to_le_bytes()).collect();
    fs::write(at.path().join("b.bin"), shard).unwrap();
    let done = succeeds(at.path(), &["data", "docs.jsonl", "a.txt", "b.bin", "--tokenizer", "byte"]);
    let all = |name| value(&done.out, name);
    assert_eq!((all("files"), all("documents")), (3.0, 33.0));
    assert_eq!(all("bytes"), bytes as f64 + 6.0 + 3.0);
    assert_eq!(all("tokens"), bytes as f64 + 30.0 + 7.0 + 5.0);
    assert!((all("bytes_per_token") - all("bytes") / all("tokens")).abs() < 1e-4);
    let done = succeeds(at.path(), &["data", "a.txt", "b.bin", "--tokenizer", "byte"]);
    assert_eq!((value(&done.out, "vocabulary"), value(&done.out, "vocabulary_used")), (257.0, 4.0));
    assert!((value(&done.out, "vocabulary_coverage") - 4.0 / 257.0).abs() < 1e-6);
    assert_eq!(hadal(at.path(), &["data"]).code, 2);
}

#[test]
fn a_run_trains_on_json_lines_and_shards_and_goes_on() {
    let at = tempfile::tempdir().unwrap();
    lines(&at.path().join("docs.jsonl"), "body", 200);
    fs::create_dir(at.path().join("shards")).unwrap();
    let ids: Vec<u8> = (0..4000u32).flat_map(|i| (i % 250).to_le_bytes()).collect();
    for name in ["train_1.bin", "train_2.bin", "val_0.bin"] {
        fs::write(at.path().join("shards").join(name), &ids).unwrap();
    }
    let data = ["--data", "docs.jsonl", "--data", "shards", "--set", "data.text_field=body"];
    let val = ["--set", "data.val_path=shards/val_0.bin", "--out", "run", "--steps"];
    let done = succeeds(at.path(), &train(&[&data[..], &val, &["2"]].concat()));
    assert!(done.err.contains("data: 3 files, "), "{}", done.err);
    assert!(done.err.contains(" 124 held out"), "{}", done.err);
    let more = succeeds(at.path(), &["train", "--backend", "cpu", "--out", "run", "--resume", "--steps", "3"]);
    assert!(more.err.contains("going on from") && !more.err.contains("changes from"), "{}", more.err);
    // The run knows the key of its text.
    let done = succeeds(at.path(), &["eval", "run", "--data", "docs.jsonl", "--backend", "cpu", "--batches", "1"]);
    assert_eq!(value(&done.out, "tokens"), 256.0);
    let many = hadal(at.path(), &["data", "docs.jsonl"]);
    assert_eq!(many.code, 2, "{}", many.err);
    assert!(many.err.contains("200 problems") && many.err.contains("docs.jsonl: line 1 has none of the known shapes"));
    assert!(many.err.trim_end().ends_with("and 192 more"), "{}", many.err);
}

#[test]
fn bad_data_are_refused_with_file_and_place() {
    let at = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(at.path().join(name), bytes).unwrap();
    fs::create_dir(at.path().join("empty")).unwrap();
    write("wide.bin", &[1, 0, 2, 0, 3, 1, 4, 0]);
    write("cut.npy", b"\x93NUMPY\x01\x00\x3c\x00{'descr': '<u2', 'fortran_order': False, 'shape': (50,)}    \n1234");
    write("latin.txt", b"na\xefve");
    write("open.jsonl", b"{\"text\": \"fine\"}\n{\"text\": \"a");
    let cases: [(&str, &[&str]); 6] = [
        ("empty", &["empty: holds no text file and no tokens"]),
        ("wide.bin", &["wide.bin: token 259 at position 2", "vocabulary of 257"]),
        ("cut.npy", &["cut.npy: is cut off", "50 tokens", "copy it again"]),
        ("latin.txt", &["latin.txt: is not UTF-8: byte 2 is 0xef"]),
        ("open.jsonl", &["open.jsonl: line 2 is not JSON"]),
        ("gone", &["gone: No such file"]),
    ];
    for (path, words) in cases {
        refused(at.path(), &["data", path, "--tokenizer", "byte"], 2, words);
        refused(at.path(), &train(&["--data", path, "--steps", "1", "--out", "run"]), 2, words);
    }
    assert!(!at.path().join("run").exists());
    let all = ["data", "--tokenizer", "byte", "empty", "wide.bin", "latin.txt", "open.jsonl"];
    refused(at.path(), &all, 2, &["4 problems", "empty:", "wide.bin:", "latin.txt:", "open.jsonl:"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_line_of_a_gigabyte_is_refused_in_less_memory_than_that() {
    let at = tempfile::tempdir().unwrap();
    fs::File::create(at.path().join("line.jsonl")).unwrap().set_len(1 << 30).unwrap();
    let limited = "ulimit -v 900000 && exec \"$0\" data line.jsonl --tokenizer byte";
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", limited]).arg(assert_cmd::cargo::cargo_bin("hadal")).current_dir(at.path());
    command.env("XDG_CACHE_HOME", at.path()).env("RAYON_NUM_THREADS", "2");
    let done = super::ran(&mut command);
    assert_eq!((done.code, done.out.as_str()), (2, ""), "{}", done.err);
    assert!(done.err.contains("error: line.jsonl: line 1 is longer than 16 MiB"), "{}", done.err);
}
