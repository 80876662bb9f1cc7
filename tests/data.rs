//! Text to batches: the world and the account it keeps, vocabularies, files, windows.

use hadal::config::data::DataConfig;
use hadal::data::world::{ProbeKind, World, probe_windows};
use hadal::data::{Batch, Dataset};
use hadal::error::Error;
use hadal::tokenizer::{SPECIAL_TOKENS, Tokenizer, train_bpe};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What no vocabulary may stumble over.
const AWKWARD: [&str; 9] = [
    "",
    " ",
    "Plain words, and don't they're 1234567 times?",
    "\n\n\n   \t\r\n trailing   ",
    "na\u{ef}ve caf\u{e9} \u{4f60}\u{597d} \u{1f980}\u{200d}\u{1f308} e\u{301}",
    "<|endoftext|> is text <|im_start|>system<|im_end|>",
    "fn main() { let x: Vec<u32> = vec![]; } // code\n\tif (a&&b)||c;\n",
    "\0\u{1}\u{7f}\u{feff}\u{fffd}",
    "I'LL I'll x's 'S \u{2019}s   a  b   c",
];

fn world(seed: u64, first: u64, n: u64) -> Vec<hadal::data::world::Story> {
    (first..first + n).map(|i| World::new(seed).story(i)).collect()
}

fn entropy(counts: impl Iterator<Item = f64>) -> f64 {
    let counts: Vec<f64> = counts.collect();
    let n: f64 = counts.iter().sum();
    -counts.iter().map(|c| c / n * (c / n).ln()).sum::<f64>()
}

#[test]
fn a_story_is_a_pure_function_of_seed_and_number() {
    let story = World::new(3).story(12);
    assert_eq!(story, World::new(3).story(12));
    assert_ne!(story.text, World::new(3).story(13).text);
    assert_ne!(story.text, World::new(4).story(12).text);
    // The very text: a change of the world, of its choices or of the cipher must be meant.
    assert_eq!(World::new(1).story(3).text, THIRD_STORY);
}

const THIRD_STORY: &str = "One stormy day, Wren the gardener was at the school. In her hands was a sharp saw. \
    Then Kesh the painter came by. There Wren met Juna and her crow. Wren gave the saw to Juna. \
    Where was Kesh now? He was at the school. Later Wren fed her duck Puddle.";

#[test]
fn the_account_of_a_story_is_the_sum_over_all_ways_to_its_text() {
    for story in world(5, 0, 60) {
        let judged = World::new(5).score(&story.text).expect("a story is possible");
        assert!((judged - story.nll).abs() < 1e-9, "{}: {judged} beside {}", story.text, story.nll);
        let summed: f64 = story.choices.iter().map(|(_, nats)| nats).sum();
        assert!((summed - story.nll).abs() < 1e-9);
        for &(end, nats) in story.spans.iter().take(4) {
            let judged = World::new(5).score_prefix(&story.text[..end]).unwrap();
            assert!((judged - nats).abs() < 1e-9, "{}", &story.text[..end]);
        }
        assert_eq!(story.spans.last().unwrap().0, story.text.len());
    }
    assert_eq!(World::new(5).score("One day, nobody came."), None);
    assert_eq!(World::new(5).score("One "), None);
    assert!((World::new(5).score_prefix("One ").unwrap() - 2.0_f64.ln()).abs() < 1e-12);
}

/// Every first sentence with its probability, from the lexicon alone: no teller, no choices.
fn first_sentences() -> HashMap<String, f64> {
    let lexicon = World::new(0).lexicon();
    let share = |weights: Vec<u32>| {
        let total: u32 = weights.iter().sum();
        weights.into_iter().map(move |w| f64::from(w) / f64::from(total)).collect::<Vec<_>>()
    };
    let p_weather = share(lexicon.weather.iter().map(|w| w.weight).collect());
    let p_person = share(lexicon.people.iter().map(|p| p.weight).collect());
    let p_place = share(lexicon.places.iter().map(|p| p.weight).collect());
    let mut all = HashMap::new();
    for time in &lexicon.times {
        for (w, pw) in lexicon.weather.iter().zip(&p_weather) {
            for (x, px) in lexicon.people.iter().zip(&p_person) {
                for (q, pq) in lexicon.places.iter().zip(&p_place) {
                    let (w, x, work, q) = (&w.name, &x.name, &x.work, &q.name);
                    let p = pw * px * pq / lexicon.times.len() as f64;
                    *all.entry(format!("One {w} {time}, {x} the {work} was at the {q}.")).or_default() += p / 2.0;
                    *all.entry(format!("It was a {w} {time}, and {x} the {work} stood at the {q}.")).or_default() +=
                        p / 4.0;
                    *all.entry(format!("{x} the {work} came to the {q} one {w} {time}.")).or_default() += p / 4.0;
                }
            }
        }
    }
    all
}

