//! The history of the product kernels, rung by rung, up to those in use: one square product in each, checked against
//! the CPU's before it is timed.

use super::gemm::{Product, Row, measure};
use crate::error::{Error, Result};
use crate::gpu::device::Gpu;
use crate::gpu::once::run_once;
use crate::gpu::pipeline::{Allowed, Choice, Pipelines};
use crate::gpu::timing::{Content, Workload};
use crate::kernels::case::{Case, Data, run_reference, uniform};
use crate::kernels::matmul::{self, NT, OVERWRITE};
use crate::kernels::{Args, Halves, Kernel, Tolerance, read, write};
use crate::reference::{self, Real};

/// What a side must be a multiple of: the largest tile of a rung.
pub const MULTIPLE: usize = 128;
/// Largest side: every sum of its whole numbers is exact in f32, and an index fits in 32 bits.
pub const LARGEST: usize = 16_384;

/// One step of the history.
pub struct Rung {
    /// Name in tables.
    pub name: &'static str,
    /// The shader, from the root of the repository.
    pub file: &'static str,
    /// Whether it multiplies factors stored as f16 on matrix units; else f32 anywhere.
    pub cooperative: bool,
    /// What runs.
    pub kernel: &'static Kernel,
    /// Makes its inputs for a side and factors so stored.
    pub inputs: fn(usize, Halves) -> Case,
}

/// A rung in a file of its own, `TILE` x `TILE` elements a workgroup.
const fn kernel<const TILE: u32>(stem: &'static str, summary: &'static str, shader: &'static str) -> Kernel {
    Kernel {
        stem,
        summary,
        shader,
        binds: const { &[read("a").or_half("HALF_A"), read("b").or_half("HALF_B"), write("c")] },
        params_size: size_of::<u32>(),
        tolerance: Tolerance::DEFAULT,
        constants: |_| Vec::new(),
        parts: |params, _| vec![params.to_vec()],
        overwriting: None,
        tunable: None,
        grid: |params| {
            let tiles = bytemuck::pod_read_unaligned::<u32>(params).div_ceil(TILE);
            [tiles, tiles, 1]
        },
        contract: |_, _| Ok(()),
        cpu_f32: multiply,
        cpu_f64: multiply,
        stored: &[],
        variants: Vec::new,
        cases: Vec::new,
    }
}

fn multiply<F: Real>(params: &[u8], args: Args<'_, F>) {
    let n = bytemuck::pod_read_unaligned(params);
    let [a, b, c] = args.all();
    let p = matmul::Params::dense(NT, OVERWRITE, n, n, n);
    reference::matmul::matmul(&p, a.real(), b.real(), &[], c.real_mut());
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../benches/ladder/", $name, ".wgsl"))
    };
}

static NAIVE: Kernel = kernel::<16>("01-naive", "one element an invocation", file!("01-naive"));
static TILED: Kernel = kernel::<16>("02-tiled", "tiles in workgroup memory", file!("02-tiled"));
static REGISTERS: Kernel =
    kernel::<64>("03-register-tiles", "sums in registers, vectors of four, prefetching", file!("03-register-tiles"));
static DIRECT: Kernel =
    kernel::<16>("04-coop16-direct", "matrix units, fed from global memory", file!("04-coop16-direct"));
static STAGED: Kernel =
    kernel::<128>("05-coop16-staged", "matrix units, fed from workgroup memory", file!("05-coop16-staged"));

/// From the simplest up to what training runs; first in f32, then on matrix units.
pub static RUNGS: &[Rung] = &[
    own("benches/ladder/01-naive.wgsl", false, &NAIVE),
    own("benches/ladder/02-tiled.wgsl", false, &TILED),
    own("benches/ladder/03-register-tiles.wgsl", false, &REGISTERS),
    Rung {
        name: "matmul",
        file: "shaders/matmul.wgsl",
        cooperative: false,
        kernel: &matmul::KERNEL,
        inputs: shipped_case,
    },
    own("benches/ladder/04-coop16-direct.wgsl", true, &DIRECT),
    own("benches/ladder/05-coop16-staged.wgsl", true, &STAGED),
    Rung {
        name: "matmul.coop16",
        file: "shaders/matmul.coop16.wgsl",
        cooperative: true,
        kernel: &matmul::KERNEL,
        inputs: shipped_case,
    },
];

