//! When a run saves, and what it does about a disk that fails.

use super::checkpoint::TrainerState;
use super::outline::{Outline, check_room, number_bytes};
use super::rotation;
use super::saving::Saving;
use super::spare::Spare;
use super::trainer::Trainer;
use crate::config::rollout::RolloutConfig;
use crate::config::train::OnDiskFull;
use crate::error::{Error, Result};
use std::time::Duration;

/// Time between two tries to save where a run waits for its disk.
const RETRY: Duration = Duration::from_secs(5);
/// Updates before a save at most at which its memory is made ready.
const MOST_AHEAD: u64 = 200;
/// Saves that take less are not worth a line on the screen.
const WORTH_A_LINE: Duration = Duration::from_secs(2);

impl Trainer<'_> {
    /// Refuses a run whose first checkpoint would find no room on the disk.
    pub(super) fn check_disk(&self) -> Result<()> {
        check_room(&*self.disk, self.journal.folder(), number_bytes(&self.session))
    }

    /// Makes memory ready for the save that is due soon: a tenth of the time between two before it.
    pub(super) fn foresee_save(&mut self, done: u64) {
        let interval = self.config.train.checkpoint_interval;
        let ahead = (interval / 10).min(MOST_AHEAD);
        if ahead > 0 && (done + ahead).is_multiple_of(interval) {
            self.spare = Spare::begin(&self.session);
        }
    }

    /// Copies the present state and begins to write it; the save before is waited for first.
    pub(super) fn save(&mut self) -> Result<()> {
        self.finish_saving()?;
        let begun = self.begin_saving();
        self.or_wait(begun)
    }

    /// Shows how far the save under way is; reports one that is done.
    pub(super) fn watch_saving(&mut self) -> Result<()> {
        let Some((saving, _)) = &self.saving else { return Ok(()) };
        if saving.is_finished() {
            return self.finish_saving();
        }
        self.progress.saving(Some(saving.progress()));
        Ok(())
    }

    /// Waits for the save under way, if there is one.
    pub(super) fn finish_saving(&mut self) -> Result<()> {
        let ended = self.end_saving();
        self.or_wait(ended)
    }

    fn begin_saving(&mut self) -> Result<()> {
        let (run, step) = (self.journal.folder().to_owned(), self.state.step);
        // The best of those that can be gone back to: a checkpoint that was not validated is none of them.
        let loss = self.evaluated.and_then(|(at, loss)| (at == step).then_some(loss));
        let before = self.state.best_val_loss;
        let best = loss.filter(|&loss| loss.is_finite() && before.is_none_or(|best| loss < best));
        let mut state = TrainerState { best_val_loss: best.or(before), ..self.state.clone() };
        let through = |rollout: &RolloutConfig| step.is_multiple_of(rollout.updates());
        if self.config.rollout.as_ref().is_none_or(through) {
            state.rollout = None; // the next update draws new answers
        }
        let outline = Outline::new(&run, &mut self.session, self.tokenizer, &state)?.of_run(self.journal.config());
        let (train, disk) = (self.config.train.clone(), self.disk.clone());
        let sealed = move || rotation::settle(&*disk, &run, step, best.map(|_| step), &train);
        let saving =
            Saving::begin(self.disk.clone(), outline, &mut self.session, std::mem::take(&mut self.spare), sealed)?;
        self.saving = Some((saving, before));
        self.state.best_val_loss = state.best_val_loss;
        self.saved = Some(step);
        self.pace.restart(self.state.tokens); // the rate counts training alone
        Ok(())
    }

    /// Waits for the save under way; one that failed is as if it had never begun.
    pub(super) fn end_saving(&mut self) -> Result<()> {
        let Some((saving, best_before)) = self.saving.take() else { return Ok(()) };
        let (step, bytes, waited) = (saving.step, saving.bytes, saving.waited);
        let ended = saving.finish();
        self.progress.saving(None);
        let (_, took) = ended.inspect_err(|_| (self.saved, self.state.best_val_loss) = (None, best_before))?;
        if took >= WORTH_A_LINE {
            self.say(&format!(
                "step {step}: saved, {:.2} GiB in {:.1} s, for {:.1} s of which training waited",
                bytes as f64 / f64::from(1 << 30),
                took.as_secs_f64(),
                waited.as_secs_f64()
            ));
        }
        Ok(())
    }

    /// Where the policy is to wait for a disk that failed: tries again until the present state is saved, or a signal
    /// asks to stop.
    fn or_wait(&mut self, mut saved: Result<()>) -> Result<()> {
        let mut tries = 0;
        while let Err(Error::Io { .. }) = &saved
            && let Err(e) = &saved
            && self.config.train.on_disk_full == OnDiskFull::Wait
            && self.stop.requested().is_none()
        {
            if tries == 0 {
                let step = self.state.step;
                self.progress.say(&format!("step {step}: {e}; training waits and tries again every {RETRY:?}"));
            }
            tries += 1;
            let slice = Duration::from_millis(100);
            (0..RETRY.as_millis() / slice.as_millis()).take_while(|_| self.stop.requested().is_none()).for_each(|_| {
                std::thread::sleep(slice);
            });
            self.collect_all()?;
            saved = self.begin_saving().and_then(|()| self.end_saving());
        }
        saved
    }
}
