//! The `hadal` command.

use hadal::error::Error;
use hadal::terminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    hadal::gpu::device::silence_display_layer();
    match hadal::cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let word = if matches!(e, Error::Stopped { .. }) { "" } else { "error: " };
            terminal::note(format_args!("{word}{}", e.told()));
            ExitCode::from(e.exit_code())
        }
    }
}
