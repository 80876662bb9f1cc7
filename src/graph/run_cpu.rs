//! The CPU executor: replays a recording through the reference functions, in f32 to train or in f64 to judge.

use super::Executor;
use super::plan::Plan;
use super::recording::{Recording, Step};
use super::tensor::{Dtype, Tensor, Tensors};
use crate::error::Result;
use crate::kernels::case::Case;
use crate::kernels::contract::Held;
use crate::kernels::{Access, Arg, Args, Kernel};
use crate::reference::Real;
use std::collections::HashMap;

/// A type that the table of kernels has references for.
pub trait CpuReal: Real {
    /// The kernel's reference in this type.
    fn reference(kernel: &Kernel) -> fn(&[u8], Args<'_, Self>);
}

impl CpuReal for f32 {
    fn reference(kernel: &Kernel) -> fn(&[u8], Args<'_, f32>) {
        kernel.cpu_f32
    }
}

impl CpuReal for f64 {
    fn reference(kernel: &Kernel) -> fn(&[u8], Args<'_, f64>) {
        kernel.cpu_f64
    }
}

enum Memory<F> {
    Real(Vec<F>),
    Index(Vec<u32>),
}

/// Buffers in main memory and the recordings that run on them.
pub struct CpuExecutor<F> {
    tensors: Tensors,
    recordings: Vec<Recording>,
    plan: Plan,
    memory: Vec<Memory<F>>,
    pending: Vec<(u64, Vec<f32>)>,
    /// Seconds and calls by stem, where profiling is on.
    profile: Option<HashMap<&'static str, (f64, u64)>>,
}

impl<F: CpuReal> CpuExecutor<F> {
    /// Allocates everything that `recordings` need, zeroed.
    pub fn new(tensors: &Tensors, recordings: &[Recording]) -> Self {
        let plan = Plan::new(tensors, recordings);
        let memory = plan.slots.iter().map(|slot| {
            let elements = (slot.bytes / slot.dtype.bytes()) as usize;
            match slot.dtype {
                Dtype::F32 | Dtype::F16 => Memory::Real(vec![F::zero(); elements]),
                Dtype::U32 => Memory::Index(vec![0; elements]),
            }
        });
        CpuExecutor {
            memory: memory.collect(),
            tensors: tensors.clone(),
            recordings: recordings.to_vec(),
            plan,
            pending: Vec::new(),
            profile: None,
        }
    }

    /// The step as a case on the present contents, rounded to f32.
    pub fn case(&self, step: &Step, name: String) -> Case {
        let mut case = Case { name, params: step.params.clone(), data: Vec::new(), halves: step.halves };
        for &tensor in &step.tensors {
            case = match self.tensors.info(tensor).dtype {
                Dtype::F32 | Dtype::F16 => case.real(self.get(tensor).iter().map(|x| x.wide()).collect()),
                Dtype::U32 => case.index(self.get_indices(tensor).to_vec()),
            };
        }
        case
    }

    /// Panics if what the step reads breaks the kernel's contract: its results would mean nothing.
    fn check_contract(&self, step: &Step) {
        let held = step.tensors.iter().map(|&tensor| match self.tensors.info(tensor).dtype {
            Dtype::U32 => Held::Index(self.get_indices(tensor)),
            _ => Held::Real(self.tensors.elements(tensor)),
        });
        let kept = (step.kernel.contract)(&step.params, &held.collect::<Vec<_>>());
        kept.unwrap_or_else(|reason| panic!("{}: {reason}", step.kernel.stem));
    }

    /// Runs one step.
    pub fn run_step(&mut self, step: &Step) {
        self.check_contract(step);
        let started = self.profile.is_some().then(std::time::Instant::now);
        let slot =
            |tensor: Tensor| self.plan.slot(tensor).unwrap_or_else(|| panic!("{}: not planned", step.kernel.stem));
        let mut written: Vec<(usize, Memory<F>)> = Vec::new();
        for (tensor, _) in step.uses().filter(|(_, access)| *access != Access::Read) {
            let at = slot(tensor);
            written.push((at, std::mem::replace(&mut self.memory[at], Memory::Index(Vec::new()))));
        }
        let mut writable = written.iter_mut();
        let args = step.uses().map(|(tensor, access)| {
            let length = self.tensors.elements(tensor);
            if access == Access::Read {
                match &self.memory[slot(tensor)] {
                    Memory::Real(x) => Arg::Real(&x[..length]),
                    Memory::Index(x) => Arg::Index(&x[..length]),
                }
            } else {
                match writable.next().map(|(_, memory)| memory) {
                    Some(Memory::Real(x)) => Arg::RealMut(&mut x[..length]),
                    Some(Memory::Index(x)) => Arg::IndexMut(&mut x[..length]),
                    None => panic!("{}: a written binding was not taken", step.kernel.stem),
                }
            }
        });
        F::reference(step.kernel)(&step.params, Args(args.collect()));
        for ((at, mut memory), (tensor, _)) in written.into_iter().zip(step.uses().filter(|u| u.1 != Access::Read)) {
            if let (Dtype::F16, Memory::Real(x)) = (self.tensors.info(tensor).dtype, &mut memory) {
                x.iter_mut().for_each(|x| *x = F::of(half::f16::from_f64(x.wide()).to_f64()));
            }
            self.memory[at] = memory;
        }
        if let (Some(started), Some(profile)) = (started, &mut self.profile) {
            let entry = profile.entry(step.kernel.stem).or_default();
            entry.0 += started.elapsed().as_secs_f64();
            entry.1 += 1;
        }
    }

