//! The chat template in a model's folder, where transformers would find it.

use super::Template;
use crate::checkpoint::folder::inside_if_there;
use crate::error::{Error, Result};
use crate::input::{read_json_object, read_text};
use crate::tokenizer::{CHAT_TEMPLATE, CHATML, Tokenizer};
use serde_json::{Map, Value};
use std::path::Path;

/// Larger than any chat template.
const MAX_BYTES: u64 = 1 << 20;
/// Largest `tokenizer_config.json`, in bytes: some list every added token once more.
const MAX_CONFIG_BYTES: u64 = 64 << 20;
/// Where templates for other uses are.
const MORE: &str = "additional_chat_templates";
/// The name, or the file, of the one for conversations.
const DEFAULT: [&str; 2] = ["default", "default.jinja"];

/// A template's text, and what it is called in errors.
pub struct Source {
    /// The file that it stands in.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// ChatML.
    pub fn chatml() -> Source {
        Source { name: "ChatML".to_owned(), text: CHATML.to_owned() }
    }

    /// The file at `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> Result<Source> {
        Ok(Source { name: path.display().to_string(), text: read_text(path, MAX_BYTES)? })
    }

    /// Whether it is ChatML as it comes with the program.
    pub fn is_chatml(&self) -> bool {
        self.text == CHATML
    }

    /// The template.
    ///
    /// # Errors
    /// If it is none.
    pub fn template(&self, tokenizer: &Tokenizer) -> Result<Template> {
        Template::parse(&self.name, &self.text, tokenizer)
    }
}

/// The template of the folder: a file, or in older folders a key of `tokenizer_config.json`, which may have several by
/// name; none if there is none.
///
/// # Errors
/// If it cannot be read, or none of several is the default.
pub fn own_template(folder: &Path) -> Result<Option<Source>> {
    let more = inside_if_there(folder, MORE)?.map(|more| inside_if_there(&more, DEFAULT[1])).transpose()?.flatten();
    if let Some(path) = more.map_or_else(|| inside_if_there(folder, CHAT_TEMPLATE), |path| Ok(Some(path)))? {
        return Source::open(&path).map(Some);
    }
    let Some(path) = inside_if_there(folder, "tokenizer_config.json")? else { return Ok(None) };
    let mut keys = read_json_object(&path, MAX_CONFIG_BYTES)?;
    let found = named(keys.remove("chat_template").unwrap_or_default()).map_err(|e| Error::file(&path, e))?;
    Ok(found.map(|text| Source { name: path.display().to_string(), text }))
}

/// The template under a key: a text; or the default of a list of named ones, or of an object of such.
fn named(value: Value) -> std::result::Result<Option<String>, String> {
    let templates: Map<String, Value> = match value {
        Value::Null => return Ok(None),
        Value::String(text) => return Ok(Some(text)),
        Value::Object(templates) => templates,
        Value::Array(list) => {
            let pair = |item: Value| Some((item.get("name")?.as_str()?.to_owned(), item.get("template")?.clone()));
            list.into_iter().filter_map(pair).collect()
        }
        _ => Map::new(),
    };
    match templates.get(DEFAULT[0]).and_then(Value::as_str) {
        Some(text) => Ok(Some(text.to_owned())),
        None => {
            let names: Vec<&str> = templates.keys().map(String::as_str).collect();
            let names = crate::input::quoted(&names.join(", "));
            Err(format!("has under chat_template no text, and of named templates ({names}) none that is the default"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn the_default_is_found_where_transformers_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let text = || own_template(at).map(|found| found.map(|found| found.text));
        assert_eq!(text().unwrap(), None);
        let list = json!([{"name": "tool_use", "template": "x"}, {"name": "default", "template": "a"}]);
        for (value, found) in [
            (json!(null), None),
            (json!("b"), Some("b")),
            (list, Some("a")),
            (json!({"rag": "x", "default": "c"}), Some("c")),
        ] {
            fs::write(at.join("tokenizer_config.json"), json!({"chat_template": value}).to_string()).unwrap();
            assert_eq!(text().unwrap().as_deref(), found);
        }
        for value in [json!({"rag": "x", "tool_use": "y"}), json!([{"name": "rag", "template": "x"}]), json!(5)] {
            fs::write(at.join("tokenizer_config.json"), json!({"chat_template": value}).to_string()).unwrap();
            assert!(text().unwrap_err().to_string().contains("none that is the default"));
        }
        fs::write(at.join(CHAT_TEMPLATE), "file").unwrap();
        assert_eq!(text().unwrap().as_deref(), Some("file"));
        fs::create_dir(at.join(MORE)).unwrap();
        fs::write(at.join(MORE).join("rag.jinja"), "x").unwrap();
        assert_eq!(text().unwrap().as_deref(), Some("file"));
        fs::write(at.join(MORE).join("default.jinja"), "more").unwrap();
        assert_eq!(text().unwrap().as_deref(), Some("more"));
    }
}
