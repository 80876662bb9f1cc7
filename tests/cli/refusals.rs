//! Bad arguments, configurations, paths, devices.

use super::{command, hadal, misused, refused, shared, succeeds, train};
use std::fs;
use std::path::Path;

/// A scratch folder with `files` in it.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// `train` with more arguments is refused with code 2 and leaves no run behind.
fn bad_run(at: &Path, more: &[&str], words: &[&str]) {
    refused(at, &train(&[&["--steps", "1", "--out", "run"], more].concat()), 2, words);
    assert!(!at.join("run").exists(), "{more:?}");
}

#[test]
fn without_an_adapter_a_gpu_is_refused_and_auto_takes_the_cpu() {
    let at = folder(&[]);
    refused(at.path(), &["train", "--backend", "gpu", "--out", "run"], 4, &["mesa-vulkan-drivers", "libvulkan1"]);
    refused(at.path(), &["check"], 4, &["mesa-vulkan-drivers"]);
    assert!(!at.path().join("run").exists());
    let auto = train(&["--steps", "1", "--out", "run"]).iter().map(|a| a.replace("cpu", "auto")).collect::<Vec<_>>();
    let done = succeeds(at.path(), &auto);
    let head = "no GPU found (hadal info says more); training on the CPU with ";
    assert!(done.err.starts_with(head), "{}", done.err);
    let info = succeeds(at.path(), &["info"]);
    assert!(info.out.contains("CPU executor") && info.out.contains("mesa-vulkan-drivers"), "{}", info.out);
}

#[test]
fn an_adapter_that_does_not_exist_is_refused() {
    let at = folder(&[]);
    let run = |adapter| refused(at.path(), &["train", "--out", "run", "--adapter", adapter], 2, &[adapter, "none"]);
    run("Voodoo");
    run("7");
    refused(at.path(), &train(&["--out", "run", "--adapter", "0"]), 2, &["--adapter", "--backend cpu"]);
    refused(at.path(), &train(&["--out", "run", "--set", "train.precision=mixed"]), 2, &["train.precision", "f32"]);
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let latin: &[u8] = b"fine until h\xe9re";
    let at = folder(&[("latin.txt", latin), ("short.txt", b"hello"), ("empty.txt", b""), ("image.png", b"x")]);
    fs::create_dir(at.path().join("images")).unwrap();
    let data = |name: &str, words: &[&str]| bad_run(at.path(), &["--data", name], words);
    data("missing.txt", &["missing.txt"]);
    data("latin.txt", &["latin.txt", "byte 12", "0xe9", "UTF-8"]);
    data("short.txt", &["6 tokens", "33"]);
    data("empty.txt", &["1 tokens", "33"]);
    data("images", &["images", ".txt"]);
    let world = shared().join("world.txt").to_string_lossy().into_owned();
    bad_run(at.path(), &["--data", &world, "--tokenizer", "nope.json"], &["data.tokenizer", "nope.json", "gpt2"]);
    bad_run(at.path(), &["--data", &world, "--tokenizer", "latin.txt"], &["latin.txt", "UTF-8"]);
    let few = ["--data", &world, "--tokenizer", "gpt2", "--set", "model.vocab_size=1000"];
    bad_run(at.path(), &few, &["model.vocab_size", "1000", "50257"]);
    bad_run(at.path(), &["--data", &world, "--set", "data.val_fraction=1"], &["data.val_fraction"]);
}

#[test]
fn keys_and_values_that_do_not_exist_are_answered_with_those_that_do() {
    let at = folder(&[
        ("key.toml", b"[train]\nmicro_batch = 2\nstpes = 3\n"),
        ("type.toml", b"[train]\nsteps = \"many\"\n"),
        ("syntax.toml", b"[train\n"),
        ("bytes.toml", b"[train]\n# \xff\n"),
    ]);
    let set = |set: &str, words: &[&str]| bad_run(at.path(), &["--set", set], words);
    set("model.topk_method=noaux_tc", &["model.topk_method", "scoring_func", "sigmoid"]);
    set("train.stpes=3", &["train.stpes", "train.steps"]);
    set("train.keep", &["--set train.keep", "SECTION.KEY=VALUE"]);
    set("train.keep=many", &["train.keep", "\"many\"", "whole number"]);
    set("optimizer.kind=sgd", &["optimizer.kind", "sgd", "adamw"]);
    let file = |name: &str, words: &[&str]| bad_run(at.path(), &[name], words);
    file("key.toml", &["key.toml", "line 3", "train.stpes", "train.steps"]);
    file("type.toml", &["type.toml", "line 2", "train.steps", "whole number"]);
    file("syntax.toml", &["syntax.toml", "line 1"]);
    file("bytes.toml", &["bytes.toml", "line 2", "UTF-8"]);
    file("missing.toml", &["missing.toml", "tiny, small, seed"]);
    file(".", &["folder"]);
}

