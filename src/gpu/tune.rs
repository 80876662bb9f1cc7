//! Start-up tuning: of the ways to cut a product's portable form, which is fastest on this very device.
//!
//! The ways of a [`Tunable`](crate::kernels::Tunable) differ in no bit of a result, so what is chosen here changes how
//! long a run takes and nothing else. Each shape of a program that is large enough to matter is timed in the program's
//! own buffers, before they hold anything, with factors that are noise and are cleared afterwards. The whole takes a
//! few seconds at most: shapes come in the order of what they weigh in the program, and those that were not reached
//! keep their defaults until a later start reaches them. What was found is kept, so that a warm start measures nothing.
//!
//! Software adapters keep the defaults: their times are those of a CPU that others use too, and nobody trains on them.

use super::device::Gpu;
use super::pipeline::{Allowed, Choice, Pipeline, Pipelines};
use super::timing::{average, noise};
use super::tuned::{Tuned, key};
use crate::error::Result;
use crate::graph::{Step, Tensor};
use crate::kernels::{Access, Element, Halves, Kernel, Way, Ways};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Seconds after which no further shape is begun.
const LIMIT: f64 = 3.0;
/// Multiply-adds below which a dispatch is over in some microseconds whichever way it goes.
const LEAST_PRODUCTS: u64 = 1 << 24;
/// Shapes whose pipelines are compiled together, on all threads.
const BATCH: usize = 4;
/// Seconds of a sample: long beside what a submission and a wait cost.
const SAMPLE: f64 = 0.0015;
/// Samples of a way that is near the best.
const SAMPLES: usize = 3;
/// Ways that take more than this multiple of the best one's time are not looked at again.
const NEAR: f64 = 1.15;
/// Share of its time that a way must save to take the place of the default.
const TIE: f64 = 0.02;
/// Seconds of work before the first sample: a card that was idle takes a while to raise its clock.
const SETTLING: f64 = 0.1;

/// A way of a job, ready to run.
pub struct Dispatch<'a> {
    /// Which way.
    pub way: &'a Way,
    params: &'a [u8],
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

/// Measures time; tests have another one than programs.
pub trait Clock {
    /// Seconds of a dispatch, averaged over `count` in a row.
    fn sample(&mut self, gpu: &Gpu, dispatch: &Dispatch<'_>, count: usize) -> Result<f64>;
    /// Seconds since the clock was made.
    fn elapsed(&self) -> f64;
    /// Keeps the device at work until samples can be trusted.
    fn settle(&mut self, _gpu: &Gpu, _dispatch: &Dispatch<'_>) -> Result<()> {
        Ok(())
    }
}

/// The time on the wall.
pub struct Wall(Instant);

impl Wall {
    /// A clock that begins now.
    pub fn start() -> Wall {
        Wall(Instant::now())
    }
}

impl Clock for Wall {
    fn sample(&mut self, gpu: &Gpu, d: &Dispatch<'_>, count: usize) -> Result<f64> {
        average(gpu, &d.pipeline, &d.group, d.params, d.way.grid, count)
    }

    fn elapsed(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    fn settle(&mut self, gpu: &Gpu, dispatch: &Dispatch<'_>) -> Result<()> {
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < SETTLING {
            self.sample(gpu, dispatch, 1)?;
        }
        Ok(())
    }
}

/// A shape to decide about: parameters, and buffers that its dispatches may use.
pub struct Job<'a> {
    /// What runs.
    pub kernel: &'static Kernel,
    /// Bytes of its parameters.
    pub params: &'a [u8],
    /// Bindings that are stored as f16.
    pub halves: Halves,
    /// The bindings, in order.
    pub bindings: Vec<wgpu::BufferBinding<'a>>,
    /// Whether factors must be filled with noise before the first dispatch.
    pub fill: bool,
    /// What there is to choose from.
    pub ways: Ways,
}

impl Job<'_> {
    /// What the outcome is kept under.
    pub fn key(&self) -> String {
        key(self.kernel, &self.ways, self.halves)
    }

    fn choices(&self) -> impl Iterator<Item = (&Kernel, Choice)> {
        self.ways.all.iter().map(|way| (self.kernel, Choice::portable(self.kernel, way.clone(), self.halves)))
    }

    /// The ways that the device's compiler takes: a default that it refuses is an error, as it would be without tuning.
    fn dispatches(&self, gpu: &Gpu, pipelines: &mut Pipelines) -> Result<Vec<Dispatch<'_>>> {
        let mut found = Vec::new();
        for (way, (kernel, choice)) in self.ways.all.iter().zip(self.choices()) {
            let pipeline = match pipelines.get(gpu, kernel, &choice) {
                Ok(pipeline) => pipeline,
                Err(_) if !found.is_empty() => continue,
                Err(e) => return Err(e),
            };
            let resources = (0..).zip(&self.bindings);
            let entries: Vec<_> = resources
                .map(|(binding, buffer)| {
                    let resource = wgpu::BindingResource::Buffer(buffer.clone());
                    wgpu::BindGroupEntry { binding, resource }
                })
                .collect();
            let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(kernel.stem),
                layout: &pipeline.layout,
                entries: &entries,
            });
            found.push(Dispatch { way, params: self.params, pipeline, group });
        }
        Ok(found)
    }
}

