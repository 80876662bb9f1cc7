//! What the checkpoints of a run say of the configuration that they were made with: a run folder's own file may have
//! been edited, or be gone.

use super::journal::CONFIG;
use super::rotation::list;
use crate::checkpoint::manifest::read_listed;
use crate::config::Config;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Largest accepted file.
const LARGEST: u64 = 1 << 20;

/// A checkpoint with the configuration that it was made with.
pub struct Recorded {
    /// The checkpoint.
    pub folder: PathBuf,
    /// The configuration; none where an older version wrote the checkpoint, or somebody took the file out of it.
    pub config: Option<Config>,
}

impl Recorded {
    /// Of the newest checkpoint of `run` whose configuration is not damaged; none where there is no such checkpoint.
    /// Whether the checkpoint is sound otherwise is not looked at: `--resume` passes over those that are not.
    ///
    /// # Errors
    /// If the folder of checkpoints cannot be read.
    pub fn newest(run: &Path) -> Result<Option<Recorded>> {
        for (_, folder) in list(run)?.into_iter().rev() {
            match config_of(&folder) {
                Ok(config) => return Ok(Some(Recorded { folder, config })),
                Err(Error::File { .. } | Error::Io { .. } | Error::Config { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// The file, if the checkpoint has one.
    pub fn file(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|_| self.folder.join(CONFIG))
    }
}

/// The configuration in a checkpoint's folder, held to the manifest.
fn config_of(folder: &Path) -> Result<Option<Config>> {
    let Some(bytes) = read_listed(folder, CONFIG, LARGEST)? else { return Ok(None) };
    let path = folder.join(CONFIG);
    let text = String::from_utf8(bytes).map_err(|e| Error::file(&path, e.to_string()))?;
    Config::parse(&path.to_string_lossy(), &text).map(Some)
}
