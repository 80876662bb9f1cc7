//! A program on a device: loads weights, feeds batches, runs recordings, reads results.

use super::moments::{self, MomentValues};
use super::spare::Spare;
use crate::backend::Device;
use crate::checkpoint::adapters::Adapters;
use crate::config::rope::RopeType;
use crate::data::batch::Batch;
use crate::error::Result;
use crate::graph::run_cpu::CpuExecutor;
use crate::graph::{Dtype, Executor, Role, Tensor, Tensors};
use crate::kernels::{contract, state};
use crate::model::inputs::Inputs;
use crate::model::lora;
use crate::model::moments::Kept;
use crate::model::params::ParamSpec;
use crate::model::positions;
use crate::model::program::Program;
use crate::quiet::quietly;
use crate::reference::adamw8bit::maps;

/// A program, its buffers, and the words that change from step to step.
pub struct Session {
    /// Tensors and recordings.
    pub program: Program,
    executor: Box<dyn Executor>,
    words: [u32; 8],
    /// Length of sequence that the rotation table is for.
    rotated_for: usize,
    /// Where copies go that are read out.
    spare: Spare,
    /// What the program's adapters stand beside, where it has some; checkpoints say it.
    pub adapters: Option<Adapters>,
}

/// Sums over the batches since the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Sum of the losses of counted targets, in nats.
    pub loss_sum: f64,
    /// Counted targets whose most probable class was right.
    pub correct: f64,
    /// Counted targets.
    pub counted: f64,
    /// Balance loss, averaged over the window's sequences.
    pub balance: f64,
    /// Standard deviations that the loss lies above those of the last updates, where the spike guard is on.
    pub deviations: f64,
    /// Whether that made it a spike, and the update was skipped.
    pub spike: bool,
}

impl Metrics {
    /// Reads the words of the metrics tensor.
    pub fn of(words: &[f32]) -> Self {
        Metrics {
            loss_sum: f64::from(words[state::METRIC_LOSS]),
            correct: f64::from(words[state::METRIC_CORRECT]),
            counted: f64::from(words[state::METRIC_COUNTED]),
            balance: f64::from(words[state::METRIC_BALANCE]),
            deviations: f64::from(words[state::METRIC_DEVIATIONS]),
            spike: words[state::METRIC_SPIKE] == 1.0,
        }
    }

    /// Mean loss in nats a token; 0 without tokens.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.counted.max(1.0)
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.counted.max(1.0)
    }
}

impl Session {
    /// Allocates buffers for `program` on `device`, at most `cap` bytes.
    pub fn new(program: Program, device: &Device, cap: Option<u64>) -> Result<Self> {
        let executor = device.executor(&program.tensors, &program.recordings, cap)?;
        Session::on(program, executor)
    }

    /// A program on an executor that was made for it.
    pub fn on(program: Program, mut executor: Box<dyn Executor>) -> Result<Self> {
        let length = program.inputs.size.length;
        let table = positions::table(&program.config, length, length);
        executor.upload(program.inputs.rope_table, &table)?;
        if let Some(tensor) = program.maps {
            executor.upload(tensor, &maps())?;
        }
        let mut words = [0; 8];
        words[state::STATE_INVERSE_SEQUENCES] = 1f32.to_bits();
        let spare = Spare::default();
        let mut session = Session { program, executor, words, rotated_for: length, spare, adapters: None };
        session.restart()?;
        Ok(session)
    }

    /// Frees the buffers, also those of a device that is lost. Nothing can be run or read any more.
    pub fn close(&mut self) {
        let nothing = CpuExecutor::<f32>::new(&Tensors::default(), &[]);
        let closed = std::mem::replace(&mut self.executor, Box::new(nothing));
        // A driver may complain about a device that is lost; there is nothing left to lose.
        let _ = quietly(|| drop(closed));
    }

    /// Fills all parameters, as `Weights::load`, and what products read of them.
    pub fn load(&mut self, fill: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()> + Send) -> Result<()> {
        self.program.weights.load(self.executor.as_mut(), fill)?;
        self.refresh()
    }