#[test]
fn impossible_sizes_are_refused_by_name() {
    let at = folder(&[]);
    for (set, key) in [
        ("model.num_experts_per_tok=9", "model.num_experts_per_tok"),
        ("model.qk_rope_head_dim=7", "model.qk_rope_head_dim"),
        ("model.num_attention_heads=3", "model.hidden_size"),
        ("model.vocab_size=100", "model.vocab_size"),
        ("model.hidden_size=0", "model.hidden_size"),
        ("model.hidden_size=999999999999", "model.hidden_size"),
        ("model.num_hidden_layers=1000000", "model."),
        ("train.sequence_length=65", "train.sequence_length"),
        ("train.micro_batch=0", "train.micro_batch"),
        ("train.micro_batch=4294967296", "train.micro_batch"),
        ("train.micro_batch=10000000", "train.micro_batch"),
        ("train.accumulation=0", "train.accumulation"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate"),
        ("optimizer.beta2=1", "optimizer.beta2"),
        ("schedule.min_learning_rate=1", "schedule.min_learning_rate"),
    ] {
        bad_run(at.path(), &["--set", set], &[key]);
    }
    for steps in ["0", "18446744073709551615"] {
        refused(at.path(), &train(&["--out", "run", "--steps", steps]), 2, &["train.steps"]);
    }
    assert!(!at.path().join("run").exists());
}

#[test]
fn a_plan_that_does_not_fit_is_refused_before_anything_is_written() {
    let at = folder(&[]);
    let words = ["MiB", "train.micro_batch"];
    let none = [&words[..], &["not even train.micro_batch=1"]].concat();
    refused(at.path(), &train(&["--out", "run", "--vram", "100KiB"]), 3, &none);
    a_cap_names_the_micro_batch_that_fits(at.path());
    if cfg!(target_os = "linux") {
        let largest = ["GiB", "the largest micro-batch that fits is train.micro_batch=", "train.accumulation="];
        refused(at.path(), &train(&["--out", "run", "--set", "train.micro_batch=100000"]), 3, &largest);
    }
    assert!(!at.path().join("run").exists());
    let done = hadal(at.path(), &["plan", "seed", "--vram", "1GiB"]);
    assert_eq!(done.code, 3, "{}", done.err);
    assert!(done.err.starts_with("error: one sequence already needs"), "{}", done.err);
}

/// The largest micro-batch that a plan names.
pub fn fits(plan: &str) -> usize {
    let last = plan.lines().last().unwrap();
    last.split("B: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// What `hadal plan` finds is what `hadal train` says, and takes.
fn a_cap_names_the_micro_batch_that_fits(at: &Path) {
    let sizes: Vec<&str> = train(&[]).into_iter().filter(|x| x.contains("model.") || x.contains("length")).collect();
    let sets: Vec<&str> = sizes.iter().flat_map(|&set| ["--set", set]).collect();
    let plan = succeeds(
        at,
        &[&["plan", "--vram", "24MiB", "--set", "train.precision=f32", "--set", "train.sample_interval=0"], &sets[..]]
            .concat(),
    )
    .out;
    let fits = fits(&plan);
    assert!(fits > 4 && plan.contains(&format!("with {fits} sequences a pass: memory")), "{plan}");
    let cap = |micro_batch: usize| {
        let set = format!("train.micro_batch={micro_batch}");
        let base = ["train", "--backend", "cpu", "--out", "capped", "--steps", "1", "--vram", "24MiB"];
        let rest = ["--set", &set, "--set", "train.sample_interval=0", "--set", "train.eval_batches=1"];
        [&base, &sets[..], &rest].concat().into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    refused(at, &cap(fits + 1), 3, &["MiB", &format!("train.micro_batch={fits}")]);
    assert!(!at.join("capped").exists());
    succeeds(at, &cap(fits));
}

#[test]
fn folders_that_cannot_be_written_are_the_disks_fault() {
    let at = folder(&[("file", b"")]);
    refused(at.path(), &train(&["--out", "file/run"]), 5, &["file/run"]);
    refused(at.path(), &train(&["--out", "file"]), 2, &["file", "--out"]);
    if cfg!(target_os = "linux") {
        refused(at.path(), &train(&["--out", "/proc/run"]), 5, &["/proc/run"]);
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let program = command(at.path()).get_program().to_owned();
        let run = std::process::Command::new(program).arg("kernels").stdout(full).output().unwrap();
        assert_eq!(run.status.code(), Some(5), "{:?}", run.stderr);
    }
}

#[test]
fn a_folder_with_content_is_left_alone() {
    let at = folder(&[]);
    fs::create_dir(at.path().join("photos")).unwrap();
    fs::write(at.path().join("photos/one.jpg"), "x").unwrap();
    refused(at.path(), &train(&["--out", "photos"]), 2, &["photos", "--resume", "--out"]);
    assert_eq!(fs::read_dir(at.path().join("photos")).unwrap().count(), 1);
}

#[test]
fn a_folder_in_use_is_locked() {
    let at = folder(&[]);
    succeeds(at.path(), &train(&["--steps", "1", "--out", "run"]));
    let lock = fs::File::open(at.path().join("run/lock")).unwrap();
    lock.lock().unwrap();
    let before = fs::read(at.path().join("run/metrics.jsonl")).unwrap();
    refused(at.path(), &train(&["--steps", "2", "--out", "run", "--resume"]), 6, &["run", "another"]);
    refused(at.path(), &train(&["--steps", "2", "--out", "run"]), 6, &["run", "another"]);
    assert_eq!(fs::read(at.path().join("run/metrics.jsonl")).unwrap(), before);
    drop(lock);
    succeeds(at.path(), &train(&["--steps", "2", "--out", "run", "--resume"]));
}

#[test]
fn pictures_and_tables_need_something_to_show_and_a_place_to_go() {
    let at = folder(&[("file", b"")]);
    fs::create_dir(at.path().join("empty")).unwrap();
    let run = shared().join("run").to_string_lossy().into_owned();
    refused(at.path(), &["plot", "empty", "-o", "x.png"], 2, &["empty", "metrics.jsonl"]);
    refused(at.path(), &["plot", "file", "-o", "x.png"], 2, &["file", "run folder"]);
    refused(at.path(), &["plot", "missing", "-o", "x.png"], 2, &["missing"]);
    refused(at.path(), &["plot", &run, "-o", "missing/x.png"], 2, &["missing", "folder"]);
    refused(at.path(), &["plot", &run, "-o", "empty"], 2, &["empty", "is a folder"]);
    refused(at.path(), &["data", "world", "--out", "file"], 2, &["file", "exists"]);
    refused(at.path(), &["data", "world", "--out", "missing/w.txt"], 2, &["missing"]);
    refused(at.path(), &["kernels", "--show", "warp"], 2, &["warp", "hadal kernels"]);
    refused(at.path(), &["kernels", "--show", "rms_norm", "--variant", "x"], 2, &["rms_norm", "x"]);
}

#[test]
fn samples_need_sensible_settings_and_a_model() {
    let at = shared();
    refused(at, &["sample", "run", "--temperature", "-1"], 2, &["--temperature", "-1"]);
    refused(at, &["sample", "run", "--temperature", "nan"], 2, &["--temperature"]);
    refused(at, &["sample", "run", "--top-p", "0"], 2, &["--top-p"]);
    refused(at, &["sample", "missing"], 2, &["missing"]);
    refused(at, &["sample", "world.txt"], 2, &["world.txt", "run folder"]);
    misused(at, &["sample", "run", "--window", "0"], "--window");
    misused(at, &["eval", "run", "--batch", "0"], "--batch");
    refused(at, &["eval", "run", "--length", "100000"], 2, &["--length", "positions that the model takes"]);
}

#[test]
fn what_the_parser_refuses_is_named() {
    let at = folder(&[]);
    misused(at.path(), &["trian"], "train");
    misused(at.path(), &["train", "--bogus"], "--bogus");
    misused(at.path(), &["train", "--backend", "tpu"], "auto, gpu, cpu");
    misused(at.path(), &["train", "--steps", "-1"], "--steps");
    misused(at.path(), &["train", "--vram", "huge"], "24GiB");
    misused(at.path(), &["train", "--resume"], "--out");
    misused(at.path(), &["plan", "--vram", "0"], "--vram");
    let help = hadal(at.path(), &[] as &[&str]);
    assert!(help.err.contains("Usage: hadal <COMMAND>") && !help.err.contains("error"), "{}", help.err);
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), 0);
}
