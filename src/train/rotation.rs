//! Which checkpoints a run folder holds, what it says of them, and which of them stay.

use crate::checkpoint::disk::replace_text;
use crate::checkpoint::draft::{Disk, leftover, retire};
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Folder of checkpoints inside a run folder.
pub const CHECKPOINTS: &str = "checkpoints";
/// The file that names the newest checkpoint.
const LATEST: &str = "latest";
/// The file that names the checkpoint with the lowest validation loss.
const BEST: &str = "best";

/// Name of the checkpoint after `step` updates.
pub(super) fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step in a checkpoint's name; nothing if no checkpoint is called `name`.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name_of(step) == name).then_some(step)
}

/// Steps and folders of the run's checkpoints, oldest first. Whether they are sound is not looked at.
pub(super) fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let named = entries(run)?.into_iter().filter_map(|(name, path)| Some((step_of(&name)?, path)));
    let mut found: Vec<(u64, PathBuf)> = named.filter(|(_, path)| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

/// Makes the folder of a run's checkpoints, unless it is there.
pub(super) fn make_folder(disk: &dyn Disk, run: &Path) -> Result<()> {
    let checkpoints = run.join(CHECKPOINTS);
    if !checkpoints.is_dir() {
        std::fs::create_dir_all(&checkpoints).map_err(|e| Error::write(&checkpoints, e))?;
        disk.synchronise_folder(run).map_err(|e| Error::write(run, e))?;
    }
    Ok(())
}

/// Whether the run has a checkpoint, sound or not.
pub fn any(run: &Path) -> Result<bool> {
    Ok(!list(run)?.is_empty())
}

/// Names and paths of all that is in the folder of checkpoints.
fn entries(run: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = run.join(CHECKPOINTS);
    let entries = match std::fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io(&folder, e))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(&folder, e))?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(found)
}

/// Brings a run folder to where a save leaves it whose checkpoint, at `step`, is complete: `latest` names that one,
/// `best` the one at `best` if given, and what killed saves have left or need not stay is removed. What is so already
/// is left as it is.
pub(super) fn settle(disk: &dyn Disk, run: &Path, step: u64, best: Option<u64>, train: &TrainConfig) -> Result<()> {
    announce(disk, run, step)?;
    best.map_or(Ok(()), |best| mark(run, BEST, best))?;
    rotate(disk, run, step, train)
}

/// The part of [`settle`] that no configuration decides: `latest`, and what killed saves have left.
pub(super) fn announce(disk: &dyn Disk, run: &Path, step: u64) -> Result<()> {
    mark(run, LATEST, step)?;
    remove_leftovers(disk, run)
}

/// The step of the checkpoint that the file `name` names.
fn marked(run: &Path, name: &str) -> Option<u64> {
    step_of(std::fs::read_to_string(run.join(CHECKPOINTS).join(name)).ok()?.trim())
}

/// Makes the file `name` name the checkpoint at `step`.
fn mark(run: &Path, name: &str, step: u64) -> Result<()> {
    if marked(run, name) == Some(step) {
        return Ok(());
    }
    replace_text(&run.join(CHECKPOINTS).join(name), &format!("{}\n", name_of(step)))
}

/// The checkpoint that `best` is to name where `lowest` is the validation loss of the best: the one that it names, if
/// its loss is that, else the first that has it. `losses` are those of all validations, by step.
pub(super) fn best_of(run: &Path, lowest: Option<f64>, losses: &[(u64, f64)]) -> Result<Option<u64>> {
    let reach = |step: u64| losses.iter().any(|&(at, loss)| at == step && Some(loss) == lowest);
    if let Some(step) = marked(run, BEST).filter(|&step| reach(step)) {
        return Ok(Some(step));
    }
    Ok(list(run)?.into_iter().map(|(step, _)| step).find(|&step| reach(step)))
}

/// Removes the checkpoints that need not stay, now that the one at `step` is complete: all but the newest `keep`, the
/// best one (`keep_best`) and those at multiples of `milestone_interval`; with `keep` 0 none.
///
/// Later ones than `step` are passed-over ones of a run that went back; they neither count nor go.
pub fn rotate(disk: &dyn Disk, run: &Path, step: u64, train: &TrainConfig) -> Result<()> {
    if train.keep == 0 {
        return Ok(());
    }
    let best = marked(run, BEST).filter(|_| train.keep_best);
    let milestone = |step: u64| train.milestone_interval > 0 && step.is_multiple_of(train.milestone_interval);
    let mut all = list(run)?;
    all.retain(|(old, _)| *old <= step);
    all.truncate(all.len().saturating_sub(train.keep));
    for (_, folder) in all.iter().filter(|(old, _)| best != Some(*old) && !milestone(*old)) {
        // A link is the user's, not this run's.
        if folder.symlink_metadata().is_ok_and(|known| known.is_dir()) {
            retire(disk, folder)?;
        }
    }
    Ok(())
}

/// Removes what killed saves have left, of this version and of earlier ones.
fn remove_leftovers(disk: &dyn Disk, run: &Path) -> Result<()> {
    for (name, path) in entries(run)? {
        if leftover(&name).or(name.strip_suffix(".tmp")).and_then(step_of).is_some() {
            disk.remove(&path).map_err(|e| Error::write(&path, e))?;
        }
    }
    Ok(())
}
