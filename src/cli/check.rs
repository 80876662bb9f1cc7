//! `hadal check`

use super::{existing, model_config, open_weights};
use crate::backend::{Backend, Device};
use crate::check::model::{
    check_model, initial_values, small_biased_config, small_config, small_program, wide_program,
};
use crate::check::{Finding, ops::check_ops};
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::gpu::device::Gpu;
use crate::gpu::pipeline::Allowed;
use crate::gpu::self_test;
use crate::graph::Dtype;
use crate::kernels::KERNELS;
use crate::terminal::{bar_style, note, print};
use crate::train::checkpoint::with_model;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// A weight is split here, so that the parts are checked too.
const SPLIT_BYTES: u64 = 4096;

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Only the kernels on their own cases, not a whole model
    #[arg(long)]
    ops: bool,
    /// Check the recordings of this model instead of a small one's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Number or part of the name of an adapter, as `hadal info` lists them
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
}

pub(super) fn run(args: CheckArgs) -> Result<()> {
    let device = Device::open(Backend::Gpu, args.adapter.as_deref(), Precision::Auto)?;
    let Device::Gpu { gpu, allowed, .. } = &device else {
        return Err(Error::Device("there is no GPU to check".to_owned()));
    };
    let then = if args.ops { "" } else { ", then a whole model" };
    print(format_args!("checking {}: {} kernels on their own cases{then}", device.describe(), KERNELS.len()))?;
    let mut all = Tally::default();
    kernels(gpu, allowed, &mut all)?;
    let mut findings = Vec::new();
    if !args.ops {
        note("checking the recordings of a model");
        match &args.model {
            None => {
                for config in [small_config(), small_biased_config()] {
                    let program = small_program(&config, SPLIT_BYTES, Dtype::F32);
                    findings.extend(check_model(gpu, &Allowed::portable(), &program, initial_values)?);
                }
                if gpu.summary.has_f16() {
                    let program = small_program(&small_config(), SPLIT_BYTES, Dtype::F16);
                    findings.extend(check_model(gpu, allowed, &program, initial_values)?);
                }
                if device.stored() == Dtype::F16 {
                    let program = wide_program();
                    findings.extend(check_model(gpu, allowed, &program, initial_values)?);
                }
            }
            Some(model) => {
                let (config, weights) = with_model(&existing(model)?, |folder| {
                    let config = model_config(folder)?;
                    let weights = open_weights(folder, &config)?;
                    Ok((config, weights))
                })?;
                let program = small_program(&config, device.binding_limit(), device.stored());
                findings.extend(check_model(gpu, allowed, &program, |spec, values| weights.load(spec, values))?);
            }
        }
    }
    all.add(findings)?;
    match self_test::matrix_units(gpu) {
        Ok(suffix) => print(format_args!("matrix units: the products of {suffix} are exact on whole numbers"))?,
        Err(reason) => print(format_args!("matrix units: not used, since {reason}"))?,
    }
    all.verdict()
}

/// Runs the cases of every kernel and says how it did, one after the other; on a terminal with a bar.
fn kernels(gpu: &Gpu, allowed: &Allowed, all: &mut Tally) -> Result<()> {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(KERNELS.len() as u64), target);
    bar.set_style(bar_style("{bar:24.cyan/238} kernel {pos} of {len}, {elapsed} so far: {wide_msg}"));
    bar.enable_steady_tick(Duration::from_millis(500));
    for kernel in KERNELS {
        bar.set_message(kernel.stem);
        let findings = check_ops(gpu, allowed, Some(kernel.stem))?;
        bar.suspend(|| all.add(findings))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What was compared so far.
#[derive(Default)]
struct Tally {
    comparisons: usize,
    failures: Vec<String>,
}

impl Tally {
    /// One line a form of a kernel, or the whole model.
    fn add(&mut self, findings: Vec<Finding>) -> Result<()> {
        let mut rows: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for finding in &findings {
            let stem = finding.what.split(',').next().unwrap_or_default();
            let row = rows.entry(stem).or_default();
            row.0 += 1;
            row.1 = row.1.max(finding.outcome.as_ref().copied().unwrap_or(f64::INFINITY));
        }
        for (stem, (count, worst)) in &rows {
            let verdict = if *worst <= 1.0 { "ok" } else { "FAILED" };
            print(format_args!("{stem:<28} {count:>5} comparisons, worst {worst:.3} of the allowed error  {verdict}"))?;
        }
        self.comparisons += findings.len();
        self.failures.extend(findings.into_iter().filter_map(|finding| finding.outcome.err()));
        Ok(())
    }

    /// Every failure, and what follows from all.
    fn verdict(&self) -> Result<()> {
        self.failures.iter().try_for_each(print)?;
        let (n, all) = (self.failures.len(), self.comparisons);
        match self.failures.first() {
            Some(first) => Err(Error::CheckFailed(format!("{n} of {all} comparisons failed; the first: {first}"))),
            None => print(format_args!("{all} comparisons, all within their tolerance")),
        }
    }
}
