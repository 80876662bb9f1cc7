//! Questions with drawn answers and what these are worth.

use super::numbers::named;
use super::rollout::Answer;
use super::rows::Numbers;
use crate::config::Config;
use crate::config::rollout::RolloutConfig;
use crate::data::questions::Question;
use crate::generate::{Completion, Finish};
use crate::reward::Scores;
use crate::rl::advantage::share_of_equal_groups;
use crate::rl::estimate::Drawn;
use crate::rl::{deviation, mean};

/// Questions and answers that are written out.
const WRITTEN: usize = 16;

/// Questions with their prompts' tokens, answers and what these are worth.
pub(super) struct Judged {
    /// What was asked.
    pub questions: Vec<Question>,
    /// The tokens of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// What was drawn.
    pub completions: Vec<Completion>,
    /// The same as text.
    pub texts: Vec<String>,
    /// What it is worth.
    pub scores: Scores,
    /// Time that drawing and judging took.
    pub seconds: [f64; 2],
}

/// Tokens of an answer, the one that ended it included.
pub(super) fn length(completion: &Completion) -> usize {
    completion.tokens.len() + usize::from(matches!(completion.finish, Finish::Stop(_)))
}

impl Judged {
    /// The answers with their prompts and no numbers yet.
    pub fn answers(&self, config: &Config) -> Vec<Answer> {
        let masked = config.grpo.as_ref().is_some_and(|grpo| grpo.mask_truncated_completions);
        let answer = |(prompt, completion): (&Vec<u32>, &Completion)| {
            let mut tokens = completion.tokens.clone();
            let ended = if let Finish::Stop(token) = completion.finish { Some(token) } else { None };
            tokens.extend(ended);
            Answer { prompt: prompt.clone(), tokens, counts: ended.is_some() || !masked, ..Answer::default() }
        };
        self.prompts.iter().zip(&self.completions).map(answer).collect()
    }

    /// What advantages are made of.
    pub fn drawn<'d>(&self, answers: &'d mut [Answer]) -> Vec<Drawn<'d>> {
        let ended = self.completions.iter().map(|one| matches!(one.finish, Finish::Stop(_)));
        let worth = self.scores.totals.iter().zip(ended);
        answers.iter_mut().zip(worth).map(|(answer, (&reward, ended))| Drawn { answer, reward, ended }).collect()
    }

    /// Tokens of all answers.
    pub fn tokens(&self) -> usize {
        self.completions.iter().map(length).sum()
    }

    /// Adds others behind these.
    pub fn extend(&mut self, other: Judged) {
        self.questions.extend(other.questions);
        self.prompts.extend(other.prompts);
        self.completions.extend(other.completions);
        self.texts.extend(other.texts);
        self.scores.extend(other.scores);
        self.seconds = [0, 1].map(|i| self.seconds[i] + other.seconds[i]);
    }

    /// Rewards and lengths, of one answer to each question.
    pub fn single(&self) -> Numbers {
        self.numbers(&RolloutConfig { num_generations: 1, ..RolloutConfig::default() })
    }

    /// Rewards and lengths under TRL's names.
    pub fn numbers(&self, rollout: &RolloutConfig) -> Numbers {
        let lengths: Vec<f64> = self.completions.iter().map(|one| length(one) as f64).collect();
        let open = self.completions.iter().filter(|one| one.finish == Finish::Length).count();
        let group = rollout.num_generations;
        let totals = &self.scores.totals;
        let spread = totals.chunks(group).map(deviation).collect::<Vec<f64>>();
        let mut numbers = named([
            ("reward", mean(totals)),
            ("reward_std", mean(&spread)),
            ("frac_reward_zero_std", share_of_equal_groups(totals, group)),
            ("completions/mean_length", mean(&lengths)),
            ("completions/min_length", lengths.iter().copied().fold(f64::INFINITY, f64::min)),
            ("completions/max_length", lengths.iter().copied().fold(0.0, f64::max)),
            ("completions/clipped_ratio", open as f64 / lengths.len().max(1) as f64),
        ]);
        for part in &self.scores.parts {
            numbers.insert(format!("rewards/{}/mean", part.name), mean(&part.values));
            numbers.insert(format!("rewards/{}/std", part.name), deviation(&part.values));
            if part.failed > 0 {
                numbers.insert(format!("rewards/{}/failed", part.name), part.failed as f64);
            }
        }
        numbers
    }

    /// The first questions with their answers and what these are worth, as text.
    pub fn written(&self) -> String {
        let mut text = String::new();
        for (i, question) in self.questions.iter().enumerate().take(WRITTEN) {
            let asked: Vec<&str> = question.prompt.iter().map(|turn| turn.content.as_str()).collect();
            let parts: Vec<String> =
                self.scores.parts.iter().map(|part| format!("{} {:.3}", part.name, part.values[i])).collect();
            text += &format!("question: {}\nanswer: {}\n", asked.join("\n"), self.texts[i]);
            if let Some(right) = &question.reference {
                text += &format!("right: {right}\n");
            }
            text += &format!("reward: {:.3} ({})\n\n", self.scores.totals[i], parts.join(", "));
        }
        text
    }
}
