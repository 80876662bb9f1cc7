//! Causal attention with latent keys and values expanded per head; also what its backward kernels share.

use super::case::{self, Case, Data};
use super::contract::{self, Held, Kept};
use super::work;
use super::{
    Args, Bind, Constants, Halves, Kernel, KernelSpec, Variant, attention_delta, flash, fold, read, read_u32, write,
};
use crate::reference::attention::Inputs;
use crate::reference::attention_backward_q::Gradients;
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// Immediates of a dispatch; the backward kernels take the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of sequences.
    pub batch: u32,
    /// Tokens of a sequence.
    pub length: u32,
    /// Heads of a token.
    pub heads: u32,
    /// Columns of a query or key that carry no position.
    pub nope: u32,
    /// Rotated columns of a query; those of a key are shared by all heads.
    pub rope: u32,
    /// Columns of a value.
    pub value: u32,
    /// Factor on the scores.
    pub scale: f32,
    /// Rate at which probabilities are dropped, 0 to below 1.
    pub dropout: f32,
    /// The place in the network, for the dropout mask.
    pub site: u32,
    /// First head to compute; heads are numbered sequence after sequence.
    pub first_head: u32,
    /// Heads to compute, `batch * heads` for all.
    pub head_count: u32,
}

impl Params {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.batch as usize * self.length as usize
    }

    /// Columns of a query.
    pub fn query_width(&self) -> usize {
        (self.nope + self.rope) as usize
    }

    /// Columns of a head in `kv`.
    pub fn kv_width(&self) -> usize {
        (self.nope + self.value) as usize
    }

    /// The heads of a sequence that are to be computed.
    pub fn heads_of(&self, sequence: usize) -> Range<usize> {
        let heads = self.heads as usize;
        let within = |number: u32| (number as usize).saturating_sub(sequence * heads).min(heads);
        within(self.first_head)..within(self.first_head + self.head_count)
    }

    /// Ranges of heads with at most `most` products each, where a query and a key take `columns` of them, but no fewer
    /// than one head.
    fn in_ranges(&self, columns: usize, most: u64) -> Vec<Params> {
        let (length, tile) = (u64::from(self.length), tile_size(self) as u64);
        let head = length * (length + tile) / 2 * columns as u64; // tiles on the diagonal are computed whole
        let range = |(first, head_count)| Params { first_head: self.first_head + first, head_count, ..*self };
        work::ranges(self.head_count, head, 1, most).map(range).collect()
    }
}

/// The dispatches in place of one of the attention kernels' in which a query and a key take `columns` multiply-adds;
/// `half`: on matrix units. Softmax and dropout beside the products take about as long again.
pub(super) fn parts(p: &Params, columns: usize, half: bool) -> Vec<Params> {
    p.in_ranges(2 * columns, work::most(half))
}

/// Queries and keys of a tile of scores: fewer where heads are so narrow that a tile's fixed costs would rule.
fn tile_size(p: &Params) -> usize {
    if p.query_width().max(p.value as usize) <= 32 { 32 } else { 64 }
}

/// Workgroups of the three attention kernels: one for each tile of queries (or keys) of each head.
pub(super) fn tile_grid(p: &Params) -> [u32; 3] {
    fold(p.head_count as usize * (p.length as usize).div_ceil(tile_size(p)))
}

