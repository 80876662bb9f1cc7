//! Operations and bytes of a dispatch, where its parameters tell them.

use crate::kernels::matmul_experts_weight_grad::Params as WeightGrad;
use crate::kernels::{Access, Bind, Halves, Kernel, adamw, adamw8bit, attention, matmul, matmul_experts};

/// What a dispatch has to do, by its formula: no matter how often a shader reads a number or what it adds for padding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations; `None` where they are few beside the bytes, or unknown.
    pub flops: Option<f64>,
    /// Bytes of what is read and of what is written, each once; `None` where they are few beside the operations, or
    /// depend on data.
    pub bytes: Option<f64>,
}

/// Kernels that read or write every element of each of their bindings once.
const WHOLE: &[&str] = &[
    "adamw",
    "adamw8bit",
    "add",
    "cast",
    "dropout",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_weight_grad",
    "scale",
    "swiglu",
    "swiglu_backward",
];

/// Costs of a dispatch with these bytes of `Params`, on bindings of `sizes` elements of which `halves` are f16.
///
/// Attention counts every pair of a query and a key not after it: rows of one document each. Where a dispatch has only
/// a part of the experts, it counts as many rows as fall to that part on average.
pub fn cost(kernel: &Kernel, params: &[u8], halves: Halves, sizes: &[usize]) -> Cost {
    let width = |i: usize| if halves.has(i) { 2.0 } else { 4.0 };
    let product = |flops: f64, bytes: f64| Cost { flops: Some(flops), bytes: Some(bytes) };
    match kernel.stem {
        "matmul" => {
            let p: matmul::Params = bytemuck::pod_read_unaligned(params);
            let [m, n, k] = [p.m, p.n, p.k].map(f64::from);
            let old = match p.accumulate {
                matmul::OVERWRITE => 0.0,
                matmul::ADD => width(3),
                _ => width(2),
            };
            let written = m * n * f64::from(p.slices());
            product(2.0 * m * n * k, m * k * width(0) + n * k * width(1) + written * (width(3) + old))
        }
        "matmul_experts" => {
            let p: matmul_experts::Params = bytemuck::pod_read_unaligned(params);
            let [n, k, experts] = [p.n, p.k, p.expert_count].map(f64::from);
            let share = f64::from(2 * p.tiles) / sizes[2] as f64;
            let rows = f64::from(p.rows) * share * experts / (sizes[3] - 1) as f64;
            let old = if p.accumulate == matmul::ADD { width(4) } else { 0.0 };
            let bytes = rows * k * width(0) + experts * n * k * width(1) + rows * n * (width(4) + old);
            product(2.0 * rows * n * k, bytes)
        }
        "matmul_experts_weight_grad" => {
            let p: WeightGrad = bytemuck::pod_read_unaligned(params);
            let [m, n, experts] = [p.row_count, p.n, p.expert_count].map(f64::from);
            let rows = f64::from(p.pairs) * experts / (sizes[2] - 1) as f64;
            let old = if p.accumulate == matmul::ADD { width(3) } else { 0.0 };
            let bytes = rows * (m * width(0) + n * width(1)) + experts * m * n * (width(3) + old);
            product(2.0 * rows * m * n, bytes)
        }
        "attention" | "attention_backward_q" | "attention_backward_kv" => {
            let p: attention::Params = bytemuck::pod_read_unaligned(params);
            let [length, heads, value] = [p.length, p.head_count, p.value].map(f64::from);
            let (pairs, query) = (heads * length * (length + 1.0) / 2.0, p.query_width() as f64);
            // Columns multiplied for a pair: of the scores, and of what they weigh; backward makes the scores again.
            let columns = match kernel.stem {
                "attention" => query + value,
                "attention_backward_q" => 2.0 * query + value,
                _ => 2.0 * query + 2.0 * value,
            };
            Cost { flops: Some(2.0 * pairs * columns), bytes: None }
        }
        stem if WHOLE.contains(&stem) => {
            let kept = keeps_gradient(stem, params);
            let bytes = (0..).zip(kernel.binds).zip(sizes).map(|((i, b), &n)| n as f64 * width(i) * touches(b, kept));
            Cost { flops: None, bytes: Some(bytes.sum()) }
        }
        _ => Cost::default(),
    }
}

/// Whether an update with these bytes of `Params` only reads the gradient.
fn keeps_gradient(stem: &str, params: &[u8]) -> bool {
    match stem {
        "adamw" => bytemuck::pod_read_unaligned::<adamw::Params>(params).zeroed == 0,
        "adamw8bit" => bytemuck::pod_read_unaligned::<adamw8bit::Params>(params).zeroed == 0,
        _ => false,
    }
}

