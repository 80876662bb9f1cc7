//! Large transfers between host and device: pieces through a few staging buffers that are made once and go round, so
//! that the host copies one piece while the device moves others, and memory stays bounded.

use super::device::Gpu;
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::graph::plan::Plan;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Bytes of a piece.
pub const PIECE: usize = 16 << 20;
/// Pieces under way in each direction.
const PIECES: usize = 4;

/// Uploads below this go through the queue's own memory.
pub const SMALL: usize = PIECE / 16;

/// Bytes of the staging buffers of an executor of `plan` once its weights have been loaded and saved: uploads and
/// downloads have as many as pieces can be under way.
pub fn staging_bytes(plan: &Plan) -> u64 {
    let weights = || plan.slots.iter().filter(|slot| slot.role == Role::Parameter).map(|slot| slot.bytes);
    let pieces = |bytes: u64| bytes.div_ceil(PIECE as u64);
    let up: u64 = weights().filter(|&bytes| bytes >= SMALL as u64).map(pieces).sum();
    let down = weights().map(pieces).max().unwrap_or(0);
    (up.min(PIECES as u64) + down.min(PIECES as u64)) * PIECE as u64
}

/// Outcome of a mapping that was asked for.
pub(super) type Mapped = Arc<OnceLock<bool>>;

/// A staging buffer that the device is at work on.
struct Busy {
    buffer: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    mapped: Mapped,
}

impl Busy {
    /// Submits a copy between `buffer` and the device, and asks for the buffer's mapping after it.
    fn submit(
        gpu: &Gpu,
        copy: impl FnOnce(&mut wgpu::CommandEncoder),
        buffer: wgpu::Buffer,
        mode: wgpu::MapMode,
    ) -> Busy {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        copy(&mut encoder);
        let submission = gpu.submit(encoder.finish());
        let mapped = Mapped::default();
        let outcome = mapped.clone();
        buffer.map_async(mode, .., move |done| {
            let _ = outcome.set(done.is_ok()); // called once
        });
        Busy { buffer, submission, mapped }
    }

    /// Waits for the copy and the mapping.
    fn wait(self, gpu: &Gpu) -> Result<wgpu::Buffer> {
        let failed = |reason: &str| Error::device(format!("{}: a transfer failed: {reason}", gpu.summary.name));
        loop {
            gpu.wait_for(&self.submission)?;
            match self.mapped.get() {
                Some(true) => return Ok(self.buffer),
                Some(false) => return Err(failed("the staging buffer could not be mapped")),
                None => std::thread::yield_now(), // another thread is about to say so
            }
        }
    }
}

/// Staging buffers from host to device.
#[derive(Default)]
pub struct Uploads {
    busy: VecDeque<Busy>,
}

impl Uploads {
    /// Copies `bytes` to the start of `target`; returns when they have left `bytes`. Takes its turn among submissions.
    pub fn write(&mut self, gpu: &Gpu, target: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
        for (i, part) in bytes.chunks(PIECE).enumerate() {
            let buffer = self.mapped(gpu)?;
            let size = part.len() as u64;
            let mut view = buffer.get_mapped_range_mut(..size).map_err(Error::device)?;
            view.copy_from_slice(part);
            drop(view);
            buffer.unmap();
            let copy = |encoder: &mut wgpu::CommandEncoder| {
                encoder.copy_buffer_to_buffer(&buffer, 0, target, (i * PIECE) as u64, size);
            };
            self.busy.push_back(Busy::submit(gpu, copy, buffer.clone(), wgpu::MapMode::Write));
        }
        gpu.check()
    }

    fn mapped(&mut self, gpu: &Gpu) -> Result<wgpu::Buffer> {
        if self.busy.len() == PIECES
            && let Some(oldest) = self.busy.pop_front()
        {
            return oldest.wait(gpu);
        }
        Ok(staging(gpu, wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC, true))
    }
}

/// Staging buffers from device to host.
#[derive(Default)]
pub struct Downloads {
    free: Vec<wgpu::Buffer>,
}

impl Downloads {
    /// Reads the first `size` bytes of `source` as they are after all work submitted so far, and hands them to `take`
    /// piece by piece.
    pub fn read(&mut self, gpu: &Gpu, source: &wgpu::Buffer, size: u64, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut busy: VecDeque<(Busy, u64)> = VecDeque::new();
        let mut starts = (0..size).step_by(PIECE);
        loop {
            let next = if busy.len() < PIECES { starts.next() } else { None };
            if let Some(start) = next {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                let buffer = self.free.pop().unwrap_or_else(|| staging(gpu, usage, false));
                let length = (size - start).min(PIECE as u64);
                let copy = |encoder: &mut wgpu::CommandEncoder| {
                    encoder.copy_buffer_to_buffer(source, start, &buffer, 0, length);
                };
                busy.push_back((Busy::submit(gpu, copy, buffer.clone(), wgpu::MapMode::Read), length));
                continue;
            }
            let Some((oldest, length)) = busy.pop_front() else { return gpu.check() };
            let buffer = oldest.wait(gpu)?;
            let view = buffer.get_mapped_range(..length).map_err(Error::device)?;
            take(&view);
            drop(view);
            buffer.unmap();
            self.free.push(buffer);
        }
    }
}

impl Gpu {
    /// A buffer that holds `bytes` from the next submission on. Where the device is lost it holds nothing, and whoever
    /// waits is told.
    pub fn buffer_of(&self, bytes: &[u8], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.len() as u64,
            usage: usage | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }
}

fn staging(gpu: &Gpu, usage: wgpu::BufferUsages, mapped_at_creation: bool) -> wgpu::Buffer {
    let size = PIECE as u64;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: Some("staging"), size, usage, mapped_at_creation })
}
