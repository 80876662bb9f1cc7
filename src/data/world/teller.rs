//! Tells sentences: fills their slots, chooses where there is a choice, and keeps account of how probable that was.

use super::lexicon::Lexicon;
use super::template::{Field, Piece, ProbeKind, Role, Template};

/// Makes the choices of a story.
pub trait Chooser {
    /// The number of one of at least two options, by weight; `so_far` is what has been told before.
    fn choose(&mut self, weights: &[u32], so_far: &str) -> usize;
}

/// An answer in a story that a reader who knows the world and has followed the story can foretell.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// First byte of the answer.
    pub start: usize,
    /// Byte after the answer.
    pub end: usize,
    /// What the answer follows from.
    pub kind: ProbeKind,
    /// The class of answers, such as all homes.
    pub field: Field,
    /// The most frequent answer of its class: the guess of one who knows neither the facts nor the story.
    pub majority: &'static str,
    /// The answer of its class that was named last before it: the guess of one who only repeats.
    pub last_named: Option<&'static str>,
}

/// A story and its account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Story {
    /// What is told: sentences, a space between them.
    pub text: String,
    /// Exact negative log-likelihood of the text, in nats.
    pub nll: f64,
    /// For each sentence: the byte after it, and the nats up to there.
    pub spans: Vec<(usize, f64)>,
    /// Each choice: the byte from which it shows, and its nats.
    pub choices: Vec<(usize, f64)>,
    /// What can be foretold.
    pub probes: Vec<Probe>,
}

impl Story {
    /// Nats of the first `bytes` bytes: of all choices that show before there.
    pub fn nll_before(&self, bytes: usize) -> f64 {
        self.choices.iter().filter(|(at, _)| *at < bytes).map(|(_, nats)| nats).sum()
    }
}

/// Who or what may fill a role.
#[derive(Clone, Debug, PartialEq)]
pub enum Filling {
    /// This one.
    Known(usize),
    /// One of these, by weight, chosen when the telling comes to it.
    Among(Vec<(usize, u32)>),
}

/// Tells one story.
pub struct Teller<'c> {
    /// The world.
    pub lexicon: &'static Lexicon,
    chooser: &'c mut dyn Chooser,
    story: Story,
    roles: [Filling; 8],
}

impl<'c> Teller<'c> {
    /// Begins a story whose choices `chooser` makes.
    pub fn new(lexicon: &'static Lexicon, chooser: &'c mut dyn Chooser) -> Teller<'c> {
        Teller { lexicon, chooser, story: Story::default(), roles: std::array::from_fn(|_| Filling::Among(vec![])) }
    }

    /// The story as told.
    pub fn finish(self) -> Story {
        self.story
    }

    /// Chooses one of `weights`; a single possible option is no choice.
    pub fn choose(&mut self, weights: &[u32]) -> usize {
        let mut possible = (0..weights.len()).filter(|&i| weights[i] > 0);
        if let (Some(only), None) = (possible.next(), possible.next()) {
            return only;
        }
        let chosen = self.chooser.choose(weights, &self.story.text);
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let nats = (total / f64::from(weights[chosen])).ln();
        self.story.nll += nats;
        self.story.choices.push((self.story.text.len(), nats));
        chosen
    }

    /// Says who or what may fill `role` from now on.
    pub fn set(&mut self, role: Role, filling: Filling) {
        self.roles[role as usize] = filling;
    }

    /// Who or what fills `role`; chosen now if it was open.
    pub fn get(&mut self, role: Role) -> usize {
        let chosen = match &self.roles[role as usize] {
            Filling::Known(known) => return *known,
            Filling::Among(options) => {
                let options = options.clone();
                let weights: Vec<u32> = options.iter().map(|(_, weight)| *weight).collect();
                options[self.choose(&weights)].0
            }
        };
        self.set(role, Filling::Known(chosen));
        chosen
    }

    /// Tells a sentence of `kind` in one of its ways.
    pub fn tell(&mut self, kind: &str) {
        let ways = &self.lexicon.sentences[kind];
        let weights: Vec<u32> = ways.iter().map(|(weight, _)| *weight).collect();
        self.space();
        let way = self.choose(&weights);
        self.say(&ways[way].1);
        self.story.spans.push((self.story.text.len(), self.story.nll));
    }

    /// Tells a sentence just as it is.
    pub fn say(&mut self, sentence: &Template) {
        for piece in &sentence.0 {
            match piece {
                Piece::Text(text) => self.story.text.push_str(text),
                Piece::Slot { role, field, capital, probe } => self.fill(*role, *field, *capital, *probe),
            }
        }
    }

    /// What is told so far.
    pub fn text(&self) -> &str {
        &self.story.text
    }

    /// The last answer that can be foretold; nothing if there is none yet.
    pub fn last_probed(&self) -> String {
        self.story.probes.last().map_or(String::new(), |probe| self.story.text[probe.start..probe.end].to_owned())
    }

    /// A space, unless nothing was told yet.
    pub fn space(&mut self) {
        if !self.story.text.is_empty() {
            self.story.text.push(' ');
        }
    }

    /// Tells the word or words of a slot.
    fn fill(&mut self, role: Role, field: Field, capital: bool, probe: Option<ProbeKind>) {
        let who = self.get(role);
        let words = self.words(who, field);
        let start = self.story.text.len();
        if let Some(kind) = probe {
            let candidates = self.lexicon.candidates(field);
            // The first of the heaviest.
            let majority = candidates.iter().rev().max_by_key(|(_, weight)| *weight).map_or("", |(answer, _)| *answer);
            let last_named = last_named(&self.story.text, candidates.iter().map(|(answer, _)| *answer));
            self.story.probes.push(Probe { start, end: start + words.len(), kind, field, majority, last_named });
        }
        if capital {
            self.story.text.push_str(&words[..1].to_uppercase());
            self.story.text.push_str(&words[1..]);
        } else {
            self.story.text.push_str(words);
        }
    }

    /// The words of `field` for number `who` of its list.
    fn words(&self, who: usize, field: Field) -> &'static str {
        let pronoun = |woman: &'static str, man: &'static str| {
            if self.lexicon.people[who].woman { woman } else { man }
        };
        match field {
            Field::She => pronoun("she", "he"),
            Field::Her => pronoun("her", "his"),
            Field::Him => pronoun("her", "him"),
            _ => self.lexicon.candidates(field)[who].0,
        }
    }
}

/// Which of `candidates` stands last in `text`, as whole words.
fn last_named(text: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
    let place = |answer: &str| {
        text.rmatch_indices(answer).map(|(at, _)| at).find(|&at| {
            let before = at.checked_sub(1).and_then(|i| text.as_bytes().get(i));
            !letter(before) && !letter(text.as_bytes().get(at + answer.len()))
        })
    };
    candidates.filter_map(|answer| Some((place(answer)?, answer))).max().map(|(_, answer)| answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_named_candidate_is_a_whole_word() {
        let text = "The well, the mill, the wellhead";
        assert_eq!(last_named(text, ["well", "mill"].into_iter()), Some("mill"));
        assert_eq!(last_named(text, ["pond"].into_iter()), None);
    }
}