/// Constants of the three attention kernels, the widest panel of which has rows of `panel_width` columns.
pub(super) fn tile_constants(p: &Params, panel_width: usize) -> Constants {
    let size = tile_size(p);
    let lanes = size / 4;
    // Narrow heads go through in one chunk, wide ones sixteen columns at a time.
    let chunk = if size == 32 { p.query_width().max(p.value as usize).next_multiple_of(4) } else { 16 };
    let panel_row = panel_width.div_ceil(4).next_multiple_of(lanes);
    // Beside `stage` there are a tile of scores and partial results of rows, in vectors of four: 32 KiB in all.
    let room = 2048 - size * (lanes + 1) - lanes * lanes;
    let mut panel = size.min(if size == 32 { 32 } else { 16 });
    while panel > 4 && panel * panel_row > room {
        panel /= 2;
    }
    let stage = (2 * chunk * (lanes + 1)).max(panel * panel_row);
    let named = [
        ("NOPE", p.nope as usize),
        ("ROPE", p.rope as usize),
        ("VALUE", p.value as usize),
        ("DROPOUT", usize::from(p.dropout > 0.0)),
        ("QUERIES", size),
        ("KEYS", size),
        ("CHUNK", chunk),
        ("UNROLL", if size == 32 { 2 } else { 4 }), // longer texts cost software drivers seconds
        ("PANEL", panel),
        ("STAGE", stage),
    ];
    named.into_iter().map(|(name, value)| (name, value as i64)).collect()
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "attention";
    const SUMMARY: &'static str = "causal attention within documents, with dropout; keeps the log of each row's sum";
    const SHADER: &'static str = include_str!("../../shaders/attention.wgsl");
    const BINDS: &'static [Bind] = &[
        read("q").or_half("HALF_Q"),
        read("kv").or_half("HALF_KV"),
        read("k_rope").or_half("HALF_K_ROPE"),
        read_u32("document_start"),
        read_u32("state"),
        write("out").or_half("HALF_OUT"),
        write("lse"),
    ];

    const VARIANTS: &'static [Variant<Params>] = &[Variant {
        suffix: "coop16",
        shader: include_str!("../../shaders/attention.coop16.wgsl"),
        constants: |p| flash::query_constants(p, 32),
        grid: flash::grid,
        fits: |p, halves| halves == Halves::all(Spec::BINDS) && flash::fits(p),
        tolerance: flash::TOLERANCE,
    }];

    fn constants(p: &Params) -> Constants {
        tile_constants(p, p.value as usize)
    }

    fn parts(p: &Params, halves: Halves) -> Vec<Params> {
        let half = halves == Halves::all(Spec::BINDS) && flash::fits(p);
        parts(p, p.query_width() + p.value as usize, half)
    }

    fn grid(p: &Params) -> [u32; 3] {
        tile_grid(p)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::documents(held[3].list(), p.length as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [q, kv, k_rope, document_start, state, out, lse] = args.all();
        let inputs = Inputs {
            q: q.real(),
            kv: kv.real(),
            k_rope: k_rope.real(),
            document_start: document_start.index(),
            state: state.index(),
        };
        reference::attention::attention(p, &inputs, out.real_mut(), lse.real_mut());
    }

    fn cases() -> Vec<Case> {
        let finish = |(p, case): (Params, Case)| {
            case.output(p.tokens() * p.heads as usize * p.value as usize).output(p.tokens() * p.heads as usize)
        };
        with_parts(input_cases().into_iter().map(finish).collect(), 5..7)
    }
}

/// The cases, before them some of them without their first head, of which the outputs keep what stands there.
fn with_parts(cases: Vec<Case>, outputs: Range<usize>) -> Vec<Case> {
    let part = |case: &Case| {
        let p: Params = bytemuck::pod_read_unaligned(&case.params);
        let p = Params { first_head: 1, head_count: p.head_count.checked_sub(2)? + 1, ..p };
        let params = bytemuck::bytes_of(&p).to_vec();
        let mut part = Case { name: format!("{}, without the first head", case.name), params, ..case.clone() };
        for output in &mut part.data[outputs.clone()] {
            *output = Data::Real(case::uniform(7, output.len())); // a large filler would widen the tolerance
        }
        Some(part).filter(|_| p.dropout > 0.0 && p.length <= 48)
    };
    let parts: Vec<Case> = cases.iter().filter_map(part).collect();
    parts.into_iter().chain(cases).collect()
}

/// `document_start` of packed rows that keep to the contract, with places where documents end at the edges of the tiles
/// and blocks that kernels walk in: row after row, `ends` are where documents end, and from the last on each token is
/// padding, a document of its own.
fn packed(ends: &[&[u32]], length: u32) -> Vec<u32> {
    let row = |ends: &&[u32]| {
        let last = ends.last().copied().unwrap_or_default();
        let before = |t: u32| ends.iter().rev().copied().find(|&end| end <= t).unwrap_or_default();
        (0..length).map(|t| if t < last { before(t) } else { t }).collect::<Vec<_>>()
    };
    ends.iter().flat_map(row).collect()
}

