//! What needs an adapter: measurements of products, and mixed precision beside the golden files.

use super::{Done, command_on_adapters, ran};
use hadal::checkpoint::tensors::{Tensor, Values, read_tensors};
use hadal::gpu::device::adapters;
use std::collections::BTreeMap;
use std::path::Path;

/// Whether there is an adapter with f16; says so if not. `tests/kernels.rs` sees to it that there is one at all.
fn has_f16() -> bool {
    let found = adapters().first().is_some_and(|adapter| adapter.has_f16());
    if !found {
        eprintln!("SKIPPED: no adapter with f16");
    }
    found
}

fn succeeds(folder: &Path, arguments: &[&str]) -> Done {
    let done = ran(command_on_adapters(folder).args(arguments));
    assert_eq!(done.code, 0, "{}", done.err);
    done
}

#[test]
fn products_are_measured_on_an_adapter() {
    if adapters().is_empty() {
        return;
    }
    let at = tempfile::tempdir().unwrap();
    let sets = ["model.hidden_size=32", "model.num_attention_heads=2", "train.sequence_length=16"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let bench = ["bench", "gemm", "--backend", "gpu", "--samples", "1", "--json", "--set", "train.precision=f32"];
    let done = succeeds(at.path(), &[&bench[..], &sets].concat());
    let value: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(value["config"], "tiny");
    assert!(value["device"].as_str().unwrap().contains("f32"), "{value}");
    let products = value["products"].as_array().unwrap();
    for form in ["nt ", "nn ", "tn ", "grouped nt", "grouped nn", "grouped tn"] {
        let of_form = products.iter().filter(|row| row["name"].as_str().unwrap().starts_with(form));
        assert!(of_form.count() > 0, "no {form} in {value}");
    }
    for row in products {
        assert_eq!((row["variant"].as_str(), row["seconds"]["samples"].as_u64()), (Some(""), Some(1)), "{row}");
        for figure in [&row["seconds"]["median"], &row["tflops"], &row["gigabytes_a_second"]] {
            assert!(figure.as_f64().unwrap() > 0.0, "{row}");
        }
    }
}

/// The length of the difference, as a share of the expected length.
fn relative_l2(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
    (error / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

fn reals<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str) -> &'a [f64] {
    match &tensors.get(name).unwrap_or_else(|| panic!("no {name}")).values {
        Values::Real(values) => values,
        Values::Index(_) => panic!("{name} holds integers"),
    }
}

/// Roundings to f16 are of 2^-11 at most, 0.0005, in both factors and the result of each product. Some twenty lie on
/// the way to a logit of these models and twice as many on that to a gradient; errors of both signs add up like the
/// root of their number: 0.002 and 0.003. The loss is a mean over some twenty positions.
const ALLOWED: [f64; 3] = [1e-3, 4e-3, 1e-2];

#[test]
fn mixed_precision_agrees_with_the_golden_files() {
    if !has_f16() {
        return;
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let at = tempfile::tempdir().unwrap();
    for name in ["lite", "qlora", "groups", "tied"] {
        let folder = golden.join(name);
        let (model, file) = (folder.to_string_lossy(), folder.join("expected.safetensors"));
        let dump = ["dump", "--model", &model, "--input", &file.to_string_lossy(), "--output", "out.safetensors"];
        let mixed = ["--grads", "--backend", "gpu", "--precision", "mixed"];
        succeeds(at.path(), &[&dump[..], &mixed].concat());
        let found = read_tensors(&at.path().join("out.safetensors")).unwrap();
        let expected = read_tensors(&file).unwrap();
        let error = |name: &str| relative_l2(reals(&found, name), reals(&expected, name));
        let gradients: Vec<&String> = found.keys().filter(|name| name.starts_with("grad.")).collect();
        let known: Vec<&String> = gradients.iter().copied().filter(|name| expected.contains_key(*name)).collect();
        assert!(known.len() > 10, "{name}: {} of {} gradients", known.len(), gradients.len());
        let worst = known.iter().map(|name| error(name)).fold(0.0f64, f64::max);
        let errors = [error("loss"), error("logits"), worst];
        println!("{name}: loss {:.1e}, logits {:.1e}, gradients {:.1e}", errors[0], errors[1], errors[2]);
        assert!(errors.iter().zip(ALLOWED).all(|(error, allowed)| *error <= allowed), "{name}: {errors:?}");
        assert!(errors[1] > 1e-5, "{name}: nothing was rounded");
    }
}
