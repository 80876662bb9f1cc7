//! How many questions of the world's held-out chats a model answers exactly, beside two guesses that look at no model.
//!
//! A question is asked after the right answers to those before it, and the answer that the model generates, greedily
//! and to its end, has to be the right one letter for letter. Wordings are such as no training chat has.

use super::Encoder;
use crate::data::world::chat::{Exchange, turns};
use crate::data::world::{ProbeKind, Split, World};
use crate::error::{Error, Result};
use std::fmt;

/// Chats of an exam.
const CHATS: u64 = 100;

/// What is asked in an exam.
pub struct Exam {
    /// For each question the tokens that ask it, up to where the answer begins.
    pub prompts: Vec<Vec<u32>>,
    /// Tokens of the longest right answer, its end included.
    pub longest: usize,
    exchanges: Vec<Exchange>,
}

/// How the questions of one kind were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Questions.
    pub asked: usize,
    /// Exact answers.
    pub right: usize,
    /// Questions for which the most frequent answer of their class is right.
    pub majority: usize,
    /// Questions for which the answer of their class that was named last is right.
    pub last_named: usize,
}

/// The scores of both kinds of questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// On facts that hold in every story.
    pub fact: Score,
    /// On the story at hand.
    pub story: Score,
}

impl Exam {
    /// The exam of the world of `seed`, without the questions that take more than `most` tokens with their answers.
    ///
    /// # Errors
    /// If the encoder's template does not suit the world's chats.
    pub fn new(seed: u64, encoder: &Encoder, most: usize) -> Result<Exam> {
        let world = World::new(seed);
        let (mut prompts, mut longest, mut exchanges) = (Vec::new(), 0, Vec::new());
        for n in 0..CHATS {
            let chat = world.chat(n, Split::Val);
            let turns = turns(&chat);
            for (i, exchange) in chat.into_iter().enumerate() {
                let prompt = encoder.prompt(&turns[..2 * i + 1]);
                let prompt = prompt.map_err(|e| Error::config("sft.chat_template", e))?;
                let answer = encoder.length_of(&exchange.answer);
                if prompt.len() + answer <= most {
                    longest = longest.max(answer);
                    prompts.push(prompt);
                    exchanges.push(exchange);
                }
            }
        }
        Ok(Exam { prompts, longest, exchanges })
    }

    /// Marks the answers to all questions, in order.
    pub fn mark(&self, answers: &[String]) -> Scores {
        let mut scores = Scores::default();
        for (exchange, answer) in self.exchanges.iter().zip(answers) {
            let score = match exchange.kind {
                ProbeKind::Fact => &mut scores.fact,
                ProbeKind::Story => &mut scores.story,
            };
            score.asked += 1;
            score.right += usize::from(exchange.answer == *answer);
            score.majority += usize::from(exchange.majority_right);
            score.last_named += usize::from(exchange.last_named_right);
        }
        scores
    }
}

impl fmt::Display for Scores {
    /// A name and a value a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, score) in [("fact", self.fact), ("story", self.story)] {
            let share = |n: usize| n as f64 / score.asked.max(1) as f64;
            writeln!(f, "world_{name}_questions {}", score.asked)?;
            writeln!(f, "world_{name}_accuracy {:.6}", share(score.right))?;
            writeln!(f, "world_{name}_majority_baseline {:.6}", share(score.majority))?;
            let end = if name == "story" { "" } else { "\n" };
            write!(f, "world_{name}_last_named_baseline {:.6}{end}", share(score.last_named))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Template;
    use crate::config::sft::SftMask;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn right_answers_are_all_right_and_wrong_ones_are_not() {
        let tokenizer = Tokenizer::load("world").unwrap();
        let encoder = Encoder::new(Template::chatml(&tokenizer).unwrap(), tokenizer, SftMask::Answers).unwrap();
        let exam = Exam::new(1, &encoder, 256).unwrap();
        let mut answers: Vec<String> = exam.exchanges.iter().map(|exchange| exchange.answer.clone()).collect();
        let scores = exam.mark(&answers);
        assert_eq!((scores.fact.right, scores.story.right), (scores.fact.asked, scores.story.asked));
        assert_eq!(scores.fact.asked + scores.story.asked, exam.prompts.len());
        // Nobody does well who only guesses or repeats.
        for score in [scores.fact, scores.story] {
            assert!(score.asked > 150 && score.majority.max(score.last_named) * 5 < score.asked * 2, "{score:?}");
        }
        answers.iter_mut().for_each(|answer| answer.push(' '));
        let scores = exam.mark(&answers);
        assert_eq!((scores.fact.right, scores.story.right), (0, 0));
    }
}
