//! Checkable questions on facts without end: some ask for a fact alone, some for a form of the answer too, some for a
//! length. A model that learnt from chats answers in sentences, so it knows the facts and has the rest to learn.

use super::facts;
use super::lexicon::Lexicon;
use super::preference::pick;
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
/// How the format is demanded; the last way in held-out questions alone.
const FORMAT: [&str; 4] =
    ["Give the bare answer.", "Name it and say no more.", "Say the answer alone.", "Only name it."];
/// How a length is demanded, likewise.
const LENGTH: [&str; 4] =
    ["Use {} words at most.", "Say it in {} words or fewer.", "You have {} words.", "Take no more than {} words."];
/// Words that are allowed for beside those of the bare answer, at most.
const SPARE: usize = 1;

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
    /// An answer that is right and does as demanded.
    pub reference: String,
    /// What tells whether an answer is.
    pub check: Check,
}

/// Asks a question; `split` decides facts and wordings.
pub(super) fn ask(lexicon: &'static Lexicon, chooser: &mut dyn Chooser, split: Split) -> Quiz {
    let asked = facts::ask(lexicon, chooser, split);
    let right = asked.right().to_owned();
    let kind = chooser.choose(&SHARES, "");
    let way = if split == Split::Val { FORMAT.len() - 1 } else { pick(chooser, FORMAT.len() - 1) };
    let (demand, words) = match kind {
        0 => (Demand::Fact, String::new()),
        1 => (Demand::Format, format!(" {}", FORMAT[way])),
        _ => {
            let most = right.split(' ').count() + pick(chooser, SPARE + 1);
            // "1 words" would be wrong: who has one word gets two.
            let most = most.max(2);
            (Demand::Length(most), format!(" {}", LENGTH[way].replace("{}", &most.to_string())))
        }
    };
    let reference = if demand == Demand::Fact { asked.answer.clone() } else { right.clone() };
    let check = Check { wrong: asked.wrong(lexicon), right, demand };
    Quiz { question: asked.question + &words, reference, check }
}
