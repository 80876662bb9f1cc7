//! Which device runs a program: a GPU through wgpu, or the CPU executor.

use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::gpu::device::{AdapterSummary, Gpu, adapters};
use crate::gpu::executor::{GpuExecutor, allocate};
use crate::gpu::pipeline::Allowed;
use crate::gpu::self_test;
use crate::gpu::transfer;
use crate::graph::plan::Plan;
use crate::graph::run_cpu::CpuExecutor;
use crate::graph::{Dtype, Executor, Recording, Tensors};
use crate::terminal::size;
use std::sync::Arc;

/// What the user asks for with `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Backend {
    /// A discrete GPU, else an integrated one, else the CPU.
    #[default]
    Auto,
    /// An adapter, also a software one.
    Gpu,
    /// The CPU executor.
    Cpu,
}

/// The device that was chosen.
pub enum Device {
    /// The CPU executor.
    Cpu {
        /// Why not a GPU; empty where the CPU was asked for.
        note: String,
    },
    /// An open adapter and the kernel variants that passed their self-test on it.
    Gpu {
        /// The device.
        gpu: Arc<Gpu>,
        /// Variants that may be used.
        allowed: Allowed,
        /// What activations and the factors of products are stored as.
        stored: Dtype,
        /// What was decided about precision and, behind `SINCE`, why.
        note: String,
    },
}

/// What is said where there is no GPU.
pub const NO_ADAPTER: &str = "no GPU adapter found (a driver brings one: mesa-vulkan-drivers for AMD, Intel and \
     software Vulkan, the NVIDIA driver with libvulkan1 for NVIDIA)";

/// What stands between a decision and its reason, which is long and only some want to know.
const SINCE: &str = ", since ";

impl Device {
    /// Chooses and opens a device. `adapter` is a number of `hadal info` or a part of a name.
    pub fn open(backend: Backend, adapter: Option<&str>, precision: Precision) -> Result<Device> {
        if backend == Backend::Cpu {
            if adapter.is_some() {
                return Err(Error::Usage("--adapter names a GPU, but --backend cpu asks for none".to_owned()));
            }
            return Device::cpu(precision, String::new());
        }
        let found = adapters();
        let chosen = match adapter {
            Some(wanted) => Some(named(&found, wanted)?),
            None => preferred(&found, backend == Backend::Gpu),
        };
        match chosen {
            Some(summary) => Device::gpu(summary.index, precision),
            None if backend == Backend::Gpu => Err(Error::Device(NO_ADAPTER.to_owned())),
            None if found.is_empty() => Device::cpu(precision, "no GPU found (hadal info says more)".to_owned()),
            None => {
                let name = found[0].name.split(" (").next().unwrap_or_default();
                Device::cpu(precision, format!("no GPU found (only {name}, a software one)"))
            }
        }
    }

    fn cpu(precision: Precision, note: String) -> Result<Device> {
        match precision {
            Precision::Mixed => {
                Err(Error::config("train.precision", "the CPU executor computes in f32; set f32 or auto"))
            }
            Precision::F32 | Precision::Auto => Ok(Device::Cpu { note }),
        }
    }

    fn gpu(index: usize, precision: Precision) -> Result<Device> {
        let gpu = Gpu::open(index)?;
        let (allowed, stored, note) = match precision {
            Precision::F32 => (Allowed::portable(), Dtype::F32, "f32".to_owned()),
            Precision::Mixed | Precision::Auto => match self_test::matrix_units(&gpu) {
                Ok(suffix) => {
                    let note = "mixed precision: f16 products with f32 sums on matrix units";
                    (Allowed::with(&[suffix]), Dtype::F16, note.to_owned())
                }
                Err(reason) if precision == Precision::Auto => {
                    (Allowed::portable(), Dtype::F32, format!("f32 without matrix units{SINCE}{reason}"))
                }
                Err(reason) if gpu.summary.has_f16() => {
                    let note = format!("mixed precision: f16 storage, no matrix units{SINCE}{reason}");
                    (Allowed::portable(), Dtype::F16, note)
                }
                Err(reason) => return Err(Error::config("train.precision", format!("{reason}, nor f16 at all"))),
            },
        };
        Ok(Device::Gpu { gpu, allowed, stored, note })
    }

    /// The same device, opened again after it was lost, with the decisions that were made for it: a run goes on with
    /// the same bits.
    pub fn reopen(&self) -> Result<Device> {
        match self {
            Device::Cpu { note } => Ok(Device::Cpu { note: note.clone() }),
            Device::Gpu { gpu, allowed, stored, note } => {
                let before = &gpu.summary;
                let same = |now: &AdapterSummary| (&now.name, &now.driver) == (&before.name, &before.driver);
                let found = adapters();
                let again = found.iter().filter(|now| same(now)).min_by_key(|now| now.index.abs_diff(before.index));
                let again = again.ok_or_else(|| Error::Device(format!("{} is no longer there", before.name)))?;
                let gpu = Gpu::open(again.index)?;
                Ok(Device::Gpu { gpu, allowed: allowed.clone(), stored: *stored, note: note.clone() })
            }
        }
    }