#[test]
fn first_sentences_have_the_probabilities_of_the_lexicon() {
    let all = first_sentences();
    assert!((all.values().sum::<f64>() - 1.0).abs() < 1e-9);
    let stories = world(9, 0, 20_000);
    for story in &stories {
        let (end, nats) = story.spans[0];
        let expected = -all[&story.text[..end]].ln();
        assert!((nats - expected).abs() < 1e-9, "{}", &story.text[..end]);
    }
    // The generator does choose as it says: the mean account of a first sentence is the entropy of the table.
    let mean = stories.iter().map(|s| s.spans[0].1).sum::<f64>() / stories.len() as f64;
    let expected = entropy(all.into_values());
    assert!((mean - expected).abs() < 0.03, "{mean} beside {expected}");
}

#[test]
fn the_world_has_some_hundred_words_and_stories_of_window_size() {
    let stories = world(1, 0, 4000);
    let words: HashSet<String> = stories
        .iter()
        .flat_map(|s| s.text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase))
        .filter(|word| !word.is_empty())
        .collect();
    assert!(words.len() > 300, "{}", words.len());
    let tokenizer = Tokenizer::load("world").unwrap();
    let mut lengths: Vec<usize> = stories.iter().map(|s| tokenizer.encode(&s.text).len() + 1).collect();
    lengths.sort_unstable();
    assert!(lengths[lengths.len() / 2] < 80 && lengths[lengths.len() - 1] < 128, "{lengths:?}");
    for story in &stories {
        assert!(story.text.is_ascii() && !story.text.contains("  ") && story.text.ends_with('.'), "{}", story.text);
        assert_eq!(tokenizer.decode(&tokenizer.encode(&story.text)), story.text);
    }
}

#[test]
fn a_bigram_model_cannot_come_near_the_entropy() {
    let tokenizer = Tokenizer::load("world").unwrap();
    let mut ids = vec![tokenizer.eos()];
    for story in world(1, 0, 4000) {
        ids.extend(tokenizer.encode(&story.text));
        ids.push(tokenizer.eos());
    }
    let mut pairs: HashMap<(u32, u32), f64> = HashMap::new();
    let mut firsts: HashMap<u32, f64> = HashMap::new();
    for pair in ids.windows(2) {
        *pairs.entry((pair[0], pair[1])).or_default() += 1.0;
        *firsts.entry(pair[0]).or_default() += 1.0;
    }
    // Of a sample, which is less than the truth.
    let bigram = entropy(pairs.into_values()) - entropy(firsts.into_values());
    let data = Dataset::open(&DataConfig::default(), &tokenizer, 128, 0).unwrap();
    let floor = data.entropy_per_token().unwrap();
    let start = (tokenizer.vocab_size() as f64).ln();
    assert!((0.3..0.6).contains(&floor), "{floor}");
    assert!(bigram > start - 0.85 * (start - floor) + 0.2, "bigram {bigram}, entropy {floor}");
}

#[test]
fn the_entropy_of_cut_stories_agrees_with_the_judge() {
    let tokenizer = Tokenizer::load("world").unwrap();
    let (mut told, mut judged) = (0.0, 0.0);
    for (i, story) in world(2, 0, 60).iter().enumerate() {
        let ids = tokenizer.encode(&story.text);
        let bytes = tokenizer.byte_count(&ids[..1 + i * 7 % ids.len()]);
        told += story.nll_before(bytes);
        judged += World::new(2).score_prefix(&story.text[..bytes]).unwrap();
    }
    assert!((told / judged - 1.0).abs() < 0.03, "{told} beside {judged}");
}

