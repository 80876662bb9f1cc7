//! Preferences without end: to a question on a fact the right answer, and one with a flaw.
//!
//! The flaw is that the answer is wrong, and could not be told from a right one by its form; or right and in a form
//! that chats do not have; or right and longer than was asked for.

use super::facts::{self, FactQuestion};
use super::lexicon::Lexicon;
use super::teller::Chooser;
use super::windows::Split;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// It names another of its class.
    Wrong,
    /// It is no sentence, or more than one should be.
    Format,
    /// It says more than was asked.
    Long,
}

/// The flaws with the weight of each: half of the answers are wrong, a quarter have each other flaw.
pub const FLAWS: [(Flaw, u32); 3] = [(Flaw::Wrong, 2), (Flaw::Format, 1), (Flaw::Long, 1)];
/// Forms that chats do not have.
const FORMATS: [fn(&FactQuestion) -> String; 4] = [
    |asked| asked.answer.trim_end_matches('.').to_owned(),
    |asked| asked.right().to_owned(),
    |asked| asked.answer.to_uppercase(),
    |asked| format!("Answer: {}", asked.answer),
];
/// Sentences that a long answer adds, at least and at most.
const ADDED: [usize; 2] = [1, 3];

/// A question, a right answer, and one with a flaw.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// What is asked.
    pub asked: FactQuestion,
    /// The worse answer; the better one is that of `asked`.
    pub rejected: String,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// Makes a preference; `split` decides the wording.
pub(super) fn tell(lexicon: &'static Lexicon, chooser: &mut dyn Chooser, split: Split) -> Preference {
    let asked = facts::ask(lexicon, chooser, split);
    let (flaw, _) = FLAWS[chooser.choose(&FLAWS.map(|(_, weight)| weight), "")];
    let rejected = match flaw {
        Flaw::Wrong => {
            let wrong = asked.wrong(lexicon);
            let words = wrong[pick(chooser, wrong.len())];
            [&asked.answer[..asked.words.start], words, &asked.answer[asked.words.end..]].concat()
        }
        Flaw::Format => FORMATS[pick(chooser, FORMATS.len())](&asked),
        Flaw::Long => {
            // What is added is true.
            let others: Vec<_> =
                facts::choices(lexicon).into_iter().filter(|choice| choice.fact != asked.fact).collect();
            let mut long = asked.answer.clone();
            for _ in 0..ADDED[0] + pick(chooser, ADDED[1] - ADDED[0] + 1) {
                let other = others[pick(chooser, others.len())];
                long = format!("{long} {}", facts::answer(lexicon, chooser, other));
            }
            long
        }
    };
    Preference { asked, rejected, flaw }
}

/// Chooses below `n`, alike.
pub(super) fn pick(chooser: &mut dyn Chooser, n: usize) -> usize {
    chooser.choose(&vec![1; n], "")
}

#[cfg(test)]
mod tests {
    use super::super::World;
    use super::*;
    use crate::data::world::template::Field;
    use std::collections::{HashMap, HashSet};

    const MANY: u64 = 3000;

    fn pairs(split: Split) -> Vec<Preference> {
        (0..MANY).map(|n| World::new(3).preference(n, split)).collect()
    }

    /// The question with every name and word of a fact left out.
    fn wording(pair: &Preference) -> String {
        let lexicon = Lexicon::embedded();
        let asked = &pair.asked.question;
        let start = asked[..asked.len() - 1].rfind(['.', '?']).map_or(0, |at| at + 2);
        let mut asked = asked[start..].to_owned();
        use Field::{Animal, Food, Home, Look, Person, Pet, Thing, Use, Wear, Work};
        for field in [Food, Wear, Use, Look, Home, Animal, Pet, Work, Thing, Person] {
            let mut words = lexicon.candidates(field);
            words.sort_by_key(|(words, _)| std::cmp::Reverse(words.len()));
            words.iter().for_each(|(words, _)| asked = asked.replace(words, "_"));
        }
        asked
    }

    fn wordings(pairs: &[Preference]) -> HashSet<String> {
        pairs.iter().map(wording).collect()
    }

    fn facts_of(pairs: &[Preference]) -> HashSet<(Field, usize)> {
        pairs.iter().map(|pair| pair.asked.fact).collect()
    }

    #[test]
    fn the_splits_have_all_facts_and_no_wording_in_common() {
        let (train, val) = (pairs(Split::Train), pairs(Split::Val));
        assert!(wordings(&train).is_disjoint(&wordings(&val)), "{:?}", wordings(&val));
        // All that there is comes up: 11 questions of 12 known wordings and 3 others, 5 facts of 12 people and 2 of 16
        // things.
        assert_eq!((wordings(&train).len(), wordings(&val).len()), (11 * 12, 11 * 3));
        let all = 5 * 12 + 2 * 16;
        assert_eq!((facts_of(&train).len(), facts_of(&val).len()), (all, all));
        // A split that leaked would be seen.
        let mixed = [&train[..10], &val[..10]].concat();
        assert!(!wordings(&mixed).is_disjoint(&wordings(&train)));
    }

    #[test]
    fn every_flaw_has_its_share_and_is_what_it_is_called() {
        let lexicon = Lexicon::embedded();
        let pairs = pairs(Split::Train);
        let mut shares: HashMap<Flaw, f64> = HashMap::new();
        for Preference { asked, rejected, flaw } in &pairs {
            *shares.entry(*flaw).or_default() += 1.0 / MANY as f64;
            let named = |words: &str| rejected.contains(words);
            assert_ne!(rejected, &asked.answer);
            match flaw {
                Flaw::Wrong => assert!(asked.wrong(lexicon).iter().any(|words| named(words)), "{rejected}"),
                Flaw::Format => assert!(rejected.to_lowercase().contains(&asked.right().to_lowercase()), "{rejected}"),
                Flaw::Long => {
                    let more = rejected.strip_prefix(&asked.answer).unwrap();
                    assert!((1..=3).contains(&more.matches('.').count()), "{rejected}");
                }
            }
        }
        let total: u32 = FLAWS.iter().map(|(_, weight)| weight).sum();
        for (flaw, weight) in FLAWS {
            let expected = f64::from(weight) / f64::from(total);
            assert!((shares[&flaw] - expected).abs() < 0.03, "{flaw:?}: {} and not {expected}", shares[&flaw]);
        }
    }

    #[test]
    fn a_number_and_seed_is_one_preference_for_ever() {
        let pair = World::new(3).preference(7, Split::Train);
        assert_eq!(pair, World::new(3).preference(7, Split::Train));
        for other in [
            World::new(3).preference(8, Split::Train),
            World::new(4).preference(7, Split::Train),
            World::new(3).preference(7, Split::Val),
        ] {
            assert_ne!(pair, other);
        }
        // Far off as well: nothing is counted through, or kept.
        World::new(3).preference((1 << 63) - 1, Split::Val);
    }
}
