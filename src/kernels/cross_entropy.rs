//! Loss of the logits, and their gradient in place.

use super::{
    Args, Bind, Constants, Kernel, KernelSpec,
    case::{Case, indices, uniform},
    elements, fold, read, read_u32,
    state::{IGNORED, first_result},
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
    /// Token of the first row; targets, weights, losses and hits are those of all tokens.
    pub first_row: u32,
    /// 1: the logits become their gradient; 0: they stay.
    pub gradient: u32,
    /// Factor on `factors`, by which the gradient raises entropies; 0 for none, and then neither is read.
    pub entropy_bonus: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "cross_entropy";
    const SUMMARY: &'static str = "loss of each row of logits, which become their gradient";
    const SHADER: &'static str = include_str!("../../shaders/cross_entropy.wgsl");
    const BINDS: &'static [Bind] = &[
        update("logits").or_half("HALF_LOGITS"),
        read_u32("targets"),
        read("loss_weights"),
        read("result"),
        read("entropies"),
        read("factors"),
        update("losses"),
        update("correct"),
    ];

    fn constants(p: &Params) -> Constants {
        let mut constants = elements::constants(&[p.classes]);
        constants.push(("BONUS", (p.entropy_bonus != 0.0).into()));
        constants
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a row
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [logits, targets, weights, result, entropies, factors, losses, correct] = args.all();
        let (targets, weights) = (targets.index(), [weights, result, entropies, factors].map(|input| input.real()));
        let (logits, losses, correct) = (logits.real_mut(), losses.real_mut(), correct.real_mut());
        reference::cross_entropy::cross_entropy(p, logits, targets, weights, losses, correct);
    }

    fn cases() -> Vec<Case> {
        vec![
            case("one class", [3, 1, 0, 1], 0.0, 1.0),
            case("7 classes, gradient", [5, 7, 2, 1], 0.0, 3.0),
            case("7 classes, entropy", [5, 7, 2, 1], 0.75, 3.0),
            case("7 classes, losses alone", [5, 7, 2, 0], 0.0, 3.0),
            case("1000 classes", [9, 1000, 1, 1], 0.0, 8.0),
            case("1000 classes, entropy", [9, 1000, 1, 1], 0.25, 8.0),
            case("2053 classes, large logits", [4, 2053, 3, 1], 0.0, 80.0),
            case("2053 classes, large logits, entropy", [4, 2053, 3, 1], 0.5, 80.0),
            case("5000 classes, losses alone", [2, 5000, 0, 0], 0.0, 80.0),
            hits(),
        ]
    }
}

/// Rows of logits up to `scale`, among them an ignored one and one whose target does not exist. Entropies need not be
/// those of the logits.
fn case(name: &str, [rows, classes, first_row, gradient]: [u32; 4], entropy_bonus: f32, scale: f64) -> Case {
    let n = (rows + first_row + 1) as usize; // tokens before and after the rows
    let mut targets = indices(1, n, classes);
    targets[first_row as usize + rows as usize / 2] = IGNORED;
    targets[first_row as usize + rows as usize - 1] = if rows > 4 { classes } else { 0 };
    Case::new(name, &Params { rows, classes, first_row, gradient, entropy_bonus })
        .real(uniform(2, (rows * classes) as usize).into_iter().map(|x| x * scale).collect())
        .index(targets)
        .real(uniform(3, n).into_iter().map(|x| 1.5 + x).collect())
        .real(first_result(4.0).map(f64::from).to_vec())
        .real(uniform(6, n).into_iter().map(|x| 1.5 + x).collect())
        .uniform(7, n)
        .uniform(4, n) // small where no row writes, or the allowed error would grow with it
        .uniform(5, n)
}

/// Rows whose largest logits stand at known classes: every place in a vector of four, and ties within a vector, within
/// an invocation and across invocations. The lowest of them counts as the prediction; some targets are it, some not.
fn hits() -> Case {
    const ROWS: [(&[usize], u32); 11] = [
        (&[300], 300),
        (&[301], 301),
        (&[302], 302),
        (&[303], 303),
        (&[300, 301], 300),
        (&[301, 302], 302),
        (&[302, 303], 302),
        (&[299, 300, 555], 299),
        (&[299, 300, 555], 300),
        (&[40, 40 + 1024], 40),
        (&[40, 40 + 1024], 40 + 1024),
    ];
    let (rows, classes) = (ROWS.len(), 2048);
    let mut logits = uniform(5, rows * classes);
    for (row, (largest, _)) in logits.chunks_mut(classes).zip(ROWS) {
        largest.iter().for_each(|&class| row[class] = 2.0);
    }
    let p = Params { rows: rows as u32, classes: classes as u32, first_row: 0, gradient: 1, entropy_bonus: 0.0 };
    Case::new("largest logits at known places", &p)
        .real(logits)
        .index(ROWS.map(|(_, target)| target).to_vec())
        .uniform(6, rows)
        .real(first_result(0.5).map(f64::from).to_vec())
        .uniform(9, rows)
        .uniform(10, rows)
        .uniform(7, rows)
        .uniform(8, rows)
}
