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

/// Bits of the f32 number of standard deviations above which a loss is a spike; 0 switches the guard off.
pub const STATE_SPIKE_GUARD: usize = 4;

/// Bits of the f32 1 / number of pairs, padding left out, in the accumulation window.
pub const STATE_INVERSE_PAIRS: usize = 5;

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

/// Standard deviations that the window's loss lies above the mean of the last updates', where the guard is on.
pub const METRIC_DEVIATIONS: usize = 4;
/// 1.0 if that is a spike, whose update is skipped.
pub const METRIC_SPIKE: usize = 5;
/// Where updates lower another loss than cross-entropy: its sum over the window, which an update copies here.
pub const METRIC_GOAL: usize = 6;
/// Beside it what the sum is divided by, or a second loss.
pub const METRIC_GOAL_OTHER: usize = 7;

/// Columns of what `preference_loss` leaves of a pair (f32), and words of their sums over a window's pairs.
pub const PAIR_COLUMNS: usize = 8;
/// The first of them, which `pair_loss` leaves.
pub const SCORED_PAIR_COLUMNS: usize = 5;
/// Loss of the pair.
pub const PAIR_LOSS: usize = 0;
/// 1.0 if the chosen sequence has the larger reward.
pub const PAIR_ACCURACY: usize = 1;
/// Reward of the chosen sequence.
pub const PAIR_CHOSEN: usize = 2;
/// Reward of the rejected sequence.
pub const PAIR_REJECTED: usize = 3;
/// 1.0, or 0.0 for padding, where all columns are 0.0.
pub const PAIR_COUNTED: usize = 4;
/// Log-probability of the chosen sequence.
pub const PAIR_CHOSEN_LOG_PROB: usize = 5;
/// Log-probability of the rejected sequence.
pub const PAIR_REJECTED_LOG_PROB: usize = 6;
/// Sum of the entropies of both sequences' counted tokens.
pub const PAIR_ENTROPY: usize = 7;

/// Columns of what `policy_loss` leaves of a token (f32), and words of their sums over a window's tokens.
pub const TOKEN_COLUMNS: usize = 8;
/// Loss times the token's factor: the sum is the window's loss.
pub const TOKEN_LOSS: usize = 0;
/// Estimate k3 of the divergence from the reference.
pub const TOKEN_KL: usize = 1;
/// Ratio of the probabilities now and then.
pub const TOKEN_RATIO: usize = 2;
/// 1.0 where a ratio below the range is clipped: it has no gradient.
pub const TOKEN_CLIPPED_LOW: usize = 3;
/// 1.0 where a ratio above the range is clipped.
pub const TOKEN_CLIPPED_HIGH: usize = 4;
/// Entropy of the distribution that the token was drawn from.
pub const TOKEN_ENTROPY: usize = 5;
/// Half the square of the change of the log-probability.
pub const TOKEN_CHANGE: usize = 6;
/// 1.0, or 0.0 where the token's factor is 0 and all columns are 0.0.
pub const TOKEN_COUNTED: usize = 7;

/// Columns of what `value_loss` leaves of a token (f32), and words of their sums over a window's tokens.
pub const VALUE_COLUMNS: usize = 4;
/// Loss times the token's factor: the sum is the window's loss, without its coefficient.
pub const VALUE_LOSS: usize = 0;
/// 1.0 where the clipped value is further from the return and the token has no gradient.
pub const VALUE_CLIPPED: usize = 1;
/// The value.
pub const VALUE_VALUE: usize = 2;
/// 1.0, or 0.0 where the token's factor is 0 and all columns are 0.0.
pub const VALUE_COUNTED: usize = 3;

/// Losses that the guard compares a loss with.
pub const HISTORY_LOSSES_KEPT: usize = 128;
/// Words of `history` (f32), which stays from update to update.
pub const HISTORY_WORDS: usize = HISTORY_LOSSES + HISTORY_LOSSES_KEPT;
/// Number of losses in it.
pub const HISTORY_COUNT: usize = 0;
/// Place of the next among them.
pub const HISTORY_NEXT: usize = 1;
/// The first of them.
pub const HISTORY_LOSSES: usize = 2;
/// What a smaller standard deviation counts as.
pub const LEAST_DEVIATION: f32 = 1e-12;

/// Words of `result` (f32), which the gradient norm leaves for the optimiser and the host, and which stay from update
/// to update.
pub const RESULT_WORDS: usize = 8;
/// Euclidean norm of the whole gradient without the loss scale, before clipping.
pub const RESULT_NORM: usize = 0;
/// Factor that takes the loss scale out of the gradient and brings its norm to at most the clip norm.
pub const RESULT_CLIP: usize = 1;
/// 1.0 if gradient and loss are finite and the loss is no spike, else 0.0: the update is skipped.
pub const RESULT_FINITE: usize = 2;
/// Factor on the loss gradient, so that small gradients do not vanish in f16: a power of two.
pub const RESULT_LOSS_SCALE: usize = 3;
/// Updates with finite gradients since the loss scale last changed.
pub const RESULT_CLEAN: usize = 4;
/// Updates that were skipped, because they were not finite or their loss was a spike.
pub const RESULT_SKIPPED: usize = 5;
/// `1 - beta1^t`, t counting updates that were not skipped.
pub const RESULT_CORRECTION1: usize = 6;
/// `1 - beta2^t`.
pub const RESULT_CORRECTION2: usize = 7;

