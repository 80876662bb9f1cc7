//! A model that says fixed words: after the last of them, or after any other token, it begins anew.

use hadal::checkpoint::weights::write_weights;
use hadal::config::hf::{StoredType, write_own_config};
use hadal::config::model::ModelConfig;
use hadal::model::params::parameters;
use hadal::tokenizer::Tokenizer;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Width of the network: two random directions of so many signs are far apart.
const WIDTH: usize = 128;

/// Writes the folder `at`: a model of `tokenizer` that says the tokens of these names, and what `config` adds to
/// `config.json`.
pub fn says(at: &Path, tokenizer: &Tokenizer, words: &[u32], config: &Value) {
    let model = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        hidden_size: WIDTH,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        intermediate_size: 8,
        first_k_dense_replace: 1,
        max_position_embeddings: 64,
        bos_token_id: Some(tokenizer.eos()),
        eos_token_id: tokenizer.eos(),
        ..ModelConfig::default()
    };
    fs::create_dir_all(at).unwrap();
    write_own_config(at, &model, StoredType::F32).unwrap();
    tokenizer.write_hf(at, 64, tokenizer.eos()).unwrap();
    fs::remove_file(at.join("generation_config.json")).unwrap();
    add(&at.join("config.json"), config);
    let sign = |row: usize, column: usize| {
        let random = hadal::data::shuffle::mix((row * WIDTH + column) as u64);
        if random & 1 == 0 { 1.0f32 } else { -1.0 }
    };
    let rows = tokenizer.vocab_size();
    // A token that is said has a direction of its own, all others share one; the head knows what follows each.
    let direction = |token: usize| if words.contains(&(token as u32)) { token } else { rows };
    let after = |token: u32| words.iter().position(|&word| word == token).map(|at| words[(at + 1) % words.len()]);
    let weight = |name: &str, i: usize| {
        let (row, column) = (i / WIDTH, i % WIDTH);
        match name {
            "model.embed_tokens.weight" => sign(direction(row), column),
            "lm_head.weight" => {
                let before = words.iter().filter(|&&word| after(word) == Some(row as u32));
                let begins = (words[0] == row as u32).then_some(rows);
                before.map(|&word| word as usize).chain(begins).map(|row| 3.0 * sign(row, column)).sum()
            }
            name if name.contains("norm") => 1.0,
            _ => 0.0,
        }
    };
    let file = at.join("model.safetensors");
    write_weights(&file, &parameters(&model), StoredType::F32, |spec, values| {
        values.extend((0..spec.elements()).map(|i| weight(&spec.name, i)));
        Ok(())
    })
    .unwrap();
}

/// Sets keys of a JSON file, which need not be there.
pub fn add(path: &Path, keys: &Value) {
    let text = fs::read_to_string(path).unwrap_or("{}".to_owned());
    let mut all: Value = serde_json::from_str(&text).unwrap();
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    fs::write(path, all.to_string()).unwrap();
}

/// One token a byte, and special tokens of these names after `<|endoftext|>`, 256.
pub fn bytes(special: &[&str]) -> Tokenizer {
    Tokenizer::load("byte").unwrap().with_special(special).unwrap()
}
