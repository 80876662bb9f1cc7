//! Ways to cut a product's work: all give the same bits, a clock decides between them, and a run's results do not.

mod common;
#[path = "common/runs.rs"]
mod runs;

use hadal::backend::Device;
use hadal::error::Result;
use hadal::gpu::device::Gpu;
use hadal::gpu::once::{read_buffer, run_choice, run_once};
use hadal::gpu::pipeline::{Allowed, Choice, Pipelines};
use hadal::gpu::tune::{Clock, Dispatch, Job, Wall, tune, with_jobs};
use hadal::gpu::tuned::{Tuned, key};
use hadal::graph::{Dtype, Tensor};
use hadal::kernels::case::{Case, Data};
use hadal::kernels::matmul::{self, NT, OVERWRITE};
use hadal::kernels::{Halves, KERNELS, Kernel, Ways, matmul_experts, matmul_experts_weight_grad};
use std::collections::{BTreeSet, HashMap};

fn ways(kernel: &Kernel, params: &[u8]) -> Ways {
    (kernel.tunable.expect("a choice").ways)(params)
}

fn bits(data: &[Data]) -> Vec<u64> {
    let reals = data.iter().filter_map(|data| match data {
        Data::Real(x) => Some(x.iter().map(|x| x.to_bits())),
        Data::Index(_) => None,
    });
    reals.flatten().collect()
}

#[test]
fn every_way_of_every_kernel_gives_the_same_bits() {
    let Some(gpu) = common::gpu() else { return };
    let mut pipelines = Pipelines::default();
    for kernel in KERNELS.iter().filter(|kernel| kernel.tunable.is_some()) {
        let mut seen = BTreeSet::new();
        for case in kernel.every_case() {
            let all = ways(kernel, &case.params).all;
            // Pipelines take long to compile here: one case for each set of ways and kind of storage is enough.
            let names: Vec<String> = all.iter().map(|way| way.name.clone()).collect();
            if !seen.insert((names, case.halves.any())) {
                continue;
            }
            let default = run_once(&gpu, &mut pipelines, &Allowed::portable(), kernel, &case).unwrap();
            for way in &all[1..] {
                let choice = Choice::portable(kernel, way.clone(), case.halves);
                let found = run_choice(&gpu, &mut pipelines, &choice, kernel, &case).unwrap();
                assert!(bits(&found) == bits(&default), "{}: {}: {}", kernel.stem, case.name, way.name);
            }
        }
        assert!(seen.iter().map(|(names, _)| names.len()).max() >= Some(3), "{}: hardly a choice", kernel.stem);
    }
}

#[test]
fn the_first_way_is_the_default_and_no_two_are_alike() {
    for kernel in KERNELS.iter().filter(|kernel| kernel.tunable.is_some()) {
        for case in kernel.every_case() {
            let all = ways(kernel, &case.params).all;
            assert_eq!(all[0].constants, (kernel.constants)(&case.params), "{}: {}", kernel.stem, case.name);
            assert_eq!(all[0].grid, (kernel.grid)(&case.params), "{}: {}", kernel.stem, case.name);
            let names: BTreeSet<&String> = all.iter().map(|way| &way.name).collect();
            assert_eq!(names.len(), all.len(), "{}: {}", kernel.stem, case.name);
        }
    }
}

#[test]
fn typical_indices_name_every_row_once() {
    let (experts, rows, tile_rows) = (7, 1000, 64);
    let offsets = matmul_experts::shares(rows, experts);
    assert_eq!((offsets.len(), offsets[0], offsets[experts]), (experts + 1, 0, rows as u32));
    assert!(offsets.is_sorted() && offsets.windows(2).map(|w| w[1] - w[0]).collect::<BTreeSet<_>>().len() > 2);
    let tiles = rows / tile_rows + experts;
    let table = matmul_experts::table(&offsets, tile_rows, tiles);
    assert_eq!(table.len(), 2 * tiles);
    let covered = table.chunks(2).filter(|tile| tile[0] != matmul_experts::UNUSED);
    let rows_of = |tile: &[u32]| (offsets[tile[0] as usize + 1] - tile[1]).min(tile_rows as u32);
    assert_eq!(covered.map(rows_of).sum::<u32>(), rows as u32);
    let p = matmul_experts_weight_grad::Params {
        m: 4,
        n: 4,
        pairs: rows as u32,
        first_expert: 0,
        expert_count: experts as u32,
        first_row: 0,
        row_count: 4,
        accumulate: 1,
    };
    let tunable = matmul_experts_weight_grad::KERNEL.tunable.unwrap();
    assert_eq!((tunable.indices)(bytemuck::bytes_of(&p), &[4000, 4000, 8, 112]), [offsets]);
}

