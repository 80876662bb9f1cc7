//! The next token of each row, drawn from its logits.

use super::contract::{self, Held, Kept};
use super::latent_attention::NO_SLOT;
use super::{Args, Bind, Kernel, KernelSpec, case, case::Case, fold, read_u32, update, update_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of logits.
    pub rows: u32,
    /// Logits of a row.
    pub classes: u32,
    /// Tokens below this may be drawn; the logits from there on have no text.
    pub known: u32,
    /// Positions of a slot.
    pub capacity: u32,
}

/// Words of a row's settings.
pub const WORDS: usize = 8;
/// f32: divides the logits; 0 takes the most probable token.
pub const TEMPERATURE: usize = 0;
/// u32: most tokens to draw from; 0 for all.
pub const TOP_K: usize = 1;
/// f32: mass up to which the most probable tokens are kept; from 1 on all are.
pub const TOP_P: usize = 2;
/// f32: share of the largest probability below which tokens are dropped.
pub const MIN_P: usize = 3;
/// f32: divides the positive logits of tokens that the slot has, and multiplies the others.
pub const REPETITION: usize = 4;
/// u32: one half of the key of the random numbers; the other follows.
pub const KEY: usize = 5;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "draw_token";
    const SUMMARY: &'static str = "draws each sequence's next token: penalty, temperature, top-k, top-p, min-p";
    const SHADER: &'static str = include_str!("../../shaders/draw_token.wgsl");
    const BINDS: &'static [Bind] = &[
        update("logits"),
        read_u32("settings"),
        read_u32("slots"),
        update_u32("history"),
        update_u32("positions"),
        update_u32("tokens"),
    ];

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a row
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let [slots, positions] = [2, 4].map(|i| held[i].list());
        contract::places(slots, positions, p.capacity as usize, held[3].len())?;
        let one_each = slots.iter().enumerate().all(|(row, slot)| *slot == NO_SLOT || !slots[..row].contains(slot));
        contract::require(one_each, || "two rows draw for one slot".to_owned())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [logits, settings, slots, history, positions, tokens] = args.all();
        let read = [settings.index(), slots.index()];
        let written = [history.index_mut(), positions.index_mut(), tokens.index_mut()];
        reference::draw_token::draw_token(p, logits.real_mut(), read, written);
    }

    fn cases() -> Vec<Case> {
        let with = |temperature: f32, top_k: u32, top_p: f32, min_p: f32, repetition: f32| {
            let [t, p, m, r] = [temperature, top_p, min_p, repetition].map(f32::to_bits);
            move |row: u32| [t, top_k, p, m, r, row * 7 + 1, 9, 0]
        };
        let shape = |rows, classes, known| Params { rows, classes, known, capacity: 12 };
        vec![
            case("the largest, of equals the first", shape(3, 9, 9), &with(0.0, 0, 1.0, 0.0, 1.0), 2.0),
            case("the largest but for a penalty", shape(5, 700, 650), &with(0.0, 0, 1.0, 0.0, 4.0), 8.0),
            case("one token is known", shape(2, 5, 1), &with(1.0, 0, 1.0, 0.0, 1.0), 8.0),
            case("at a temperature", shape(40, 300, 300), &with(0.7, 0, 1.0, 0.0, 1.0), 16.0),
            case("top-k with ties at the edge", shape(40, 600, 513), &with(1.3, 7, 1.0, 0.0, 1.0), 2.0),
            case("top-p", shape(40, 1000, 999), &with(1.0, 0, 0.6, 0.0, 1.0), 16.0),
            case("top-p with ties", shape(20, 300, 300), &with(1.0, 0, 0.3, 0.0, 1.0), 1.0),
            case("min-p", shape(40, 300, 290), &with(1.0, 0, 1.0, 0.3, 1.0), 16.0),
            case("all together", shape(40, 2000, 1990), &with(1.1, 50, 0.8, 0.05, 1.2), 32.0),
            case("a tiny top-p keeps one", shape(9, 300, 300), &with(1.0, 0, 1e-6, 0.0, 1.0), 16.0),
            case("more classes than a bitmap", shape(2, 70_000, 70_000), &with(0.0, 0, 1.0, 0.0, 2.0), 64.0),
        ]
    }
}

/// Rows with the words of `settings`; the second has no slot. Logits up to 4 have few levels, or more where sums
/// decide: then no draw may hang on their last bit.
fn case(name: &str, p: Params, settings: &dyn Fn(u32) -> [u32; WORDS], levels: f64) -> Case {
    let logit = |x: f64| (x * levels).round() / levels * 4.0;
    let slots: Vec<u32> = (0..p.rows).map(|row| if row == 1 { NO_SLOT } else { p.rows - 1 - row }).collect();
    // Half full, and the last row at the end of its slot.
    let positions = (0..p.rows).map(|row| if row + 1 == p.rows { p.capacity - 1 } else { row % p.capacity });
    Case::new(name, &p)
        .real(case::uniform(3, (p.rows * p.classes) as usize).into_iter().map(logit).collect())
        .index((0..p.rows).flat_map(settings).collect())
        .index(slots)
        .index(case::indices(4, (p.rows * p.capacity) as usize, p.known))
        .index(positions.collect())
        .index(vec![case::POISON_INDEX; p.rows as usize])
}