/// The fastest way by the median of a few samples; the first is the default.
fn fastest<'a>(gpu: &Gpu, dispatches: &[Dispatch<'a>], clock: &mut dyn Clock) -> Result<&'a Way> {
    clock.sample(gpu, &dispatches[0], 1)?; // touches the memory
    let mut times: Vec<Vec<f64>> = Vec::new();
    for dispatch in dispatches {
        times.push(vec![clock.sample(gpu, dispatch, 1)?]);
    }
    let best = |times: &[Vec<f64>]| times.iter().map(|t| t[0]).fold(f64::INFINITY, f64::min);
    let count = (SAMPLE / best(&times).max(1e-7)).ceil().clamp(1.0, 300.0) as usize;
    if count > 1 {
        for (dispatch, times) in dispatches.iter().zip(&mut times) {
            *times = vec![clock.sample(gpu, dispatch, count)?];
        }
    }
    let near = NEAR * best(&times);
    for _ in 1..SAMPLES {
        for (i, dispatch) in dispatches.iter().enumerate() {
            if i == 0 || times[i][0] <= near {
                times[i].push(clock.sample(gpu, dispatch, count)?);
            }
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let (mut chosen, mut least) = (0, medians[0] * (1.0 - TIE));
    for (i, &time) in medians.iter().enumerate().skip(1) {
        if time < least {
            (chosen, least) = (i, time);
        }
    }
    Ok(dispatches[chosen].way)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The best way of each of `jobs` that is begun before `clock` has passed `limit` seconds, on any adapter.
pub fn tune(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    jobs: &[Job<'_>],
    clock: &mut dyn Clock,
    limit: f64,
) -> Result<Tuned> {
    let (noise, mut found, mut settled) = (Noise::default(), Tuned::default(), false);
    for batch in jobs.chunks(BATCH) {
        if clock.elapsed() > limit {
            break;
        }
        // A refusal shows again where the way is wanted.
        let _ = pipelines.prepare(gpu, batch.iter().flat_map(Job::choices));
        for job in batch {
            if clock.elapsed() > limit {
                break;
            }
            if job.fill {
                noise.fill(gpu, job);
            }
            let dispatches = job.dispatches(gpu, pipelines)?;
            if !std::mem::replace(&mut settled, true) {
                clock.settle(gpu, &dispatches[0])?;
            }
            found.insert(job.key(), fastest(gpu, &dispatches, clock)?);
        }
    }
    if jobs.iter().any(|job| job.fill) {
        clear(gpu, jobs);
    }
    gpu.check()?;
    Ok(found)
}

/// Numbers to copy into factors, as f32 and as f16: a card multiplies zeros at another clock than what it will meet.
#[derive(Default)]
struct Noise {
    blocks: [std::cell::OnceCell<wgpu::Buffer>; 2],
}

impl Noise {
    fn fill(&self, gpu: &Gpu, job: &Job<'_>) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for (i, (bind, target)) in job.kernel.binds.iter().zip(&job.bindings).enumerate() {
            if bind.element != Element::F32 || bind.access != Access::Read {
                continue;
            }
            let half = job.halves.has(i);
            let block = self.blocks[usize::from(half)].get_or_init(|| block(gpu, half));
            let end = target.size.map_or(target.buffer.size(), |size| target.offset + size.get());
            for offset in (target.offset..end).step_by(block.size() as usize) {
                encoder.copy_buffer_to_buffer(block, 0, target.buffer, offset, block.size().min(end - offset));
            }
        }
        gpu.submit(encoder.finish());
    }
}

fn block(gpu: &Gpu, half: bool) -> wgpu::Buffer {
    gpu.buffer_of(&noise(half), wgpu::BufferUsages::COPY_SRC)
}

/// Makes the jobs' buffers what they were: zeros, as a device hands them out.
fn clear(gpu: &Gpu, jobs: &[Job<'_>]) {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let used = jobs.iter().filter(|job| job.fill).flat_map(|job| &job.bindings);
    let mut buffers: Vec<&wgpu::Buffer> = Vec::new();
    for binding in used {
        if !buffers.contains(&binding.buffer) {
            buffers.push(binding.buffer);
            encoder.clear_buffer(binding.buffer, 0, None);
        }
    }
    gpu.submit(encoder.finish());
}

/// What came of tuning, in a few words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    software: bool,
    kept: usize,
    measured: usize,
    left: usize,
    seconds: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { software, kept, measured, left, seconds } = *self;
        let mut parts = Vec::new();
        if measured > 0 {
            parts.push(format!("{measured} shapes of products timed in {seconds:.1} s"));
        }
        if kept > 0 {
            parts.push(format!("{kept} shapes from cache"));
        }
        if left > 0 {
            parts.push(format!("{left} left to a later start"));
        }
        match parts.is_empty() {
            true if software => f.write_str("the defaults, as on every software adapter"),
            true => f.write_str("the defaults, since no product is large"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

/// Decides about those of `jobs` that no run has decided about, and adds that to what the device knows.
fn decide(gpu: &Gpu, pipelines: &mut Pipelines, mut jobs: Vec<Job<'_>>) -> Result<Report> {
    if gpu.summary.is_software() {
        return Ok(Report { software: true, ..Report::default() });
    }
    let (all, known) = (jobs.len(), gpu.tuning.known());
    jobs.retain(|job| known.best(&job.key(), &job.ways).is_none());
    let kept = all - jobs.len();
    if jobs.is_empty() {
        return Ok(Report { kept, ..Report::default() });
    }
    let mut clock = Wall::start();
    let found = tune(gpu, pipelines, &jobs, &mut clock, LIMIT)?;
    let measured = found.len();
    gpu.tuning.learn(found);
    Ok(Report { software: false, kept, measured, left: jobs.len() - measured, seconds: clock.elapsed() })
}

/// Whether there is a choice, and it matters.
fn matters(ways: &Ways, least: u64) -> bool {
    ways.all.len() > 1 && ways.products >= least
}

/// `allowed` with the best way of each large product among `steps`, and what came of it. `binding` says where a tensor
/// lies and how many elements it has; nothing may lie there yet.
pub fn for_steps<'a>(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    allowed: &Allowed,
    steps: impl Iterator<Item = &'a Step>,
    binding: impl Fn(Tensor) -> (wgpu::BufferBinding<'a>, usize),
) -> Result<(Allowed, Report)> {
    let report = with_jobs(gpu, allowed, steps, binding, LEAST_PRODUCTS, |jobs| decide(gpu, pipelines, jobs))?;
    Ok((allowed.going(&gpu.tuning.known()), report))
}

/// Gives `decide` a job for each shape of at least `least` multiply-adds that runs portable among `steps`, in the order
/// of what they weigh; see [`for_steps`].
pub fn with_jobs<'a, R>(
    gpu: &Gpu,
    allowed: &Allowed,
    steps: impl Iterator<Item = &'a Step>,
    binding: impl Fn(Tensor) -> (wgpu::BufferBinding<'a>, usize),
    least: u64,
    decide: impl FnOnce(Vec<Job<'_>>) -> R,
) -> R {
    let mut shapes: BTreeMap<String, (&Step, Ways, u64)> = BTreeMap::new();
    for step in steps {
        let Some(tunable) = step.kernel.tunable else { continue };
        let ways = (tunable.ways)(&step.params);
        if matters(&ways, least) && allowed.choose(step.kernel, &step.params, step.halves).suffix.is_empty() {
            let products = ways.products;
            shapes.entry(key(step.kernel, &ways, step.halves)).or_insert((step, ways, 0)).2 += products;
        }
    }
    let mut shapes: Vec<_> = shapes.into_values().collect();
    shapes.sort_by_key(|shape| std::cmp::Reverse(shape.2)); // stable
    let indices: Vec<_> = shapes.iter().map(|(step, ..)| index_buffers(gpu, step, &binding)).collect();
    let jobs = shapes.into_iter().zip(&indices).map(|((step, ways, _), indices)| {
        let mut indices = indices.iter();
        let bound = step.tensors.iter().zip(step.kernel.binds).map(|(&tensor, bind)| {
            let own = if bind.element == Element::U32 { indices.next() } else { None };
            own.map_or_else(|| binding(tensor).0, wgpu::Buffer::as_entire_buffer_binding)
        });
        let bindings = bound.collect();
        Job { kernel: step.kernel, params: &step.params, halves: step.halves, bindings, fill: true, ways }
    });
    decide(jobs.collect())
}

/// Buffers with typical contents for the integer bindings of `step`.
fn index_buffers<'a>(
    gpu: &Gpu,
    step: &Step,
    binding: &impl Fn(Tensor) -> (wgpu::BufferBinding<'a>, usize),
) -> Vec<wgpu::Buffer> {
    let sizes: Vec<usize> = step.tensors.iter().map(|&tensor| binding(tensor).1).collect();
    let contents = step.kernel.tunable.map(|tunable| (tunable.indices)(&step.params, &sizes)).unwrap_or_default();
    let made = contents.iter().map(|values| gpu.buffer_of(bytemuck::cast_slice(values), wgpu::BufferUsages::STORAGE));
    made.collect()
}

/// `allowed` with the best way of one dispatch on buffers that are filled.
pub fn for_one(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    allowed: &Allowed,
    kernel: &'static Kernel,
    (params, halves): (&[u8], Halves),
    buffers: &[wgpu::Buffer],
) -> Result<Allowed> {
    let ways = kernel.tunable.map(|tunable| (tunable.ways)(params)).filter(|ways| matters(ways, LEAST_PRODUCTS));
    if let Some(ways) = ways.filter(|_| allowed.choose(kernel, params, halves).suffix.is_empty()) {
        let bindings = buffers.iter().map(wgpu::Buffer::as_entire_buffer_binding).collect();
        decide(gpu, pipelines, vec![Job { kernel, params, halves, bindings, fill: false, ways }])?;
    }
    Ok(allowed.going(&gpu.tuning.known()))
}
