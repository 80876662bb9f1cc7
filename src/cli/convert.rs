//! What `export` and `import` share: a model, or its adapters, from one folder into a new one.

use super::summary::grouped;
use super::{TOKENIZER, model_tokenizer, open_weights};
use crate::chat::folder::own_template;
use crate::checkpoint::adapters::{ADAPTERS, Adapters};
use crate::checkpoint::copy::copy_weights;
use crate::checkpoint::disk::replace_text;
use crate::checkpoint::folder::{check_free, inside_if_there, new_folder};
use crate::checkpoint::weights::{Weights, write_weights};
use crate::config::hf::{StoredType, write_own_config};
use crate::config::model::ModelConfig;
use crate::error::{Error, Result};
use crate::input::read_json_object;
use crate::model::lora::{adapted, is_adapter};
use crate::model::params::{ParamSpec, parameters};
use crate::terminal::{note, print};
use crate::tokenizer::{CHAT_TEMPLATE, Tokenizer};
use serde_json::{Value, json};
use std::path::Path;

/// Larger than any description of a model or of generation.
const LARGEST_SETTINGS: u64 = 1 << 20;
/// The descriptions.
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

/// How the new folder is to be.
pub(super) struct Conversion<'a> {
    pub out: &'a Path,
    pub stored: StoredType,
    /// Bytes of a file of weights.
    pub largest: u64,
}

/// Writes the model in `folder`, which `source` describes, as a new folder with `config`, which may lack some of the
/// tensors. A tokenizer comes along if there is one.
pub(super) fn convert(folder: &Path, source: &ModelConfig, config: &ModelConfig, to: &Conversion<'_>) -> Result<()> {
    check_free(to.out)?;
    let (weights, tokenizer) = open_all(folder, source)?;
    let template = own_template(folder)?.map(|own| own.text);
    let copied = new_folder(to.out, |new| {
        let copied = copy_weights(&weights, &parameters(config), to.stored, to.largest, new)?;
        write_own_config(new, config, to.stored)?;
        keep_settings(folder, new, config)?;
        write_tokenizer(new, config, tokenizer.as_ref(), template.as_deref())?;
        Ok(copied)
    })?;
    about_tokenizer(folder, tokenizer.as_ref(), template.as_deref());
    let name = to.stored.name();
    let (tensors, bytes, files) = (copied.tensors, grouped(copied.bytes), copied.files);
    let of = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    print(format_args!("{}: {tensors} tensors, {bytes} bytes of {name} in {of}", to.out.display()))
}

/// Writes the adapters in `folder`, beside weights of the model `source`, as a new folder for PEFT.
///
/// Errors: PEFT has no form for them.
pub(super) fn convert_adapters(
    folder: &Path,
    source: &ModelConfig,
    adapters: &Adapters,
    to: &Conversion<'_>,
) -> Result<()> {
    check_free(to.out)?;
    let Some((description, text)) = adapters.peft() else {
        let reason = "holds adapters of feed-forward layers, which PEFT cannot all place beside the fused experts of \
                      transformers; add --merge";
        return Err(Error::file(folder, reason));
    };
    let (weights, tokenizer) = open_all(folder, source)?;
    let template = own_template(folder)?.map(|own| own.text);
    let pairs: Vec<ParamSpec> = adapted(source, &adapters.lora).into_iter().filter(is_adapter).collect();
    new_folder(to.out, |new| {
        let mut largest = 0.0f32;
        write_weights(&new.join(ADAPTERS), &pairs, to.stored, |spec, values| {
            values.resize(spec.elements(), 0.0);
            weights.load(spec, values)?;
            largest = values.iter().fold(largest, |largest, x| largest.max(x.abs()));
            Ok(())
        })?;
        if largest >= to.stored.overflow() {
            let reason = format!("holds numbers too large for {}; choose another --dtype", to.stored.name());
            return Err(Error::file(folder, reason));
        }
        replace_text(&new.join(description), &text)?;
        write_tokenizer(new, source, tokenizer.as_ref(), template.as_deref())
    })?;
    about_tokenizer(folder, tokenizer.as_ref(), template.as_deref());
    let elements: usize = pairs.iter().map(ParamSpec::elements).sum();
    let (tensors, name, base) = (pairs.len(), to.stored.name(), adapters.base.display());
    print(format_args!("{}: {tensors} tensors, {elements} numbers in {name}, for the base {base}", to.out.display()))
}

/// Writes what of a tokenizer and its chats there is.
fn write_tokenizer(
    new: &Path,
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
    template: Option<&str>,
) -> Result<()> {
    if let Some(tokenizer) = tokenizer {
        tokenizer.write_hf(new, config.max_position_embeddings, config.eos_token_id)?;
    }
    template.map_or(Ok(()), |template| replace_text(&new.join(CHAT_TEMPLATE), template))
}

/// Lays over what was written what the folder says of generation, and of tokens that the network does not know of.
fn keep_settings(folder: &Path, new: &Path, config: &ModelConfig) -> Result<()> {
    let write = |name: &str, keys| replace_text(&new.join(name), &format!("{:#}\n", Value::Object(keys)));
    if let Some(path) = inside_if_there(folder, GENERATION)? {
        let mut keys = read_json_object(&path, LARGEST_SETTINGS)?;
        keys.entry("bos_token_id").or_insert(json!(config.bos_token_id));
        keys.entry("eos_token_id").or_insert(json!(config.eos_token_id));
        write(GENERATION, keys)?;
    }
    let Some(path) = inside_if_there(folder, CONFIG)? else { return Ok(()) };
    let given = read_json_object(&path, LARGEST_SETTINGS)?;
    let mut keys = read_json_object(&new.join(CONFIG), LARGEST_SETTINGS)?;
    for key in ["eos_token_id", "pad_token_id"] {
        if let Some(value) = given.get(key).filter(|value| !value.is_null()) {
            keys.insert(key.to_owned(), value.clone());
        }
    }
    write(CONFIG, keys)
}

/// Says what a new folder lacks for texts and chats.
fn about_tokenizer(folder: &Path, tokenizer: Option<&Tokenizer>, template: Option<&str>) {
    match tokenizer {
        None => note(format_args!("{} has no {TOKENIZER}, so the new folder has none", folder.display())),
        Some(tokenizer) if template.is_none() && tokenizer.chat_template().is_none() => note(format_args!(
            "no {CHAT_TEMPLATE}: the tokenizer lacks the special tokens <|im_start|> and <|im_end|> that one needs"
        )),
        Some(_) => {}
    }
}

/// Weights and tokenizer; one error says what is wrong with both.
fn open_all(folder: &Path, config: &ModelConfig) -> Result<(Weights, Option<Tokenizer>)> {
    let tokenizer = match inside_if_there(folder, TOKENIZER) {
        Ok(None) => Ok(None),
        Ok(Some(_)) => model_tokenizer(folder, config).map(Some),
        Err(e) => Err(e),
    };
    match (open_weights(folder, config), tokenizer) {
        (Ok(weights), Ok(tokenizer)) => Ok((weights, tokenizer)),
        (Err(a), Err(b)) => Err(Error::Usage(format!("{a}; {b}"))),
        (Err(e), _) | (_, Err(e)) => Err(e),
    }
}
