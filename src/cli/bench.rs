//! `hadal bench`

use super::fit::{Target, decide};
use super::{DeviceArgs, bytes, positive};
use crate::backend::Device;
use crate::bench::decode::{self, Load};
use crate::bench::gemm::{Row, measure, of_model, sides, square, squares};
use crate::bench::ladder::{MULTIPLE, RUNGS, climb};
use crate::bench::report::Ratio;
use crate::bench::step::{Bench, KernelRow, Report, compare};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::device::{COOP16, Gpu};
use crate::gpu::pipeline::Allowed;
use crate::graph::Dtype;
use crate::terminal::{print, size};
use crate::tokenizer::Tokenizer;
use clap::{Args, ValueEnum};
use serde_json::json;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Whole updates of a preset: tokens a second.
    Step,
    /// Matrix products: squares, then the preset's own.
    Gemm,
    /// The time of each kernel in one update.
    Kernels,
    /// Generation: tokens a second, and the time of each kernel in a pass.
    Decode,
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
    /// step: beside the same with this key changed, samples taken by turns; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    against: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Samples whose median is reported
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Updates, or passes of decode, in a sample
    #[arg(long, default_value_t = 4)]
    updates: usize,
    /// Refuse plans that need more memory than this, such as 24GiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    vram: Option<u64>,
    /// step and kernels: the device's peak, of which the share that was reached is printed
    #[arg(long, value_name = "TFLOPS", value_parser = rate)]
    peak: Option<f64>,
    /// step and kernels: measure no square product to compare with
    #[arg(long)]
    no_product: bool,
    /// decode: sequences at a time
    #[arg(long, default_value_t = 1, value_parser = positive())]
    streams: usize,
    /// decode: tokens of each prompt
    #[arg(long, default_value_t = 128, value_parser = positive())]
    prompt: usize,
    /// decode: the device's bandwidth in GB/s, of which the share that was reached is printed
    #[arg(long, value_name = "GB/S", value_parser = rate)]
    bandwidth: Option<f64>,
    /// gemm: instead, the product kernels from the simplest on, each checked before it is timed
    #[arg(long)]
    ladder: bool,
    /// gemm --ladder: side of the product, a multiple of 128; 1024 by default, 128 in software
    #[arg(long, value_name = "N", requires = "ladder", value_parser = positive())]
    size: Option<usize>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Reads a rate in 1e12 operations a second.
fn rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("expected 1e12 operations a second, such as 71".to_owned()),
    }
}

pub(super) fn run(args: BenchArgs) -> Result<()> {
    if args.samples == 0 || args.updates == 0 {
        return Err(Error::Usage("--samples and --updates must be at least 1".to_owned()));
    }
    let (what, updates) = (args.what, matches!(args.what, What::Step | What::Kernels));
    for (given, flag, belongs, to) in [
        (!args.against.is_empty(), "--against", what == What::Step, "bench step"),
        (args.peak.is_some(), "--peak", updates, "bench step and bench kernels"),
        (args.no_product, "--no-product", updates, "bench step and bench kernels"),
        (args.bandwidth.is_some(), "--bandwidth", what == What::Decode, "bench decode"),
        (args.ladder, "--ladder", what == What::Gemm, "bench gemm"),
    ] {
        if given && !belongs {
            return Err(Error::Usage(format!("{flag} belongs to {to}")));
        }
    }
    let config = resolve(&args, &[])?;
    let device = args.device.open(config.train.precision)?;
    match what {
        What::Step if !args.against.is_empty() => versus(&args, &config, &device),
        What::Step => step(&args, &config, &device, false),
        What::Kernels => step(&args, &config, &device, true),
        What::Decode => decode(&args, &config, &device),
        What::Gemm if args.ladder => ladder(&args, &device),
        What::Gemm => gemm(&args, &config, &device),
    }
}

/// The configuration, with more keys changed.
fn resolve(args: &BenchArgs, more: &[String]) -> Result<Config> {
    let mut config = Config::resolve(Some(&args.config), &[&args.set[..], more].concat())?;
    if config.model.vocab_size == 0 {
        config.model.vocab_size = Tokenizer::load(&config.data.tokenizer)?.vocab_size();
    }
    config.validate()?;
    Ok(config)
}

/// The program of `config`, which keeps activations or makes them again as `hadal train` would decide.
fn build<'d>(config: &Config, device: &'d Device, cap: Option<u64>) -> Result<Bench<'d>> {
    let mut config = config.clone();
    let known = config.model.vocab_size;
    decide(&mut config, Target { binding_limit: device.binding_limit(), stored: device.stored(), known }, cap);
    Bench::new(&config, device, cap)
}

/// Rate of a square product, unless it is not wanted.
fn product(args: &BenchArgs, device: &Device) -> Result<Option<f64>> {
    if args.no_product { Ok(None) } else { square(device, args.samples).map(Some) }
}

