//! Preferences: shapes, labels, pairs of rows, what is left out, and the embedded world's.

use super::labels::{encoder, script};
use super::turns;
use hadal::chat::preference::{EncodedPair, Pair};
use hadal::chat::{Encoder, Template};
use hadal::config::data::DataConfig;
use hadal::config::sft::SftMask;
use hadal::data::IGNORED;
use hadal::data::preferences::Preferences;
use hadal::data::record::read;
use hadal::error::Result;
use hadal::tokenizer::Tokenizer;

fn pair(line: &str) -> std::result::Result<Pair, String> {
    Pair::new(read(line.as_bytes())?.1)
}

/// Lines with their prompt, answers and margin.
type Case = (&'static str, &'static [(char, &'static str)], [&'static [(char, &'static str)]; 2], Option<f64>);

const CASES: &[Case] = &[
    (
        r#"{"prompt": "Hi", "chosen": "Yo", "rejected": "No", "margin": 2}"#,
        &[('u', "Hi")],
        [&[('a', "Yo")], &[('a', "No")]],
        Some(2.0),
    ),
    // Explicit, in messages; a margin of null is none.
    (
        r#"{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}], "margin": null,
        "chosen": [{"role": "assistant", "content": "Yo"}], "rejected": [{"role": "assistant", "content": "No"}]}"#,
        &[('s', "s"), ('u', "Hi")],
        [&[('a', "Yo")], &[('a', "No")]],
        None,
    ),
    // Implicit: the messages that both begin with.
    (
        r#"{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}],
        "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}], "margin": -0.5}"#,
        &[('u', "Hi")],
        [&[('a', "Yo")], &[('a', "No")]],
        Some(-0.5),
    ),
    // But never a whole answer.
    (
        r#"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}],
        "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
        &[('u', "a")],
        [&[('a', "b"), ('u', "c"), ('a', "d")], &[('a', "b")]],
        None,
    ),
    // Texts: the characters that both begin with, without the space at their end.
    (
        r#"{"chosen": "The sky is blue.", "rejected": "The sky is green."}"#,
        &[('u', "The sky is")],
        [&[('a', " blue.")], &[('a', " green.")]],
        None,
    ),
    (r#"{"chosen": "éa", "rejected": "éb"}"#, &[('u', "é")], [&[('a', "a")], &[('a', "b")]], None),
    (
        r#"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Yo"},
        "rejected": {"from": "gpt", "value": "No"}}"#,
        &[('u', "Hi")],
        [&[('a', "Yo")], &[('a', "No")]],
        None,
    ),
];

#[test]
fn every_shape_gives_prompt_answers_and_margin() {
    for (line, prompt, [chosen, rejected], margin) in CASES {
        let expected =
            Pair { prompt: turns(prompt), chosen: turns(chosen), rejected: turns(rejected), margin: *margin };
        assert_eq!(pair(line).unwrap(), expected, "{line}");
    }
}

#[test]
fn what_is_no_preference_is_told_in_a_sentence() {
    for (line, words) in [
        (r#"{"text": "a"}"#, "has no \"chosen\" and \"rejected\""),
        (r#"{"prompt": "a", "completion": "b"}"#, "has no \"chosen\" and \"rejected\""),
        (r#"{"chosen": "a", "rejected": "b"}"#, "has no prompt: \"chosen\" and \"rejected\" begin differently"),
        (r#"{"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1e300}"#, "has 1e300 under \"margin\""),
        (
            r#"{"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}],
            "rejected": [{"role": "assistant", "content": "c"}]}"#,
            "has text under \"prompt\", but messages under \"chosen\"",
        ),
        (
            r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "user", "content": "b"}],
            "rejected": [{"role": "assistant", "content": "c"}]}"#,
            "has under \"chosen\" an answer that begins with a message of user, not assistant",
        ),
        (
            r#"{"prompt": [{"role": "assistant", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}],
            "rejected": [{"role": "assistant", "content": "c"}]}"#,
            "has roles out of order: message 1 is of assistant at the beginning",
        ),
    ] {
        let error = pair(line).unwrap_err();
        assert!(error.starts_with(words), "{line}: {error}");
    }
}

#[test]
fn the_answer_and_its_end_count_and_nothing_else() {
    let encoder = encoder(SftMask::Answers);
    let line = r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}], "chosen": [{"role": "assistant", "content": "de"}],
        "rejected": [{"role": "assistant", "content": "f"}], "margin": 1.5}"#;
    let encoded = pair(line).unwrap().encode(&encoder, 99).unwrap().unwrap();
    let begin = "^user\na$\n^assistant\nb$\n^user\nc$\n^assistant\n";
    assert_eq!(encoded.chosen, script(&format!("{begin}[de$]\n")));
    assert_eq!(encoded.rejected, script(&format!("{begin}[f$]\n")));
    assert_eq!((encoded.margin, encoded.cut), (1.5, false));
    // An answer of the prompt that counted would be seen.
    assert_ne!(encoded.rejected, script("^user\na$\n^assistant\n[b$]\n^user\nc$\n^assistant\n[f$]\n"));
    let of = |line: &str, most| pair(line).unwrap().encode(&encoder, most).unwrap();
    // Cut on the right: what is left of an answer counts.
    let long = r#"{"prompt": "a", "chosen": "long", "rejected": "lost"}"#;
    let cut = of(long, 23).unwrap();
    assert!(cut.cut && cut.chosen == script("^user\na$\n^assistant\n[lon]"), "{cut:?}");
    assert_eq!(cut.rejected, script("^user\na$\n^assistant\n[los]"));
    // Nothing to prefer: both the same, or nothing left that counts, of one or of both.
    for (line, most) in [(long, 20), (long, 21), (r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#, 99)] {
        assert_eq!(of(line, most), None, "{line} {most}");
    }
}

fn open(lines: &str, max_bad_lines: usize, length: usize) -> Result<Preferences> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, lines).unwrap();
    let config = DataConfig { path: vec![path], val_fraction: 0.25, ..DataConfig::default() };
    Preferences::open(&config, max_bad_lines, encoder(SftMask::Answers), length, 3)
}

