//! `config.json` of a Hugging Face folder: what transformers' `DeepseekV2ForCausalLM` reads and writes.

mod generation; // how a model is drawn from, and what ends its answers
mod read; // old and new key styles to a validated `ModelConfig`
mod represent; // what transformers has no word for
mod rope; // the keys of position scaling

pub use generation::{GENERATION_CONFIG, end_tokens, read_generation};
use read::LARGEST_FILE;
pub use read::{parse_config, read_config};
pub use represent::{check_representable, nearest};

use super::model::ModelConfig;
use crate::checkpoint::disk::replace_text;
use crate::checkpoint::folder::inside;
use crate::error::{Error, Result};
use crate::input;
use clap::ValueEnum;
use half::f16;
use serde_json::{Value, json};
use std::path::Path;

/// What transformers calls this network.
const MODEL_TYPE: &str = "deepseek_v2";
/// Marks a network that transformers cannot represent, so that it refuses instead of computing other numbers.
const OWN_MODEL_TYPE: &str = "hadal";

/// A network that gives one number for a sequence.
const REWARD_MODEL: &str = "DeepseekV2ForSequenceClassification";
const OWN_REWARD_MODEL: &str = "HadalForSequenceClassification";

/// Number type of weights on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoredType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// bfloat16.
    Bf16,
}

impl StoredType {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            StoredType::F32 => "float32",
            StoredType::F16 => "float16",
            StoredType::Bf16 => "bfloat16",
        }
    }

    /// The smallest magnitude that is rounded to infinity: half a unit in the last place above the largest number.
    pub fn overflow(self) -> f32 {
        match self {
            StoredType::F32 => f32::INFINITY,
            StoredType::F16 => f16::MAX.to_f32() + 16.0,
            StoredType::Bf16 => f32::from_bits(0x7f7f_8000),
        }
    }
}

/// Writes `config.json` and `generation_config.json` into `dir`; refuses what [`check_representable`] refuses.
pub fn write_config(dir: &Path, config: &ModelConfig, stored: StoredType) -> Result<()> {
    check_representable(config)?;
    write_files(dir, &files(config, &transformers_keys(config, stored)))
}

/// As [`write_config`] where transformers can represent the model; else the same keys and the missing ones under a
/// model type of this program's own, which [`read_config`] understands and transformers refuses.
pub fn write_own_config(dir: &Path, config: &ModelConfig, stored: StoredType) -> Result<()> {
    write_files(dir, &own_config_files(config, stored))
}

