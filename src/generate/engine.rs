//! The passes of a decoder, one after the other: who has a slot, what a pass takes in, what it drew.

use super::AHEAD;
use super::sequence::{Completion, Event, Request, Sequence};
use crate::error::{Error, Result};
use crate::graph::Executor;
use crate::kernels::draw_token::WORDS;
use crate::kernels::latent_attention::NO_SLOT;
use crate::model::decoder::{Decoder, Pass};
use std::collections::VecDeque;

/// The sequence that a row draws for.
#[derive(Clone, Copy)]
struct Row {
    slot: usize,
    number: u64,
}

/// A pass whose tokens are on their way: its number, and which sequence each row drew for.
struct Flight {
    number: u64,
    rows: Vec<Row>,
}

/// A decoder at work, on an executor that may have other things to do in between. What runs here takes that executor:
/// one made for the table and the recordings that the decoder is part of, always the same until [`Engine::reset`], with
/// nothing else on its way (`Executor::read_later`). Weights may change while there is nothing to do: what is kept of
/// tokens is that of requests under way alone.
pub struct Engine {
    decoder: Decoder,
    /// Whether the executor has what never changes.
    prepared: bool,
    /// Tokens of a sequence at most.
    capacity: usize,
    waiting: VecDeque<Sequence>,
    /// By slot.
    active: Vec<Option<Sequence>>,
    /// The pass that draws at present, and the sequences of its rows.
    pass: usize,
    rows: Vec<Row>,
    /// Whether those are no longer the ones that it should draw for.
    changed: bool,
    flights: VecDeque<Flight>,
    passes: u64,
    submitted: u64,
}

impl Engine {
    /// A decoder, made with `GeneratorOptions::decoder`, that has nothing to do.
    pub fn new(decoder: Decoder) -> Engine {
        Engine {
            active: (0..decoder.cache.slots).map(|_| None).collect(),
            capacity: decoder.cache.capacity - AHEAD,
            decoder,
            prepared: false,
            waiting: VecDeque::new(),
            pass: 0,
            rows: Vec::new(),
            changed: false,
            flights: VecDeque::new(),
            passes: 0,
            submitted: 0,
        }
    }