/// Four pairs, and one with nothing to prefer.
fn lines() -> String {
    let line = |i| format!("{{\"prompt\": \"{i}\", \"chosen\": \"yes\", \"rejected\": \"no\", \"margin\": {i}}}\n");
    (1..5).map(line).collect::<String>() + "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"b\"}\n"
}

#[test]
fn pairs_are_rows_side_by_side() {
    let preferences = open(&lines(), 0, 40).unwrap();
    assert_eq!(preferences.pairs(), Some((3, 1)));
    assert!(
        preferences.describe().contains("4 preferences (0 cut to 40 tokens, 1 dropped"),
        "{}",
        preferences.describe()
    );
    let pairs: Vec<EncodedPair> = (0..3).map(|n| preferences.train_pair(n)).collect();
    let mut margins: Vec<f64> = pairs.iter().map(|pair| pair.margin).collect();
    let made = preferences.batch(&pairs, 4);
    assert_eq!((made.real, made.batch.batch, made.batch.length), (3, 8, 40));
    assert_eq!(made.margins, [margins[0] as f32, margins[1] as f32, margins[2] as f32, 0.0]);
    let text = |row: usize| {
        let targets = &made.batch.targets[row * 40..(row + 1) * 40];
        let counted: Vec<u32> = targets.iter().copied().filter(|&id| id != IGNORED).collect();
        preferences.encoder().tokenizer().decode(&counted)
    };
    for pair in 0..3 {
        assert_eq!([text(2 * pair), text(2 * pair + 1)], ["yes<|im_end|>", "no<|im_end|>"]);
    }
    assert_eq!([text(6), text(7)], ["", ""]);
    assert!(made.batch.real[6 * 40..].iter().all(|&real| real == 0));
    // Every epoch has every pair.
    margins.sort_by(f64::total_cmp);
    let mut second: Vec<f64> = (3..6).map(|n| preferences.train_pair(n).margin).collect();
    second.sort_by(f64::total_cmp);
    assert_eq!((margins, preferences.val_pair(0).margin), (second, 4.0));
}

