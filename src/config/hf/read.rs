//! Reading `config.json`.

use super::rope::read_rope;
use super::{MODEL_TYPE, OWN_MODEL_TYPE};
use crate::checkpoint::folder::inside;
use crate::config::model::{ModelConfig, RouterWeights, TopkMethod};
use crate::error::{Error, Result};
use crate::input::{self, quoted};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A configuration is a page of text; whatever is larger than this is something else.
pub(super) const LARGEST_FILE: u64 = 1 << 20;
/// Keys without effect that are warned of one by one.
pub(super) const MOST_WARNINGS: usize = 16;
/// Keys that say nothing about the network's numbers.
const WITHOUT_EFFECT: &[&str] = &[
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "ep_size",
    "head_dim",
    "id2label",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "qk_head_dim",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// The keys of a file that are not yet read.
pub(super) struct Keys {
    path: PathBuf,
    pub(super) map: Map<String, Value>,
    pub(super) warnings: Vec<String>,
}

impl Keys {
    pub(super) fn error(&self, reason: String) -> Error {
        Error::file(&self.path, reason)
    }

    /// Takes a key; JSON null counts as absent.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &str, kind: &str) -> Result<Option<T>> {
        match self.map.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::deserialize(&value) {
                Ok(read) => Ok(Some(read)),
                Err(_) => Err(self.error(format!("{key:?} must be {kind}, not {}", shortened(&value)))),
            },
        }
    }

    fn size(&mut self, key: &str) -> Result<usize> {
        match self.optional(key, "a whole number")? {
            Some(size) => Ok(size),
            None => Err(self.error(format!("{key:?} is missing; it must be a whole number"))),
        }
    }

    fn size_or(&mut self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional(key, "a whole number")?.unwrap_or(default))
    }

    fn number_or(&mut self, key: &str, default: f64) -> Result<f64> {
        Ok(self.optional(key, "a number")?.unwrap_or(default))
    }

    fn flag_or(&mut self, key: &str, default: bool) -> Result<bool> {
        Ok(self.optional(key, "true or false")?.unwrap_or(default))
    }

    /// Takes a key that may only say what is computed here anyway.
    fn must_be<T: DeserializeOwned + PartialEq + std::fmt::Debug>(&mut self, key: &str, only: T) -> Result<()> {
        let value = self.map.remove(key).unwrap_or(Value::Null);
        if value.is_null() || T::deserialize(&value).is_ok_and(|read| read == only) {
            return Ok(());
        }
        Err(self.error(format!("{key:?} is {}; only {only:?} is supported", shortened(&value))))
    }

    /// A token id: one number, or a list whose first counts.
    fn token(&mut self, key: &str, vocab_size: usize) -> Result<Option<u32>> {
        if let Some(Value::Array(ids)) = self.map.get(key) {
            let first = ids.first().cloned().unwrap_or(Value::Null);
            // All of several ends end an answer: `end_tokens` reads them.
            if key != "eos_token_id" && ids.len() > 1 {
                self.warnings.push(format!("{key:?} lists several tokens; the first is taken"));
            }
            self.map.insert(key.to_owned(), first);
        }
        let id = self.optional(key, "a token's number")?;
        if let Some(id) = id.filter(|&id: &u32| id as usize >= vocab_size) {
            self.warnings.push(format!("{key:?} is {id}, but the vocabulary ends before {vocab_size}"));
        }
        Ok(id)
    }
}

/// A value as it may stand in a message: escaped by its JSON form and of bounded length.
pub(super) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Reads `config.json` of `dir`, in old (`rope_theta`, `rope_scaling`, `torch_dtype`) or new key style
/// (`rope_parameters`, `dtype`), and validates it. The second value warns of keys that are not understood.
///
/// Absent keys take the defaults of transformers' class, except those that shape tensors: they must be there.
pub fn read_config(dir: &Path) -> Result<(ModelConfig, Vec<String>)> {
    let path = inside(dir, "config.json")?;
    parse_config(&path, &input::read(&path, LARGEST_FILE)?)
}

