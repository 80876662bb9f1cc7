//! A recording: the list of dispatches that a replay runs.

use super::tensor::{Dtype, Role, Tensor, Tensors};
use crate::kernels::{Access, Element, Halves, Kernel};
use bytemuck::Pod;
use std::collections::{HashMap, HashSet};

/// One dispatch.
#[derive(Clone)]
pub struct Step {
    /// What runs.
    pub kernel: &'static Kernel,
    /// Bytes of the kernel's `Params`.
    pub params: Vec<u8>,
    /// What it binds, in the kernel's order.
    pub tensors: Vec<Tensor>,
    /// Which of them are stored as f16.
    pub halves: Halves,
    /// Its number among the dispatches that take the place of one.
    pub part: usize,
}

impl Step {
    /// Bound tensors with the way the kernel uses them.
    pub fn uses(&self) -> impl Iterator<Item = (Tensor, Access)> + '_ {
        self.tensors.iter().zip(self.kernel.binds).map(|(&tensor, bind)| (tensor, bind.access))
    }
}

/// Dispatches in order.
#[derive(Clone)]
pub struct Recording {
    /// `micro_step`, `update`, `evaluate`, ...
    pub name: &'static str,
    /// The dispatches.
    pub steps: Vec<Step>,
    /// Floating-point operations of matrix products and attention that backward makes a second time.
    pub repeated_flops: f64,
}

impl Recording {
    /// The same for the beginning of a window: the first product into each gradient overwrites it and need not read it.
    /// What is no such product adds as before, and later ones add to the first. Also gives the gradients that are
    /// overwritten whole and may hold anything before; the others must be zeros.
    pub fn overwriting_gradients(&self, tensors: &Tensors, name: &'static str) -> (Recording, HashSet<Tensor>) {
        let (mut written, mut overwritten, mut first) = (HashSet::new(), HashMap::new(), false);
        let mut steps = self.steps.clone();
        for step in &mut steps {
            let is_gradient = |tensor: Tensor| tensors.info(tensor).role == Role::Gradient;
            let found = step.uses().find(|&(tensor, access)| access != Access::Read && is_gradient(tensor));
            let Some((gradient, _)) = found else { continue };
            if step.part == 0 {
                first = written.insert(gradient); // the other parts of a product go where its first one went
            }
            if let Some(overwriting) = step.kernel.overwriting.filter(|_| first) {
                *overwritten.entry(gradient).or_insert(0) += overwriting(&mut step.params);
            }
        }
        overwritten.retain(|&gradient, &mut elements| elements == tensors.elements(gradient));
        (Recording { name, steps, ..*self }, overwritten.into_keys().collect())
    }
}

/// Appends steps to a recording and creates the tensors that they need.
pub struct Recorder<'t> {
    /// The program's tensors.
    pub tensors: &'t mut Tensors,
    /// What [`Recording::repeated_flops`] will be.
    pub repeated_flops: f64,
    /// Whether a row's sums are to be made in an order that does not depend on the number of rows.
    pub rows_apart: bool,
    steps: Vec<Step>,
}

impl<'t> Recorder<'t> {
    /// An empty recording over `tensors`.
    pub fn new(tensors: &'t mut Tensors) -> Self {
        Recorder { tensors, repeated_flops: 0.0, rows_apart: false, steps: Vec::new() }
    }

    /// Appends a dispatch of `kernel`, or several where one would last too long. Panics if the tensors do not fit its
    /// bindings: a broken invariant.
    pub fn step(&mut self, kernel: &'static Kernel, params: &impl Pod, tensors: &[Tensor]) {
        let params = bytemuck::bytes_of(params).to_vec();
        assert_eq!(params.len(), kernel.params_size, "{}: parameters of another kernel", kernel.stem);
        assert_eq!(tensors.len(), kernel.binds.len(), "{}: number of bindings", kernel.stem);
        for (&tensor, bind) in tensors.iter().zip(kernel.binds) {
            let dtype = self.tensors.info(tensor).dtype;
            let fits = match dtype {
                Dtype::F32 => bind.element == Element::F32,
                Dtype::F16 => bind.half.is_some(),
                Dtype::U32 => bind.element == Element::U32,
            };
            assert!(fits, "{}: binding {} is {dtype:?}", kernel.stem, bind.name);
            let writers = tensors.iter().zip(kernel.binds).filter(|(t, b)| **t == tensor && b.access != Access::Read);
            let bound = tensors.iter().filter(|t| **t == tensor).count();
            assert!(bound == 1 || writers.count() == 0, "{}: {} is read and written", kernel.stem, bind.name);
        }
        let halves = Halves::of(tensors.iter().map(|&tensor| self.tensors.info(tensor).dtype == Dtype::F16));
        for (part, params) in (kernel.parts)(&params, halves).into_iter().enumerate() {
            self.steps.push(Step { kernel, params, tensors: tensors.to_vec(), halves, part });
        }
    }

    /// A new activation of floats.
    pub fn activation(&mut self, name: &str, shape: &[usize], dtype: Dtype) -> Tensor {
        self.tensors.add(name, shape, dtype, Role::Activation)
    }

    /// A new activation for a gradient of `x`.
    pub fn gradient_like(&mut self, name: &str, x: Tensor) -> Tensor {
        let info = self.tensors.info(x);
        let (shape, dtype) = (info.shape.clone(), if info.wide_gradient { Dtype::F32 } else { info.dtype });
        self.activation(name, &shape, dtype)
    }

    /// The finished recording.
    pub fn finish(self, name: &'static str) -> Recording {
        Recording { name, steps: self.steps, repeated_flops: self.repeated_flops }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::{self, ADD, OVERWRITE, TN};

    #[test]
    fn every_part_of_the_first_product_overwrites_a_gradient_and_later_ones_add() {
        let (rows, wide) = (512, 1 << 15); // four dispatches; nothing is allocated
        let mut tensors = Tensors::default();
        let gradients: Vec<Tensor> = ["whole", "half"]
            .map(|name| tensors.parameter(name, &[rows, wide]))
            .iter()
            .map(|&weight| tensors.gradient_of(weight).unwrap())
            .collect();
        let a = tensors.real("a", &[wide, rows], Role::Input);
        let b = tensors.real("b", &[wide, wide], Role::Input);
        let mut r = Recorder::new(&mut tensors);
        let params = matmul::Params::dense(TN, ADD, rows as u32, wide as u32, wide as u32);
        r.step(&matmul::KERNEL, &params, &[a, b, a, gradients[0]]);
        r.step(&matmul::KERNEL, &params, &[a, b, a, gradients[0]]);
        r.step(&matmul::KERNEL, &matmul::Params { m: params.m / 2, ..params }, &[a, b, a, gradients[1]]);
        let (first, overwritten) = r.finish("usual").overwriting_gradients(&tensors, "first");
        let accumulate = |step: &Step| bytemuck::pod_read_unaligned::<matmul::Params>(&step.params).accumulate;
        let found: Vec<u32> = first.steps.iter().map(accumulate).collect();
        let (over, add) = (OVERWRITE, ADD);
        assert_eq!(found, [over, over, over, over, add, add, add, add, over, over]);
        assert!(overwritten == HashSet::from([gradients[0]]), "of the other, half of the rows keep what they have");
    }
}
