//! Layers of configuration: a preset, over it a file, over that each `--set`. Every key of a layer is judged in that
//! layer, so that an error names the line or the argument it comes from.

use super::Config;
use super::aliases::{self, Meaning};
use super::data::DataConfig;
use super::dpo::{DpoConfig, RewardModelConfig};
use super::lora::LoraConfig;
use super::model::ModelConfig;
use super::reward::RewardConfig;
use super::rollout::{GrpoConfig, PpoConfig, RolloutConfig};
use super::schedule::ScheduleConfig;
use super::sft::SftConfig;
use super::task::TaskConfig;
use super::train::{LogConfig, OptimizerConfig, TrainConfig};
use crate::error::{Error, Result};
use crate::input::read_text;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor, value};
use std::path::Path;
use toml::de::DeTable;
use toml::{Table, Value};

/// Name and text of every preset, usable wherever a configuration file is.
pub const PRESETS: &[(&str, &str)] = &[
    ("tiny", include_str!("../../assets/configs/tiny.toml")),
    ("small", include_str!("../../assets/configs/small.toml")),
    ("seed", include_str!("../../assets/configs/seed.toml")),
    ("seed-literal", include_str!("../../assets/configs/seed-literal.toml")),
    ("v2-lite", include_str!("../../assets/configs/v2-lite.toml")),
    ("sft", include_str!("../../assets/configs/sft.toml")),
    ("reward", include_str!("../../assets/configs/reward.toml")),
    ("dpo", include_str!("../../assets/configs/dpo.toml")),
    ("grpo", include_str!("../../assets/configs/grpo.toml")),
    ("ppo", include_str!("../../assets/configs/ppo.toml")),
];

/// The preset without further arguments, and under a file that names none. It sets no key that can be absent:
/// TOML has no word for absence, so a complete file laid over it could not take the key away again.
const DEFAULT_PRESET: &str = "tiny";

/// Bytes of a configuration file.
const LARGEST_FILE: u64 = 1 << 20;

/// The top-level key with which a file names the preset that it is laid over.
const BASE: &str = "preset";

/// One table of the configuration.
struct Section {
    name: &'static str,
    keys: fn() -> &'static [&'static str],
    check: fn(Table) -> std::result::Result<(), String>,
}

impl Section {
    const fn of<T: DeserializeOwned>(name: &'static str) -> Self {
        Section { name, keys: field_names::<T>, check: check::<T> }
    }
}

const SECTIONS: &[Section] = &[
    Section::of::<ModelConfig>("model"),
    Section::of::<DataConfig>("data"),
    Section::of::<TrainConfig>("train"),
    Section::of::<OptimizerConfig>("optimizer"),
    Section::of::<ScheduleConfig>("schedule"),
    Section::of::<LoraConfig>("lora"),
    Section::of::<LogConfig>("log"),
    Section::of::<SftConfig>("sft"),
    Section::of::<DpoConfig>("dpo"),
    Section::of::<RewardModelConfig>("reward_model"),
    Section::of::<GrpoConfig>("grpo"),
    Section::of::<PpoConfig>("ppo"),
    Section::of::<RolloutConfig>("rollout"),
    Section::of::<TaskConfig>("task"),
    Section::of::<RewardConfig>("reward"),
];

/// What the file `config` itself says, if it is one.
pub(super) fn own(config: Option<&str>) -> Result<Table> {
    match config.filter(|name| preset(name).is_none()) {
        Some(name) => toml::from_str(&read(name)?).map_err(|e| Error::config(name, e.message().replace('\n', " "))),
        None => Ok(Table::new()),
    }
}

pub(super) fn resolve(config: Option<&str>, change: Option<&dyn Fn(&mut Config)>, sets: &[String]) -> Result<Config> {
    let name = config.unwrap_or(DEFAULT_PRESET);
    let mut table = match preset(name) {
        Some(text) => layer(name.as_ref(), text, None)?,
        None => layer(name.as_ref(), &read(name)?, Some(DEFAULT_PRESET))?,
    };
    if let Some(change) = change {
        let mut changed = whole(name, table)?;
        change(&mut changed);
        table = Table::try_from(changed).map_err(|e| Error::config(name, e.to_string()))?;
    }
    for set in sets {
        apply_set(&mut table, set)?;
    }
    whole(name, table)
}

/// The configuration in the text of the file `name`.
pub(super) fn parse(name: &str, text: &str) -> Result<Config> {
    whole(name, layer(name.as_ref(), text, Some(DEFAULT_PRESET))?)
}