    /// Overwrites the start of a tensor of floats; a tensor that no step uses is skipped.
    pub fn set(&mut self, tensor: Tensor, values: &[F]) {
        assert!(values.len() <= self.tensors.elements(tensor), "{}: too many values", self.tensors.info(tensor).name);
        if let Some(slot) = self.plan.slot(tensor) {
            match &mut self.memory[slot] {
                Memory::Real(x) => x[..values.len()].copy_from_slice(values),
                Memory::Index(_) => panic!("{} holds integers", self.tensors.info(tensor).name),
            }
        }
    }

    /// A tensor of floats.
    pub fn get(&self, tensor: Tensor) -> &[F] {
        let length = self.tensors.elements(tensor);
        match self.plan.slot(tensor).map(|slot| &self.memory[slot]) {
            Some(Memory::Real(x)) => &x[..length],
            _ => panic!("{} is not a planned tensor of floats", self.tensors.info(tensor).name),
        }
    }

    /// A tensor of integers.
    pub fn get_indices(&self, tensor: Tensor) -> &[u32] {
        let length = self.tensors.elements(tensor);
        match self.plan.slot(tensor).map(|slot| &self.memory[slot]) {
            Some(Memory::Index(x)) => &x[..length],
            _ => panic!("{} is not a planned tensor of integers", self.tensors.info(tensor).name),
        }
    }

    /// The recordings of the program.
    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }
}

impl<F: CpuReal> Executor for CpuExecutor<F> {
    fn upload(&mut self, tensor: Tensor, values: &[f32]) -> Result<()> {
        let half = self.tensors.info(tensor).dtype == Dtype::F16;
        let narrow = |x: f32| if half { half::f16::from_f32(x).to_f32() } else { x };
        let values: Vec<F> = values.iter().map(|&x| F::of(f64::from(narrow(x)))).collect();
        self.set(tensor, &values);
        Ok(())
    }

    fn upload_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        if let Some(slot) = self.plan.slot(tensor) {
            match &mut self.memory[slot] {
                Memory::Index(x) => x[..values.len()].copy_from_slice(values),
                Memory::Real(_) => panic!("{} holds floats", self.tensors.info(tensor).name),
            }
        }
        Ok(())
    }

    fn run(&mut self, recording: usize) -> Result<()> {
        let steps = std::mem::take(&mut self.recordings[recording].steps);
        for step in &steps {
            self.run_step(step);
        }
        self.recordings[recording].steps = steps;
        Ok(())
    }

    fn run_one(&mut self, recording: usize, step: usize) -> Result<()> {
        let step = self.recordings[recording].steps[step].clone();
        self.run_step(&step);
        Ok(())
    }

    fn clear(&mut self, tensor: Tensor) -> Result<()> {
        match self.plan.slot(tensor).map(|slot| &mut self.memory[slot]) {
            Some(Memory::Real(x)) => x.fill(F::zero()),
            Some(Memory::Index(x)) => x.fill(0),
            None => {}
        }
        Ok(())
    }

    fn first_not_finite(&mut self, tensor: Tensor) -> Result<Option<usize>> {
        Ok(self.get(tensor).iter().position(|x| !x.is_finite()))
    }

    fn elements(&self, tensor: Tensor) -> usize {
        self.tensors.elements(tensor)
    }

    fn download_into(&mut self, tensor: Tensor, values: &mut [f32]) -> Result<()> {
        values.iter_mut().zip(self.get(tensor)).for_each(|(value, x)| *value = x.wide() as f32);
        Ok(())
    }

    fn download_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>> {
        Ok(self.get_indices(tensor).to_vec())
    }

    fn read_later(&mut self, tensor: Tensor, tag: u64) -> Result<()> {
        let value = match self.tensors.info(tensor).dtype {
            Dtype::U32 => self.get_indices(tensor).iter().map(|&x| f32::from_bits(x)).collect(),
            _ => self.download(tensor)?,
        };
        self.pending.push((tag, value));
        Ok(())
    }

    fn arrived(&mut self, _wait: bool) -> Result<Vec<(u64, Vec<f32>)>> {
        Ok(std::mem::take(&mut self.pending))
    }

    fn profile(&mut self) -> Result<()> {
        self.profile = Some(HashMap::new());
        Ok(())
    }

    fn profiled(&self) -> Vec<(String, f64, u64)> {
        let mut rows: Vec<_> =
            self.profile.iter().flatten().map(|(&stem, &(seconds, calls))| (stem.to_owned(), seconds, calls)).collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows
    }

    fn allocated(&self) -> Option<[u64; 2]> {
        None
    }

    fn tuning(&self) -> Option<String> {
        None
    }

    fn describe(&self) -> String {
        format!("the CPU, {} threads", rayon::current_num_threads())
    }
}
