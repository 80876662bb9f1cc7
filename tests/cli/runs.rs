//! Every command on good input.

use super::files::{CHECKPOINT, batch, copy, write};
use super::{command, refused, shared, succeeds, train};
use hadal::checkpoint::tensors::read_tensors;
use hadal::train::journal::read_rows;
use hadal::train::rows::Row;
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn a_run_leaves_the_files_that_are_promised() {
    let run = shared().join("run");
    for file in ["config.toml", "metrics.jsonl", "loss.png", "log.txt", "samples/step-2.txt", "lock"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    for file in [
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "optimizer.safetensors",
        "trainer_state.json",
        "config.toml",
        "manifest.json",
    ] {
        assert!(shared().join(CHECKPOINT).join(file).is_file(), "{file}");
    }
    for marker in ["latest", "best"] {
        assert_eq!(fs::read_to_string(run.join("checkpoints").join(marker)).unwrap(), "step-00000002\n");
    }
    let picture = image::open(run.join("loss.png")).unwrap();
    assert!(picture.width() > 100);
    let rows = read_rows(&run).unwrap();
    let kinds: Vec<(bool, u64)> = rows.iter().map(|row| (matches!(row, Row::Val(_)), row.step())).collect();
    assert_eq!(kinds, [(true, 0), (false, 1), (false, 2), (true, 2)]);
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("training on the CPU") && log.contains("step 2: validation loss"), "{log}");
}

#[test]
fn without_a_name_runs_are_numbered() {
    let at = tempfile::tempdir().unwrap();
    for name in ["runs/tiny-1", "runs/tiny-2"] {
        let done = succeeds(at.path(), &train(&["--steps", "1"]));
        assert!(done.err.contains(name) && at.path().join(name).join("loss.png").is_file(), "{}", done.err);
    }
}

#[test]
fn runs_that_begin_at_the_same_time_get_a_folder_each() {
    let at = tempfile::tempdir().unwrap();
    let start = |_| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("hadal"));
        command.current_dir(at.path()).env("XDG_CACHE_HOME", at.path()).args(train(&["--steps", "1"]));
        command.args(["--set", "train.sample_interval=0"]).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs: Vec<_> = (0..4).map(start).collect();
    for run in runs {
        let done = run.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    for number in 1..5 {
        assert!(at.path().join(format!("runs/tiny-{number}/loss.png")).is_file(), "{number}");
    }
}

