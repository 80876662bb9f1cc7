//! The GPU executor: buffers, pipelines and bind groups are made once; a replay encodes the list of dispatches anew,
//! since wgpu's command buffers are spent by one submission.

use super::device::Gpu;
use super::pipeline::{Allowed, Pipeline, Pipelines};
use super::profile::Profiler;
use super::transfer::{Downloads, Mapped, SMALL, Uploads};
use super::tune::{Report, for_steps};
use crate::error::{Error, Result};
use crate::graph::plan::Plan;
use crate::graph::{Dtype, Executor, Recording, Step, Tensor, Tensors};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// Dispatches in one submission. Few, so that the GPU starts early and no submission lasts long enough for a
/// watchdog; many enough that their cost does not matter.
const DISPATCHES_A_SUBMISSION: usize = 128;

/// A dispatch with everything that does not change made beforehand.
struct Prepared {
    form: String,
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    params: Vec<u8>,
    grid: [u32; 3],
}

/// A read-back under way.
struct Pending {
    tag: u64,
    buffer: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    mapped: Mapped,
}

/// One program on one device.
pub struct GpuExecutor {
    gpu: Arc<Gpu>,
    tensors: Tensors,
    plan: Plan,
    buffers: Vec<wgpu::Buffer>,
    tuning: Report,
    recordings: Vec<Vec<Prepared>>,
    pending: VecDeque<Pending>,
    staging: Vec<wgpu::Buffer>,
    uploads: Uploads,
    downloads: Downloads,
    profiler: Option<Profiler>,
}

impl GpuExecutor {
    /// Allocates all buffers and compiles all pipelines of `recordings`.
    pub fn new(gpu: Arc<Gpu>, tensors: &Tensors, recordings: &[Recording], allowed: &Allowed) -> Result<Self> {
        let plan = Plan::new(tensors, recordings);
        let buffers = allocate(&gpu, &plan)?;
        let mut pipelines = Pipelines::default();
        let steps = recordings.iter().flat_map(|recording| &recording.steps);
        let lies = |tensor: Tensor| (binding(tensors, &plan, &buffers, tensor), tensors.info(tensor).elements());
        let (allowed, tuning) = for_steps(&gpu, &mut pipelines, allowed, steps.clone(), lies)?;
        let choose = |step: &Step| (step.kernel, allowed.choose(step.kernel, &step.params, step.halves));
        pipelines.prepare(&gpu, steps.map(choose))?;
        let mut prepared = Vec::new();
        for recording in recordings {
            let steps: Result<Vec<_>> = recording
                .steps
                .iter()
                .map(|step| {
                    let choice = allowed.choose(step.kernel, &step.params, step.halves);
                    let pipeline = pipelines.get(&gpu, step.kernel, &choice)?;
                    let group = bind(&gpu, tensors, &plan, &buffers, step, &pipeline);
                    let form = choice.form(step.kernel);
                    Ok(Prepared { form, pipeline, group, params: step.params.clone(), grid: choice.grid })
                })
                .collect();
            prepared.push(steps?);
        }
        gpu.check()?;
        Ok(GpuExecutor {
            gpu,
            tensors: tensors.clone(),
            plan,
            buffers,
            tuning,
            recordings: prepared,
            pending: VecDeque::new(),
            staging: Vec::new(),
            uploads: Uploads::default(),
            downloads: Downloads::default(),
            profiler: None,
        })
    }

    fn buffer(&self, tensor: Tensor) -> Option<&wgpu::Buffer> {
        self.plan.slot(tensor).map(|slot| &self.buffers[slot])
    }

    fn write(&mut self, tensor: Tensor, bytes: &[u8]) -> Result<()> {
        assert!(
            bytes.len() as u64 <= self.tensors.info(tensor).bytes(),
            "{}: too long",
            self.tensors.info(tensor).name
        );
        let Some(slot) = self.plan.slot(tensor) else { return Ok(()) }; // no step uses it
        if bytes.len() < SMALL {
            self.gpu.queue.write_buffer(&self.buffers[slot], 0, bytes); // goes out with the next submission
            return Ok(());
        }
        self.uploads.write(&self.gpu, &self.buffers[slot], bytes)
    }

