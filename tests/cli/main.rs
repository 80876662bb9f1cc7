//! The program as its user meets it: every command on good input, and what each kind of bad input is answered with.

mod alignment; // preferences and rewards
mod begins; // the tokens that texts begin with
mod bench; // measurements
mod chat; // conversations, and a server that cannot begin
mod corpora; // the user's data
mod device; // what needs an adapter
mod drawn; // GRPO and PPO
mod events; // for TensorBoard
mod export; // models out to transformers and in from it
mod files; // models and tensor files, sound and broken
mod folders; // model folders that lie
mod hostile; // broken models, tensors, tokenizers
mod inputs; // paths, data that change, settings without effect
#[cfg(unix)]
mod judges; // programs that judge answers
mod lora; // adapters
mod merits; // what preference training came to
mod pairs; // reward models and DPO
mod pipeline; // several stages
mod positions; // sequences longer than a model was trained at
mod refusals; // bad arguments, configurations, paths, devices
mod resume; // going on with a run
mod runs; // good input
mod sft; // conversations
mod shapes; // JSON lines of every shape
mod scorers; // reward models that judge answers
mod shells; // completions and manual pages
#[cfg(unix)]
mod stops; // signals
mod study; // runs that differ in one thing
mod terminal; // what a run says
mod travels; // what goes along with a model from folder to folder
mod written; // preferences and questions as files

use assert_cmd::Command;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Makes a training run one of milliseconds.
const SMALL: [&str; 20] = [
    "--backend",
    "cpu",
    "--set",
    "model.hidden_size=32",
    "--set",
    "model.num_hidden_layers=2",
    "--set",
    "model.num_attention_heads=2",
    "--set",
    "model.max_position_embeddings=64",
    "--set",
    "train.sequence_length=32",
    "--set",
    "train.micro_batch=2",
    "--set",
    "train.eval_batches=2",
    "--set",
    "schedule.warmup_steps=2",
    // With fixed numbers a run of more steps is the same run, which goes on.
    "--set",
    "schedule.decay_steps=600",
];

/// What a command did.
struct Done {
    code: i32,
    out: String,
    err: String,
}

/// The program in `folder`, where it also keeps its pipelines.
fn command_on_adapters(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("hadal").unwrap();
    command.current_dir(folder).env("RUST_BACKTRACE", "1").timeout(std::time::Duration::from_secs(200));
    command.env("XDG_CACHE_HOME", folder).env("LOCALAPPDATA", folder);
    command
}

/// The same on a machine without a Vulkan driver.
fn command(folder: &Path) -> Command {
    let mut command = command_on_adapters(folder);
    command.timeout(std::time::Duration::from_secs(200));
    for key in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(key, folder.join("no-such-driver.json"));
    }
    command
}

/// Runs the program; whatever it is asked, it neither panics nor prints a backtrace.
fn hadal(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Done {
    ran(command(folder).args(arguments))
}

fn ran(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked") && !err.contains("stack backtrace"), "{err}");
    Done { code: output.status.code().expect("ended by a signal"), out, err }
}

/// Runs the program and expects success.
fn succeeds(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Done {
    let done = hadal(folder, arguments);
    assert_eq!(done.code, 0, "{}", done.err);
    done
}

/// Runs the program and expects this exit code, nothing on standard output, and at the end one error with each of
/// `words`: a line, and an indented one for each of several things that it tells.
fn refused(folder: &Path, arguments: &[impl AsRef<OsStr>], code: i32, words: &[&str]) -> String {
    let shown: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    let done = hadal(folder, arguments);
    assert_eq!(done.code, code, "{shown:?}: {}", done.err);
    assert_eq!(done.out, "", "{shown:?}");
    let errors: Vec<&str> = done.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{shown:?}: {}", done.err);
    let lines: Vec<&str> = done.err.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    assert!(lines[1..].iter().all(|line| line.starts_with("  ")), "{shown:?}: {}", done.err);
    for word in words {
        assert!(lines.iter().any(|line| line.contains(word)), "{shown:?}: {word:?} is not in: {}", lines.join("\n"));
    }
    assert!(lines.iter().all(|line| line.len() < 700), "{shown:?}: {}", errors[0]);
    done.err
}

/// As [`refused`] for what the argument parser answers, on several lines.
fn misused(folder: &Path, arguments: &[&str], word: &str) {
    let done = hadal(folder, arguments);
    assert_eq!((done.code, done.out.as_str()), (2, ""), "{arguments:?}: {}", done.err);
    assert!(done.err.starts_with("error: ") && done.err.contains(word), "{arguments:?}: {}", done.err);
}

/// `train` of a small model with more arguments.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train"], &SMALL[..], more].concat()
}

/// A folder with `run`, which has trained for 2 steps; only to be read.
fn shared() -> &'static Path {
    static SHARED: OnceLock<TempDir> = OnceLock::new();
    let folder = SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        succeeds(folder.path(), &train(&["--steps", "2", "--out", "run"]));
        succeeds(folder.path(), &["data", "world", "--stories", "40", "--out", "world.txt"]);
        folder
    });
    folder.path()
}
