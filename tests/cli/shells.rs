//! Completions and manual pages: all commands are in them, and shells take them.

use super::{misused, refused, succeeds};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The commands that `help` lists, below the words `of`.
fn listed(at: &Path, of: &[&str]) -> Vec<String> {
    let help = succeeds(at, &[of, &["--help"]].concat()).out;
    let Some((_, commands)) = help.split_once("Commands:\n") else { return Vec::new() };
    let commands = commands.split("\n\n").next().unwrap().lines();
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
fn completions_of_every_shell_know_every_command() {
    let at = tempfile::tempdir().unwrap();
    let commands = listed(at.path(), &[]);
    assert!(commands.len() > 15 && commands.contains(&"train".to_owned()), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeeds(at.path(), &["completions", shell]).out;
        for word in commands.iter().map(String::as_str).chain(["resume", "adapter"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
        let path = at.path().join(shell);
        fs::write(&path, script).unwrap();
        if let "bash" | "zsh" | "fish" = shell {
            assert_ne!(parses(shell, &path), Some(false), "{shell}");
        }
    }
    let broken = at.path().join("broken");
    fs::write(&broken, fs::read_to_string(at.path().join("bash")).unwrap().replacen("esac", "", 1)).unwrap();
    assert_ne!(parses("bash", &broken), Some(true));
    misused(at.path(), &["completions", "cmd"], "cmd");
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
