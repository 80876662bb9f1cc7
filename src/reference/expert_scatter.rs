//! The stable sort of pairs by expert, both ways.

use crate::kernels::expert_count::BLOCK;
use crate::kernels::expert_scatter::Params;
use rayon::prelude::*;

/// Gives every pair its slot in the order sorted by expert, and every slot its pair: the last step of a stable
/// counting sort.
///
/// `pair_slot[q] = starts[block of q, expert of q] + pairs of that expert before q in the block`, and
/// `slot_pair[pair_slot[q]] = q`.
/// Shapes: chosen, slot_pair, pair_slot (pairs); starts (blocks, experts).
pub fn expert_scatter(p: &Params, chosen: &[u32], starts: &[u32], slot_pair: &mut [u32], pair_slot: &mut [u32]) {
    let blocks = pair_slot.par_chunks_mut(BLOCK).zip(chosen.par_chunks(BLOCK));
    blocks.zip(starts.par_chunks(p.experts as usize)).with_min_len(64).for_each(|((slots, chosen), starts)| {
        let mut next = starts.to_vec();
        for (slot, &e) in slots.iter_mut().zip(chosen) {
            *slot = next[e as usize];
            next[e as usize] += 1;
        }
    });
    for (pair, &slot) in pair_slot.iter().enumerate() {
        slot_pair[slot as usize] = pair as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::expert_count::Params as Count;
    use crate::kernels::expert_scan::{Params as Scan, UNUSED_TILE};
    use crate::reference::{expert_count::expert_count, expert_scan::expert_scan};

    #[test]
    fn three_steps_sort_stably_and_tile_each_expert() {
        let chosen: Vec<u32> = (0..600).map(|i| [4, 1, 4, 0, 1, 4, 2][i % 7]).collect();
        let (pairs, experts, tile_rows, tiles) = (600, 6, 100, 12);
        let (mut counts, mut offsets, mut tile_list) = (vec![0; 3 * 6], vec![0; 7], vec![0; 24]);
        let (mut slot_pair, mut pair_slot) = (vec![0; 600], vec![0; 600]);
        expert_count(&Count { pairs, experts }, &chosen, &mut counts);
        expert_scan(&Scan { pairs, experts, tile_rows, tiles }, &mut counts, &mut offsets, &mut tile_list);
        expert_scatter(&Params { pairs, experts }, &chosen, &counts, &mut slot_pair, &mut pair_slot);

        let mut sorted: Vec<u32> = (0..600).collect();
        sorted.sort_by_key(|&q| chosen[q as usize]); // the library's sort is stable
        assert_eq!(slot_pair, sorted);
        assert!(slot_pair.iter().enumerate().all(|(slot, &q)| pair_slot[q as usize] == slot as u32));
        assert_eq!(offsets, [0, 86, 258, 343, 343, 600, 600]);
        let used = [[0, 0], [1, 86], [1, 186], [2, 258], [4, 343], [4, 443], [4, 543]];
        assert_eq!(tile_list[..14], *used.as_flattened());
        assert_eq!(tile_list[14..], [UNUSED_TILE, 0].repeat(5));
    }
}
