//! Where a run begins and goes on: what it computes with, its newest checkpoint or its first weights.

use super::checkpoint::{self, STATE, TrainerState};
use super::journal::Journal;
use super::rotation::{best_of, settle};
use super::session::Session;
use crate::checkpoint::draft::SystemDisk;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::reward::model::Scorer;

/// What a run computes with.
pub struct Machine {
    /// The program that trains.
    pub session: Session,
    /// The program that draws samples, where some are wanted.
    pub sampler: Option<Generator>,
}

/// Where a run gets these: at its start, and anew after its device failed.
pub trait Source {
    /// Opens the device and makes room for everything; no weights yet.
    fn machine(&mut self) -> Result<Machine>;
    /// Loads the weights of step 0.
    fn first_weights(&mut self, session: &mut Session) -> Result<()>;
    /// Loads them once more where the program keeps them as a reference; nothing by default.
    fn reference(&mut self, _session: &mut Session) -> Result<()> {
        Ok(())
    }
    /// Opens the reward model that judges drawn answers, on the device of the latest machine; none by default.
    fn scorer(&mut self) -> Result<Option<Scorer>> {
        Ok(None)
    }
}

/// Loads the first weights of a new run.
pub fn begin(source: &mut dyn Source, config: &Config, session: &mut Session) -> Result<TrainerState> {
    session.restart()?;
    source.first_weights(session)?;
    source.reference(session)?;
    Ok(TrainerState::first(config.train.seed))
}

/// Loads the newest sound checkpoint and cuts the journal there; the first weights and an empty journal where the run
/// has none yet, its rows so far kept aside. Says which. What a save that was killed left undone beside its
/// checkpoint is done here: a run that has come to its end saves no more.
///
/// Errors: there are checkpoints, but none is sound; answers that the newest one holds are none that a run of `config`
/// learns from; the folder cannot be written to.
pub fn resume(
    source: &mut dyn Source,
    config: &Config,
    session: &mut Session,
    journal: &mut Journal,
    say: &mut dyn FnMut(&str),
) -> Result<TrainerState> {
    let run = journal.folder().to_owned();
    if let Some((folder, state)) = checkpoint::load_newest(&run, session, &mut *say)? {
        let fits = state.rollout.as_ref().map_or(Ok(()), |drawn| drawn.check(config, state.step));
        fits.map_err(|reason| Error::file(folder.join(STATE), format!("has drawn answers that {reason}")))?;
        say(&format!("going on from {} at step {}", folder.display(), state.step));
        journal.trim(state.step)?.iter().for_each(|line| say(line));
        source.reference(session)?;
        let best = best_of(&run, state.best_val_loss, &journal.val_losses()?)?;
        settle(&SystemDisk, &run, state.step, best, &config.train)?;
        return Ok(state);
    }
    say(&format!("{} holds no finished checkpoint: starting at step 0", run.display()));
    let state = begin(source, config, session)?;
    journal.restart()?.iter().for_each(|line| say(line));
    Ok(state)
}
