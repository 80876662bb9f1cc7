//! Answers that the policy draws, judges and learns from: GRPO and PPO.

use super::judged::{Judged, length};
use super::lessons::Lessons;
use super::micro::Micro;
use super::numbers::named;
use super::rollout::Rollout;
use super::rows::{Numbers, Row, ValRow};
use super::trainer::Trainer;
use crate::chat::Encoder;
use crate::config::Config;
use crate::data::questions::{Question, Questions};
use crate::data::world::Split;
use crate::error::{Error, Result};
use crate::generate::{Completion, Engine, Request, Sampling};
use crate::graph::Executor;
use crate::model::program::{EVALUATE, REFERENCE, RESET};
use crate::reward::{Rewards, Sample};
use crate::rl::estimate::judge;
use std::time::Instant;

/// What draws answers and judges them.
pub struct Answers<'a> {
    questions: &'a Questions,
    encoder: &'a Encoder,
    rewards: Rewards,
    engine: Engine,
    /// When the updates of the present batch began.
    since: Option<Instant>,
}

impl<'a> Answers<'a> {
    /// Answers to `questions`, encoded by `encoder` and judged by `rewards`, that `engine` draws.
    ///
    /// # Errors
    /// If a prompt of files leaves no room for an answer.
    pub fn new(
        questions: &'a Questions,
        encoder: &'a Encoder,
        rewards: Rewards,
        engine: Engine,
        config: &Config,
    ) -> Result<Self> {
        let (train, val) = questions.lengths().unwrap_or((1, 1));
        for (n, split) in (0..train).map(|n| (n, Split::Train)).chain((0..val).map(|n| (n, Split::Val))) {
            prompt(encoder, &questions.question(n, split), config)?;
        }
        Ok(Answers { questions, encoder, rewards, engine, since: None })
    }

    /// Answers the held-out questions greedily, as many as `config` wants, and gives their number, rewards and lengths;
    /// none if there are no such questions.
    ///
    /// # Errors
    /// If the device fails, or answers cannot be judged.
    pub fn held_out(&mut self, executor: &mut dyn Executor, config: &Config) -> Result<Option<(usize, Numbers)>> {
        let judged = self.ask_held_out(executor, config, &|| true)?;
        Ok(judged.map(|judged| (judged.questions.len(), judged.single())))
    }

