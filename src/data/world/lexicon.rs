//! The world's facts and sentences as `assets/world.toml` states them.

use super::template::{Field, Template};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The file, embedded.
const TOML: &str = include_str!("../../../assets/world.toml");

/// Somebody, with what is true of them in every story.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// First name.
    pub name: String,
    /// `she` rather than `he`.
    #[serde(default)]
    pub woman: bool,
    /// Trade.
    pub work: String,
    /// What the trade left done, as a participle with its object.
    pub task: String,
    /// Building they live in.
    pub home: String,
    /// What they eat.
    pub food: String,
    /// What they wear.
    pub wear: String,
    /// Kind of their animal.
    pub animal: String,
    /// Name of their animal.
    pub pet: String,
    /// How often a story picks them.
    #[serde(default = "one")]
    pub weight: u32,
}

/// Somewhere to be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Noun, used as "at the NAME".
    pub name: String,
    /// What is to be seen or heard there, as a clause.
    pub sight: String,
    /// How often a story picks it.
    #[serde(default = "one")]
    pub weight: u32,
}

/// Something that people carry about.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// Noun.
    pub name: String,
    /// Adjective that fits no other thing.
    pub look: String,
    /// What it is for, as a gerund with its object.
    #[serde(rename = "use")]
    pub purpose: String,
    /// How often a story picks it.
    #[serde(default = "one")]
    pub weight: u32,
}

/// A kind of day.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weather {
    /// Adjective.
    pub name: String,
    /// How one tells, as a clause.
    pub sign: String,
    /// How often a story picks it.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// What chats ask of one matter, as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matter {
    kind: String,
    answer: String,
    ask: Vec<String>,
    about: Vec<String>,
}

/// What chats ask of one matter.
#[derive(Clone, Debug)]
pub struct Question {
    /// `fact`, or the look-up.
    pub kind: String,
    /// The answer.
    pub answer: Template,
    /// Wordings that are trained on.
    pub ask: Vec<Template>,
    /// Wordings of held-out chats alone.
    pub unseen: Vec<Template>,
}

/// The file's shape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    times: Vec<String>,
    moods: Vec<String>,
    frames: Vec<String>,
    weather: Vec<Weather>,
    people: Vec<Person>,
    places: Vec<Place>,
    things: Vec<Thing>,
    sentences: BTreeMap<String, Vec<String>>,
    questions: Vec<Matter>,
}

impl Question {
    fn parse(matter: &Matter, frames: &[String]) -> std::result::Result<Question, String> {
        let mut ask = matter.ask.iter().map(|way| Template::parse(way)).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut unseen = Vec::new();
        for (i, clause) in matter.about.iter().enumerate() {
            for (j, frame) in frames.iter().enumerate() {
                let way = Template::parse(&frame.replace("{}", clause))?;
                if j == i % frames.len() { unseen.push(way) } else { ask.push(way) }
            }
        }
        Ok(Question { kind: matter.kind.clone(), answer: Template::parse(&matter.answer)?, ask, unseen })
    }
}

/// Everything that is true in every story, and how sentences are told.
#[derive(Clone, Debug)]
pub struct Lexicon {
    /// Times of the day.
    pub times: Vec<String>,
    /// How people feel.
    pub moods: Vec<String>,
    /// Kinds of days.
    pub weather: Vec<Weather>,
    /// Everybody.
    pub people: Vec<Person>,
    /// Everywhere.
    pub places: Vec<Place>,
    /// Everything that is carried.
    pub things: Vec<Thing>,
    /// The ways to tell each kind of sentence, with their weights.
    pub sentences: BTreeMap<String, Vec<(u32, Template)>>,
    /// What chats ask.
    pub questions: Vec<Question>,
}

impl Lexicon {
    /// The embedded one.
    ///
    /// # Panics
    /// Never in a build whose tests passed: they read the embedded file.
    pub fn embedded() -> &'static Lexicon {
        static EMBEDDED: LazyLock<Lexicon> =
            LazyLock::new(|| Lexicon::parse(TOML).unwrap_or_else(|e| panic!("the embedded world is sound: {e}")));
        &EMBEDDED
    }

    /// Reads a world from the text of its file.
    pub fn parse(text: &str) -> Result<Lexicon> {
        let fail = |reason: String| Error::file("world.toml", reason);
        let file: File = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
        let mut sentences = BTreeMap::new();
        for (kind, ways) in file.sentences {
            let ways = ways.iter().map(|way| {
                let (weight, text) = match way.split_once('|') {
                    Some((weight, text)) => (weight.parse().map_err(|_| format!("{way}: no such weight"))?, text),
                    None => (1, way.as_str()),
                };
                Ok((weight, Template::parse(text)?))
            });
            let ways: std::result::Result<Vec<_>, String> = ways.collect();
            sentences.insert(kind.clone(), ways.map_err(|e| fail(format!("sentences.{kind}: {e}")))?);
        }
        let questions: std::result::Result<_, String> =
            file.questions.iter().map(|matter| Question::parse(matter, &file.frames)).collect();
        let questions = questions.map_err(|e| fail(format!("questions: {e}")))?;
        let File { times, moods, weather, people, places, things, .. } = file;
        Ok(Lexicon { times, moods, weather, people, places, things, sentences, questions })
    }

    /// All answers that a probe of `field` may have, with the weight of whom or what they belong to.
    pub fn candidates(&self, field: Field) -> Vec<(&str, u32)> {
        let people = |f: fn(&Person) -> &str| self.people.iter().map(|p| (f(p), p.weight)).collect();
        let things = |f: fn(&Thing) -> &str| self.things.iter().map(|t| (f(t), t.weight)).collect();
        match field {
            Field::Person => people(|p| &p.name),
            Field::Work => people(|p| &p.work),
            Field::Task => people(|p| &p.task),
            Field::Home => people(|p| &p.home),
            Field::Food => people(|p| &p.food),
            Field::Wear => people(|p| &p.wear),
            Field::Animal => people(|p| &p.animal),
            Field::Pet => people(|p| &p.pet),
            Field::Thing => things(|t| &t.name),
            Field::Look => things(|t| &t.look),
            Field::Use => things(|t| &t.purpose),
            Field::Place => self.places.iter().map(|p| (p.name.as_str(), p.weight)).collect(),
            Field::Sight => self.places.iter().map(|p| (p.sight.as_str(), p.weight)).collect(),
            Field::Weather => self.weather.iter().map(|w| (w.name.as_str(), w.weight)).collect(),
            Field::Sign => self.weather.iter().map(|w| (w.sign.as_str(), w.weight)).collect(),
            Field::Time => self.times.iter().map(|t| (t.as_str(), 1)).collect(),
            Field::Mood => self.moods.iter().map(|m| (m.as_str(), 1)).collect(),
            Field::She | Field::Her | Field::Him => Vec::new(),
        }
    }
}
