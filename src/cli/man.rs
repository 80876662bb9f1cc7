//! `hadal man`

use super::parse::command;
use crate::checkpoint::disk::replace_text;
use crate::error::{Error, Result};
use crate::terminal::print;
use clap::{Args, Command};
use clap_mangen::Man;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Folder for the pages of all commands, made if it is not there; without it, the page of hadal itself is printed
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<()> {
    // The pages of `help` and its commands would repeat the others' names and nothing else.
    let mut program = command().disable_help_subcommand(true);
    program.build();
    let Some(folder) = &args.dir else {
        return print(page(&man(program))?.trim_end());
    };
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    write(program, folder)
}

/// Writes the pages of a command and of those below it.
fn write(command: Command, folder: &Path) -> Result<()> {
    for below in command.get_subcommands() {
        write(below.clone(), folder)?;
    }
    let man = man(command);
    replace_text(&folder.join(man.get_filename()), &page(&man)?)
}

fn man(command: Command) -> Man {
    Man::new(command).source(concat!("hadal ", env!("CARGO_PKG_VERSION")))
}

fn page(man: &Man) -> Result<String> {
    let mut page = Vec::new();
    man.render(&mut page).map_err(|e| Error::io("the manual page", e))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
