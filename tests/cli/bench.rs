//! `hadal bench` on the CPU, and what it refuses.

use super::{SMALL, hadal, misused, refused, succeeds};

/// `bench` of a small model with more arguments.
fn bench<'a>(what: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["bench", what], &SMALL[..], &["--samples", "2", "--updates", "1"], more].concat()
}

#[test]
fn updates_are_measured() {
    let at = tempfile::tempdir().unwrap();
    let value: serde_json::Value =
        serde_json::from_str(&succeeds(at.path(), &bench("step", &["--json"])).out).expect("one JSON object");
    let report = &value["report"];
    assert_eq!(value["config"], "tiny");
    assert!(value["device"].as_str().unwrap().starts_with("the CPU"), "{value}");
    assert_eq!(report["batch"], serde_json::json!([2, 32, 1]));
    assert_eq!(report["seconds"]["samples"], 2);
    let figure = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name}: {value}"));
    let seconds = report["seconds"]["median"].as_f64().unwrap();
    assert!((figure("tokens_per_second") * seconds / 64.0 - 1.0).abs() < 1e-9, "{value}");
    assert!(figure("tflops") > 0.0 && figure("plan_bytes") > 1e5, "{value}");
    assert_eq!(report["kernels"], serde_json::json!([]));
    let text = succeeds(at.path(), &bench("step", &[])).out;
    assert!(text.contains("update: median") && text.contains("tokens/s"), "{text}");
}

#[test]
fn each_kernel_of_an_update_is_measured() {
    let at = tempfile::tempdir().unwrap();
    let value: serde_json::Value =
        serde_json::from_str(&succeeds(at.path(), &bench("kernels", &["--json"])).out).expect("one JSON object");
    let kernels = value["report"]["kernels"].as_array().unwrap();
    for stem in ["attention", "matmul", "adamw"] {
        let row = kernels.iter().find(|row| row["name"] == stem).unwrap_or_else(|| panic!("no {stem}: {value}"));
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && row["calls"].as_u64().unwrap() > 0, "{row}");
    }
}

#[test]
fn measurements_need_something_to_measure() {
    let at = tempfile::tempdir().unwrap();
    refused(at.path(), &["bench", "gemm", "--backend", "cpu"], 2, &["--backend gpu"]);
    refused(at.path(), &["bench", "step", "--samples", "0"], 2, &["--samples"]);
    refused(at.path(), &["bench", "step", "--updates", "0"], 2, &["--updates"]);
    refused(at.path(), &["bench", "step", "nosuch"], 2, &["nosuch"]);
    refused(at.path(), &bench("step", &["--set", "model.hiden_size=32"]), 2, &["hidden_size"]);
    refused(at.path(), &bench("step", &["--vram", "100KiB"]), 3, &["MiB"]);
    misused(at.path(), &["bench", "everything"], "gemm");
    misused(at.path(), &["bench"], "WHAT");
    assert_eq!(hadal(at.path(), &["bench", "gemm", "--backend", "gpu"]).code, 4, "there is no adapter");
}
