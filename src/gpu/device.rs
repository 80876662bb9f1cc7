//! Adapters, limits and features; one device for the whole program.

use super::cache::PipelineCache;
use super::tuned::Tuning;
use super::wait::Finished;
use crate::error::{Error, Result};
use std::sync::{Arc, Mutex, OnceLock};

/// Bytes of the blocks that buffers are cut from, the smallest that wgpu takes. Larger buffers get memory of their own;
/// cut from blocks of up to 64 MiB, those of small models left a fifth of the memory unused.
const BLOCK: u64 = 4 << 20;

/// What an adapter can do, as far as the program cares.
#[derive(Clone, Debug)]
pub struct AdapterSummary {
    /// Position in [`adapters`], for `--adapter`.
    pub index: usize,
    /// The driver's name for the card.
    pub name: String,
    /// `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu` (a software rasteriser), ...
    pub kind: wgpu::DeviceType,
    /// Driver and its version.
    pub driver: String,
    /// Limits that kernels and plans depend on.
    pub limits: wgpu::Limits,
    /// Optional features that the program uses where present.
    pub features: wgpu::Features,
    /// Smallest and largest subgroup.
    pub subgroup: (u32, u32),
    /// Suffix of the kernel variants for its matrix units, [`COOP16`] or [`COOP8`], where it has such that suit one.
    pub matrix_units: Option<&'static str>,
}

/// Variants on products of 16 x 16 x 16: f16 with f32 sums, in subgroups of exactly 32, with [`COOPERATIVE_BYTES`] of
/// workgroup memory.
pub const COOP16: &str = "coop16";
/// Variants on products of 8 x 8 x 8: the same of Metal, within the workgroup memory of portable shaders.
pub const COOP8: &str = "coop8";

/// Workgroup memory that shaders for 16 x 16 x 16 may use; others get by with 32 KiB.
pub const COOPERATIVE_BYTES: u32 = 48 << 10;

impl AdapterSummary {
    /// A card with memory of its own.
    pub fn is_discrete(&self) -> bool {
        self.kind == wgpu::DeviceType::DiscreteGpu
    }

    /// Whether shaders may store f16.
    pub fn has_f16(&self) -> bool {
        self.features.contains(wgpu::Features::SHADER_F16)
    }

    /// A software adapter runs on the CPU: much slower than the CPU executor.
    pub fn is_software(&self) -> bool {
        self.kind == wgpu::DeviceType::Cpu
    }
}

/// An open device. Errors that wgpu reports out of band are kept until [`Gpu::check`] asks.
pub struct Gpu {
    /// The adapter behind it.
    pub summary: AdapterSummary,
    /// Creates resources.
    pub device: wgpu::Device,
    /// Takes work.
    pub queue: wgpu::Queue,
    /// Compiled pipelines of earlier runs, where the adapter hands them out.
    pub cache: Option<PipelineCache>,
    /// Which way portable kernels go, as far as it was measured.
    pub tuning: Tuning,
    /// Submissions that are done, as far as wgpu has noticed.
    pub(super) finished: Finished,
    fault: Arc<Mutex<Option<String>>>,
    lost: Arc<OnceLock<String>>,
}

/// Features that kernels may use; each is requested only where the adapter has it.
fn wanted_features() -> wgpu::Features {
    wgpu::Features::IMMEDIATES
        | wgpu::Features::SHADER_F16
        | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
        | wgpu::Features::PIPELINE_CACHE
}

/// Keeps a Mesa layer silent that looks for a display server and complains, on every start, where there is none.
///
/// For `main` alone, as its first act: the environment may only change while the process has one thread.
pub fn silence_display_layer() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: called before any other thread exists, so nothing reads the environment at the same time.
        #[expect(unsafe_code, reason = "setting a variable of the process is unsafe where threads may read it")]
        unsafe {
            std::env::set_var("NODEVICE_SELECT", "1");
        }
    }
}

/// One for the process: loading the drivers takes a while.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        descriptor.flags = wgpu::InstanceFlags::empty(); // validation layers and indirect checks slow every dispatch
        wgpu::Instance::new(descriptor)
    })
}

/// The driver's name and version.
pub(super) fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info).trim().to_owned()
}

/// Which variants suit matrix units that multiply these sizes and types, on an adapter with these features and limits.
fn matrix_units(
    info: &wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    products: &[wgpu::CooperativeMatrixProperties],
) -> Option<&'static str> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    let multiplies = |side: u32| {
        features.contains(needed)
            && products.iter().any(|c| {
                (c.m_size, c.n_size, c.k_size) == (side, side, side)
                    && c.ab_type == wgpu::CooperativeScalarType::F16
                    && c.cr_type == wgpu::CooperativeScalarType::F32
            })
    };
    let subgroups_of_32 = (info.subgroup_min_size, info.subgroup_max_size) == (32, 32);
    let memory = limits.max_compute_workgroup_storage_size;
    if multiplies(16) && subgroups_of_32 && memory >= COOPERATIVE_BYTES {
        return Some(COOP16);
    }
    // Metal states no size of subgroups, but whatever has its matrix units runs in 32.
    (multiplies(8) && info.backend == wgpu::Backend::Metal).then_some(COOP8)
}

