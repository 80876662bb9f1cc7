//! What a run is made of: the command line laid over configurations, the tokenizer, the model to begin with.

use super::exam;
use super::origin::Origin;
use super::resume;
use super::stage::Stage;
use super::train::RunArgs;
use super::vocabulary;
use crate::chat::Encoder;
use crate::chat::folder::{Source, own_template};
use crate::config::given::{Given, given, names};
use crate::config::sft::SftMask;
use crate::config::{Config, effects};
use crate::data::check_local;
use crate::error::{Error, Result};
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::model_folder;
use std::path::Path;

/// What a run is made of before it opens its data.
pub(super) struct Setup {
    /// Complete and checked.
    pub config: Config,
    /// With the special tokens that conversations need.
    pub tokenizer: Tokenizer,
    /// Makes tokens of conversations.
    pub encoder: Option<Encoder>,
}

/// The chat template of a run. A resumed one has it in its checkpoints, and needs its file no more.
fn template(config: &Config, out: &Path, resume: bool) -> Result<Option<Source>> {
    let checkpoint = if resume { model_folder(out).ok() } else { None };
    let folder = checkpoint.as_deref().or(config.train.model.as_deref());
    match &config.sft {
        Some(sft) => {
            let gone = sft.chat_template.as_ref().is_some_and(|path| !path.exists());
            let own = if gone { checkpoint.as_deref().map(own_template).transpose()?.flatten() } else { None };
            own.map_or_else(|| exam::template(sft, folder), Ok).map(Some)
        }
        // Text alone is learnt from, and the template is kept.
        None => Ok(folder.map(own_template).transpose()?.flatten()),
    }
}

/// Applies the flags of a run to its configuration. A `fresh` one has no tokenizer that it must keep.
fn apply(args: &RunArgs, given: &Given, fresh: bool, config: &mut Config) -> Result<()> {
    if !args.data.is_empty() {
        config.data.path = args.data.clone();
    }
    config.data.path.iter().chain(&config.data.val_path).try_for_each(|path| check_local(path))?;
    if fresh && !config.data.path.is_empty() && config.data.tokenizer == "world" {
        // What a file says suits the text that it names, and not that of --data.
        let by_file = args.data.is_empty() && names(args.config.as_deref(), "data", "tokenizer")?;
        if !by_file && !given.sets.iter().any(|key| key == "data.tokenizer") {
            config.data.tokenizer = "byte".to_owned(); // the world's tokens suit no other text, for a new model
        }
    }
    if let Some(name) = &args.tokenizer {
        config.data.tokenizer = name.clone();
    }
    args.lay_over(config);
    Ok(())
}

/// The encoder of conversations; says what is to be known of it.
fn encoder(own: &Source, tokenizer: &Tokenizer, mask: SftMask) -> Result<Encoder> {
    let encoder = Encoder::new(own.template(tokenizer)?, tokenizer.clone(), mask)?;
    let warning = encoder.warning().map_err(|e| Error::config("sft.chat_template", e))?;
    warning.iter().for_each(|warning| note(format_args!("warning: {}", printable(warning))));
    Ok(encoder)
}

/// Layers the command line over the configuration and checks that everything fits together.
pub(super) fn configure(args: &RunArgs, stage: Stage<'_>, out: &Path, resume: bool) -> Result<Setup> {
    let own = if resume && args.config.is_none() { resume::base(out)? } else { None };
    let origin = args.model.as_deref().map(Origin::find).transpose()?;
    let mut config = match &origin {
        Some(origin) => origin.configure(stage.config(args), &args.set)?,
        None => Config::resolve(own.as_deref().or(args.config.as_deref()), &args.set)?,
    };
    let given = given(args.config.as_deref(), &args.set)?;
    let named = config.data.tokenizer.clone();
    apply(args, &given, origin.is_none() && own.is_none(), &mut config)?;
    let kept = resume.then(|| vocabulary::of_checkpoint(out, &config)).flatten();
    let inherited = origin.as_ref().filter(|origin| config.data.tokenizer == named && origin.names(&named));
    let folder = kept.as_deref().or(inherited.map(Origin::folder));
    let mut tokenizer = vocabulary::load(&config.data.tokenizer, folder)?;
    let asked = config.clone();
    stage.settle(&mut config, resume)?;
    effects::check(&asked, &config, &given, &args.shared)?.iter().for_each(note);
    config = config.located()?;
    let template = template(&config, out, resume)?;
    if let (Some(sft), Some(template)) = (&config.sft, &template) {
        tokenizer = tokenizer.with_special(&sft.special_tokens(template.is_chatml()))?;
    }
    // A vocabulary that is just that of the configuration's tokenizer follows the one that takes its place.
    let rows = config.model.vocab_size;
    let replaced = folder.is_none()
        && config.data.tokenizer != named
        && Tokenizer::load(&named).is_ok_and(|named| named.vocab_size() == rows);
    if config.model.vocab_size == 0 || replaced {
        config.model.vocab_size = tokenizer.vocab_size();
    }
    let encoder = match (&config.sft, &template) {
        (Some(sft), Some(template)) => Some(encoder(template, &tokenizer, sft.sft_mask)?),
        _ => None,
    };
    if let Some(template) = &template {
        tokenizer = tokenizer.with_chat_template(&template.text);
    }
    if encoder.is_some() {
        config.model.vocab_size = config.model.vocab_size.max(tokenizer.vocab_size());
    }
    config.model.eos_token_id = encoder.as_ref().map_or(tokenizer.eos(), Encoder::end);
    config.model.bos_token_id = tokenizer.bos();
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
