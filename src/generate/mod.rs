//! Generation: sequences that come and go, batched as they are, on a program with a latent cache.
//!
//! [`Generator::submit`] takes requests; [`Generator::advance`] does one pass and says what came of it. A pass takes
//! tokens of prompts in, of several sequences if there are, or draws the next token of every sequence under way.
//! Drawn tokens stay on the device, which goes on with them: the host reads them a pass later, so it never keeps the
//! device waiting, and what was drawn after a sequence's end is dropped. What a sequence gets does not depend on the
//! others: rows of a pass are computed each on its own, with sums in an order that no other row changes.

mod sampling;
mod sequence;
mod text;

pub use sampling::Sampling;
pub use sequence::{Completion, Event, Finish, Request};
pub use text::Text;

use crate::backend::Device;
use crate::config::model::ModelConfig;
use crate::error::{Error, Result};
use crate::graph::plan::Plan;
use crate::graph::{Dtype, Executor};
use crate::kernels::draw_token::WORDS;
use crate::kernels::latent_attention::NO_SLOT;
use crate::model::decoder::{Decoder, DecoderOptions, Pass};
use crate::model::params::{ParamSpec, parameters};
use sequence::Sequence;
use std::collections::VecDeque;

/// Passes that the device may be ahead of what the host has read.
const AHEAD: usize = 2;
/// Tokens of prompts in a pass that suit most.
pub const CHUNK: usize = 256;

/// Sizes of a [`Generator`].
#[derive(Clone, Copy, Debug)]
pub struct GeneratorOptions {
    /// Sequences at a time.
    pub slots: usize,
    /// Tokens of each, prompt and answer together.
    pub capacity: usize,
    /// Tokens of prompts in a pass at most.
    pub chunk: usize,
    /// Tokens below this may be drawn.
    pub known: usize,
}

/// A pass whose tokens are on their way: its number, and which sequence each row drew for.
struct Flight {
    number: u64,
    rows: Vec<u64>,
}

/// A model that continues sequences.
pub struct Generator {
    decoder: Decoder,
    executor: Box<dyn Executor>,
    /// Tokens of a sequence at most.
    capacity: usize,
    waiting: VecDeque<Sequence>,
    /// By slot.
    active: Vec<Option<Sequence>>,
    /// The pass that draws at present, and the sequences of its rows.
    pass: usize,
    rows: Vec<u64>,
    /// Whether those are no longer the ones that it should draw for.
    changed: bool,
    flights: VecDeque<Flight>,
    passes: u64,
    submitted: u64,
}

impl Generator {
    /// The program that a generator runs on `device`, to see what memory it needs.
    pub fn decoder(config: &ModelConfig, options: GeneratorOptions, device: &Device) -> Decoder {
        Self::decoder_of(config, options, device.binding_limit(), device.stored())
    }

    /// The same for any device.
    pub fn decoder_of(config: &ModelConfig, options: GeneratorOptions, binding_limit: u64, stored: Dtype) -> Decoder {
        let options = DecoderOptions {
            slots: options.slots,
            // What is drawn after a sequence's end has places too.
            capacity: options.capacity + AHEAD,
            chunk: options.chunk.min(options.capacity * options.slots),
            known: options.known,
            binding_limit,
            stored,
        };
        Decoder::new(config, &parameters(config), options)
    }

    /// Buffers for `options`; weights are still to be loaded.
    ///
    /// Errors: the device has no room; the model's positions end before `options.capacity`.
    pub fn new(config: &ModelConfig, options: GeneratorOptions, device: &Device) -> Result<Self> {
        let longest = config.max_position_embeddings;
        if options.capacity > longest {
            let reason =
                format!("{} tokens are more than the {longest} positions that the model takes", options.capacity);
            return Err(Error::Usage(reason));
        }
        let decoder = Self::decoder(config, options, device);
        let executor = device.executor(&decoder.tensors, &decoder.recordings, None)?;
        Self::on(decoder, executor)
    }

