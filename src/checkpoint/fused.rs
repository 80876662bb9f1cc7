//! Experts that are one tensor on disk: `mlp.experts.gate_up_proj` (E, 2M, H), each expert's gate rows before its up
//! rows, and `mlp.experts.down_proj` (E, H, M), as some versions of transformers keep them in memory and write them.

use super::container::{Entry, MOST_TENSORS};

/// The tensors that `name` stands for: each expert's by itself where it holds all of a layer's, else the tensor. No
/// byte is moved, since an expert's rows lie together.
pub(super) fn apart(name: &str, entry: &Entry) -> Vec<(String, Entry)> {
    let parts: &[&str] = match name.rsplit_once(".mlp.experts.") {
        Some((_, "gate_up_proj")) => &["gate_proj", "up_proj"],
        Some((_, "down_proj")) => &["down_proj"],
        _ => &[],
    };
    let whole = || vec![(name.to_owned(), entry.clone())];
    let (Some((prefix, _)), &[experts, rows, columns]) = (name.rsplit_once('.'), entry.shape.as_slice()) else {
        return whole();
    };
    // Without elements, or with those of a few bits, a short file could announce any number of experts.
    let possible = rows > 0 && columns > 0 && experts <= MOST_TENSORS;
    if parts.is_empty() || !rows.is_multiple_of(parts.len()) || !possible {
        return whole();
    }
    let rows = rows / parts.len();
    let names =
        (0..experts).flat_map(|expert| parts.iter().map(move |part| format!("{prefix}.{expert}.{part}.weight")));
    names.enumerate().map(|(i, name)| (name, entry.part(i * rows * columns, vec![rows, columns]))).collect()
}
