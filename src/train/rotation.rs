//! Which checkpoints a run folder holds, and which of them stay.

use crate::checkpoint::disk::replace_text;
use crate::checkpoint::draft::{Disk, SystemDisk, leftover, retire};
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Folder of checkpoints inside a run folder.
pub const CHECKPOINTS: &str = "checkpoints";
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

/// Notes that the checkpoint at `step` has the lowest validation loss.
pub fn mark_best(run: &Path, step: u64) -> Result<()> {
    replace_text(&run.join(CHECKPOINTS).join(BEST), &format!("{}\n", name_of(step)))
}

/// Removes the checkpoints that need not stay, now that the one at `step` is complete: all but the newest `keep`, the
/// best one (`keep_best`) and those at multiples of `milestone_interval`; with `keep` 0 none.
///
/// Later ones than `step` are passed-over ones of a run that went back; they neither count nor go.
pub fn rotate(run: &Path, step: u64, train: &TrainConfig) -> Result<()> {
    if train.keep == 0 {
        return Ok(());
    }
    let best = std::fs::read_to_string(run.join(CHECKPOINTS).join(BEST)).ok();
    let best = best.and_then(|name| step_of(name.trim())).filter(|_| train.keep_best);
    let milestone = |step: u64| train.milestone_interval > 0 && step.is_multiple_of(train.milestone_interval);
    let mut all = list(run)?;
    all.retain(|(old, _)| *old <= step);
    all.truncate(all.len().saturating_sub(train.keep));
    for (_, folder) in all.iter().filter(|(old, _)| best != Some(*old) && !milestone(*old)) {
        // A link is the user's, not this run's.
        if folder.symlink_metadata().is_ok_and(|known| known.is_dir()) {
            retire(&SystemDisk, folder)?;
        }
    }
    Ok(())
}

/// Removes what killed saves have left, of this version and of earlier ones.
pub(super) fn remove_leftovers(disk: &dyn Disk, run: &Path) -> Result<()> {
    for (name, path) in entries(run)? {
        if leftover(&name).or(name.strip_suffix(".tmp")).and_then(step_of).is_some() {
            disk.remove(&path).map_err(|e| Error::write(&path, e))?;
        }
    }
    Ok(())
}
