//! Generation: sequences that come and go, batched as they are, on a program with a latent cache.
//!
//! [`Engine::submit`] takes requests; [`Engine::advance`] does one pass and says what came of it. A pass takes tokens
//! of prompts in, of several sequences if there are, or draws the next token of every sequence under way. Drawn tokens
//! stay on the device, which goes on with them: the host reads them a pass later, so it never keeps the device waiting,
//! and what was drawn after a sequence's end is dropped. What a sequence gets does not depend on the others: rows of a
//! pass are computed each on its own, with sums in an order that no other row changes.
//!
//! An [`Engine`] works on whatever executor has its decoder, as that of a training program does; a [`Generator`] has
//! one of its own.

mod ends;
mod engine;
mod sampling;
mod sequence;
mod text;

pub use ends::{ends, ends_of};
pub use engine::Engine;
pub use sampling::Sampling;
pub use sequence::{Completion, Event, Finish, Request};
pub use text::{Text, continued};

use crate::backend::Device;
use crate::config::model::ModelConfig;
use crate::error::{Error, Result};
use crate::graph::plan::Plan;
use crate::graph::{Dtype, Executor};
use crate::model::decoder::{DecoderOptions, Standalone};
use crate::model::params::{ParamSpec, parameters};

/// Passes that the device may be ahead of what the host has read.
const AHEAD: usize = 2;
/// Tokens of prompts in a pass that suit most.
pub const CHUNK: usize = 256;

/// Sizes of an [`Engine`] or [`Generator`].
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

impl GeneratorOptions {
    /// The decoder that such an engine needs, on a device with this limit of bindings, stored so.
    pub fn decoder(self, binding_limit: u64, stored: Dtype) -> DecoderOptions {
        DecoderOptions {
            slots: self.slots,
            // What is drawn after a sequence's end has places too.
            capacity: self.capacity + AHEAD,
            chunk: self.chunk.min(self.capacity * self.slots),
            known: self.known,
            binding_limit,
            stored,
        }
    }
}

/// A model that continues sequences: an [`Engine`] with weights and an executor of its own.
pub struct Generator {
    engine: Engine,
    executor: Box<dyn Executor>,
    plan: Plan,
}

impl Generator {
    /// The program that a generator runs on `device`, to see what memory it needs.
    pub fn decoder(config: &ModelConfig, options: GeneratorOptions, device: &Device) -> Standalone {
        Self::decoder_of(config, options, device.binding_limit(), device.stored())
    }

    /// The same for any device.
    pub fn decoder_of(
        config: &ModelConfig,
        options: GeneratorOptions,
        binding_limit: u64,
        stored: Dtype,
    ) -> Standalone {
        Standalone::new(config, &parameters(config), options.decoder(binding_limit, stored))
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
        let program = Self::decoder(config, options, device);
        let executor = device.executor(&program.tensors, &program.recordings, None)?;
        Ok(Self::on(program, executor))
    }

    /// A decoder on an executor that was made for it.
    pub fn on(program: Standalone, executor: Box<dyn Executor>) -> Self {
        let plan = program.plan();
        Generator { engine: Engine::new(program.decoder), executor, plan }
    }

    /// Fills all weights, as `Weights::load`.
    pub fn load(&mut self, fill: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()> + Send) -> Result<()> {
        self.engine.decoder().weights.load(self.executor.as_mut(), fill)
    }

    /// Fills parameter number `i`.
    pub fn load_parameter(&mut self, i: usize, values: &[f32]) -> Result<()> {
        self.engine.decoder().weights.load_parameter(self.executor.as_mut(), i, values)
    }

    /// The memory that it has.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// As [`Engine::capacity`].
    pub fn capacity(&self) -> usize {
        self.engine.capacity()
    }

    /// As [`Engine::submit`].
    pub fn submit(&mut self, request: Request) -> Result<u64> {
        self.engine.submit(request)
    }

    /// As [`Engine::cancel`].
    pub fn cancel(&mut self, number: u64) {
        self.engine.cancel(number);
    }

    /// As [`Engine::logits`].
    pub fn logits(&mut self) -> Result<Vec<f32>> {
        self.engine.logits(self.executor.as_mut())
    }

    /// As [`Engine::profile`].
    pub fn profile(&mut self) -> Result<Vec<(String, f64, u64)>> {
        self.engine.profile(self.executor.as_mut())
    }

    /// As [`Engine::waiting`].
    pub fn waiting(&self) -> usize {
        self.engine.waiting()
    }

    /// As [`Engine::is_idle`].
    pub fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// As [`Engine::advance`].
    pub fn advance(&mut self) -> Result<Vec<Event>> {
        self.engine.advance(self.executor.as_mut())
    }

    /// As [`Engine::generate`].
    pub fn generate(&mut self, requests: &[Request]) -> Result<Vec<Completion>> {
        self.engine.generate(self.executor.as_mut(), requests)
    }
}
