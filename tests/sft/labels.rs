//! Every id and label of conversations, worked by hand in bytes: 257 begins a message, 258 ends it.

use super::turns;
use hadal::chat::{Encoded, Encoder, Template};
use hadal::config::sft::SftMask;
use hadal::tokenizer::Tokenizer;

fn tokenizer() -> Tokenizer {
    let tokenizer = Tokenizer::load("byte").unwrap().with_special(&["<|im_start|>", "<|im_end|>"]).unwrap();
    assert_eq!((tokenizer.special_id("<|im_start|>"), tokenizer.special_id("<|im_end|>")), (Some(257), Some(258)));
    tokenizer
}

pub fn encoder(mask: SftMask) -> Encoder {
    let tokenizer = tokenizer();
    Encoder::new(Template::chatml(&tokenizer).unwrap(), tokenizer, mask).unwrap()
}

/// Ids and labels from a script: text is bytes, `^` a start mark, `$` an end mark, and what is in brackets counts.
pub fn script(script: &str) -> Encoded {
    let (mut encoded, mut counted) = (Encoded::default(), false);
    for byte in script.bytes() {
        let id = match byte {
            b'[' | b']' => {
                counted = byte == b'[';
                continue;
            }
            b'^' => 257,
            b'$' => 258,
            other => u32::from(other),
        };
        encoded.ids.push(id);
        encoded.counted.push(counted);
    }
    encoded
}

/// A conversation, the tokens that there is room for, and what is expected by either mask.
type Case = (&'static [(char, &'static str)], usize, &'static str, &'static str);

const CASES: [Case; 7] = [
    (&[('u', "Hi"), ('a', "Yo")], 99, "^user\nHi$\n^assistant\n[Yo$]\n", "^user\nHi$\n^assistant[\nYo$]\n"),
    (
        &[('s', "Be"), ('u', "a"), ('a', "b"), ('u', "c"), ('a', "d")],
        99,
        "^system\nBe$\n^user\na$\n^assistant\n[b$]\n^user\nc$\n^assistant\n[d$]\n",
        "^system\nBe$\n^user\na$\n^assistant[\nb$]\n^user\nc$\n^assistant[\nd$]\n",
    ),
    (&[('u', "a"), ('a', "")], 99, "^user\na$\n^assistant\n[$]\n", "^user\na$\n^assistant[\n$]\n"),
    (
        &[('u', "<|im_start|>x"), ('a', "<|im_end|>")],
        99,
        "^user\n<|im_start|>x$\n^assistant\n[<|im_end|>$]\n",
        "^user\n<|im_start|>x$\n^assistant[\n<|im_end|>$]\n",
    ),
    // An answer that is cut: what is left of it counts, but not by the seed's mask.
    (&[('u', "a"), ('a', "long")], 23, "^user\na$\n^assistant\n[lon]", "^user\na$\n^assistant\nlon"),
    (
        &[('u', "a"), ('a', "b"), ('u', "c")],
        99,
        "^user\na$\n^assistant\n[b$]\n^user\nc$\n",
        "^user\na$\n^assistant[\nb$]\n^user\nc$\n",
    ),
    (
        &[('u', "a"), ('a', "b"), ('t', "3"), ('a', "\n c ")],
        99,
        "^user\na$\n^assistant\n[b$]\n^tool\n3$\n^assistant\n[\n c $]\n",
        "^user\na$\n^assistant[\nb$]\n^tool\n3$\n^assistant[\n\n c $]\n",
    ),
];

#[test]
fn ids_and_labels_are_those_worked_by_hand() {
    let (answers, seed) = (encoder(SftMask::Answers), encoder(SftMask::Seed));
    for (messages, most, expected, of_seed) in CASES {
        for (encoder, expected) in [(&answers, expected), (&seed, of_seed)] {
            let mut encoded = encoder.encode(&turns(messages)).unwrap();
            encoder.cut(&mut encoded, most);
            assert_eq!(encoded, script(expected), "{messages:?}");
        }
    }
    assert_eq!((answers.end(), script("^[a$]").targets()), (258, 2));
}

#[test]
fn a_wrong_label_or_a_forged_mark_would_be_noticed() {
    let answers = encoder(SftMask::Answers);
    let encoded = answers.encode(&turns(&[('u', "<|im_end|>"), ('a', "b")])).unwrap();
    assert_ne!(encoded, script("^user\n$$\n^assistant\n[b$]\n"));
    assert_ne!(encoded, script("^user\n<|im_end|>$\n^assistant\n[b]$\n"));
}

#[test]
fn a_prompt_is_the_beginning_of_the_conversation_with_its_answer() {
    let encoder = encoder(SftMask::Answers);
    let asked = turns(&[('s', "x"), ('u', "a"), ('a', "b"), ('u', "c")]);
    let prompt = encoder.prompt(&asked).unwrap();
    assert_eq!(prompt, script("^system\nx$\n^user\na$\n^assistant\nb$\n^user\nc$\n^assistant\n").ids);
    let whole = [asked, turns(&[('a', "d")])].concat();
    assert!(encoder.encode(&whole).unwrap().ids.starts_with(&prompt));
}

#[test]
fn special_tokens_follow_every_vocabulary_and_survive_its_file() {
    for (name, first) in [("byte", 257), ("gpt2", 50_257), ("cl100k", 100_277), ("world", 1)] {
        let tokenizer = Tokenizer::load(name).unwrap().with_special(&["<|im_start|>", "<|im_end|>"]).unwrap();
        let read = Tokenizer::from_json(name, &tokenizer.json()).unwrap();
        for tokenizer in [&tokenizer, &read] {
            let ids = ["<|im_start|>", "<|im_end|>"].map(|special| tokenizer.special_id(special));
            assert_eq!(ids, [Some(first), Some(first + 1)], "{name}");
        }
        // A file's vocabulary grows likewise.
        let more = read.with_special(&["<|more|>"]).unwrap();
        assert_eq!(more.special_id("<|more|>"), Some(read.vocab_size() as u32), "{name}");
        assert_eq!(more.encode("a <|more|> b"), tokenizer.encode("a <|more|> b"), "{name}");
    }
}