/// How often an element of a binding passes between memory and the chip.
fn touches(bind: &Bind, gradient_kept: bool) -> f64 {
    match (bind.name, bind.access) {
        ("copy", _) => 1.0, // bound for updating, only written
        ("gradient", _) if gradient_kept => 1.0,
        (_, Access::Update) => 2.0,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::find;

    fn of(stem: &str, params: &impl bytemuck::Pod, halves: Halves, sizes: &[usize]) -> [f64; 2] {
        let found = cost(find(stem).unwrap(), bytemuck::bytes_of(params), halves, sizes);
        [found.flops.unwrap_or(0.0), found.bytes.unwrap_or(0.0)]
    }

    #[test]
    fn products_count_each_factor_once_and_an_updated_result_twice() {
        let p = matmul::Params::dense(matmul::NT, matmul::OVERWRITE, 8, 16, 32);
        assert_eq!(of("matmul", &p, Halves::NONE, &[]), [8192.0, 4.0 * (256.0 + 512.0 + 128.0)]);
        let sliced = matmul::Params { slice: 16, ..p };
        assert_eq!(of("matmul", &sliced, Halves::NONE, &[]), [8192.0, 4.0 * (256.0 + 512.0 + 2.0 * 128.0)]);
        let added = matmul::Params { accumulate: matmul::ADD, ..p };
        let factors = Halves::of([true, true, false, false]);
        assert_eq!(of("matmul", &added, factors, &[]), [8192.0, 2.0 * (256.0 + 512.0) + 8.0 * 128.0]);
        let to_residual = matmul::Params { accumulate: matmul::ADD_TO_RESIDUAL, ..p };
        let result = Halves::of([true, true, false, true]);
        assert_eq!(of("matmul", &to_residual, result, &[]), [8192.0, 2.0 * (256.0 + 512.0) + (4.0 + 2.0) * 128.0]);
    }

    #[test]
    fn a_part_of_the_experts_counts_its_share_of_the_rows() {
        let whole = matmul_experts::Params {
            rows: 40,
            n: 8,
            k: 16,
            form: matmul::NT,
            first_expert: 0,
            expert_count: 4,
            first_tile: 0,
            tiles: 9,
            tile_rows: 64,
            accumulate: matmul::OVERWRITE,
        };
        let sizes = [640, 512, 18, 5, 320];
        let expected = [2.0 * 40.0 * 8.0 * 16.0, 4.0 * (640.0 + 512.0 + 320.0)];
        assert_eq!(of("matmul_experts", &whole, Halves::NONE, &sizes), expected);
        let half = matmul_experts::Params { first_expert: 2, expert_count: 2, ..whole };
        assert_eq!(of("matmul_experts", &half, Halves::NONE, &sizes), expected.map(|x| x / 2.0));
        let third = matmul_experts::Params { first_tile: 3, tiles: 3, ..whole };
        let rows = 40.0 / 3.0;
        let expected = [2.0 * rows * 8.0 * 16.0, 4.0 * (rows * 16.0 + 512.0 + rows * 8.0)];
        assert_eq!(of("matmul_experts", &third, Halves::NONE, &sizes).map(f64::round), expected.map(f64::round));
        let (m, n, pairs, first_expert, expert_count) = (16, 8, 40, 0, 4);
        let (first_row, row_count, accumulate) = (0, 16, matmul::ADD);
        let p = WeightGrad { m, n, pairs, first_expert, expert_count, first_row, row_count, accumulate };
        let found = of("matmul_experts_weight_grad", &p, Halves::NONE, &[640, 320, 5, 512]);
        assert_eq!(found, [2.0 * 40.0 * 8.0 * 16.0, 4.0 * (640.0 + 320.0) + 8.0 * 512.0]);
    }

    #[test]
    fn an_update_moves_32_bytes_a_parameter_and_its_copy_or_28_where_the_gradient_is_kept() {
        let (count, beta1, beta2, epsilon) = (100, 0.9, 0.9, 0.1);
        let p = adamw::Params { count, beta1, beta2, epsilon, weight_decay: 0.0, copied: 1, zeroed: 1 };
        let (sizes, around) = ([0, 0, 100, 100, 100, 100, 100], Halves::of([false; 6].into_iter().chain([true])));
        assert_eq!(of("adamw", &p, around, &sizes), [0.0, 3400.0]);
        assert_eq!(of("adamw", &adamw::Params { zeroed: 0, ..p }, around, &sizes), [0.0, 3000.0]);
    }

    #[test]
    fn the_kernels_named_here_exist() {
        assert!(WHOLE.iter().all(|stem| find(stem).is_some()));
        let p = attention::Params {
            batch: 1,
            length: 3,
            heads: 1,
            nope: 4,
            rope: 2,
            value: 5,
            scale: 1.0,
            dropout: 0.0,
            site: 0,
            first_head: 0,
            head_count: 1,
        };
        assert_eq!(of("attention", &p, Halves::NONE, &[]), [2.0 * 6.0 * 11.0, 0.0]);
    }
}