/// Cases of the three attention kernels on packed rows: lengths of documents drawn at random and at the edges of tiles,
/// with padding from each place of a tile on.
fn packed_cases() -> Vec<(Params, Case)> {
    let drawn = |seed: u64, length: u32| {
        let mut ends: Vec<u32> = case::indices(seed, 5, length).into_iter().map(|end| end + 1).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    };
    let [first, second] = [1, 2].map(|seed| drawn(seed, 70));
    /// Name, length, widths, rate, and where documents end in each row.
    type Rows<'e> = (&'static str, u32, [u32; 3], f32, Vec<&'e [u32]>);
    let rows: [Rows<'_>; 4] = [
        ("packed rows, drawn", 70, [16, 8, 16], 0.0, vec![&first, &second, &[]]),
        ("packed rows, padding from the edges of tiles", 70, [16, 8, 16], 0.0, vec![&[31], &[5, 32], &[1, 33, 64]]),
        ("packed rows, dropout, padding within a tile", 70, [5, 2, 7], 0.3, vec![&[20, 40], &[7, 66], &[1, 2, 3]]),
        ("packed rows in sixteens", 144, [16, 16, 32], 0.0, vec![&[40, 70], &[64, 65, 100], &[16, 127]]),
    ];
    let case = |(name, length, [nope, rope, value], dropout, ends): Rows<'_>| {
        let (batch, heads, site, first_head) = (ends.len() as u32, 1, 5, 0);
        let scale = 2.0 / ((nope + rope) as f32).sqrt();
        let head_count = batch * heads;
        let p = Params { batch, length, heads, nope, rope, value, scale, dropout, site, first_head, head_count };
        (p, input_case(name, &p, packed(&ends, length)))
    };
    rows.into_iter().map(case).collect()
}

/// A case of these parameters that binds q, kv, k_rope, `document_start` and state.
fn input_case(name: &str, p: &Params, starts: Vec<u32>) -> Case {
    let rows = p.tokens() * p.heads as usize;
    Case::new(name, p)
        .uniform(1, rows * p.query_width())
        .uniform(2, rows * p.kv_width())
        .uniform(3, p.tokens() * p.rope as usize)
        .index(starts)
        .index(case::indices(4, 8, u32::MAX))
}