/// As [`read_config`] from the text of the file `path`.
pub fn parse_config(path: &Path, text: &[u8]) -> Result<(ModelConfig, Vec<String>)> {
    let map = input::json_object(text).map_err(|reason| Error::file(path, reason))?;
    let mut keys = Keys { path: path.to_owned(), map, warnings: Vec::new() };
    let own = read_model_type(&mut keys)?;
    refuse_unsupported(&mut keys)?;
    if !own {
        keys.must_be("scoring_func", "softmax".to_owned())?;
    }
    let mut config = read_shapes(&mut keys)?;
    read_options(&mut keys, own, &mut config)?;
    if own {
        read_own_options(&mut keys, &mut config)?;
    }
    keys.must_be("num_key_value_heads", config.num_attention_heads)?;
    let Keys { path, map, mut warnings } = keys;
    let unknown: Vec<&String> = map.keys().filter(|key| !WITHOUT_EFFECT.contains(&key.as_str())).collect();
    let warned = unknown.iter().take(MOST_WARNINGS);
    warnings
        .extend(warned.map(|key| format!("{}: {} is not understood and has no effect", path.display(), quoted(key))));
    if unknown.len() > MOST_WARNINGS {
        let more = unknown.len() - MOST_WARNINGS;
        warnings.push(format!("{}: {more} more keys are not understood and have no effect", path.display()));
    }
    config.validate()?;
    Ok((config, warnings))
}

/// Whether the file is of this program's own type; any type but the two known ones is refused.
fn read_model_type(keys: &mut Keys) -> Result<bool> {
    match keys.optional::<String>("model_type", "a text")?.as_deref() {
        Some(MODEL_TYPE) => Ok(false),
        Some(OWN_MODEL_TYPE) => Ok(true),
        Some(other) => {
            Err(keys.error(format!("\"model_type\" is {}; only {MODEL_TYPE:?} is supported", quoted(other))))
        }
        None => Err(keys.error(format!("\"model_type\" is missing; it must be {MODEL_TYPE:?}"))),
    }
}

fn refuse_unsupported(keys: &mut Keys) -> Result<()> {
    keys.must_be("attention_bias", false)?;
    keys.must_be("mlp_bias", false)?;
    keys.must_be("hidden_act", "silu".to_owned())?;
    match keys.map.remove("quantization_config") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(keys.error("the weights are quantised; export them as float32, float16 or bfloat16".to_owned())),
    }
}

fn read_shapes(keys: &mut Keys) -> Result<ModelConfig> {
    for (key, none) in [("q_lora_rank", "a full query projection"), ("n_shared_experts", "none")] {
        if !keys.map.contains_key(key) {
            return Err(keys.error(format!("{key:?} is missing; it must be a whole number, or null for {none}")));
        }
    }
    let vocab_size = keys.size("vocab_size")?;
    Ok(ModelConfig {
        vocab_size,
        hidden_size: keys.size("hidden_size")?,
        num_hidden_layers: keys.size("num_hidden_layers")?,
        num_attention_heads: keys.size("num_attention_heads")?,
        q_lora_rank: keys.optional("q_lora_rank", "a whole number or null")?,
        kv_lora_rank: keys.size("kv_lora_rank")?,
        qk_nope_head_dim: keys.size("qk_nope_head_dim")?,
        qk_rope_head_dim: keys.size("qk_rope_head_dim")?,
        v_head_dim: keys.size("v_head_dim")?,
        intermediate_size: keys.size("intermediate_size")?,
        moe_intermediate_size: keys.size("moe_intermediate_size")?,
        n_routed_experts: keys.size("n_routed_experts")?,
        n_shared_experts: keys.size_or("n_shared_experts", 0)?,
        num_experts_per_tok: keys.size("num_experts_per_tok")?,
        first_k_dense_replace: keys.size_or("first_k_dense_replace", 0)?,
        moe_layer_freq: keys.size_or("moe_layer_freq", 1)?,
        tie_word_embeddings: keys.flag_or("tie_word_embeddings", false)?,
        bos_token_id: keys.token("bos_token_id", vocab_size)?,
        eos_token_id: keys.token("eos_token_id", vocab_size)?.unwrap_or(2),
        ..ModelConfig::default()
    })
}

fn read_options(keys: &mut Keys, own: bool, c: &mut ModelConfig) -> Result<()> {
    let method = keys.optional("topk_method", "\"greedy\", \"group_limited_greedy\" or \"noaux_tc\"")?;
    c.topk_method = method.unwrap_or(TopkMethod::Greedy);
    c.n_group = keys.size_or("n_group", 1)?;
    c.topk_group = keys.size_or("topk_group", 1)?;
    c.norm_topk_prob = keys.flag_or("norm_topk_prob", false)?;
    c.router_weights = RouterWeights::Hf;
    c.routed_scaling_factor = keys.number_or("routed_scaling_factor", 1.0)?;
    // Transformers has no balance loss; these two are the defaults of the original code.
    c.aux_loss_alpha = keys.number_or("aux_loss_alpha", 0.001)?;
    c.seq_aux = keys.flag_or("seq_aux", true)?;
    c.rms_norm_eps = keys.number_or("rms_norm_eps", 1e-6)?;
    c.max_position_embeddings = keys.size_or("max_position_embeddings", 2048)?;
    (c.rope_theta, c.rope_scaling) = read_rope(keys, own, c.max_position_embeddings)?;
    c.initializer_range = keys.number_or("initializer_range", 0.02)?;
    c.attention_dropout = keys.number_or("attention_dropout", 0.0)?;
    Ok(())
}

