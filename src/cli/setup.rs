//! What a run is made of: the command line laid over configurations, the tokenizer, the model to begin with.

use super::exam;
use super::origin::Origin;
use super::resume;
use super::stage::Stage;
use super::train::RunArgs;
use crate::chat::Encoder;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::terminal::note;
use crate::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// What a run is made of before it opens its data.
pub(super) struct Setup {
    /// Complete and checked.
    pub config: Config,
    /// With the special tokens that conversations need.
    pub tokenizer: Tokenizer,
    /// Makes tokens of conversations.
    pub encoder: Option<Encoder>,
}

/// Layers the command line over the configuration and checks that everything fits together.
pub(super) fn configure(args: &RunArgs, stage: Stage<'_>, out: &Path, resume: bool) -> Result<Setup> {
    let own = if resume && args.config.is_none() { resume::own_config(out) } else { None };
    let origin = args.model.as_deref().map(Origin::find).transpose()?;
    let mut config = match &origin {
        Some(origin) => origin.configure(stage.config(args), &args.set)?,
        None => Config::resolve(own.as_deref().or(args.config.as_deref()), &args.set)?,
    };
    let named = config.data.tokenizer.clone();
    if !args.data.is_empty() {
        // Absolute, so that the run's config.toml means the same files from any folder.
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|e| Error::io(path, e));
        config.data.path = args.data.iter().map(absolute).collect::<Result<_>>()?;
        if config.data.tokenizer == "world" && args.tokenizer.is_none() && origin.is_none() && own.is_none() {
            config.data.tokenizer = "byte".to_owned(); // the world's tokens suit no other text, for a new model
        }
    }
    if let Some(name) = &args.tokenizer {
        config.data.tokenizer = name.clone();
    }
    if let Some(steps) = args.steps {
        config.train.steps = steps;
    }
    let mut tokenizer = Tokenizer::load(&config.data.tokenizer)?;
    stage.settle(&mut config, resume)?;
    if let Some(sft) = &config.sft {
        tokenizer = tokenizer.with_special(&sft.special_tokens())?;
    }
    // A vocabulary that is just that of the configuration's tokenizer follows the one that takes its place.
    let replaced = config.data.tokenizer != named && config.model.vocab_size == Tokenizer::load(&named)?.vocab_size();
    if config.model.vocab_size == 0 || replaced {
        config.model.vocab_size = tokenizer.vocab_size();
    }
    let encoder = config.sft.as_ref().map(|sft| exam::encoder(sft, &tokenizer)).transpose()?;
    if let Some(encoder) = &encoder {
        tokenizer = tokenizer.with_chat_template(encoder.template().source());
        config.model.vocab_size = config.model.vocab_size.max(tokenizer.vocab_size());
    }
    config.model.eos_token_id = encoder.as_ref().map_or(tokenizer.eos(), Encoder::end);
    config.model.bos_token_id = tokenizer.eos();
    config.validate()?;
    config.model.validate()?;
    let (tokens, rows) = (tokenizer.vocab_size(), config.model.vocab_size);
    if tokens > rows {
        let reason = format!("is {rows}, less than the {tokens} tokens of {}", tokenizer.name());
        return Err(Error::config("model.vocab_size", format!("{reason}; raise it, or set it to 0 for as many")));
    }
    if let Some(origin) = origin {
        origin.changes(&config)?.iter().for_each(note);
    }
    Ok(Setup { config, tokenizer, encoder })
}