#[test]
fn a_run_that_cannot_begin_leaves_no_folder() {
    let at = tempfile::tempdir().unwrap();
    let missing = ["--data", "missing.txt"];
    refused(at.path(), &train(&missing), 2, &["missing.txt"]);
    refused(at.path(), &train(&[&["--out", "some/where"], &missing[..]].concat()), 2, &["missing.txt"]);
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), 0);
    // A folder that cannot be had is known before anything else is looked at.
    fs::create_dir(at.path().join("full")).unwrap();
    fs::write(at.path().join("full/one.jpg"), "x").unwrap();
    let said = refused(at.path(), &train(&[&["--out", "full"], &missing[..]].concat()), 2, &["full", "not empty"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn own_text_is_trained_on_sampled_and_evaluated() {
    let at = tempfile::tempdir().unwrap();
    fs::create_dir(at.path().join("texts")).unwrap();
    fs::copy(shared().join("world.txt"), at.path().join("texts/world.txt")).unwrap();
    let done = succeeds(at.path(), &train(&["--steps", "2", "--data", "texts", "--out", "run"]));
    assert!(done.err.contains("1 file, ") && done.err.contains("held out"), "{}", done.err);
    let sample = ["sample", "run", "--prompt", "Grüße", "--tokens", "3", "--backend", "cpu"];
    let done = succeeds(at.path(), &sample);
    assert!(done.out.starts_with("Grüße"), "{}", done.out);
    assert_eq!(done.out, succeeds(at.path(), &sample).out);
    let own = succeeds(at.path(), &["eval", "run", "--backend", "cpu", "--batches", "1"]).out;
    assert!(own.starts_with("loss ") && !own.contains("world_"), "{own}");
    let given = succeeds(at.path(), &["eval", "run", "--backend", "cpu", "--batches", "1", "--data", "texts"]).out;
    assert!(given.starts_with("loss ") && given != own, "{given}");
}

#[test]
fn an_evaluation_names_its_figures() {
    let done = succeeds(shared(), &["eval", "run", "--backend", "cpu", "--batches", "1"]);
    let names: Vec<&str> = done.out.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut expected = ["loss", "bits_per_byte", "perplexity", "token_accuracy", "tokens"].map(str::to_owned).to_vec();
    for kind in ["fact", "story"] {
        let figures = ["questions", "accuracy", "majority_baseline", "last_named_baseline"];
        expected.extend(figures.map(|figure| format!("world_{kind}_{figure}")));
    }
    assert_eq!(names, expected);
    for line in done.out.lines() {
        assert!(line.split(' ').nth(1).unwrap().parse::<f64>().unwrap().is_finite(), "{line}");
    }
}

#[test]
fn a_checkpoint_is_a_model_like_its_run() {
    let tail = ["--tokens", "3", "--backend", "cpu"];
    let of_run = succeeds(shared(), &[&["sample", "run"], &tail[..]].concat());
    let of_checkpoint = succeeds(shared(), &[&["sample", CHECKPOINT], &tail[..]].concat());
    assert_eq!(of_run.out, of_checkpoint.out);
}

#[test]
fn plans_need_no_run() {
    succeeds(std::env::temp_dir().as_path(), &["plan", "tiny", "--binding", "1"]);
    succeeds(std::env::temp_dir().as_path(), &["plan", "tiny", "--set", "model.vocab_size=0"]);
    let at = tempfile::tempdir().unwrap();
    let done = succeeds(at.path(), &["plan"]);
    assert!(done.out.contains("894,944") && done.out.contains("FLOP a token"), "{}", done.out);
    let done = succeeds(at.path(), &["plan", "seed", "--set", "train.micro_batch=1"]);
    assert!(done.out.contains("874,261,504"), "{}", done.out);
    let done = succeeds(at.path(), &["plan"]);
    assert!(done.out.contains("for samples, beside"), "{}", done.out);
    let elsewhere = ["plan", "--set", "data.tokenizer=gone.json", "--set", "train.precision=f32"];
    let done = succeeds(at.path(), &elsewhere);
    assert!(!done.out.contains("samples") && done.err.contains("gone.json is not there"), "{}", done.err);
    let done = succeeds(at.path(), &["plan", "--vram", "256MiB"]);
    let last = done.out.lines().last().unwrap();
    assert!(last.starts_with("largest micro-batch within 256.0 MiB: "), "{last}");
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), 0);
}

/// Memory in MiB, of the words that name it.
fn mib(words: &[&str]) -> f64 {
    let unit = ["KiB", "MiB", "GiB"].iter().position(|unit| words[1].starts_with(unit)).unwrap();
    words[0].parse::<f64>().unwrap() * 1024_f64.powi(unit as i32 - 1)
}

/// Activations of each policy, in MiB, as `hadal plan` lists them.
fn listed(plan: &str) -> Vec<(String, f64)> {
    let (_, after) = plan.split_once("activations by train.recompute").unwrap();
    let lines = after.lines().skip(1).take(3).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.map(|words| (words[0].to_owned(), mib(&words[1..]))).collect()
}

