//! Reads a `tokenizer.json` that may be broken or hostile.
//!
//! The `tokenizers` crate trusts its input: several crafted files make it panic. So the JSON is checked first, part by
//! part against a list of what is understood, and building and encoding run where a panic becomes an error.

use super::begin::Begin;
use super::component;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::input::{self, one_line, quoted};
use crate::quiet::quietly;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Largest file read, in bytes: several times the largest published byte-pair vocabulary.
const MAX_BYTES: u64 = 64 << 20;
/// Largest id, exclusive, and so the largest vocabulary.
const MAX_VOCAB: u64 = 1 << 20;
/// Longest token, in bytes.
const MAX_TOKEN: usize = 1024;
/// Bytes of all added tokens together: what finds them in text costs memory by the byte.
const MAX_ADDED: usize = 1 << 20;

/// Tokens known to end a text, the first found in a vocabulary wins where no `tokenizer_config.json` names one.
const END_TOKENS: [&str; 8] = [
    "<|endoftext|>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|eos|>",
    "[EOS]",
];

/// A checked and built tokenizer file.
pub struct Loaded {
    /// The built tokenizer: special tokens in text are plain text, nothing is padded, cut or added.
    pub tokenizer: tokenizers::Tokenizer,
    /// Where that marks the beginning of a text, the same without, for what follows a cut.
    pub middle: Option<tokenizers::Tokenizer>,
    /// The file as it should be written beside a model.
    pub json: String,
    /// Whether tokens are written in the alphabet of [`super::bytes`].
    pub byte_level: bool,
    /// Every token by id: its text as it stands in the file, and whether it is an added token and a special one.
    pub tokens: Vec<Option<Entry>>,
    /// The id that ends a text.
    pub eos: u32,
    /// What a text begins with.
    pub begin: Begin,
    /// What stands beside the file.
    pub settings: Settings,
}

/// One token of a file.
#[derive(Clone)]
pub struct Entry {
    /// The token as it stands in the file.
    pub text: String,
    /// Listed under `added_tokens`, where text is not written in the byte alphabet.
    pub added: bool,
    /// Marked special: never made from text.
    pub special: bool,
}

/// Reads, checks and builds the file at `path`; what stands beside it may name the end token and others.
pub fn load(path: &Path) -> Result<Loaded> {
    let json = input::read_text(path, MAX_BYTES)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse(&json, Settings::beside(folder)?).map_err(|reason: String| Error::file(path, reason))
}

/// Checks and builds a tokenizer from the text of its file and of what stands beside it.
pub fn parse(json: &str, settings: Settings) -> std::result::Result<Loaded, String> {
    let mut object = input::json_object(json.as_bytes())?;
    let tokens = check(&object)?;
    // Sequences are cut and framed by this program, never by the file.
    for key in ["truncation", "padding"] {
        object.insert(key.into(), Value::Null);
    }
    let framing = object.insert("post_processor".into(), Value::Null).unwrap_or_default();
    let byte_level = object.get("decoder").is_some_and(mentions_byte_level);
    let mut parts = component::translated(&object)?;
    let tokenizer = build(&object, &parts)?;
    let middle = component::unmarked(&mut parts).then(|| build(&object, &parts)).transpose()?;
    for (id, entry) in tokens.iter().enumerate() {
        if let Some(entry) = entry.as_ref().filter(|e| e.added)
            && tokenizer.token_to_id(&entry.text) != Some(id as u32)
        {
            return Err(format!(
                "added token {} cannot have the id {id}; number them on from the vocabulary",
                quoted(&entry.text)
            ));
        }
    }
    let find = |name: &str| tokens.iter().position(|t| t.as_ref().is_some_and(|t| t.text == name));
    let eos = match settings.named("eos_token") {
        Some(name) => find(name)
            .ok_or_else(|| format!("lacks {}, which tokenizer_config.json names as eos_token", quoted(name)))?,
        None => END_TOKENS.iter().find_map(|name| find(name)).ok_or(format!(
            "has no known end-of-text token (such as {:?}); name one as eos_token in tokenizer_config.json",
            END_TOKENS[0]
        ))?,
    };
    let eos = eos as u32;
    let begin = Begin::of(&framing, &settings, &tokens, eos)?;
    object.insert("post_processor".into(), begin.written(framing, &tokens));
    let json = Value::Object(object).to_string();
    Ok(Loaded { tokenizer, middle, json, byte_level, tokens, eos, begin, settings })
}

