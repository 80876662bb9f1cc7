//! A batch of answers that the policy drew, as checkpoints keep it and updates take it.

use super::micro::{AnswerSide, Micro, Side};
use super::rows::Numbers;
use crate::chat::Encoded;
use crate::chat::pack::{best_fit, row};
use crate::config::Config;
use crate::config::rollout::{LossType, RolloutConfig};
use crate::data::batch::{Batch, Row};
use crate::data::shuffle::permuted;
use crate::rl::normalise::{Normaliser, factors};
use serde::{Deserialize, Serialize};

/// A batch of drawn answers. A run that stops amid its updates goes on with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Number of the batch: it is learnt from in updates `number` times those of a batch, and on.
    pub number: u64,
    /// What there is to say of it, under TRL's names.
    pub numbers: Numbers,
    /// The answers, those to one prompt together.
    pub answers: Vec<Answer>,
}

/// A drawn answer with a number for each of its tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The tokens that were answered.
    #[serde(with = "spaced")]
    pub prompt: Vec<u32>,
    /// The answer, with the token that ended it if one did; at least one.
    #[serde(with = "spaced")]
    pub tokens: Vec<u32>,
    /// Whether its tokens count in the loss.
    pub counts: bool,
    /// Log-probabilities by the policy that drew it.
    #[serde(with = "spaced")]
    pub old: Vec<f32>,
    /// By the reference; none without one.
    #[serde(with = "spaced")]
    pub reference: Vec<f32>,
    /// Advantages.
    #[serde(with = "spaced")]
    pub advantages: Vec<f32>,
    /// Values of the states before the tokens, and returns; none without a value head.
    #[serde(with = "spaced")]
    pub values: Vec<f32>,
    /// Returns, likewise.
    #[serde(with = "spaced")]
    pub returns: Vec<f32>,
}

impl Answer {
    /// Positions that it takes in a row with its prompt: the last token is a target alone.
    fn positions(&self) -> usize {
        self.prompt.len() + self.tokens.len() - 1
    }

    fn encoded(&self) -> Encoded {
        let ids = [self.prompt.as_slice(), &self.tokens].concat();
        let counted = (0..ids.len()).map(|i| i >= self.prompt.len()).collect();
        Encoded { ids, counted }
    }
}

impl Rollout {
    /// Refuses what no run leaves behind, and what one with other sizes or another loss did, where a run of `config`
    /// that goes on after `step` updates would learn from it.
    ///
    /// Errors: what is wrong, in words that follow "drawn answers that".
    pub fn check(&self, config: &Config, step: u64) -> Result<(), String> {
        if config.rollout.as_ref().is_none_or(|rollout| self.number != step / rollout.updates()) {
            return Ok(());
        }
        let (vocabulary, length) = (config.model.vocab_size, config.train.sequence_length);
        let (count, parts) = (self.answers.len(), config.rollout.as_ref().map_or(1, |r| r.num_mini_batches));
        if count < parts {
            return Err(format!("are {count}, too few for rollout.num_mini_batches, which is {parts}"));
        }
        for (i, answer) in self.answers.iter().enumerate() {
            let n = answer.tokens.len();
            if answer.prompt.is_empty() || n == 0 || answer.positions() > length {
                return Err(format!("have one, number {i}, that does not fit in a row of {length} tokens"));
            }
            if answer.prompt.iter().chain(&answer.tokens).any(|&token| token as usize >= vocabulary) {
                return Err(format!("have a token in number {i} that the vocabulary of {vocabulary} lacks"));
            }
            let needed = [&answer.old, &answer.advantages];
            let optional = [&answer.reference, &answer.values, &answer.returns];
            let sized = needed.iter().all(|numbers| numbers.len() == n)
                && optional.iter().all(|numbers| numbers.is_empty() || numbers.len() == n)
                && answer.values.len() == answer.returns.len();
            let finite = needed.into_iter().chain(optional).flatten().all(|x| x.is_finite());
            if !sized || !finite {
                return Err(format!("have numbers in number {i} that do not belong to its {n} tokens"));
            }
        }
        // All of them or none: one array holds those of a micro-batch.
        let lack = |part: fn(&Answer) -> &Vec<f32>, needed: bool| {
            let having = self.answers.iter().filter(|answer| !part(answer).is_empty()).count();
            having < count && (needed || having > 0)
        };
        let referred = config.grpo.as_ref().is_some_and(|grpo| grpo.beta > 0.0);
        let hint = "go on with the settings that they were drawn with";
        if lack(|answer| &answer.reference, referred) {
            return Err(format!("lack log-probabilities by the reference; {hint}"));
        }
        if lack(|answer| &answer.values, config.ppo.is_some()) {
            return Err(format!("lack values; {hint}"));
        }
        Ok(())
    }

