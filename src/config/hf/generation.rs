//! `generation_config.json`: how a model is to be drawn from, and which tokens end what it writes.

use super::LARGEST_FILE;
use crate::checkpoint::folder::{inside, inside_if_there};
use crate::error::{Error, Result};
use crate::input::read_json_object;
use serde_json::{Map, Value};
use std::path::Path;

/// The file beside `config.json`.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// Tokens that end an answer, at most: each that is drawn is compared with all of them.
const MOST_ENDS: usize = 64;

/// The keys of the folder's `generation_config.json`, if it has one.
///
/// # Errors
/// If it cannot be read, or is no JSON object.
pub fn read_generation(dir: &Path) -> Result<Option<Map<String, Value>>> {
    let path = inside_if_there(dir, GENERATION_CONFIG)?;
    path.map(|path| read_json_object(&path, LARGEST_FILE)).transpose()
}

/// The tokens that a folder's `config.json` and `generation_config.json` name under `eos_token_id`, each once: a number
/// or a list of them. Negative numbers and null name none.
///
/// # Errors
/// If a file cannot be read, or has something else under that key.
pub fn end_tokens(dir: &Path) -> Result<Vec<u32>> {
    let config = inside(dir, "config.json")?;
    let mut ends = Vec::new();
    for (path, keys) in [
        (config.clone(), Some(read_json_object(&config, LARGEST_FILE)?)),
        (dir.join(GENERATION_CONFIG), read_generation(dir)?),
    ] {
        let named = named_ends(keys.as_ref().and_then(|keys| keys.get("eos_token_id")));
        for end in named.map_err(|reason| Error::file(path, format!("\"eos_token_id\" {reason}")))? {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
    }
    Ok(ends)
}

fn named_ends(value: Option<&Value>) -> std::result::Result<Vec<u32>, String> {
    let list = match value {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    };
    if list.len() > MOST_ENDS {
        return Err(format!("lists {} tokens; at most {MOST_ENDS} are allowed", list.len()));
    }
    let wrong = || "must be a token's number, or a list of them".to_owned();
    let numbers = list.iter().map(|id| id.as_i64().ok_or_else(wrong));
    let numbers = numbers.collect::<std::result::Result<Vec<i64>, _>>()?;
    Ok(numbers.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ends(config: &Value, generation: Option<&Value>) -> Result<Vec<u32>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        if let Some(generation) = generation {
            std::fs::write(dir.path().join(GENERATION_CONFIG), generation.to_string()).unwrap();
        }
        end_tokens(dir.path())
    }

    #[test]
    fn the_ends_of_both_files_are_taken_each_once() {
        let one = json!({"eos_token_id": 4});
        assert_eq!(ends(&one, None).unwrap(), [4]);
        assert_eq!(ends(&json!({"eos_token_id": [1, 4]}), Some(&one)).unwrap(), [1, 4]);
        assert_eq!(ends(&one, Some(&json!({"eos_token_id": [7, 4, -1]}))).unwrap(), [4, 7]);
        assert!(ends(&json!({"eos_token_id": null}), Some(&json!({}))).unwrap().is_empty());
    }

    #[test]
    fn an_end_that_is_no_token_is_refused_by_its_file() {
        for (config, generation, word) in [
            (json!({"eos_token_id": "x"}), json!({}), "config.json"),
            (json!({}), json!({"eos_token_id": [1, 2.5]}), GENERATION_CONFIG),
            (json!({}), json!({"eos_token_id": vec![1; 65]}), "65 tokens"),
            (json!({}), json!([]), "object"),
        ] {
            let error = ends(&config, Some(&generation)).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(word), "{error}");
        }
    }
}
