//! Checkpoints: each is a folder that transformers opens, with the optimizer's state and a manifest beside it.

use super::moments;
use super::outline::Outline;
use super::rollout::Rollout;
use super::rotation::{CHECKPOINTS, announce, list};
use super::saving::Saving;
use super::session::Session;
use super::spare::Spare;
use crate::checkpoint::draft::{Disk, SystemDisk};
use crate::checkpoint::manifest::{MANIFEST, verify};
use crate::checkpoint::weights::Weights;
use crate::data::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::input;
use crate::kernels::state::{self as words, HISTORY_WORDS, RESULT_WORDS};
use crate::model::params::ParamSpec;
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const STATE: &str = "trainer_state.json";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const MODEL: &str = "model.safetensors";
/// Largest accepted `trainer_state.json`: it holds a few numbers.
const STATE_BYTES: u64 = 1 << 28;
/// Most updates and tokens: sums and products with sizes of batches stay in 64 bits.
const MOST_COUNTED: u64 = 1 << 53;
/// Most updates in a row that were not finite, and times that a run went back.
const MOST_FAULTS: u64 = 1 << 30;

/// Checkpoints that a run may remove while somebody reads them, one after the other, before the reader gives up.
const MOST_REMOVED: usize = 100;

/// Where training stands, beside weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Updates done.
    pub step: u64,
    /// Target tokens trained on.
    pub tokens: u64,
    /// Tokens seen, whether they count as targets or not; padding is none.
    #[serde(default)]
    pub num_tokens: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Lowest validation loss of a checkpoint so far.
    pub best_val_loss: Option<f64>,
    /// What became of updates that were not finite.
    #[serde(default)]
    pub numerics: Numerics,
    /// The losses that the spike guard remembers (`kernels::state`); absent where it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<f32>>,
    /// Words that stay from update to update (`kernels::state`): loss scale, counts, bias corrections. Absent
    /// before the first update.
    #[serde(default)]
    pub result: Option<[f32; RESULT_WORDS]>,
    /// Whether `result` is of mixed precision, whose loss scale moves; absent in checkpoints of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<bool>,
    /// The drawn answers that the next updates learn from, where a batch of them is not through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<Rollout>>,
    /// What the run learns from; absent of the embedded world, and where older versions wrote it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Fingerprint>,
}

/// What a run remembers of updates that were not finite, so that one that goes on from a checkpoint decides as one
/// without a stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Numerics {
    /// The last so many updates were not finite.
    pub in_a_row: u32,
    /// Times that the run went back to a checkpoint for it.
    pub roll_backs: u32,
    /// Factor on the learning rate that is left of these.
    pub rate: f64,
}

impl Default for Numerics {
    fn default() -> Self {
        Numerics { in_a_row: 0, roll_backs: 0, rate: 1.0 }
    }
}

impl TrainerState {
    /// Before the first update of a run with this seed.
    pub fn first(seed: u64) -> TrainerState {
        let numerics = Numerics::default();
        TrainerState {
            step: 0,
            tokens: 0,
            num_tokens: 0,
            seed,
            best_val_loss: None,
            numerics,
            history: None,
            result: None,
            mixed: None,
            rollout: None,
            inputs: Vec::new(),
        }
    }

    /// The state in the text of the file `path`.
    ///
    /// Errors: it is none, or counts further than a run can.
    pub fn parse(path: &Path, text: &[u8]) -> Result<TrainerState> {
        let object = input::json_object(text).map_err(|reason| Error::file(path, reason))?;
        let state: TrainerState = serde_json::from_value(object.into())
            .map_err(|e| Error::file(path, format!("is no trainer state: {}", input::one_line(&e))))?;
        let Numerics { in_a_row, roll_backs, rate } = state.numerics;
        let counts = [
            ("step", state.step, MOST_COUNTED),
            ("tokens", state.tokens, MOST_COUNTED),
            ("num_tokens", state.num_tokens, MOST_COUNTED),
        ];
        let faults = [("in_a_row", in_a_row.into(), MOST_FAULTS), ("roll_backs", roll_backs.into(), MOST_FAULTS)];
        if let Some((key, count, most)) = counts.into_iter().chain(faults).find(|(_, count, most)| count > most) {
            return Err(Error::file(path, format!("has the {key} {count}, beyond {most}, which no run gets to")));
        }
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::file(path, format!("has the rate {rate}; it must be above 0 and at most 1")));
        }
        Ok(state)
    }
}

/// Writes a checkpoint of the run folder and waits for it; [`Saving`] does not wait.
pub fn save(run: &Path, session: &mut Session, tokenizer: &Tokenizer, state: &TrainerState) -> Result<PathBuf> {
    save_on(Arc::new(SystemDisk), run, session, tokenizer, state)
}

