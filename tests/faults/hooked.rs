//! An executor between the trainer and its device, which can be told to do harm.

use hadal::error::Result;
use hadal::graph::{Executor, Tensor};

/// What is asked of an executor.
pub enum Call<'a> {
    /// Words of a tensor of integers.
    Words(Tensor, &'a [u32]),
    /// A dispatch of a recording.
    One(usize, usize),
    /// Anything else that a device has to do with.
    Other,
}

/// What happens around a call.
pub type Hook = Box<dyn FnMut(&Call<'_>, &mut dyn Executor) -> Result<()>>;

/// Calls `before` and `after` each call of `inner`.
pub struct Hooked {
    pub inner: Box<dyn Executor>,
    pub before: Hook,
    pub after: Hook,
    /// Numbers of dispatches of the recordings, where these are to run one by one.
    pub lengths: Option<Vec<usize>>,
}

impl Hooked {
    fn around<T>(&mut self, call: Call<'_>, run: impl FnOnce(&mut dyn Executor) -> Result<T>) -> Result<T> {
        (self.before)(&call, self.inner.as_mut())?;
        let done = run(self.inner.as_mut())?;
        (self.after)(&call, self.inner.as_mut())?;
        Ok(done)
    }
}

impl Executor for Hooked {
    fn upload(&mut self, tensor: Tensor, values: &[f32]) -> Result<()> {
        self.around(Call::Other, |inner| inner.upload(tensor, values))
    }

    fn upload_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        self.around(Call::Words(tensor, values), |inner| inner.upload_indices(tensor, values))
    }

    fn run(&mut self, recording: usize) -> Result<()> {
        match &self.lengths {
            Some(lengths) => (0..lengths[recording]).try_for_each(|step| self.run_one(recording, step)),
            None => self.around(Call::Other, |inner| inner.run(recording)),
        }
    }

    fn run_one(&mut self, recording: usize, step: usize) -> Result<()> {
        self.around(Call::One(recording, step), |inner| inner.run_one(recording, step))
    }

    fn clear(&mut self, tensor: Tensor) -> Result<()> {
        self.around(Call::Other, |inner| inner.clear(tensor))
    }

    fn first_not_finite(&mut self, tensor: Tensor) -> Result<Option<usize>> {
        self.around(Call::Other, |inner| inner.first_not_finite(tensor))
    }

    fn elements(&self, tensor: Tensor) -> usize {
        self.inner.elements(tensor)
    }

    fn download_into(&mut self, tensor: Tensor, values: &mut [f32]) -> Result<()> {
        self.around(Call::Other, |inner| inner.download_into(tensor, values))
    }

    fn download_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>> {
        self.around(Call::Other, |inner| inner.download_indices(tensor))
    }

    fn read_later(&mut self, tensor: Tensor, tag: u64) -> Result<()> {
        self.around(Call::Other, |inner| inner.read_later(tensor, tag))
    }

    fn arrived(&mut self, wait: bool) -> Result<Vec<(u64, Vec<f32>)>> {
        self.around(Call::Other, |inner| inner.arrived(wait))
    }

    fn profile(&mut self) -> Result<()> {
        self.inner.profile()
    }

    fn profiled(&self) -> Vec<(String, f64, u64)> {
        self.inner.profiled()
    }

    fn allocated(&self) -> Option<[u64; 2]> {
        self.inner.allocated()
    }

    fn tuning(&self) -> Option<String> {
        self.inner.tuning()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
