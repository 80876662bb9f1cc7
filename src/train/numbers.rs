//! The sums that losses of preference training leave, as the loss and the numbers of a row, under TRL's names.

use super::micro::Micro;
use super::rows::Numbers;
use super::session::{Metrics, Session};
use crate::error::Result;
use crate::graph::objective::Results;
use crate::kernels::state::{
    PAIR_ACCURACY, PAIR_CHOSEN, PAIR_CHOSEN_LOG_PROB, PAIR_COUNTED, PAIR_ENTROPY, PAIR_LOSS, PAIR_REJECTED,
    PAIR_REJECTED_LOG_PROB, TOKEN_CHANGE, TOKEN_CLIPPED_HIGH, TOKEN_CLIPPED_LOW, TOKEN_COUNTED, TOKEN_ENTROPY,
    TOKEN_KL, TOKEN_LOSS, TOKEN_RATIO, VALUE_CLIPPED, VALUE_COUNTED, VALUE_LOSS, VALUE_VALUE,
};
use crate::model::goal::Goal;
use crate::model::program::{EVALUATE, RESET};
use std::borrow::Borrow;

/// What an evaluation of `micros` finds: sums, the loss that training lowers, and a stage's numbers.
///
/// # Errors
/// If the device fails.
pub fn of_micros(
    session: &mut Session,
    micros: impl IntoIterator<Item: Borrow<Micro>>,
) -> Result<(Metrics, f64, Numbers)> {
    session.run(RESET)?;
    for micro in micros {
        session.feed_micro(micro.borrow())?;
        session.run(EVALUATE)?;
    }
    let metrics = session.metrics()?;
    let aims = session.program.aims;
    let mut read = |results: Option<Results>| results.map(|sums| session.read(sums.metrics)).transpose();
    let [objective, scores] = aims.results();
    let (objective, scores) = (read(objective)?.unwrap_or_default(), read(scores)?.unwrap_or_default());
    let (loss, numbers) = of_window(aims.goal, &metrics, &objective, &scores);
    Ok((metrics, loss, numbers))
}

/// The loss that `goal` lowers and its numbers, from the sums of a window: of the head over the vocabulary's objective,
/// and of the head of one output.
pub fn of_window(goal: Goal, metrics: &Metrics, objective: &[f32], scores: &[f32]) -> (f64, Numbers) {
    match goal {
        Goal::CrossEntropy => (metrics.loss(), Numbers::new()),
        Goal::Reward { .. } => of_pairs(scores),
        Goal::Preference { .. } => {
            let (loss, mut numbers) = of_pairs(objective);
            let mean = means(objective, PAIR_COUNTED);
            let tokens = metrics.counted.max(1.0);
            numbers.extend(named([
                ("logps/chosen", mean(PAIR_CHOSEN_LOG_PROB)),
                ("logps/rejected", mean(PAIR_REJECTED_LOG_PROB)),
                ("entropy", f64::from(objective[PAIR_ENTROPY]) / tokens),
                ("mean_token_accuracy", metrics.accuracy()),
            ]));
            (loss, numbers)
        }
        Goal::Policy { value, beta, entropy_bonus, .. } => {
            let mean = means(objective, TOKEN_COUNTED);
            let (low, high) = (mean(TOKEN_CLIPPED_LOW), mean(TOKEN_CLIPPED_HIGH));
            let loss = f64::from(objective[TOKEN_LOSS]);
            let mut numbers = named([("entropy", mean(TOKEN_ENTROPY))]);
            if beta > 0.0 {
                numbers.extend(named([("kl", mean(TOKEN_KL))]));
            }
            match value {
                None => numbers.extend(named([
                    ("clip_ratio/low_mean", low),
                    ("clip_ratio/high_mean", high),
                    ("clip_ratio/region_mean", low + high),
                ])),
                Some([_, coefficient]) => {
                    let of_value = means(scores, VALUE_COUNTED);
                    let value_loss = f64::from(scores[VALUE_LOSS]);
                    // All factors of PPO are the same, so that the sum holds the mean of the entropies.
                    let of_policy = loss + f64::from(entropy_bonus) * mean(TOKEN_ENTROPY);
                    numbers.extend(named([
                        ("policy/clipfrac_avg", low + high),
                        ("policy/approxkl_avg", mean(TOKEN_CHANGE)),
                        ("val/ratio", mean(TOKEN_RATIO)),
                        ("val/clipfrac_avg", of_value(VALUE_CLIPPED)),
                        ("val/value", of_value(VALUE_VALUE)),
                        ("loss/policy_avg", of_policy),
                        ("loss/value_avg", value_loss),
                    ]));
                    return (loss + f64::from(coefficient) * value_loss, numbers);
                }
            }
            (loss, numbers)
        }
    }
}

