//! A question on one of the world's facts, after a short story as chats have it: a model that learnt from chats has
//! seen no question without one.
//!
//! Held out are the wordings that no training chat has, and stories. Facts are not: they hold in every story, so a
//! model is to know them, and cannot know one that it was never told.

use super::chat::Talk;
use super::lexicon::{Lexicon, Question};
use super::teller::{Chooser, Filling, Story, Teller};
use super::template::{Field, Piece, Role};
use super::windows::Split;
use std::ops::Range;

/// A question on a fact.
#[derive(Clone, Debug, PartialEq)]
pub struct FactQuestion {
    /// What the user says: the story and the question.
    pub question: String,
    /// The sentence that answers.
    pub answer: String,
    /// The words of the answer, in bytes, that have to be known.
    pub words: Range<usize>,
    /// The class of those words.
    pub class: Field,
    /// Which fact it is: the class that tells it from other facts, and the number of the person or thing.
    pub fact: (Field, usize),
}

/// A question that can be asked, and on whom or what.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    question: &'static Question,
    role: Role,
    pub(super) fact: (Field, usize),
}

/// Every question on a fact.
pub(super) fn choices(lexicon: &'static Lexicon) -> Vec<Choice> {
    let mut all = Vec::new();
    for question in lexicon.questions.iter().filter(|question| question.kind == "fact") {
        let mut slots = question.answer.0.iter().filter_map(|piece| match piece {
            Piece::Slot { role, field, .. } => Some((*role, *field)),
            Piece::Text(_) => None,
        });
        // The first that is said of a person or thing. Who asks for an animal's name says what animal it is, so that
        // both are one fact.
        let telling = slots.find(|(_, field)| !matches!(field, Field::Person | Field::Thing));
        let Some((role, class)) = telling else { continue };
        let subjects = if role == Role::T { lexicon.things.len() } else { lexicon.people.len() };
        let facts = (0..subjects).map(|subject| (class, subject));
        all.extend(facts.map(|fact| Choice { question, role, fact }));
    }
    all
}

/// Asks a question; `split` decides the wording.
pub(super) fn ask(lexicon: &'static Lexicon, chooser: &mut dyn Chooser, split: Split) -> FactQuestion {
    let mut talk = Talk::begin(Teller::new(lexicon, chooser), split);
    let all = choices(lexicon);
    let choice = all[talk.teller.choose(&vec![1; all.len()])];
    let question = choice.question;
    let ways = if split == Split::Val { &question.unseen } else { &question.ask };
    let way = talk.teller.choose(&vec![1; ways.len()]);
    talk.teller.set(choice.role, Filling::Known(choice.fact.1));
    talk.teller.space();
    talk.teller.say(&ways[way]);
    let asked = talk.teller.text().len();
    talk.teller.say(&question.answer);
    let Story { text, probes, .. } = talk.teller.finish();
    let (words, class) = probes.last().map_or((asked..asked, Field::Person), |p| (p.start..p.end, p.field));
    FactQuestion {
        question: text[..asked].to_owned(),
        answer: text[asked..].to_owned(),
        words: words.start - asked..words.end - asked,
        class,
        fact: choice.fact,
    }
}

/// The sentence that answers a question.
pub(super) fn answer(lexicon: &'static Lexicon, chooser: &mut dyn Chooser, choice: Choice) -> String {
    let mut teller = Teller::new(lexicon, chooser);
    teller.set(choice.role, Filling::Known(choice.fact.1));
    teller.say(&choice.question.answer);
    teller.finish().text
}

impl FactQuestion {
    /// The words of the answer that have to be known.
    pub fn right(&self) -> &str {
        &self.answer[self.words.clone()]
    }

    /// What else such words could be: of the same class, and wrong.
    pub fn wrong(&self, lexicon: &'static Lexicon) -> Vec<&'static str> {
        lexicon
            .candidates(self.class)
            .into_iter()
            .map(|(words, _)| words)
            .filter(|words| *words != self.right())
            .collect()
    }
}
