//! What a run does about a device that fails and about updates that are not finite: it goes back to its newest sound
//! checkpoint as `--resume` does, or ends with a reason.

use super::diagnosis;
use super::start::{self, Machine};
use super::trainer::Trainer;
use super::window::weigh;
use crate::config::train::OnNonFinite;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::kernels::state::{self, HISTORY_LOSSES_KEPT};
use crate::model::program::{FIRST_MICRO_STEP, MICRO_STEP};

/// Times that a run goes back because updates were not finite.
const ROLL_BACKS: u32 = 3;

impl Trainer<'_> {
    /// Makes the run ready to go on after `error`, or gives the error that it ends with.
    pub(super) fn survive(&mut self, error: Error) -> Result<()> {
        let survived = match error {
            Error::Numerics(reason) => self.not_finite(&reason),
            other => Err(other),
        };
        match survived {
            Err(Error::Device(reason)) => self.change_device(reason),
            other => other,
        }
    }

    /// Opens the device again, as often as is allowed, and goes back to the newest sound checkpoint.
    fn change_device(&mut self, mut reason: String) -> Result<()> {
        let most = self.config.train.device_retries;
        while self.device_retries < most {
            self.device_retries += 1;
            let (step, time) = (self.state.step, self.device_retries);
            self.say(&format!("step {step}: {reason}; opening the device again ({time} of {most})"));
            match self.reopen() {
                Err(Error::Device(again)) => reason = again,
                done => return done,
            }
        }
        Err(Error::Device(match most {
            0 => reason,
            _ => format!("{reason}; given up after train.device_retries={most}; go on with: {}", self.again()),
        }))
    }

    fn reopen(&mut self) -> Result<()> {
        self.session.close(); // its memory is wanted
        self.sampler = None;
        self.close_answers();
        let Machine { session, sampler } = self.source.machine()?;
        (self.session, self.sampler) = (session, sampler);
        self.renew_answers()?;
        self.go_back()
    }

    /// The state of the newest sound checkpoint, or of step 0, and nothing of what came after it.
    fn go_back(&mut self) -> Result<()> {
        self.finish_drawing();
        if let Err(e) = self.end_saving() {
            self.say(&e.to_string()); // the checkpoint before it is gone back to
        }
        self.forget_waiting();
        let (mut said, config) = (Vec::new(), self.config);
        let say = &mut |line: &str| said.push(line.to_owned());
        let inputs = self.state.inputs.clone(); // a device may fail here too, and this begins anew
        self.state = start::resume(self.source, config, &mut self.session, &mut self.journal, say)?;
        self.state.inputs = inputs; // those that the run goes on with, if they changed before
        self.saved = (self.state.step > 0).then_some(self.state.step);
        self.evaluated = None;
        self.progress.restart();
        said.iter().for_each(|line| self.say(line));
        Ok(())
    }

    /// Notes that an update was skipped because it was not finite.
    ///
    /// Errors: it was the last that `train.non_finite_limit` allows.
    pub(super) fn skipped(&mut self, result: &[f32]) -> Result<()> {
        let (step, scale) = (self.state.step, result[state::RESULT_LOSS_SCALE]);
        if self.session.program.stored == Dtype::F16 && scale > 1.0 {
            // Too large a scale, as at the beginning of a run in mixed precision: it halves until gradients fit.
            self.say(&format!("step {step}: a gradient overflowed; update skipped, loss scale now {scale}"));
            return Ok(());
        }
        self.state.numerics.in_a_row += 1;
        self.say(&format!("step {step}: loss or gradient is not finite; the update was skipped"));
        let (times, limit) = (self.state.numerics.in_a_row, self.config.train.non_finite_limit);
        if times < limit {
            return Ok(());
        }
        Err(Error::Numerics(format!("step {step}: {times} updates in a row were not finite")))
    }

    /// Notes that an update was skipped because its loss was a spike.
    pub(super) fn spiked(&mut self, loss: f64, above: f64) {
        self.state.numerics.in_a_row = 0;
        let step = self.state.step;
        self.say(&format!(
            "step {step}: the loss, {loss:.4}, lies {above:.1} standard deviations above the last \
             {HISTORY_LOSSES_KEPT}; the update was skipped"
        ));
    }

    /// Finds out what went bad, and goes back to the newest sound checkpoint where that is the policy.
    fn not_finite(&mut self, reason: &str) -> Result<()> {
        let train = &self.config.train;
        self.forget_waiting();
        let found = self.diagnose(self.state.step - 1)?;
        let (program, executor) = self.session.parts();
        diagnosis::clear_gradients(program, executor)?;
        let before = self.state.numerics;
        if train.on_non_finite == OnNonFinite::Stop || before.roll_backs >= ROLL_BACKS {
            let back = match before.roll_backs {
                0 => String::new(),
                times => format!(" after {times} roll-backs"),
            };
            let hint = "lower optimizer.learning_rate and go on from the last checkpoint with --resume";
            return Err(Error::Numerics(format!("{reason}{back}; {found}; {hint}")));
        }
        self.say(&format!("{reason}; {found}"));
        self.go_back()?;
        let numerics = &mut self.state.numerics;
        (numerics.in_a_row, numerics.roll_backs) = (0, before.roll_backs + 1);
        numerics.rate = before.rate * train.roll_back_rate;
        let (step, times, rate) = (self.state.step, numerics.roll_backs, numerics.rate);
        self.say(&format!("step {step}: rolled back ({times} of {ROLL_BACKS}); learning rate times {rate} from here"));
        Ok(())
    }

    /// Runs the micro-steps of the update after `step` others again, and says what went bad first.
    fn diagnose(&mut self, step: u64) -> Result<String> {
        let mut micro_steps = match self.draws() {
            true => self.drawn_window(step)?,
            false => self.lessons.window(self.config, step)?,
        };
        weigh(micro_steps.iter_mut().map(|micro| &mut micro.batch), self.config.train.loss_reduction);
        self.begin_window(step, &micro_steps)?;
        for (i, micro) in micro_steps.iter().enumerate() {
            self.feed(step, i, micro)?;
            let (program, executor) = self.session.parts();
            let name = if i == 0 { FIRST_MICRO_STEP } else { MICRO_STEP };
            let found = match diagnosis::before(program, executor)? {
                None => diagnosis::during(program, executor, name)?,
                found => found,
            };
            if let Some(found) = found {
                return Ok(found.to_string());
            }
        }
        Ok("run again, the same update is finite, so the device or its memory may be at fault".to_owned())
    }

    /// Lets go of updates whose results have not been read.
    fn forget_waiting(&mut self) {
        // What does not arrive, because the device is lost, is forgotten with the device.
        while self.session.executor().arrived(true).is_ok_and(|values| !values.is_empty()) {}
        self.waiting.clear();
        self.arrived = Default::default();
    }
}
