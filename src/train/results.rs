//! What comes back of updates, and the rows that it becomes.

use super::numbers;
use super::rows::{ExpertLoad, Numbers, Row, SftNumbers, TrainRow};
use super::session::Metrics;
use super::trainer::Trainer;
use crate::config::Kind;
use crate::error::Result;
use crate::kernels::state;

/// An update whose results have not been read yet.
pub(super) struct Waiting {
    pub step: u64,
    pub learning_rate: f64,
    pub targets: u64,
    /// Positions that are no padding.
    pub real: u64,
    /// Tokens of the texts in them.
    pub seen: u64,
    /// Of the drawn answers that it learnt from.
    pub numbers: Numbers,
}

/// What is read of an update, in this order; its tag is [`PARTS`] times the update's number plus this.
pub(super) const METRICS: u64 = 0;
pub(super) const LOADS: u64 = 1;
pub(super) const OBJECTIVE: u64 = 2;
pub(super) const SCORES: u64 = 3;
pub(super) const RESULT: u64 = 4;
pub(super) const PARTS: u64 = 5;

/// What has arrived of the oldest update so far.
#[derive(Default)]
pub(super) struct Arrived {
    metrics: Option<Metrics>,
    /// Pairs of each expert, layer by layer.
    loads: Vec<f32>,
    /// Sums of preference training: of the objective of the head over the vocabulary, and of a head of one output.
    objective: Vec<f32>,
    scores: Vec<f32>,
}

impl Trainer<'_> {
    /// Turns results that have arrived into rows; with `wait`, waits for the oldest.
    pub(super) fn collect(&mut self, wait: bool) -> Result<()> {
        for (tag, words) in self.session.executor().arrived(wait)? {
            match tag % PARTS {
                METRICS => self.arrived.metrics = Some(Metrics::of(&words)),
                LOADS => self.arrived.loads = words,
                OBJECTIVE => self.arrived.objective = words,
                SCORES => self.arrived.scores = words,
                _ => {
                    let arrived = std::mem::take(&mut self.arrived);
                    let Some(done) = self.waiting.pop_front() else { continue };
                    self.record(&done, &arrived, &words)?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, done: &Waiting, arrived: &Arrived, result: &[f32]) -> Result<()> {
        let Arrived { metrics: Some(metrics), loads, objective, scores } = arrived else { return Ok(()) };
        let (loss, mut numbers) = numbers::of_window(self.session.program.aims.goal, metrics, objective, scores);
        numbers.extend(done.numbers.clone());
        self.state.step = done.step + 1;
        self.state.tokens = self.state.tokens.saturating_add(done.targets);
        self.state.num_tokens = self.state.num_tokens.saturating_add(done.seen);
        let rate = self.pace.rate(self.state.tokens);
        let (expert_load, dropped) = self.spread(done, loads);
        let row = TrainRow {
            step: self.state.step,
            loss,
            balance_loss: metrics.balance,
            lr: done.learning_rate,
            grad_norm: f64::from(result[state::RESULT_NORM]),
            tokens: self.state.tokens,
            tokens_per_second: rate,
            loss_scale: f64::from(result[state::RESULT_LOSS_SCALE]),
            skipped: result[state::RESULT_SKIPPED] as u64,
            expert_load,
            dropped,
            sft: (self.config.kind() == Kind::Sft).then(|| SftNumbers {
                mean_token_accuracy: metrics.accuracy(),
                num_tokens: self.state.num_tokens,
                aux_loss: match self.config.model.aux_loss_alpha {
                    0.0 => 0.0,
                    alpha => metrics.balance / alpha,
                },
            }),
            numbers,
        };
        if let Some(line) = self.progress.update(&row) {
            self.journal.log(&line);
        }
        self.journal.record(&Row::Train(row))?;
        self.tell_news();
        if result[state::RESULT_FINITE] != 1.0 {
            if !metrics.spike {
                return self.skipped(result);
            }
            self.spiked(loss, metrics.deviations);
        }
        self.state.numerics.in_a_row = 0;
        Ok(())
    }

    /// How evenly a window fell on the experts, and how many pairs of a token and an expert are missing.
    fn spread(&self, done: &Waiting, loads: &[f32]) -> (Vec<ExpertLoad>, u64) {
        let model = &self.config.model;
        let layers = (0..model.num_hidden_layers).filter(|&layer| model.is_moe(layer));
        let rows = layers.zip(loads.chunks(model.n_routed_experts.max(1)));
        let spread: Vec<ExpertLoad> = rows.map(|(layer, pairs)| ExpertLoad::of(layer, pairs)).collect();
        let expected = spread.len() as u64 * done.real * model.num_experts_per_tok as u64;
        let taken: f64 = loads.iter().map(|&x| f64::from(x)).sum();
        (spread, (expected as f64 - taken).max(0.0) as u64)
    }
}