fn of_pairs(sums: &[f32]) -> (f64, Numbers) {
    let mean = means(sums, PAIR_COUNTED);
    let (chosen, rejected) = (mean(PAIR_CHOSEN), mean(PAIR_REJECTED));
    let numbers = named([
        ("rewards/chosen", chosen),
        ("rewards/rejected", rejected),
        ("rewards/accuracies", mean(PAIR_ACCURACY)),
        ("rewards/margins", chosen - rejected),
    ]);
    (mean(PAIR_LOSS), numbers)
}

/// Means from sums, of which number `counted` says over how many.
fn means(sums: &[f32], counted: usize) -> impl Fn(usize) -> f64 + '_ {
    let count = f64::from(sums[counted]).max(1.0);
    move |column| f64::from(sums[column]) / count
}

/// Numbers under their names.
pub fn named<const N: usize>(numbers: [(&str, f64); N]) -> Numbers {
    numbers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::state::{PAIR_COLUMNS, SCORED_PAIR_COLUMNS, TOKEN_COLUMNS, VALUE_COLUMNS};

    #[test]
    fn pairs_have_means_over_pairs_and_entropy_over_tokens() {
        let mut sums = [0.0; PAIR_COLUMNS];
        (sums[PAIR_LOSS], sums[PAIR_ACCURACY], sums[PAIR_COUNTED]) = (2.0, 3.0, 4.0);
        (sums[PAIR_CHOSEN], sums[PAIR_REJECTED], sums[PAIR_ENTROPY]) = (1.0, -3.0, 5.0);
        (sums[PAIR_CHOSEN_LOG_PROB], sums[PAIR_REJECTED_LOG_PROB]) = (-8.0, -16.0);
        let metrics = Metrics { counted: 10.0, correct: 5.0, ..Metrics::default() };
        let (loss, numbers) = of_window(Goal::Preference { beta: 0.1, smoothing: 0.0 }, &metrics, &sums, &[]);
        let expected = named([
            ("entropy", 0.5),
            ("logps/chosen", -2.0),
            ("logps/rejected", -4.0),
            ("mean_token_accuracy", 0.5),
            ("rewards/accuracies", 0.75),
            ("rewards/chosen", 0.25),
            ("rewards/margins", 1.0),
            ("rewards/rejected", -0.75),
        ]);
        assert_eq!((loss, numbers), (0.5, expected));
        let (loss, numbers) = of_window(Goal::Reward { centring: 0.0 }, &metrics, &[], &sums[..SCORED_PAIR_COLUMNS]);
        assert_eq!((loss, numbers.len(), numbers["rewards/margins"]), (0.5, 4, 1.0));
        // Of nothing there are no numbers that are not finite.
        let (_, numbers) = of_window(Goal::Reward { centring: 0.0 }, &metrics, &[], &[0.0; SCORED_PAIR_COLUMNS]);
        assert!(numbers.values().all(|x| x.is_finite()));
    }

    #[test]
    fn the_loss_of_drawn_answers_is_the_sum_and_their_numbers_are_means_over_tokens() {
        let mut sums = [0.0; TOKEN_COLUMNS];
        (sums[TOKEN_LOSS], sums[TOKEN_KL], sums[TOKEN_COUNTED]) = (-0.25, 2.0, 8.0);
        (sums[TOKEN_CLIPPED_LOW], sums[TOKEN_CLIPPED_HIGH], sums[TOKEN_ENTROPY]) = (1.0, 2.0, 16.0);
        let policy = |value| Goal::Policy { clip: [0.2; 2], beta: 0.1, entropy_bonus: 0.125, temperature: 1.0, value };
        let metrics = Metrics::default();
        let (loss, numbers) = of_window(policy(None), &metrics, &sums, &[]);
        let expected = named([
            ("clip_ratio/high_mean", 0.25),
            ("clip_ratio/low_mean", 0.125),
            ("clip_ratio/region_mean", 0.375),
            ("entropy", 2.0),
            ("kl", 0.25),
        ]);
        assert_eq!((loss, numbers), (-0.25, expected));
        let mut values = [0.0; VALUE_COLUMNS];
        (values[VALUE_LOSS], values[VALUE_VALUE], values[VALUE_COUNTED]) = (0.5, 4.0, 8.0);
        let (loss, numbers) = of_window(policy(Some([0.2, 0.5])), &metrics, &sums, &values);
        assert_eq!(loss, 0.0);
        assert_eq!((numbers["val/value"], numbers["policy/clipfrac_avg"]), (0.5, 0.375));
        assert_eq!(numbers["loss/policy_avg"], -0.25 + 0.125 * 2.0, "without the bonus on entropy");
    }
}
