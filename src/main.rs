//! The `hadal` command.

use clap::Parser;
use hadal::terminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    hadal::gpu::device::silence_display_layer();
    match hadal::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            terminal::note(format_args!("error: {}", terminal::printable(&e.to_string())));
            ExitCode::from(e.exit_code())
        }
    }
}
