//! Chats about the world: a short story, and questions on it mixed with questions on what holds in every story.
//!
//! The story's questions ask who or what plays a part in it: who has the thing now, who had it first, what the other
//! thing was. A part shows in what is said of somebody, not in when they are named, and so a reader who only repeats
//! the last name is mostly wrong. Each is asked once a chat. The answers are people and things, which the stories of
//! pretraining repeat: a model of the default's size goes on from there in minutes, first with people. Places it did
//! not learn to take up in 3,000 updates, so they are told and not asked for.
//!
//! Half of the questions on facts in training chats also demand a form or a length of the answer, and a third of these
//! answers are as demanded: what reinforcement is to teach is there to be found, and not yet learnt. Held-out chats
//! demand nothing.

use super::lexicon::Lexicon;
use super::quiz;
use super::teller::{Chooser, Filling, Probe, Teller};
use super::template::{ProbeKind, Role};
use super::windows::Split;
use crate::data::record::{Role as Speaker, Turn};
use std::ops::Range;

/// Questions of a chat.
const QUESTIONS: usize = 5;
/// How often a question is on the world's facts, and how often on the story.
const FACT_OR_STORY: [u32; 2] = [2, 3];
/// How often a training question on a fact makes no demand, and how often it makes one.
const PLAIN_OR_DEMAND: [u32; 2] = [1, 1];
/// Demands as `quiz` makes them, of fact, format and length.
const DEMANDS: [u32; 3] = [0, 1, 1];
/// How often the answer to a demand is a whole sentence all the same, and how often it is bare.
const SENTENCE_OR_BARE: [u32; 2] = [2, 1];
/// What is asked of every story; of one in which somebody feels something, that too.
const PARTS: [&str; 4] = ["holder", "first", "other", "beside"];
/// The other question.
const FELT: &str = "felt";

/// A question with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// What the user says; the first time after the story.
    pub question: String,
    /// What the assistant says.
    pub answer: String,
    /// What the answer follows from.
    pub kind: ProbeKind,
    /// Whether the most frequent answer of the class is the right one here.
    pub majority_right: bool,
    /// Whether the answer of the class that was named last before is the right one here.
    pub last_named_right: bool,
}

/// Where a question stands in the text, and its answer.
type Part = (Range<usize>, Range<usize>);

/// Tells a chat; `split` decides the wordings.
pub fn tell(lexicon: &'static Lexicon, chooser: &mut dyn Chooser, split: Split) -> Vec<Exchange> {
    let mut talk = Talk::begin(Teller::new(lexicon, chooser), split);
    let mut open = PARTS.to_vec();
    open.extend(talk.felt.map(|_| FELT));
    let mut parts: Vec<Part> = Vec::new();
    for _ in 0..QUESTIONS {
        let asked = parts.last().map_or(0, |(_, answer)| answer.end + 1)..talk.ask(&mut open);
        let answered = asked.end + 1..talk.teller.text().len();
        parts.push((asked, answered));
    }
    let demands = std::mem::take(&mut talk.demands);
    let story = talk.teller.finish();
    let exchange = |(((asked, answered), demand), probe): ((Part, Option<Demanded>), &Probe)| {
        let right = &story.text[probe.start..probe.end];
        let (words, bare) = demand.map_or((String::new(), false), |Demanded { words, bare }| (words, bare));
        Exchange {
            question: story.text[asked].to_owned() + &words,
            answer: if bare { right } else { &story.text[answered] }.to_owned(),
            kind: probe.kind,
            majority_right: *right == *probe.majority,
            last_named_right: probe.last_named == Some(right),
        }
    };
    parts.into_iter().zip(demands).zip(&story.probes).map(exchange).collect()
}

/// What is demanded of an answer, behind the question.
struct Demanded {
    words: String,
    /// Whether the answer is the bare words, as is demanded.
    bare: bool,
}

/// Who and what plays which part.
pub(super) struct Talk<'c> {
    /// Who tells it.
    pub(super) teller: Teller<'c>,
    split: Split,
    /// Who begins, who may get the thing, who does something else.
    people: Vec<usize>,
    /// The thing, and another.
    things: Vec<usize>,
    /// Where it begins, where the thing may be carried, and another.
    places: Vec<usize>,
    /// Which of the people has the thing.
    holder: usize,
    /// Which of the people felt something.
    felt: Option<usize>,
    /// What each question demands, where it demands something.
    demands: Vec<Option<Demanded>>,
}

