//! Places of the experts' pairs in the order sorted by expert, and the tiles that products walk it in.

use crate::kernels::expert_scan::{Params, UNUSED_TILE};

/// Turns counts into places: the middle step of a stable counting sort.
///
/// `offsets[e]` = pairs of the experts before `e`, `offsets[experts]` = pairs. `counts[block, e]` becomes the slot of
/// the block's first pair of `e`. `tiles` lists (expert, first slot) of every `tile_rows` slots of an expert, experts
/// ascending, then (0xffffffff, 0) up to its end.
/// Shapes: counts (blocks, experts), updated; offsets (experts + 1); tiles (tiles, 2).
pub fn expert_scan(p: &Params, counts: &mut [u32], offsets: &mut [u32], tiles: &mut [u32]) {
    let experts = p.experts as usize;
    offsets.fill(0);
    for counts in counts.chunks(experts) {
        offsets[1..].iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    for e in 0..experts {
        offsets[e + 1] += offsets[e];
    }
    let mut next = offsets[..experts].to_vec();
    for counts in counts.chunks_mut(experts) {
        for (count, next) in counts.iter_mut().zip(&mut next) {
            *next += std::mem::replace(count, *next);
        }
    }
    let tile_rows = p.tile_rows as usize;
    let expert_tiles = |e: usize| (offsets[e]..offsets[e + 1]).step_by(tile_rows).map(move |first| [e as u32, first]);
    let used = (0..experts).flat_map(expert_tiles).chain(std::iter::repeat([UNUSED_TILE, 0]));
    tiles.chunks_mut(2).zip(used).for_each(|(tile, used)| tile.copy_from_slice(&used));
}
