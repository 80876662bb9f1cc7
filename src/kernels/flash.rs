//! What the cooperative forms of the three attention kernels share: tiles, limits, tolerance.

use super::attention::Params;
use super::{Constants, Tolerance, fold};

/// Queries of a workgroup, or keys where gradients of keys are computed: 16 to a subgroup.
const ROWS: u32 = 64;

/// Columns of keys and values together that 48 KiB of workgroup memory and the registers hold: those of
/// `DeepSeek-V2`'s heads.
const WIDEST: u32 = 320;

/// Probabilities and gradients of scores are rounded to f16, by up to a share of 2^-11, between the products of a tile.
/// What a sum of such products loses stays below half of this on random numbers.
pub(super) const TOLERANCE: Tolerance =
    Tolerance { factor: 2.0, floor: 1e-3, reason: "factors of the second product are rounded to f16" };

/// Constants of a form whose workgroups own queries and walk over tiles of `keys` keys.
pub(super) fn query_constants(p: &Params, keys: u32) -> Constants {
    constants(p, ROWS, keys)
}

/// Constants of the form whose workgroups own keys.
pub(super) fn key_constants(p: &Params) -> Constants {
    constants(p, 32, ROWS)
}

fn constants(p: &Params, queries: u32, keys: u32) -> Constants {
    vec![
        ("NOPE", i64::from(p.nope)),
        ("ROPE", i64::from(p.rope)),
        ("VALUE", i64::from(p.value)),
        ("DROPOUT", i64::from(p.dropout > 0.0)),
        ("QUERIES", i64::from(queries)),
        ("KEYS", i64::from(keys)),
    ]
}

/// Workgroups: one for each tile of [`ROWS`] rows of each head.
pub(super) fn grid(p: &Params) -> [u32; 3] {
    fold(p.head_count as usize * p.length.div_ceil(ROWS) as usize)
}

/// Whether the forms whose workgroups own queries can run these. With more dropout what is left of the probabilities,
/// up to `e^8 / (1 - rate)`, could pass the largest f16 number.
pub(super) fn fits(p: &Params) -> bool {
    let sixteens = [p.length, p.nope, p.rope, p.value].iter().all(|&n| n > 0 && n.is_multiple_of(16));
    sixteens && p.nope + p.rope + p.value <= WIDEST && p.dropout <= 0.9
}

/// Whether the form whose workgroups own keys can: two subgroups share the columns of a gradient.
pub(super) fn fits_keys(p: &Params) -> bool {
    fits(p) && (p.nope + p.rope).is_multiple_of(32) && p.value.is_multiple_of(32)
}
