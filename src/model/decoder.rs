//! A program that generates: passes over a few tokens of any sequences at a time, with a latent cache.

use super::few;
use super::inputs::{Inputs, LatentCache};
use super::params::ParamSpec;
use super::positions;
use super::transformer;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::config::train::Recompute;
use crate::error::Result;
use crate::graph::op::Weight;
use crate::graph::plan::Plan;
use crate::graph::recording::Recorder;
use crate::graph::tape::Tape;
use crate::graph::{Dtype, Executor, Recording, Role, Tensor, Tensors};
use crate::kernels::draw_token::{self, WORDS};
use crate::kernels::few_linear::MOST_ROWS;
use crate::kernels::history_append;

/// Names of the passes; a program has several of one name, which differ in their rows.
const DECODE: &str = "decode";
const PREFILL: &str = "prefill";

/// Passes of fewer rows than there are slots, for when few are in use.
const FEW_ROWS: [usize; 4] = [1, 4, 8, 32];
/// Sizes of a [`Decoder`].
#[derive(Clone, Copy, Debug)]
pub struct DecoderOptions {
    /// Sequences at a time.
    pub slots: usize,
    /// Positions of each.
    pub capacity: usize,
    /// Tokens of prompts that are taken in at a time.
    pub chunk: usize,
    /// Tokens below this may be drawn: rows of the embedding from there on have no text.
    pub known: usize,
    /// Largest binding of the adapter, in bytes; larger weights are split.
    pub binding_limit: u64,
    /// What weights, activations and the cache are stored as.
    pub stored: Dtype,
}

/// What draws a pass's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Slot of each drawn row.
    pub slots: Tensor, // (D)
    /// Position of its last token; a draw moves it on.
    pub positions: Tensor, // (D)
    /// Words of `kernels::draw_token`.
    pub settings: Tensor, // (D, 8)
    /// The drawn tokens.
    pub tokens: Tensor, // (D)
    /// Logits of the rows.
    pub logits: Tensor, // (D, V)
}

/// One pass.
#[derive(Clone)]
pub struct Pass {
    /// Number of its recording in the list that has it.
    pub recording: usize,
    /// Tokens that it takes in.
    pub rows: usize,
    /// What the host writes.
    pub inputs: Inputs,
    /// Where `Inputs` says which slot a row is of.
    pub slots: Tensor, // (N)
    /// Rows whose next token is drawn, where it is not all.
    pub drawn: Tensor, // (D)
    /// Their draw.
    pub draw: Draw,
}

/// Passes of one model, over weights that may be anybody's.
#[derive(Clone)]
pub struct Decoder {
    /// The model.
    pub config: ModelConfig,
    /// The parameters.
    pub weights: Weights,
    /// What is kept of tokens.
    pub cache: LatentCache,
    /// Takes prompts in.
    pub prefill: Pass,
    /// Draw one token after another, by rising rows; the last has rows for all slots.
    pub decode: Vec<Pass>,
}

impl Decoder {
    /// Adds the passes to `recordings` and what they need to `tensors`, which has `weights` already: weights that are
    /// trained there as [`Weights::read`] gives them, or frozen ones. Panics beside adapters, which no pass reads: a
    /// broken invariant of the caller. Allocates no memory.
    pub fn add(
        tensors: &mut Tensors,
        recordings: &mut Vec<Recording>,
        config: &ModelConfig,
        weights: Weights,
        options: DecoderOptions,
    ) -> Self {
        assert!(!weights.adapted(), "a decoder reads merged weights alone");
        let cache = LatentCache::new(tensors, config, options.slots, options.capacity, options.stored);
        let few = options.slots <= MOST_ROWS && few::fits(&weights);
        let mut maker = Maker { config, weights: &weights, cache: &cache, options, few, tensors, recordings };
        let prefill = maker.prefill();
        let decode = rows_of_passes(options, few).into_iter().map(|rows| maker.decode(rows)).collect();
        Decoder { config: config.clone(), weights, cache, prefill, decode }
    }

    /// Writes what never changes. Rotation that stretches with the length (`dynamic`) is that of sequences within the
    /// model's positions: what is kept of tokens is rotated for one length, and no longer sequence may be asked for.
    pub fn prepare(&self, executor: &mut dyn Executor) -> Result<()> {
        let length = self.cache.capacity.min(self.config.max_position_embeddings);
        let table = positions::table(&self.config, self.cache.capacity, length);
        executor.upload(self.cache.rope_table, &table)
    }
}

/// A decoder with weights, a table and recordings of its own.
pub struct Standalone {
    /// The passes.
    pub decoder: Decoder,
    /// Every tensor.
    pub tensors: Tensors,
    /// The passes' recordings.
    pub recordings: Vec<Recording>,
}

impl Standalone {
    /// Records all passes. Allocates no memory.
    pub fn new(config: &ModelConfig, specs: &[ParamSpec], options: DecoderOptions) -> Self {
        let (mut tensors, mut recordings) = (Tensors::default(), Vec::new());
        let weights = Weights::frozen(&mut tensors, specs, options.binding_limit, options.stored, "");
        let decoder = Decoder::add(&mut tensors, &mut recordings, config, weights, options);
        Standalone { decoder, tensors, recordings }
    }

