//! Text in which names of special tokens are special tokens, but for the parts that others wrote.
//!
//! The text is encoded as a whole, as transformers encodes it: pairs merge over every border that is no special token,
//! and what such a token strips of its surroundings is stripped. A special token is looked for in a copy of the text
//! in which the names that others wrote are blanked out, so that they stay plain text and hide none that stands
//! beside them.

use super::{Engine, Tokenizer};
use crate::error::{Error, Result};
use crate::quiet::quietly;
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{AddedVocabulary, Model, OffsetReferential, OffsetType, PreTokenizer, PreTokenizerWrapper};

/// Times that names are looked for and blanked out before all of what others wrote is.
const ROUNDS: usize = 8;

/// A token, and where in the text stands what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The token.
    pub id: u32,
    /// Bytes of the text.
    pub bytes: Range<usize>,
}

/// An encoder of text with special tokens in it.
pub struct Marked {
    tokenizer: Tokenizer,
    /// Finds names of special tokens, the longest of those that begin at one place; none if there are no such tokens.
    names: Option<Regex>,
    ids: HashMap<String, u32>,
    /// The added tokens of a file, the special ones included.
    added: Option<AddedVocabulary>,
    /// Those of them that are marks though the file does not call them special.
    marks: HashSet<u32>,
    /// Whether the file marks the beginning of a text alone, and not what follows a special token.
    marks_first: bool,
}

/// What is found in a text.
#[derive(Default)]
struct Found {
    /// The marks that the text itself has.
    marks: Vec<Placed>,
    /// Whether others have written names of such.
    forged: bool,
    /// Places inside of such names that a file would read as tokens wherever they stand.
    apart: Vec<usize>,
}

impl Marked {
    /// An encoder whose marks are all special tokens of `tokenizer`, and what other added tokens `template` names:
    /// files such as DeepSeek-V3's do not call the marks of turns special.
    ///
    /// # Errors
    /// If their names are too many to be looked for.
    pub fn new(tokenizer: Tokenizer, template: &str) -> Result<Marked> {
        let ids: HashMap<String, u32> = tokenizer.special_tokens().into_iter().collect();
        let mut names: Vec<&String> = ids.keys().collect();
        names.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        let names = names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|");
        let regex = || Regex::new(&names).map_err(|e| Error::file(tokenizer.name(), crate::input::one_line(&e)));
        let names = if names.is_empty() { None } else { Some(regex()?) };
        let added = match &*tokenizer.engine {
            Engine::File { tokenizer, .. } => {
                let mut added = tokenizer.get_added_vocabulary().clone();
                added.set_encode_special_tokens(false);
                Some(added)
            }
            _ => None,
        };
        let others = added.iter().flat_map(|added| added.get_added_tokens_decoder());
        let named = |name: &str| name.trim().len() > 2 && template.contains(name);
        let marks = others.filter(|(_, token)| named(&token.content)).map(|(&id, _)| id).collect();
        let marks_first = match &*tokenizer.engine {
            Engine::File { tokenizer, .. } => tokenizer.get_pre_tokenizer().is_some_and(marks_first),
            _ => false,
        };
        Ok(Marked { tokenizer, names, ids, added, marks, marks_first })
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether `id` may end an answer: a special token, or the EOS token, which not every file calls special.
    pub fn is_end(&self, id: u32) -> bool {
        self.is_special(id) || id == self.tokenizer.eos()
    }

    /// Whether `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer.tokens.get(id as usize).is_some_and(|token| token.special)
    }

    /// The tokens of `text`, of which others wrote the parts `plain`, which ascend: no name of a special token is one
    /// there.
    pub fn encode(&self, text: &str, plain: &[Range<usize>]) -> Vec<Placed> {
        let found = self.search(text, plain);
        if let (false, Some(added)) = (found.forged, &self.added)
            && let Some(placed) = self.whole(added, text, true)
        {
            return placed;
        }
        let (mut placed, mut at) = (Vec::new(), 0);
        let end = Placed { id: 0, bytes: text.len()..text.len() };
        let mut apart = found.apart.into_iter().peekable();
        for one in found.marks.into_iter().chain([end]) {
            while let Some(place) = apart.next_if(|&place| place < one.bytes.start) {
                self.between(text, at..place.max(at), &mut placed);
                at = place.max(at);
            }
            self.between(text, at..one.bytes.start, &mut placed);
            at = one.bytes.end;
            placed.extend((!one.bytes.is_empty()).then_some(one));
        }
        placed
    }

