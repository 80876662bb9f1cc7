//! Paths in a configuration: relative ones are from the current folder, wherever they are named, and a run keeps them
//! absolute, so that its config.toml means the same from any folder.

use super::Config;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Values of `data.tokenizer` that are no path.
pub const TOKENIZERS: [&str; 4] = ["world", "byte", "gpt2", "cl100k"];

impl Config {
    /// The same with every path absolute. Of `reward.command` the program is one, where it is named by a path; its
    /// arguments are its own, and it runs in the current folder.
    ///
    /// # Errors
    /// If a path is not UTF-8, which config.toml is, or the current folder is not known.
    pub fn located(mut self) -> Result<Config> {
        for path in self.data.path.iter_mut().chain(&mut self.data.val_path) {
            *path = located(path)?;
        }
        let template = self.sft.as_mut().filter(|sft| !sft.names_chatml()).and_then(|sft| sft.chat_template.as_mut());
        let judge = self.reward.as_mut().and_then(|reward| reward.model.as_mut());
        for path in [template, judge, self.train.model.as_mut()].into_iter().flatten() {
            *path = located(path)?;
        }
        let program = self.reward.as_mut().and_then(|reward| reward.command.first_mut());
        let program = program.filter(|program| Path::new(program).components().count() > 1);
        let tokenizer = Some(&mut self.data.tokenizer).filter(|name| !TOKENIZERS.contains(&name.as_str()));
        for text in [program, tokenizer].into_iter().flatten() {
            *text = located(Path::new(text))?.to_string_lossy().into_owned();
        }
        Ok(self)
    }
}

/// The path from the root.
fn located(path: &Path) -> Result<PathBuf> {
    if path.to_str().is_none() {
        let reason =
            "is a name that is not UTF-8, which a run's config.toml cannot hold; rename it, or name its folder";
        return Err(Error::file(path, reason));
    }
    if path.as_os_str().is_empty() {
        return Ok(PathBuf::new()); // what is said of it is said where it is opened
    }
    std::path::absolute(path).map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_names_stay() {
        let sets = [
            "data.path=['a.txt', '/b']",
            "data.val_path=v.txt",
            "data.tokenizer=byte",
            "sft.chat_template=t.jinja",
            "reward.model=judge",
            "reward.command=['./judge.py', 'judge.py']",
        ];
        let config = Config::resolve(None, &sets.map(str::to_owned)).unwrap().located().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.data.path, [here.join("a.txt"), std::path::absolute("/b").unwrap()]);
        assert_eq!((config.data.val_path, &*config.data.tokenizer), (vec![here.join("v.txt")], "byte"));
        assert_eq!(config.sft.unwrap().chat_template, Some(here.join("t.jinja")));
        let reward = config.reward.unwrap();
        assert_eq!((reward.model, &*reward.command[1]), (Some(here.join("judge")), "judge.py"));
        assert_eq!(Path::new(&reward.command[0]), here.join("judge.py"));
        let config = Config::resolve(None, &["data.tokenizer=d/tok.json".to_owned()]).unwrap().located().unwrap();
        assert_eq!(Path::new(&config.data.tokenizer), here.join("d/tok.json"));
    }
}
