//! What is asked for, and how far it is.

use super::Sampling;
use crate::error::{Error, Result};
use crate::kernels::draw_token::{NO_TOKEN, WORDS};
use std::collections::HashMap;

/// A sequence to be continued.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its tokens, at least one.
    pub prompt: Vec<u32>,
    /// New tokens at most.
    pub max_tokens: usize,
    /// Tokens that end it.
    pub stop: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
}

impl Request {
    /// `choices` continuations of each of `prompts`, those of one after the other: of up to `max_tokens` that end by
    /// `stop`. Every sequence draws random numbers of its own, the same as it would draw alone; equal prompts count as
    /// one prompt with more choices.
    pub fn all(
        prompts: &[Vec<u32>],
        choices: usize,
        (max_tokens, stop): (usize, &[u32]),
        sampling: &Sampling,
    ) -> Vec<Request> {
        let mut drawn: HashMap<&[u32], u64> = HashMap::new();
        let each = prompts.iter().flat_map(|prompt| (0..choices).map(move |_| prompt));
        each.map(|prompt| {
            let number = drawn.entry(prompt).or_default();
            let sampling = sampling.of_sequence(prompt, *number);
            *number += 1;
            Request { prompt: prompt.clone(), max_tokens, stop: stop.to_vec(), sampling }
        })
        .collect()
    }
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// This token, which ends it, was drawn.
    Stop(u32),
    /// It has as many tokens as were asked for, or as there is room for.
    #[default]
    Length,
    /// The model's logits are not finite, so that nothing could be drawn.
    NotFinite,
}

impl Finish {
    /// Its name where answers are reported: `stop` or `length`.
    ///
    /// # Errors
    /// If the answer ended by a failure.
    pub fn name(self) -> Result<&'static str> {
        match self {
            Finish::Stop(_) => Ok("stop"),
            Finish::Length => Ok("length"),
            Finish::NotFinite => Err(Error::Numerics(NOT_FINITE.to_owned())),
        }
    }
}

/// What is said of logits that are not finite.
const NOT_FINITE: &str = "the model's logits are not finite, so no token can be drawn; if they overflow in mixed \
                          precision alone, f32 helps (--precision f32, or train.precision=f32 of a run)";

/// What a sequence got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The new tokens, without the one that ended it: [`Finish::Stop`] has that.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Something that came of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new token of a request.
    Token {
        /// The request.
        number: u64,
        /// The token.
        token: u32,
    },
    /// A request is done.
    Done {
        /// The request.
        number: u64,
        /// Why.
        finish: Finish,
    },
}

impl Event {
    /// The request that it is about.
    pub fn number(&self) -> u64 {
        match self {
            Event::Token { number, .. } | Event::Done { number, .. } => *number,
        }
    }
}

/// A request under way.
pub(super) struct Sequence {
    pub(super) number: u64,
    request: Request,
    /// Tokens of the prompt that the cache has.
    taken: usize,
    answer: usize,
    last: u32,
}

impl Sequence {
    /// A request with this number, in a slot of `capacity` tokens.
    pub(super) fn new(number: u64, mut request: Request, capacity: usize) -> Self {
        request.max_tokens = request.max_tokens.min(capacity - request.prompt.len());
        Sequence { number, request, taken: 0, answer: 0, last: 0 }
    }

    /// Whether the cache has the whole prompt.
    pub(super) fn is_taken_in(&self) -> bool {
        self.taken == self.request.prompt.len()
    }

    /// The next tokens of the prompt with their positions, at most `most`, which from now on the cache has.
    pub(super) fn take(&mut self, most: usize) -> Vec<(u32, u32)> {
        let end = self.request.prompt.len().min(self.taken + most);
        let taken = (self.taken..end).map(|position| (position as u32, self.request.prompt[position])).collect();
        self.taken = end;
        taken
    }

    /// Words that say how its tokens are drawn.
    pub(super) fn settings(&self) -> [u32; WORDS] {
        self.request.sampling.words()
    }

    /// The last token of the sequence, and its position.
    pub(super) fn last(&self) -> (u32, u32) {
        (self.last, (self.request.prompt.len() + self.answer) as u32 - 1)
    }

    /// Takes a drawn token: what there is to say of it.
    pub(super) fn receive(&mut self, token: u32) -> (Option<Event>, Option<Finish>) {
        if self.request.max_tokens == 0 {
            return (None, Some(Finish::Length));
        }
        if token == NO_TOKEN {
            return (None, Some(Finish::NotFinite));
        }
        if self.request.stop.contains(&token) {
            return (None, Some(Finish::Stop(token)));
        }
        self.answer += 1;
        self.last = token;
        let finish = (self.answer == self.request.max_tokens).then_some(Finish::Length);
        (Some(Event::Token { number: self.number, token }), finish)
    }
}
