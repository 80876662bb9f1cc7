//! What a device may decide by time: ways to run a kernel's portable form that differ in no bit of the result.

use super::{Constants, KernelSpec};

/// One way to cut a portable form's work into workgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What distinguishes it from the kernel's other ways: `128x64 of 8x8`.
    pub name: String,
    /// Constants that specialise the shader's text.
    pub constants: Constants,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// The ways for some parameters.
#[derive(Clone, Debug)]
pub struct Ways {
    /// What the times depend on: form and sizes. Parameters with the same go the same way.
    pub shape: Vec<u32>,
    /// Multiply-adds of a dispatch, roughly: which dispatches matter.
    pub products: u64,
    /// What may be chosen from; the first is what a device does that has not measured.
    pub all: Vec<Way>,
}

/// How a kernel's portable form may be cut.
pub struct Tunable<P> {
    /// The ways for these parameters.
    pub ways: fn(&P) -> Ways,
    /// Contents of the integer bindings, in order, that a typical replay would find there, for bindings of these
    /// numbers of elements: they decide how much there is to do.
    pub indices: fn(&P, &[usize]) -> Vec<Vec<u32>>,
}

/// The same with the parameter type erased.
#[derive(Clone, Copy)]
pub struct AnyTunable {
    /// The ways for the bytes of a `Params`.
    pub ways: fn(&[u8]) -> Ways,
    /// Typical contents of the integer bindings, as [`Tunable::indices`].
    pub indices: fn(&[u8], &[usize]) -> Vec<Vec<u32>>,
}

impl AnyTunable {
    pub(super) const fn of<K: KernelSpec>() -> Option<AnyTunable> {
        match K::TUNABLE {
            Some(_) => Some(AnyTunable { ways: ways::<K>, indices: indices::<K> }),
            None => None,
        }
    }
}

fn tunable<K: KernelSpec>() -> Tunable<K::Params> {
    K::TUNABLE.unwrap_or_else(|| panic!("{}: one way alone", K::STEM))
}

fn ways<K: KernelSpec>(params: &[u8]) -> Ways {
    (tunable::<K>().ways)(&bytemuck::pod_read_unaligned(params))
}

fn indices<K: KernelSpec>(params: &[u8], sizes: &[usize]) -> Vec<Vec<u32>> {
    (tunable::<K>().indices)(&bytemuck::pod_read_unaligned(params), sizes)
}
