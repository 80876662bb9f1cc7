//! The tokens of sequences that are generated.

use crate::kernels::history_append::Params;
use crate::kernels::latent_attention::NO_SLOT;

/// `history[slots[n], positions[n]] = ids[n]` for each row with a slot; other places stay.
///
/// Shapes: ids, slots, positions (rows); history (slots, capacity). No two rows share a place.
/// Source: this project's bookkeeping.
pub fn history_append(p: &Params, ids: &[u32], [slots, positions]: [&[u32]; 2], history: &mut [u32]) {
    for ((&id, &slot), &position) in ids.iter().zip(slots).zip(positions).filter(|((_, slot), _)| **slot != NO_SLOT) {
        history[slot as usize * p.capacity as usize + position as usize] = id;
    }
}