fn step(args: &BenchArgs, config: &Config, device: &Device, profile: bool) -> Result<()> {
    let mut report = build(config, device, args.vram)?.measure(args.samples, args.updates, profile)?;
    report.hold_against(args.peak, product(args, device)?);
    if args.json {
        return print(json!({ "device": device.describe(), "config": args.config, "report": report }));
    }
    print(format_args!("{} on {}", args.config, device.describe()))?;
    figures(&report)?;
    if profile {
        kernel_lines(&report.kernels)?;
    }
    print(
        "Not in these figures: reading data, evaluation, samples, checkpoints. A clock that changes or a device that \
         others use\nmoves them from call to call; to compare settings, use --against.",
    )
}

fn decode(args: &BenchArgs, config: &Config, device: &Device) -> Result<()> {
    let BenchArgs { streams, prompt, samples, updates: passes, .. } = *args;
    let load = Load { streams, prompt, samples, passes };
    let report = decode::measure(&config.model, device, load, args.bandwidth.map(|rate| 1e9 * rate))?;
    if args.json {
        return print(json!({ "device": device.describe(), "config": args.config, "report": report }));
    }
    print(format_args!("{} on {}", args.config, device.describe()))?;
    let [us, low, high] = [report.seconds.median, report.seconds.fastest, report.seconds.slowest].map(|x| 1e6 * x);
    print(format_args!("pass of {streams} x 1 tokens: median {us:.1} us of {samples} samples, {low:.1} to {high:.1}"))?;
    let ([took, taken], rate) = (report.prefill, report.tokens_per_second);
    print(format_args!("{rate:.0} tokens/s; prompts of {prompt}: {:.1} ms, {taken:.0} tokens/s", 1e3 * took))?;
    let [weights, cache] = [report.weight_bytes, report.cache_bytes].map(|bytes| bytes / 1e6);
    let kept = report.cache_bytes_per_token;
    print(format_args!(
        "a pass reads {weights:.1} MB of weights and {cache:.1} MB of the cache, {kept} bytes a token"
    ))?;
    if let Some(share) = report.bandwidth_share {
        print(format_args!("{:.1} % of the stated bandwidth", 100.0 * share))?;
    }
    print(format_args!("memory: plan {}", size(report.plan_bytes)))?;
    kernel_lines(&report.kernels)
}

/// The lines of one program.
fn figures(report: &Report) -> Result<()> {
    let ([batch, length, passes], s) = (report.batch, report.seconds);
    let [ms, low, high] = [s.median, s.fastest, s.slowest].map(|x| 1e3 * x);
    print(format_args!(
        "update: median {ms:.2} ms of {} samples, {low:.2} to {high:.2}; {passes} x {batch} x {length} tokens",
        s.samples
    ))?;
    let (rate, tflops) = (report.tokens_per_second, report.tflops);
    print(format_args!("{rate:.0} tokens/s, {} TFLOP/s by the closed form of hadal plan", digits(tflops)))?;
    if let Some(share) = report.mfu {
        print(format_args!("{:.1} % of the stated peak", 100.0 * share))?;
    }
    if let (Some(share), Some(product)) = (report.mfu_measured, report.product_tflops) {
        print(format_args!("{:.1} % of the {} TFLOP/s of a large square product", 100.0 * share, digits(product)))?;
    }
    let plan = size(report.plan_bytes);
    match (report.allocated_bytes, report.reserved_bytes) {
        (Some(held), Some(set_aside)) => print(format_args!(
            "memory: plan {plan}; {} in buffers, {} set aside on the device",
            size(held),
            size(set_aside)
        )),
        _ => print(format_args!("memory: plan {plan}")),
    }
}

/// A rate with enough digits for a slow device.
fn digits(tflops: f64) -> String {
    match tflops {
        x if x < 0.1 => format!("{x:.5}"),
        x if x < 10.0 => format!("{x:.3}"),
        x => format!("{x:.1}"),
    }
}

fn kernel_lines(rows: &[KernelRow]) -> Result<()> {
    let all: f64 = rows.iter().map(|row| row.seconds).sum();
    for row in rows {
        let (ms, share) = (1e3 * row.seconds, 100.0 * row.seconds / all);
        let tflops = row.tflops.map(|x| format!("  {} TFLOP/s", digits(x))).unwrap_or_default();
        let rate = row.gigabytes_a_second.map(|x| format!("  {x:.1} GB/s")).unwrap_or_default();
        let (name, calls) = (&row.name, row.calls);
        print(format_args!("{name:<34} {ms:>9.3} ms {share:>5.1} % {calls:>6} calls{tflops}{rate}"))?;
    }
    print(
        "On a GPU every dispatch had a pass and two timestamps of its own here: none overlaps the next, and they add \
         up to more\nthan an update. Operations and bytes are those of the formula, without what a shader repeats.",
    )
}

