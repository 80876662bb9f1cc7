//! Which tokenizer a run uses, and what is said of it.

use super::TOKENIZER;
use super::resume::own_config;
use crate::checkpoint::folder::inside_if_there;
use crate::config::Config;
use crate::error::Result;
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::described_folder;
use crate::train::recorded::Recorded;
use std::path::{Path, PathBuf};

/// The folder whose tokenizer a run of `config` uses that goes on in `out`: the newest checkpoint, if it was made with
/// the tokenizer of that name, whatever the run's config.toml has come to say since.
pub(super) fn of_checkpoint(out: &Path, config: &Config) -> Option<PathBuf> {
    let recorded = Recorded::newest(out).ok()?.and_then(|recorded| recorded.config);
    let own = recorded.map_or_else(|| Config::resolve(Some(&own_config(out)?), &[]).ok(), Some)?;
    let name = |config: Config| config.located().ok().map(|config| config.data.tokenizer);
    (name(own)? == name(config.clone())?).then(|| described_folder(out).ok())?
}

/// The tokenizer in `folder`, which has the weights that the run starts from; where it has none, the one that `name`
/// says. The original file of a vocabulary is not read once there is a checkpoint.
pub(super) fn load(name: &str, folder: Option<&Path>) -> Result<Tokenizer> {
    let beside = folder.map(|folder| inside_if_there(folder, TOKENIZER)).transpose()?.flatten();
    let tokenizer = match beside {
        Some(path) => Tokenizer::load(&path.to_string_lossy())?.known_as(name),
        None => Tokenizer::load(name)?,
    };
    warn(&tokenizer);
    Ok(tokenizer)
}

/// Says what text a vocabulary cannot hold.
pub(super) fn warn(tokenizer: &Tokenizer) {
    if let Some(lack) = tokenizer.lack() {
        note(format_args!("warning: {}: {}", printable(tokenizer.name()), printable(&lack)));
    }
}
