//! Products of few rows on matrix units, as `shaders/shared/thin.wgsl` cuts them.

use super::Constants;

/// Most rows.
const ROWS: u32 = 64;
/// Rows of a matrix.
const STEP: u32 = 16;
/// Columns of a subgroup.
const COLUMNS: u32 = 32;
/// Fewest steps of k that a workgroup multiplies at a time: a matrix for each of eight subgroups.
const SHORT: u32 = 128;

/// How a product is cut.
pub(super) struct Cut {
    /// Rows of a workgroup.
    pub rows: u32,
    /// Columns of a workgroup.
    pub columns: u32,
    /// Steps of k at a time.
    chunk: u32,
    /// Chunks on their way at a time.
    depth: u32,
}

/// Whether `rows` rows of `n` columns and sums of length `k` can be computed so.
pub(super) fn fits(rows: u32, n: u32, k: u32) -> bool {
    (1..=ROWS).contains(&rows) && n.is_multiple_of(COLUMNS) && k.is_multiple_of(SHORT)
}

/// As many chunks as divide the sums evenly, up to `most`.
fn depth(most: u32, chunk: u32, k: u32) -> u32 {
    [4, 2].into_iter().find(|&depth| depth <= most && k.is_multiple_of(chunk * depth)).unwrap_or(1)
}

impl Cut {
    /// One product: as many rows a workgroup as leave work for the multiprocessors of a large card.
    pub(super) fn single(m: u32, n: u32, k: u32) -> Cut {
        const ENOUGH: u32 = 128;
        let fits = |rows: &u32| m.div_ceil(*rows) * (n / COLUMNS) <= ENOUGH;
        let all = (STEP..=ROWS).step_by(STEP as usize);
        let rows = all.take_while(|rows| *rows < m + STEP).find(fits).unwrap_or(m.next_multiple_of(STEP));
        let chunk = if rows == STEP && k.is_multiple_of(2 * SHORT) { 2 * SHORT } else { SHORT };
        let most = if rows == STEP { 4 } else { 2 }; // registers end there
        Cut { rows, columns: COLUMNS, chunk, depth: depth(most, chunk, k) }
    }

    /// One of so many that the card is full anyway: four subgroups side by side read
    /// the rows once.
    pub(super) fn of_many(rows: u32, n: u32, k: u32) -> Cut {
        let across = if rows == STEP && n.is_multiple_of(4 * COLUMNS) { 4 } else { 1 };
        Cut { rows, columns: across * COLUMNS, chunk: SHORT, depth: depth(2, SHORT, k) }
    }

    /// The constants that say so to the shader. As many subgroups' sums are in workgroup memory at a time as have room.
    pub(super) fn constants(&self) -> Constants {
        const BYTES: u32 = 47 << 10;
        let Cut { rows, columns, chunk, depth } = *self;
        let across = columns / COLUMNS;
        let padding = 16 * columns.max(chunk); // of b, which lies either way
        let parts = rows * (2 * chunk + 16) + 2 * columns * chunk + padding;
        let slots = [8, 4, 2, 1].into_iter().find(|slots| parts + slots * rows * COLUMNS * 4 <= BYTES).unwrap_or(1);
        let named = [
            ("THIN", 1),
            ("TILE_M", rows),
            ("ACROSS", across),
            ("CHUNK", chunk),
            ("DEPTH", depth),
            ("SLOTS", slots.max(across)),
        ];
        named.map(|(name, value)| (name, i64::from(value))).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workgroup memory as the shader declares it, and what it says of k and of rows.
    #[test]
    fn every_cut_fits_workgroup_memory_and_covers_the_product() {
        for (rows, n, k) in [1, 16, 20, 48, 64]
            .iter()
            .flat_map(|&m| [32, 576, 1024, 3072].iter().flat_map(move |&n| [128, 768, 1024, 4096].map(|k| (m, n, k))))
        {
            assert!(fits(rows, n, k));
            for cut in [Cut::single(rows, n, k), Cut::of_many(rows.next_multiple_of(STEP), n, k)] {
                let constants = cut.constants();
                let of = |name| constants.iter().find(|(other, _)| *other == name).unwrap().1 as u32;
                let (m, chunk, across, slots) = (of("TILE_M"), of("CHUNK"), of("ACROSS"), of("SLOTS"));
                let eights = m * (chunk / 8 + 1) + (across * 32 * (chunk / 8 + 1)).max(chunk * (across * 4 + 1));
                assert!(16 * eights + slots * m * 128 <= 48 << 10, "{rows} x {n} x {k}");
                assert!(slots.is_multiple_of(across) && 8 % slots == 0 && m.is_multiple_of(STEP));
                assert!(k.is_multiple_of(chunk * of("DEPTH")) && n.is_multiple_of(cut.columns));
                assert!(m * chunk / 8 % 256 == 0, "every invocation fetches as much");
            }
        }
        // The seed model's: few tiles are narrow, many are tall.
        let tiles = |n| Cut::single(64, n, 1024).rows;
        assert_eq!([576, 1024, 2048, 3072].map(tiles), [16, 16, 32, 64]);
        assert!(!fits(65, 32, 128) && !fits(64, 48, 128) && !fits(64, 32, 192) && !fits(0, 32, 128));
    }
}