    /// The marks in `text`, and names of such in `plain`.
    fn search(&self, text: &str, plain: &[Range<usize>]) -> Found {
        let mut masked = text.to_owned();
        let mut apart = Vec::new();
        for round in 0.. {
            let mut found = self.find(&masked);
            let mut forged = Vec::new();
            for Placed { id, bytes } in &found {
                // What a token strips beside its name is not forged.
                let name = &masked[bytes.clone()];
                let start = bytes.start + name.len() - name.trim_start().len();
                let name = start..start + name.trim().len();
                let own = plain[plain.partition_point(|own| own.end <= name.start)..].iter();
                let before = forged.len();
                let own = own.take_while(|own| own.start < name.end).filter(|own| !own.is_empty());
                forged.extend(own.map(|own| own.start.max(name.start)..own.end.min(name.end)));
                if forged.len() > before && !self.is_special(*id) {
                    apart.push(text.ceil_char_boundary(name.start + 1));
                }
            }
            if forged.is_empty() || round > ROUNDS {
                found.retain(|one| !forged.iter().any(|part| one.bytes.start < part.end && part.start < one.bytes.end));
                apart.sort_unstable();
                return Found { marks: found, forged: round > 0, apart };
            }
            let blanked = if round < ROUNDS { forged.as_slice() } else { plain };
            for part in blanked {
                masked.replace_range(part.clone(), &"\0".repeat(part.len()));
            }
        }
        Found::default()
    }

    /// The marks that names in `text` are.
    fn find(&self, text: &str) -> Vec<Placed> {
        if let (Some(added), Engine::File { tokenizer, .. }) = (&self.added, &*self.tokenizer.engine)
            && let Ok(split) = quietly(|| added.extract_and_normalize(tokenizer.get_normalizer(), text))
        {
            let parts = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let found = parts.into_iter().filter_map(|(_, (start, end), tokens)| {
                let id = tokens.as_ref()?.first()?.id;
                (self.is_special(id) || self.marks.contains(&id)).then_some(Placed { id, bytes: start..end })
            });
            return found.collect();
        }
        let places = self.names.iter().flat_map(|names| names.find_iter(text));
        places.filter_map(|at| Some(Placed { id: *self.ids.get(at.as_str())?, bytes: at.range() })).collect()
    }

    /// The tokens of a text, or of the `first` or another part of one, whose special tokens are all its own, by a file;
    /// none if it gives up.
    fn whole(&self, added: &AddedVocabulary, text: &str, first: bool) -> Option<Vec<Placed>> {
        let Engine::File { tokenizer, middle, .. } = &*self.tokenizer.engine else { return None };
        let tokenizer = middle.as_ref().filter(|_| self.marks_first && !first).unwrap_or(tokenizer);
        let encode = || {
            let mut split = added.extract_and_normalize(tokenizer.get_normalizer(), text);
            if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut split)?;
            }
            split.tokenize(|part| tokenizer.get_model().tokenize(part.get()))?;
            split.into_encoding(None, 0, OffsetType::Byte)
        };
        let encoding = quietly(encode).ok()?.ok()?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Some(encoding.get_ids().iter().zip(offsets).map(|(&id, bytes)| Placed { id, bytes }).collect())
    }

    /// Adds the tokens of a part of `text` that has no marks.
    fn between(&self, text: &str, part: Range<usize>, placed: &mut Vec<Placed>) {
        if part.is_empty() {
            return;
        }
        if let Engine::File { tokenizer, .. } = &*self.tokenizer.engine
            && let Some(own) = self.whole(tokenizer.get_added_vocabulary(), &text[part.clone()], part.start == 0)
        {
            let moved = |at: Range<usize>| part.start + at.start..part.start + at.end;
            placed.extend(own.into_iter().map(|one| Placed { id: one.id, bytes: moved(one.bytes) }));
            return;
        }
        let ids = self.tokenizer.encode(&text[part.clone()]);
        let exact = self.tokenizer.byte_count(&ids) == part.len();
        let mut at = part.start;
        for id in ids {
            let bytes = if exact { at..at + self.tokenizer.text_bytes(id).len() } else { part.clone() };
            at = bytes.end;
            placed.push(Placed { id, bytes });
        }
    }
}

/// Whether a part puts its mark before the beginning of a text alone.
fn marks_first(part: &PreTokenizerWrapper) -> bool {
    match part {
        PreTokenizerWrapper::Metaspace(part) => part.prepend_scheme == PrependScheme::First,
        PreTokenizerWrapper::Sequence(parts) => parts.as_ref().iter().any(marks_first),
        _ => false,
    }
}
