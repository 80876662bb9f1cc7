//! `hadal plot`

use super::existing;
use crate::error::Result;
use crate::plot;
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
    let runs: Result<Vec<PathBuf>> = args.runs.iter().map(|run| existing(run)).collect();
    plot::draw_runs(&runs?, &plot::PlotOptions::default(), &args.output)
}
