//! The one error type of the crate. Every variant is one sentence that names the place and says what to do.

use crate::stop::Signal;
use crate::terminal::sentence;
use std::path::{Path, PathBuf};

/// Everything that can go wrong, grouped by the exit code that the program leaves with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // Input, configuration and usage: exit code 2.
    /// A configuration key has a value that cannot be used, or is unknown.
    #[error("{}", sentence(format_args!("{key}: {reason}")))]
    Config {
        /// Dotted key, as the user would write it after `--set`.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file's content is not what its format promises.
    #[error("{}", sentence(format_args!("{}: {reason}", path.display())))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line, key or tensor, and what would be right.
        reason: String,
    },
    /// The command line asks for something that does not exist or does not fit together.
    #[error("{}", sentence(format_args!("{_0}")))]
    Usage(String),
    /// Several things are wrong with the input.
    #[error("{}", sentence(format_args!("{summary}: {}", list.join("; "))))]
    Several {
        /// How many, with what, and what to do.
        summary: String,
        /// Each.
        list: Vec<String>,
    },

    // Memory foretold not to fit: exit code 3.
    /// The plan needs more memory than there is or than the user allows.
    #[error("{0}")]
    Memory(String),

    // Device: exit code 4.
    /// No usable adapter, or the device was lost or refused its work.
    #[error("{0}")]
    Device(String),

    // Disk: exit code 5.
    /// Reading or writing failed.
    #[error("{}", sentence(format_args!("{}: {}", path.display(), plain(source))))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },

    /// Another process owns the run folder: exit code 6.
    #[error("{}: another hadal process trains in this folder; wait for it or choose another --out", path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },

    /// Loss or gradients are not finite: exit code 7.
    #[error("{0}")]
    Numerics(String),

    /// A signal asked a run to stop, and what it had learnt was saved: exit code 128 and the signal's number.
    #[error("{}", stopped(signal, *step, again))]
    Stopped {
        /// The signal.
        signal: Signal,
        /// Updates done.
        step: u64,
        /// The command that goes on with the run; empty where nothing is left of it.
        again: String,
    },

    /// `hadal check` found a difference: exit code 1.
    #[error("{0}")]
    CheckFailed(String),
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A configuration error at `key`.
    pub fn config(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Config { key: key.into(), reason: reason.into() }
    }

    /// An error of the device, in one line: the graphics library draws its messages over several.
    pub fn device(reason: impl ToString) -> Self {
        Error::Device(reason.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// An error in the content of `path`.
    pub fn file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// An input or output error at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_owned(), source }
    }

    /// An error of making or replacing `path`. A folder that is missing then is the disk's fault, not the user's: what
    /// the user names is looked up before.
    pub fn write(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => std::io::ErrorKind::Other,
            kind => kind,
        };
        Error::io(path, std::io::Error::new(kind, format!("cannot be written: {}", plain(&source))))
    }

    /// What is told on a terminal: in one line, or, of several things, each in one of its own.
    pub fn told(&self) -> String {
        let Error::Several { summary, list } = self else { return self.to_string() };
        list.iter().fold(format!("{}:", sentence(summary)), |text, one| text + "\n  " + &sentence(one))
    }

    /// The process exit code: 1 failed check, 2 bad input, 3 memory, 4 device, 5 disk, 6 locked, 7 numerics, 130 or so
    /// stopped by a signal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::CheckFailed(_) => 1,
            Error::Config { .. } | Error::File { .. } | Error::Usage(_) | Error::Several { .. } => 2,
            Error::Memory(_) => 3,
            Error::Device(_) => 4,
            // What the user named but does not exist is bad input; everything else is the disk's fault.
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 2,
            Error::Io { .. } => 5,
            Error::Locked { .. } => 6,
            Error::Numerics(_) => 7,
            Error::Stopped { signal, .. } => 128 + signal.number,
        }
    }
}

fn stopped(signal: &Signal, step: u64, again: &str) -> String {
    let name = signal.name;
    let what = match step {
        0 if again.is_empty() => return format!("stopped by {name} before the first update; nothing was learnt yet"),
        0 => format!("stopped by {name} before the first update; nothing was learnt yet; begin again with:"),
        _ => format!("stopped by {name} after step {step}, which is saved; go on with:"),
    };
    format!("{what}\n    {again}")
}

/// The operating system's word without its number.
fn plain(source: &std::io::Error) -> String {
    let text = source.to_string();
    text.split_once(" (os error ").map_or(text.clone(), |(words, _)| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let error = Error::device("shader add: \n  | \n1 | let x = 1\n  |     ^ no type\n");
        assert_eq!(error.to_string(), "shader add: | 1 | let x = 1 | ^ no type");
        assert_eq!(error.exit_code(), 4);
    }
}
