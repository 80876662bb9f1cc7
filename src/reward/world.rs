//! Whether an answer to a question of the embedded world is right, and does as demanded.
//!
//! Right is who names the words that are asked for, and none of their class that are wrong. That is worth 1 where no
//! more is demanded; else half of it, and the other half is for the form or the length. A wrong answer is worth 0.

use super::length::falling;
use super::{Reward, Sample};
use crate::config::reward::WORLD_ALONE;
use crate::data::world::quiz::{Check, Demand};
use crate::error::{Error, Result};

/// Words beyond those that are allowed over which the reward of a length falls to 0.
const SLOPE: usize = 3;

/// The checker of the world's questions.
pub struct World;

impl Reward for World {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        let one = |sample: &Sample| {
            let check = sample.question.check.as_ref();
            let check = check.ok_or_else(|| Error::config("reward.functions", WORLD_ALONE))?;
            Ok(Some(worth(check, sample.completion.trim())))
        };
        samples.iter().map(one).collect()
    }
}

fn worth(check: &Check, answer: &str) -> f64 {
    if !names(answer, &check.right) || check.wrong.iter().any(|wrong| names(answer, wrong)) {
        return 0.0;
    }
    let met = match check.demand {
        Demand::Fact => 1.0,
        Demand::Format => f64::from(u8::from(answer == check.right)),
        Demand::Length(most) => falling(answer.split_whitespace().count().saturating_sub(most), SLOPE),
    };
    0.5 + 0.5 * met
}

/// Whether `words` stand in `text` as whole words.
fn names(text: &str, words: &str) -> bool {
    let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
    let bytes = text.as_bytes();
    text.match_indices(words).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        !letter(before) && !letter(bytes.get(at + words.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;
    use crate::config::data::DataConfig;
    use crate::config::reward::RewardKind;
    use crate::config::task::TaskConfig;
    use crate::data::questions::Questions;
    use crate::data::world::Split;

    #[test]
    fn right_words_are_worth_half_and_demands_the_rest() {
        let check = |demand| Check { right: "mill".to_owned(), wrong: vec!["barn", "attic"], demand };
        for (demand, answer, reward) in [
            (Demand::Fact, "Mara lives in the mill.", 1.0),
            (Demand::Fact, "Mara lives in the barn.", 0.0),
            (Demand::Fact, "Mara lives in the windmill.", 0.0),
            (Demand::Fact, "The mill, or the barn.", 0.0),
            (Demand::Fact, "", 0.0),
            (Demand::Format, "mill", 1.0),
            (Demand::Format, "Mara lives in the mill.", 0.5),
            (Demand::Format, "barn", 0.0),
            (Demand::Length(2), "The mill.", 1.0),
            (Demand::Length(3), "In Mara's old mill.", 0.5 + 0.5 * (1.0 - 1.0 / 3.0)),
            (Demand::Length(2), "Mara lives in the mill.", 0.5),
            (Demand::Length(2), "It is the mill where Mara lives.", 0.5),
            (Demand::Length(2), "barn", 0.0),
        ] {
            assert_eq!(worth(&check(demand), answer), reward, "{demand:?} {answer:?}");
        }
    }

    /// Full marks for the reference and none for any wrong word; sentences, which is what models of chats say, get
    /// between 40 and 70 %.
    #[test]
    fn questions_of_the_world_leave_something_to_learn() {
        let (task, data) = (TaskConfig::default(), DataConfig { world_seed: 9, ..DataConfig::default() });
        let questions = Questions::open(&task, &data, &[RewardKind::World], 0, 1).unwrap();
        let world = crate::data::world::World::new(9);
        let (mut sum, mut demands, n) = (0.0, std::collections::HashSet::new(), 2000);
        for split in [Split::Train, Split::Val] {
            for i in 0..n / 2 {
                let question = questions.question(i, split);
                let check = question.check.clone().unwrap();
                let worth = |answer: &str| {
                    let sample = Sample { question: &question, completion: answer, tokens: 1, sequence: &[] };
                    World.judge(&[sample]).unwrap()[0].unwrap()
                };
                assert_eq!(worth(question.reference.as_ref().unwrap()), 1.0, "{question:?}");
                assert!(check.wrong.iter().all(|wrong| worth(wrong) == 0.0), "{question:?}");
                assert!(check.wrong.len() >= 11, "{question:?}");
                sum += worth(&world.quiz(i, split).sentence);
                demands.insert(std::mem::discriminant(&check.demand));
            }
        }
        let mean = sum / n as f64;
        println!("sentences of chats are worth {mean:.3}");
        assert!((0.4..0.7).contains(&mean) && demands.len() == 3, "{mean}");
    }

    #[test]
    fn another_question_is_an_error() {
        let question = asked("7");
        let sample = Sample { question: &question, completion: "7", tokens: 1, sequence: &[] };
        let error = World.judge(&[sample]).unwrap_err();
        assert!(error.to_string().starts_with("reward.functions: has world"), "{error}");
    }
}
