//! What is mutated, how, and which of the program's readers then gets it.

use super::judge::Read;
use super::{bytes, json, seeds, template, text};
use hadal::chat::{Encoder, Template};
use hadal::checkpoint::adapters::Adapters;
use hadal::checkpoint::container::Container;
use hadal::checkpoint::manifest::Manifest;
use hadal::checkpoint::tensors::read_tensors;
use hadal::checkpoint::weights::Weights;
use hadal::config::Config;
use hadal::config::data::DataConfig;
use hadal::config::hf::parse_config;
use hadal::config::reward::RewardKind;
use hadal::config::sft::SftMask;
use hadal::config::task::TaskConfig;
use hadal::data::Cache;
use hadal::data::corpus::Corpus;
use hadal::data::preferences::Preferences;
use hadal::data::questions::Questions;
use hadal::data::world::Split;
use hadal::error::{Error, Result};
use hadal::model::params::parameters;
use hadal::plot::raster::raster;
use hadal::plot::{PlotOptions, Run, render};
use hadal::serve::Served;
use hadal::serve::ask::{Ask, Kind};
use hadal::tokenizer::Tokenizer;
use hadal::train::checkpoint::TrainerState;
use hadal::train::journal::read_stamped;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fs::{read, write};
use std::path::Path;
use std::sync::LazyLock;

/// An input format.
pub struct Format {
    pub name: &'static str,
    /// The fuzzing target that begins with these seeds.
    pub target: Option<&'static str>,
    /// Sound files.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// A changed copy of a seed.
    pub mutate: fn(&[u8], &mut ChaCha8Rng) -> Vec<u8>,
    pub read: Read,
}

const fn of(
    name: &'static str,
    target: Option<&'static str>,
    seeds: fn() -> Vec<Vec<u8>>,
    mutate: fn(&[u8], &mut ChaCha8Rng) -> Vec<u8>,
    read: Read,
) -> Format {
    Format { name, target, seeds, mutate, read }
}

/// What clients send: no file.
pub const REQUEST: &str = "request";

pub const FORMATS: &[Format] = &[
    of("safetensors", Some("safetensors"), seeds::safetensors, mutate_safetensors, read_safetensors),
    of("index", Some("index"), seeds::index, json::mutated, read_index),
    of("config", Some("config"), seeds::config, json::mutated, read_config),
    of("tokenizer", Some("tokenizer"), seeds::tokenizer, json::mutated, read_tokenizer),
    of("tokenizer_config", None, seeds::tokenizer_config, json::mutated, read_tokenizer_config),
    of("jsonl", Some("jsonl"), seeds::jsonl, mutate_lines, |at, bytes| read_data(at, "a.jsonl", bytes)),
    of("preference", Some("jsonl"), seeds::preference, mutate_lines, read_preferences),
    of("question", Some("jsonl"), seeds::question, mutate_lines, read_questions),
    of("bin", Some("shard"), seeds::bin, mutate_bytes, |at, bytes| read_data(at, "a.bin", bytes)),
    of("npy", Some("shard"), seeds::npy, mutate_npy, |at, bytes| read_data(at, "a.npy", bytes)),
    of("text", None, seeds::text, mutate_bytes, |at, bytes| read_data(at, "a.txt", bytes)),
    of("toml", Some("toml"), seeds::toml, text::mutated, read_toml),
    of("sets", None, seeds::sets, text::mutated, read_set),
    of("manifest", Some("manifest"), seeds::manifest, mutate_manifest, read_manifest),
    of("state", Some("state"), seeds::state, json::mutated, read_state),
    of("lora", None, seeds::lora, json::mutated, read_lora),
    of("metrics", Some("metrics"), seeds::metrics, mutate_lines, read_metrics),
    of("template", Some("template"), seeds::template, template::mutated, read_template),
    of(REQUEST, Some("request"), seeds::request, json::mutated, read_request),
];

fn mutate_bytes(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    bytes::mutate(&mut bytes, rng);
    bytes
}

/// Changes the header's JSON and keeps its length right, most times; now and then the length or the bytes.
pub fn mutate_safetensors(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let (length, rest) = seed.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = if rng.random_range(0..8) == 0 { header.to_vec() } else { json::mutated(header, rng) };
    let mut data = data.to_vec();
    match rng.random_range(0..8) {
        0 => data.truncate(rng.random_range(0..data.len() + 1)),
        1 => data.extend([0; 24]),
        _ => {}
    }
    let length = (header.len() as u64).to_le_bytes();
    let mut bytes = [&length[..], &header, &data].concat();
    match rng.random_range(0..8) {
        0 => bytes::mutate(&mut bytes, rng),
        1 => bytes[rng.random_range(0..8)] = rng.random(),
        _ => {}
    }
    bytes
}