/// Single keys have passed where they were laid; what is left concerns tables inside of a section.
fn whole(name: &str, table: Table) -> Result<Config> {
    table.try_into().map_err(|e: toml::de::Error| Error::config(name, friendly(e.message())))
}

fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

fn preset_names() -> String {
    PRESETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn read(name: &str) -> Result<String> {
    let path = Path::new(name);
    if !path.exists() {
        return Err(Error::Usage(format!("{name}: neither a file nor a preset (presets: {})", preset_names())));
    }
    if path.is_dir() {
        return Err(Error::file(path, "is a folder: name a TOML file, such as the config.toml of a run"));
    }
    let text = read_text(path, LARGEST_FILE)?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// The table of `text` laid over the preset that it names, or over `base`.
fn layer(path: &Path, text: &str, base: Option<&str>) -> Result<Table> {
    let at = |offset: usize, reason: String| Error::file(path, format!("line {}: {reason}", line_of(text, offset)));
    let broken = |e: toml::de::Error| at(e.span().map_or(0, |s| s.start), e.message().replace('\n', " "));
    let spans = DeTable::parse(text).map_err(broken)?;
    let mut own: Table = toml::from_str(text).map_err(broken)?;
    let offset = |section: &str, key: Option<&str>| place(spans.get_ref(), section, key);

    let mut table = match (own.remove(BASE), base) {
        (Some(Value::String(name)), _) => match preset(&name).filter(|known| *known != text) {
            Some(text) => layer(name.as_ref(), text, None)?,
            None => {
                let reason = format!("{BASE}: {name:?} is no preset; the presets are {}", preset_names());
                return Err(at(offset(BASE, None), reason));
            }
        },
        (Some(_), _) => return Err(at(offset(BASE, None), format!("{BASE}: must be the name of a preset, in quotes"))),
        (None, Some(base)) => layer(base.as_ref(), preset(base).unwrap_or_default(), None)?,
        (None, None) => Table::new(),
    };
    for (name, content) in own {
        let section = find_section(&name).map_err(|reason| at(offset(&name, None), format!("{name}: {reason}")))?;
        let Value::Table(content) = content else {
            return Err(at(offset(&name, None), format!("{name}: must be a section, written [{name}]")));
        };
        for (key, value) in content {
            // A table inside of a section comes whole, or keys of the layer below would be mixed into it.
            section_of(&mut table, section.name).insert(key.clone(), value);
            check_key(&table, section, &key)
                .map_err(|reason| at(offset(&name, Some(&key)), format!("{name}.{key}: {reason}")))?;
        }
    }
    Ok(table)
}

/// The byte at which `section`, or `key` in it, begins; 0 if it cannot be found.
fn place(table: &DeTable, section: &str, key: Option<&str>) -> usize {
    let Some((name, content)) = table.iter().find(|(name, _)| name.get_ref() == section) else { return 0 };
    let inner = content.get_ref().as_table().zip(key);
    let found = inner.and_then(|(inner, key)| inner.keys().find(|name| name.get_ref() == key));
    found.unwrap_or(name).span().start
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// What a value is to be that a list is.
const LIST: &str = "a list in brackets";

/// Applies `KEY=VALUE`. The value is the first of these readings that suits the key: TOML, bare text, a list of that
/// one text.
fn apply_set(table: &mut Table, set: &str) -> Result<()> {
    let Some((path, text)) = set.split_once('=') else {
        return Err(Error::Usage(format!("--set {set}: write it as SECTION.KEY=VALUE, such as train.steps=100")));
    };
    let (path, text) = (path.trim(), text.trim());
    let Some((name, rest)) = path.split_once('.') else {
        let reason = match find_section(path) {
            Ok(_) => "is a section: name a key in it, as SECTION.KEY=VALUE".to_owned(),
            Err(reason) => reason,
        };
        return Err(Error::config(path, reason));
    };
    let section = find_section(name).map_err(|_| Error::config(path, unknown(path)))?;
    let (key, inner) = rest.split_once('.').map_or((rest, None), |(key, inner)| (key, Some(inner)));
    let bare = Value::String(text.to_owned());
    let list = Value::Array(vec![bare.clone()]);
    let readings = [text.parse::<Value>().ok(), Some(bare), Some(list)];
    let mut first: Option<String> = None;
    for value in readings.into_iter().flatten() {
        let mut attempt = table.clone();
        let target = section_of(&mut attempt, name);
        match inner {
            Some(inner) => merge(target, key, nest(inner, value)),
            None => drop(target.insert(key.to_owned(), value)),
        }
        match check_key(&attempt, section, key) {
            Ok(()) => {
                *table = attempt;
                return Ok(());
            }
            // That a text is no list says less than what is wrong with a list of it.
            Err(reason) => first = first.filter(|first| !first.ends_with(LIST)).or(Some(reason)),
        }
    }
    Err(Error::config(path, first.unwrap_or_default()))
}

/// `value` inside of one table for each part of the dotted `path`.
fn nest(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, part| Value::Table(Table::from_iter([(part.to_owned(), value)])))
}

fn section_of<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let entry = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(section) => section,
        _ => unreachable!("layers hold sections only"),
    }
}

