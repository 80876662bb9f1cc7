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
    let told = refused(at.path(), &all, 2, &["4 problems", "  empty:", "  wide.bin:", "  latin.txt:", "  open.jsonl:"]);
    assert_eq!(told.lines().count(), 5, "one a line: {told}");
}

#[test]
fn a_list_of_objects_is_read_like_lines_of_them() {
    let at = tempfile::tempdir().unwrap();
    let object = |i: usize| format!("{{\"text\": \"document {i} ends with a brace }} and a \\\"]\"}}");
    let all: Vec<String> = (0..40).map(object).collect();
    fs::write(at.path().join("a.jsonl"), all.join("\n")).unwrap();
    fs::write(at.path().join("list.json"), format!("[{}]", all.join(",\n"))).unwrap();
    fs::write(at.path().join("row.json"), all.join("\n")).unwrap();
    let counted = |name| succeeds(at.path(), &["data", name]).out;
    assert_eq!(counted("list.json"), counted("a.jsonl"));
    assert_eq!(counted("row.json"), counted("a.jsonl"));
    assert_eq!(value(&counted("list.json"), "documents"), 40.0);
    // Of a folder lists alone: other JSON describes the data.
    fs::create_dir(at.path().join("set")).unwrap();
    fs::write(at.path().join("set/list.json"), all.join(",").replace("{\"text\"", "{\"id\": 1, \"text\"")).unwrap();
    fs::write(at.path().join("set/info.json"), "{\"features\": {}}").unwrap();
    refused(at.path(), &["data", "set"], 2, &["holds no text file and no tokens"]);
    fs::rename(at.path().join("list.json"), at.path().join("set/list.json")).unwrap();
    assert_eq!(counted("set"), counted("a.jsonl"));
    for (text, words) in [
        ("[{\"text\": \"a\"}, {\"no\": 1}]", "bad.json: record 2 has none of the known shapes"),
        ("[{\"text\": \"a\"}", "bad.json: ends without the ] of its list"),
        ("[1, 2]", "bad.json: holds no JSON objects alone"),
        ("\"a\"", "bad.json: holds no JSON objects; to train on its text as it stands"),
    ] {
        fs::write(at.path().join("bad.json"), text).unwrap();
        refused(at.path(), &["data", "bad.json"], 2, &[words]);
    }
}

#[test]
fn forms_that_are_not_read_are_named_with_how_to_convert_them() {
    let at = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(at.path().join(name), bytes).unwrap();
    for (name, bytes, words) in [
        ("a.csv", &b"text\nhello\n"[..], "is CSV, which is not read; convert it, such as by `python3 -c \"import csv"),
        ("a.tsv", b"text\nhello\n", "is tab-separated values"),
        ("a.parquet", b"no parquet", "from_parquet('a.parquet').to_json('a.jsonl')"),
        ("b", b"PAR1\x15\x04", "is Parquet"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\0", "`gzip -dc a.jsonl.gz > a.jsonl`"),
        ("c.txt", b"\x1f\x8b\x08\0", "is compressed by gzip"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", "`zstd -dc a.jsonl.zst > a.jsonl`"),
        ("d.jsonl", b"\xff\xfe{\0", "is UTF-16"),
        ("my data.csv", b"a", "< IN > OUT`"),
        ("a.zip", b"PK\x03\x04", "is an archive, which is not read; unpack it"),
    ] {
        write(name, bytes);
        refused(at.path(), &["data", name], 2, &[name, words]);
        refused(at.path(), &train(&["--data", name, "--steps", "1", "--out", "run"]), 2, &[name, "is "]);
    }
    assert!(!at.path().join("run").exists());
    fs::create_dir(at.path().join("set")).unwrap();
    write("set/a.parquet", b"PAR1");
    refused(at.path(), &["data", "set"], 2, &["a.parquet: is Parquet"]);
    write("set/a.txt", b"hello");
    let done = succeeds(at.path(), &["data", "set"]);
    assert!(
        done.err.contains("left out 1 file of forms that are not read") && done.out.contains("files 1\n"),
        "{}",
        done.err
    );
    for address in ["https://example.org/a.txt", "hf://datasets/a/b"] {
        refused(at.path(), &["data", address], 2, &["is an address, and nothing is downloaded"]);
        refused(at.path(), &train(&["--data", address, "--out", "run"]), 2, &[address, "nothing is downloaded"]);
    }
    refused(
        at.path(),
        &train(&["--data", "org/set", "--out", "run"]),
        2,
        &["`hf download org/set --repo-type dataset"],
    );
    refused(at.path(), &["sample", "org/tiny"], 2, &["`hf download org/tiny --local-dir tiny`"]);
}

#[cfg(unix)]
#[test]
fn a_file_given_twice_is_refused_and_a_linked_folder_is_told() {
    let at = tempfile::tempdir().unwrap();
    fs::create_dir(at.path().join("set")).unwrap();
    fs::write(at.path().join("set/a.txt"), "some text of a file\n".repeat(100)).unwrap();
    fs::write(at.path().join("set/b.txt"), "other text of a file\n".repeat(100)).unwrap();
    std::os::unix::fs::symlink("a.txt", at.path().join("set/c.txt")).unwrap();
    let done = succeeds(at.path(), &["data", "set"]);
    assert!(
        done.out.contains("files 2\n") && done.err.contains("left out 1 file linked more than once"),
        "{}",
        done.err
    );
    for paths in [["set", "set/a.txt"], ["set/b.txt", "./set/b.txt"]] {
        let both = train(&["--data", paths[0], "--data", paths[1], "--steps", "1", "--out", "run"]);
        refused(at.path(), &both, 2, &["it would count twice", "name it once"]);
    }
    fs::create_dir(at.path().join("links")).unwrap();
    std::os::unix::fs::symlink("../set", at.path().join("links/set")).unwrap();
    refused(at.path(), &["data", "links"], 2, &["links/set: is a link to a folder"]);
    fs::write(at.path().join("links/d.txt"), "d").unwrap();
    let done = succeeds(at.path(), &["data", "links"]);
    assert!(done.err.contains("left out 1 linked folder, such as links/set"), "{}", done.err);
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
