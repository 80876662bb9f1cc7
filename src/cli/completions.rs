//! `hadal completions`

use super::parse::COMPLETE;
use crate::error::{Error, Result};
use crate::terminal::print;
use clap::Args;
use clap_complete::Shell;
use clap_complete::env::Shells;

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints a script by which the shell asks the program itself, at each completion, what could follow.
pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    let (shells, name) = (Shells::builtins(), args.shell.to_string());
    let shell = shells.completer(&name).ok_or_else(|| Error::Usage(format!("{name}: has no completions")))?;
    let mut script = Vec::new();
    let written = shell.write_registration(COMPLETE, "hadal", "hadal", "hadal", &mut script);
    written.map_err(|e| Error::io("the script", e))?;
    print(String::from_utf8_lossy(&script).trim_end())
}
