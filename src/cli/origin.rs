//! `--model`: a run that starts from the weights of a folder takes over what belongs to them.

use super::resume::{Difference, differences, own_config};
use super::{Fill, TOKENIZER, existing, model_config};
use crate::checkpoint::folder::inside_if_there;
use crate::config::Config;
use crate::config::model::ModelConfig;
use crate::config::sft::SftConfig;
use crate::error::{Error, Result};
use crate::model::params::ParamSpec;
use crate::train::checkpoint::model_folder;
use crate::train::rotation::CHECKPOINTS;
use std::path::{Path, PathBuf};

/// Keys under `[model]` that the weights' shapes follow from.
const SHAPES: [&str; 16] = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "n_routed_experts",
    "n_shared_experts",
    "first_k_dense_replace",
    "moe_layer_freq",
    "tie_word_embeddings",
];

/// Parameters with a row a token.
pub(super) const EMBEDDINGS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// Where a run's first weights come from.
pub(super) struct Origin {
    /// Absolute, so that the run's config.toml means the same folder from anywhere.
    folder: PathBuf,
    model: ModelConfig,
    /// The configuration of the run that made the weights, where that is known.
    run: Option<String>,
}

impl Origin {
    /// Reads what stands beside the weights that `--model` means.
    pub(super) fn find(model: &Path) -> Result<Origin> {
        let folder = model_folder(&existing(model)?)?;
        let folder = std::path::absolute(&folder).map_err(|e| Error::io(&folder, e))?;
        let parent = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == CHECKPOINTS));
        let run = parent.and_then(Path::parent).and_then(own_config);
        Ok(Origin { model: model_config(&folder)?, run, folder })
    }

    /// The configuration of the new run: network and tokenizer of the weights over `config`, or over that of the run
    /// that made them, and the `sets` over both.
    pub(super) fn configure(&self, config: Option<&str>, sets: &[String]) -> Result<Config> {
        let run = self.run.as_deref().map(|run| Config::resolve(Some(run), &[])).transpose()?;
        let file = inside_if_there(&self.folder, TOKENIZER)?;
        let change = |config: &mut Config| {
            config.train.model = Some(self.folder.clone());
            config.model = self.model.clone();
            if let Some(run) = &run {
                // The name of a tokenizer outlives a checkpoint's copy of it; and no config.json has these two rates.
                config.data.tokenizer = run.data.tokenizer.clone();
                config.model.embed_dropout = run.model.embed_dropout;
                config.model.resid_dropout = run.model.resid_dropout;
                // Conversations are written as the model knows them, which the template beside it says.
                let sft = run.sft.clone().map(|sft| SftConfig { chat_template: None, ..sft });
                config.sft = config.sft.take().or(sft);
            } else if let Some(file) = &file {
                config.data.tokenizer = file.to_string_lossy().into_owned();
            }
        };
        Config::resolve_changed(config.or(self.run.as_deref()), &change, sets)
    }

    /// The folder of the weights.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether `name` is what the configuration takes over as the tokenizer of the weights.
    pub(super) fn names(&self, name: &str) -> bool {
        let run = self.run.as_deref().and_then(|run| Config::resolve(Some(run), &[]).ok());
        run.map_or_else(|| Path::new(name) == self.folder.join(TOKENIZER), |run| run.data.tokenizer == name)
    }

    /// A line for each key in which the network of `config` is another one than the weights were made for.
    ///
    /// Errors: the weights have other shapes.
    pub(super) fn changes(&self, config: &Config) -> Result<Vec<String>> {
        let mut made = Config { model: self.model.clone(), ..config.clone() };
        if config.sft.is_some() {
            // Rows for special tokens, and the token that ends an answer, are what fine-tuning adds.
            made.model.vocab_size = made.model.vocab_size.max(config.model.vocab_size);
            made.model.eos_token_id = config.model.eos_token_id;
        }
        let mut lines = Vec::new();
        for Difference { section, key, was, is } in differences(&made, config)? {
            if SHAPES.contains(&key.as_str()) {
                let reason = format!("is {is}, but the weights in {} have {was}", self.folder.display());
                return Err(Error::config(format!("{section}.{key}"), format!("{reason}; leave it as it is")));
            }
            lines.push(format!("{section}.{key} changes from {was} to {is}"));
        }
        Ok(lines)
    }
}

/// `model` with the vocabulary of the weights in `folder`, which may have fewer rows.
pub(super) fn grown(folder: &Path, model: &ModelConfig) -> Result<ModelConfig> {
    let rows = model_config(folder)?.vocab_size;
    Ok(ModelConfig { vocab_size: rows.min(model.vocab_size), ..model.clone() })
}

/// Fills a parameter by `fill`, which knows the weights of the model `own`. Rows of the embedding and of the head that
/// it lacks are the mean of those that it has: a new token begins as one of which nothing is known.
pub(super) fn fill(own: &ModelConfig, spec: &ParamSpec, values: &mut [f32], fill: &mut Fill<'_>) -> Result<()> {
    if !EMBEDDINGS.contains(&spec.name.as_str()) || spec.shape[0] <= own.vocab_size {
        return fill(spec, values);
    }
    let (rows, width) = (own.vocab_size, spec.shape[1]);
    let mut known = spec.clone();
    known.shape[0] = rows;
    known.disk.iter_mut().for_each(|tensor| tensor.shape[0] = rows);
    let (old, new) = values.split_at_mut(rows * width);
    fill(&known, old)?;
    let mean = |column: usize| {
        let sum: f64 = old.iter().skip(column).step_by(width).map(|&x| f64::from(x)).sum();
        (sum / rows as f64) as f32
    };
    let means: Vec<f32> = (0..width).map(mean).collect();
    new.chunks_mut(width).for_each(|row| row.copy_from_slice(&means));
    Ok(())
}