    /// The answers that the update number `part` of the batch learns from: all of them once an iteration, each time cut
    /// into mini-batches in a new order.
    pub fn chosen(&self, config: &RolloutConfig, seed: u64, part: u64) -> Vec<usize> {
        let (all, parts) = (self.answers.len(), config.num_mini_batches as u64);
        let (iteration, part) = (part / parts, (part % parts) as usize);
        let epoch = self.number * config.num_iterations as u64 + iteration;
        let range = part * all / parts as usize..(part + 1) * all / parts as usize;
        if parts == 1 {
            return range.collect();
        }
        range.map(|i| permuted(i as u64, all as u64, seed, epoch) as usize).collect()
    }

    /// The micro-batches of the answers of these numbers, several to a row where there is room, and where each answer's
    /// first token is predicted: micro-batch, position.
    pub fn arrange(&self, chosen: &[usize], config: &Config) -> (Vec<Micro>, Vec<(usize, usize)>) {
        let (batch, length) = (config.train.micro_batch, config.train.sequence_length);
        let answers: Vec<&Answer> = chosen.iter().map(|&i| &self.answers[i]).collect();
        let sizes: Vec<usize> = answers.iter().map(|answer| answer.positions()).collect();
        let factors = token_factors(&answers, config);
        let mut places = vec![(0, 0); answers.len()];
        let rows = best_fit(&sizes, length);
        let mut micros = Vec::new();
        for (number, rows) in rows.chunks(batch).enumerate() {
            let encoded = |row: &Vec<u32>| row.iter().map(|&i| answers[i as usize].encoded()).collect::<Vec<_>>();
            let made: Vec<Row> = rows.iter().map(|one| row(&encoded(one), length)).collect();
            let mut side = AnswerSide::zeros(batch * length, answers[0]);
            for (r, row) in rows.iter().enumerate() {
                let mut start = r * length;
                for &i in row {
                    let answer = answers[i as usize];
                    let first = start + answer.prompt.len() - 1;
                    places[i as usize] = (number, first);
                    side.place(first, answer, factors[i as usize]);
                    start += sizes[i as usize];
                }
            }
            micros.push(Micro { batch: Batch::of_rows(&made, batch), side: Side::Answers(side) });
        }
        (micros, places)
    }
}

/// The factor on the loss of each answer's tokens.
fn token_factors(answers: &[&Answer], config: &Config) -> Vec<f64> {
    let counted = |answer: &&Answer| if answer.counts { answer.tokens.len() } else { 0 };
    let lengths: Vec<usize> = answers.iter().map(counted).collect();
    let normaliser = match config.grpo.as_ref().map(|grpo| grpo.loss_type) {
        Some(LossType::Grpo) => Normaliser::Grpo,
        Some(LossType::DrGrpo) => Normaliser::DrGrpo,
        Some(LossType::Dapo) | None => Normaliser::Dapo,
    };
    let longest = config.rollout.as_ref().map_or(1, |rollout| rollout.max_completion_length);
    factors(normaliser, &lengths, longest)
}