impl<'c> Talk<'c> {
    /// Tells the story.
    pub(super) fn begin(mut teller: Teller<'c>, split: Split) -> Talk<'c> {
        let lexicon = teller.lexicon;
        let [people, things, places] =
            [(lexicon.people.len(), 3), (lexicon.things.len(), 2), (lexicon.places.len(), 3)].map(|(all, n)| {
                let mut left: Vec<usize> = (0..all).collect();
                (0..n).map(|_| left.remove(pick(&mut teller, left.len()))).collect::<Vec<usize>>()
            });
        let mut talk = Talk { teller, split, people, things, places, holder: 0, felt: None, demands: Vec::new() };
        talk.tell("chat_begin");
        let beside = pick(&mut talk.teller, 3); // when the other person does something
        for event in 0..3 {
            if event == beside {
                talk.tell("chat_other");
            }
            match event {
                0 if talk.teller.choose(&[1, 3]) == 1 => talk.tell("chat_give"),
                1 if talk.teller.choose(&[1, 1]) == 1 => talk.tell("chat_carry"),
                2 if talk.teller.choose(&[1, 1]) == 1 => talk.tell("chat_feel"),
                _ => {}
            }
        }
        talk
    }

    /// Tells a sentence of `kind`, and what follows from it.
    fn tell(&mut self, kind: &str) {
        let lexicon = self.teller.lexicon;
        let (other, own) = (kind == "chat_other", kind == "chat_carry");
        let [who, thing, place] = if other { [2, 1, 2] } else { [self.holder, 0, usize::from(own)] };
        let who = if kind == "chat_feel" { [0, 2, self.holder][pick(&mut self.teller, 3)] } else { who };
        self.teller.set(Role::X, Filling::Known(self.people[who]));
        self.teller.set(Role::Y, Filling::Known(self.people[1]));
        self.teller.set(Role::T, Filling::Known(self.things[thing]));
        self.teller.set(Role::Q, Filling::Known(self.places[place]));
        self.teller.set(Role::M, Filling::Among((0..lexicon.moods.len()).map(|mood| (mood, 1)).collect()));
        self.teller.tell(kind);
        match kind {
            "chat_give" => self.holder = 1,
            "chat_feel" => self.felt = Some(who),
            _ => {}
        }
    }

    /// Asks, on a fact or one of the parts that are `open`, and answers; gives the end of the question.
    fn ask(&mut self, open: &mut Vec<&'static str>) -> usize {
        let lexicon = self.teller.lexicon;
        let any = |n: usize| Filling::Among((0..n).map(|i| (i, 1)).collect());
        self.teller.set(Role::X, any(lexicon.people.len()));
        self.teller.set(Role::T, any(lexicon.things.len()));
        let mut kind = "fact";
        if !open.is_empty() && self.teller.choose(&FACT_OR_STORY) == 1 {
            kind = open.remove(pick(&mut self.teller, open.len()));
            let who = match kind {
                "first" => 0,
                "other" => 2,
                FELT => self.felt.unwrap_or(0),
                _ => self.holder,
            };
            self.teller.set(Role::X, Filling::Known(self.people[who]));
            self.teller.set(Role::T, Filling::Known(self.things[usize::from(kind == "beside")]));
        }
        let all: Vec<_> = lexicon.questions.iter().filter(|question| question.kind == kind).collect();
        let question = all[pick(&mut self.teller, all.len())];
        let ways = if self.split == Split::Val { &question.unseen } else { &question.ask };
        let way = pick(&mut self.teller, ways.len());
        self.teller.space();
        self.teller.say(&ways[way]);
        let asked = self.teller.text().len();
        self.teller.space();
        self.teller.say(&question.answer);
        let demanded = kind == "fact" && self.split == Split::Train && self.teller.choose(&PLAIN_OR_DEMAND) == 1;
        let demand = demanded.then(|| self.demand());
        self.demands.push(demand);
        asked
    }
}

impl Talk<'_> {
    /// Demands something of the last answer.
    fn demand(&mut self) -> Demanded {
        let right = self.teller.last_probed();
        let (_, words) = quiz::demand(&mut |weights| self.teller.choose(weights), &DEMANDS, self.split, &right);
        Demanded { words, bare: self.teller.choose(&SENTENCE_OR_BARE) == 1 }
    }
}

/// Chooses below `n`, alike.
fn pick(teller: &mut Teller<'_>, n: usize) -> usize {
    teller.choose(&vec![1; n])
}

/// A chat as messages.
pub fn turns(chat: &[Exchange]) -> Vec<Turn> {
    let messages = |exchange: &Exchange| {
        [(Speaker::User, &exchange.question), (Speaker::Assistant, &exchange.answer)]
            .map(|(role, content)| Turn::new(role, content.clone()))
    };
    chat.iter().flat_map(messages).collect()
}
