//! The `hadal` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match hadal::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