/// Changes one line's JSON, and the lines.
pub fn mutate_lines(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = seed.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
    match rng.random_range(0..8) {
        0 => lines.swap(a, b),
        1 => lines[a] = lines[b].repeat(rng.random_range(1..200)),
        2 => bytes::mutate(&mut lines[a], rng),
        _ => lines[a] = [json::mutated(&lines[a], rng), b"\n".to_vec()].concat(),
    }
    lines.concat()
}

/// Changes the dictionary and keeps its length right, or the bytes.
pub fn mutate_npy(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let start = if seed[6] == 1 { 10 } else { 12 };
    let end = start + seed[start..].iter().position(|b| *b == b'\n').unwrap() + 1;
    let dictionary = String::from_utf8(seed[start..end].to_vec()).unwrap();
    let n = rng.random_range(1..3000);
    let changed = match rng.random_range(0..10) {
        0 => dictionary.replace('6', "18446744073709551615"),
        1 => dictionary.replace('6', &"9".repeat(n)),
        2 => dictionary.replace("(6", &format!("({}6", "1, ".repeat(n))),
        3 => dictionary.replace('(', "(0, 9223372036854775807, 9223372036854775807, "),
        4 => dictionary.replace("'<", "'>"),
        5 => dictionary.replace("'<", &format!("'{}", "\u{1b}".repeat(n))),
        6 => dictionary.replace("False", "True"),
        7 => dictionary.replace("60", "-60"),
        8 => dictionary.replace("'shape'", "'shap'"),
        _ => return mutate_bytes(seed, rng),
    };
    seeds::array(&changed, seed[6], &seed[end..])
}

/// Half of the changed manifests get their hash made right, so that what follows it is reached.
fn mutate_manifest(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let changed = json::mutated(seed, rng);
    let sound = serde_json::from_slice::<Manifest>(&changed).ok().filter(|_| rng.random());
    match sound {
        Some(found) => Manifest::new(found.step, found.files).unwrap().text().unwrap().into_bytes(),
        None => changed,
    }
}

fn put(at: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = at.join(name);
    write(&path, bytes).unwrap();
    path
}

fn read_safetensors(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = put(at, "model.safetensors", bytes);
    let file = Container::open(&path)?;
    let held: usize = file.entries().values().map(|entry| file.bytes(entry).len()).sum();
    assert!(held <= bytes.len(), "tensors overlap");
    Weights::open(at)?;
    read_tensors(&path).map(drop)
}

fn read_index(at: &Path, bytes: &[u8]) -> Result<()> {
    for (file, tensor) in seeds::SHARDS {
        if !at.join(file).exists() {
            put(at, file, &seeds::tensors(&[(tensor, safetensors::Dtype::F32, &[2])]));
        }
    }
    put(at, "model.safetensors.index.json", bytes);
    Weights::open(at).map(drop)
}

/// What is accepted is a model whose table of tensors can be made, and which these weights are not.
fn read_config(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = at.join("config.json");
    let (config, warnings) = parse_config(&path, bytes)?;
    assert!(warnings.len() < 100 && warnings.iter().all(|warning| warning.len() < 1000), "{warnings:?}");
    let weights = at.join("model.safetensors");
    if !weights.exists() {
        write(&weights, seeds::safetensors().remove(0)).unwrap();
    }
    let wrong = Weights::open(at)?.check(&parameters(&config)).unwrap_err();
    assert_eq!(wrong.exit_code(), 2);
    Ok(())
}

const SAMPLE: &str = "ab </s> 12  \u{fdfa}\u{e9}A\n\n  b";

fn read_tokenizer(_: &Path, bytes: &[u8]) -> Result<()> {
    let json = std::str::from_utf8(bytes).map_err(|e| Error::Usage(e.to_string()))?;
    let tokenizer = Tokenizer::from_json("tokenizer.json", json).map_err(Error::Usage)?;
    let ids = tokenizer.encode(&SAMPLE.repeat(40));
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    assert_ne!(tokenizer.special_id("</s>").filter(|id| ids.contains(id)), Some(tokenizer.eos()), "made from text");
    tokenizer.decode(&ids);
    Ok(())
}

fn read_tokenizer_config(at: &Path, bytes: &[u8]) -> Result<()> {
    let tokenizer = at.join("tokenizer.json");
    if !tokenizer.exists() {
        write(&tokenizer, seeds::tokenizer().remove(0)).unwrap();
    }
    put(at, "tokenizer_config.json", bytes);
    Tokenizer::load(&at.to_string_lossy()).map(drop)
}

fn read_data(at: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    static BYTES: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load("byte").unwrap());
    let path = put(at, name, bytes);
    let cache = Cache { folder: Some(at.to_owned()), smallest: u64::MAX };
    let corpus = Corpus::open(&[path], &[], &DataConfig::default(), &BYTES, &cache)?;
    corpus.used_ids(&BYTES)?;
    corpus.census().map(drop)
}

fn read_toml(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = put(at, "run.toml", bytes);
    Config::resolve(path.to_str(), &[])?.validate()
}