    /// Forgets every request, what is on its way and the executor, which may be another from now on: that of before is
    /// lost. Numbers of requests go on.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.active.fill_with(|| None);
        self.rows.clear();
        self.flights.clear();
        (self.prepared, self.changed) = (false, false);
    }

    /// What it runs.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Tokens of a sequence at most, prompt and answer together.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes a request; gives the number under which events speak of it.
    ///
    /// Errors: its prompt is empty, leaves no room for an answer, or has a token that the model does not know.
    pub fn submit(&mut self, request: Request) -> Result<u64> {
        self.check(&request)?;
        self.submitted += 1;
        self.waiting.push_back(Sequence::new(self.submitted, request, self.capacity));
        Ok(self.submitted)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let (length, vocabulary) = (request.prompt.len(), self.decoder.config.vocab_size);
        if length == 0 || length >= self.capacity {
            let reason = format!("a prompt of {length} tokens; it must have from 1 to {}", self.capacity - 1);
            return Err(Error::Usage(reason));
        }
        if let Some(token) = request.prompt.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(Error::Usage(format!("token {token} is beyond the model's vocabulary of {vocabulary}")));
        }
        Ok(())
    }

    /// Forgets a request, wherever it is; nothing more is said of it.
    pub fn cancel(&mut self, number: u64) {
        self.waiting.retain(|sequence| sequence.number != number);
        for slot in &mut self.active {
            if slot.as_ref().is_some_and(|sequence| sequence.number == number) {
                (*slot, self.changed) = (None, true);
            }
        }
    }

    /// Logits of the last pass that drew for sequences under way, a row each; penalised where that is asked for.
    pub fn logits(&mut self, executor: &mut dyn Executor) -> Result<Vec<f32>> {
        executor.download(self.decoder.decode[self.pass].draw.logits)
    }

    /// Seconds and calls by kernel of one pass that draws for the sequences under way, which the pass moves on.
    pub fn profile(&mut self, executor: &mut dyn Executor) -> Result<Vec<(String, f64, u64)>> {
        self.land(executor, 0, &mut Vec::new())?;
        executor.profile()?;
        executor.run(self.decoder.decode[self.pass].recording)?;
        self.changed = true; // the host knows nothing of those tokens
        Ok(executor.profiled())
    }

    /// Requests that have no slot yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active.iter().all(Option::is_none)
    }

    /// Does one pass, if there is anything to do, and gives what has come of it and of those before.
    pub fn advance(&mut self, executor: &mut dyn Executor) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if !self.prepared {
            self.decoder.prepare(executor)?;
            self.prepared = true;
        }
        for slot in 0..self.active.len() {
            if self.active[slot].is_none() {
                self.active[slot] = self.waiting.pop_front();
            }
        }
        if self.active.iter().flatten().any(|sequence| !sequence.is_taken_in()) {
            self.land(executor, 0, &mut events)?;
            self.take_in(executor, &mut events)?;
        }
        if self.changed {
            self.land(executor, 0, &mut events)?;
            self.arrange(executor)?;
        }
        if !self.rows.is_empty() {
            self.draw(executor)?;
            self.land(executor, AHEAD, &mut events)?;
        }
        Ok(events)
    }

    /// Runs all `requests`; the completions are in their order. Afterwards nothing is on its way on the executor: what
    /// was drawn too much has arrived, so that others who read later meet their own. Where requests of before are under
    /// way, these go on, and nothing is said of them.
    ///
    /// Errors: as [`Engine::submit`], and then nothing is begun; logits are not finite, or the device fails, and then
    /// [`Engine::reset`] is next.
    pub fn generate(&mut self, executor: &mut dyn Executor, requests: &[Request]) -> Result<Vec<Completion>> {
        Ok(self.generate_while(executor, requests, || true)?.unwrap_or_default())
    }

    /// The same as long as `go_on` is true; none if it was not, and then everything that was asked for is forgotten.
    pub fn generate_while(
        &mut self,
        executor: &mut dyn Executor,
        requests: &[Request],
        go_on: impl Fn() -> bool,
    ) -> Result<Option<Vec<Completion>>> {
        requests.iter().try_for_each(|request| self.check(request))?;
        let first = self.submitted + 1;
        requests.iter().try_for_each(|request| self.submit(request.clone()).map(drop))?;
        let mut completions = vec![Completion::default(); requests.len()];
        while !self.is_idle() {
            if !go_on() {
                return self.forget_all(executor).map(|()| None);
            }
            for event in self.advance(executor)? {
                let at = event.number().checked_sub(first).map(|at| at as usize); // their numbers are in a row
                let Some(completion) = at.and_then(|at| completions.get_mut(at)) else { continue };
                match event {
                    Event::Token { token, .. } => completion.tokens.push(token),
                    Event::Done { finish, .. } => {
                        if let Err(error) = finish.name() {
                            self.forget_all(executor)?;
                            return Err(error);
                        }
                        completion.finish = finish;
                    }
                }
            }
        }
        self.land(executor, 0, &mut Vec::new())?;
        Ok(Some(completions))
    }

    /// Forgets every request; nothing is on its way afterwards.
    fn forget_all(&mut self, executor: &mut dyn Executor) -> Result<()> {
        self.waiting.clear();
        self.active.fill_with(|| None);
        self.changed = true;
        self.land(executor, 0, &mut Vec::new())
    }

    /// Takes in as many tokens of prompts as a pass has rows, and draws the first token of prompts that end in it.
    fn take_in(&mut self, executor: &mut dyn Executor, events: &mut Vec<Event>) -> Result<()> {
        let Pass { rows, slots, ref inputs, drawn, draw, recording } = self.decoder.prefill;
        let most = executor.elements(draw.tokens);
        let mut taken = Taken::default();
        for (slot, sequence) in self.active.iter_mut().enumerate() {
            let Some(sequence) = sequence.as_mut().filter(|sequence| !sequence.is_taken_in()) else { continue };
            for (position, id) in sequence.take(rows - taken.ids.len()) {
                taken.ids.push(id);
                taken.positions.push(position);
                taken.slots.push(slot as u32);
            }
            if sequence.is_taken_in() {
                taken.ends(sequence, slot);
            }
        }
        for (tensor, mut values, size, padding) in [
            (inputs.ids, taken.ids, rows, 0),
            (inputs.positions, taken.positions, rows, 0),
            (slots, taken.slots, rows, NO_SLOT),
            (drawn, taken.rows, most, 0),
            (draw.positions, taken.last, most, 0),
            (draw.slots, taken.of, most, NO_SLOT),
            (draw.settings, taken.settings, most * WORDS, 0),
        ] {
            values.resize(size, padding);
            executor.upload_indices(tensor, &values)?;
        }
        executor.run(recording)?;
        if !taken.drawing.is_empty() {
            let tokens = executor.download_indices(draw.tokens)?;
            taken.drawing.iter().zip(tokens).for_each(|(&row, token)| self.receive(row, token, events));
            self.changed = true;
        }
        Ok(())
    }

    /// Gives every sequence whose prompt is taken in a row of the smallest pass that has as many.
    fn arrange(&mut self, executor: &mut dyn Executor) -> Result<()> {
        let all = self.active.iter().enumerate().filter_map(|(slot, sequence)| Some((slot, sequence.as_ref()?)));
        let all: Vec<_> = all.filter(|(_, sequence)| sequence.is_taken_in()).collect();
        self.rows = all.iter().map(|&(slot, sequence)| Row { slot, number: sequence.number }).collect();
        self.changed = false;
        self.pass = self.decoder.decode.iter().position(|pass| pass.rows >= all.len()).unwrap_or_default();
        let Pass { rows, slots, ref inputs, draw, .. } = self.decoder.decode[self.pass];
        let last = |pick: fn((u32, u32)) -> u32| all.iter().map(|(_, sequence)| pick(sequence.last())).collect();
        for (tensor, mut values, size, padding) in [
            (inputs.ids, last(|(token, _)| token), rows, 0),
            (inputs.positions, last(|(_, position)| position), rows, 0),
            (slots, all.iter().map(|&(slot, _)| slot as u32).collect(), rows, NO_SLOT),
            (draw.settings, all.iter().flat_map(|(_, sequence)| sequence.settings()).collect(), rows * WORDS, 0),
        ] {
            let values: &mut Vec<u32> = &mut values;
            values.resize(size, padding);
            executor.upload_indices(tensor, values)?;
        }
        Ok(())
    }

    /// Draws the next token of all rows; does not wait for it.
    fn draw(&mut self, executor: &mut dyn Executor) -> Result<()> {
        let Pass { recording, draw, .. } = self.decoder.decode[self.pass];
        executor.run(recording)?;
        self.passes += 1;
        executor.read_later(draw.tokens, self.passes)?;
        self.flights.push_back(Flight { number: self.passes, rows: self.rows.clone() });
        Ok(())
    }

    /// Reads what passes drew, until at most `most` are on their way.
    fn land(&mut self, executor: &mut dyn Executor, most: usize, events: &mut Vec<Event>) -> Result<()> {
        while !self.flights.is_empty() {
            let arrived = executor.arrived(self.flights.len() > most)?;
            if arrived.is_empty() {
                break;
            }
            for (number, tokens) in arrived {
                let Some(flight) = self.flights.pop_front() else { break };
                assert_eq!(flight.number, number, "somebody else's values, or passes out of order");
                flight.rows.iter().zip(tokens).for_each(|(&row, token)| self.receive(row, token.to_bits(), events));
            }
        }
        Ok(())
    }

    /// A drawn token of a request; those of requests that are done or cancelled are dropped.
    fn receive(&mut self, Row { slot, number }: Row, token: u32, events: &mut Vec<Event>) {
        let slot = &mut self.active[slot];
        let Some(sequence) = slot.as_mut().filter(|sequence| sequence.number == number) else { return };
        let (event, finish) = sequence.receive(token);
        events.extend(event);
        if let Some(finish) = finish {
            events.push(Event::Done { number, finish });
            (*slot, self.changed) = (None, true);
        }
    }
}

/// What a pass takes in: by row, then by drawn row.
#[derive(Default)]
struct Taken {
    ids: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    rows: Vec<u32>,
    last: Vec<u32>,
    of: Vec<u32>,
    settings: Vec<u32>,
    drawing: Vec<Row>,
}

impl Taken {
    /// The last row ends the prompt of `sequence` in `slot`.
    fn ends(&mut self, sequence: &Sequence, slot: usize) {
        self.rows.push(self.ids.len() as u32 - 1);
        self.last.extend(self.positions.last());
        self.of.push(slot as u32);
        self.settings.extend(sequence.settings());
        self.drawing.push(Row { slot, number: sequence.number });
    }
}
