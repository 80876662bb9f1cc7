//! Checkable questions on facts without end: some ask for a fact alone, some for a form of the answer too, some for a
//! length. A model that learnt from chats has seen such demands, and that they are mostly not met: it knows the facts,
//! and has the rest to learn.

use super::facts;
use super::lexicon::Lexicon;
use super::teller::Chooser;
use super::windows::Split;

/// What an answer has to be beside right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    /// Nothing more.
    Fact,
    /// The words that are asked for and no others.
    Format,
    /// At most so many words.
    Length(usize),
}

/// How often each demand is made: of facts, of format, of length.
pub const SHARES: [u32; 3] = [2, 3, 3];
/// How the format is demanded: each beginning goes with each end.
const FORMAT: [[&str; WAYS]; 2] = [["Give", "Say", "Name"], ["the bare answer", "it and no more", "the answer alone"]];
/// How a length is demanded, likewise.
const LENGTH: [[&str; WAYS]; 2] =
    [["Use", "Take", "Say it in"], ["{} words at most", "no more than {} words", "{} words or fewer"]];
const WAYS: usize = 3;
/// The least number of words that is allowed: one would be another demand for the bare answer.
const FEWEST: usize = 2;

/// What tells whether an answer is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The words to be named.
    pub right: String,
    /// The words of their class that are wrong.
    pub wrong: Vec<&'static str>,
    /// What else is asked of the answer.
    pub demand: Demand,
}

/// A question that can be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Quiz {
    /// What the user says.
    pub question: String,
    /// The sentence that chats answer with: right, and as long as it is.
    pub sentence: String,
    /// What tells whether an answer is.
    pub check: Check,
}

/// Asks a question; `split` decides the wordings.
pub(super) fn ask(lexicon: &'static Lexicon, chooser: &mut dyn Chooser, split: Split) -> Quiz {
    let asked = facts::ask(lexicon, chooser, split);
    let right = asked.right().to_owned();
    let (demand, words) = demand(&mut |weights| chooser.choose(weights, ""), &SHARES, split, &right);
    let check = Check { wrong: asked.wrong(lexicon), right, demand };
    Quiz { question: asked.question + &words, sentence: asked.answer, check }
}

/// Chooses what an answer with these `right` words has to be beside right, of fact, format and length by their
/// `shares`, and how that is said behind the question.
pub(super) fn demand(
    choose: &mut dyn FnMut(&[u32]) -> usize,
    shares: &[u32; 3],
    split: Split,
    right: &str,
) -> (Demand, String) {
    let kind = choose(shares);
    if kind == 0 {
        return (Demand::Fact, String::new());
    }
    // Held out is where beginning and end have the same number: each is known, and the two together are not.
    let (first, last) = if split == Split::Val {
        let way = choose(&[1; WAYS]);
        (way, way)
    } else {
        let way = choose(&[1; WAYS * (WAYS - 1)]);
        (way % WAYS, (way % WAYS + 1 + way / WAYS) % WAYS)
    };
    let [firsts, lasts] = if kind == 1 { FORMAT } else { LENGTH };
    let words = format!(" {} {}.", firsts[first], lasts[last]);
    if kind == 1 {
        return (Demand::Format, words);
    }
    let most = right.split(' ').count().max(FEWEST);
    (Demand::Length(most), words.replace("{}", &most.to_string()))
}

impl Quiz {
    /// An answer that is right and does as demanded.
    pub fn reference(&self) -> &str {
        if self.check.demand == Demand::Fact { &self.sentence } else { &self.check.right }
    }
}

#[cfg(test)]
mod tests {
    use super::super::World;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn demands_have_their_shares_and_wordings_of_their_split() {
        let ends = |split| {
            let mut counts = [0.0; 3];
            let mut ends = HashSet::new();
            for n in 0..3000 {
                let Quiz { question, check, .. } = World::new(2).quiz(n, split);
                let kind = match check.demand {
                    Demand::Fact => 0,
                    Demand::Format => 1,
                    Demand::Length(_) => 2,
                };
                counts[kind] += 1.0 / 3000.0;
                let words = question.trim_end_matches(['.', '?']).rsplit(['.', '?']).next().unwrap();
                // Of a fact's question the wording is the fact's own.
                if kind > 0 {
                    ends.insert(words.trim().replace(|c: char| c.is_ascii_digit(), "_"));
                }
            }
            for (count, share) in counts.into_iter().zip(SHARES) {
                assert!((count - f64::from(share) / 8.0).abs() < 0.03, "{counts:?}");
            }
            ends
        };
        let (train, val) = (ends(Split::Train), ends(Split::Val));
        assert_eq!((train.len(), val.len()), (12, 6), "{train:?} {val:?}");
        assert!(train.is_disjoint(&val));
        let words = |ends: &HashSet<String>| -> HashSet<String> {
            ends.iter().flat_map(|end| end.split(' ')).map(str::to_owned).collect()
        };
        assert!(words(&val).is_subset(&words(&train)), "held-out demands are made of known words");
    }
}