fn summarise(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    let features = adapter.features() & wanted_features();
    let limits = adapter.limits();
    let matrix_units = matrix_units(&info, features, &limits, &adapter.cooperative_matrix_properties());
    AdapterSummary {
        index,
        driver: driver(&info),
        name: info.name,
        backend: format!("{:?}", info.backend),
        kind: info.device_type,
        limits,
        features,
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
        matrix_units,
    }
}

/// All adapters that the machine offers, in the order that `--adapter INDEX` counts.
pub fn adapters() -> Vec<AdapterSummary> {
    let found = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    found.iter().enumerate().map(|(i, adapter)| summarise(i, adapter)).collect()
}

impl Gpu {
    /// Opens the adapter at `index` of [`adapters`] with all of its limits.
    pub fn open(index: usize) -> Result<Arc<Gpu>> {
        let found = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
        let adapter = found.get(index).ok_or_else(|| Error::Device(format!("no adapter number {index}")))?;
        let summary = summarise(index, adapter);
        if !summary.features.contains(wgpu::Features::IMMEDIATES) {
            return Err(Error::Device(format!("{} does not offer immediate data; update its driver", summary.name)));
        }
        // SAFETY: cooperative matrices are the one experimental feature asked for; every shader that uses them is our
        // own, checked by naga in a test, and has passed a numeric self-test on this device before it is used.
        #[expect(unsafe_code, reason = "wgpu asks for this token before it opens experimental features")]
        let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("hadal"),
            required_features: summary.features,
            required_limits: summary.limits.clone(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: BLOCK..BLOCK },
            trace: wgpu::Trace::Off,
        });
        let (device, queue) = pollster::block_on(request)
            .map_err(|e| Error::device(format!("{} could not be opened: {e}", summary.name)))?;
        // Without a handler of its own wgpu answers an error with a panic.
        let (fault, lost) = (Arc::new(Mutex::new(None)), Arc::new(OnceLock::new()));
        let slot: Arc<Mutex<Option<String>>> = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut slot) = slot.lock() {
                slot.get_or_insert(e.to_string());
            }
        }));
        let slot = lost.clone();
        device.set_device_lost_callback(move |reason, text| {
            let _ = slot.set(format!("the device was lost ({reason:?}) {text}")); // called once
        });
        let cache = PipelineCache::open(&device);
        let tuning = Tuning::open(&summary);
        let finished = Finished::default();
        Ok(Arc::new(Gpu { summary, device, queue, cache, tuning, finished, fault, lost }))
    }

    /// The first fault since the last call, as an error; once the device is lost, that.
    pub fn check(&self) -> Result<()> {
        let fault = self.fault.lock().ok().and_then(|mut slot| slot.take());
        match self.lost.get().cloned().or(fault) {
            Some(text) => Err(Error::device(format!("{}: {text}", self.summary.name))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::{Backend, CooperativeScalarType as Scalar, Features};

    #[test]
    fn variants_for_matrix_units_are_chosen_only_where_all_that_they_need_is_listed() {
        let product = |side, ab_type, cr_type| wgpu::CooperativeMatrixProperties {
            m_size: side,
            n_size: side,
            k_size: side,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        };
        let (sixteens, eights) = (product(16, Scalar::F16, Scalar::F32), product(8, Scalar::F16, Scalar::F32));
        let all = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16;
        let choose = |backend, subgroup: (u32, u32), bytes, features, products: &[_]| {
            let mut info = wgpu::AdapterInfo::new(wgpu::DeviceType::Other, backend);
            (info.subgroup_min_size, info.subgroup_max_size) = subgroup;
            let limits = wgpu::Limits { max_compute_workgroup_storage_size: bytes, ..Default::default() };
            matrix_units(&info, features, &limits, products)
        };
        let vulkan =
            |subgroup, bytes, features, products: &[_]| choose(Backend::Vulkan, subgroup, bytes, features, products);
        let metal = |features, products: &[_]| choose(Backend::Metal, (4, 64), 32 << 10, features, products);
        let halves = product(16, Scalar::F16, Scalar::F16);
        assert_eq!(vulkan((32, 32), 48 << 10, all, &[halves, sixteens]), Some(COOP16));
        assert_eq!(vulkan((32, 32), 48 << 10, all, &[halves]), None);
        assert_eq!(vulkan((32, 64), 48 << 10, all, &[sixteens]), None);
        assert_eq!(vulkan((32, 32), 32 << 10, all, &[sixteens]), None);
        assert_eq!(vulkan((32, 32), 48 << 10, Features::SHADER_F16, &[sixteens]), None);
        assert_eq!(vulkan((8, 8), 48 << 10, all, &[eights]), None);
        assert_eq!(metal(all, &[product(8, Scalar::F32, Scalar::F32), eights]), Some(COOP8));
        assert_eq!(metal(all, &[product(8, Scalar::F16, Scalar::F16)]), None);
        assert_eq!(metal(Features::EXPERIMENTAL_COOPERATIVE_MATRIX, &[eights]), None);
    }
}
