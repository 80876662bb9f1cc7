//! How long a dispatch takes: many of it in a row, between two waits for an idle device.

use super::device::Gpu;
use super::pipeline::{Allowed, Pipeline, Pipelines};
use super::tune::for_one;
use crate::error::{Error, Result};
use crate::kernels::{Access, Halves, Kernel};
use std::time::Instant;

/// What a binding of a timed dispatch holds.
pub enum Content {
    /// This many small numbers of both signs.
    Reals(usize),
    /// These integers.
    Indices(Vec<u32>),
}

impl Content {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Content::Reals(n) => *n,
            Content::Indices(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A dispatch to time.
pub struct Workload {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Bytes of its parameters.
    pub params: Vec<u8>,
    /// What its bindings hold, in order.
    pub contents: Vec<Content>,
    /// Bindings that are stored as f16.
    pub halves: Halves,
}

/// A dispatch that is ready to run.
pub struct Timed<'g> {
    gpu: &'g Gpu,
    pipeline: std::sync::Arc<Pipeline>,
    group: wgpu::BindGroup,
    params: Vec<u8>,
    grid: [u32; 3],
    /// Suffix of the variant that runs; empty for the portable form.
    pub suffix: &'static str,
}

/// Shortest time of a sample: long beside what a submission and a wait cost.
const SAMPLE_SECONDS: f64 = 0.03;
/// Time of the warm-up before the samples: a card that was idle takes a while to raise its clock.
const WARM_UP_SECONDS: f64 = 0.15;
/// Bytes of pseudo-random content that is repeated through a buffer.
const BLOCK: usize = 1 << 20;

impl<'g> Timed<'g> {
    /// Fills buffers and compiles the form that `allowed` chooses, of a portable one the way that a program would go.
    pub fn new(gpu: &'g Gpu, pipelines: &mut Pipelines, allowed: &Allowed, work: &Workload) -> Result<Self> {
        let buffers: Vec<wgpu::Buffer> = work
            .contents
            .iter()
            .enumerate()
            .map(|(i, content)| buffer(gpu, content, work.halves.has(i), work.kernel.binds[i].access))
            .collect::<Result<_>>()?;
        let allowed = for_one(gpu, pipelines, allowed, work.kernel, (&work.params, work.halves), &buffers)?;
        let choice = allowed.choose(work.kernel, &work.params, work.halves);
        let pipeline = pipelines.get(gpu, work.kernel, &choice)?;
        let entries: Vec<_> = (0..)
            .zip(&buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(work.kernel.stem),
            layout: &pipeline.layout,
            entries: &entries,
        });
        let (params, grid) = (work.params.clone(), choice.grid);
        Ok(Timed { gpu, pipeline, group, params, grid, suffix: choice.suffix })
    }

    /// Seconds of one dispatch, averaged over `count` of them in a row.
    fn sample(&self, count: usize) -> Result<f64> {
        average(self.gpu, &self.pipeline, &self.group, &self.params, self.grid, count)
    }

    /// Keeps the device at work for at least so long, and returns how many dispatches make a sample.
    pub fn warm(&self, seconds: f64) -> Result<usize> {
        let once = self.sample(1)?.min(self.sample(1)?).max(1e-7);
        if self.gpu.summary.is_software() {
            return Ok(1); // slow beside a submission, and without a clock
        }
        let count = ((SAMPLE_SECONDS / once).ceil() as usize).clamp(1, 10_000);
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < seconds {
            self.sample(count)?;
        }
        Ok(count)
    }

    /// Seconds of one dispatch: `samples` of them after a warm-up, each over enough dispatches.
    pub fn seconds(&self, samples: usize) -> Result<Vec<f64>> {
        let count = self.warm(WARM_UP_SECONDS)?;
        (0..samples).map(|_| self.sample(count)).collect()
    }
}

/// Seconds of one dispatch, averaged over `count` of them in a row.
pub(super) fn average(
    gpu: &Gpu,
    pipeline: &Pipeline,
    group: &wgpu::BindGroup,
    params: &[u8],
    [x, y, z]: [u32; 3],
    count: usize,
) -> Result<f64> {
    gpu.wait()?;
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.set_immediates(0, params);
        (0..count).for_each(|_| pass.dispatch_workgroups(x, y, z));
    }
    let commands = encoder.finish();
    let started = Instant::now();
    gpu.submit(commands);
    gpu.wait()?;
    Ok(started.elapsed().as_secs_f64() / count as f64)
}

/// Small numbers of both signs, to be repeated through a buffer.
pub(super) fn noise(half: bool) -> Vec<u8> {
    let numbers = crate::kernels::case::uniform(1, BLOCK / 4);
    if half {
        numbers.iter().flat_map(|&x| half::f16::from_f64(0.1 * x).to_le_bytes()).collect()
    } else {
        numbers.iter().flat_map(|&x| (0.1 * x as f32).to_le_bytes()).collect()
    }
}

fn buffer(gpu: &Gpu, content: &Content, half: bool, access: Access) -> Result<wgpu::Buffer> {
    let bytes = match content {
        Content::Reals(n) => (n * if half { 2 } else { 4 }) as u64,
        Content::Indices(values) => 4 * values.len() as u64,
    };
    let limit = gpu.summary.limits.max_storage_buffer_binding_size;
    if bytes > limit {
        return Err(Error::Memory(format!("a binding of {bytes} bytes; {} binds at most {limit}", gpu.summary.name)));
    }
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes.next_multiple_of(16).max(16),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    if pollster::block_on(scope.pop()).is_some() {
        return Err(Error::Memory(format!("{} has no room for {bytes} bytes", gpu.summary.name)));
    }
    match content {
        Content::Indices(values) => gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values)),
        // What is overwritten may begin as zeros; factors may not: a card multiplies zeros at a higher clock.
        Content::Reals(_) if access == Access::Write => {}
        Content::Reals(_) => {
            let block = noise(half);
            for offset in (0..bytes).step_by(block.len()) {
                let part = block.len().min((bytes - offset) as usize) / 4 * 4;
                gpu.queue.write_buffer(&buffer, offset, &block[..part]);
            }
            gpu.queue.submit([]);
        }
    }
    Ok(buffer)
}
