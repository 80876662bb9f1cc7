//! `hadal check`

use super::{existing, model_config, open_weights};
use crate::backend::{Backend, Device};
use crate::check::model::{
    check_model, initial_values, small_biased_config, small_config, small_program, wide_program,
};
use crate::check::{Finding, ops::check_ops};
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::gpu::pipeline::Allowed;
use crate::gpu::self_test;
use crate::graph::Dtype;
use crate::terminal::print;
use crate::train::checkpoint::with_model;
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    print(format_args!("checking {}", device.describe()))?;
    let mut findings = check_ops(gpu, allowed, None)?;
    if !args.ops {
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
    match self_test::matrix_units(gpu) {
        Ok(suffix) => print(format_args!("matrix units: the products of {suffix} are exact on whole numbers"))?,
        Err(reason) => print(format_args!("matrix units: not used, since {reason}"))?,
    }
    report(&findings)
}

/// One line a kernel (or the whole model), then every failure.
fn report(findings: &[Finding]) -> Result<()> {
    let mut rows: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for finding in findings {
        let stem = finding.what.split(',').next().unwrap_or_default();
        let row = rows.entry(stem).or_default();
        row.0 += 1;
        row.1 = row.1.max(finding.outcome.as_ref().copied().unwrap_or(f64::INFINITY));
    }
    for (stem, (count, worst)) in &rows {
        let verdict = if *worst <= 1.0 { "ok" } else { "FAILED" };
        print(format_args!("{stem:<28} {count:>5} comparisons, worst {worst:.3} of the allowed error  {verdict}"))?;
    }
    let failures: Vec<&String> = findings.iter().filter_map(|f| f.outcome.as_ref().err()).collect();
    for failure in &failures {
        print(failure)?;
    }
    let (n, all) = (failures.len(), findings.len());
    match failures.first() {
        Some(first) => Err(Error::CheckFailed(format!("{n} of {all} comparisons failed; the first: {first}"))),
        None => print(format_args!("{all} comparisons, all within their tolerance")),
    }
}