    /// Makes the copies that products read anew, after [`Session::load_parameter`].
    pub fn refresh(&mut self) -> Result<()> {
        self.run(crate::model::program::REFRESH)
    }

    /// Overwrites parameter number `i`; products see it after [`Session::refresh`].
    pub fn load_parameter(&mut self, i: usize, values: &[f32]) -> Result<()> {
        self.program.weights.load_parameter(self.executor.as_mut(), i, values)
    }

    /// What tensors hold, one after the other, in `n` elements together.
    fn gather(&mut self, tensors: impl Iterator<Item = Tensor>, n: usize) -> Result<Vec<f32>> {
        let mut values = self.spare.take(n);
        let mut rest = values.as_mut_slice();
        for tensor in tensors {
            let (target, after) = std::mem::take(&mut rest).split_at_mut(self.executor.elements(tensor));
            self.executor.download_into(tensor, target)?;
            rest = after;
        }
        Ok(values)
    }

    /// Copies go to this memory from now on.
    pub(super) fn lend(&mut self, spare: Spare) {
        self.spare = spare;
    }

    /// How many numbers each copy of a save has, in its order: weights, then both moments of each in 32 bits.
    pub(super) fn copy_sizes(&self) -> Vec<usize> {
        let elements = |i: usize| self.program.weights.all[i].spec.elements();
        let whole = |&i: &usize| self.factors(i).is_none();
        let moments = moments::trained(self).into_iter().filter(whole).flat_map(|i| [elements(i); 2]);
        self.program.weights.kept().into_iter().map(elements).chain(moments).collect()
    }

    /// Present values of parameter number `i`.
    pub fn parameter(&mut self, i: usize) -> Result<Vec<f32>> {
        let parameter = &self.program.weights.all[i];
        let (weight, n) = (parameter.weight.clone(), parameter.spec.elements());
        self.gather(weight.spans().map(|(_, _, part)| part), n)
    }

    /// Present values of parameter number `i`, with its adapter added if it has one.
    pub fn merged(&mut self, i: usize) -> Result<Vec<f32>> {
        let mut values = self.parameter(i)?;
        let spec = self.program.weights.all[i].spec.clone();
        if let Some(scale) = spec.adapter {
            let (a, b) = (self.parameter(i + 1)?, self.parameter(i + 2)?); // its pair follows it
            let experts = spec.disk.len();
            let rank = a.len() / experts / spec.shape.last().copied().unwrap_or(1);
            lora::merge(&mut values, [&a, &b], experts, rank, scale);
        }
        Ok(values)
    }

    /// Accumulated gradient of parameter number `i`, without the loss scale; empty if it is not trained.
    pub fn gradient(&mut self, i: usize) -> Result<Vec<f32>> {
        let scale = self.result()?[state::RESULT_LOSS_SCALE];
        let parameter = &self.program.weights.all[i];
        let n = if parameter.spec.trained { parameter.spec.elements() } else { 0 };
        let (weight, tensors) = (parameter.weight.clone(), self.program.tensors.clone());
        let gradients = weight.spans().filter_map(|(_, _, part)| tensors.gradient_of(part));
        let mut gradient = self.gather(gradients, n)?;
        gradient.iter_mut().for_each(|d| *d /= scale); // a power of two: exact
        Ok(gradient)
    }

    /// The moments of parameter number `i`; empty if it is not trained.
    pub fn moments(&mut self, i: usize) -> Result<MomentValues> {
        let (mut whole, mut words, mut factors) = ([Vec::new(), Vec::new()], Vec::new(), Vec::new());
        for kept in self.kept(i) {
            match kept {
                Kept::Whole { first, second } => {
                    whole[0].push(first);
                    whole[1].push(second);
                }
                Kept::Coded { codes, absmax, .. } => {
                    words.extend(self.executor.download_indices(codes)?);
                    factors.extend(self.executor.download(absmax)?);
                }
            }
        }
        let n = self.program.weights.all[i].spec.elements();
        if !words.is_empty() {
            return Ok(MomentValues::of_words(&words, &factors, n));
        }
        let n = if whole[0].is_empty() { 0 } else { n };
        let [first, second] = whole;
        Ok(MomentValues::Whole([self.gather(first.into_iter(), n)?, self.gather(second.into_iter(), n)?]))
    }

