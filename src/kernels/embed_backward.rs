//! Gradient of the embedding table.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::indices, fold, read, read_u32, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub tokens: u32,
    /// Elements in an embedding.
    pub width: u32,
    /// Token number of the table part's first row.
    pub first_row: u32,
    /// Rows of the table part.
    pub table_rows: u32,
}

/// Positions that hold the same token, found by sorting: what [`embed_backward`](self) walks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Positions 0..tokens sorted by token number, equal ones in ascending order.
    pub token_order: Vec<u32>,
    /// `[0]` = S, the number of distinct tokens; `[1..=S]` where each starts in `token_order`; `[S + 1]` = tokens; the
    /// rest up to tokens + 2 words is 0.
    pub segments: Vec<u32>,
}

/// Sorts the positions of `ids` by token number.
pub fn segments(ids: &[u32]) -> Segments {
    let mut token_order: Vec<u32> = (0..ids.len() as u32).collect();
    token_order.sort_by_key(|&t| ids[t as usize]);
    let mut segments = vec![0];
    let id = |i: usize| ids[token_order[i] as usize];
    segments.extend((0..ids.len()).filter(|&i| i == 0 || id(i) != id(i - 1)).map(|i| i as u32));
    segments[0] = segments.len() as u32 - 1;
    segments.push(ids.len() as u32);
    segments.resize(ids.len() + 2, 0);
    Segments { token_order, segments }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

/// Columns of a workgroup, one an invocation.
const COLUMNS: u32 = 128;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "embed_backward";
    const SUMMARY: &'static str = "adds the gradient of the embedding table, without atomics";
    const SHADER: &'static str = include_str!("../../shaders/embed_backward.wgsl");
    const BINDS: &'static [Bind] =
        &[read_u32("ids"), read_u32("token_order"), read_u32("segments"), read("d_y"), update("d_table")];

    fn constants(_: &Params) -> Constants {
        vec![("COLUMNS", i64::from(COLUMNS))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.tokens as usize * p.width.div_ceil(COLUMNS) as usize)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let [ids, order, segments] = [0, 1, 2].map(|i| held[i].list());
        contract::permutation("token_order", order)?;
        let sorted: Vec<(u32, u32)> = order.iter().map(|&token| (ids[token as usize], token)).collect();
        let in_order = sorted.windows(2).all(|pair| pair[0] < pair[1]);
        contract::require(in_order, || "token_order is not that of ids and places".to_owned())?;
        let begins = |place: usize| place == 0 || sorted[place - 1].0 != sorted[place].0;
        let starts: Vec<u32> = (0..sorted.len()).filter(|&place| begins(place)).map(|place| place as u32).collect();
        let found = segments.split_first().and_then(|(count, rest)| rest.split_at_checked(*count as usize));
        let kept = found.map(|(firsts, rest)| firsts == starts && rest.first() == Some(&p.tokens));
        contract::require(kept == Some(true), || "segments are not the runs of equal ids".to_owned())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [ids, token_order, segments, d_y, d_table] = args.all();
        let (ids, token_order, segments) = (ids.index(), token_order.index(), segments.index());
        reference::embed_backward::embed_backward(p, ids, token_order, segments, d_y.real(), d_table.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, ids: Vec<u32>, width: u32, first_row: u32, table_rows: u32| {
            let tokens = ids.len() as u32;
            let sorted = segments(&ids);
            Case::new(name, &Params { tokens, width, first_row, table_rows })
                .index(ids)
                .index(sorted.token_order)
                .index(sorted.segments)
                .uniform(1, (tokens * width) as usize)
                .uniform(2, (table_rows * width) as usize)
        };
        vec![
            case("one token", vec![0], 1, 0, 1),
            case("repeated and unused tokens", vec![3, 1, 3, 3, 0, 1, 3, 5], 5, 0, 7),
            case("one token throughout", vec![2; 77], 130, 0, 3),
            case("a middle part of the table", indices(3, 200, 40), 33, 13, 17),
            case("several column blocks", indices(4, 20, 1000), 300, 0, 1000),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_name_every_position_once_in_token_order() {
        let found = segments(&[7, 2, 7, 0, 2]);
        assert_eq!(found.token_order, [3, 1, 4, 0, 2]);
        assert_eq!(found.segments, [3, 0, 1, 3, 5, 0, 0]);
        assert_eq!(segments(&[4, 9]).segments, [2, 0, 1, 2]);
    }
}