impl AnswerSide {
    /// Nothing at `n` positions, with what answers like `example` have.
    fn zeros(n: usize, example: &Answer) -> AnswerSide {
        let zeros = vec![0.0; n];
        let [reference, values] = [&example.reference, &example.values]
            .map(|numbers| if numbers.is_empty() { Vec::new() } else { zeros.clone() });
        AnswerSide {
            old: zeros.clone(),
            reference,
            advantages: zeros.clone(),
            factors: zeros,
            values: [values.clone(), values],
        }
    }

    /// An answer's numbers from the position `first` on.
    fn place(&mut self, first: usize, answer: &Answer, factor: f64) {
        let here = first..first + answer.tokens.len();
        self.factors[here.clone()].fill(factor as f32);
        let [values, returns] = &mut self.values;
        for (to, from) in [
            (&mut self.old, &answer.old),
            (&mut self.reference, &answer.reference),
            (&mut self.advantages, &answer.advantages),
            (values, &answer.values),
            (returns, &answer.returns),
        ] {
            if !from.is_empty() {
                to[here.clone()].copy_from_slice(from);
            }
        }
    }
}

/// Numbers as one text, with spaces between them: a fraction of what a line for each would take, and the same bits.
mod spaced {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(numbers: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        let words: Vec<String> = numbers.iter().map(T::to_string).collect();
        serializer.serialize_str(&words.join(" "))
    }

    pub fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number =
            |word: &str| word.parse().map_err(|_| D::Error::custom("expected numbers with spaces between them"));
        text.split_whitespace().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::IGNORED;

    fn answer(prompt: &[u32], tokens: &[u32]) -> Answer {
        let numbers = |factor: f32| (0..tokens.len()).map(|i| factor * (i as f32 + 1.0) / 3.0).collect::<Vec<f32>>();
        Answer {
            prompt: prompt.to_vec(),
            tokens: tokens.to_vec(),
            counts: true,
            old: numbers(-1.0),
            reference: numbers(-2.0),
            advantages: numbers(0.5),
            values: Vec::new(),
            returns: Vec::new(),
        }
    }

    fn rollout() -> Rollout {
        let answers = vec![answer(&[5, 6, 7], &[8, 9]), answer(&[5, 6, 7], &[4]), answer(&[3], &[2, 1, 2, 1, 2])];
        Rollout { number: 3, numbers: Numbers::from([("reward".to_owned(), 1.0 / 3.0)]), answers }
    }

    fn config(micro_batch: usize, length: usize, parts: usize) -> Config {
        let mut config = Config::default();
        (config.train.micro_batch, config.train.sequence_length) = (micro_batch, length);
        config.grpo = Some(Default::default());
        config.rollout = Some(RolloutConfig { num_mini_batches: parts, ..RolloutConfig::default() });
        config
    }