    /// A decoder on an executor that was made for it.
    pub fn on(decoder: Decoder, mut executor: Box<dyn Executor>) -> Result<Self> {
        decoder.prepare(executor.as_mut())?;
        Ok(Generator {
            active: (0..decoder.cache.slots).map(|_| None).collect(),
            capacity: decoder.cache.capacity - AHEAD,
            decoder,
            executor,
            waiting: VecDeque::new(),
            pass: 0,
            rows: Vec::new(),
            changed: false,
            flights: VecDeque::new(),
            passes: 0,
            submitted: 0,
        })
    }

    /// Fills all weights, as `Weights::load`.
    pub fn load(&mut self, fill: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()> + Send) -> Result<()> {
        self.decoder.weights.load(self.executor.as_mut(), fill)
    }

    /// Fills parameter number `i`.
    pub fn load_parameter(&mut self, i: usize, values: &[f32]) -> Result<()> {
        self.decoder.weights.load_parameter(self.executor.as_mut(), i, values)
    }

    /// The memory that it has.
    pub fn plan(&self) -> Plan {
        self.decoder.plan()
    }

    /// Tokens of a sequence at most, prompt and answer together.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes a request; gives the number under which events speak of it.
    ///
    /// Errors: its prompt is empty, leaves no room for an answer, or has a token that the model does not know.
    pub fn submit(&mut self, request: Request) -> Result<u64> {
        let (length, vocabulary) = (request.prompt.len(), self.decoder.config.vocab_size);
        if length == 0 || length >= self.capacity {
            let reason = format!("a prompt of {length} tokens; it must have from 1 to {}", self.capacity - 1);
            return Err(Error::Usage(reason));
        }
        if let Some(token) = request.prompt.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(Error::Usage(format!("token {token} is beyond the model's vocabulary of {vocabulary}")));
        }
        self.submitted += 1;
        self.waiting.push_back(Sequence::new(self.submitted, request, self.capacity));
        Ok(self.submitted)
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
    pub fn logits(&mut self) -> Result<Vec<f32>> {
        self.executor.download(self.decoder.decode[self.pass].draw.logits)
    }