#[test]
fn train_and_held_out_stories_are_never_the_same() {
    let tokenizer = Tokenizer::load("world").unwrap();
    let data = Dataset::open(&DataConfig::default(), &tokenizer, 100, 0).unwrap();
    assert_eq!((data.val_windows(), data.train_windows()), (None, None));
    let first = |ids: Vec<u32>| {
        assert_eq!(ids.len(), 101);
        assert_eq!(ids[0], tokenizer.eos());
        ids[..60].to_vec()
    };
    let train: HashSet<Vec<u32>> = (0..300).map(|i| first(data.train_window(i).unwrap())).collect();
    let val: HashSet<Vec<u32>> = (0..300).map(|i| first(data.val_window(i).unwrap())).collect();
    assert_eq!((train.len(), val.len()), (300, 300));
    assert!(train.is_disjoint(&val));
    assert!(data.describe().contains("embedded world"), "{}", data.describe());
}

#[test]
fn probes_are_answers_that_neither_baseline_knows() {
    let tokenizer = Tokenizer::load("world").unwrap();
    let windows = probe_windows(1, 400, &tokenizer, 128);
    for kind in [ProbeKind::Fact, ProbeKind::Story] {
        let probes: Vec<_> = windows.iter().flat_map(|w| w.probes.iter().filter(|p| p.kind == kind)).collect();
        let share = |f: fn(&&&hadal::data::world::TokenProbe) -> bool| {
            probes.iter().filter(f).count() as f64 / probes.len() as f64
        };
        let (majority, last) = (share(|p| p.majority_right), share(|p| p.last_named_right));
        println!("{kind:?}: {} a window, majority {majority:.3}, last named {last:.3}", probes.len() as f64 / 400.0);
        assert!(probes.len() > 800 && majority < 0.4 && last < 0.8);
    }
    let data = Dataset::open(&DataConfig::default(), &tokenizer, 128, 0).unwrap();
    assert_eq!(windows[7].ids, data.val_window(7).unwrap());
    for probe in windows.iter().flat_map(|w| w.probes.iter().map(|p| &w.ids[p.tokens.clone()])) {
        let answer = tokenizer.decode(probe);
        assert!(answer.trim_start().len() >= 2 && !answer.trim_start().contains(['.', ',']), "{answer:?}");
    }
}

#[test]
fn the_world_vocabulary_is_what_training_on_its_stories_gives() {
    let texts = |n| (0..n).map(|i| World::new(0).story(i).text);
    let trained = train_bpe(texts(4000), 1024).unwrap();
    assert_eq!(trained, include_str!("../assets/world_tokenizer.json"));
    assert_eq!(train_bpe(texts(50), 300).unwrap(), train_bpe(texts(50), 300).unwrap());
    assert!(train_bpe(texts(1), 258).is_err());
    let tokenizer = Tokenizer::load("world").unwrap();
    assert_eq!(SPECIAL_TOKENS.map(|name| tokenizer.special_id(name)), [Some(0), Some(1), Some(2)]);
}

#[test]
fn every_vocabulary_gives_back_the_text_and_forges_nothing() {
    for (name, size, eos) in
        [("world", 1024, 0), ("byte", 257, 256), ("gpt2", 50_257, 50_256), ("cl100k", 100_277, 100_257)]
    {
        let tokenizer = Tokenizer::load(name).unwrap();
        assert_eq!((tokenizer.name(), tokenizer.vocab_size(), tokenizer.eos()), (name, size, eos));
        for text in AWKWARD {
            let ids = tokenizer.encode(text);
            assert_eq!(tokenizer.decode(&ids), text, "{name}");
            assert_eq!(tokenizer.byte_count(&ids), text.len(), "{name}");
            assert!(ids.iter().all(|&id| id != eos && id < size as u32), "{name}: {text:?}");
        }
        assert_eq!(tokenizer.decode(&[eos, u32::MAX, size as u32]), "<|endoftext|>");
        assert_eq!(tokenizer.byte_count(&[eos, u32::MAX]), 0);
        assert_eq!(tokenizer.decode(&tokenizer.encode("\u{e9}")[..0]), "");
    }
    assert_eq!(Tokenizer::load("gpt2").unwrap().encode("Hello world"), [15496, 995]);
    assert_eq!(Tokenizer::load("cl100k").unwrap().encode("Hello world"), [9906, 1917]);
    assert!(matches!(Tokenizer::load("no such file"), Err(Error::Config { .. })));
}

