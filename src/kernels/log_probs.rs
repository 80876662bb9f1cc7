//! Log-probability of each row's target, and the row's entropy.

use super::{
    Args, Bind, Constants, Kernel, KernelSpec,
    case::{Case, indices, uniform},
    elements, fold, read, read_u32,
    state::IGNORED,
    update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of logits.
    pub rows: u32,
    /// Logits in a row.
    pub classes: u32,
    /// Token of the first row; targets and results are those of all tokens.
    pub first_row: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "log_probs";
    const SUMMARY: &'static str = "log-probability of each row's target, and the row's entropy";
    const SHADER: &'static str = include_str!("../../shaders/log_probs.wgsl");
    const BINDS: &'static [Bind] =
        &[read("logits").or_half("HALF_LOGITS"), read_u32("targets"), update("log_probs"), update("entropies")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.classes])
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a row
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [logits, targets, log_probs, entropies] = args.all();
        let (logits, targets) = (logits.real(), targets.index());
        reference::log_probs::log_probs(p, logits, targets, log_probs.real_mut(), entropies.real_mut());
    }

    fn cases() -> Vec<Case> {
        vec![
            case("one class", 3, 1, 0, 1.0),
            case("7 classes", 5, 7, 2, 3.0),
            case("1000 classes", 9, 1000, 1, 8.0),
            case("2053 classes, large logits", 6, 2053, 3, 80.0),
            case("5000 classes, equal logits", 3, 5000, 0, 0.0),
        ]
    }
}

/// Rows of logits up to `scale`, among them an ignored one and one whose target does not exist.
fn case(name: &str, rows: u32, classes: u32, first_row: u32, scale: f64) -> Case {
    let n = (rows + first_row + 1) as usize; // tokens before and after the rows
    let mut targets = indices(1, n, classes);
    targets[first_row as usize + rows as usize / 2] = IGNORED;
    targets[first_row as usize + rows as usize - 1] = if rows > 4 { classes } else { 0 };
    Case::new(name, &Params { rows, classes, first_row })
        .real(uniform(2, (rows * classes) as usize).into_iter().map(|x| x * scale).collect())
        .index(targets)
        .uniform(3, n) // small where no row writes, or the allowed error would grow with it
        .uniform(4, n)
}
