//! `hadal plot`

use super::{existing, output};
use crate::error::{Error, Result};
use crate::plot;
use crate::train::journal::METRICS;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct PlotArgs {
    /// Run folders; several are overlaid
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The picture
    #[arg(short, long, value_name = "FILE.png")]
    output: PathBuf,
}

pub(super) fn run(args: PlotArgs) -> Result<()> {
    output(&args.output)?;
    for run in &args.runs {
        if !existing(run)?.join(METRICS).is_file() {
            return Err(Error::file(run, format!("holds no {METRICS}; give run folders")));
        }
    }
    plot::draw_runs(&args.runs, &plot::PlotOptions::default(), &args.output)
}