/// The loss scale that mixed precision begins with.
pub const FIRST_LOSS_SCALE: f32 = 65_536.0;
/// The largest that it grows to.
pub const LARGEST_LOSS_SCALE: f32 = 16_777_216.0;

/// `result` as a run goes on from it, from what a checkpoint holds: in f32 without a loss scale, in mixed precision
/// with the one that was reached, or the first if the checkpoint is from f32. `was_mixed` is what the checkpoint says
/// about that; one of an older version does not, and was of f32 if nothing but a scale of 1 can be seen.
///
/// Errors: numbers that no run leaves behind, which would spoil every parameter.
pub fn resumed(
    saved: [f32; RESULT_WORDS],
    was_mixed: Option<bool>,
    mixed: bool,
) -> Result<[f32; RESULT_WORDS], &'static str> {
    let scale = saved[RESULT_LOSS_SCALE];
    if !(1.0..=LARGEST_LOSS_SCALE).contains(&scale) || scale.log2().fract() != 0.0 {
        return Err("the loss scale is no power of two from 1 to 2^24");
    }
    if [RESULT_CORRECTION1, RESULT_CORRECTION2].iter().any(|&word| !(0.0..=1.0).contains(&saved[word])) {
        return Err("a bias correction is not between 0 and 1");
    }
    if [RESULT_CLEAN, RESULT_SKIPPED].iter().any(|&word| !(saved[word] >= 0.0 && saved[word].fract() == 0.0)) {
        return Err("a count of updates is no whole number");
    }
    let mut words = saved;
    if mixed && !was_mixed.unwrap_or(scale > 1.0 || saved[RESULT_SKIPPED] > 0.0) {
        (words[RESULT_LOSS_SCALE], words[RESULT_CLEAN]) = (FIRST_LOSS_SCALE, 0.0);
    } else if !mixed {
        words[RESULT_LOSS_SCALE] = 1.0;
    }
    Ok(words)
}

/// `history` as a run goes on from it, from what a checkpoint holds.
///
/// Errors: words that no run leaves behind.
pub fn remembered(saved: &[f32]) -> Result<&[f32], &'static str> {
    let places = 0.0..HISTORY_LOSSES_KEPT as f32;
    match saved {
        [count, next, losses @ ..] if losses.len() == HISTORY_LOSSES_KEPT => {
            let counted = (0.0..=HISTORY_LOSSES_KEPT as f32).contains(count) && count.fract() == 0.0;
            let placed = places.contains(next) && next.fract() == 0.0;
            let finite = losses.iter().all(|loss| loss.is_finite());
            if counted && placed && finite { Ok(saved) } else { Err("holds a number that no run leaves there") }
        }
        _ => Err("has another length"),
    }
}

/// `result` before the first update.
pub fn first_result(loss_scale: f32) -> [f32; RESULT_WORDS] {
    let mut words = [0.0; RESULT_WORDS];
    words[RESULT_CLIP] = 1.0 / loss_scale;
    words[RESULT_FINITE] = 1.0;
    words[RESULT_LOSS_SCALE] = loss_scale;
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_precision_begins_with_its_own_loss_scale_and_its_own_goes_on() {
        let saved = first_result(1024.0);
        let scale = |saved, was_mixed, mixed| resumed(saved, was_mixed, mixed).map(|words| words[RESULT_LOSS_SCALE]);
        for said in [None, Some(true)] {
            assert_eq!(resumed(saved, said, true), Ok(saved));
            assert_eq!(scale(saved, said, false), Ok(1.0));
        }
        assert_eq!(scale(first_result(1.0), None, true), Ok(FIRST_LOSS_SCALE));
        // A scale that mixed precision itself brought down to 1 stays there; f32 may have skipped updates too.
        let mut low = first_result(1.0);
        (low[RESULT_SKIPPED], low[RESULT_CLEAN]) = (16.0, 5.0);
        assert_eq!([None, Some(true)].map(|said| resumed(low, said, true)), [Ok(low), Ok(low)]);
        assert_eq!(scale(low, Some(false), true), Ok(FIRST_LOSS_SCALE));
        assert_eq!(resumed(low, Some(false), true).map(|words| words[RESULT_CLEAN]), Ok(0.0));
    }

    #[test]
    fn numbers_that_no_run_leaves_behind_are_refused() {
        let with = |word: usize, x: f32| {
            let mut words = first_result(64.0);
            words[word] = x;
            resumed(words, None, true)
        };
        for (word, x) in [
            (RESULT_LOSS_SCALE, 0.0),
            (RESULT_LOSS_SCALE, 3.0),
            (RESULT_LOSS_SCALE, f32::NAN),
            (RESULT_LOSS_SCALE, f32::INFINITY),
            (RESULT_CORRECTION1, -0.5),
            (RESULT_CORRECTION2, f32::NAN),
            (RESULT_CLEAN, 0.5),
            (RESULT_SKIPPED, f32::INFINITY),
        ] {
            assert!(with(word, x).is_err(), "{word} {x}");
        }
        assert!(with(RESULT_CORRECTION1, 0.5).is_ok());
    }
}
