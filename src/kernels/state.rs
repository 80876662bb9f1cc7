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
/// Bits of the f32 factor on the loss gradient.
pub const STATE_LOSS_SCALE: usize = 3;
/// Bits of the f32 learning rate.
pub const STATE_LEARNING_RATE: usize = 4;
/// Bits of the f32 `1 - beta1^t`, t counting updates from 1.
pub const STATE_CORRECTION1: usize = 5;
/// Bits of the f32 `1 - beta2^t`.
pub const STATE_CORRECTION2: usize = 6;

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

/// Words of `result` (f32), which the gradient norm leaves for the optimiser and the host.
pub const RESULT_WORDS: usize = 8;
/// Euclidean norm of the whole gradient, before clipping.
pub const RESULT_NORM: usize = 0;
/// Factor that brings the gradient to the clip norm, at most 1.
pub const RESULT_CLIP: usize = 1;
/// 1.0 if every gradient is finite, else 0.0.
pub const RESULT_FINITE: usize = 2;