    /// Overwrites the moments of parameter number `i`. Panics if they are kept in another way or of another size: a
    /// broken invariant of the caller.
    pub fn load_moments(&mut self, i: usize, values: &MomentValues) -> Result<()> {
        let (words, factors) = values.words();
        let (mut at, mut block) = (0, 0);
        for kept in self.kept(i) {
            match (kept, values) {
                (Kept::Whole { first, second }, MomentValues::Whole([m, v])) => {
                    let end = at + self.program.tensors.elements(first);
                    self.executor.upload(first, &m[at..end])?;
                    self.executor.upload(second, &v[at..end])?;
                    at = end;
                }
                (Kept::Coded { codes, absmax, .. }, MomentValues::Coded { .. }) => {
                    let end = at + self.program.tensors.elements(codes);
                    self.executor.upload_indices(codes, &words[at..end])?;
                    let last = block + self.program.tensors.elements(absmax);
                    self.executor.upload(absmax, &factors[block..last])?;
                    (at, block) = (end, last);
                }
                _ => panic!("{}: moments of another kind", self.program.weights.all[i].spec.name),
            }
        }
        Ok(())
    }

    /// Blocks of the moments of parameter number `i`, if they have 8 bits.
    pub(super) fn factors(&self, i: usize) -> Option<usize> {
        let blocks = |kept: &Kept| match kept {
            Kept::Whole { .. } => None,
            Kept::Coded { absmax, .. } => Some(self.program.tensors.extent(*absmax, 0)),
        };
        self.kept(i).iter().map(blocks).sum()
    }

    /// The tensors of the moments of each part of parameter number `i`.
    fn kept(&self, i: usize) -> Vec<Kept> {
        let of = |part| self.program.moments.iter().find(|moments| moments.parameter == part).map(|m| m.kept);
        self.program.weights.all[i].weight.spans().filter_map(|(_, _, part)| of(part)).collect()
    }

    /// Uploads a batch, of at most the program's size.
    ///
    /// Dynamic scaling rotates by the length of the longest document, which padding does not count in.
    pub fn feed(&mut self, batch: &Batch) -> Result<()> {
        let config = &self.program.config;
        let real = batch.positions.iter().zip(&batch.real).filter(|(_, real)| **real != 0);
        let longest = real.map(|(p, _)| *p as usize + 1).max().unwrap_or(0);
        // Below the limit all lengths rotate alike.
        let longest = longest.max(config.max_position_embeddings);
        if config.rope_scaling.kind == RopeType::Dynamic && longest != self.rotated_for {
            let table = positions::table(config, self.program.inputs.size.length, longest);
            self.executor.upload(self.program.inputs.rope_table, &table)?;
            self.rotated_for = longest;
        }
        feed(self.executor.as_mut(), &self.program.inputs, batch)
    }

    /// Dropout keys of the coming micro-step: a function of seed, step and micro-step alone.
    pub fn set_keys(&mut self, seed: u64, step: u64, micro_step: u64) -> Result<()> {
        let mixed = mix(seed ^ mix(step) ^ mix(!micro_step).rotate_left(17));
        self.words[state::STATE_KEY0] = mixed as u32;
        self.words[state::STATE_KEY1] = (mixed >> 32) as u32;
        self.executor.upload_indices(self.program.inputs.state, &self.words)
    }

    /// Number of sequences in the accumulation window, which the balance loss is averaged over.
    pub fn set_sequences(&mut self, sequences: usize) -> Result<()> {
        self.words[state::STATE_INVERSE_SEQUENCES] = (1.0 / sequences as f32).to_bits();
        self.executor.upload_indices(self.program.inputs.state, &self.words)
    }

    /// Number of pairs in the accumulation window, which losses of pairs are averaged over.
    pub fn set_pairs(&mut self, pairs: usize) -> Result<()> {
        self.words[state::STATE_INVERSE_PAIRS] = (1.0 / pairs.max(1) as f32).to_bits();
        self.executor.upload_indices(self.program.inputs.state, &self.words)
    }