/// The configuration and its other version by turns.
fn versus(args: &BenchArgs, config: &Config, device: &Device) -> Result<()> {
    let other = resolve(args, &args.against)?;
    let own_device = match other.train.precision == config.train.precision {
        true => None,
        false => Some(args.device.open(other.train.precision)?),
    };
    let other_device = own_device.as_ref().unwrap_or(device);
    let a = build(config, device, args.vram)?;
    let b = build(&other, other_device, args.vram.map(|cap| cap.saturating_sub(a.plan_bytes())))?;
    let ([mut a, mut b], ratio) = compare(a, b, args.samples, args.updates)?;
    let found = product(args, device)?;
    let of_other = if own_device.is_some() { product(args, other_device)? } else { found };
    a.hold_against(args.peak, found);
    b.hold_against(args.peak, of_other);
    if args.json {
        let against = json!({
            "set": args.against,
            "device": other_device.describe(),
            "report": b,
            "tokens_per_second_ratio": ratio,
        });
        let device = device.describe();
        return print(json!({ "device": device, "config": args.config, "report": a, "against": against }));
    }
    print(format_args!("{} on {}", args.config, device.describe()))?;
    figures(&a)?;
    print(format_args!("with {} on {}", args.against.join(", "), other_device.describe()))?;
    figures(&b)?;
    verdict(&ratio)
}

fn verdict(ratio: &Ratio) -> Result<()> {
    let Ratio { median, lowest, highest, pairs } = *ratio;
    let shown = if lowest <= 1.0 && highest >= 1.0 { "; 1 lies between: no difference is shown" } else { "" };
    print(format_args!(
        "tokens/s of the second over the first: {median:.4} ({lowest:.4} to {highest:.4}, {pairs} pairs){shown}"
    ))
}

/// The device's GPU, the variants it may use, and what it stores factors as.
fn gpu_of(device: &Device) -> Result<(&Gpu, &Allowed, Dtype)> {
    match device {
        Device::Gpu { gpu, allowed, stored, .. } => Ok((gpu, allowed, *stored)),
        Device::Cpu { .. } => Err(Error::Usage("bench gemm times GPU kernels; give --backend gpu".to_owned())),
    }
}

fn gemm(args: &BenchArgs, config: &Config, device: &Device) -> Result<()> {
    let (gpu, allowed, stored) = gpu_of(device)?;
    let tokens = config.train.micro_batch * config.train.sequence_length;
    let mut products = squares(sides(gpu), stored);
    if stored == Dtype::F16 {
        products.extend(squares(&sides(gpu)[..1], Dtype::F32));
    }
    products.extend(of_model(&config.model, tokens, stored));
    let rows = measure(gpu, allowed, &products, args.samples)?;
    if args.json {
        return print(json!({ "device": device.describe(), "config": args.config, "products": rows }));
    }
    print(device.describe())?;
    rows.iter().try_for_each(|row| print(line(row)))
}

fn line(row: &Row) -> String {
    let (name, us) = (&row.name, 1e6 * row.seconds.median);
    let variant = if row.variant.is_empty() { "portable" } else { row.variant };
    let (tflops, rate) = (digits(row.tflops), row.gigabytes_a_second);
    format!("{name:<36} {variant:<9} {us:>10.1} us {tflops:>8} TFLOP/s {rate:>7.0} GB/s")
}

fn ladder(args: &BenchArgs, device: &Device) -> Result<()> {
    let (gpu, _, stored) = gpu_of(device)?;
    let n = args.size.unwrap_or(if gpu.summary.is_software() { MULTIPLE } else { 1024 });
    let cooperative = stored == Dtype::F16 && gpu.summary.matrix_units == Some(COOP16);
    let rows = climb(gpu, cooperative, n, args.samples)?;
    if args.json {
        return print(json!({ "device": device.describe(), "n": n, "rungs": rows }));
    }
    print(format_args!("nt {n} x {n} x {n} on {}", device.describe()))?;
    for row in &rows {
        let (name, us, s) = (&row.name, 1e6 * row.seconds.median, row.seconds);
        let (gain, spread) = (rows[0].seconds.median / s.median, 100.0 * (s.slowest / s.fastest - 1.0));
        let tflops = digits(row.tflops);
        print(format_args!("{name:<20} {us:>10.1} us {tflops:>8} TFLOP/s {gain:>8.2} x  spread {spread:.0} %"))?;
    }
    if rows.len() < RUNGS.len() {
        print("The rungs on matrix units need f16 products of 16 x 16 x 16 and a precision that is not f32.")?;
    }
    print("Every product was first found equal to the CPU's, to the bit, on whole numbers.")
}
