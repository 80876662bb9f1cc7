//! The same files given to the program: exit code 0 or 2, no word of a panic, no hang.

use super::formats::{FORMATS, Format, REQUEST};
use super::judge::scratch;
use super::{mutated, seeds};
use assert_cmd::Command;
use std::fs::{copy, create_dir, write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// Runs of each format in every run of the tests.
const FEW: u64 = 4;
/// The same in the full form.
const MANY: u64 = 300;
/// Longest that a run may take: what is accepted is also worked with.
const LONGEST: Duration = Duration::from_secs(60);

/// A model that was trained for one update on the CPU.
fn model() -> &'static Path {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    let folder = MODEL.get_or_init(|| {
        let folder = scratch();
        let sizes = ["hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2", "max_position_embeddings=64"];
        let mut command = program(folder.path());
        command.args([
            "train",
            "--backend",
            "cpu",
            "--steps",
            "1",
            "--out",
            "run",
            "--set",
            "train.sequence_length=32",
        ]);
        command.args([
            "--set",
            "train.eval_batches=1",
            "--set",
            "schedule.warmup_steps=1",
            "--set",
            "schedule.decay_steps=600",
        ]);
        for size in sizes {
            command.args(["--set", &format!("model.{size}")]);
        }
        command.assert().success();
        folder
    });
    folder.path()
}

fn program(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("hadal").unwrap();
    command.current_dir(folder).timeout(LONGEST).env("XDG_CACHE_HOME", folder).env("LOCALAPPDATA", folder);
    for key in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(key, folder.join("no-such-driver.json"));
    }
    command
}

/// Files of the checkpoint, each with the command that reads it.
const SAMPLE: &[&str] = &["sample", "model", "--tokens", "2", "--backend", "cpu"];
const RESUME: &[&str] = &["train", "--out", "run", "--resume", "--steps", "2", "--backend", "cpu"];
const SFT: &[&str] = &["sft", "--model", "model", "--chat-template", "chat.jinja", "--out", "new", "--backend", "cpu"];

