//! Where the words of the small buffers stand that the host and the kernels share, mirrored by `shared/state.wgsl`.

/// Target of a position that no loss counts.
pub const IGNORED: u32 = u32::MAX;

/// Words of `state` (u32), which the host writes before a micro-step or an update.
pub const STATE_WORDS: usize = 8;
/// First half of the dropout key.
pub const STATE_KEY0: usize = 0;
/// Second half of the dropout key.
pub const STATE_KEY1: usize = 1;
/// Bits of the f32 1 / number of sequences in the accumulation window.
pub const STATE_INVERSE_SEQUENCES: usize = 2;
/// Bits of the f32 learning rate.
pub const STATE_LEARNING_RATE: usize = 3;

/// Words of `metrics` (f32), which the kernels add to and the host reads and clears.
pub const METRIC_WORDS: usize = 8;
/// Sum of the losses of the counted targets.
pub const METRIC_LOSS: usize = 0;
/// Number of counted targets that have the largest logit.
pub const METRIC_CORRECT: usize = 1;
/// Number of counted targets.
pub const METRIC_COUNTED: usize = 2;
/// Balance loss, summed over layers and micro-steps.
pub const METRIC_BALANCE: usize = 3;

/// Words of `result` (f32), which the gradient norm leaves for the optimiser and the host, and which stay from update
/// to update.
pub const RESULT_WORDS: usize = 8;
/// Euclidean norm of the whole gradient without the loss scale, before clipping.
pub const RESULT_NORM: usize = 0;
/// Factor that takes the loss scale out of the gradient and brings its norm to at most the clip norm.
pub const RESULT_CLIP: usize = 1;
/// 1.0 if every gradient is finite, else 0.0.
pub const RESULT_FINITE: usize = 2;
/// Factor on the loss gradient, so that small gradients do not vanish in f16: a power of two.
pub const RESULT_LOSS_SCALE: usize = 3;
/// Updates with finite gradients since the loss scale last changed.
pub const RESULT_CLEAN: usize = 4;
/// Updates that were skipped because a gradient was not finite.
pub const RESULT_SKIPPED: usize = 5;
/// `1 - beta1^t`, t counting updates that were not skipped.
pub const RESULT_CORRECTION1: usize = 6;
/// `1 - beta2^t`.
pub const RESULT_CORRECTION2: usize = 7;

/// The loss scale that mixed precision begins with.
pub const FIRST_LOSS_SCALE: f32 = 65_536.0;
/// The largest that it grows to.
pub const LARGEST_LOSS_SCALE: f32 = 16_777_216.0;

/// `result` before the first update.
pub fn first_result(loss_scale: f32) -> [f32; RESULT_WORDS] {
    let mut words = [0.0; RESULT_WORDS];
    words[RESULT_CLIP] = 1.0 / loss_scale;
    words[RESULT_FINITE] = 1.0;
    words[RESULT_LOSS_SCALE] = loss_scale;
    words
}