/// As [`save`] on another file system.
pub fn save_on(
    disk: Arc<dyn Disk>,
    run: &Path,
    session: &mut Session,
    tokenizer: &Tokenizer,
    state: &TrainerState,
) -> Result<PathBuf> {
    let outline = Outline::new(run, session, tokenizer, state)?;
    let (beside, folder, step) = (disk.clone(), run.to_owned(), state.step);
    let sealed = move || announce(&*beside, &folder, step);
    Ok(Saving::begin(disk, outline, session, Spare::default(), sealed)?.finish()?.0)
}

/// The folder with weights that MODEL means: the newest sound checkpoint of a run folder, or the folder itself. What is
/// passed over or cannot be verified is said on standard error. The moments, which no model needs, are not looked into.
///
/// Errors: the folder's files are not those of its manifest; none of the run's checkpoints is sound.
pub fn model_folder(model: &Path) -> Result<PathBuf> {
    found(model, |folder, say| check(folder, &[OPTIMIZER], say))
}

/// Hands `read` the folder that [`model_folder`] finds. A run that goes on meanwhile may remove that checkpoint while
/// it is read: then the newest one of now takes its place.
///
/// Errors: those of [`model_folder`] and of `read`; checkpoints go time after time.
pub fn with_model<T>(model: &Path, mut read: impl FnMut(&Path) -> Result<T>) -> Result<T> {
    for _ in 0..MOST_REMOVED {
        let folder = model_folder(model)?;
        match read(&folder) {
            Err(Error::File { .. } | Error::Io { .. } | Error::Usage(_)) if folder != model && is_gone(&folder) => {
                note(format_args!("{} was removed by its run; reading the newest one", folder.display()));
            }
            done => return done,
        }
    }
    Err(Error::file(model, format!("removed {MOST_REMOVED} checkpoints while they were read; raise train.keep")))
}

/// The same whose weights nobody is going to read: they are not held to the manifest, which takes a while.
///
/// Errors: there is none.
pub fn described_folder(model: &Path) -> Result<PathBuf> {
    found(model, |_, _| Ok(()))
}

/// The folder that MODEL means, the first that passes where there are several.
fn found(model: &Path, mut passes: impl FnMut(&Path, &mut dyn FnMut(&str)) -> Result<()>) -> Result<PathBuf> {
    if !model.is_dir() {
        return Err(Error::file(model, "is no folder; give a run folder, a checkpoint or a Hugging Face folder"));
    }
    let mut say = |line: &str| note(printable(line));
    if model.join("config.json").is_file() || model.join(MANIFEST).is_file() {
        passes(model, &mut say)?;
        return Ok(model.to_owned());
    }
    match newest(model, &mut say, passes)? {
        Newest::Sound(folder, ()) => Ok(folder),
        Newest::None => Err(Error::file(model, "holds neither a config.json nor a finished checkpoint")),
        Newest::Unsound(reason) => {
            Err(Error::file(model.join(CHECKPOINTS), format!("none of the checkpoints is sound: {reason}")))
        }
    }
}

/// What a run has learnt from up to its newest checkpoint whose state can be read, where that says so.
///
/// Errors: the run folder cannot be read.
pub fn inputs(run: &Path) -> Result<Vec<Fingerprint>> {
    let state = |folder: PathBuf| {
        let path = folder.join(STATE);
        input::read(&path, STATE_BYTES).and_then(|text| TrainerState::parse(&path, &text)).ok()
    };
    // A checkpoint that is not sound is passed over, here as later.
    let newest = list(run)?.into_iter().rev().find_map(|(_, folder)| state(folder));
    Ok(newest.map(|state| state.inputs).unwrap_or_default())
}

/// Loads the newest checkpoint of a run that is sound and says which newer ones are passed over, and why.
///
/// Errors: there are checkpoints, but none is sound.
pub fn load_newest(
    run: &Path,
    session: &mut Session,
    mut say: impl FnMut(&str),
) -> Result<Option<(PathBuf, TrainerState)>> {
    let found = newest(run, &mut say, |folder, say| {
        check(folder, &[], say)?;
        load(folder, session)
    })?;
    match found {
        Newest::Sound(folder, state) => Ok(Some((folder, state))),
        Newest::None => Ok(None),
        Newest::Unsound(reason) => {
            let hint = "to begin anew, choose another --out";
            Err(Error::file(run.join(CHECKPOINTS), format!("none of the checkpoints is sound ({reason}); {hint}")))
        }
    }
}

/// What there is of checkpoints in a run folder.
enum Newest<T> {
    /// The newest sound one, and what was read of it.
    Sound(PathBuf, T),
    /// Some, but none is sound: what is wrong with the newest.
    Unsound(Error),
    /// No checkpoint.
    None,
}

