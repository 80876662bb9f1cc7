//! One dispatch on given data: what `hadal check --ops` and the kernel tests run.

use super::device::Gpu;
use super::pipeline::{Allowed, Choice, Pipelines};
use crate::error::Result;
use crate::kernels::Kernel;
use crate::kernels::case::{Case, Data};
use half::f16;

/// Runs `case` on the device and returns every binding's content afterwards.
pub fn run_once(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    allowed: &Allowed,
    kernel: &Kernel,
    case: &Case,
) -> Result<Vec<Data>> {
    run_choice(gpu, pipelines, &allowed.choose(kernel, &case.params, case.halves), kernel, case)
}

/// The same in a form that was chosen.
pub fn run_choice(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    choice: &Choice,
    kernel: &Kernel,
    case: &Case,
) -> Result<Vec<Data>> {
    let pipeline = pipelines.get(gpu, kernel, choice)?;
    let buffers: Vec<wgpu::Buffer> =
        case.data.iter().enumerate().map(|(i, data)| upload(gpu, data, case.halves.has(i))).collect();
    let entries: Vec<_> = (0..)
        .zip(&buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(kernel.stem),
        layout: &pipeline.layout,
        entries: &entries,
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.set_immediates(0, &case.params);
        let [x, y, z] = choice.grid;
        pass.dispatch_workgroups(x, y, z);
    }
    gpu.submit(encoder.finish());
    gpu.check()?;
    let contents = case.data.iter().zip(&buffers).enumerate();
    contents.map(|(i, (data, buffer))| download(gpu, data, buffer, case.halves.has(i))).collect()
}

fn upload(gpu: &Gpu, data: &Data, half: bool) -> wgpu::Buffer {
    let mut narrow: Vec<u8> = match data {
        Data::Real(x) if half => x.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect(),
        Data::Real(x) => x.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
        Data::Index(x) => bytemuck::cast_slice(x).to_vec(),
    };
    narrow.resize(narrow.len().next_multiple_of(4), 0); // the unit of copies
    gpu.buffer_of(&narrow, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC)
}

fn download(gpu: &Gpu, like: &Data, buffer: &wgpu::Buffer, half: bool) -> Result<Data> {
    let bytes = read_buffer(gpu, buffer, buffer.size())?;
    Ok(match like {
        Data::Real(x) if half => {
            let halves: Vec<f16> = bytemuck::pod_collect_to_vec(&bytes);
            Data::Real(halves[..x.len()].iter().map(|x| x.to_f64()).collect())
        }
        Data::Real(_) => {
            Data::Real(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes).into_iter().map(f64::from).collect())
        }
        Data::Index(_) => Data::Index(bytemuck::pod_collect_to_vec(&bytes)),
    })
}

/// Copies the first `size` bytes of `buffer` to the host and waits for them.
pub fn read_buffer(gpu: &Gpu, buffer: &wgpu::Buffer, size: u64) -> Result<Vec<u8>> {
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("read-back"),
        size,
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
    gpu.submit(encoder.finish());
    staging.slice(..).map_async(wgpu::MapMode::Read, |_| ());
    gpu.wait()?;
    let bytes = match staging.slice(..).get_mapped_range() {
        Ok(view) => view.to_vec(),
        Err(e) => return Err(crate::error::Error::device(format!("a read-back failed: {e}"))),
    };
    Ok(bytes)
}
