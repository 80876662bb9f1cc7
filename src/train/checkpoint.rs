//! Checkpoints: each is a folder that transformers opens, with the optimizer's state beside it.

use super::moments;
use super::session::Session;
use crate::checkpoint::disk::{read_json_object, replace_text};
use crate::checkpoint::weights::{Weights, write_weights};
use crate::config::hf::{StoredType, write_own_config};
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::kernels::state::{self as words, RESULT_WORDS};
use crate::model::params::ParamSpec;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Folder of checkpoints inside a run folder.
pub const CHECKPOINTS: &str = "checkpoints";
const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const MODEL: &str = "model.safetensors";
/// Largest accepted `trainer_state.json`: it holds a few numbers.
const STATE_BYTES: u64 = 1 << 20;

/// Where training stands, beside weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Updates done.
    pub step: u64,
    /// Target tokens trained on.
    pub tokens: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Lowest validation loss of a checkpoint so far.
    pub best_val_loss: Option<f64>,
    /// Words that stay from update to update (`kernels::state`): loss scale, counts, bias corrections. Absent
    /// before the first update.
    #[serde(default)]
    pub result: Option<[f32; RESULT_WORDS]>,
}

/// Writes `checkpoints/step-N` of the run folder: into a temporary folder first, then renamed.
pub fn save(run: &Path, session: &mut Session, tokenizer: &Tokenizer, state: &TrainerState) -> Result<PathBuf> {
    let name = format!("step-{:08}", state.step);
    let folder = run.join(CHECKPOINTS).join(&name);
    let unfinished = run.join(CHECKPOINTS).join(format!("{name}.tmp"));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |e| Error::io(path, e)
    };
    for stale in [&unfinished, &folder] {
        if stale.exists() {
            std::fs::remove_dir_all(stale).map_err(io(stale))?; // left by a stop, or about to be redone
        }
    }
    std::fs::create_dir_all(&unfinished).map_err(io(&unfinished))?;
    let specs: Vec<ParamSpec> = session.program.weights.all.iter().map(|p| p.spec.clone()).collect();
    let mut next = 0..;
    write_weights(&unfinished.join(MODEL), &specs, StoredType::F32, |_, values| {
        session.parameter_into(next.next().unwrap_or(0), values)
    })?;
    moments::save(&unfinished.join(OPTIMIZER), session)?;
    let config = &session.program.config;
    write_own_config(&unfinished, config, StoredType::F32)?;
    tokenizer.write_hf(&unfinished, config.max_position_embeddings, config.bos_token_id)?;
    // After a skipped update norm and clip are not finite, which JSON has no word for; the next update sets them anew.
    let result = session.result()?.into_iter().map(|x| if x.is_finite() { x } else { 0.0 }).collect::<Vec<f32>>();
    let result = result.try_into().ok();
    let text = serde_json::to_string_pretty(&TrainerState { result, ..state.clone() })
        .map_err(|e| Error::file(STATE, e.to_string()))?;
    replace_text(&unfinished.join(STATE), &format!("{text}\n"))?;
    std::fs::rename(&unfinished, &folder).map_err(io(&folder))?;
    replace_text(&run.join(CHECKPOINTS).join("latest"), &format!("{name}\n"))?;
    Ok(folder)
}

/// Notes that the checkpoint at `step` has the lowest validation loss.
pub fn mark_best(run: &Path, step: u64) -> Result<()> {
    replace_text(&run.join(CHECKPOINTS).join("best"), &format!("step-{step:08}\n"))
}

/// Removes all but the newest `keep` checkpoints and the best one; 0 keeps all.
pub fn prune(run: &Path, keep: usize) -> Result<()> {
    let all = list(run)?;
    let best = named(run, "best");
    let spared = |folder: &PathBuf| best.as_ref() == Some(folder);
    if keep > 0 {
        for old in all.iter().rev().skip(keep).filter(|folder| !spared(folder)) {
            std::fs::remove_dir_all(old).map_err(|e| Error::io(old, e))?;
        }
    }
    Ok(())
}

/// Finished checkpoints, oldest first.
fn list(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(CHECKPOINTS);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(&folder, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let step = name.strip_prefix("step-").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        if step && path.join(STATE).is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The checkpoint that the text file `latest` or `best` names, if it is there.
fn named(run: &Path, which: &str) -> Option<PathBuf> {
    let name = std::fs::read_to_string(run.join(CHECKPOINTS).join(which)).ok()?;
    let path = run.join(CHECKPOINTS).join(Path::new(name.trim()).file_name()?);
    path.join(STATE).is_file().then_some(path)
}

/// The newest checkpoint of a run folder.
pub fn latest(run: &Path) -> Result<Option<PathBuf>> {
    Ok(named(run, "latest").or(list(run)?.pop()))
}

/// The folder with weights that MODEL means: a run folder's latest checkpoint, or the folder itself.
pub fn model_folder(model: &Path) -> Result<PathBuf> {
    if !model.is_dir() {
        return Err(Error::file(model, "is no folder; give a run folder, a checkpoint or a Hugging Face folder"));
    }
    if model.join("config.json").is_file() {
        return Ok(model.to_owned());
    }
    latest(model)?.ok_or_else(|| Error::file(model, "holds neither a config.json nor a finished checkpoint"))
}

/// Loads the newest checkpoint of a run that is sound and tells `passed` about each newer one that is not.
///
/// Errors: there are checkpoints, but none is sound.
pub fn load_newest(
    run: &Path,
    session: &mut Session,
    mut passed: impl FnMut(&Error),
) -> Result<Option<(PathBuf, TrainerState)>> {
    let marked = named(run, "latest");
    let others = list(run)?.into_iter().rev().filter(|folder| marked.as_ref() != Some(folder));
    let mut newest = None;
    for folder in marked.iter().cloned().chain(others) {
        match load(&folder, session) {
            Ok(state) => return Ok(Some((folder, state))),
            Err(e @ (Error::File { .. } | Error::Io { .. })) => {
                passed(&e);
                newest.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
    }
    let Some(reason) = newest else { return Ok(None) };
    let folder = run.join(CHECKPOINTS);
    let hint = "move that folder away to start at step 0";
    Err(Error::file(folder, format!("none of the checkpoints is sound ({reason}); {hint}")))
}

/// Loads weights, moments and state from a checkpoint folder.
pub fn load(folder: &Path, session: &mut Session) -> Result<TrainerState> {
    let specs: Vec<ParamSpec> = session.program.weights.all.iter().map(|p| p.spec.clone()).collect();
    let weights = Weights::open(folder)?;
    weights.check(&specs)?;
    session.load(|spec| weights.load(spec))?;
    moments::load(&folder.join(OPTIMIZER), session)?;
    let path = folder.join(STATE);
    let value = serde_json::Value::Object(read_json_object(&path, STATE_BYTES)?);
    let state: TrainerState = serde_json::from_value(value).map_err(|e| Error::file(&path, e.to_string()))?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    if name.is_some_and(|name| name.starts_with("step-") && name != format!("step-{:08}", state.step)) {
        return Err(Error::file(path, format!("says step {}, which is not its folder's", state.step)));
    }
    let Some(saved) = state.result else {
        return Err(Error::file(path, "lacks result, the words that the optimizer keeps from update to update"));
    };
    let words = words::resumed(saved, session.program.stored == Dtype::F16);
    session.load_result(&words.map_err(|reason| Error::file(path, format!("result: {reason}")))?)?;
    Ok(state)
}