    /// The memory that it needs.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.tensors, &self.recordings)
    }
}

/// Rows of the passes that draw. A row's sums have an order that does not depend on their number, except on matrix
/// units: these get one pass, so that a sequence gets the same whoever else is there.
fn rows_of_passes(options: DecoderOptions, few: bool) -> Vec<usize> {
    if options.stored == Dtype::F16 && !few {
        return vec![options.slots];
    }
    FEW_ROWS.into_iter().filter(|&rows| rows < options.slots).chain([options.slots]).collect()
}

struct Maker<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    cache: &'a LatentCache,
    options: DecoderOptions,
    /// Whether tokens are drawn by the operations for a few rows. All passes of a program do or none does, so that a
    /// sequence gets the same whoever else is there.
    few: bool,
    tensors: &'a mut Tensors,
    recordings: &'a mut Vec<Recording>,
}

impl Maker<'_> {
    fn inputs(&mut self, rows: usize) -> (Inputs, Tensor) {
        let inputs = Inputs::cached(self.tensors, self.config, rows, self.cache);
        let slots = inputs.kept.as_ref().map(|kept| kept.slots);
        (inputs, slots.unwrap_or_else(|| panic!("inputs of a pass have a cache")))
    }

    /// Draws the next token of every row, which then is the row's token.
    fn decode(&mut self, rows: usize) -> Pass {
        let (inputs, slots) = self.inputs(rows);
        let mut t =
            Tape::evaluation(self.tensors, self.options.binding_limit).storing(self.options.stored).rows_apart();
        let logits = match &inputs.kept {
            Some(kept) if self.few => few::logits(&mut t, self.config, self.weights, &inputs, kept), // (N, V)
            _ => {
                let h = transformer::hidden(&mut t, self.config, self.weights, &inputs, Recompute::None); // (N, d)
                t.logits(h, transformer::head(self.config, self.weights)) // (N, V)
            }
        };
        let recording = t.finish(DECODE);
        let settings = self.tensors.index("settings", &[rows, WORDS], Role::Input);
        let draw = Draw { slots, positions: inputs.positions, settings, tokens: inputs.ids, logits };
        let recording = self.drawing(recording, draw);
        Pass { recording, rows, inputs, slots, drawn: slots, draw }
    }

    /// Takes tokens of prompts in and draws the tokens after chosen ones.
    fn prefill(&mut self) -> Pass {
        let (rows, drawn) = (self.options.chunk, self.options.chunk.min(self.options.slots));
        let (inputs, slots) = self.inputs(rows);
        let chosen = self.tensors.index("drawn_rows", &[drawn], Role::Input);
        let mut t =
            Tape::evaluation(self.tensors, self.options.binding_limit).storing(self.options.stored).rows_apart();
        let h = transformer::hidden(&mut t, self.config, self.weights, &inputs, Recompute::None); // (N, d)
        let all = Weight { parts: vec![(0, h)], copies: None, rows };
        let h = t.embed(chosen, &all, inputs.token_order, inputs.segments); // (D, d)
        let logits = t.logits(h, transformer::head(self.config, self.weights)); // (D, V)
        let mut recording = t.finish(PREFILL);
        let mut index = |name: &str, shape: &[usize]| self.tensors.index(name, shape, Role::Input);
        let (draw_slots, positions) = (index("drawn_slots", &[drawn]), index("drawn_positions", &[drawn]));
        let (settings, tokens) = (index("settings", &[drawn, WORDS]), index("drawn_tokens", &[drawn]));
        let draw = Draw { slots: draw_slots, positions, settings, tokens, logits };
        let mut r = Recorder::new(self.tensors);
        let params = history_append::Params { rows: rows as u32, capacity: self.cache.capacity as u32 };
        r.step(&history_append::KERNEL, &params, &[inputs.ids, slots, inputs.positions, self.cache.history]);
        recording.steps.extend(r.finish(PREFILL).steps);
        let recording = self.drawing(recording, draw);
        Pass { recording, rows, inputs, slots, drawn: chosen, draw }
    }

    /// Adds the draw; gives the number of the recording.
    fn drawing(&mut self, mut recording: Recording, draw: Draw) -> usize {
        let [rows, classes] = [0, 1].map(|axis| self.tensors.extent(draw.logits, axis) as u32);
        let capacity = self.cache.capacity as u32;
        let params = draw_token::Params { rows, classes, known: self.options.known as u32, capacity };
        let mut r = Recorder::new(self.tensors);
        let tensors = [draw.logits, draw.settings, draw.slots, self.cache.history, draw.positions, draw.tokens];
        r.step(&draw_token::KERNEL, &params, &tensors);
        recording.steps.extend(r.finish(recording.name).steps);
        self.recordings.push(recording);
        self.recordings.len() - 1
    }
}
