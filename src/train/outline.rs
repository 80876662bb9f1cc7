//! What a checkpoint holds, apart from its numbers, and the writing of one from numbers that come one by one.

use super::checkpoint::{MODEL, OPTIMIZER, STATE, TrainerState};
use super::journal::CONFIG;
use super::moments::{self, MomentValues};
use super::rotation::{CHECKPOINTS, make_folder, name_of};
use super::session::Session;
use crate::checkpoint::adapters::ADAPTERS;
use crate::checkpoint::container::Announced;
use crate::checkpoint::draft::{Disk, Draft};
use crate::checkpoint::weights::write_weights;
use crate::config::hf::{StoredType, own_config_files, reward_config_files};
use crate::config::model::ModelConfig;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::model::goal::Goal;
use crate::model::params::ParamSpec;
use crate::tokenizer::Tokenizer;
use std::io;
use std::path::{Path, PathBuf};

/// What headers, manifest, texts and folders are taken to need beside the numbers.
const MARGIN: u64 = 1 << 20;

/// A checkpoint that is to be written, but for its numbers.
#[derive(Clone)]
pub struct Outline {
    run: PathBuf,
    pub(super) state: TrainerState,
    /// The file of the parameters, and these: of a run with adapters no others.
    file: &'static str,
    specs: Vec<ParamSpec>,
    /// The tensors of each parameter that has moments.
    moments: Vec<Vec<Announced>>,
    texts: Vec<(&'static str, String)>,
}

/// The numbers of one parameter.
pub(super) enum Numbers {
    Weight(Vec<f32>),
    Moments(MomentValues),
}

impl Outline {
    /// What a checkpoint of `run` holds at `state`.
    pub fn new(run: &Path, session: &mut Session, tokenizer: &Tokenizer, state: &TrainerState) -> Result<Outline> {
        let config = &session.program.config;
        let mut texts = match session.program.aims.goal {
            Goal::Reward { .. } => reward_config_files(config, StoredType::F32, padding(config, tokenizer)).to_vec(),
            _ => own_config_files(config, StoredType::F32).to_vec(),
        };
        texts.extend(tokenizer.hf_files(config.max_position_embeddings, config.eos_token_id));
        // After a skipped update norm and clip are not finite, which JSON has no word for; the next update sets them.
        let result = session.result()?.into_iter().map(|x| if x.is_finite() { x } else { 0.0 }).collect::<Vec<f32>>();
        let (result, mixed) = (result.try_into().ok(), Some(session.program.stored == Dtype::F16));
        let state = TrainerState { result, mixed, history: session.history()?, ..state.clone() };
        let text = serde_json::to_string_pretty(&state).map_err(|e| Error::file(STATE, e.to_string()))?;
        texts.push((STATE, text + "\n"));
        let mut file = MODEL;
        if let Some(adapters) = &session.adapters {
            texts.extend(adapters.texts(&run.join(CHECKPOINTS).join(name_of(state.step)))?);
            file = ADAPTERS;
        }
        let specs = kept(session).cloned().collect();
        Ok(Outline { run: run.to_owned(), state, file, specs, moments: moments::layout(session), texts })
    }

    /// The same with the run's configuration, as the text of the file [`CONFIG`].
    pub(super) fn of_run(mut self, config: &str) -> Outline {
        self.texts.push((CONFIG, config.to_owned()));
        self
    }

    /// Bytes of the weights of the parameter that is the `at`-th to be kept.
    pub(super) fn weight_bytes(&self, at: usize) -> u64 {
        4 * self.specs[at].elements() as u64
    }

    /// Bytes of the moments of the parameter that is the `at`-th to have some.
    pub(super) fn moment_bytes(&self, at: usize) -> u64 {
        self.moments[at].iter().map(|tensor| tensor.bytes() as u64).sum()
    }

    /// Bytes of all numbers.
    pub fn bytes(&self) -> u64 {
        let weights = (0..self.specs.len()).map(|i| self.weight_bytes(i));
        weights.chain((0..self.moments.len()).map(|at| self.moment_bytes(at))).sum()
    }

    /// Refuses a disk that has no room for the checkpoint.
    pub(super) fn check_room(&self, disk: &dyn Disk) -> Result<()> {
        let texts: usize = self.texts.iter().map(|(_, text)| text.len()).sum();
        check_room(disk, &self.run, self.bytes() + texts as u64)
    }
}

/// The token that a reward model's batches are filled up with: any but the one that ends an answer.
fn padding(config: &ModelConfig, tokenizer: &Tokenizer) -> u32 {
    let (eos, end) = (tokenizer.eos(), config.eos_token_id);
    let other = if eos == end { u32::from(end == 0) } else { eos };
    tokenizer.pad().filter(|&pad| pad != end && (pad as usize) < config.vocab_size).unwrap_or(other)
}

/// The parameters that a checkpoint of `session` holds.
fn kept(session: &Session) -> impl Iterator<Item = &ParamSpec> {
    session.program.weights.kept().into_iter().map(|i| &session.program.weights.all[i].spec)
}

/// Bytes of all numbers of a checkpoint of `session`.
pub(super) fn number_bytes(session: &Session) -> u64 {
    let weights = kept(session).map(|spec| 4 * spec.elements());
    let moments = moments::layout(session).into_iter().flatten().map(|tensor| tensor.bytes());
    weights.chain(moments).sum::<usize>() as u64
}

/// Refuses a disk on which there is no room for a checkpoint of `bytes` in the folder `run`.
pub(super) fn check_room(disk: &dyn Disk, run: &Path, bytes: u64) -> Result<()> {
    let needed = bytes + MARGIN;
    let Some(free) = disk.free(run).filter(|free| *free < needed) else { return Ok(()) };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let reason = format!("a checkpoint needs {:.1} MiB, and {:.1} MiB are free", mib(needed), mib(free));
    Err(Error::write(run.join(CHECKPOINTS), io::Error::new(io::ErrorKind::StorageFull, reason)))
}

/// Writes `checkpoints/step-N` of the run folder: under a temporary name first, a manifest last, then renamed.
/// `take` gives all weights in order, then all moments.
pub(super) fn write(disk: &dyn Disk, outline: &Outline, mut take: impl FnMut() -> Result<Numbers>) -> Result<PathBuf> {
    let Outline { run, state, file, specs, moments, texts } = outline;
    make_folder(disk, run)?;
    let folder = run.join(CHECKPOINTS).join(name_of(state.step));
    let mut draft = Draft::new(disk, &folder)?;
    let other = || Error::device("a checkpoint's numbers came in another order than announced");
    write_weights(draft.file(file), specs, StoredType::F32, |_, values| match take()? {
        Numbers::Weight(weight) => {
            *values = weight;
            Ok(())
        }
        Numbers::Moments(_) => Err(other()),
    })?;
    moments::save(draft.file(OPTIMIZER), moments, || match take()? {
        Numbers::Moments(values) => Ok(values),
        Numbers::Weight(_) => Err(other()),
    })?;
    texts.iter().try_for_each(|(name, text)| draft.text(name, text))?;
    draft.finish(state.step)?;
    Ok(folder)
}