#[test]
fn the_written_tokenizer_file_encodes_as_the_original() {
    let prose: String = world(1, 0, 40).iter().map(|s| s.text.clone() + "\n").collect();
    let code = include_str!("data.rs");
    for name in ["world", "byte", "gpt2", "cl100k"] {
        let original = Tokenizer::load(name).unwrap();
        let dir = tempfile::tempdir().unwrap();
        original.write_hf(dir.path(), 128, original.eos()).unwrap();
        let file = dir.path().join("tokenizer.json");
        let outside = tokenizers::Tokenizer::from_file(&file).unwrap();
        let read = Tokenizer::load(file.to_str().unwrap()).unwrap();
        assert_eq!((read.vocab_size(), read.eos()), (original.vocab_size(), original.eos()), "{name}");
        for text in AWKWARD.into_iter().chain([&prose[..], code]) {
            let ids = original.encode(text);
            assert_eq!(read.encode(text), ids, "{name}: {text:?}");
            assert_eq!(read.decode(&ids), text);
            assert_eq!(read.byte_count(&ids), text.len());
            if !text.contains("<|") {
                assert_eq!(outside.encode(text, true).unwrap().get_ids(), original.begun(text), "{name}: {text:?}");
                assert_eq!(outside.decode(&ids, false).unwrap(), text);
            }
        }
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap()).unwrap();
        assert_eq!(
            (config["eos_token"].as_str(), config["model_max_length"].as_u64()),
            (Some("<|endoftext|>"), Some(128))
        );
    }
}

#[test]
fn long_runs_of_one_character_are_encoded_in_bounded_time() {
    for name in ["world", "gpt2", "cl100k"] {
        let tokenizer = Tokenizer::load(name).unwrap();
        for run in ["^", " ", "a", "\n", "\u{4f60}"] {
            let text = run.repeat(100_000 / run.len());
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text, "{name} {run:?}");
        }
    }
}

fn files_config(path: &Path, val_fraction: f64, shuffle: bool) -> DataConfig {
    DataConfig { path: vec![path.into()], tokenizer: "byte".into(), val_fraction, shuffle, ..Default::default() }
}

#[test]
fn folders_are_read_in_order_and_split_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("b")).unwrap();
    for (name, text) in [
        ("c.md", "ghi"),
        ("b/x.txt", "\u{feff}def"),
        ("a.TXT", "abc"),
        (".hidden.txt", "no"),
        ("d.png", "no"),
        ("e.txt", ""),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let byte = Tokenizer::load("byte").unwrap();
    let data = Dataset::open(&files_config(dir.path(), 0.0, false), &byte, 12, 0).unwrap();
    let mut expected: Vec<u32> = vec![];
    for text in ["abc", "def", "ghi", ""] {
        expected.extend(text.bytes().map(u32::from));
        expected.push(256);
    }
    assert_eq!(data.train_window(0).unwrap(), expected);
    assert_eq!((data.train_windows(), data.val_windows(), data.entropy_per_token()), (Some(1), Some(0), None));
    assert!(data.describe().starts_with("4 files, 9 bytes, 13 tokens"), "{}", data.describe());
    assert!((data.bytes_per_token() - 9.0 / 13.0).abs() < 1e-12);

    let halves = Dataset::open(&files_config(dir.path(), 0.4, false), &byte, 3, 0).unwrap();
    assert_eq!((halves.train_windows(), halves.val_windows()), (Some(2), Some(1)));
    assert_eq!(halves.val_window(0).unwrap(), expected[8..12]);
    assert_eq!(halves.train_window(1).unwrap(), expected[3..7]);
}