    /// Waits and reads the words of `kernels::state` that stay from update to update.
    pub fn result(&mut self) -> Result<Vec<f32>> {
        self.executor.download(self.program.inputs.loss.result)
    }

    /// Overwrites these words.
    pub fn load_result(&mut self, words: &[f32]) -> Result<()> {
        self.executor.upload(self.program.inputs.loss.result, words)
    }

    /// Waits and reads the losses that the spike guard remembers; nothing before it remembers any.
    pub fn history(&mut self) -> Result<Option<Vec<f32>>> {
        let words = self.executor.download(self.program.inputs.history)?;
        Ok((words[state::HISTORY_COUNT] > 0.0).then_some(words))
    }

    /// Overwrites these.
    pub fn load_history(&mut self, words: &[f32]) -> Result<()> {
        self.executor.upload(self.program.inputs.history, words)
    }

    /// Makes moments and the words that stay from update to update what they are before the first.
    pub fn restart(&mut self) -> Result<()> {
        for (tensor, info) in self.program.tensors.iter() {
            if info.role == Role::Moment {
                self.executor.clear(tensor)?;
            }
        }
        self.executor.clear(self.program.inputs.history)?;
        let mixed = self.program.stored == Dtype::F16;
        self.load_result(&state::first_result(if mixed { state::FIRST_LOSS_SCALE } else { 1.0 }))
    }

    /// Standard deviations above which a loss is a spike; 0 for no guard. Reaches the device with the learning rate.
    pub fn set_spike_guard(&mut self, threshold: f64) {
        self.words[state::STATE_SPIKE_GUARD] = (threshold as f32).to_bits();
    }

    /// Learning rate of the coming update.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.words[state::STATE_LEARNING_RATE] = (learning_rate as f32).to_bits();
        self.executor.upload_indices(self.program.inputs.state, &self.words)
    }

    /// Runs the recording called `name`.
    pub fn run(&mut self, name: &str) -> Result<()> {
        let recording = self.program.recording(name);
        self.executor.run(recording)
    }

    /// Waits and reads a tensor.
    pub fn read(&mut self, tensor: Tensor) -> Result<Vec<f32>> {
        self.executor.download(tensor)
    }

    /// Waits and reads the sums since the last reset.
    pub fn metrics(&mut self) -> Result<Metrics> {
        let words = self.executor.download(self.program.inputs.loss.metrics)?;
        Ok(Metrics::of(&words))
    }

    /// The program and its executor.
    pub fn parts(&mut self) -> (&Program, &mut dyn Executor) {
        (&self.program, self.executor.as_mut())
    }

    /// The executor, for asynchronous reads and profiles.
    pub fn executor(&mut self) -> &mut dyn Executor {
        self.executor.as_mut()
    }

    /// Loss sums over `batches` with dropout off.
    pub fn evaluate(&mut self, batches: &[Batch]) -> Result<Metrics> {
        self.run(crate::model::program::RESET)?;
        for batch in batches {
            self.feed(batch)?;
            self.run(crate::model::program::EVALUATE)?;
        }
        self.metrics()
    }
}

/// Uploads a batch to the inputs of a program. Panics if its documents are in no order that attention keeps apart.
pub fn feed(executor: &mut dyn Executor, inputs: &Inputs, batch: &Batch) -> Result<()> {
    let kept = contract::documents(&batch.document_start, batch.length);
    kept.unwrap_or_else(|reason| panic!("a batch whose {reason}"));
    executor.upload_indices(inputs.ids, &batch.ids)?;
    executor.upload_indices(inputs.token_order, &batch.token_order)?;
    executor.upload_indices(inputs.segments, &batch.segments)?;
    executor.upload_indices(inputs.positions, &batch.positions)?;
    executor.upload_indices(inputs.document_start, &batch.document_start)?;
    executor.upload_indices(inputs.real, &batch.real)?;
    executor.upload_indices(inputs.loss.targets, &batch.targets)?;
    executor.upload(inputs.loss.loss_weights, &batch.loss_weights)
}

/// A permutation of the 64-bit words with good avalanche (the finaliser of SplitMix64).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