/// Names and texts of the files that [`write_own_config`] writes.
pub fn own_config_files(config: &ModelConfig, stored: StoredType) -> [(&'static str, String); 2] {
    let mut keys = transformers_keys(config, stored);
    if check_representable(config).is_err() {
        let own = json!({
            "architectures": ["HadalForCausalLM"],
            "model_type": OWN_MODEL_TYPE,
            "router_weights": config.router_weights,
            "bias_update_speed": config.bias_update_speed,
            "embed_dropout": config.embed_dropout,
            "resid_dropout": config.resid_dropout,
        });
        if let (Value::Object(keys), Value::Object(own)) = (&mut keys, own) {
            keys.extend(own);
        }
    }
    files(config, &keys)
}

/// The same for a reward model, which gives one number for a sequence at its last token that is not `pad`.
pub fn reward_config_files(config: &ModelConfig, stored: StoredType, pad: u32) -> [(&'static str, String); 2] {
    let [(name, text), generation] = own_config_files(config, stored);
    let mut keys: Value = serde_json::from_str(&text).unwrap_or_default(); // just written
    if let Value::Object(keys) = &mut keys {
        let own = keys["model_type"] == OWN_MODEL_TYPE;
        let architecture = if own { OWN_REWARD_MODEL } else { REWARD_MODEL };
        keys.insert("architectures".to_owned(), json!([architecture]));
        keys.insert("id2label".to_owned(), json!({"0": "LABEL_0"}));
        keys.insert("pad_token_id".to_owned(), json!(pad));
    }
    [(name, format!("{keys:#}\n")), generation]
}

/// Whether the folder holds a reward model, as its `config.json` says.
///
/// # Errors
/// If there is no such file, or it is no JSON object.
pub fn is_reward_model(folder: &Path) -> Result<bool> {
    let path = inside(folder, "config.json")?;
    let text = input::read(&path, LARGEST_FILE)?;
    let keys = input::json_object(&text).map_err(|reason| Error::file(&path, reason))?;
    let architectures = keys.get("architectures").and_then(Value::as_array);
    let is = |name: &Value| name.as_str().is_some_and(|name| [REWARD_MODEL, OWN_REWARD_MODEL].contains(&name));
    Ok(architectures.is_some_and(|names| names.iter().any(is)))
}

fn write_files(dir: &Path, files: &[(&str, String)]) -> Result<()> {
    files.iter().try_for_each(|(name, text)| replace_text(&dir.join(name), text))
}

fn files(c: &ModelConfig, keys: &Value) -> [(&'static str, String); 2] {
    let generation = json!({
        "bos_token_id": c.bos_token_id,
        "eos_token_id": c.eos_token_id,
        "do_sample": true,
        "temperature": 1.0,
        "top_p": 1.0,
    });
    [("config.json", format!("{keys:#}\n")), (GENERATION_CONFIG, format!("{generation:#}\n"))]
}

/// Every key, in the older style that all versions of transformers read.
fn transformers_keys(c: &ModelConfig, stored: StoredType) -> Value {
    json!({
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "moe_intermediate_size": c.moe_intermediate_size,
        "num_hidden_layers": c.num_hidden_layers,
        "num_attention_heads": c.num_attention_heads,
        "num_key_value_heads": c.num_attention_heads,
        "n_shared_experts": c.n_shared_experts,
        "n_routed_experts": c.n_routed_experts,
        "num_experts_per_tok": c.num_experts_per_tok,
        "first_k_dense_replace": c.first_k_dense_replace,
        "moe_layer_freq": c.moe_layer_freq,
        "q_lora_rank": c.q_lora_rank,
        "kv_lora_rank": c.kv_lora_rank,
        "qk_nope_head_dim": c.qk_nope_head_dim,
        "qk_rope_head_dim": c.qk_rope_head_dim,
        "v_head_dim": c.v_head_dim,
        "max_position_embeddings": c.max_position_embeddings,
        "rope_theta": c.rope_theta,
        "rope_scaling": rope::written(&c.rope_scaling),
        "rms_norm_eps": c.rms_norm_eps,
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": c.attention_dropout,
        "norm_topk_prob": c.norm_topk_prob,
        "routed_scaling_factor": c.routed_scaling_factor,
        "scoring_func": c.scoring_func,
        "topk_method": c.topk_method,
        "n_group": c.n_group,
        "topk_group": c.topk_group,
        "aux_loss_alpha": c.aux_loss_alpha,
        "seq_aux": c.seq_aux,
        "ep_size": 1,
        "tie_word_embeddings": c.tie_word_embeddings,
        "torch_dtype": stored.name(),
        "use_cache": true,
        "bos_token_id": c.bos_token_id,
        "eos_token_id": c.eos_token_id,
        "initializer_range": c.initializer_range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{RouterWeights, ScoringFunc, TopkMethod};
    use half::bf16;

    #[test]
    fn what_overflows_is_told_from_the_largest_number_that_does_not() {
        let below = |x: f32| f32::from_bits(x.to_bits() - 1);
        let limit = StoredType::F16.overflow();
        assert!(f16::from_f32(limit).is_infinite() && f16::from_f32(below(limit)).is_finite());
        let limit = StoredType::Bf16.overflow();
        assert!(bf16::from_f32(limit).is_infinite() && bf16::from_f32(below(limit)).is_finite());
    }

    #[test]
    fn a_written_configuration_reads_back_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ModelConfig { q_lora_rank: Some(24), norm_topk_prob: true, ..ModelConfig::default() };
        config.bos_token_id = Some(5);
        write_config(dir.path(), &config, StoredType::Bf16).unwrap();
        let (read, warnings) = read_config(dir.path()).unwrap();
        assert_eq!((read, warnings), (config, vec![]));
        assert!(dir.path().join("generation_config.json").is_file());
    }

    #[test]
    fn what_transformers_would_compute_otherwise_is_not_exported_but_kept() {
        let base = ModelConfig { norm_topk_prob: true, ..ModelConfig::default() };
        let biased = ModelConfig {
            scoring_func: ScoringFunc::Sigmoid,
            topk_method: TopkMethod::NoauxTc,
            bias_update_speed: 0.25,
            ..base.clone()
        };
        let scaled =
            ModelConfig { routed_scaling_factor: 2.0, router_weights: RouterWeights::Seed, ..Default::default() };
        for (config, key) in [
            (
                ModelConfig { router_weights: RouterWeights::Seed, resid_dropout: 0.25, ..base.clone() },
                "router_weights",
            ),
            (ModelConfig { router_weights: RouterWeights::Deepseek, ..base.clone() }, "router_weights"),
            (ModelConfig { router_weights: RouterWeights::NormScale, ..base.clone() }, "router_weights"),
            (scaled, "router_weights"),
            (biased, "scoring_func"),
            (ModelConfig { n_shared_experts: 0, ..base.clone() }, "n_shared_experts"),
            (ModelConfig { moe_layer_freq: 2, ..base.clone() }, "moe_layer_freq"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let error = write_config(dir.path(), &config, StoredType::F32).unwrap_err();
            assert!(error.to_string().starts_with(&format!("model.{key}:")), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            write_own_config(dir.path(), &config, StoredType::F32).unwrap();
            assert_eq!(read_config(dir.path()).unwrap(), (config, vec![]));
        }
        let same = ModelConfig { router_weights: RouterWeights::Deepseek, ..ModelConfig::default() };
        check_representable(&same).unwrap();
    }

    #[test]
    fn an_exportable_model_keeps_the_model_type_of_transformers() {
        let dir = tempfile::tempdir().unwrap();
        write_own_config(dir.path(), &ModelConfig::default(), StoredType::F32).unwrap();
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(text.contains("\"model_type\": \"deepseek_v2\"") && !text.contains("router_weights"), "{text}");
    }
}
