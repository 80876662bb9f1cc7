//! Patches of recordings. As a patch of a text names what it replaces, so these name the step: what they look for must
//! occur as often as they say.

use bytemuck::Pod;
use hadal::graph::{Recording, Step, Tensor, Tensors};
use hadal::kernels::{Halves, add, copy_columns};

/// A recording under the knife, with the tensors that it uses.
pub struct Patient<'a> {
    pub tensors: &'a Tensors,
    pub recording: &'a mut Recording,
}

impl Patient<'_> {
    fn describe(&self, step: &Step) -> String {
        let names: Vec<&str> = step.tensors.iter().map(|&t| self.tensors.info(t).name.as_str()).collect();
        format!("{}({})", step.kernel.stem, names.join(", "))
    }

    /// Number of the `number`-th of the exactly `of` steps of a kernel that bind a tensor of this name.
    pub fn step(&self, stem: &str, name: &str, number: usize, of: usize) -> usize {
        let binds = |step: &Step| step.tensors.iter().any(|&t| self.tensors.info(t).name == name);
        let steps = self.recording.steps.iter().enumerate();
        let found: Vec<usize> = steps.filter(|(_, s)| s.kernel.stem == stem && binds(s)).map(|(i, _)| i).collect();
        if found.len() != of {
            let all: Vec<String> = self.recording.steps.iter().map(|step| self.describe(step)).collect();
            panic!("{} steps of {stem} bind {name}, expected {of}, in\n{}", found.len(), all.join("\n"));
        }
        found[number]
    }

    /// The one step of a kernel that binds a tensor of this name.
    pub fn only(&self, stem: &str, name: &str) -> usize {
        self.step(stem, name, 0, 1)
    }

    /// What step `at` binds under a name of its kernel.
    pub fn bound(&self, at: usize, bind: &str) -> Tensor {
        let step = &self.recording.steps[at];
        step.tensors[place(step, bind)]
    }

    /// Binds another tensor.
    pub fn bind(&mut self, at: usize, bind: &str, tensor: Tensor) {
        let step = &mut self.recording.steps[at];
        let place = place(step, bind);
        assert_eq!(self.tensors.elements(step.tensors[place]), self.tensors.elements(tensor), "{bind}: sizes differ");
        assert_ne!(step.tensors[place], tensor, "{bind}: already bound");
        step.tensors[place] = tensor;
    }

    /// Exchanges two of a step's tensors.
    pub fn swap(&mut self, at: usize, one: &str, other: &str) {
        let (a, b) = (self.bound(at, one), self.bound(at, other));
        self.bind(at, one, b);
        self.bind(at, other, a);
    }

    /// Leaves a step out.
    pub fn drop(&mut self, at: usize) {
        self.recording.steps.remove(at);
    }

    /// Changes a step's parameters, really.
    pub fn edit<P: Pod>(&mut self, at: usize, change: impl FnOnce(&mut P)) {
        let step = &mut self.recording.steps[at];
        assert_eq!(step.kernel.params_size, size_of::<P>(), "parameters of another kernel than {}", step.kernel.stem);
        let mut params: P = bytemuck::pod_read_unaligned(&step.params);
        change(&mut params);
        let changed = bytemuck::bytes_of(&params).to_vec();
        assert_ne!(changed, step.params, "the patch changes nothing");
        step.params = changed;
    }

    /// Makes an addition a copy of one of its terms: the other path's contribution is lost.
    pub fn keep_one_path(&mut self, at: usize, kept: &str) {
        assert_eq!(self.recording.steps[at].kernel.stem, add::KERNEL.stem, "no addition");
        let (from, to) = (self.bound(at, kept), self.bound(at, "y"));
        let columns = self.tensors.elements(to) as u32;
        let (source_stride, target_stride) = (columns, columns);
        let params =
            copy_columns::Params { rows: 1, columns, source_stride, source_offset: 0, target_stride, target_offset: 0 };
        let params = bytemuck::bytes_of(&params).to_vec();
        self.recording.steps[at] =
            Step { kernel: &copy_columns::KERNEL, params, tensors: vec![from, to], halves: Halves::NONE, part: 0 };
    }
}

fn place(step: &Step, bind: &str) -> usize {
    let found = step.kernel.binds.iter().position(|b| b.name == bind);
    found.unwrap_or_else(|| panic!("{} has no binding {bind}", step.kernel.stem))
}
