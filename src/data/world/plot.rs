//! What can happen in a story, and with what weight.
//!
//! Somebody is somewhere with some thing; one or two others come by; they hand it on, carry it off, leave it, go and
//! follow; somebody asks where things stand; they go home. Each step depends on who is where and who has the thing.

use super::lexicon::Lexicon;
use super::teller::{Chooser, Filling, Story, Teller};
use super::template::Role;

/// Tells a story by the choices of `chooser`.
pub fn tell(lexicon: &'static Lexicon, chooser: &mut dyn Chooser) -> Story {
    let mut plot = Plot { teller: Teller::new(lexicon, chooser), people: vec![], at: vec![], holder: Some(0), lies: 0 };
    plot.begin();
    plot.happen();
    plot.end();
    plot.teller.finish()
}

/// Who is where, and who has the thing.
struct Plot<'c> {
    teller: Teller<'c>,
    /// Those in the story, as numbers of the lexicon, in the order of their coming.
    people: Vec<usize>,
    /// Where each of them is.
    at: Vec<usize>,
    /// Who of them has the thing.
    holder: Option<usize>,
    /// Where the thing lies if nobody has it.
    lies: usize,
}

/// What can happen, with its weight where it can.
const EVENTS: [(&str, u32); 9] = [
    ("hand over", 4),
    ("carry", 3),
    ("go", 2),
    ("follow", 3),
    ("leave", 2),
    ("fetch", 5),
    ("use", 2),
    ("feel", 2),
    ("snack", 2),
];
/// Weight of ending the happenings before the first, the second, ...; after the last they end for certain.
const ENOUGH: [u32; 4] = [0, 2, 8, 16];