/// The tokenizer of a file with `parts` in the place of its own. Nothing is copied but as text: a vocabulary is large.
fn build(file: &Map<String, Value>, parts: &Map<String, Value>) -> std::result::Result<tokenizers::Tokenizer, String> {
    let mut whole: BTreeMap<&String, &Value> = file.iter().collect();
    whole.extend(parts);
    let text = serde_json::to_string(&whole).map_err(|e| e.to_string())?;
    let mut tokenizer = quietly(|| tokenizers::Tokenizer::from_bytes(text))
        .map_err(|panic| format!("cannot be built: {}", one_line(&panic)))?
        .map_err(|e| format!("cannot be built: {}", one_line(&e)))?;
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

/// Checks every part of the file and lists its tokens by id.
fn check(root: &Map<String, Value>) -> std::result::Result<Vec<Option<Entry>>, String> {
    let model = root.get("model").and_then(Value::as_object).ok_or("has no model object")?;
    match model.get("type").and_then(Value::as_str) {
        Some("BPE") => {}
        None if model.contains_key("merges") => {}
        other => return Err(format!("model.type is {}; only BPE is supported", quoted(other.unwrap_or("absent")))),
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if !matches!(model.get(key), None | Some(Value::Null)) && model.get(key).and_then(Value::as_str) != Some("") {
            return Err(format!("model.{key} is not supported; it must be null"));
        }
    }
    if model.get("dropout").and_then(Value::as_f64).unwrap_or(0.0) != 0.0 {
        return Err("model.dropout must be null or 0: encoding would be random".into());
    }
    let vocab = check_vocab(model)?;
    check_merges(model, &vocab)?;
    if let Some(unknown) = model.get("unk_token").and_then(Value::as_str)
        && !vocab.contains_key(unknown)
    {
        return Err(format!("model.unk_token {} is not in the vocabulary", quoted(unknown)));
    }
    let size = vocab.values().max().map_or(0, |&id| id as usize + 1);
    let mut tokens = vec![None; size];
    for (text, id) in &vocab {
        tokens[*id as usize] = Some(Entry { text: (*text).into(), added: false, special: false });
    }
    check_added(root.get("added_tokens"), &vocab, &mut tokens)?;
    Ok(tokens)
}

/// The vocabulary: texts to ids, all distinct and in range.
fn check_vocab(model: &Map<String, Value>) -> std::result::Result<HashMap<&str, u32>, String> {
    let vocab = model.get("vocab").and_then(Value::as_object).ok_or("model.vocab is not an object")?;
    if vocab.is_empty() {
        return Err("model.vocab is empty".into());
    }
    let mut taken = std::collections::HashSet::new();
    let mut out = HashMap::with_capacity(vocab.len());
    for (text, id) in vocab {
        if text.is_empty() || text.len() > MAX_TOKEN {
            return Err(format!("model.vocab has a token of {} bytes; 1 to {MAX_TOKEN} are allowed", text.len()));
        }
        let id = id.as_u64().filter(|&id| id < MAX_VOCAB);
        let id = id.ok_or_else(|| format!("model.vocab gives {} no id below {MAX_VOCAB}", quoted(text)))?;
        if !taken.insert(id) {
            return Err(format!("model.vocab gives the id {id} twice"));
        }
        out.insert(text.as_str(), id as u32);
    }
    Ok(out)
}

/// The merges: pairs of tokens whose concatenation is a token.
fn check_merges(model: &Map<String, Value>, vocab: &HashMap<&str, u32>) -> std::result::Result<(), String> {
    let merges = model.get("merges").and_then(Value::as_array).ok_or("model.merges is not an array")?;
    for (i, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(line) => line.split_once(' '),
            Value::Array(pair) if pair.len() == 2 => pair[0].as_str().zip(pair[1].as_str()),
            _ => None,
        };
        let (left, right) = pair.ok_or_else(|| format!("model.merges[{i}] is not a pair of tokens"))?;
        for token in [left, right, &format!("{left}{right}")] {
            if !vocab.contains_key(token) {
                return Err(format!(
                    "model.merges[{i}] needs the token {}, which is not in the vocabulary",
                    quoted(token)
                ));
            }
        }
    }
    Ok(())
}

/// The added tokens: in range, each id and text once, in agreement with the vocabulary.
fn check_added(
    added: Option<&Value>,
    vocab: &HashMap<&str, u32>,
    tokens: &mut Vec<Option<Entry>>,
) -> std::result::Result<(), String> {
    let list = match added {
        None | Some(Value::Null) => return Ok(()),
        Some(list) => list.as_array().ok_or("added_tokens is not an array")?,
    };
    let mut bytes = 0;
    for (i, token) in list.iter().enumerate() {
        let text = token.get("content").and_then(Value::as_str).unwrap_or_default();
        let id = token.get("id").and_then(Value::as_u64).unwrap_or(MAX_VOCAB) as usize;
        if text.is_empty() || text.len() > MAX_TOKEN || id as u64 >= MAX_VOCAB {
            return Err(format!(
                "added_tokens[{i}] needs a content of 1 to {MAX_TOKEN} bytes and an id below {MAX_VOCAB}"
            ));
        }
        bytes += text.len();
        if bytes > MAX_ADDED {
            return Err(format!("added_tokens have more than {MAX_ADDED} bytes together"));
        }
        let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
        let clash = vocab.get(text).is_some_and(|&known| known as usize != id)
            || tokens.get(id).is_some_and(|t| t.as_ref().is_some_and(|t| t.added || t.text != text));
        if clash {
            return Err(format!("added_tokens[{i}] ({}, id {id}) contradicts the vocabulary", quoted(text)));
        }
        if id >= tokens.len() {
            tokens.resize(id + 1, None);
        }
        tokens[id] = Some(Entry { text: text.into(), added: true, special });
    }
    Ok(())
}

