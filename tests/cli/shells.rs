//! Completions and manual pages: all commands are in them, and shells take them.

use super::{misused, refused, succeeds};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The commands that `help` lists, below the words `of`: those of the program itself by groups.
fn listed(at: &Path, of: &[&str]) -> Vec<String> {
    let help = succeeds(at, &[of, &["--help"]].concat()).out;
    let mark = if of.is_empty() { "Train:\n" } else { "Commands:\n" };
    let Some((_, commands)) = help.split_once(mark) else { return Vec::new() };
    let commands = commands.split(if of.is_empty() { "Options:" } else { "\n\n" }).next().unwrap();
    let commands = commands.lines().filter(|line| line.starts_with("  "));
    // Lines that go on with a description are indented further.
    let names = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Whether the shell parses the script; `None` if there is no such shell here.
fn parses(shell: &str, script: &Path) -> Option<bool> {
    let found = Command::new(shell).arg("-n").arg(script).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.ok().map(|status| status.success())
}

#[test]
fn every_shell_takes_the_script_of_completions() {
    let at = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeeds(at.path(), &["completions", shell]).out;
        assert!(script.contains("HADAL_COMPLETE") && script.contains("hadal"), "{shell}: {script}");
        let path = at.path().join(shell);
        fs::write(&path, script).unwrap();
        if let "bash" | "zsh" | "fish" = shell {
            assert_ne!(parses(shell, &path), Some(false), "{shell}");
        }
    }
    let broken = at.path().join("broken");
    fs::write(&broken, fs::read_to_string(at.path().join("bash")).unwrap().replacen("fi", "", 1)).unwrap();
    assert_ne!(parses("bash", &broken), Some(true));
    misused(at.path(), &["completions", "cmd"], "cmd");
}

/// What a shell offers for the last of `words`.
fn offered(at: &Path, words: &[&str]) -> Vec<String> {
    let done = super::ran(super::command(at).env("HADAL_COMPLETE", "fish").args(["--", "hadal"]).args(words));
    assert_eq!(done.code, 0, "{words:?}: {}", done.err);
    done.out.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn commands_options_presets_keys_and_run_folders_are_completed() {
    let at = tempfile::tempdir().unwrap();
    let commands = listed(at.path(), &[]);
    assert!(commands.len() > 15 && commands.contains(&"train".to_owned()), "{commands:?}");
    let found = offered(at.path(), &[""]);
    assert!(commands.iter().all(|command| found.contains(command)), "{found:?}");
    for (run, is_run) in [("tiny-1", true), ("tiny-2", true), ("notes", false)] {
        fs::create_dir_all(at.path().join("runs").join(run)).unwrap();
        if is_run {
            fs::write(at.path().join("runs").join(run).join("config.toml"), "").unwrap();
        }
    }
    fs::write(at.path().join("mine.toml"), "").unwrap();
    fs::write(at.path().join("mine.txt"), "").unwrap();
    for (words, expected) in [
        (&["train", "ti"][..], &["tiny"][..]),
        (&["train", "mi"], &["mine.toml"]),
        (&["plan", "see"], &["seed", "seed-literal"]),
        (&["train", "--set", "train.eval_"], &["train.eval_interval=", "train.eval_batches="]),
        (&["sft", "--model", "runs/tiny-2"], &["runs/tiny-2"]),
        (&["sample", "runs/"], &["runs/tiny-1", "runs/tiny-2"]),
        (&["train", "--batch"], &["--batch-size"]),
        (&["train", "--backend", "c"], &["cpu"]),
    ] {
        let expected: Vec<String> =
            expected.iter().map(|word| word.replace('/', std::path::MAIN_SEPARATOR_STR)).collect();
        assert_eq!(offered(at.path(), words), expected, "{words:?}");
    }
    // A configuration may follow as well, since --resume needs no value.
    let resumed = offered(at.path(), &["train", "--resume", ""]);
    assert!(
        ["runs/tiny-1", "runs/tiny-2", "small"].iter().all(|word| resumed.contains(&(*word).to_owned())),
        "{resumed:?}"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let at = tempfile::tempdir().unwrap();
    succeeds(at.path(), &["man", "pages/man1"]);
    let mut expected = BTreeSet::from(["hadal.1".to_owned()]);
    for command in listed(at.path(), &[]) {
        let below = listed(at.path(), &[&command]);
        expected.extend(below.iter().map(|name| format!("hadal-{command}-{name}.1")));
        expected.insert(format!("hadal-{command}.1"));
    }
    assert!(expected.contains("hadal-data-world.1"), "{expected:?}");
    let pages = at.path().join("pages/man1");
    let found: BTreeSet<String> =
        fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected);
    for name in &found {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        let first = page.lines().find(|line| line.starts_with(".TH")).unwrap();
        let version = concat!("\"hadal ", env!("CARGO_PKG_VERSION"), "\"");
        assert!(first.contains(name.trim_end_matches(".1")) && first.contains(version), "{first}");
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    assert!(fs::read_to_string(pages.join("hadal-train.1")).unwrap().contains("resume"));
    let printed = succeeds(at.path(), &["man"]).out;
    assert_eq!(printed.trim_end(), fs::read_to_string(pages.join("hadal.1")).unwrap().trim_end());
    fs::write(at.path().join("file"), "").unwrap();
    refused(at.path(), &["man", "file"], 5, &["file", "cannot be written"]);
}
