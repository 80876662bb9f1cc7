//! Factors on the losses of tokens, which make a mean of their sum: all that tells GRPO's variants, and PPO, apart.

/// What the loss is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normaliser {
    /// Over sequences, of the means over their tokens: short answers' tokens weigh more.
    Grpo,
    /// Over all counted tokens, as in PPO: `1 / sum of lengths`.
    Dapo,
    /// The sum over `sequences * longest` tokens, counted or not: every token weighs the same in every batch.
    DrGrpo,
}

/// Factor on the loss of each counted token, one number a sequence, from the counted tokens of every sequence of the
/// whole accumulation window; `longest` is the most tokens that an answer may have. With them the gradients of
/// micro-batches add up to that of the window, however it is cut. 0 for a sequence without a counted token, which still
/// counts as a sequence.
///
/// Source: Shao et al. 2024, "DeepSeekMath" (`Grpo`); Yu et al. 2025, "DAPO"; Liu et al. 2025, "Understanding
/// R1-Zero-like training" (`DrGrpo`).
pub fn factors(normaliser: Normaliser, lengths: &[usize], longest: usize) -> Vec<f64> {
    let (sequences, tokens) = (lengths.len(), lengths.iter().sum::<usize>());
    let factor = |&length: &usize| {
        let over = match normaliser {
            Normaliser::Grpo => sequences * length,
            Normaliser::Dapo => tokens,
            Normaliser::DrGrpo => sequences * longest,
        };
        if length == 0 { 0.0 } else { 1.0 / over as f64 }
    };
    lengths.iter().map(factor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_make_the_mean_that_they_are_called_after() {
        let lengths = [2, 0, 6, 4];
        assert_eq!(factors(Normaliser::Grpo, &lengths, 8), [1.0 / 8.0, 0.0, 1.0 / 24.0, 1.0 / 16.0]);
        assert_eq!(factors(Normaliser::Dapo, &lengths, 8), [1.0 / 12.0, 0.0, 1.0 / 12.0, 1.0 / 12.0]);
        assert_eq!(factors(Normaliser::DrGrpo, &lengths, 8), [1.0 / 32.0, 0.0, 1.0 / 32.0, 1.0 / 32.0]);
        for normaliser in [Normaliser::Grpo, Normaliser::Dapo] {
            let sum: f64 = factors(normaliser, &[2, 6, 4], 8).iter().zip([2.0, 6.0, 4.0]).map(|(f, n)| f * n).sum();
            assert!((sum - 1.0).abs() < 1e-15, "{normaliser:?}");
        }
        assert_eq!(factors(Normaliser::Dapo, &[0], 8), [0.0]);
    }
}