#[test]
fn auto_recomputes_as_little_as_a_cap_allows_and_the_run_keeps_the_question() {
    let at = tempfile::tempdir().unwrap();
    let sets = ["--set", "train.precision=f32", "--set", "train.micro_batch=32", "--set", "train.sample_interval=0"];
    let plan = |more: &[&str]| succeeds(at.path(), &[&["plan", "tiny"], &sets[..], more].concat()).out;
    let open = plan(&[]);
    assert!(open.contains("recompute: none\n"), "{open}");
    let policies = listed(&open);
    assert_eq!(policies.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), ["none", "ffn", "block"]);
    let all = |policy: &str| {
        let set = format!("train.recompute={policy}");
        let out = plan(&["--set", &set]);
        assert!(out.contains(&format!("recompute: {policy}")), "{out}");
        let line = out.lines().find(|line| line.starts_with("  all ")).unwrap();
        mib(&line.split_whitespace().skip(1).collect::<Vec<_>>())
    };
    let [none, ffn, block] = ["none", "ffn", "block"].map(all);
    assert!(block < ffn && ffn < none, "{none} {ffn} {block}");
    // A sixteenth of the memory is left to the driver.
    let cap = |mib: f64| format!("{}KiB", (mib * 1024.0 * 16.0 / 15.0).ceil());
    for (policy, memory) in [("none", none + 1.0), ("ffn", (none + ffn) / 2.0), ("block", (ffn + block) / 2.0)] {
        let out = plan(&["--vram", &cap(memory)]);
        assert!(out.contains(&format!("recompute: {policy}")), "{policy}: {out}");
    }
    let fixed = plan(&["--vram", &cap((ffn + block) / 2.0), "--set", "train.recompute=none"]);
    assert!(fixed.contains("recompute: none\n") && fixed.trim_end().ends_with("recompute none)"), "{fixed}");
    let base = ["train", "tiny", "--backend", "cpu", "--steps", "1", "--out", "run", "--vram"];
    let quick = ["--set", "train.eval_batches=1", "--set", "train.sequence_length=32"];
    let small = succeeds(at.path(), &[&["plan", "tiny"], &sets[..], &quick].concat()).out;
    let capped = listed(&small);
    let line = small.lines().find(|line| line.starts_with("  all ")).unwrap();
    let total = mib(&line.split_whitespace().skip(1).collect::<Vec<_>>());
    let memory = cap(total - (capped[0].1 - capped[1].1) / 2.0);
    let done = succeeds(at.path(), &[&base[..], &[memory.as_str()], &sets, &quick].concat());
    assert!(done.err.contains(" planned; recomputes ffn; "), "{}", done.err);
    let kept = fs::read_to_string(at.path().join("run/config.toml")).unwrap();
    assert!(kept.contains("recompute = \"auto\""), "{kept}");
}

#[test]
fn a_dump_holds_what_its_flags_ask_for() {
    let at = tempfile::tempdir().unwrap();
    write(&at.path().join("in.safetensors"), &batch(), |_| {});
    let model = shared().join("run").to_string_lossy().into_owned();
    let dump = ["dump", "--model", &model, "--input", "in.safetensors", "--output", "out.safetensors"];
    succeeds(at.path(), &[&dump[..], &["--backend", "cpu", "--grads", "--adamw-steps", "2"]].concat());
    let tensors = read_tensors(&at.path().join("out.safetensors")).unwrap();
    assert_eq!(tensors["logits"].shape, [1, 4, 1024]);
    assert_eq!(tensors["loss"].shape, [1]);
    assert_eq!(tensors["adamw_losses"].shape, [2]);
    assert_eq!(tensors["adamw_grad_norms"].shape, [2]);
    assert_eq!(tensors["grad.model.layers.1.mlp.experts.7.down_proj.weight"].shape, [32, 64]);
}

#[test]
fn folders_of_runs_are_drawn_as_pixels_or_as_svg() {
    let at = tempfile::tempdir().unwrap();
    for name in ["tiny-10", "tiny-2", "pipeline-1/sft"] {
        copy(&shared().join("run"), &at.path().join("runs").join(name));
    }
    fs::create_dir(at.path().join("runs/notes")).unwrap();
    let drawn = |options: &[&str], picture: &str| {
        let options = [&["plot", "runs", "--out", picture][..], options].concat();
        assert!(succeeds(at.path(), &options).err.contains(&format!("{picture} shows 3 runs")));
        fs::read_to_string(at.path().join(picture)).unwrap()
    };
    let text = drawn(&[], "all.svg");
    let places: Vec<_> = ["sft", "tiny-2", "tiny-10"].map(|name| text.find(&format!(">{name}  train")).unwrap()).into();
    assert!(places.is_sorted() && text.contains(">3 runs</text>") && text.contains(">steps</text>"), "{text}");
    let text = drawn(&["--x", "time", "--metric", "grad_norm", "--log", "--title", "norms"], "norms.svg");
    assert!(text.contains(">seconds</text>") && text.contains(">grad_norm, logarithmic</text>"), "{text}");
    assert!(text.contains(">norms</text>") && !text.contains("learning rate"), "{text}");
    let refused =
        |options: &[&str], parts: &[&str]| refused(at.path(), &[&["plot", "runs"], options].concat(), 2, parts);
    refused(&["-o", "x.jpg"], &["x.jpg", ".png or .svg"]);
    refused(&["-o", "-"], &[".png or .svg"]);
    refused(&["-o", "x.png", "--metric", "nothing"], &["nothing", "grad_norm"]);
    refused(&["-o", "x.png", "--metric", "skipped", "--log"], &["skipped", "above 0"]);
    for name in ["tiny-2", "tiny-10"] {
        let metrics = at.path().join("runs").join(name).join("metrics.jsonl");
        let text = fs::read_to_string(&metrics).unwrap();
        let old = text.lines().map(|line| line.split(",\"elapsed\"").next().unwrap().to_owned() + "}\n");
        fs::write(&metrics, old.collect::<String>()).unwrap();
    }
    refused(&["-o", "x.png", "--x", "time"], &["tiny-2", "older runs", "--x steps"]);
    assert!(!at.path().join("x.png").exists());
}

