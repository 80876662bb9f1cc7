//! Tensors and operations to a list of dispatches, and the executors that replay it.
//!
//! A [`Tape`](tape::Tape) records operations on tensor handles. Lowering turns them into a [`Recording`]: forward steps
//! in order, then, for training, backward steps in reverse. A recording is a list of (kernel, parameters, tensors); it
//! holds no command buffers, because wgpu's are spent by one submission. Two executors replay it: the GPU
//! (`gpu::executor`) with pipelines and bind groups made once, and the CPU ([`run_cpu`]) through the references.

pub mod backward;
pub mod forward;
pub mod objective;
pub mod op;
pub mod plan;
mod reach;
mod recompute;
pub mod recording;
pub mod run_cpu;
pub mod tape;
pub mod tensor;

pub use recording::{Recording, Step};
pub use tensor::{Dtype, Role, Tensor, Tensors};

use crate::error::Result;

/// Replays the recordings of one program on its buffers.
pub trait Executor {
    /// Overwrites the start of a tensor of floats; numbers are rounded to those of f16 where it holds such.
    fn upload(&mut self, tensor: Tensor, values: &[f32]) -> Result<()>;
    /// Overwrites the start of a tensor of integers.
    fn upload_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()>;
    /// Runs recording number `recording` of the program. May return before the device has finished.
    fn run(&mut self, recording: usize) -> Result<()>;
    /// Runs dispatch number `step` of that recording alone, for those who look for what went wrong.
    fn run_one(&mut self, recording: usize, step: usize) -> Result<()>;
    /// Makes every number of a tensor 0, and of those that share its memory.
    fn clear(&mut self, tensor: Tensor) -> Result<()>;
    /// Waits for all work and looks, by their bits, for the first number of a tensor of floats that is infinite or NaN.
    fn first_not_finite(&mut self, tensor: Tensor) -> Result<Option<usize>>;
    /// Elements of a tensor.
    fn elements(&self, tensor: Tensor) -> usize;
    /// Waits for all work and reads a tensor of floats into `values`, which has just as many.
    fn download_into(&mut self, tensor: Tensor, values: &mut [f32]) -> Result<()>;
    /// Waits for all work and reads a tensor of floats.
    fn download(&mut self, tensor: Tensor) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.elements(tensor)];
        self.download_into(tensor, &mut values)?;
        Ok(values)
    }
    /// Waits for all work and reads a tensor of integers.
    fn download_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>>;
    /// Asks for a tensor's present value without waiting; [`Executor::arrived`] yields it under `tag`, in order:
    /// integers as floats of their bits.
    fn read_later(&mut self, tensor: Tensor, tag: u64) -> Result<()>;
    /// The values asked for by `read_later` that are there; with `wait`, at least the oldest.
    fn arrived(&mut self, wait: bool) -> Result<Vec<(u64, Vec<f32>)>>;
    /// Measures the time of each kernel from now on; slows replays down.
    fn profile(&mut self) -> Result<()>;
    /// Seconds and calls by kernel and variant since then, slowest first.
    fn profiled(&self) -> Vec<(String, f64, u64)>;
    /// Bytes that buffers hold and bytes that the device has set aside for them, where the platform tells.
    fn allocated(&self) -> Option<[u64; 2]>;
    /// Which way products go, where a device could choose one by time.
    fn tuning(&self) -> Option<String>;
    /// One line: what runs where.
    fn describe(&self) -> String;
}