/// The newest checkpoint of a run for which `open` succeeds, and what it gives. The run may go on meanwhile: a
/// checkpoint that it removes while `open` reads is none that was found wanting, and newer ones may have come.
fn newest<T>(
    run: &Path,
    say: &mut dyn FnMut(&str),
    mut open: impl FnMut(&Path, &mut dyn FnMut(&str)) -> Result<T>,
) -> Result<Newest<T>> {
    let (mut unsound, mut first, mut removed) = (HashSet::new(), None, 0);
    loop {
        let mut known = list(run)?.into_iter().rev().map(|(_, folder)| folder);
        let Some(folder) = known.find(|folder| !unsound.contains(folder)) else { break };
        match open(&folder, say) {
            Ok(opened) => return Ok(Newest::Sound(folder, opened)),
            Err(Error::File { .. } | Error::Io { .. }) if removed < MOST_REMOVED && is_gone(&folder) => removed += 1,
            Err(e @ (Error::File { .. } | Error::Io { .. })) => {
                say(&format!("passed over the checkpoint {}: {e}", folder.display()));
                first.get_or_insert(e);
                unsound.insert(folder);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(first.map_or(Newest::None, Newest::Unsound))
}

/// Whether a checkpoint that was listed is there no more.
fn is_gone(folder: &Path) -> bool {
    folder.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Holds a folder to its manifest. One that has none may still be used, and if it is a checkpoint, that is said: older
/// versions wrote those without.
fn check(folder: &Path, unread: &[&str], say: &mut dyn FnMut(&str)) -> Result<()> {
    if verify(folder, unread)?.is_none() && folder.join(STATE).is_file() {
        say(&format!("{} has no {MANIFEST}, as older versions left it; it could not be verified", folder.display()));
    }
    Ok(())
}

/// Loads weights, moments and state from a checkpoint folder, whatever its manifest says.
///
/// Errors: they are another model's or optimizer's, or not finite; the base of adapters is not what it was.
pub fn load(folder: &Path, session: &mut Session) -> Result<TrainerState> {
    let specs: Vec<ParamSpec> = session.program.weights.all.iter().map(|p| p.spec.clone()).collect();
    let weights = Weights::open(folder)?.apart();
    weights.check(&specs)?;
    session.adapters = weights.adapters().cloned();
    weights.load_all(|fill| session.load(fill))?;
    moments::load(&folder.join(OPTIMIZER), session)?;
    let path = folder.join(STATE);
    let state = TrainerState::parse(&path, &input::read(&path, STATE_BYTES)?)?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    if name.is_some_and(|name| name.starts_with("step-") && name != format!("step-{:08}", state.step)) {
        return Err(Error::file(path, format!("says step {}, which is not its folder's", state.step)));
    }
    let history = state.history.clone().unwrap_or_else(|| vec![0.0; HISTORY_WORDS]);
    session.load_history(words::remembered(&history).map_err(|e| Error::file(&path, format!("history: {e}")))?)?;
    let Some(saved) = state.result else {
        return Err(Error::file(path, "lacks result, the words that the optimizer keeps from update to update"));
    };
    let words = words::resumed(saved, state.mixed, session.program.stored == Dtype::F16);
    session.load_result(&words.map_err(|reason| Error::file(path, format!("result: {reason}")))?)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_its_run_removes_while_it_is_read_gives_way_to_the_newest() {
        let run = tempfile::tempdir().unwrap();
        let save = |step: u64| {
            let folder = run.path().join(CHECKPOINTS).join(format!("step-{step:08}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("config.json"), "{}").unwrap();
            folder
        };
        let (old, gone) = (save(1), save(2));
        let mut read = Vec::new();
        let found = with_model(run.path(), |folder| {
            read.push(folder.to_owned());
            if folder == gone {
                save(3);
                std::fs::remove_dir_all(folder).unwrap();
            }
            input::read(&folder.join("config.json"), 100)
        });
        assert!(found.is_ok() && read == [gone, save(3)], "{read:?}");
        // The same while it is verified.
        let mut looked_at = 0;
        let found = newest(run.path(), &mut |line| panic!("{line}"), |folder, _| {
            looked_at += 1;
            if looked_at == 1 {
                std::fs::remove_dir_all(folder).unwrap();
            }
            input::read(&folder.join("config.json"), 100)
        });
        assert!(matches!(found.unwrap(), Newest::Sound(folder, _) if folder == old));
        // What is wrong with a checkpoint that is there is said, and nothing else is tried.
        let found = with_model(run.path(), |folder| -> Result<()> { Err(Error::file(folder, "is odd")) });
        assert!(found.unwrap_err().to_string().contains("step-00000001: is odd"));
    }
}
