//! What a run is given: paths that mean the same from any folder, data that change under it, settings without effect.

use super::alignment::stage;
use super::sft::{chats, sft};
use super::{refused, shared, succeeds, train};
use std::fs;

#[test]
fn data_and_templates_that_changed_since_the_stop_are_named() {
    let at = chats();
    let chat = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}\
                {% if add_generation_prompt %}<|im_start|>assistant: {% endif %}";
    fs::write(at.path().join("t.jinja"), chat).unwrap();
    let marks = ["--chat-template", "t.jinja", "--set", "sft.special_tokens=['<|im_start|>', '<|im_end|>']"];
    succeeds(at.path(), &sft("chats.jsonl", &[&marks[..], &["--steps", "1", "--out", "run"]].concat()));
    let on = |more: &[&'static str]| [&["sft", "--out", "run", "--resume", "--backend", "cpu"], more].concat();
    let same = succeeds(at.path(), &on(&["--steps", "2"]));
    assert!(!same.err.contains("data.path"), "{}", same.err);
    let text = fs::read_to_string(at.path().join("chats.jsonl")).unwrap();
    fs::write(at.path().join("chats.jsonl"), text.replace("Here.", "Gone.")).unwrap();
    let words =
        ["would go on with other data (data.path ", "chats.jsonl is ", " bytes with another content", "--allow-"];
    refused(at.path(), &on(&["--steps", "3"]), 2, &words);
    fs::write(at.path().join("chats.jsonl"), text + "\n").unwrap();
    refused(at.path(), &on(&["--steps", "3"]), 2, &["bytes where it was"]);
    let done = succeeds(at.path(), &on(&["--steps", "3", "--allow-changes"]));
    assert!(done.err.contains("chats.jsonl is "), "{}", done.err);
    assert!(!succeeds(at.path(), &on(&["--steps", "4"])).err.contains("chats.jsonl is "), "they are the run's now");
}

#[test]
fn paths_of_every_kind_mean_the_same_from_any_folder() {
    let at = tempfile::tempdir().unwrap();
    let (a, b) = (at.path().join("a"), at.path().join("b"));
    [&a, &b].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    fs::write(a.join("t.txt"), "The text of a run is here. ".repeat(200)).unwrap();
    fs::write(a.join("v.txt"), "The text that validates is there. ".repeat(40)).unwrap();
    fs::write(a.join("mine.toml"), "[data]\npath = ['t.txt']\nval_path = ['v.txt']\n").unwrap();
    let sets = ["--set", "data.path=t.txt", "--set", "data.val_path=['v.txt']"];
    succeeds(&a, &train(&[&sets[..], &["--steps", "1", "--out", "../set"]].concat()));
    let mut by_file = train(&["--steps", "1", "--out", "../file"]);
    by_file.insert(1, "mine.toml");
    succeeds(&a, &by_file);
    for run in ["set", "file"] {
        let folder = format!("../{run}");
        let done = succeeds(&b, &["train", "--out", &folder, "--resume", "--steps", "2", "--backend", "cpu"]);
        assert!(done.err.contains("going on from") && !done.err.contains("changes from"), "{}", done.err);
        // A text of one's own is not read by the world's words.
        let config = fs::read_to_string(at.path().join(run).join("config.toml")).unwrap();
        assert!(config.contains("tokenizer = \"byte\""), "{run}: {config}");
    }
    fs::write(a.join("mine.toml"), "[data]\npath = ['t.txt']\ntokenizer = 'world'\n").unwrap();
    let out = by_file.len() - 1;
    by_file[out] = "../own";
    succeeds(&a, &by_file);
    let config = fs::read_to_string(at.path().join("own/config.toml")).unwrap();
    assert!(config.contains("tokenizer = \"world\""), "{config}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf_8_is_named_and_leaves_nothing() {
    use std::os::unix::ffi::OsStringExt;
    let at = tempfile::tempdir().unwrap();
    let name = std::ffi::OsString::from_vec(b"caf\xe9.txt".to_vec());
    fs::write(at.path().join(&name), "text ".repeat(1000)).unwrap();
    let mut arguments: Vec<std::ffi::OsString> =
        train(&["--out", "run", "--data"]).into_iter().map(Into::into).collect();
    arguments.push(name);
    refused(at.path(), &arguments, 2, &["caf", "is a name that is not UTF-8"]);
    assert!(!at.path().join("run").exists());
}

#[test]
fn files_that_all_validate_leave_nothing_to_learn_from() {
    let at = chats();
    let all = sft("chats.jsonl", &["--set", "data.val_path=chats.jsonl", "--out", "run"]);
    let words = "chats.jsonl: holds nothing but the files of data.val_path; there is nothing to train on";
    refused(at.path(), &all, 2, &[words]);
    fs::copy(at.path().join("chats.jsonl"), at.path().join("pairs.jsonl")).unwrap();
    let pairs = stage("dpo", &["--set", "data.val_path=pairs.jsonl", "--out", "run"]);
    refused(at.path(), &pairs, 2, &["holds nothing but the files of data.val_path"]);
}

#[test]
fn settings_without_effect_are_refused_or_told() {
    let at = chats();
    for (sets, words) in [
        ("lora.alpha=16", "lora.alpha: has no effect while lora.rank is 0"),
        ("grpo.beta=0.1", "grpo.beta: has no effect in `hadal sft`, which takes no [grpo]"),
        ("optimizer.block_size=64", "optimizer.block_size: has no effect unless optimizer.kind is \"adamw8bit\""),
        ("data.text_field=x", "data.text_field: has no effect in `hadal sft`"),
    ] {
        refused(at.path(), &sft("chats.jsonl", &["--set", sets, "--out", "run"]), 2, &[words]);
    }
    fs::write(at.path().join("mine.toml"), "[lora]\nrank = 0\nalpha = 16.0\n").unwrap();
    let mut by_file = train(&["--out", "run"]);
    by_file.insert(1, "mine.toml");
    refused(at.path(), &by_file, 2, &["lora.alpha: has no effect"]);
    let judged = stage("grpo", &["--set", "reward.functions=foo"]);
    refused(shared(), &judged, 2, &["reward.functions", "unknown variant `foo`", "`exact`"]);
    let done = succeeds(at.path(), &train(&["--set", "data.shuffle=false", "--steps", "1", "--out", "told"]));
    assert!(done.err.contains("warning: data.shuffle has no effect on the embedded world"), "{}", done.err);
}