#[test]
fn an_epoch_visits_each_window_once_and_the_next_in_another_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    let text: String = (0..3000u32).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
    std::fs::write(&file, &text).unwrap();
    let byte = Tokenizer::load("byte").unwrap();
    let data = Dataset::open(&files_config(&file, 0.1, true), &byte, 8, 42).unwrap();
    let again = Dataset::open(&files_config(&file, 0.1, true), &byte, 8, 42).unwrap();
    let plain = Dataset::open(&files_config(&file, 0.1, false), &byte, 8, 42).unwrap();
    let n = data.train_windows().unwrap();
    let epoch =
        |data: &Dataset, e: u64| (e * n..(e + 1) * n).map(|i| data.train_window(i).unwrap()).collect::<Vec<_>>();
    assert_eq!(epoch(&data, 1), epoch(&again, 1));
    assert_ne!(epoch(&data, 0), epoch(&data, 1));
    assert_eq!(epoch(&plain, 0), epoch(&plain, 1));
    let sorted = |mut windows: Vec<Vec<u32>>| {
        windows.sort();
        windows
    };
    assert_eq!(sorted(epoch(&data, 0)), sorted(epoch(&plain, 0)));
    let batch = Batch::from_windows(&[data.train_window(0).unwrap(), data.train_window(1).unwrap()]);
    assert_eq!(batch.targets[..7], batch.ids[1..8]);
}

#[test]
fn text_encoded_in_parallel_pieces_is_text_encoded_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("long.txt");
    let text: String = world(1, 0, 300).iter().map(|s| s.text.clone() + "\n").collect();
    std::fs::write(&file, &text).unwrap();
    for name in ["gpt2", "cl100k", "world"] {
        let tokenizer = Tokenizer::load(name).unwrap();
        let whole = tokenizers::Tokenizer::from_bytes(tokenizer.json()).unwrap().encode(text.as_str(), false).unwrap();
        assert_eq!(tokenizer.encode(&text), whole.get_ids(), "{name}");
        let data = Dataset::open(&files_config(&file, 0.0, false), &tokenizer, whole.len(), 0).unwrap();
        assert_eq!(data.train_window(0).unwrap()[..whole.len()], *whole.get_ids());
    }
}

#[test]
fn pieces_have_the_tokens_of_the_whole_in_text_of_every_line_ending() {
    let lines: Vec<String> =
        world(1, 0, 200).into_iter().map(|s| s.text.replace(". ", ".\"  (so) 12 'tis\n")).collect();
    for ending in ["\n", "\r\n", "\n\n", " "] {
        let text = lines.join("\n").replace('\n', ending);
        let (gpt2, cl100k) = (tiktoken_rs::r50k_base_singleton(), tiktoken_rs::cl100k_base_singleton());
        assert_eq!(Tokenizer::load("gpt2").unwrap().encode(&text), gpt2.encode_ordinary(&text), "{ending:?}");
        assert_eq!(Tokenizer::load("cl100k").unwrap().encode(&text), cl100k.encode_ordinary(&text), "{ending:?}");
    }
}

#[test]
fn unusable_data_are_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let byte = Tokenizer::load("byte").unwrap();
    let open = |path: &Path, fraction| Dataset::open(&files_config(path, fraction, true), &byte, 8, 0).err().unwrap();
    let bad = dir.path().join("bad.txt");
    std::fs::write(&bad, b"good\xff text").unwrap();
    let error = open(&bad, 0.0).to_string();
    assert!(error.contains("bad.txt") && error.contains("byte 4 is 0xff"), "{error}");
    let short = dir.path().join("short.txt");
    std::fs::write(&short, "seven77").unwrap();
    let error = open(&short, 0.0).to_string();
    assert!(error.starts_with("data.path: 8 tokens are too few"), "{error}");
    std::fs::write(&short, "long enough for some windows").unwrap();
    assert!(open(&short, 0.05).to_string().contains("1 held out"));
    assert!(open(&short, 1.0).to_string().starts_with("data.val_fraction"));
    assert!(open(&short, f64::NAN).to_string().starts_with("data.val_fraction"));
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(open(&empty, 0.0).to_string().contains("no text file"));
    let error = open(&dir.path().join("missing"), 0.0);
    assert!(matches!(error, Error::Io { .. }) && error.exit_code() == 2);
}