/// A clock that shows what it is told, by the name of a way; a sample takes a second of its time.
struct Planted {
    times: fn(&str) -> f64,
    samples: usize,
}

impl Clock for Planted {
    fn sample(&mut self, _: &Gpu, dispatch: &Dispatch<'_>, _: usize) -> Result<f64> {
        self.samples += 1;
        Ok((self.times)(&dispatch.way.name))
    }

    fn elapsed(&self) -> f64 {
        self.samples as f64
    }
}

/// What `times` make of products of `shapes` (m, n) and length 32 within `limit` seconds, and their parameters.
fn tuned(gpu: &Gpu, times: fn(&str) -> f64, shapes: &[[u32; 2]], limit: f64) -> (Tuned, Vec<matmul::Params>) {
    let params: Vec<_> = shapes.iter().map(|[m, n]| matmul::Params::dense(NT, OVERWRITE, *m, *n, 32)).collect();
    // Larger than the noise that fills them, and not a multiple of it.
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let descriptor = wgpu::BufferDescriptor { label: None, size: (1 << 20) + 48, usage, mapped_at_creation: false };
    let buffers = [0; 3].map(|_| gpu.device.create_buffer(&descriptor));
    let bound = [0, 1, 0, 2].map(|i: usize| buffers[i].as_entire_buffer_binding());
    let jobs: Vec<Job<'_>> = params
        .iter()
        .map(|p| {
            let (kernel, params) = (&matmul::KERNEL, bytemuck::bytes_of(p));
            let ways = ways(kernel, params);
            Job { kernel, params, halves: Halves::NONE, bindings: bound.to_vec(), fill: true, ways }
        })
        .collect();
    let mut clock = Planted { times, samples: 0 };
    let tuned = tune(gpu, &mut Pipelines::default(), &jobs, &mut clock, limit).unwrap();
    for buffer in &buffers {
        let bytes = read_buffer(gpu, buffer, buffer.size()).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 0), "buffers are left as they were found");
    }
    (tuned, params)
}

#[test]
fn the_fastest_way_by_the_clock_is_chosen_and_ties_go_to_the_default() {
    let Some(gpu) = common::gpu() else { return };
    let name = |(tuned, params): (Tuned, Vec<matmul::Params>)| {
        tuned.way(&matmul::KERNEL, bytemuck::bytes_of(&params[0]), Halves::NONE).map(|way| way.name)
    };
    let shape = [[256, 256]];
    let default = ways(&matmul::KERNEL, bytemuck::bytes_of(&matmul::Params::dense(NT, OVERWRITE, 256, 256, 32)));
    assert_eq!(default.all[0].name, "64x64 of 8x8");
    let of = |times: fn(&str) -> f64| name(tuned(&gpu, times, &shape, f64::INFINITY)).unwrap();
    assert_eq!(of(|name| if name == "128x128 of 16x8" { 0.9 } else { 1.0 }), "128x128 of 16x8");
    assert_eq!(of(|name| if name == "128x64 of 8x8" { 1e-5 } else { 2e-5 }), "128x64 of 8x8");
    assert_eq!(of(|name| if name == "128x128 of 16x8" { 0.99 } else { 1.0 }), "64x64 of 8x8");
    assert_eq!(of(|name| if name == "64x64 of 8x8" { 0.5 } else { 1.0 }), "64x64 of 8x8");
}

