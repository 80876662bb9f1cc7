//! Inputs for comparing a kernel with its reference: seeded, f32-representable, and such that every parameter matters.

use super::contract::{Held, Kept};
use super::{Access, Arg, Args, Bind, Element, Halves, Kernel};
use crate::reference::Real;
use bytemuck::Pod;

/// Initial content of one binding.
#[derive(Clone, Debug)]
pub enum Data {
    /// Floats, each exactly representable in f32.
    Real(Vec<f64>),
    /// Integers.
    Index(Vec<u32>),
}

/// One dispatch on given data.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case is about: `"one row"`, `"an expert without tokens"`.
    pub name: String,
    /// Bytes of the kernel's `Params`.
    pub params: Vec<u8>,
    /// Content of every binding before the dispatch, outputs included.
    pub data: Vec<Data>,
    /// Bindings that are stored as f16; their contents are f16 numbers.
    pub halves: Halves,
}

impl Case {
    /// A case without data yet.
    pub fn new(name: impl Into<String>, params: &impl Pod) -> Self {
        Case { name: name.into(), params: bytemuck::bytes_of(params).to_vec(), data: Vec::new(), halves: Halves::NONE }
    }

    /// The same case with these bindings stored as f16, their contents rounded to it.
    pub fn stored(&self, binds: &[Bind], halves: Halves) -> Self {
        let names: Vec<&str> = (0..).zip(binds).filter(|(i, _)| halves.has(*i)).map(|(_, bind)| bind.name).collect();
        let mut case = Case { name: format!("{}, f16: {}", self.name, names.join(" ")), halves, ..self.clone() };
        case.data.iter_mut().enumerate().filter(|(i, _)| halves.has(*i)).for_each(|(_, data)| data.round_to_half());
        case
    }

    /// Whether the case keeps to the kernel's contract.
    pub fn keeps_contract(&self, kernel: &Kernel) -> Kept {
        let held = self.data.iter().map(|data| match data {
            Data::Real(values) => Held::Real(values.len()),
            Data::Index(list) => Held::Index(list),
        });
        (kernel.contract)(&self.params, &held.collect::<Vec<_>>())
    }

    /// Adds a binding with `n` numbers spread over -1 to 1.
    pub fn uniform(self, seed: u64, n: usize) -> Self {
        self.real(uniform(seed, n))
    }

    /// Adds a binding with these floats, rounded to f32.
    pub fn real(mut self, values: Vec<f64>) -> Self {
        self.data.push(Data::Real(values.into_iter().map(|x| f64::from(x as f32)).collect()));
        self
    }

    /// Adds a binding with these integers.
    pub fn index(mut self, values: Vec<u32>) -> Self {
        self.data.push(Data::Index(values));
        self
    }

    /// Adds an output binding of `n` floats full of a value that no right result holds.
    pub fn output(self, n: usize) -> Self {
        self.real(vec![POISON; n])
    }

    /// Adds an output binding of `n` integers full of a value that no right result holds.
    pub fn output_index(self, n: usize) -> Self {
        self.index(vec![POISON_INDEX; n])
    }
}

/// What outputs hold before a kernel writes them.
pub const POISON: f64 = 12_345.0;
/// What integer outputs hold before a kernel writes them.
pub const POISON_INDEX: u32 = 0xdead_beef;

/// `n` seeded numbers spread evenly over -1 to 1, exactly representable in f32.
pub fn uniform(seed: u64, n: usize) -> Vec<f64> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| f64::from((rng.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0)).collect()
}

/// `n` seeded integers below `end`.
pub fn indices(seed: u64, n: usize, end: u32) -> Vec<u32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.next_u32() % end).collect()
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::Real(x) => x.len(),
            Data::Index(x) => x.len(),
        }
    }

    /// Rounds floats to f16.
    fn round_to_half(&mut self) {
        if let Data::Real(x) = self {
            x.iter_mut().for_each(|x| *x = half::f16::from_f64(*x).to_f64());
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Runs `case` through the reference in the precision of `F` and returns every binding's content afterwards, outputs
/// that are stored as f16 in the precision of `F` all the same: the judge knows what such a store may cost.
pub fn run_reference<F: Real>(kernel: &Kernel, case: &Case, reference: fn(&[u8], Args<'_, F>)) -> Vec<Data> {
    let mut reals: Vec<Vec<F>> = Vec::new();
    let mut indices: Vec<Vec<u32>> = Vec::new();
    for data in &case.data {
        match data {
            Data::Real(x) => reals.push(x.iter().map(|&v| F::of(v)).collect()),
            Data::Index(x) => indices.push(x.clone()),
        }
    }
    let (mut real, mut index) = (reals.iter_mut(), indices.iter_mut());
    let args = kernel.binds.iter().map(|bind| match (bind.element, bind.access) {
        (Element::F32, Access::Read) => real.next().map(|x| Arg::Real(x)),
        (Element::F32, _) => real.next().map(|x| Arg::RealMut(x)),
        (Element::U32, Access::Read) => index.next().map(|x| Arg::Index(x)),
        (Element::U32, _) => index.next().map(|x| Arg::IndexMut(x)),
    });
    let args: Option<Vec<_>> = args.collect();
    reference(&case.params, Args(args.unwrap_or_else(|| panic!("{}: a case lacks a binding", kernel.stem))));
    let (mut real, mut index) = (reals.into_iter(), indices.into_iter());
    let after = kernel.binds.iter().map(|bind| match bind.element {
        Element::F32 => real.next().map(|x| Data::Real(x.into_iter().map(F::wide).collect())),
        Element::U32 => index.next().map(Data::Index),
    });
    after.flatten().collect()
}
