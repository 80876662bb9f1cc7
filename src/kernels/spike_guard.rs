//! Whether the loss of an update is a spike among those of the last ones.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, Data, uniform},
    read_u32, state, update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Losses that a loss is compared with.
    pub updates: u32,
    /// Word of the metrics with the loss, or its sum.
    pub loss: u32,
    /// Word with what a sum is divided by (at least 1), or with a second loss.
    pub other: u32,
    /// Factor on the second loss; 0 to divide.
    pub factor: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "spike_guard";
    const SUMMARY: &'static str = "marks a loss that lies far above those of the last updates, and keeps it";
    const SHADER: &'static str = include_str!("../../shaders/spike_guard.wgsl");
    const BINDS: &'static [Bind] = &[read_u32("state"), update("history"), update("metrics")];

    fn grid(_: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [state, history, metrics] = args.all();
        reference::spike_guard::spike_guard(p, state.index(), history.real_mut(), metrics.real_mut());
    }

    fn cases() -> Vec<Case> {
        // Losses are 4 + [-1, 1): 4 and 0.58 in the mean. The sum is over 64 targets.
        vec![
            case("a usual loss", 128, [128.0, 5.0], 3.0, 4.5),
            case("a spike, in the last place", 128, [128.0, 127.0], 3.0, 8.0),
            case("below a higher threshold", 128, [128.0, 0.0], 9.0, 8.0),
            case("a loss far below", 128, [128.0, 9.0], 3.0, 0.0),
            case("too few losses yet", 128, [127.0, 127.0], 3.0, 8.0),
            case("switched off", 128, [128.0, 5.0], 0.0, 8.0),
            case("more losses than invocations", 300, [300.0, 299.0], 3.0, 8.0),
            of_goal("a spike of the mean over pairs", 0.0, [16.0, 2.0]),
            of_goal("no pairs", 0.0, [8.0, 0.0]),
            of_goal("two losses", 0.5, [3.0, 10.0]),
        ]
    }
}

/// A history with this count and next place, and a window with this mean loss.
fn case(name: &str, updates: u32, words: [f64; 2], threshold: f32, loss: f64) -> Case {
    let mut state = vec![0; state::STATE_WORDS];
    state[state::STATE_SPIKE_GUARD] = threshold.to_bits();
    let losses = uniform(1, updates as usize).into_iter().map(|x| 4.0 + x);
    let mut metrics = vec![0.0; state::METRIC_WORDS];
    (metrics[state::METRIC_LOSS], metrics[state::METRIC_COUNTED]) = (64.0 * loss, 64.0);
    let p = Params { updates, loss: state::METRIC_LOSS as u32, other: state::METRIC_COUNTED as u32, factor: 0.0 };
    Case::new(name, &p).index(state).real(words.into_iter().chain(losses).collect()).real(metrics)
}

/// The same with the loss of a goal, beside a usual cross-entropy.
fn of_goal(name: &str, factor: f32, [loss, other]: [f64; 2]) -> Case {
    let mut case = case(name, 128, [128.0, 5.0], 3.0, 4.0);
    if let Some(Data::Real(metrics)) = case.data.last_mut() {
        (metrics[state::METRIC_GOAL], metrics[state::METRIC_GOAL_OTHER]) = (loss, other);
    }
    let p = Params { updates: 128, loss: state::METRIC_GOAL as u32, other: state::METRIC_GOAL_OTHER as u32, factor };
    Case { params: bytemuck::bytes_of(&p).to_vec(), ..case }
}
