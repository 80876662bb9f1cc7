// Positions of the words of the small shared buffers, as in src/kernels/state.rs.
const IGNORED = 0xffffffffu; // target that no loss counts

// state: array<u32>
const STATE_KEY0 = 0u;
const STATE_KEY1 = 1u;
const STATE_INVERSE_SEQUENCES = 2u; // bits of an f32, like all below
const STATE_LEARNING_RATE = 3u;
const STATE_SPIKE_GUARD = 4u;
const STATE_INVERSE_PAIRS = 5u;

// metrics: array<f32>
const METRIC_LOSS = 0u;
const METRIC_CORRECT = 1u;
const METRIC_COUNTED = 2u;
const METRIC_BALANCE = 3u;
const METRIC_DEVIATIONS = 4u;
const METRIC_SPIKE = 5u; // 1.0 or 0.0
const METRIC_GOAL = 6u;
const METRIC_GOAL_OTHER = 7u;

// history: array<f32>
const HISTORY_COUNT = 0u;
const HISTORY_NEXT = 1u;
const HISTORY_LOSSES = 2u; // the first of them
const LEAST_DEVIATION = 1e-12;

// result: array<f32>
const RESULT_NORM = 0u;
const RESULT_CLIP = 1u;
const RESULT_FINITE = 2u; // 1.0 or 0.0
const RESULT_LOSS_SCALE = 3u;
const RESULT_CLEAN = 4u;
const RESULT_SKIPPED = 5u;
const RESULT_CORRECTION1 = 6u; // 1 - beta1^t
const RESULT_CORRECTION2 = 7u; // 1 - beta2^t
const LARGEST_LOSS_SCALE = 16777216.0;

// Whether x is neither infinite nor NaN, by its bits: comparisons may be compiled as if neither existed.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
