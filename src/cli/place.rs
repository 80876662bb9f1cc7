//! Where a run lives: `--out` and `--resume`, and the commands that are said about it.

use super::DeviceArgs;
use crate::error::{Error, Result};
use crate::terminal::quoted;
use crate::train::place::{Made, Place, next_folder};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// The folder of a run, and whether it goes on there.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct PlaceArgs {
    /// Run folder; runs/NAME-N by default
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint in RUN, or in --out, with its own configuration unless CONFIG names another
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
}

impl PlaceArgs {
    /// The folder that is named, if one is, and whether a run goes on in it.
    ///
    /// Errors: it is named twice; a run is to go on and none is named, or one that is not there.
    fn named(self) -> Result<Option<(PathBuf, bool)>> {
        match (self.out, self.resume) {
            (out, None) => Ok(out.map(|out| (out, false))),
            (Some(out), Some(None)) => Ok(Some((out, true))),
            (None, Some(Some(run))) if run.is_dir() => Ok(Some((run, true))),
            (None, Some(Some(run))) => Err(Error::file(run, "is no run folder to go on with")),
            (None, Some(None)) => {
                let reason = "--resume needs the run folder: --resume RUN, or --out RUN --resume";
                Err(Error::Usage(reason.to_owned()))
            }
            (Some(out), Some(Some(run))) => Err(Error::Usage(format!(
                "--resume {} and --out {} both name a run folder; name one",
                run.display(),
                out.display()
            ))),
        }
    }

    /// The run folder, runs/NAME-N where none is named.
    pub(super) fn place(self, name: &str) -> Result<Place> {
        self.named()?.map_or_else(|| Place::next(name), |(out, resume)| Place::of(&out, resume))
    }

    /// The folder of several runs, runs/NAME-N where none is named; whether they go on; what was made of it.
    pub(super) fn folder(self, name: &str) -> Result<(PathBuf, bool, Made)> {
        match self.named()? {
            Some((out, resume)) => Ok((out, resume, Made::default())),
            None => next_folder(name).map(|(out, made)| (out, false, made)),
        }
    }
}

/// The command that goes on with what `words` began in the folder `out`, on the device and within the memory that were
/// asked for.
pub(super) fn again(words: &[&str], out: &Path, device: &DeviceArgs, vram: Option<u64>) -> String {
    let mut command: Vec<String> = [&["hadal"], words].concat().into_iter().map(str::to_owned).collect();
    command.extend(["--resume".to_owned(), quoted(&out.to_string_lossy())]);
    let backend = device.backend.to_possible_value().filter(|_| device.backend != Default::default());
    command.extend(backend.map(|backend| format!("--backend {}", backend.get_name())));
    command.extend(device.adapter.as_ref().map(|adapter| format!("--adapter {}", quoted(adapter))));
    command.extend(vram.map(|bytes| match bytes % (1 << 30) {
        0 => format!("--vram {}GiB", bytes >> 30),
        _ => format!("--vram {bytes}"),
    }));
    command.join(" ")
}

/// `error` with the command that goes on in `out`, where a signal stopped a run that left something there.
pub(super) fn with_command(error: Error, out: &Path, again: impl FnOnce() -> String) -> Error {
    match error {
        Error::Stopped { signal, step: 0, .. } if !out.is_dir() => {
            Error::Stopped { signal, step: 0, again: String::new() }
        }
        Error::Stopped { signal, step, .. } => Error::Stopped { signal, step, again: again() },
        error => error,
    }
}