impl Plot<'_> {
    /// The first person, the place, the thing, the others.
    fn begin(&mut self) {
        let lexicon = self.teller.lexicon;
        let weighted = |weights: Vec<u32>| Filling::Among(weights.into_iter().enumerate().collect());
        let places = weighted(lexicon.places.iter().map(|p| p.weight).collect());
        self.teller.set(Role::W, weighted(lexicon.weather.iter().map(|w| w.weight).collect()));
        self.teller.set(Role::D, weighted(vec![1; lexicon.times.len()]));
        self.teller.set(Role::T, weighted(lexicon.things.iter().map(|t| t.weight).collect()));
        self.teller.set(Role::X, weighted(lexicon.people.iter().map(|p| p.weight).collect()));
        self.teller.set(Role::Q, places);
        self.teller.tell("open");
        self.people.push(self.teller.get(Role::X));
        let place = self.teller.get(Role::Q);
        self.at.push(place);
        self.teller.set(Role::P, Filling::Known(place));
        if self.teller.choose(&[1, 1]) == 1 {
            self.teller.tell("setting");
        }
        self.teller.tell("own");
        self.arrive(place);
        if self.teller.choose(&[3, 1]) == 1 {
            self.arrive(place);
        }
    }

    /// Somebody new comes to the first person at `place`.
    fn arrive(&mut self, place: usize) {
        let people = self.teller.lexicon.people.iter().enumerate();
        let left = people.filter(|(i, _)| !self.people.contains(i)).map(|(i, p)| (i, p.weight)).collect();
        self.teller.set(Role::X, Filling::Known(self.people[0]));
        self.teller.set(Role::Y, Filling::Among(left));
        self.teller.tell("arrive");
        self.people.push(self.teller.get(Role::Y));
        self.at.push(place);
    }

    /// One to four events, none twice in a row.
    fn happen(&mut self) {
        let mut last = EVENTS.len();
        for enough in ENOUGH {
            let mut weights: Vec<u32> = EVENTS.iter().map(|(kind, weight)| weight * self.possible(kind)).collect();
            if last < weights.len() {
                weights[last] = 0;
            }
            weights.push(enough);
            last = self.teller.choose(&weights);
            match EVENTS.get(last) {
                Some((kind, _)) => self.event(kind),
                None => return,
            }
        }
    }

    /// 1 if `kind` can happen now, 0 if not.
    fn possible(&self, kind: &str) -> u32 {
        u32::from(match kind {
            "hand over" => self.holder.is_some_and(|holder| !self.others_at(self.at[holder], holder).is_empty()),
            "carry" | "leave" | "use" => self.holder.is_some(),
            "fetch" => self.holder.is_none() && !self.others_at(self.lies, usize::MAX).is_empty(),
            "follow" => self.at.iter().any(|&place| place != self.at[0]),
            _ => true,
        })
    }

    /// Those at `place`, but for `except`.
    fn others_at(&self, place: usize, except: usize) -> Vec<usize> {
        (0..self.people.len()).filter(|&i| i != except && self.at[i] == place).collect()
    }

    /// Lets an event happen and tells it.
    fn event(&mut self, kind: &str) {
        let everybody: Vec<usize> = (0..self.people.len()).collect();
        match (kind, self.holder) {
            ("hand over", Some(holder)) => {
                let others = self.others_at(self.at[holder], holder);
                self.act(holder);
                self.teller.set(Role::Y, self.among(&others));
                let way = ["give", "ask"][self.teller.choose(&[2, 1])];
                self.teller.tell(way);
                self.holder = self.who(Role::Y);
            }
            ("carry", Some(holder)) => self.travel(kind, &[holder]),
            ("go", _) => {
                let others: Vec<usize> = everybody.into_iter().filter(|&i| Some(i) != self.holder).collect();
                self.travel(kind, &others);
            }
            ("follow", _) => {
                let follower = self.pick(&everybody);
                let apart: Vec<usize> = everybody.into_iter().filter(|&i| self.at[i] != self.at[follower]).collect();
                let followed = self.pick(&apart);
                self.act(follower);
                self.teller.set(Role::Y, Filling::Known(self.people[followed]));
                self.at[follower] = self.at[followed];
                self.teller.set(Role::P, Filling::Known(self.at[followed]));
                self.teller.tell(kind);
            }
            ("leave", Some(holder)) => {
                self.act(holder);
                self.lies = self.at[holder];
                self.holder = None;
                self.teller.tell(kind);
            }
            ("fetch", _) => {
                let finder = self.pick(&self.others_at(self.lies, usize::MAX));
                self.act(finder);
                self.holder = Some(finder);
                self.teller.tell(kind);
            }
            ("use", Some(holder)) => {
                self.act(holder);
                self.teller.tell(kind);
            }
            _ => {
                let moods = (0..self.teller.lexicon.moods.len()).map(|mood| (mood, 1)).collect();
                self.teller.set(Role::M, Filling::Among(moods));
                self.teller.set(Role::X, self.among(&everybody));
                self.teller.tell(kind);
            }
        }
    }

    /// One of `travellers` goes somewhere new.
    fn travel(&mut self, kind: &str, travellers: &[usize]) {
        let traveller = self.pick(travellers);
        self.act(traveller);
        let places = self.teller.lexicon.places.iter().enumerate();
        let here = self.at[traveller];
        self.teller
            .set(Role::Q, Filling::Among(places.filter(|(i, _)| *i != here).map(|(i, p)| (i, p.weight)).collect()));
        self.teller.tell(kind);
        self.at[traveller] = self.teller.get(Role::Q);
    }

    /// One question, and one word of farewell.
    fn end(&mut self) {
        let place = self.holder.map_or(self.lies, |holder| self.at[holder]);
        match self.teller.choose(&[2, 2, if self.holder.is_some() { 2 } else { 0 }]) {
            0 => {
                self.teller.set(Role::P, Filling::Known(place));
                self.teller.tell("where_thing");
            }
            1 => {
                let someone = self.pick(&(0..self.people.len()).collect::<Vec<_>>());
                self.act(someone);
                self.teller.tell("where_person");
            }
            _ => {
                self.act(self.holder.unwrap_or(0));
                self.teller.tell("who_has");
            }
        }
        self.teller.set(Role::X, self.among(&(0..self.people.len()).collect::<Vec<_>>()));
        self.teller.tell("close");
    }

    /// Makes number `i` of the story the one who acts, where they are.
    fn act(&mut self, i: usize) {
        self.teller.set(Role::X, Filling::Known(self.people[i]));
        self.teller.set(Role::P, Filling::Known(self.at[i]));
    }

    /// Chooses one of `options` alike.
    fn pick(&mut self, options: &[usize]) -> usize {
        options[self.teller.choose(&vec![1; options.len()])]
    }

    /// Any of the story's `options`, alike.
    fn among(&self, options: &[usize]) -> Filling {
        Filling::Among(options.iter().map(|&i| (self.people[i], 1)).collect())
    }

    /// Which of the story's people fills `role`.
    fn who(&mut self, role: Role) -> Option<usize> {
        let person = self.teller.get(role);
        self.people.iter().position(|&known| known == person)
    }
}
