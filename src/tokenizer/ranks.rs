//! OpenAI's vocabularies (bytes in the order of their ranks) written as a `tokenizer.json` (vocabulary and merges).

use super::bytes;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Cuts text before merging, for GPT-2: its published expression, known to `tokenizers` as the byte-level default.
pub const GPT2_PATTERN: Option<&str> = None;
/// Cuts text before merging, for cl100k: its published expression.
pub const CL100K_PATTERN: Option<&str> = Some(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
));

/// A byte-level `tokenizer.json` of `tokens` by id, which is their rank, the special tokens `special`, the expression
/// `pattern` and the `post_processor`.
pub fn tokenizer_json(
    tokens: &[(u32, &[u8])],
    special: &[(String, u32)],
    pattern: Option<&str>,
    post_processor: Value,
) -> Value {
    let ranks: HashMap<&[u8], u32> = tokens.iter().map(|&(id, token)| (token, id)).collect();
    let mut vocab = serde_json::Map::new();
    let mut merges = Vec::new();
    for &(id, token) in tokens {
        vocab.insert(bytes::to_text(token), json!(id));
        if token.len() > 1
            && let Some((left, right)) = parents(token, id, &ranks)
        {
            merges.push(json!([bytes::to_text(left), bytes::to_text(right)]));
        }
    }
    // Special tokens stand in the vocabulary too: readers number added tokens themselves, without gaps, otherwise.
    for (content, id) in special {
        vocab.insert(content.clone(), json!(id));
    }
    let added: Vec<Value> = special.iter().map(|(content, id)| added_token(content, *id)).collect();
    let byte_level =
        |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let pre_tokenizer = match pattern {
        None => byte_level(true),
        Some(pattern) => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]}),
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    })
}

/// A special token as `tokenizer.json` lists it.
pub fn added_token(content: &str, id: u32) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
}

/// The two tokens that merge into `token`, whose rank is `rank`.
///
/// Merging the token's own bytes, lowest rank first and only below its rank, must stop at two parts: the last merge
/// of a byte-pair encoder is the one that made the token. None if it stops earlier, for a token no merge can reach.
fn parents<'t>(token: &'t [u8], rank: u32, ranks: &HashMap<&[u8], u32>) -> Option<(&'t [u8], &'t [u8])> {
    let mut ends: Vec<usize> = (1..=token.len()).collect();
    loop {
        let start = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
        let best = (0..ends.len() - 1)
            .filter_map(|i| ranks.get(&token[start(i)..ends[i + 1]]).filter(|&&r| r < rank).map(|&r| (r, i)))
            .min();
        match best {
            Some((_, i)) => drop(ends.remove(i)),
            None => break,
        }
    }
    (ends.len() == 2).then(|| token.split_at(ends[0]))
}
