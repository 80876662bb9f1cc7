//! Time of each kernel by timestamps around every dispatch.

use super::device::Gpu;
use super::once::read_buffer;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// Dispatches timed before their timestamps are read.
const DISPATCHES: u32 = 512;

/// Collects timestamps and sums them by the form of the kernel.
pub struct Profiler {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    encoder: Option<wgpu::CommandEncoder>,
    waiting: Vec<String>,
    nanoseconds: f64,
    sums: HashMap<String, (f64, u64)>,
}

impl Profiler {
    /// A profiler on a device that has timestamps.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        if !gpu.summary.features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Usage(format!("{} has no timestamps; leave --profile out", gpu.summary.name)));
        }
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("profile"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * DISPATCHES,
        });
        let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("profile"),
            size: u64::from(2 * DISPATCHES) * 8,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let nanoseconds = f64::from(gpu.queue.get_timestamp_period());
        Ok(Profiler { queries, resolved, encoder: None, waiting: Vec::new(), nanoseconds, sums: HashMap::new() })
    }

    /// Encodes one dispatch in a pass of its own, with a timestamp before and after.
    pub fn dispatch(&mut self, gpu: &Gpu, form: &str, encode: impl FnOnce(&mut wgpu::ComputePass<'_>)) -> Result<()> {
        let first = 2 * self.waiting.len() as u32;
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        });
        encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }));
        self.waiting.push(form.to_owned());
        if self.waiting.len() as u32 == DISPATCHES { self.flush(gpu) } else { Ok(()) }
    }

    /// Submits what is encoded, waits and adds the times.
    pub fn flush(&mut self, gpu: &Gpu) -> Result<()> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        let used = 2 * self.waiting.len() as u32;
        encoder.resolve_query_set(&self.queries, 0..used, &self.resolved, 0);
        gpu.submit(encoder.finish());
        let bytes = read_buffer(gpu, &self.resolved, u64::from(used) * 8)?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        for (form, times) in self.waiting.drain(..).zip(ticks.chunks_exact(2)) {
            let sum = self.sums.entry(form).or_default();
            sum.0 += times[1].saturating_sub(times[0]) as f64 * self.nanoseconds * 1e-9;
            sum.1 += 1;
        }
        Ok(())
    }

    /// Seconds and calls by form, slowest first.
    pub fn rows(&self) -> Vec<(String, f64, u64)> {
        let mut rows: Vec<_> =
            self.sums.iter().map(|(form, &(seconds, calls))| (form.clone(), seconds, calls)).collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows
    }
}