    /// What activations and the factors of products are stored as.
    pub fn stored(&self) -> Dtype {
        match self {
            Device::Cpu { .. } => Dtype::F32,
            Device::Gpu { stored, .. } => *stored,
        }
    }

    /// Largest tensor that one binding may hold, in bytes.
    pub fn binding_limit(&self) -> u64 {
        match self {
            Device::Cpu { .. } => u64::MAX,
            Device::Gpu { gpu, .. } => {
                let limits = &gpu.summary.limits;
                limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
            }
        }
    }

    /// Bytes that the executor's own buffers between host and device take beside those of `plan`.
    pub fn staging(&self, plan: &Plan) -> u64 {
        match self {
            Device::Cpu { .. } => 0,
            Device::Gpu { .. } => transfer::staging_bytes(plan),
        }
    }

    /// Buffers and pipelines for a program's `recordings`; refused if the plan needs more than `cap` bytes.
    pub fn executor(&self, tensors: &Tensors, recordings: &[Recording], cap: Option<u64>) -> Result<Box<dyn Executor>> {
        let bytes = Plan::new(tensors, recordings).bytes();
        if let Some(cap) = cap.filter(|&cap| bytes > cap) {
            return Err(too_large(bytes, cap, "allowed"));
        }
        match self {
            Device::Cpu { .. } => {
                if let Some(free) = available_memory().filter(|&free| bytes > free) {
                    return Err(too_large(bytes, free, "that the machine has free"));
                }
                Ok(Box::new(CpuExecutor::<f32>::new(tensors, recordings)))
            }
            Device::Gpu { gpu, allowed, .. } => {
                if let Some(free) = available_memory().filter(|&free| gpu.summary.is_software() && bytes > free) {
                    return Err(too_large(bytes, free, "that the machine has free"));
                }
                Ok(Box::new(GpuExecutor::new(gpu.clone(), tensors, recordings, allowed)?))
            }
        }
    }

    /// Whether the device has room for a plan now: it says so if its buffers can be made, which are freed at once.
    pub fn has_room(&self, plan: &Plan) -> bool {
        let in_memory = || available_memory().is_none_or(|free| plan.bytes() <= free);
        match self {
            Device::Cpu { .. } => in_memory(),
            Device::Gpu { gpu, .. } if gpu.summary.is_software() => in_memory(),
            Device::Gpu { gpu, .. } => allocate(gpu, plan).map(drop).and_then(|()| gpu.wait()).is_ok(),
        }
    }

    /// What computes, in a few words.
    pub fn name(&self) -> &str {
        match self {
            Device::Cpu { .. } => "the CPU",
            Device::Gpu { gpu, .. } => &gpu.summary.name,
        }
    }

    /// What computes and how, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu { .. } => match rayon::current_num_threads() {
                1 => "the CPU with 1 thread".to_owned(),
                threads => format!("the CPU with {threads} threads"),
            },
            Device::Gpu { gpu, note, .. } => {
                let (s, note) = (&gpu.summary, note.split(SINCE).next().unwrap_or_default());
                format!("{} through {} ({}), {note}", s.name, s.backend, s.driver)
            }
        }
    }

    /// One line for the head of a run: where it trains, and why there.
    pub fn training(&self) -> String {
        match self {
            Device::Cpu { note } if !note.is_empty() => format!("{note}; training on {}", self.describe()),
            _ => format!("training on {}", self.describe()),
        }
    }

    /// Why it does not use matrix units, where they were wanted.
    pub fn reason(&self) -> Option<&str> {
        let Device::Gpu { note, .. } = self else { return None };
        note.split_once(SINCE).map(|(_, reason)| reason)
    }
}

fn too_large(bytes: u64, limit: u64, whose: &str) -> Error {
    Error::Memory(format!("the plan needs {}, more than the {} {whose}", size(bytes), size(limit)))
}

/// Memory that a program can still get, where the system tells (Linux). Asking for more than there is would not fail
/// at once: the system would end the run, or another program, in the middle of it.
pub(crate) fn available_memory() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let row = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    row.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn named<'a>(found: &'a [AdapterSummary], wanted: &str) -> Result<&'a AdapterSummary> {
    let by_name = |s: &&AdapterSummary| s.name.to_lowercase().contains(&wanted.to_lowercase());
    let chosen = match wanted.parse::<usize>() {
        Ok(index) => found.get(index),
        Err(_) => found.iter().find(by_name),
    };
    chosen.ok_or_else(|| {
        let names: Vec<_> = found.iter().map(|s| format!("{} {}", s.index, s.name)).collect();
        let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Error::Usage(format!("--adapter {wanted}: there is no such adapter; found: {list}"))
    })
}

fn preferred(found: &[AdapterSummary], software: bool) -> Option<&AdapterSummary> {
    let rank = |s: &AdapterSummary| match (s.is_discrete(), s.is_software()) {
        (true, _) => 0,
        (_, false) => 1,
        (_, true) => 2,
    };
    found.iter().filter(|s| software || !s.is_software()).min_by_key(|s| rank(s))
}
