//! Pipelines: a kernel's text, specialised, compiled and kept.

use super::cache::PipelineCache;
use super::tuned::Tuned;
use super::{device::Gpu, preprocess::preprocess};
use crate::error::{Error, Result};
use crate::kernels::{Access, Constants, Halves, Kernel, Tolerance, Way};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which form of a kernel a step runs on this device: the shader text, its constants and its workgroups.
pub struct Choice {
    /// Suffix of the shader file; empty for the portable form.
    pub suffix: &'static str,
    /// Text before the preprocessor.
    pub shader: &'static str,
    /// What specialises it.
    pub constants: Constants,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Allowed error.
    pub tolerance: Tolerance,
}

impl Choice {
    /// The portable form of `kernel`, cut this way, for bindings so stored.
    pub fn portable(kernel: &Kernel, way: Way, halves: Halves) -> Choice {
        let constants = way.constants.into_iter().chain(halves.constants(kernel.binds)).collect();
        Choice { suffix: "", shader: kernel.shader, constants, grid: way.grid, tolerance: kernel.tolerance }
    }

    /// Name of the form: the kernel's stem, and the suffix of a variant.
    pub fn form(&self, kernel: &Kernel) -> String {
        if self.suffix.is_empty() { kernel.stem.to_owned() } else { format!("{}.{}", kernel.stem, self.suffix) }
    }
}

/// Which variants may be used: decided once for a device and a precision. With them, which way portable forms go.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    suffixes: Vec<&'static str>,
    tuned: Arc<Tuned>,
}

impl Allowed {
    /// Only portable shaders.
    pub fn portable() -> Self {
        Self::default()
    }

    /// Also the variants with these suffixes.
    pub fn with(suffixes: &[&'static str]) -> Self {
        Allowed { suffixes: suffixes.to_vec(), tuned: Arc::default() }
    }

    /// The same variants, with portable forms that go the ways of `tuned` where these do not know one yet.
    pub fn going(&self, tuned: &Tuned) -> Self {
        let mut all = tuned.clone();
        all.extend(Tuned::clone(&self.tuned));
        Allowed { suffixes: self.suffixes.clone(), tuned: Arc::new(all) }
    }

    /// The best form of `kernel` for the bytes of its parameters and bindings so stored.
    pub fn choose(&self, kernel: &Kernel, params: &[u8], halves: Halves) -> Choice {
        let variants = (kernel.variants)();
        let best = variants.iter().find(|v| self.suffixes.contains(&v.suffix) && (v.fits)(params, halves));
        match best {
            Some(v) => {
                let constants = v.constants_of(kernel, params, halves);
                let grid = (v.grid)(params);
                Choice { suffix: v.suffix, shader: v.shader, constants, grid, tolerance: v.tolerance }
            }
            None => {
                let way = self.tuned.way(kernel, params, halves);
                let way = way.unwrap_or_else(|| {
                    let (constants, grid) = ((kernel.constants)(params), (kernel.grid)(params));
                    Way { name: String::new(), constants, grid }
                });
                Choice::portable(kernel, way, halves)
            }
        }
    }
}

/// A compiled kernel.
pub struct Pipeline {
    /// The compute pipeline.
    pub pipeline: wgpu::ComputePipeline,
    /// Layout of its one bind group.
    pub layout: wgpu::BindGroupLayout,
}

/// Stem, variant and constants: what makes two pipelines differ.
type Key = (&'static str, &'static str, Constants);

fn key(kernel: &Kernel, choice: &Choice) -> Key {
    (kernel.stem, choice.suffix, choice.constants.clone())
}

/// Compiled kernels.
#[derive(Default)]
pub struct Pipelines {
    compiled: HashMap<Key, Arc<Pipeline>>,
}

impl Pipelines {
    /// Compiles those of `wanted` that are not there yet, on all threads, and keeps them for the next run.
    pub fn prepare<'a>(&mut self, gpu: &Gpu, wanted: impl Iterator<Item = (&'a Kernel, Choice)>) -> Result<()> {
        let mut missing = BTreeMap::new(); // ordered, so that the first refusal is always the same
        for (kernel, choice) in wanted {
            let key = key(kernel, &choice);
            if !self.compiled.contains_key(&key) {
                missing.entry(key).or_insert((kernel, choice));
            }
        }
        let made: Vec<Result<(Key, Arc<Pipeline>)>> = missing
            .into_par_iter()
            .map(|(key, (kernel, choice))| Ok((key, Arc::new(compile(gpu, kernel, &choice)?))))
            .collect();
        for one in made {
            let (key, pipeline) = one?;
            self.compiled.insert(key, pipeline);
        }
        if let Some(cache) = &gpu.cache {
            cache.keep();
        }
        Ok(())
    }

    /// The pipeline of `choice`, compiled at its first use.
    pub fn get(&mut self, gpu: &Gpu, kernel: &Kernel, choice: &Choice) -> Result<Arc<Pipeline>> {
        let key = key(kernel, choice);
        if let Some(pipeline) = self.compiled.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(compile(gpu, kernel, choice)?);
        self.compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }
}

fn compile(gpu: &Gpu, kernel: &Kernel, choice: &Choice) -> Result<Pipeline> {
    let refused = |reason: String| Error::device(format!("shader {}: {reason}", kernel.stem));
    let mut constants = choice.constants.clone();
    constants.push(("SOFTWARE", i64::from(gpu.summary.is_software())));
    let text = preprocess(choice.shader, &constants).map_err(|e| refused(e.to_string()))?;
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(kernel.stem), source: wgpu::ShaderSource::Wgsl(text.into()) };
    // SAFETY: the shaders are the crate's own. Loops end, and every index comes from sizes that the graph has checked
    // against the tensors it binds, or from data (token and expert numbers) that was validated before the upload. The
    // kernel tests run every shader on ragged sizes and compare each element with the reference.
    #[expect(unsafe_code, reason = "bounds checks and loop counters would sit in every inner loop")]
    let module = unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
    let entries: Vec<_> = (0..).zip(kernel.binds).map(|(binding, bind)| layout_entry(binding, bind.access)).collect();
    let layout = gpu
        .device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.stem), entries: &entries });
    let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.stem),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: kernel.params_size as u32,
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.stem),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: gpu.cache.as_ref().map(PipelineCache::raw),
    });
    match pollster::block_on(scope.pop()) {
        Some(e) => Err(refused(e.to_string())),
        None => Ok(Pipeline { pipeline, layout }),
    }
}

fn layout_entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