/// What only this program's own type has.
fn read_own_options(keys: &mut Keys, c: &mut ModelConfig) -> Result<()> {
    c.router_weights = keys.optional("router_weights", "a way to weigh experts")?.unwrap_or_default();
    c.scoring_func = keys.optional("scoring_func", "\"softmax\" or \"sigmoid\"")?.unwrap_or_default();
    c.bias_update_speed = keys.number_or("bias_update_speed", c.bias_update_speed)?;
    c.embed_dropout = keys.number_or("embed_dropout", 0.0)?;
    c.resid_dropout = keys.number_or("resid_dropout", 0.0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A folder as DeepSeek publishes it, with `changes` on top; null removes nothing, it is written.
    fn read(changes: Value) -> Result<(ModelConfig, Vec<String>)> {
        let mut map = json!({
            "model_type": "deepseek_v2", "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "q_lora_rank": null, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 48, "moe_intermediate_size": 16,
            "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
            "rope_theta": 5000, "rope_scaling": null, "torch_dtype": "bfloat16", "n_group": null, "ep_size": 1,
        });
        let (Value::Object(map), Value::Object(changes)) = (&mut map, changes) else { panic!("objects") };
        map.extend(changes);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), serde_json::to_string(map).unwrap()).unwrap();
        read_config(dir.path())
    }

    fn refusal(changes: Value) -> String {
        let error = read(changes).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn old_and_new_key_styles_say_the_same() {
        let (old, warnings) = read(json!({})).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((old.rope_theta, old.q_lora_rank, old.n_group), (5000.0, None, 1));
        assert_eq!((old.bos_token_id, old.eos_token_id), (None, 2));
        let rope = json!({"rope_theta": 5000.0, "rope_type": "default"});
        let (new, warnings) = read(json!({"rope_theta": null, "rope_parameters": rope, "dtype": "float32"})).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(new, old);
    }

    #[test]
    fn unknown_keys_warn_and_do_not_stop() {
        let (_, warnings) =
            read(json!({"sliding_window": 4, "rope_scaling": {"type": "default", "factr": 2}})).unwrap();
        assert_eq!(warnings.len(), 2);
        assert!(warnings.iter().any(|w| w.contains("sliding_window")) && warnings.iter().any(|w| w.contains("factr")));
        let (c, warnings) = read(json!({"eos_token_id": [7, 9], "bos_token_id": 61})).unwrap();
        assert_eq!((c.eos_token_id, warnings.len()), (7, 1), "{warnings:?}");
    }

    #[test]
    fn what_is_not_supported_is_refused_in_words() {
        for (changes, word) in [
            (json!({"model_type": "llama"}), "llama"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"mlp_bias": true}), "mlp_bias"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"scoring_func": "sigmoid"}), "sigmoid"),
            (json!({"num_key_value_heads": 1}), "num_key_value_heads"),
            (json!({"quantization_config": {}}), "quantised"),
            (json!({"topk_method": "noaux_tc"}), "topk_method"),
            (json!({"hidden_size": -32}), "hidden_size"),
            (json!({"hidden_size": "32"}), "hidden_size"),
            (json!({"hidden_size": null}), "hidden_size"),
            (json!({"vocab_size": 1.5}), "vocab_size"),
            (json!({"num_experts_per_tok": 5}), "num_experts_per_tok"),
            (json!({"router_weights": "seed", "model_type": "x"}), "model_type"),
        ] {
            let message = refusal(changes);
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let message = refusal(json!({"model_type": "\u{1b}[2Jx"}));
        assert!(!message.contains('\u{1b}'), "{message:?}");
        let (_, warnings) = read(json!({"\u{1b}[2J": 1})).unwrap();
        assert!(!warnings[0].contains('\u{1b}'), "{warnings:?}");
    }

    #[test]
    fn normalised_gates_are_read_as_transformers_reads_them() {
        let (c, _) = read(json!({"norm_topk_prob": true})).unwrap();
        assert_eq!((c.norm_topk_prob, c.router_weights), (true, RouterWeights::Hf));
    }
}
