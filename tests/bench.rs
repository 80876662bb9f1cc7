//! `hadal bench`: what it measures, its JSON, what it refuses, and the rungs of `benches/ladder`.

mod common;

use hadal::bench::ladder::{MULTIPLE, RUNGS, Rung, expected};
use hadal::error::Error;
use hadal::gpu::preprocess::preprocess;
use hadal::kernels::Kernel;
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// A model of milliseconds.
const SMALL: [&str; 14] = [
    "--set",
    "model.hidden_size=32",
    "--set",
    "model.num_hidden_layers=2",
    "--set",
    "model.num_attention_heads=2",
    "--set",
    "train.sequence_length=32",
    "--set",
    "train.micro_batch=2",
    "--samples",
    "3",
    "--updates",
    "1",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// `hadal bench` with these arguments: exit code, standard output, standard error.
fn bench(arguments: &[&str]) -> (i32, String, String) {
    let mut command = assert_cmd::Command::cargo_bin("hadal").unwrap();
    let output = command.arg("bench").args(arguments).timeout(std::time::Duration::from_secs(200)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The same of the small model on the CPU, which succeeds.
fn small(what: &str, more: &[&str]) -> String {
    let (code, out, err) = bench(&[&[what, "tiny", "--backend", "cpu"], &SMALL[..], more].concat());
    assert_eq!(code, 0, "{err}");
    out
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

/// Every field of `value`, with those inside, as `a.b`; of arrays the first element's.
fn fields(value: &Value, before: &str, found: &mut BTreeSet<String>) {
    let inside: Vec<(&String, &Value)> = match value {
        Value::Object(map) => map.iter().collect(),
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            return fields(&items[0], before, found);
        }
        _ => return,
    };
    for (name, value) in inside {
        let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        fields(value, &path, found);
        found.insert(path);
    }
}

#[test]
fn a_step_is_held_against_the_stated_peak_and_a_measured_product() {
    let value: Value = serde_json::from_str(&small("step", &["--peak", "2", "--json"])).unwrap();
    let tflops = number(&value, "/report/tflops");
    assert_eq!(number(&value, "/report/mfu"), tflops / 2.0);
    assert_eq!(number(&value, "/report/mfu_measured"), tflops / number(&value, "/report/product_tflops"));
    let rate = 64.0 / number(&value, "/report/seconds/median");
    assert!((number(&value, "/report/tokens_per_second") / rate - 1.0).abs() < 1e-9);
    assert_eq!(value.pointer("/report/batch").unwrap(), &serde_json::json!([2, 32, 1]));
    assert!(number(&value, "/report/plan_bytes") > 1e5 && value["report"]["allocated_bytes"].is_null());
    let text = small("step", &["--peak", "2"]);
    let says =
        ["tokens/s", "% of the stated peak", "of a large square product", "memory: plan", "Not in these figures"];
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
    let text = small("step", &["--no-product"]);
    assert!(!text.contains("square product") && !text.contains("stated peak"), "{text}");
}

#[test]
fn settings_are_compared_by_turns() {
    let more = ["--against", "train.micro_batch=1", "--against", "model.num_hidden_layers=1", "--no-product"];
    let text = small("step", &more);
    assert!(text.contains("with train.micro_batch=1, model.num_hidden_layers=1 on"), "{text}");
    assert!(text.contains("tokens/s of the second over the first") && text.contains("3 pairs"), "{text}");
    let value: Value = serde_json::from_str(&small("step", &[&more[..], &["--json"]].concat())).unwrap();
    assert_eq!(value.pointer("/against/report/batch").unwrap(), &serde_json::json!([1, 32, 1]));
    let [low, middle, high] =
        ["lowest", "median", "highest"].map(|name| number(&value, &format!("/against/tokens_per_second_ratio/{name}")));
    assert!(0.0 < low && low <= middle && middle <= high);
    let plan = |path| number(&value, path);
    assert!(plan("/against/report/plan_bytes") < plan("/report/plan_bytes"));
}

#[test]
fn generation_is_held_against_the_bytes_that_it_reads() {
    let more = ["--streams", "3", "--prompt", "5", "--bandwidth", "10"];
    let value: Value = serde_json::from_str(&small("decode", &[&more[..], &["--json"]].concat())).unwrap();
    let at = |name: &str| number(&value, &format!("/report/{name}"));
    let per_second = 3.0 / at("seconds/median");
    assert!((at("tokens_per_second") / per_second - 1.0).abs() < 1e-9);
    // Two layers of latents of 32 and rope keys of 8, in f32; three prompts of 5, 8 passes before and 1 of 3 after.
    assert_eq!(at("cache_bytes_per_token"), f64::from(2 * (32 + 8) * 4));
    assert_eq!(at("cache_bytes"), 3.0 * (5.0 + 8.0 + 1.0) * at("cache_bytes_per_token"));
    let share = (at("weight_bytes") + at("cache_bytes")) / 1e10 / at("seconds/median");
    assert!((at("bandwidth_share") / share - 1.0).abs() < 1e-9);
    let text = small("decode", &more);
    assert!(["pass of 3 x 1 tokens", "% of the stated bandwidth", "latent_attention"].iter().all(|x| text.contains(x)));
}

#[test]
fn the_two_plans_of_a_comparison_must_fit_together() {
    let value: Value = serde_json::from_str(&small("step", &["--no-product", "--json"])).unwrap();
    let plan = number(&value, "/report/plan_bytes");
    let cap = format!("{}", 1.5 * plan);
    small("step", &["--no-product", "--vram", &cap]);
    let arguments = [&["step", "tiny", "--backend", "cpu"], &SMALL[..], &["--vram", &cap, "--against"]].concat();
    let (code, out, err) = bench(&[&arguments[..], &["optimizer.clip_norm=0.5"]].concat());
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
}

#[test]
fn kernels_come_slowest_first_with_the_rates_that_their_parameters_tell() {
    let value: Value = serde_json::from_str(&small("kernels", &["--no-product", "--json"])).unwrap();
    let rows = value["report"]["kernels"].as_array().unwrap();
    let seconds: Vec<f64> = rows.iter().map(|row| row["seconds"].as_f64().unwrap()).collect();
    assert!(rows.len() > 15 && seconds.is_sorted_by(|a, b| a >= b));
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}"));
    for name in ["matmul", "matmul_experts", "matmul_experts_weight_grad"] {
        assert!(row(name)["tflops"].as_f64().unwrap() > 0.0 && row(name)["gigabytes_a_second"].as_f64().unwrap() > 0.0);
    }
    assert!(row("adamw")["tflops"].is_null() && row("adamw")["gigabytes_a_second"].as_f64().unwrap() > 0.0);
    assert!(row("router")["tflops"].is_null() && row("router")["gigabytes_a_second"].is_null());
    let text = small("kernels", &["--no-product"]);
    assert!(text.contains("GB/s") && text.contains("two timestamps"), "{text}");
}

#[test]
fn what_does_not_belong_together_is_refused_in_a_sentence() {
    for (arguments, words) in [
        (&["gemm", "--against", "train.micro_batch=1"][..], "--against belongs to bench step"),
        (&["kernels", "--against", "train.micro_batch=1"], "--against belongs to bench step"),
        (&["step", "--ladder"], "--ladder belongs to bench gemm"),
        (&["gemm", "--peak", "71"], "--peak belongs to bench step and bench kernels"),
        (&["gemm", "--no-product"], "--no-product belongs to"),
        (&["step", "--bandwidth", "900"], "--bandwidth belongs to bench decode"),
        (&["decode", "--backend", "cpu", "--updates", "100"], "positions are too few"),
        (&["gemm", "--ladder", "--backend", "cpu"], "bench gemm times GPU kernels"),
        (&["step", "--backend", "cpu", "--against", "train.micro_bitch=1"], "train.micro_bitch"),
        (&["step", "--backend", "cpu", "--against", "train.micro_batch=0"], "train.micro_batch"),
        (&["step", "--peak", "fast"], "--peak"),
        (&["gemm", "--size", "128"], "--ladder"),
        (&["step", "--samples", "0"], "--samples"),
    ] {
        let (code, out, err) = bench(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
}

#[test]
fn the_page_names_every_rung_and_every_field() {
    let page = read("benches/README.md");
    for rung in RUNGS {
        let path = rung.file.strip_prefix("benches/").map_or(format!("../{}", rung.file), String::from);
        let link = format!("`{}`]({path})", rung.name);
        assert!(page.contains(&link), "{link} is not in benches/README.md");
    }
    let mut found = BTreeSet::new();
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    fields(&json(small("kernels", &["--json"])), "", &mut found);
    fields(&json(small("step", &["--against", "optimizer.clip_norm=0", "--json"])), "", &mut found);
    fields(&json(small("decode", &["--prompt", "5", "--json"])), "", &mut found);
    found.retain(|name| !name.starts_with("against.report."));
    assert!(found.len() > 25);
    for name in found {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in benches/README.md");
    }
}

#[test]
fn the_rungs_are_the_files_and_the_highest_are_the_shaders_in_use() {
    for rung in RUNGS {
        assert_eq!(rung.choice(1024).shader, read(rung.file), "{}", rung.name);
        let in_use = rung.file.starts_with("shaders/");
        let stem = rung.file.rsplit('/').next().unwrap().trim_end_matches(".wgsl");
        assert_eq!((stem, rung.choice(1024).form(rung.kernel).as_str()), (rung.name, rung.name));
        assert_eq!(in_use, std::ptr::eq(rung.kernel, hadal::kernels::find("matmul").unwrap()));
    }
    let folder = std::fs::read_dir(root().join("benches/ladder")).unwrap();
    let files: BTreeSet<String> =
        folder.map(|e| format!("benches/ladder/{}", e.unwrap().file_name().to_str().unwrap())).collect();
    let named: BTreeSet<String> =
        RUNGS.iter().filter(|r| !r.file.starts_with("shaders/")).map(|r| r.file.to_owned()).collect();
    assert_eq!(files, named);
    for half in [false, true] {
        let last = RUNGS.iter().rfind(|rung| rung.cooperative == half).unwrap();
        assert!(last.file.starts_with("shaders/matmul"), "{}", last.name);
    }
}

#[test]
fn every_rung_validates_and_translates() {
    for rung in RUNGS {
        let choice = rung.choice(1024);
        let text = preprocess(choice.shader, &choice.constants).unwrap_or_else(|e| panic!("{}: {e}", rung.name));
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        let extra = if rung.cooperative { Capabilities::COOPERATIVE_MATRIX } else { Capabilities::empty() };
        let capabilities = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16 | extra;
        let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
        let info = info.unwrap_or_else(|e| panic!("{}: {}", rung.name, e.emit_to_string(&text)));
        spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap_or_else(|e| panic!("{}: {e}", rung.name));
        for line in read(rung.file).lines() {
            assert!(line.chars().count() <= 120, "{}: {line}", rung.file);
        }
    }
}

#[test]
fn every_portable_rung_multiplies_rightly_and_a_wrong_one_is_found_out() {
    let Some(gpu) = common::gpu() else { return };
    for n in [MULTIPLE, 2 * MULTIPLE] {
        let expected = expected(n);
        assert!(expected.iter().any(|&x| x != 0.0) && expected.len() == n * n);
        for rung in RUNGS.iter().filter(|rung| !rung.cooperative) {
            rung.check(&gpu, n, &expected).unwrap();
        }
    }
    let sound = &RUNGS[1];
    let shader: &'static str = Box::leak(sound.kernel.shader.replace("* 17u + #{k}u]", "* 16u + #{k}u]").into());
    assert_ne!(shader, sound.kernel.shader);
    let kernel: &'static Kernel = Box::leak(Box::new(Kernel { shader, ..*sound.kernel }));
    let planted = Rung { kernel, ..*sound };
    let error = planted.check(&gpu, MULTIPLE, &expected(MULTIPLE)).unwrap_err();
    assert!(matches!(&error, Error::CheckFailed(text) if text.contains("02-tiled.wgsl")), "{error}");
}

#[test]
fn the_ladder_prints_each_rung_that_the_adapter_can_run() {
    if common::gpu().is_none() {
        return;
    }
    let (code, out, err) = bench(&["gemm", "--ladder", "--backend", "gpu", "--samples", "1", "--json"]);
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(&out).unwrap();
    let rows = value["rungs"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let portable = || RUNGS.iter().filter(|rung| !rung.cooperative).map(|rung| rung.name);
    assert!(portable().eq(names.iter().copied().take(portable().count())), "{names:?}");
    assert!(rows.iter().all(|row| row["tflops"].as_f64().unwrap() > 0.0));
    for size in ["100", "32768"] {
        let (code, _, err) = bench(&["gemm", "--ladder", "--backend", "gpu", "--size", size]);
        assert!(code == 2 && err.contains("--size must be a multiple of 128"), "{err}");
    }
}