/// Sets `key`, descending where both the old and the new value are tables.
fn merge(into: &mut Table, key: &str, value: Value) {
    match (into.get_mut(key), value) {
        (Some(Value::Table(old)), Value::Table(new)) => {
            for (key, value) in new {
                merge(old, &key, value);
            }
        }
        (_, value) => drop(into.insert(key.to_owned(), value)),
    }
}

fn find_section(name: &str) -> std::result::Result<&'static Section, String> {
    SECTIONS.iter().find(|s| s.name == name).ok_or_else(|| unknown(name))
}

/// Whether `key` exists and the value that `table` has for it is of its type.
fn check_key(table: &Table, section: &Section, key: &str) -> std::result::Result<(), String> {
    if !(section.keys)().contains(&key) {
        return Err(unknown(&format!("{}.{key}", section.name)));
    }
    let value = table.get(section.name).and_then(|s| s.get(key)).cloned();
    (section.check)(value.map(|value| (key.to_owned(), value)).into_iter().collect())
}

fn check<T: DeserializeOwned>(table: Table) -> std::result::Result<(), String> {
    table.try_into::<T>().map(drop).map_err(|e| friendly(e.message()))
}

/// Serde's message in the words of a configuration file.
fn friendly(message: &str) -> String {
    let (before, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let expected = match expected {
        "" => return message.replace('\n', " "),
        "usize" | "u64" | "u32" => "a whole number of at least 0",
        "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a sequence" => LIST,
        "a map" => "a table, such as {type = \"linear\", factor = 4}",
        "string or table" | "string only" => "one of its names, in quotes",
        other => other,
    };
    format!("{}, expected {}", before.replace('\n', " "), expected.replace('\n', " "))
}

/// Every key, as `section.key`.
pub fn keys() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|s| (s.keys)().iter().map(|key| format!("{}.{key}", s.name)))
}

/// What to say about a key that does not exist: what other trainers mean by it, or the nearest one that does, if any is
/// near.
fn unknown(path: &str) -> String {
    let (section, key) = path.split_once('.').unwrap_or(("", path));
    match aliases::meaning(key) {
        Some(Meaning::Key(known)) => return format!("unknown key; here it is {known}"),
        Some(Meaning::Advice(advice)) => return format!("unknown key; {advice}"),
        None => {}
    }
    let sections = SECTIONS.iter().map(|s| (distance(s.name, path), 0, format!("[{}]", s.name)));
    let keys = SECTIONS.iter().flat_map(|s| {
        let away = distance(s.name, section).min(1);
        (s.keys)().iter().map(move |known| (distance(known, key), away, format!("{}.{known}", s.name)))
    });
    let near = |edits: usize| edits <= key.chars().count().div_ceil(3);
    match keys.chain(sections.filter(|_| section.is_empty())).min() {
        Some((edits, _, nearest)) if near(edits) => format!("unknown key; the nearest known one is {nearest}"),
        _ => "unknown key".to_owned(),
    }
}

/// Edits (insertions, removals, replacements of one letter) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The field names of a structure, as its `Deserialize` implementation announces them.
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut probe = FieldProbe(&[]);
    // The probe ends every attempt with an error, after noting the names.
    let _ = T::deserialize(&mut probe);
    probe.0
}

struct FieldProbe(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut FieldProbe {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> std::result::Result<V::Value, value::Error> {
        self.0 = fields;
        Err(value::Error::custom("only the names are wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> std::result::Result<V::Value, value::Error> {
        Err(value::Error::custom("only structures have names"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_configuration_is_a_section() {
        let names: Vec<_> = SECTIONS.iter().map(|s| s.name).collect();
        assert_eq!(names, field_names::<Config>());
        assert!(SECTIONS.iter().all(|s| !(s.keys)().is_empty()));
    }

    #[test]
    fn the_edit_distance_has_its_textbook_values() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("steps", "steps"), 0);
        assert_eq!(distance("stpes", "steps"), 2);
    }
}