#[test]
fn bad_lines_are_told_by_number_and_counted() {
    let bad = lines() + "{\"prompt\": \"a\"}\n{\"chosen\": \"a\"}\nno\n";
    let error = open(&bad, 2, 40).err().unwrap();
    let text = error.to_string();
    for words in
        ["3 problems", "line 6 has no", "line 7 has \"chosen\" without", "line 8 is not JSON", "--max-bad-lines 3"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(error.exit_code(), 2);
    let preferences = open(&bad, 3, 40).unwrap();
    assert!(preferences.describe().contains("3 bad lines left out"), "{}", preferences.describe());
    for (lines, length) in [("", 40), ("\n", 40), (&*lines(), 9)] {
        assert_eq!(open(lines, 0, length).err().unwrap().exit_code(), 2, "{lines:?}");
    }
}

#[test]
fn the_worlds_pairs_fit_their_rows_whole() {
    let tokenizer = Tokenizer::load("world").unwrap();
    let open = |length| {
        let encoder = Encoder::new(Template::chatml(&tokenizer).unwrap(), tokenizer.clone(), SftMask::Answers).unwrap();
        Preferences::open(&DataConfig::default(), 0, encoder, length, 1)
    };
    let preferences = open(96).unwrap();
    assert_eq!(preferences.pairs(), None);
    for pair in (0..200).flat_map(|n| [preferences.train_pair(n), preferences.val_pair(n)]) {
        assert!(!pair.cut && pair.chosen.ids.len() <= 97 && pair.rejected.ids.len() <= 97);
        assert!(pair.chosen.targets() > 1 && pair.rejected.targets() > 1 && pair.chosen.ids != pair.rejected.ids);
    }
    assert_ne!(preferences.train_pair(1), preferences.train_pair(2));
    let whole = open(400).unwrap();
    let sizes = (0..500).map(|n| whole.train_pair(n)).map(|pair| pair.chosen.ids.len().max(pair.rejected.ids.len()));
    let mut sizes: Vec<usize> = sizes.collect();
    sizes.sort_unstable();
    println!("tokens of the longer row: median {}, 95 % below {}, most {}", sizes[250], sizes[475], sizes[499]);
    let error = open(8).err().unwrap().to_string();
    assert!(error.starts_with("train.sequence_length: is 8, too short for most"), "{error}");
}

/// A row of a reward model ends in the token that ends the answer, or the pair says that it was cut.
#[test]
fn a_judged_answer_keeps_its_end_in_a_row_that_just_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, lines()).unwrap();
    let config = DataConfig { path: vec![path], ..DataConfig::default() };
    let mut last = Vec::new();
    for length in 16..48 {
        let opened = Preferences::open_whole(&config, 0, encoder(SftMask::Answers), length, 3);
        let Ok(preferences) = opened else { continue };
        let end = preferences.encoder().tokenizer().special_id("<|im_end|>").unwrap();
        for n in 0..4 {
            let pair = preferences.train_pair(n);
            let made = preferences.batch(std::slice::from_ref(&pair), 1);
            let tokens = [0, 1].map(|row| made.batch.ids[row * length + made.ends[row].unwrap() as usize]);
            assert_eq!(tokens != [end; 2], pair.cut, "rows of {length}, pair {n}");
            last.push((length, pair.cut));
        }
    }
    assert!(last.iter().any(|(_, cut)| *cut) && last.iter().any(|(_, cut)| !cut), "{last:?}");
}
