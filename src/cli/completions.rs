//! `hadal completions`

use super::Cli;
use crate::error::Result;
use crate::terminal::print;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hadal", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}
