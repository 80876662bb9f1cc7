//! `hadal bench`

use super::fit::{Target, decide};
use super::{DeviceArgs, bytes, gib};
use crate::backend::Device;
use crate::bench::gemm::{Row, measure, of_model, squares};
use crate::bench::step::Bench;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::terminal::print;
use clap::{Args, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Whole updates of a preset: tokens a second.
    Step,
    /// Matrix products: squares, then the preset's own.
    Gemm,
    /// The time of each kernel in one update.
    Kernels,
}

#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    /// What to measure
    what: What,
    /// A preset or a configuration file
    #[arg(default_value = "tiny")]
    config: String,
    /// Overrides a key of the configuration, such as train.micro_batch=32
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Samples whose median is reported
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Updates a sample
    #[arg(long, default_value_t = 4)]
    updates: usize,
    /// Refuse a plan that needs more memory than this, such as 24GiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    vram: Option<u64>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BenchArgs) -> Result<()> {
    if args.samples == 0 || args.updates == 0 {
        return Err(Error::Usage("--samples and --updates must be at least 1".to_owned()));
    }
    let config = Config::resolve(Some(&args.config), &args.set)?;
    let device = args.device.open(config.train.precision)?;
    match args.what {
        What::Step => step(&args, &config, &device, false),
        What::Kernels => step(&args, &config, &device, true),
        What::Gemm => gemm(&args, &config, &device),
    }
}

fn step(args: &BenchArgs, config: &Config, device: &Device, profile: bool) -> Result<()> {
    let mut config = config.clone();
    decide(&mut config, Target { binding_limit: device.binding_limit(), stored: device.stored() }, args.vram);
    let report = Bench::new(&config, device, args.vram)?.measure(args.samples, args.updates, profile)?;
    if args.json {
        let value = serde_json::json!({ "device": device.describe(), "config": args.config, "report": report });
        return print(value);
    }
    let ([batch, length, passes], s) = (report.batch, report.seconds);
    print(format_args!("{}, {batch} x {length} x {passes} on {}", args.config, device.describe()))?;
    let (ms, low, high) = (1e3 * s.median, 1e3 * s.fastest, 1e3 * s.slowest);
    print(format_args!("update: median {ms:.2} ms of {} samples, {low:.2} to {high:.2}", s.samples))?;
    let (rate, tflops, memory) = (report.tokens_per_second, report.tflops, gib(report.plan_bytes));
    print(format_args!("{rate:.0} tokens/s, {tflops:.1} TFLOP/s by the closed form, plan {memory:.2} GiB"))?;
    let all: f64 = report.kernels.iter().map(|k| k.1).sum();
    for (stem, seconds, calls) in &report.kernels {
        let (ms, share) = (1e3 * seconds, 100.0 * seconds / all);
        print(format_args!("{stem:<34} {ms:>9.3} ms {share:>5.1} % {calls:>6} calls"))?;
    }
    Ok(())
}

fn gemm(args: &BenchArgs, config: &Config, device: &Device) -> Result<()> {
    let Device::Gpu { gpu, allowed, stored, .. } = device else {
        return Err(Error::Usage("bench gemm times GPU kernels; give --backend gpu".to_owned()));
    };
    let tokens = config.train.micro_batch * config.train.sequence_length;
    let sizes: &[usize] = if gpu.summary.is_software() { &[256] } else { &[4096, 8192] };
    let mut products = squares(sizes, *stored);
    if *stored == Dtype::F16 {
        products.extend(squares(&sizes[..1], Dtype::F32));
    }
    products.extend(of_model(&config.model, tokens, *stored));
    let rows = measure(gpu, allowed, &products, args.samples)?;
    if args.json {
        return print(serde_json::json!({ "device": device.describe(), "config": args.config, "products": rows }));
    }
    print(device.describe())?;
    rows.iter().try_for_each(line)
}

fn line(row: &Row) -> Result<()> {
    let (name, us) = (&row.name, 1e6 * row.seconds.median);
    let variant = if row.variant.is_empty() { "portable" } else { row.variant };
    let (tflops, rate) = (row.tflops, row.gigabytes_a_second);
    print(format_args!("{name:<36} {variant:<9} {us:>10.1} us {tflops:>7.2} TFLOP/s {rate:>7.0} GB/s"))
}