    #[test]
    fn a_batch_is_written_and_read_back_bit_for_bit() {
        let rollout = rollout();
        let text = serde_json::to_string(&rollout).unwrap();
        assert!(text.contains("\"tokens\":\"8 9\""), "{text}");
        assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout);
        assert!(serde_json::from_str::<Rollout>(&text.replace("8 9", "8 -9")).is_err());
    }

    #[test]
    fn every_token_finds_its_numbers_where_it_is_predicted() {
        let (rollout, config) = (rollout(), config(1, 6, 1));
        let (micros, places) = rollout.arrange(&[0, 1, 2], &config);
        assert_eq!(micros.len(), 3, "of 4, 3 and 5 positions no two fit in 6");
        for (i, &(micro, first)) in places.iter().enumerate() {
            let (answer, Micro { batch, side: Side::Answers(side) }) = (&rollout.answers[i], &micros[micro]) else {
                panic!("drawn answers")
            };
            let n = answer.tokens.len();
            assert_eq!(batch.targets[first..first + n], answer.tokens[..]);
            assert_eq!(batch.ids[first], *answer.prompt.last().unwrap());
            assert_eq!(side.old[first..first + n], answer.old[..]);
            assert_eq!(side.reference[first..first + n], answer.reference[..]);
            assert_eq!(side.advantages[first..first + n], answer.advantages[..]);
            assert!(side.values[0].is_empty());
        }
        let counted: usize = micros.iter().map(|micro| micro.batch.counted()).sum();
        assert_eq!(counted, 8);
        let (packed, _) = rollout.arrange(&[0, 1, 2], &self::config(2, 12, 1));
        assert_eq!(packed.len(), 1, "all of them in one row");
        let Side::Answers(side) = &packed[0].side else { panic!("drawn answers") };
        let (batch, total) = (&packed[0].batch, side.factors.iter().sum::<f32>());
        assert!((total - 1.0).abs() < 1e-6, "the mean over tokens");
        let apart = batch.targets.iter().zip(&side.factors).all(|(&target, &f)| (target != IGNORED) == (f != 0.0));
        assert!(apart, "just the answers' tokens count");
    }

    #[test]
    fn an_iteration_takes_every_answer_once_in_an_order_of_its_own() {
        let mut rollout = rollout();
        rollout.answers = (0..40).map(|_| rollout.answers[0].clone()).collect();
        let config = RolloutConfig { num_mini_batches: 3, num_iterations: 2, ..RolloutConfig::default() };
        let parts: Vec<Vec<usize>> = (0..6).map(|part| rollout.chosen(&config, 7, part)).collect();
        for iteration in parts.chunks(3) {
            let mut all = iteration.concat();
            all.sort_unstable();
            assert_eq!(all, (0..40).collect::<Vec<_>>());
        }
        assert_ne!(parts[..3], parts[3..]);
        assert_eq!(parts, (0..6).map(|part| rollout.chosen(&config, 7, part)).collect::<Vec<_>>());
    }

    #[test]
    fn what_no_run_leaves_behind_is_refused() {
        let (good, mut config) = (rollout(), config(1, 5, 2));
        config.model.vocab_size = 10;
        assert_eq!(good.check(&config, 6), Ok(()));
        let refused = |rollout: &Rollout, config: &Config, words: &str| {
            let error = rollout.check(config, 7).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        let wrong = |change: fn(&mut Rollout), words: &str| {
            let mut rollout = good.clone();
            change(&mut rollout);
            refused(&rollout, &config, words);
        };
        wrong(|r| r.answers.clear(), "are 0, too few");
        wrong(|r| r.answers.truncate(1), "are 1, too few for rollout.num_mini_batches, which is 2");
        wrong(|r| r.answers[2].tokens.push(1), "does not fit in a row of 5");
        wrong(|r| r.answers[1].tokens.clear(), "does not fit");
        wrong(|r| r.answers[0].prompt.clear(), "does not fit");
        wrong(|r| r.answers[1].tokens[0] = 10, "the vocabulary of 10 lacks");
        wrong(|r| r.answers[0].old.truncate(1), "do not belong to its 2 tokens");
        wrong(|r| r.answers[0].advantages[0] = f32::NAN, "do not belong");
        wrong(|r| r.answers[0].returns = vec![0.0; 2], "do not belong");
        // What some have and others lack, and what another loss would read.
        wrong(|r| r.answers[0].reference.clear(), "lack log-probabilities by the reference");
        wrong(|r| r.answers[1].reference.clear(), "lack log-probabilities by the reference");
        let mut alone = good.clone();
        alone.answers.iter_mut().for_each(|answer| answer.reference.clear());
        assert_eq!(alone.check(&config, 6), Ok(()));
        config.grpo.as_mut().unwrap().beta = 0.1;
        refused(&alone, &config, "lack log-probabilities by the reference");
        (config.grpo, config.ppo) = (None, Some(Default::default()));
        refused(&good, &config, "lack values");
        assert_eq!(good.check(&config, 8), Ok(()), "answers are drawn anew");
    }

    #[test]
    fn answers_that_do_not_count_weigh_nothing() {
        let mut rollout = rollout();
        rollout.answers[0].counts = false;
        let (micros, places) = rollout.arrange(&[0, 1, 2], &config(4, 6, 1));
        let Side::Answers(side) = &micros[0].side else { panic!("drawn answers") };
        assert_eq!(side.factors[places[0].1], 0.0);
        assert!((side.factors.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