fn read_set(_: &Path, bytes: &[u8]) -> Result<()> {
    let sets: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    Config::resolve(None, &sets)?.validate()
}

fn read_manifest(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = put(at, "manifest.json", bytes);
    Manifest::parse(&path, bytes)?;
    match hadal::checkpoint::manifest::verify(at, &[]) {
        Ok(_) => Ok(()),
        Err(e) if e.exit_code() == 2 => Ok(()), // it lists files that are not there
        Err(e) => Err(e),
    }
}

/// Bytes and the marks of ChatML.
static MARKED: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::load("byte").and_then(|bytes| bytes.with_special(&["<|im_start|>", "<|im_end|>"])).unwrap()
});

/// Of every pair that is accepted something counts in both answers, and they differ.
fn read_preferences(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = vec![put(at, "a.jsonl", bytes)];
    let config = DataConfig { path, val_fraction: 0.0, ..DataConfig::default() };
    let encoder = Encoder::new(Template::chatml(&MARKED)?, MARKED.clone(), SftMask::Answers)?;
    let preferences = Preferences::open(&config, 0, encoder, 64, 1)?;
    let (train, val) = preferences.pairs().unwrap();
    assert!(train > 0 && val == 0);
    for pair in (0..train.min(50)).map(|n| preferences.train_pair(n)) {
        let counted = preferences.batch(std::slice::from_ref(&pair), 1).batch.counted();
        assert_eq!(counted, pair.chosen.targets() + pair.rejected.targets());
        assert!(pair.chosen.targets() > 0 && pair.rejected.targets() > 0 && pair.chosen.ids != pair.rejected.ids);
        assert!((pair.margin as f32).is_finite());
    }
    Ok(())
}

/// Every question that is accepted ends with something to answer, and has what an answer is compared with.
fn read_questions(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = vec![put(at, "a.jsonl", bytes)];
    let config = DataConfig { path, val_fraction: 0.0, ..DataConfig::default() };
    let questions = Questions::open(&TaskConfig::default(), &config, &[RewardKind::Exact], 0, 1)?;
    let (train, val) = questions.lengths().unwrap();
    assert!(train > 0 && val == 0);
    for question in (0..train.min(50)).map(|n| questions.question(n, Split::Train)) {
        assert!(!question.reference.unwrap().trim().is_empty());
        assert!(!question.prompt.last().unwrap().content.trim().is_empty());
    }
    Ok(())
}

fn read_template(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = put(at, "chat.jinja", bytes);
    Encoder::new(Template::open(&path, &MARKED)?, MARKED.clone(), SftMask::Answers).map(drop)
}

fn read_state(at: &Path, bytes: &[u8]) -> Result<()> {
    let path = put(at, "trainer_state.json", bytes);
    let state = TrainerState::parse(&path, &read(&path).unwrap())?;
    let (config, seed) = (seeds::drawing(), 1);
    let (Some(drawn), Some(rollout)) = (&state.rollout, &config.rollout) else { return Ok(()) };
    drawn.check(&config, state.step).map_err(|reason| Error::file(&path, format!("has answers that {reason}")))?;
    let (number, part) = (state.step / rollout.updates(), state.step % rollout.updates());
    if drawn.number != number {
        return Ok(()); // others are drawn
    }
    drawn.arrange(&drawn.chosen(rollout, seed, part), &config);
    Ok(())
}

fn read_lora(at: &Path, bytes: &[u8]) -> Result<()> {
    put(at, "lora.json", bytes);
    Adapters::beside(at).map(drop)
}

fn read_metrics(at: &Path, bytes: &[u8]) -> Result<()> {
    put(at, "metrics.jsonl", bytes);
    let run = Run::from_rows("run", &read_stamped(at)?);
    // A picture takes longer than all else.
    if bytes.iter().map(|&b| usize::from(b)).sum::<usize>().is_multiple_of(24) {
        raster(&render(&[run], &PlotOptions::default()));
    }
    Ok(())
}

/// A body by whichever interface takes it.
fn read_request(_: &Path, bytes: &[u8]) -> Result<()> {
    static SERVED: LazyLock<Served> = LazyLock::new(|| {
        let tokenizer = Tokenizer::load("world").unwrap();
        let template = Template::chatml(&tokenizer).unwrap();
        let encoder = Ok(Encoder::new(template, tokenizer.clone(), SftMask::default()).unwrap());
        Served { name: "m".to_owned(), encoder, tokenizer, capacity: 256, created: 0 }
    });
    let by = |kind| Ask::read(kind, bytes, &SERVED, 128);
    let ask = by(Kind::Chat).or_else(|_| by(Kind::Completion)).map_err(|refusal| Error::Usage(refusal.message))?;
    let known = |id: &u32| (*id as usize) < SERVED.tokenizer.vocab_size();
    assert!(ask.requests.len() <= 128 && ask.requests.iter().all(|r| r.prompt.iter().all(known)));
    Ok(())
}