    fn encode(&self, steps: &[Prepared]) -> wgpu::CommandBuffer {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for step in steps {
                pass.set_pipeline(&step.pipeline.pipeline);
                pass.set_bind_group(0, &step.group, &[]);
                pass.set_immediates(0, &step.params);
                let [x, y, z] = step.grid;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        encoder.finish()
    }

    /// Maps the buffers of finished read-backs; with `wait`, waits for the oldest.
    fn collect(&mut self, mut wait: bool) -> Result<Vec<(u64, Vec<f32>)>> {
        let mut values = Vec::new();
        while let Some(pending) = self.pending.front() {
            if wait {
                self.gpu.wait_for(&pending.submission)?;
                wait = false;
            } else {
                self.gpu.poll()?;
            }
            match pending.mapped.get() {
                Some(true) => {}
                Some(false) => return Err(Error::device("a read-back failed: it could not be mapped")),
                None => break,
            }
            let Some(done) = self.pending.pop_front() else { break };
            let view = done.buffer.slice(..).get_mapped_range().map_err(Error::device)?;
            values.push((done.tag, bytemuck::pod_collect_to_vec(&view)));
            drop(view);
            done.buffer.unmap();
            self.staging.push(done.buffer);
        }
        Ok(values)
    }
}

/// All buffers of a plan, or an error that says how much was asked for.
pub fn allocate(gpu: &Gpu, plan: &Plan) -> Result<Vec<wgpu::Buffer>> {
    let limits = &gpu.summary.limits;
    let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    if plan.largest() > limit {
        return Err(Error::Memory(format!(
            "one tensor needs {} bytes, but {} binds at most {limit}; lower train.micro_batch or train.sequence_length",
            plan.largest(),
            gpu.summary.name
        )));
    }
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffers = plan.slots.iter().map(|slot| {
        gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: slot.bytes.next_multiple_of(16),
            usage,
            mapped_at_creation: false,
        })
    });
    let buffers = buffers.collect();
    match pollster::block_on(scope.pop()) {
        None => Ok(buffers),
        Some(_) => Err(Error::Memory(format!(
            "{} has no room for the {:.2} GiB that the plan needs; lower train.micro_batch",
            gpu.summary.name,
            plan.bytes() as f64 / f64::from(1 << 30)
        ))),
    }
}

/// The first number of `bytes` whose exponent has all bits set: infinite or NaN.
fn first_not_finite(bytes: &[u8], half: bool) -> Option<usize> {
    if half {
        let words = bytes.as_chunks::<2>().0;
        return words.iter().position(|&word| u16::from_le_bytes(word) & 0x7c00 == 0x7c00);
    }
    bytes.as_chunks::<4>().0.iter().position(|&word| u32::from_le_bytes(word) & 0x7f80_0000 == 0x7f80_0000)
}

/// Where a tensor lies. Vectors of four are bound whole: sizes are rounded up, which every buffer has room for.
/// Copies bytes with all threads: the memory of `to` may be fresh, and that takes longer to come than to be filled.
fn copy(from: &[u8], to: &mut [u8]) {
    const PART: usize = 1 << 20;
    to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn binding<'b>(tensors: &Tensors, plan: &Plan, buffers: &'b [wgpu::Buffer], tensor: Tensor) -> wgpu::BufferBinding<'b> {
    let slot = plan.slot(tensor).unwrap_or_else(|| panic!("{}: not planned", tensors.info(tensor).name));
    let size = wgpu::BufferSize::new(tensors.info(tensor).bytes().max(4).next_multiple_of(16));
    wgpu::BufferBinding { buffer: &buffers[slot], offset: 0, size }
}

fn bind(
    gpu: &Gpu,
    tensors: &Tensors,
    plan: &Plan,
    buffers: &[wgpu::Buffer],
    step: &Step,
    pipeline: &Pipeline,
) -> wgpu::BindGroup {
    let entries: Vec<_> = (0..)
        .zip(&step.tensors)
        .map(|(binding, &tensor)| {
            let resource = wgpu::BindingResource::Buffer(self::binding(tensors, plan, buffers, tensor));
            wgpu::BindGroupEntry { binding, resource }
        })
        .collect();
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(step.kernel.stem),
        layout: &pipeline.layout,
        entries: &entries,
    })
}

impl Executor for GpuExecutor {
    fn upload(&mut self, tensor: Tensor, values: &[f32]) -> Result<()> {
        if self.tensors.info(tensor).dtype == Dtype::F16 {
            let narrow: Vec<half::f16> = values.par_iter().map(|&x| half::f16::from_f32(x)).collect();
            return self.write(tensor, bytemuck::cast_slice(&narrow));
        }
        self.write(tensor, bytemuck::cast_slice(values))
    }