const fn own(file: &'static str, cooperative: bool, kernel: &'static Kernel) -> Rung {
    Rung { name: kernel.stem, file, cooperative, kernel, inputs: own_case }
}

fn own_case(n: usize, halves: Halves) -> Case {
    factors(Case::new("", &(n as u32)), n, halves).output(n * n)
}

fn shipped_case(n: usize, halves: Halves) -> Case {
    let side = n as u32;
    // The third binding is one that this form does not read.
    factors(Case::new("", &matmul::Params::dense(NT, OVERWRITE, side, side, side)), n, halves).output(4).output(n * n)
}

/// Both factors, of -1, 0 and 1 only: their sums are whole numbers, exact in any order.
fn factors(case: Case, n: usize, halves: Halves) -> Case {
    let whole = |seed| uniform(seed, n * n).into_iter().map(f64::round).collect();
    Case { halves, ..case.real(whole(1)).real(whole(2)) }
}

impl Rung {
    fn halves(&self) -> Halves {
        Halves::of([self.cooperative, self.cooperative])
    }

    /// The product of two matrices of side `n` with whole numbers.
    pub fn case(&self, n: usize) -> Case {
        (self.inputs)(n, self.halves())
    }

    /// The text, its constants and its grid for side `n`.
    pub fn choice(&self, n: usize) -> Choice {
        allowed().choose(self.kernel, &self.case(n).params, self.halves())
    }

    fn workload(&self, n: usize) -> Workload {
        let case = self.case(n);
        let contents = case.data.iter().map(|data| Content::Reals(data.len())).collect();
        Workload { kernel: self.kernel, params: case.params, contents, halves: case.halves }
    }

    /// Compares the device's product of side `n` with the CPU's, which must be equal to the bit.
    pub fn check(&self, gpu: &Gpu, n: usize, expected: &[f64]) -> Result<()> {
        let found = run_once(gpu, &mut Pipelines::default(), &allowed(), self.kernel, &self.case(n))?;
        match found.last() {
            Some(Data::Real(found)) if found == expected => Ok(()),
            _ => Err(Error::CheckFailed(format!("{} multiplies wrongly on {}", self.file, gpu.summary.name))),
        }
    }
}

fn allowed() -> Allowed {
    Allowed::with(&["coop16"])
}

/// The product of every rung's [`Rung::case`] of side `n`, by the CPU.
pub fn expected(n: usize) -> Vec<f64> {
    match run_reference(&NAIVE, &own_case(n, Halves::NONE), NAIVE.cpu_f32).pop() {
        Some(Data::Real(product)) => product,
        _ => panic!("the last binding of a product holds floats"),
    }
}

/// Checks and times the rungs on products of side `n`, those on matrix units only where `cooperative`.
pub fn climb(gpu: &Gpu, cooperative: bool, n: usize, samples: usize) -> Result<Vec<Row>> {
    if n == 0 || !n.is_multiple_of(MULTIPLE) || n > LARGEST {
        return Err(Error::Usage(format!("--size must be a multiple of {MULTIPLE}, at most {LARGEST}")));
    }
    let limit = gpu.summary.limits.max_storage_buffer_binding_size;
    if (4 * n * n) as u64 > limit {
        return Err(Error::Memory(format!("--size {n}: {} binds at most {limit} bytes", gpu.summary.name)));
    }
    let rungs: Vec<&Rung> = RUNGS.iter().filter(|rung| cooperative || !rung.cooperative).collect();
    let expected = expected(n);
    rungs.iter().try_for_each(|rung| rung.check(gpu, n, &expected))?;
    let products: Vec<Product> = rungs.iter().map(|rung| Product::square(rung.name, n, rung.workload(n))).collect();
    measure(gpu, &allowed(), &products, samples)
}
