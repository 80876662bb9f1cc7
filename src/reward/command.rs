//! What an external program says of completions.
//!
//! The program is started once. For each completion it gets a line of JSON on its standard input,
//!
//! ```json
//! {"id": 7, "prompt": [{"role": "user", "content": "What is 1 + 2?"}], "completion": "#### 3", "reference": "#### 3"}
//! ```
//!
//! and answers each, in order, with a line on its standard output that repeats the id (and is not held back in a
//! buffer):
//!
//! ```json
//! {"id": 7, "reward": 1.0}
//! ```
//!
//! The id tells whether both still speak of the same completion. `reference` is `null` where none is known. The program
//! ends when its input does.

use super::process::{Line, Process};
use super::{Reward, Sample};
use crate::config::reward::{OnFailure, RewardConfig};
use crate::data::record::Turn;
use crate::error::{Error, Result};
use crate::input::quoted;
use crate::terminal::{note, printable};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a program whose output has ended may take to end, so that it can be said how.
const ENDING: Duration = Duration::from_millis(500);

/// An external program.
pub struct Command {
    command: Vec<String>,
    timeout: Duration,
    on_failure: OnFailure,
    /// None after a failure that leaves unknown what it would say next.
    process: Option<Process>,
    /// The id of the next completion.
    next: u64,
}

/// A line of the program's.
#[derive(Deserialize)]
struct Answer {
    id: u64,
    reward: f64,
}

/// Why a line is no answer.
enum Wrong {
    /// It stands in the place of one.
    Line(String),
    /// It answers something else, so what follows has no meaning either.
    Place(String),
}

impl Command {
    /// Starts the program of `config`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(config: &RewardConfig) -> Result<Command> {
        let mut command = Command {
            command: config.command.clone(),
            timeout: Duration::from_secs_f64(config.timeout),
            on_failure: config.on_failure,
            process: None,
            next: 0,
        };
        command.process = Some(command.started()?);
        Ok(command)
    }

    fn started(&self) -> Result<Process> {
        Process::start(&self.command).map_err(|e| self.error(&format!("cannot be started: {e}")))
    }

    /// That the program did something wrong.
    fn error(&self, reason: &str) -> Error {
        let program = quoted(self.command.first().map_or("", String::as_str));
        Error::config("reward.command", format!("{program} {reason}"))
    }

    /// What the program says of each of `samples`, or what is wrong with that.
    fn ask(&mut self, samples: &[Sample]) -> Result<Vec<std::result::Result<f64, String>>> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.started()?,
        };
        let first = self.next;
        self.next += samples.len() as u64;
        process.send(samples.iter().zip(first..).flat_map(|(sample, id)| request(id, sample)).collect());
        let deadline = Instant::now() + self.timeout;
        let mut answers = Vec::new();
        for id in first..self.next {
            let (done, all) = (answers.len(), samples.len());
            let fatal = match process.receive(deadline) {
                Line::Text(line) => match answer(&line, id) {
                    Ok(reward) => {
                        answers.push(Ok(reward));
                        continue;
                    }
                    Err(Wrong::Line(reason)) => {
                        answers.push(Err(reason));
                        continue;
                    }
                    Err(Wrong::Place(reason)) => reason,
                },
                Line::TooLong => "answered a line that is too long for an answer".to_owned(),
                Line::End => format!("ended ({}) after {done} of {all} answers", process.stop(ENDING)),
                Line::Late => {
                    let seconds = self.timeout.as_secs_f64();
                    format!("gave {done} of {all} answers within {seconds} s, which reward.timeout allows")
                }
            };
            process.stop(Duration::ZERO);
            answers.resize(all, Err(fatal));
            return Ok(answers);
        }
        self.process = Some(process);
        Ok(answers)
    }
}

impl Reward for Command {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.ask(samples)?;
        if let Some(Err(reason)) = answers.iter().find(|answer| answer.is_err()) {
            let error = self.error(reason);
            if self.on_failure == OnFailure::Error {
                self.process.take().map(|mut process| process.stop(Duration::ZERO));
                return Err(error);
            }
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            note(printable(&format!("{failed} of {} completions get the reward 0: {error}", answers.len())));
        }
        Ok(answers.into_iter().map(std::result::Result::ok).collect())
    }
}

/// The line that asks for a reward.
fn request(id: u64, sample: &Sample) -> Vec<u8> {
    let message = |turn: &Turn| json!({ "role": turn.role.name(), "content": turn.content });
    let prompt: Vec<_> = sample.question.prompt.iter().map(message).collect();
    let (completion, reference) = (sample.completion, &sample.question.reference);
    let line = json!({ "id": id, "prompt": prompt, "completion": completion, "reference": reference });
    format!("{line}\n").into_bytes()
}

/// The reward in a line, which has to be that of `id`.
fn answer(line: &[u8], id: u64) -> std::result::Result<f64, Wrong> {
    let shown = || quoted(String::from_utf8_lossy(line).trim_end());
    let Ok(answer) = serde_json::from_slice::<Answer>(line) else {
        let reason = "answered what is no object with an \"id\" and a finite \"reward\"";
        return Err(Wrong::Line(format!("{reason}: {}", shown())));
    };
    if answer.id != id {
        return Err(Wrong::Place(format!("answered completion {} where {id} was due", answer.id)));
    }
    match (answer.reward as f32).is_finite() {
        true => Ok(answer.reward),
        false => Err(Wrong::Line(format!("answered a reward too large for a loss: {}", shown()))),
    }
}

#[cfg(all(test, unix))]
#[path = "command_tests.rs"]
mod tests;