/// Cases of the three attention kernels that bind q, kv, k_rope, `document_start` and state so far.
pub(super) fn input_cases() -> Vec<(Params, Case)> {
    // Name, batch, length, heads, widths, rate, and where the second document of the first row starts (0: there is
    // none); in each later row it starts four tokens later, so that no row can take another's place. Then the scale
    // times the root of a key's width: large, so that rows are far from uniform.
    type Shape = (&'static str, [u32; 3], [u32; 3], f32, u32, f32);
    let shapes: [Shape; 11] = [
        ("one token", [1, 1, 1], [5, 2, 7], 0.3, 0, 2.0),
        ("odd widths, dropout", [2, 7, 3], [5, 2, 7], 0.3, 0, 2.0),
        ("two documents in a row", [2, 33, 2], [16, 8, 16], 0.0, 13, 2.0),
        ("three tiles of narrow heads", [1, 70, 2], [16, 8, 16], 0.0, 0, 2.0),
        ("narrow heads, dropout, a late document", [1, 70, 1], [5, 2, 7], 0.3, 66, 2.0),
        ("wide odd heads, dropout, two documents", [1, 70, 2], [37, 6, 35], 0.3, 25, 2.0),
        ("wide heads", [1, 70, 1], [128, 64, 128], 0.0, 0, 2.0),
        ("odd sixteens, dropout", [1, 48, 2], [16, 32, 48], 0.3, 0, 2.0),
        ("heads in sixteens, dropout, two documents", [1, 80, 2], [16, 16, 32], 0.3, 37, 2.0),
        ("steep scores in sixteens", [1, 80, 2], [32, 32, 32], 0.0, 0, 48.0), // maxima rise far from tile to tile
        ("wide heads in sixteens, two documents a row", [2, 144, 1], [128, 64, 128], 0.0, 53, 2.0),
    ];
    let case = |(name, [batch, length, heads], [nope, rope, value], dropout, second, steepness): Shape| {
        let scale = steepness / ((nope + rope) as f32).sqrt();
        let (site, first_head, head_count) = (5, 0, batch * heads);
        let p = Params { batch, length, heads, nope, rope, value, scale, dropout, site, first_head, head_count };
        let start = |row: u32| if second == 0 { 0 } else { second + 4 * row };
        let starts = (0..batch * length).map(|t| if t % length >= start(t / length) { start(t / length) } else { 0 });
        (p, input_case(name, &p, starts.collect()))
    };
    packed_cases().into_iter().chain(shapes.into_iter().map(case)).collect()
}

/// The bindings of a backward kernel as its reference takes them.
pub(super) fn backward_arguments<F: Real>(args: Args<'_, F>) -> (Inputs<'_, F>, Gradients<'_, F>, &mut [F]) {
    let [q, kv, k_rope, document_start, state, row_stats, d_out, output] = args.all();
    let inputs = Inputs {
        q: q.real(),
        kv: kv.real(),
        k_rope: k_rope.real(),
        document_start: document_start.index(),
        state: state.index(),
    };
    (inputs, Gradients { row_stats: row_stats.real(), d_out: d_out.real() }, output.real_mut())
}

/// Cases of a backward kernel whose output has `width(p)` columns for each head of a token: row statistics as the
/// forward pass and `attention_delta` leave them.
pub(super) fn backward_cases(width: fn(&Params) -> usize) -> Vec<Case> {
    let finish = |(p, case): (Params, Case)| {
        let rows = p.tokens() * p.heads as usize;
        let d_out = case::uniform(6, rows * p.value as usize);
        let forward = case.clone().output(d_out.len()).output(rows);
        let after = case::run_reference(&KERNEL, &forward, KERNEL.cpu_f64);
        let [.., Data::Real(out), Data::Real(lse)] = &after[..] else { unreachable!("attention writes floats") };
        let mut row_stats = vec![0.0; 2 * rows];
        let delta = attention_delta::Params { batch: p.batch, length: p.length, heads: p.heads, value: p.value };
        reference::attention_delta::attention_delta(&delta, &d_out, out, lse, &mut row_stats);
        case.real(row_stats).real(d_out).output(rows * width(&p))
    };
    with_parts(input_cases().into_iter().map(finish).collect(), 7..8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{attention_backward_kv, attention_backward_q};

    #[test]
    fn ranges_of_heads_compute_the_whole_to_the_bit() {
        for kernel in [&KERNEL, &attention_backward_q::KERNEL, &attention_backward_kv::KERNEL] {
            for whole in (kernel.cases)() {
                let p: Params = bytemuck::pod_read_unaligned(&whole.params);
                let ranges = p.in_ranges(1, 1);
                assert_eq!(ranges.iter().map(|range| range.head_count).sum::<u32>(), p.head_count);
                assert_eq!(ranges.len(), p.head_count as usize);
                let mut apart = whole.clone();
                for range in &ranges {
                    apart.params = bytemuck::bytes_of(range).to_vec();
                    apart.data = case::run_reference(kernel, &apart, kernel.cpu_f64);
                }
                let bits = |data: &[Data]| -> Vec<u64> {
                    let reals = data.iter().filter_map(|d| if let Data::Real(x) = d { Some(x) } else { None });
                    reals.flatten().map(|x| x.to_bits()).collect()
                };
                let expected = case::run_reference(kernel, &whole, kernel.cpu_f64);
                assert!(bits(&apart.data) == bits(&expected), "{}, {}", kernel.stem, whole.name);
                assert_eq!((kernel.parts)(&whole.params, whole.halves).len(), 1);
            }
        }
    }

    #[test]
    fn a_long_sequence_is_cut_and_a_step_of_the_seed_model_is_not() {
        let seed = Params {
            batch: 32,
            length: 512,
            heads: 16,
            nope: 128,
            rope: 64,
            value: 128,
            scale: 0.1,
            dropout: 0.0,
            site: 0,
            first_head: 0,
            head_count: 32 * 16,
        };
        let columns = 2 * (seed.query_width() + seed.value as usize);
        assert_eq!([false, true].map(|half| parts(&seed, columns, half).len()), [1, 1]);
        let long = Params { batch: 1, length: 8192, head_count: 16, ..seed };
        let counts: Vec<u32> = parts(&long, columns, false).iter().map(|p| p.head_count).collect();
        assert_eq!(counts, [3, 3, 3, 3, 3, 1]);
    }
}