/// Where the program finds a file of this format, and the arguments that make it read it.
fn reading(format: &str) -> (&'static str, &'static [&'static str]) {
    match format {
        "safetensors" => ("model/model.safetensors", SAMPLE),
        "index" => ("model/model.safetensors.index.json", SAMPLE),
        "config" => ("model/config.json", SAMPLE),
        "tokenizer" => ("model/tokenizer.json", SAMPLE),
        "tokenizer_config" => ("model/tokenizer_config.json", SAMPLE),
        "manifest" => ("model/manifest.json", SAMPLE),
        "state" => ("run/checkpoints/step-00000001/trainer_state.json", RESUME),
        "lora" => ("model/lora.json", SAMPLE),
        "jsonl" | "preference" | "question" => ("a.jsonl", &["data", "a.jsonl", "--tokenizer", "byte"]),
        "bin" => ("a.bin", &["data", "a.bin", "--tokenizer", "byte"]),
        "npy" => ("a.npy", &["data", "a.npy", "--tokenizer", "byte"]),
        "text" => ("a.txt", &["data", "a.txt", "--tokenizer", "byte"]),
        "toml" => ("run.toml", &["plan", "run.toml"]),
        "metrics" => ("run/metrics.jsonl", &["plot", "run", "--output", "a.png"]),
        "template" => ("chat.jinja", SFT),
        _ => ("sets", &[]),
    }
}

/// What a file is changed from: the model's own where it has one, so that some changes are let through.
fn originals(format: &Format) -> Vec<Vec<u8>> {
    let (path, _) = reading(format.name);
    let own = match path.split_once("model/") {
        Some(("", name)) => model().join("run/checkpoints/step-00000001").join(name),
        _ => model().join(path),
    };
    std::fs::read(own).map_or_else(|_| (format.seeds)(), |bytes| vec![bytes])
}

fn lay_out(folder: &Path, all: bool) {
    let from = model().join("run/checkpoints/step-00000001");
    let mut targets = vec![folder.join("model")];
    if all {
        targets.extend(["run", "run/checkpoints", "run/checkpoints/step-00000001"].map(|name| folder.join(name)));
        copy_if_there(&model().join("run/config.toml"), &folder.join("run-config.toml"));
    }
    targets.iter().for_each(|target| create_dir(target).unwrap());
    for target in [targets.first(), targets.get(3)].into_iter().flatten() {
        for entry in std::fs::read_dir(&from).unwrap() {
            let name = entry.unwrap().file_name();
            // Without it the files may be changed.
            if name != "manifest.json" {
                copy(from.join(&name), target.join(&name)).unwrap();
            }
        }
    }
    if all {
        std::fs::rename(folder.join("run-config.toml"), folder.join("run/config.toml")).unwrap();
        copy_if_there(&model().join("run/metrics.jsonl"), &folder.join("run/metrics.jsonl"));
    }
}

fn copy_if_there(from: &Path, to: &Path) {
    if from.exists() {
        copy(from, to).unwrap();
    }
}

/// What is wrong with how the program took mutation number `i`.
fn fault(format: &Format, originals: &[Vec<u8>], i: u64) -> Option<String> {
    let folder = scratch();
    let (path, arguments) = reading(format.name);
    let bytes = mutated(format, originals, i);
    lay_out(folder.path(), path.starts_with("run/"));
    if format.name == "index" {
        std::fs::remove_file(folder.path().join("model/model.safetensors")).unwrap();
        let dtype = safetensors::Dtype::F32;
        let shards = seeds::SHARDS.map(|(file, tensor)| (file, seeds::tensors(&[(tensor, dtype, &[2])])));
        shards.iter().for_each(|(file, bytes)| write(folder.path().join("model").join(file), bytes).unwrap());
    }
    write(folder.path().join(path), &bytes).unwrap();
    let mut command = program(folder.path());
    if arguments.is_empty() {
        let text = String::from_utf8_lossy(&bytes).replace('\0', "");
        command.arg("plan");
        // An argument of the system's may have 128 KiB.
        for set in text.lines().filter(|set| set.len() < 100_000) {
            command.args(["--set", set]);
        }
    }
    judged(command.args(arguments).output().map_err(|e| e.to_string()))
}

fn judged(output: Result<std::process::Output, String>) -> Option<String> {
    let output = match output {
        Ok(output) => output,
        Err(e) => return Some(e),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    match output.status.code() {
        Some(0) if !said.contains("panicked") => None,
        Some(2) if !said.contains("panicked") && errors == 1 => None,
        code => Some(format!("code {code:?}: {}", said.chars().take(600).collect::<String>())),
    }
}

fn run(n: u64) {
    let mut faults = Vec::new();
    for format in FORMATS.iter().filter(|format| format.name != REQUEST) {
        let originals = originals(format);
        let found =
            (0..n).filter_map(|i| Some(format!("{} number {i}: {}", format.name, fault(format, &originals, i)?)));
        let before = faults.len();
        faults.extend(found);
        println!("{:<16} {n} mutations, {} faults", format.name, faults.len() - before);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_program_takes_mutations_of_every_format() {
    run(FEW);
}

#[test]
#[ignore = "300 mutations of each format through the program, minutes"]
fn the_program_takes_hundreds_of_mutations_of_every_format() {
    run(MANY);
}

#[cfg(unix)]
#[test]
fn a_run_that_panics_hangs_or_leaves_with_another_code_is_found() {
    let shell = |script: &str, seconds: u64| {
        let mut command = Command::new("sh");
        judged(command.args(["-c", script]).timeout(Duration::from_secs(seconds)).output().map_err(|e| e.to_string()))
    };
    assert_eq!(shell("echo error: no >&2; exit 2", 20), None);
    assert_eq!(shell("exit 0", 20), None);
    for script in ["echo panicked >&2", "echo panicked >&2; exit 101", "exit 5", "exit 2", "kill -9 $$"] {
        assert!(shell(script, 20).is_some(), "{script}");
    }
    assert!(shell("exec sleep 20", 1).is_some());
}