/// Whether `decoder` is, or contains, the byte-level decoder.
fn mentions_byte_level(decoder: &Value) -> bool {
    decoder.get("type").and_then(Value::as_str) == Some("ByteLevel")
        || decoder.get("decoders").and_then(Value::as_array).is_some_and(|parts| parts.iter().any(mentions_byte_level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A small sound file.
    fn sound() -> Value {
        json!({
            "version": "1.0", "added_tokens": [{"id": 3, "content": "</s>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        })
    }

    #[test]
    fn a_sound_file_is_read_and_its_special_token_is_not_made_from_text() {
        let loaded = parse(&sound().to_string(), Settings::default()).unwrap();
        assert_eq!((loaded.eos, loaded.tokens.len(), loaded.byte_level), (3, 4, true));
        assert_eq!(loaded.tokenizer.encode("abba</s>", false).unwrap().get_ids(), [2, 1, 0]);
        assert_eq!(parse(&sound().to_string(), Settings::of(&[("eos_token", "ab")])).unwrap().eos, 2);
    }

    #[test]
    fn every_broken_part_is_refused_by_name() {
        let isolated = |text: Value| json!({"type": "Split", "pattern": text, "behavior": "Isolated", "invert": false});
        let split = |regex: &str| isolated(json!({"Regex": regex}));
        let cases: [(&str, Value, &str); 23] = [
            ("/model", json!(5), "no model"),
            ("/model/type", json!("Unigram"), "only BPE"),
            ("/model/vocab", json!({}), "empty"),
            ("/model/vocab", json!([1]), "not an object"),
            ("/model/vocab/ab", json!(1), "twice"),
            ("/model/vocab/ab", json!(-1), "no id"),
            ("/model/vocab/ab", json!(1u64 << 40), "no id"),
            ("/model/merges", json!(null), "not an array"),
            ("/model/merges/0", json!("b a"), "\"ba\""),
            ("/model/merges/0", json!(["a"]), "not a pair"),
            ("/model/merges/0", json!(["a", "c"]), "\"c\""),
            ("/model/merges/0", json!("ab"), "not a pair"),
            ("/model/merges/0", json!(" ab"), "\"\""),
            ("/added_tokens/0/id", json!(2), "contradicts"),
            ("/added_tokens/0/id", json!(9), "cannot have the id"),
            ("/added_tokens/0/id", json!(1u64 << 33), "id below"),
            ("/added_tokens/0/content", json!(""), "1 to"),
            ("/added_tokens/0/content", json!("words"), "no known end-of-text"),
            ("/decoder/type", json!("Exec"), "decoder.type \"Exec\""),
            ("/decoder", json!({"type": "Strip", "content": " ", "start": 0, "stop": 9}), "stop 0"),
            ("/pre_tokenizer", json!({"type": "Split", "pattern": {"Regex": "(".repeat(9000)}}), "expression"),
            ("/pre_tokenizer", split("("), "expression"),
            ("/pre_tokenizer", split("(?:a{1000}){1000}"), "built"),
        ];
        for (at, value, reason) in cases {
            let mut root = sound();
            *root.pointer_mut(at).unwrap() = value.clone();
            let error = parse(&root.to_string(), Settings::default()).err().unwrap_or_default();
            assert!(error.contains(reason), "{at} {value}: {error:?}");
        }
        for (key, value) in
            [("dropout", json!(0.5)), ("continuing_subword_prefix", json!("##")), ("unk_token", json!("?"))]
        {
            let mut root = sound();
            root["model"][key] = value;
            assert!(parse(&root.to_string(), Settings::default()).err().unwrap_or_default().contains(key));
        }
        for broken in ["[", "[]", &"[".repeat(9000)] {
            assert!(parse(broken, Settings::default()).is_err());
        }
        assert!(
            parse(&sound().to_string(), Settings::of(&[("eos_token", "<gone>")]))
                .err()
                .unwrap()
                .contains("tokenizer_config.json")
        );
    }

    #[test]
    fn no_single_changed_byte_of_a_file_panics() {
        let text = sound().to_string();
        for at in 0..text.len() {
            for byte in [b'0', b'"', b'}', b'-', b' '] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = byte;
                let changed = String::from_utf8(bytes).unwrap();
                if let Ok(loaded) = parse(&changed, Settings::default()) {
                    let ids = loaded.tokenizer.encode("abba ab</s>", false).unwrap();
                    loaded.tokenizer.decode(ids.get_ids(), false).unwrap();
                }
            }
        }
    }
}