#[test]
fn what_the_time_does_not_reach_keeps_its_default() {
    let Some(gpu) = common::gpu() else { return };
    let (tuned, params) = tuned(&gpu, |_| 1.0, &[[256, 256], [192, 256], [256, 192]], 20.0);
    let known = |p| tuned.way(&matmul::KERNEL, bytemuck::bytes_of(p), Halves::NONE).is_some();
    assert_eq!(params.iter().map(known).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn products_of_a_program_can_be_timed_where_they_lie() {
    let Some(gpu) = common::gpu() else { return };
    let program = runs::program(&runs::config(1), &runs::gpu(&gpu));
    let tensors = &program.tensors;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let made = tensors.iter().map(|(tensor, info)| {
        let size = info.bytes().next_multiple_of(16).max(16);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        (tensor, gpu.device.create_buffer(&descriptor))
    });
    let buffers: HashMap<Tensor, wgpu::Buffer> = made.collect();
    let lies = |t: Tensor| (buffers[&t].as_entire_buffer_binding(), tensors.info(t).elements());
    let steps = program.recordings.iter().flat_map(|recording| &recording.steps);
    let mut pipelines = Pipelines::default();
    let (tuned, keys) = with_jobs(&gpu, &Allowed::portable(), steps, lies, 0, |mut jobs| {
        let keys: BTreeSet<String> = jobs.iter().map(Job::key).collect();
        assert_eq!(keys.len(), jobs.len(), "no shape twice");
        // One of each kernel: pipelines take long to compile here.
        let mut seen = BTreeSet::new();
        jobs.retain(|job| seen.insert(job.kernel.stem));
        (tune(&gpu, &mut pipelines, &jobs, &mut Wall::start(), f64::INFINITY).unwrap(), keys)
    });
    assert_eq!(tuned.len(), 3);
    for stem in ["matmul ", "matmul_experts ", "matmul_experts_weight_grad "] {
        assert!(keys.iter().any(|key| key.starts_with(stem)), "{stem}in {keys:?}");
    }
    for (tensor, buffer) in &buffers {
        let bytes = read_buffer(&gpu, buffer, buffer.size()).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 0), "{} is not as it was found", tensors.info(*tensor).name);
    }
}

/// Every product of a short run the way that stands last, which its default is not.
fn elsewhere(device: &Device, config: &hadal::config::Config) -> Tuned {
    let program = runs::program(config, device);
    let mut tuned = Tuned::default();
    for step in program.recordings.iter().flat_map(|recording| &recording.steps) {
        let Some(tunable) = step.kernel.tunable else { continue };
        let ways = (tunable.ways)(&step.params);
        tuned.insert(key(step.kernel, &ways, step.halves), &ways.all[ways.all.len() - 1]);
    }
    tuned
}

#[test]
fn a_run_is_the_same_to_the_byte_whichever_way_its_products_go() {
    let Some(gpu) = common::gpu() else { return };
    let config = runs::config(2);
    let text = runs::text(&config);
    let device = |allowed| Device::Gpu { gpu: gpu.clone(), allowed, stored: Dtype::F32, note: String::new() };
    let plain = device(Allowed::portable());
    let tuned = elsewhere(&plain, &config);
    assert!(tuned.len() > 4, "{tuned:?}");
    let allowed = Allowed::portable().going(&tuned);
    let program = runs::program(&config, &plain);
    let steps = program.recordings.iter().flat_map(|recording| &recording.steps);
    let moved = steps.filter(|step| {
        let [here, there] =
            [&Allowed::portable(), &allowed].map(|allowed| allowed.choose(step.kernel, &step.params, step.halves));
        here.constants != there.constants
    });
    assert!(moved.count() > 10);
    let other = device(allowed);
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [("first", &plain), ("second", &other)].map(|(name, device)| {
        let run = folder.path().join(name);
        let rows = runs::train(&config, device, &text, &run, runs::Start::Fresh);
        runs::evidence(&run, 2, rows)
    });
    assert_eq!(runs::difference(&first, &second), None);
}

#[test]
fn a_tuned_dispatch_runs_in_the_form_that_was_found() {
    let params = matmul::Params::dense(NT, OVERWRITE, 256, 256, 32);
    let case = Case::new("", &params);
    let ways = ways(&matmul::KERNEL, &case.params);
    let mut tuned = Tuned::default();
    tuned.insert(key(&matmul::KERNEL, &ways, Halves::NONE), &ways.all[2]);
    let allowed = Allowed::portable().going(&tuned);
    let choice = allowed.choose(&matmul::KERNEL, &case.params, Halves::NONE);
    assert_eq!(choice.grid, ways.all[2].grid);
    assert!(ways.all[2].constants.iter().all(|constant| choice.constants.contains(constant)));
}