#[test]
fn tables_texts_and_pictures_are_written() {
    let at = tempfile::tempdir().unwrap();
    let run = shared().join("run").to_string_lossy().into_owned();
    let done = succeeds(at.path(), &["plot", &run, &run, "-o", "both.png"]);
    image::open(at.path().join("both.png")).unwrap();
    assert!(done.err.contains("both.png shows 2 runs"), "{}", done.err);
    assert!(succeeds(at.path(), &["kernels"]).out.starts_with("| kernel |"));
    assert!(succeeds(at.path(), &["kernels", "--show", "rms_norm"]).out.contains("@compute"));
    succeeds(at.path(), &["data", "world", "--stories", "3", "--out", "a.txt"]);
    succeeds(at.path(), &["data", "world", "--stories", "3", "--out", "b.txt"]);
    let [a, b] = ["a.txt", "b.txt"].map(|name| fs::read_to_string(at.path().join(name)).unwrap());
    assert!(a == b && a.split("\n\n").count() == 4, "{a}");
}

#[test]
fn a_closed_pipe_ends_neither_a_table_in_a_panic_nor_a_run() {
    let at = tempfile::tempdir().unwrap();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let program = command(at.path()).get_program().to_owned();
    let table = Command::new(&program).arg("kernels").stdout(closed()).output().unwrap();
    assert_eq!((table.status.code(), table.stderr), (Some(0), Vec::new()));
    let arguments = train(&["--steps", "1", "--out", "run"]);
    let mut run = Command::new(&program);
    run.current_dir(at.path()).args(arguments).stdout(Stdio::null()).stderr(closed());
    assert_eq!(run.status().unwrap().code(), Some(0));
    assert!(at.path().join("run/checkpoints/latest").is_file());
}

#[test]
fn a_text_with_fewer_held_out_windows_than_a_batch_is_validated_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("short.txt"), "A short text about nothing much. ".repeat(20)).unwrap();
    let more = ["--data", "short.txt", "--steps", "1", "--out", "a", "--set", "train.micro_batch=5"];
    succeeds(folder.path(), &train(&more));
    let metrics = std::fs::read_to_string(folder.path().join("a/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("\"val\"").count(), 2, "{metrics}");
    assert!(folder.path().join("a/checkpoints/best").is_file());
    // The whole text counts, whatever the batch.
    let tokens = |batch| {
        let arguments = ["eval", "a", "--data", "short.txt", "--backend", "cpu", "--batch", batch];
        let out = succeeds(folder.path(), &arguments).out;
        out.lines().find(|line| line.starts_with("tokens")).map(str::to_owned).unwrap()
    };
    assert_eq!(tokens("1"), tokens("7"));
}

#[test]
fn a_vocabulary_that_was_the_old_tokenizers_follows_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.txt"), "Some words, and then some more of them. ".repeat(60)).unwrap();
    for (tokenizer, rows) in [("byte", "257"), ("gpt2", "50257")] {
        let more = ["--data", "text.txt", "--tokenizer", tokenizer, "--steps", "1", "--out", tokenizer];
        succeeds(folder.path(), &train(&more));
        let config = std::fs::read_to_string(folder.path().join(tokenizer).join("config.toml")).unwrap();
        assert!(config.contains(&format!("vocab_size = {rows}\n")), "{config}");
    }
}
