//! One plain CPU function per kernel, same stem: the formula that the shader must reproduce.
//!
//! Reference functions are generic over `f32` and `f64`, accumulate in that type, run rows in parallel and share one
//! [`gemm`]. They are also the executor of a machine without a GPU: fast enough, never clever. Slices come in the
//! order of the kernel's bindings; parameter gradients accumulate, everything else overwrites.

pub mod adamw;
pub mod adamw8bit;
pub mod add;
pub mod attention;
pub mod attention_backward_kv;
pub mod attention_backward_q;
pub mod attention_delta;
pub mod balance_loss;
pub mod balance_loss_backward;
pub mod cast;
pub mod copy_columns;
pub mod cross_entropy;
pub mod draw_token;
pub mod dropout;
pub mod embed;
pub mod embed_backward;
pub mod expert_bias;
pub mod expert_combine;
pub mod expert_combine_backward;
pub mod expert_count;
pub mod expert_gather;
pub mod expert_gather_backward;
pub mod expert_load;
pub mod expert_scan;
pub mod expert_scatter;
pub mod few_experts_down;
pub mod few_experts_up;
pub mod few_linear;
pub mod fill;
pub mod gemm;
pub mod grad_norm;
pub mod grad_norm_finish;
pub mod history_append;
pub mod latent_append;
pub mod latent_attention;
pub mod latent_query;
pub mod latent_value;
pub mod log_probs;
pub mod loss_sum;
pub mod matmul;
pub mod matmul_experts;
pub mod matmul_experts_weight_grad;
pub mod model;
pub mod random;
pub mod metric_sum;
pub mod pair_loss;
pub mod policy_loss;
pub mod preference_loss;
pub mod rms_norm;
pub mod rms_norm_backward;
pub mod rms_norm_weight_grad;
pub mod rope;
pub mod router;
pub mod router_backward;
mod sum;
pub mod scale;
pub mod spike_guard;
pub mod sum_heads;
pub mod sum_slices;
pub mod swiglu;
pub mod swiglu_backward;
pub mod value_loss;
pub mod vector;

use num_traits::{Float, NumAssign};

/// A floating-point type that references compute in: `f32` (the CPU executor) or `f64` (the judge).
pub trait Real: Float + NumAssign + Default + std::iter::Sum + Send + Sync + std::fmt::Debug + 'static {
    /// Rounds `x` to this type.
    fn of(x: f64) -> Self;
    /// Widens to `f64`, exactly.
    fn wide(self) -> f64;
    /// Replaces every element by its exponential; in f32 several at a time.
    fn exp_all(values: &mut [Self]);
    /// `C = alpha * A * B + beta * C` on strided matrices; see [`gemm::gemm`], which checks the bounds.
    #[doc(hidden)]
    fn gemm_unchecked(g: &gemm::Product<'_, Self>, c: &mut [Self]);
}

/// Elements that one task of an elementwise loop takes: a few microseconds of work, a share of the first-level cache.
const CHUNK: usize = 1 << 12;

/// Splits `data` into rows of `width` and calls `f(row index, row)` on each, in parallel.
pub fn par_rows<F: Real>(data: &mut [F], width: usize, f: impl Fn(usize, &mut [F]) + Sync + Send) {
    use rayon::prelude::*;
    // Enough rows a task that scheduling stays cheap beside some thousand operations.
    let rows_a_task = (4096 / width.max(1)).max(1);
    data.par_chunks_mut(width).with_min_len(rows_a_task).enumerate().for_each(|(row, values)| f(row, values));
}

/// `sigmoid(x) = 1 / (1 + exp(-x))`, without an exponential that could overflow.
fn logistic<F: Real>(x: F) -> F {
    let small = (-x.abs()).exp();
    (if x >= F::zero() { F::one() } else { small }) / (F::one() + small)
}

/// `ln(1 + exp(x)) = -ln sigmoid(-x)`, likewise.
fn softplus<F: Real>(x: F) -> F {
    x.max(F::zero()) + (-x.abs()).exp().ln_1p()
}
