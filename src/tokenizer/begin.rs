//! Which tokens a text begins with.
//!
//! The `post_processor` of a `tokenizer.json` decides, as in transformers 5, where it is of a kind that places tokens:
//! a template, or BERT's or RoBERTa's. Where it is not, `add_bos_token` of `tokenizer_config.json` does (which
//! transformers 4 and llama.cpp obey, and transformers 5 does not); without it a text begins with the BOS token.

use super::file::Entry;
use super::settings::Settings;
use crate::input::quoted;
use serde_json::{Map, Value, json};

/// More tokens than any tokenizer puts before a text.
const MOST: usize = 16;

/// What tells where texts begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// The tokens before a text.
    pub ids: Vec<u32>,
    /// The BOS token.
    pub bos: Option<u32>,
}

impl Begin {
    /// What a file with this `post_processor` says, beside `settings` and the token `eos`, which ends a text.
    ///
    /// # Errors
    /// If the post-processor is of no known kind, or places tokens that are not in the vocabulary.
    pub fn of(
        post_processor: &Value,
        settings: &Settings,
        tokens: &[Option<Entry>],
        eos: u32,
    ) -> Result<Begin, String> {
        let find = |name: &str| tokens.iter().position(|t| t.as_ref().is_some_and(|t| t.text == name));
        // A name that the vocabulary lacks names nothing.
        let named = settings.named("bos_token").and_then(find).map(|id| id as u32);
        let of_model = settings.bos_of_model.filter(|&id| is_special(tokens, id));
        // Beside a vocabulary alone stands nothing: a text begins where another one ends.
        let bos = named.or(of_model).or((!settings.given).then_some(eos));
        let ids = match placed(post_processor, tokens)? {
            Some(ids) => ids,
            None if settings.flag("add_bos_token") == Some(false) => Vec::new(),
            None => bos.into_iter().collect(),
        };
        Ok(Begin { ids, bos })
    }

    /// The post-processor to write: `given`, the file's own, where it says the same of a text that is to be continued.
    pub fn written(&self, given: Value, tokens: &[Option<Entry>]) -> Value {
        let same = matches!(placed(&given, tokens), Ok(Some(ids)) if ids == self.ids);
        if same && !closes(&given) {
            return given;
        }
        let name = |id: u32| tokens.get(id as usize).and_then(|t| Some(t.as_ref()?.text.clone())).unwrap_or_default();
        post_processor(&self.ids.iter().map(|&id| (name(id), id)).collect::<Vec<_>>())
    }

    /// Vocabularies that come with the program: a text begins where another one ends.
    pub fn with(eos: u32) -> Begin {
        Begin { ids: vec![eos], bos: Some(eos) }
    }
}

fn is_special(tokens: &[Option<Entry>], id: u32) -> bool {
    tokens.get(id as usize).is_some_and(|token| token.as_ref().is_some_and(|token| token.special))
}

/// The tokens that a post-processor puts before a text; none if it is of a kind that places no tokens.
fn placed(processor: &Value, tokens: &[Option<Entry>]) -> Result<Option<Vec<u32>>, String> {
    let ids = match processor.get("type").and_then(Value::as_str) {
        None if processor.is_null() => return Ok(None),
        Some("ByteLevel") => return Ok(None),
        Some("TemplateProcessing") => template(processor)?,
        Some("BertProcessing" | "RobertaProcessing") => {
            let id = processor.pointer("/cls/1").and_then(Value::as_u64);
            vec![id.ok_or("post_processor.cls is not a token and its id")?]
        }
        Some("Sequence") => {
            let list = processor.get("processors").and_then(Value::as_array);
            let mut placing = None;
            for inner in list.ok_or("post_processor.processors is not a list")? {
                if inner.get("type").and_then(Value::as_str) == Some("Sequence") {
                    return Err("post_processor: a Sequence inside of a Sequence is not supported".into());
                }
                let ids = placed(inner, tokens)?;
                if ids.is_some() && std::mem::replace(&mut placing, ids).is_some() {
                    return Err("post_processor: one part of a Sequence may place tokens, not several".into());
                }
            }
            return Ok(placing);
        }
        other => return Err(format!("post_processor.type {} is not supported", quoted(other.unwrap_or("absent")))),
    };
    if ids.len() > MOST {
        return Err(format!("post_processor puts more than {MOST} tokens before a text"));
    }
    let known = |id: u64| u32::try_from(id).ok().filter(|&id| matches!(tokens.get(id as usize), Some(Some(_))));
    let id = |id: u64| known(id).ok_or(format!("post_processor places the token {id}, which is not in the vocabulary"));
    ids.into_iter().map(id).collect::<Result<_, _>>().map(Some)
}

/// The ids before the text in a template for a single text.
fn template(processor: &Value) -> Result<Vec<u64>, String> {
    let pieces = processor.get("single").and_then(Value::as_array).ok_or("post_processor.single is not a list")?;
    let mut out = Vec::new();
    for piece in pieces.iter().take_while(|piece| piece.get("Sequence").is_none()).take(MOST + 1) {
        let name = piece.pointer("/SpecialToken/id").and_then(Value::as_str);
        let ids = name.and_then(|name| processor.get("special_tokens")?.get(name)?.get("ids")?.as_array());
        let ids = ids.ok_or("post_processor.single has a token that post_processor.special_tokens does not give")?;
        out.extend(ids.iter().take(MOST + 1).filter_map(Value::as_u64));
    }
    Ok(out)
}

/// Whether a post-processor puts something behind a text, which a text that is to be continued must not have.
fn closes(processor: &Value) -> bool {
    match processor.get("type").and_then(Value::as_str) {
        Some("BertProcessing" | "RobertaProcessing") => true,
        Some("TemplateProcessing") => {
            let pieces = processor.get("single").and_then(Value::as_array);
            pieces.and_then(|pieces| pieces.last()).is_some_and(|piece| piece.get("Sequence").is_none())
        }
        Some("Sequence") => processor.get("processors").and_then(Value::as_array).into_iter().flatten().any(closes),
        _ => false,
    }
}

/// The post-processor that puts these tokens, by name and id, before each text.
pub fn post_processor(tokens: &[(String, u32)]) -> Value {
    let special = |(name, _): &(String, u32), part: u8| json!({"SpecialToken": {"id": name, "type_id": part}});
    let text = |name: &str, part: u8| json!({"Sequence": {"id": name, "type_id": part}});
    let framed = |name: &str, part: u8| -> Vec<Value> {
        tokens.iter().map(|token| special(token, part)).chain([text(name, part)]).collect()
    };
    let entry = |(name, id): &(String, u32)| (name.clone(), json!({"id": name, "ids": [id], "tokens": [name]}));
    let special_tokens: Map<String, Value> = tokens.iter().map(entry).collect();
    let pair = [framed("A", 0), framed("B", 1)].concat();
    json!({
        "type": "TemplateProcessing", "single": framed("A", 0), "pair": pair, "special_tokens": special_tokens,
    })
}