    fn upload_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        self.write(tensor, bytemuck::cast_slice(values))
    }

    fn run(&mut self, recording: usize) -> Result<()> {
        if let Some(mut profiler) = self.profiler.take() {
            for step in &self.recordings[recording] {
                let [x, y, z] = step.grid;
                profiler.dispatch(&self.gpu, &step.form, |pass| {
                    pass.set_pipeline(&step.pipeline.pipeline);
                    pass.set_bind_group(0, &step.group, &[]);
                    pass.set_immediates(0, &step.params);
                    pass.dispatch_workgroups(x, y, z);
                })?;
            }
            profiler.flush(&self.gpu)?;
            self.profiler = Some(profiler);
            return self.gpu.check();
        }
        for steps in self.recordings[recording].chunks(DISPATCHES_A_SUBMISSION) {
            self.gpu.submit(self.encode(steps));
        }
        self.gpu.check()
    }

    fn run_one(&mut self, recording: usize, step: usize) -> Result<()> {
        self.gpu.submit(self.encode(&self.recordings[recording][step..=step]));
        self.gpu.check()
    }

    fn clear(&mut self, tensor: Tensor) -> Result<()> {
        let Some(buffer) = self.buffer(tensor) else { return Ok(()) };
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(buffer, 0, None);
        self.gpu.submit(encoder.finish());
        self.gpu.check()
    }

    fn first_not_finite(&mut self, tensor: Tensor) -> Result<Option<usize>> {
        let Some(slot) = self.plan.slot(tensor) else { return Ok(None) };
        let info = self.tensors.info(tensor);
        let (size, half, mut before, mut found) = (info.bytes(), info.dtype == Dtype::F16, 0, None);
        self.downloads.read(&self.gpu, &self.buffers[slot], size.next_multiple_of(4), |bytes| {
            let bytes = &bytes[..bytes.len().min(size as usize - before)];
            found = found.or_else(|| first_not_finite(bytes, half).map(|i| before / if half { 2 } else { 4 } + i));
            before += bytes.len();
        })?;
        Ok(found)
    }

    fn elements(&self, tensor: Tensor) -> usize {
        self.tensors.elements(tensor)
    }

    fn download_into(&mut self, tensor: Tensor, values: &mut [f32]) -> Result<()> {
        let info = self.tensors.info(tensor);
        let slot = self.plan.slot(tensor).unwrap_or_else(|| panic!("{}: not planned", info.name));
        if info.dtype == Dtype::F16 {
            let mut rest = values.iter_mut();
            return self.downloads.read(&self.gpu, &self.buffers[slot], info.bytes().next_multiple_of(4), |bytes| {
                let halves = bytes.as_chunks::<2>().0.iter().map(|&half| half::f16::from_le_bytes(half).to_f32());
                halves.zip(rest.by_ref()).for_each(|(half, value)| *value = half); // takes no value too many
            });
        }
        let mut rest: &mut [u8] = bytemuck::cast_slice_mut(values);
        self.downloads.read(&self.gpu, &self.buffers[slot], info.bytes(), |bytes| {
            let (target, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            copy(bytes, target);
            rest = after;
        })
    }

    fn download_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>> {
        let floats = self.download(tensor)?;
        Ok(floats.into_iter().map(f32::to_bits).collect())
    }

    fn read_later(&mut self, tensor: Tensor, tag: u64) -> Result<()> {
        let size = self.tensors.info(tensor).bytes();
        let known = self.staging.iter().position(|buffer| buffer.size() == size);
        let buffer = known.map(|i| self.staging.swap_remove(i)).unwrap_or_else(|| {
            self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        });
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let source = self.buffer(tensor).unwrap_or_else(|| panic!("{}: not planned", self.tensors.info(tensor).name));
        encoder.copy_buffer_to_buffer(source, 0, &buffer, 0, size);
        let submission = self.gpu.submit(encoder.finish());
        let mapped = Mapped::default();
        let outcome = mapped.clone();
        buffer.slice(..).map_async(wgpu::MapMode::Read, move |done| {
            let _ = outcome.set(done.is_ok()); // called once
        });
        self.pending.push_back(Pending { tag, buffer, submission, mapped });
        Ok(())
    }

    fn arrived(&mut self, wait: bool) -> Result<Vec<(u64, Vec<f32>)>> {
        self.collect(wait)
    }

    fn profile(&mut self) -> Result<()> {
        self.profiler = Some(Profiler::new(&self.gpu)?);
        Ok(())
    }

    fn profiled(&self) -> Vec<(String, f64, u64)> {
        self.profiler.as_ref().map(Profiler::rows).unwrap_or_default()
    }

    fn allocated(&self) -> Option<[u64; 2]> {
        let report = self.gpu.device.generate_allocator_report()?;
        Some([report.total_allocated_bytes, report.total_reserved_bytes])
    }

    fn tuning(&self) -> Option<String> {
        Some(self.tuning.to_string())
    }

    fn describe(&self) -> String {
        let summary = &self.gpu.summary;
        format!("{} through {} ({})", summary.name, summary.backend, summary.driver)
    }
}
