//! Models that are named as the Hugging Face Hub names them: found where its own programs keep what they downloaded.
//! Nothing is downloaded here.

use crate::data::hub_name;
use crate::error::{Error, Result};
use crate::terminal::{note, printable};
use std::path::{Path, PathBuf};

/// The folder that MODEL names: itself, or the newest snapshot of a model of that name in the Hub's cache.
///
/// Errors: there is neither.
pub(super) fn existing(model: &Path) -> Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_owned());
    }
    let text = model.to_string_lossy();
    if text.contains("://") {
        let reason = "is an address, and nothing is downloaded; `hf download ORG/NAME --local-dir FOLDER` fetches a \
                      model of the Hub";
        return Err(Error::file(model, reason));
    }
    let Some(name) = hub_name(&text) else { return Err(Error::file(model, "does not exist")) };
    if let Some(folder) = cache().and_then(|cache| snapshot(&cache, &text)) {
        note(printable(&format!("{text} is taken from {}", folder.display())));
        return Ok(folder);
    }
    let reason = format!(
        "does not exist, and nothing is downloaded; `hf download {text} --local-dir {name}` fetches the Hub's model of \
         this name"
    );
    Err(Error::file(model, reason))
}

/// Where the Hub's programs keep what they downloaded.
fn cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| home.join(".cache"));
    let of_user = || variable("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("huggingface"));
    variable("HF_HUB_CACHE").or_else(|| variable("HF_HOME").or_else(of_user).map(|base| base.join("hub")))
}

/// The snapshot of `name` in `cache` that its main branch was at when it was last downloaded.
fn snapshot(cache: &Path, name: &str) -> Option<PathBuf> {
    let folder = cache.join(format!("models--{}", name.replace('/', "--")));
    let revision = crate::input::read_text(&folder.join("refs/main"), 1 << 10).ok()?;
    let revision = revision.trim();
    let plain = !revision.is_empty() && revision.chars().all(|c| c.is_ascii_alphanumeric());
    Some(folder.join("snapshots").join(revision)).filter(|found| plain && found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_found_by_the_name_of_its_model() {
        let at = tempfile::tempdir().unwrap();
        let model = at.path().join("models--org--tiny");
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::create_dir_all(model.join("snapshots/abc123")).unwrap();
        assert_eq!(snapshot(at.path(), "org/tiny"), None);
        std::fs::write(model.join("refs/main"), "abc123\n").unwrap();
        assert_eq!(snapshot(at.path(), "org/tiny"), Some(model.join("snapshots/abc123")));
        assert_eq!(snapshot(at.path(), "org/other"), None);
        std::fs::write(model.join("refs/main"), "../..").unwrap();
        assert_eq!(snapshot(at.path(), "org/tiny"), None);
    }
}