    /// Seconds and calls by kernel of one pass that draws for the sequences under way, which the pass moves on.
    pub fn profile(&mut self) -> Result<Vec<(String, f64, u64)>> {
        self.land(0, &mut Vec::new())?;
        self.executor.profile()?;
        self.executor.run(self.decoder.decode[self.pass].recording)?;
        self.changed = true; // the host knows nothing of those tokens
        Ok(self.executor.profiled())
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
    pub fn advance(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for slot in 0..self.active.len() {
            if self.active[slot].is_none() {
                self.active[slot] = self.waiting.pop_front();
            }
        }
        if self.active.iter().flatten().any(|sequence| !sequence.is_taken_in()) {
            self.land(0, &mut events)?;
            self.take_in(&mut events)?;
        }
        if self.changed {
            self.land(0, &mut events)?;
            self.arrange()?;
        }
        if !self.rows.is_empty() {
            self.draw()?;
            self.land(AHEAD, &mut events)?;
        }
        Ok(events)
    }

    /// Runs all `requests`; the completions are in their order.
    pub fn generate(&mut self, requests: &[Request]) -> Result<Vec<Completion>> {
        let numbers: Vec<u64> = requests.iter().map(|r| self.submit(r.clone())).collect::<Result<_>>()?;
        let mut completions = vec![Completion::default(); requests.len()];
        while !self.is_idle() {
            for event in self.advance()? {
                let Some(at) = numbers.iter().position(|&number| number == event.number()) else { continue };
                match event {
                    Event::Token { token, .. } => completions[at].tokens.push(token),
                    Event::Done { finish, .. } => completions[at].finish = finish,
                }
            }
        }
        Ok(completions)
    }

    /// Takes in as many tokens of prompts as a pass has rows, and draws the first token of prompts that end in it.
    fn take_in(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let Pass { rows, slots, ref inputs, drawn, draw, recording } = self.decoder.prefill;
        let most = self.executor.elements(draw.tokens);
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
        let ends = taken.numbers.len();
        let executor = self.executor.as_mut();
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
        if ends > 0 {
            let tokens = executor.download_indices(draw.tokens)?;
            taken.numbers.iter().zip(tokens).for_each(|(&number, token)| self.receive(number, token, events));
            self.changed = true;
        }
        Ok(())
    }

    /// Gives every sequence whose prompt is taken in a row of the smallest pass that has as many.
    fn arrange(&mut self) -> Result<()> {
        let all = self.active.iter().enumerate().filter_map(|(slot, sequence)| Some((slot as u32, sequence.as_ref()?)));
        let all: Vec<_> = all.filter(|(_, sequence)| sequence.is_taken_in()).collect();
        self.rows = all.iter().map(|(_, sequence)| sequence.number).collect();
        self.changed = false;
        self.pass = self.decoder.decode.iter().position(|pass| pass.rows >= all.len()).unwrap_or_default();
        let Pass { rows, slots, ref inputs, draw, .. } = self.decoder.decode[self.pass];
        let last = |pick: fn((u32, u32)) -> u32| all.iter().map(|(_, sequence)| pick(sequence.last())).collect();
        for (tensor, mut values, size, padding) in [
            (inputs.ids, last(|(token, _)| token), rows, 0),
            (inputs.positions, last(|(_, position)| position), rows, 0),
            (slots, all.iter().map(|(slot, _)| *slot).collect(), rows, NO_SLOT),
            (draw.settings, all.iter().flat_map(|(_, sequence)| sequence.settings()).collect(), rows * WORDS, 0),
        ] {
            let values: &mut Vec<u32> = &mut values;
            values.resize(size, padding);
            self.executor.upload_indices(tensor, values)?;
        }
        Ok(())
    }

    /// Draws the next token of all rows; does not wait for it.
    fn draw(&mut self) -> Result<()> {
        let Pass { recording, draw, .. } = self.decoder.decode[self.pass];
        self.executor.run(recording)?;
        self.passes += 1;
        self.executor.read_later(draw.tokens, self.passes)?;
        self.flights.push_back(Flight { number: self.passes, rows: self.rows.clone() });
        Ok(())
    }

    /// Reads what passes drew, until at most `most` are on their way.
    fn land(&mut self, most: usize, events: &mut Vec<Event>) -> Result<()> {
        while !self.flights.is_empty() {
            let arrived = self.executor.arrived(self.flights.len() > most)?;
            if arrived.is_empty() {
                break;
            }
            for (number, tokens) in arrived {
                let Some(flight) = self.flights.pop_front() else { break };
                assert_eq!(flight.number, number, "passes land in the order in which they began");
                flight.rows.iter().zip(tokens).for_each(|(&of, token)| self.receive(of, token.to_bits(), events));
            }
        }
        Ok(())
    }

    /// A drawn token of a request; those of requests that are done or cancelled are dropped.
    fn receive(&mut self, number: u64, token: u32, events: &mut Vec<Event>) {
        let of = |slot: &&mut Option<Sequence>| slot.as_ref().is_some_and(|sequence| sequence.number == number);
        let Some(slot) = self.active.iter_mut().find(of) else { return };
        let Some(sequence) = slot else { return };
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
    numbers: Vec<u64>,
}

impl Taken {
    /// The last row ends the prompt of `sequence` in `slot`.
    fn ends(&mut self, sequence: &Sequence, slot: usize) {
        self.rows.push(self.ids.len() as u32 - 1);
        self.last.extend(self.positions.last());
        self.of.push(slot as u32);
        self.settings.extend(sequence.settings());
        self.numbers.push(sequence.number);
    }
}