    /// The same while it `goes_on`, as many questions at a time as a batch has answers, so that a program that judges
    /// has no more to do in its time than in training; none too if it does not go on.
    fn ask_held_out(
        &mut self,
        executor: &mut dyn Executor,
        config: &Config,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<Judged>> {
        let numbers = self.validated(config);
        let at_a_time = config.rollout.as_ref().map_or(1, |rollout| rollout.answers().max(1));
        let mut all: Option<Judged> = None;
        for some in numbers.chunks(at_a_time) {
            let Some(judged) = self.ask(executor, config, (some, Split::Val), &|_| Sampling::greedy(), goes_on)? else {
                return Ok(None);
            };
            match &mut all {
                Some(all) => all.extend(judged),
                None => all = Some(judged),
            }
        }
        Ok(all)
    }

    /// The numbers of the held-out questions that each validation asks.
    fn validated(&self, config: &Config) -> Vec<u64> {
        let wanted = config.rollout.as_ref().map_or(0, |rollout| rollout.eval_prompts as u64);
        (0..self.questions.lengths().map_or(wanted, |(_, held_out)| held_out.min(wanted))).collect()
    }

    /// Answers questions of these numbers, on `executor`, while it `goes_on`, and judges the answers; none if it does
    /// not.
    fn ask(
        &mut self,
        executor: &mut dyn Executor,
        config: &Config,
        (numbers, split): (&[u64], Split),
        sampling: &dyn Fn(usize) -> Sampling,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<Judged>> {
        let questions: Vec<Question> = numbers.iter().map(|&n| self.questions.question(n, split)).collect();
        let encoded = questions.iter().map(|one| prompt(self.encoder, one, config));
        let prompts: Vec<Vec<u32>> = encoded.collect::<Result<_>>()?;
        let most = config.rollout.as_ref().map_or(1, |rollout| rollout.max_completion_length);
        let request = |(i, prompt): (usize, &Vec<u32>)| Request {
            prompt: prompt.clone(),
            // A row takes one token more than it has positions: the last is a target alone.
            max_tokens: most.min((config.train.sequence_length + 1).saturating_sub(prompt.len()).max(1)),
            stop: vec![self.encoder.end()],
            sampling: sampling(i),
        };
        let requests: Vec<Request> = prompts.iter().enumerate().map(request).collect();
        let began = Instant::now();
        let Some(completions) = self.engine.generate_while(executor, &requests, goes_on)? else { return Ok(None) };
        let (drawing, began) = (began.elapsed().as_secs_f64(), Instant::now());
        let tokenizer = self.encoder.tokenizer();
        let texts: Vec<String> = completions.iter().map(|one| tokenizer.decode(&one.tokens)).collect();
        let end = self.encoder.end();
        let whole = |(prompt, one): (&Vec<u32>, &Completion)| [prompt.as_slice(), &one.tokens, &[end]].concat();
        let sequences: Vec<Vec<u32>> = prompts.iter().zip(&completions).map(whole).collect();
        let sample = |i: usize| Sample {
            question: &questions[i],
            completion: &texts[i],
            tokens: length(&completions[i]),
            sequence: &sequences[i],
        };
        let samples: Vec<Sample<'_>> = (0..texts.len()).map(sample).collect();
        let scores = match self.rewards.judge(&samples) {
            // Ctrl-C reaches an external program as well: that it ended is no failure of its own.
            Err(_) if !goes_on() => return Ok(None),
            scores => scores?,
        };
        let seconds = [drawing, began.elapsed().as_secs_f64()];
        Ok(Some(Judged { questions, prompts, completions, texts, scores, seconds }))
    }
}

/// The tokens of a question's prompt.
///
/// Errors: it cannot be written, or leaves no room for an answer.
fn prompt(encoder: &Encoder, question: &Question, config: &Config) -> Result<Vec<u32>> {
    let tokens = encoder.prompt(&question.prompt).map_err(|e| Error::config("sft.chat_template", e))?;
    let (length, count) = (config.train.sequence_length, tokens.len());
    if count > length {
        let reason = format!("is {length}, and a prompt has {count} tokens; raise it, or leave that prompt out");
        return Err(Error::config("train.sequence_length", reason));
    }
    Ok(tokens)
}

/// A seed for each answer of a run.
fn seed(config: &Config, number: u64, answer: usize) -> u64 {
    let mixed = config.train.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed.rotate_left(31).wrapping_add(answer as u64)
}

impl Trainer<'_> {
    /// The micro-batches of the update after `step` others, for which answers are drawn if none are left; none if a
    /// signal asks to stop before they are.
    pub(super) fn drawn_window(&mut self, step: u64) -> Result<Vec<Micro>> {
        let Some(rollout) = &self.config.rollout else { return Ok(Vec::new()) };
        let (number, part) = (step / rollout.updates(), step % rollout.updates());
        if self.state.rollout.as_ref().is_none_or(|drawn| drawn.number != number) {
            self.collect_all()?;
            let Some(drawn) = self.draw_answers(number)? else { return Ok(Vec::new()) };
            self.state.rollout = Some(Box::new(drawn));
        }
        let Some(drawn) = &self.state.rollout else { return Ok(Vec::new()) };
        let chosen = drawn.chosen(rollout, self.config.train.seed, part);
        Ok(drawn.arrange(&chosen, self.config).0)
    }

    /// Draws and judges batch number `number`; none if a signal asks to stop.
    fn draw_answers(&mut self, number: u64) -> Result<Option<Rollout>> {
        let (config, updating) = (self.config, self.answers.as_mut().and_then(|answers| answers.since.take()));
        let updating = updating.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let rollout = config.rollout.clone().unwrap_or_default();
        let asked = |i: usize| number * rollout.prompts as u64 + (i / rollout.num_generations) as u64;
        let numbers: Vec<u64> = (0..rollout.answers()).map(asked).collect();
        let draws = |i: usize| Sampling {
            temperature: rollout.temperature,
            top_k: rollout.top_k,
            top_p: rollout.top_p,
            min_p: rollout.min_p,
            seed: seed(config, number, i),
            ..Sampling::default()
        };
        let ask = |answers: &mut Answers<'_>, executor: &mut dyn Executor, goes_on: &dyn Fn() -> bool| {
            answers.ask(executor, config, (&numbers, Split::Train), &draws, goes_on)
        };
        let Some(judged) = self.while_not_stopped(ask)? else { return Ok(None) };
        let began = Instant::now();
        let mut drawn = Rollout { number, numbers: Numbers::new(), answers: judged.answers(config) };
        self.read_log_probs(&mut drawn)?;
        let estimate = judge(config, &mut judged.drawn(&mut drawn.answers));
        drawn.numbers = judged.numbers(&rollout);
        drawn.numbers.extend(estimate);
        let scoring = judged.seconds[1] + began.elapsed().as_secs_f64();
        let seconds = [judged.seconds[0], scoring, updating];
        drawn.numbers.extend(named([
            ("seconds/rollout", seconds[0]),
            ("seconds/scoring", seconds[1]),
            ("seconds/update", seconds[2]),
        ]));
        self.tell(&drawn, &judged, seconds)?;
        if let Some(answers) = &mut self.answers {
            answers.since = Some(Instant::now());
        }
        self.pace.restart(self.state.tokens); // the rate counts training alone
        Ok(Some(drawn))
    }

