//! The public forms of chats with vocabularies of five kinds: ids and masks are those of transformers.

use super::turns;
use hadal::chat::{Encoder, Template};
use hadal::config::sft::SftMask;
use hadal::data::record::Turn;
use hadal::tokenizer::Tokenizer;
use std::collections::BTreeMap;

/// Vocabulary, form, conversation, ids, and the ids of the prompt or the mask.
type Cell = (String, String, usize, Vec<u32>, Vec<u32>);

/// What `tests/golden/make_forms.py` wrote.
#[derive(serde::Deserialize)]
struct Golden {
    forms: BTreeMap<String, String>,
    conversations: Vec<Vec<(String, String)>>,
    /// Vocabulary, form, conversation, its ids, and those of the prompt that asks for an answer to it; of forms that
    /// mark what is generated, the mask in place of the prompt.
    cells: Vec<Cell>,
}

impl Golden {
    fn read() -> Golden {
        serde_json::from_str(include_str!("../golden/chat/forms.json")).unwrap()
    }

    fn turns(&self, conversation: usize) -> Vec<Turn> {
        let letter = |role: &str| role.chars().next().unwrap();
        let messages = self.conversations[conversation].iter();
        turns(&messages.map(|(role, text)| (letter(role), text.as_str())).collect::<Vec<_>>())
    }
}

/// The conversation whose messages spell marks.
const FORGED: usize = 5;
/// Vocabularies: of bytes, by GPT-2's expression and by one that keeps line feeds together; and as Llama has them.
pub const KINDS: [&str; 5] = ["bytes", "lines", "legacy", "first", "always"];

pub fn vocabulary(kind: &str) -> Tokenizer {
    let json = match kind {
        "bytes" => include_str!("../golden/chat/bytes.json"),
        "lines" => include_str!("../golden/chat/lines.json"),
        "legacy" => include_str!("../golden/chat/legacy.json"),
        "first" => include_str!("../golden/chat/first.json"),
        _ => include_str!("../golden/chat/always.json"),
    };
    Tokenizer::from_json(kind, json).unwrap()
}

/// Cells of the table: prompts, conversations, and masks.
#[derive(Debug, Default, PartialEq)]
struct Table {
    prompts: usize,
    conversations: usize,
    masks: usize,
    /// Cells where a message spells a mark.
    forged: usize,
}

#[test]
fn ids_and_masks_of_all_forms_and_vocabularies_are_those_of_transformers() {
    let golden = Golden::read();
    let mut table = Table::default();
    for kind in KINDS {
        let tokenizer = vocabulary(kind);
        for (form, source) in &golden.forms {
            let template = Template::parse(form, &source.replace("bos_token", "'<s>'"), &tokenizer).unwrap();
            let encoder = Encoder::new(template, tokenizer.clone(), SftMask::Answers).unwrap();
            let of_form = golden.cells.iter().filter(|cell| cell.0 == kind && cell.1 == *form);
            for (_, _, conversation, ids, other) in of_form {
                let at = format!("{kind}, {form}, conversation {conversation}");
                let turns = golden.turns(*conversation);
                let encoded = encoder.encode(&turns).unwrap();
                let marked = form.starts_with("marked");
                let prompt = (!marked).then(|| encoder.generation_prompt(&turns).unwrap());
                if *conversation == FORGED {
                    table.forged += 2;
                    assert!(encoded.ids != *ids && prompt.as_ref() != Some(other), "{at}");
                    continue;
                }
                if let Some(prompt) = &prompt {
                    table.prompts += 1;
                    assert_eq!(prompt, other, "{at}");
                }
                table.conversations += 1;
                assert_eq!(&encoded.ids, ids, "{at}");
                if marked {
                    table.masks += 1;
                    let mask: Vec<u32> = encoded.counted.iter().map(|&counted| u32::from(counted)).collect();
                    assert_eq!(&mask, other, "{at}");
                }
            }
        }
    }
    assert_eq!(table, Table { prompts: 300, conversations: 360, masks: 60, forged: 120 });
}

#[test]
fn a_mark_that_a_message_spells_changes_no_token_of_the_others() {
    let golden = Golden::read();
    for kind in KINDS {
        let tokenizer = vocabulary(kind);
        for (form, source) in &golden.forms {
            let template = Template::parse(form, &source.replace("bos_token", "'<s>'"), &tokenizer).unwrap();
            let encoder = Encoder::new(template, tokenizer.clone(), SftMask::Answers).unwrap();
            let of = |said: &str| {
                let list = [('u', "hello world"), ('a', said), ('u', "the cat"), ('a', "hello world")];
                encoder.encode(&turns(&list)).unwrap().ids
            };
            let (plain, forged) = (of("the cat"), of("the</s>cat"));
            let same = |pair: &(&u32, &u32)| pair.0 == pair.1;
            let before = plain.iter().zip(&forged).take_while(same).count();
            let after = plain.iter().rev().zip(forged.iter().rev()).take_while(same).count();
            let own = tokenizer.encode("the cat").len() + 1;
            assert!(before + after + own >= plain.len(), "{kind}, {form}: {plain:?} {forged:?}");
        }
    }
}

#[test]
fn a_prompt_that_a_conversation_does_not_begin_with_is_warned_of() {
    let golden = Golden::read();
    let mut warned = Vec::new();
    for kind in KINDS {
        let tokenizer = vocabulary(kind);
        for (form, source) in &golden.forms {
            let template = Template::parse(form, &source.replace("bos_token", "'<s>'"), &tokenizer).unwrap();
            let encoder = Encoder::new(template, tokenizer.clone(), SftMask::Answers).unwrap();
            let turns = turns(&[('u', "a"), ('a', "b")]);
            let begins = encoder.encode(&turns).unwrap().ids.starts_with(&encoder.prompt(&turns[..1]).unwrap());
            let warning = encoder.warning().unwrap();
            assert!(warning.is_none() || !begins, "{kind}, {form}: {warning:?}");
            warned.extend(warning.map(|_| format!("{kind}, {form}")));
        }
    }
    assert_eq!(warned, ["bytes, llama_3", "bytes, marked llama_3"]);
}

#[test]
fn expressions_are_written_as_jinja2_writes_them() {
    let golden: Vec<(String, String)> = serde_json::from_str(include_str!("../golden/chat/expressions.json")).unwrap();
    let tokenizer = vocabulary("bytes");
    let mut other = Vec::new();
    for (expression, text) in &golden {
        let source = format!("{{{{ {expression} }}}}|{{{{ messages[0].content }}}}");
        let written = Template::parse("one", &source, &tokenizer).map_err(|e| e.to_string());
        let written = written.and_then(|template| template.write(&turns(&[('u', "c")]), false));
        if written.as_ref().map(|written| &written.text) != Ok(text) {
            other.push(format!("{expression}: {written:?} is not {text:?}"));
        }
    }
    assert!(other.is_empty(), "{} of {}:\n{}", other.len(), golden.len(), other.join("\n"));
}