    /// Says how a batch went, and where the time of it and of the updates before went.
    fn tell(&mut self, drawn: &Rollout, judged: &Judged, seconds: [f64; 3]) -> Result<()> {
        let interval = self.config.log.interval;
        let step = self.state.step;
        if interval == 0 || !(drawn.number.is_multiple_of(interval) || step + 1 >= self.config.train.steps) {
            return Ok(());
        }
        let all: f64 = seconds.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let [rollout, scoring, update] = seconds.map(|part| 100.0 * part / all);
        let (tokens, reward) = (judged.tokens(), drawn.numbers["reward"]);
        self.say(&format!(
            "step {step}: {} answers of {:.1} tokens drawn, reward {reward:.3}; of {all:.2} s rollout {rollout:.0} %, \
             scoring {scoring:.0} %, updates before {update:.0} %; {:.0} tokens/s drawn",
            drawn.answers.len(),
            tokens as f64 / drawn.answers.len() as f64,
            tokens as f64 / seconds[0].max(f64::MIN_POSITIVE),
        ));
        Ok(())
    }

    /// Lets the policy answer what `ask` asks, until a signal asks to stop: none then.
    fn while_not_stopped(
        &mut self,
        ask: impl FnOnce(&mut Answers<'_>, &mut dyn Executor, &dyn Fn() -> bool) -> Result<Option<Judged>>,
    ) -> Result<Option<Judged>> {
        self.copy_merged()?;
        let Some(answers) = &mut self.answers else { return Ok(None) };
        let stop = &self.stop;
        ask(answers, self.session.executor(), &|| stop.requested().is_none())
    }

    /// Gives the tokens of all answers the log-probabilities and values that the policy and the reference find, in the
    /// very micro-batches of the first updates: with the weights that have not changed the ratio is exactly 1 there.
    fn read_log_probs(&mut self, drawn: &mut Rollout) -> Result<()> {
        let config = self.config;
        let Some(rollout) = &config.rollout else { return Ok(()) };
        let aims = self.session.program.aims;
        let Some(objective) = aims.objective else { return Ok(()) };
        let referred = self.session.program.reference.is_some();
        for part in 0..rollout.num_mini_batches as u64 {
            let chosen = drawn.chosen(rollout, config.train.seed, part);
            let (micros, places) = drawn.arrange(&chosen, config);
            for (number, micro) in micros.iter().enumerate() {
                self.session.run(RESET)?;
                self.session.feed(&micro.batch)?;
                self.session.run(EVALUATE)?;
                let old = self.session.read(objective.log_probs)?;
                let values = aims.scores.map(|scores| self.session.read(scores)).transpose()?;
                let reference = match referred {
                    true => {
                        self.session.run(REFERENCE)?;
                        Some(self.session.read(objective.log_probs)?)
                    }
                    false => None,
                };
                for (&i, &(_, first)) in chosen.iter().zip(&places).filter(|(_, (micro, _))| *micro == number) {
                    let answer = &mut drawn.answers[i];
                    let here = first..first + answer.tokens.len();
                    answer.old = old[here.clone()].to_vec();
                    let part =
                        |all: &Option<Vec<f32>>| all.as_ref().map_or(Vec::new(), |all| all[here.clone()].to_vec());
                    (answer.reference, answer.values) = (part(&reference), part(&values));
                }
            }
        }
        Ok(())
    }

    /// Beside adapters the engine has weights of its own: those that are trained, merged.
    fn copy_merged(&mut self) -> Result<()> {
        let Some(answers) = self.answers.as_ref().filter(|_| self.session.adapters.is_some()) else { return Ok(()) };
        let weights = answers.engine.decoder().weights.clone();
        let merged: Vec<usize> = self.session.program.weights.whole();
        for (number, i) in merged.into_iter().enumerate() {
            let values = self.session.merged(i)?;
            weights.load_parameter(self.session.executor(), number, &values)?;
        }
        Ok(())
    }

    /// Answers the held-out questions, greedily, and notes what that is worth.
    pub(super) fn validate_answers(&mut self, step: u64) -> Result<()> {
        let config = self.config;
        if self.answers.as_ref().is_none_or(|answers| answers.validated(config).is_empty()) {
            return Ok(());
        }
        let ask = |answers: &mut Answers<'_>, executor: &mut dyn Executor, goes_on: &dyn Fn() -> bool| {
            answers.ask_held_out(executor, config, goes_on)
        };
        let Some(judged) = self.while_not_stopped(ask)? else { return Ok(()) };
        let (all, numbers) = (judged.questions.len(), judged.single());
        let reward = numbers["reward"];
        let row = ValRow::of_stage(step, f64::NAN, numbers);
        self.evaluated = Some((step, row.judged()));
        self.journal.record(&Row::Val(row))?;
        self.journal.sample(step, &judged.written());
        self.last_losses.1 = Some(reward);
        if step == 0 {
            self.last_losses.0 = Some(reward);
        }
        self.pace.restart(self.state.tokens);
        self.say(&format!("step {step}: held-out reward {reward:.4} of {all} answers"));
        Ok(())
    }

    /// Frees what judges answers on a device that failed.
    pub(super) fn close_answers(&mut self) {
        self.answers.iter_mut().for_each(|answers| answers.rewards.close());
    }

    /// Forgets what was under way on that device; answers are drawn by `session`'s from now on.
    pub(super) fn renew_answers(&mut self) -> Result<()> {
        if let (Some(answers), Some(decoder)) = (&mut self.answers, self.session.program.decoder.clone()) {
            (answers.engine, answers.since) = (Engine::new(decoder), None);
            self.source.scorer()?.into_iter().for_each(|scorer| answers.rewards.renew(scorer));
        }
        Ok(())
    }

    /// Whether the run draws what it learns from.
    pub(super) fn draws(&self) -> bool {
        matches!(self.lessons, Lessons::Answers)
    }
}
